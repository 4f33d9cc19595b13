"""Group-relative policy optimisation as array functions, with no model in sight.

P prompts, G samples of one prompt, T tokens of a response.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

MAX_LOG_RATIO = 20.0  # beyond this, exp overflows long before the clip could matter


def group_advantages(
    rewards: Float[Array, "p g"], *, normalise_std: bool = True, eps: float = 1e-6
) -> Float[Array, "p g"]:
    """Rewards centred (and standardised, sample std with ddof=1) within each prompt's group.

    A group whose rewards are all equal has zero advantage. Source: DeepSeekMath (arXiv 2402.03300),
    eq. 4.
    """
    centred = rewards - rewards.mean(axis=-1, keepdims=True)
    if not normalise_std:
        return centred
    return centred / (rewards.std(axis=-1, ddof=1, keepdims=True) + eps)


def clipped_objective(
    logprobs: Float[Array, "p g t"],
    old_logprobs: Float[Array, "p g t"],
    advantages: Float[Array, "p g"],
    *,
    clip_low: float,
    clip_high: float,
    clip_dual: float,
) -> Float[Array, "p g t"]:
    """Per-token loss: PPO's clipped surrogate with its own upper bound (DAPO) and a dual clip.

    For a negative advantage the loss is bounded by `clip_dual * |A|` (arXiv 1912.09729), so that
    one token that the policy now finds far more likely than when it was sampled cannot dominate the
    step.
    """
    ratio = jnp.exp(jnp.clip(logprobs - old_logprobs, -MAX_LOG_RATIO, MAX_LOG_RATIO))
    advantage = advantages[..., None]
    clipped = jnp.clip(ratio, 1.0 - clip_low, 1.0 + clip_high)
    loss = jnp.maximum(-advantage * ratio, -advantage * clipped)
    return jnp.where(advantage < 0, jnp.minimum(loss, -advantage * clip_dual), loss)


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean over the entries where `mask` is not zero; 0 when there is none. Same shapes."""
    total = mask.sum()
    return (values * mask).sum() / jnp.where(total > 0, total, 1.0)
