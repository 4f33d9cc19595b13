"""Products of linear maps: the same numbers, whatever form they are brought into."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spatialevo_jax.models.qwen2_5_vl import products

Rows = tuple[int, ...]


def drawn(shape: Rows, seed: int) -> jax.Array:
    """Numbers that bfloat16 has."""
    normal = np.random.default_rng(seed).normal(size=shape)
    return jnp.asarray(normal, jnp.bfloat16).astype(jnp.float32)


def results(
    function: Callable[..., jax.Array], dtype: jnp.dtype, *given: jax.Array
) -> list[np.ndarray]:
    """The result and the gradients of a weighted sum of it, as float32."""
    given = tuple(one.astype(dtype) for one in given)
    y, back = jax.vjp(function, *given)
    weights = drawn(y.shape, 9).astype(y.dtype)
    return [np.asarray(one, np.float32) for one in (y, *back(weights))]


@pytest.mark.parametrize("rows", [(6,), (7,), (2, 3), (1,)])
def test_a_linear_map_in_bfloat16_is_that_of_float32_rounded_once(rows: Rows) -> None:
    """Whether the number of rows is even or odd."""
    given = drawn((*rows, 24), 0), drawn((24, 10), 1), drawn((10,), 2)
    exact = results(products.linear, jnp.float32, *given)
    x, kernel, bias = (np.asarray(one, np.float64) for one in given)
    g = np.asarray(drawn((*rows, 10), 9), np.float64)
    by_hand = [x @ kernel + bias, g @ kernel.T, x.reshape(-1, 24).T @ g.reshape(-1, 10)]
    by_hand.append(g.reshape(-1, 10).sum(0))
    for one, expected in zip(exact, by_hand, strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-5)
    rounded = results(products.linear, jnp.bfloat16, *given)
    for one, expected in zip(rounded, exact, strict=True):
        # Half a unit in the last place; of what is rounded before the bias comes, as much again.
        bound = 2**-8 * (np.abs(expected) + np.abs(np.asarray(given[2])).max())
        assert (np.abs(one - expected) <= bound).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("outputs", [10, 11])
@pytest.mark.parametrize("rows", [(6,), (2, 3), (1,)])
def test_few_rows_times_the_transposed_kernel_are_the_same(
    rows: Rows, outputs: int, dtype: str
) -> None:
    x, weight, bias = drawn((*rows, 24), 0), drawn((outputs, 24), 1), drawn((outputs,), 2)
    found = products.linear_of_few(*(one.astype(dtype) for one in (x, weight, bias)))
    assert found.dtype == dtype
    exact = np.asarray(x, np.float64) @ np.asarray(weight, np.float64).T
    close = 1e-5 if dtype == "float32" else 2**-8
    expected = exact + np.asarray(bias)
    bound = close * (np.abs(expected) + np.abs(exact) + 1)
    assert (np.abs(np.asarray(found, np.float64) - expected) <= bound).all()
    bare = products.linear_of_few(x.astype(dtype), weight.astype(dtype), None)
    assert (np.abs(np.asarray(bare, np.float64) - exact) <= bound).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_processor_reads_the_matrix_of_few_rows_as_it_lies(dtype: str) -> None:
    """The compiler may turn a product and its transposition into one with the sides exchanged."""
    x, weight = drawn((6, 24), 0).astype(dtype), drawn((40, 24), 1).astype(dtype)
    for function in (lambda x, w: products.linear_of_few(x, w, None), products.scores):
        program = jax.jit(function).lower(x, weight).compile().as_text()
        assert program is not None
        assert "f32[40,6]" in program


def test_no_rows_have_no_gradient() -> None:
    given = drawn((0, 24), 0), drawn((24, 10), 1), drawn((10,), 2)
    _, *gradients = results(products.linear, jnp.bfloat16, *given)
    assert [one.shape for one in gradients] == [(0, 24), (24, 10), (10,)]
    assert not any(one.any() for one in gradients)


@pytest.mark.parametrize("rows", [4096, 4097])
def test_sums_over_many_rows_do_not_stick_where_bfloat16_does(rows: int) -> None:
    """In bfloat16 256 + 1 is 256."""
    x, kernel, bias = (jnp.ones(shape, jnp.bfloat16) for shape in ((rows, 2), (2, 3), (3,)))
    of_kernel, of_bias = jax.grad(
        lambda kernel, bias: products.linear(x, kernel, bias).sum(dtype=jnp.float32), argnums=(0, 1)
    )(kernel, bias)
    for one in (of_kernel, of_bias):
        np.testing.assert_allclose(np.asarray(one, np.float32), rows, rtol=2**-8)


@pytest.mark.parametrize("rows", [(6,), (7,), (2, 3)])
def test_scores_are_float32_and_their_gradients_those_of_float32(rows: Rows) -> None:
    given = drawn((*rows, 24), 0), drawn((30, 24), 1)
    exact = results(products.scores, jnp.float32, *given)
    x, table = (np.asarray(one, np.float64) for one in given)
    np.testing.assert_allclose(exact[0], x @ table.T, rtol=1e-5, atol=1e-5)
    rounded = results(products.scores, jnp.bfloat16, *given)
    np.testing.assert_allclose(rounded[0], exact[0], rtol=1e-5, atol=1e-5)
    for one, expected in zip(rounded[1:], exact[1:], strict=True):
        np.testing.assert_allclose(one, expected, rtol=2**-8, atol=1e-5)


def test_a_training_step_for_gpus_has_a_barrier_where_a_loop_stacks_products(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And only a training step: what reads the product could not be fused with it otherwise."""
    x = drawn((4, 6), 0)

    def traced() -> tuple[str, str]:
        def again(x: jax.Array) -> jax.Array:  # a function of its own: traces are remembered
            return jnp.square(products.computed_once(x)).sum()

        return str(jax.make_jaxpr(again)(x)), str(jax.make_jaxpr(jax.grad(again))(x))

    assert "optimization_barrier" not in "".join(traced())
    np.testing.assert_array_equal(jax.grad(lambda x: products.computed_once(x).sum())(x), 1)
    monkeypatch.setattr(products.mesh, "platform", lambda: "gpu")
    jax.clear_caches()
    forward, gradient = traced()
    jax.clear_caches()
    assert "optimization_barrier" not in forward
    assert gradient.count("optimization_barrier") == 1
