"""Reading: sentences of every family, refusals by the right reason, and nothing that raises."""

import unicodedata
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry_jax.reasons import Reason
from geometry_jax.tasks import TASKS
from geometry_jax.types import TaskSpec
from spatialevo_jax.environment.extract import MAX_LENGTH, read, read_question
from spatialevo_jax.environment.grammar import FAMILIES, patterns
from spatialevo_jax.environment.labels import askable, normalise
from spatialevo_jax.environment.wordings import WORDINGS, Slots, render
from tests.environment.sentences import FOUR, LABELS, SENTENCES

NAMES = [task.name for task in TASKS]
Form = Literal["NFC", "NFD"]
BED_TV, TV_BED = Slots(("bed", "tv")), Slots(("tv", "bed"))


def slots_of(task: TaskSpec) -> Slots:
    """What a sentence of the task may name."""
    return Slots(FOUR[: len(task.slots)], roles_of(task.name))


def roles_of(task: str) -> tuple[int, ...]:
    """The images that a sentence of the task names."""
    return tuple(number for number, role in ((1, "{n}"), (2, "{m}")) if role in WORDINGS[task][0])


def test_every_family_has_a_sentence_here() -> None:
    """A pattern that is added must come with a sentence, and each sentence fits its own pattern."""
    assert {task: len(sentences) for task, sentences in SENTENCES.items()} == {
        task: len(templates) for task, templates in FAMILIES.items()
    }
    for task, sentences in SENTENCES.items():
        families = patterns(task)[-len(sentences) :]
        for pattern, (sentence, _) in zip(families, sentences, strict=True):
            assert pattern.sentence.fullmatch(normalise(sentence)), (pattern, sentence)
            assert pattern.needs in normalise(sentence)


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
    "label",
    [
        *("café table", "tv (wall)", "salt & pepper shaker", "t-shirt", "kitchen/bar stool"),
        *("picture 2", "2nd monitor", "metre stick", "l\u2019orange", "Straße sign", "İzmir rug"),
        *("rack #3", '10" tablet', "(old) *lamp*", "1.5 l bottle", "desk, oak", "tv\u2013stand"),
        *("椅子", "Ящик", "दीवान", "ﬁle cabinet", "naïve_lamp (x2)", "x" * 80),
    ],
)
@pytest.mark.parametrize(("own", "other"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_whatever_the_scene_has_can_be_named(label: str, own: Form, other: Form) -> None:
    """In either Unicode form and in any case, whatever form the scene has."""
    written = unicodedata.normalize(other, label)
    labels = (unicodedata.normalize(own, label), *FOUR)
    for task in TASKS:
        blanks = dict(zip("abcd", (written, *FOUR), strict=False))
        blanks |= {"a_plural": written, "n": "1", "m": "2"}
        expected = Slots(labels[: len(task.slots)], roles_of(task.name))
        for wording in WORDINGS[task.name]:
            for sentence in (wording.format(**blanks), wording.format(**blanks).upper()):
                assert read_question(task.name, sentence, labels) == expected, sentence


def test_the_longest_name_wins_and_a_list_is_no_name() -> None:
    labels = ("tv", "tv (wall)", "lamp", "tv, lamp", "bed")
    question = "How far is the tv (wall) from the tv in meters?"
    assert read_question("absolute_distance", question, labels) == Slots(("tv (wall)", "tv"))
    question = "Which of the tv, lamp and tv (wall) is closest to the bed?"
    found = read_question("relative_distance", question, labels)
    assert found == Slots(("bed", "tv", "lamp", "tv (wall)"))
    question = "When taking Image 1, where is the tv (wall) area?"
    assert read_question("position_cam_reg", question, labels) == Slots(("tv (wall) area",), (1,))


def test_a_name_that_is_trouble_is_told_as_it_was_written() -> None:
    labels = ("Box (old)", "box (old)", "bed")
    reading = read("absolute_distance", "How far is the box (old) from the bed?", labels)
    assert (reading.reason, reading.phrase) == (Reason.AMBIGUOUS_LABEL, "the box (old)")
    reading = read("object_size", "How big is the café chair?", labels)
    assert (reading.reason, reading.phrase) == (Reason.ABSENT_LABEL, "the café chair")


@pytest.mark.parametrize(
    ("task", "sentence", "slots"),
    [(task, *one) for task, sentences in SENTENCES.items() for one in sentences],
)
def test_the_wordings_of_others_are_read(task: str, sentence: str, slots: Slots) -> None:
    assert read_question(task, sentence, LABELS) == slots


@pytest.mark.parametrize(
    ("task", "sentence", "slots"),
    [
        (
            "object_counting",
            "Could you please count all the chairs in the room?",
            Slots(("chair",)),
        ),
        ("object_counting", "In total, how many chairs are in the room?", Slots(("chair",))),
        (
            "object_counting",
            "Tell me how many chairs can be found in this home.",
            Slots(("chair",)),
        ),
        ("absolute_distance", "In meters, how far is the bed from the tv?", BED_TV),
        ("absolute_distance", "How far is the bed from the tv (m)?", BED_TV),
        ("absolute_distance", "What is the distance in m between the bed and the tv?", BED_TV),
        (
            "relative_distance",
            "Which has the shortest distance to the bed: the tv or the lamp?",
            Slots(("bed", "tv", "lamp")),
        ),
        (
            "relative_direction_hard",
            "Imagine you're at the bed and facing the tv. In which direction do you see the lamp?",
            Slots(("bed", "tv", "lamp")),
        ),
        ("single_image_relative_direction", "What side of the tv is the bed on?", TV_BED),
        ("distance_cam_obj", "How far was the camera from the bed?", Slots(("bed",))),
        ("depth_order_obj_obj", "Which appears closer in this view, the bed or the tv?", BED_TV),
        (
            "position_cam_cam",
            "Where is the second image's camera relative to the camera that took the first one?",
            Slots((), (1, 2)),
        ),
        (
            "position_cam_cam",
            "When image 2 was taken, where was view 1's camera?",
            Slots((), (2, 1)),
        ),
        (
            "elevation_cam_cam",
            "Was the second photo taken from a higher or lower position than the first?",
            Slots((), (1, 2)),
        ),
        (
            "motion_camera",
            "How did the camera move between the first and the second image?",
            Slots((), (1, 2)),
        ),
        (
            "motion_camera",
            "Which way did the camera turn between images 1 and 2?",
            Slots((), (1, 2)),
        ),
        ("motion_camera", "What is the camera's direction of motion?", Slots()),
        ("visibility_compare", "Which of the two frames shows the bed best?", Slots(("bed",))),
        ("object_size", "In cm, what's the bed's longest dimension?", Slots(("bed",))),
        ("room_size", "How large is this apartment in m\u00b2?", Slots()),
        ("room_size", "What is the room's floor area in sq. m?", Slots()),
        (
            "position_cam_obj",
            "From the perspective of image 2, where is the trash can?",
            Slots(("trash can",), (2,)),
        ),
        ("attribute_measurement", "Is the bed larger in its longest side than the tv?", BED_TV),
    ],
)
def test_other_words_for_the_same_are_read(task: str, sentence: str, slots: Slots) -> None:
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


@pytest.mark.parametrize(
    ("sentence", "count"),
    [
        ("Is the tv the nearest object to the bed?", 1),
        ("Which is closest to the bed: the tv or the lamp?", 2),
        ("Which of the tv, lamp, chair, bin and plant is closest to the bed?", 5),
    ],
)
def test_candidates_are_as_many_as_the_sentence_lists(sentence: str, count: int) -> None:
    found = read_question("relative_distance", sentence, LABELS)
    assert isinstance(found, Slots) and len(found.labels) == 1 + count


def test_a_refusal_keeps_what_was_understood_and_what_was_not() -> None:
    reading = read("absolute_distance", "How far is the couch from the unicorn?", LABELS)
    assert reading.slots.labels == ("sofa", "")
    assert (reading.reason, reading.phrase) == (Reason.ABSENT_LABEL, "the unicorn")


@pytest.mark.parametrize(
    ("phrase", "name"),
    [
        ("the sleeping area", "sleeping area"),
        ("living room", "living room"),
        ("the bed area", "bed area"),
        ("the plant corner", "plant corner"),
        ("television", "tv"),
    ],
)
def test_a_region_is_a_listed_phrase_or_the_surroundings_of_a_label(phrase: str, name: str) -> None:
    sentence = f"When you are taking Image 1, in which direction is {phrase} relative to you?"
    assert read_question("position_cam_reg", sentence, LABELS) == Slots((name,), (1,))


# --- refusals ------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", TASKS, ids=NAMES)
def test_a_sentence_of_another_task_is_the_wrong_task(asked: TaskSpec) -> None:
    """An object is a region too, so that its direction may be asked as that of a region."""
    for wording in range(len(WORDINGS[asked.name])):
        sentence = render(asked.name, slots_of(asked), wording)
        for task in NAMES:
            if task == asked.name or (asked.name, task) == ("position_cam_obj", "position_cam_reg"):
                continue
            assert read_question(task, sentence, LABELS) is Reason.WRONG_TASK, (task, sentence)


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
            "Which is closest to the bed?",
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
        (
            "relative_distance",
            "Which of the tv, lamp, chair, trash can, bin, plant and sofa is closest to the bed?",
            Reason.TOO_MANY,
        ),
        (
            "relative_direction_hard",
            "If I am standing by the bed and facing the tv, is the lamp to the left or the right "
            "of the chair?",
            Reason.MISSING_ROLE,
        ),
        ("distance_cam_obj", "How far is the table from the camera?", Reason.ABSENT_LABEL),
        (
            "position_cam_reg",
            "When taking Image 1, where is the kitchen area?",
            Reason.ABSENT_LABEL,
        ),
        ("position_cam_reg", "When taking Image 1, where is the area?", Reason.ABSENT_LABEL),
        ("position_cam_obj", "When taking Image 1, where is the sofa area?", Reason.WRONG_TASK),
    ],
)
def test_a_refusal_has_its_reason(task: str, sentence: str, reason: Reason) -> None:
    assert read_question(task, sentence, LABELS) is reason


@pytest.mark.parametrize(
    "sentence",
    [
        "How many chairs are in this image?",
        "How many chairs are not in the room?",
        "How many chairs are present near the bed?",
        "How many chairs could fit in the room?",
        "How many kinds of chairs are there in total?",
        "How many more chairs than lamps are in the room?",
        "Please don't count the chairs in the room.",
        "Tell me how many chairs you would like.",
        "How far is the bed from the tv in centimeters?",
        "How far is the bed from the tv (ft)?",
        "In feet, how far is the bed from the tv?",
        "What is the distance in inches between the bed and the tv?",
        "What is the horizontal distance between the bed and the tv?",
        "What is the maximum distance between the bed and the tv?",
        "What is the distance between the centers of the bed and the tv?",
        "How far is the bed from the tv if the lamp is moved?",
        "How far is the bed from the tv in the first image?",
        "How far did the camera move between the first and second image?",
        "How much did the camera turn from image 1 to image 2?",
        "How far is the camera from the bed in kilometers?",
        "How far is the bed from the camera in the second image?",
        "Which has the largest distance to the bed: the tv or the lamp?",
        "Which is second closest to the bed: the tv, the lamp or the chair?",
        "Which is not closest to the bed: the tv, the lamp or the chair?",
        "Is the tv closer to the bed?",
        "Is the tv closer to the bed or the lamp?",
        "Is the tv closer to the bed than the lamp?",
        "If I am standing by the bed and facing away from the tv, where is the lamp?",
        "If I am standing by the bed with my back to the tv, where is the lamp?",
        "If I am standing on the bed and facing the tv, where is the lamp?",
        "If I am standing by the bed and not facing the tv, where is the lamp?",
        "From the bed, where is the lamp facing the tv?",
        "How is the tv compared to the bed?",
        "Which side of the bed is the tv not on?",
        "Which side of the bed is the tv facing?",
        "Which side of the bed is closer to the tv?",
        "Is the camera farther from the bed or the tv?",
        "Which is closer to the camera in image 2, the bed or the tv?",
        "Which is farther from the viewer, the bed or the tv?",
        "Where is image 2 relative to image 1?",
        "From frame 1, where is the camera of frame 2?",
        "Where is the camera of image 2 facing relative to image 1?",
        "Where is the trash can by the camera of image 2?",
        "Where is the trash can in image 2?",
        "After taking image 2, where was the trash can?",
        "From the viewpoint of the bed in image 2, where is the trash can?",
        "In image 2, where is the trash can relative to the bed?",
        "When image 2 was not taken, where was the trash can?",
        "Is the camera in image 2 not higher than in image 1?",
        "Is the bed higher in image 2 than in image 1?",
        "How much higher is the camera in image 2 than in image 1?",
        "Did the camera tilt up or down from image 1 to image 2?",
        "Did the camera move up or down between the second and first image?",
        "How did the camera move between image 2 and image 1?",
        "How did the bed move between the two images?",
        "Which way was the camera turned?",
        "Which way is the camera facing?",
        "In which direction didn't the camera move?",
        "Which image shows the bed less clearly?",
        "Which image doesn't show the bed better?",
        "Which image shows the bed better than the tv?",
        "Which of the three images shows the bed best?",
        "In which image is the bed harder to see?",
        "How long is the bed in meters?",
        "How many inches long is the bed?",
        "In meters, how long is the longest side of the bed?",
        "How many centimeters is the bed from the tv?",
        "How tall is the bed in centimeters?",
        "What is the bed's shortest side in centimeters?",
        "How large is the room in square feet?",
        "What is the size of the room in meters?",
        "How much floor space does the bed have?",
        "What is the volume of the room in m2?",
        "Which is taller, the bed or the tv?",
        "Which is smaller, the bed or the tv?",
        "Is the bed not larger than the tv?",
        "Is the bed or the tv longer than the lamp?",
        "Does the bed or the tv have the shorter longest side?",
    ],
)
def test_what_asks_something_else_is_read_by_no_task(sentence: str) -> None:
    """Another unit, a denial, a condition, another comparison: close in words, not in meaning."""
    for task in NAMES:
        assert isinstance(read_question(task, sentence, LABELS), Reason), task


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
        ("How many cha\N{LATIN SMALL LETTER DOTLESS I}rs are in the room?", Reason.ABSENT_LABEL),
        ("How many \N{CHAIR} are in the room?", Reason.ABSENT_LABEL),
        ("How many 椅子 are in the room?", Reason.ABSENT_LABEL),
        ("How many 'chairs' are in the room?", Reason.MISSING_ROLE),
        ("How many chair's are in the room?", Reason.ABSENT_LABEL),
        ("How many {a} are in the room?", Reason.MISSING_ROLE),
        ("How many \\d+(?P<a>[ are in the room?", Reason.MISSING_ROLE),
        ("How many chairs are in the room? Say 3.", Reason.MISSING_ROLE),
    ],
)
def test_odd_text_is_refused_with_a_reason(sentence: str, reason: Reason) -> None:
    assert read_question("object_counting", sentence, LABELS) is reason


@pytest.mark.parametrize(
    "spelt", ['"chairs"', "\u201cchairs\u201d", "**chairs**", "`chairs`", "\u00a0chairs\u2009"]
)
def test_marks_and_blanks_around_a_thing_say_nothing(spelt: str) -> None:
    sentence = f"How many {spelt} are in the room?"
    assert read_question("object_counting", sentence, LABELS) == Slots(("chair",))


def test_the_camera_may_be_called_it() -> None:
    sentence = "Based on the continuous images, what is its motion direction?"
    assert read_question("motion_camera", sentence, LABELS) == Slots()


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
