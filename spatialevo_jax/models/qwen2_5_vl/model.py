"""Qwen2.5-VL as functions over a parameter tree.

The modules are built once with NNX and split into a graph and a plain nested dict of arrays.
Everything above this file holds that dict (layers stacked on the first axis) and passes it in:

    policy, params = build(sized("tiny"), seed=0)
    features = encode_images(policy, params, vision_inputs)             (V, D)
    x = embed(policy, params, tokens, feature_index, features)          (P, G, T, D)
    hidden, cache = extend(policy, params, x, positions, valid)         (P, G, T, D)
    scores = logits(policy, params, hidden)                             (P, G, T, vocabulary)
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from spatialevo_jax import mesh
from spatialevo_jax.models.qwen2_5_vl import attention
from spatialevo_jax.models.qwen2_5_vl.attention import KVCache
from spatialevo_jax.models.qwen2_5_vl.config import ModelConfig
from spatialevo_jax.models.qwen2_5_vl.images import VisionInputs
from spatialevo_jax.models.qwen2_5_vl.text import TextDecoder
from spatialevo_jax.models.qwen2_5_vl.vision import VisionTower, aligned

Params = Any  # nested dict of arrays

__all__ = [
    "KVCache",
    "Params",
    "Policy",
    "VisionInputs",
    "abstract_params",
    "as_prefix",
    "build",
    "embed",
    "empty_cache",
    "encode_images",
    "extend",
    "for_decoding",
    "logits",
    "unstacked",
]


class Qwen25VL(nnx.Module):
    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        dtype = jnp.dtype(config.compute_dtype)
        how = (config.unroll, config.remat, config.attention)
        self.vision = VisionTower(config.vision, dtype, *how, rngs=rngs)
        self.text = TextDecoder(config.text, dtype, *how, rngs=rngs)


@dataclasses.dataclass(frozen=True)
class Policy:
    """Everything about the model that is not a number to learn. Hashable: a static argument of
    `jit`.
    """

    config: ModelConfig

    def bind(self, params: Params) -> Qwen25VL:
        """The module with the given parameters in it; low-rank changes, which `lora.attach` puts
        beside kernels, go to their linear maps.
        """
        blocks = params["text"]["blocks"]
        if isinstance(blocks, dict):
            return _filled(_split(self.config), params)
        first = {**params, "text": {**params["text"], "blocks": blocks[0]}}
        model = _filled(_split(self.config), first)
        split = nnx.split(model.text.blocks)
        model.text.layers = nnx.List([_filled(split, block) for block in blocks])
        return model


def for_decoding(params: Params) -> Params:
    """The parameters in the form that a decoding loop reads, made once before it; parameters that
    have it already are returned as they are. The decoder's layers are a tuple: of stacked layers
    the loop would copy each one out at every step. On CPU the kernels of its linear maps become
    weights (outputs, inputs), see `products.linear_of_few`.
    """
    text = params["text"]
    blocks = text["blocks"]
    if not isinstance(blocks, dict):
        return params
    count = len(jax.tree.leaves(blocks)[0])
    layers = tuple(jax.tree.map(lambda x, at=at: x[at], blocks) for at in range(count))
    text = {**text, "blocks": layers}
    return {**params, "text": _by_outputs(text) if mesh.platform() == "cpu" else text}


def _by_outputs(params: Params) -> Params:
    """Every kernel (inputs, outputs) as a weight (outputs, inputs)."""
    if isinstance(params, tuple):
        return tuple(map(_by_outputs, params))
    if not isinstance(params, dict):
        return params
    found = {name: _by_outputs(x) for name, x in params.items() if name != "kernel"}
    return found | {"weight": params["kernel"].T} if "kernel" in params else found


def _filled(split: tuple[Any, Any], params: Params) -> Any:
    """The module of this graph with these parameters."""
    graph, shapes = split
    state = jax.tree.map(lambda leaf: leaf, shapes)  # a copy, to be filled
    nnx.replace_by_pure_dict(state, _without_added(params))
    module = nnx.merge(graph, state)
    _add(module, params)
    return module


ADDED = ("a", "b", "weight")  # of `layers.Linear`, beside what a new one has


def _without_added(params: Params) -> Params:
    if not isinstance(params, dict):
        return params
    return {name: _without_added(x) for name, x in params.items() if name not in ADDED}


def _add(module: Any, params: Params) -> None:
    for name, below in params.items():
        if name in ADDED:
            setattr(module, name, nnx.Param(below))
        elif isinstance(below, dict):
            _add(getattr(module, name), below)


@functools.cache
def _split(config: ModelConfig) -> tuple[nnx.GraphDef[Qwen25VL], nnx.State]:
    """The modules without their numbers, and the shapes of these. Building them takes a while."""
    return nnx.split(nnx.eval_shape(lambda: Qwen25VL(config, rngs=nnx.Rngs(0))))


def build(config: ModelConfig, seed: int, shardings: Params | None = None) -> tuple[Policy, Params]:
    """A policy with random float32 parameters. With a tree of shardings like the parameters' each
    device makes its own share of them; the numbers are the same.
    """

    def init() -> Params:
        return nnx.to_pure_dict(nnx.state(Qwen25VL(config, rngs=nnx.Rngs(seed))))

    return Policy(config), jax.jit(init, out_shardings=shardings)()


@functools.cache
def abstract_params(config: ModelConfig) -> Params:
    """Shapes and types of the parameters, without any memory. Shared: not to be changed."""
    return nnx.to_pure_dict(_split(config)[1])


def encode_images(policy: Policy, params: Params, inputs: VisionInputs) -> jax.Array:
    """(V, D) features of all visual tokens, image by image in the order they were packed."""
    if mesh.platform() == "gpu":
        params = {**params, "vision": aligned(params["vision"])}
    return policy.bind(params).vision(inputs)


def embed(
    policy: Policy,
    params: Params,
    tokens: jax.Array,
    feature_index: jax.Array | None = None,
    features: jax.Array | None = None,
) -> jax.Array:
    """(...,) tokens -> (..., D); where `feature_index` is not -1, that row of `features` takes the
    token's place.
    """
    x = policy.bind(params).text.embed(tokens)
    if feature_index is None or features is None:
        return x
    visual = features[jnp.maximum(feature_index, 0)].astype(x.dtype)
    return jnp.where(feature_index[..., None] >= 0, visual, x)


def extend(
    policy: Policy,
    params: Params,
    x: jax.Array,
    positions: jax.Array,
    valid: jax.Array,
    prefix: KVCache | None = None,
    cache: KVCache | None = None,
    start: jax.Array | int = 0,
    *,
    right_padded: bool = False,
) -> tuple[jax.Array, KVCache]:
    """Runs T tokens of G suffixes of P prompts through the decoder.

    Args:
        x: (P, G, T, D) embedded tokens.
        positions: (3, P, G, T) rotary positions.
        valid: (P, G, T) bool; invalid tokens are seen by none. Where padding stands does not
            matter.
        prefix: keys and values of the prompts, seen by all suffixes.
        cache: keys and values of earlier tokens of the suffixes, layer by layer as `empty_cache`
            makes them; the new ones are written at `start`. Without a cache the tokens see the
            prefix and each other. A decoding loop passes `for_decoding` parameters.
        start: slot of the first token in the cache.
        right_padded: promises that all padding, of prefix and cache too, comes after what is valid,
            which lets kernels on GPUs do without a mask.

    Returns:
        Normalised hidden states (P, G, T, D), and the cache with the new keys and values.
    """
    if cache is not None:
        params = for_decoding(params)
    return policy.bind(params).text(
        x, positions, valid, prefix, cache, start, right_padded=right_padded
    )


def logits(policy: Policy, params: Params, hidden: jax.Array) -> jax.Array:
    """(..., D) -> (..., vocabulary) float32."""
    return policy.bind(params).text.logits(hidden)


def as_prefix(cache: KVCache) -> KVCache:
    """What `extend` returned for prompts (G = 1) as a prefix that suffixes can share."""
    return KVCache(cache.keys[:, :, 0], cache.values[:, :, 0], cache.valid[:, 0])


def unstacked(cache: KVCache) -> KVCache:
    """The cache with keys and values layer by layer, for a decoding loop: see `for_decoding`."""
    return _joined([cache.layer(number) for number in range(len(cache.keys))])


def _joined(layers: list[KVCache]) -> KVCache:
    """A cache of these layers, as a decoding loop keeps it."""
    layers = [attention.for_decoding(layer) for layer in layers]
    keys, values = tuple(one.keys for one in layers), tuple(one.values for one in layers)
    return dataclasses.replace(layers[0], keys=keys, values=values)


def empty_cache(policy: Policy, shape: tuple[int, int, int]) -> KVCache:
    """A cache for (P, G, C) tokens of suffixes, with nothing in it yet."""
    config = policy.config.text
    one = (*shape, config.num_kv_heads, config.head_dim)

    def zeros() -> jax.Array:
        return jnp.zeros(one, policy.config.compute_dtype)

    valid = jnp.zeros(shape, bool)
    return _joined([KVCache(zeros(), zeros(), valid) for _ in range(config.num_layers)])
