"""In an image pair: in which direction a part of the room is, seen from the camera of one image."""

import jax
import jax.numpy as jnp

from geometry_jax import checks, ops
from geometry_jax.reasons import Reason
from geometry_jax.tasks.position_cam_cam import LEVEL_TOLERANCE, SAME_PLACE
from geometry_jax.types import MAX_LABELS, Query, Scene, TaskSpec, Verdict


def position_cam_reg(scene: Scene, query: Query) -> Verdict:
    """Bearing of a region in the gravity-levelled frame of the reference camera, eight bins.

    `labels` are the region's anchor labels in order of preference: the first one that the reference
    image (`frames[0]`) shows stands for the region. Where the image shows several objects of that
    label, all must lie in the same bin; the region's place is the mean of their box centres.
    """
    reference = query.frames[0]
    shown = jax.vmap(lambda label: checks.visible(scene, reference, label, query.min_visibility))(
        query.labels
    )
    found = shown.any(1)
    anchors = shown[ops.first_index(found)]  # (N,) bool
    pose = scene.world_from_camera[reference]
    camera = pose[:3, 3]
    offset = scene.obb_center - camera
    forward, rightward = ops.levelled(pose, offset)
    value, to_edge = ops.compass_bin(forward, rightward)
    first = value[ops.first_index(anchors)]
    count = jnp.maximum(anchors.sum(), 1)
    place = jnp.sum(jnp.where(anchors[:, None], scene.obb_center, 0.0), 0) / count
    ahead, aside = ops.levelled(pose, place - camera)
    nearest = jnp.min(jnp.where(anchors, ops.safe_norm(offset[:, :2]), jnp.inf))
    return checks.verdict(
        first,
        (~checks.has_frames(scene, query.frames[:1]), Reason.MISSING_FRAME),
        (~checks.has_poses(scene, query.frames[:1]), Reason.MISSING_POSE),
        (~found.any(), Reason.NOT_VISIBLE),
        (ops.looks_vertical(pose, LEVEL_TOLERANCE), Reason.LOOKING_VERTICAL),
        (nearest < SAME_PLACE, Reason.SAME_PLACE),
        (jnp.any(anchors & (value != first)), Reason.NOT_UNIQUE_IN_IMAGE),
        margin=checks.least(
            checks.angle_margin(jnp.min(jnp.where(anchors, to_edge, jnp.inf))),
            checks.share_margin(nearest, SAME_PLACE),
            checks.level_margin(pose, LEVEL_TOLERANCE),
        ),
        shown=checks.evidence(
            (camera, place),
            (*jnp.nonzero(anchors, size=MAX_LABELS, fill_value=-1)[0],),
            (ahead, aside),
        ),
    )


TASK = TaskSpec(
    "position_cam_reg",
    "image_pair",
    position_cam_reg,
    "choice",
    ("region_name",),
    ops.PLANAR,
    roles=("reference",),
)
