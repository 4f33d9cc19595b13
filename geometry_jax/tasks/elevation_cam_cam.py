"""In an image pair: whether one camera stood higher than the other."""

import jax.numpy as jnp

from geometry_jax import checks
from geometry_jax.reasons import Reason
from geometry_jax.types import Query, Scene, TaskSpec, Verdict

SAME_LEVEL = 0.15  # metres; heights closer than this have no order


def elevation_cam_cam(scene: Scene, query: Query) -> Verdict:
    """Whether the target camera (`frames[1]`) stands higher or lower than the reference
    (`frames[0]`).
    """
    reference, target = query.frames[0], query.frames[1]
    cameras = scene.world_from_camera[query.frames, :3, 3]
    rise = cameras[1, 2] - cameras[0, 2]
    return checks.verdict(
        jnp.where(rise > 0, 0.0, 1.0),
        (~checks.has_frames(scene, query.frames), Reason.MISSING_FRAME),
        (~checks.has_poses(scene, query.frames), Reason.MISSING_POSE),
        (reference == target, Reason.SAME_IMAGE),
        (jnp.abs(rise) <= SAME_LEVEL, Reason.SAME_LEVEL),
        margin=checks.share_margin(jnp.abs(rise), SAME_LEVEL),
        shown=checks.evidence((cameras[0], cameras[1]), numbers=(rise,)),
    )


TASK = TaskSpec(
    "elevation_cam_cam",
    "image_pair",
    elevation_cam_cam,
    "choice",
    (),
    ("higher", "lower"),
    roles=("reference", "target"),
)
