"""Many questions about many scenes: one device copy of all scenes, queries that name theirs.

A scene set is a `Scene` whose leaves have a first axis of S scenes, padded alike. Questions are
judged task by task, so that no question pays for another task's geometry, and each takes from its
scene only what it can need: the objects, and the two frames it names.
"""

import dataclasses

import jax
import jax.numpy as jnp

from geometry_jax import checks, ops
from geometry_jax.types import Query, Scene

PER_FRAME = frozenset(
    {
        *("world_from_camera", "heading", "frame_valid", "pose_valid", "image_size"),
        *("path_turn_xz", "seen", "visibility", "bbox_2d", "camera_location"),
        *("truncated", "occluded"),
    }
)
NOWHERE = 2  # a frame beyond the two that a focused scene has


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
        if name not in PER_FRAME:
            return leaf[index]
        # One gather a frame, so that the second one vanishes where nothing reads it.
        return jnp.stack([leaf[index, rows[0]], leaf[index, rows[1]]])

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
