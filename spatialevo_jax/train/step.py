"""The two updates, pure and jitted: one supervised, one by GRPO for both roles together."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from spatialevo_jax import grpo, lora
from spatialevo_jax.config import GrpoConfig
from spatialevo_jax.models.qwen2_5_vl import model as qwen
from spatialevo_jax.rollout import decode, sampling
from spatialevo_jax.rollout.batch import Prompts, Suffixes
from spatialevo_jax.train.state import TrainState

Metrics = dict[str, jax.Array]
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
    vision: qwen.VisionInputs  # the images of the step's rows, shared by both roles
    questioner: RoleBatch
    solver: RoleBatch


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


def target_logprobs(
    policy: qwen.Policy,
    params: Any,
    prefix: qwen.KVCache,
    suffixes: Suffixes,
    banned: jax.Array | None = None,
    *,
    temperature: float = 1.0,
) -> jax.Array:
    """(P, G, T) log-probability of each target given the prompt and the inputs so far.

    `banned` (V,) and `temperature` are those of the sampler, so that both sides speak of one
    distribution.
    """
    x = qwen.embed(policy, params, suffixes.inputs)
    hidden, _ = qwen.extend(policy, params, x, suffixes.positions, suffixes.valid, prefix)
    logits = qwen.logits(policy, params, hidden)
    if banned is not None:
        logits = jnp.where(banned, sampling.NEVER, logits)
    chosen = jnp.take_along_axis(logits, suffixes.targets[..., None], axis=-1)[..., 0]
    return chosen / temperature - jax.nn.logsumexp(logits / temperature, axis=-1)


def _gradient(loss_fn: Callable[..., Any], state: TrainState, batch: Any) -> tuple[Any, Metrics]:
    """With respect to what is trained: all parameters, or the adapter's factors alone."""
    if state.adapter is None:
        return jax.grad(loss_fn, has_aux=True)(state.params, batch)

    def adapted(adapter: lora.Adapter) -> tuple[jax.Array, Metrics]:
        return loss_fn(lora.attach(state.params, adapter), batch)

    grads, metrics = jax.grad(adapted, has_aux=True)(state.adapter)
    return grads.factors, metrics


def _apply(
    state: TrainState, tx: optax.GradientTransformation, grads: Any, metrics: Metrics
) -> tuple[TrainState, Metrics]:
    updates, opt_state = tx.update(grads, state.opt_state, state.trained)
    state = state.moved(optax.apply_updates(state.trained, updates), opt_state)
    return state, metrics | {"optimizer/grad_norm": optax.tree.norm(grads)}


def reply_loss(
    policy: qwen.Policy, params: Any, features: jax.Array, taught: Supervised
) -> jax.Array:
    """Cross-entropy of replies, mean over their tokens."""
    prefix = decode.prefill(policy, params, features, taught.prompts)
    logprobs = target_logprobs(policy, params, prefix, taught.replies)
    return -grpo.masked_mean(logprobs, taught.replies.mask)


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

    def step(state: TrainState, batch: WarmStartBatch) -> tuple[TrainState, Metrics]:
        grads, metrics = _gradient(loss_fn, state, batch)
        return _apply(state, tx, grads, metrics)

    return jax.jit(step, donate_argnums=0)


def make_sft_step(
    policy: qwen.Policy, tx: optax.GradientTransformation
) -> Callable[[TrainState, SftBatch], tuple[TrainState, Metrics]]:
    """Cross-entropy of the replies of a set."""

    def loss_fn(params: Any, batch: SftBatch) -> tuple[jax.Array, Metrics]:
        features = qwen.encode_images(policy, params, batch.vision)
        loss = reply_loss(policy, params, features, batch.lessons)
        return loss, {"loss/total": loss}

    def step(state: TrainState, batch: SftBatch) -> tuple[TrainState, Metrics]:
        grads, metrics = jax.grad(loss_fn, has_aux=True)(state.params, batch)
        return _apply(state, tx, grads, metrics)

    return jax.jit(step, donate_argnums=0)


def make_evolution_step(
    policy: qwen.Policy,
    tx: optax.GradientTransformation,
    config: GrpoConfig,
    banned: jax.Array,
    *,
    temperature: float,
) -> Callable[[TrainState, EvolutionBatch], tuple[TrainState, Metrics]]:
    """The joint update: token mean of the clipped objective for each role, then a weighted sum of
    the two.
    """

    def role_loss(
        params: Any, features: jax.Array, batch: RoleBatch, role: str
    ) -> tuple[jax.Array, Metrics]:
        prefix = decode.prefill(policy, params, features, batch.prompts)
        logprobs = target_logprobs(
            policy, params, prefix, batch.suffixes, banned, temperature=temperature
        )
        mask = batch.suffixes.mask
        clip = {
            "clip_low": config.clip_low,
            "clip_high": config.clip_high,
            "clip_dual": config.clip_dual,
        }
        log_ratio = grpo.log_ratios(logprobs, batch.old_logprobs, mask, level=config.ratio)
        objective = grpo.clipped_objective(log_ratio, batch.advantages, **clip)
        # Padding groups have advantage 0 and no mask; groups without signal stay in the token count
        # on purpose: the step size must not grow as the policy gets better.
        weights = grpo.sequence_weights(mask, aggregation=config.aggregation)
        loss = grpo.aggregate(objective, mask, weights)
        drift = jnp.abs(jnp.where(mask > 0, logprobs - batch.old_logprobs, 0.0))
        return loss, {
            f"loss/{role}": loss,
            f"policy/entropy_{role}": -grpo.masked_mean(logprobs, mask),
            f"policy/logprob_difference_{role}": drift.max(),
            f"policy/clipped_{role}": grpo.masked_mean(
                grpo.clipped_tokens(log_ratio, batch.advantages, **clip).astype(mask.dtype), mask
            ),
        }

    def loss_fn(params: Any, batch: EvolutionBatch) -> tuple[jax.Array, Metrics]:
        features = qwen.encode_images(policy, params, batch.vision)
        asked, asked_metrics = role_loss(params, features, batch.questioner, "questioner")
        solved, solved_metrics = role_loss(params, features, batch.solver, "solver")
        total = config.questioner_weight * asked + solved
        return total, asked_metrics | solved_metrics | {"loss/total": total}

    def step(state: TrainState, batch: EvolutionBatch) -> tuple[TrainState, Metrics]:
        grads, metrics = _gradient(loss_fn, state, batch)
        return _apply(state, tx, grads, metrics)

    return jax.jit(step, donate_argnums=0)
