"""Options of a multiple-choice row: the truth among answers that could be meant, and are wrong."""

from collections.abc import Sequence

import numpy as np

from geometry_jax.tasks import TASK_IDS, TASKS
from spatialevo_jax.environment.conventions import Convention, two_decimals
from spatialevo_jax.environment.respond import Reply

OPTIONS = 4  # at most
LEAST_RATIO, MOST_RATIO = 1.4, 1.9  # between two numbers offered: none is right by rounding
SMALLEST = 0.10  # metres; a shorter length has no honest neighbours
LEVELS = {
    "easy": ("left", "right"),
    "medium": ("left", "right", "back"),
    "hard": ("front-left", "front-right", "back-left", "back-right"),
}
UNITS = {"metres": "meters", "centimetres": "cm", "square_metres": "square meters"}


def options(
    reply: Reply, value: float, rules: Convention, rng: np.random.Generator
) -> tuple[list[str], int]:
    """Options and the place of the truth among them; none where no honest ones can be made.

    Numbers ascend, and the truth is at any place equally often; the others come in random order.

    Args:
        reply: a valid one.
        value: the verdict's value.
    """
    spec = TASKS[TASK_IDS[reply.task]]
    if spec.answer in UNITS:
        scale = 100.0 if spec.answer == "centimetres" else 1.0
        return _numbers(value, scale, UNITS[spec.answer], reply.answer, rng)
    if spec.answer == "count":
        truth = round(value)
        start = int(rng.integers(max(1, truth - OPTIONS + 1), truth + 1))
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
    value: float, scale: float, unit: str, truth: str, rng: np.random.Generator
) -> tuple[list[str], int]:
    if value < SMALLEST:
        return [], -1
    place, ratio = int(rng.integers(OPTIONS)), rng.uniform(LEAST_RATIO, MOST_RATIO)
    found = [f"{two_decimals(scale * value * ratio ** (i - place))} {unit}" for i in range(OPTIONS)]
    found[place] = truth
    return found, place
