"""Triangles to depth: a z-buffer for each owner of triangles, exact at every pixel centre.

A triangle becomes spans of pixels, row by row; all triangles of a frame go through each step at
once. A pixel belongs to a triangle when its centre lies inside; on an edge that two triangles share
it belongs to one of them. Depth is interpolated as 1 / z, which is linear in the image.

Camera: x right, y down, z forward. Pixel (column, row) has its centre at (column + 0.5, row + 0.5).
V vertices, T triangles.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

NEAR = 1e-3  # metres; what is nearer is cut off


class Corners(NamedTuple):
    """Triangles in the image. Corner by corner, so that arithmetic runs along the triangles."""

    column: np.ndarray  # (3, T) f32, pixels
    row: np.ndarray  # (3, T) f32, pixels
    nearness: np.ndarray  # (3, T) f32, 1 / z, 1/metres
    owner: np.ndarray  # (T,) i32, >= 0

    def take(self, which: np.ndarray) -> "Corners":
        return Corners(*(array[..., which] for array in self))


@dataclasses.dataclass(frozen=True)
class Layer:
    """What one owner alone would show, in the smallest rectangle of the image around it."""

    owner: int
    left: int  # column and row of the rectangle's first pixel
    top: int
    nearness: np.ndarray  # (h, w) f32, 1 / z of its nearest surface; 0 where it has none

    @property
    def window(self) -> tuple[slice, slice]:
        """Where the rectangle lies in the image."""
        height, width = self.nearness.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def depth_map(
    points: np.ndarray,
    faces: np.ndarray,
    mesh_from_camera: np.ndarray,
    intrinsics: np.ndarray,
    size: tuple[int, int],
) -> np.ndarray:
    """(H, W) f32 metres along z that a camera would measure of a mesh, 0 where it shows none.

    Args:
        points: (V, 3) metres, mesh frame.
        faces: (T, 3) rows of `points`; both sides are seen.
        mesh_from_camera: (4, 4) rigid.
        intrinsics: (3, 3) pixels.
        size: width, height of the image in pixels.
    """
    camera_from_mesh = np.linalg.inv(mesh_from_camera)
    local = camera_from_mesh[:3, :3] @ points.T.astype(np.float64) + camera_from_mesh[:3, 3:]
    corners = project(
        local.astype(np.float32),
        np.ascontiguousarray(faces.T, np.int32),
        np.zeros(len(faces), np.int32),
        intrinsics,
        (0, 0),
        size,
    )
    depth = np.zeros(size[::-1], np.float32)
    for layer in rasterise(corners, size):
        near = layer.nearness
        depth[layer.window] = np.divide(1, near, out=np.zeros_like(near), where=near > 0)
    return depth


# --- from the camera to the image ----------------------------------------------------------------


def _cut(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cuts triangles (T, 3, 3), camera metres, that cross z = NEAR.

    Returns:
        triangles (T', 3, 3) in front of the plane, and the row that each comes from.
    """
    ahead = points[..., 2] > NEAR
    cut, source = [points[:0]], [np.zeros(0, int)]
    for number in (1, 2):
        rows = np.flatnonzero(ahead.sum(1) == number)
        # The corner that is alone on its side comes first; the other two keep their order.
        lone = np.argmax(ahead[rows] == (number == 1), axis=1)
        a, b, c = np.moveaxis(points[rows[:, None], (lone[:, None] + np.arange(3)) % 3], 1, 0)
        ab = a + (b - a) * ((NEAR - a[:, 2]) / (b[:, 2] - a[:, 2]))[:, None]
        ac = a + (c - a) * ((NEAR - a[:, 2]) / (c[:, 2] - a[:, 2]))[:, None]
        pieces = [(a, ab, ac)] if number == 1 else [(ab, b, c), (ab, c, ac)]
        cut += [np.stack(piece, axis=1) for piece in pieces]
        source += [rows] * len(pieces)
    return np.concatenate(cut), np.concatenate(source)


def _to_image(points: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Camera points (3, ...) with positive z as (3, ...): column, row, 1 / z."""
    x, y, z = points
    nearness = 1 / z
    column = (intrinsics[0, 0] * x + intrinsics[0, 1] * y) * nearness + intrinsics[0, 2]
    return np.stack([column, intrinsics[1, 1] * y * nearness + intrinsics[1, 2], nearness])


def project(
    points: np.ndarray,
    faces: np.ndarray,
    owner: np.ndarray,
    intrinsics: np.ndarray,
    low: tuple[float, float],
    high: tuple[float, float],
) -> Corners:
    """Triangles as the image shows them, without those that lie outside a part of the image plane.

    Args:
        points: (3, V) f32, camera metres.
        faces: (3, T) i32, corner by corner.
        owner: (T,) i32.
        intrinsics: (3, 3) pixels.
        low, high: column and row where the part begins and ends.
    """
    x, y, z = points
    k = intrinsics.astype(np.float32)
    across, down = k[0, 0] * x + k[0, 1] * y, k[1, 1] * y
    ahead = z > NEAR
    # A bit for each side of the viewing pyramid that a vertex lies beyond. The sides are planes
    # through the camera, so this holds for vertices behind it too.
    beyond = (across < np.float32(low[0] - k[0, 2]) * z).view(np.uint8)
    beyond |= (across > np.float32(high[0] - k[0, 2]) * z).view(np.uint8) << 1
    beyond |= (down < np.float32(low[1] - k[1, 2]) * z).view(np.uint8) << 2
    beyond |= (down > np.float32(high[1] - k[1, 2]) * z).view(np.uint8) << 3
    beyond |= (~ahead).view(np.uint8) << 4
    first, second, third = (np.take(beyond, corner) for corner in faces)
    kept = np.flatnonzero((first & second & third) == 0)
    crosses = ((first[kept] | second[kept] | third[kept]) >> 4).astype(bool)
    whole, crossing = kept[~crosses], kept[crosses]

    image = _to_image(np.where(ahead, points, np.float32(1)), k)
    corners = np.stack([np.take(image, corner[whole], axis=1) for corner in faces], axis=1)
    if len(crossing):
        cut, source = _cut(points.T[faces.T[crossing]])
        corners = np.concatenate([corners, _to_image(cut.T, k)], axis=2)
        whole = np.concatenate([whole, crossing[source]])
    column, row, nearness = corners
    return Corners(column, row, nearness, owner[whole])


# --- from the image to pixels --------------------------------------------------------------------


def _first_middle(edge: np.ndarray, size: int) -> np.ndarray:
    """The first of pixels 0 to size whose centre is at or after a coordinate."""
    return np.clip(np.ceil(edge - 0.5), 0, size).astype(np.int32)


def _expand(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which row each of `counts` repeats comes from, and its number within the row; i32."""
    source = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    starts = (np.cumsum(counts) - counts).astype(np.int32)
    return source, np.arange(len(source), dtype=np.int32) - np.take(starts, source)


def _downwards(corners: Corners) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The three corners (column, row, nearness) from the top of the image down: an edge is then
    always walked the same way, whichever triangle it is of.
    """
    a, b, c = zip(*(array.astype(np.float64) for array in corners[:3]), strict=True)

    def ordered(one: tuple, other: tuple) -> tuple[tuple, tuple]:
        swap = (one[1] > other[1]) | ((one[1] == other[1]) & (one[0] > other[0]))
        upper = tuple(np.where(swap, y, x) for x, y in zip(one, other, strict=True))
        return upper, tuple(np.where(swap, x, y) for x, y in zip(one, other, strict=True))

    a, b = ordered(a, b)
    b, c = ordered(b, c)
    a, b = ordered(a, b)
    return [a, b, c]


def rasterise(corners: Corners, size: tuple[int, int]) -> list[Layer]:
    """Draws triangles, each owner's apart from the others'.

    Args:
        corners: from `project`.
        size: width, height of the image in pixels.

    Returns:
        One layer for each owner that covers the centre of a pixel, ascending by owner.
    """
    width, height = size
    begins_at = (corners.column.min(0), corners.row.min(0))
    ends_at = (corners.column.max(0), corners.row.max(0))
    left, right = (_first_middle(edge, width) for edge in (begins_at[0], ends_at[0]))
    top, bottom = (_first_middle(edge, height) for edge in (begins_at[1], ends_at[1]))
    kept = np.flatnonzero((left < right) & (top < bottom))
    if not len(kept):
        return []
    corners = corners.take(kept)
    left, right, top, bottom = left[kept], right[kept], top[kept], bottom[kept]

    # Each owner's rectangle; all rectangles lie one after the other in one buffer.
    owners, place = np.unique(corners.owner, return_inverse=True)
    own_left = np.full(len(owners), width, np.int32)  # the type of `left`: `at` is slow on a mix
    own_top = np.full(len(owners), height, np.int32)
    own_right, own_bottom = np.zeros_like(own_left), np.zeros_like(own_top)
    np.minimum.at(own_left, place, left)
    np.minimum.at(own_top, place, top)
    np.maximum.at(own_right, place, right)
    np.maximum.at(own_bottom, place, bottom)
    across, down = own_right - own_left, own_bottom - own_top
    ends = np.cumsum(across.astype(np.int64) * down)
    begins = ends - across * down
    buffer = np.zeros(ends[-1], np.float32)

    # In float64: corners cut off at the camera plane lie far outside the image, where 1 / z is
    # large, and the image is what remains of their differences.
    (u0, v0, q0), (u1, v1, q1), (u2, v2, q2) = _downwards(corners)
    with np.errstate(divide="ignore", invalid="ignore"):
        upper, lower, long = (u1 - u0) / (v1 - v0), (u2 - u1) / (v2 - v1), (u2 - u0) / (v2 - v0)
        # 1 / z = q0 + (u - u0) du + (v - v0) dv
        area = (u1 - u0) * (v2 - v0) - (u2 - u0) * (v1 - v0)
        du = ((q1 - q0) * (v2 - v0) - (q2 - q0) * (v1 - v0)) / area
        dv = ((q2 - q0) * (u1 - u0) - (q1 - q0) * (u2 - u0)) / area
    kept = np.isfinite(du) & np.isfinite(dv)  # else edge-on: it covers nothing
    rows = np.where(kept, bottom - top, 0)

    # Rows of triangles. `at` is where a row of the image would begin in the buffer.
    t, step = _expand(rows)
    row = np.take(top, t) + step
    middle = row + 0.5
    from_top, from_knee = middle - np.take(v0, t), middle - np.take(v1, t)
    one = np.take(u0, t) + from_top * np.take(long, t)
    with np.errstate(invalid="ignore"):
        other = np.where(
            from_knee < 0,
            np.take(u0, t) + from_top * np.take(upper, t),
            np.take(u1, t) + from_knee * np.take(lower, t),
        )
    begin = _first_middle(np.minimum(one, other), width)
    counts = _first_middle(np.maximum(one, other), width) - begin
    used = np.flatnonzero(counts > 0)
    t, row, begin, counts = t[used], row[used], begin[used], counts[used]
    du = np.take(du, t)
    start = np.take(q0, t) + (begin + 0.5 - np.take(u0, t)) * du
    start += from_top[used] * np.take(dv, t)
    own = np.take(place, t)
    at = (begins - own_top * across - own_left)[own] + row * across[own] + begin

    # Pixels, in float32.
    start, du = start.astype(np.float32), du.astype(np.float32)
    span, step = _expand(counts)
    nearness = np.take(start, span) + np.take(du, span) * step.astype(np.float32)
    np.maximum.at(buffer, np.take(at, span) + step, nearness)

    return [
        Layer(
            int(owner),
            int(own_left[index]),
            int(own_top[index]),
            buffer[begins[index] : ends[index]].reshape(down[index], across[index]),
        )
        for index, owner in enumerate(owners)
    ]
