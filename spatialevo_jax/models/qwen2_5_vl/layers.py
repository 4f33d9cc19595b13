"""Pieces that the vision tower and the decoder share."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from spatialevo_jax import mesh
from spatialevo_jax.models.qwen2_5_vl.config import Remat

Module = TypeVar("Module", bound=nnx.Module)


class Linear(nnx.Linear):
    """A linear map that may have a low-rank change beside its kernel: x W + bias + (x a) b."""

    a: nnx.Param | None = None  # (inputs, rank), see `model.Policy.bind`
    b: nnx.Param | None = None  # (rank, outputs)

    def __call__(self, inputs: jax.Array, out_sharding: Any = None) -> jax.Array:
        y = super().__call__(inputs, out_sharding)
        if self.a is None or self.b is None:
            return y
        a, b = (one[...].astype(y.dtype) for one in (self.a, self.b))
        return y + (inputs.astype(y.dtype) @ a) @ b


def linear(
    inputs: int,
    outputs: int,
    dtype: jnp.dtype,
    *,
    rngs: nnx.Rngs,
    bias: bool = True,
    scale: float = 1.0,
) -> Linear:
    """A float32 kernel (inputs, outputs) of variance scale^2 / inputs, computing in `dtype`."""
    return Linear(
        inputs,
        outputs,
        use_bias=bias,
        dtype=dtype,
        param_dtype=jnp.float32,
        kernel_init=nnx.initializers.variance_scaling(scale**2, "fan_in", "normal"),
        dot_general=_dot_general,
        rngs=rngs,
    )


def _dot_general(x: jax.Array, kernel: jax.Array, *args: Any, **settings: Any) -> jax.Array:
    if x.dtype == kernel.dtype == jnp.bfloat16 and mesh.platform() == "cpu":
        return _summed(x, kernel)
    return jax.lax.dot_general(x, kernel, *args, **settings)


@jax.custom_vjp
def _summed(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """(..., I) times (I, O), as `x` is, for processors: XLA has their instructions for bfloat16
    only in products with float32 results, and those with bfloat16 ones take twice as long.
    """
    sums = jnp.einsum("...i,io->...o", x, kernel, preferred_element_type=jnp.float32)
    return sums.astype(x.dtype)


def _summed_back(given: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = given
    of_x = jnp.einsum("...o,io->...i", g, kernel, preferred_element_type=jnp.float32)
    return of_x.astype(x.dtype), jnp.einsum("...i,...o->io", x, g)


_summed.defvjp(lambda x, kernel: (_summed(x, kernel), (x, kernel)), _summed_back)


@jax.custom_vjp
def scores(x: jax.Array, table: jax.Array) -> jax.Array:
    """(..., D) times each of (V, D) -> (..., V), always float32. The products of its gradient are
    of the type of `x` as all others are: in float32 they take more than twice as long.
    """
    return jnp.einsum("...d,vd->...v", x, table, preferred_element_type=jnp.float32)


def _scores_back(given: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, table = given
    g = g.astype(x.dtype)
    of_table = jnp.einsum("...v,...d->vd", g, x, preferred_element_type=table.dtype)
    of_x = jnp.einsum("...v,vd->...d", g, table, preferred_element_type=jnp.float32)
    return of_x.astype(x.dtype), of_table


scores.defvjp(lambda x, table: (scores(x, table), (x, table)), _scores_back)


class Norm(nnx.Module):
    """Root-mean-square norm, in float32 whatever comes in."""

    def __init__(self, width: int, eps: float, *, rngs: nnx.Rngs):
        self.norm = nnx.RMSNorm(width, epsilon=eps, dtype=jnp.float32, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(x).astype(x.dtype)


class GatedMlp(nnx.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(
        self,
        width: int,
        hidden: int,
        dtype: jnp.dtype,
        *,
        bias: bool,
        out_scale: float,
        rngs: nnx.Rngs,
    ):
        self.gate = linear(width, hidden, dtype, rngs=rngs, bias=bias)
        self.up = linear(width, hidden, dtype, rngs=rngs, bias=bias)
        self.down = linear(hidden, width, dtype, rngs=rngs, bias=bias, scale=out_scale)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down(jax.nn.silu(self.gate(x)) * self.up(x))


def rematerialized(layer: Callable[..., Any], remat: Remat) -> Callable[..., Any]:
    """The same function of a layer, whose backward pass computes again what it does not keep."""
    if remat == "off":
        return layer
    policies = jax.checkpoint_policies
    # A product with batch axes is attention's: of all pairs of tokens.
    kept = policies.dots_with_no_batch_dims_saveable if remat == "dots" else None
    return jax.checkpoint(layer, policy=kept)


def stacked(layers: int, make: Callable[[nnx.Rngs], Module], rngs: nnx.Rngs) -> Module:
    """One module whose parameters have a leading axis of `layers`, to be scanned over."""

    @nnx.split_rngs(splits=layers)
    @nnx.vmap(in_axes=0, out_axes=0)
    def build(rngs: nnx.Rngs) -> Module:
        return make(rngs)

    return build(rngs)
