"""Pieces that the vision tower and the decoder share."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
from flax import nnx

from spatialevo_jax.models.qwen2_5_vl import products
from spatialevo_jax.models.qwen2_5_vl.config import Remat

Module = TypeVar("Module", bound=nnx.Module)


class Linear(nnx.Linear):
    """A linear map that may have a low-rank change beside its kernel: x W + bias + (x a) b."""

    a: nnx.Param | None = None  # (inputs, rank), see `model.Policy.bind`
    b: nnx.Param | None = None  # (rank, outputs)
    weight: nnx.Param | None = None  # (outputs, inputs), in place of the kernel

    def __call__(self, inputs: jax.Array, out_sharding: None = None) -> jax.Array:
        del out_sharding  # what Flax has; layouts are asked for with `mesh.constrain`
        bias = None if self.bias is None else self.bias[...]
        x, matrix, bias = self.promote_dtype((inputs, self._matrix, bias), dtype=self.dtype)
        product = products.linear if self.weight is None else products.linear_of_few
        y = product(x, matrix, bias)
        change = self._change(x)
        return y if change is None else y + change

    def scores(self, inputs: jax.Array) -> jax.Array:
        """The same without a bias and never rounded, float32: of a head, whose outputs are
        compared with each other.
        """
        x, matrix = self.promote_dtype((inputs, self._matrix), dtype=self.dtype)
        y = products.scores(x, matrix.T if self.weight is None else matrix)
        change = self._change(x)
        return y if change is None else y + change

    @property
    def _matrix(self) -> jax.Array:
        return (self.kernel if self.weight is None else self.weight)[...]

    def _change(self, x: jax.Array) -> jax.Array | None:
        if self.a is None or self.b is None:
            return None
        a, b = (one[...].astype(x.dtype) for one in (self.a, self.b))
        return products.linear(products.linear(x, a, None), b, None)


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
        rngs=rngs,
    )


class Norm(nnx.Module):
    """Root-mean-square norm, in float32 whatever comes in."""

    def __init__(self, width: int, eps: float, *, rngs: nnx.Rngs):
        self.norm = nnx.RMSNorm(width, epsilon=eps, dtype=jnp.float32, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        scale = cast(nnx.Param, self.norm.scale)
        return rms_norm(x, scale[...], self.norm.epsilon)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def rms_norm(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
    """x / sqrt(mean(x^2) + eps) * scale over the last axis, in float32 whatever comes in. For its
    gradient nothing is kept but `x` and one number of each row: what lies between is float32 and
    several times as much as `x`.
    """
    return _rms_norm_forward(x, scale, eps)[0]


def _rms_norm_forward(x: jax.Array, scale: jax.Array, eps: float) -> tuple[jax.Array, Any]:
    wide = x.astype(jnp.float32)
    inverse = jax.lax.rsqrt(jnp.square(wide).mean(-1, keepdims=True) + eps)
    return (wide * (inverse * scale)).astype(x.dtype), (x, scale, inverse)


def _rms_norm_backward(_: float, kept: Any, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, scale, inverse = kept
    unit, g = x.astype(jnp.float32) * inverse, g.astype(jnp.float32)
    of_unit = g * scale
    of_x = inverse * (of_unit - unit * (of_unit * unit).mean(-1, keepdims=True))
    of_scale = (g * unit).sum(range(x.ndim - 1))
    return of_x.astype(x.dtype), of_scale.astype(scale.dtype)


rms_norm.defvjp(_rms_norm_forward, _rms_norm_backward)


class GatedMlp(nnx.Module):
    """SwiGLU of a normed input: down(silu(gate(x)) * up(x))."""

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

    def __call__(self, x: jax.Array, norm: Norm) -> jax.Array:
        def opened(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            x = norm(x)
            return products.computed_once(self.gate(x)), products.computed_once(self.up(x))

        return recomputed(lambda gate, up: self.down(swiglu(gate, up)))(*recomputed(opened)(x))


@jax.custom_vjp
def swiglu(gate: jax.Array, up: jax.Array) -> jax.Array:
    """silu(gate) * up, in float32 whatever comes in. For its gradient nothing is kept but the two:
    with what lies between, an MLP's memory would be twice as much.
    """
    wide, other = gate.astype(jnp.float32), up.astype(jnp.float32)
    return (wide * jax.nn.sigmoid(wide) * other).astype(gate.dtype)


def _swiglu_backward(
    given: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    gate, up, g = (x.astype(jnp.float32) for x in (*given, g))
    open_ = jax.nn.sigmoid(gate)
    of_gate = g * up * open_ * (1 + gate * (1 - open_))
    return of_gate.astype(given[0].dtype), (g * gate * open_).astype(given[1].dtype)


swiglu.defvjp(lambda gate, up: (swiglu(gate, up), (gate, up)), _swiglu_backward)


def recomputed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function of arrays, whose backward pass keeps its inputs and no more: for what is
    cheap to compute and as large as its inputs, with a product at its end. The product itself is
    computed once, its gradient does not need it.
    """
    return jax.checkpoint(function, prevent_cse=False)


def rematerialized(layer: Callable[..., Any], remat: Remat) -> Callable[..., Any]:
    """The same function of a layer, whose backward pass computes again what it does not keep."""
    if remat == "off":
        return layer
    policies = jax.checkpoint_policies
    # A product with batch axes is attention's: of all pairs of tokens.
    kept = policies.dots_with_no_batch_dims_saveable if remat == "dots" else None
    return jax.checkpoint(layer, policy=kept)


def scan_layers(
    body: Callable[[Any, Any], tuple[Any, Any]], x: Any, layers: Any, *, unroll: int
) -> tuple[Any, Any]:
    """`jax.lax.scan` over stacked layers. Where all of them are unrolled there is no loop: what the
    backward pass needs of each layer is then not stacked first and cut out again, which only moves
    it.
    """
    length = len(jax.tree.leaves(layers)[0])
    if unroll < length:
        return jax.lax.scan(body, x, layers, unroll=unroll)
    leaves, form = jax.tree.flatten(layers)
    # Not by indices: the gradient of a split is one concatenation, of an index a sum over zeros.
    pieces = [jax.lax.split(leaf, [1] * length) for leaf in leaves]
    found = []
    for number in range(length):
        x, of_layer = body(x, form.unflatten([piece[number][0] for piece in pieces]))
        found.append(of_layer)
    return x, jax.tree.map(lambda *ones: jnp.stack(ones), *found)


def stacked(layers: int, make: Callable[[nnx.Rngs], Module], rngs: nnx.Rngs) -> Module:
    """One module whose parameters have a leading axis of `layers`, to be scanned over."""

    @nnx.split_rngs(splits=layers)
    @nnx.vmap(in_axes=0, out_axes=0)
    def build(rngs: nnx.Rngs) -> Module:
        return make(rngs)

    return build(rngs)
