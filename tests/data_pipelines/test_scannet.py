"""ScanNet's reader against its writer, against files written here field by field, and against files
that are missing, cut short or contradict each other."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from plyfile import PlyData, PlyElement

from data_pipelines import meshes, rooms, scannet, sens
from data_pipelines.room_scan import box_surface, room_scan
from data_pipelines.scan import Mesh, Scan, ScanError, ScanFrame, ScanObject
from data_pipelines.writers.scannet import halved, segment, write_scan

NAME = "scene0123_01"
COUNT = 6
ALIGNMENT = np.array(
    [[0.8, -0.6, 0, -1.25], [0.6, 0.8, 0, 2.5], [0, 0, 1, 0.125], [0, 0, 0, 1]], float
)


@dataclasses.dataclass(frozen=True)
class NoiseImages:
    """Pictures of noise, of the size that the frame says."""

    def color(self, frame: ScanFrame) -> np.ndarray:
        shape = (*frame.color_size[::-1], 3)
        return np.random.default_rng(frame.frame_id).integers(0, 256, shape, np.uint8)

    def color_jpeg(self, frame: ScanFrame) -> bytes | None:
        return None

    def depth(self, frame: ScanFrame) -> np.ndarray:
        shape = frame.depth_size[::-1]
        return np.random.default_rng(frame.frame_id).integers(0, 65536, shape, np.uint16)


def random_pose(rng: np.random.Generator) -> np.ndarray:
    pose = np.eye(4)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    pose[:3, :3] = rotation * np.sign(np.linalg.det(rotation))
    pose[:3, 3] = rng.uniform(-5, 5, 3)
    return pose


def two_boxes() -> Scan:
    """Two boxes, an object that holds both, one without a vertex of its own, and loose vertices."""
    rng = np.random.default_rng(0)
    parts = [box_surface(np.array(low, float), np.array(low) + 1.0, 0.2) for low in ([0, 0, 0],)]
    parts.append(box_surface(np.array([2.0, 0, 0]), np.array([2.5, 1.5, 0.75]), 0.2))
    parts.append(box_surface(np.array([-1.0, -1, -1]), np.array([3.0, 3, 2]), 0.5))
    starts = np.cumsum([0] + [len(points) for points, _ in parts])
    points = np.concatenate([points for points, _ in parts])
    faces = np.concatenate(
        [faces + start for (_, faces), start in zip(parts, starts, strict=False)]
    )
    one, two = np.arange(starts[1]), np.arange(starts[1], starts[2])
    objects = (
        ScanObject(1, "night stand", one),
        ScanObject(2, "chaise à bascule", two),
        ScanObject(4, "set of furniture", np.arange(starts[2])),
    )
    color_k = np.array([[30.0, 0, 20.25], [0, 31.0, 14.5], [0, 0, 1]])
    depth_k = np.array([[14.0, 0, 10.75], [0, 14.5, 7.5], [0, 0, 1]])
    frames = tuple(
        ScanFrame(n, str(n), random_pose(rng), color_k, depth_k, (40, 30), (20, 15), n / 30)
        for n in range(COUNT)
    )
    mesh = Mesh(
        points.astype(np.float32),
        rng.integers(0, 256, (len(points), 3), np.uint8),
        faces.astype(np.int32),
    )
    return Scan(
        "rooms",
        NAME,
        NAME,
        "train",
        mesh,
        objects,
        frames,
        NoiseImages(),
        world_from_mesh=ALIGNMENT,
    )


@pytest.fixture(scope="module")
def scan() -> Scan:
    return two_boxes()


@pytest.fixture
def raw(scan: Scan, tmp_path: Path) -> Path:
    write_scan(scan, tmp_path / "raw", color_codec=sens.ColorCodec.PNG)
    return tmp_path / "raw"


@pytest.fixture
def exported(scan: Scan, tmp_path: Path) -> Path:
    write_scan(scan, tmp_path / "raw", form="exported")
    return tmp_path / "raw"


def file(raw: Path, suffix: str) -> Path:
    return raw / "scans" / NAME / f"{NAME}{suffix}"


def same_objects(found: Scan, scan: Scan) -> None:
    assert [(one.object_id, one.label) for one in found.objects] == [
        (one.object_id, one.label) for one in scan.objects
    ]
    for one, other in zip(found.objects, scan.objects, strict=True):
        np.testing.assert_array_equal(one.vertices, other.vertices)


# --- both ways -----------------------------------------------------------------------------------


def test_a_scan_written_and_read_is_the_same(scan: Scan, raw: Path) -> None:
    assert scannet.list_scans(raw) == (NAME,)
    found = scannet.read_scan(raw, NAME)
    assert (found.dataset, found.scene_id, found.source_id) == ("scannet", NAME, NAME)
    assert found.is_video and found.skipped == ()
    for name in ("points", "colors", "faces"):
        np.testing.assert_array_equal(getattr(found.mesh, name), getattr(scan.mesh, name))
    same_objects(found, scan)
    assert found.world_from_mesh is not None
    np.testing.assert_allclose(found.world_from_mesh, ALIGNMENT, atol=5e-7)
    for one, other in zip(found.frames, scan.frames, strict=True):
        assert (one.frame_id, one.color_size, one.depth_size) == (
            other.frame_id,
            other.color_size,
            other.depth_size,
        )
        assert one.time == pytest.approx(other.time, abs=1e-6)
        np.testing.assert_array_equal(
            one.mesh_from_camera, other.mesh_from_camera.astype(np.float32)
        )
        np.testing.assert_allclose(one.color_intrinsics, other.color_intrinsics, rtol=1e-6)
        np.testing.assert_allclose(one.depth_intrinsics, other.depth_intrinsics, rtol=1e-6)
        np.testing.assert_array_equal(found.images.color(one), scan.images.color(other))
        np.testing.assert_array_equal(found.images.depth(one), scan.images.depth(other))
        assert found.images.color_jpeg(one) is None


def test_an_export_says_what_the_sens_file_says(scan: Scan, exported: Path, tmp_path: Path) -> None:
    write_scan(scan, tmp_path / "sens")
    one, other = (scannet.read_scan(root, NAME) for root in (exported, tmp_path / "sens"))
    assert one.skipped == other.skipped == ()
    same_objects(one, other)
    for a, b in zip(one.frames, other.frames, strict=True):
        assert (a.frame_id, a.color_size, a.depth_size) == (b.frame_id, b.color_size, b.depth_size)
        np.testing.assert_allclose(a.mesh_from_camera, b.mesh_from_camera, atol=1e-6)
        np.testing.assert_allclose(a.color_intrinsics, b.color_intrinsics, atol=1e-5)
        np.testing.assert_allclose(a.depth_intrinsics, b.depth_intrinsics, atol=1e-5)
        np.testing.assert_array_equal(one.images.depth(a), other.images.depth(b))
        np.testing.assert_array_equal(one.images.color(a), other.images.color(b))
        assert one.images.color_jpeg(a) == other.images.color_jpeg(b) is not None


def test_an_export_may_have_its_intrinsics_beside_the_folders(exported: Path) -> None:
    before = scannet.read_scan(exported, NAME)
    folder = exported / "scans" / NAME
    for path in (folder / "intrinsic").iterdir():
        path.rename(folder / path.name)
    (folder / "intrinsic").rmdir()
    after = scannet.read_scan(exported, NAME)
    np.testing.assert_array_equal(
        before.frames[0].color_intrinsics, after.frames[0].color_intrinsics
    )


def test_pixel_centres_are_whole_numbers_in_the_raw_data(raw: Path) -> None:
    stored = sens.read_index(file(raw, ".sens")).header.color_intrinsics
    frame = scannet.read_scan(raw, NAME).frames[0]
    # The ray through the centre of pixel (7, 3), by the owners' meaning and by ours.
    theirs = np.linalg.solve(stored[:3, :3], [7, 3, 1])
    ours = np.linalg.solve(frame.color_intrinsics, [7.5, 3.5, 1])
    np.testing.assert_allclose(theirs, ours, atol=1e-6)


def test_room_survives_with_its_geometry(made: tuple[rooms.Room, ...], tmp_path: Path) -> None:
    room = room_scan(made[0], "scene0000_00", world_from_mesh=ALIGNMENT)
    write_scan(room, tmp_path, lost=(3,))
    full = scannet.read_scan(tmp_path, "scene0000_00", resolution="full")
    found = scannet.read_scan(tmp_path, "scene0000_00")
    same_objects(found, room)
    assert [one.what for one in found.skipped] == ["frame 3"]
    assert len(full.mesh.points) > 3 * len(found.mesh.points)
    for own, finer, one in zip(room.objects, full.objects, found.objects, strict=True):
        assert own.label == finer.label == one.label
        expected = room.mesh.points[own.vertices]
        points = full.mesh.points[finer.vertices]
        np.testing.assert_allclose(points.min(0), expected.min(0), atol=1e-6)
        np.testing.assert_allclose(points.max(0), expected.max(0), atol=1e-6)
    poses = {frame.frame_id: frame.mesh_from_camera for frame in room.frames}
    for frame in found.frames:
        error = frame.mesh_from_camera - poses[frame.frame_id]
        assert np.abs(error).max() < 1e-6
        assert (found.images.depth(frame) == room.images.depth(frame)).all()
        assert found.images.color_jpeg(frame) == room.images.color_jpeg(frame)


def test_halved_mesh_has_the_same_surface(scan: Scan) -> None:
    mesh = scan.mesh
    finer, members = halved(mesh, [one.vertices for one in scan.objects])

    def area(mesh: Mesh) -> float:
        a, b, c = (mesh.points[mesh.faces[:, i]].astype(float) for i in range(3))
        return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)

    assert len(finer.faces) == 4 * len(mesh.faces)
    assert area(finer) == pytest.approx(area(mesh), rel=1e-6)
    boxes = [finer.points[own] for own in members]
    for one, points in zip(scan.objects, boxes, strict=True):
        expected = mesh.points[one.vertices]
        np.testing.assert_array_equal(points.max(0), expected.max(0))


def test_segments_are_named_by_a_vertex_and_never_cross_an_object() -> None:
    rng = np.random.default_rng(0)
    members = [np.sort(rng.permutation(3000)[:count]) for count in (700, 5, 1800, 1)]
    segments, of_object = segment(3000, members)
    assert (segments[np.unique(segments)] == np.unique(segments)).all()
    assert len(of_object[0]) > 1
    for own, named in zip(members, of_object, strict=True):
        np.testing.assert_array_equal(np.flatnonzero(np.isin(segments, named)), own)


# --- objects, by hand ----------------------------------------------------------------------------


def objects_of(
    tmp_path: Path, segments: list[int], groups: object
) -> tuple[list[ScanObject], list[str]]:
    path = tmp_path / "a.aggregation.json"
    path.write_text(json.dumps({"segGroups": groups}))
    objects, skipped = scannet.read_objects(path, np.array(segments))
    return objects, [f"{one.what}: {one.why}" for one in skipped]


def group(number: object, label: object, segments: Any) -> dict[str, Any]:
    return {"id": 0, "objectId": number, "label": label, "segments": segments}


def test_vertices_are_those_of_all_segments_of_the_object(tmp_path: Path) -> None:
    objects, skipped = objects_of(
        tmp_path,
        [80123, 5, 5, 80123, 0, 7, 5],
        [group(0, "bed", [5, 7]), group(6, "bed", [0]), group(2, "tv", [7, 80123, 7])],
    )
    assert [(one.object_id, one.label) for one in objects] == [(1, "bed"), (7, "bed"), (3, "tv")]
    assert [one.vertices.tolist() for one in objects] == [[1, 2, 5, 6], [4], [0, 3, 5]]
    assert skipped == []


def test_objects_agree_with_a_loop_over_vertices(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    segments = rng.integers(0, 40, 500).tolist()
    groups = [group(n, "x", rng.permutation(45)[: n % 7].tolist()) for n in range(30)]
    objects, _ = objects_of(tmp_path, segments, groups)
    found = {one.object_id - 1: one.vertices.tolist() for one in objects}
    for one in groups:
        own = [row for row, name in enumerate(segments) if name in set(one["segments"])]
        assert found.get(one["objectId"], []) == own


def test_objects_without_vertices_are_left_out_with_a_reason(tmp_path: Path) -> None:
    objects, skipped = objects_of(
        tmp_path, [1, 1, 2], [group(0, "bed", []), group(1, "tv", [9]), group(2, "rug", [2, 9])]
    )
    assert [(one.object_id, one.vertices.tolist()) for one in objects] == [(3, [2])]
    assert skipped == [
        "object 1 (bed): a.aggregation.json: no segments",
        "object 2 (tv): a.aggregation.json: none of its 1 segments has a vertex",
        "1 of 2 segments of object 3 (rug): a.aggregation.json: no vertex has segment 9",
    ]


def test_groups_of_another_form_are_left_out_with_a_reason(tmp_path: Path) -> None:
    bad = [
        7,
        group(None, "bed", [1]),
        group(True, "bed", [1]),
        group(-1, "bed", [1]),
        group(0, None, [1]),
        group(0, "  ", [1]),
        group(0, "bed", "1"),
        group(0, "bed", [1.5]),
        group(0, "bed", [1 << 70]),
        {"objectId": 0, "label": "bed"},
    ]
    objects, skipped = objects_of(tmp_path, [1, 1], [*bad, group(0, "bed", [1])])
    assert [one.object_id for one in objects] == [1]
    assert [one.split(":")[0] for one in skipped] == [f"group {n}" for n in range(len(bad))]


def test_groups_none_of_which_can_be_used_are_an_error(tmp_path: Path) -> None:
    groups = [group("0", "bed", [1]), group("1", "tv", [2])]
    with pytest.raises(ScanError, match=r"none among 2; group 0: .*objectId.*got '0'\.$"):
        objects_of(tmp_path, [1, 2], groups)
    assert objects_of(tmp_path, [1, 2], []) == ([], [])


def test_two_objects_of_one_id_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"objectId, got 4 twice: 'bed' and 'tv'"):
        objects_of(tmp_path, [1, 2], [group(4, "bed", [1]), group(4, "tv", [2])])
    with pytest.raises(ScanError, match=r"expected a list under 'segGroups', got dict"):
        objects_of(tmp_path, [1], {})


# --- frames that can't be used -------------------------------------------------------------------


def sens_of(raw: Path, poses: list[np.ndarray], **values: bytes) -> Scan:
    """The scan with a .sens file of these poses."""
    path = file(raw, ".sens")
    index = sens.read_index(path)
    good = sens.SensFrame(np.eye(4), sens.color_bytes(index, 0), sens.depth_bytes(index, 0))
    sens.write_sens(path, index.header, [good._replace(pose=pose, **values) for pose in poses])
    return scannet.read_scan(raw, NAME)


def test_lost_poses_are_skipped_with_a_reason(raw: Path) -> None:
    rng = np.random.default_rng(3)
    good = [random_pose(rng) for _ in range(2)]
    nan, first_zero, mirrored = good[0].copy(), good[0].copy(), good[0].copy()
    nan[1, 3], first_zero[0, 0] = np.nan, 0
    mirrored[:3, 0] *= -1
    scaled, row = good[0].copy(), good[0].copy()
    scaled[:3, :3] *= 1.1
    row[3, 0] = 1
    bad = [np.full((4, 4), -np.inf), np.zeros((4, 4)), nan, first_zero, mirrored, scaled, row]
    found = sens_of(raw, [good[0], *bad, good[1]])
    assert [frame.frame_id for frame in found.frames] == [0, len(bad) + 1]
    assert [one.what for one in found.skipped] == [f"frame {n + 1}" for n in range(len(bad))]
    assert "-inf (tracking was lost)" in found.skipped[0].why
    assert "nan (tracking was lost)" in found.skipped[2].why


def test_a_camera_that_looks_along_an_axis_is_not_lost(raw: Path) -> None:
    turned = np.array([[0.0, 0, 1, 1], [-1, 0, 0, 2], [0, -1, 0, 1.5], [0, 0, 0, 1]])
    read = sens_of(raw, [turned, np.zeros((4, 4))])
    assert [frame.frame_id for frame in read.frames] == [0]
    np.testing.assert_array_equal(read.frames[0].mesh_from_camera, turned)


def test_one_file_that_is_not_there_costs_one_frame(exported: Path) -> None:
    folder, before = exported / "scans" / NAME, scannet.read_scan(exported, NAME)
    pose, picture = folder / "pose" / "1.txt", next((folder / "color").glob("2.*"))
    for path in (pose, picture):
        path.unlink()
        path.symlink_to("nowhere")
    after = scannet.read_scan(exported, NAME)
    assert {f.frame_id for f in before.frames} - {f.frame_id for f in after.frames} == {1}
    frame = next(frame for frame in after.frames if frame.frame_id == 2)
    with pytest.raises(ScanError, match="expected an image, cannot read it"):
        after.images.color(frame)


def test_text_may_begin_with_a_mark_of_its_byte_order(raw: Path) -> None:
    before = scannet.read_scan(raw, NAME)
    for suffix in (".txt", SEGMENTS, GROUPS):
        path = file(raw, suffix)
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    after = scannet.read_scan(raw, NAME)
    np.testing.assert_array_equal(before.world_from_mesh, after.world_from_mesh)
    same_objects(after, before)


def test_images_of_zero_length_are_said(raw: Path) -> None:
    found = sens_of(raw, [np.eye(4)] * 2, depth=b"")
    assert [frame.depth_size for frame in found.frames] == [(0, 0), (0, 0)]
    assert found.skipped[1].what == "depth of frame 1"
    with pytest.raises(ScanError, match="depth of frame 0"):
        found.images.depth(found.frames[0])
    with pytest.raises(ScanError, match=r"found none among 2; frame 0: no colour image"):
        sens_of(raw, [np.eye(4)] * 2, color=b"")


def test_a_scan_whose_poses_are_all_lost_is_an_error(raw: Path) -> None:
    with pytest.raises(ScanError, match=r"expected frames with a pose, found none among 3"):
        sens_of(raw, [np.full((4, 4), -np.inf)] * 3)


def test_times_of_zero_are_no_times(raw: Path) -> None:
    assert all(np.isnan(frame.time) for frame in sens_of(raw, [np.eye(4)]).frames)


def test_exported_frames_that_lack_something_are_skipped(exported: Path) -> None:
    folder = exported / "scans" / NAME
    (folder / "pose" / "0.txt").unlink()
    (folder / "color" / "1.jpg").unlink()
    (folder / "depth" / "2.png").unlink()
    (folder / "pose" / "3.txt").write_text("1 0 0\n")
    (folder / "pose" / "4.txt").write_text("-inf -inf -inf -inf\n" * 4)
    found = scannet.read_scan(exported, NAME)
    assert [frame.frame_id for frame in found.frames] == [2, 5]
    assert [one.what for one in found.skipped] == [
        "frame 0",
        "frame 1",
        "depth of frame 2",
        "frame 3",
        "frame 4",
    ]
    assert found.frames[0].depth_size == (0, 0)
    with pytest.raises(ScanError, match="depth of frame 2"):
        found.images.depth(found.frames[0])


def test_exported_files_of_one_number_or_of_other_names_are_errors(exported: Path) -> None:
    color = exported / "scans" / NAME / "color"
    shutil.copy(color / "1.jpg", color / "000001.jpg")
    with pytest.raises(ScanError, match=r"one file of each number, got 000001\.jpg and 1\.jpg"):
        scannet.read_scan(exported, NAME)
    for number, path in enumerate(sorted(color.iterdir())):
        path.rename(color / f"frame-{number:06d}.color.jpg")
    with pytest.raises(ScanError, match=r"files such as 0\.jpg, got frame-000000\.color\.jpg"):
        scannet.read_scan(exported, NAME)


def test_exported_depth_of_another_form_is_an_error(exported: Path) -> None:
    for path in list((exported / "scans" / NAME / "depth").iterdir()):
        path.rename(path.with_suffix(".pgm"))
    with pytest.raises(ScanError, match=r"depth: expected files such as 0\.png, got 0\.pgm"):
        scannet.read_scan(exported, NAME)


def test_exported_images_that_do_not_decode_are_named(exported: Path) -> None:
    folder = exported / "scans" / NAME
    found = scannet.read_scan(exported, NAME)
    for name in ("color/1.jpg", "depth/1.png"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / "color" / "2.jpg")
    Image.fromarray(np.zeros((15, 20), np.uint8)).save(folder / "depth" / "2.png")
    one, two = found.frames[1:3]
    with pytest.raises(ScanError, match=r"color/1\.jpg: expected an image"):
        found.images.color(one)
    with pytest.raises(ScanError, match=r"color/1\.jpg: expected an image"):
        found.images.color_jpeg(one)
    with pytest.raises(ScanError, match=r"depth/1\.png: expected an image"):
        found.images.depth(one)
    with pytest.raises(ScanError, match=r"color/2\.jpg: expected 40x30 pixels, got 9x9"):
        found.images.color(two)
    with pytest.raises(ScanError, match=r"depth/2\.png: expected 16 bits a pixel, got mode L"):
        found.images.depth(two)


def test_a_cut_sens_file_is_refused_unless_its_frames_are_asked_for(raw: Path) -> None:
    path = file(raw, ".sens")
    at = int(sens.read_index(path).offsets[4, 0])
    path.write_bytes(path.read_bytes()[: at + 3])
    with pytest.raises(ScanError, match=r"\.sens: cut short .* 4 whole frames come before it"):
        scannet.read_scan(raw, NAME)
    found = scannet.read_scan(raw, NAME, keep_whole_frames=True)
    assert len(found.frames) == 4 and "cut short" in found.skipped[0].why


# --- alignment -----------------------------------------------------------------------------------


def test_alignment_is_found_by_its_key(raw: Path) -> None:
    path = file(raw, ".txt")
    lines = path.read_text().splitlines()
    assert lines == sorted(lines) and lines[0].endswith(" ")
    path.write_text("\n".join(reversed(lines)).replace(" = ", "="))
    found = scannet.read_alignment(path)
    assert found is not None
    np.testing.assert_allclose(found, ALIGNMENT, atol=1e-6)


@pytest.mark.parametrize("name", ["AxisAlignment=", " axisalignment : ", "axisAlignment\t=\t"])
def test_alignment_may_be_spelt_otherwise(raw: Path, name: str) -> None:
    path = file(raw, ".txt")
    text = path.read_text().replace("axisAlignment = ", name)
    path.write_bytes(text.replace("\n", "\r\n").rstrip().encode())
    found = scannet.read_alignment(path)
    assert found is not None
    np.testing.assert_allclose(found, ALIGNMENT, atol=1e-6)


def test_alignments_that_differ_and_other_encodings_are_errors(raw: Path) -> None:
    path = file(raw, ".txt")
    text = path.read_text()
    path.write_text(text + text)
    assert scannet.read_alignment(path) is not None
    path.write_text(text + "axisAlignment = 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1\n")
    with pytest.raises(ScanError, match="expected one axisAlignment, got two different ones"):
        scannet.read_alignment(path)
    path.write_text(text, encoding="utf-16")
    with pytest.raises(ScanError, match="expected text in UTF-8"):
        scannet.read_alignment(path)


def test_a_scan_without_alignment_has_none(raw: Path) -> None:
    path = file(raw, ".txt")
    path.write_text("\n".join(path.read_text().splitlines()[1:]))
    assert scannet.read_scan(raw, NAME).world_from_mesh is None
    path.unlink()
    assert scannet.read_scan(raw, NAME).world_from_mesh is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("1 0 0", "expected 16 finite numbers"),
        ("a " * 16, "expected numbers"),
        ("nan " * 16, "expected 16 finite numbers"),
        ("2 0 0 0 0 2 0 0 0 0 2 0 0 0 0 1 ", "expected a rotation"),
    ],
)
def test_an_alignment_that_is_none_is_an_error(raw: Path, value: str, said: str) -> None:
    file(raw, ".txt").write_text(f"axisAlignment = {value}\n")
    with pytest.raises(ScanError, match=rf"{NAME}\.txt: axisAlignment: {said}"):
        scannet.read_scan(raw, NAME)


# --- files that are missing, cut short or contradict each other -----------------------------------


def damage(change: Callable[[str], str]) -> Callable[[Path], object]:
    return lambda path: path.write_text(change(path.read_text()))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def one_segment_less(path: Path) -> None:
    value = json.loads(path.read_text())
    value["segIndices"].pop()
    path.write_text(json.dumps(value))


def fraction_segment(path: Path) -> None:
    value = json.loads(path.read_text())
    value["segIndices"][5] = 0.5
    path.write_text(json.dumps(value))


MESH, SEGMENTS, GROUPS = scannet.MESH_FILES["decimated"]


@pytest.mark.parametrize(
    ("suffix", "harm", "said"),
    [
        (MESH, cut, "_vh_clean_2.ply: expected a whole PLY file"),
        (MESH, lambda path: path.write_bytes(b""), "_vh_clean_2.ply: expected a whole PLY file"),
        (SEGMENTS, cut, "segs.json: expected whole JSON"),
        (SEGMENTS, lambda path: path.write_bytes(b"\xff\xfe{"), "segs.json: expected text"),
        (SEGMENTS, lambda path: path.write_text("[1]"), "expected a JSON object, got list"),
        (SEGMENTS, damage(lambda text: text.replace("segInd", "x")), "under 'segIndices'"),
        (SEGMENTS, fraction_segment, "expected a list of whole numbers under 'segIndices'"),
        (GROUPS, cut, "aggregation.json: expected whole JSON"),
        (GROUPS, damage(lambda text: "[" * 100_000), "aggregation.json: expected whole JSON"),
    ],
)
def test_a_damaged_file_is_named(
    raw: Path, suffix: str, harm: Callable[[Path], object], said: str
) -> None:
    harm(file(raw, suffix))
    with pytest.raises(ScanError, match=said.replace(".", r"\.")):
        scannet.read_scan(raw, NAME)


def test_unequal_counts_of_vertices_and_segments_are_both_said(raw: Path, scan: Scan) -> None:
    one_segment_less(file(raw, SEGMENTS))
    count = len(scan.mesh.points)
    with pytest.raises(ScanError, match=rf"mesh's {count} vertices, got {count - 1}\."):
        scannet.read_scan(raw, NAME)


def test_resolutions_are_never_mixed(raw: Path) -> None:
    coarse, fine = scannet.MESH_FILES["decimated"], scannet.MESH_FILES["full"]
    shutil.copyfile(file(raw, fine.aggregation), file(raw, coarse.aggregation))
    with pytest.raises(ScanError, match=r"expected the aggregation of \S+0\.010000\.segs\.json"):
        scannet.read_scan(raw, NAME)
    assert scannet.read_scan(raw, NAME, resolution="full").objects


def test_the_resolution_whose_files_are_there_is_read(raw: Path) -> None:
    file(raw, SEGMENTS).unlink()
    full = scannet.read_scan(raw, NAME, resolution="full")
    assert len(scannet.read_scan(raw, NAME).mesh.points) == len(full.mesh.points)
    with pytest.raises(ScanError, match=r"decimated mesh .* _?\S+0\.010000\.segs\.json missing"):
        scannet.read_scan(raw, NAME, resolution="decimated")
    file(raw, "_vh_clean.ply").unlink()
    file(raw, "_vh_clean.segs.json").unlink()
    with pytest.raises(ScanError, match=r"0\.010000\.segs\.json missing"):
        scannet.read_scan(raw, NAME)


def test_a_scan_without_pictures_says_what_was_expected(raw: Path) -> None:
    file(raw, ".sens").unlink()
    with pytest.raises(ScanError, match=rf"expected {NAME}\.sens, or the folders color, depth"):
        scannet.read_scan(raw, NAME)


def test_an_export_without_intrinsics_is_an_error(exported: Path) -> None:
    path = exported / "scans" / NAME / "intrinsic" / "intrinsic_color.txt"
    path.write_text("0 0 0\n" * 3)
    with pytest.raises(ScanError, match="expected intrinsics, got"):
        scannet.read_scan(exported, NAME)
    path.unlink()
    with pytest.raises(ScanError, match=r"expected intrinsic_color\.txt there or in intrinsic/"):
        scannet.read_scan(exported, NAME)


def test_intrinsics_of_images_of_another_size_are_refused(exported: Path) -> None:
    for path in (exported / "scans" / NAME / "color").iterdir():
        with Image.open(path) as image:
            image.resize((20, 15)).save(path)
    with pytest.raises(
        ScanError, match=r"expected intrinsics of 20x15 images, got .* 19\.8, 14\.0"
    ):
        scannet.read_scan(exported, NAME)


def test_depth_that_is_not_registered_is_refused(raw: Path) -> None:
    path = file(raw, ".sens")
    index = sens.read_index(path)
    moved = np.eye(4, dtype=np.float32)
    moved[0, 3] = 0.04
    frames = [sens.SensFrame(np.eye(4), sens.color_bytes(index, 0), sens.depth_bytes(index, 0))]
    sens.write_sens(path, dataclasses.replace(index.header, depth_extrinsics=moved), frames)
    with pytest.raises(ScanError, match=r"depth extrinsics: expected the identity"):
        scannet.read_scan(raw, NAME)


def test_frames_of_two_cameras_have_no_sens_file(scan: Scan, tmp_path: Path) -> None:
    other = dataclasses.replace(scan.frames[1], color_size=(41, 30))
    mixed = dataclasses.replace(scan, frames=(scan.frames[0], other))
    with pytest.raises(ValueError, match="one camera"):
        write_scan(mixed, tmp_path)


# --- which scans, which split --------------------------------------------------------------------


def test_scans_are_found_wherever_people_keep_them(raw: Path, tmp_path: Path) -> None:
    assert scannet.list_scans(raw / "scans") == (NAME,)
    assert scannet.read_scan(raw / "scans", NAME).split == "train"
    (raw / "scans").rename(raw / "val")
    (raw / "train" / "scene0000_00").mkdir(parents=True)
    (raw / "train" / "notes").mkdir()
    assert scannet.list_scans(raw) == ("scene0000_00", NAME)
    assert scannet.read_scan(raw, NAME).split == "val"
    with pytest.raises(ScanError, match="expected the decimated mesh with its segments"):
        scannet.read_scan(raw, "scene0000_00")
    (raw / "train" / NAME).mkdir()
    with pytest.raises(ScanError, match=f"expected scan {NAME} once, found it in train, val"):
        scannet.read_scan(raw, NAME)
    with pytest.raises(ScanError, match=r"expected a scan '\.\./x', found none"):
        scannet.read_scan(raw, "../x")


def test_a_folder_of_something_else_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="expected a folder of ScanNet scans, found none"):
        scannet.list_scans(tmp_path / "nowhere")
    (tmp_path / "dslr").mkdir()
    with pytest.raises(ScanError, match=r"expected ScanNet scans such as .*, found dslr\."):
        scannet.list_scans(tmp_path)


def test_splits_follow_the_official_lists(raw: Path, tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "scannetv2_train.txt").write_text("scene0000_00\n")
    with pytest.raises(ScanError, match=r"scannetv2_val\.txt: expected a list of scans"):
        scannet.read_scan(raw, NAME, split_lists=lists)
    (lists / "scannetv2_val.txt").write_text(f"scene0011_00\n{NAME}\n")
    assert scannet.read_scan(raw, NAME, split_lists=lists).split == "val"
    (lists / "scannetv2_val.txt").write_text("scene0011_00\n")
    with pytest.raises(ScanError, match=rf"expected {NAME} in one of the lists"):
        scannet.read_scan(raw, NAME, split_lists=lists)
    assert scannet.read_scan(raw, NAME, split="val").split == "val"


# --- meshes --------------------------------------------------------------------------------------


def ply(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


HEAD = (
    "ply\nformat ascii 1.0\nelement vertex 5\nproperty float x\nproperty float y\n"
    "property float z\nproperty uchar red\nproperty uchar green\nproperty uchar blue\n"
)
FIVE = "0 0 0 1 2 3\n1 0 0 4 5 6\n1 1 0 7 8 9\n0 1 0 1 1 1\n0 2 0 2 2 2\n"


def test_polygons_become_triangles(tmp_path: Path) -> None:
    text = HEAD + "element face 2\nproperty list uchar int vertex_indices\nend_header\n"
    mesh = meshes.read_mesh(ply(tmp_path / "a.ply", text + FIVE + "4 0 1 2 3\n3 2 4 3\n"))
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3], [2, 4, 3]]
    assert mesh.colors[2].tolist() == [7, 8, 9] and mesh.points[4].tolist() == [0, 2, 0]


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("number", ["f4", "f8"])
@pytest.mark.parametrize("name", ["vertex_indices", "vertex_index"])
@pytest.mark.parametrize("quads", [True, False])
def test_meshes_of_other_tools_are_read(
    tmp_path: Path, text: bool, order: str, number: str, name: str, quads: bool
) -> None:
    channels = [(color, "u1") for color in ("red", "green", "blue")]
    vertex = np.zeros(4, [("x", number), ("y", number), ("z", number), ("nx", "f4"), *channels])
    vertex["x"], vertex["y"], vertex["green"] = [0, 1, 1, 0], [0, 0, 1, 1], [7, 0, 255, 1]
    corners = [[0, 1, 2, 3]] if quads else [[0, 1, 2], [0, 2, 3]]
    face = np.zeros(len(corners), [("flags", "i4"), (name, "O"), ("texcoord", "O")])
    for row, own in enumerate(corners):
        face[row] = (1, np.array(own, "u4"), np.zeros(6, "f4"))
    elements = [PlyElement.describe(vertex, "vertex"), PlyElement.describe(face, "face")]
    path = tmp_path / "a.ply"
    PlyData(elements, text=text, byte_order=order, comments=["made elsewhere"]).write(str(path))
    mesh = meshes.read_mesh(path)
    assert mesh.points.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert mesh.colors[:, 1].tolist() == [7, 0, 255, 1]
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]


@pytest.mark.parametrize(
    ("kind", "colors", "expected"),
    [
        ("float", "0 0.5 1", [0, 128, 255]),
        ("ushort", "0 32896 65535", [0, 128, 255]),
        ("ushort", "0 128 255", [0, 128, 255]),
        ("int", "0 128 255", [0, 128, 255]),
    ],
)
def test_colours_may_be_wider_numbers(
    tmp_path: Path, kind: str, colors: str, expected: list[int]
) -> None:
    text = HEAD.replace("vertex 5", "vertex 1").replace("uchar", kind) + "end_header\n"
    mesh = meshes.read_mesh(ply(tmp_path / "a.ply", text + f"0 0 0 {colors}\n"))
    assert mesh.colors.tolist() == [expected]


def test_a_mesh_may_have_no_faces(tmp_path: Path) -> None:
    mesh = meshes.read_mesh(ply(tmp_path / "a.ply", HEAD + "end_header\n" + FIVE))
    assert mesh.faces.shape == (0, 3) and len(mesh.points) == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + "end_header\n" + FIVE[:40], "expected a whole PLY file"),
        ("not a mesh", "expected a whole PLY file"),
        (HEAD.replace("red", "crimson") + "end_header\n" + FIVE, r"\['red'\] missing"),
        (HEAD.replace("vertex 5", "vertex 0") + "end_header\n", "expected vertices, found none"),
        (HEAD + "end_header\n" + FIVE.replace("1 1 0 7", "nan 1 0 7"), "finite points, but 1 of 5"),
        (
            HEAD
            + "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
            + FIVE
            + "3 0 1 5\n",
            "faces of vertices 0 to 4, got 0 to 5",
        ),
        (
            HEAD
            + "element face 1\nproperty list uchar int corners\nend_header\n"
            + FIVE
            + "3 0 1 2\n",
            "property vertex_indices or vertex_index of faces, found corners",
        ),
        (
            HEAD.replace("vertex 5", "vertex 10")
            + "element face 2\nproperty list uchar int vertex_indices\nend_header\n"
            + 2 * FIVE
            + "3 0 1 2\n3 0 2 3\n",
            "faces between most of 10 vertices, or none, got 2 between 4; save it without faces",
        ),
        (
            HEAD
            + "element tristrips 1\nproperty list int int vertex_indices\nend_header\n"
            + FIVE
            + "3 0 1 2\n",
            "expected faces, got tristrips",
        ),
        (
            HEAD.replace("uchar", "float") + "end_header\n" + FIVE,
            "of 0 to 1 as float32, got 1.0 to 9",
        ),
        (
            HEAD.replace("uchar", "int") + "end_header\n" + FIVE.replace("2 2 2", "2 2 -2"),
            "got -2 to 9",
        ),
    ],
)
def test_a_mesh_of_another_form_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ScanError, match=rf"a\.ply: .*{said}"):
        meshes.read_mesh(ply(tmp_path / "a.ply", text))
