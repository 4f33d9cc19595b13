"""Options of a multiple-choice row: the truth among answers that could be meant, and are wrong."""

from collections.abc import Sequence

import numpy as np

from geometry_jax.tasks import TASK_IDS, TASKS
from spatialevo_jax.environment.conventions import Convention, two_decimals
from spatialevo_jax.environment.respond import Reply

OPTIONS = 4  # at most
LEAST_RATIO, MOST_RATIO = 1.4, 1.9  # between two numbers offered: none is right by rounding
SMALLEST = 0.10  # metres; a shorter length has no honest neighbours
FEWEST = 2  # that a question about a number of things can be right with: one is not counted
LEVELS = {
    "easy": ("left", "right"),
    "medium": ("left", "right", "back"),
    "hard": ("front-left", "front-right", "back-left", "back-right"),
}
UNITS = {"metres": "meters", "centimetres": "cm", "square_metres": "square meters"}


def options(reply: Reply, rules: Convention, rng: np.random.Generator) -> tuple[list[str], int]:
    """Options and the place of the truth among them; none where no honest ones can be made.

    Numbers ascend, and of lengths and areas the truth is at any place equally often; counts begin
    at `FEWEST` or above, which leaves a small one fewer places; the others come in random order.

    Args:
        reply: a valid one.
    """
    spec = TASKS[TASK_IDS[reply.task]]
    if spec.answer in UNITS:
        smallest = SMALLEST * (100.0 if spec.answer == "centimetres" else 1.0)
        return _numbers(reply.answer, smallest, UNITS[spec.answer], rng)
    if spec.answer == "count":
        truth = int(reply.answer)
        start = int(rng.integers(min(truth, max(FEWEST, truth - OPTIONS + 1)), truth + 1))
        return [str(start + i) for i in range(OPTIONS)], truth - start
    if spec.answer == "label":
        named = reply.slots.labels[1:] if len(reply.slots.labels) > 2 else reply.slots.labels
        return _shuffled([*named, *spec.choices], reply.answer, rng)
    pool = LEVELS.get(reply.slots.difficulty, rules.choices(reply.task))
    others = [one for one in pool if one != reply.answer]
    chosen = rng.permutation(len(others))[: OPTIONS - 1]
    return _shuffled([reply.answer, *(others[i] for i in chosen)], reply.answer, rng)


def _shuffled(found: Sequence[str], truth: str, rng: np.random.Generator) -> tuple[list[str], int]:
    mixed = [found[int(i)] for i in rng.permutation(len(found))]
    return mixed, mixed.index(truth)


def _numbers(
    truth: str, smallest: float, unit: str, rng: np.random.Generator
) -> tuple[list[str], int]:
    value = float(truth.split()[0])
    if value < smallest:
        return [], -1
    place, ratio = int(rng.integers(OPTIONS)), rng.uniform(LEAST_RATIO, MOST_RATIO)
    found = [f"{two_decimals(value * ratio ** (i - place))} {unit}" for i in range(OPTIONS)]
    found[place] = truth
    return found, place
