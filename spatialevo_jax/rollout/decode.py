"""Sampling responses: the prompt once, then one token at a time for all samples of all prompts, on
the device.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from spatialevo_jax import mesh, sharding
from spatialevo_jax.models.qwen2_5_vl import model as qwen
from spatialevo_jax.rollout import sampling
from spatialevo_jax.rollout.batch import Prompts, Starts


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Responses:
    tokens: jax.Array  # (P, G, T) i32, 0 after the end
    mask: jax.Array  # (P, G, T) f32, 1 up to and including the end-of-turn token
    logprobs: jax.Array  # (P, G, T) f32, under the policy that sampled
    finished: jax.Array  # (P, G) bool, False where the length ran out


class SamplingState(NamedTuple):
    step: jax.Array  # () i32, tokens sampled so far
    current: jax.Array  # (P, G) i32, the input of the next step
    done: jax.Array  # (P, G) bool, end-of-turn token sampled
    cache: qwen.KVCache  # suffix keys and values, written up to `step`
    tokens: jax.Array  # (P, G, T) i32
    mask: jax.Array  # (P, G, T) f32
    logprobs: jax.Array  # (P, G, T) f32


def prefill(
    policy: qwen.Policy, params: qwen.Params, features: jax.Array, prompts: Prompts
) -> qwen.KVCache:
    """Keys and values of the prompts, one row each, shared later by all suffixes."""
    x = qwen.embed(
        policy, params, prompts.tokens[:, None], prompts.feature_index[:, None], features
    )
    _, cache = qwen.extend(
        policy,
        params,
        x,
        prompts.positions[:, :, None],
        prompts.valid[:, None],
        right_padded=True,
    )
    return qwen.as_prefix(cache)


@functools.partial(
    jax.jit, static_argnames=("policy", "length", "temperature", "end_token", "whole_weights")
)
def generate(
    policy: qwen.Policy,
    params: qwen.Params,
    vision: qwen.VisionInputs,
    prompts: Prompts,
    starts: Starts,
    keys: jax.Array,
    banned: jax.Array,
    *,
    length: int,
    temperature: float,
    end_token: int,
    whole_weights: bool = False,
) -> Responses:
    """Samples G responses of at most `length` tokens for each prompt. `keys` is (P, G), `banned`
    (V,) bool. `whole_weights` makes a copy of the decoder for the loop, see
    `sharding.whole_weights`.
    """
    features = qwen.encode_images(policy, params, vision)
    prefix = qwen.unstacked(prefill(policy, params, features, prompts))
    shape = (keys.shape[0], keys.shape[1], length)
    if whole_weights:
        params = sharding.whole_weights(params, policy.config)
    params = qwen.for_decoding(params)

    def cond(state: SamplingState) -> jax.Array:
        # Stop when the length is used up or every sample has ended.
        return (state.step < length) & ~jnp.all(state.done)

    def body(state: SamplingState) -> SamplingState:
        position = starts.positions[:, None, None] + state.step
        position = jnp.broadcast_to(position, (3, *keys.shape, 1))
        x = qwen.embed(policy, params, state.current[..., None])
        hidden, cache = qwen.extend(
            policy,
            params,
            x,
            position,
            ~state.done[..., None],
            prefix,
            state.cache,
            state.step,
            right_padded=True,
        )
        logits = qwen.logits(policy, params, hidden[:, :, 0])
        fold = jax.vmap(
            jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, state.step)))
        )
        token, logprob = sampling.sample(logits, fold(keys), banned, temperature=temperature)
        alive = ~state.done
        token = jnp.where(alive, token, 0)
        return SamplingState(
            step=state.step + 1,
            current=token,
            done=state.done | (token == end_token),
            cache=cache,
            tokens=state.tokens.at[:, :, state.step].set(token),
            mask=state.mask.at[:, :, state.step].set(alive.astype(jnp.float32)),
            logprobs=state.logprobs.at[:, :, state.step].set(jnp.where(alive, logprob, 0.0)),
        )

    state = SamplingState(
        step=jnp.int32(0),
        current=jnp.broadcast_to(starts.tokens[:, None], keys.shape),
        done=jnp.zeros(keys.shape, bool),
        cache=qwen.empty_cache(policy, shape),
        tokens=jnp.zeros(shape, jnp.int32),
        mask=jnp.zeros(shape, jnp.float32),
        logprobs=jnp.zeros(shape, jnp.float32),
    )
    state = jax.lax.while_loop(cond, body, state)
    responses = Responses(state.tokens, state.mask, state.logprobs, state.done)
    # Each process reads the rows of its own prompts from this layout: see `hosts.rows_of`.
    return jax.tree.map(lambda x: mesh.constrain(x, mesh.BATCH), responses)
