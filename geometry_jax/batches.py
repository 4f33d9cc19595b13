"""Many questions about many scenes: one device copy of all scenes, queries that name theirs.

A scene set is a `Scene` whose leaves have a first axis of S scenes, padded alike, loaded once
(`jax.device_put`). Questions are judged task by task, so that no question pays for another task's
geometry, and each takes from its scene only what it can need.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from geometry_jax import checks, ops
from geometry_jax.tasks import TASKS
from geometry_jax.types import SCENE_AXES, Query, Scene, Verdict

PER_FRAME = frozenset(name for name, axes in SCENE_AXES.items() if axes.startswith("F"))
# Leaves that oracles search through: fetched once. The others are read at the place that is found,
# for which the compiler makes one lookup of two.
SEARCHED = frozenset({"label", "object_valid", "seen", "visibility"})
NOWHERE = 2  # a frame beyond the two that a focused scene has
SMALLEST, LARGEST = 64, 65_536  # questions of one call: powers of two, so that few are compiled


@dataclasses.dataclass(frozen=True)
class Answers:
    """Verdicts of B questions without their evidence; NumPy leaves, as in `Verdict`."""

    value: np.ndarray  # (B,) f32
    reason: np.ndarray  # (B,) i32
    margin: np.ndarray  # (B,) f32


@jax.jit
def with_gaps(scenes: Scene) -> Scene:
    """The scene set with its table of gaps between boxes, which questions then look up."""

    def table(scene: Scene) -> jax.Array:
        every = jnp.arange(scene.label.shape[0])

        def gap(first: jax.Array, second: jax.Array) -> jax.Array:
            ends = checks.box_gap(scene, first, second)
            return ops.safe_norm(ends[1] - ends[0])

        return jax.vmap(jax.vmap(gap, (None, 0)), (0, None))(every, every)

    return dataclasses.replace(scenes, box_gap=jax.lax.map(table, scenes))


def focus(scenes: Scene, index: jax.Array, query: Query) -> tuple[Scene, Query]:
    """The one scene that a query asks about, with only the two frames that it names.

    Frames are renamed to 0 and 1; one that the scene does not have stays missing (-1).
    """
    known = (query.frames >= 0) & (query.frames < scenes.frame_valid.shape[1])
    rows = jnp.where(known, query.frames, 0)

    def picked(name: str) -> jax.Array:
        leaf = getattr(scenes, name)
        place = (index, rows) if name in PER_FRAME else index
        return jax.lax.optimization_barrier(leaf[place]) if name in SEARCHED else leaf[place]

    first, second = query.frames[0], query.frames[1]
    frames = jnp.where(known, jnp.array([0, jnp.where(first == second, 0, 1)]), -1)

    def renamed(frame: jax.Array) -> jax.Array:
        named = jnp.where(frame == first, 0, jnp.where(frame == second, 1, NOWHERE))
        return jnp.where(frame < 0, frame, named)

    return (
        Scene(**{field.name: picked(field.name) for field in dataclasses.fields(Scene)}),
        dataclasses.replace(
            query,
            frames=frames.astype(jnp.int32),
            label_frames=jax.vmap(renamed)(query.label_frames),
        ),
    )


def judge_one(task: int, scenes: Scene, index: jax.Array, query: Query) -> Verdict:
    """One question of a task about one scene of a set; the query's own task id is not read."""
    return TASKS[task].oracle(*focus(scenes, index, query))


def answer_one(
    task: int, scenes: Scene, index: jax.Array, query: Query
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Value, reason and margin: nothing is worked out for evidence alone."""
    verdict = judge_one(task, scenes, index, query)
    return verdict.value, verdict.reason, verdict.margin


@functools.cache
def batched(one: Callable[..., Any], task: int) -> Callable[..., Any]:
    """`one` for a task, jitted over (scene set, (B,) scene indices, queries with B rows)."""
    return jax.jit(jax.vmap(functools.partial(one, task), in_axes=(None, 0, 0)))


def judge_by_task(scenes: Scene, index: np.ndarray, queries: Query) -> Verdict:
    """Verdicts of B questions in their order; NumPy leaves.

    Args:
        scenes: a scene set of S scenes, on the device.
        index: (B,) i32, 0 to S - 1, the scene that each question asks about.
        queries: NumPy leaves with B rows, tasks in any order.

    Raises:
        ValueError: no queries, or a task or a scene that does not exist.
    """
    return _by_task(judge_one, scenes, index, queries)


def answer_by_task(scenes: Scene, index: np.ndarray, queries: Query) -> Answers:
    """As `judge_by_task`, without evidence."""
    return Answers(*_by_task(answer_one, scenes, index, queries))


def _require_below(count: int, indices: np.ndarray, name: str) -> None:
    wrong = indices[(indices < 0) | (indices >= count)]
    if wrong.size:
        raise ValueError(f"{name}: expected 0 to {count - 1}, got {wrong[0]}.")


def _by_task(one: Callable[..., Any], scenes: Scene, index: np.ndarray, queries: Query) -> Any:
    task = np.asarray(queries.task_id)
    if len(task) == 0:
        raise ValueError("queries: expected at least one, got none.")
    # An index out of range would be clamped on the device, and its question answered all the same.
    _require_below(len(TASKS), task, "queries.task_id")
    _require_below(scenes.label.shape[0], index, "index")
    order = np.argsort(task.astype(np.uint8), kind="stable")  # of bytes: a radix sort
    starts = np.searchsorted(task[order], np.arange(len(TASKS) + 1))
    done = []
    for number, (start, stop) in enumerate(itertools.pairwise(starts.tolist())):
        for low in range(start, stop, LARGEST):
            rows = order[low : min(low + LARGEST, stop)]
            size = max(SMALLEST, 1 << (len(rows) - 1).bit_length())
            filled = np.concatenate([rows, np.full(size - len(rows), rows[0])])
            own = jax.tree.map(lambda leaf, rows=filled: leaf[rows], queries)
            done.append((rows, batched(one, number)(scenes, index[filled], own)))
    # Everything is under way by now; the results are waited for one by one.
    whole = jax.tree.map(
        lambda leaf: np.empty((len(task), *leaf.shape[1:]), leaf.dtype), done[0][1]
    )

    def put(leaf: np.ndarray, part: jax.Array, rows: np.ndarray) -> None:
        leaf[rows] = np.asarray(part)[: len(rows)]

    for rows, part in done:
        jax.tree.map(functools.partial(put, rows=rows), whole, part)
    return whole
