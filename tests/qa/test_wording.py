"""Sentences of a set: each is read back to the query that it was written from."""

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from geometry_jax.reasons import Reason
from geometry_jax.tasks import TASKS
from geometry_jax.types import TaskSpec
from spatialevo_jax.environment import labels as naming
from spatialevo_jax.environment.extract import read_question
from spatialevo_jax.environment.wordings import WORDINGS, Slots
from spatialevo_jax.qa import wording
from tests.environment.test_wordings import names

NAMES = [task.name for task in TASKS]
LABELS = ("bed", "night stand", "tv", "trash can", "table")
VARIANTS = [
    *((task, "", False) for task in TASKS),
    *((task, level, False) for task in TASKS for level in wording.LEVEL_FORMS
      if task.name == "relative_direction_hard"),
    *((task, "", True) for task in TASKS if task.name == "position_cam_reg"),
]  # fmt: skip
# What the published generator asks, one sentence of each of its families.
PUBLISHED = {
    "object_counting": ("How many {a_plural} are in this room?", "How many {a_plural} are in the "
                        "whole scene?"),
    "object_size": ("What is the length of the longest dimension (length, width, or height) of the "
                    "{a} in centimeters?",),
    "absolute_distance": (
        "What is the direct distance between the {a} and the {b} in meters?",
        "From the closest point of each object, what is the direct distance between the {a} and "
        "the {b} (in meters)?",
    ),
    "room_size": (
        "What is the size of this room (in square meters)? If multiple rooms are shown, estimate "
        "the size of the combined space.",
    ),
    "relative_distance": (
        "Measuring from the closest points of each, which of these objects (the {b}, the {c}, the "
        "{d}) is the closest to the {a}?",
        "Which of these objects (the {b}, the {c}, the {d}) is nearest to the {a}?",
    ),
    "relative_direction_hard": (
        "If I am standing by the {a} and facing the {b}, where is the {c} relative to me?",
        "If you are standing at the {a} and facing the {b}, where is the {c} located relative to "
        "you?",
    ),
    "single_image_relative_direction": (
        "Where is the {b} relative to the {a}?",
        "What is the direction of the {b} from the {a}?",
    ),
    "distance_cam_obj": (
        "What is the distance from the camera to the {a} in meters?",
        "How far is the {a} from the camera in meters?",
    ),
    "depth_order_obj_obj": (
        "Which is closer to the camera, the {a} or the {b}?",
        "Between the {a} and the {b}, which is nearer to the camera?",
    ),
    "position_cam_cam": (
        "When you took Image {n}, where was the camera for Image {m}, relative to you?",
    ),
    "elevation_cam_cam": (
        "Compared with the camera in Image {n}, is the camera in Image {m} higher or lower?",
    ),
    "visibility_compare": (
        "Which image shows the {a} more clearly?",
        "In which image is the {a} more visible?",
    ),
    "position_cam_obj": (
        "In which direction is the {a} relative to me when I am taking Image {n}?",
    ),
    "position_cam_reg": (
        "When you are taking Image {n}, in which direction is the {a} relative to you?",
    ),
    "motion_camera": (
        "Based on the continuous images, in which direction is the camera rotating?",
        "Based on the continuous images, what is the camera's motion direction?",
    ),
    "attribute_measurement": (
        "Between the {a} and the {b}, which has the larger longest dimension?",
        "Which is larger in its longest dimension, the {a} or the {b}?",
    ),
}  # fmt: skip


def written(
    task: TaskSpec, sentence: str, labels: tuple[str, ...], level: str
) -> tuple[str, Slots]:
    """A sentence with its blanks filled, and the slots that it must be read back to."""
    images = {0: (), 1: (2,), 2: (2, 1)}[len(task.roles)]
    if task.name == "motion_camera":
        images = (1, 2) if "{n}" in sentence else ()
    blanks = dict(zip("abcd", map(naming.spoken, labels), strict=False))
    blanks |= {f"{key}_plural": naming.plural(label) for key, label in blanks.items()}
    blanks |= dict(zip("nm", map(str, images), strict=False))
    return sentence.format(**blanks), Slots(labels, images, level)


@pytest.mark.parametrize(("task", "level", "region"), VARIANTS)
def test_every_sentence_is_read_back(task: TaskSpec, level: str, region: bool) -> None:
    labels = ("sleeping area",) if region else LABELS[: len(task.slots)]
    for sentence in wording.sentences(task.name, level, region):
        question, slots = written(task, sentence, labels, level)
        assert read_question(task.name, question, LABELS) == slots, question


@pytest.mark.parametrize(("task", "level", "region"), VARIANTS)
def test_every_sentence_that_names_an_absent_thing_is_read_so(
    task: TaskSpec, level: str, region: bool
) -> None:
    for place in range(len(task.slots)):
        labels = ["sleeping area"] if region else [*LABELS[: len(task.slots)]]
        labels[place] = "kitchen area" if region else "piano"
        for sentence in wording.sentences(task.name, level, region):
            question, _ = written(task, sentence, tuple(labels), level)
            assert read_question(task.name, question, LABELS) is Reason.ABSENT_LABEL, question


@pytest.mark.parametrize(
    ("task", "level"), [(t, level) for t, level, region in VARIANTS if not region]
)
@settings(deadline=None, derandomize=True, database=None, max_examples=6)
@given(labels=st.lists(names, min_size=4, max_size=6, unique=True), seed=st.integers(0, 999))
def test_a_sentence_is_read_back_or_refused_whatever_the_labels(
    task: TaskSpec, level: str, labels: list[str], seed: int
) -> None:
    """A thing called "facing" makes a sentence unreadable, and never one that says another thing;
    some sentence can hold it.
    """
    assume(naming.askable(tuple(labels)) == set(labels))
    every = wording.sentences(task.name, level)
    for sentence in every[seed % 7 :: 7]:
        question, slots = written(task, sentence, tuple(labels[: len(task.slots)]), level)
        read = read_question(task.name, question, labels)
        assert read == slots or isinstance(read, Reason), question
    if not level:
        images = {0: (), 1: (2,), 2: (2, 1)}[len(task.roles)]
        slots = Slots(tuple(labels[: len(task.slots)]), images)
        if task.name == "motion_camera":
            slots = slots._replace(images=(1, 2))
        plain = wording.plainest(task.name, slots, False, labels, False)
        assert read_question(task.name, plain, labels) == slots


@pytest.mark.parametrize("task", NAMES)
def test_the_published_wordings_are_among_them(task: str) -> None:
    own = {*wording.sentences(task), *wording.sentences(task, region=task == "position_cam_reg")}
    assert set(PUBLISHED[task]) <= own


@pytest.mark.parametrize("task", NAMES)
def test_what_is_and_what_was_are_not_mixed(task: str) -> None:
    for sentence in {*wording.sentences(task), *wording.sentences(task, region=True)}:
        past = re.search(r"\b(I|you) (took|was|were)\b", sentence)
        present = re.search(r"\b(is|am|are)\b", sentence)
        assert not (past and present), sentence


@pytest.mark.parametrize("task", NAMES)
def test_our_own_wordings_come_first(task: str) -> None:
    assert wording.sentences(task)[: len(WORDINGS[task])] == WORDINGS[task]


def test_a_form_is_every_combination_of_its_choices() -> None:
    assert wording.expanded("[A|The] bed[ here|]?") == (
        "A bed here?",
        "A bed?",
        "The bed here?",
        "The bed?",
    )


def test_random_numbers_choose_a_form_and_then_a_sentence() -> None:
    slots = Slots(("Night_Stand",))
    first = wording.word("object_size", slots, False, 0, (0.0, 0.0))
    assert first == "How long is the longest side of the night stand in centimeters?"
    few = {wording.word("object_size", slots, False, 2, (x / 10, 0.0)) for x in range(10)}
    assert len(few) == 2
    many = {wording.word("object_size", slots, False, 0, (x / 9.1, x / 9.1)) for x in range(9)}
    assert len(many) > 4
