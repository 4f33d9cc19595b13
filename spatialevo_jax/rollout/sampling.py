"""Picking the next token. One uniform number a token: noise costs nothing beside the model."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

NEVER = -1e30  # a logit that no softmax gives any weight
BLOCKS = 128  # of the vocabulary: as many divide over any number of devices along `tensor`


def sample(
    logits: Float[Array, "... v"],
    uniform: Float[Array, "..."],
    banned: Bool[Array, " v"],
    *,
    temperature: float,
) -> tuple[Int[Array, "..."], Float[Array, "..."]]:
    """Draws tokens by the inverse of the cumulative distribution; `temperature` 0 takes the most
    likely one.

    `uniform` lies in [0, 1). Returns token ids and their log-probabilities under the very
    distribution that is sampled from: banned tokens out, tempered (at temperature 0: untempered).
    """
    scores = jnp.where(banned, NEVER, logits.astype(jnp.float32))
    if temperature > 0:
        scores = scores / temperature
        token, total = _drawn(scores, uniform)
    else:
        token, total = jnp.argmax(scores, axis=-1), jax.nn.logsumexp(scores, axis=-1)
    token = token.astype(jnp.int32)
    return token, jnp.take_along_axis(scores, token[..., None], axis=-1)[..., 0] - total


def _drawn(
    scores: Float[Array, "... v"], uniform: Float[Array, "..."]
) -> tuple[Int[Array, "..."], Float[Array, "..."]]:
    """First a block of the vocabulary by the masses of all blocks, then a token of it: a large
    vocabulary is read twice, and nothing of its size is written. Returns the token and the
    logarithm of the sum of all exponentials.
    """
    spare = [(0, 0)] * (scores.ndim - 1) + [(0, -scores.shape[-1] % BLOCKS)]
    top = scores.max(axis=-1, keepdims=True)
    weights = jnp.exp(jnp.pad(scores, spare, constant_values=NEVER) - top)
    weights = weights.reshape(*scores.shape[:-1], BLOCKS, -1)
    masses = weights.sum(axis=-1)
    cumulative = jnp.cumsum(masses, axis=-1)
    total = cumulative[..., -1]
    block = _reached(masses, cumulative, uniform * total)
    inside = jnp.take_along_axis(weights, block[..., None, None], axis=-2)[..., 0, :]
    before = jnp.take_along_axis(cumulative - masses, block[..., None], axis=-1)[..., 0]
    token = _reached(inside, jnp.cumsum(inside, axis=-1), uniform * total - before)
    return block * weights.shape[-1] + token, top[..., 0] + jnp.log(total)


def _reached(
    masses: Float[Array, "... n"], cumulative: Float[Array, "... n"], threshold: Float[Array, "..."]
) -> Int[Array, "..."]:
    """The first whose cumulative mass exceeds the threshold. Rounding may leave none, or one
    without mass of its own: the heaviest then stands in for it.
    """
    reached = (cumulative > threshold[..., None]) & (masses > 0)
    return jnp.where(reached.any(-1), reached.argmax(-1), masses.argmax(-1))


def sample_keys(
    key: jax.Array, step: int | jax.Array, role: int, prompts: Int[Array, " p"], samples: int
) -> jax.Array:
    """(P, G) keys, each folded from (run key, step, role, prompt, sample): no noise is used twice
    in a run. `prompts` are the numbers of the prompts in their step, which are not their places in
    a batch that several hosts share.
    """
    key = jax.random.fold_in(jax.random.fold_in(key, step), role)
    index = prompts[:, None] * samples + jnp.arange(samples)
    return jax.vmap(jax.vmap(lambda one: jax.random.fold_in(key, one)))(index)
