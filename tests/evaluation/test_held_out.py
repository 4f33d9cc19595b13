"""The held-out questions and their score."""

import collections
import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from geometry_jax.tasks import TASK_IDS, TASKS
from spatialevo_jax.config import DataConfig
from spatialevo_jax.data import RoomSet, Row, load_rooms
from spatialevo_jax.environment import Request, answer_requests
from spatialevo_jax.environment.labels import plural
from spatialevo_jax.evaluation import held_out
from spatialevo_jax.evaluation.held_out import Item, build_items, score

PER_TASK, SCENE_FRAMES = 6, 3
IMAGES = {"single_image": 1, "image_pair": 2, "scene": SCENE_FRAMES}


@pytest.fixture(scope="module")
def rooms(rooms_root: Path) -> RoomSet:
    return load_rooms(DataConfig(rooms_root, image_size=(56, 56), scene_frames=SCENE_FRAMES), "val")


@pytest.fixture(scope="module")
def items(rooms: RoomSet) -> list[Item]:
    return build_items(rooms, PER_TASK, SCENE_FRAMES, wordings=1)


def test_every_run_of_items_has_one_of_each_task(items: list[Item]) -> None:
    names = [task.name for task in TASKS]
    assert [item.task for item in items] == names * PER_TASK


def test_items_show_the_images_of_their_task(items: list[Item]) -> None:
    for item in items:
        assert len(item.row.frames) == IMAGES[TASKS[TASK_IDS[item.task]].modality]


def test_all_runs_answer_the_same_questions(rooms: RoomSet, items: list[Item]) -> None:
    assert build_items(rooms, PER_TASK, SCENE_FRAMES, wordings=1) == items


def test_truths_are_what_the_oracle_says_clear_of_every_edge(
    rooms: RoomSet, items: list[Item]
) -> None:
    requests = [
        Request(rooms.records[item.row.room], item.task, item.question, item.row.frames)
        for item in items
    ]
    for item, verdict in zip(items, answer_requests(requests), strict=True):
        assert verdict.valid
        assert verdict.margin >= 1.0
        assert verdict.answer == item.truth


def test_counts_and_heights_by_looking_at_the_room(rooms: RoomSet, items: list[Item]) -> None:
    """Two tasks whose truth needs no geometry: how many of a label, which camera is higher."""
    (record,) = rooms.records
    labels = collections.Counter(record.labels[int(i)] for i in record.scene.label)
    for item in items:
        if item.task == "object_counting":
            (asked,) = [label for label in labels if f" {plural(label)} " in item.question]
            assert int(item.truth) == labels[asked]
        if item.task == "elevation_cam_cam":
            first, second = map(int, re.findall(r"Image (\d)", item.question))
            height = {
                image: float(record.scene.world_from_camera[frame, 2, 3])
                for image, frame in enumerate(item.row.frames, start=1)
            }
            assert item.truth == ("higher" if height[first] > height[second] else "lower")


def test_no_question_counts_twice(rooms: RoomSet, items: list[Item]) -> None:
    counted = [(item.row, item.question) for item in items if item.weight]
    assert len(set(counted)) == len(counted)


def test_answers_of_two_kinds_come_equally_often(items: list[Item]) -> None:
    """A pair can be asked about both ways round, so there are enough of both."""
    truths = collections.Counter(item.truth for item in items if item.task == "elevation_cam_cam")
    assert truths == {"higher": PER_TASK // 2, "lower": PER_TASK // 2}


def item(task: str, truth: str, weight: float = 1.0, question: str = "?") -> Item:
    return Item(task, Row(0, (0,)), question, truth, weight)


def test_rare_answers_are_taken_first_and_gaps_are_padded() -> None:
    left = [item("motion_camera", "left", question=str(index)) for index in range(5)]
    right = [item("motion_camera", "right")]
    found = held_out._balanced({"left": left, "right": right}, 4, "motion_camera")
    assert found == [left[0], right[0], left[1], left[2]]
    padded = held_out._balanced({"left": left[:1], "right": right}, 5, "motion_camera")
    assert padded[:2] == [left[0], right[0]]
    copies = [dataclasses.replace(one, weight=0.0) for one in (left[0], right[0], left[0])]
    assert padded[2:] == copies


def test_padding_is_not_shown_as_an_example() -> None:
    asked, again = item("room_size", "18.47"), item("room_size", "18.47", weight=0.0)
    assert held_out.examples([asked, item("depth_order_obj_obj", "lamp"), again], 3) == [0, 1]
    assert held_out.examples([asked, asked, asked], 2) == [0, 1]


def test_a_task_without_any_valid_question_is_named() -> None:
    with pytest.raises(ValueError, match="motion_camera: expected valid questions"):
        held_out._balanced({}, 4, "motion_camera")


RIGHT = {"metres": "2.00 meters", "count": "3", "label": "lamp"}
RIGHT |= {"centimetres": "90.98 cm", "square_metres": "18.47 square meters"}


def test_the_score_by_hand() -> None:
    """Everything right but: one of two counts, a distance off by a quarter (0.6 of 1), an answer
    without its tags. The padding is wrong and must not count.
    """
    truths = {task.name: RIGHT.get(task.answer) or task.choices[0] for task in TASKS}
    items = [item(task.name, truths[task.name]) for task in TASKS]
    replies = {name: f"<answer>{truth}</answer>" for name, truth in truths.items()}
    replies["absolute_distance"] = "<answer>2.5</answer>"
    replies["motion_camera"] = truths["motion_camera"]
    texts = [replies[one.task] for one in items]
    items += [item("object_counting", "3"), item("object_counting", "3", weight=0.0)]
    texts += ["1 chair c64 <answer>4</answer>", "<answer>9</answer>"]

    found, points = score(items, texts)
    expected = {name: 1.0 for name in truths}
    expected |= {"absolute_distance": 0.6, "motion_camera": 0.0, "object_counting": 0.5}
    assert found.per_task == pytest.approx(expected)
    assert found.counts == {name: 1 + (name == "object_counting") for name in truths}
    assert found.accuracy == pytest.approx((len(TASKS) - 0.4 - 1.0 - 0.5) / len(TASKS))
    real = len(texts) - 1  # all but the padding
    assert found.formatted == pytest.approx((real - 1) / real)
    assert len(points) == len(items)
    assert points[-2:] == [0.0, 0.0]


def test_answering_everything_alike_scores_no_more_than_its_share(items: list[Item]) -> None:
    """One word for all cannot be right about higher and lower at once."""
    always, _ = score(items, ["<answer>higher</answer>"] * len(items))
    assert always.per_task["elevation_cam_cam"] == 0.5
    assert always.accuracy == pytest.approx(0.5 / len(TASKS))


def test_the_truth_itself_scores_one(items: list[Item]) -> None:
    perfect, points = score(items, [f"<answer>{one.truth}</answer>" for one in items])
    np.testing.assert_allclose(points, 1.0)
    assert (perfect.accuracy, perfect.formatted) == (pytest.approx(1.0), 1.0)
