"""What every frame of a scan shows of every object: how much, where, and why not more.

The mesh says which surface lies behind a pixel, the depth image whether it was there when the
picture was taken. F frames, N objects, V vertices, T triangles.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data_pipelines import raster
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

    points: np.ndarray  # (V, 3) f32
    faces: np.ndarray  # (3, T) i32; a triangle that two objects share is there twice
    owner: np.ndarray  # (T,) i32
    owned: int  # how many triangles are of objects


def _surfaces(mesh: Mesh, members: Sequence[np.ndarray]) -> _Surfaces:
    """A triangle belongs to the objects that have two of its corners: where objects meet, borders
    then run through the middle of the triangles between them.
    """
    faces, owner = [], []
    free = np.ones(len(mesh.faces), bool)
    member = np.zeros(len(mesh.points), np.uint8)
    corners = np.ascontiguousarray(mesh.faces.T)
    for index, rows in enumerate(members):
        member[rows] = 1
        first, second, third = (np.take(member, corner) for corner in corners)
        own = (first + second + third) >= 2
        member[rows] = 0
        free &= ~own
        faces.append(corners[:, own])
        owner.append(np.full(faces[-1].shape[1], index, np.int32))
    owned = sum(map(len, owner))
    faces.append(corners[:, free])
    owner.append(np.full(faces[-1].shape[1], len(members), np.int32))
    return _Surfaces(mesh.points, np.concatenate(faces, axis=1), np.concatenate(owner), owned)


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
    camera_from_mesh = np.linalg.inv(frame.mesh_from_camera).astype(np.float32)
    points = camera_from_mesh[:3, :3] @ surfaces.points.T + camera_from_mesh[:3, 3:]
    (across, down), owned = _margins(sampling.size), surfaces.owned
    low, high = (-across, -down), (columns + across, rows + down)
    corners = raster.project(
        points, surfaces.faces[:, :owned], surfaces.owner[:owned], sampling.intrinsics, low, high
    )
    outside = _outside(corners, sampling.size, count)
    layers = raster.rasterise(corners, sampling.size)
    corners = raster.project(
        points,
        surfaces.faces[:, owned:],
        surfaces.owner[owned:],
        sampling.intrinsics,
        (0, 0),
        sampling.size,
    )
    layers += raster.rasterise(corners, sampling.size)

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
