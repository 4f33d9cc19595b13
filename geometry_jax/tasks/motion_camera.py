"""In an image pair: how the camera moved from the first image to the second."""

import itertools
import math

import jax
import jax.numpy as jnp

from geometry_jax import checks, ops
from geometry_jax.reasons import Reason
from geometry_jax.types import Query, Scene, TaskSpec, Verdict

TURN = math.radians(8.0)  # a turn of at least this is the motion
STILL = 0.02  # metres of translation below which nothing moved
SECOND_TO_FIRST = 0.35  # the second axis is named from this share of the first ...
SECOND_TO_ALL = 0.25  # ... and of the whole translation
LEVEL_TOLERANCE = math.radians(15.0)
NO_HEADING = math.radians(0.1)  # from straight down or up
AXES = (("right", "left"), ("front", "back"), ("up", "down"))  # lateral, depth, vertical: +, -


def _choices() -> tuple[str, ...]:
    names = [name for axis in AXES for name in axis]
    pairs = [
        f"{first}-{second}"
        for a, b in itertools.combinations(AXES, 2)
        for first in a
        for second in b
    ]
    return (*names, *pairs)


def name_translation(along: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(3,) metres to the right, ahead and up -> index into the task's choices, and its margin.

    The main axis is named, and the second one with it when it is large enough.
    """
    size = jnp.abs(along)
    main = ops.first_index(size == size.max())
    least = 2 - ops.first_index(size[::-1] == size.min())
    next_ = 3 - main - least
    negative = (along < 0).astype(jnp.int32)
    length = ops.safe_norm(along)
    share_main = size[next_] / jnp.maximum(size[main], 1e-9)
    share_all = size[next_] / jnp.maximum(length, 1e-9)
    two = (share_main >= SECOND_TO_FIRST) & (share_all >= SECOND_TO_ALL)
    low, high = jnp.minimum(main, next_), jnp.maximum(main, next_)
    pair_index = jnp.where(low == 0, high - 1, 2)  # lateral-depth, lateral-vertical, depth-vertical
    composite = 6 + 4 * pair_index + 2 * negative[low] + negative[high]
    margin = jnp.minimum(
        checks.share_margin(share_main, SECOND_TO_FIRST),
        # Where two axes are named, the second must also be clear of the third.
        jnp.where(two, (size[next_] - size[least]) / (checks.CLEAR_SHARE * length + 1e-9), jnp.inf),
    )
    return jnp.where(two, composite, 2 * main + negative[main]), margin


def motion_camera(scene: Scene, query: Query) -> Verdict:
    """The turn about world up, summed along the path, when it is at least 8 degrees; else the
    translation.

    Translation is read in the levelled frame of the first camera along lateral, depth and vertical;
    the main axis is named, and the second one with it when it is large enough. The order in an
    answer is lateral, depth, vertical. An end that looks straight down or up has no heading, and
    its turn no measure: such a pair is refused. A half turn is an edge between left and right.
    """
    first, second = query.frames[0], query.frames[1]
    turn = scene.heading[second] - scene.heading[first]
    pose = scene.world_from_camera[first]
    move = scene.world_from_camera[second, :3, 3] - pose[:3, 3]
    forward, rightward = ops.levelled(pose, move)
    translation, translation_margin = name_translation(jnp.stack([rightward, forward, move[2]]))
    length = ops.safe_norm(move)
    turning = jnp.abs(turn) >= TURN
    # Straight down there is no heading, and the one that is kept is of a frame before.
    ends = scene.world_from_camera[query.frames]
    no_heading = ops.looks_vertical(ends, NO_HEADING)
    turn_margin = checks.least(
        checks.angle_margin(jnp.abs(turn) - TURN),
        # Headings alone say left of a half turn as well as right: poses on the way may be few.
        checks.angle_margin(jnp.abs(turn) - jnp.pi),
        checks.level_margin(ends, NO_HEADING).min(),
    )
    translation_margin = checks.least(
        translation_margin,
        checks.share_margin(length, STILL),
        checks.level_margin(pose, LEVEL_TOLERANCE),
    )
    return checks.verdict(
        jnp.where(turning, jnp.where(turn > 0, 1, 0), translation),
        (~checks.has_frames(scene, query.frames), Reason.MISSING_FRAME),
        (~checks.has_poses(scene, query.frames), Reason.MISSING_POSE),
        (first == second, Reason.SAME_IMAGE),
        (no_heading.any(), Reason.LOOKING_VERTICAL),
        (~turning & (length < STILL), Reason.NO_MOTION),
        (~turning & ops.looks_vertical(pose, LEVEL_TOLERANCE), Reason.LOOKING_VERTICAL),
        margin=jnp.where(turning, turn_margin, checks.least(turn_margin, translation_margin)),
        shown=checks.evidence(
            (pose[:3, 3], scene.world_from_camera[second, :3, 3]),
            numbers=(turn, rightward, forward, move[2]),
        ),
    )


TASK = TaskSpec("motion_camera", "image_pair", motion_camera, "choice", (), _choices())
