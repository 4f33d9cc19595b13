"""The one value that is a run: everything that changes from step to step."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers

from spatialevo_jax import lora
from spatialevo_jax.config import GrpoConfig, TrainConfig, WarmStartConfig
from spatialevo_jax.scheduler import Scheduler, SchedulerState

ADAPTER = 0x10AA  # folded into the run's key for the adapter; steps fold in small numbers


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    params: Any  # nested dict of f32 master weights
    opt_state: Any  # of the phase that the step is in
    scheduler: SchedulerState
    key: jax.Array  # () random key of the run; steps fold into it, it never changes
    step: jax.Array  # () i32, updates done, warm start included
    adapter: lora.Adapter | None = None  # if there is one, its factors are trained, not params

    @property
    def trained(self) -> Any:
        """What the optimizer moves."""
        return self.params if self.adapter is None else self.adapter.factors

    @property
    def policy_params(self) -> Any:
        """The parameters that the policy computes with."""
        return self.params if self.adapter is None else lora.attach(self.params, self.adapter)

    def moved(self, trained: Any, opt_state: Any) -> "TrainState":
        """The state after an update of what is trained."""
        step = self.step + 1
        if self.adapter is None:
            return dataclasses.replace(self, params=trained, opt_state=opt_state, step=step)
        adapter = dataclasses.replace(self.adapter, factors=trained)
        return dataclasses.replace(self, adapter=adapter, opt_state=opt_state, step=step)


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
        names = jax.tree_util.keystr(path)
        if "kernel" not in names or "patch_embed" in names or "head" in names:
            return None
        return MuonDimensionNumbers((leaf.ndim - 2,), (leaf.ndim - 1,))

    return jax.tree_util.tree_map_with_path(axes, params)


def evolution_optimizer(config: GrpoConfig) -> optax.GradientTransformation:
    """AdamW whose rate rises linearly in `warmup_steps` and then falls linearly to its share."""
    rise = optax.linear_schedule(0.0, config.lr, config.warmup_steps)
    falling = max(config.steps - config.warmup_steps, 1)
    fall = optax.linear_schedule(config.lr, config.final_lr_share * config.lr, falling)
    rate = optax.join_schedules([rise, fall], [config.warmup_steps])
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.adamw(rate, weight_decay=config.weight_decay),
    )


def optimizer(config: TrainConfig, step: int) -> optax.GradientTransformation:
    """The optimizer of the phase that update number `step` belongs to."""
    if step < config.warm_start.steps:
        return warm_start_optimizer(config.warm_start)
    return evolution_optimizer(config.grpo)


def init_state(
    config: TrainConfig, params: Any, scheduler: Scheduler, *, step: int = 0
) -> TrainState:
    """A state that knows nothing yet, with the optimizer of the phase that `step` belongs to and,
    from self-evolution on, a fresh adapter if there is to be one.

    Raises:
        ValueError: see `lora.adapted`.
    """
    key = jax.random.key(config.seed)
    if config.lora.rank:
        lora.adapted(params, config.lora)  # a wrong pattern is said now, not after the warm start
    adapter = _adapter(config, params, key) if step >= config.warm_start.steps else None
    trained = params if adapter is None else adapter.factors
    return TrainState(
        params=params,
        opt_state=optimizer(config, step).init(trained),
        scheduler=scheduler.init(),
        key=key,
        step=jnp.int32(step),
        adapter=adapter,
    )


def _adapter(config: TrainConfig, params: Any, key: jax.Array) -> lora.Adapter | None:
    if config.lora.rank == 0:
        return None
    return lora.init(params, config.lora, jax.random.fold_in(key, ADAPTER))


def begin_evolution(config: TrainConfig, state: TrainState) -> TrainState:
    """The warm-started policy with a fresh optimizer, as moments of the supervised loss say nothing
    about the reward, and with a fresh adapter if there is to be one.
    """
    state = dataclasses.replace(state, adapter=_adapter(config, state.params, state.key))
    opt_state = evolution_optimizer(config.grpo).init(state.trained)
    return dataclasses.replace(state, opt_state=opt_state)
