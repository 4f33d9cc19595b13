"""A z-buffer for triangle meshes: which face a pixel shows, and how deep it lies. Host side, NumPy.

A face is cut at the near plane, projected, and split into the rows of pixels that it crosses, each
row into its pixels; every step is one array operation over all faces. On the screen 1 / z of a
plane is affine, so interpolating 1 / z gives the exact depth. A pixel belongs to the face that its
middle lies in. Faces that share an edge compute its crossings from the same two ends in the same
order, so nothing shows between them.

V vertices, T faces; camera x right, y down, z forward.
"""

from typing import NamedTuple

import numpy as np

NEAR = 0.02  # metres; what is closer to the camera's plane is cut off
CHUNK = 1 << 21  # pixels of faces at once; bounds memory

LEFT, RIGHT, ABOVE, BELOW, BEHIND = 1, 2, 4, 8, 16  # where a vertex lies outside the view


class Raster(NamedTuple):
    depth: np.ndarray  # (H, W) f32, metres along z, 0 where no face is
    face: np.ndarray  # (H, W) i32, row of `faces`, -1 where no face is


def rasterise(
    points: np.ndarray,
    faces: np.ndarray,
    mesh_from_camera: np.ndarray,
    intrinsics: np.ndarray,
    size: tuple[int, int],
    *,
    near: float = NEAR,
) -> Raster:
    """The mesh as a pinhole camera sees it; both sides of a face are drawn.

    Args:
        points: (V, 3) metres, mesh frame.
        faces: (T, 3) integer rows of `points`.
        mesh_from_camera: (4, 4) rigid.
        intrinsics: (3, 3) in pixels, the image's corner as origin: pixel middles at half-integers.
        size: width, height in pixels.
        near: smallest depth drawn, metres.
    """
    camera_from_mesh = np.linalg.inv(mesh_from_camera)
    local = camera_from_mesh[:3, :3] @ points.T.astype(np.float64) + camera_from_mesh[:3, 3:]
    corners = _outside(local, intrinsics, size, near)[faces.T]  # (3, T)
    shown = np.flatnonzero((corners[0] & corners[1] & corners[2]) == 0)
    cut = ((corners[0] | corners[1] | corners[2]) & BEHIND)[shown] != 0
    whole, cut = shown[~cut], shown[cut]
    parts, origin = _clip(local.T[faces[cut]], near)
    # The parts get vertices of their own behind those of the mesh.
    local = np.concatenate([local, parts.reshape(-1, 3).T], axis=1)
    own = points.shape[0] + np.arange(3 * len(parts)).reshape(-1, 3)
    corner = np.concatenate([faces[whole], own]).T  # (3, t)

    inverse_depth = 1.0 / np.where(local[2] < near, near, local[2])
    u = local[0] * inverse_depth * intrinsics[0, 0] + intrinsics[0, 2]
    v = local[1] * inverse_depth * intrinsics[1, 1] + intrinsics[1, 2]
    width, height = size
    buffer = np.zeros(height * width, np.uint64)
    _draw(buffer, u, v, inverse_depth, corner, np.concatenate([whole, cut[origin]]), size)
    value = (buffer >> np.uint64(32)).astype(np.uint32).view(np.float32)
    hit = buffer != 0
    depth = np.divide(1.0, value, out=np.zeros_like(value), where=hit)
    face = np.where(hit, (buffer & np.uint64(0xFFFFFFFF)).astype(np.int64) - 1, -1)
    return Raster(depth.reshape(height, width), face.astype(np.int32).reshape(height, width))


def _outside(
    local: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int], near: float
) -> np.ndarray:
    """(V,) uint8 bits: the planes of the view that a vertex lies outside of. A face all of whose
    vertices are outside of one plane can't be seen.
    """
    x, y, z = local
    focal, middle = intrinsics[[0, 1], [0, 1]], intrinsics[:2, 2]
    low, high = -middle / focal, (np.asarray(size) - middle) / focal
    return (
        LEFT * (x < low[0] * z).view(np.uint8)
        | RIGHT * (x > high[0] * z).view(np.uint8)
        | ABOVE * (y < low[1] * z).view(np.uint8)
        | BELOW * (y > high[1] * z).view(np.uint8)
        | BEHIND * (z < near).view(np.uint8)
    )


def _clip(triangles: np.ndarray, near: float) -> tuple[np.ndarray, np.ndarray]:
    """What of triangles (t, 3, 3) lies at z >= near, as triangles (s, 3, 3), and the row (s,) that
    each comes from. Every triangle has a vertex on both sides.
    """
    inside = triangles[..., 2] >= near
    count = inside.sum(1)
    # Turn each so that the vertex which is alone on its side comes first.
    alone = np.argmax(inside == (count == 1)[:, None], axis=1)
    order = (alone[:, None] + np.arange(3)) % 3
    a, b, c = np.take_along_axis(triangles, order[..., None], axis=1).swapaxes(0, 1)
    ab, ac = _at_near(a, b, near), _at_near(a, c, near)
    one, two = np.flatnonzero(count == 1), np.flatnonzero(count == 2)
    parts = [
        np.stack([a[one], ab[one], ac[one]], 1),
        np.stack([ab[two], b[two], c[two]], 1),
        np.stack([ab[two], c[two], ac[two]], 1),
    ]
    return np.concatenate(parts), np.concatenate([one, two, two])


def _at_near(start: np.ndarray, end: np.ndarray, near: float) -> np.ndarray:
    """(t, 3) where edges cross the near plane."""
    share = (near - start[:, 2]) / (end[:, 2] - start[:, 2])
    crossing = start + share[:, None] * (end - start)
    crossing[:, 2] = near
    return crossing


def _draw(
    buffer: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    inverse_depth: np.ndarray,
    corner: np.ndarray,
    owner: np.ndarray,
    size: tuple[int, int],
) -> None:
    """Draws triangles, (3, t) rows of the vertices' u, v and 1 / z, into a buffer of words: the
    bits of float32 1 / z above those of owner + 1. Positive floats order as their bits, so the
    largest word is the nearest face, and the order of drawing changes nothing.
    """
    width, height = size
    # Row y is crossed where v_top <= y + 1/2 < v_bottom.
    corner_v = v[corner]
    first = np.clip(np.ceil(corner_v.min(0) - 0.5), 0, height).astype(np.int64)
    rows = np.clip(np.ceil(corner_v.max(0) - 0.5), 0, height).astype(np.int64) - first
    kept = np.flatnonzero(rows > 0)
    first, rows, owner = first[kept], rows[kept], owner[kept] + 1
    a, b, c = _downward(corner[:, kept], corner_v[:, kept])
    slope_u, slope_v = _slopes(u, v, inverse_depth, (a, b, c))

    face = np.repeat(np.arange(len(kept)), rows)
    y = np.arange(len(face)) + np.repeat(first - (np.cumsum(rows) - rows), rows)
    line = y + 0.5
    a, b, c = a[face], b[face], c[face]
    upper = line < v[b]
    long = _crossing(u, v, a, c, line)
    short = _crossing(u, v, np.where(upper, a, b), np.where(upper, b, c), line)
    start = np.clip(np.ceil(np.minimum(long, short) - 0.5), 0, width).astype(np.int64)
    count = np.clip(np.ceil(np.maximum(long, short) - 0.5), 0, width).astype(np.int64) - start
    kept = np.flatnonzero(count)
    face, y, start, count = face[kept], y[kept], start[kept], count[kept]
    a, b, c = a[kept], b[kept], c[kept]
    # 1 / z in the row's first and last pixel. It can't leave the range of the vertices, also where
    # a sliver's slopes are steep.
    values = inverse_depth[a], inverse_depth[b], inverse_depth[c]
    low, high = np.minimum(np.minimum(*values[:2]), values[2]), np.maximum(*values[:2])
    high = np.maximum(high, values[2])
    begin = values[0] + slope_u[face] * (start + 0.5 - u[a]) + slope_v[face] * (y + 0.5 - v[a])
    end = np.clip(begin + slope_u[face] * (count - 1), low, high)
    begin = np.clip(begin, low, high)
    step = (end - begin) / np.maximum(count - 1, 1)
    number, pixel = owner[face].astype(np.uint64), y * width + start

    ends = np.cumsum(count)
    left = 0
    while left < len(ends):
        done = ends[left - 1] if left else 0
        right = max(left + 1, int(np.searchsorted(ends, done + CHUNK, side="right")))
        some = slice(left, right)
        row = np.repeat(np.arange(left, right), count[some])
        along = np.arange(len(row)) - (ends[row] - count[row] - done)
        inverse = (begin[row] + along * step[row]).astype(np.float32)
        word = (inverse.view(np.uint32).astype(np.uint64) << np.uint64(32)) | number[row]
        np.maximum.at(buffer, pixel[row] + along, word)
        left = right


def _downward(corner: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Corners (3, t) by their v (3, t), the topmost first. Equal ones may come in any order: no row
    crosses the edge between them.
    """
    code = (v[0] > v[1]) + 2 * (v[1] > v[2]) + 4 * (v[0] > v[2])
    order = np.array([0, 1, 0, 0, 0, 1, 2, 2]), np.array([1, 0, 2, 0, 0, 2, 0, 1])
    column = np.arange(corner.shape[1])
    top, middle = order[0][code], order[1][code]
    return corner[top, column], corner[middle, column], corner[3 - top - middle, column]


def _crossing(
    u: np.ndarray, v: np.ndarray, top: np.ndarray, low: np.ndarray, line: np.ndarray
) -> np.ndarray:
    """The u at which edges between two vertices cross the height `line`."""
    rise = v[low] - v[top]
    return u[top] + (line - v[top]) / np.where(rise == 0, 1.0, rise) * (u[low] - u[top])


def _slopes(
    u: np.ndarray, v: np.ndarray, value: np.ndarray, corners: tuple[np.ndarray, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """(t,) derivatives along u and v of the affine function with `value` at the vertices; 0 for a
    triangle seen edge on.
    """
    a, b, c = corners
    u1, u2 = u[b] - u[a], u[c] - u[a]
    v1, v2 = v[b] - v[a], v[c] - v[a]
    d1, d2 = value[b] - value[a], value[c] - value[a]
    area = u1 * v2 - u2 * v1
    safe = np.where(area == 0, np.inf, area)
    return (d1 * v2 - d2 * v1) / safe, (u1 * d2 - u2 * d1) / safe
