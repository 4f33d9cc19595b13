"""One step of questions and answers, worked by hand: judging, rewards, the Solver's budget."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from geometry_jax.reasons import Reason
from geometry_jax.tasks import TASK_IDS, TASKS
from spatialevo_jax.config import GrpoConfig, RewardConfig, RewardSource, RolloutConfig, TrainConfig
from spatialevo_jax.data import RoomSet, Row
from spatialevo_jax.environment import Request, answer_requests, pools
from spatialevo_jax.roles import prompts
from spatialevo_jax.train import episode
from spatialevo_jax.train.episode import Asked, Assignment, Question
from tests.scenes import AHEAD, EAST, RAISED, SOUTH, room

ALPHA = 0.1
ROOMS = RoomSet((room(),), tuple(TASK_IDS), (56, 56))
SCENE = (SOUTH, EAST, AHEAD)
TRUE_CLAIMS = "1 tv c42 1 bed c48"  # both in view of SOUTH

# Of depth_order_obj_obj, from SOUTH.
BED_OR_LAMP = "Which is closer to the camera, the bed or the lamp?"  # bed
LAMP_OR_BED = "Of the lamp and the bed, which is closer to the camera?"
BED_OR_TV = "Is the bed or the tv closer to the camera?"  # tv
TV_OR_LAMP = "Which is closer to the camera, the tv or the lamp?"  # tv
BED_OR_CUSHION = "Which is closer to the camera, the bed or the cushion?"  # same
# Of other tasks.
TV = "What is the distance from the camera to the tv in meters?"  # 1.05 meters
CHAIRS = "How many chairs are in the room?"  # 2
# And without an answer.
BED_OR_SOFA = "Which is closer to the camera, the bed or the sofa?"
BED_OR_BED = "Which is closer to the camera, the bed or the bed?"
OFF_TASK = "What colour is the bed?"
VALID = (BED_OR_LAMP, BED_OR_TV, TV_OR_LAMP)
INVALID = (BED_OR_SOFA, BED_OR_BED, OFF_TASK, "Who lives here?")


def assigned(task: str, *frames: int) -> Assignment:
    return Assignment(Row(0, frames), task, pools(ROOMS.records[0], frames))


DEPTH = assigned("depth_order_obj_obj", SOUTH)


def asking(question: str, observation: str = TRUE_CLAIMS) -> str:
    return f"<observation>{observation}</observation><question>{question}</question>"


def judged(
    *groups: Sequence[str], reward: RewardSource = "geometry"
) -> tuple[list[Assignment], list[list[Asked]]]:
    """Rows that show SOUTH and were asked the given questions about depth."""
    assignments = [DEPTH] * len(groups)
    texts = [[asking(question) for question in group] for group in groups]
    return assignments, episode.judge_questions(ROOMS, assignments, texts, reward)


def budget(
    count: int, share: float = 0.0, reward: RewardSource = "geometry", samples: int = 4
) -> TrainConfig:
    rollout = RolloutConfig(
        solver_prompts=count, max_invalid_share=share, questioner_samples=samples
    )
    return TrainConfig(reward=reward, rollout=rollout)


def told(questions: Sequence[Question]) -> list[tuple[str, float]]:
    return [(question.text, question.weight) for question in questions]


# --- tasks -----------------------------------------------------------------------------------

ROWS = [Row(0, (SOUTH,)), Row(0, (SOUTH, EAST)), Row(0, (SOUTH, RAISED)), Row(0, SCENE)]
OF_OBJECTS = (
    *("visibility_compare", "position_cam_obj", "position_cam_reg"),
    "attribute_measurement",
)
FEASIBLE = [
    {"single_image_relative_direction", "distance_cam_obj", "depth_order_obj_obj"},
    {"position_cam_cam", "motion_camera", *OF_OBJECTS},  # at one height
    {"position_cam_cam", "motion_camera", *OF_OBJECTS, "elevation_cam_cam"},
    {task.name for task in TASKS if task.modality == "scene"},
]


def test_a_row_allows_the_tasks_of_its_images() -> None:
    mask = episode.feasible_mask(ROOMS, ROWS)
    assert [{task.name for task, yes in zip(TASKS, row, strict=True) if yes} for row in mask] == (
        FEASIBLE
    )


def test_only_tasks_of_the_run_are_feasible() -> None:
    rooms = dataclasses.replace(ROOMS, tasks=("motion_camera", "distance_cam_obj"))
    mask = episode.feasible_mask(rooms, ROWS)
    expected = np.zeros_like(mask)
    expected[0, TASK_IDS["distance_cam_obj"]] = True
    expected[1:3, TASK_IDS["motion_camera"]] = True
    np.testing.assert_array_equal(mask, expected)


def test_every_feasible_task_is_drawn_and_no_other() -> None:
    chances, rng = np.full(len(TASKS), 1 / len(TASKS), np.float32), np.random.default_rng(0)
    steps = [episode.assign_tasks(ROOMS, ROWS, chances, rng) for _ in range(60)]
    assert [{step[row].task for step in steps} for row in range(len(ROWS))] == FEASIBLE


def test_a_task_is_drawn_as_often_as_its_chance() -> None:
    chances = np.zeros(len(TASKS), np.float32)
    chances[TASK_IDS["distance_cam_obj"]] = 0.3
    chances[TASK_IDS["depth_order_obj_obj"]] = 0.1  # chances are relative: 3 to 1
    drawn = episode.assign_tasks(ROOMS, ROWS[:1] * 400, chances, np.random.default_rng(0))
    tasks = [one.task for one in drawn]
    assert set(tasks) == {"distance_cam_obj", "depth_order_obj_obj"}
    assert 270 <= tasks.count("distance_cam_obj") <= 330  # 300, give or take 3.5 deviations


def test_a_row_whose_tasks_have_no_chance_draws_them_evenly() -> None:
    """As with `scheduler.floor` 0, where tasks answered perfectly have none."""
    chances = np.zeros(len(TASKS), np.float32)
    chances[TASK_IDS["room_size"]] = 1.0  # of scenes alone
    drawn = episode.assign_tasks(ROOMS, ROWS[:1] * 60, chances, np.random.default_rng(0))
    assert {one.task for one in drawn} == FEASIBLE[0]


def test_assignments_keep_the_rows_order_and_pools() -> None:
    chances = np.ones(len(TASKS), np.float32)
    drawn = episode.assign_tasks(ROOMS, ROWS, chances, np.random.default_rng(1))
    assert [one.row for one in drawn] == ROWS
    for one in drawn:
        assert one.pools == pools(ROOMS.records[0], one.row.frames)


# --- questions -------------------------------------------------------------------------------


def test_each_question_is_judged_about_the_images_of_its_row() -> None:
    """The same words about the same two images, in the other order."""
    assignments = [
        assigned("visibility_compare", SOUTH, EAST),
        assigned("visibility_compare", EAST, SOUTH),
    ]
    words = [asking("Which image shows the lamp more clearly?"), asking("Which is red?")]
    asked = episode.judge_questions(ROOMS, assignments, [words, words[::-1]], "geometry")
    answers = [[item.verdict.answer for item in group] for group in asked]
    assert answers == [["image1", ""], ["", "image2"]]
    assert [[item.assignment for item in group] for group in asked] == [[0, 0], [1, 1]]


def test_an_answer_near_an_edge_is_no_answer() -> None:
    question = "Standing by the table and facing the lamp, where is the tv?"
    task = assigned("relative_direction_hard", *SCENE)
    ((item,),) = episode.judge_questions(ROOMS, [task], [[asking(question)]], "geometry")
    assert (item.verdict.valid, item.verdict.reason) == (False, Reason.UNCLEAR)


# What a Questioner that was shown SOUTH says, and what it earns under geometry and under vote.
SAID: tuple[tuple[str, float, float], ...] = (
    (asking(BED_OR_LAMP), 1.0, 1.0),
    (asking(BED_OR_LAMP, "1 tv c42 1 bed h12"), 0.1 + 0.9 * 0.5, 1.0),  # the bed is elsewhere
    (asking(BED_OR_CUSHION), 0.1 + 0.9 * 0.5, 1.0),  # "same" is worth half
    (asking(BED_OR_CUSHION, "1 tv c42"), 0.1 + 0.9 * 0.25, 1.0),  # and one claim of two again
    (asking(BED_OR_SOFA), 0.1, 1.0),  # invalid: the form alone
    (asking(OFF_TASK), 0.1, 1.0),
    (f"<question>{BED_OR_LAMP}</question>", 0.05, 0.05),  # without an observation
    (f"<observation>{TRUE_CLAIMS}</observation>", 0.0, 0.0),  # without a question
    (f"Hm. {asking(BED_OR_LAMP)}", 0.9, 0.9),  # talking besides costs the form
    (asking(BED_OR_LAMP) + f"<question>{BED_OR_TV}</question>", -1.0, -1.0),
    (BED_OR_LAMP, 0.0, 0.0),
)


@pytest.mark.parametrize("reward", ["geometry", "shuffled", "vote"])
def test_what_a_question_earns(reward: RewardSource) -> None:
    """Shuffling comes later: until then it is geometry."""
    texts = [text for text, _, _ in SAID]
    asked = episode.judge_questions(ROOMS, [DEPTH], [texts], reward)
    found = episode.questioner_rewards(asked, reward, alpha=ALPHA)
    expected = [voted if reward == "vote" else earned for _, earned, voted in SAID]
    assert (found.shape, found.dtype) == ((1, len(SAID)), np.float32)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


def test_what_a_question_earns_in_the_published_scoring() -> None:
    """The share of claims that hold stands for the judge; a valid question earns at least 0.1 of
    it, any word in angle brackets is a violation, and talking besides costs all.
    """
    texts = {
        asking(BED_OR_LAMP): 1.0,
        asking(BED_OR_LAMP, "1 tv h99 1 bed h19"): 0.19,  # no claim holds
        asking(BED_OR_CUSHION): 0.55,
        asking(BED_OR_SOFA): 0.1,
        f"<question>{BED_OR_LAMP}</question>": 0.05,
        f"Hm. {asking(BED_OR_LAMP)}": 0.0,
        asking(f"{BED_OR_LAMP} <b>"): -1.0,
    }
    asked = episode.judge_questions(ROOMS, [DEPTH], [list(texts)], "geometry")
    found = episode.questioner_rewards(asked, "geometry", alpha=ALPHA, scoring="published")
    np.testing.assert_allclose(found[0], list(texts.values()), atol=1e-6)


def test_rewards_keep_rows_and_samples_apart() -> None:
    _, asked = judged([BED_OR_LAMP, OFF_TASK], [BED_OR_CUSHION, BED_OR_TV], [OFF_TASK, OFF_TASK])
    found = episode.questioner_rewards(asked, "geometry", alpha=ALPHA)
    np.testing.assert_allclose(found, [[1.0, 0.1], [0.55, 1.0], [0.1, 0.1]], atol=1e-6)


def with_content(
    config: RewardConfig, correctness: Sequence[Sequence[float]], *groups: Sequence[str]
) -> np.ndarray:
    """Rewards after the Solver answered those questions of the rows that fit the budget."""
    assignments, asked = judged(*groups)
    given = episode.questioner_rewards(asked, "geometry", alpha=ALPHA)
    questions = episode.distinct_questions(assignments, asked, budget(len(correctness)))
    return episode.with_content_factor(
        given, assignments, asked, questions, np.asarray(correctness), config, alpha=ALPHA
    )


def test_a_question_earns_by_how_much_the_answers_to_it_differ() -> None:
    """Bed or lamp: half right. Bed or tv: all right. Its twin shares; form is never taken."""
    config = RewardConfig(learnability=1.0)
    found = with_content(
        config, [[1, 1, 0, 0], [1, 1, 1, 1]], [BED_OR_LAMP, LAMP_OR_BED, BED_OR_TV, OFF_TASK]
    )
    np.testing.assert_allclose(found, [[1.0, 1.0, 0.1, 0.1]], atol=1e-6)
    half = dataclasses.replace(config, learnability=0.5)
    found = with_content(half, [[1, 1, 0, 0], [1, 1, 1, 1]], [BED_OR_LAMP, BED_OR_TV])
    np.testing.assert_allclose(found, [[1.0, 0.1 + 0.9 * 0.5]], atol=1e-6)


def test_a_question_that_was_not_posed_earns_as_the_others_do_on_average() -> None:
    """Two of three were: variances 1/4 and 3/16."""
    config = RewardConfig(learnability=1.0)
    found = with_content(config, [[1, 1, 0, 0], [1, 0, 0, 0]], [BED_OR_LAMP, BED_OR_TV, TV_OR_LAMP])
    np.testing.assert_allclose(found, 0.1 + 0.9 * np.array([[1.0, 0.75, 0.875]]), atol=1e-6)


def test_who_asks_what_others_ask_of_the_same_images_shares_with_them() -> None:
    """Both rows show the same image."""
    config = RewardConfig(novelty=1.0)
    found = with_content(config, [[0, 0]], [BED_OR_LAMP, LAMP_OR_BED], [BED_OR_LAMP, BED_OR_TV])
    third = 0.1 + 0.9 / 3
    np.testing.assert_allclose(found, [[third, third], [third, 1.0]], atol=1e-6)


def test_a_violation_costs_the_same_with_every_weight() -> None:
    twice = asking(BED_OR_LAMP) + f"<question>{BED_OR_TV}</question>"
    asked = episode.judge_questions(ROOMS, [DEPTH], [[twice, asking(BED_OR_LAMP)]], "geometry")
    given = episode.questioner_rewards(asked, "geometry", alpha=ALPHA)
    questions = episode.distinct_questions([DEPTH], asked, budget(1))
    found = episode.with_content_factor(
        given,
        [DEPTH],
        asked,
        questions,
        np.ones((1, 4)),
        RewardConfig(learnability=1.0, novelty=1.0),
        alpha=ALPHA,
    )
    np.testing.assert_allclose(found, [[-1.0, 0.1]], atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"reward": "vote"},
        {"reward": "shuffled"},
        {"scoring": "published"},
        {"grpo": GrpoConfig(two_pass=8)},  # the Questioner learns before the Solver has answered
    ],
)
def test_learnability_is_refused_where_nobody_says_what_is_right(changes: Any) -> None:
    with pytest.raises(ValueError, match=r"rewards: learnability and novelty"):
        TrainConfig(rewards=RewardConfig(learnability=0.5), **changes)


def test_another_judge_may_say_what_observations_and_explanations_are_worth() -> None:
    asked = episode.judge_questions(
        ROOMS,
        [DEPTH],
        [[asking(BED_OR_LAMP, "Lovely."), asking(BED_OR_TV, "Dull.")]],
        "geometry",
        judge=lambda text, request: 0.6 if text == "Lovely." and request.frames else 0.3,
    )
    assert [item.grounding for item in asked[0]] == [0.6, 0.3]
    _, asked = judged([BED_OR_SOFA])
    question = Question(0, "depth_order_obj_obj", BED_OR_SOFA, asked[0][0].verdict, 1.0)
    scored = episode.score_answers(
        [question],
        [["<answer>no sofa here</answer>"] * 2],
        "geometry",
        alpha=ALPHA,
        judge=lambda text, verdict: 0.5 if "sofa" in text and not verdict.valid else 0.0,
    )
    np.testing.assert_allclose(scored.rewards, [[0.55, 0.55]], atol=1e-6)


# --- the Solver's budget ---------------------------------------------------------------------


def test_questions_that_ask_the_same_are_asked_once() -> None:
    assignments, asked = judged([BED_OR_LAMP, LAMP_OR_BED, BED_OR_TV, BED_OR_LAMP])
    found = episode.distinct_questions(assignments, asked, budget(2))
    assert told(found) == [(BED_OR_LAMP, 1.0), (BED_OR_TV, 1.0)]
    assert [question.verdict.answer for question in found] == ["bed", "tv"]


def test_unreadable_questions_that_differ_in_blanks_and_case_are_asked_once() -> None:
    assignments, asked = judged([OFF_TASK, "what  COLOUR is\nthe bed?", "Who lives here?"])
    found = episode.distinct_questions(assignments, asked, budget(2, 1.0))
    assert told(found) == [(OFF_TASK, 1.0), ("Who lives here?", 1.0)]


def test_the_same_question_about_another_row_is_another_question() -> None:
    assignments, asked = judged([BED_OR_LAMP, LAMP_OR_BED], [LAMP_OR_BED, BED_OR_LAMP])
    found = episode.distinct_questions(assignments, asked, budget(2))
    assert [(question.assignment, question.text) for question in found] == [
        (0, BED_OR_LAMP),
        (1, LAMP_OR_BED),
    ]
    assert [question.weight for question in found] == [1.0, 1.0]


@pytest.mark.parametrize("first", [True, False])
def test_a_valid_question_is_never_merged_with_an_invalid_one(first: bool) -> None:
    """The same slots, judged with and without the margin that makes them unclear."""
    question = "Standing by the table and facing the lamp, where is the tv?"
    task = assigned("relative_direction_hard", *SCENE)
    ((unclear,),) = episode.judge_questions(ROOMS, [task], [[asking(question)]], "geometry")
    request = Request(ROOMS.records[0], task.task, question, task.row.frames)
    clear = dataclasses.replace(unclear, verdict=answer_requests([request])[0])
    assert clear.verdict.slots == unclear.verdict.slots
    group = [clear, unclear] if first else [unclear, clear]
    found = episode.distinct_questions([task], [group * 2], budget(2, 0.5))
    assert [one.verdict.answer for one in found] == ["back-left", ""]
    assert [one.weight for one in found] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("count", "share", "valid", "invalid", "padding"),
    [
        (8, 0.0, 3, 0, 5),
        (8, 0.25, 3, 2, 3),
        (8, 0.3, 3, 2, 3),  # 2.4 of 8
        (8, 1.0, 3, 4, 1),
        (6, 1.0, 2, 4, 0),
        (4, 0.25, 3, 1, 0),
        (3, 0.34, 2, 1, 0),  # the share of the invalid ones is kept free for them
        (2, 0.25, 2, 0, 0),
    ],
)
def test_the_budget_is_filled_exactly_and_the_invalid_have_their_share(
    count: int, share: float, valid: int, invalid: int, padding: int
) -> None:
    assignments, asked = judged([*INVALID, *VALID])
    found = episode.distinct_questions(assignments, asked, budget(count, share))
    expected = [*VALID[:valid], *INVALID[:invalid]]
    assert told(found)[: valid + invalid] == [(text, 1.0) for text in expected]
    assert [one.weight for one in found[valid + invalid :]] == [0.0] * padding
    assert len(found) == count


def test_padding_repeats_the_questions_in_order_without_weight() -> None:
    assignments, asked = judged([BED_OR_LAMP, BED_OR_TV])
    found = episode.distinct_questions(assignments, asked, budget(7))
    real = found[:2]
    assert [one.weight for one in real] == [1.0, 1.0]
    silent = [dataclasses.replace(one, weight=0.0) for one in real]
    assert found[2:] == [silent[0], silent[1], silent[0], silent[1], silent[0]]


@pytest.mark.parametrize(
    ("count", "order"), [(2, [0, 1]), (4, [0, 1, 3, 0]), (6, [0, 1, 3, 0, 3, 0])]
)
def test_rows_take_turns(count: int, order: list[int]) -> None:
    assignments, asked = judged(VALID, [BED_OR_TV], [OFF_TASK], [TV_OR_LAMP, BED_OR_LAMP])
    found = episode.distinct_questions(assignments, asked, budget(count))
    assert [question.assignment for question in found] == order
    assert [question.weight for question in found] == [1.0] * count


def test_rows_take_turns_with_their_invalid_questions_too() -> None:
    assignments, asked = judged(INVALID, VALID, INVALID)
    found = episode.distinct_questions(assignments, asked, budget(5, 0.6))
    assert [(one.assignment, one.text) for one in found] == [
        (1, VALID[0]),
        (1, VALID[1]),
        (0, INVALID[0]),
        (2, INVALID[0]),
        (0, INVALID[1]),
    ]


def test_a_vote_knows_no_invalid_questions() -> None:
    assignments, asked = judged([BED_OR_SOFA, BED_OR_LAMP, OFF_TASK], reward="vote")
    found = episode.distinct_questions(assignments, asked, budget(4, 0.0, "vote"))
    assert told(found) == [
        (BED_OR_SOFA, 1.0),
        (BED_OR_LAMP, 1.0),
        (OFF_TASK, 1.0),
        (BED_OR_SOFA, 0.0),
    ]


@pytest.mark.parametrize("reward", ["geometry", "vote"])
def test_nothing_readable_asked_keeps_the_shapes(reward: RewardSource) -> None:
    assignments = [DEPTH, assigned("motion_camera", SOUTH, EAST)]
    texts = [["bed bed bed", "<question></question>"], ["<question>How", ""]]
    asked = episode.judge_questions(ROOMS, assignments, texts, reward)
    found = episode.distinct_questions(assignments, asked, budget(3, 0.5, reward))
    assert told(found) == [("", 0.0)] * 3
    assert {(one.assignment, one.task) for one in found} == {(0, "depth_order_obj_obj")}
    assert all(episode.solver_prompt(one, DEPTH, reward) for one in found)
    scored = episode.score_answers(found, [["<answer>bed</answer>"] * 2] * 3, reward, alpha=ALPHA)
    assert scored.rewards.shape == scored.correctness.shape == (3, 2)


# --- answers ---------------------------------------------------------------------------------


TASK_OF: dict[str, tuple[str, tuple[int, ...]]] = {
    TV: ("distance_cam_obj", (SOUTH,)),
    CHAIRS: ("object_counting", SCENE),
    BED_OR_LAMP: ("depth_order_obj_obj", (SOUTH,)),
    BED_OR_SOFA: ("depth_order_obj_obj", (SOUTH,)),
}


def asked_of_solver(*texts: str) -> list[Question]:
    requests = [
        Request(ROOMS.records[0], TASK_OF[text][0], text, TASK_OF[text][1]) for text in texts
    ]
    return [
        Question(0, verdict.task, verdict.question, verdict, 1.0)
        for verdict in answer_requests(requests)
    ]


def answering(*answers: str) -> list[str]:
    return [f"1 tv c42 <answer>{answer}</answer>" for answer in answers]


TWICE = "<answer>bed</answer><answer>bed</answer>"


def test_the_solver_is_asked_or_told_that_the_question_is_invalid() -> None:
    valid, invalid = asked_of_solver(BED_OR_LAMP, BED_OR_SOFA)
    plain = [prompts.solver(DEPTH.task, one.text) for one in (valid, invalid)]
    told_so = prompts.explainer(DEPTH.task, BED_OR_SOFA, DEPTH.pools)
    for reward in ("geometry", "shuffled"):
        assert episode.solver_prompt(valid, DEPTH, reward) == plain[0]
        assert episode.solver_prompt(invalid, DEPTH, reward) == told_so
    found = [episode.solver_prompt(one, DEPTH, "vote") for one in (valid, invalid)]
    assert found == plain


# For each question: texts, what they earn, and their correctness.
ANSWERED: tuple[tuple[str, list[str], list[float], list[float]], ...] = (
    (
        TV,  # 15 cm of 1.05 m are within 8 of the 10 tolerances
        [*answering("1.05 meters", "1.20 meters", "9 meters"), "1.05 meters", "<question>?"],
        [1.0, 0.1 + 0.9 * 0.8, 0.1, 0.0, -1.0],
        [1.0, 0.8, 0.0, 0.0, 0.0],
    ),
    (
        CHAIRS,  # a near miss earns something and is not correct
        answering("2", "3", "0", "9", "some"),
        [1.0, 0.1 + 0.9 * 0.3, 0.1 + 0.9 * 0.1, 0.1, 0.1],
        [1.0, 0.0, 0.0, 0.0, 0.0],
    ),
    (
        BED_OR_LAMP,
        [*answering("bed", "the Bed.", "lamp", ""), TWICE],
        [1.0, 1.0, 0.1, 0.1, -1.0],
        [1.0, 1.0, 0.0, 0.0, 0.0],
    ),
    (
        BED_OR_SOFA,  # an explanation is rewarded and says nothing about the task
        [*answering("not in the scene", "Not in the scene.", "not unique", "bed"), TWICE],
        [1.0, 1.0, 0.1, 0.1, -1.0],
        [0.0] * 5,
    ),
)


@pytest.mark.parametrize("reward", ["geometry", "shuffled"])
def test_what_an_answer_earns(reward: RewardSource) -> None:
    questions, texts, earned, correct = zip(*ANSWERED, strict=True)
    found = episode.score_answers(asked_of_solver(*questions), texts, reward, alpha=ALPHA)
    np.testing.assert_allclose(found.rewards, earned, atol=1e-6)
    np.testing.assert_allclose(found.correctness, correct, atol=1e-6)
    assert found.rewards.dtype == found.correctness.dtype == np.float32


def test_what_an_answer_earns_in_the_published_scoring() -> None:
    """A right explanation earns 0.9, its form nothing; an untagged answer earns nothing."""
    questions = asked_of_solver(BED_OR_LAMP, BED_OR_SOFA)
    texts = [[*answering("bed", "lamp"), "bed"], [*answering("not in the scene", "bed"), "<b>"]]
    found = episode.score_answers(questions, texts, "geometry", alpha=ALPHA, scoring="published")
    np.testing.assert_allclose(found.rewards, [[1.0, 0.1, 0.0], [0.9, 0.0, -0.1]], atol=1e-6)


def test_a_vote_rewards_the_majority_and_is_held_against_geometry() -> None:
    """The majority is wrong about the first question and says nothing right about an invalid."""
    texts = [
        [*answering("lamp", "Lamp.", "bed"), TWICE],
        [*answering("bed", "sofa", "sofa"), "sofa"],
        [*answering("", ""), "bed", "bed bed"],  # nobody voted
    ]
    questions = asked_of_solver(BED_OR_LAMP, BED_OR_SOFA, BED_OR_LAMP)
    found = episode.score_answers(questions, texts, "vote", alpha=ALPHA)
    expected = [[1.0, 1.0, 0.1, -1.0], [0.1, 1.0, 1.0, 0.0], [0.1, 0.1, 0.0, 0.0]]
    np.testing.assert_allclose(found.rewards, expected, atol=1e-6)
    np.testing.assert_array_equal(found.correctness, [[0, 0, 1, 0], [0] * 4, [0] * 4])


def test_a_question_too_long_for_the_solver_is_not_asked() -> None:
    assignments, asked = judged([BED_OR_LAMP, BED_OR_TV])
    found = episode.distinct_questions(
        assignments, asked, budget(1), lambda question: question.text != BED_OR_LAMP
    )
    assert told(found) == [(BED_OR_TV, 1.0)]
