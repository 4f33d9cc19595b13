"""In one image: where one object is relative to another."""

import math

import jax.numpy as jnp

from geometry_jax import checks, ops
from geometry_jax.reasons import Reason
from geometry_jax.types import Query, Scene, TaskSpec, Verdict

STEEP = 0.5  # vertical over horizontal displacement from which an answer starts with up or down
OVERLAP = 1e-3  # metres
LEVEL_TOLERANCE = math.radians(15.0)
MAIN_AXES = ("right", "front", "left", "back")
CHOICES = (
    *ops.PLANAR,
    *(f"up-{axis}" for axis in MAIN_AXES),
    *(f"down-{axis}" for axis in MAIN_AXES),
    "up",
    "down",
)


def single_image_relative_direction(scene: Scene, query: Query) -> Verdict:
    """Slot 0 is the reference, slot 1 the target; front means farther from the camera than the
    reference.

    Displacement of the middles of what is seen, in the camera's gravity-levelled frame. When it
    rises or falls by more than half its horizontal length, the answer is up or down with the main
    horizontal axis.
    """
    frame, least = query.frames[0], query.min_visibility
    reference, no_reference, many_reference = checks.unique_in_frame(
        scene, frame, query.labels[0], least
    )
    target, no_target, many_target = checks.unique_in_frame(scene, frame, query.labels[1], least)
    pose = scene.world_from_camera[frame]
    seen = scene.camera_location[frame]
    ends = jnp.stack([seen[reference], seen[target]]) @ pose[:3, :3].T + pose[:3, 3]
    displacement = ends[1] - ends[0]
    forward, rightward = ops.levelled(pose, displacement)
    horizontal, rise = jnp.hypot(forward, rightward), displacement[2]
    planar, to_edge = ops.compass_bin(forward, rightward)
    sideways = jnp.abs(rightward) >= jnp.abs(forward)
    axis = jnp.where(sideways, jnp.where(rightward >= 0, 0, 2), jnp.where(forward >= 0, 1, 3))
    upright = horizontal < OVERLAP
    vertical = jnp.where(rise > 0, 0, 1)
    steep = jnp.abs(rise) > STEEP * horizontal
    value = jnp.where(upright, 16 + vertical, jnp.where(steep, 8 + 4 * vertical + axis, planar))
    to_axis_edge = jnp.abs(jnp.abs(jnp.arctan2(forward, rightward)) % (jnp.pi / 2) - jnp.pi / 4)
    slope_margin = checks.share_margin(jnp.abs(rise) / jnp.maximum(horizontal, OVERLAP), STEEP)
    bin_margin = checks.angle_margin(jnp.where(steep, to_axis_edge, to_edge))
    rise_margin = checks.share_margin(jnp.abs(rise), OVERLAP)
    nowhere = upright & (jnp.abs(rise) < OVERLAP)
    return checks.verdict(
        value,
        (~checks.has_frames(scene, query.frames[:1]), Reason.MISSING_FRAME),
        (~checks.has_poses(scene, query.frames[:1]), Reason.MISSING_POSE),
        (query.labels[0] == query.labels[1], Reason.SAME_LABEL),
        (no_reference | no_target, Reason.NOT_VISIBLE),
        (many_reference | many_target, Reason.NOT_UNIQUE_IN_IMAGE),
        (ops.looks_vertical(pose, LEVEL_TOLERANCE), Reason.LOOKING_VERTICAL),
        (nowhere, Reason.OVERLAP),
        margin=checks.least(
            jnp.where(upright, rise_margin, checks.least(slope_margin, bin_margin)),
            checks.share_margin(horizontal, OVERLAP),
            checks.level_margin(pose, LEVEL_TOLERANCE),
            checks.visibility_margin(scene, frame, query.labels[0], least),
            checks.visibility_margin(scene, frame, query.labels[1], least),
        ),
        shown=checks.evidence(
            (ends[0], ends[1], pose[:3, 3]), (reference, target), (forward, rightward, rise)
        ),
    )


TASK = TaskSpec(
    "single_image_relative_direction",
    "single_image",
    single_image_relative_direction,
    "choice",
    ("reference_label", "target_label"),
    CHOICES,
)
