"""The updates, pure and jitted: supervised ones, and one by GRPO for both roles or one of them.

An update that is not finite is left out: nothing moves but the step, so that the next one has other
rows, and `optimizer/skipped` is 1.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from spatialevo_jax import grpo, mesh, sharding
from spatialevo_jax.config import GrpoConfig
from spatialevo_jax.models.qwen2_5_vl import model as qwen
from spatialevo_jax.models.qwen2_5_vl.config import ModelConfig
from spatialevo_jax.rollout import decode
from spatialevo_jax.rollout.batch import Prompts, Suffixes, map_rows
from spatialevo_jax.train.likelihoods import Likelihoods, token_likelihoods
from spatialevo_jax.train.state import VISION, TrainState
from spatialevo_jax.trees import dotted

Metrics = dict[str, jax.Array]
ROLES = ("questioner", "solver")
KINDS = ("looking", "questioner", "solver")  # of supervised conversations
NAMING_EPS = 1e-6


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RoleBatch:
    """One role's sampled responses, ready for the policy loss."""

    prompts: Prompts
    suffixes: Suffixes  # responses as continuations of the prompts
    old_logprobs: jax.Array  # (P, G, T) f32, as sampled
    advantages: jax.Array  # (P, G) f32, 0 for padding


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EvolutionBatch:
    """What one update learns from: both roles, or one of them alone."""

    vision: qwen.VisionInputs  # the images of the step's rows, shared by both roles
    questioner: RoleBatch | None
    solver: RoleBatch | None

    @property
    def roles(self) -> dict[str, RoleBatch]:
        """Those that are there."""
        both = {name: getattr(self, name) for name in ROLES}
        return {name: role for name, role in both.items() if role is not None}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Supervised:
    """Conversations of one kind with one reply each, (P, 1, T)."""

    prompts: Prompts
    replies: Suffixes


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SftBatch:
    vision: qwen.VisionInputs
    lessons: Supervised


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Names:
    """What each of the V visual tokens should say of itself: K tokens with their weights."""

    tokens: jax.Array  # (V, K) i32
    weights: jax.Array  # (V, K) f32


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class WarmStartBatch:
    vision: qwen.VisionInputs
    names: Names
    kinds: tuple[Supervised, ...]  # of KINDS: all three, looking alone, or none


def _apply(
    state: TrainState,
    tx: optax.GradientTransformation,
    grads: Any,
    metrics: Metrics,
    *,
    advance: bool = True,
) -> tuple[TrainState, Metrics]:
    """Moves what is trained, unless the loss or the gradient is not finite."""
    update = optax.with_extra_args_support(tx).update
    updates, opt_state = update(grads, state.opt_state, state.trained, step=state.step)
    norm = optax.tree.norm(grads)
    sound = jnp.isfinite(norm) & jnp.isfinite(metrics["loss/total"])
    metrics = metrics | {
        "optimizer/skipped": 1.0 - sound,
        "optimizer/grad_norm": norm,
        "optimizer/update_norm": jnp.where(sound, optax.tree.norm(updates), 0.0),
    }
    metrics |= {f"optimizer/grad_norm_{name}": optax.tree.norm(x) for name, x in grads.items()}
    rate = optax.tree.get(opt_state, "rate")
    if rate is not None:
        metrics["optimizer/learning_rate"] = rate
    trained, opt_state = jax.tree.map(
        lambda new, old: jnp.where(sound, new, old),
        (optax.apply_updates(state.trained, updates), opt_state),
        (state.trained, state.opt_state),
    )
    return state.moved(trained, opt_state, state.step + int(advance)), metrics


def _supervised_step(
    loss_fn: Callable[[Any, Any], tuple[jax.Array, Metrics]], tx: optax.GradientTransformation
) -> Callable[[TrainState, Any], tuple[TrainState, Metrics]]:
    """The update by the gradient of `loss_fn(params, batch)`; it donates the state."""

    def step(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        def loss(trained: Any) -> tuple[jax.Array, Metrics]:
            return loss_fn(state.computing(trained), batch)

        grads, metrics = jax.grad(loss, has_aux=True)(state.trained)
        return _apply(state, tx, grads, metrics)

    return jax.jit(step, donate_argnums=0)


def reply_loss(
    policy: qwen.Policy, params: Any, features: jax.Array, taught: Supervised
) -> jax.Array:
    """Cross-entropy of replies, mean over their tokens."""
    prefix = decode.prefill(policy, params, features, taught.prompts)
    found = token_likelihoods(policy, params, prefix, taught.replies)
    return -grpo.masked_mean(found.logprobs, taught.replies.mask)


def naming_loss(policy: qwen.Policy, params: Any, features: jax.Array, names: Names) -> jax.Array:
    """Cross-entropy of visual features (V, D) read through the decoder's own vocabulary, as if each
    were the last hidden state of a text. Mean over the visual tokens.
    """
    scale = jax.lax.rsqrt(jnp.square(features).mean(-1, keepdims=True) + NAMING_EPS)
    logprobs = jax.nn.log_softmax(qwen.logits(policy, params, features * scale))
    said = jnp.take_along_axis(logprobs, names.tokens, axis=-1)
    real = names.weights.any(-1).sum()  # padding says nothing
    return -(names.weights * said).sum() / jnp.maximum(real, 1)


def make_warm_start_step(
    policy: qwen.Policy, tx: optax.GradientTransformation, naming_weight: float
) -> Callable[[TrainState, WarmStartBatch], tuple[TrainState, Metrics]]:
    """Cross-entropy of the replies, mean over tokens of each kind and then over the kinds; and of
    naming, which is all there is in batches without replies.
    """

    def loss_fn(params: Any, batch: WarmStartBatch) -> tuple[jax.Array, Metrics]:
        features = qwen.encode_images(policy, params, batch.vision)
        naming = naming_loss(policy, params, features, batch.names)
        losses = [reply_loss(policy, params, features, kind) for kind in batch.kinds]
        named = {f"loss/{kind}": loss for kind, loss in zip(KINDS, losses, strict=False)}
        total = jnp.stack(losses).mean() + naming_weight * naming if losses else naming
        return total, named | {"loss/naming": naming, "loss/total": total}

    return _supervised_step(loss_fn, tx)


def make_sft_step(
    policy: qwen.Policy, tx: optax.GradientTransformation
) -> Callable[[TrainState, SftBatch], tuple[TrainState, Metrics]]:
    """Cross-entropy of the replies of a set."""

    def loss_fn(params: Any, batch: SftBatch) -> tuple[jax.Array, Metrics]:
        features = qwen.encode_images(policy, params, batch.vision)
        loss = reply_loss(policy, params, features, batch.lessons)
        return loss, {"loss/total": loss}

    return _supervised_step(loss_fn, tx)


# --- evolution -----------------------------------------------------------------------------------


class Part(NamedTuple):
    """Prompts of one role, all of a step or some."""

    role: RoleBatch
    weights: jax.Array  # (P, G) f32, of each sequence in the loss of the whole step


class Found(NamedTuple):
    """What both policies make of the replies of a part."""

    policy: Likelihoods
    reference: jax.Array | None  # (P, G, T) f32, log-probabilities


def make_evolution_step(
    policy: qwen.Policy,
    tx: optax.GradientTransformation,
    config: GrpoConfig,
    banned: jax.Array,
    *,
    temperature: float,
    advance: bool = True,
) -> Callable[[TrainState, EvolutionBatch], tuple[TrainState, Metrics]]:
    """The update by GRPO. Of a batch with both roles it is joint: `questioner_weight` times the
    Questioner's loss and the Solver's. A role that is alone has weight 1, so that the published
    order, Questioner first and then the Solver's rollouts and updates, is made of such updates.
    `advance` False leaves `state.step` as it is, for all updates of a step but its last.

    Gradients are those of the whole batch, whatever `micro_batches` is: the weight of each token
    comes from all of it. The vision tower runs once. Micro-batches add up the gradient of its
    features, which then goes back through the tower once; with `remat` the tower is computed again
    for that, so that its activations and the decoder's are never in memory together.

    Raises, when it is traced:
        ValueError: no role; prompts that do not make up the micro-batches; a KL term without a
            reference in the state.
    """

    def score(params: Any, features: jax.Array, role: RoleBatch) -> Likelihoods:
        prefix = decode.prefill(policy, params, features, role.prompts)
        how: dict[str, Any] = {"temperature": temperature, "chunk": config.logit_chunk}
        return token_likelihoods(policy, params, prefix, role.suffixes, banned, **how)

    def step(state: TrainState, batch: EvolutionBatch) -> tuple[TrainState, Metrics]:
        roles = batch.roles
        if not roles:
            raise ValueError("expected the batch of at least one role, got none.")
        parts = {
            name: Part(
                role, grpo.sequence_weights(role.suffixes.mask, aggregation=config.aggregation)
            )
            for name, role in roles.items()
        }
        tower = {name: x for name, x in state.trained.items() if name == VISION}
        decoder = {name: x for name, x in state.trained.items() if name != VISION}

        def encode(tower: Any) -> jax.Array:
            # float32 also where the tower computes in less: parts add up its gradient.
            features = qwen.encode_images(policy, state.computing(tower), batch.vision)
            return features.astype(jnp.float32)

        if policy.config.remat != "off":
            encode = jax.checkpoint(encode)
        features, pull_back = jax.vjp(encode, tower)
        reference = reference_features = None
        if config.kl_coefficient:
            reference, reference_features = state.reference_params, features
            if tower:  # it moves: the reference sees with the tower of the beginning
                reference_features = qwen.encode_images(policy, reference, batch.vision)

        def gradient(parts: dict[str, Part]) -> tuple[Any, dict[str, Found]]:
            references = {
                name: None
                if reference_features is None
                else score(reference, reference_features, part.role).logprobs
                for name, part in parts.items()
            }

            def loss_fn(moving: dict[str, Any]) -> tuple[jax.Array, dict[str, Found]]:
                params = state.computing(moving["decoder"])
                shown = moving.get("features", features)
                found = {
                    name: Found(score(params, shown, part.role), references[name])
                    for name, part in parts.items()
                }
                return total_loss(config, found, parts), found

            return jax.grad(loss_fn, has_aux=True)(moving)

        moving = {"decoder": decoder} | ({"features": features} if tower else {})
        grads, found = _accumulate(gradient, parts, moving, config.micro_batches, policy.config)
        metrics = {"loss/total": total_loss(config, found, parts)}
        for name, part in parts.items():
            metrics |= _role_metrics(config, name, found[name], part)
        (moved_tower,) = pull_back(grads.get("features", jnp.zeros_like(features)))
        return _apply(state, tx, grads["decoder"] | moved_tower, metrics, advance=advance)

    return jax.jit(step, donate_argnums=0)


def role_loss(config: GrpoConfig, found: Found, part: Part) -> jax.Array:
    """One role's clipped objective, KL to the reference and entropy, over the tokens of a part.

    Padding groups have advantage 0 and no mask. Groups without signal stay in the token count on
    purpose: the step size must not grow as the policy gets better.
    """
    role, mask = part.role, part.role.suffixes.mask
    logprobs = found.policy.logprobs
    log_ratio = grpo.log_ratios(logprobs, role.old_logprobs, mask, level=config.ratio)
    values = grpo.clipped_objective(log_ratio, role.advantages, **_clip(config))
    if found.reference is not None:
        divergence = grpo.kl_penalty(logprobs, found.reference, estimator=config.kl_estimator)
        values += config.kl_coefficient * divergence
    if config.entropy_weight:
        values -= config.entropy_weight * found.policy.entropies
    return grpo.aggregate(values, mask, part.weights)


def total_loss(
    config: GrpoConfig, found: Mapping[str, Found], parts: Mapping[str, Part]
) -> jax.Array:
    """The weighted sum over the roles; see `make_evolution_step`."""
    total = jnp.float32(0.0)
    for name, part in parts.items():
        joint = name == "questioner" and len(parts) > 1
        total += (config.questioner_weight if joint else 1.0) * role_loss(config, found[name], part)
    return total


def _clip(config: GrpoConfig) -> dict[str, float]:
    return {name: getattr(config, name) for name in ("clip_low", "clip_high", "clip_dual")}


def _accumulate(
    gradient: Callable[[dict[str, Part]], tuple[Any, dict[str, Found]]],
    parts: dict[str, Part],
    moving: Any,
    count: int,
    config: ModelConfig,
) -> tuple[Any, dict[str, Found]]:
    """The gradient with respect to `moving`: a sum over micro-batches, one in memory at a time."""
    if count == 1:
        return gradient(parts)

    def add(total: Any, parts: dict[str, Part]) -> tuple[Any, dict[str, Found]]:
        grads, found = gradient(parts)
        return _as_parameters(jax.tree.map(jnp.add, total, grads), config), found

    none = _as_parameters(jax.tree.map(jnp.zeros_like, moving), config)
    total, found = jax.lax.scan(add, none, _micro_batches(parts, count))

    def join(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:])

    return total, jax.tree.map(join, found)


def _micro_batches(parts: dict[str, Part], count: int) -> dict[str, Part]:
    """The parts with a leading axis of micro-batches. Each takes every `count`-th prompt, and so as
    many from each device of a mesh.
    """

    def cut(name: str, x: jax.Array, axis: int) -> jax.Array:
        prompts = x.shape[axis]
        if prompts % count:
            raise ValueError(
                f"grpo.micro_batches: expected a divisor of {prompts} prompts "
                f"({name.split('.')[0]}), got {count}."
            )
        x = x.reshape(*x.shape[:axis], prompts // count, count, *x.shape[axis + 1 :])
        x = jnp.moveaxis(x, axis + 1, 0)
        return mesh.constrain(x, *[None] * (axis + 1), mesh.BATCH)

    return map_rows(cut, parts)


def _as_parameters(grads: Any, config: ModelConfig) -> Any:
    """Gradients laid out as their parameters are, on a mesh: a sum that is carried from one
    micro-batch to the next is nowhere whole.
    """
    devices = jax.sharding.get_abstract_mesh()
    if devices.empty:
        return grads
    sizes = dict(devices.shape)

    def pin(path: Any, x: jax.Array) -> jax.Array:
        spec = sharding.spec(dotted(path), x.shape, config, sizes)
        return jax.lax.with_sharding_constraint(x, spec)

    return jax.tree_util.tree_map_with_path(pin, grads)


def _role_metrics(config: GrpoConfig, name: str, found: Found, part: Part) -> Metrics:
    """What an update found of one role, means over its tokens if nothing else is said."""
    role, mask = part.role, part.role.suffixes.mask
    logprobs, old = found.policy.logprobs, role.old_logprobs
    log_ratio = grpo.log_ratios(logprobs, old, mask, level=config.ratio)
    clipped = grpo.clipped_tokens(log_ratio, role.advantages, **_clip(config)) & (mask > 0)
    drift = jnp.abs(jnp.where(mask > 0, logprobs - old, 0.0))
    replies = (mask.sum(-1) > 0).astype(mask.dtype)
    # Standardised advantages that differ at all differ by about 1.
    live = grpo.live_groups(role.advantages, 0.5 if config.normalise_std else grpo.EQUAL)
    metrics = {
        f"loss/{name}": role_loss(config, found, part),
        f"policy/entropy_{name}": grpo.masked_mean(found.policy.entropies, mask),
        f"policy/nll_{name}": -grpo.masked_mean(logprobs, mask),  # of the tokens that were sampled
        # KL(policy that sampled || policy now), by k3
        f"policy/kl_old_{name}": grpo.masked_mean(
            grpo.kl_penalty(old, logprobs, estimator="k3"), mask
        ),
        f"policy/logprob_difference_{name}": drift.max(),  # between sampling and training
        f"policy/logprob_difference_mean_{name}": grpo.masked_mean(drift, mask),
        f"policy/clipped_{name}": grpo.masked_mean(clipped.astype(mask.dtype), mask),
        f"policy/clipped_replies_{name}": grpo.masked_mean(
            clipped.any(-1).astype(mask.dtype), replies
        ),
        f"policy/flat_groups_{name}": grpo.masked_mean((~live).astype(mask.dtype), replies.max(-1)),
    }
    if found.reference is not None:
        metrics[f"policy/kl_reference_{name}"] = grpo.masked_mean(
            grpo.kl_penalty(logprobs, found.reference, estimator=config.kl_estimator), mask
        )
    return metrics
