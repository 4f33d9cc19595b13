"""The `visibility` subject of `launch.bench`: what frames show of objects.

Points: `views.object_views` by points, from depth images in memory to NumPy, in both precisions,
against a plain NumPy twin of its kernel and the rate of the published loop. Surfaces: the default
setting on the mesh of the same room. Warm; compilation apart.
"""

import dataclasses
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from data_pipelines import point_views, room_scan, rooms, views
from data_pipelines.scan import Mesh, ScanFrame
from geometry_jax.types import leaf

PUBLISHED_RATE = 0.58e6  # points times frames a second of the published loop, one core
SIZE, VIEW = (640, 480), float(np.deg2rad(75.0))
PATH_FRAMES = 6  # pictures that the room keeps: its path has four times as many poses
POINT_BYTES = 3 * 4 + 1  # of a point and whether it counts, read in every frame
POINT_FLOPS = 45  # transform 18, projection 9, tests and comparison 8, reductions 10
WIDE = (1296, 968)  # a picture larger than its depth image, as in real scans


@dataclasses.dataclass(frozen=True)
class Stored:
    """Depth images in memory; row i is frame i."""

    images: np.ndarray  # (F, H, W) uint16

    def depth(self, frame: ScanFrame) -> np.ndarray:
        return self.images[frame.frame_id]

    def color(self, frame: ScanFrame) -> np.ndarray:
        raise NotImplementedError

    def color_jpeg(self, frame: ScanFrame) -> bytes | None:
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Case:
    """A furnished room: about as many labelled points as asked, and frames along its path."""

    points: Mesh  # dense
    point_members: tuple[np.ndarray, ...]
    surface: Mesh  # at the spacing of a scan
    surface_members: tuple[np.ndarray, ...]
    frames: tuple[ScanFrame, ...]
    images: Stored


@dataclasses.dataclass(frozen=True)
class Rate:
    """One line of the table."""

    name: str
    compile_s: float
    seconds: float
    cpu_s: float  # of all cores: what a busy machine does not change
    point_frames: int

    @property
    def per_s(self) -> float:
        return self.point_frames / self.seconds


def make_case(points: int, frames: int, size: tuple[int, int] = SIZE, seed: int = 7) -> Case:
    """The room's path is walked again and again until there are `frames`."""
    width, height = size
    room = rooms.make_room(
        (seed, 0), frames=PATH_FRAMES, width=width, height=height, field_of_view=VIEW
    )
    scan = room_scan.room_scan(room, "scene0000_00")
    members = tuple(one.vertices for one in scan.objects[: len(room.objects)])
    rng = np.random.default_rng(seed)
    dense, owners = _strewn(scan.mesh, members, points, rng)
    depth = np.stack([scan.images.depth(frame) for frame in scan.frames])
    scale = np.diag([WIDE[0] / width, WIDE[1] / height, 1.0])
    repeated = tuple(
        dataclasses.replace(
            (one := scan.frames[row % len(scan.frames)]),
            frame_id=row,
            color_size=WIDE,
            color_intrinsics=scale @ one.color_intrinsics,
        )
        for row in range(frames)
    )
    images = Stored(depth[np.arange(frames) % len(depth)])
    return Case(dense, owners, scan.mesh, members, repeated, images)


def _strewn(
    mesh: Mesh, members: Sequence[np.ndarray], count: int, rng: np.random.Generator
) -> tuple[Mesh, tuple[np.ndarray, ...]]:
    """`count` points on the triangles of objects, by area, object by object."""
    owner = np.full(len(mesh.points), -1)
    for index, rows in enumerate(members):
        owner[rows] = index
    faces = mesh.faces[owner[mesh.faces[:, 0]] >= 0]
    a, b, c = np.moveaxis(mesh.points[faces], 1, 0)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    drawn = np.sort(rng.choice(len(faces), count, p=area / area.sum()))
    u, v = rng.random((2, count, 1))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    points = a[drawn] + u * (b - a)[drawn] + v * (c - a)[drawn]
    own = owner[faces[drawn, 0]]
    strewn = Mesh(
        points.astype(np.float32), np.zeros((count, 3), np.uint8), np.zeros((0, 3), np.int32)
    )
    return strewn, tuple(np.flatnonzero(own == index) for index in range(len(members)))


def numpy_statistics(
    points: np.ndarray,
    members: Sequence[np.ndarray],
    frames: Sequence[ScanFrame],
    images: Stored,
    *,
    depth_tolerance: float,
) -> point_views.PointStatistics:
    """What `point_views.point_statistics` finds, as one would write it in NumPy: all points of a
    frame at once, and the objects' rows reduced in place.
    """
    order = np.concatenate(members)
    counts = np.array([len(own) for own in members])
    starts = np.cumsum(counts) - counts
    homogeneous = np.concatenate([points[order].T, np.ones((1, len(order)), points.dtype)])
    found = []
    for frame in frames:
        camera_from_mesh = np.linalg.inv(frame.mesh_from_camera).astype(points.dtype)
        camera = camera_from_mesh[:3] @ homogeneous
        z = camera[2]
        with np.errstate(divide="ignore", invalid="ignore"):
            u, v = ((frame.color_intrinsics.astype(points.dtype) @ camera) / z)[:2]
        width, height = frame.color_size
        touching = (u >= 0) & (u < width) & (v >= 0) & (v < height)
        inside = touching & (z > 0)
        depth = images.depth(frame)
        column = point_views.depth_index(width, depth.shape[1])[np.where(inside, u, 0).astype(int)]
        row = point_views.depth_index(height, depth.shape[0])[np.where(inside, v, 0).astype(int)]
        measured = depth[row, column].astype(points.dtype) / 1000
        deeper = z - measured > depth_tolerance * (measured + point_views.DEPTH_EPS)
        hidden = inside & (measured > 0) & deeper
        shown = inside & ~hidden
        values = np.stack([u, v, *camera])
        low = np.minimum.reduceat(np.where(shown, values, np.inf), starts, axis=1).T
        high = np.maximum.reduceat(np.where(shown, values, -np.inf), starts, axis=1).T
        sums = np.add.reduceat(
            np.stack([touching, inside, hidden]).astype(np.int32), starts, axis=1
        )
        found.append(
            (sums[0] > 0, sums[1], sums[2], low[:, :2], high[:, :2], low[:, 2:], high[:, 2:])
        )
    return point_views.PointStatistics(*(leaf(np.stack(each)) for each in zip(*found, strict=True)))


class Timing(NamedTuple):
    first_s: float  # what the first call takes more than a later one
    seconds: float  # of a later call, the median
    cpu_s: float  # of all cores, the median


def timed(call: Callable[[], object], repeats: int) -> Timing:
    """Times a call and `repeats` more."""
    spent = []
    for _ in range(repeats + 1):
        start, start_cpu = time.perf_counter(), time.process_time()
        call()
        spent.append((time.perf_counter() - start, time.process_time() - start_cpu))
    seconds, cpu = (statistics.median(column) for column in zip(*spent[1:], strict=True))
    return Timing(max(spent[0][0] - seconds, 0.0), seconds, cpu)


def time_points(case: Case, repeats: int) -> list[Rate]:
    """By points in both precisions, and one run of the twin."""
    total = len(case.points.points) * len(case.frames)

    def by_points(settings: views.ViewSettings) -> Callable[[], object]:
        arguments = (case.points, case.point_members, case.frames, case.images)
        return lambda: views.object_views(*arguments, settings=settings)

    fast = dataclasses.replace(views.PUBLISHED, precision="float32")
    rates = []
    for name, settings in (("float32", fast), ("float64, as published", views.PUBLISHED)):
        rates.append(Rate(f"points, {name}", *timed(by_points(settings), repeats), total))
    start, start_cpu = time.perf_counter(), time.process_time()
    numpy_statistics(
        case.points.points,
        case.point_members,
        case.frames,
        case.images,
        depth_tolerance=views.PUBLISHED.depth_tolerance,
    )
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    rates.append(Rate("points, NumPy twin, float32", 0.0, seconds, cpu, total))
    return rates


def time_surfaces(case: Case, frames: int) -> tuple[float, float]:
    """Seconds a frame of the default setting, and of all cores."""
    chosen = case.frames[:frames]
    found = timed(
        lambda: views.object_views(case.surface, case.surface_members, chosen, case.images), 1
    )
    return found.seconds / len(chosen), found.cpu_s / len(chosen)


def bound(case: Case) -> tuple[float, float]:
    """Bytes and operations that the points' kernel cannot do without: the points once a frame,
    every depth image once.
    """
    total = len(case.points.points) * len(case.frames)
    return total * POINT_BYTES + case.images.images.nbytes, total * POINT_FLOPS


def machine_rates() -> tuple[float, float]:
    """Bytes a second of a large copy, read and written, and float32 operations a second of a matrix
    product: what one core (copy) and all of them (product) can do.
    """
    source = np.ones(1 << 24, np.float32)
    into = np.empty_like(source)
    copied = 2 * source.nbytes / timed(lambda: np.copyto(into, source), 3).seconds
    square = np.ones((1024, 1024), np.float32)
    return copied, 2 * 1024**3 / timed(lambda: square @ square, 3).seconds


def peak_memory() -> int:
    """Bytes, of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def table(rates: Sequence[Rate]) -> str:
    """A Markdown table, rates in millions of points times frames a second."""
    rows = [
        "| visibility | compile s | s | cpu s | M point-frames/s | against the published |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    rows += [
        f"| {one.name} | {one.compile_s:.1f} | {one.seconds:.2f} | {one.cpu_s:.2f} "
        f"| {one.per_s / 1e6:.1f} | {one.per_s / PUBLISHED_RATE:.0f} times |"
        for one in rates
    ]
    return "\n".join(rows)


def report(points: int, frames: int, repeats: int, size: tuple[int, int] = SIZE) -> str:
    """Everything that the command prints."""
    case = make_case(points, frames, size)
    rates = time_points(case, repeats)
    moved, operations = bound(case)
    copy_rate, product_rate = machine_rates()
    surface, surface_cpu = time_surfaces(case, min(frames, 4 * PATH_FRAMES))
    lines = [
        f"{points:,} points of {len(case.point_members)} objects in {frames} frames of "
        f"{size[0]} x {size[1]} depth; median of {repeats} runs.",
        "",
        table(rates),
        "",
        f"The published loop does {PUBLISHED_RATE / 1e6:.2f} M point-frames/s: "
        f"{points * frames / PUBLISHED_RATE:,.0f} s.",
        f"Bound by points: {moved / 1e6:,.0f} MB, {moved / copy_rate:.2f} s at the "
        f"{copy_rate / 1e9:.1f} GB/s of a copy; {operations / 1e9:.1f} GFLOP, "
        f"{operations / product_rate:.2f} s at the {product_rate / 1e9:.0f} GFLOP/s of a product.",
        f"By surfaces (default): {surface * 1e3:.0f} ms a frame ({surface_cpu * 1e3:.0f} of cpu), "
        f"mesh of {len(case.surface.faces):,} triangles, pictures of {WIDE[0]} x {WIDE[1]}.",
        f"Peak memory: {peak_memory() / 1e6:,.0f} MB.",
    ]
    return "\n".join(lines)
