"""In one image: how far an object is from the camera."""

from geometry_jax import boxes, checks, ops
from geometry_jax.reasons import Reason
from geometry_jax.types import Query, Scene, TaskSpec, Verdict


def distance_cam_obj(scene: Scene, query: Query) -> Verdict:
    """Metres from the camera's centre to the closest point of the object's oriented box; 0 inside
    it.
    """
    frame = query.frames[0]
    target, none, several = checks.unique_in_frame(
        scene, frame, query.labels[0], query.min_visibility
    )
    camera = scene.world_from_camera[frame, :3, 3]
    closest = boxes.closest_to_point(
        scene.obb_center[target],
        scene.obb_extent[target],
        checks.box_rotation(scene, target),
        camera,
    )
    distance = ops.safe_norm(closest - camera)
    return checks.verdict(
        distance,
        (~checks.has_frames(scene, query.frames[:1]), Reason.MISSING_FRAME),
        (~checks.has_poses(scene, query.frames[:1]), Reason.MISSING_POSE),
        (none, Reason.NOT_VISIBLE),
        (several, Reason.NOT_UNIQUE_IN_IMAGE),
        margin=checks.visibility_margin(scene, frame, query.labels[0], query.min_visibility),
        shown=checks.evidence((camera, closest), (target,), (distance,)),
    )


TASK = TaskSpec("distance_cam_obj", "single_image", distance_cam_obj, "metres", ("target_label",))
