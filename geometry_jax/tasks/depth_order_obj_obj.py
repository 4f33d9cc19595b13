"""In one image: which of two objects is closer to the camera."""

import jax.numpy as jnp

from geometry_jax import checks
from geometry_jax.reasons import Reason
from geometry_jax.types import Query, Scene, TaskSpec, Verdict

SAME_DEPTH = 0.15  # metres
SAME = -2.0  # the value that stands for "same": the others are label indices


def depth_order_obj_obj(scene: Scene, query: Query) -> Verdict:
    """The label whose seen middle has the smaller depth (camera z), or `same` within 0.15 m."""
    frame, least = query.frames[0], query.min_visibility
    first, no_first, many_first = checks.unique_in_frame(scene, frame, query.labels[0], least)
    second, no_second, many_second = checks.unique_in_frame(scene, frame, query.labels[1], least)
    depth = scene.camera_location[frame, :, 2]
    lead = depth[second] - depth[first]
    nearer = jnp.where(lead > 0, query.labels[0], query.labels[1])
    return checks.verdict(
        jnp.where(jnp.abs(lead) <= SAME_DEPTH, SAME, nearer),
        (~checks.has_frames(scene, query.frames[:1]), Reason.MISSING_FRAME),
        (query.labels[0] == query.labels[1], Reason.SAME_LABEL),
        (no_first | no_second, Reason.NOT_VISIBLE),
        (many_first | many_second, Reason.NOT_UNIQUE_IN_IMAGE),
        margin=checks.least(
            checks.share_margin(jnp.abs(lead), SAME_DEPTH),
            checks.visibility_margin(scene, frame, query.labels[0], least),
            checks.visibility_margin(scene, frame, query.labels[1], least),
        ),
        shown=checks.evidence(objects=(first, second), numbers=(depth[first], depth[second])),
    )


TASK = TaskSpec(
    "depth_order_obj_obj",
    "single_image",
    depth_order_obj_obj,
    "label",
    ("object1_label", "object2_label"),
    ("same",),
)
