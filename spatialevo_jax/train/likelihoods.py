"""How likely a policy finds given replies, token by token, with the logits of only a few tokens in
memory at a time: of 2,048 tokens with 151,936 logits each they would take 1.2 GB for one reply.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from spatialevo_jax import grpo, mesh
from spatialevo_jax.models.qwen2_5_vl import model as qwen
from spatialevo_jax.rollout import sampling
from spatialevo_jax.rollout.batch import Suffixes

LOGIT_BYTES = 2**29  # of the float32 logits that a device holds at once, unless a chunk is given


class Likelihoods(NamedTuple):
    logprobs: jax.Array  # (P, G, T) f32, of each target
    entropies: jax.Array  # (P, G, T) f32, nats, of the distribution that the target is drawn from


def token_likelihoods(
    policy: qwen.Policy,
    params: Any,
    prefix: qwen.KVCache,
    suffixes: Suffixes,
    banned: jax.Array | None = None,
    *,
    temperature: float = 1.0,
    chunk: int = 0,
) -> Likelihoods:
    """Of each target given the prompt and the inputs so far.

    `banned` (V,) and `temperature` are those of the sampler, so that both sides speak of one
    distribution. `chunk` is how many tokens of each reply have their logits in memory together; 0
    takes as many as fit in `LOGIT_BYTES`. Logits of several chunks are computed again in the
    backward pass.
    """
    x = qwen.embed(policy, params, suffixes.inputs)
    hidden, _ = qwen.extend(policy, params, x, suffixes.positions, suffixes.valid, prefix)
    *samples, length = suffixes.targets.shape
    chunk = chunk or _fitting_chunk(math.prod(samples), policy.config.text.vocab_size)
    chunks = -(-length // chunk)

    def read(params: Any, hidden: jax.Array, targets: jax.Array) -> Likelihoods:
        logits = qwen.logits(policy, params, hidden)
        # The vocabulary stays over `tensor`: what follows reduces over it, and never picks from it.
        logits = mesh.constrain(logits, mesh.BATCH, None, None, mesh.TENSOR)
        if banned is not None:
            logits = jnp.where(banned, sampling.NEVER, logits)
        chosen = jnp.arange(logits.shape[-1]) == targets[..., None]
        target = jnp.where(chosen, logits, 0.0).sum(-1)
        logits = logits / temperature
        logprobs = target / temperature - jax.nn.logsumexp(logits, axis=-1)
        return Likelihoods(logprobs, grpo.entropy(logits))

    if chunks <= 1:
        return read(params, hidden, suffixes.targets)
    size = -(-length // chunks)

    def cut(x: jax.Array) -> jax.Array:  # (P, G, T, ...) -> (chunks, P, G, size, ...)
        filled = [(0, 0), (0, 0), (0, chunks * size - length)] + [(0, 0)] * (x.ndim - 3)
        x = jnp.pad(x, filled).reshape(*samples, chunks, size, *x.shape[3:])
        return mesh.constrain(jnp.moveaxis(x, 2, 0), None, mesh.BATCH)

    def join(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(x, 0, 2).reshape(*samples, -1)[..., :length]

    head = _whole_head(params, tied=policy.config.text.tie_word_embeddings)
    again = jax.checkpoint(read, prevent_cse=False)
    _, found = jax.lax.scan(
        lambda nothing, one: (nothing, again(head, *one)),
        None,
        (cut(hidden), cut(suffixes.targets)),
    )
    return jax.tree.map(join, found)


def _fitting_chunk(samples: int, vocabulary: int) -> int:
    devices = mesh.axis_size(mesh.BATCH) * mesh.axis_size(mesh.TENSOR)
    return max(LOGIT_BYTES * devices // (samples * vocabulary * 4), 1)


def _whole_head(params: Any, *, tied: bool) -> Any:
    """The parameters with the matrix of the head gathered along `fsdp`: once, and not for every
    chunk. It stays in float32, in which the chunks add up its gradient.
    """
    name, leaf, axes = (
        ("embedding", "embedding", (mesh.TENSOR,))
        if tied
        else ("head", "kernel", (None, mesh.TENSOR))
    )
    text = params["text"]
    whole = mesh.constrain(text[name][leaf], *axes)
    return {**params, "text": {**text, name: {**text[name], leaf: whole}}}
