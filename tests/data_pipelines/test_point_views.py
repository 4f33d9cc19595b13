"""Views by points: the published records, a plain twin of the kernel, and cases by hand."""

import dataclasses
import json
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import pytest

from data_pipelines import point_views, renderer, room_scan, rooms, views
from data_pipelines.scan import Mesh, ScanFrame
from geometry_jax.types import leaf
from launch import bench_visibility
from launch.bench_visibility import Stored

CLOUDS = 6
INTRINSICS = np.array([[100.0, 0.0, 50.0], [0.0, 100.0, 40.0], [0.0, 0.0, 1.0]])


def cloud(points: np.ndarray) -> Mesh:
    points = np.asarray(points, np.float32).reshape(-1, 3)
    return Mesh(points, np.zeros(points.shape, np.uint8), np.zeros((0, 3), np.int32))


def frame_of(row: int = 0, pose: np.ndarray | None = None, depth: tuple[int, int] = (50, 40)):
    mesh_from_camera = np.eye(4) if pose is None else pose
    return ScanFrame(row, str(row), mesh_from_camera, INTRINSICS, INTRINSICS, (100, 80), depth)


# --- by hand -------------------------------------------------------------------------------------


def published(points: list[list[float]], depth: np.ndarray) -> views.ObjectViews:
    """One object of `points` in one frame at the origin."""
    members, images = [np.arange(len(points))], Stored(depth[None])
    return views.object_views(
        cloud(np.array(points)), members, [frame_of()], images, settings=views.PUBLISHED
    )


def test_boxes_have_a_margin_and_places_are_middles_of_what_is_shown() -> None:
    # Columns 20.4 and 70.6, rows 30.1 and 50; two points are behind, one is left of the picture.
    points = [[-0.592, -0.198, 2], [0.412, 0.2, 2], [0, 0, -1], [9, 9, -2], [-3, 0, 2]]
    found = published(points, np.zeros((40, 50), np.uint16))
    assert found.visibility[0, 0] == pytest.approx(0.4)
    assert found.bbox_2d[0, 0].tolist() == [20 - 2, 30 - 2, int(70.6 + 0.5) + 2, 50 + 2]
    np.testing.assert_allclose(found.camera_location[0, 0], [-0.09, 0.001, 2], atol=1e-6)
    assert found.truncated[0, 0] and not found.occluded[0, 0]


def test_a_point_is_hidden_by_depth_nearer_by_more_than_a_thousandth() -> None:
    depth = np.zeros((40, 50), np.uint16)
    depth[20, 25] = 2000  # where column 50 and row 40 of the picture fall
    for z, shown in ((1.0, True), (2.0019, True), (2.0021, False)):
        found = published([[0, 0, z]], depth)
        assert found.seen[0, 0] == shown and found.occluded[0, 0] == (not shown), z
    depth[20, 25] = 0
    assert published([[0, 0, 5.0]], depth).seen[0, 0]


def test_a_point_behind_the_camera_truncates_and_does_not_show() -> None:
    found = published([[0, 0, -1.0]], np.zeros((40, 50), np.uint16))
    assert found.truncated[0, 0] and not found.seen[0, 0] and not found.bbox_2d.any()
    assert found.camera_location[0, 0].tolist() == [views.NOWHERE] * 3


# --- the published records -----------------------------------------------------------------------


def golden(path: Path) -> tuple[Mesh, list[np.ndarray], list[ScanFrame], Stored, list[list[dict]]]:
    """A cloud, its objects, frames and records; points aligned in float32, as published."""
    arrays = np.load(path)
    records = json.loads(path.with_suffix(".json").read_text())
    align = arrays["axis_align"]
    aligned = arrays["points"].astype(np.float64) @ align[:3, :3].T + align[:3, 3]
    camera = arrays["intrinsic"][:3, :3]
    width, height = map(int, arrays["color_size"])
    _, rows, columns = arrays["depth"].shape
    frames = [
        ScanFrame(row, str(row), align @ pose, camera, camera, (width, height), (columns, rows))
        for row, pose in enumerate(arrays["poses"])
    ]
    members = [np.flatnonzero(arrays["instance"] == one["object_id"]) for one in records["objects"]]
    return cloud(aligned), members, frames, Stored(arrays["depth"]), records["frames"]


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_published_records_are_reproduced(
    shared_dir: Path, precision: Literal["float32", "float64"]
) -> None:
    settings = dataclasses.replace(views.PUBLISHED, precision=precision)
    total = right = boxes = 0
    for number in range(CLOUDS):
        path = shared_dir / "golden" / "clouds" / f"cloud{number:02d}.npz"
        mesh, members, frames, images, records = golden(path)
        found = views.object_views(mesh, members, frames, images, settings=settings)
        for row, record in enumerate(records):
            for one, expected in enumerate(record):
                share = found.visibility[row, one]
                same = [
                    round(share * len(members[one])) == expected["visible_points"],
                    abs(share - expected["visibility"]) < 6e-5,  # four decimals
                    found.truncated[row, one] == expected["truncated"],
                    found.occluded[row, one] == expected["occluded"],
                    np.allclose(
                        found.camera_location[row, one], expected["camera_location"], atol=1e-5
                    ),
                    found.bbox_2d[row, one].tolist() == expected.get("2d_bbox", [0, 0, 0, 0]),
                ]
                boxes += "2d_bbox" in expected
                right += all(same)
                total += 1
    assert total > 300 and boxes > 100
    assert right >= 0.999 * total


def test_on_golden_frames_the_default_is_closer_to_the_truth(shared_dir: Path) -> None:
    """The clouds' objects are boxes along the aligned axes: truth about them can be rendered."""
    path = shared_dir / "golden" / "clouds" / "cloud04.npz"
    mesh, strewn, frames, images, records = golden(path)
    objects = json.loads(path.with_suffix(".json").read_text())["objects"]
    boxes = np.array([one["3d_bbox"] for one in objects])
    shell = mesh.points[np.load(path)["instance"] == 0]
    low, high = shell.min(0), shell.max(0)
    f32, count = np.float32, len(boxes)
    parts = renderer.Parts(
        center=leaf(((boxes[:, :3] + boxes[:, 3:]) / 2 - low).astype(f32)),
        half_extent=leaf(((boxes[:, 3:] - boxes[:, :3]) / 2).astype(f32)),
        yaw=leaf(np.zeros(count, f32)),
        ellipsoid=leaf(np.zeros(count, bool)),
        color=leaf(np.zeros((count, 3), f32)),
        owner=leaf(np.arange(count)),
    )
    room = renderer.Shell(leaf(high - low), *(leaf(np.zeros(n, f32)) for n in ((4, 3), (2, 3), 3)))
    poses = np.stack([frame.mesh_from_camera for frame in frames])
    poses[:, :3, 3] -= low
    width, height = frames[0].color_size
    small = np.diag([160 / width, 120 / height, 1.0]) @ frames[0].color_intrinsics
    rendering = renderer.render(parts, room, poses, small, width=160, height=120, num_objects=count)
    truth = rooms.visibility(rendering)
    known = np.array([len(own) >= 20 for own in strewn])  # fewer points do not span their box
    clear = (np.asarray(rendering.seen) >= 30) & known

    surfaces = [room_scan.box_surface(box[:3], box[3:], 0.05) for box in boxes]
    surfaces.append(room_scan.box_surface(low, high, 0.05))
    starts = np.cumsum([0] + [len(points) for points, _ in surfaces])
    points = np.concatenate([points for points, _ in surfaces])
    faces = np.concatenate([one[1] + start for one, start in zip(surfaces, starts, strict=False)])
    scanned = dataclasses.replace(cloud(points), faces=faces.astype(np.int32))
    # The clouds' depth pixels have their middles at whole numbers.
    columns, rows = frames[0].depth_size
    scale = np.diag([columns / width, rows / height, 1.0])
    camera = scale @ frames[0].color_intrinsics + [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
    frames = [dataclasses.replace(frame, depth_intrinsics=camera) for frame in frames]
    members = [np.arange(starts[one], starts[one + 1]) for one in range(count)]
    found = views.object_views(scanned, members, frames, images)
    published = np.array([[one["visibility"] for one in record] for record in records])
    assert clear.sum() > 10
    assert np.abs(found.visibility - truth)[clear].mean() < 0.01
    assert np.abs(published - truth)[clear].mean() > 0.1


# --- the kernel ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def case() -> bench_visibility.Case:
    """A room at the size of the tests' other rooms: the renderer is compiled once."""
    return bench_visibility.make_case(3000, 40, (80, 60))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_kernel_finds_what_plain_numpy_finds(
    case: bench_visibility.Case, dtype: type[np.floating]
) -> None:
    points, frames = case.points.points, list(case.frames)
    tiles = point_views.point_tiles(points, case.point_members, np.dtype(dtype))
    found = jax.device_get(
        point_views.chunk_statistics(
            tiles,
            frames,
            [case.images.depth(frame) for frame in frames],
            length=len(frames) + 3,
            objects=len(case.point_members),
            depth_tolerance=0.01,
            least_tolerance=0.0,
        )
    )
    twin = bench_visibility.numpy_statistics(
        points.astype(np.float64), case.point_members, frames, case.images, depth_tolerance=0.01
    )
    assert found.camera_low.dtype == dtype
    assert twin.inside.sum() > 10_000 and twin.hidden.sum() > 1000
    if dtype is np.float64:
        np.testing.assert_array_equal(found.touching, twin.touching)
        np.testing.assert_array_equal(found.inside, twin.inside)
        np.testing.assert_array_equal(found.hidden, twin.hidden)
        for name in ("pixel_low", "pixel_high", "camera_low", "camera_high"):
            np.testing.assert_allclose(getattr(found, name), getattr(twin, name), rtol=1e-9)
    else:  # points on the very border of the picture, a depth pixel or the tolerance may change
        for name in ("inside", "hidden"):
            moved = np.abs(getattr(found, name) - getattr(twin, name))
            assert moved.max() <= 2 and moved.sum() < 1e-3 * twin.inside.sum(), name


def test_chunks_and_sizes_of_frames_do_not_change_what_each_shows() -> None:
    rng = np.random.default_rng(2)
    mesh, members = cloud(rng.uniform(-1, 1, (300, 3))), [np.arange(100), np.arange(50, 300)]
    depth = rng.integers(0, 4000, (views.CHUNK + 5, 40, 50)).astype(np.uint16)
    frames = []
    for row in range(len(depth)):
        pose = np.eye(4)
        pose[:3, 3] = rng.uniform(-0.5, 0.5, 3) - [0, 0, 2]
        frames.append(frame_of(row, pose, depth=(0, 0) if row % 3 == 0 else (50, 40)))
    whole = views.object_views(mesh, members, frames, Stored(depth), settings=views.PUBLISHED)
    assert whole.occluded.any() and not whole.occluded[::3].any()
    for row in (0, 1, views.CHUNK + 4):
        alone = views.object_views(
            mesh, members, frames[row : row + 1], Stored(depth), settings=views.PUBLISHED
        )
        for name in views.ObjectViews._fields:
            np.testing.assert_array_equal(getattr(whole, name)[row], getattr(alone, name)[0], name)


def test_tiles_hold_every_point_once_and_belong_to_one_object() -> None:
    rng = np.random.default_rng(3)
    points = rng.normal(size=(1000, 3)).astype(np.float32)
    members = [np.arange(300), np.zeros(0, int), np.arange(299, 1000), np.array([5])]
    tiles = point_views.point_tiles(points, members, np.dtype(np.float32))
    for index, own in enumerate(members):
        mine = tiles.owner == index
        held = tiles.points[:, mine][:, tiles.valid[mine]].T
        np.testing.assert_array_equal(held, points[own])
    assert tiles.valid.sum() == sum(map(len, members))
    assert (np.diff(tiles.owner.astype(np.int64)) >= 0).all()
