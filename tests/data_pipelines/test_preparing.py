"""Rooms written as raw scans of each data set, prepared, and compared with the rooms."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from data_pipelines import labels, object_boxes, preparing, rooms, unified
from data_pipelines.building import BuildSettings
from data_pipelines.preparing import FORMATS, Job, Outcome, prepare_scan
from data_pipelines.room_scan import room_scan
from data_pipelines.scan import OrientedBox, Scan, ScanError
from geometry_jax import scene_io

NAME = "scene0001_00"


def alignment(yaw: float, shift: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    matrix[:3, 3] = shift
    return matrix


WORLD_FROM_MESH = alignment(-1.0, (0.5, 1.5, 1.2))


@pytest.fixture(scope="module")
def room() -> rooms.Room:
    view = float(np.deg2rad(80.0))
    return rooms.make_room((3, 1), frames=4, width=96, height=72, field_of_view=view)


# A folder of a scan of each data set, below the folder of raw data.
PLACES = {
    "scannet": "scans/scene0000_00",
    "scannetpp": "data/0a1b2c3d4e/scans",
    "arkitscenes": "3dod/Training/41048143/41048143_frames",
}


@pytest.mark.parametrize("dataset", FORMATS)
def test_a_folder_around_the_one_of_raw_data_says_where_that_is(
    dataset: str, tmp_path: Path
) -> None:
    (tmp_path / "notes").mkdir()
    inner = tmp_path / "unpacked"
    (inner / PLACES[dataset]).mkdir(parents=True)
    assert len(FORMATS[dataset].list_scans(inner)) == 1
    message = f"found notes, unpacked; there are some in {inner}, give that folder."
    with pytest.raises(ScanError, match=re.escape(message)):
        FORMATS[dataset].list_scans(tmp_path)


@pytest.fixture(scope="module")
def scan(room: rooms.Room) -> Scan:
    return room_scan(room, NAME, world_from_mesh=WORLD_FROM_MESH, spacing=0.07)


class Prepared(NamedTuple):
    job: Job
    outcome: Outcome


Prepare = Callable[[str], Prepared]


@pytest.fixture(scope="module")
def prepared(scan: Scan, tmp_path_factory: pytest.TempPathFactory) -> Prepare:
    """The room as a raw scan of a data set, prepared once."""
    found: dict[str, Prepared] = {}

    def make(dataset: str) -> Prepared:
        if dataset not in found:
            folder = tmp_path_factory.mktemp(dataset)
            FORMATS[dataset].write_scan(scan, folder / "raw")
            (source_id,) = FORMATS[dataset].list_scans(folder / "raw")
            job = Job(dataset, folder / "raw", folder / "out", BuildSettings(), {}, preview=True)
            found[dataset] = Prepared(job, prepare_scan(job, source_id))
        return found[dataset]

    return make


def scene_of(made: Prepared) -> scene_io.SceneRecord:
    return scene_io.load_scene(made.job.out, made.outcome.scene_id)


def world_from_room(made: Prepared) -> np.ndarray:
    """(4, 4) from the room's own frame to the scene's: the data set's alignment, or an estimate."""
    name = made.outcome.scene_id
    folder = scene_io.scene_folder(made.job.out, name)
    return scene_io.read_alignment(folder / f"{name}.txt") @ np.linalg.inv(WORLD_FROM_MESH)


def metadata(made: Prepared) -> dict:
    name = made.outcome.scene_id
    return json.loads((made.job.out / "metadata" / name / f"{name}.json").read_text())


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("dataset", FORMATS)
def test_boxes_and_labels_come_back(dataset: str, prepared: Prepare, room: rooms.Room) -> None:
    made = prepared(dataset)
    assert made.outcome.status == "done", made.outcome.why
    record, turn = scene_of(made), world_from_room(made)
    assert len(record.object_ids) == len(room.objects) == made.outcome.objects
    centers = np.asarray(record.scene.obb_center)
    for placed in room.objects:
        center, extent, yaw = placed.obb()
        rotation = turn[:3, :3] @ alignment(yaw, (0, 0, 0))[:3, :3]
        center = turn[:3, :3] @ center + turn[:3, 3]
        truth = object_boxes.upright(OrientedBox(center, extent, rotation))
        row = int(np.argmin(np.linalg.norm(centers - truth.center, axis=1)))
        np.testing.assert_allclose(centers[row], truth.center, atol=0.005)
        off = (float(record.scene.obb_yaw[row]) - truth.yaw) / (np.pi / 2)
        sides = truth.extent[[1, 0, 2]] if round(off) % 2 else truth.extent
        np.testing.assert_allclose(record.scene.obb_extent[row], sides, atol=0.005)
        if placed.category.label not in ("stool", "plant", "lamp"):  # round: any yaw fits
            assert abs(off - round(off)) * 90 < 0.5, placed.category.label
        label = record.labels[int(np.asarray(record.scene.label)[row])]
        assert label == labels.harmonise(placed.category.label).label
    sources = [one["source_label"] for one in metadata(made)["objects"]]
    assert sorted(sources) == sorted(placed.category.label for placed in room.objects)


@pytest.mark.parametrize("dataset", FORMATS)
def test_poses_and_visibility_come_back(dataset: str, prepared: Prepare, room: rooms.Room) -> None:
    made = prepared(dataset)
    record, turn = scene_of(made), world_from_room(made)
    rendering = rooms.render_path(room)
    share = np.minimum(rooms.visibility(rendering), 1)
    truth = turn @ room.views.path
    centers = np.asarray(record.scene.obb_center)
    columns = [
        int(np.argmin(np.linalg.norm(centers - (turn @ [*placed.obb()[0], 1])[:3], axis=1)))
        for placed in room.objects
    ]
    assert len(record.frame_ids) >= 12
    for row, pose in enumerate(np.asarray(record.scene.world_from_camera)):
        gaps = np.abs(truth - pose).max((1, 2))
        frame = int(np.argmin(gaps))
        assert gaps[frame] < 1e-4
        seen = np.asarray(record.scene.visibility)[row, columns]
        np.testing.assert_allclose(seen, share[frame, : len(columns)], atol=0.02)


@pytest.mark.parametrize("dataset", FORMATS)
def test_room_size_comes_back(dataset: str, prepared: Prepare, room: rooms.Room) -> None:
    made = prepared(dataset)
    assert float(scene_of(made).scene.floor_area) == pytest.approx(room.plan.area, rel=0.01)
    assert made.outcome.room_size == pytest.approx(room.plan.area, rel=0.01)


@pytest.mark.parametrize("dataset", FORMATS)
def test_scene_says_where_it_comes_from(dataset: str, prepared: Prepare) -> None:
    made = prepared(dataset)
    scene = metadata(made)
    origin = scene["provenance"]
    assert scene["schema_version"] == unified.SCHEMA_VERSION
    assert (origin["dataset"], origin["source_id"]) == (dataset, made.outcome.source_id)
    assert origin["settings"] == made.job.recipe()
    assert len(origin["files"]) >= 3
    for one in origin["files"]:
        path = made.job.raw / one["name"]
        assert one["bytes"] == (path.stat().st_size if path.is_file() else None)
        assert path.exists() or "sha256" not in one
    assert scene["alignment"] == ("dataset" if dataset == "scannet" else "estimated")
    assert scene["quality"]["score"] > 0.5


@pytest.mark.parametrize("dataset", FORMATS)
def test_packed_file_equals_the_json_files(dataset: str, prepared: Prepare) -> None:
    made = prepared(dataset)
    packed = scene_of(made)
    parsed = scene_io.load_scene(made.job.out, made.outcome.scene_id, packed=False)
    assert (packed.labels, packed.frame_ids) == (parsed.labels, parsed.frame_ids)
    for field in dataclasses.fields(packed.scene):
        if field.name not in ("points", "point_valid"):
            np.testing.assert_array_equal(
                getattr(packed.scene, field.name),
                getattr(parsed.scene, field.name),
                err_msg=field.name,
            )
    assert np.asarray(packed.scene.point_valid).sum(1).min() > 3


@pytest.mark.parametrize("dataset", FORMATS)
def test_structure_is_as_published(dataset: str, prepared: Prepare) -> None:
    """The published checker's rules, less one: poses are there of all frames."""
    made = prepared(dataset)
    folder = scene_io.scene_folder(made.job.out, made.outcome.scene_id)
    ids = {
        sub: {path.stem for path in (folder / sub).iterdir()}
        for sub in ("color", "depth", "pose", "frame_processed")
    }
    assert ids["color"] == ids["depth"] == ids["frame_processed"]
    assert ids["color"] <= ids["pose"] and len(ids["pose"]) == made.outcome.poses
    assert (folder / "processed").is_file()
    matrices = [
        folder / f"{k}_{of}.txt" for k in ("intrinsic", "extrinsic") for of in ("color", "depth")
    ]
    for path in [*matrices, *(folder / "pose").iterdir()]:
        assert np.loadtxt(path).shape == (4, 4)
    for frame in ids["color"]:
        with Image.open(folder / "depth" / f"{frame}.png") as depth:
            assert np.asarray(depth).dtype == np.uint16
    segments = json.loads((folder / f"{folder.name}_vh_clean.segs.json").read_text())["segIndices"]
    groups = json.loads((folder / f"{folder.name}_vh_clean.aggregation.json").read_text())
    known = set(segments)
    assert all(set(group["segments"]) <= known for group in groups["segGroups"])


def appended(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b" ")


RAW_CHANGES: dict[str, tuple[str, Callable[[Path, str], object]]] = {
    "other numbers of the same length": (
        "scannet",
        lambda raw, name: (
            path := raw / f"scans/{name}/{name}.txt",
            path.write_text(path.read_text().replace("0", "1", 1)),
        ),
    ),
    "another segmentation": (
        "scannet",
        lambda raw, name: appended(raw / f"scans/{name}/{name}.aggregation.json"),
    ),
    "pictures that came later": (
        "scannetpp",
        lambda raw, name: appended(next((raw / f"data/{name}/dslr/undistorted_images").iterdir())),
    ),
    "depth that is gone": (
        "scannetpp",
        lambda raw, name: shutil.rmtree(raw / f"data/{name}/dslr/undistorted_depths"),
    ),
    "another sky": (
        "arkitscenes",
        lambda raw, name: [appended(path) for path in raw.rglob("metadata.csv")],
    ),
    "one depth image less": (
        "arkitscenes",
        lambda raw, name: next(path for path in raw.rglob("lowres_depth/*.png")).unlink(),
    ),
}


@pytest.mark.parametrize("change", RAW_CHANGES)
def test_whatever_changes_in_the_raw_data_makes_the_scene_again(
    change: str, prepared: Prepare, tmp_path: Path
) -> None:
    dataset, damage = RAW_CHANGES[change]
    made = prepared(dataset)
    source = made.outcome.source_id
    shutil.copytree(made.job.raw, tmp_path / "raw")
    job = dataclasses.replace(made.job, raw=tmp_path / "raw")
    assert preparing.current_scene(job, source) is not None
    damage(job.raw, source)
    assert preparing.current_scene(job, source) is None


def test_a_scene_whose_pictures_or_pack_are_gone_is_not_current(
    prepared: Prepare, tmp_path: Path
) -> None:
    made = prepared("scannet")
    scene, source = made.outcome.scene_id, made.outcome.source_id
    for number, damage in enumerate(
        (
            lambda out: shutil.rmtree(out / "train" / scene / "color"),
            lambda out: (out / "metadata" / scene / f"{scene}.npz").write_bytes(b"no archive"),
        )
    ):
        job = dataclasses.replace(made.job, out=tmp_path / str(number))
        shutil.copytree(made.job.out, job.out)
        assert preparing.current_scene(job, source) == "train"
        damage(job.out)
        assert preparing.current_scene(job, source) is None


def test_what_no_file_can_hold_fails_that_scan_and_leaves_nothing(
    prepared: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = prepared("scannet")
    job = dataclasses.replace(made.job, out=tmp_path)

    def write(folder: Path, source: unified.SceneSource) -> None:
        raise OverflowError("a number nobody thought of \ud83d")

    monkeypatch.setattr(unified, "_write_metadata", write)
    outcome = prepare_scan(job, made.outcome.source_id)
    assert outcome.status == "failed" and "unforeseen OverflowError" in outcome.why
    json.dumps(outcome._asdict(), ensure_ascii=False).encode()  # the report can be written
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("dataset", FORMATS)
def test_preview_is_drawn(dataset: str, prepared: Prepare) -> None:
    made = prepared(dataset)
    path = made.job.out / preparing.PREVIEWS / f"{made.outcome.scene_id}.png"
    with Image.open(path) as sheet:
        assert sheet.width >= 1600
        assert len(sheet.convert("RGB").getcolors(1 << 24) or []) > 500


def test_stored_jpegs_are_copied_byte_for_byte(prepared: Prepare, scan: Scan) -> None:
    made = prepared("scannet")
    folder = scene_io.scene_folder(made.job.out, made.outcome.scene_id)
    for path in (folder / "frame_processed").iterdir():
        assert path.read_bytes() == scan.images.color_jpeg(scan.frames[int(path.stem)])


def test_ready_scene_is_left_alone(prepared: Prepare) -> None:
    made = prepared("scannet")
    before = contents(made.job.out)
    again = prepare_scan(made.job, made.outcome.source_id)
    assert (again.status, again.why) == ("skipped", "it is ready")
    assert contents(made.job.out) == before


def test_scene_is_made_again_when_its_raw_data_or_settings_change(
    prepared: Prepare, tmp_path: Path
) -> None:
    made = prepared("scannet")
    raw, out = tmp_path / "raw", tmp_path / "out"
    shutil.copytree(made.job.raw, raw)
    shutil.copytree(made.job.out, out)
    job = dataclasses.replace(made.job, raw=raw, out=out, preview=False)
    source = made.outcome.source_id
    assert preparing.current_scene(job, source) == "train"
    fewer = dataclasses.replace(job, settings=BuildSettings(frames=2))
    assert preparing.current_scene(fewer, source) is None
    with (raw / "scans" / source / f"{source}.txt").open("a") as file:
        file.write("sceneType = Kitchen\n")
    assert preparing.current_scene(job, source) is None
    again = prepare_scan(fewer, source)
    assert again.status == "done" and again.frames == 2
    assert len(scene_io.load_scene(out, source).frame_ids) == 2  # nothing of the first is left


def test_scene_that_changes_its_split_leaves_the_other(prepared: Prepare, tmp_path: Path) -> None:
    made = prepared("scannet")
    job = dataclasses.replace(made.job, out=tmp_path, settings=BuildSettings(frames=1))
    for split, other in (("train", "val"), ("val", "train")):
        moved = prepare_scan(dataclasses.replace(job, split=split), made.outcome.source_id)
        assert moved.split == split
        assert scene_io.list_scenes(tmp_path, split) == (made.outcome.scene_id,)
        assert scene_io.list_scenes(tmp_path, other) == ()


@pytest.mark.parametrize("suffix", ["_vh_clean_2.ply", ".aggregation.json", ".sens"])
def test_file_cut_short_fails_its_scene_only(
    prepared: Prepare, tmp_path: Path, suffix: str
) -> None:
    made = prepared("scannet")
    raw, source = tmp_path / "raw", made.outcome.source_id
    shutil.copytree(made.job.raw, raw)
    path = raw / "scans" / source / f"{source}{suffix}"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    job = dataclasses.replace(made.job, raw=raw, out=tmp_path / "out")
    outcome = prepare_scan(job, source)
    assert outcome.status == "failed" and path.name in outcome.why
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_nothing_half_written(
    prepared: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = prepared("scannet")
    job = dataclasses.replace(
        made.job, out=tmp_path, settings=BuildSettings(frames=1), preview=False
    )

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scene_io, "save_packed", full)
    with pytest.raises(preparing.WriteError, match="but no space left on device; nothing of it is"):
        prepare_scan(job, made.outcome.source_id)
    assert contents(tmp_path) == {}
    monkeypatch.undo()
    assert prepare_scan(job, made.outcome.source_id).status == "done"
