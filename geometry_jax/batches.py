"""Many questions about many scenes: one device copy of all scenes, queries that name theirs.

A scene set is a `Scene` whose leaves have a first axis of S scenes, padded alike. Questions are
judged task by task, so that no question pays for another task's geometry, and each takes from its
scene only what it can need: the objects, and the two frames it names.
"""

import dataclasses

import jax
import jax.numpy as jnp

from geometry_jax import checks
from geometry_jax.tasks import TASKS
from geometry_jax.types import Oracle, Query, Scene, Verdict

PER_FRAME = frozenset(
    "world_from_camera heading frame_valid pose_valid image_size path_turn_xz seen visibility "
    "bbox_2d camera_location truncated occluded".split()
)


def focus(scenes: Scene, index: jax.Array, query: Query) -> tuple[Scene, Query]:
    """The one scene that a query asks about, with only the two frames that it names.

    Frames are renamed to 0 and 1; one that the scene does not have stays missing (-1).
    """
    known = jax.vmap(lambda frame: (frame >= 0) & (frame < scenes.frame_valid.shape[1]))(
        query.frames
    )
    rows = jnp.where(known, query.frames, 0)
    leaves = {}
    for field in dataclasses.fields(Scene):
        leaf = getattr(scenes, field.name)
        leaves[field.name] = leaf[index, rows] if field.name in PER_FRAME else leaf[index]
    same = query.frames[0] == query.frames[1]
    places = jnp.array([0, 1]) * ~same
    frames = jnp.where(known, places, -1).astype(jnp.int32)
    bound = query.label_frames
    to_place = jnp.where(
        bound < 0,
        bound,
        jnp.where(bound == query.frames[0], frames[0], jnp.where(bound == query.frames[1], frames[1], len(TASKS) + 1)),
    )
    return Scene(**leaves), dataclasses.replace(query, frames=frames, label_frames=to_place)
