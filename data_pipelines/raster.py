"""Triangles to depth: a z-buffer for each object of a scene, exact at the middle of every pixel.

A triangle becomes spans of pixels, row by row; all triangles of a frame go through each step at
once. A pixel belongs to a triangle when its middle lies inside; on an edge that two triangles share
it belongs to one of them. Depth is interpolated as 1 / z, which is linear in the image.

Camera: x right, y down, z forward. Pixel (column, row) has its middle at (column + 0.5, row + 0.5).
T triangles, V vertices.
"""

import dataclasses

import numpy as np

NEAR = 1e-3  # metres; what is nearer is cut off


@dataclasses.dataclass(frozen=True)
class Layer:
    """What one owner alone would show, in the smallest rectangle of the image around it."""

    owner: int
    left: int  # column and row of the rectangle's first pixel
    top: int
    nearness: (
        np.ndarray
    )  # (h, w) f32, 1 / z of its nearest surface, 1/metres; 0 where there is none

    @property
    def window(self) -> tuple[slice, slice]:
        """Where the rectangle lies in the image."""
        height, width = self.nearness.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def cut_near(corners: np.ndarray, near: float = NEAR) -> tuple[np.ndarray, np.ndarray]:
    """Cuts triangles (T, 3, 3), camera metres, off at z = near.

    Returns:
        triangles (T', 3, 3) before the plane, and for each the row that it comes from.
    """
    ahead = corners[..., 2] > near
    count = ahead.sum(1)
    whole, crossing = np.flatnonzero(count == 3), np.flatnonzero((count > 0) & (count < 3))
    if not len(crossing):
        return corners[whole], whole
    cut, source = [corners[whole]], [whole]
    for number in (1, 2):
        rows = np.flatnonzero(count == number)
        # The corner that is alone on its side comes first; the other two keep their order.
        lone = np.argmax(ahead[rows] == (number == 1), axis=1)
        turned = corners[rows[:, None], (lone[:, None] + np.arange(3)) % 3]
        a, b, c = turned[:, 0], turned[:, 1], turned[:, 2]
        ab = a + (b - a) * ((near - a[:, 2]) / (b[:, 2] - a[:, 2]))[:, None]
        ac = a + (c - a) * ((near - a[:, 2]) / (c[:, 2] - a[:, 2]))[:, None]
        pieces = [(a, ab, ac)] if number == 1 else [(ab, b, c), (ab, c, ac)]
        cut += [np.stack(piece, axis=1) for piece in pieces]
        source += [rows] * len(pieces)
    return np.concatenate(cut), np.concatenate(source)


def project(corners: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Corners (T, 3, 3), camera metres, as (T, 3, 3): column, row in pixels, and 1 / z."""
    nearness = 1.0 / corners[..., 2]
    u = (intrinsics[0, 0] * corners[..., 0] + intrinsics[0, 1] * corners[..., 1]) * nearness
    v = intrinsics[1, 1] * corners[..., 1] * nearness
    return np.stack([u + intrinsics[0, 2], v + intrinsics[1, 2], nearness], axis=-1)


def _first_middle(edge: np.ndarray, size: int) -> np.ndarray:
    """The first pixel of 0..size whose middle is at or after a coordinate."""
    return np.clip(np.ceil(edge - 0.5), 0, size).astype(np.int32)


def _expand(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which row each of `counts` repeats comes from, and its number within the row."""
    source = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    starts = np.cumsum(counts, dtype=np.int64) - counts
    return source, (np.arange(len(source), dtype=np.int64) - starts[source]).astype(np.int32)


def rasterise(corners: np.ndarray, owner: np.ndarray, size: tuple[int, int]) -> list[Layer]:
    """Draws triangles, each owner's apart from the others'.

    Args:
        corners: (T, 3, 3) from `project`.
        owner: (T,) ints >= 0.
        size: width, height of the image in pixels.

    Returns:
        One layer for each owner that covers the middle of a pixel, ascending by owner.
    """
    width, height = size
    low, high = corners[..., :2].min(1), corners[..., :2].max(1)
    first_column, end_column = (_first_middle(edge[:, 0], width) for edge in (low, high))
    first_row, end_row = (_first_middle(edge[:, 1], height) for edge in (low, high))
    kept = np.flatnonzero((first_column < end_column) & (first_row < end_row))
    if not len(kept):
        return []
    first_column, end_column = first_column[kept], end_column[kept]
    first_row, end_row, owner = first_row[kept], end_row[kept], owner[kept]

    # Each owner's rectangle, all rectangles one after the other in one buffer.
    owners, place = np.unique(owner, return_inverse=True)
    left = np.full(len(owners), width, np.int32)
    top = np.full(len(owners), height, np.int32)
    right, bottom = np.zeros_like(left), np.zeros_like(top)
    np.minimum.at(left, place, first_column)
    np.minimum.at(top, place, first_row)
    np.maximum.at(right, place, end_column)
    np.maximum.at(bottom, place, end_row)
    across = right - left
    areas = across.astype(np.int64) * (bottom - top)
    begins = np.cumsum(areas) - areas
    buffer = np.zeros(int(areas.sum()), np.float32)

    # Corners from the top of the image down, so that an edge is always walked the same way.
    corners = corners[kept]
    order = np.argsort(corners[..., 1], axis=1)
    corners = np.take_along_axis(corners, order[..., None], axis=1)
    (u0, v0, q0), (u1, v1, q1), (u2, v2, q2) = (corners[:, i].T for i in range(3))
    with np.errstate(divide="ignore", invalid="ignore"):
        upper, lower, long = (u1 - u0) / (v1 - v0), (u2 - u1) / (v2 - v1), (u2 - u0) / (v2 - v0)
        # 1 / z = q0 + (u - u0) du + (v - v0) dv
        area = (u1 - u0) * (v2 - v0) - (u2 - u0) * (v1 - v0)
        du = ((q1 - q0) * (v2 - v0) - (q2 - q0) * (v1 - v0)) / area
        dv = ((q2 - q0) * (u1 - u0) - (q1 - q0) * (u2 - u0)) / area

    # Rows.
    t, step = _expand(end_row - first_row)
    row = first_row[t] + step
    middle = row + 0.5
    from_top, from_knee = middle - v0[t], middle - v1[t]
    one = u0[t] + from_top * long[t]
    with np.errstate(invalid="ignore"):
        other = np.where(from_knee < 0, u0[t] + from_top * upper[t], u1[t] + from_knee * lower[t])
    begin = _first_middle(np.minimum(one, other), width)
    counts = _first_middle(np.maximum(one, other), width) - begin
    used = np.flatnonzero(counts > 0)
    t, begin, counts = t[used], begin[used], counts[used]
    start = q0[t] + (begin + 0.5 - u0[t]) * du[t] + from_top[used] * dv[t]
    own = place[t]
    at = begins[own] + (row[used] - top[own]).astype(np.int64) * across[own] + begin - left[own]

    # Pixels.
    span, step = _expand(counts)
    nearness = start.astype(np.float32)[span] + du[t].astype(np.float32)[span] * step
    np.maximum.at(buffer, at[span] + step, nearness)

    layers = []
    for index, one_owner in enumerate(owners):
        part = buffer[begins[index] : begins[index] + areas[index]]
        layers.append(
            Layer(
                int(one_owner),
                int(left[index]),
                int(top[index]),
                part.reshape(bottom[index] - top[index], across[index]),
            )
        )
    return layers
