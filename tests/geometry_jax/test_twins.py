"""Every oracle against its float64 twin, and the laws that all of them obey, on random rooms."""

import collections

import jax
import numpy as np
import pytest

from geometry_jax import batches
from geometry_jax.reasons import Reason
from geometry_jax.tasks import TASKS, judge
from geometry_jax.types import Query, Scene
from tests import random_rooms
from tests.reference import oracles

ROOMS, BATCH, BATCHES = 64, 12_800, 8
UNDECIDED = 1e-4  # a margin below which float32 may decide otherwise


@jax.jit
def judge_batch(
    scenes: Scene, index: jax.Array, queries: Query
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Reason, value and margin of each question."""

    def one(i: jax.Array, query: Query) -> tuple[jax.Array, jax.Array, jax.Array]:
        verdict = judge(*batches.focus(scenes, i, query))
        return verdict.reason, verdict.value, verdict.margin

    return jax.vmap(one)(index, queries)


@pytest.fixture(scope="module")
def rooms() -> Scene:
    return random_rooms.room_set(0, ROOMS)


def judged(scenes: Scene, index: np.ndarray, queries: Query) -> tuple[np.ndarray, ...]:
    reason, value, margin = jax.device_get(judge_batch(batches.with_gaps(scenes), index, queries))
    return reason, value, margin


def agrees(task: int, found: float, expected: str | float) -> bool:
    spec = TASKS[task]
    if isinstance(expected, float):
        return abs(found - expected) <= 1e-4
    if spec.answer == "label":  # "same" is below all labels
        return found < 0
    return spec.choices[int(found)] == expected


def test_oracles_agree_with_their_float64_twins(rooms: Scene) -> None:
    """On more than a hundred thousand questions, but where the margin says that it is undecided."""
    twins = [oracles.Room(rooms, index) for index in range(ROOMS)]
    answered, refused = collections.Counter(), collections.Counter()
    wrong, apart = [], 0
    for seed in range(BATCHES):
        index, queries = random_rooms.questions(rooms, seed, BATCH)
        reasons, values, margins = judged(rooms, index, queries)
        for row, (task, asked) in enumerate(oracles.questions(queries)):
            name = TASKS[task].name
            expected = oracles.TWINS[name](twins[index[row]], asked)
            reason = Reason(int(reasons[row]))
            (answered if reason is Reason.OK else refused)[name] += 1
            if reason is not expected.reason or (
                reason is Reason.OK and not agrees(task, float(values[row]), expected.value)
            ):
                if expected.margin >= UNDECIDED:
                    wrong.append((name, asked, reason.name, float(values[row]), expected))
            elif reason is Reason.OK:
                ours = float(margins[row])
                apart += abs(ours - min(expected.margin, 1e6)) > 0.02 * max(1.0, ours)
    assert not wrong, (len(wrong), collections.Counter(one[0] for one in wrong), wrong[:5])
    assert apart < 20, apart  # the margins agree too, but where two edges meet
    assert sum(answered.values()) + sum(refused.values()) >= 100_000
    assert all(answered[task.name] > 1000 for task in TASKS), answered
    assert all(refused[task.name] > 100 for task in TASKS), refused
