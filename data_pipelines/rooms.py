"""Procedural furnished rooms: a floor plan, furniture that does not interpenetrate, and a hand-held
camera path.

World: metres, z up, the origin in a corner of the floor. Everything follows from a seed.
"""

import dataclasses

import numpy as np

from data_pipelines.furniture import CATEGORIES, Category, local_bounds
from data_pipelines.renderer import Parts, Rendering, Shell, render
from data_pipelines.unified import FrameRecord, ObjectRecord, SceneSource, SeenObject
from geometry_jax.types import leaf

MAX_PARTS, MAX_OBJECTS = 80, 12
PATH_PER_FRAME = 4  # poses of the camera path for each frame that is kept
GAP = 0.12  # metres between footprints
CAMERA_GAP = 0.35  # metres between the camera path and furniture that reaches its height
MIN_SEEN = 0.1  # every object is seen at least this well in two frames
HEIGHT = 2.6  # metres
ATTEMPTS = 60
POINT_SPACING = 0.08  # metres between instance points
SURFACE_POINTS = 600  # on the floor, and on the walls


@dataclasses.dataclass(frozen=True)
class Placed:
    """A piece of furniture in the room."""

    category: Category
    position: np.ndarray  # (2,) metres, of the object frame's origin
    yaw: float  # radians, counter-clockwise
    scale: np.ndarray  # (3,) of the category's own sizes
    tint: np.ndarray  # (3,) factor on all colours

    def obb(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Centre (3,) in world, full sides (3,), yaw."""
        low, high = (bound * self.scale for bound in local_bounds(self.category))
        middle = (low + high) / 2
        return (
            np.append(self.position + turn(self.yaw, middle[:2]), middle[2]),
            high - low,
            self.yaw,
        )

    def parts(self) -> tuple[np.ndarray, np.ndarray]:
        """World centres (p, 3) and half sides (p, 3) of the parts."""
        center = np.array([part.center for part in self.category.parts]) * self.scale
        half = np.array([part.half_extent for part in self.category.parts]) * self.scale
        return np.column_stack([self.position + turn(self.yaw, center[:, :2]), center[:, 2]]), half

    def aabb(self) -> np.ndarray:
        """(6,) x y z minima and maxima of the parts, exact for boxes and ellipsoids."""
        center, half = self.parts()
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        rotation = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
        ball = np.array([part.shape == "ellipsoid" for part in self.category.parts])
        box_reach = half @ np.abs(rotation).T
        ball_reach = np.sqrt((half**2) @ (rotation**2).T)
        reach = np.where(ball[:, None], ball_reach, box_reach)
        return np.concatenate([(center - reach).min(0), (center + reach).max(0)])


@dataclasses.dataclass(frozen=True)
class Room:
    """A furnished room with its camera path and pictures."""

    size: np.ndarray  # (3,) metres
    objects: tuple[Placed, ...]
    path: np.ndarray  # (M, 4, 4) world_from_camera, all poses
    kept: np.ndarray  # (F,) which poses have pictures
    intrinsics: np.ndarray  # (3, 3)
    rendering: Rendering


def turn(yaw: float, xy: np.ndarray) -> np.ndarray:
    """(..., 2) rotated by yaw."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    return xy @ np.array([[cos, sin], [-sin, cos]])


def footprint(placed: Placed) -> np.ndarray:
    """(4, 2) corners of the oriented box seen from above."""
    center, extent, yaw = placed.obb()
    signs = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    return center[:2] + turn(yaw, signs * extent[:2])


def separation(a: np.ndarray, b: np.ndarray) -> float:
    """Largest gap between two convex quadrilaterals over their edge normals; negative when they
    overlap.
    """
    gaps = []
    for corners in (a, b):
        edges = np.roll(corners, -1, 0) - corners
        normals = np.column_stack([edges[:, 1], -edges[:, 0]])
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        low_a, high_a = (a @ normals.T).min(0), (a @ normals.T).max(0)
        low_b, high_b = (b @ normals.T).min(0), (b @ normals.T).max(0)
        gaps.append(np.maximum(low_a - high_b, low_b - high_a).max())
    return float(max(gaps))


def camera_path(size: np.ndarray, frames: int, rng: np.random.Generator) -> np.ndarray:
    """(M, 4, 4) poses on a wavy loop near the walls, looking across the room, as somebody walking
    round would.
    """
    count = frames * PATH_PER_FRAME
    turns = rng.uniform(0.75, 1.0) * rng.choice([-1, 1])
    angle = rng.uniform(0, 2 * np.pi) + turns * 2 * np.pi * np.arange(count) / count

    def wave(low: float, high: float, cycles: float) -> np.ndarray:
        phase = rng.uniform(0, 2 * np.pi)
        return (low + high) / 2 + (high - low) / 2 * np.sin(phase + cycles * angle)

    middle = size[:2] / 2
    reach = wave(0.34, 0.43, rng.uniform(1.5, 3.5))[:, None] * size[:2]
    eye = middle + reach * np.column_stack([np.cos(angle), np.sin(angle)])
    height = wave(1.05, 2.15, rng.uniform(1.7, 4.3))
    aim = middle + size[:2] * np.column_stack(
        [wave(-0.16, 0.16, rng.uniform(1.3, 3.7)), wave(-0.16, 0.16, rng.uniform(1.3, 3.7))]
    )
    eye = np.column_stack([eye, height])
    target = np.column_stack([aim, wave(0.35, 0.75, 2.3)])
    forward = target - eye
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    right = np.cross(forward, np.array([0.0, 0.0, 1.0]))
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    down = np.cross(forward, right)
    roll = np.deg2rad(wave(-3.0, 3.0, 2.9))[:, None]
    tilted = np.cos(roll) * right + np.sin(roll) * down
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, 0], poses[:, :3, 1], poses[:, :3, 2] = tilted, np.cross(forward, tilted), forward
    poses[:, :3, 3] = eye
    return poses


def _choose(rng: np.random.Generator) -> list[Category]:
    """5 to 9 pieces: one small category two to four times, the rest once each."""
    small = [category for category in CATEGORIES if category.small]
    repeated = small[rng.integers(len(small))]
    copies = int(rng.choice([2, 3, 4], p=[0.34, 0.33, 0.33]))
    others = [category for category in CATEGORIES if category is not repeated]
    unique = rng.permutation(len(others))[: int(rng.integers(4, 7))]
    return [others[index] for index in unique] + [repeated] * copies


def _place(
    category: Category,
    size: np.ndarray,
    path: np.ndarray,
    taken: list[Placed],
    rng: np.random.Generator,
) -> Placed | None:
    """A place for one piece, clear of walls, pieces and the camera; None when there is none."""
    scale = np.append(np.repeat(rng.uniform(0.9, 1.1), 2), rng.uniform(0.92, 1.08))
    tint = rng.uniform(0.9, 1.08) * rng.uniform(0.96, 1.04, 3)
    low, high = local_bounds(category)
    for _ in range(ATTEMPTS):
        if category.by_wall:
            wall = int(rng.integers(4))  # where its back is: y = 0, x = size, y = size, x = 0
            yaw = wall * np.pi / 2
            span = size[0] if wall % 2 == 0 else size[1]
            reach = (high[0] - low[0]) / 2 * scale[0]
            if span <= 2 * reach + 0.1:
                continue
            along = rng.uniform(reach + 0.05, span - reach - 0.05)
            back = -low[1] * scale[1] + 0.03
            spots = ((along, back), (size[0] - back, along), (along, size[1] - back), (back, along))
            position = np.array(spots[wall])
        else:
            yaw = float(rng.uniform(-np.pi, np.pi))
            position = rng.uniform([0.4, 0.4], size[:2] - 0.4)
        placed = Placed(category, position, float(yaw), scale, tint)
        corners = footprint(placed)
        if (corners < 0.02).any() or (corners > size[:2] - 0.02).any():
            continue
        if any(separation(corners, footprint(other)) < GAP for other in taken):
            continue
        top = placed.aabb()[5]
        blocking = path[path[:, 2, 3] < top + 0.25]
        offset = turn(-yaw, blocking[:, :2, 3] - placed.obb()[0][:2])
        beyond = np.maximum(np.abs(offset) - placed.obb()[1][:2] / 2, 0.0)
        if (np.linalg.norm(beyond, axis=1) < CAMERA_GAP).any():
            continue
        return placed
    return None


def _parts_of(objects: tuple[Placed, ...]) -> Parts:
    center, half = np.zeros((MAX_PARTS, 3)), np.ones((MAX_PARTS, 3))
    yaw, ellipsoid = np.zeros(MAX_PARTS), np.zeros(MAX_PARTS, bool)
    color, owner = np.zeros((MAX_PARTS, 3)), np.full(MAX_PARTS, -1)
    at = 0
    for index, placed in enumerate(objects):
        own = slice(at, at + len(placed.category.parts))
        center[own], half[own] = placed.parts()
        yaw[own], owner[own] = placed.yaw, index
        ellipsoid[own] = [part.shape == "ellipsoid" for part in placed.category.parts]
        color[own] = np.clip([np.array(p.color) * placed.tint for p in placed.category.parts], 0, 1)
        at = own.stop
    f32 = np.float32
    return Parts(
        *map(leaf, (center.astype(f32), half.astype(f32), yaw.astype(f32))),
        *map(leaf, (ellipsoid, color.astype(f32), owner)),
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


def pinhole(width: int, height: int, field_of_view: float) -> np.ndarray:
    """(3, 3) intrinsics of a camera with the given horizontal field of view in radians."""
    focal = width / 2 / np.tan(field_of_view / 2)
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])


def make_room(
    seed: tuple[int, ...], *, frames: int, width: int, height: int, field_of_view: float
) -> Room:
    """A room in which every object is seen in at least two frames.

    Raises:
        RuntimeError: no such room was found; more frames or a wider view would help.
    """
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng((*seed, attempt))
        size = np.array([rng.uniform(4.2, 6.0), rng.uniform(3.8, 5.2), HEIGHT])
        path = camera_path(size, frames, rng)
        taken: list[Placed] = []
        for category in sorted(_choose(rng), key=lambda c: (not c.by_wall, c.small)):
            placed = _place(category, size, path, taken, rng)
            if placed is not None:
                taken.append(placed)
        labels = [placed.category.label for placed in taken]
        if len(set(labels)) < 5 or max(labels.count(label) for label in labels) < 2:
            continue
        objects = tuple(taken)
        kept = np.arange(frames) * PATH_PER_FRAME
        intrinsics = pinhole(width, height, field_of_view)
        rendering = render(
            _parts_of(objects),
            _shell(size, rng),
            path[kept],
            intrinsics,
            width=width,
            height=height,
            num_objects=MAX_OBJECTS,
        )
        share = visibility(rendering)[:, : len(objects)]
        if ((share >= MIN_SEEN).sum(0) >= min(2, frames)).all():
            return Room(size, objects, path, kept, intrinsics, rendering)
    raise RuntimeError(f"seed {seed}: found no room whose objects are all seen in {frames} frames.")


def visibility(rendering: Rendering) -> np.ndarray:
    """(F, N) share of the pixels that the object would cover alone, on an unbounded canvas, that
    show it.
    """
    return np.asarray(rendering.seen) / np.maximum(np.asarray(rendering.alone), 1.0)


def surface_points(placed: Placed, spacing: float, rng: np.random.Generator) -> np.ndarray:
    """(k, 3) world points on the surfaces of the parts, about one for each `spacing` squared,
    corners included.
    """
    clouds = []
    center, half = placed.parts()
    for part, middle, reach in zip(placed.category.parts, center, half, strict=True):
        area = 8 * (reach[0] * reach[1] + reach[1] * reach[2] + reach[0] * reach[2])
        count = max(24, int(area / spacing**2))
        if part.shape == "ellipsoid":
            local = rng.normal(size=(count, 3))
            local = np.concatenate([local, np.eye(3), -np.eye(3)])
            # The extreme points in world axes, so that the cloud's box is the object's.
            local[-6:, :2] = np.concatenate([_extremes(placed.yaw, reach), local[-2:, :2]])[
                [0, 1, 4, 2, 3, 5]
            ]
            local = local / np.linalg.norm(local, axis=1, keepdims=True) * reach
        else:
            local = rng.uniform(-1, 1, (count, 3))
            face = rng.choice(3, count, p=_face_shares(reach))
            local[np.arange(count), face] = np.sign(local[np.arange(count), face])
            corners = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
            local = np.concatenate([local, corners]) * reach
        clouds.append(np.column_stack([turn(placed.yaw, local[:, :2]), local[:, 2]]))
        clouds[-1] += [*middle[:2], middle[2]]
    return np.concatenate(clouds)


def _extremes(yaw: float, reach: np.ndarray) -> np.ndarray:
    """(4, 2) points of the unit circle that an ellipse turned by yaw maps to its extreme x and y:
    +x, +y, -x, -y.
    """
    cos, sin = np.cos(yaw), np.sin(yaw)
    towards = np.array([[cos * reach[0], -sin * reach[1]], [sin * reach[0], cos * reach[1]]])
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    return np.concatenate([towards, -towards])


def _face_shares(reach: np.ndarray) -> np.ndarray:
    areas = np.array([reach[1] * reach[2], reach[0] * reach[2], reach[0] * reach[1]])
    return areas / areas.sum()


def _frame_record(room: Room, row: int) -> FrameRecord:
    """What picture `row` of the room shows."""
    rendering = room.rendering
    depth, instance = np.asarray(rendering.depth[row]), np.asarray(rendering.instance[row])
    height, width = depth.shape
    v, u = np.mgrid[:height, :width] + 0.5
    x = (u - room.intrinsics[0, 2]) / room.intrinsics[0, 0] * depth
    y = (v - room.intrinsics[1, 2]) / room.intrinsics[1, 1] * depth
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
    color = np.rint(rendering.color[row] * 255).astype(np.uint8)
    return FrameRecord(int(room.kept[row]), color, depth, tuple(seen))


def scene_source(room: Room, scene_id: str, seed: tuple[int, ...]) -> SceneSource:
    """The room as a scene to be written; instance points are drawn from `seed`."""
    rng = np.random.default_rng((*seed, 1))
    objects = []
    for index, placed in enumerate(room.objects):
        center, extent, yaw = placed.obb()
        objects.append(
            ObjectRecord(
                object_id=index + 1,
                label=placed.category.label,
                aabb=placed.aabb(),
                obb_center=center,
                obb_extent=extent,
                obb_yaw=yaw,
                points=surface_points(placed, POINT_SPACING, rng),
                color=np.rint(np.array(placed.category.color) * 255).astype(np.uint8),
            )
        )
    length, width, height = room.size
    floor = rng.uniform([0, 0], [length, width], (SURFACE_POINTS, 2))
    along = rng.uniform(0, 1, (SURFACE_POINTS, 2)) * [2 * (length + width), height]
    corners = np.array([0, length, length + width, 2 * length + width])
    side = np.searchsorted(corners, along[:, 0], side="right") - 1
    rest = along[:, 0] - corners[side]
    wall_x = np.choose(side, [rest, np.full_like(rest, length), length - rest, np.zeros_like(rest)])
    wall_y = np.choose(side, [np.zeros_like(rest), rest, np.full_like(rest, width), width - rest])
    return SceneSource(
        scene_id=scene_id,
        room_size=float(length * width),
        floor_polygon=np.array([[0, 0], [length, 0], [length, width], [0, width]]),
        objects=tuple(objects),
        frames=tuple(_frame_record(room, row) for row in range(len(room.kept))),
        poses=room.path,
        intrinsics=room.intrinsics,
        surfaces=(
            (
                "floor",
                np.column_stack([floor, np.zeros(SURFACE_POINTS)]),
                np.array([163, 153, 140]),
            ),
            ("wall", np.column_stack([wall_x, wall_y, along[:, 1]]), np.array([210, 205, 200])),
        ),
    )
