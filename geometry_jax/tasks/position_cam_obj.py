"""In an image pair: in which direction an object is, seen from the camera of one image."""

from geometry_jax import checks, ops
from geometry_jax.reasons import Reason
from geometry_jax.tasks.position_cam_cam import LEVEL_TOLERANCE, SAME_PLACE, bearing_margin
from geometry_jax.types import Query, Scene, TaskSpec, Verdict


def position_cam_obj(scene: Scene, query: Query) -> Verdict:
    """Bearing of the middle of what the reference image shows of the object, in the
    gravity-levelled frame of its camera, eight bins.

    The object must be the only one of its label that the reference image shows. Only `frames[0]`,
    the reference, is looked at.
    """
    reference = query.frames[0]
    target, none, several = checks.unique_in_frame(
        scene, reference, query.labels[0], query.min_visibility
    )
    pose = scene.world_from_camera[reference]
    camera = pose[:3, 3]
    offset = pose[:3, :3] @ scene.camera_location[reference, target]
    forward, rightward = ops.levelled(pose, offset)
    apart = ops.safe_norm(offset[:2])
    value, to_edge = ops.compass_bin(forward, rightward)
    return checks.verdict(
        value,
        (~checks.has_frames(scene, query.frames[:1]), Reason.MISSING_FRAME),
        (~checks.has_poses(scene, query.frames[:1]), Reason.MISSING_POSE),
        (none, Reason.NOT_VISIBLE),
        (several, Reason.NOT_UNIQUE_IN_IMAGE),
        (ops.looks_vertical(pose, LEVEL_TOLERANCE), Reason.LOOKING_VERTICAL),
        (apart < SAME_PLACE, Reason.SAME_PLACE),
        margin=checks.least(
            bearing_margin(to_edge, apart, pose),
            checks.visibility_margin(scene, reference, query.labels[0], query.min_visibility),
        ),
        shown=checks.evidence((camera, camera + offset), (target,), (forward, rightward)),
    )


TASK = TaskSpec(
    "position_cam_obj",
    "image_pair",
    position_cam_obj,
    "choice",
    ("target_label",),
    ops.PLANAR,
    roles=("reference",),
)
