"""What every frame of a scan shows of every object: how much, where, and why not more.

The mesh says which surface lies behind a pixel, the depth image whether it was there when the
picture was taken. F frames, N objects, V vertices, T triangles.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data_pipelines import raster
from data_pipelines.raster import Layer
from data_pipelines.renderer import CANVAS, RING_STRIDE
from data_pipelines.scan import Images, Mesh, ScanFrame


@dataclasses.dataclass(frozen=True)
class ViewSettings:
    """How visibility is measured."""

    depth_tolerance: float = 0.03  # share of the depth, and at least
    least_tolerance: float = 0.03  # metres: noise of a depth sensor grows with the depth
    truncated_above: float = 0.02  # share of the silhouette outside the image
    occluded_above: float = 0.02  # share of the silhouette inside the image that is hidden
    most_pixels: int = 640 * 480  # larger pictures are sampled at so many points


DEFAULT = ViewSettings()


class ObjectViews(NamedTuple):
    """The silhouette of an object is what it would cover if nothing else were there, on a canvas
    twice as wide and high as the picture: wide enough for all but the closest objects, and finite
    for those that reach behind the camera. Where an object is not seen, everything is 0.
    """

    seen: np.ndarray  # (F, N) bool, at least one pixel shows it
    visibility: np.ndarray  # (F, N) f32, share of its silhouette that the picture shows
    in_view: np.ndarray  # (F, N) f32, share of its silhouette inside the picture
    hidden: np.ndarray  # (F, N) f32, share of the silhouette inside that something nearer hides
    truncated: np.ndarray  # (F, N) bool, `in_view` is below 1 by more than the threshold
    occluded: np.ndarray  # (F, N) bool, `hidden` is above the threshold
    bbox_2d: np.ndarray  # (F, N, 4) i32, first column and row, last ones + 1, colour pixels
    camera_location: np.ndarray  # (F, N, 3) f32, metres, middle of the seen surface in the camera
    agreement: np.ndarray  # (F,) f32, share of measured depth that lies on the mesh; NaN: none


def _empty(frames: int, objects: int) -> ObjectViews:
    share = np.zeros((frames, objects), np.float32)
    flag = np.zeros((frames, objects), bool)
    return ObjectViews(
        seen=flag,
        visibility=share,
        in_view=share.copy(),
        hidden=share.copy(),
        truncated=flag.copy(),
        occluded=flag.copy(),
        bbox_2d=np.zeros((frames, objects, 4), np.int32),
        camera_location=np.zeros((frames, objects, 3), np.float32),
        agreement=np.full(frames, np.nan, np.float32),
    )


# --- surfaces ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Surfaces:
    """The mesh's triangles, object by object; those of no object come last, as owner N."""

    points: np.ndarray  # (V, 3) f64
    faces: np.ndarray  # (T, 3) i32; a triangle that two objects share is there twice
    owner: np.ndarray  # (T,) i32


def _surfaces(mesh: Mesh, members: Sequence[np.ndarray]) -> _Surfaces:
    """A triangle belongs to the objects that have two of its corners: where objects meet, borders
    then run through the middle of the triangles between them.
    """
    faces, owner = [], []
    free = np.ones(len(mesh.faces), bool)
    member = np.zeros(len(mesh.points), bool)
    for index, rows in enumerate(members):
        member[rows] = True
        own = member[mesh.faces].sum(1) >= 2
        member[rows] = False
        free &= ~own
        faces.append(mesh.faces[own])
        owner.append(np.full(own.sum(), index, np.int32))
    faces.append(mesh.faces[free])
    owner.append(np.full(free.sum(), len(members), np.int32))
    return _Surfaces(mesh.points.astype(np.float64), np.concatenate(faces), np.concatenate(owner))


# --- one frame -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Sampling:
    """Points of the picture that are looked at: the middles of `size` cells."""

    size: tuple[int, int]  # columns, rows
    cell: tuple[float, float]  # width and height of a cell in colour pixels
    intrinsics: np.ndarray  # (3, 3) of an image whose pixels are the cells


def _sampling(frame: ScanFrame, settings: ViewSettings) -> _Sampling:
    width, height = frame.color_size
    stride = max(1, int(np.ceil(np.sqrt(width * height / settings.most_pixels) - 1e-9)))
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


def _outside(corners: np.ndarray, owner: np.ndarray, size: tuple[int, int], count: int):
    """(N,) pixels of each silhouette on the canvas outside the image."""
    columns, rows = size
    margin = np.array([(CANVAS - 1) * columns // 2, (CANVAS - 1) * rows // 2])
    low, high = corners[..., :2].min(1), corners[..., :2].max(1)
    leaves = ((low < 0) | (high > size)).any(1) & (owner < count)
    corners = corners[leaves].copy()
    corners[..., :2] = (corners[..., :2] + margin) / RING_STRIDE
    canvas = tuple(int(np.ceil((s + 2 * m) / RING_STRIDE)) for s, m in zip(size, margin))
    outside = np.zeros(count)
    for layer in raster.rasterise(corners, owner[leaves], canvas):
        height, width = layer.nearness.shape
        u = (np.arange(width) + layer.left) * RING_STRIDE - margin[0]
        v = (np.arange(height) + layer.top) * RING_STRIDE - margin[1]
        inner = ((v >= 0) & (v < rows))[:, None] & ((u >= 0) & (u < columns))[None]
        outside[layer.owner] = ((layer.nearness > 0) & ~inner).sum() * RING_STRIDE**2
    return outside


def _around(image: np.ndarray, reach: int, pick: np.ufunc) -> np.ndarray:
    """The least or greatest of every pixel's neighbours up to `reach` away."""
    for axis in (0, 1):
        padded = np.pad(image, [(reach, reach) if a == axis else (0, 0) for a in (0, 1)], "edge")
        length = image.shape[axis]
        parts = [
            padded[(slice(None),) * axis + (slice(step, step + length),)]
            for step in range(2 * reach + 1)
        ]
        image = pick.reduce(parts)
    return image


def _fill_frame(
    views: ObjectViews,
    row: int,
    surfaces: _Surfaces,
    frame: ScanFrame,
    depth: np.ndarray | None,
    settings: ViewSettings,
) -> None:
    """Writes row `row` of the arrays of `views`."""
    count = views.seen.shape[1]
    sampling = _sampling(frame, settings)
    columns, rows = sampling.size
    camera_from_mesh = np.linalg.inv(frame.mesh_from_camera)
    points = surfaces.points @ camera_from_mesh[:3, :3].T + camera_from_mesh[:3, 3]
    corners, source = raster.cut_near(points[surfaces.faces])
    corners, owner = raster.project(corners, sampling.intrinsics), surfaces.owner[source]
    layers = raster.rasterise(corners, owner, sampling.size)
    outside = _outside(corners, owner, sampling.size, count)

    nearest = np.zeros((rows, columns), np.float32)
    for layer in layers:
        np.maximum(nearest[layer.window], layer.nearness, out=nearest[layer.window])
    mesh_depth = 1 / np.maximum(nearest, 1e-9)
    measured = np.zeros_like(mesh_depth) if depth is None else _measured(frame, depth, sampling)
    # A depth pixel may show what the mesh has beside it: poses and registration are off by a pixel,
    # and depth images are often coarser than pictures.
    coarse = 1 if depth is None else max(columns / depth.shape[1], rows / depth.shape[0])
    reach = max(1, round(coarse / 2))
    slack = np.maximum(settings.least_tolerance, settings.depth_tolerance * mesh_depth)
    near = _around(mesh_depth - slack, reach, np.minimum)
    far = _around(mesh_depth + slack, reach, np.maximum)
    known = measured > 0
    before = known & (measured < near)  # something that the mesh does not have
    behind = known & (measured > far)  # the mesh has something that was not there
    if known.any():
        agrees = known & ~before & ~behind & (nearest > 0)
        views.agreement[row] = agrees.sum() / known.sum()

    color = sampling.intrinsics
    for layer in layers:
        n = layer.owner
        if n == count:
            continue
        covers = layer.nearness > 0
        z = 1 / np.maximum(layer.nearness, 1e-9)
        front = layer.nearness >= nearest[layer.window] * (1 - 1e-4)
        limit = np.maximum(settings.least_tolerance, settings.depth_tolerance * z)
        through = behind[layer.window] & (measured[layer.window] >= z - limit)
        shown = covers & ((front & ~before[layer.window]) | through)
        inside, seen = covers.sum(), shown.sum()
        alone = inside + outside[n]
        views.seen[row, n] = seen > 0
        if not seen:
            continue
        views.visibility[row, n] = seen / alone
        views.in_view[row, n] = inside / alone
        views.hidden[row, n] = 1 - seen / inside
        v, u = np.nonzero(shown)
        z, u, v = z[v, u], u + layer.left, v + layer.top
        x = (u + 0.5 - color[0, 2]) / color[0, 0] * z
        y = (v + 0.5 - color[1, 2]) / color[1, 1] * z
        location = [(axis.min() + axis.max()) / 2 for axis in (x, y, z)]
        views.camera_location[row, n] = location
        wide, high = sampling.cell
        views.bbox_2d[row, n] = np.rint(
            [u.min() * wide, v.min() * high, (u.max() + 1) * wide, (v.max() + 1) * high]
        )


def object_views(
    mesh: Mesh,
    members: Sequence[np.ndarray],
    frames: Sequence[ScanFrame],
    images: Images,
    *,
    settings: ViewSettings = DEFAULT,
) -> ObjectViews:
    """What the frames show of objects.

    Args:
        mesh: in the frame that poses lead to.
        members: for each object, its rows of `mesh.points`; rows of several objects may overlap.
        frames: with `mesh_from_camera`; those without depth are judged by the mesh alone.
        images: gives the frames' depth.

    Raises:
        ScanError: a depth image does not decode.
    """
    views = _empty(len(frames), len(members))
    surfaces = _surfaces(mesh, members)
    for row, frame in enumerate(frames):
        depth = images.depth(frame) if min(frame.depth_size) > 0 else None
        _fill_frame(views, row, surfaces, frame, depth, settings)
    views.truncated[:] = views.seen & (views.in_view < 1 - settings.truncated_above)
    views.occluded[:] = views.seen & (views.hidden > settings.occluded_above)
    return views
