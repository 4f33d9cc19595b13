"""Answers as people and models write them, read and scored."""

import math

import numpy as np
import pytest

from geometry_jax.tasks import TASKS
from geometry_jax.types import TaskSpec
from spatialevo_jax.evaluation.readings import (
    DIRECTION_TASKS,
    METRIC_TASKS,
    clean,
    directions,
    mean_relative_accuracy,
    metres,
    name,
    number,
    score,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", (3.0, "")),
        ("3.", (3.0, "")),
        (" -3 ", (-3.0, "")),
        ("+2", (2.0, "")),
        (".5", (0.5, "")),
        ("-.5", (-0.5, "")),
        ("2.35m", (2.35, "m")),
        ("85cm", (85.0, "cm")),
        ("5M", (5.0, "m")),
        ("about 2.5 Meters.", (2.5, "meters")),
        ("1,200", (1200.0, "")),
        ("1,234,567.5 m", (1234567.5, "m")),
        ("(4)", (4.0, "")),
        ("4 chairs", (4.0, "chairs")),
        ("between the 2 chairs: 1.5 m", (1.5, "m")),  # the last number is the claim
        ("10-12 m", (12.0, "m")),  # a range, not a negative number
        ("chair2", None),  # a number inside a name
        ("14.5 m^2", (14.5, "m")),  # and one that is an exponent
        ("3 m x 5 m = 15 m²", (15.0, "m")),
        ("1.2.3", (1.2, "")),
        ("three", (3.0, "")),
        ("There are three chairs.", (3.0, "chairs")),
        ("nineteen", (19.0, "")),
        ("twenty-one", (21.0, "")),
        ("two hundred and five", (205.0, "")),
        ("one" + " hundred" * 200, (math.inf, "")),
        ("three of the ten", (3.0, "of")),
        ("three (3)", (3.0, "")),
        ("four, no: 5", (5.0, "")),
        ("zero", (0.0, "")),
        ("", None),
        ("none", None),
        ("hundred", None),
        ("nan", None),
        ("inf", None),
    ],
)
def test_numbers(text: str, expected: tuple[float, str] | None) -> None:
    assert number(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2.35 meters", 2.35),
        ("2.35 metres", 2.35),
        ("1 meter", 1.0),
        ("2.35", 2.35),
        ("85 cm", 0.85),
        ("85cm", 0.85),
        ("120 centimeters", 1.2),
        ("1500 mm", 1.5),
        ("0.002 km", 2.0),
        ("10 ft", 3.048),
        ("10 feet", 3.048),
        ("1 foot", 0.3048),
        ("100 inches", 2.54),
        ("1 inch", 0.0254),
        ("1,500 mm", 1.5),
        ("two meters", 2.0),
        ("fifty cm", 0.5),
        ("2.35 m tall", 2.35),
        ("1500 millimeters", 1.5),
        ("0.002 kilometers", 2.0),
        ("far away", None),
    ],
)
def test_lengths_in_metres(text: str, expected: float | None) -> None:
    assert metres(text) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("front-left", "front left"),
        ("left front", "front left"),
        ("Left, and in FRONT of it", "front left"),
        ("leftfront", "front left"),
        ("front_left", "front left"),
        ("behind", "back"),
        ("backwards to the right", "back right"),
        ("rear", "back"),
        ("straight ahead", "front"),
        ("forward.", "front"),
        ("above", "up"),
        ("up-left", "left up"),
        ("below", "down"),
        ("left left left", "left"),
        ("left-right", "left right"),
        ("rightmost", ""),
        ("downstairs", ""),
        ("clockwise", ""),
        ("", ""),
    ],
)
def test_directions(text: str, expected: str) -> None:
    assert directions(text, "position_cam_cam") == frozenset(expected.split())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("clockwise", "right"),
        ("counterclockwise", "left"),
        ("counter-clockwise", "left"),
        ("Counter clockwise.", "left"),
        ("anticlockwise", "left"),
        ("forward and clockwise", "front right"),
    ],
)
def test_a_camera_turns_clockwise_to_the_right(text: str, expected: str) -> None:
    assert directions(text, "motion_camera") == frozenset(expected.split())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The  Trash_Can.", "trash can"),
        ("a bed", "bed"),
        ("an image-1", "image1"),
        ("Image 1", "image1"),
        ("image one", "first image"),
        ("the second image", "2"),
        ("IMG 2...", "image2"),
    ],
)
def test_names_that_mean_the_same(one: str, other: str) -> None:
    assert name(one) == name(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("chair", "armchair"), ("chair", "chairs"), ("image 1", "image 2"), ("the the bed", "bed")],
)
def test_names_that_differ(one: str, other: str) -> None:
    assert name(one) != name(other)


def test_cleaning_by_hand() -> None:
    assert clean("  The\nBED . ") == "the bed"
    assert clean("2.5 m...") == "2.5 m"
    assert clean(" . ") == ""


# --- scores ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predicted", "truth", "expected"),
    [
        (2.0, 2.0, 1.0),
        (2.1, 2.0, 1.0),  # off by 5 %, on the first threshold
        (1.9, 2.0, 1.0),
        (2.101, 2.0, 0.9),
        (2.2, 2.0, 0.9),
        (2.5, 2.0, 0.6),  # 25 %: the last six of ten
        (2.9, 2.0, 0.2),
        (3.0, 2.0, 0.1),
        (1.0, 2.0, 0.1),
        (3.01, 2.0, 0.0),
        (-2.0, 2.0, 0.0),
        (0.0, 0.0, 1.0),
        (0.01, 0.0, 0.0),
        (math.inf, 2.0, 0.0),
        (math.nan, 2.0, 0.0),
    ],
)
def test_mean_relative_accuracy_by_hand(predicted: float, truth: float, expected: float) -> None:
    assert mean_relative_accuracy(predicted, truth) == pytest.approx(expected)


def test_mean_relative_accuracy_equals_its_definition() -> None:
    """VSI-Bench: the share of confidences 0.5, 0.55, ..., 0.95 with an error below one minus it."""
    confidences = np.linspace(0.5, 0.95, 10)
    rng = np.random.default_rng(0)
    for truth, factor in zip(rng.uniform(0.1, 9, 200), rng.uniform(0.3, 1.7, 200), strict=True):
        expected = np.mean(abs(factor - 1) <= 1 - confidences)
        assert mean_relative_accuracy(truth * factor, truth) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("task", "answer", "truth", "partial", "strict"),
    [
        ("absolute_distance", "2.35 meters", "2.35 meters", 1.0, 1.0),
        ("absolute_distance", "250 cm", "2.00 meters", 0.6, 0.6),
        ("distance_cam_obj", "far", "2.00 meters", 0.0, 0.0),
        ("object_counting", "three", "3", 1.0, 1.0),
        ("object_counting", "4 chairs", "3", 0.3, 0.0),
        ("object_counting", "2", "3", 0.3, 0.0),
        ("object_counting", "5", "3", 0.1, 0.0),
        ("object_counting", "6", "3", 0.0, 0.0),
        ("object_counting", "many", "3", 0.0, 0.0),
        ("position_cam_cam", "left front", "front-left", 1.0, 1.0),
        ("position_cam_cam", "left", "front-left", 0.1, 0.0),
        ("position_cam_cam", "right", "front-left", 0.0, 0.0),
        ("position_cam_cam", "front-left", "left", 0.0, 0.0),  # saying more is not half right
        ("position_cam_cam", "left right front back", "front-left", 0.0, 0.0),
        ("position_cam_cam", "somewhere", "left", 0.0, 0.0),
        ("motion_camera", "clockwise", "right", 1.0, 1.0),
        ("single_image_relative_direction", "above and left", "up-left", 1.0, 1.0),
        ("relative_direction_hard", "behind", "back-right", 0.1, 0.0),
        ("relative_distance", "The Lamp.", "lamp", 1.0, 1.0),
        ("relative_distance", "lamp or bed", "lamp", 0.0, 0.0),
        ("depth_order_obj_obj", "same", "same", 1.0, 1.0),
        ("elevation_cam_cam", "higher", "lower", 0.0, 0.0),
        ("visibility_compare", "the first image", "image1", 1.0, 1.0),
    ],
)
def test_scores_by_hand(task: str, answer: str, truth: str, partial: float, strict: float) -> None:
    assert score(task, answer, truth, partial=True) == pytest.approx(partial)
    assert score(task, answer, truth, partial=False) == pytest.approx(strict)


@pytest.mark.parametrize("partial", [True, False])
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_the_truth_is_right_and_silence_is_wrong_for_every_task(
    task: TaskSpec, partial: bool
) -> None:
    examples = {"metres": ("1.25 meters",), "count": ("4",), "label": ("trash can", "tv")}
    examples |= {"centimetres": ("90.98 cm",), "square_metres": ("18.47 square meters",)}
    truths = examples.get(task.answer, ()) + task.choices
    for truth in truths:
        assert score(task.name, truth, truth, partial=partial) == 1.0
        for silence in ("", " \n"):
            assert score(task.name, silence, truth, partial=partial) == 0.0


def test_no_choice_of_a_task_is_taken_for_another() -> None:
    for task in TASKS:
        for given in task.choices:
            right = [score(task.name, given, truth, partial=False) for truth in task.choices]
            assert right == [float(truth == given) for truth in task.choices]


def test_tasks_have_the_reading_of_their_kind_of_answer() -> None:
    assert {task.name for task in TASKS if task.answer == "metres"} == METRIC_TASKS
    turning = {task.name for task in TASKS if {"left", "right"} <= set(task.choices)}
    assert turning == DIRECTION_TASKS
