"""The one value that is a run: everything that changes from step to step."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers

from spatialevo_jax import lora
from spatialevo_jax.config import GrpoConfig, TrainConfig, WarmStartConfig
from spatialevo_jax.scheduler import Scheduler, SchedulerState
from spatialevo_jax.trees import dotted

VISION = "vision"  # the branch of the parameters that is the vision tower
FIXED = ("bias", "scale")  # names of parameters that do not decay
ADAPTER = 2**32 - 1  # folded into the run's key for the adapter; no step has this number


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    params: Any  # nested dict of f32 master weights
    opt_state: Any  # of the phase that the step is in
    scheduler: SchedulerState
    key: jax.Array  # () random key of the run; steps fold into it, it never changes
    step: jax.Array  # () i32, steps done, warm start included
    adapter: lora.Adapter | None = None  # if there is one, its factors are trained, not params
    reference: Any | None = None  # the branches of `params` that move, as evolution began
    frozen: tuple[str, ...] = dataclasses.field(  # branches that the optimizer leaves as they are
        default=(), metadata={"static": True}
    )

    @property
    def trained(self) -> Any:
        """What the optimizer moves: branches of the parameters or of the adapter's factors."""
        whole = self.params if self.adapter is None else self.adapter.factors
        if not self.frozen:
            return whole
        return {name: branch for name, branch in whole.items() if name not in self.frozen}

    @property
    def policy_params(self) -> Any:
        """The parameters that the policy computes with."""
        return self.params if self.adapter is None else self.computing({})

    @property
    def reference_params(self) -> Any:
        """The parameters of the policy that evolution began with.

        Raises:
            ValueError: they are not kept.
        """
        if self.adapter is not None:
            return self.params  # a fresh adapter changes nothing
        if self.reference is None:
            raise ValueError("grpo.kl_coefficient: expected a reference in the state, found none.")
        return {**self.params, **self.reference}

    def computing(self, branches: Any) -> Any:
        """The parameters that the policy computes with, some branches of `trained` replaced."""
        if self.adapter is None:
            return {**self.params, **branches}
        return lora.attach(self.params, self._adapter(branches))

    def moved(self, trained: Any, opt_state: Any, step: jax.Array) -> "TrainState":
        """The state after an update of what is trained."""
        if self.adapter is None:
            params = {**self.params, **trained}
            return dataclasses.replace(self, params=params, opt_state=opt_state, step=step)
        adapter = self._adapter(trained)
        return dataclasses.replace(self, adapter=adapter, opt_state=opt_state, step=step)

    def _adapter(self, branches: Any) -> lora.Adapter:
        if self.adapter is None:
            raise ValueError("expected an adapter, found none.")
        return dataclasses.replace(self.adapter, factors={**self.adapter.factors, **branches})


def warm_start_optimizer(config: WarmStartConfig) -> optax.GradientTransformation:
    """Muon for the matrices of the layers, AdamW for all else; both rates rise linearly and fall
    along a cosine to a tenth.
    """

    def rate(peak: float) -> optax.Schedule:
        steps = max(config.steps, 1)
        return optax.warmup_cosine_decay_schedule(0.0, peak, config.warmup_steps, steps, 0.1 * peak)

    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.contrib.muon(
            rate(config.matrix_lr),
            adam_learning_rate=rate(config.peak_lr),
            adam_b2=0.98,
            consistent_rms=0.2,
            muon_weight_dimension_numbers=_layer_matrices,
        ),
    )


def _layer_matrices(params: Any) -> Any:
    """For each kernel of a layer, which axes are its input and output: layers of one kind are
    stacked along the axes before. None elsewhere: embeddings, head, norms, biases.
    """

    def axes(path: Any, leaf: jax.Array) -> MuonDimensionNumbers | None:
        names = dotted(path)
        if "kernel" not in names or "patch_embed" in names or "head" in names:
            return None
        return MuonDimensionNumbers((leaf.ndim - 2,), (leaf.ndim - 1,))

    return jax.tree_util.tree_map_with_path(axes, params)


class Rate(NamedTuple):
    rate: jax.Array  # () f32, of the latest update


def learning_rate(config: GrpoConfig) -> optax.Schedule:
    """By steps of evolution: a linear rise in `warmup_steps`, then a fall, in a straight line or
    along a half cosine, to `final_lr_share` at the last step.
    """
    rise = optax.linear_schedule(0.0, config.lr, config.warmup_steps)
    falling = max(config.steps - 1 - config.warmup_steps, 1)
    if config.decay == "cosine":
        fall = optax.cosine_decay_schedule(config.lr, falling, config.final_lr_share)
    else:
        fall = optax.linear_schedule(config.lr, config.final_lr_share * config.lr, falling)
    return optax.join_schedules([rise, fall], [config.warmup_steps])


def scale_by_step_rate(
    schedule: optax.Schedule, first: int
) -> optax.GradientTransformationExtraArgs:
    """A step downhill at the rate of the run's `step`, which updates are called with. Optax's own
    schedules count updates, of which a step may have several or, skipped, none. `first` is the
    step that the schedule begins at.

    Raises, on update:
        ValueError: no step.
    """

    def init(params: Any) -> Rate:
        return Rate(jnp.float32(0.0))

    def update(updates: Any, state: Any, params: Any = None, *, step: Any = None, **_: Any) -> Any:
        if step is None:
            raise ValueError("expected updates to be called with the run's step, got none.")
        rate = jnp.asarray(schedule(jnp.asarray(step) - first), jnp.float32)
        return jax.tree.map(lambda update: -rate * update, updates), Rate(rate)

    return optax.GradientTransformationExtraArgs(init, update)


def evolution_optimizer(
    config: GrpoConfig, *, first: int = 0
) -> optax.GradientTransformationExtraArgs:
    """AdamW at `learning_rate`, which begins at step `first` of the run; the vision tower at its
    share of it. Updates are called with `step`, the run's. Weights decay, norms and biases do not
    (as in GPT-3, arXiv 2005.14165, and most trainers since).
    """

    def tower(updates: Any) -> Any:
        return {
            name: jax.tree.map(lambda x: config.vision_lr_share * x, branch)
            if name == VISION
            else branch
            for name, branch in updates.items()
        }

    own_rate = optax.stateless(lambda updates, _: tower(updates))
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.scale_by_adam(),
        optax.add_decayed_weights(config.weight_decay, mask=_decaying),
        optax.identity() if config.vision_lr_share == 1.0 else own_rate,
        scale_by_step_rate(learning_rate(config), first),
    )


def _decaying(params: Any) -> Any:
    def one(path: Any, leaf: Any) -> bool:
        return not dotted(path).endswith(FIXED)

    return jax.tree_util.tree_map_with_path(one, params)


def optimizer(config: TrainConfig, step: int) -> optax.GradientTransformation:
    """The optimizer of the phase that update number `step` belongs to."""
    if step < config.warm_start.steps:
        return warm_start_optimizer(config.warm_start)
    return evolution_optimizer(config.grpo, first=config.warm_start.steps)


def init_state(
    config: TrainConfig, params: Any, scheduler: Scheduler, *, step: int = 0
) -> TrainState:
    """A state that knows nothing yet, as the phase that `step` belongs to begins with.

    Raises:
        ValueError: see `lora.adapted`; or an adapter of the vision tower, which is frozen.
    """
    if config.lora.rank:  # a wrong pattern is said now, not after the warm start
        changed = lora.adapted(params, config.lora)
        tower = [name for name in changed if name.split(".")[0] in _frozen(config.grpo)]
        if tower:
            raise ValueError(
                f"lora.targets: expected none in what grpo.vision_lr_share=0 freezes, got {tower}."
            )
    state = TrainState(
        params=params,
        opt_state=(),
        scheduler=scheduler.init(),
        key=jax.random.key(config.seed),
        step=jnp.int32(step),
    )
    if step >= config.warm_start.steps:
        return begin_evolution(config, state)
    return dataclasses.replace(state, opt_state=optimizer(config, step).init(params))


def begin_evolution(config: TrainConfig, state: TrainState) -> TrainState:
    """The warm-started policy with a fresh optimizer, as moments of the supervised loss say nothing
    about the reward; with a fresh adapter if there is to be one; and, if the loss has a KL term and
    no adapter keeps the parameters as they are, with a copy of them as its reference.
    """
    adapter = None
    if config.lora.rank:
        key = jax.random.fold_in(state.key, ADAPTER)
        adapter = lora.init(state.params, config.lora, key)
    state = dataclasses.replace(state, adapter=adapter, frozen=_frozen(config.grpo))
    if config.grpo.kl_coefficient and adapter is None and config.sft.data is None:
        reference = frozen_copy(state.trained, dtype=config.grpo.reference_dtype)
        state = dataclasses.replace(state, reference=reference)
    opt_state = evolution_optimizer(config.grpo).init(state.trained)
    return dataclasses.replace(state, opt_state=opt_state)


def _frozen(config: GrpoConfig) -> tuple[str, ...]:
    return (VISION,) if config.vision_lr_share == 0.0 else ()


@functools.partial(jax.jit, static_argnames="dtype")
def frozen_copy(params: Any, *, dtype: str) -> Any:
    """A copy that later updates do not touch. The scales of norms, which are few and which the
    policy computes with in float32 in any case, keep their type: a policy that computes in `dtype`
    finds the very numbers of the original.
    """

    def copy(path: Any, leaf: jax.Array) -> jax.Array:
        norm = dotted(path).endswith("scale")
        return jnp.array(leaf, leaf.dtype if norm else dtype, copy=True)

    return jax.tree_util.tree_map_with_path(copy, params)
