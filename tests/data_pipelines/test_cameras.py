"""Camera paths and projection."""

import numpy as np
import pytest

from data_pipelines import cameras, rooms
from geometry_jax.scene_io import path_headings

SIZE = np.array([5.0, 4.0, 2.6])


@pytest.fixture(params=[1, 2, 3, 8, 20])
def path(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    return cameras.camera_path(SIZE, request.param, np.random.default_rng(3))


def test_poses_are_rigid_and_right_handed(path: tuple[np.ndarray, np.ndarray]) -> None:
    rotation = path[0][:, :3, :3]
    product = rotation @ rotation.transpose(0, 2, 1)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(3), product.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0)


def test_image_down_is_down(path: tuple[np.ndarray, np.ndarray]) -> None:
    assert (path[0][:, 2, 1] < -0.5).all()


def test_camera_stays_in_the_room_at_a_hand_s_height(path: tuple[np.ndarray, np.ndarray]) -> None:
    eye = path[0][:, :3, 3]
    assert (eye > [0.2, 0.2, 1.0]).all() and (eye < SIZE - [0.2, 0.2, 0.4]).all()


def test_path_is_denser_than_its_pictures(path: tuple[np.ndarray, np.ndarray]) -> None:
    poses, kept = path
    assert len(poses) == cameras.POSES_PER_FRAME * len(kept)
    assert kept.max() < len(poses)


def test_steps_of_a_long_path_are_small() -> None:
    poses, _ = cameras.camera_path(SIZE, 8, np.random.default_rng(0))
    assert np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).max() < 0.9
    assert np.abs(np.diff(path_headings(poses))).max() < np.deg2rad(30)


def test_first_frames_go_along_the_whole_arc() -> None:
    poses, kept = cameras.camera_path(SIZE, 8, np.random.default_rng(0))
    headings = path_headings(poses)
    first = headings[kept[: cameras.FIRST_LEG]]
    assert np.ptp(first) > 0.8 * np.ptp(headings)


def test_no_turn_reads_the_other_way_round(made: tuple[rooms.Room, ...]) -> None:
    for room in made:
        assert np.ptp(path_headings(room.views.path)) < np.pi


def test_frames_differ_in_heading_and_height(made: tuple[rooms.Room, ...]) -> None:
    for room in made:
        poses = room.views.path[room.views.kept]
        assert np.ptp(path_headings(poses)) > np.deg2rad(60)
        assert np.ptp(poses[:, 2, 3]) > 0.3


def test_projection_by_hand() -> None:
    eye = np.array([[1.0, 2.0, 1.0]])
    pose = cameras.look_at(eye, eye + [[1.0, 0, 0]], np.zeros(1))
    intrinsics = cameras.pinhole(100, 80, np.deg2rad(90.0))
    points = np.array([[3.0, 2.0, 1.0], [3.0, 3.0, 1.5], [-1.0, 2.0, 1.0]])
    pixels, depth = cameras.project(points, pose, intrinsics)
    np.testing.assert_allclose(depth, [[2.0, 2.0, -2.0]])
    np.testing.assert_allclose(pixels[0, :2], [[50, 40], [25, 27.5]])
    share = cameras.share_in_image(points, pose, intrinsics, width=100, height=80)
    assert share == pytest.approx(2 / 3)


def test_roll_turns_the_camera_clockwise() -> None:
    pose = cameras.look_at(np.zeros((1, 3)), np.array([[1.0, 0, 0]]), np.array([0.1]))[0]
    assert pose[2, 0] == pytest.approx(-np.sin(0.1))  # its right hand sinks
