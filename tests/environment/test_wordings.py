"""Wordings: every sentence that the project writes is read back to what it was written from."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from geometry_jax.tasks import TASK_IDS, TASKS
from geometry_jax.types import TaskSpec
from spatialevo_jax.environment.extract import read_question
from spatialevo_jax.environment.labels import askable
from spatialevo_jax.environment.pools import feasible_tasks, pools
from spatialevo_jax.environment.wordings import WORDINGS, Slots, draw_slots, render
from tests.scenes import AHEAD, SOUTH, Thing, camera, make_record, room

NAMES = [task.name for task in TASKS]
# Words that sentences use, beside any others: a label may hold them too.
COMMON = "camera meters room image closest closer between how many which where facing trash shelf"
ORDERS = ((1, 2), (2, 1))
FRAMES = {"scene": (), "single_image": (SOUTH,), "image_pair": (SOUTH, AHEAD)}

words = st.sampled_from(COMMON.split()) | st.from_regex(r"[A-Za-z][a-z]{0,7}", fullmatch=True)
names = st.lists(words, min_size=1, max_size=3).flatmap(
    lambda parts: st.sampled_from(" _-").map(lambda joint: joint.join(parts))
)


def images_of(task: TaskSpec) -> tuple[tuple[int, ...], ...]:
    """The images that a sentence of the task may name."""
    named = sum(blank in WORDINGS[task.name][0] for blank in ("{n}", "{m}"))
    return tuple(order[:named] for order in ORDERS) if named else ((),)


def test_every_task_has_wordings_of_its_own() -> None:
    assert list(WORDINGS) == NAMES
    sentences = [wording for name in NAMES for wording in WORDINGS[name]]
    assert len(set(sentences)) == len(sentences)


@pytest.mark.parametrize("task", TASKS, ids=NAMES)
def test_every_wording_has_a_blank_for_every_slot(task: TaskSpec) -> None:
    for wording in WORDINGS[task.name]:
        blanks = {
            key for key in "abcd" if f"{{{key}}}" in wording or f"{{{key}_plural}}" in wording
        }
        assert blanks == set("abcd"[: len(task.slots)])
        assert ("{n}" in wording) == (len(images_of(task)) == 2)
        assert ("{m}" in wording) == (len(images_of(task)[0]) == 2)


@pytest.mark.parametrize(
    ("task", "slots", "wording", "sentence"),
    [
        ("object_counting", Slots(("Trash_Can",)), 0, "How many trash cans are in the room?"),
        (
            "relative_distance",
            Slots(("bed", "tv", "night_stand", "lamp")),
            1,
            "Of the tv, the night stand and the lamp, which is closest to the bed?",
        ),
        (
            "single_image_relative_direction",
            Slots(("bed", "tv")),
            3,  # counted modulo three
            "Where is the tv relative to the bed?",
        ),
        ("position_cam_cam", Slots((), (2, 1)), 0, "From Image 2, where is the camera of Image 1?"),
    ],
)
def test_sentences_by_hand(task: str, slots: Slots, wording: int, sentence: str) -> None:
    assert render(task, slots, wording) == sentence


@pytest.mark.parametrize("task", TASKS, ids=NAMES)
@settings(deadline=None, derandomize=True, database=None, max_examples=25)
@given(labels=st.lists(names, min_size=4, max_size=6, unique=True))
def test_every_wording_is_read_back_whatever_the_labels(task: TaskSpec, labels: list[str]) -> None:
    assume(askable(tuple(labels)) == set(labels))
    for images in images_of(task):
        slots = Slots(tuple(labels[: len(task.slots)]), images)
        for wording in range(len(WORDINGS[task.name])):
            sentence = render(task.name, slots, wording)
            assert read_question(task.name, sentence, labels) == slots, sentence


@pytest.mark.parametrize("task", TASKS, ids=NAMES)
def test_every_wording_is_read_back_in_a_real_room(task: TaskSpec) -> None:
    record = room()
    rng = np.random.default_rng(0)
    for wording in range(60):
        slots = draw_slots(record, FRAMES[task.modality], task.name, rng)
        assert slots is not None
        sentence = render(task.name, slots, wording)
        assert read_question(task.name, sentence, record.labels) == slots, sentence


# --- drawing -------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS, ids=NAMES)
def test_slots_are_drawn_from_the_pool_without_repeats(task: TaskSpec) -> None:
    frames = FRAMES[task.modality]
    offered = pools(room(), frames)
    pool = offered.repeated if task.name == "object_counting" else offered.unique
    if task.roles == ("reference",):  # the object must be seen in the image that is named
        pool = {label for frame in frames for label in pools(room(), (frame,)).unique}
    rng = np.random.default_rng(1)
    drawn = [draw_slots(room(), frames, task.name, rng) for _ in range(300)]
    found = [slots for slots in drawn if slots is not None]
    assert len(found) == 300
    assert {len(set(slots.labels)) for slots in found} == {len(task.slots)}
    seen = {label for slots in found for label in slots.labels}
    assert seen == (set(pool) if task.slots else set())


@pytest.mark.parametrize(
    ("task", "images"),
    [
        ("position_cam_cam", set(ORDERS)),
        ("elevation_cam_cam", set(ORDERS)),
        ("motion_camera", {(1, 2)}),  # time runs forward
        ("visibility_compare", {()}),
    ],
)
def test_images_are_drawn_in_the_roles_of_the_task(task: str, images: set[tuple[int, ...]]) -> None:
    rng = np.random.default_rng(2)
    drawn = [draw_slots(room(), (SOUTH, AHEAD), task, rng) for _ in range(30)]
    assert {slots.images for slots in drawn if slots is not None} == images


def test_the_same_seed_draws_the_same_slots() -> None:
    first, again, other = (
        [draw_slots(room(), (), "relative_distance", rng) for _ in range(4)]
        for rng in (np.random.default_rng(seed) for seed in (3, 3, 4))
    )
    assert first == again != other


def test_a_pool_that_is_too_small_gives_no_slots() -> None:
    things = [Thing(label, (0.0, 3.0, 0.5), (0.4, 0.4, 1.0)) for label in ("bed", "tv", "lamp")]
    record = make_record(things, [camera(0.0, 0.0, 1.5, heading=90.0)])
    rng = np.random.default_rng(0)
    given_up = {name for name in NAMES if draw_slots(record, (), name, rng) is None}
    assert given_up == {"object_counting", "relative_distance"}


@pytest.mark.parametrize("frames", FRAMES.values(), ids=FRAMES)
def test_a_feasible_task_has_slots(frames: tuple[int, ...]) -> None:
    rng = np.random.default_rng(5)
    tasks = feasible_tasks(room(), frames)
    assert len(tasks) >= 3
    for task in tasks:
        slots = draw_slots(room(), frames, task, rng)
        assert slots is not None and len(slots.labels) == len(TASKS[TASK_IDS[task]].slots)
