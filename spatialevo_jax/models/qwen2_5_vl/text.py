"""The text decoder, written for prompts that many suffixes share.

P prompts with G suffixes each. One function serves prefill (G = 1, no prefix), decoding (T = 1, a
cache), training (no cache, all suffixes of a prompt at once) and the plain forward pass (G = 1, no
prefix, no cache).
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from spatialevo_jax import mesh
from spatialevo_jax.models.qwen2_5_vl import attention, rope
from spatialevo_jax.models.qwen2_5_vl.attention import KVCache
from spatialevo_jax.models.qwen2_5_vl.config import Attention, Remat, TextConfig
from spatialevo_jax.models.qwen2_5_vl.layers import (
    GatedMlp,
    Norm,
    linear,
    recomputed,
    rematerialized,
    scan_layers,
    stacked,
)
from spatialevo_jax.models.qwen2_5_vl.products import computed_once, scores
from spatialevo_jax.models.qwen2_5_vl.rope import CosSin


class TextBlock(nnx.Module):
    """One layer. From scratch, the first head of each key head starts out looking for what is like
    itself and copying it (mimetic initialisation, arXiv 2305.09828): its query kernel is the key
    kernel, its output kernel the transposed value kernel. A label then finds the image tokens that
    show it from the first step, where random kernels need hundreds of steps to begin to.
    """

    def __init__(self, config: TextConfig, dtype: jnp.dtype, *, rngs: nnx.Rngs):
        width, d = config.hidden_size, config.head_dim
        out_scale = (2 * config.num_layers) ** -0.5
        self.config = config
        self.norm1 = Norm(width, config.rms_norm_eps, rngs=rngs)
        self.norm2 = Norm(width, config.rms_norm_eps, rngs=rngs)
        self.q = linear(width, config.num_heads * d, dtype, rngs=rngs)
        self.k = linear(width, config.num_kv_heads * d, dtype, rngs=rngs)
        self.v = linear(width, config.num_kv_heads * d, dtype, rngs=rngs)
        self.o = linear(config.num_heads * d, width, dtype, rngs=rngs, bias=False, scale=out_scale)
        kv, repeats = config.num_kv_heads, config.num_heads // config.num_kv_heads
        queries = self.q.kernel[...].reshape(width, kv, repeats, d)
        outputs = self.o.kernel[...].reshape(kv, repeats, d, width)
        values = self.v.kernel[...].reshape(width, kv, d)
        self.k.kernel[...] = queries[:, :, 0].reshape(width, -1)
        copied = outputs.at[:, 0].set(jnp.moveaxis(values, 0, -1))
        self.o.kernel[...] = copied.reshape(-1, width)
        self.mlp = GatedMlp(
            width, config.intermediate_size, dtype, bias=False, out_scale=out_scale, rngs=rngs
        )

    def project(self, x: jax.Array, cos_sin: CosSin) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Rotated queries (P, G, T, H, D) and keys (P, G, T, K, D), and values, of the N = P G T
        rows (N, width) of all tokens; `cos_sin` is (P, G, T, D / 2).
        """
        heads = (*cos_sin.cos.shape[:-1], -1, self.config.head_dim)

        def normed(x: jax.Array) -> tuple[jax.Array, ...]:
            x = self.norm1(x)
            return self.q(x), self.k(x), self.v(x)

        q, k, v = (
            mesh.constrain(y.reshape(heads), mesh.BATCH, None, None, mesh.TENSOR)
            for y in recomputed(normed)(x)
        )
        return rope.rotate(q, cos_sin), rope.rotate(k, cos_sin), v

    def finish(self, x: jax.Array, attended: jax.Array) -> jax.Array:
        """(N, width) and what its tokens attended to, (P, G, T, H, D) -> (N, width)."""
        x = computed_once(x + self.o(attended.reshape(len(x), -1)))
        return x + self.mlp(x, self.norm2)


class TextDecoder(nnx.Module):
    layers: nnx.List[TextBlock] | None = None  # of unstacked parameters, see `model.for_decoding`

    def __init__(
        self,
        config: TextConfig,
        dtype: jnp.dtype,
        unroll: int,
        remat: Remat,
        how: Attention,
        *,
        rngs: nnx.Rngs,
    ):
        self.config, self.dtype, self.unroll = config, dtype, unroll
        self.remat: Remat = remat
        self.attention: Attention = how
        self.embedding = nnx.Embed(
            config.vocab_size,
            config.hidden_size,
            dtype=dtype,
            param_dtype=jnp.float32,
            embedding_init=nnx.initializers.normal(config.hidden_size**-0.5),
            rngs=rngs,
        )
        self.blocks = stacked(
            config.num_layers, lambda rngs: TextBlock(config, dtype, rngs=rngs), rngs
        )
        self.norm = Norm(config.hidden_size, config.rms_norm_eps, rngs=rngs)
        if not config.tie_word_embeddings:
            self.head = linear(config.hidden_size, config.vocab_size, dtype, rngs=rngs, bias=False)

    def __call__(
        self,
        x: jax.Array,
        positions: jax.Array,
        valid: jax.Array,
        prefix: KVCache | None,
        cache: KVCache | None,
        start: jax.Array | int,
        *,
        right_padded: bool,
    ) -> tuple[jax.Array, KVCache]:
        """See `model.extend`."""
        config, shape = self.config, x.shape
        # One axis of rows, as products make them: loops between products over more axes would work
        # out at each number where it is, which on CPU takes longer than what they compute.
        x = x.reshape(-1, shape[-1])
        cos_sin = rope.cos_sin(
            rope.mrope_angles(positions, config.head_dim, config.rope_theta, config.mrope_section)
        )
        if cache is None:
            own_valid = valid
        else:
            own_valid = jax.lax.dynamic_update_slice(cache.valid, valid, (0, 0, start))

        def layer(
            block: TextBlock, x: jax.Array, cached: KVCache | None, shared: KVCache | None
        ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            q, k, v = block.project(x, cos_sin)
            own = KVCache(k, v, own_valid)
            if cached is not None:
                own = attention.update_cache(cached, own, start)
            attended = attention.causal(
                q, own, shared, start, self.attention, right_padded=right_padded
            )
            x = mesh.constrain(block.finish(x, attended), mesh.BATCH)
            return x, (own.keys, own.values)

        if self.layers is not None:
            found = []
            for number, block in enumerate(self.layers):
                cached, shared = (
                    None if one is None else one.layer(number) for one in (cache, prefix)
                )
                x, kept = layer(block, x, cached, shared)
                found.append(kept)
            keys, values = zip(*found, strict=True)
            heads_first = cache is not None and cache.heads_first
            return self.norm(x).reshape(shape), KVCache(keys, values, own_valid, heads_first)
        graph, layers = nnx.split(self.blocks)

        def body(x: jax.Array, scanned: Any) -> tuple[jax.Array, Any]:
            params, shared = scanned
            if prefix is not None:
                shared = KVCache(shared[0], shared[1], prefix.valid)
            return layer(nnx.merge(graph, params), x, None, shared)

        shared = None if prefix is None else (prefix.keys, prefix.values)
        body = rematerialized(body, self.remat)
        x, (keys, values) = scan_layers(body, x, (layers, shared), unroll=self.unroll)
        return self.norm(x).reshape(shape), KVCache(keys, values, own_valid)

    def embed(self, tokens: jax.Array) -> jax.Array:
        """(...,) tokens -> (..., D). On a mesh the table is gathered along `fsdp` only."""
        table = mesh.constrain(self.embedding.embedding[...].astype(self.dtype), mesh.TENSOR)
        return mesh.constrain(
            jnp.take(table, mesh.constrain(tokens, mesh.BATCH), axis=0), mesh.BATCH
        )

    def logits(self, hidden: jax.Array) -> jax.Array:
        """(..., V) float32."""
        if self.config.tie_word_embeddings:
            table = self.embedding.embedding[...].astype(self.dtype)
            return scores(hidden, table)
        return self.head.scores(hidden)
