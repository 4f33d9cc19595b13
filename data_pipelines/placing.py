"""Furniture in a room: where a piece stands, its boxes and surface points. No two overlap.

World: metres, z up, the origin in a corner of the floor.
"""

import dataclasses

import numpy as np

from data_pipelines.cameras import share_in_image
from data_pipelines.furniture import Category, local_bounds

GAP = 0.12  # metres between footprints
WALL_GAP = 0.03  # metres behind furniture that stands by a wall
CAMERA_GAP = 0.35  # metres between the camera path and furniture that reaches its height
HEAD_ROOM = 0.25  # metres by which the camera clears furniture that it passes over
IN_IMAGE = 0.6  # share of a box's corners that lie in an image which shows the piece
ATTEMPTS = 60


@dataclasses.dataclass(frozen=True)
class Views:
    """The camera's whole path, and which pictures it takes."""

    path: np.ndarray  # (M, 4, 4) world_from_camera
    kept: np.ndarray  # (F,) the poses with pictures
    intrinsics: np.ndarray  # (3, 3)
    width: int
    height: int


@dataclasses.dataclass(frozen=True)
class Placed:
    """A piece of furniture in the room."""

    category: Category
    position: np.ndarray  # (2,) metres, of the object frame's origin
    yaw: float  # radians, counter-clockwise
    scale: np.ndarray  # (3,) of the category's own sizes
    tint: np.ndarray  # (3,) factor on all colours
    elevation: float = 0.0  # metres of its lowest point above the floor

    def obb(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Centre (3,) in world, full sides (3,), yaw."""
        low, high = (bound * self.scale for bound in local_bounds(self.category))
        middle = (low + high) / 2
        plane = self.position + turn(self.yaw, middle[:2])
        center = np.append(plane, middle[2] + self.elevation)
        return center, high - low, self.yaw

    def corners(self) -> np.ndarray:
        """(8, 3) world corners of the oriented box, the four of the floor first."""
        center, extent, yaw = self.obb()
        signs = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
        plane = center[:2] + turn(yaw, signs * extent[:2])
        heights = np.repeat([center[2] - extent[2] / 2, center[2] + extent[2] / 2], 4)
        return np.column_stack([np.tile(plane, (2, 1)), heights])

    def parts(self) -> tuple[np.ndarray, np.ndarray]:
        """World centres (p, 3) and half sides (p, 3) of the parts."""
        center = np.array([part.center for part in self.category.parts]) * self.scale
        half = np.array([part.half_extent for part in self.category.parts]) * self.scale
        plane = self.position + turn(self.yaw, center[:, :2])
        return np.column_stack([plane, center[:, 2] + self.elevation]), half

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

    def color(self, base: tuple[float, float, float]) -> np.ndarray:
        """(3,) a colour of the category as this piece has it, 0 to 1."""
        return np.clip(np.array(base) * self.tint, 0, 1)


def turn(yaw: float, xy: np.ndarray) -> np.ndarray:
    """(..., 2) rotated by yaw."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    return xy @ np.array([[cos, sin], [-sin, cos]])


def separation(a: np.ndarray, b: np.ndarray) -> float:
    """Largest gap between two convex quadrilaterals (4, 2) over their edge normals, metres;
    negative when they overlap.
    """
    edges = np.concatenate([np.roll(a, -1, 0) - a, np.roll(b, -1, 0) - b])
    normals = np.stack([edges[:, 1], -edges[:, 0]]) / np.linalg.norm(edges, axis=1)
    along_a, along_b = a @ normals, b @ normals
    gap = np.maximum(along_a.min(0) - along_b.max(0), along_b.min(0) - along_a.max(0))
    return float(gap.max())


def place(
    category: Category,
    size: np.ndarray,
    views: Views,
    taken: list[Placed],
    rng: np.random.Generator,
    *,
    first: int,
    least: int,
) -> Placed | None:
    """A place for one piece, clear of walls, other pieces and the camera, and in the view of one of
    the `first` pictures and of `least` of all pictures; None when there is none.
    """
    scale = np.append(np.repeat(rng.uniform(0.9, 1.1), 2), rng.uniform(0.92, 1.08))
    tint = rng.uniform(0.92, 1.06) * rng.uniform(0.96, 1.04, 3)
    footprints = [other.corners()[:4, :2] for other in taken]
    for _ in range(ATTEMPTS):
        position, yaw = _spot(category, size, scale, rng)
        placed = Placed(category, position, yaw, scale, tint)
        corners = placed.corners()
        footprint = corners[:4, :2]
        if (footprint < WALL_GAP / 2).any() or (footprint > size[:2] - WALL_GAP / 2).any():
            continue
        if any(separation(footprint, other) < GAP for other in footprints):
            continue
        if blocks(placed, views.path):
            continue
        share = share_in_views(corners, views)
        if (share[:first] >= IN_IMAGE).any() and (share >= IN_IMAGE).sum() >= least:
            return placed
    return None


def share_in_views(points: np.ndarray, views: Views) -> np.ndarray:
    """(F,) share of the world points (k, 3) that fall into each picture."""
    return share_in_image(
        points, views.path[views.kept], views.intrinsics, width=views.width, height=views.height
    )


def _spot(
    category: Category, size: np.ndarray, scale: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """A random position and yaw; for furniture of the walls, its back is to one of them."""
    if not category.by_wall:
        return rng.uniform([0.4, 0.4], size[:2] - 0.4), float(rng.uniform(-np.pi, np.pi))
    low, high = local_bounds(category)
    wall = int(rng.integers(4))  # where its back is: y = 0, x = size, y = size, x = 0
    reach = (high[0] - low[0]) / 2 * scale[0] + WALL_GAP
    along = float(rng.uniform(reach, (size[0] if wall % 2 == 0 else size[1]) - reach))
    back = -low[1] * scale[1] + WALL_GAP
    spots = ((along, back), (size[0] - back, along), (along, size[1] - back), (back, along))
    return np.array(spots[wall]), wall * np.pi / 2


def blocks(placed: Placed, path: np.ndarray) -> bool:
    """Whether a piece stands in the camera's way."""
    center, extent, yaw = placed.obb()
    low = path[path[:, 2, 3] < center[2] + extent[2] / 2 + HEAD_ROOM]
    offset = turn(-yaw, low[:, :2, 3] - center[:2])
    beyond = np.maximum(np.abs(offset) - extent[:2] / 2, 0.0)
    return bool((np.linalg.norm(beyond, axis=1) < CAMERA_GAP).any())


def surface_points(placed: Placed, spacing: float, rng: np.random.Generator) -> np.ndarray:
    """(k, 3) world points on the surfaces of the parts, about one for each `spacing` squared, so
    that their box is exactly the object's: corners of boxes, extreme points of ellipsoids included.
    """
    clouds = []
    center, half = placed.parts()
    for part, middle, reach in zip(placed.category.parts, center, half, strict=True):
        x, y, z = reach
        count = max(24, int(8 * (x * y + y * z + x * z) / spacing**2))
        if part.shape == "ellipsoid":
            local = rng.normal(size=(count, 3))
            local = np.concatenate([local, _extremes(placed.yaw, reach), np.eye(3), -np.eye(3)])
            local = local / np.linalg.norm(local, axis=1, keepdims=True) * reach
        else:
            local = rng.uniform(-1, 1, (count, 3))
            areas = np.array([y * z, x * z, x * y])
            face = rng.choice(3, count, p=areas / areas.sum())
            local[np.arange(count), face] = np.sign(local[np.arange(count), face])
            corners = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), -1).reshape(-1, 3)
            local = np.concatenate([local, corners]) * reach
        clouds.append(middle + np.column_stack([turn(placed.yaw, local[:, :2]), local[:, 2]]))
    return np.concatenate(clouds)


def _extremes(yaw: float, reach: np.ndarray) -> np.ndarray:
    """(4, 3) points of the unit circle that an ellipse with half axes `reach`, turned by yaw, maps
    to its extreme world x and y.
    """
    cos, sin = np.cos(yaw), np.sin(yaw)
    towards = np.array([[cos * reach[0], -sin * reach[1], 0], [sin * reach[0], cos * reach[1], 0]])
    return np.concatenate([towards, -towards])
