"""Visibility by surfaces: cases by hand, the renderer's exact values, and laws."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest

from data_pipelines import room_scan, rooms, views
from data_pipelines.scan import Mesh, Scan, ScanError, ScanFrame

ENOUGH = 30  # pixels seen: with fewer, one pixel is a large share
CLEAR = 0.01  # how far from its threshold a share must be for its flag to be certain


@dataclasses.dataclass(frozen=True)
class Depths:
    """Depth images in memory; row i is frame i."""

    images: np.ndarray  # (F, H, W) uint16

    def depth(self, frame: ScanFrame) -> np.ndarray:
        return self.images[frame.frame_id]

    def color(self, frame: ScanFrame) -> np.ndarray:
        raise NotImplementedError

    def color_jpeg(self, frame: ScanFrame) -> bytes | None:
        raise NotImplementedError


class Truth(NamedTuple):
    """Of a rendered room, (F, N)."""

    seen: np.ndarray  # pixels
    visibility: np.ndarray
    in_view: np.ndarray
    hidden: np.ndarray

    @property
    def clear(self) -> np.ndarray:
        return self.seen >= ENOUGH


@dataclasses.dataclass(frozen=True)
class Case:
    scan: Scan
    members: tuple[np.ndarray, ...]
    depth: np.ndarray  # (F, H, W) f64 metres
    instance: np.ndarray  # (F, H, W)
    truth: Truth

    def views(self, **changes: object) -> views.ObjectViews:
        arguments = {
            "mesh": self.scan.mesh,
            "members": self.members,
            "frames": self.scan.frames,
            "images": self.scan.images,
        }
        return views.object_views(**(arguments | changes))  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def cases(made: tuple[rooms.Room, ...]) -> tuple[Case, ...]:
    found = []
    for room in made:
        scan = room_scan.room_scan(room, "scene0000_00")
        rendering, count = scan.images.rendering, len(room.objects)  # pyright: ignore
        seen, inside, alone = (
            np.asarray(array)[:, :count]
            for array in (rendering.seen, rendering.inside, rendering.alone)
        )
        truth = Truth(
            seen,
            rooms.visibility(rendering)[:, :count],
            inside / np.maximum(alone, 1),
            1 - seen / np.maximum(inside, 1),
        )
        members = tuple(one.vertices for one in scan.objects[:count])
        depth, instance = np.asarray(rendering.depth, float), np.asarray(rendering.instance)
        found.append(Case(scan, members, depth, instance, truth))
    return tuple(found)


def assert_true(found: views.ObjectViews, truth: Truth, at_most: float = 0.02) -> None:
    """Shares within `at_most` wherever enough is seen, and flags right away from thresholds."""
    clear = truth.clear
    assert clear.sum() > 10
    assert found.seen[clear].all() and not found.seen[truth.seen == 0].any()
    for name in ("visibility", "in_view", "hidden"):
        error = np.abs(getattr(found, name) - getattr(truth, name))[clear]
        assert error.max() <= at_most, name
    for flag, share, limit in (
        (found.truncated, 1 - truth.in_view, views.DEFAULT.truncated_above),
        (found.occluded, truth.hidden, views.DEFAULT.occluded_above),
    ):
        certain = clear & (np.abs(share - limit) > CLEAR)
        np.testing.assert_array_equal(flag[certain], (share > limit)[certain])
        assert 0 < flag[certain].sum() < certain.sum()


def millimetres(depth: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(depth * 1000), 0, 65535).astype(np.uint16)


def with_depth_of(frames: Sequence[ScanFrame], shrink: int) -> tuple[ScanFrame, ...]:
    scale = np.diag([1 / shrink, 1 / shrink, 1.0])
    return tuple(
        dataclasses.replace(
            frame,
            depth_size=(frame.color_size[0] // shrink, frame.color_size[1] // shrink),
            depth_intrinsics=scale @ frame.color_intrinsics,
        )
        for frame in frames
    )


# --- by hand -------------------------------------------------------------------------------------

INTRINSICS = np.array([[100.0, 0.0, 50.0], [0.0, 100.0, 50.0], [0.0, 0.0, 1.0]])


def plates(*squares: tuple[float, float, float, float, float]) -> Mesh:
    """Squares (left, top, right, bottom, z) that face a camera at the origin."""
    points, faces = [], []
    for left, top, right, bottom, z in squares:
        at = 4 * len(points)
        points.append([[left, top, z], [right, top, z], [right, bottom, z], [left, bottom, z]])
        faces += [[at, at + 1, at + 2], [at, at + 2, at + 3]]
    flat = np.array(points, np.float32).reshape(-1, 3)
    return Mesh(flat, np.zeros(flat.shape, np.uint8), np.array(faces, np.int32))


def frame_of(size: tuple[int, int] = (100, 100), depth: tuple[int, int] = (100, 100), row: int = 0):
    return ScanFrame(row, str(row), np.eye(4), INTRINSICS, INTRINSICS, size, depth)


# Plate A covers columns 76 to 124 and rows 26 to 74 at z = 2: half of it lies right of the image.
A = (0.52, -0.48, 1.48, 0.48, 2.0)
# Plate B covers columns 70 to 90 and rows 20 to 50 at z = 1, of A's inside 14 x 24 of 24 x 48.
B = (0.2, -0.3, 0.4, 0.0, 1.0)


def test_shares_boxes_and_places_are_those_worked_out_by_hand() -> None:
    mesh = plates(A, B, (-9, -9, 9, 9, 4.0))
    depth = np.full((100, 100), 4000, np.uint16)
    depth[26:74, 76:] = 2000
    depth[20:50, 70:90] = 1000
    members = [np.arange(4), np.arange(4, 8)]
    found = views.object_views(mesh, members, [frame_of()], Depths(depth[None]))
    inside, covered = 24 * 48, 14 * 24
    np.testing.assert_allclose(found.visibility[0], [(inside - covered) / 48**2, 1.0], rtol=1e-6)
    np.testing.assert_allclose(found.in_view[0], [0.5, 1.0])
    np.testing.assert_allclose(found.hidden[0], [covered / inside, 0.0])
    np.testing.assert_array_equal(found.truncated[0], [True, False])
    np.testing.assert_array_equal(found.occluded[0], [True, False])
    np.testing.assert_array_equal(found.bbox_2d[0], [[76, 26, 100, 74], [70, 20, 90, 50]])
    # Middles of columns 76 to 99 are 76.5 to 99.5: at z = 2, x = 0.53 to 0.99.
    np.testing.assert_allclose(found.camera_location[0], [[0.76, 0, 2], [0.3, -0.15, 1]], atol=1e-6)
    np.testing.assert_allclose(found.agreement, [1.0])


def test_depth_decides_over_what_the_mesh_does_not_have() -> None:
    """A person stood before the wall of which the mesh was made, and a chair was taken away."""
    mesh = plates(A, B)
    depth = np.full((100, 100), 4000, np.uint16)  # B and A are not there any more
    depth[:, 85:] = 500  # and someone stands before the right part of A
    members = [np.arange(4), np.arange(4, 8)]
    found = views.object_views(mesh, members, [frame_of()], Depths(depth[None]))
    # Of A columns 76 to 84 and of B 70 to 84 remain: nothing nearer was measured there.
    # At the corner where both end, one pixel may be of either.
    np.testing.assert_allclose(found.visibility[0], [9 * 48 / 48**2, 15 / 20], atol=1.5 / 48**2)
    np.testing.assert_allclose(found.hidden[0], [15 / 24, 5 / 20], atol=1.5 / (24 * 48))
    assert found.agreement[0] < 0.02


def test_holes_and_lone_wrong_measurements_do_not_matter() -> None:
    mesh = plates(A, B)
    depth = np.full((100, 100), 4000, np.uint16)
    depth[26:74, 76:] = 2000
    depth[20:50, 70:90] = 1000
    members = [np.arange(4), np.arange(4, 8)]
    exact = views.object_views(mesh, members, [frame_of()], Depths(depth[None]))
    depth[30:40, 80:95] = 0
    depth[::4, ::3] = 300
    depth[1::4, 1::3] = 9000
    found = views.object_views(mesh, members, [frame_of()], Depths(depth[None]))
    for name in views.ObjectViews._fields[:-1]:
        np.testing.assert_array_equal(getattr(found, name), getattr(exact, name), name)
    assert found.agreement[0] < exact.agreement[0]


def test_an_object_before_and_behind_the_camera_has_a_finite_silhouette() -> None:
    floor = plates((-50, -50, 50, 50, 0.0))
    # Turned about x, the floor lies 1.5 m below the camera and reaches behind it.
    turned = floor.points[:, [0, 2, 1]] + np.array([0, 1.5, 0], np.float32)
    mesh = dataclasses.replace(floor, points=turned)
    frame = frame_of(depth=(0, 0))
    found = views.object_views(
        mesh, [np.arange(4)], [frame], Depths(np.zeros((1, 0, 0), np.uint16))
    )
    # It fills what is below the horizon, but for the last 3 rows of pixels: 50 m are 3 pixels.
    assert found.bbox_2d[0, 0].tolist() == [0, 53, 100, 100]
    # Of the canvas of 200 x 200, the lower half less 3 rows; of the image 100 x 47.
    assert found.in_view[0, 0] == pytest.approx(100 * 47 / (200 * 97), rel=0.02)
    assert found.hidden[0, 0] == 0 and np.isnan(found.agreement[0])


def test_large_pictures_are_sampled_and_boxes_stay_in_their_pixels() -> None:
    frame = frame_of(size=(1000, 1000), depth=(0, 0))
    big = np.diag([10.0, 10.0, 1.0]) @ INTRINSICS
    frame = dataclasses.replace(frame, color_intrinsics=big)
    images = Depths(np.zeros((1, 0, 0), np.uint16))
    found = views.object_views(plates(B), [np.arange(4)], [frame], images)
    np.testing.assert_allclose(found.bbox_2d[0, 0], [700, 200, 900, 500], atol=1)
    assert found.visibility[0, 0] == 1


def test_what_does_not_decode_and_no_frames_are_errors() -> None:
    class Broken(Depths):
        def depth(self, frame: ScanFrame) -> np.ndarray:
            raise ScanError("depth/0.png: cut short")

    broken = Broken(np.zeros((1, 1, 1), np.uint16))
    for settings in (views.DEFAULT, views.PUBLISHED):
        with pytest.raises(ScanError, match="cut short"):
            views.object_views(plates(B), [np.arange(4)], [frame_of()], broken, settings=settings)
        with pytest.raises(ValueError, match="at least one"):
            views.object_views(plates(B), [np.arange(4)], [], broken, settings=settings)


# --- the renderer's exact values -----------------------------------------------------------------


def test_shares_and_flags_are_the_renderers(cases: tuple[Case, ...]) -> None:
    for case in cases:
        found = case.views()
        assert_true(found, case.truth)
        assert found.agreement.min() > 0.999


def test_boxes_and_places_are_those_of_the_pixels_that_show_the_object(
    cases: tuple[Case, ...],
) -> None:
    case = cases[0]
    found = case.views()
    off = []
    for row, one in np.argwhere(case.truth.clear):
        v, u = np.nonzero(case.instance[row] == one)
        box = np.array([u.min(), v.min(), u.max() + 1, v.max() + 1])
        z, camera = case.depth[row][v, u], case.scan.frames[row].color_intrinsics
        x = (u + 0.5 - camera[0, 2]) / camera[0, 0] * z
        y = (v + 0.5 - camera[1, 2]) / camera[1, 1] * z
        middle = np.array([(axis.min() + axis.max()) / 2 for axis in (x, y, z)])
        place = found.camera_location[row, one]
        off.append([np.abs(found.bbox_2d[row, one] - box).max(), np.abs(place - middle).max()])
    pixels, metres = np.array(off).T
    # One pixel of an outline, seen or not, moves a box.
    assert (pixels <= 1).mean() > 0.97 and pixels.max() <= 4
    assert (metres <= 0.02).mean() > 0.97 and metres.max() <= 0.15


@pytest.mark.parametrize("shrink", [1, 2])
def test_sensor_noise_holes_and_coarse_depth_change_little(
    cases: tuple[Case, ...], shrink: int
) -> None:
    rng = np.random.default_rng(shrink)
    case = cases[1]
    depth = case.depth[:, shrink // 2 :: shrink, shrink // 2 :: shrink]
    depth = depth + rng.normal(size=depth.shape) * (1.5e-3 + 2e-3 * depth**2)
    depth[rng.random(depth.shape) < 0.02] = 0
    frames = with_depth_of(case.scan.frames, shrink)
    found = case.views(frames=frames, images=Depths(millimetres(depth)))
    assert_true(found, case.truth)
    assert found.agreement.min() > 0.99


def test_what_stood_there_only_while_pictures_were_taken_hides(cases: tuple[Case, ...]) -> None:
    """The mesh loses its object that hides most; the depth images still show it."""
    case = cases[0]
    gone = int(case.truth.seen.sum(0).argmax())
    lost = np.isin(case.scan.mesh.faces, case.members[gone]).any(1)
    mesh = dataclasses.replace(case.scan.mesh, faces=case.scan.mesh.faces[~lost])
    kept = [one for one in range(len(case.members)) if one != gone]
    members = [case.members[one] for one in kept]
    truth = Truth(*(array[:, kept] for array in case.truth))
    # One pixel in thirty: what hides has no outline in the mesh.
    assert_true(case.views(mesh=mesh, members=members), truth, at_most=0.04)
    frames = [dataclasses.replace(frame, depth_size=(0, 0)) for frame in case.scan.frames]
    blind = case.views(mesh=mesh, members=members, frames=frames)
    assert np.abs(blind.visibility - truth.visibility)[truth.clear].max() > 0.1


def test_points_without_triangles_come_near(cases: tuple[Case, ...]) -> None:
    case = cases[2]
    mesh = dataclasses.replace(case.scan.mesh, faces=case.scan.mesh.faces[:0])
    found = case.views(mesh=mesh)
    error = np.abs(found.visibility - case.truth.visibility)[case.truth.clear]
    assert error.mean() < 0.05 and error.max() < 0.25


def test_the_default_is_closer_to_the_truth_than_the_published_setting(
    cases: tuple[Case, ...],
) -> None:
    for case in cases[:1]:
        clear = case.truth.clear
        error = [
            np.abs(case.views(settings=settings).visibility - case.truth.visibility)[clear].mean()
            for settings in (views.DEFAULT, views.PUBLISHED)
        ]
        assert error[0] < 0.005 < 0.2 < error[1]


def test_a_wrong_pose_shows_in_the_agreement(cases: tuple[Case, ...]) -> None:
    case = cases[0]
    frames = [
        dataclasses.replace(frame, mesh_from_camera=np.linalg.inv(frame.mesh_from_camera))
        for frame in case.scan.frames
    ]
    assert case.views(frames=frames).agreement.mean() < 0.5


# --- laws ----------------------------------------------------------------------------------------


def assert_alike(found: views.ObjectViews, other: views.ObjectViews, at_most: float) -> None:
    np.testing.assert_array_equal(found.seen, other.seen)
    for name in ("visibility", "in_view", "hidden"):
        assert np.abs(getattr(found, name) - getattr(other, name)).max() <= at_most, name
    np.testing.assert_allclose(found.camera_location, other.camera_location, atol=1e-2)


def test_turning_and_moving_mesh_and_poses_together_changes_nothing(
    cases: tuple[Case, ...],
) -> None:
    case = cases[0]
    cos, sin = np.cos(0.7), np.sin(0.7)
    motion = np.array([[cos, -sin, 0, 3], [sin, cos, 0, -2], [0, 0, 1, 0.5], [0, 0, 0, 1.0]])
    moved = case.scan.mesh.points @ motion[:3, :3].T + motion[:3, 3]
    mesh = dataclasses.replace(case.scan.mesh, points=moved.astype(np.float32))
    frames = [
        dataclasses.replace(frame, mesh_from_camera=motion @ frame.mesh_from_camera)
        for frame in case.scan.frames[:8]
    ]
    before, after = case.views(frames=case.scan.frames[:8]), case.views(mesh=mesh, frames=frames)
    enough = case.truth.clear[:8]
    for name in ("visibility", "in_view", "hidden"):
        difference = np.abs(getattr(before, name) - getattr(after, name))[enough]
        assert difference.max() <= 0.01, name
    np.testing.assert_allclose(
        before.camera_location[enough], after.camera_location[enough], atol=0.02
    )


def test_shuffled_objects_and_frames_give_shuffled_views(cases: tuple[Case, ...]) -> None:
    case = cases[0]
    rng = np.random.default_rng(0)
    objects, rows = rng.permutation(len(case.members)), rng.permutation(8)
    whole = case.views(frames=case.scan.frames[:8])
    found = case.views(
        members=[case.members[one] for one in objects],
        frames=[case.scan.frames[row] for row in rows],
    )
    for name in views.ObjectViews._fields[:-1]:
        expected = getattr(whole, name)[rows][:, objects]
        np.testing.assert_array_equal(getattr(found, name), expected, name)
    np.testing.assert_array_equal(found.agreement, whole.agreement[rows])


def test_a_coarser_mesh_changes_little(
    made: tuple[rooms.Room, ...], cases: tuple[Case, ...]
) -> None:
    case = cases[0]
    coarse = room_scan.room_scan(made[0], "scene0000_00", spacing=0.15)
    members = [one.vertices for one in coarse.objects[: len(case.members)]]
    assert len(coarse.mesh.points) < len(case.scan.mesh.points) / 3
    found = case.views(mesh=coarse.mesh, members=members)
    error = np.abs(found.visibility - case.truth.visibility)[case.truth.clear]
    assert error.max() < 0.05


def test_an_object_out_of_sight_changes_nothing_about_others(cases: tuple[Case, ...]) -> None:
    case = cases[0]
    mesh, count = case.scan.mesh, len(case.scan.mesh.points)
    points, faces = room_scan.box_surface(np.array([40.0, 40, 0]), np.array([41.0, 41, 1]), 0.3)
    larger = Mesh(
        np.concatenate([mesh.points, points.astype(np.float32)]),
        np.concatenate([mesh.colors, np.zeros((len(points), 3), np.uint8)]),
        np.concatenate([mesh.faces, (faces + count).astype(np.int32)]),
    )
    far = np.arange(count, len(larger.points))
    frames = case.scan.frames[:8]
    whole = case.views(frames=frames)
    found = case.views(mesh=larger, members=[*case.members, far], frames=frames)
    assert not found.visibility[:, -1].any()
    for name in views.ObjectViews._fields[:-1]:
        np.testing.assert_array_equal(getattr(found, name)[:, :-1], getattr(whole, name), name)


def test_objects_that_share_vertices_are_each_measured_whole(cases: tuple[Case, ...]) -> None:
    case = cases[0]
    frames = case.scan.frames[:4]
    found = case.views(members=[*case.members, case.members[0]], frames=frames)
    once = case.views(frames=frames)
    for name in ("visibility", "hidden", "bbox_2d"):
        np.testing.assert_array_equal(getattr(found, name)[:, 0], getattr(found, name)[:, -1])
        np.testing.assert_array_equal(getattr(found, name)[:, :-1], getattr(once, name))
