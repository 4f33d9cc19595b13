"""The curriculum: its formula by hand, and what counts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spatialevo_jax.scheduler import Scheduler, SchedulerState, accuracy_scheduler

TASKS = 3
EVERY = jnp.ones(TASKS, bool)
SETTINGS: dict[str, Any] = {"prior_accuracy": 0.35, "prior_count": 2.0, "floor": 0.05, "decay": 1.0}


def scheduler_with(**changes: Any) -> Scheduler:
    return accuracy_scheduler(TASKS, **SETTINGS | changes)


def after(
    scheduler: Scheduler,
    state: SchedulerState,
    *questions: tuple[int, float, bool, float],
) -> SchedulerState:
    """One step in which these questions (task, accuracy, valid, weight) were asked."""
    tasks, accuracies, valid, weights = zip(*questions, strict=True)
    return scheduler.update(
        state,
        jnp.array(tasks, jnp.int32),
        jnp.array(accuracies, jnp.float32),
        jnp.array(valid, bool),
        jnp.array(weights, jnp.float32),
    )


def test_tasks_never_asked_share_the_chances_equally() -> None:
    scheduler = scheduler_with()
    chances = scheduler.probabilities(scheduler.init(), EVERY)
    np.testing.assert_allclose(chances, [1 / 3] * 3, rtol=1e-6)


def test_chances_by_hand() -> None:
    """Task 0: ten questions at 0.9, (9 + 0.7) / 12, weight 0.191667; task 1: a hundred right, at
    the floor of 0.05; task 2: never asked, 0.65.
    """
    scheduler = scheduler_with()
    state = scheduler.init()
    for _ in range(10):
        state = after(scheduler, state, (0, 0.9, True, 1.0), (1, 1.0, True, 10.0))
    weights = np.array([1.0 - 9.7 / 12.0, 0.05, 0.65])
    np.testing.assert_allclose(
        scheduler.probabilities(state, EVERY), weights / weights.sum(), rtol=1e-5
    )


def test_only_valid_questions_count_towards_accuracy() -> None:
    scheduler = scheduler_with()
    valid = after(scheduler, scheduler.init(), (0, 1.0, True, 1.0))
    both = after(
        scheduler, scheduler.init(), (0, 1.0, True, 1.0), (0, 0.0, False, 1.0), (1, 0.5, False, 1.0)
    )
    np.testing.assert_array_equal(
        scheduler.probabilities(both, EVERY), scheduler.probabilities(valid, EVERY)
    )
    np.testing.assert_array_equal(both.asked_sum, [2.0, 1.0, 0.0])
    np.testing.assert_array_equal(both.valid_sum, [1.0, 0.0, 0.0])


def test_padding_of_weight_zero_leaves_no_trace() -> None:
    scheduler = scheduler_with()
    plain = after(scheduler, scheduler.init(), (1, 0.5, True, 1.0))
    padded = after(
        scheduler, scheduler.init(), (1, 0.5, True, 1.0), (1, 1.0, True, 0.0), (2, 1.0, True, 0.0)
    )
    jax.tree.map(np.testing.assert_array_equal, padded, plain)


def test_questions_about_one_task_in_one_step_add_up() -> None:
    scheduler = scheduler_with()
    state = after(scheduler, scheduler.init(), (2, 1.0, True, 1.0), (2, 0.25, True, 1.0))
    np.testing.assert_array_equal(state.accuracy_sum, [0.0, 0.0, 1.25])
    np.testing.assert_array_equal(state.valid_sum, [0.0, 0.0, 2.0])


def test_observations_fade_step_by_step() -> None:
    """Asked at steps 0, 1, 2 with decay 1/2: weights 1/4, 1/2, 1. Tasks not asked fade too."""
    scheduler = scheduler_with(decay=0.5)
    state = scheduler.init()
    for accuracy in (1.0, 0.0, 0.5):
        state = after(scheduler, state, (0, accuracy, True, 1.0))
    np.testing.assert_array_equal(state.accuracy_sum, [0.25 + 0.5, 0.0, 0.0])
    np.testing.assert_array_equal(state.valid_sum, [1.75, 0.0, 0.0])
    later = after(scheduler, state, (1, 0.0, False, 1.0))
    np.testing.assert_array_equal(later.valid_sum, [0.875, 0.0, 0.0])
    np.testing.assert_array_equal(later.asked_sum, [0.875, 1.0, 0.0])


def test_a_task_that_is_answered_worse_is_asked_more() -> None:
    scheduler = scheduler_with()
    state = after(
        scheduler, scheduler.init(), (0, 0.2, True, 4.0), (1, 0.5, True, 4.0), (2, 0.8, True, 4.0)
    )
    chances = np.asarray(scheduler.probabilities(state, EVERY))
    assert chances[0] > chances[1] > chances[2] > 0.0


def test_only_feasible_tasks_are_asked_and_a_row_without_any_gets_zeros() -> None:
    """Weights 0.05, 0.65, 0.65: the rows share them among what they can ask."""
    scheduler = scheduler_with()
    state = after(scheduler, scheduler.init(), (0, 1.0, True, 1000.0))
    feasible = jnp.array([[True, True, False], [False, False, True], [False, False, False]])
    expected = [[0.05 / 0.7, 0.65 / 0.7, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    np.testing.assert_allclose(scheduler.probabilities(state, feasible), expected, rtol=1e-5)


def test_where_no_task_is_in_need_all_are_asked_alike() -> None:
    """And still only those that can be."""
    scheduler = scheduler_with(floor=0.0, prior_accuracy=1.0)
    feasible = jnp.array([[True, True, True], [True, False, True], [False, False, False]])
    found = scheduler.probabilities(scheduler.init(), feasible)
    expected = [[1 / 3] * 3, [0.5, 0.0, 0.5], [0.0] * 3]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_with_a_floor_of_one_there_is_no_curriculum() -> None:
    scheduler = scheduler_with(floor=1.0)
    state = after(scheduler, scheduler.init(), (0, 1.0, True, 100.0), (1, 0.0, True, 100.0))
    np.testing.assert_allclose(scheduler.probabilities(state, EVERY), [1 / 3] * 3, rtol=1e-6)


def test_the_state_starts_with_three_buffers() -> None:
    """A donated buffer may appear in a state only once."""
    state = accuracy_scheduler(TASKS, **SETTINGS).init()
    assert len({leaf.unsafe_buffer_pointer() for leaf in state}) == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prior_accuracy", -0.1),
        ("prior_accuracy", 1.1),
        ("floor", 1.5),
        ("floor", float("nan")),
        ("decay", -0.5),
        ("decay", 2.0),
        ("prior_count", 0.0),
        ("prior_count", -1.0),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"scheduler\.{name}: expected .* got {value}"):
        scheduler_with(**{name: value})


def test_the_published_setting_by_hand() -> None:
    """No fading, invalid questions count as wrong, half right is perfect where the target says so.

    Task 0: 4 questions, accuracies 0.25 and 0.75 of valid ones reach 0.5 and 1 of its target, two
    are invalid: (0.5 + 1 + 0.7) / 6. Task 1 has no target: (0.75 + 0.7) / 3. Task 2 is new.
    """
    scheduler = accuracy_scheduler(TASKS, **SETTINGS, count_invalid=True, targets=(0.5, 1.0, 1.0))
    state = scheduler.init()
    for question in (
        (0, 0.25, True, 1.0),
        (0, 0.75, True, 1.0),
        (0, 0.9, False, 2.0),
        (1, 0.75, True, 1.0),
    ):
        state = after(scheduler, state, question)
    weights = np.array([1 - 2.2 / 6, 1 - 1.45 / 3, 0.65])
    np.testing.assert_allclose(
        scheduler.probabilities(state, EVERY), weights / weights.sum(), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("count", "mean", "weight"), [(0, 0.0, 0.65), (10, 0.9, 0.1917), (100, 1.0, 0.05)]
)
def test_published_weights_of_the_reference_values(count: int, mean: float, weight: float) -> None:
    scheduler = accuracy_scheduler(2, **SETTINGS, count_invalid=True)
    state = scheduler.init()
    if count:
        state = after(scheduler, state, (0, mean, True, float(count)))
    found = scheduler.probabilities(state, jnp.ones(2, bool))
    assert float(found[0] / found[1]) == pytest.approx(weight / 0.65, rel=1e-3)


@pytest.mark.parametrize("targets", [(0.5, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 1.5)])
def test_targets_out_of_range_are_refused(targets: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"scheduler\.targets: expected 3 numbers"):
        accuracy_scheduler(TASKS, **SETTINGS, targets=targets)


@pytest.mark.parametrize(
    ("count", "mean", "need"), [(0, 0.0, 0.65), (10, 0.9, 0.19167), (100, 1.0, 0.05)]
)
def test_published_reference_values(count: int, mean: float, need: float) -> None:
    """Of one task beside two that were never asked, whose need is 0.65 each."""
    scheduler = scheduler_with()
    state = scheduler.init()
    if count:
        state = after(scheduler, state, (0, mean, True, float(count)))
    chances = scheduler.probabilities(state, EVERY)
    np.testing.assert_allclose(chances[0], need / (need + 1.3), rtol=1e-4)


def test_without_a_curriculum_tasks_stay_equal() -> None:
    scheduler = scheduler_with(uniform=True)
    state = after(scheduler, scheduler.init(), (0, 1.0, True, 50.0))
    feasible = jnp.array([True, False, True])
    np.testing.assert_allclose(scheduler.probabilities(state, feasible), [0.5, 0.0, 0.5])
