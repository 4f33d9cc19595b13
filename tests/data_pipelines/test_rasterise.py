"""Depth and faces against cases worked by hand, rays cast one by one, and the rooms' renderer."""

import numpy as np
import pytest

from data_pipelines import rooms
from data_pipelines.cameras import pinhole
from data_pipelines.rasterise import rasterise
from data_pipelines.room_scan import room_scan

SIZE = (64, 48)
CAMERA = pinhole(*SIZE, np.deg2rad(90.0))  # focal length 32 pixels


def rays(intrinsics: np.ndarray = CAMERA, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W, 3) directions through the middles of the pixels, z = 1."""
    v, u = np.mgrid[: size[1], : size[0]] + 0.5
    x, y = (u - intrinsics[0, 2]) / intrinsics[0, 0], (v - intrinsics[1, 2]) / intrinsics[1, 1]
    return np.stack([x, y, np.ones_like(x)], -1)


def cast(points: np.ndarray, faces: np.ndarray, near: float) -> tuple[np.ndarray, np.ndarray]:
    """Depth and nearest face of every ray, each against every triangle (Cramer's rule)."""
    direction = rays().reshape(-1, 3)
    a, b, c = points[faces].swapaxes(0, 1)
    normal = np.cross(b - a, c - a)
    depth = (a * normal).sum(1) / (direction @ normal.T)  # (R, T)
    hit = depth[..., None] * direction[:, None]
    inside = [
        (np.cross(end - start, hit - start) * normal).sum(-1) >= 0
        for start, end in ((a, b), (b, c), (c, a))
    ]
    depth = np.where(np.all(inside, axis=0) & (depth >= near), depth, np.inf)
    return depth.min(1).reshape(SIZE[::-1]), depth.argmin(1).reshape(SIZE[::-1])


def test_slanted_triangle_has_the_depth_of_its_plane() -> None:
    # The plane x + z = 4: depth 4 / (1 + x / z) along a ray.
    points = np.array([[-30.0, -40, 34], [-30, 40, 34], [3.9, 0, 0.1]])
    raster = rasterise(points, np.array([[0, 1, 2]]), np.eye(4), CAMERA, SIZE)
    expected = 4 / (1 + rays()[..., 0])
    assert raster.depth[24, 4:] == pytest.approx(expected[24, 4:], rel=1e-6)  # it ends at depth 34
    covered = raster.face == 0
    assert raster.depth[covered] == pytest.approx(expected[covered], rel=1e-6)
    assert (raster.depth[~covered] == 0).all() and not covered.all()


def test_face_that_reaches_behind_the_camera_is_cut_at_the_near_plane() -> None:
    # A floor 1.5 m below the camera, in two triangles that begin 50 m behind it.
    points = np.array([[-99.0, 1.5, -50], [99, 1.5, -50], [99, 1.5, 99], [-99, 1.5, 99]])
    raster = rasterise(points, np.array([[0, 1, 2], [0, 2, 3]]), np.eye(4), CAMERA, SIZE)
    rows = np.arange(26, 48)
    expected = 1.5 / rays()[rows, 0, 1]
    assert raster.depth[rows] == pytest.approx(np.repeat(expected[:, None], 64, 1), rel=1e-6)
    assert (raster.face[:24] == -1).all()


def test_nothing_behind_the_camera_is_drawn() -> None:
    points = np.array([[-1.0, -1, -2], [1, -1, -2], [0, 1, -2]])
    assert (rasterise(points, np.array([[0, 1, 2]]), np.eye(4), CAMERA, SIZE).face == -1).all()


def test_mesh_without_faces_shows_nothing() -> None:
    raster = rasterise(np.zeros((0, 3)), np.zeros((0, 3), int), np.eye(4), CAMERA, SIZE)
    assert (raster.depth == 0).all()


def test_no_pixel_falls_between_faces() -> None:
    rng = np.random.default_rng(3)
    steps = 61
    x, y = np.meshgrid(np.linspace(-3, 3, steps), np.linspace(-2.5, 2.5, steps), indexing="ij")
    points = np.stack([x, y, np.full_like(x, 2.0)], -1)
    points[..., :2] += rng.uniform(-0.02, 0.02, (steps, steps, 2))
    at = np.arange(steps**2).reshape(steps, steps)
    a, b, c, d = at[:-1, :-1], at[1:, :-1], at[1:, 1:], at[:-1, 1:]
    faces = np.stack([a, b, c, a, c, d], -1).reshape(-1, 3)
    raster = rasterise(points.reshape(-1, 3), faces, np.eye(4), CAMERA, SIZE)
    assert raster.depth == pytest.approx(2.0)


@pytest.mark.parametrize("seed", range(4))
def test_triangle_soup_looks_as_to_single_rays(seed: int) -> None:
    rng = np.random.default_rng(seed)
    center = rng.uniform([-3, -3, -1], [3, 3, 6], (40, 1, 3))
    points = (center + rng.normal(0, 1.0, (40, 3, 3))).reshape(-1, 3)
    faces = np.arange(120).reshape(-1, 3)
    raster = rasterise(points, faces, np.eye(4), CAMERA, SIZE, near=0.1)
    depth, face = cast(points, faces, 0.1)
    same = np.where(np.isfinite(depth), raster.face == face, raster.face == -1)
    # Both are exact up to rounding: only a ray through an edge, or a tie, may differ.
    assert (~same).sum() <= 2
    assert raster.depth[same & np.isfinite(depth)] == pytest.approx(
        depth[same & np.isfinite(depth)], rel=1e-5
    )


def test_order_and_winding_of_faces_change_nothing() -> None:
    rng = np.random.default_rng(9)
    points = rng.uniform([-2, -2, 1], [2, 2, 5], (90, 3))
    faces = np.arange(90).reshape(-1, 3)
    order = rng.permutation(len(faces))
    one = rasterise(points, faces, np.eye(4), CAMERA, SIZE)
    two = rasterise(points, faces[order][:, ::-1], np.eye(4), CAMERA, SIZE)
    # The sums run in another order, so the last bit may differ.
    assert two.depth == pytest.approx(one.depth, rel=1e-6)
    assert (np.where(two.face < 0, -1, order[two.face]) == one.face).mean() > 0.999


def test_moving_mesh_and_camera_together_changes_nothing() -> None:
    rng = np.random.default_rng(5)
    points = rng.uniform([-2, -2, 1], [2, 2, 5], (90, 3))
    faces = np.arange(90).reshape(-1, 3)
    move = np.eye(4)
    move[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    move[:3, :3] *= np.linalg.det(move[:3, :3])
    move[:3, 3] = 7, -3, 2
    one = rasterise(points, faces, np.eye(4), CAMERA, SIZE)
    two = rasterise(points @ move[:3, :3].T + move[:3, 3], faces, move, CAMERA, SIZE)
    same = one.face == two.face
    assert same.mean() > 0.999
    assert two.depth[same] == pytest.approx(one.depth[same], rel=1e-5)


def test_room_looks_as_its_renderer_draws_it(made: tuple[rooms.Room, ...]) -> None:
    for room in made[:1]:
        scan = room_scan(room, "scene0000_00", spacing=0.25)
        round_ones = [
            index
            for index, placed in enumerate(room.objects)
            if any(part.shape != "box" for part in placed.category.parts)
        ]
        for row, kept in enumerate(room.views.kept):
            frame = scan.frames[kept]
            raster = rasterise(
                scan.mesh.points,
                scan.mesh.faces,
                frame.mesh_from_camera,
                frame.depth_intrinsics,
                frame.depth_size,
            )
            error = np.abs(raster.depth - np.asarray(room.rendering.depth[row]))
            flat = ~np.isin(np.asarray(room.rendering.instance[row]), round_ones)
            # Pixels on an outline may go either way; a ball's mesh lies inside the ball.
            assert (error[flat] < 1e-4).mean() > 0.985
            assert (error < 0.03).mean() > 0.98
