"""Rooms and rows: the same rows for a seed and a step, and nothing from a broken room."""

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geometry_jax import scene_io
from geometry_jax.scene_io import SceneRecord
from geometry_jax.tasks import TASK_IDS
from spatialevo_jax.config import DataConfig
from spatialevo_jax.data import (
    ROWS_PER_ROOM,
    RoomSet,
    Row,
    enumerate_rows,
    load_rooms,
    read_image,
    row_source,
    seen_size,
)
from spatialevo_jax.environment import feasible_tasks
from tests.scenes import THINGS, camera, make_record, room

SIZE, SCENE_FRAMES = 56, 3
SIZES = (1, 2, SCENE_FRAMES)


def config_of(root: Path) -> DataConfig:
    return DataConfig(scenes=root, image_size=(SIZE, SIZE), scene_frames=SCENE_FRAMES, dot_size=0)


def set_of(*records: SceneRecord) -> RoomSet:
    """Rooms without pictures about which every task may be asked."""
    return RoomSet(records, tuple(TASK_IDS), (56, 56))


@pytest.fixture(scope="module")
def rooms(rooms_root: Path) -> RoomSet:
    return load_rooms(config_of(rooms_root), "train")


@pytest.fixture
def copied(rooms_root: Path, tmp_path: Path) -> Path:
    """The held-out room alone, to be broken."""
    root = tmp_path / "copied"
    shutil.copytree(rooms_root, root, ignore=shutil.ignore_patterns("train"))
    return root


def test_training_and_held_out_rooms_are_distinct(rooms: RoomSet, rooms_root: Path) -> None:
    held_out = load_rooms(config_of(rooms_root), "val")
    assert (len(rooms.records), len(held_out.records)) == (2, 1)
    ids = {record.scene_id for record in rooms.records}
    assert ids.isdisjoint(record.scene_id for record in held_out.records)
    for record in rooms.records:
        ours, theirs = (np.asarray(one.scene.center) for one in (record, held_out.records[0]))
        assert ours.shape != theirs.shape or not np.allclose(ours, theirs)


@pytest.mark.parametrize("twin", ["scene0001_00", "scene0001_01"])
def test_a_room_in_both_splits_is_refused(rooms_root: Path, tmp_path: Path, twin: str) -> None:
    """As the same scan, or as another scan of it, whatever split is loaded."""
    root = tmp_path / "rooms"
    shutil.copytree(rooms_root, root)
    shutil.copytree(root / "train" / "scene0001_00", root / "val" / twin)
    metadata = root / "metadata" / twin
    metadata.mkdir(exist_ok=True)
    (metadata / f"{twin}.json").touch()
    for split in ("train", "val"):
        with pytest.raises(ValueError, match=rf"train/scene0001_00 and val/{twin} are one; move"):
            load_rooms(DataConfig(scenes=root), split)


def test_only_ids_of_one_data_set_tell_scans_of_a_room() -> None:
    assert scene_io.room_of("scene0707_01") == scene_io.room_of("scene0707_00") == "scene0707"
    for other in ("41069021", "scene0707_extra", "a_01", "xscene0707_01"):
        assert scene_io.room_of(other) == other


def test_images_come_at_the_size_the_policy_sees(rooms_root: Path) -> None:
    """The rooms' pictures are square, and stay so."""
    for size, side in (((28, 28), 28), ((84, 56), 56), ((112, 112), 112)):
        rooms = load_rooms(dataclasses.replace(config_of(rooms_root), image_size=size), "val")
        assert rooms.row_sizes(Row(0, (0, 1))) == [(side, side)] * 2
        for image in rooms.row_images(Row(0, (0, 1))):
            assert image.shape == (side, side, 3) and image.dtype == np.uint8


@pytest.mark.parametrize(
    ("size", "seen"),
    [
        ((448, 336), (448, 336)),
        ((1296, 968), (448, 336)),  # ScanNet
        ((1920, 1440), (448, 336)),  # ScanNet++, ARKitScenes
        ((1440, 1920), (336, 448)),
        ((1920, 1080), (504, 280)),
        ((10, 10), (364, 364)),
        ((9000, 10), (5376, 28)),
    ],
)
def test_pictures_are_seen_in_their_own_form(size: tuple[int, int], seen: tuple[int, int]) -> None:
    assert seen_size(size, (448, 336)) == seen


def test_no_picture_takes_more_tokens_than_the_wanted_size() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        width, height, *tokens = (int(x) for x in np.exp(rng.uniform(0, [8, 8, 4, 4])))
        wanted = 28 * max(tokens[0], 1), 28 * max(tokens[1], 1)
        seen = seen_size((width, height), wanted)
        assert not any(side % 28 for side in seen) and min(seen) > 0
        assert math.prod(seen) <= math.prod(wanted)
        turned = seen_size((height, width), wanted)
        assert math.prod(turned) == math.prod(seen)


@pytest.mark.parametrize("field", ["center", "extent", "world_from_camera", "visibility"])
def test_rooms_of_the_same_names_with_other_contents_are_others(field: str) -> None:
    one, same = (
        set_of(make_record(THINGS[:2], [camera(0.0, 0.0, 1.5, heading=90.0)])) for _ in range(2)
    )
    assert one.fingerprint == same.fingerprint
    scene = one.records[0].scene
    moved = dataclasses.replace(scene, **{field: np.asarray(getattr(scene, field)) * 0.5})
    other = set_of(dataclasses.replace(one.records[0], scene=moved))
    assert other.fingerprint != one.fingerprint
    bare = dataclasses.replace(scene, points=scene.points[:, :0])
    assert set_of(dataclasses.replace(one.records[0], scene=bare)).fingerprint == one.fingerprint


def test_images_stand_in_the_order_of_their_frames(rooms: RoomSet) -> None:
    shown = rooms.row_images(Row(1, (3, 0)))
    for image, frame in zip(shown, (3, 0), strict=True):
        with Image.open(rooms.records[1].image_paths[frame]) as stored:
            np.testing.assert_array_equal(image, np.asarray(stored.convert("RGB")))


def test_grey_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    for mode, value in (("L", 90), ("RGBA", (90, 90, 90, 128))):
        path = tmp_path / f"{mode}.png"
        Image.new(mode, (40, 30), value).save(path)
        np.testing.assert_array_equal(read_image(path, (56, 56)), np.full((56, 56, 3), 90))


@pytest.mark.parametrize("images", SIZES)
def test_rows_show_distinct_frames_that_allow_a_question(rooms: RoomSet, images: int) -> None:
    rows = enumerate_rows(rooms, images, seed=3)
    assert len(set(rows)) == len(rows)
    assert {row.room for row in rows} == {0, 1}
    for row in rows:
        assert len(set(row.frames)) == images
        assert max(row.frames) < len(rooms.records[row.room].frame_ids)
        assert feasible_tasks(rooms.records[row.room], row.frames)


@pytest.mark.parametrize("images", SIZES)
def test_no_room_offers_more_rows_than_its_share(images: int) -> None:
    poses = [camera(2.5 + 0.1 * i, -1.0, 1.5 + 0.02 * i, heading=90.0) for i in range(10)]
    crowded = make_record(THINGS, poses)
    per_room = [
        sum(row.room == index for row in enumerate_rows(set_of(crowded, room()), images, seed=0))
        for index in range(2)
    ]
    assert max(per_room) <= ROWS_PER_ROOM
    assert per_room[0] == min(ROWS_PER_ROOM, 10 if images == 1 else ROWS_PER_ROOM)


def test_the_frames_of_a_pair_share_an_object() -> None:
    """Two cameras back to back see nothing in common; the third sees what the first sees."""
    things = [dataclasses.replace(THINGS[0], center=(0.0, y, 0.5)) for y in (3.0, -3.0)]
    things = [dataclasses.replace(t, label=f"thing{i}") for i, t in enumerate(things)]
    poses = [camera(0, 0, 1.5, heading=h) for h in (90.0, 270.0)] + [camera(1, 0, 1, heading=90.0)]
    rows = enumerate_rows(set_of(make_record(things, poses)), 2, seed=0)
    assert {row.frames for row in rows} == {(0, 2), (2, 0)}


def test_the_frames_of_a_scene_row_show_every_object_between_them() -> None:
    things = [dataclasses.replace(THINGS[0], center=(0.0, y, 0.5)) for y in (3.0, -3.0)]
    things = [dataclasses.replace(t, label=f"thing{i}") for i, t in enumerate(things)]
    poses = [camera(x, 0, 1.5, heading=h) for h in (90.0, 270.0) for x in (0.0, 0.5, 1.0)]
    rows = enumerate_rows(set_of(make_record(things, poses)), SCENE_FRAMES, seed=0)
    chosen = {row.frames for row in rows}
    assert chosen.isdisjoint({(0, 1, 2), (3, 4, 5)})
    assert all(list(frames) == sorted(frames) for frames in chosen)


def test_an_object_hardly_seen_is_not_in_an_image() -> None:
    """One object of the two is below the floor of a tenth: nothing to relate in this image."""
    poses = [camera(2.5, -1.0, 1.5, heading=90.0)] * 2
    faint = make_record(THINGS[:2], poses, visibility={(0, 0): 0.09, (1, 0): 0.1})
    assert enumerate_rows(set_of(faint), 1, seed=0) == [Row(0, (1,))]


def test_rows_are_about_the_chosen_tasks_alone() -> None:
    """At one height no two images can be told apart by theirs."""
    poses = [camera(2.5 + x, -1.0, 1.5, heading=90.0) for x in (0.0, 0.2)]
    rooms = dataclasses.replace(set_of(make_record(THINGS[:2], poses)), tasks=("motion_camera",))
    (row, _) = enumerate_rows(rooms, 2, seed=0)
    assert rooms.feasible_tasks(row) == ("motion_camera",)
    with pytest.raises(ValueError, match="rows of 1 images"):
        enumerate_rows(rooms, 1, seed=0)


def test_dots_are_drawn_into_what_the_policy_sees(rooms_root: Path, rooms: RoomSet) -> None:
    dotted = load_rooms(dataclasses.replace(config_of(rooms_root), dot_size=2), "train")
    row = Row(0, (1, 0))
    differs = (np.stack(dotted.row_images(row)) != np.stack(rooms.row_images(row))).any(-1)
    assert differs.mean() == pytest.approx(4 / 49, rel=0.02)


def test_rooms_without_such_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="rows of 9 images"):
        enumerate_rows(set_of(room()), 9, seed=0)


def test_rows_that_are_not_shown_need_no_rooms_that_have_them(rooms: RoomSet) -> None:
    """A run about single images alone, with a task that pairs and scenes do not have."""
    rooms = dataclasses.replace(rooms, tasks=("depth_order_obj_obj",))
    with pytest.raises(ValueError, match="rows of 2 images to ask depth_order_obj_obj about"):
        row_source(rooms, SIZES, seed=5)
    source = row_source(rooms, (1, 0, 0), seed=5)
    assert [len(row.frames) for row in source.step_rows(7, (3, 0, 0))] == [1] * 3
    with pytest.raises(ValueError, match="expected a row, got None"):
        source.step_rows(7, (3, 1, 0))


COUNTS = (3, 2, 4)


def test_a_step_has_the_rows_that_were_asked_for(rooms: RoomSet) -> None:
    rows = row_source(rooms, SIZES, seed=5).step_rows(7, COUNTS)
    assert [len(row.frames) for row in rows] == [1] * 3 + [2] * 2 + [SCENE_FRAMES] * 4
    assert row_source(rooms, SIZES, seed=5).step_rows(7, (0, 0, 0)) == []


def test_rows_depend_on_the_seed_and_the_step_alone(rooms: RoomSet) -> None:
    """A resumed run starts in the middle; going on, back or twice gives the same rows."""
    whole = [row_source(rooms, SIZES, seed=5).step_rows(step, COUNTS) for step in range(12)]
    resumed = row_source(rooms, SIZES, seed=5)
    for step in (11, 6, 6, 0, 7):
        assert resumed.step_rows(step, COUNTS) == whole[step]
    other = row_source(rooms, SIZES, seed=6)
    assert [other.step_rows(step, COUNTS) for step in range(12)] != whole


def test_an_epoch_shows_each_row_once_and_epochs_differ_in_order(rooms: RoomSet) -> None:
    rows = enumerate_rows(rooms, 2, seed=5)
    source = row_source(rooms, SIZES, seed=5)
    epochs = [
        [source.step_rows(step, (0, 1, 0))[0] for step in range(at, at + len(rows))]
        for at in (0, len(rows))
    ]
    for epoch in epochs:
        assert sorted(epoch, key=repr) == sorted(rows, key=repr)
    assert epochs[0] != epochs[1]


def test_a_folder_without_scenes_says_how_to_make_some(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"train: expected scenes.*launch\.prepare"):
        load_rooms(config_of(tmp_path), "train")


def only(root: Path, pattern: str) -> Path:
    return sorted(root.glob(pattern))[0]


def unpacked(root: Path) -> None:
    """Without its packed copy a room is read from its JSON files."""
    for pack in root.glob("metadata/*/*.npz"):
        pack.unlink()


def test_an_image_that_does_not_decode_is_named(copied: Path) -> None:
    path = only(copied, "val/*/frame_processed/*.*")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=rf"{path.name}: expected an image"):
        load_rooms(config_of(copied), "val").row_images(Row(0, (0,)))


@pytest.mark.parametrize(
    ("form", "broken"),
    [
        ("PNG", lambda whole: whole.rindex(b"IDAT")),  # the name of the last part of the pixels
        ("BMP", lambda whole: 20),  # the width, which then says more than a picture may have
    ],
)
def test_an_image_with_one_wrong_byte_is_named(
    tmp_path: Path, form: str, broken: Callable[[bytes], int]
) -> None:
    """Pillow has other errors for it than for one that is cut."""
    path = tmp_path / f"0.{form.lower()}"
    Image.effect_noise((300, 300), 50).save(path)
    whole = path.read_bytes()
    place = broken(whole)
    path.write_bytes(whole[:place] + b"\x8e" + whole[place + 1 :])
    with pytest.raises(ValueError, match=rf"{path.name}: expected an image"):
        read_image(path, (28, 28))


def test_a_missing_image_is_named(copied: Path) -> None:
    path = only(copied, "val/*/frame_processed/*.*")
    path.unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=path.name):
        load_rooms(config_of(copied), "val").row_images(Row(0, (0,)))


def test_a_frame_without_a_pose_is_marked(copied: Path) -> None:
    unpacked(copied)
    frame = only(copied, "metadata/*/frame_processed/*.json").stem
    only(copied, f"val/*/pose/{frame}.txt").unlink()
    (record,) = load_rooms(config_of(copied), "val").records
    lost = [name == frame for name in record.frame_ids]
    assert np.asarray(record.scene.pose_valid).tolist() == [not one for one in lost]
    assert np.isfinite(np.asarray(record.scene.world_from_camera)).all()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("objects", "none", "expected a list of records under 'objects'"),
        ("objects", [{"label": 3}], r"objects\[0\]\.label: expected text"),
        ("objects", [{"label": "bed", "3d_bbox": [0, 0, 0, 1, 1]}], "expected 6 finite numbers"),
        ("objects", [{"label": "bed", "3d_bbox": [2, 0, 0, 1, 1, 1]}], "minima before maxima"),
    ],
)
def test_metadata_of_the_wrong_form_is_named(
    copied: Path, key: str, value: object, message: str
) -> None:
    unpacked(copied)
    path = next(path for path in copied.glob("metadata/*/*.json") if path.stem == path.parent.name)
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(record | {key: value}), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{path.name}.*{message}"):
        load_rooms(config_of(copied), "val")


def test_metadata_that_is_no_json_is_named(copied: Path) -> None:
    unpacked(copied)
    path = next(path for path in copied.glob("metadata/*/*.json") if path.stem == path.parent.name)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{path.name}: expected JSON"):
        load_rooms(config_of(copied), "val")
