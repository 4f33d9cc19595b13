"""The curriculum: more practice for the tasks that the Solver gets wrong. State in, state out.

Sampling weight of task k, after the published rule (SpatialEvo, task-adaptive scheduler):

    smoothed_k = (accuracy_sum_k + p0 * c0) / (valid_sum_k + c0)
    weight_k   = max(floor, 1 - smoothed_k)

with two changes: only valid questions count (an invalid question says something about the
Questioner, not about the task), and old observations fade by `decay` a step, so the weights follow
the policy instead of its lifetime mean. The published rule itself is a setting: decay 1, invalid
questions counted as wrong, and for three tasks an accuracy of 0.5 that counts as perfect.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


# A NamedTuple, not a dataclass: the test run checks the types of this module's functions, and would
# check those of a dataclass's fields too, which JAX fills with placeholders.
class SchedulerState(NamedTuple):
    accuracy_sum: jax.Array  # (K,) f32, faded sum of accuracies of valid questions
    valid_sum: jax.Array  # (K,) f32, faded number of questions that count, by default valid ones
    asked_sum: jax.Array  # (K,) f32, faded number of all questions


class Scheduler(NamedTuple):
    init: Callable[[], SchedulerState]
    update: Callable[..., SchedulerState]
    probabilities: Callable[[SchedulerState, jax.Array], jax.Array]


def accuracy_scheduler(
    num_tasks: int,
    *,
    prior_accuracy: float,
    prior_count: float,
    floor: float,
    decay: float,
    uniform: bool = False,
    count_invalid: bool = False,
    targets: Sequence[float] | None = None,
) -> Scheduler:
    """Builds the trio of pure functions; K = `num_tasks`.

    Args:
        uniform: whether all tasks are equally likely, whatever is known of them.
        count_invalid: whether an invalid question counts, as one that was answered wrong.
        targets: (K,) accuracy of each task that counts as perfect; 1 without.

    Raises:
        ValueError: a prior, floor, decay or target outside its range.
    """
    wanted = jnp.ones(num_tasks) if targets is None else jnp.asarray(targets, jnp.float32)
    if wanted.shape != (num_tasks,) or not bool(((wanted > 0) & (wanted <= 1)).all()):
        raise ValueError(
            f"scheduler.targets: expected {num_tasks} numbers in (0, 1], got {targets}."
        )
    for name, value in (("prior_accuracy", prior_accuracy), ("floor", floor), ("decay", decay)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"scheduler.{name}: expected a number in [0, 1], got {value}.")
    if not 0.0 < prior_count < math.inf:
        raise ValueError(f"scheduler.prior_count: expected > 0, got {prior_count}.")

    def init() -> SchedulerState:
        # Three arrays, not one three times: a donated buffer may appear in a state only once.
        return SchedulerState(*(jnp.zeros(num_tasks, jnp.float32) for _ in range(3)))

    def update(
        state: SchedulerState,
        task_ids: Int[Array, " q"],
        accuracies: Float[Array, " q"],
        valid: Bool[Array, " q"],
        weights: Float[Array, " q"],
    ) -> SchedulerState:
        """One step's questions: mean accuracy over the group, whether valid, and a weight (0 for
        padding).
        """
        counted = weights if count_invalid else weights * valid
        accuracies = jnp.clip(accuracies * valid / wanted[task_ids], 0.0, 1.0)
        return SchedulerState(
            accuracy_sum=(decay * state.accuracy_sum).at[task_ids].add(counted * accuracies),
            valid_sum=(decay * state.valid_sum).at[task_ids].add(counted),
            asked_sum=(decay * state.asked_sum).at[task_ids].add(weights),
        )

    def probabilities(
        state: SchedulerState, feasible: Bool[Array, "... k"]
    ) -> Float[Array, "... k"]:
        """Chance of each task among the feasible ones, all alike where none is in need; a row
        without any gets zeros.
        """
        prior_sum = prior_accuracy * prior_count
        smoothed = (state.accuracy_sum + prior_sum) / (state.valid_sum + prior_count)
        need = jnp.ones_like(smoothed) if uniform else jnp.maximum(floor, 1.0 - smoothed)
        weight = jnp.where(feasible, need, 0.0)
        weight = jnp.where(weight.sum(-1, keepdims=True) > 0, weight, 1.0 * feasible)
        total = weight.sum(-1, keepdims=True)
        return weight / jnp.where(total > 0, total, 1.0)

    return Scheduler(init, update, probabilities)
