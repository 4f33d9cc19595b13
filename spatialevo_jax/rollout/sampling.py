"""Picking the next token. One uniform number a token: noise costs nothing beside the model."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

NEVER = -1e30  # a logit that no softmax gives any weight


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
    logits = jnp.where(banned, NEVER, logits.astype(jnp.float32))
    logprobs = jax.nn.log_softmax(logits / temperature if temperature > 0 else logits)
    if temperature > 0:
        cumulative = jnp.cumsum(jnp.exp(logprobs), axis=-1)
        threshold = uniform[..., None] * cumulative[..., -1:]
        # The first token whose cumulative mass exceeds the threshold. Rounding may leave none, or
        # one without mass of its own: the likeliest token then stands in for it.
        reached = (cumulative > threshold) & ~banned
        token = jnp.where(reached.any(-1), reached.argmax(-1), logprobs.argmax(-1))
    else:
        token = jnp.argmax(logits, axis=-1)
    token = token.astype(jnp.int32)
    return token, jnp.take_along_axis(logprobs, token[..., None], axis=-1)[..., 0]


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
