"""In an image pair: where the camera of one image stood, seen from the other."""

import math

import jax

from geometry_jax import checks, ops
from geometry_jax.reasons import Reason
from geometry_jax.types import Query, Scene, TaskSpec, Verdict

SAME_PLACE = 0.10  # metres of horizontal displacement
LEVEL_TOLERANCE = math.radians(15.0)


def bearing_margin(to_edge: jax.Array, apart: jax.Array, world_from_camera: jax.Array) -> jax.Array:
    """Margin of a bearing: to the edge of its bin (radians), and to where there is none, because
    what is looked for is too near in the plane (metres) or the camera too steep.
    """
    return checks.least(
        checks.angle_margin(to_edge),
        checks.share_margin(apart, SAME_PLACE),
        checks.level_margin(world_from_camera, LEVEL_TOLERANCE),
    )


def position_cam_cam(scene: Scene, query: Query) -> Verdict:
    """Bearing of the target camera in the gravity-levelled frame of the reference camera, eight
    bins.
    """
    reference, target = query.frames[0], query.frames[1]
    pose = scene.world_from_camera[reference]
    camera, other = pose[:3, 3], scene.world_from_camera[target, :3, 3]
    forward, rightward = ops.levelled(pose, other - camera)
    apart = ops.safe_norm((other - camera)[:2])
    value, to_edge = ops.compass_bin(forward, rightward)
    return checks.verdict(
        value,
        (~checks.has_frames(scene, query.frames), Reason.MISSING_FRAME),
        (~checks.has_poses(scene, query.frames), Reason.MISSING_POSE),
        (reference == target, Reason.SAME_IMAGE),
        (ops.looks_vertical(pose, LEVEL_TOLERANCE), Reason.LOOKING_VERTICAL),
        (apart < SAME_PLACE, Reason.SAME_PLACE),
        margin=bearing_margin(to_edge, apart, pose),
        shown=checks.evidence((camera, other), numbers=(forward, rightward)),
    )


TASK = TaskSpec(
    "position_cam_cam",
    "image_pair",
    position_cam_cam,
    "choice",
    (),
    ops.PLANAR,
    roles=("reference", "target"),
)
