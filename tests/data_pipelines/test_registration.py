"""Which cause puts measured depth on the mesh, in an empty room worked out by hand."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from data_pipelines import registration
from data_pipelines.registration import Cause
from data_pipelines.reprojection import Evidence, Frame

SIDES = np.array([4.2, 3.1, 2.5])  # of the room, metres, from the origin
INTRINSICS = np.array([[30.0, 0, 30], [0, 30, 22], [0, 0, 1]])
PLACES = ((1.0, 1.0, 1.5, 20), (3.0, 1.2, 1.2, 130), (2.0, 2.2, 1.7, 250))  # metres; degrees


def walls() -> np.ndarray:
    """(V, 3) vertices on the six sides, about 10 cm apart."""
    found = []
    for axis in range(3):
        across = [np.linspace(0, SIDES[one], 35) for one in range(3) if one != axis]
        flat = np.stack(np.meshgrid(*across), -1).reshape(-1, 2)
        found += [np.insert(flat, axis, end, axis=1) for end in (0, SIDES[axis])]
    return np.concatenate(found)


def looking(x: float, y: float, z: float, yaw_deg: float) -> np.ndarray:
    """(4, 4) of a camera that looks level, and a little down."""
    pose = np.eye(4)
    ahead = Rotation.from_euler("zy", [yaw_deg, 15], degrees=True).as_matrix()
    pose[:3, :3] = ahead @ np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    pose[:3, 3] = x, y, z
    return pose


def measured(pose: np.ndarray) -> np.ndarray:
    """(44, 60) f32, where the rays of a camera in the room meet its walls."""
    v, u = np.mgrid[:44, :60] + 0.5
    rays = np.stack([(u - 30) / 30, (v - 22) / 30, np.ones_like(u)], -1) @ pose[:3, :3].T
    with np.errstate(divide="ignore"):
        reach = np.maximum(-pose[:3, 3] / rays, (SIDES - pose[:3, 3]) / rays)
    return reach.min(-1).astype(np.float32)


def room() -> Evidence:
    poses = [looking(*place) for place in PLACES]
    frames = tuple(
        Frame(4 * row, pose, INTRINSICS, INTRINSICS, None, measured(pose))
        for row, pose in enumerate(poses)
    )
    known = {frame.frame_id: frame.mesh_from_camera for frame in frames}
    points = walls()
    grey = np.full(points.shape, 128, np.uint8)
    return Evidence(frames, np.eye(4), points, grey, (), (), (), known)


def with_poses(evidence: Evidence, poses: list[np.ndarray]) -> Evidence:
    frames = tuple(
        frame._replace(mesh_from_camera=pose)
        for frame, pose in zip(evidence.frames, poses, strict=True)
    )
    known = {frame.frame_id: frame.mesh_from_camera for frame in frames}
    return dataclasses.replace(evidence, frames=frames, known_poses=known)


def causes(evidence: Evidence) -> list[Cause]:
    rows = range(len(evidence.frames))
    return registration.causes(evidence, KDTree(evidence.points), rows, 1.0)


def motion(degrees: float, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> np.ndarray:
    """About the middle of the room, and an axis of no side of it."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(
        [0.6 * degrees, 0, 0.8 * degrees], degrees=True
    ).as_matrix()
    matrix[:3, 3] = SIDES / 2 + [x, y, z] - matrix[:3, :3] @ SIDES / 2
    return matrix


def test_distance_is_that_to_the_plane_of_the_vertices_around() -> None:
    points = np.array([[0.13, 1.04, 1.16], [2.03, 1.51, -0.2]])
    distance, normal = registration.planes(KDTree(walls()), points)
    np.testing.assert_allclose(np.abs(distance), [0.13, 0.2], atol=1e-9)
    np.testing.assert_allclose(np.abs(normal), [[1, 0, 0], [0, 0, 1]], atol=1e-9)


def test_all_that_a_camera_measures_lies_on_the_walls() -> None:
    evidence = room()
    mesh = KDTree(evidence.points)
    for frame in evidence.frames:
        points = registration.measured_points(frame)
        assert registration.share_on_mesh(mesh, points, frame.mesh_from_camera) > 0.95
    few = registration.measured_points(evidence.frames[0])[:20]
    assert np.isnan(registration.share_on_mesh(mesh, few, evidence.frames[0].mesh_from_camera))
    assert causes(evidence) == []


@pytest.mark.parametrize("moved", [motion(0, 0.3, 0.3, -0.2), motion(8), np.eye(4)])
def test_points_return_to_the_walls(moved: np.ndarray) -> None:
    evidence = room()
    seen = [
        registration.measured_points(one) @ one.mesh_from_camera[:3, :3].T
        + one.mesh_from_camera[:3, 3]
        for one in evidence.frames
    ]
    points = np.concatenate(seen) @ moved[:3, :3].T + moved[:3, 3]
    found = registration.register(KDTree(evidence.points), points)
    np.testing.assert_allclose(found @ moved, np.eye(4), atol=0.01)


@pytest.mark.parametrize("moved", [motion(0, 0.2), motion(0, 0.3, 0.3, -0.2), motion(6)])
def test_poses_that_moved_together_are_put_back(moved: np.ndarray) -> None:
    right = room()
    (found,) = causes(with_poses(right, [moved @ pose for pose in right.poses]))
    assert found.code == "pose_shifted" and set(found.poses) == {0, 1, 2}
    for row, pose in found.poses.items():
        np.testing.assert_allclose(pose, right.poses[row], atol=0.02)


@pytest.mark.parametrize("moved", [motion(0, 0.04, -0.03, 0.02), motion(1)])
def test_what_tracking_is_off_by_is_no_cause(moved: np.ndarray) -> None:
    right = room()
    assert causes(with_poses(right, [moved @ pose for pose in right.poses])) == []


def test_a_scale_is_no_shift() -> None:
    right = room()
    frames = tuple(
        one._replace(depth=measured(one.mesh_from_camera) * 1.15) for one in right.frames
    )
    (found,) = causes(dataclasses.replace(right, frames=frames))
    assert found.code == "depth_unit" and "divided by 1.1" in found.what


def test_the_pose_of_a_neighbour_is_told_by_its_depth() -> None:
    right = room()
    swapped = with_poses(right, [right.poses[1], right.poses[0], right.poses[2]])
    first, second = causes(swapped)
    assert first.code == second.code == "other_frame"
    np.testing.assert_array_equal(first.poses[0], right.poses[0])
    np.testing.assert_array_equal(second.poses[1], right.poses[1])
    assert first.what.endswith("if the pose were that of frame 4.")
    # The same, with the right pose left only in a file without a picture.
    turned = looking(2.2, 1.4, 1.4, 75)
    one = with_poses(right, [turned, right.poses[1], right.poses[2]])
    (found,) = causes(dataclasses.replace(one, known_poses={**one.known_poses, 1: right.poses[0]}))
    assert found.what.endswith("if the pose were that of frame 1.")


def test_a_pose_that_two_frames_have_is_the_one_whose_depth_it_fits() -> None:
    right = room()
    (found,) = causes(with_poses(right, [right.poses[1], right.poses[1], right.poses[2]]))
    assert found.code == "other_frame" and set(found.poses) == {0}
    assert "found that of frame 4" in found.what


def test_a_place_far_away_has_no_cause() -> None:
    right = room()
    away = [looking(2.2, 1.4, 1.4, 75), *right.poses[1:]]
    assert causes(with_poses(right, away)) == []
