"""Where the camera goes in a procedural room, and what it could see from there.

World: metres, z up, the origin in a corner of the floor. Camera: x right, y down, z forward.
"""

import numpy as np

POSES_PER_FRAME = 4  # poses of the path for each frame that gets a picture
FIRST_LEG = 4  # frames that go once along the whole arc and together see the room
SWEEP = (2.2, 2.8)  # radians of the arc; below half a turn, so that a turn reads the same both ways
HEIGHT_RANGE = (1.05, 2.15)  # metres
REACH = (0.34, 0.44)  # distance from the middle, in shares of the room's sides
AIM = 0.14  # how far from the middle the camera aims, in shares of the room's sides
AIM_HEIGHT = (0.35, 0.75)  # metres
ROLL = np.deg2rad(3.0)


def pinhole(width: int, height: int, field_of_view: float) -> np.ndarray:
    """(3, 3) intrinsics of a camera with the given horizontal field of view in radians."""
    focal = width / 2 / np.tan(field_of_view / 2)
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])


def camera_path(
    size: np.ndarray,
    frames: int,
    rng: np.random.Generator,
    *,
    away_from: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """A hand-held walk along an arc near the walls, looking across the room, and back on another
    line.

    Args:
        size: (3,) of the room, metres.
        away_from: (2,) a direction from the middle of the room that the arc leaves free; without
            it the arc may be anywhere.

    Returns:
        (M, 4, 4) world_from_camera of all poses, and (F,) those that get pictures. The first
        `FIRST_LEG` of these go along the whole arc.
    """
    count = frames * POSES_PER_FRAME
    kept = np.arange(frames) * POSES_PER_FRAME
    start, sweep = rng.uniform(0, 2 * np.pi), rng.uniform(*SWEEP) * rng.choice([-1, 1])
    if away_from is not None:
        start = np.arctan2(-away_from[1], -away_from[0]) - sweep / 2
    angle = start + sweep * _along(frames)
    time = 2 * np.pi * np.arange(count) / count

    def wave(low: float, high: float, cycles: tuple[float, float]) -> np.ndarray:
        phase = rng.uniform(0, 2 * np.pi) + rng.uniform(*cycles) * time
        return (low + high) / 2 + (high - low) / 2 * np.sin(phase)

    middle = size[:2] / 2
    reach = wave(*REACH, (1.5, 3.5))[:, None] * size[:2]
    eye = np.column_stack(
        [
            middle + reach * np.column_stack([np.cos(angle), np.sin(angle)]),
            wave(*HEIGHT_RANGE, (1.7, 4.3)),
        ]
    )
    aim = middle + size[:2] * np.column_stack(
        [wave(-AIM, AIM, (1.3, 3.7)), wave(-AIM, AIM, (1.3, 3.7))]
    )
    target = np.column_stack([aim, wave(*AIM_HEIGHT, (2.0, 2.6))])
    return look_at(eye, target, wave(-ROLL, ROLL, (2.6, 3.2))), kept


def _along(frames: int) -> np.ndarray:
    """(M,) place on the arc, 0 to 1: once along it in the first leg, then evenly back."""
    leg = min(FIRST_LEG, frames)
    corner = (leg - 1) * POSES_PER_FRAME
    count = frames * POSES_PER_FRAME
    back = max(count - 1 - corner, 1)
    step = np.arange(count)
    return np.where(step <= corner, step / max(corner, 1), 1 - (step - corner) / back)


def look_at(eye: np.ndarray, target: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """(M, 4, 4) world_from_camera of cameras at `eye` (M, 3), the optical axis through `target`
    (M, 3), turned about it by `roll` (M,) radians, clockwise as the camera sees it. No axis may be
    vertical.
    """
    forward = target - eye
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    level = np.cross(forward, np.array([0.0, 0.0, 1.0]))
    level /= np.linalg.norm(level, axis=1, keepdims=True)
    right = np.cos(roll)[:, None] * level + np.sin(roll)[:, None] * np.cross(forward, level)
    poses = np.tile(np.eye(4), (len(eye), 1, 1))
    poses[:, :3, 0], poses[:, :3, 1], poses[:, :3, 2] = right, np.cross(forward, right), forward
    poses[:, :3, 3] = eye
    return poses


def project(
    points: np.ndarray, world_from_camera: np.ndarray, intrinsics: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """World points (k, 3) in cameras (F, 4, 4): pixels (F, k, 2) and depth (F, k) in metres; pixels
    mean nothing where the depth is not positive.
    """
    offset = points[None] - world_from_camera[:, None, :3, 3]
    local = np.einsum("fkx,fxc->fkc", offset, world_from_camera[:, :3, :3])
    depth = local[..., 2]
    safe = np.where(depth > 0, depth, 1.0)
    pixels = local[..., :2] / safe[..., None] * intrinsics[[0, 1], [0, 1]] + intrinsics[:2, 2]
    return pixels, depth


def share_in_image(
    points: np.ndarray,
    world_from_camera: np.ndarray,
    intrinsics: np.ndarray,
    *,
    width: int,
    height: int,
) -> np.ndarray:
    """(F,) share of the world points (k, 3) that fall into each image."""
    pixels, depth = project(points, world_from_camera, intrinsics)
    inside = (depth > 0) & (pixels >= 0).all(-1) & (pixels < [width, height]).all(-1)
    return inside.mean(axis=1)
