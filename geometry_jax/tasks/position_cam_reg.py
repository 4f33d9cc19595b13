"""In an image pair: in which direction a part of the room is, seen from the camera of one image."""

import jax
import jax.numpy as jnp

from geometry_jax import checks, ops
from geometry_jax.reasons import Reason
from geometry_jax.tasks.position_cam_cam import LEVEL_TOLERANCE, SAME_PLACE, bearing_margin
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
    chosen = ops.first_index(found)
    anchors = shown[chosen]  # (N,) bool
    # A label that is preferred would be chosen as soon as it is seen.
    sight = jax.vmap(
        lambda label: checks.visibility_margin(scene, reference, label, query.min_visibility)
    )(query.labels)
    sight = jnp.min(jnp.where(jnp.arange(MAX_LABELS) <= chosen, sight, checks.ALWAYS_CLEAR))
    pose = scene.world_from_camera[reference]
    camera = pose[:3, 3]
    offset = scene.obb_center - camera
    forward, rightward = ops.levelled(pose, offset)
    apart = ops.safe_norm(offset[:, :2])
    first = ops.first_index(anchors)
    value, _ = ops.compass_bin(forward[first], rightward[first])
    # The angle between the bin's middle and the farthest of the objects: by arctan2, as an arccos
    # loses half its digits near the middle.
    middle = value * (ops.TAU / 8)
    along = forward * jnp.sin(middle) + rightward * jnp.cos(middle)
    across = forward * jnp.cos(middle) - rightward * jnp.sin(middle)
    off_middle = jnp.where(anchors & (apart > 0), jnp.abs(jnp.arctan2(across, along)), 0.0)
    to_edge = ops.TAU / 16 - off_middle.max()
    count = jnp.maximum(anchors.sum(), 1)
    place = jnp.sum(jnp.where(anchors[:, None], scene.obb_center, 0.0), 0) / count
    ahead, aside = ops.levelled(pose, place - camera)
    nearest = jnp.min(jnp.where(anchors, apart, jnp.inf))
    return checks.verdict(
        value,
        (~checks.has_frames(scene, query.frames[:1]), Reason.MISSING_FRAME),
        (~checks.has_poses(scene, query.frames[:1]), Reason.MISSING_POSE),
        (~found.any(), Reason.NOT_VISIBLE),
        (ops.looks_vertical(pose, LEVEL_TOLERANCE), Reason.LOOKING_VERTICAL),
        (nearest < SAME_PLACE, Reason.SAME_PLACE),
        ((to_edge < 0) & (count > 1), Reason.NOT_UNIQUE_IN_IMAGE),
        margin=checks.least(bearing_margin(to_edge, nearest, pose), sight),
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
