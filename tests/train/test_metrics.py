"""The numbers of a step, worked by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from geometry_jax.reasons import Reason
from spatialevo_jax.train import episode, metrics
from spatialevo_jax.train.records import Records
from tests.train.test_episode import (
    BED_OR_LAMP,
    BED_OR_SOFA,
    DEPTH,
    LAMP_OR_BED,
    ROOMS,
    TV,
    asking,
    assigned,
    budget,
)

DISTANCE = "distance_cam_obj"
TEXTS = (
    (asking(BED_OR_LAMP), asking(LAMP_OR_BED), asking(BED_OR_SOFA), "What?"),
    (asking(TV), asking(TV), asking(TV) + "<question>", f"<question>{TV}</question>"),
)
ASSIGNED = [DEPTH, assigned(DISTANCE, *DEPTH.row.frames)]
ANSWERS = {
    BED_OR_LAMP: ["bed", "bed", "lamp", "same"],
    TV: ["1.05 meters", "1.05 meters", "1.05 meters", ""],
    BED_OR_SOFA: [Reason.ABSENT_LABEL.phrase] * 4,
}


def numbers() -> tuple[dict[str, float], list[str]]:
    asked = episode.judge_questions(ROOMS, ASSIGNED, TEXTS, "geometry")
    earned = episode.questioner_rewards(asked, "geometry", alpha=0.1)
    questions = episode.distinct_questions(ASSIGNED, asked, budget(4, share=0.25))
    texts = [
        [f"<answer>{one}</answer>" if one else "Hm." for one in ANSWERS[question.text]]
        for question in questions
    ]
    scored = episode.score_answers(questions, texts, "geometry", alpha=0.1)
    asked_lengths = np.array([[[10, 1], [20, 1], [30, 1], [40, 0]]] * 2)
    solved_lengths = np.array([[[5, 1], [5, 1], [7, 0], [7, 0]]] * 3 + [[[99, 0]] * 4])
    found = metrics.evolution_metrics(
        ASSIGNED,
        asked,
        asked_lengths,
        earned,
        questions,
        texts,
        solved_lengths,
        scored,
        scored.rewards,
    )
    return found, [question.text for question in questions if question.weight > 0]


def test_the_numbers_of_a_step() -> None:
    """Of 8 questions 6 are valid, one names what is not there, one can't be read; two lamps and
    beds and four TVs ask the same. Three questions are posed and one place is padding.
    """
    found, posed = numbers()
    assert posed == [BED_OR_LAMP, TV, BED_OR_SOFA]
    expected = {
        "questioner/valid": 6 / 8,
        "questioner/unreadable": 1 / 8,
        "questioner/violations": 1 / 8,
        "questioner/duplicates": 4 / 8,
        "questioner/grounding": 6 / 8,
        "questioner/grounding_of_nothing": 0.0,
        "questioner/format": (3 + 2 + 0.5) / 8,
        "questioner/flat_groups": 0.0,
        "invalid/absent_label": 1 / 8,
        "invalid/empty_question": 1 / 8,
        "validity/depth_order_obj_obj": 2 / 4,
        "validity/distance_cam_obj": 1.0,
        "rows/depth_order_obj_obj": 1,
        "rows/distance_cam_obj": 1,
        "length/mean_questioner": 25.0,
        "length/max_questioner": 40.0,
        "rollout/unfinished_questioner": 1 / 4,
        "solver/questions": 3,
        "solver/valid_questions": 2,
        "questions/depth_order_obj_obj": 1,
        "questions/distance_cam_obj": 1,
        "accuracy/sampled": (0.5 + 0.75) / 2,
        "accuracy/sampled/depth_order_obj_obj": 0.5,
        "accuracy/sampled/distance_cam_obj": 0.75,
        "solver/flat_groups": 1 / 3,  # the explanation
        "solver/format": 11 / 12,
        "solver/unreadable": 1 / 12,
        "solver/violations": 0.0,
        "solver/two_answers": 1 / 3,
        "solver/three_answers": 1 / 3,
        "length/mean_solver": 6.0,
        "length/max_solver": 7.0,
        "rollout/unfinished_solver": 1 / 2,
        "reward/solver": (2 * 1.0 + 2 * 0.1 + 3 * 1.0 + 0.0 + 4 * (0.1 + 0.9 * 1.0)) / 12,
    }
    assert {name: found.get(name) for name in expected} == pytest.approx(expected, abs=1e-6)
    assert found["reward_std/solver"] > 0
    assert all(isinstance(value, float) for value in found.values())


def test_invalid_shares_sum_to_what_is_not_valid() -> None:
    found, _ = numbers()
    shares = [value for name, value in found.items() if name.startswith("invalid/")]
    assert sum(shares) == pytest.approx(1.0 - found["questioner/valid"])


def test_a_step_in_which_nothing_readable_was_asked_has_numbers() -> None:
    asked = episode.judge_questions(ROOMS, [DEPTH], [["Hm.", "So."]], "geometry")
    questions = episode.distinct_questions([DEPTH], asked, budget(2))
    texts = [["<answer>bed</answer>"] * 2] * 2
    scored = episode.score_answers(questions, texts, "geometry", alpha=0.1)
    lengths = np.ones((2, 2, 2), int)
    found = metrics.evolution_metrics(
        [DEPTH],
        asked,
        lengths[:1],
        np.zeros((1, 2)),
        questions,
        texts,
        lengths,
        scored,
        scored.rewards,
    )
    assert (found["solver/questions"], found["questioner/unreadable"]) == (0.0, 1.0)
    assert "accuracy/sampled" not in found


def test_speeds_are_tokens_over_seconds_of_their_phase() -> None:
    laps = {"time/rollout_questioner_s": 2.0, "time/rollout_solver_s": 4.0, "time/update_s": 3.0}
    laps["time/oracle_s"] = 1.0
    asked, solved = np.full((2, 3, 2), 10), np.full((3, 2, 2), 20)
    assert metrics.speeds(asked, solved, laps) == {
        "speed/questioner": 30.0,
        "speed/solver": 30.0,
        "speed/update": 60.0,
        "speed/step": 18.0,
    }


def test_without_a_posed_question_the_solvers_tokens_have_no_numbers() -> None:
    """An entropy of 0 would be an alarm. Losses, which are sums, and the Questioner's stay."""
    values = {"policy/entropy_solver": 0.0, "policy/nll_solver": 0.0, "loss/solver": 0.0}
    kept = {"policy/entropy_questioner": 0.5, "solver/format": 0.0, "loss/solver": 0.0}
    assert metrics.without_solvers_tokens(values | kept) == kept


def test_each_text_of_a_small_step_is_logged_once_and_padding_is_not(tmp_path: Path) -> None:
    asked = episode.judge_questions(ROOMS, ASSIGNED, TEXTS, "geometry")
    questions = episode.distinct_questions(ASSIGNED, asked, budget(4, share=0.25))
    assert [question.weight for question in questions] == [1, 1, 1, 0]
    none = np.zeros((4, 4))
    metrics.log_samples(
        Records(tmp_path, {}), 0, ROOMS, ASSIGNED, asked, none[:2], questions, [["Hm."]] * 4, none
    )
    logged = map(json.loads, (tmp_path / "samples.jsonl").read_text().splitlines())
    assert [(line["role"], line["question"]) for line in logged] == [
        ("questioner", BED_OR_LAMP),
        ("questioner", TV),
        ("solver", BED_OR_LAMP),
        ("solver", TV),
        ("solver", BED_OR_SOFA),
    ]
