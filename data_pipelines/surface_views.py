"""The surfaces of objects against depth images: how much of each silhouette a frame shows.

The mesh says which surface lies behind a pixel, the depth image whether it was there when the
picture was taken. Where the two agree within a pixel, the mesh decides, as it knows which object is
nearer even where they touch; where nothing was measured, too. What the depth image has in front of
the mesh hides it; a surface through which it measured something farther hides nothing.

N objects, V vertices, T triangles, h x w samples of a picture.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

from data_pipelines import raster
from data_pipelines.renderer import CANVAS, RING_STRIDE
from data_pipelines.scan import Mesh, ScanFrame

# Surfaces whose depths differ by less than this share are one: rounding does not decide.
SAME_DEPTH = 1e-4
NEIGHBOURS = 4  # of a point on a grid


@dataclasses.dataclass(frozen=True)
class SurfaceStatistics:
    """What one frame shows of every object, in samples; 0 where an object is not shown."""

    shown: np.ndarray  # (N,) f64, samples on which the object is seen
    inside: np.ndarray  # (N,) f64, samples of the picture that it would cover alone
    alone: np.ndarray  # (N,) f64, samples that it would cover alone on the canvas
    bbox_2d: np.ndarray  # (N, 4) i32, first column and row, last ones + 1, colour pixels
    camera_low: np.ndarray  # (N, 3) f32, metres in the camera, of the surface shown
    camera_high: np.ndarray  # (N, 3) f32
    agreement: float  # share of measured samples that lie on the mesh; NaN: none was measured


@dataclasses.dataclass(frozen=True)
class Surfaces:
    """The mesh's triangles, object by object; those of no object come last, as owner N."""

    points: np.ndarray  # (3, V) f32, mesh metres
    half_side: np.ndarray | None  # (V,) f32, metres: points are drawn as squares, see `_squares`
    faces: np.ndarray  # (3, T) i32; a triangle that two objects share is there twice
    owner: np.ndarray  # (T,) i32
    owned: int  # how many triangles are of objects
    count: int  # N


def surfaces_of(mesh: Mesh, members: Sequence[np.ndarray]) -> Surfaces:
    """The triangles of objects that are given by rows of `mesh.points`.

    A triangle belongs to the objects that have two of its corners: where objects meet, borders
    then run through the middle of the triangles between them. A mesh without triangles is drawn as
    squares that face the camera, each as wide as the way to its point's fourth neighbour: about
    what a point stands for, on a grid as in random samples.
    """
    half_side = None
    corners = np.ascontiguousarray(mesh.faces.T)
    if not len(mesh.faces) and len(mesh.points):
        corners = _square_faces(len(mesh.points))
        near, _ = KDTree(mesh.points).query(mesh.points, min(NEIGHBOURS + 1, len(mesh.points)))
        half_side = near[:, -1].astype(np.float32) / 2
    faces, owner = [], []
    free = np.ones(corners.shape[1], bool)
    member = np.zeros(len(mesh.points), np.uint8)
    vertex = corners % max(len(mesh.points), 1)  # corners of squares follow each other in rounds
    for index, rows in enumerate(members):
        member[rows] = 1
        first, second, third = (np.take(member, corner) for corner in vertex)
        own = (first + second + third) >= 2
        member[rows] = 0
        free &= ~own
        faces.append(corners[:, own])
        owner.append(np.full(faces[-1].shape[1], index, np.int32))
    owned = sum(map(len, owner))
    faces.append(corners[:, free])
    owner.append(np.full(faces[-1].shape[1], len(members), np.int32))
    return Surfaces(
        points=np.ascontiguousarray(mesh.points.T, np.float32),
        half_side=half_side,
        faces=np.concatenate(faces, axis=1),
        owner=np.concatenate(owner),
        owned=owned,
        count=len(members),
    )


def _square_faces(count: int) -> np.ndarray:
    """(3, 2 count) i32 of squares whose corners are `_squares`."""
    at = np.arange(count, dtype=np.int32)
    a, b, c, d = at, at + count, at + 2 * count, at + 3 * count
    return np.concatenate([np.stack([a, b, c]), np.stack([a, c, d])], axis=1)


def _squares(points: np.ndarray, half_side: np.ndarray) -> np.ndarray:
    """(3, 4 V) corners of squares around camera points (3, V), in rounds: first all first ones."""
    rounds = []
    for right, down in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        x, y, z = points
        rounds.append(np.stack([x + right * half_side, y + down * half_side, z]))
    return np.concatenate(rounds, axis=1)


# --- one frame -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Sampling:
    """Points of the picture that are looked at: the middles of `size` cells."""

    size: tuple[int, int]  # columns, rows
    cell: tuple[float, float]  # width and height of a cell in colour pixels
    intrinsics: np.ndarray  # (3, 3) of an image whose pixels are the cells


def _sampling(frame: ScanFrame, most: int) -> _Sampling:
    width, height = frame.color_size
    stride = max(1, int(np.ceil(np.sqrt(width * height / most) - 1e-9)))
    size = (-(-width // stride), -(-height // stride))
    cell = (width / size[0], height / size[1])
    return _Sampling(size, cell, np.diag([1 / cell[0], 1 / cell[1], 1.0]) @ frame.color_intrinsics)


def _measured(frame: ScanFrame, depth: np.ndarray, sampling: _Sampling) -> np.ndarray:
    """Depth (h, w) f32 at the samples, metres, 0 where nothing was measured."""
    columns, rows = sampling.size
    color, own = sampling.intrinsics, frame.depth_intrinsics
    x = (np.arange(columns) + 0.5 - color[0, 2]) / color[0, 0]
    y = (np.arange(rows) + 0.5 - color[1, 2]) / color[1, 1]
    u = np.floor(own[0, 0] * x + own[0, 2] + 1e-6).astype(int)
    v = np.floor(own[1, 1] * y + own[1, 2] + 1e-6).astype(int)
    height, width = depth.shape
    taken = depth[np.clip(v, 0, height - 1)[:, None], np.clip(u, 0, width - 1)[None]]
    inside = ((v >= 0) & (v < height))[:, None] & ((u >= 0) & (u < width))[None]
    return np.where(inside, taken, 0).astype(np.float32) * np.float32(1e-3)


def _outside(corners: raster.Corners, size: tuple[int, int], count: int) -> np.ndarray:
    """(N,) pixels of each silhouette on the canvas outside the image. As in the renderer, one
    sample stands for several pixels there.
    """
    columns, rows = size
    leaves = (corners.column.min(0) < 0) | (corners.column.max(0) > columns)
    leaves |= (corners.row.min(0) < 0) | (corners.row.max(0) > rows)
    corners = corners.take(np.flatnonzero(leaves))
    (across, down), canvas = _margins(size), _canvas(size)
    corners = corners._replace(
        column=(corners.column + np.float32(across)) / RING_STRIDE,
        row=(corners.row + np.float32(down)) / RING_STRIDE,
    )
    outside = np.zeros(count)
    for layer in raster.rasterise(corners, canvas):
        height, width = layer.nearness.shape
        u = (np.arange(width) + layer.left) * RING_STRIDE - across
        v = (np.arange(height) + layer.top) * RING_STRIDE - down
        inner = ((v >= 0) & (v < rows))[:, None] & ((u >= 0) & (u < columns))[None]
        outside[layer.owner] = ((layer.nearness > 0) & ~inner).sum() * RING_STRIDE**2
    return outside


def _margins(size: tuple[int, int]) -> tuple[int, int]:
    """Pixels of the canvas left of the image, and above it."""
    return (CANVAS - 1) * size[0] // 2, (CANVAS - 1) * size[1] // 2


def _canvas(size: tuple[int, int]) -> tuple[int, int]:
    """Columns and rows of samples on the canvas."""
    across, down = _margins(size)
    return -(-(size[0] + 2 * across) // RING_STRIDE), -(-(size[1] + 2 * down) // RING_STRIDE)


def _around(image: np.ndarray, reach: int, pick: np.ufunc) -> np.ndarray:
    """The least or greatest (`pick`) of every pixel's neighbours up to `reach` away."""
    for _ in range(reach):
        wide = image.copy()
        pick(wide[:, 1:], image[:, :-1], out=wide[:, 1:])
        pick(wide[:, :-1], image[:, 1:], out=wide[:, :-1])
        image = wide.copy()
        pick(image[1:], wide[:-1], out=image[1:])
        pick(image[:-1], wide[1:], out=image[:-1])
    return image


def _front(layers: Sequence[raster.Layer], size: tuple[int, int]) -> np.ndarray:
    """(h, w) f32, 1 / z of the nearest of all layers, 0 where there is none."""
    nearest = np.zeros(size[::-1], np.float32)
    for layer in layers:
        np.maximum(nearest[layer.window], layer.nearness, out=nearest[layer.window])
    return nearest


def _majority(mask: np.ndarray, among: np.ndarray) -> np.ndarray:
    """`mask` where most neighbours `among` have it too: a lone wrong measurement says nothing, and
    straight borders stay where they are.
    """
    if not mask.any():
        return mask
    ballots = []
    for flags in (mask, among):
        votes = np.pad(flags.astype(np.int8), 1)
        votes = votes[:-2] + votes[1:-1] + votes[2:]
        ballots.append(votes[:, :-2] + votes[:, 1:-1] + votes[:, 2:])
    return mask & (2 * ballots[0] > ballots[1])


class _DepthComparison(NamedTuple):
    """What the depth image says of the mesh at the samples, (h, w) each."""

    depth: np.ndarray  # f32 metres, 0 where nothing was measured
    before: np.ndarray  # bool, something nearer than the mesh was measured
    behind: np.ndarray  # bool, something farther was
    agreement: float  # share of measured samples that lie on the mesh; NaN: none was measured


def _compare_depth(
    frame: ScanFrame,
    depth: np.ndarray | None,
    sampling: _Sampling,
    nearest: np.ndarray,
    *,
    depth_tolerance: float,
    least_tolerance: float,
) -> _DepthComparison:
    """The depth image against the mesh, whose nearest surface is at 1 / `nearest` (h, w)."""
    nothing = np.zeros(nearest.shape, bool)
    if depth is None or not depth.any():
        return _DepthComparison(np.zeros(nearest.shape, np.float32), nothing, nothing, float("nan"))
    mesh_depth = 1 / np.maximum(nearest, 1e-9)
    measured = _measured(frame, depth, sampling)
    # A depth pixel may show what the mesh has beside it: poses are off by a pixel, and depth images
    # are often coarser than pictures.
    columns, rows = sampling.size
    coarseness = max(columns / depth.shape[1], rows / depth.shape[0])
    reach = max(1, round(coarseness / 2))
    slack = np.maximum(least_tolerance, depth_tolerance * mesh_depth)
    known = measured > 0
    before = known & (measured < _around(mesh_depth - slack, reach, np.minimum))
    behind = known & (measured > _around(mesh_depth + slack, reach, np.maximum))
    on_mesh = known & ~before & ~behind & (nearest > 0)
    agreement = float(on_mesh.sum() / known.sum()) if known.any() else float("nan")
    return _DepthComparison(measured, _majority(before, known), _majority(behind, known), agreement)


def frame_statistics(
    surfaces: Surfaces,
    frame: ScanFrame,
    depth: np.ndarray | None,
    *,
    depth_tolerance: float,
    least_tolerance: float,
    most_pixels: int,
) -> SurfaceStatistics:
    """What a frame shows of the objects.

    Args:
        depth: (Hd, Wd) uint16 millimetres, 0 where nothing was measured; None: the mesh decides.
        depth_tolerance: share of the depth by which measurement and mesh may differ, and at least
        least_tolerance: metres.
        most_pixels: larger pictures are sampled at about so many points.
    """
    count = surfaces.count
    sampling = _sampling(frame, most_pixels)
    columns, rows = sampling.size
    camera_from_mesh = np.linalg.inv(frame.mesh_from_camera).astype(np.float32)
    points = camera_from_mesh[:3, :3] @ surfaces.points + camera_from_mesh[:3, 3:]
    if surfaces.half_side is not None:
        points = _squares(points, surfaces.half_side)
    (across, down), owned = _margins(sampling.size), surfaces.owned

    def project(part: slice, low: tuple[int, int], high: tuple[int, int]) -> raster.Corners:
        faces, owner = surfaces.faces[:, part], surfaces.owner[part]
        return raster.project(points, faces, owner, sampling.intrinsics, low, high)

    corners = project(slice(0, owned), (-across, -down), (columns + across, rows + down))
    outside = _outside(corners, sampling.size, count)
    layers = raster.rasterise(corners, sampling.size)
    rest = raster.rasterise(project(slice(owned, None), (0, 0), sampling.size), sampling.size)
    nearest = _front([*layers, *rest], sampling.size)

    measured = _compare_depth(
        frame,
        depth,
        sampling,
        nearest,
        depth_tolerance=depth_tolerance,
        least_tolerance=least_tolerance,
    )
    statistics = SurfaceStatistics(
        shown=np.zeros(count),
        inside=np.zeros(count),
        alone=outside,
        bbox_2d=np.zeros((count, 4), np.int32),
        camera_low=np.zeros((count, 3), np.float32),
        camera_high=np.zeros((count, 3), np.float32),
        agreement=measured.agreement,
    )
    wide, high = sampling.cell
    color = sampling.intrinsics.astype(np.float32)
    for layer in layers:
        own, window = layer.owner, layer.window
        covers = layer.nearness > 0
        z = 1 / np.maximum(layer.nearness, 1e-9)
        front = layer.nearness >= nearest[window] * (1 - SAME_DEPTH)
        limit = np.maximum(least_tolerance, depth_tolerance * z)
        through = measured.behind[window] & (measured.depth[window] >= z - limit)
        shown = covers & ((front & ~measured.before[window]) | through)
        statistics.shown[own] = shown.sum()
        statistics.inside[own] = covers.sum()
        statistics.alone[own] += covers.sum()
        if not statistics.shown[own]:
            continue
        v, u = np.nonzero(shown)
        z, u, v = z[v, u], u + layer.left, v + layer.top
        y = (v + 0.5 - color[1, 2]) / color[1, 1] * z
        x = (u + 0.5 - color[0, 2] - color[0, 1] * y / z) / color[0, 0] * z
        statistics.camera_low[own] = x.min(), y.min(), z.min()
        statistics.camera_high[own] = x.max(), y.max(), z.max()
        edges = (u.min() * wide, v.min() * high, (u.max() + 1) * wide, (v.max() + 1) * high)
        statistics.bbox_2d[own] = np.rint(edges)
    return statistics
