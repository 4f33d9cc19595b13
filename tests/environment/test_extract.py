"""Reading: sentences of every family, refusals by the right reason, and nothing that raises."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry_jax.reasons import Reason
from geometry_jax.tasks import TASKS
from geometry_jax.types import TaskSpec
from spatialevo_jax.environment.extract import (
    FAMILIES,
    MAX_LENGTH,
    patterns,
    read_question,
)
from spatialevo_jax.environment.labels import askable, normalise
from spatialevo_jax.environment.wordings import WORDINGS, Slots, render

NAMES = [task.name for task in TASKS]
LABELS = ("bed", "tv", "lamp", "chair", "trash can", "bin", "waste_basket", "wall", "plant", "sofa")
FOUR = ("bed", "tv", "lamp", "chair")


def slots_of(task: TaskSpec) -> Slots:
    """What a sentence of the task may name."""
    images = (1, 2)[: sum(blank in WORDINGS[task.name][0] for blank in ("{n}", "{m}"))]
    return Slots(FOUR[: len(task.slots)], images)


# One sentence for each pattern of FAMILIES, in its order, with what it asks.
SENTENCES: dict[str, tuple[tuple[str, Slots], ...]] = {
    "object_counting": (
        ("How many chairs are there in this room?", Slots(("chair",))),
        ("How many chairs are in the whole scene?", Slots(("chair",))),
    ),
    "absolute_distance": (
        (
            "Measuring from the closest point of each object, what is the direct distance between "
            "the waste basket and the tv (in meters)?",
            Slots(("waste_basket", "tv")),
        ),
        (
            "What is the direct distance between the bed and the trash can in metres?",
            Slots(("bed", "trash can")),
        ),
        ("How far apart are the bed and the tv, in meters?", Slots(("bed", "tv"))),
    ),
    "relative_distance": (
        (
            "Measuring from the closest point of each object, which of these objects (the tv, "
            "the trash can, and the chair) is the nearest to the bed?",
            Slots(("bed", "tv", "trash can", "chair")),
        ),
        ("Which object is nearest to the bed: tv, lamp, or chair?", Slots(FOUR)),
    ),
    "relative_direction_hard": (
        (
            "If you are standing at the bed and facing the tv, in which direction is the lamp "
            "relative to you?",
            Slots(("bed", "tv", "lamp")),
        ),
        (
            "I am standing near the bed, facing the tv, where is the lamp relative to me?",
            Slots(("bed", "tv", "lamp")),
        ),
    ),
    "single_image_relative_direction": (
        ("In this image, where is the tv relative to the bed?", Slots(("bed", "tv"))),
        ("Where is the tv relative to the bed in this image?", Slots(("bed", "tv"))),
        ("What is the direction of the tv from the bed?", Slots(("bed", "tv"))),
    ),
    "distance_cam_obj": (
        ("How far away from the camera is the waste basket in meters?", Slots(("waste_basket",))),
        ("How far is the waste basket from the camera?", Slots(("waste_basket",))),
        ("What is the distance from the camera to the bed (in meters)?", Slots(("bed",))),
    ),
    "depth_order_obj_obj": (
        (
            "Which object is nearer to the lens: the bed or the trash can?",
            Slots(("bed", "trash can")),
        ),
        ("Between the bed and the tv, which one is closer to the camera?", Slots(("bed", "tv"))),
    ),
    "position_cam_cam": (
        (
            "When you took the second image, where was the camera for the first image relative "
            "to you?",
            Slots((), (2, 1)),
        ),
    ),
    "elevation_cam_cam": (
        (
            "Compared to the camera in Image 2, was the camera in Image 1 higher or lower?",
            Slots((), (2, 1)),
        ),
    ),
    "motion_camera": (
        ("How did the camera move from the first photo to the second photo?", Slots((), (1, 2))),
        (
            "In which direction did the camera rotate from Image 2 to Image 1?",
            Slots((), (2, 1)),
        ),
    ),
    "visibility_compare": (
        ("In which image is the trash can more clearly visible?", Slots(("trash can",))),
    ),
    "object_size": (
        (
            "What is the length of the longest dimension (length, width, or height) of the bed, "
            "in cm?",
            Slots(("bed",)),
        ),
    ),
    "room_size": (("What is the size of this room (in square meters)?", Slots()),),
    "position_cam_obj": (
        (
            "Which direction is the trash can relative to me when I am taking Image 2?",
            Slots(("trash can",), (2,)),
        ),
    ),
    "position_cam_reg": (
        (
            "When you are taking the first image, in which direction is the bed relative to you?",
            Slots(("bed",), (1,)),
        ),
    ),
    "attribute_measurement": (
        ("Which is larger in its longest dimension, the bed or the tv?", Slots(("bed", "tv"))),
        (
            "Between the bed and the tv, which has the longer longest side?",
            Slots(("bed", "tv")),
        ),
    ),
}


def test_every_family_has_a_sentence_here() -> None:
    """A pattern that is added must come with a sentence, and each sentence fits its own pattern."""
    assert {task: len(sentences) for task, sentences in SENTENCES.items()} == {
        task: len(templates) for task, templates in FAMILIES.items()
    }
    for task, sentences in SENTENCES.items():
        families = patterns(task)[len(WORDINGS[task]) :]
        for pattern, (sentence, _) in zip(families, sentences, strict=True):
            assert pattern.fullmatch(normalise(sentence)), (pattern.pattern, sentence)


@pytest.mark.parametrize(
    ("task", "sentence", "slots"),
    [
        ("object_counting", "How many chairs are there?", Slots(("chair",))),
        ("absolute_distance", "How far apart are the bed and the tv?", Slots(("bed", "tv"))),
        (
            "absolute_distance",
            "What is the direct distance between the bed and the tv?",
            Slots(("bed", "tv")),
        ),
        (
            "relative_direction_hard",
            "If I am standing by the bed and facing the tv, where is the lamp?",
            Slots(("bed", "tv", "lamp")),
        ),
        ("distance_cam_obj", "How far away from the camera is the bed?", Slots(("bed",))),
        (
            "position_cam_cam",
            "When I took Image 1, where was the camera of Image 2?",
            Slots((), (1, 2)),
        ),
    ],
)
def test_an_ending_may_be_left_out(task: str, sentence: str, slots: Slots) -> None:
    assert read_question(task, sentence, LABELS) == slots


@pytest.mark.parametrize("name", ["x" * 40, "x" * 39 + "s", "x" * 39 + "y", "x" * 38 + "ch"])
def test_the_longest_labels_are_read_back_in_every_wording(name: str) -> None:
    assert name in askable((name, *FOUR))
    for task in TASKS:
        slots = Slots((name, *FOUR)[: len(task.slots)], slots_of(task).images)
        for wording in range(len(WORDINGS[task.name])):
            question = render(task.name, slots, wording)
            assert read_question(task.name, question, (name, *FOUR)) == slots, question


@pytest.mark.parametrize(
    ("task", "sentence", "slots"),
    [(task, *one) for task, sentences in SENTENCES.items() for one in sentences],
)
def test_the_wordings_of_others_are_read(task: str, sentence: str, slots: Slots) -> None:
    assert read_question(task, sentence, LABELS) == slots


def test_how_far_apart_is_a_distance() -> None:
    sentence = "How far apart are the table and the tv, in meters?"
    assert read_question("absolute_distance", sentence, ("tv", "table")) == Slots(("table", "tv"))


@pytest.mark.parametrize(
    "sentence",
    [
        "How many trash cans are in the room?",
        "how many trash cans are in the room",
        "HOW MANY TRASH CANS ARE IN THE ROOM???",
        "  How\tmany trash\r\n cans are in the room ?",
        "How many the trash cans are in the room?!",
        "How many trash can are in the room.",
    ],
)
def test_case_blanks_and_the_end_do_not_matter(sentence: str) -> None:
    assert read_question("object_counting", sentence, LABELS) == Slots(("trash can",))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Image 1", "Image 2"),
        ("image #1", "image #2"),
        ("image one", "image two"),
        ("the first image", "the second image"),
        ("the 1st photo", "the 2nd photo"),
        ("picture 1", "picture 2"),
    ],
)
def test_images_are_named_by_number_or_order(first: str, second: str) -> None:
    sentence = f"From {first}, where is the camera of {second}?"
    assert read_question("position_cam_cam", sentence, ()) == Slots((), (1, 2))


# --- refusals ------------------------------------------------------------------------------

# A few sentences fit two tasks: as the other one, they speak of a thing called "camera".
FIT_BOTH = {
    ("distance_cam_obj", 1, "absolute_distance"),
    ("distance_cam_obj", 2, "absolute_distance"),
    ("position_cam_cam", 1, "single_image_relative_direction"),
    ("position_cam_cam", 2, "single_image_relative_direction"),
    ("position_cam_reg", 0, "position_cam_obj"),
    ("position_cam_reg", 1, "position_cam_obj"),
    ("position_cam_reg", 2, "position_cam_obj"),
}


@pytest.mark.parametrize("asked", TASKS, ids=NAMES)
def test_a_sentence_of_another_task_is_the_wrong_task(asked: TaskSpec) -> None:
    for wording in range(len(WORDINGS[asked.name])):
        sentence = render(asked.name, slots_of(asked), wording)
        for task in NAMES:
            if task == asked.name:
                continue
            both = (asked.name, wording, task) in FIT_BOTH
            expected = Reason.ABSENT_LABEL if both else Reason.WRONG_TASK
            assert read_question(task, sentence, LABELS) is expected, (task, sentence)


@pytest.mark.parametrize(
    ("task", "sentence", "reason"),
    [
        ("object_counting", "", Reason.EMPTY_QUESTION),
        ("object_counting", " \n\t ", Reason.EMPTY_QUESTION),
        ("object_counting", "Tell me about the room.", Reason.WRONG_TASK),
        ("object_counting", "?", Reason.WRONG_TASK),
        ("object_counting", "How many are in the room?", Reason.MISSING_ROLE),
        (
            "relative_distance",
            "Which is closest to the bed: the tv or the lamp?",
            Reason.MISSING_ROLE,
        ),
        (
            "absolute_distance",
            "What is the distance between the bed?",
            Reason.MISSING_ROLE,
        ),
        ("object_counting", "How many unicorns are in the room?", Reason.ABSENT_LABEL),
        (
            "absolute_distance",
            "How far is the bed from the unicorn in meters?",
            Reason.ABSENT_LABEL,
        ),
        (
            "absolute_distance",
            "How far is the bed from the tv or the lamp in meters?",
            Reason.ABSENT_LABEL,
        ),
        ("visibility_compare", "Which image shows the chai more clearly?", Reason.ABSENT_LABEL),
        ("object_counting", "How many garbage cans are in the room?", Reason.AMBIGUOUS_LABEL),
        ("object_counting", "How many walls are in the room?", Reason.NOT_AN_OBJECT),
        ("distance_cam_obj", "How far is the ceiling from the camera?", Reason.NOT_AN_OBJECT),
        (
            "absolute_distance",
            "What is the distance between the bed and the bed in meters?",
            Reason.SAME_LABEL,
        ),
        (
            "absolute_distance",
            "What is the distance between the sofa and the couch in meters?",
            Reason.SAME_LABEL,
        ),
        (
            "relative_distance",
            "Which is closest to the bed: the tv, the beds or the lamp?",
            Reason.SAME_LABEL,
        ),
        (
            "relative_distance",
            "Which is closest to the bed: the tv, the lamp or the television?",
            Reason.SAME_LABEL,
        ),
        (
            "position_cam_cam",
            "From Image 1, where is the camera of the first image?",
            Reason.SAME_IMAGE,
        ),
        (
            "motion_camera",
            "How does the camera move from Image 2 to Image 2?",
            Reason.SAME_IMAGE,
        ),
        ("motion_camera", "How does the camera move from Image 1 to Image 3?", Reason.MISSING_ROLE),
    ],
)
def test_a_refusal_has_its_reason(task: str, sentence: str, reason: Reason) -> None:
    assert read_question(task, sentence, LABELS) is reason


@pytest.mark.parametrize("task", TASKS, ids=NAMES)
def test_the_same_label_in_two_roles_is_refused_by_every_wording(task: TaskSpec) -> None:
    for first in range(len(task.slots)):
        for second in range(first):
            labels = list(FOUR[: len(task.slots)])
            labels[first] = labels[second]
            for wording in range(len(WORDINGS[task.name])):
                sentence = render(task.name, Slots(tuple(labels), (1, 2)), wording)
                found = read_question(task.name, sentence, LABELS)
                assert found is Reason.SAME_LABEL, sentence


@pytest.mark.parametrize("task", TASKS, ids=NAMES)
def test_an_unknown_label_in_any_role_is_refused_by_every_wording(task: TaskSpec) -> None:
    for role in range(len(task.slots)):
        labels = [*FOUR[:role], "unicorn", *FOUR[role + 1 : len(task.slots)]]
        for wording in range(len(WORDINGS[task.name])):
            sentence = render(task.name, Slots(tuple(labels), (1, 2)), wording)
            found = read_question(task.name, sentence, LABELS)
            assert found is Reason.ABSENT_LABEL, sentence


# --- anything at all -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("How many chairs are in the room?" + " " * MAX_LENGTH, Reason.EMPTY_QUESTION),
        ("x" * 10**6, Reason.EMPTY_QUESTION),
        (f"How many {'x' * 500} are in the room?", Reason.MISSING_ROLE),
        (f"How many {'chair ' * 80}are in the room?", Reason.MISSING_ROLE),
        ("How many \x00chairs are in the room?", Reason.EMPTY_QUESTION),
        ("How many \x1b[31mchairs are in the room?", Reason.EMPTY_QUESTION),
        ("How many \u202echairs are in the room?", Reason.EMPTY_QUESTION),  # right to left
        ("How many cha\u200birs are in the room?", Reason.EMPTY_QUESTION),  # no width
        ("How many chairs\ud800 are in the room?", Reason.EMPTY_QUESTION),  # half a pair
        ("How many cha\N{LATIN SMALL LETTER DOTLESS I}rs are in the room?", Reason.MISSING_ROLE),
        ("How many \N{CHAIR} are in the room?", Reason.MISSING_ROLE),
        ("How many 椅子 are in the room?", Reason.MISSING_ROLE),
        ('How many "chairs" are in the room?', Reason.MISSING_ROLE),
        ("How many 'chairs' are in the room?", Reason.MISSING_ROLE),
        ("How many chair's are in the room?", Reason.ABSENT_LABEL),
        ("How many {a} are in the room?", Reason.MISSING_ROLE),
        ("How many \\d+(?P<a>[ are in the room?", Reason.MISSING_ROLE),
        ("How many chairs are in the room? Say 3.", Reason.MISSING_ROLE),
    ],
)
def test_odd_text_is_refused_with_a_reason(sentence: str, reason: Reason) -> None:
    assert read_question("object_counting", sentence, LABELS) is reason


def test_the_longest_text_is_still_read() -> None:
    sentence = "How many chairs are in the room?"
    padded = sentence + " " * (MAX_LENGTH - len(sentence))
    assert read_question("object_counting", padded, LABELS) == Slots(("chair",))
    assert read_question("object_counting", padded + " ", LABELS) is Reason.EMPTY_QUESTION


@pytest.mark.parametrize("task", NAMES)
@settings(deadline=None, derandomize=True, database=None, max_examples=25)
@given(st.text(max_size=80))
def test_no_text_raises_or_is_read_as_a_question(task: str, text: str) -> None:
    assert isinstance(read_question(task, text, LABELS), Reason)


@pytest.mark.parametrize("task", TASKS, ids=NAMES)
@settings(deadline=None, derandomize=True, database=None, max_examples=25)
@given(place=st.integers(0, 100), cut=st.integers(0, 4), inserted=st.text(max_size=4))
def test_a_spoilt_sentence_names_labels_of_the_scene_or_has_a_reason(
    task: TaskSpec, place: int, cut: int, inserted: str
) -> None:
    sentence = render(task.name, slots_of(task), 0)
    found = read_question(task.name, sentence[:place] + inserted + sentence[place + cut :], LABELS)
    if isinstance(found, Slots):
        assert len(found.labels) == len(task.slots)
        assert set(found.labels) <= set(LABELS)
        assert len(set(found.labels)) == len(found.labels)
    else:
        assert found is not Reason.OK


@pytest.mark.parametrize("labels", [(), ("",), ("(", "[a-z]+"), ("bed\ud800", "\x00")])
def test_odd_labels_are_not_named_and_do_no_harm(labels: tuple[str, ...]) -> None:
    sentence = "How far is the bed from the tv in meters?"
    assert read_question("absolute_distance", sentence, labels) is Reason.ABSENT_LABEL
