"""Rows of a set as conversations: about the right images, the same for the same step."""

import dataclasses
from pathlib import Path

import pytest

from spatialevo_jax.config import DataConfig, SftConfig
from spatialevo_jax.data import RoomSet, load_rooms
from spatialevo_jax.environment import pools
from spatialevo_jax.environment.identity import scene_hash
from spatialevo_jax.qa import rows as qa_rows
from spatialevo_jax.qa import shards
from spatialevo_jax.qa.rows import Row
from spatialevo_jax.roles import pointing, prompts
from spatialevo_jax.train.sft import Lesson, lesson_source

FRAMES = 3


@pytest.fixture(scope="module")
def data(rooms_root: Path) -> DataConfig:
    return DataConfig(scenes=rooms_root, image_size=(56, 56), scene_frames=FRAMES)


@pytest.fixture(scope="module")
def rooms(data: DataConfig) -> RoomSet:
    return load_rooms(data, "train")


def row_about(rooms: RoomSet, number: int, task: str, frames: tuple[int, ...], **changed) -> Row:
    """A row as sets have them; what it says need not be true here."""
    record = rooms.records[number % len(rooms.records)]
    modality = {1: "single_image", 2: "image_pair"}.get(len(frames), "scene")
    label = next(point.label for point in pointing.visible(record, frames))
    row = dict.fromkeys(qa_rows.FIELDS, "") | {
        "id": f"row{number}",
        "split": "train",
        "task": task,
        "modality": modality,
        "scene_id": record.scene_id,
        "images": [
            f"train/{record.scene_id}/frame_processed/{record.image_paths[f].name}" for f in frames
        ],
        "question": f"Question {number}?",
        "answer": f"answer {number}",
        "options": [],
        "correct": -1,
        "valid": True,
        "reason": "OK",
        "margin": None,
        "labels": [label],
        "roles": [],
        "evidence": {"objects": [], "points_world": [], "numbers": []},
        "scene_hash": scene_hash(record),
    }
    return row | changed


def write_set(folder: Path, rows: list[Row]) -> SftConfig:
    shards.write_shard(folder, "train", 0, rows, ("jsonl",))
    return SftConfig(data=folder, rows=(2, 1, 1), reply="answer")


@pytest.fixture(scope="module")
def rows(rooms: RoomSet) -> list[Row]:
    singles = [row_about(rooms, i, "distance_cam_obj", (i % 4,)) for i in range(7)]
    pairs = [row_about(rooms, 7 + i, "visibility_compare", (i, i + 1)) for i in range(3)]
    scenes = [row_about(rooms, 10 + i, "object_size", (0, 2, 4)) for i in range(3)]
    return [*singles, *pairs, *scenes]


@pytest.fixture(scope="module")
def config(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> SftConfig:
    return write_set(tmp_path_factory.mktemp("set"), rows)


def taken(config: SftConfig, data: DataConfig, rooms: RoomSet, seed: int, step: int):
    return lesson_source(config, data, rooms, seed).step_lessons(step, config.rows)


def test_a_lesson_is_about_the_images_of_its_row(
    config: SftConfig, data: DataConfig, rooms: RoomSet, rows: list[Row]
) -> None:
    by_question = {row["question"]: row for row in rows}
    for lesson in taken(config, data, rooms, 0, 0):
        question = lesson.example.prompt.partition("? ")[0] + "?"
        row = by_question[question]
        record = rooms.records[lesson.row.room]
        assert record.scene_id == row["scene_id"]
        names = [record.image_paths[frame].name for frame in lesson.row.frames]
        assert names == [Path(image).name for image in row["images"]]
        assert lesson.example.prompt == prompts.solver(row["task"], question)
        assert lesson.example.reply == f"See <answer> {row['answer']} </answer>"


def test_a_step_takes_the_same_lessons_whatever_came_before(
    config: SftConfig, data: DataConfig, rooms: RoomSet
) -> None:
    assert taken(config, data, rooms, 0, 5) == taken(config, data, rooms, 0, 5)
    assert taken(config, data, rooms, 0, 5) != taken(config, data, rooms, 1, 5)
    lessons = taken(config, data, rooms, 0, 0)
    assert [len(lesson.row.frames) for lesson in lessons] == [1, 1, 2, FRAMES]
    source = lesson_source(config, data, rooms, 0)
    seen: set[str] = set()
    for step in range(4):  # seven single rows, two a step: all are seen before one comes again
        seen |= {one.example.prompt for one in source.step_lessons(step, (2, 0, 0))}
    assert len(seen) == 7


def one_lesson(row: Row, data: DataConfig, rooms: RoomSet, folder: Path, reply: str) -> Lesson:
    config = dataclasses.replace(write_set(folder, [row]), rows=(1, 0, 0), reply=reply)
    return taken(config, data, rooms, 0, 0)[0]


def test_the_reply_begins_with_pointings_or_the_rationale(
    data: DataConfig, rooms: RoomSet, tmp_path: Path
) -> None:
    row = row_about(rooms, 0, "distance_cam_obj", (0,), rationale="It is 2 m away.")
    pointed = one_lesson(row, data, rooms, tmp_path / "a", "pointings").example.reply
    first = next(p for p in pointing.visible(rooms.records[0], (0,)) if p.label == row["labels"][0])
    assert pointed == f"See {first} <answer> answer 0 </answer>"
    told = one_lesson(row, data, rooms, tmp_path / "b", "rationale").example.reply
    assert told == "It is 2 m away. <answer> answer 0 </answer>"


def test_options_and_reasons_are_part_of_what_is_asked(
    data: DataConfig, rooms: RoomSet, tmp_path: Path
) -> None:
    row = row_about(rooms, 0, "distance_cam_obj", (0,), options=["1 m", "2 m"], correct=1)
    asked = one_lesson(row, data, rooms, tmp_path / "a", "answer").example.prompt
    assert "Question 0?\nOptions:\nA. 1 m\nB. 2 m" in asked
    invalid = row_about(rooms, 0, "distance_cam_obj", (0,), valid=False, answer="not visible")
    lesson = one_lesson(invalid, data, rooms, tmp_path / "b", "answer")
    assert "this question is invalid" in lesson.example.prompt
    assert lesson.example.reply == "See <answer> not visible </answer>"


def test_lessons_are_asked_in_the_language_of_the_runs_prompts(
    data: DataConfig, rooms: RoomSet, tmp_path: Path
) -> None:
    """The held-out questions are, and what is learnt is to be of use there."""
    rows = [
        row_about(rooms, 0, "distance_cam_obj", (0,)),
        row_about(rooms, 1, "distance_cam_obj", (0,), valid=False, answer="not visible"),
    ]
    config = dataclasses.replace(write_set(tmp_path / "set", rows), rows=(2, 0, 0))
    lessons = lesson_source(config, data, rooms, 0, "prose").step_lessons(0, config.rows)
    asked = {one.example.reply: one for one in lessons}
    answered = asked["<answer> answer 0 </answer>"].example.prompt
    assert answered == prompts.solver("distance_cam_obj", "Question 0?", "prose")
    refused = asked["<answer> not visible </answer>"]
    shown = pools(rooms.records[refused.row.room], refused.row.frames)
    expected = prompts.explainer("distance_cam_obj", "Question 1?", shown, "prose")
    assert refused.example.prompt == expected


def test_a_set_is_told_by_its_rows_wherever_it_is(
    data: DataConfig, rooms: RoomSet, rows: list[Row], config: SftConfig, tmp_path: Path
) -> None:
    def fingerprint(config: SftConfig) -> str:
        return lesson_source(config, data, rooms, 0).fingerprint

    assert fingerprint(write_set(tmp_path / "moved", rows)) == fingerprint(config)
    for number, field in ((0, "question"), (8, "answer")):
        others = [row | {field: "other"} if i == number else row for i, row in enumerate(rows)]
        assert fingerprint(write_set(tmp_path / field, others)) != fingerprint(config)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"scene_hash": "0"}, "its scene changed"),
        ({"scene_id": "scene0999_00"}, "not among the training rooms"),
        ({"modality": "scene"}, "--scene_images=3"),
        ({"modality": "image_pair"}, "expected rows of single_image"),
        ({"images": ["train/x/frame_processed/77.jpg"]}, "expected a frame"),
    ],
)
def test_a_set_that_does_not_fit_says_why(
    changed: Row, says: str, data: DataConfig, rooms: RoomSet, tmp_path: Path
) -> None:
    row = row_about(rooms, 0, "distance_cam_obj", (0,)) | changed
    with pytest.raises(ValueError, match=says):
        one_lesson(row, data, rooms, tmp_path, "answer")


def test_a_row_that_lacks_a_field_is_said(data: DataConfig, rooms: RoomSet, tmp_path: Path) -> None:
    row = row_about(rooms, 0, "distance_cam_obj", (0,))
    del row["options"]
    with pytest.raises(ValueError, match="row 1 lacks options"):
        one_lesson(row, data, rooms, tmp_path, "answer")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("modality", "video"),
        ("modality", ["scene"]),
        ("scene_id", ["scene0"]),
        ("task", None),
        ("question", None),
        ("answer", 3.5),
        ("images", None),
        ("images", [1]),
        ("options", "1 m"),
        ("labels", [None]),
        ("roles", ["0"]),
        ("valid", "true"),
    ],
)
def test_a_field_of_another_kind_is_said(
    field: str, value: object, data: DataConfig, rooms: RoomSet, tmp_path: Path
) -> None:
    row = row_about(rooms, 0, "distance_cam_obj", (0,)) | {field: value}
    with pytest.raises(ValueError, match=f"row 1 has {field} of another kind: "):
        one_lesson(row, data, rooms, tmp_path, "answer")


def test_a_missing_set_says_how_to_make_one(
    data: DataConfig, rooms: RoomSet, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match=r"launch\.generate"):
        lesson_source(SftConfig(data=tmp_path), data, rooms, 0)
