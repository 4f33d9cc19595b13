"""Depth of a mesh against cases worked by hand, laws, and the rooms' renderer."""

import numpy as np
import pytest

from data_pipelines import rooms
from data_pipelines.cameras import pinhole
from data_pipelines.raster import depth_map
from data_pipelines.room_scan import room_scan

SIZE = (64, 48)
CAMERA = pinhole(*SIZE, np.deg2rad(90.0))  # focal length 32 pixels


def rays() -> np.ndarray:
    """(H, W, 3) directions through the middles of the pixels, z = 1."""
    v, u = np.mgrid[: SIZE[1], : SIZE[0]] + 0.5
    return np.stack([(u - 32) / 32, (v - 24) / 32, np.ones_like(u)], -1)


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
    assert depth[rows] == pytest.approx(expected, rel=1e-5)
    assert (depth[:24] == 0).all()


def test_mesh_without_faces_shows_nothing() -> None:
    empty = np.zeros((0, 3))
    assert (depth_map(empty, empty.astype(int), np.eye(4), CAMERA, SIZE) == 0).all()


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
