"""Procedural furnished rooms: a floor plan, furniture that does not interpenetrate, and a hand-held
camera path.

World: metres, z up, the origin in a corner of the floor. Everything follows from a seed.
"""

import dataclasses

import numpy as np

from data_pipelines.cameras import FIRST_LEG, camera_path, pinhole
from data_pipelines.furniture import CATEGORIES, Category
from data_pipelines.placing import Placed, Views, place, surface_points
from data_pipelines.plan import Plan
from data_pipelines.renderer import (
    PADDING,
    STRUCTURE,
    TEXTURES,
    Parts,
    Rendering,
    Shell,
    render,
)
from data_pipelines.unified import (
    FrameRecord,
    ObjectRecord,
    SceneSource,
    SeenObject,
    jpeg_bytes,
    labelled_mesh,
)
from geometry_jax.scene_io import path_headings
from geometry_jax.types import leaf

MAX_PARTS, MAX_OBJECTS = 80, 12  # fixed shapes: the renderer is compiled once
MAX_PARTS_LIVED_IN, MOST_LIVED_IN = 240, 28  # likewise, in rooms with textures
MOST, LEAST_LABELS = 9, 5  # objects of a room; different labels
LENGTH, WIDTH, HEIGHT = (4.2, 6.0), (3.6, 5.2), 2.6  # metres
COPIES = (0.36, 0.34, 0.30)  # shares of two, three, four of a kind, before some find no place
MIN_SEEN = 0.1  # what counts as seen: this share of the object
LEAST_FRAMES = 2  # in which every object is seen, and in one of the first leg
ATTEMPTS = 60
POINT_SPACING = 0.08  # metres between instance points
SURFACE_POINTS = 600  # on the floor, and on the walls


class NoRoomError(RuntimeError):
    """No room in which every object is seen."""


@dataclasses.dataclass(frozen=True)
class Room:
    """A furnished room with its camera path and pictures."""

    plan: Plan
    shell: Shell
    objects: tuple[Placed, ...]
    views: Views
    rendering: Rendering  # of the poses that are kept


def _choose(rng: np.random.Generator) -> list[Category]:
    """One small category two to four times, the rest once each. Large ones come first, while there
    is space, then the repeated one, so that all counts stay about equally frequent.
    """
    small = [category for category in CATEGORIES if category.small]
    repeated = small[rng.integers(len(small))]
    copies = int(rng.choice([2, 3, 4], p=COPIES))
    others = [category for category in CATEGORIES if category is not repeated]
    unique = rng.permutation(len(others))[: int(rng.integers(4, min(6, MOST - copies) + 1))]
    chosen = [others[index] for index in unique] + [repeated] * copies
    return sorted(chosen, key=lambda one: (not one.by_wall, one.small, one is not repeated))


def _furnish(size: np.ndarray, views: Views, rng: np.random.Generator) -> tuple[Placed, ...]:
    """The pieces for which there is a place."""
    taken: list[Placed] = []
    least = min(LEAST_FRAMES, len(views.kept) - 1)
    for category in _choose(rng):
        placed = place(category, size, views, taken, rng, first=FIRST_LEG, least=least)
        if placed is not None:
            taken.append(placed)
    return tuple(taken)


def _parts_of(plan: Plan, objects: tuple[Placed, ...], shell: Shell, *, textured: bool) -> Parts:
    most = MAX_PARTS_LIVED_IN if textured else MAX_PARTS
    center, half = np.zeros((most, 3)), np.ones((most, 3))
    yaw, ellipsoid = np.zeros(most), np.zeros(most, bool)
    color, owner = np.zeros((most, 3)), np.full(most, PADDING)
    texture = np.zeros(most, np.int32)
    at = 0
    for index, placed in enumerate(objects):
        own = slice(at, at + len(placed.category.parts))
        center[own], half[own] = placed.parts()
        yaw[own], owner[own] = placed.yaw, index
        ellipsoid[own] = [part.shape == "ellipsoid" for part in placed.category.parts]
        color[own] = [placed.color(part.color) for part in placed.category.parts]
        texture[own] = [TEXTURES.index(part.texture) for part in placed.category.parts]
        at = own.stop
    if plan.cut is not None:
        low, high = plan.cut[:2], plan.cut[2:]
        center[at, :2], half[at, :2] = (low + high) / 2, (high - low) / 2
        center[at, 2] = half[at, 2] = plan.size[2] / 2
        color[at], owner[at] = np.asarray(shell.wall_color[0]), STRUCTURE
    f32 = np.float32
    return Parts(
        *map(leaf, (center.astype(f32), half.astype(f32), yaw.astype(f32))),
        *map(leaf, (ellipsoid, color.astype(f32), owner)),
        texture=leaf(texture) if textured else None,
    )


def _shell(size: np.ndarray, rng: np.random.Generator) -> Shell:
    """Pale surfaces of differing tints, so that furniture stands out and the walls can be told
    apart.
    """
    walls = np.array(
        [[0.86, 0.80, 0.74], [0.74, 0.80, 0.88], [0.80, 0.86, 0.78], [0.88, 0.78, 0.84]]
    )
    walls = walls[rng.permutation(4)] * rng.uniform(0.93, 1.05, (4, 1))
    tile = np.array([0.64, 0.60, 0.55]) * rng.uniform(0.92, 1.06, 3)
    f32 = np.float32
    return Shell(
        leaf(size.astype(f32)),
        leaf(walls.astype(f32)),
        leaf(np.stack([tile, tile * 0.86]).astype(f32)),
        leaf(np.array([0.95, 0.95, 0.95], f32)),
    )


def make_room(
    seed: tuple[int, ...], *, frames: int, width: int, height: int, field_of_view: float
) -> Room:
    """A room in which the first frames together see every object, and two of all frames see each.

    Args:
        seed: everything follows from it.
        field_of_view: horizontal, radians.

    Raises:
        NoRoomError: no such room was found; more frames or a wider view would help.
    """
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng((*seed, attempt))
        size = np.array([rng.uniform(*LENGTH), rng.uniform(*WIDTH), HEIGHT])
        path, kept = camera_path(size, frames, rng)
        if np.ptp(path_headings(path)) >= np.pi:
            continue  # a turn to the left by more than that would look like one to the right
        views = Views(path, kept, pinhole(width, height, field_of_view), width, height)
        objects = _furnish(size, views, rng)
        labels = [placed.category.label for placed in objects]
        if len(set(labels)) < LEAST_LABELS or len(set(labels)) == len(labels):
            continue
        shell = _shell(size, rng)
        rendering = render_views(Plan(size), objects, shell, views, path[kept])
        seen = visibility(rendering)[:, : len(objects)] >= MIN_SEEN
        enough = seen.sum(0) >= min(LEAST_FRAMES, frames - 1)
        if enough.all() and seen[:FIRST_LEG].any(0).all():
            return Room(Plan(size), shell, objects, views, rendering)
    raise NoRoomError(
        f"seed {seed}: found no room whose objects are all seen in {frames} frames of "
        f"{np.rad2deg(field_of_view):.0f} degrees; use more frames or a wider view."
    )


def render_views(
    plan: Plan, objects: tuple[Placed, ...], shell: Shell, views: Views, poses: np.ndarray
) -> Rendering:
    """Pictures of a furnished room from `poses` (F, 4, 4). Rooms with planks or skirting have
    textures and shadows.
    """
    textured = shell.planks is not None
    return render(
        _parts_of(plan, objects, shell, textured=textured),
        shell,
        poses,
        views.intrinsics,
        width=views.width,
        height=views.height,
        num_objects=MOST_LIVED_IN if textured else MAX_OBJECTS,
    )


def render_path(room: Room) -> Rendering:
    """The room from every pose of its path, also those that the room keeps no picture of."""
    return render_views(room.plan, room.objects, room.shell, room.views, room.views.path)


def visibility(rendering: Rendering) -> np.ndarray:
    """(F, N) share of the pixels that the object would cover alone, on an unbounded canvas, that
    show it.
    """
    return np.asarray(rendering.seen) / np.maximum(np.asarray(rendering.alone), 1.0)


def _frame_record(room: Room, row: int) -> FrameRecord:
    """What picture `row` of the room shows."""
    rendering = room.rendering
    depth, instance = np.asarray(rendering.depth[row]), np.asarray(rendering.instance[row])
    height, width = depth.shape
    v, u = np.mgrid[:height, :width] + 0.5
    x = (u - room.views.intrinsics[0, 2]) / room.views.intrinsics[0, 0] * depth
    y = (v - room.views.intrinsics[1, 2]) / room.views.intrinsics[1, 1] * depth
    points = np.stack([x, y, depth], axis=-1)
    share = visibility(rendering)[row]
    seen = []
    for index in range(len(room.objects)):
        rows, columns = np.nonzero(instance == index)
        if not len(rows):
            continue
        own = points[rows, columns]
        hidden = rendering.inside[row, index] - rendering.seen[row, index]
        seen.append(
            SeenObject(
                object_id=index + 1,
                visibility=float(min(share[index], 1.0)),
                truncated=bool(rendering.alone[row, index] > rendering.inside[row, index]),
                occluded=bool(hidden > 0),
                bbox_2d=(
                    int(columns.min()),
                    int(rows.min()),
                    int(columns.max()) + 1,
                    int(rows.max()) + 1,
                ),
                camera_location=(own.min(0) + own.max(0)) / 2,
            )
        )
    return FrameRecord(
        int(room.views.kept[row]),
        jpeg_bytes(np.asarray(rendering.color[row])),
        (width, height),
        np.clip(np.rint(depth * 1000), 0, 65535).astype(np.uint16),
        tuple(seen),
    )


def scene_source(room: Room, scene_id: str, seed: tuple[int, ...]) -> SceneSource:
    """The room as a scene to be written; instance points are drawn from `seed`."""
    rng = np.random.default_rng((*seed, 1))
    objects, colors = [], []
    for index, placed in enumerate(room.objects):
        center, extent, yaw = placed.obb()
        colors.append(np.rint(placed.color(placed.category.color) * 255).astype(np.uint8))
        objects.append(
            ObjectRecord(
                object_id=index + 1,
                label=placed.category.label,
                aabb=placed.aabb(),
                obb_center=center,
                obb_extent=extent,
                obb_yaw=yaw,
                points=surface_points(placed, POINT_SPACING, rng),
            )
        )
    surfaces = _surfaces(room, rng)
    things = [(one.label, one.points, color) for one, color in zip(objects, colors, strict=True)]
    return SceneSource(
        scene_id=scene_id,
        room_size=room.plan.area,
        floor_polygon=room.plan.polygon(),
        objects=tuple(objects),
        frames=tuple(_frame_record(room, row) for row in range(len(room.views.kept))),
        poses=room.views.path,
        pose_ids=tuple(range(len(room.views.path))),
        intrinsics=room.views.intrinsics,
        depth_intrinsics=room.views.intrinsics,
        mesh=labelled_mesh([*surfaces, *things], surfaces=len(surfaces)),
        world_from_mesh=np.eye(4),
    )


def _surfaces(
    room: Room, rng: np.random.Generator
) -> tuple[tuple[str, np.ndarray, np.ndarray], ...]:
    """Label, points (k, 3) and colour of the floor and the walls, evenly strewn."""
    floors, walls = room.plan.floors(), room.plan.walls()
    areas = np.array([np.prod(high - low) for low, high in floors])
    low, high = map(np.stack, zip(*floors, strict=True))
    which = rng.choice(len(floors), SURFACE_POINTS, p=areas / areas.sum())
    floor = low[which] + rng.uniform(0, 1, (SURFACE_POINTS, 2)) * (high - low)[which]
    starts, runs = map(np.stack, zip(*walls, strict=True))
    lengths = np.linalg.norm(runs, axis=1)
    which = rng.choice(len(walls), SURFACE_POINTS, p=lengths / lengths.sum())
    wall = starts[which] + rng.uniform(0, 1, (SURFACE_POINTS, 1)) * runs[which]
    heights = rng.uniform(0, room.plan.size[2], SURFACE_POINTS)
    return (
        ("floor", np.column_stack([floor, np.zeros(SURFACE_POINTS)]), np.array([163, 153, 140])),
        ("wall", np.column_stack([wall, heights]), np.array([210, 205, 200])),
    )
