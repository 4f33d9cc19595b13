"""What can be guessed without looking: how well the words of a question alone tell its answer.

Three guessers, none of which sees an image or a room that it is tested on: the answer that is right
most often, a ridge regression on the labels that a question names, and a table that remembers the
answer of the very same words in other rooms. Choices are scored by accuracy, numbers by mean
relative accuracy. (A benchmark is only as good as its blind guessers are bad: arXiv 2511.04655
prunes by such scores.)
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from spatialevo_jax.evaluation.readings import EDGE, MRA_TOLERANCES

FOLDS = 5  # of rooms: a guesser is tested on those that it was not fitted to
RIDGE = 3.0  # rows that the prior towards the mean weighs
MOST_LABELS = 128  # that the regression tells apart, the most frequent ones
CONSTANTS = 64  # numbers tried for the best constant guess


@dataclasses.dataclass(frozen=True)
class Words:
    """What n questions say, and their answers, as arrays."""

    # (n, K) i32, labels in an order that says nothing, -1 where there is none
    labels: np.ndarray
    room: np.ndarray  # (n,) i32
    answer: np.ndarray  # (n,) f64 a number; i32 in [0, classes) a choice
    classes: int  # 0: the answers are numbers


@dataclasses.dataclass(frozen=True)
class Scores:
    """Mean scores of the guessers, 0 to 1."""

    majority: float
    regression: float
    table: float

    @property
    def best(self) -> float:
        return max(self.majority, self.regression, self.table)


def relative_accuracy(guess: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean relative accuracy of each guess, as `readings.mean_relative_accuracy`."""
    error = np.abs(guess - truth) / np.maximum(np.abs(truth), EDGE)
    return (error[..., None] <= np.array(MRA_TOLERANCES) + EDGE).mean(-1)


def folds(room: np.ndarray, deal: int) -> np.ndarray:
    """(n,) fold of each row: whole rooms, but rows where there is one room only. Each deal deals
    them anew: rows that are chosen against the guessers of one are hard for that one alone.
    """
    rng = np.random.default_rng(deal)
    rooms, place = np.unique(room, return_inverse=True)
    if len(rooms) > 1:
        return rng.permutation(np.arange(len(rooms)) % FOLDS)[place]
    return rng.permutation(np.arange(len(room)) % 2)


def _columns(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """(n, K) columns of a one-hot matrix, one block for each slot, and its width."""
    known, place, often = np.unique(labels, return_inverse=True, return_counts=True)
    rank = np.empty(len(known), np.int64)
    rank[np.argsort(-often, kind="stable")] = np.arange(len(known))
    width = min(len(known), MOST_LABELS)
    slot = np.minimum(rank[place.reshape(labels.shape)], width - 1)
    return slot + width * np.arange(labels.shape[1]), width * labels.shape[1]


def _targets(words: Words, rows: np.ndarray) -> np.ndarray:
    """(len(rows), classes) one-hot answers, or (len(rows), 1) logarithms."""
    if words.classes:
        return np.eye(words.classes)[words.answer[rows]]
    return np.log(np.maximum(words.answer[rows], 0.01))[:, None]


def _regressed(words: Words, chosen: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """(n, classes or 1) guesses for all rows, from the chosen ones of other folds."""
    columns, width = _columns(words.labels)
    design = np.zeros((len(chosen), width + 1))
    design[np.arange(len(chosen))[:, None], columns[chosen]] = 1.0
    design[:, width] = 1.0
    target = _targets(words, chosen)
    middle = target.mean(0)
    target = target - middle
    gram, moment = design.T @ design, design.T @ target
    guess = np.empty((len(fold), target.shape[1]))
    for one in np.unique(fold):
        inside = fold[chosen] == one
        a = gram - design[inside].T @ design[inside] + RIDGE * np.eye(width + 1)
        b = moment - design[inside].T @ target[inside]
        weights = np.linalg.solve(a, b)
        rows = np.flatnonzero(fold == one)
        guess[rows] = weights[columns[rows]].sum(1) + weights[width] + middle
    return guess


def _tabled(words: Words, chosen: np.ndarray, fold: np.ndarray, fallback: np.ndarray) -> np.ndarray:
    """As `_regressed`: mean answer of the same words in other folds; the fallback where nobody
    said them.
    """
    _, key = np.unique(words.labels, axis=0, return_inverse=True)
    key = key.reshape(-1)
    target = _targets(words, chosen)
    count = int(fold.max()) + 1
    sums = np.zeros((key.max() + 1, count, target.shape[1]))
    often = np.zeros((key.max() + 1, count, 1))
    np.add.at(sums, (key[chosen], fold[chosen]), target)
    np.add.at(often, (key[chosen], fold[chosen]), 1.0)
    total = (sums.sum(1, keepdims=True) - sums)[key, fold]
    seen = (often.sum(1, keepdims=True) - often)[key, fold]
    return np.where(seen > 0, total / np.maximum(seen, 1), fallback)


def _points(words: Words, guess: np.ndarray) -> np.ndarray:
    """(n,) score of each guess."""
    if words.classes:
        return (guess.argmax(1) == words.answer).astype(np.float64)
    return relative_accuracy(np.exp(guess[:, 0]), words.answer)


def tested(words: Words, chosen: np.ndarray, deals: Sequence[int]) -> Scores:
    """The mean scores of several deals on the chosen rows."""
    own = dataclasses.replace(
        words, labels=words.labels[chosen], room=words.room[chosen], answer=words.answer[chosen]
    )
    found = [guess(own, np.arange(len(chosen)), deal)[0] for deal in deals]
    return Scores(*np.mean([dataclasses.astuple(one) for one in found], axis=0).tolist())


def best_constant(answer: np.ndarray) -> float:
    """The score of the number that is right most often."""
    tried = np.unique(np.quantile(answer, np.linspace(0, 1, CONSTANTS)))
    return max(float(relative_accuracy(np.full(1, one), answer).mean()) for one in tried)


def guess(words: Words, chosen: np.ndarray, deal: int) -> tuple[Scores, np.ndarray]:
    """Scores of the guessers on the chosen rows, and how easily each of all rows is guessed by
    those that were fitted to the chosen ones.

    Args:
        deal: of rooms to `folds`.

    Returns:
        The scores, and (n,) ease in [0, 1].
    """
    fold = folds(words.room, deal)
    regressed = _regressed(words, chosen, fold)
    tabled = _tabled(words, chosen, fold, regressed)
    by_label, by_text = _points(words, regressed), _points(words, tabled)
    if words.classes:
        often = np.bincount(words.answer[chosen], minlength=words.classes)
        majority = float(often.max() / len(chosen))
        # How much of a vote the truth had: tells near misses from sure hits.
        vote = np.take_along_axis(tabled, words.answer[:, None].astype(np.int64), 1)[:, 0]
        ease = (by_label + by_text + np.clip(vote, 0.0, 1.0)) / 3
    else:
        majority = best_constant(words.answer[chosen])
        ease = (by_label + by_text) / 2
    scores = Scores(majority, float(by_label[chosen].mean()), float(by_text[chosen].mean()))
    return scores, ease
