"""Where the default scoring differs from the published one: one case for each line of the table in
docs/training.md, scored by both.
"""

import numpy as np
import pytest

from geometry_jax.reasons import Reason
from geometry_jax.tasks import TASK_IDS, TASKS
from spatialevo_jax import published, rewards
from spatialevo_jax.evaluation import readings
from spatialevo_jax.roles import pointing
from spatialevo_jax.roles.replies import parse_questioner, parse_solver

ALPHA = 0.1
BOTH = "<observation>a chair</observation><question>How far is the bed?</question>"


def answers(task: str, answer: str, truth: str) -> tuple[float, float]:
    """Accuracy as published, and the reward's by default."""
    default = readings.score(task, answer, truth, partial=True)
    return published.accuracy(task, answer, truth), default


def solved(response: str, correctness: float) -> float:
    return rewards.solver_reward(parse_solver(response), correctness, alpha=ALPHA)


def asked(response: str, grounding: float) -> tuple[float, float]:
    """Rewards of a valid question."""
    return (
        published.questioner_reward(published.parse_question(response), 1.0, grounding),
        rewards.questioner_reward(parse_questioner(response), 1.0, grounding, alpha=ALPHA),
    )


def test_an_observation_is_held_against_the_images_and_not_against_taste() -> None:
    """Fluent text without a claim, which a judge of text alone may rate 1."""
    fluent = "A bright and airy room invites us to look closer at how its parts relate."
    assert asked(BOTH.replace("a chair", fluent), 1.0)[0] == pytest.approx(1.0)
    assert pointing.grounding(fluent, ()) == 0.0


def test_a_valid_question_without_a_true_claim_has_no_floor() -> None:
    assert asked(BOTH, 0.0) == pytest.approx((0.19, 0.1))


def test_an_explanation_is_scored_by_reason_class_and_its_form_is_credited() -> None:
    response = f"So <answer>{Reason.ABSENT_LABEL.phrase}</answer>"
    there = published.solver_reward(response, "room_size", "", valid=False, judged=1.0)
    assert (there, solved(response, 1.0)) == pytest.approx((0.9, 1.0))
    plain = Reason.ABSENT_LABEL.phrase
    there = published.solver_reward(plain, "room_size", "", valid=False, judged=1.0)
    assert (there, solved(plain, 0.0)) == pytest.approx((0.9, 0.0))


def test_words_in_angle_brackets_are_prose() -> None:
    assert asked(BOTH.replace("a chair", "a < b and c > d"), 1.0) == pytest.approx((-1.0, 1.0))
    response = "a <b and c> so <answer>2</answer>"
    there = published.solver_reward(response, "object_counting", "2", valid=True)
    assert (there, solved(response, 1.0)) == pytest.approx((-1.0, 1.0))


def test_talking_beside_the_tags_costs_the_form_and_not_all() -> None:
    """And nothing is repaired: without a question there is none."""
    assert asked(f"Sure! {BOTH}", 1.0) == pytest.approx((0.0, 0.9))
    assert parse_questioner("How far is the bed?").question == ""


@pytest.mark.parametrize(
    ("answer", "there", "here"),
    [("85cm", 0.0, 1.0), ("850 mm", 0.0, 1.0), ("between 0.2 and 0.85 m", 0.0, 1.0)],
)
def test_the_last_number_counts_with_its_unit(answer: str, there: float, here: float) -> None:
    assert answers("absolute_distance", answer, "0.85 meters") == (there, here)


def test_relative_accuracy_has_the_benchmarks_ten_tolerances() -> None:
    ratios = (1.2, 1.4, 1.0501)
    there = [published.mean_relative_accuracy(ratio - 1e-6, 1.0) for ratio in ratios]
    here = [readings.mean_relative_accuracy(ratio, 1.0) for ratio in ratios]
    np.testing.assert_allclose(there, [7 / 11, 3 / 11, 10 / 11], atol=1e-6)
    np.testing.assert_allclose(here, [0.7, 0.3, 0.9])


def test_vectors_of_the_benchmarks_tolerances() -> None:
    pairs = {1.05: 1, 1.0501: 0.9, 1.1: 0.9, 1.14: 0.8, 1.2: 0.7, 1.25: 0.6, 1.3: 0.5, 1.4: 0.3}
    pairs |= {1.5: 0.1, 1.51: 0, 0.0: 0, 0.5: 0.1}
    found = {ratio: readings.mean_relative_accuracy(ratio, 1.0) for ratio in pairs}
    assert found == pytest.approx(pairs)


def test_the_word_same_is_never_the_truth_of_a_direction() -> None:
    """There it can't be answered; here such questions are invalid."""
    assert published.accuracy("motion_camera", "same", "same") == 0.0
    assert published.accuracy("single_image_relative_direction", "overlap", "overlap") == 0.0
    assert "same" not in TASKS[TASK_IDS["motion_camera"]].choices
    assert "overlap" not in TASKS[TASK_IDS["single_image_relative_direction"]].choices


def test_an_empty_answer_is_wrong() -> None:
    assert answers("depth_order_obj_obj", "", "invalid") == (1.0, 0.0)


def test_partial_credit_is_for_learning_and_not_for_the_score() -> None:
    assert answers("object_counting", "3", "4") == (0.3, 0.3)
    assert readings.score("object_counting", "3", "4", partial=False) == 0.0


@pytest.mark.parametrize(
    ("task", "truth", "there", "here"),
    [
        ("object_counting", "1", 0.5, 1.0),  # the oracle refuses counts below two
        ("elevation_cam_cam", "same_level", 0.0, 1.0),  # and cameras at one height
        ("depth_order_obj_obj", "same", 0.5, 0.5),
        ("visibility_compare", "same", 0.5, 0.5),
    ],
)
def test_what_a_question_is_worth(task: str, truth: str, there: float, here: float) -> None:
    assert published.question_value(task, True, truth) == there
    assert rewards.question_value(task, True, truth) == here


def test_a_judges_reply_is_not_read_by_its_first_digit() -> None:
    """Judges are functions to numbers here: there is no text to misread."""
    assert published.judge_level("10") == published.judge_level("1. It is wrong.") == 1.0
