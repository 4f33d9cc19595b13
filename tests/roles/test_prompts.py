"""What the roles are told: enough to answer in form, and nothing that gives the answer away."""

import pytest

from geometry_jax.reasons import Reason
from geometry_jax.tasks import TASK_IDS, TASKS
from geometry_jax.types import TaskSpec
from spatialevo_jax.data import Row
from spatialevo_jax.environment import Pools, Request, answer_requests, pools
from spatialevo_jax.environment.wordings import WORDINGS
from spatialevo_jax.evaluation import readings
from spatialevo_jax.roles import prompts, replies
from spatialevo_jax.train.episode import Assignment, Question, solver_prompt
from tests.scenes import SOUTH, room

NAMES = [task.name for task in TASKS]
POOLS = Pools("scene", ("bed", "lamp"), ("chair",))


@pytest.mark.parametrize("task", NAMES)
def test_the_questioner_is_told_its_task_its_labels_and_its_form(task: str) -> None:
    text = prompts.questioner(task, POOLS)
    assert task.replace("_", " ") in text
    assert prompts.GOALS[task] in text
    named = {"object_counting": "Name only: chair.", "motion_camera": ""}
    named |= {"position_cam_cam": "", "elevation_cam_cam": "", "room_size": ""}
    assert named.get(task, "Name only: bed, lamp.") in text
    assert ("Name only" in text) == bool(TASKS[TASK_IDS[task]].slots)
    assert [block.name for block in replies.blocks(text)[0]] == ["observation", "question"]


@pytest.mark.parametrize("task", NAMES)
def test_the_solver_is_told_the_question_and_its_form(task: str) -> None:
    text = prompts.solver(task, "Where is the lamp?")
    assert text.startswith("Where is the lamp? ")
    assert [block.name for block in replies.blocks(text)[0]] == ["answer"]


@pytest.mark.parametrize("task", TASKS, ids=NAMES)
def test_every_choice_is_among_the_words_of_the_hint(task: TaskSpec) -> None:
    """The Solver can learn from the hint alone which words are answers."""
    hint = prompts.HINTS[task.name]
    units = {"metres": "meters", "centimetres": "centimeters", "square_metres": "square meters"}
    if task.answer in units:
        assert hint == units[task.answer]
    elif task.answer == "count":
        assert hint == "a number"
    elif task.name in readings.DIRECTION_TASKS:
        assert readings.directions(hint, task.name)
    else:
        assert all(choice in hint for choice in task.choices)


def test_an_observation_is_asked_for_in_the_language_that_is_judged() -> None:
    pointings, prose = (
        prompts.questioner("room_size", POOLS, language) for language in ("pointings", "prose")
    )
    assert "column, row, depth" in pointings
    assert "column" not in prose
    assert "where they are relative to each other" in prose
    assert prompts.questioner("room_size", POOLS) == pointings


@pytest.mark.parametrize("task", NAMES)
def test_a_released_model_is_told_what_a_small_one_is_taught(task: str) -> None:
    """The labels, the forms of a question, the parts of the reply, and how an answer looks."""
    text = prompts.questioner(task, POOLS, "prose")
    assert prompts.GOALS[task] in text
    assert ("Name only" in text) == bool(TASKS[TASK_IDS[task]].slots)
    first = WORDINGS[task][0].split("{")[0].rstrip()
    assert text.count(f'"{first}') >= 1 and "{" not in text
    assert [block.name for block in replies.blocks(text)[0]] == ["observation", "question"]
    answered = prompts.solver(task, "Where is the lamp?", "prose")
    assert answered.startswith("Where is the lamp? ") and prompts.HINTS[task] in answered
    assert [block.name for block in replies.blocks(answered)[0]] == ["answer"]
    assert "Point at" not in answered


def test_a_released_model_chooses_among_all_reasons() -> None:
    text = prompts.explainer("room_size", "How large is the piano?", POOLS, "prose")
    assert "How large is the piano?" in text and prompts.pool_text(POOLS) in text
    assert all(phrase in text for phrase in prompts.reason_phrases())
    assert [block.name for block in replies.blocks(text)[0]] == ["answer"]


def test_pools_are_written_out() -> None:
    assert prompts.pool_text(Pools("scene", ("bed",), ())) == "Unique: bed."
    assert prompts.pool_text(Pools("scene", (), ())) == "Unique: none."
    assert prompts.pool_text(Pools("scene", (), ("a", "b"))) == "Unique: none. Repeated: a, b."


def test_a_prompt_names_what_the_image_shows_and_no_surfaces() -> None:
    record = room()
    text = prompts.questioner("distance_cam_obj", pools(record, (SOUTH,)))
    assert "wall" not in text
    assert "Name only: bed, box, bucket, chair," in text  # one chair is hardly visible from here


@pytest.mark.parametrize(
    ("question", "valid"),
    [
        ("What is the distance from the camera to the bed in meters?", True),
        ("What is the distance from the camera to the piano in meters?", False),
    ],
)
def test_an_invalid_question_is_to_be_explained_and_its_reason_is_not_given(
    question: str, valid: bool
) -> None:
    record = room()
    (verdict,) = answer_requests([Request(record, "distance_cam_obj", question, (SOUTH,))])
    assert verdict.valid == valid
    asked = Question(0, "distance_cam_obj", question, verdict, 1.0)
    assignment = Assignment(Row(0, (SOUTH,)), "distance_cam_obj", pools(record, (SOUTH,)))
    text = solver_prompt(asked, assignment, "geometry")
    assert question in text
    in_prose = solver_prompt(asked, assignment, "geometry", "prose")
    assert question in in_prose and ("was found invalid" in in_prose) != valid
    assert text == (
        prompts.solver("distance_cam_obj", question)
        if valid
        else prompts.explainer("distance_cam_obj", question, assignment.pools)
    )
    told = verdict.answer if valid else verdict.reason.phrase
    assert told not in text
    # With a vote for a judge nobody knows that a question is invalid.
    assert solver_prompt(asked, assignment, "vote") == prompts.solver("distance_cam_obj", question)


def test_an_explanation_may_name_every_class_of_reasons_once() -> None:
    phrases = prompts.reason_phrases()
    assert len(set(phrases)) == len(phrases)
    assert set(phrases) == {reason.phrase for reason in Reason if reason is not Reason.OK}
    assert Reason.OK.phrase not in phrases
