"""Every way to compute attention gives what plain attention gives, and the platform chooses."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from geometry_jax.types import leaf
from spatialevo_jax import mesh
from spatialevo_jax.models.qwen2_5_vl import attention
from spatialevo_jax.models.qwen2_5_vl.attention import KVCache
from spatialevo_jax.models.qwen2_5_vl.config import TINY, Attention

P, G, T, S, HEADS, KV, D = 2, 2, 5, 7, 4, 2, 16
OWN = {"right": [[5, 3], [1, 4]], "left": [[5, 2], [4, 5]]}  # real tokens of each suffix
PREFIX = [7, 4]
Suffixes = tuple[jax.Array, KVCache, KVCache | None]


def valid(lengths: list, size: int, side: str) -> jax.Array:
    """Real tokens first, or last."""
    there = np.arange(size) < np.array(lengths)[..., None]
    return leaf(there if side == "right" else there[..., ::-1].copy())


def suffixes(side: str, *, prefix: bool) -> Suffixes:
    rng = np.random.default_rng(len(side) + prefix)

    def random(*shape: int) -> jax.Array:
        return leaf(rng.normal(size=shape).astype(np.float32))

    own = KVCache(random(P, G, T, KV, D), random(P, G, T, KV, D), valid(OWN[side], T, side))
    before = KVCache(random(P, S, KV, D), random(P, S, KV, D), valid(PREFIX, S, side))
    return random(P, G, T, HEADS, D), own, before if prefix else None


def xla_suffixes(q: jax.Array, own: KVCache, prefix: KVCache | None) -> jax.Array:
    return attention._fused_suffixes(q, own, prefix, implementation="xla")


def way(name: Attention) -> Callable[..., jax.Array]:
    return lambda q, own, prefix: attention.causal(q, own, prefix, 0, name)


def weighed(attend: Callable[..., jax.Array], given: Suffixes) -> tuple[jax.Array, Any]:
    """The rows of real tokens, and the gradients of a random function of them."""
    mask = given[1].valid[..., None, None]
    weights = jax.random.normal(jax.random.key(0), given[0].shape)

    def value(q: jax.Array, arrays: Any) -> tuple[jax.Array, jax.Array]:
        (keys, values), prefix = arrays
        own = KVCache(keys, values, given[1].valid)
        before = None
        if given[2] is not None:
            before = KVCache(prefix[0], prefix[1], given[2].valid)
        out = jnp.where(mask, attend(q, own, before), 0.0)
        return (out * weights).sum(), out

    prefix = None if given[2] is None else (given[2].keys, given[2].values)
    arrays = ((given[1].keys, given[1].values), prefix)
    grads, out = jax.jit(jax.grad(value, argnums=(0, 1), has_aux=True))(given[0], arrays)
    return out, grads


@pytest.mark.parametrize(
    ("side", "prefix"),
    [("right", False), ("right", True), ("left", True)],
    ids=["alone", "behind a prefix", "padded on the left"],
)
@pytest.mark.parametrize("attend", [xla_suffixes, way("splash")], ids=["xla", "splash"])
def test_suffixes_attend_as_plainly(
    attend: Callable[..., jax.Array], side: str, prefix: bool
) -> None:
    given = suffixes(side, prefix=prefix)
    expected, expected_grads = weighed(way("plain"), given)
    found, grads = weighed(attend, given)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=5e-6), grads, expected_grads)


def test_one_suffix_after_the_other_is_the_softmax_by_hand() -> None:
    """Token 2 of suffix 1 of prompt 1: in NumPy, head by head, over the keys that it may see."""
    q, own, prefix = suffixes("right", prefix=True)
    assert prefix is not None
    found = attention.causal(q, own, prefix, 0, "splash")[1, 1, 2]
    for head in range(HEADS):
        kv = head * KV // HEADS
        keys, values = (
            np.concatenate([before[1, : PREFIX[1], kv], each[1, 1, :3, kv]])
            for before, each in ((prefix.keys, own.keys), (prefix.values, own.values))
        )
        scores = np.exp(keys @ np.asarray(q)[1, 1, 2, head] / math.sqrt(D))
        np.testing.assert_allclose(found[head], scores / scores.sum() @ values, atol=2e-6)


def xla_whole(q: jax.Array, k: jax.Array, v: jax.Array, there: jax.Array) -> jax.Array:
    return attention._fused_bidirectional(q, k, v, there, implementation="xla")


def splash_whole(q: jax.Array, k: jax.Array, v: jax.Array, there: jax.Array) -> jax.Array:
    return attention.bidirectional(q, k, v, there, "splash")


@pytest.mark.parametrize("attend", [xla_whole, splash_whole], ids=["xla", "splash"])
def test_images_attend_as_plainly(attend: Callable[..., jax.Array]) -> None:
    """A head of 80, as the vision tower's, and an image that fills its row beside one that does
    not.
    """
    rng = np.random.default_rng(1)
    q, k, v, weights = (leaf(rng.normal(size=(2, 140, 2, 80)).astype(np.float32)) for _ in range(4))
    there = valid([140, 60], 140, "right")

    def value(attend: Any, *qkv: jax.Array) -> tuple[jax.Array, jax.Array]:
        out = jnp.where(there[..., None, None], attend(*qkv, there), 0.0)
        return (out * weights).sum(), out

    def plain(q: jax.Array, k: jax.Array, v: jax.Array, there: jax.Array) -> jax.Array:
        return attention.bidirectional(q, k, v, there, "plain")

    run = jax.jit(jax.grad(value, argnums=(1, 2, 3), has_aux=True), static_argnums=0)
    (grads, found), (expected_grads, expected) = run(attend, q, k, v), run(plain, q, k, v)
    np.testing.assert_allclose(found, expected, atol=3e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), grads, expected_grads)


@pytest.mark.parametrize(
    ("platform", "keys", "head_dim", "dtype", "expected"),
    [
        ("cpu", 8192, 128, jnp.float32, "plain"),
        ("gpu", 8192, 128, jnp.bfloat16, "cudnn"),
        ("gpu", 8192, 80, jnp.bfloat16, "cudnn"),
        ("gpu", 8192, 128, jnp.float32, "plain"),
        ("gpu", 8192, 12, jnp.bfloat16, "plain"),
        ("gpu", 96, 128, jnp.bfloat16, "plain"),
        ("tpu", 8192, 128, jnp.float32, "splash"),
        ("tpu", 96, 128, jnp.bfloat16, "plain"),
    ],
)
def test_the_platform_and_the_length_choose(
    monkeypatch: pytest.MonkeyPatch,
    platform: str,
    keys: int,
    head_dim: int,
    dtype: Any,
    expected: Attention,
) -> None:
    monkeypatch.setattr(mesh, "platform", lambda: platform)
    assert attention.choose("auto", keys, head_dim, jnp.dtype(dtype)) == expected
    assert attention.choose("splash", keys, head_dim, jnp.dtype(dtype)) == "splash"


@pytest.mark.parametrize("prefix", [False, True], ids=["alone", "behind a prefix"])
@pytest.mark.parametrize("piece", [2, 512], ids=["in pieces", "whole"])
@pytest.mark.parametrize("start", [0, 4, 7])
def test_a_step_of_decoding_attends_as_plainly(
    monkeypatch: pytest.MonkeyPatch, start: int, piece: int, *, prefix: bool
) -> None:
    """Keys beyond what is filled are noise that nothing may see; a piece of them may be empty."""
    monkeypatch.setattr(attention, "PIECE", piece)
    rng = np.random.default_rng(start)

    def random(*shape: int) -> jax.Array:
        return leaf(rng.normal(size=shape).astype(np.float32))

    filled = jnp.broadcast_to(jnp.arange(8) <= start, (P, G, 8))
    own = KVCache(random(P, G, 8, KV, D), random(P, G, 8, KV, D), filled)
    before = KVCache(random(P, 12, KV, D), random(P, 12, KV, D), valid([12, 3], 12, "right"))
    q, behind = random(P, G, 1, HEADS, D), before if prefix else None
    found = attention._fused_step(q, own, behind, start, implementation="xla")
    np.testing.assert_allclose(found, attention.causal(q, own, behind, start, "plain"), atol=1e-6)


def test_padding_that_comes_last_needs_no_mask() -> None:
    q, own, _ = suffixes("right", prefix=False)
    mask = own.valid[..., None, None]
    found = attention._fused_causal(q, own, implementation="xla")
    expected = attention.causal(q, own, None, 0, "plain")
    np.testing.assert_allclose(jnp.where(mask, found, 0), jnp.where(mask, expected, 0), atol=2e-6)


def test_gpus_take_a_mask_only_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of cuDNN, which is not here, is computed by XLA."""
    asked: list[set[str]] = []
    computed = jax.nn.dot_product_attention

    def attend(*arrays: Any, implementation: str, **settings: Any) -> Any:
        assert implementation == "cudnn"
        asked.append(set(settings))
        return computed(*arrays, implementation="xla", **settings)

    monkeypatch.setattr(jax.nn, "dot_product_attention", attend)
    q, own, prefix = suffixes("right", prefix=True)
    attention.causal(q, own, None, 0, "cudnn", right_padded=True)
    attention.causal(q, own, None, 0, "cudnn")
    attention.causal(q, own, prefix, 0, "cudnn", right_padded=True)
    attention.causal(q[:, :, :1], own, prefix, 2, "cudnn", right_padded=True)
    lengths = {"key_value_seq_lengths", "return_residual"}
    assert asked == [{"is_causal"}, {"mask"}, {"mask"}, lengths, lengths]
    attention.causal(q[:, :, :1], own, prefix, 2, "cudnn")  # a cache of any order: plainly
    assert len(asked) == 5


def test_a_cache_is_read_plainly() -> None:
    """Decoding reads its keys once and has no square of scores."""
    q, own, prefix = suffixes("right", prefix=True)
    found = attention.causal(q[:, :, :1], own, prefix, 2, "splash")
    plain = attention.causal(q[:, :, :1], own, prefix, 2, "plain")
    np.testing.assert_array_equal(found, plain)


def sizes(jaxpr: Any) -> Iterator[int]:
    """Elements of all arrays that a computation makes, loops included, kernels left out."""
    for equation in jaxpr.eqns:
        yield from (math.prod(one.aval.shape) for one in equation.outvars)
        if equation.primitive.name != "pallas_call":
            for inner in jaxprs_in_params(equation.params):
                yield from sizes(inner)


def long_gradient(name: Attention) -> tuple[Callable[..., Any], Any, int]:
    """A layer's gradient for 4 replies of 2,048 tokens behind a prompt of 3,072."""
    p, g, t, s, heads, kv, d = 1, 4, 2048, 3072, 16, 2, 128

    def shape(*size: int, dtype: Any = jnp.bfloat16) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(size, dtype)

    own = (shape(p, g, t, kv, d), shape(p, g, t, kv, d))
    prefix = (shape(p, s, kv, d), shape(p, s, kv, d))
    there = (shape(p, g, t, dtype=bool), shape(p, s, dtype=bool))

    def value(q: jax.Array, own: Any, prefix: Any, there: Any) -> jax.Array:
        replies = KVCache(own[0], own[1], there[0])
        prompt = KVCache(prefix[0], prefix[1], there[1])
        return attention.causal(q, replies, prompt, 0, name).sum()

    arguments = (shape(p, g, t, heads, d), own, prefix, there)
    return jax.grad(value, argnums=(0, 1, 2)), arguments, p * g * t * s * heads


def test_long_suffixes_never_hold_all_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh, "platform", lambda: "tpu")
    held = {}
    for name in ("plain", "auto"):
        function, arguments, scores = long_gradient(name)
        held[name] = max(sizes(jax.make_jaxpr(function)(*arguments).jaxpr)) / scores
    assert held["plain"] >= 1.0
    assert held["auto"] < 0.1


def test_the_kernel_of_tpus_compiles_down_to_its_assembly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Up to what only a TPU's compiler can do."""
    monkeypatch.setattr(mesh, "platform", lambda: "tpu")
    function, arguments, _ = long_gradient("auto")
    text = jax.jit(function).trace(*arguments).lower(lowering_platforms=("tpu",)).as_text()
    assert text.count("tpu_custom_call") >= 3  # forward, and the gradients of q and of k, v


def test_an_unknown_way_is_refused() -> None:
    unknown: Any = "flash"
    with pytest.raises(ValueError, match="expected one of auto, plain, cudnn, splash, got 'flash'"):
        dataclasses.replace(TINY, attention=unknown)
    with pytest.raises(ValueError, match="cudnn computes in bfloat16 or float16, got float32"):
        dataclasses.replace(TINY, attention="cudnn")
