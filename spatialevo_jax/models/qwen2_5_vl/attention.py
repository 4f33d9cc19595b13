"""Attention, and the one place where it is chosen how to compute it.

    plain    matrix products and a softmax, on every platform. Reads a prompt's keys once for all
             its suffixes, and holds all scores in memory
    cudnn    flash attention of cuDNN, on NVIDIA GPUs: half precision only. Where padding comes
             last, which a caller may promise, it needs no mask, and a step of decoding reads no key
             that is not filled
    splash   flash attention in Pallas, on TPUs: skips what the mask hides. Interpreted elsewhere,
             which is slow and for tests

`auto` takes the fused kernel of the platform for sequences that are long, and `plain` for short
ones, on CPU, and for decoding on TPUs. All give the same numbers up to rounding; only the rows of
padding differ, which nothing reads.
"""

import dataclasses
import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask

from spatialevo_jax import mesh
from spatialevo_jax.models.qwen2_5_vl.config import Attention

Library = Literal["xla", "cudnn"]  # behind `jax.nn.dot_product_attention`

MASKED = -1e30
LONG = 512  # keys from which on a fused kernel pays for its launch and its padding
LANES, TILE, LARGEST_TILE = 128, 256, 512  # tiles of splash attention: least, usual, largest
PIECE = 512  # keys that a program of a GPU is worth starting for
BUSY = 256  # programs that keep a GPU busy: about two for each processor of a Hopper
CUDNN_HEAD_DIM = 128  # the widest head whose gradient cuDNN has on every GPU since Ampere


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KVCache:
    """Keys and values of C slots. A prefix has no G axis: it is shared by all suffixes of its
    prompt. Of all layers they are stacked, as `jax.lax.scan` makes and takes them, or a tuple: a
    loop that decodes writes into each where it is.
    """

    keys: Any  # (L, P, G, C, K, D), L of (P, G, C, K, D), or one layer's; prefix: (L, P, C, K, D)
    values: Any  # likewise
    valid: jax.Array  # (P, G, C) bool, prefix: (P, C)
    # Of a layer (P, K, G, C, D), prefix: (P, K, C, D), which plain products read as they lie.
    heads_first: bool = dataclasses.field(default=False, metadata={"static": True})

    def layer(self, number: int) -> "KVCache":
        return dataclasses.replace(self, keys=self.keys[number], values=self.values[number])


def for_decoding(cache: KVCache) -> KVCache:
    """One layer as a loop that decodes keeps it. On processors a step would otherwise put all keys
    and values into the order of its products; in bfloat16 that is faster than products without it.
    """
    if mesh.platform() != "cpu" or cache.keys.dtype != jnp.float32:
        return cache
    return dataclasses.replace(
        cache, keys=_heads_first(cache.keys), values=_heads_first(cache.values), heads_first=True
    )


def update_cache(cache: KVCache, new: KVCache, start: jax.Array | int) -> KVCache:
    """One layer's cache with new keys and values (P, G, T, K, D) from slot `start` on; `valid` is
    that of the new one.
    """

    def into(old: jax.Array, x: jax.Array) -> jax.Array:
        if cache.heads_first:
            return jax.lax.dynamic_update_slice(old, _heads_first(x), (0, 0, 0, start, 0))
        return jax.lax.dynamic_update_slice(old, x, (0, 0, start, 0, 0))

    keys, values = into(cache.keys, new.keys), into(cache.values, new.values)
    return KVCache(keys, values, new.valid, cache.heads_first)


def _heads_first(x: jax.Array) -> jax.Array:
    """(P, ..., C, K, D) -> (P, K, ..., C, D)."""
    return jnp.moveaxis(x, -2, 1)


def choose(wanted: Attention, keys: int, head_dim: int, dtype: jnp.dtype) -> Attention:
    """How to attend to so many keys: `wanted`, or what suits the platform if that is "auto"."""
    if wanted != "auto":
        return wanted
    platform = mesh.platform()
    if keys < LONG or platform == "cpu":
        return "plain"
    if platform == "tpu":
        return "splash"
    half = dtype in (jnp.bfloat16, jnp.float16)
    return "cudnn" if half and head_dim <= CUDNN_HEAD_DIM and head_dim % 8 == 0 else "plain"


# --- rows that see themselves: images and windows ------------------------------------------------


def bidirectional(
    q: jax.Array, k: jax.Array, v: jax.Array, valid: jax.Array, how: Attention
) -> jax.Array:
    """Each row of (B, N, H, D) sees all of itself that is `valid` (B, N): first what is real, then
    padding. Returns (B, N, H, D).
    """
    how = choose(how, q.shape[1], q.shape[-1], q.dtype)
    if how == "splash":
        return _splash_bidirectional(q, k, v, valid)
    if how == "cudnn":
        return _fused_bidirectional(q, k, v, valid, implementation="cudnn")
    q, k, v = (x.swapaxes(1, 2) for x in (q * q.shape[-1] ** -0.5, k, v))
    return _softmax_attention(q, [(k, v, valid[:, None, None])]).swapaxes(1, 2)


# --- suffixes behind a shared prefix -------------------------------------------------------------


def causal(
    q: jax.Array,
    own: KVCache,
    prefix: KVCache | None,
    start: jax.Array | int,
    how: Attention,
    *,
    right_padded: bool = False,
) -> jax.Array:
    """Grouped-query attention of one layer over the suffix's own keys and, if any, the shared
    prefix.

    q (P, G, T, H, D); own and prefix of one layer. Query t sees the valid own slots up to
    `start + t` and all of the prefix that is valid. `right_padded` promises that what is valid
    comes before all padding: kernels then need no mask. Returns (P, G, T, H, D).
    """
    slots = own.valid.shape[-1]
    cached = slots != q.shape[2]
    seen = slots + (0 if prefix is None else prefix.valid.shape[-1])
    how = choose(how, seen, q.shape[-1], q.dtype)
    if cached:
        if how == "cudnn" and right_padded and q.shape[2] == 1:
            return _fused_step(q, own, prefix, start, implementation="cudnn")
        return _plain_suffixes(q, own, prefix, start)
    if how == "splash":
        return _splash_suffixes(q, own, prefix)
    if how == "cudnn":
        if right_padded and prefix is None:
            return _fused_causal(q, own, implementation="cudnn")
        return _fused_suffixes(q, own, prefix, implementation="cudnn")
    return _plain_suffixes(q, own, prefix, start)


def _plain_suffixes(
    q: jax.Array, own: KVCache, prefix: KVCache | None, start: jax.Array | int
) -> jax.Array:
    """Own slots and prefix share one softmax, in float32."""
    p, g, t, heads, d = q.shape
    keys, values = _for_products(own)
    kv = keys.shape[1]
    repeats = heads // kv
    visible = jnp.arange(own.valid.shape[-1]) <= start + jnp.arange(t)[:, None]
    # Queries of one key head side by side, N = T * repeats rows: plain batched matrix products
    # whose results need no transposing, and prefix keys that are read once for all G suffixes.
    q = (q * d**-0.5).reshape(p, g, t, kv, repeats, d).transpose(0, 3, 1, 2, 4, 5)
    q = q.reshape(p, kv, g, t * repeats, d)
    mask = jnp.repeat(visible, repeats, axis=0) & own.valid[:, None, :, None]
    blocks = [(keys, values, mask)]
    if prefix is not None:
        blocks.append((*_for_products(prefix), prefix.valid[:, None, None, None]))
    out = _softmax_attention(q, blocks).reshape(p, kv, g, t, repeats, d)
    return out.transpose(0, 2, 3, 1, 4, 5).reshape(p, g, t, heads, d)


def _for_products(cache: KVCache) -> tuple[jax.Array, jax.Array]:
    """Keys and values of one layer, heads first."""
    if cache.heads_first:
        return cache.keys, cache.values
    return _heads_first(cache.keys), _heads_first(cache.values)


# --- matrix products and a softmax ---------------------------------------------------------------

Block = tuple[jax.Array, jax.Array, jax.Array]  # keys, values, and which of them are seen


@jax.custom_vjp
def _softmax_attention(q: jax.Array, blocks: list[Block]) -> jax.Array:
    """(..., N, D) queries, scaled, that see all blocks in one softmax, which is in float32; the
    products are of the type of `q`.

    A block is keys and values (..., S, D) and which of them a query sees, in what spreads to
    (..., N, S). Where its leading axes are fewer than the queries', the last of those share it.
    The gradient is that of flash attention (arXiv 2205.14135, appendix B.4), with the weights kept.
    """
    return _softmax_attention_forward(q, blocks)[0]


def _softmax_attention_forward(q: jax.Array, blocks: list[Block]) -> tuple[jax.Array, Any]:
    scores = []
    for keys, _, seen in blocks:
        found = _product(_rows(q, keys), keys.swapaxes(-1, -2))
        scores.append(jnp.where(seen, found.reshape(*q.shape[:-1], -1), MASKED))
    top = functools.reduce(jnp.maximum, (one.max(-1, keepdims=True) for one in scores))
    powers = [jnp.exp(one - top) for one in scores]
    total = functools.reduce(jnp.add, (one.sum(-1, keepdims=True) for one in powers))
    weights = [(one / total).astype(q.dtype) for one in powers]
    parts = [
        _product(_rows(weight, values), values).reshape(q.shape)
        for weight, (_, values, _) in zip(weights, blocks, strict=True)
    ]
    out = functools.reduce(jnp.add, parts).astype(q.dtype)
    return out, (q, [block[:2] for block in blocks], weights, out)


def _softmax_attention_backward(kept: Any, g: jax.Array) -> tuple[jax.Array, list[Any]]:
    q, blocks, weights, out = kept
    mean = (g.astype(jnp.float32) * out.astype(jnp.float32)).sum(-1, keepdims=True)
    of_q, of_blocks = [], []
    for weight, (keys, values) in zip(weights, blocks, strict=True):
        of_weight = _product(_rows(g, values), values.swapaxes(-1, -2)).reshape(weight.shape)
        of_score = (weight * (of_weight - mean)).astype(q.dtype)  # 0 where nothing is seen
        of_q.append(_product(_rows(of_score, keys), keys).reshape(q.shape))
        of_keys = _product(_rows(of_score, keys).swapaxes(-1, -2), _rows(q, keys))
        of_values = _product(_rows(weight, values).swapaxes(-1, -2), _rows(g, values))
        of_blocks.append((of_keys.astype(keys.dtype), of_values.astype(values.dtype), None))
    return functools.reduce(jnp.add, of_q).astype(q.dtype), of_blocks


def _rows(x: jax.Array, block: jax.Array) -> jax.Array:
    """(..., N, K) with no more leading axes than `block` has, the others among the rows."""
    return x.reshape(*block.shape[:-2], -1, x.shape[-1])


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, preferred_element_type=jnp.float32)


_softmax_attention.defvjp(_softmax_attention_forward, _softmax_attention_backward)


# --- dot_product_attention -----------------------------------------------------------------------


def _fused_bidirectional(
    q: jax.Array, k: jax.Array, v: jax.Array, valid: jax.Array, *, implementation: Library
) -> jax.Array:
    lengths = jnp.maximum(valid.sum(-1, dtype=jnp.int32), 1)  # a softmax over nothing is no number
    return jax.nn.dot_product_attention(
        q, k, v, key_value_seq_lengths=lengths, implementation=implementation
    )


def _fused_causal(q: jax.Array, own: KVCache, *, implementation: Library) -> jax.Array:
    """Of sequences whose padding comes last: no real token sees it."""
    shape = q.shape
    rows = (x.reshape(-1, *x.shape[2:]) for x in (q, own.keys, own.values))
    out = jax.nn.dot_product_attention(*rows, is_causal=True, implementation=implementation)
    return out.reshape(shape)


def _fused_step(
    q: jax.Array,
    own: KVCache,
    prefix: KVCache | None,
    start: jax.Array | int,
    *,
    implementation: Library,
) -> jax.Array:
    """Of one new token of each suffix, (P, G, 1, H, D). A kernel reads keys once for all query
    heads of a key head, those of the prefix once for all suffixes, and none beyond the last that is
    valid. Pieces that it finds apart are joined by the logarithms of their sums.
    """
    p, g, _, heads, d = q.shape
    kv = own.keys.shape[-2]
    # The query heads of a key head stand where a kernel expects the tokens of a sequence.
    q = q.reshape(p, g, kv, heads // kv, d).swapaxes(2, 3)  # (P, G, R, K, D)
    keys, values = (x.reshape(p * g, *x.shape[2:]) for x in (own.keys, own.values))
    filled = jnp.full(p * g, start + 1, jnp.int32)
    given = q.reshape(p * g, -1, kv, d)
    pieces = _in_pieces(given, keys, values, filled, implementation=implementation)
    if prefix is not None:
        filled = prefix.valid.sum(-1, dtype=jnp.int32)
        given = q.reshape(p, -1, kv, d), prefix.keys, prefix.values, filled
        pieces += _in_pieces(*given, implementation=implementation)
    found = [(out.reshape(q.shape), sums.reshape(*q.shape[:-1], 1)) for out, sums in pieces]
    # One after the other and not along an axis: all of it is one loop for the compiler.
    top = functools.reduce(jnp.maximum, (sums for _, sums in found))
    weights = [jnp.exp(sums - top) for _, sums in found]
    weighed = [weight * out for weight, (out, _) in zip(weights, found, strict=True)]
    out = functools.reduce(jnp.add, weighed) / functools.reduce(jnp.add, weights)
    return out.astype(q.dtype).swapaxes(2, 3).reshape(p, g, 1, heads, d)


def _in_pieces(
    q: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    filled: jax.Array,
    *,
    implementation: Library,
) -> list[tuple[jax.Array, jax.Array]]:
    """Of (B, T, K, D) queries and the first `filled` (B,) of (B, S, K, D) keys, cut into pieces
    that keep a GPU busy: of each the result (B, T, K, D) and the logarithm of the sum behind it
    (B, T, K), float32.
    """
    rows, slots, heads, d = keys.shape
    count = 1
    while rows * heads * count < BUSY and slots % (2 * count) == 0 and slots // count > PIECE:
        count *= 2
    size = slots // count

    def cut(x: jax.Array) -> jax.Array:
        return x.reshape(rows * count, size, heads, d)

    there = jnp.clip(filled[:, None] - size * jnp.arange(count), 0, size)
    out, sums = jax.nn.dot_product_attention(
        jnp.repeat(q, count, axis=0),
        cut(keys),
        cut(values),
        key_value_seq_lengths=jnp.maximum(there, 1).reshape(-1),  # nothing has no softmax
        implementation=implementation,
        return_residual=True,
    )
    out = out.astype(jnp.float32).reshape(rows, count, *out.shape[1:])
    sums = sums.astype(jnp.float32).reshape(rows, count, *sums.shape[1:])
    sums = jnp.where(there[..., None, None] > 0, sums, MASKED)
    return [(out[:, piece], sums[:, piece]) for piece in range(count)]


def _fused_suffixes(
    q: jax.Array, own: KVCache, prefix: KVCache | None, *, implementation: Library
) -> jax.Array:
    """Each suffix is a row with a copy of its prefix's keys. The mask has no axis of heads and is
    the same in every layer: it is the only thing in memory that grows with T * S.
    """
    p, g, t, heads, d = q.shape
    visible = jnp.arange(t) <= jnp.arange(t)[:, None]
    # A row of padding sees itself: a softmax over nothing is no number.
    mask = (visible & own.valid[:, :, None]) | jnp.eye(t, dtype=bool)
    keys, values = own.keys, own.values
    if prefix is not None:

        def behind(shared: jax.Array, each: jax.Array) -> jax.Array:
            copies = jnp.broadcast_to(shared[:, None], (p, g, *shared.shape[1:]))
            return jnp.concatenate([copies, each], axis=2)

        keys, values = behind(prefix.keys, keys), behind(prefix.values, values)
        before = jnp.broadcast_to(prefix.valid[:, None, None], (p, g, t, prefix.valid.shape[-1]))
        mask = jnp.concatenate([before, mask], axis=-1)
    q, keys, values, mask = (
        x.reshape(p * g, *x.shape[2:]) for x in (q, keys, values, mask[:, :, None])
    )
    # The gradient of cuDNN's kernel needs even lengths.
    mask = _even(_even(mask, 2), 3)
    out = jax.nn.dot_product_attention(
        *(_even(x, 1) for x in (q, keys, values)), mask=mask, implementation=implementation
    )
    return out[:, :t].reshape(p, g, t, heads, d)


def _even(x: jax.Array, axis: int) -> jax.Array:
    return _pad(x, axis, 2)


def _pad(x: jax.Array, axis: int, multiple: int) -> jax.Array:
    """`axis` filled up with zeros to a multiple."""
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, -x.shape[axis] % multiple)
    return jnp.pad(x, widths)


# --- splash attention ----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Everything(splash_attention_mask.Mask):
    """All queries see all keys."""

    size: tuple[int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.size

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        rows, columns = (len(range(*x.indices(n))) for x, n in zip(index, self.size, strict=True))
        return np.ones((rows, columns), bool)


@dataclasses.dataclass(frozen=True)
class _SharedPrefix(splash_attention_mask.Mask):
    """G suffixes of T tokens side by side behind one prefix of S: what each query may see.

    keys      prefix | suffix 1 | suffix 2
    suffix 1  1 1 1  | 1 0      | 0 0
              1 1 1  | 1 1      | 0 0
    suffix 2  1 1 1  | 0 0      | 1 0
              1 1 1  | 0 0      | 1 1
    """

    groups: int  # G
    length: int  # T
    before: int  # S

    @property
    def shape(self) -> tuple[int, ...]:
        return self.groups * self.length, self.before + self.groups * self.length

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        query, key = (np.arange(n)[x] for x, n in zip(index, self.shape, strict=True))
        query, key = query[:, None], key - self.before
        own = (key // self.length == query // self.length) & (key <= query)
        return (key < 0) | own


def _tiled(x: jax.Array, axis: int) -> jax.Array:
    """`axis` filled up to whole tiles, of a size that suits its length."""
    return _pad(x, axis, TILE if x.shape[axis] >= TILE else LANES)


def _splash_bidirectional(q: jax.Array, k: jax.Array, v: jax.Array, valid: jax.Array) -> jax.Array:
    count = q.shape[1]
    q, k, v, valid = (_tiled(x, 1) for x in (q, k, v, valid))
    tile = math.gcd(q.shape[1], LARGEST_TILE)
    return _splash(q, k, v, valid, valid, _Everything((q.shape[1], q.shape[1])), tile)[:, :count]


def _splash_suffixes(q: jax.Array, own: KVCache, prefix: KVCache | None) -> jax.Array:
    """All suffixes of a prompt are one sequence behind it: its keys are read once for all, and the
    kernel skips the tiles of other suffixes and of later tokens.
    """
    p, g, t, heads, d = q.shape

    def flat(x: jax.Array) -> jax.Array:  # (P, G, T, ...) -> (P, G * filled up, ...)
        return _tiled(x, 2).reshape(p, -1, *x.shape[3:])

    queries, keys, values, valid = map(flat, (q, own.keys, own.values, own.valid))
    seen, before = valid, 0
    if prefix is not None:
        shared = [_tiled(x, 1) for x in (prefix.keys, prefix.values, prefix.valid)]
        joined = zip(shared, (keys, values, valid), strict=True)
        keys, values, seen = (jnp.concatenate(both, axis=1) for both in joined)
        before = shared[0].shape[1]
    mask = _SharedPrefix(g, queries.shape[1] // g, before)
    # Tiles that end where a suffix ends: then those on the diagonal are all alike.
    tile = math.gcd(mask.length, before, LARGEST_TILE)
    out = _splash(queries, keys, values, valid, seen, mask, tile)
    return out.reshape(p, g, -1, heads, d)[:, :, :t]


def _splash(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    q_valid: jax.Array,
    k_valid: jax.Array,
    mask: splash_attention_mask.Mask,
    tile: int,
) -> jax.Array:
    """(B, N, H, D) queries, (B, S, K, D) keys, both of whole tiles. Real tokens see real ones and
    padding sees padding, so that no row of scores is empty.
    """
    if k.shape[2] % mesh.axis_size(mesh.TENSOR):  # fewer key heads than devices: one a query head
        k, v = (jnp.repeat(x, q.shape[2] // x.shape[2], axis=2) for x in (k, v))
    sizes = splash.BlockSizes(
        block_q=tile,
        block_kv=tile,
        block_q_dkv=tile,
        block_kv_dkv=tile,
        block_q_dq=tile,
        block_kv_dq=tile,
    )

    def rows(
        q: jax.Array, k: jax.Array, v: jax.Array, q_valid: jax.Array, k_valid: jax.Array
    ) -> jax.Array:
        kernel = splash.make_splash_mha_single_device(
            splash_attention_mask.MultiHeadMask([mask] * q.shape[2]),
            block_sizes=sizes,
            interpret=mesh.platform() != "tpu",
        )
        segments = splash.SegmentIds(q_valid.astype(jnp.int32), k_valid.astype(jnp.int32))
        q, k, v = (x.swapaxes(1, 2) for x in (q * q.shape[-1] ** -0.5, k, v))
        out: Any = jax.vmap(kernel)(q, k, v, segments)
        return out.swapaxes(1, 2)

    if not jax.sharding.get_abstract_mesh().empty:  # a kernel is not split by the compiler
        split = mesh.fitting(q.shape, mesh.BATCH, None, mesh.TENSOR)
        flags = jax.sharding.PartitionSpec(split[0])
        rows = jax.shard_map(
            rows, in_specs=(split, split, split, flags, flags), out_specs=split, check_vma=False
        )
    return rows(q, k, v, q_valid, k_valid)
