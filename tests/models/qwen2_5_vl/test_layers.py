"""Pieces with gradients of their own, against what JAX derives from their formulas."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spatialevo_jax.models.qwen2_5_vl import attention, layers, rope

KEY = jax.random.key(0)


def normal(number: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.fold_in(KEY, number), shape)


def plain_norm(x: jax.Array, scale: jax.Array) -> jax.Array:
    return x / jnp.sqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6) * scale


def plain_attention(
    q: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    seen: jax.Array,
    before: tuple[jax.Array, jax.Array, jax.Array],
) -> jax.Array:
    """One softmax over the joined blocks; the queries' last leading axis shares the second one."""
    shared = [jnp.broadcast_to(x[:, None], (*q.shape[:2], *x.shape[1:])) for x in before[:2]]
    keys, values = (
        jnp.concatenate(both, axis=-2) for both in zip((keys, values), shared, strict=True)
    )
    shape = q.shape[:-1]
    masks = [jnp.broadcast_to(one, (*shape, one.shape[-1])) for one in (seen, before[2])]
    scores = jnp.where(jnp.concatenate(masks, -1), q @ keys.swapaxes(-1, -2), -jnp.inf)
    return jax.nn.softmax(scores, axis=-1) @ values


Q, K, V = normal(0, 2, 3, 5, 4), normal(1, 2, 3, 5, 4), normal(2, 2, 3, 5, 4)
BEFORE = normal(3, 2, 7, 4), normal(4, 2, 7, 4)
SEEN = jnp.tril(jnp.ones((5, 5), bool))
SEEN_BEFORE = (jnp.arange(7) < jnp.array([[7], [3]]))[:, None, None]


def joined(q: jax.Array, k: jax.Array, v: jax.Array, *before: jax.Array) -> jax.Array:
    return attention._softmax_attention(q, [(k, v, SEEN), (*before, SEEN_BEFORE)])


CASES: dict[str, tuple[Callable, Callable, tuple[jax.Array, ...]]] = {
    "norm": (
        lambda x, scale: layers.rms_norm(x, scale, 1e-6),
        plain_norm,
        (normal(5, 3, 6, 8), 1 + normal(6, 8)),
    ),
    "gate": (
        layers.swiglu,
        lambda gate, up: jax.nn.silu(gate) * up,
        (4 * normal(7, 6, 9), normal(8, 6, 9)),
    ),
    "attention": (
        joined,
        lambda q, k, v, *before: plain_attention(q, k, v, SEEN, (*before, SEEN_BEFORE)),
        (Q, K, V, *BEFORE),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradients_are_those_of_the_formula(case: str) -> None:
    ours, formula, given = CASES[case]
    weights = normal(9, *ours(*given).shape)
    places = tuple(range(len(given)))
    for of in (ours, formula):
        assert of(*given).dtype == jnp.float32
    np.testing.assert_allclose(ours(*given), formula(*given), atol=2e-6)
    found, expected = (
        jax.grad(lambda *x, of=of: (of(*x) * weights).sum(), places)(*given)
        for of in (ours, formula)
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_in_bfloat16_they_are_those_of_float32_rounded(case: str) -> None:
    ours, formula, given = CASES[case]
    half = tuple(x.astype(jnp.bfloat16) for x in given)
    wide = tuple(x.astype(jnp.float32) for x in half)
    weights = normal(9, *ours(*given).shape)
    places = tuple(range(len(given)))
    found = jax.grad(lambda *x: (ours(*x).astype(jnp.float32) * weights).sum(), places)(*half)
    expected = jax.grad(lambda *x: (formula(*x) * weights).sum(), places)(*wide)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == jnp.bfloat16
        far = np.abs(np.asarray(one, np.float32) - other).max()
        assert far <= 0.05 * np.abs(other).max()


def test_what_is_kept_for_the_gradients_is_no_wider_than_what_comes_in() -> None:
    def kept(function: Callable, *given: jax.Array) -> int:
        backward = jax.eval_shape(lambda *x: jax.vjp(function, *x)[1], *given)
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(backward))

    gate = normal(0, 64, 128).astype(jnp.bfloat16)
    assert kept(layers.swiglu, gate, gate) == 2 * gate.nbytes
    x, scale = normal(1, 64, 128).astype(jnp.bfloat16), jnp.ones(128)
    by_row = 4 * 64
    assert kept(lambda *x: layers.rms_norm(*x, 1e-6), x, scale) == (
        x.nbytes + scale.nbytes + by_row
    )


def test_an_mlp_keeps_its_input_and_its_two_wide_products_and_no_more() -> None:
    """Neither the normed rows nor the swiglu ones, which a product takes: they are made again."""
    rows, width, hidden = 24, 16, 40
    mlp = layers.GatedMlp(
        width, hidden, jnp.dtype("float32"), bias=True, out_scale=1.0, rngs=nnx.Rngs(0)
    )
    norm = layers.Norm(width, 1e-6, rngs=nnx.Rngs(1))
    x = normal(10, rows, width)

    def formula(x: jax.Array) -> jax.Array:
        y = norm(x)
        return mlp.down(jax.nn.silu(mlp.gate(y)) * mlp.up(y))

    backward = jax.eval_shape(lambda x: jax.vjp(lambda x: mlp(x, norm), x)[1], x)
    kept = sorted(leaf.shape for leaf in jax.tree.leaves(backward) if leaf.shape[:1] == (rows,))
    assert kept == [(rows, width), (rows, hidden), (rows, hidden)]
    weights = normal(11, rows, width)
    for of in (lambda f: f(x), lambda f: jax.grad(lambda x: (f(x) * weights).sum())(x)):
        np.testing.assert_allclose(of(lambda x: mlp(x, norm)), of(formula), atol=1e-5)


def test_cosines_and_sines_are_worked_out_once_for_all_layers() -> None:
    angles = normal(0, 6, 4)

    def several(angles: jax.Array, x: jax.Array) -> jax.Array:
        cos_sin = rope.cos_sin(angles)
        for _ in range(3):
            x = jnp.tanh(rope.rotate(x, cos_sin))
        return x

    compiled = str(jax.jit(several).lower(angles, normal(1, 6, 2, 8)).compile().as_text())
    assert compiled.count(" cosine(") == compiled.count(" sine(") == 1
    cos_sin = rope.cos_sin(angles)
    np.testing.assert_array_equal(cos_sin.cos, jnp.cos(angles))
    np.testing.assert_array_equal(cos_sin.sin, jnp.sin(angles))
