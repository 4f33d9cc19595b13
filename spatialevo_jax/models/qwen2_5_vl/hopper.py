"""Attention of one new token on Hopper GPUs, as two kernels in Mosaic (`jax.experimental.pallas`).

A step of decoding reads keys and values once and computes next to nothing with them: its bound is the
bandwidth of the memory. So a program streams blocks of the keys and values of one head, and two
programs share a processor: while one waits, computes or ends, the other's copies go on. All query
heads of a key head are rows of one product, which has 64 of them, needed or not; at the memory's pace
that keeps the tensor cores busy for a third of the time.

A prompt's keys are read once for all its samples, in pieces, so that all processors have some. The
second kernel begins with what the pieces gave and goes on with the keys of its own sample.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

ROWS = 64  # of a product: what the instruction takes
BLOCK = 64  # keys of a product
STAGES = 2  # blocks in flight: twice their memory and more fits into a processor's
GROUP = 8  # rows that copies move: the query heads of a key head, filled up
AHEAD = 4  # pieces in flight
PROGRAMS = 264  # that run at a time on an H100 or H200, two on each of 132 processors
HEAD_DIM = 64  # numbers in a line of shared memory: heads are as wide, or a multiple
NOTHING = -1e30  # a score that gets no weight, and the logarithm of an empty sum

_ARRANGED = (plgpu.TilingTransform((GROUP, HEAD_DIM)), plgpu.SwizzleTransform(128))
_WIDE = plgpu.Layout.WGMMA
_BY_ROW = plgpu.Layout.WGMMA.reduce(1)
_PARAMS = plgpu.CompilerParams(
    approx_math=True, lowering_semantics=plgpu.LoweringSemantics.Warpgroup
)


def takes(repeats: int, head_dim: int, slots: Sequence[int]) -> bool:
    """Whether `step` can be used for so many query heads of a key head, and keys in so many slots
    of their own and of the prompt, all in half precision.
    """
    whole = all(count % GROUP == 0 for count in slots)
    return whole and repeats <= GROUP and head_dim % HEAD_DIM == 0


def step(
    q: jax.Array, keys: jax.Array, values: jax.Array, filled: jax.Array, *prefix: jax.Array
) -> jax.Array:
    """Attention of (P, G, K, R, D) queries, R for each of K key heads, to the first `filled` (P, G)
    of their own keys and values (P, G, S, K, D), and to those of the `prefix`, if any: keys and
    values (P, C, K, D), and how many are filled (P,). Where nothing is seen the result is 0.

    Returns (P, G, K, R, D).
    """
    prompts, samples, heads, repeats, d = q.shape
    q = jnp.pad(q, ((0, 0), (0, 0), (0, 0), (0, GROUP - repeats), (0, 0)))
    own = (x.reshape(-1, *x.shape[2:]) for x in (q, keys, values))
    found = None
    if prefix:
        together = q.swapaxes(1, 2).reshape(prompts, heads, -1, d)
        size = piece_size(prompts * heads, prefix[0].shape[1])
        found = pieces(together, *prefix, size=size)
    out = finish(*own, filled.reshape(-1), found)
    return out.reshape(prompts, samples, heads, GROUP, d)[:, :, :, :repeats]


def piece_size(streams: int, slots: int) -> int:
    """Keys of a piece, for so many sequences of keys of so many `slots`: what ends first if all
    programs that run at a time are equally fast, and each takes as long again as two blocks.
    """

    def blocks(count: int) -> int:
        rounds = -(-streams * count // PROGRAMS)
        return rounds * (2 + -(-slots // (count * BLOCK)))

    count = min((2**n for n in range(6)), key=blocks)
    return -(-slots // (count * BLOCK)) * BLOCK


def pieces(
    q: jax.Array, keys: jax.Array, values: jax.Array, filled: jax.Array, *, size: int
) -> tuple[jax.Array, jax.Array]:
    """Attention of (B, K, T, D) queries to the first `filled` (B,) of (B, S, K, D) keys, in C pieces
    of `size` keys each.

    Returns the softmax's mean of the values in each piece (B, K, C, T, D), and the logarithm to the
    base 2 of its sum (B, K, C, T or more) float32: where nothing is seen, 0 and `NOTHING`.
    """
    rows, heads, tokens, d = q.shape
    count, held = -(-keys.shape[1] // size), min(tokens, ROWS)
    tiles = -(-tokens // held)
    run = plgpu.kernel(
        functools.partial(_piece, held=held, size=size),
        out_type=(
            jax.ShapeDtypeStruct((rows, heads, count, tokens, d), q.dtype),
            jax.ShapeDtypeStruct((rows, heads, count, tiles * held), jnp.float32),
        ),
        grid=(tiles, count, heads, rows),  # programs that read the same keys are neighbours
        grid_names=("tile", "piece", "head", "row"),
        scratch_types=(_stream(q), plgpu.SMEM((ROWS,), jnp.float32)),
        compiler_params=_PARAMS,
    )
    return run(q, keys, values, filled)


def finish(
    q: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    filled: jax.Array,
    found: tuple[jax.Array, jax.Array] | None,
) -> jax.Array:
    """Attention of (B, K, 8, D) queries to the first `filled` (B,) of (B, S, K, D) keys and to what
    `pieces` found, of which each row shares a sequence with its neighbours. Returns (B, K, 8, D).
    """
    rows, heads, _, d = q.shape
    scratch = [_stream(q)]
    if found is not None:
        scratch.append(
            (
                plgpu.SMEM((AHEAD * GROUP + ROWS - GROUP, d), q.dtype, transforms=_ARRANGED),
                plgpu.SMEM((AHEAD, ROWS), jnp.float32),
                plgpu.Barrier(num_barriers=AHEAD),
                plgpu.Barrier(num_barriers=AHEAD),
            )
        )
    run = plgpu.kernel(
        _finish if found is not None else functools.partial(_finish, None, None),
        out_type=jax.ShapeDtypeStruct(q.shape, q.dtype),
        grid=(heads, rows),
        grid_names=("head", "row"),
        scratch_types=tuple(scratch),
        compiler_params=_PARAMS,
    )
    return run(*(found or ()), q, keys, values, filled)


# --- programs ------------------------------------------------------------------------------------

Found = tuple[jax.Array, jax.Array, jax.Array]  # sums (ROWS, D), their total and top (ROWS,)


def _stream(q: jax.Array) -> tuple[Any, ...]:
    """The memory of a stream: queries, blocks of keys and of values, and when each has come."""
    blocks = plgpu.SMEM((STAGES, BLOCK, q.shape[-1]), q.dtype, transforms=_ARRANGED)
    return (
        plgpu.SMEM((ROWS, q.shape[-1]), q.dtype, transforms=_ARRANGED),
        blocks,
        blocks,
        plgpu.Barrier(),
        plgpu.Barrier(num_barriers=STAGES),
        plgpu.Barrier(num_barriers=STAGES),
    )


def _piece(q_ref, key_ref, value_ref, filled_ref, out_ref, sum_ref, stream, sum_here, *, held, size):
    tile, piece, head, row = map(jax.lax.axis_index, ("tile", "piece", "head", "row"))
    own, here = pl.ds(tile * held, held), pl.ds(0, held)
    there = jnp.clip(filled_ref[row] - piece * size, 0, size)
    of_keys, of_values = (x.at[row, pl.ds(piece * size, size), head] for x in (key_ref, value_ref))
    begun = _begin(stream, q_ref.at[row, head, own], of_keys, of_values, there, held)
    sums, total, top = begun(_none(stream))
    stream[0][...] = _mean(sums, total).astype(q_ref.dtype)
    sum_here[...] = jnp.where(top > NOTHING, top + jnp.log2(jnp.maximum(total, 1e-30)), NOTHING)
    plgpu.commit_smem()
    plgpu.copy_smem_to_gmem(stream[0].at[here], out_ref.at[row, head, piece, own])
    plgpu.copy_smem_to_gmem(sum_here.at[here], sum_ref.at[row, head, piece, own])
    plgpu.wait_smem_to_gmem(0)


def _finish(
    mean_ref, sum_ref, q_ref, key_ref, value_ref, filled_ref, out_ref, stream, shared=None
) -> None:
    head, row = map(jax.lax.axis_index, ("head", "row"))
    begun = _begin(
        stream,
        q_ref.at[row, head],
        key_ref.at[row, :, head],
        value_ref.at[row, :, head],
        filled_ref[row],
        GROUP,
    )
    found = _none(stream)
    if shared is not None:
        samples = q_ref.shape[0] // mean_ref.shape[0]
        of = jax.lax.div(row, jnp.int32(samples)), head
        own = pl.ds(jax.lax.rem(row, jnp.int32(samples)) * GROUP, GROUP)
        found = _joined(mean_ref.at[of], sum_ref.at[of], own, shared, found)
    sums, total, _ = begun(found)
    stream[0][...] = _mean(sums, total).astype(q_ref.dtype)
    plgpu.commit_smem()
    plgpu.copy_smem_to_gmem(stream[0].at[pl.ds(0, GROUP)], out_ref.at[row, head])
    plgpu.wait_smem_to_gmem(0)


def _none(stream) -> Found:
    d = stream[0].shape[-1]
    sums = plgpu.layout_cast(jnp.zeros((ROWS, d), jnp.float32), _WIDE)
    total = plgpu.layout_cast(jnp.zeros(ROWS, jnp.float32), _BY_ROW)
    return sums, total, plgpu.layout_cast(jnp.full(ROWS, NOTHING, jnp.float32), _BY_ROW)


def _spread(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.lax.broadcast_in_dim(x, shape, [0])


def _mean(sums: jax.Array, total: jax.Array) -> jax.Array:
    return sums / _spread(jnp.maximum(total, 1e-30), sums.shape)  # 0 where nothing is seen


def _begin(stream, q_ref, key_ref, value_ref, there, held):
    """Starts the copies of `held` queries and of the first blocks of keys and values. The function
    that comes back adds what is seen of the first `there` of them to what was found before.
    """
    q_here, keys_here, values_here, q_came, keys_came, values_came = stream
    steps = jax.lax.div(there + (BLOCK - 1), jnp.int32(BLOCK))

    def fetch(ref, here, came, number) -> None:
        slot = jax.lax.rem(number, jnp.int32(STAGES))
        plgpu.copy_gmem_to_smem(ref.at[pl.ds(number * BLOCK, BLOCK)], here.at[slot], came.at[slot])

    fetch_keys = functools.partial(fetch, key_ref, keys_here, keys_came)
    fetch_values = functools.partial(fetch, value_ref, values_here, values_came)
    plgpu.copy_gmem_to_smem(q_ref, q_here.at[pl.ds(0, held)], q_came)
    for number in range(STAGES):

        @pl.when(number < steps)
        def _(number=jnp.int32(number)) -> None:
            fetch_keys(number)
            fetch_values(number)

    scale = q_here.shape[-1] ** -0.5 * math.log2(math.e)  # powers of 2 cost less than those of e

    def block(number: jax.Array, found: Found) -> Found:
        sums, total, top = found
        slot, later = jax.lax.rem(number, jnp.int32(STAGES)), number + STAGES
        plgpu.barrier_wait(keys_came.at[slot])

        def of_keys(scores) -> jax.Array:
            plgpu.wgmma(scores, q_here, plgpu.transpose_ref(keys_here.at[slot], (1, 0)))
            return scores[...]

        scores = pl.run_scoped(of_keys, plgpu.ACC((ROWS, BLOCK), jnp.float32)) * scale
        pl.when(later < steps)(lambda: fetch_keys(later))
        at = plgpu.broadcasted_iota(jnp.int32, (ROWS, BLOCK), 1, layout=_WIDE)
        scores = jnp.where(at < there - number * BLOCK, scores, NOTHING)
        higher = jnp.maximum(top, scores.max(axis=1))
        less = jnp.exp2(top - higher)
        powers = jnp.exp2(scores - _spread(higher, scores.shape))
        weights = powers.astype(q_here.dtype)
        plgpu.barrier_wait(values_came.at[slot])

        def of_values(added) -> jax.Array:
            plgpu.wgmma(added, weights, values_here.at[slot])
            return added[...]

        added = pl.run_scoped(of_values, plgpu.ACC(sums.shape, jnp.float32))
        pl.when(later < steps)(lambda: fetch_values(later))
        sums = sums * _spread(less, sums.shape) + added
        return sums, total * less + powers.sum(axis=1), higher

    def go_on(found: Found) -> Found:
        plgpu.barrier_wait(q_came)
        return jax.lax.fori_loop(0, steps, block, found)

    return go_on


def _joined(mean_ref, sum_ref, own, shared, found: Found) -> Found:
    """What the pieces of (C, T, D) and (C, T) found for the rows `own`, as one."""
    means, logs, means_came, logs_came = shared
    count = mean_ref.shape[0]

    def fetch(piece) -> None:
        slot = jax.lax.rem(piece, jnp.int32(AHEAD))
        here = means.at[pl.ds(slot * GROUP, GROUP)]
        plgpu.copy_gmem_to_smem(mean_ref.at[piece, own], here, means_came.at[slot])
        here = logs.at[slot, pl.ds(0, GROUP)]
        plgpu.copy_gmem_to_smem(sum_ref.at[piece, own], here, logs_came.at[slot])

    for piece in range(min(AHEAD, count)):
        fetch(jnp.int32(piece))

    def add(piece: jax.Array, found: Found) -> Found:
        sums, total, top = found
        slot = jax.lax.rem(piece, jnp.int32(AHEAD))
        plgpu.barrier_wait(means_came.at[slot])
        plgpu.barrier_wait(logs_came.at[slot])
        # The rows of other pieces behind these are of no row that is kept.
        mean = plgpu.layout_cast(means[pl.ds(slot * GROUP, ROWS), :], _WIDE).astype(jnp.float32)
        log = plgpu.layout_cast(logs[slot], _BY_ROW)
        pl.when(piece + AHEAD < count)(lambda: fetch(piece + AHEAD))
        higher = jnp.maximum(top, log)
        less, more = jnp.exp2(top - higher), jnp.exp2(log - higher)
        sums = sums * _spread(less, sums.shape) + mean * _spread(more, sums.shape)
        return sums, total * less + more, higher

    return jax.lax.fori_loop(0, count, add, found)
