"""Products of rows and kernels, and the one place where it is chosen how to compute them.

On processors XLA has the instructions for bfloat16 only in products that sum the last axis of their
left side and have float32 results; all others are converted to float32 and take twice as long. So
there each product of a linear map and of its gradient is brought into that form, and its sums are
rounded. Where rows are few, as in decoding, the matrix is the left side. Elsewhere they are plain
products: matrix units sum in float32 whatever the result is.
"""

import jax
import jax.numpy as jnp

from spatialevo_jax import mesh

FEW = 256  # rows for which it does not pay to pack a matrix on a processor


def linear(x: jax.Array, kernel: jax.Array, bias: jax.Array | None) -> jax.Array:
    """x W + b: rows (..., I), a kernel (I, O) and a bias (O,) of one type -> (..., O) of it."""
    if x.dtype == jnp.bfloat16 and mesh.platform() == "cpu":
        y = _summed(x, kernel)
        return y if bias is None else _added(y, bias)
    y = x @ kernel
    return y if bias is None else y + bias


def linear_of_few(x: jax.Array, weight: jax.Array, bias: jax.Array | None) -> jax.Array:
    """The same for few rows, as in decoding, by the kernel transposed: (O, I)."""
    y = _from_the_left(weight, x).astype(x.dtype)
    return y if bias is None else y + bias


def materialized(x: jax.Array) -> jax.Array:
    """The same float32 numbers (..., D), which no compiler works out again where they are read."""
    if mesh.platform() != "cpu":
        return jax.lax.optimization_barrier(x)
    # There a barrier does not outlast the first passes of the compiler. A product does: by the
    # identity, each sum has one term that is not zero.
    return jnp.matmul(x, jnp.eye(x.shape[-1]), precision=jax.lax.Precision.HIGHEST)


@jax.custom_vjp
def computed_once(x: jax.Array) -> jax.Array:
    """The same result of a product, which a training step computes once. A loop over layers stacks
    it for the gradient; XLA on GPUs may let the product write into the stack itself, and computes
    it again for whatever else reads it, unless a barrier stands between.
    """
    return x


def _computed_once_forward(x: jax.Array) -> tuple[jax.Array, None]:
    return (jax.lax.optimization_barrier(x) if mesh.platform() == "gpu" else x), None


computed_once.defvjp(_computed_once_forward, lambda _, g: (g,))


@jax.custom_vjp
def scores(x: jax.Array, table: jax.Array) -> jax.Array:
    """(..., D) times each of (V, D) -> (..., V), always float32. The products of its gradient are
    of the type of `x` as all others are: in float32 they take more than twice as long.
    """
    if mesh.platform() == "cpu" and x.size <= FEW * x.shape[-1]:
        return _from_the_left(table, x)
    return jnp.einsum("...d,vd->...v", x, table, preferred_element_type=jnp.float32)


def _scores_back(given: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, table = given
    g = g.astype(x.dtype)
    of_x = jnp.einsum("...v,vd->...d", g, table, preferred_element_type=jnp.float32)
    return of_x.astype(x.dtype), _over_rows(g, x, table.dtype)


scores.defvjp(lambda x, table: (scores(x, table), (x, table)), _scores_back)


# --- bfloat16 on processors ----------------------------------------------------------------------


@jax.custom_vjp
def _summed(x: jax.Array, kernel: jax.Array) -> jax.Array:
    sums = jnp.einsum("...i,io->...o", x, kernel, preferred_element_type=jnp.float32)
    return sums.astype(x.dtype)


def _summed_back(given: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = given
    of_x = jnp.einsum("...o,io->...i", g, kernel, preferred_element_type=jnp.float32)
    return of_x.astype(x.dtype), _over_rows(x, g, kernel.dtype)


_summed.defvjp(lambda x, kernel: (_summed(x, kernel), (x, kernel)), _summed_back)


@jax.custom_vjp
def _added(y: jax.Array, bias: jax.Array) -> jax.Array:
    return y + bias


def _added_back(_: None, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    # A sum over rows as a product: by itself it is converted and then added up pair by pair.
    rows = g.reshape(-1, g.shape[-1])
    ones = jnp.ones((1, len(rows)), g.dtype)
    sums = jnp.matmul(ones, rows, preferred_element_type=jnp.float32)[0]
    return g, sums.astype(g.dtype)


_added.defvjp(lambda y, bias: (_added(y, bias), None), _added_back)


def _over_rows(x: jax.Array, g: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """(..., I) and (..., O) -> (I, O), summed over all rows."""
    x, g = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
    if x.dtype == jnp.bfloat16 and mesh.platform() == "cpu":
        sums = jnp.einsum("in,no->io", _transposed(x), g, preferred_element_type=jnp.float32)
        return sums.astype(dtype)
    return jnp.einsum("ni,no->io", x, g, preferred_element_type=dtype)


# --- few rows on processors ----------------------------------------------------------------------


def _from_the_left(weight: jax.Array, x: jax.Array) -> jax.Array:
    """(O, I) and (..., I) -> (..., O) float32. On processors the right side of a product is packed
    into blocks first: of a large matrix that takes longer than multiplying it by few rows. The left
    side is read as it lies.
    """
    rows = x.reshape(-1, x.shape[-1])
    count = len(rows)
    if count == 1 and x.dtype == jnp.bfloat16:  # of a single row XLA makes no product in bfloat16
        rows = jnp.repeat(rows, 2, axis=0)
    sums = jnp.einsum("oi,ni->on", weight, rows, preferred_element_type=jnp.float32)
    return _transposed(sums)[:count].reshape(*x.shape[:-1], len(weight))


def _transposed(x: jax.Array) -> jax.Array:
    """(A, B) -> (B, A). The compiler folds a transposition into the product beside it, and so
    chooses its form; one of three axes it leaves alone. (An odd A is folded.)
    """
    a, b = x.shape
    return x.reshape(a // 2, 2, b).transpose(2, 0, 1).reshape(b, a) if a % 2 == 0 else x.T
