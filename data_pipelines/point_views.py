"""The points of objects against depth images: how many the frames show, and where.

A point counts as shown when it is in front of the camera, in the picture, and not deeper than the
depth image by more than a share of its depth. That is how the published scenes were measured, and
what many frames can be scanned with quickly.

Points lie in tiles of one object each, so that all but a last short step reduces along rows of
memory. A frame's depth stays in the cache while all tiles go through it. F frames, N objects, T
tiles of L points.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.scan import ScanFrame

TILE = 128  # points
STEPS = 8  # tiles and objects are padded by up to 1 / STEPS: scenes of about one size compile once
DEPTH_EPS = 1e-6  # metres, in the published depth test


class PointTiles(NamedTuple):
    """Objects' points, padded with copies of an object's last one."""

    points: np.ndarray  # (3, T, L) f32 or f64, mesh metres
    valid: np.ndarray  # (T, L) bool, False for copies
    owner: np.ndarray  # (T,) i32, ascending; beyond all objects for tiles of padding alone


class PointStatistics(NamedTuple):
    touching: jax.Array  # (F, N) bool, some point projects into the picture, also from behind
    inside: jax.Array  # (F, N) i32, points in front of the camera and inside the picture
    hidden: jax.Array  # (F, N) i32, those of them that lie deeper than the depth image
    pixel_low: jax.Array  # (F, N, 2) least column and row of the points shown; inf without any
    pixel_high: jax.Array  # (F, N, 2) greatest; -inf without any
    camera_low: jax.Array  # (F, N, 3) metres, in the camera
    camera_high: jax.Array  # (F, N, 3)


def point_tiles(points: np.ndarray, members: Sequence[np.ndarray], dtype: np.dtype) -> PointTiles:
    """Tiles of points (V, 3) of objects given by their rows."""
    rows, valid, owner = [], [], []
    for index, own in enumerate(members):
        tiles = -(-len(own) // TILE)
        take = np.minimum(np.arange(tiles * TILE), len(own) - 1)
        rows.append(np.asarray(own, np.int64)[take])
        valid.append(np.arange(tiles * TILE) < len(own))
        owner.append(np.full(tiles, index, np.int32))
    padding = _rounded(sum(map(len, owner))) - sum(map(len, owner))
    rows.append(np.zeros(padding * TILE, np.int64))
    valid.append(np.zeros(padding * TILE, bool))
    owner.append(np.full(padding, np.iinfo(np.int32).max, np.int32))
    tiled = points[np.concatenate(rows)].astype(dtype)
    return PointTiles(
        np.ascontiguousarray(tiled.T).reshape(3, -1, TILE),
        np.concatenate(valid).reshape(-1, TILE),
        np.concatenate(owner),
    )


def _rounded(count: int) -> int:
    """The next number of a coarse series of numbers."""
    step = max(STEPS, 1 << max(count.bit_length() - STEPS.bit_length(), 0))
    return -(-max(count, 1) // step) * step


def depth_index(color: int, depth: int) -> np.ndarray:
    """(color,) i32: the depth column (or row) that the published code looks a colour one up in."""
    return (np.arange(color) / (color / depth)).astype(np.int32)


def _look_up(table: jax.Array, index: jax.Array) -> jax.Array:
    """Entries of a table at places that are known to be in it."""
    return table.at[index].get(mode="promise_in_bounds")


@functools.partial(jax.jit, static_argnames="objects")
def point_statistics(
    tiles: PointTiles,
    camera_from_mesh: jax.Array,
    intrinsics: jax.Array,
    depth: jax.Array,
    column_of: jax.Array,
    row_of: jax.Array,
    depth_tolerance: jax.Array,
    least_tolerance: jax.Array,
    *,
    objects: int,
) -> PointStatistics:
    """Statistics of every object in every frame, in the precision of `tiles.points`.

    Args:
        camera_from_mesh: (F, 4, 4).
        intrinsics: (F, 3, 3) pixels of the picture.
        depth: (F, Hd, Wd) uint16 millimetres, 0 where nothing was measured: that hides nothing.
        column_of, row_of: (W,) and (H,) from `depth_index`; their lengths are the picture's size.
        depth_tolerance: a point is hidden when it is deeper by more than this share of the depth
        least_tolerance: and by more than this, metres.
        objects: N.
    """
    x, y, z = tiles.points
    dtype = x.dtype
    width, height = len(column_of), len(row_of)

    def frame(inputs: tuple[jax.Array, jax.Array, jax.Array]) -> PointStatistics:
        pose, camera, image = inputs
        qx, qy, qz = (
            pose[i, 0] * x + pose[i, 1] * y + pose[i, 2] * z + pose[i, 3] for i in (0, 1, 2)
        )
        inverse = 1 / qz
        u = (camera[0, 0] * qx + camera[0, 1] * qy + camera[0, 2] * qz) * inverse
        v = (camera[1, 1] * qy + camera[1, 2] * qz) * inverse
        touching = (u >= 0) & (u < width) & (v >= 0) & (v < height) & tiles.valid
        inside = touching & (qz > 0)
        column = _look_up(column_of, jnp.where(inside, u, 0).astype(jnp.int32))
        row = _look_up(row_of, jnp.where(inside, v, 0).astype(jnp.int32))
        measured = _look_up(image.ravel(), row * image.shape[1] + column).astype(dtype) / 1000
        allowed = jnp.maximum(depth_tolerance * (measured + DEPTH_EPS), least_tolerance)
        deeper = qz - measured > allowed
        hidden = inside & (measured > 0) & deeper
        shown = inside & ~hidden

        def least(value: jax.Array) -> jax.Array:
            return jnp.where(shown, value, jnp.inf).min(-1)

        def greatest(value: jax.Array) -> jax.Array:
            return jnp.where(shown, value, -jnp.inf).max(-1)

        sums = jnp.stack([mask.sum(-1, dtype=jnp.int32) for mask in (touching, inside, hidden)], -1)
        lows = jnp.stack([least(value) for value in (u, v, qx, qy, qz)], -1)
        highs = jnp.stack([greatest(value) for value in (u, v, qx, qy, qz)], -1)
        segments = {"num_segments": objects, "indices_are_sorted": True}
        sums = jax.ops.segment_sum(sums, tiles.owner, **segments)
        lows = jax.ops.segment_min(lows, tiles.owner, **segments)
        highs = jax.ops.segment_max(highs, tiles.owner, **segments)
        return PointStatistics(
            touching=sums[:, 0] > 0,
            inside=sums[:, 1],
            hidden=sums[:, 2],
            pixel_low=lows[:, :2],
            pixel_high=highs[:, :2],
            camera_low=lows[:, 2:],
            camera_high=highs[:, 2:],
        )

    return jax.lax.map(frame, (camera_from_mesh, intrinsics, depth))


def chunk_statistics(
    tiles: PointTiles,
    frames: Sequence[ScanFrame],
    depth: Sequence[np.ndarray | None],
    *,
    length: int,
    objects: int,
    depth_tolerance: float,
    least_tolerance: float,
) -> PointStatistics:
    """`point_statistics` of frames of the same sizes, which are padded to `length`."""
    first, dtype = frames[0], tiles.points.dtype
    width, height = first.color_size
    shape = first.depth_size[::-1] if min(first.depth_size) > 0 else (1, 1)
    images = np.zeros((length, *shape), np.uint16)  # 0 hides nothing
    poses = np.tile(np.eye(4), (length, 1, 1))
    intrinsics = np.tile(np.eye(3), (length, 1, 1))
    for row, (frame, image) in enumerate(zip(frames, depth, strict=True)):
        poses[row] = np.linalg.inv(frame.mesh_from_camera)
        intrinsics[row] = frame.color_intrinsics
        if image is not None:
            images[row] = image
    with jax.enable_x64(dtype == np.float64):
        found = point_statistics(
            tiles,
            poses.astype(dtype),
            intrinsics.astype(dtype),
            images,
            depth_index(width, shape[1]),
            depth_index(height, shape[0]),
            dtype.type(depth_tolerance),
            dtype.type(least_tolerance),
            objects=_rounded(objects),
        )
        return jax.tree.map(lambda leaf: leaf[: len(frames), :objects], found)
