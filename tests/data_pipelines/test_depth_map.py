"""Depth of meshes against cases worked by hand, rays cast one by one, and the rooms' renderer."""

import numpy as np
import pytest

from data_pipelines import rooms
from data_pipelines.cameras import pinhole
from data_pipelines.raster import NEAR, depth_map
from data_pipelines.room_scan import room_scan

SIZE = (64, 48)
CAMERA = pinhole(*SIZE, np.deg2rad(90.0))  # focal length 32 pixels


def rays(intrinsics: np.ndarray = CAMERA, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W, 3) directions through the middles of the pixels, z = 1."""
    v, u = np.mgrid[: size[1], : size[0]] + 0.5
    x, y = (u - intrinsics[0, 2]) / intrinsics[0, 0], (v - intrinsics[1, 2]) / intrinsics[1, 1]
    return np.stack([x, y, np.ones_like(x)], -1)


def cast(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(H, W) depth of the nearest triangle along every ray, each against all (Cramer's rule)."""
    direction = rays().reshape(-1, 3)
    a, b, c = points[faces].swapaxes(0, 1)
    normal = np.cross(b - a, c - a)
    depth = (a * normal).sum(1) / (direction @ normal.T)  # (R, T)
    hit = depth[..., None] * direction[:, None]
    inside = [
        (np.cross(end - start, hit - start) * normal).sum(-1) >= 0
        for start, end in ((a, b), (b, c), (c, a))
    ]
    depth = np.where(np.all(inside, axis=0) & (depth >= NEAR), depth, np.inf).min(1)
    return np.where(np.isfinite(depth), depth, 0).reshape(SIZE[::-1])


def test_slanted_triangle_has_the_depth_of_its_plane() -> None:
    # The plane x + z = 4: depth 4 / (1 + x / z) along a ray.
    points = np.array([[-30.0, -40, 34], [-30, 40, 34], [3.9, 0, 0.1]])
    depth = depth_map(points, np.array([[0, 1, 2]]), np.eye(4), CAMERA, SIZE)
    expected = 4 / (1 + rays()[..., 0])
    assert depth[24, 4:] == pytest.approx(expected[24, 4:], rel=1e-5)  # it ends at depth 34
    covered = depth > 0
    assert depth[covered] == pytest.approx(expected[covered], rel=1e-5)
    assert 0.5 < covered.mean() < 1


def test_face_that_reaches_behind_the_camera_is_cut_off() -> None:
    # A floor 1.5 m below the camera, in two triangles that begin 50 m behind it.
    points = np.array([[-99.0, 1.5, -50], [99, 1.5, -50], [99, 1.5, 99], [-99, 1.5, 99]])
    depth = depth_map(points, np.array([[0, 1, 2], [0, 2, 3]]), np.eye(4), CAMERA, SIZE)
    rows = np.arange(26, 48)
    expected = np.repeat(1.5 / rays()[rows, :1, 1], SIZE[0], axis=1)
    # Coordinates at the near plane are large, and sums in float32.
    assert depth[rows] == pytest.approx(expected, rel=2e-3)
    assert (depth[:24] == 0).all()


def test_nothing_behind_the_camera_is_drawn() -> None:
    points = np.array([[-1.0, -1, -2], [1, -1, -2], [0, 1, -2]])
    assert (depth_map(points, np.array([[0, 1, 2]]), np.eye(4), CAMERA, SIZE) == 0).all()


def test_mesh_without_faces_shows_nothing() -> None:
    empty = np.zeros((0, 3))
    assert (depth_map(empty, empty.astype(int), np.eye(4), CAMERA, SIZE) == 0).all()


def test_no_pixel_falls_between_faces() -> None:
    rng = np.random.default_rng(3)
    steps = 61
    x, y = np.meshgrid(np.linspace(-3, 3, steps), np.linspace(-2.5, 2.5, steps), indexing="ij")
    points = np.stack([x, y, np.full_like(x, 2.0)], -1)
    points[..., :2] += rng.uniform(-0.02, 0.02, (steps, steps, 2))
    at = np.arange(steps**2).reshape(steps, steps)
    a, b, c, d = at[:-1, :-1], at[1:, :-1], at[1:, 1:], at[:-1, 1:]
    faces = np.stack([a, b, c, a, c, d], -1).reshape(-1, 3)
    depth = depth_map(points.reshape(-1, 3), faces, np.eye(4), CAMERA, SIZE)
    assert depth == pytest.approx(2.0)


@pytest.mark.parametrize("seed", range(4))
def test_triangle_soup_looks_as_to_single_rays(seed: int) -> None:
    rng = np.random.default_rng(seed)
    center = rng.uniform([-3, -3, -1], [3, 3, 6], (40, 1, 3))
    points = (center + rng.normal(0, 1.0, (40, 3, 3))).reshape(-1, 3)
    faces = np.arange(120).reshape(-1, 3)
    depth = depth_map(points, faces, np.eye(4), CAMERA, SIZE)
    expected = cast(points, faces)
    # Both are exact up to rounding: only a ray through an edge may differ.
    off = np.abs(depth - expected) > 1e-3 * expected
    assert off.sum() <= 3


def test_order_and_winding_of_faces_change_nothing() -> None:
    rng = np.random.default_rng(9)
    points = rng.uniform([-2, -2, 1], [2, 2, 5], (90, 3))
    faces = np.arange(90).reshape(-1, 3)
    one = depth_map(points, faces, np.eye(4), CAMERA, SIZE)
    turned = faces[rng.permutation(len(faces))][:, ::-1]
    # The sums run in another order, so the last bits may differ.
    assert depth_map(points, turned, np.eye(4), CAMERA, SIZE) == pytest.approx(one, rel=1e-5)


def test_moving_mesh_and_camera_together_changes_nothing() -> None:
    rng = np.random.default_rng(5)
    points = rng.uniform([-2, -2, 1], [2, 2, 5], (90, 3))
    faces = np.arange(90).reshape(-1, 3)
    move = np.eye(4)
    move[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    move[:3, :3] *= np.linalg.det(move[:3, :3])
    move[:3, 3] = 7, -3, 2
    one = depth_map(points, faces, np.eye(4), CAMERA, SIZE)
    two = depth_map(points @ move[:3, :3].T + move[:3, 3], faces, move, CAMERA, SIZE)
    assert (np.abs(two - one) > 1e-4 * one).sum() <= 3


def test_room_looks_as_its_renderer_draws_it(made: tuple[rooms.Room, ...]) -> None:
    room = made[0]
    scan = room_scan(room, "scene0000_00", spacing=0.25)
    round_ones = [
        index
        for index, placed in enumerate(room.objects)
        if any(part.shape != "box" for part in placed.category.parts)
    ]
    for row, kept in enumerate(room.views.kept):
        frame = scan.frames[kept]
        camera = frame.mesh_from_camera, frame.depth_intrinsics, frame.depth_size
        depth = depth_map(scan.mesh.points, scan.mesh.faces, *camera)
        error = np.abs(depth - np.asarray(room.rendering.depth[row]))
        flat = ~np.isin(np.asarray(room.rendering.instance[row]), round_ones)
        # Pixels on an outline may go either way; a ball's mesh lies inside the ball.
        assert (error[flat] < 1e-4).mean() > 0.985
        assert (error < 0.03).mean() > 0.98
