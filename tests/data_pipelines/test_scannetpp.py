"""ScanNet++: rooms written as released, read back; conventions by hand; raw data that is broken."""

import json
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_pipelines import rooms, scannetpp, scannetpp_dslr
from data_pipelines.room_scan import room_scan
from data_pipelines.scan import Scan, ScanError
from data_pipelines.writers import scannetpp as writer

BAD = 4  # the still that is marked as bad
MOVED = np.array([[0.6, -0.8, 0, 1.2], [0.8, 0.6, 0, -0.7], [0, 0, 1, 0.3], [0, 0, 0, 1.0]])


@pytest.fixture(scope="module")
def truth(made: tuple[rooms.Room, ...]) -> Scan:
    return room_scan(made[0], "scene0000_00", split="val", spacing=0.3, world_from_mesh=MOVED)


@pytest.fixture(scope="module")
def written(truth: Scan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = tmp_path_factory.mktemp("scannetpp")
    writer.write_scan(truth, raw, bad=[BAD])
    return raw


@pytest.fixture
def raw(written: Path, tmp_path: Path) -> Path:
    """A copy to be broken."""
    shutil.copytree(written, tmp_path / "raw")
    return tmp_path / "raw"


def folder_of(raw: Path) -> Path:
    return raw / "data" / scannetpp.list_scans(raw)[0]


def read(raw: Path, **options: Any) -> Scan:
    return scannetpp.read_scan(raw, scannetpp.list_scans(raw)[0], **options)


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Rewrites a JSON file after `change`, which alters the value in place."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def cut(path: Path, share: float = 0.5) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


# --- round trip ----------------------------------------------------------------------------------


def assert_same_objects(read_back: Scan, truth: Scan) -> None:
    assert len(read_back.objects) == len(truth.objects)
    for one, other in zip(read_back.objects, truth.objects, strict=True):
        assert (one.object_id, one.label) == (other.object_id, other.label)
        np.testing.assert_array_equal(one.vertices, other.vertices)
        assert one.box is not None
        if other.box is not None:
            np.testing.assert_allclose(one.box.corners(), other.box.corners(), atol=1e-9)
        corners = one.box.corners()
        own = read_back.mesh.points[one.vertices]
        assert (own >= corners.min(0) - 1e-4).all() and (own <= corners.max(0) + 1e-4).all()


def test_stills_come_back_as_they_were_written(truth: Scan, written: Path) -> None:
    scan = read(written, part="all")
    assert (scan.dataset, scan.split, scan.world_from_mesh) == ("scannetpp", "val", None)
    assert scan.scene_id == f"scene{scan.source_id}_00" and not scan.is_video
    np.testing.assert_array_equal(scan.mesh.points, truth.mesh.points)
    np.testing.assert_array_equal(scan.mesh.colors, truth.mesh.colors)
    np.testing.assert_array_equal(scan.mesh.faces, truth.mesh.faces)
    assert_same_objects(scan, truth)
    assert [frame.frame_id for frame in scan.frames] == list(range(len(truth.frames) - 1))
    assert [one.what for one in scan.skipped] == [f"frame DSC{BAD + 1:05d}.JPG"]
    for frame in scan.frames:
        old = truth.frames[int(frame.source[3:8]) - 1]
        np.testing.assert_allclose(frame.mesh_from_camera, old.mesh_from_camera, atol=1e-12)
        np.testing.assert_array_equal(frame.color_intrinsics, old.color_intrinsics)
        np.testing.assert_allclose(frame.depth_intrinsics, old.depth_intrinsics, atol=1e-12)
        assert (frame.color_size, frame.depth_size) == (old.color_size, old.depth_size)
        np.testing.assert_array_equal(scan.images.depth(frame), truth.images.depth(old))
        np.testing.assert_array_equal(scan.images.color(frame), truth.images.color(old))
        assert scan.images.color_jpeg(frame) == truth.images.color_jpeg(old)


def test_video_comes_back_as_it_was_written(truth: Scan, written: Path) -> None:
    scan = read(written, camera="iphone")
    assert scan.is_video and not scan.skipped
    assert_same_objects(scan, truth)
    for frame, old in zip(scan.frames, truth.frames, strict=True):
        np.testing.assert_array_equal(frame.mesh_from_camera, old.mesh_from_camera)
        np.testing.assert_array_equal(frame.color_intrinsics, old.color_intrinsics)
        assert (frame.frame_id, frame.time) == (old.frame_id, old.time)
        assert (frame.color_size, frame.depth_size) == (old.color_size, (256, 192))
        loss = np.abs(scan.images.color(frame).astype(int) - truth.images.color(old))
        assert loss.mean() < 8  # colours have half the resolution
        assert scan.images.color_jpeg(frame) is None


def test_depth_of_the_video_is_that_of_the_room(truth: Scan, written: Path) -> None:
    scan = read(written, camera="iphone")
    for frame, old in list(zip(scan.frames, truth.frames, strict=True))[::8]:
        # The same point of the image, in both: the middle of a pixel of the smaller one.
        (width, height), rows, columns = old.depth_size, *np.mgrid[:60, :80]
        at = (rows + 0.5) / height * 192, (columns + 0.5) / width * 256
        phone = scan.images.depth(frame)[at[0].astype(int), at[1].astype(int)].astype(int)
        apart = np.abs(phone - truth.images.depth(old))
        assert np.median(apart) <= 15 and (apart < 60).mean() > 0.9


def test_training_and_held_out_stills_are_told_apart(truth: Scan, written: Path) -> None:
    train, test, both = (read(written, part=part).frames for part in ("train", "test", "all"))
    assert [frame.source for frame in test] == ["DSC00015.JPG"]
    assert [frame.source for frame in (*train, *test)] == [frame.source for frame in both]
    assert test[0].frame_id == len(train)


def test_without_depth_images_depth_is_rendered_from_the_mesh(truth: Scan, raw: Path) -> None:
    shutil.rmtree(folder_of(raw) / "dslr" / "undistorted_depths")
    scan = read(raw)
    assert scan.frames[0].depth_size == (80, 60)
    for frame in scan.frames[::7]:
        measured = truth.images.depth(truth.frames[int(frame.source[3:8]) - 1]).astype(int)
        # A ball's mesh lies inside the ball, and pixels on an outline may go either way.
        apart = np.abs(scan.images.depth(frame) - measured)
        assert (apart <= 1).mean() > 0.9 and (apart <= 30).mean() > 0.97


def test_rendered_depth_of_large_images_is_smaller(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(folder_of(raw) / "dslr" / "undistorted_depths")
    monkeypatch.setattr(scannetpp_dslr, "RENDERED_WIDTH", 40)
    (frame, *_) = read(raw).frames
    assert frame.depth_size == (40, 30)
    np.testing.assert_array_equal(frame.depth_intrinsics[:2], frame.color_intrinsics[:2] / 2)


def test_phone_world_is_not_the_mesh_frame(written: Path) -> None:
    records = json.loads((folder_of(written) / "iphone" / "pose_intrinsic_imu.json").read_text())
    moves = [np.array(one["pose"]) @ np.linalg.inv(one["aligned_pose"]) for one in records.values()]
    np.testing.assert_allclose(moves, np.tile(moves[0], (len(moves), 1, 1)), atol=1e-9)
    assert np.abs(moves[0] - np.eye(4)).max() > 0.5


# --- conventions ---------------------------------------------------------------------------------


def test_pose_convention_by_hand() -> None:
    # At (1, 2, 3), looking along +x, upright: right is -y, down is -z.
    opencv = np.array([[0, 0, 1, 1], [-1, 0, 0, 2], [0, -1, 0, 3], [0, 0, 0, 1.0]])
    # Its axes as an OpenGL camera's are right -y, up +z, back -x; W takes (x, y, z) to (y, x, -z).
    stored = np.array([[-1, 0, 0, 2], [0, 0, -1, 1], [0, -1, 0, -3], [0, 0, 0, 1.0]])
    np.testing.assert_array_equal(scannetpp_dslr.mesh_from_camera(stored), opencv)
    np.testing.assert_array_equal(scannetpp_dslr.transform_matrix(opencv), stored)


def test_pose_convention_step_by_step() -> None:
    stored = np.random.default_rng(0).normal(size=(4, 4))
    expected = stored.copy()
    expected[2] *= -1
    expected[[0, 1]] = expected[[1, 0]]
    expected[:, 1:3] *= -1
    np.testing.assert_array_equal(scannetpp_dslr.mesh_from_camera(stored), expected)


def test_box_axes_are_the_rows_of_the_file(raw: Path) -> None:
    def turn(value: Any) -> None:
        value["segGroups"] = value["segGroups"][:1]
        value["segGroups"][0]["obb"] = {
            "centroid": [1, 2, 3],
            "axesLengths": [2, 4, 6],
            "normalizedAxes": [0.6, 0.8, 0, -0.8, 0.6, 0, 0, 0, -1],  # left-handed too
        }

    path = folder_of(raw) / "scans" / "segments_anno.json"
    edit(path, turn)
    count = 1 + max(json.loads(path.read_text())["segGroups"][0]["segments"])
    (one,), _ = scannetpp.read_objects(path, np.arange(count))
    box = one.box
    assert box is not None and np.linalg.det(box.rotation) == pytest.approx(1)
    corner = np.array([1, 2, 3]) + 1 * np.array([0.6, 0.8, 0]) + 2 * np.array([-0.8, 0.6, 0])
    reach = np.linalg.norm(box.corners() - (corner + [0, 0, 3]), axis=1).min()
    assert reach == pytest.approx(0, abs=1e-12)


def test_vertices_may_belong_to_two_objects_and_segments_be_shared(raw: Path) -> None:
    scans = folder_of(raw) / "scans"

    def coarsen(value: Any) -> None:  # ids in any order, ten vertices each
        count = len(value["segIndices"])
        value["segIndices"] = [90_000 - row // 10 for row in range(count)]

    def annotate(value: Any) -> None:
        value["segGroups"] = [
            {"objectId": 3, "label": "desk", "segments": [90_000, 89_998]},
            {"objectId": 9, "label": "remove", "segments": [89_998, 89_998]},
        ]

    edit(scans / "segments.json", coarsen)
    edit(scans / "segments_anno.json", annotate)
    desk, remove = read(raw).objects
    np.testing.assert_array_equal(desk.vertices, [*range(10), *range(20, 30)])
    np.testing.assert_array_equal(remove.vertices, range(20, 30))
    assert remove.box is None


def test_intrinsics_are_for_the_sensor_or_for_the_video() -> None:
    sensor = np.array([[1440.0, 0, 963], [0, 1441, 722], [0, 0, 1]])
    small = scannetpp.scannetpp_iphone.image_intrinsics(sensor, (480, 360), "here")
    np.testing.assert_allclose(small, [[360, 0, 240.75], [0, 360.25, 180.5], [0, 0, 1]])
    own = scannetpp.scannetpp_iphone.image_intrinsics(small, (480, 360), "here")
    np.testing.assert_array_equal(own, small)
    with pytest.raises(ScanError, match="here: expected intrinsics of 200x150 or 1920x1440"):
        scannetpp.scannetpp_iphone.image_intrinsics(small, (200, 150), "here")


def test_fisheye_images_are_undistorted_when_that_is_all_there_is(truth: Scan, raw: Path) -> None:
    dslr = folder_of(raw) / "dslr"
    (dslr / "undistorted_images").rename(dslr / "resized_images")

    def bend(value: Any) -> None:  # without coefficients a fisheye still is no pinhole
        value["camera_model"] = "OPENCV_FISHEYE"

    shutil.copy(
        dslr / "nerfstudio/transforms_undistorted.json", dslr / "nerfstudio/transforms.json"
    )
    edit(dslr / "nerfstudio" / "transforms.json", bend)
    bent = json.loads((dslr / "nerfstudio" / "transforms.json").read_text())
    camera = " ".join(str(bent[name]) for name in ("w", "h", "fl_x", "fl_y", "cx", "cy"))
    (dslr / "colmap" / "cameras.txt").write_text(f"1 OPENCV_FISHEYE {camera} 0 0 0 0\n")
    known = read(raw)
    np.testing.assert_array_equal(
        known.frames[0].color_intrinsics, truth.frames[0].color_intrinsics
    )
    assert known.frames[0].depth_size == (80, 60)
    (dslr / "nerfstudio" / "transforms_undistorted.json").unlink()
    own = read(raw)
    assert isinstance(own.images, scannetpp_dslr.StillImages)
    assert own.images.depths is None  # the depth images are of another camera: it is rendered
    # The left border's middle is at an angle of half the width over f; a pinhole puts it at its
    # tangent.
    focal, width = truth.frames[0].color_intrinsics[0, 0], 80
    sides = [np.tan(side / 2 / focal) / (side / 2) for side in (width, 60)]
    expected = 1 / np.array([sides[0], sides[1]])
    assert own.frames[0].color_intrinsics[0, 0] == pytest.approx(expected.max())
    assert own.images.color(own.frames[0]).shape == (60, 80, 3)
    assert own.images.color_jpeg(own.frames[0]) is None
    np.testing.assert_array_equal(own.frames[0].mesh_from_camera, known.frames[0].mesh_from_camera)


def test_a_camera_that_is_not_that_of_colmap_is_refused(raw: Path) -> None:
    dslr = folder_of(raw) / "dslr"
    camera = json.loads((dslr / "nerfstudio" / "transforms_undistorted.json").read_text())
    numbers = [camera["fl_x"] * 1.1, camera["fl_y"], camera["cx"], camera["cy"]]
    (dslr / "colmap" / "cameras.txt").write_text(
        f"1 PINHOLE {camera['w']} {camera['h']} {' '.join(map(str, numbers))}\n"
    )
    with pytest.raises(ScanError, match=r"cameras.txt and .*: expected the same camera"):
        read(raw)


@pytest.mark.parametrize(
    ("box", "why"),
    [
        ({"centroid": [50.0, 50.0, 50.0]}, "vertices inside, 0% are"),
        ({"axesLengths": [1e6, 1e6, 1e6]}, "expected a box about as large as its vertices'"),
        ({"axesLengths": [0.0, 0.0, 0.0]}, "vertices inside"),
    ],
)
def test_a_box_that_is_not_about_its_vertices_is_left_out(
    box: dict[str, list[float]], why: str, raw: Path
) -> None:
    def damage(value: Any) -> None:
        value["segGroups"][0]["obb"] |= box

    before = read(raw)
    edit(folder_of(raw) / "scans" / "segments_anno.json", damage)
    after = read(raw)
    assert before.objects[0].box is not None and after.objects[0].box is None
    np.testing.assert_array_equal(after.objects[0].vertices, before.objects[0].vertices)
    (skipped,) = set(after.skipped) - set(before.skipped)
    assert skipped.what.startswith("box of object") and why in skipped.why


@pytest.mark.parametrize(
    "damage", [{"objectId": 10**30}, {"objectId": -1}, {"objectId": True}, {"label": "bed \ud83d"}]
)
def test_numbers_and_labels_that_no_scene_can_hold_leave_the_object_out(
    damage: dict[str, Any], raw: Path
) -> None:
    before = read(raw)
    edit(
        folder_of(raw) / "scans" / "segments_anno.json",
        lambda value: value["segGroups"][0].update(damage),
    )
    after = read(raw)
    assert len(after.objects) == len(before.objects) - 1
    (skipped,) = set(after.skipped) - set(before.skipped)
    assert "expected" in skipped.why


def test_one_frame_without_a_pose_or_a_camera_is_left_out_alone(raw: Path) -> None:
    before = read(raw), read(raw, camera="iphone")

    def lose(value: Any) -> None:
        value["frames"][0]["transform_matrix"] = None

    def forget(value: Any) -> None:
        value["frame_000000"]["aligned_pose"] = None
        value["frame_000001"]["intrinsic"] = None
        value["made_by"] = "another program"

    edit(folder_of(raw) / "dslr" / "nerfstudio" / "transforms_undistorted.json", lose)
    edit(folder_of(raw) / "iphone" / "pose_intrinsic_imu.json", forget)
    after = read(raw), read(raw, camera="iphone")
    assert len(after[0].frames) == len(before[0].frames) - 1
    assert len(after[1].frames) == len(before[1].frames) - 2
    assert any("made_by" in one.what for one in after[1].skipped)


HAND_MESH = """ply
format ascii 1.0
element vertex 4
property float x
property float y
property float z
property uchar red
property uchar green
property uchar blue
element face 2
property list uchar int vertex_index
end_header
2 -1 0 255 0 0
2 1 0 255 0 0
2 1 2 255 0 0
2 -1 2 255 0 0
3 0 1 2
3 0 2 3
"""
HAND_TRANSFORMS = {
    "fl_x": 20,
    "fl_y": 20,
    "cx": 10,
    "cy": 10,
    "w": 20,
    "h": 20,
    "camera_model": "PINHOLE",
    # At the origin one metre up, looking along +x: see the hand case above.
    "frames": [
        {
            "file_path": "images/DSC01.JPG",
            "transform_matrix": [[-1, 0, 0, 0], [0, 0, -1, 0], [0, -1, 0, -1], [0, 0, 0, 1]],
        }
    ],
}


def test_files_written_by_hand_are_read(tmp_path: Path) -> None:
    scan_folder = tmp_path / "0123456789"
    for name in ("scans", "dslr/nerfstudio", "dslr/colmap", "dslr/resized_undistorted_images"):
        (scan_folder / name).mkdir(parents=True)
    scans, dslr = scan_folder / "scans", scan_folder / "dslr"
    (scans / "mesh_aligned_0.05.ply").write_text(HAND_MESH)
    (scans / "segments.json").write_text('{"sceneId:": "x", "segIndices": [0, 1, 2, 3]}')
    (scans / "segments_anno.json").write_text(
        '{"segGroups": [{"id": 1, "objectId": 1, "label": "white board", "segments": [0, 1, 2]}]}'
    )
    (dslr / "nerfstudio" / "transforms_undistorted.json").write_text(json.dumps(HAND_TRANSFORMS))
    Image.new("RGB", (20, 20), "red").save(dslr / "resized_undistorted_images" / "DSC01.JPG")
    # World-to-camera by hand: right = -y, down = -z, forward = x, so x = -Y, y = -Z + 1, z = X.
    (dslr / "colmap" / "images.txt").write_text(
        "# a comment\n7 0.5 0.5 -0.5 0.5 0 1 0 3 folder/DSC01.JPG\n1.5 2.5 -1 3 4 5 6 7 8\n"
    )
    scan = read(tmp_path)
    (frame,) = scan.frames
    assert scan.objects[0].label == "white board" and scan.objects[0].box is None
    np.testing.assert_array_equal(frame.mesh_from_camera[:3, 3], [0, 0, 1])
    np.testing.assert_array_equal(frame.mesh_from_camera[:3, 2], [1, 0, 0])
    # The square board of 2 m, 2 m away, fills the view of 2 x 2 m there.
    assert frame.depth_size == (20, 20)
    np.testing.assert_array_equal(scan.images.depth(frame), np.full((20, 20), 2000))


# --- what scans there are ------------------------------------------------------------------------


def test_scans_may_lie_in_the_raw_folder_itself(written: Path) -> None:
    assert scannetpp.list_scans(written / "data") == scannetpp.list_scans(written)
    assert read(written / "data").split == "val"


def test_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scene0000_00").mkdir()
    with pytest.raises(ScanError, match=r"expected ScanNet\+\+ scans .* found scene0000_00"):
        scannetpp.list_scans(tmp_path)
    with pytest.raises(ScanError, match="found none"):
        scannetpp.list_scans(tmp_path / "nowhere")


def test_unknown_scan_is_refused(written: Path) -> None:
    with pytest.raises(ScanError, match="expected a scan '0123456789', found none"):
        scannetpp.read_scan(written, "0123456789")


# --- broken raw data -----------------------------------------------------------------------------

FILES = {
    "scans/mesh_aligned_0.05.ply": "dslr",
    "scans/segments.json": "dslr",
    "scans/segments_anno.json": "dslr",
    "dslr/nerfstudio/transforms_undistorted.json": "dslr",
    "iphone/rgb.mkv": "iphone",
    "iphone/depth.bin": "iphone",
    "iphone/pose_intrinsic_imu.json": "iphone",
}


@pytest.mark.parametrize("file", FILES)
def test_file_that_is_cut_short_or_missing_is_named(raw: Path, file: str) -> None:
    path = folder_of(raw) / file
    cut(path)
    with pytest.raises(ScanError, match=path.name):
        read(raw, camera=FILES[file])
    path.unlink()
    with pytest.raises(ScanError, match=r"expected .*(found|no such)") as error:
        read(raw, camera=FILES[file])
    assert path.name in str(error.value)


@pytest.mark.parametrize("content", ["[]", "{}", "null", '{"segGroups": 3}'])
def test_json_of_the_wrong_shape_is_refused(raw: Path, content: str) -> None:
    (folder_of(raw) / "scans" / "segments_anno.json").write_text(content)
    with pytest.raises(ScanError, match=r"segments_anno\.json"):
        read(raw)


def test_segments_of_another_mesh_are_refused(raw: Path) -> None:
    edit(folder_of(raw) / "scans" / "segments.json", lambda value: value["segIndices"].pop())
    with pytest.raises(ScanError, match="expected a segment for each of the mesh's"):
        read(raw)


def test_two_objects_of_one_id_are_refused(raw: Path) -> None:
    def repeat(value: Any) -> None:
        value["segGroups"][1]["objectId"] = value["segGroups"][0]["objectId"]

    edit(folder_of(raw) / "scans" / "segments_anno.json", repeat)
    with pytest.raises(ScanError, match="expected distinct values of objectId, got 1 for both"):
        read(raw)


def test_objects_that_can_not_be_used_are_left_out_with_a_reason(truth: Scan, raw: Path) -> None:
    def spoil(value: Any) -> None:
        groups = value["segGroups"]
        groups[0]["segments"] = []
        groups[1]["segments"] = [10**7]
        groups[2]["segments"].append(10**7)
        groups[3]["label"] = " "
        groups[4]["obb"]["normalizedAxes"] = [1, 0, 0] * 3
        groups.append({"objectId": "seven"})

    edit(folder_of(raw) / "scans" / "segments_anno.json", spoil)
    scan = read(raw)
    assert {one.object_id for one in scan.objects} == {
        one.object_id for one in truth.objects if one.object_id not in (1, 2, 4)
    }
    np.testing.assert_array_equal(scan.objects[0].vertices, truth.objects[2].vertices)
    assert scan.objects[1].box is None
    said = " | ".join(f"{one.what}: {one.why}" for one in scan.skipped)
    for words in ("no segments", "no vertex has segment", "expected a label", "unit axes", "seven"):
        assert words in said


def transforms(raw: Path) -> Path:
    return folder_of(raw) / "dslr" / "nerfstudio" / "transforms_undistorted.json"


def test_frame_without_a_pose_or_an_image_is_left_out_and_keeps_its_number(raw: Path) -> None:
    def lose(value: Any) -> None:
        value["frames"][0]["transform_matrix"][1][3] = float("nan")
        value["frames"][1]["transform_matrix"][0][0] = 5.0

    edit(transforms(raw), lose)
    (folder_of(raw) / "dslr" / "undistorted_images" / "DSC00003.JPG").unlink()
    (folder_of(raw) / "dslr" / "undistorted_depths" / "DSC00004.png").unlink()
    scan = read(raw)
    assert scan.frames[0].frame_id == 3 and scan.frames[0].source == "DSC00004.JPG"
    assert scan.frames[0].depth_size == (0, 0)
    with pytest.raises(ScanError, match="expected depth"):
        scan.images.depth(scan.frames[0])
    reasons = {one.what: one.why for one in scan.skipped}
    assert "nan" in reasons["frame DSC00001.JPG"]
    assert "rotation" in reasons["frame DSC00002.JPG"]
    assert "found none" in reasons["frame DSC00003.JPG"]
    assert "found none" in reasons["depth of frame DSC00004.JPG"]


def test_image_that_is_listed_twice_is_one_frame(raw: Path) -> None:
    edit(transforms(raw), lambda value: value["test_frames"].append(value["frames"][0]))
    scan = read(raw, part="all")
    assert len({frame.source for frame in scan.frames}) == len(scan.frames) == 23
    assert "has it twice" in scan.skipped[-1].why
    assert len(read(raw, part="train").frames) == 22


def test_poses_that_colmap_does_not_confirm_are_refused(raw: Path) -> None:
    def move(value: Any) -> None:
        value["frames"][2]["transform_matrix"][0][3] += 0.5

    edit(transforms(raw), move)
    with pytest.raises(ScanError, match=r"1 of 23 differ, DSC00003.JPG by 0.500 m and 0.0 degrees"):
        read(raw)


def test_poses_that_were_converted_already_are_refused(raw: Path) -> None:
    def convert(value: Any) -> None:
        for frame in (*value["frames"], *value["test_frames"]):
            stored = np.array(frame["transform_matrix"])
            frame["transform_matrix"] = scannetpp_dslr.mesh_from_camera(stored).tolist()

    edit(transforms(raw), convert)
    with pytest.raises(ScanError, match="expected poses in the convention of nerfstudio"):
        read(raw)


def test_colmap_of_another_scan_or_camera_is_refused(raw: Path) -> None:
    colmap = folder_of(raw) / "dslr" / "colmap"
    cameras = (colmap / "cameras.txt").read_text()
    (colmap / "cameras.txt").write_text(cameras.replace(" 40.0 30.0", " 42.0 30.0"))
    with pytest.raises(ScanError, match="expected the same camera"):
        read(raw)
    (colmap / "cameras.txt").unlink()
    (colmap / "images.txt").write_text("1 1 0 0 0 0 0 0 1 IMG_1.JPG\n\n")
    with pytest.raises(ScanError, match="none in common"):
        read(raw)


def test_images_and_camera_of_different_kinds_are_never_mixed(raw: Path) -> None:
    dslr = folder_of(raw) / "dslr"
    (dslr / "undistorted_images").rename(dslr / "resized_images")
    with pytest.raises(ScanError, match=r"resized_images with nerfstudio/transforms.json; found"):
        read(raw)
    (dslr / "resized_images").rename(dslr / "resized_undistorted_images")
    assert len(read(raw).frames) == 22
    edit(transforms(raw), lambda value: value.update(k1=0.1))
    with pytest.raises(ScanError, match="expected camera_model PINHOLE without distortion"):
        read(raw)


def test_depth_images_are_never_passed_over(raw: Path) -> None:
    depths = folder_of(raw) / "dslr" / "undistorted_depths"
    before = read(raw)
    for path in list(depths.iterdir()):
        path.rename(path.with_suffix(".PNG"))
    after = read(raw)
    for one, other in zip(before.frames, after.frames, strict=True):
        assert one.depth_size == other.depth_size
    np.testing.assert_array_equal(
        after.images.depth(after.frames[0]),
        np.asarray(Image.open(depths / f"{Path(after.frames[0].source).stem}.PNG")),
    )
    depths.rename(depths.with_name("inner"))
    depths.mkdir()
    depths.with_name("inner").rename(depths / "undistorted_depths")
    with pytest.raises(ScanError, match=r"images such as DSC00001\.png, got undistorted_depths"):
        read(raw)


def test_a_camera_of_colmap_that_lacks_numbers_is_refused(raw: Path) -> None:
    path = folder_of(raw) / "dslr" / "colmap" / "cameras.txt"
    *rest, camera = path.read_text().splitlines()
    path.write_text("\n".join([*rest, "  # one camera", " ".join(camera.split()[:6]), ""]))
    with pytest.raises(ScanError, match="expected the same camera, got"):
        read(raw)


def test_a_still_is_bad_or_not(raw: Path) -> None:
    edit(transforms(raw), lambda value: value["frames"][0].update(is_bad="false"))
    with pytest.raises(ScanError, match="is_bad: expected true or false, got 'false'"):
        read(raw)


def test_objects_none_of_which_can_be_used_are_refused(raw: Path) -> None:
    def damage(value: Any) -> None:
        for group in value["segGroups"]:
            group["objectId"] = str(group["objectId"])

    edit(folder_of(raw) / "scans" / "segments_anno.json", damage)
    with pytest.raises(ScanError, match=r"segments_anno\.json: expected objects .*'objectId'"):
        read(raw)


def test_images_of_another_size_are_refused(raw: Path) -> None:
    edit(transforms(raw), lambda value: value.update(w=160, h=120))
    with pytest.raises(
        ScanError, match=r"expected 160x120 pixels as in transforms_undistorted\.json"
    ):
        read(raw)


def test_pictures_that_do_not_decode_are_named_when_asked_for(raw: Path) -> None:
    dslr = folder_of(raw) / "dslr"
    scan = read(raw)
    cut(dslr / "undistorted_images" / "DSC00002.JPG")
    cut(dslr / "undistorted_depths" / "DSC00002.png")
    Image.new("L", (80, 60)).save(dslr / "undistorted_depths" / "DSC00003.png")
    Image.new("RGB", (40, 60)).save(dslr / "undistorted_images" / "DSC00003.JPG")
    second, third = scan.frames[1:3]
    for ask in (scan.images.color, scan.images.color_jpeg):
        with pytest.raises(ScanError, match=r"DSC00002\.JPG: expected an image"):
            ask(second)
        with pytest.raises(ScanError, match=r"expected 80x60 pixels, got 40x60"):
            ask(third)
    with pytest.raises(ScanError, match=r"DSC00002\.png: expected an image"):
        scan.images.depth(second)
    with pytest.raises(ScanError, match="expected 16 bits a pixel"):
        scan.images.depth(third)


def test_one_image_that_is_no_image_does_not_cost_the_scan(raw: Path) -> None:
    dslr = folder_of(raw) / "dslr"
    (dslr / "undistorted_images" / "DSC00001.JPG").write_bytes(b"")
    (dslr / "undistorted_depths" / "DSC00001.png").write_bytes(b"no image")
    scan = read(raw)
    assert len(scan.frames) == 22 and scan.frames[0].depth_size == (80, 60)
    with pytest.raises(ScanError, match=r"DSC00001\.JPG: expected an image"):
        scan.images.color(scan.frames[0])


def test_a_depth_image_with_half_a_header_is_named_when_asked_for(raw: Path) -> None:
    path = folder_of(raw) / "dslr" / "undistorted_depths" / "DSC00001.png"
    header = b"IHDR" + path.read_bytes()[16:20]
    size, checksum = struct.pack(">I", len(header) - 4), struct.pack(">I", zlib.crc32(header))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + size + header + checksum)
    scan = read(raw)
    with pytest.raises(ScanError, match=r"DSC00001\.png: expected an image"):
        scan.images.depth(scan.frames[0])


def poses(raw: Path) -> Path:
    return folder_of(raw) / "iphone" / "pose_intrinsic_imu.json"


def test_a_video_without_a_usable_frame_is_refused_in_one_sentence(raw: Path) -> None:
    edit(poses(raw), lambda value: [record.update(intrinsic=None) for record in value.values()])
    with pytest.raises(
        ScanError, match=r"rigid pose, found none; frame 0: .*: intrinsic: .*[^.]\.$"
    ):
        read(raw, camera="iphone")


def test_poses_in_the_phones_own_world_are_refused(raw: Path) -> None:
    edit(poses(raw), lambda value: [record.pop("aligned_pose") for record in value.values()])
    with pytest.raises(ScanError, match="`pose` alone is in the phone's own world"):
        read(raw, camera="iphone")


def test_frame_of_the_video_without_a_pose_is_left_out(raw: Path) -> None:
    def lose(value: Any) -> None:
        value["frame_000000"]["aligned_pose"][0][0] = float("-inf")
        del value["frame_000001"]["aligned_pose"]
        del value["frame_000002"]

    edit(poses(raw), lose)
    scan = read(raw, camera="iphone")
    assert [frame.frame_id for frame in scan.frames] == list(range(3, 24))
    assert [one.what for one in scan.skipped] == ["frame 0", "frame 1"]


def test_more_poses_than_frames_are_refused(raw: Path) -> None:
    def lengthen(value: Any) -> None:
        value["frame_000024"] = value["frame_000000"]

    edit(poses(raw), lengthen)
    with pytest.raises(ScanError, match=r"rgb.mkv: expected 25 frames or more, .* got 24"):
        read(raw, camera="iphone")


def test_scan_is_written_only_with_frames_that_a_video_can_hold(
    truth: Scan, tmp_path: Path
) -> None:
    gap = Scan(**{**vars(truth), "frames": truth.frames[1:]})
    with pytest.raises(ValueError, match="expected frames numbered from 0"):
        writer.write_scan(gap, tmp_path)
