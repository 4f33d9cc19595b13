"""Standing at one object and facing a second: where is a third?"""

import math

import jax.numpy as jnp

from geometry_jax import checks, ops
from geometry_jax.reasons import Reason
from geometry_jax.types import Query, Scene, TaskSpec, Verdict

SAME_PLACE = 0.10  # metres; a shorter horizontal vector has no direction
BACK_FROM = math.radians(135.0)  # medium: beyond this the answer is `back`


def relative_direction_hard(scene: Scene, query: Query) -> Verdict:
    """Bearing of the queried object in the floor plane, from the standing place, relative to the
    facing direction.

    Eight bins of 45 degrees, or VSI-Bench's coarser answers by `difficulty`: easy, the side of the
    facing line; medium, `back` from 135 degrees, else the side; hard, the quadrant.
    """
    found = [checks.unique_object(scene, query.labels[i]) for i in range(3)]
    stand, face, asked = (index for index, _, _ in found)
    absent = found[0][1] | found[1][1] | found[2][1]
    several = found[0][2] | found[1][2] | found[2][2]
    origin = scene.obb_center[stand, :2]
    facing, towards = scene.obb_center[face, :2] - origin, scene.obb_center[asked, :2] - origin
    facing_length, towards_length = ops.safe_norm(facing), ops.safe_norm(towards)
    forward = jnp.sum(facing * towards)
    leftward = facing[0] * towards[1] - facing[1] * towards[0]
    planar, to_planar_edge = ops.compass_bin(forward, -leftward)
    turn = jnp.abs(jnp.arctan2(leftward, forward))  # 0 ahead, pi behind
    left = leftward > 0
    side = jnp.where(left, 4, 0)  # left, right
    to_line = jnp.minimum(turn, jnp.pi - turn)
    quadrant = jnp.where(forward > 0, jnp.where(left, 3, 1), jnp.where(left, 5, 7))
    behind = turn >= BACK_FROM
    value = jnp.stack([planar, side, jnp.where(behind, 6, side), quadrant])[query.difficulty]
    to_edge = jnp.stack(
        [
            to_planar_edge,
            to_line,
            jnp.where(behind, turn - BACK_FROM, jnp.minimum(turn, BACK_FROM - turn)),
            jnp.minimum(to_line, jnp.abs(turn - jnp.pi / 2)),
        ]
    )[query.difficulty]
    return checks.verdict(
        value,
        (absent, Reason.ABSENT_LABEL),
        (checks.same_labels(query.labels, 3), Reason.SAME_LABEL),
        (several, Reason.NOT_UNIQUE),
        ((facing_length < SAME_PLACE) | (towards_length < SAME_PLACE), Reason.SAME_PLACE),
        margin=checks.least(
            checks.angle_margin(to_edge),
            checks.share_margin(facing_length, SAME_PLACE),
            checks.share_margin(towards_length, SAME_PLACE),
        ),
        shown=checks.evidence(
            tuple(scene.obb_center[i] for i in (stand, face, asked)),
            (stand, face, asked),
            (jnp.arctan2(leftward, forward), facing_length, towards_length),
        ),
    )


TASK = TaskSpec(
    "relative_direction_hard",
    "scene",
    relative_direction_hard,
    "choice",
    ("positioning_label", "orienting_label", "querying_label"),
    ops.PLANAR,
)
