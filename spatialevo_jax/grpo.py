"""Group-relative policy optimisation as array functions, with no model in sight.

P prompts, G samples of one prompt, T tokens of a response. A published algorithm is a choice of
four parts:

    algorithm   advantages    ratio      clip            aggregation
    GRPO        standardised  token      0.2, 0.2        sequence   arXiv 2402.03300
    DAPO        standardised  token      0.2, 0.28       token      arXiv 2503.14476
    Dr.GRPO     centred       token      0.2, 0.2        constant   arXiv 2503.20783
    GSPO        standardised  sequence   3e-4, 4e-4      sequence   arXiv 2507.18071
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

MAX_LOG_RATIO = 20.0  # beyond this, exp overflows long before the clip could matter
MAX_KL = 10.0  # of one token, so that one lost token cannot dominate the step
EQUAL = 1e-6  # rewards of a group that differ by no more are equal but for rounding

RatioLevel = Literal["token", "sequence"]
Aggregation = Literal["token", "sequence", "constant"]
KlEstimator = Literal["k1", "k2", "k3"]


def group_advantages(
    rewards: Float[Array, "p g"], *, normalise_std: bool = True, eps: float = 1e-6
) -> Float[Array, "p g"]:
    """Rewards centred (and standardised, sample std with ddof=1) within each prompt's group.

    A group whose rewards are all equal has zero advantage. Source: DeepSeekMath (arXiv 2402.03300),
    eq. 4.
    """
    centred = rewards - rewards.mean(axis=-1, keepdims=True)
    # Of equal rewards the rounded mean may miss them all by a bit, which a deviation would blow up.
    centred = jnp.where(live_groups(rewards)[:, None], centred, 0.0)
    if not normalise_std:
        return centred
    return centred / (rewards.std(axis=-1, ddof=1, keepdims=True) + eps)


def live_groups(rewards: Float[Array, "p g"], tolerance: float = EQUAL) -> Bool[Array, " p"]:
    """Groups that teach something: those whose rewards are not all equal."""
    return jnp.ptp(rewards, axis=-1) > tolerance


def log_ratios(
    logprobs: Float[Array, "p g t"],
    old_logprobs: Float[Array, "p g t"],
    mask: Float[Array, "p g t"],
    *,
    level: RatioLevel,
) -> Float[Array, "p g t"]:
    """Logarithm of how much likelier the policy finds each token than when it was sampled.

    At the level of sequences every token has the mean over its sequence: GSPO's importance ratio is
    the geometric mean of the tokens' (arXiv 2507.18071, eq. 7).
    """
    difference = jnp.where(mask > 0, logprobs - old_logprobs, 0.0)
    if level == "sequence":
        lengths = jnp.maximum(mask.sum(-1, keepdims=True), 1.0)
        mean = difference.sum(-1, keepdims=True) / lengths
        difference = jnp.broadcast_to(mean, difference.shape)
    return jnp.clip(difference, -MAX_LOG_RATIO, MAX_LOG_RATIO)


def clipped_objective(
    log_ratio: Float[Array, "p g t"],
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
    ratio = jnp.exp(jnp.clip(log_ratio, -MAX_LOG_RATIO, MAX_LOG_RATIO))
    advantage = advantages[..., None]
    clipped = jnp.clip(ratio, 1.0 - clip_low, 1.0 + clip_high)
    loss = jnp.maximum(-advantage * ratio, -advantage * clipped)
    return jnp.where(advantage < 0, jnp.minimum(loss, -advantage * clip_dual), loss)


def clipped_tokens(
    log_ratio: Float[Array, "p g t"],
    advantages: Float[Array, "p g"],
    *,
    clip_low: float,
    clip_high: float,
    clip_dual: float,
) -> Bool[Array, "p g t"]:
    """Tokens whose gradient the clip removes: where the objective is flat."""
    ratio, advantage = jnp.exp(log_ratio), advantages[..., None]
    above = (advantage > 0) & (ratio > 1.0 + clip_high)
    below = (advantage < 0) & ((ratio < 1.0 - clip_low) | (ratio > clip_dual))
    return above | below


def kl_penalty(
    logprobs: Float[Array, "p g t"],
    reference: Float[Array, "p g t"],
    *,
    estimator: KlEstimator,
) -> Float[Array, "p g t"]:
    """Per-token estimate of KL(policy || reference) from a token that the policy sampled.

    k1 = log p/q, unbiased and of either sign; k2 = (log p/q)^2 / 2, biased, low variance;
    k3 = q/p - 1 - log q/p, unbiased and never negative. Source: J. Schulman, "Approximating KL
    divergence" (2020). Clipped to +-`MAX_KL`.

    In a loss it is the gradient that counts: on tokens of the policy itself that of k2 is the
    gradient of the divergence, that of k3 the one of KL(reference || policy), and that of k1 is
    zero on average.
    """
    difference = jnp.clip(reference - logprobs, -MAX_LOG_RATIO, MAX_LOG_RATIO)  # log q/p
    values = {
        "k1": -difference,
        "k2": jnp.square(difference) / 2,
        "k3": jnp.expm1(difference) - difference,
    }
    return jnp.clip(values[estimator], -MAX_KL, MAX_KL)


def entropy(logits: Float[Array, "... v"]) -> Float[Array, "..."]:
    """Entropy of the next-token distribution, nats. Banned tokens may have logits of -1e30."""
    logprobs = jax.nn.log_softmax(logits, axis=-1)
    return -(jnp.exp(logprobs) * jnp.maximum(logprobs, -1e4)).sum(-1)


def sequence_weights(
    mask: Float[Array, "p g t"], *, aggregation: Aggregation
) -> Float[Array, "p g"]:
    """What each token of a sequence weighs in the loss, so that the loss is the sum over all tokens
    of value times mask times weight. Computed over the whole batch once, these weights make
    micro-batches add up to the same gradient.

    token      every token of the batch weighs the same (DAPO)
    sequence   every sequence weighs the same, and so do its tokens (GRPO)
    constant   as if every sequence had the full length T: no bias towards short ones (Dr.GRPO)

    Sequences without tokens are padding and weigh nothing.
    """
    lengths = mask.sum(-1)
    sequences = jnp.maximum((lengths > 0).sum(), 1).astype(mask.dtype)
    if aggregation == "token":
        return jnp.broadcast_to(1.0 / jnp.maximum(mask.sum(), 1.0), lengths.shape)
    if aggregation == "sequence":
        return jnp.where(lengths > 0, 1.0 / (jnp.maximum(lengths, 1.0) * sequences), 0.0)
    return jnp.broadcast_to(1.0 / (mask.shape[-1] * sequences), lengths.shape)


def aggregate(
    values: Float[Array, "p g t"], mask: Float[Array, "p g t"], weights: Float[Array, "p g"]
) -> Float[Array, ""]:
    """Sum over the tokens of value times mask times weight of the sequence."""
    return (jnp.where(mask > 0, values, 0.0) * mask * weights[..., None]).sum()


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean over the entries where `mask` is not zero; 0 when there is none. Same shapes."""
    total = mask.sum()
    return (values * mask).sum() / jnp.where(total > 0, total, 1.0)
