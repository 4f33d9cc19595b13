"""Choosing rows: shares, balance, and the game against the blind guessers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatialevo_jax.qa import blind, selection
from spatialevo_jax.qa.blind import Words
from spatialevo_jax.qa.selection import Group

few = settings(deadline=None, derandomize=True, database=None, max_examples=60)
ROOMS, EACH = 20, 60  # rooms, and questions of each


def biased(telling: float, seed: int = 0, task: str = "position_cam_obj") -> Group:
    """Two answers; with a share `telling` of the rows, the first label gives the answer away."""
    rng = np.random.default_rng(seed)
    count = ROOMS * EACH
    labels = rng.integers(0, 8, (count, 2)).astype(np.int32)
    answer = rng.integers(0, 2, count).astype(np.int32)
    tells = rng.random(count) < telling
    answer[tells] = labels[tells, 0] % 2
    room = np.repeat(np.arange(ROOMS), EACH).astype(np.int32)
    words = Words(labels, room, answer, 2)
    return Group(task, task, 1.0, words, answer, rng.permutation(count))


@few
@given(
    total=st.integers(0, 200),
    most=st.lists(st.integers(0, 60), min_size=1, max_size=8),
    data=st.data(),
)
def test_water_fills_up_to_each_rim_in_the_ratio_of_the_weights(
    total: int, most: list[int], data: st.DataObject
) -> None:
    weight = st.sampled_from((0.5, 1.0, 2.0))
    weights = data.draw(st.lists(weight, min_size=len(most), max_size=len(most)))
    found = selection.water_fill(total, most, weights)
    assert sum(found) == min(total, sum(most))
    assert all(0 <= a <= b for a, b in zip(found, most, strict=True))
    open_ = [(a, w) for a, b, w in zip(found, most, weights, strict=True) if a < b]
    levels = [a / w for a, w in open_]
    # Whoever is not full has as much as the weights say, but for whole numbers.
    assert all(a <= max(levels, default=0.0) * w + 1 for a, w in open_)
    if levels:
        assert max(levels) - min(levels) <= 2 / min(w for _, w in open_)


def test_water_by_hand() -> None:
    assert selection.water_fill(10, [100, 100], [1.0, 3.0]) == [3, 7]  # 2.5 and 7.5
    assert selection.water_fill(10, [2, 100, 100], [1.0, 1.0, 1.0]) == [2, 4, 4]


@few
@given(
    often=st.lists(st.integers(0, 80), min_size=1, max_size=7), share=st.sampled_from((0.3, 0.6))
)
def test_levelling_leaves_no_kind_more_than_its_share(often: list[int], share: float) -> None:
    kept = selection.level_off(np.array(often), share)
    assert (kept <= np.array(often)).all()
    assert kept.max() <= max(share * kept.sum(), 1)
    higher = np.minimum(often, kept.max() + 1)  # no higher level would do
    assert (higher == kept).all() or higher.max() > max(share * higher.sum(), 1)


def test_a_guesser_finds_what_the_words_give_away() -> None:
    group = biased(telling=1.0)
    scores, ease = blind.guess(group.words, np.arange(ROOMS * EACH), 0)
    assert scores.regression > 0.95 and scores.table > 0.95
    assert 0.45 < scores.majority < 0.6
    assert ease.mean() > 0.9


def test_a_guesser_of_coin_flips_is_right_half_the_time() -> None:
    group = biased(telling=0.0)
    scores, _ = blind.guess(group.words, np.arange(ROOMS * EACH), 0)
    assert abs(scores.regression - 0.5) < 0.06 and abs(scores.table - 0.5) < 0.06


def test_no_guesser_learns_from_the_room_that_it_is_tested_on() -> None:
    """Each room has an answer of its own: the same words elsewhere say nothing."""
    rng = np.random.default_rng(3)
    answer = np.repeat(rng.permutation(np.arange(ROOMS) % 2), EACH).astype(np.int32)
    room = np.repeat(np.arange(ROOMS), EACH).astype(np.int32)
    labels = rng.integers(0, 2, (len(room), 1)).astype(np.int32)
    scores, _ = blind.guess(Words(labels, room, answer, 2), np.arange(len(room)), 0)
    assert max(scores.regression, scores.table) < 0.65


def test_numbers_are_scored_by_relative_accuracy() -> None:
    truth = np.array([1.0, 1.0, 1.0, 2.0])
    guess = np.array([1.0, 1.12, 3.0, 1.0])
    # Within 5 to 50 %: all ten tolerances; 15 % and up; none; the last one alone.
    assert blind.relative_accuracy(guess, truth) == pytest.approx([1.0, 0.8, 0.0, 0.1])
    assert blind.best_constant(np.array([1.0, 1.0, 1.0, 9.0])) == pytest.approx(0.75)


def test_what_gives_answers_away_is_chosen_less() -> None:
    group = biased(telling=0.5)
    before, _ = blind.guess(group.words, np.arange(ROOMS * EACH), 0)
    chosen = selection.choose(group, 500)
    assert before.best > chosen.blind_bound
    assert chosen.scores is not None and chosen.scores.best <= chosen.blind_bound
    assert len(chosen.rows) >= 250 and len(set(chosen.rows.tolist())) == len(chosen.rows)
    # What is reported is what is there, and rooms dealt otherwise tell the same.
    assert blind.tested(group.words, chosen.rows, selection.HELD_BACK) == chosen.scores
    others = blind.tested(group.words, chosen.rows, range(500, 508))
    assert others.best <= chosen.blind_bound + 0.02


def test_rows_that_are_hard_for_one_deal_of_rooms_alone_are_not_taken_for_hard() -> None:
    """The words decide the answer in most rooms; in some they mislead."""
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 30, (ROOMS * EACH, 2)).astype(np.int32)
    answer = (labels[:, 0] > labels[:, 1]).astype(np.int32)
    answer ^= (rng.random(len(answer)) < 0.15).astype(np.int32)
    room = np.repeat(np.arange(ROOMS), EACH).astype(np.int32)
    order = rng.permutation(len(answer))
    group = Group(
        "position_cam_obj", "position_cam_obj", 1.0, Words(labels, room, answer, 2), answer, order
    )
    chosen = selection.choose(group, 400)
    assert len(chosen.rows) and chosen.scores is not None
    others = blind.tested(group.words, chosen.rows, range(500, 508))
    assert others.best <= chosen.blind_bound + 0.05


def test_answers_come_equally_often_and_rooms_in_turn() -> None:
    rng = np.random.default_rng(5)
    count = 900
    answer = rng.choice(3, count, p=[0.7, 0.2, 0.1]).astype(np.int32)
    room = rng.integers(0, ROOMS, count).astype(np.int32)
    words = Words(np.zeros((count, 1), np.int32), room, answer, 3)
    group = Group("x", "x", 1.0, words, answer, rng.permutation(count))
    chosen = selection.choose(group, 180)
    assert np.bincount(answer[chosen.rows]).tolist() == [60, 60, 60]
    per_room = np.bincount(room[chosen.rows[answer[chosen.rows] == 0]], minlength=ROOMS)
    assert per_room.max() - per_room.min() <= 1


def test_a_rare_answer_is_no_reason_to_have_few_rows() -> None:
    """Two answers share nearly all; the third is too rare to count."""
    answer = np.array([0] * 450 + [1] * 440 + [2] * 10, np.int32)
    room = (np.arange(900) % ROOMS).astype(np.int32)
    words = Words(np.zeros((900, 1), np.int32), room, answer, 3)
    group = Group("x", "x", 1.0, words, answer, np.arange(900))
    assert selection.bounds(group) == pytest.approx((0.6, 0.6))
    assert len(selection.choose(group, 900).rows) == 900


def test_what_one_group_cannot_give_the_others_do() -> None:
    small = Group(
        "small", "x", 1.0,
        Words(np.zeros((30, 1), np.int32), (np.arange(30) % 5).astype(np.int32),
              (np.arange(30) % 2).astype(np.int32), 2),
        (np.arange(30) % 2).astype(np.int32), np.arange(30),
    )  # fmt: skip
    chosen = selection.choose_all([small, biased(0.0), biased(0.0, seed=1)], 600)
    assert [len(one.rows) for one in chosen] == [30, 285, 285]
