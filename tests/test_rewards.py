"""Every branch of both roles' rewards, and the two controls."""

import numpy as np
import pytest

from geometry_jax.reasons import Reason
from spatialevo_jax import rewards
from spatialevo_jax.roles.replies import QuestionerReply, SolverReply, parse_solver

ALPHA = 0.1


def asked(format_score: float = 1.0, *, hard_violation: bool = False) -> QuestionerReply:
    return QuestionerReply("chair 1234", "Where is it?", format_score, hard_violation)


def answered(format_score: float = 1.0, *, hard_violation: bool = False) -> SolverReply:
    return SolverReply("left", format_score, hard_violation)


@pytest.mark.parametrize(
    ("task", "valid", "answer", "expected"),
    [
        ("absolute_distance", True, "1.20 meters", 1.0),
        ("absolute_distance", False, "", 0.0),
        ("depth_order_obj_obj", True, "bed", 1.0),
        ("depth_order_obj_obj", True, "same", 0.5),
        ("depth_order_obj_obj", False, "same", 0.0),
        ("visibility_compare", True, "image2", 1.0),
        ("visibility_compare", True, "same", 0.5),
        ("motion_camera", True, "same", 1.0),  # no answer of another task is worth less
    ],
)
def test_the_value_of_a_question(task: str, valid: bool, answer: str, expected: float) -> None:
    assert rewards.question_value(task, valid, answer) == expected


@pytest.mark.parametrize(
    ("format_score", "value", "grounding", "expected"),
    [
        (1.0, 1.0, 1.0, 1.0),
        (1.0, 1.0, 0.5, 0.1 + 0.9 * 0.5),
        (1.0, 0.5, 1.0, 0.1 + 0.9 * 0.5),
        (1.0, 0.5, 0.5, 0.1 + 0.9 * 0.25),
        (1.0, 0.0, 1.0, 0.1),  # an invalid question earns its form only
        (0.5, 1.0, 0.0, 0.05),
        (0.0, 1.0, 1.0, 0.9),
        (0.0, 0.0, 0.0, 0.0),
    ],
)
def test_the_questioners_reward(
    format_score: float, value: float, grounding: float, expected: float
) -> None:
    found = rewards.questioner_reward(asked(format_score), value, grounding, alpha=ALPHA)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("format_score", "correctness", "expected"),
    [(1.0, 1.0, 1.0), (1.0, 0.0, 0.1), (1.0, 0.3, 0.1 + 0.9 * 0.3), (0.0, 0.0, 0.0)],
)
def test_the_solvers_reward(format_score: float, correctness: float, expected: float) -> None:
    found = rewards.solver_reward(answered(format_score), correctness, alpha=ALPHA)
    assert found == pytest.approx(expected)


def test_a_hard_violation_costs_one_whatever_else_is_right() -> None:
    question, answer = asked(hard_violation=True), answered(hard_violation=True)
    assert rewards.questioner_reward(question, 1.0, 1.0, alpha=ALPHA) == -1.0
    assert rewards.solver_reward(answer, 1.0, alpha=ALPHA) == -1.0


def test_without_a_share_for_the_format_only_the_content_counts() -> None:
    assert rewards.solver_reward(answered(1.0), 0.0, alpha=0.0) == 0.0
    assert rewards.questioner_reward(asked(0.0), 1.0, 1.0, alpha=0.0) == 1.0


def test_two_answers_never_pay_more_than_none() -> None:
    """Offering both directions is a violation, however they are arranged."""
    both = parse_solver("<answer>left</answer><answer>right</answer>")
    none = parse_solver("left")
    assert rewards.solver_reward(both, 1.0, alpha=ALPHA) < rewards.solver_reward(
        none, 0.0, alpha=ALPHA
    )


@pytest.mark.parametrize(
    ("answer", "phrase", "expected"),
    [
        ("not unique", "not unique", 1.0),
        ("Not  Unique.", "not unique", 1.0),
        ("the same place", "same place", 1.0),
        ("not-unique", "not unique", 1.0),
        ("not visible", "not unique", 0.0),
        ("not unique, not visible", "not unique", 0.0),  # listing reasons is no explanation
        ("", "not unique", 0.0),
    ],
)
def test_an_explanation_must_name_the_reason(answer: str, phrase: str, expected: float) -> None:
    assert rewards.explanation_score(answer, phrase) == expected


def test_no_two_classes_of_reasons_can_be_mistaken_for_each_other() -> None:
    phrases = sorted({reason.phrase for reason in Reason if reason is not Reason.OK})
    scores = [[rewards.explanation_score(a, b) for b in phrases] for a in phrases]
    np.testing.assert_array_equal(scores, np.eye(len(phrases)))


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["left", "right", "right"], "right"),
        (["Left.", "left", "right", "LEFT "], "left"),  # counted after cleaning
        (["left", "right"], "left"),  # a tie goes to the earliest
        (["b", "a", "a", "b", "c"], "b"),
        (["", "  ", "left"], "left"),
        (["", "", "", "left"], "left"),  # an empty answer has no vote
        (["", "\n"], ""),
        ([], ""),
    ],
)
def test_the_majority_of_a_group(answers: list[str], expected: str) -> None:
    assert rewards.majority_answer(answers) == expected


@pytest.mark.parametrize("answers", [[".", ".", "left"], ["...", " . ", "left"]])
def test_an_answer_that_is_empty_once_cleaned_has_no_vote(answers: list[str]) -> None:
    assert rewards.majority_answer(answers) == "left"


# --- learnability and novelty ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "factor"), [(0, 0.0), (1, 0.4375), (2, 0.75), (4, 1.0), (7, 0.4375), (8, 0.0)]
)
def test_a_question_is_learnable_where_half_of_the_answers_are_right(
    right: int, factor: float
) -> None:
    """Of 8 answers: 4 p (1 - p)."""
    spread = np.array([1.0] * right + [0.0] * (8 - right)).var(keepdims=True)
    one = rewards.content_factor(spread, np.ones(()), learnability=1.0, novelty=0.0)
    assert one == pytest.approx(factor)


def test_graded_answers_that_agree_teach_nothing() -> None:
    spread = np.full(8, 0.5).var(keepdims=True)
    assert rewards.content_factor(spread, np.ones(()), learnability=1.0, novelty=0.0) == 0.0


@pytest.mark.parametrize(("same", "novelty", "factor"), [(1, 1, 1), (4, 1, 0.25), (4, 0.5, 0.625)])
def test_those_who_ask_the_same_share(same: int, novelty: float, factor: float) -> None:
    found = rewards.content_factor(np.zeros(()), np.array(same), learnability=0.0, novelty=novelty)
    assert found == pytest.approx(factor)


@pytest.mark.parametrize("spread", [0.0, 0.1, 0.25])
@pytest.mark.parametrize("same", [1, 3])
def test_weights_of_zero_leave_the_content(spread: float, same: int) -> None:
    found = rewards.content_factor(np.array(spread), np.array(same), learnability=0.0, novelty=0.0)
    assert found == 1.0


def test_shuffled_rewards_are_the_same_rewards_elsewhere() -> None:
    given = np.arange(48, dtype=np.float32).reshape(6, 8)
    found = rewards.shuffled(given, np.random.default_rng(0))
    assert found.shape == given.shape
    np.testing.assert_array_equal(np.sort(found, axis=None), given.ravel())
    np.testing.assert_array_equal(given, np.arange(48).reshape(6, 8))  # not shuffled in place
    moved_between_groups = found // 8 != np.arange(6)[:, None]
    assert moved_between_groups.mean() > 0.5
    np.testing.assert_array_equal(found, rewards.shuffled(given, np.random.default_rng(0)))
