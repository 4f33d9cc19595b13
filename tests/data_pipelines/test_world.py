"""The world frame: estimated where the data set gives none."""

import dataclasses

import numpy as np
import pytest

from data_pipelines import world
from data_pipelines.room_scan import box_surface
from data_pipelines.scan import Mesh, Scan, ScanError

EYES = np.zeros((0, 3))  # where not said otherwise, it is not known where the cameras were


def shell(size: tuple[float, float, float], yaw: float, shift: tuple[float, float, float]) -> Mesh:
    """An empty room, its box desk-high in one corner turned by half a right angle."""
    points, faces = box_surface(np.zeros(3), np.array(size), 0.1)
    desk, desk_faces = box_surface(np.array([-0.3, -0.3, 0]), np.array([0.3, 0.3, 0.7]), 0.1)
    cos, sin = np.cos(np.pi / 4), np.sin(np.pi / 4)
    desk = desk @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) + [1.0, 1.0, 0.0]
    every = np.concatenate([points, desk])
    cos, sin = np.cos(yaw), np.sin(yaw)
    every = every @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) + np.array(shift)
    return Mesh(
        every.astype(np.float32),
        np.zeros((len(every), 3), np.uint8),
        np.concatenate([faces, desk_faces + len(points)]).astype(np.int32),
    )


@pytest.mark.parametrize("yaw", [0.0, 0.3, -0.6, 2.0, np.deg2rad(44.9)])
def test_walls_and_floor_are_found(yaw: float) -> None:
    mesh = shell((4, 3, 2.5), yaw, (3, -2, -0.9))
    expected = (yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4
    assert world.wall_yaw(mesh) == pytest.approx(expected, abs=1e-3)
    assert world.floor_height(mesh, EYES) == pytest.approx(-0.9, abs=1e-3)


def test_noise_moves_the_estimates_little() -> None:
    mesh = shell((4, 3, 2.5), 0.3, (3, -2, -0.9))
    noise = np.random.default_rng(0).normal(0, 0.01, mesh.points.shape)
    noisy = dataclasses.replace(mesh, points=(mesh.points + noise).astype(np.float32))
    assert world.wall_yaw(noisy) == pytest.approx(0.3, abs=np.deg2rad(0.3))
    assert world.floor_height(noisy, EYES) == pytest.approx(-0.9, abs=0.005)


def test_stray_points_below_are_not_the_floor() -> None:
    mesh = shell((4, 3, 2.5), 0.0, (0, 0, 0))
    stray = np.tile(np.array([2, 2, -3], np.float32), (50, 1))
    more = Mesh(np.concatenate([mesh.points, stray]), mesh.colors, mesh.faces)
    assert world.floor_height(more, EYES) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("below", [-1.0, -3.0, -8.0])
def test_the_street_below_a_window_is_not_the_floor(below: float) -> None:
    mesh = shell((4, 3, 2.5), 0.3, (0, 0, 0.4))
    street, faces = box_surface(np.array([7, -5, below]), np.array([17, 5, below + 0.01]), 0.2)
    every = Mesh(
        np.concatenate([mesh.points, street]).astype(np.float32),
        np.zeros((len(mesh.points) + len(street), 3), np.uint8),
        np.concatenate([mesh.faces, faces + len(mesh.points)]).astype(np.int32),
    )
    eyes = np.array([[0.5, 1.5, 1.9], [1.5, 2.0, 1.8], [1.0, 2.5, 2.0]])
    assert world.floor_height(every, eyes) == pytest.approx(0.4, abs=1e-6)
    assert world.floor_height(every, EYES) == pytest.approx(below, abs=0.02)


def test_cameras_with_no_level_surface_about_them_see_the_whole_mesh() -> None:
    mesh = shell((4, 3, 2.5), 0.0, (0, 0, 0.4))
    assert world.floor_height(mesh, np.array([[50.0, 50, 1.5]])) == pytest.approx(0.4, abs=1e-6)


def test_a_face_that_flew_away_turns_no_wall() -> None:
    mesh = shell((4, 3, 2.5), 0.3, (3, -2, 0))
    noise = np.random.default_rng(0).normal(0, 0.01, mesh.points.shape)
    noisy = dataclasses.replace(mesh, points=(mesh.points + noise).astype(np.float32))
    far = np.array([[1e7, 0, 0], [1e7, 2, 0], [1e7, 0, 2]], np.float32)
    more = Mesh(
        np.concatenate([noisy.points, far]),
        np.zeros((len(mesh.points) + 3, 3), np.uint8),
        np.concatenate([mesh.faces, [np.arange(3) + len(mesh.points)]]).astype(np.int32),
    )
    assert world.wall_yaw(more) == pytest.approx(world.wall_yaw(noisy), abs=1e-3)


def test_points_without_faces_still_have_a_floor() -> None:
    mesh = shell((4, 3, 2.5), 0.0, (0, 0, 0.4))
    points = dataclasses.replace(mesh, faces=np.zeros((0, 3), np.int32))
    assert world.floor_height(points, EYES) == pytest.approx(0.4, abs=0.02)
    assert world.wall_yaw(points) == 0.0


def scan_of(mesh: Mesh, world_from_mesh: np.ndarray | None) -> Scan:
    class NoImages:
        def color(self, frame: object) -> np.ndarray:
            raise NotImplementedError

        def color_jpeg(self, frame: object) -> None: ...

        def depth(self, frame: object) -> np.ndarray:
            raise NotImplementedError

    return Scan(
        "rooms", "scene0000_00", "scene0000_00", "train", mesh, (), (), NoImages(), world_from_mesh
    )


def test_the_data_sets_alignment_is_taken_as_it_is() -> None:
    mesh = shell((4, 3, 2.5), 0.3, (0, 0, 0.4))
    given = np.eye(4)
    given[:3, 3] = [1, 2, 3]
    found, by_dataset = world.world_from_mesh(scan_of(mesh, given))
    assert by_dataset
    np.testing.assert_array_equal(found, given)


def test_an_estimate_puts_the_floor_to_zero_and_the_walls_to_the_axes() -> None:
    mesh = shell((4, 3, 2.5), 0.3, (0, 0, 0.4))
    found, by_dataset = world.world_from_mesh(scan_of(mesh, None))
    assert not by_dataset
    moved = mesh.points @ found[:3, :3].T + found[:3, 3]
    assert moved[:, 2].min() == pytest.approx(0, abs=1e-4)
    np.testing.assert_allclose(np.ptp(moved[:, :2], axis=0), [4, 3], atol=1e-2)


def test_alignment_that_is_not_rigid_is_refused() -> None:
    mesh = shell((4, 3, 2.5), 0.0, (0, 0, 0))
    with pytest.raises(ScanError, match="axis alignment: expected a rotation"):
        world.world_from_mesh(scan_of(mesh, np.diag([2.0, 1, 1, 1])))
