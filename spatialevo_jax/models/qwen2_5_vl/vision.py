"""The vision tower: patches -> windowed and full attention layers -> merger -> visual tokens."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from spatialevo_jax import mesh
from spatialevo_jax.models.qwen2_5_vl import attention, products, rope
from spatialevo_jax.models.qwen2_5_vl.config import Attention, Remat, VisionConfig
from spatialevo_jax.models.qwen2_5_vl.images import VisionInputs
from spatialevo_jax.models.qwen2_5_vl.layers import (
    GatedMlp,
    Norm,
    linear,
    recomputed,
    rematerialized,
    scan_layers,
    stacked,
)

NORM_EPS = 1e-6
ALIGNED = 64  # numbers in a row: tensor cores of GPUs read rows that begin at multiples of 16 bytes


class VisionBlock(nnx.Module):
    def __init__(self, config: VisionConfig, dtype: jnp.dtype, how: Attention, *, rngs: nnx.Rngs):
        width, out_scale = config.hidden_size, (2 * config.depth) ** -0.5
        self.config = config
        self.attention: Attention = how
        self.norm1 = Norm(width, NORM_EPS, rngs=rngs)
        self.norm2 = Norm(width, NORM_EPS, rngs=rngs)
        self.qkv = linear(width, 3 * width, dtype, rngs=rngs)
        self.proj = linear(width, width, dtype, rngs=rngs, scale=out_scale)
        self.mlp = GatedMlp(
            width, config.intermediate_size, dtype, bias=True, out_scale=out_scale, rngs=rngs
        )

    def __call__(
        self, x: jax.Array, cos_sin: rope.CosSin, inputs: VisionInputs, *, full: bool
    ) -> jax.Array:
        """(W * K, D) patches, window by window; `full` says whether they see their image or their
        window. In rows for the same reason as in `text`.
        """
        shape = (*inputs.valid.shape, self.config.num_heads, self.config.head_dim)
        qkv = recomputed(lambda x: self.qkv(self.norm1(x)))(x)
        q, k, v = (one.reshape(shape) for one in jnp.split(qkv, 3, axis=-1))
        q, k = rope.rotate(q, cos_sin), rope.rotate(k, cos_sin)
        if full:

            def gather(y: jax.Array) -> jax.Array:
                return y.reshape(-1, *y.shape[2:])[inputs.image_slots]

            seen = attention.bidirectional(
                gather(q), gather(k), gather(v), inputs.image_valid, self.attention
            )
            attended = seen.reshape(-1, *seen.shape[2:])[inputs.return_slots]
        else:
            attended = attention.bidirectional(q, k, v, inputs.valid, "plain")
        x = products.computed_once(x + self.proj(attended.reshape(x.shape)))
        return x + self.mlp(x, self.norm2)


def aligned(tower: Any) -> Any:
    """The tower's parameters, and what `lora.attach` put beside them, with its MLPs filled up with
    zeros to a width that GPUs multiply fast; the same function. The released width of 3,420 is no
    multiple of 8.
    """
    mlp = tower["blocks"]["mlp"]
    spare = -mlp["gate"]["kernel"].shape[-1] % ALIGNED

    def wider(linear: Any, names: tuple[str, ...], axis: int) -> Any:
        def filled(x: jax.Array) -> jax.Array:
            widths = [(0, 0)] * x.ndim
            widths[axis] = (0, spare)
            return jnp.pad(x, widths)

        return {name: filled(x) if name in names else x for name, x in linear.items()}

    wide = {name: wider(mlp[name], ("kernel", "bias", "b"), -1) for name in ("gate", "up")}
    wide["down"] = wider(mlp["down"], ("kernel", "a"), -2)
    return {**tower, "blocks": {**tower["blocks"], "mlp": wide}}


class Merger(nnx.Module):
    """Joins the patches of a merge block into one visual token of the decoder's width."""

    def __init__(self, config: VisionConfig, dtype: jnp.dtype, *, rngs: nnx.Rngs):
        joined = config.hidden_size * config.spatial_merge_size**2
        self.norm = Norm(config.hidden_size, NORM_EPS, rngs=rngs)
        self.up = linear(joined, joined, dtype, rngs=rngs)
        self.down = linear(joined, config.out_hidden_size, dtype, rngs=rngs)

    def __call__(self, x: jax.Array, token_slots: jax.Array) -> jax.Array:
        """(slots, D) -> (V, out)."""
        joined = self.norm(x)[token_slots].reshape(token_slots.shape[0], -1)
        return self.down(jax.nn.gelu(self.up(joined), approximate=False))


class VisionTower(nnx.Module):
    def __init__(
        self,
        config: VisionConfig,
        dtype: jnp.dtype,
        unroll: int,
        remat: Remat,
        how: Attention,
        *,
        rngs: nnx.Rngs,
    ):
        self.config, self.unroll, self.remat, self.dtype = config, unroll, remat, dtype
        self.patch_embed = linear(
            config.patch_dim, config.hidden_size, dtype, rngs=rngs, bias=False
        )
        self.blocks = stacked(
            config.depth, lambda rngs: VisionBlock(config, dtype, how, rngs=rngs), rngs
        )
        self.merger = Merger(config, dtype, rngs=rngs)

    def __call__(self, inputs: VisionInputs) -> jax.Array:
        """-> (V, out_hidden_size) features, image by image in raster order."""
        patches = inputs.patches.reshape(-1, inputs.patches.shape[-1])
        x = self.patch_embed(patches.astype(self.dtype))
        cos_sin = rope.cos_sin(rope.vision_angles(inputs.positions, self.config.head_dim))
        graph, layers = nnx.split(self.blocks)
        # Of all images of a step at once, products are too much to keep.
        remat: Remat = "off" if self.remat == "off" else "full"
        leaves, form = jax.tree.flatten(layers)
        kinds, lengths = zip(*_runs(self.config), strict=True)
        pieces = [jax.lax.split(leaf, lengths) for leaf in leaves]
        for number, full in enumerate(kinds):

            def layer(x: jax.Array, params: Any, *, full: bool = full) -> tuple[jax.Array, None]:
                x = nnx.merge(graph, params)(x, cos_sin, inputs, full=full)
                return mesh.constrain(x, mesh.BATCH), None

            run = form.unflatten([piece[number] for piece in pieces])
            x, _ = scan_layers(rematerialized(layer, remat), x, run, unroll=self.unroll)
        return self.merger(x, inputs.token_slots)


def _runs(config: VisionConfig) -> list[tuple[bool, int]]:
    """Layers of one kind behind each other: do they see whole images, and how many they are."""
    whole = (number in config.fullatt_block_indexes for number in range(config.depth))
    return [(full, len(list(run))) for full, run in itertools.groupby(whole)]
