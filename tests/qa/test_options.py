"""Options of a row: the truth among others that are wrong, and that do not tell it."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from geometry_jax.reasons import Reason
from geometry_jax.tasks import TASKS
from spatialevo_jax.environment.conventions import CORRECTED, REFERENCE, two_decimals
from spatialevo_jax.environment.respond import Reply
from spatialevo_jax.environment.wordings import Slots
from spatialevo_jax.qa.options import AHEAD, UNFAIR, options

SEEDS = 400


def reply(task: str, answer: str, level: str = "") -> Reply:
    slots = Slots(difficulty=level)
    return Reply(True, task, "", answer, Reason.OK, 1.0, slots, (), None)


def drawn(task: str, answer: str, seed: int, level: str = "") -> tuple[list[str], int]:
    return options(reply(task, answer, level), CORRECTED, np.random.default_rng(seed))


@pytest.mark.parametrize("task", [task for task in TASKS if task.answer == "choice"])
def test_the_truth_is_there_once_and_anywhere(task) -> None:
    for answer in task.choices:
        made = [drawn(task.name, answer, seed) for seed in range(SEEDS)]
        for found, place in made:
            assert found[place] == answer and len(set(found)) == len(found)
            assert set(found) <= set(task.choices)
        places = Counter(place for _, place in made)
        assert len(places) == len(made[0][0]) == min(4, len(task.choices))
        assert min(places.values()) > 0.6 * SEEDS / len(places)


@pytest.mark.parametrize("task", ["position_cam_obj", "position_cam_reg"])
def test_who_knows_that_things_seen_are_ahead_is_told_no_more(task: str) -> None:
    for answer in AHEAD:
        assert all(set(AHEAD) <= set(drawn(task, answer, seed)[0]) for seed in range(20))


def test_a_turn_is_offered_the_other_way_round_too() -> None:
    for answer in ("left", "right", "front-up"):
        assert {"left", "right"} <= set(drawn("motion_camera", answer, 0)[0])


def test_counts_are_offered_in_windows_that_are_the_same_for_each_of_their_numbers() -> None:
    windows = {str(truth): drawn("object_counting", str(truth), truth)[0] for truth in range(2, 14)}
    assert {tuple(one) for one in windows.values()} == {
        ("2", "3", "4", "5"),
        ("6", "7", "8", "9"),
        ("10", "11", "12", "13"),
    }
    assert all(truth in window for truth, window in windows.items())


def guessed(
    lengths: np.ndarray, pick: Callable[[np.ndarray], int], task: str = "absolute_distance"
) -> float:
    """How often a rule finds the truth among the options of some lengths."""
    right = []
    for seed, length in enumerate(lengths):
        found, place = drawn(task, f"{two_decimals(length)} meters", seed)
        right.append(pick(np.array([float(one.split()[0]) for one in found])) == place)
    return float(np.mean(right))


def test_lengths_do_not_give_themselves_away() -> None:
    """Of distances in rooms neither a place nor the one of the usual length is right often."""
    lengths = np.exp(np.random.default_rng(0).uniform(np.log(0.3), np.log(5.0), 2000))
    usual = np.log(np.median(lengths))
    assert guessed(lengths, lambda found: int(np.abs(np.log(found) - usual).argmin())) < 0.34
    for place in range(4):
        assert guessed(lengths, lambda found, place=place: place) < 0.29


def test_what_a_name_says_of_its_distance_from_the_camera_hardly_tells_the_option() -> None:
    """Things of a name are seen from about as far: half of them within two fifths of the usual."""
    usual = np.log(2.0)
    lengths = np.exp(np.random.default_rng(0).normal(usual, 0.5, 2000))

    def nearest(found: np.ndarray) -> int:
        return int(np.abs(np.log(found) - usual).argmin())

    assert guessed(lengths, nearest, "distance_cam_obj") < 0.36


def test_no_two_lengths_offered_are_the_same_by_rounding() -> None:
    for seed in range(SEEDS):
        found, _ = drawn("distance_cam_obj", "0.10 meters", seed)
        assert len(set(found)) == 4
    assert drawn("distance_cam_obj", "0.09 meters", 0) == ([], -1)


def test_all_lengths_are_printed_in_one_way() -> None:
    for seed in range(SEEDS):
        own = options(
            reply("absolute_distance", "2.5 meters"), REFERENCE, np.random.default_rng(seed)
        )
        assert not any(one.endswith("0 meters") and ".0" not in one for one in own[0])


@pytest.mark.parametrize(
    ("task", "answer"), [("object_size", "203.40 cm"), ("room_size", "19.80 square meters")]
)
def test_what_a_name_tells_has_no_options(task: str, answer: str) -> None:
    assert task in UNFAIR and drawn(task, answer, 0) == ([], -1)


@pytest.mark.parametrize(("level", "count"), [("easy", 2), ("medium", 3), ("hard", 4)])
def test_a_sentence_that_offers_its_answers_is_offered_these(level: str, count: int) -> None:
    found, _ = drawn("relative_direction_hard", "left" if count < 4 else "back-left", 0, level)
    assert len(found) == count
