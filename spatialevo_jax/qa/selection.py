"""Which candidates become rows: as many of each task as its weight says, answers balanced, rooms in
turn, and none that is too easily guessed blindly.

Rows are chosen by playing against the guessers of `blind`: they are fitted to what is chosen, and
what they guess easily is chosen less; the mean of their ease over the rounds decides (fictitious
play), so that no guesser does well on what is left. Rooms are dealt anew in every round; what
counts in the end are deals that no round saw.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from spatialevo_jax.qa import blind

LEAST_ROUNDS = 14  # of these before fewer rows are tried
ROUNDS = 24  # of choosing and guessing, at most
HELD_BACK = (101, 102, 103)  # deals of rooms that choosing never sees, and scores are told of
SHRINK = 0.75  # fewer rows are tried where the guessers stay too good
LEAST_GAIN = 0.005  # of a round; after less, fewer rows are tried
EASE_STEP = 0.02  # differences of ease that count
SHARE_SLACK = 0.10  # above equal shares: what one answer may have of all
BLIND_SLACK = 0.10  # above chance: what a blind guesser may score on choices
# What a blind guesser may score on numbers, by mean relative accuracy: any guess that is of the
# right size scores. Things of a kind are of a size, and rooms of a home are.
NUMBER_BOUNDS = {
    "absolute_distance": 0.50,
    "distance_cam_obj": 0.55,
    "object_size": 0.88,
    "room_size": 0.90,
}
# The same of choices between things: that beds are longer than chairs needs no picture.
CHOICE_BOUNDS = {"attribute_measurement": 0.80}
ERRORS = 2.0  # standard errors that a score may lie above its bound: few rows say little


@dataclasses.dataclass(frozen=True)
class Group:
    """Candidates that are balanced together: one task, in one form of its answers."""

    name: str
    task: str
    weight: float
    words: blind.Words
    kind: np.ndarray  # (n,) i32, answers that should come equally often
    order: np.ndarray  # (n,) i64, a random rank


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The rows of a group."""

    rows: np.ndarray  # (m,) ascending places in the group
    scores: blind.Scores | None  # None where there are none
    blind_bound: float
    most_share: float  # of the most frequent kind of answer
    share_bound: float


def water_fill(total: int, most: Sequence[int], weights: Sequence[float]) -> list[int]:
    """Whole numbers that sum to `total` (or all there is), at most `most` each, otherwise in the
    ratio of the weights.
    """
    most_, weights_ = np.asarray(most, np.int64), np.asarray(weights, np.float64)
    total = min(total, int(most_.sum()))
    low, high = 0.0, float(total) / max(float(weights_.min(initial=1.0)), 1e-9) + 1.0
    for _ in range(100):
        level = (low + high) / 2
        low, high = (
            (level, high) if np.minimum(level * weights_, most_).sum() < total else (low, level)
        )
    exact = np.minimum(high * weights_, most_)
    found = np.floor(exact + 1e-9).astype(np.int64)
    # The rest goes to the largest remainders, the first ones where they are equal.
    rest = total - int(found.sum())
    for place in np.argsort(-np.where(found < most_, exact - found, -1.0), kind="stable")[:rest]:
        found[place] += 1
    return found.tolist()


def common(kinds: np.ndarray) -> int:
    """How many different answers come at least half as often as if all were equally frequent."""
    _, often = np.unique(kinds, return_counts=True)
    return int((often >= 0.5 * len(kinds) / max(len(often), 1)).sum())


def bounds(group: Group) -> tuple[float, float]:
    """Most share of one kind of answer, and most score of a blind guesser."""
    share = min(1.0, 1.0 / max(common(group.kind), 1) + SHARE_SLACK)
    if not group.words.classes:
        return share, NUMBER_BOUNDS[group.task]
    even = min(1.0, 1.0 / max(common(group.words.answer), 1) + BLIND_SLACK)
    return share, CHOICE_BOUNDS.get(group.task, even)


def with_error(bound: float, rows: int) -> float:
    """A bound on a score that is measured on so many rows."""
    return min(1.0, bound + ERRORS * math.sqrt(bound * (1.0 - bound) / max(rows, 1)))


def level_off(often: np.ndarray, share: float) -> np.ndarray:
    """How many of each kind may be taken at most, so that none is more than its share of all."""
    low, high = 0, int(often.max(initial=0))
    while low < high:
        level = (low + high + 1) // 2
        if level <= max(share * np.minimum(often, level).sum(), 1.0):
            low = level
        else:
            high = level - 1
    return np.minimum(often, low)


def _by_kind(
    group: Group, target: int, ease: np.ndarray, share_bound: float
) -> tuple[np.ndarray, float]:
    """At most `target` rows with balanced kinds, the least easy first, rooms in turn."""
    kinds, place = np.unique(group.kind, return_inverse=True)
    often = np.bincount(place, minlength=len(kinds))
    counts = water_fill(target, level_off(often, share_bound).tolist(), [1.0] * len(kinds))
    step = np.floor(ease / EASE_STEP).astype(np.int64)
    turn = _turns(group, place)
    order = np.lexsort((group.order, turn, step, place))
    within = np.empty(len(order), np.int64)
    starts = np.concatenate([[0], np.cumsum(often)[:-1]])
    within[order] = np.arange(len(order)) - starts[place[order]]
    rows = np.flatnonzero(within < np.array(counts)[place])
    share = max(counts) / max(sum(counts), 1)
    return rows, float(share)


def _turns(group: Group, kind: np.ndarray) -> np.ndarray:
    """(n,) how many rows of the same room and kind come before each in the random order."""
    order = np.lexsort((group.order, group.words.room, kind))
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(group.words.room[order]) != 0) | (np.diff(kind[order]) != 0)
    starts = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
    turns = np.empty(len(order), np.int64)
    turns[order] = np.arange(len(order)) - starts
    return turns


def choose(group: Group, target: int) -> Chosen:
    """As many rows as wanted, or as the bounds allow."""
    share_bound, blind_bound = bounds(group)
    ease = np.zeros(len(group.order))
    while target > 0 and len(group.order):
        total, before, rows = np.zeros(len(group.order)), np.inf, np.zeros(0, np.int64)
        for number in range(1, ROUNDS + 1):
            rows, share = _by_kind(group, target, ease, share_bound)
            scores, easy = blind.guess(group.words, rows, number)
            allowed = with_error(blind_bound, len(rows))
            if scores.best <= allowed:
                scores = blind.tested(group.words, rows, HELD_BACK)
            if scores.best <= allowed:
                return Chosen(rows, scores, allowed, share, share_bound)
            if number > LEAST_ROUNDS and scores.best > before - LEAST_GAIN:
                break  # another round will hardly help
            before = min(before, scores.best)
            total += easy
            ease = total / number
        target = int(SHRINK * min(target, len(rows)))
    return Chosen(np.zeros(0, np.int64), None, blind_bound, 0.0, share_bound)


def choose_all(groups: Sequence[Group], count: int) -> list[Chosen]:
    """Rows of all groups, `count` together, or as many as the bounds allow."""
    most = [len(group.order) for group in groups]
    chosen: list[Chosen | None] = [None] * len(groups)
    while True:
        wanted = water_fill(count, most, [group.weight for group in groups])
        for place, group in enumerate(groups):
            one = chosen[place]
            if one is None or len(one.rows) != wanted[place]:
                chosen[place] = one = choose(group, wanted[place])
            if len(one.rows) < wanted[place]:
                most[place] = len(one.rows)
        found = [one for one in chosen if one is not None]
        if sum(len(one.rows) for one in found) == min(count, sum(most)):
            return found
