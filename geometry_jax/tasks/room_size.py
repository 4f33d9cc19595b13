"""How large the floor of the room is."""

import jax.numpy as jnp

from geometry_jax import checks
from geometry_jax.reasons import Reason
from geometry_jax.types import Query, Scene, TaskSpec, Verdict


def room_size(scene: Scene, query: Query) -> Verdict:
    """Square metres of the scene's floor polygon."""
    area = scene.floor_area
    return checks.verdict(
        area,
        (~(jnp.isfinite(area) & (area > 0)), Reason.MISSING_AREA),
        shown=checks.evidence(numbers=(area,)),
    )


TASK = TaskSpec("room_size", "scene", room_size, "square_metres")
