"""Many questions about many scenes: answered in their order, and none about what does not exist."""

import dataclasses

import jax
import numpy as np
import pytest

from geometry_jax import batches
from geometry_jax.tasks import TASK_IDS, TASKS
from geometry_jax.types import Query, Scene, leaf
from tests import random_rooms

ROOMS, COUNT = 3, 96


@pytest.fixture(scope="module")
def rooms() -> Scene:
    return jax.device_put(random_rooms.room_set(0, ROOMS))


@pytest.fixture(scope="module")
def asked(rooms: Scene) -> tuple[np.ndarray, Query]:
    """Two tasks alone, so that two programs are compiled."""
    index, queries = random_rooms.questions(rooms, 1, COUNT)
    tasks = np.resize([TASK_IDS["room_size"], TASK_IDS["object_counting"]], COUNT)
    return index, dataclasses.replace(queries, task_id=leaf(tasks.astype(np.int32)))


def test_questions_in_any_order_are_answered_in_that_order(
    rooms: Scene, asked: tuple[np.ndarray, Query]
) -> None:
    index, queries = asked
    order = np.random.default_rng(1).permutation(COUNT)
    shuffled = jax.tree.map(lambda leaf: leaf[order], queries)
    found = batches.answer_by_task(rooms, index[order], shuffled)
    verdicts = batches.judge_by_task(rooms, index, queries)
    sizes = (np.asarray(queries.task_id) == TASK_IDS["room_size"]) & (verdicts.reason == 0)
    assert sizes.sum() > COUNT / 4
    np.testing.assert_array_equal(verdicts.value[sizes], np.asarray(rooms.floor_area)[index][sizes])
    for name in ("value", "reason", "margin"):
        np.testing.assert_array_equal(getattr(found, name), getattr(verdicts, name)[order])
    assert verdicts.evidence.points.shape == (COUNT, 4, 3)


def test_no_questions_are_refused(rooms: Scene, asked: tuple[np.ndarray, Query]) -> None:
    none = jax.tree.map(lambda leaf: leaf[:0], asked[1])
    with pytest.raises(ValueError, match="queries: expected at least one, got none"):
        batches.answer_by_task(rooms, asked[0][:0], none)


@pytest.mark.parametrize("task", [-1, len(TASKS), 256])
def test_a_task_that_does_not_exist_is_refused(
    rooms: Scene, asked: tuple[np.ndarray, Query], task: int
) -> None:
    index, queries = asked
    tasks = np.array(queries.task_id)
    tasks[5] = task
    with pytest.raises(ValueError, match=f"queries.task_id: expected 0 to 15, got {task}"):
        batches.judge_by_task(rooms, index, dataclasses.replace(queries, task_id=leaf(tasks)))


@pytest.mark.parametrize("scene", [-1, ROOMS])
def test_a_scene_that_does_not_exist_is_refused(
    rooms: Scene, asked: tuple[np.ndarray, Query], scene: int
) -> None:
    index = asked[0].copy()
    index[5] = scene
    with pytest.raises(ValueError, match=f"index: expected 0 to 2, got {scene}"):
        batches.judge_by_task(rooms, index, asked[1])
