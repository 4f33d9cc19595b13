"""In an image pair: which of two objects has the longer longest side."""

import jax
import jax.numpy as jnp

from geometry_jax import checks
from geometry_jax.reasons import Reason
from geometry_jax.types import Query, Scene, TaskSpec, Verdict

SAME_SIZE = 0.05  # share of the longer side within which two sides have no order


def attribute_measurement(scene: Scene, query: Query) -> Verdict:
    """The label of the object whose oriented box has the longer longest side.

    A label is bound to the one object of it that the pair shows; with `label_frames`, that the
    frame it is bound to shows. Both images showing different objects of a label leave it ambiguous.
    """

    def bind(
        label: jax.Array, frame: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], jax.Array]:
        asked = (frame < 0) | (query.frames == frame)
        known = scene.seen[query.frames] & asked[:, None]
        # Of an object that both frames show, the better view decides whether it is seen.
        best = jnp.max(jnp.where(known, scene.visibility[query.frames], 0.0), axis=0)
        own = checks.instances(scene, label) & known.any(0)
        apart = checks.share_margin(best, query.min_visibility)
        return checks.only(own & (best >= query.min_visibility)), jnp.min(
            jnp.where(own, apart, checks.ALWAYS_CLEAR)
        )

    (target, none, several), sight = jax.vmap(bind)(query.labels[:2], query.label_frames)
    side = scene.obb_extent[target].max(-1)
    lead, longer = side[0] - side[1], side.max()
    share = jnp.abs(lead) / jnp.maximum(longer, 1e-6)
    return checks.verdict(
        jnp.where(lead > 0, query.labels[0], query.labels[1]),
        (~checks.has_frames(scene, query.frames), Reason.MISSING_FRAME),
        (query.frames[0] == query.frames[1], Reason.SAME_IMAGE),
        (query.labels[0] == query.labels[1], Reason.SAME_LABEL),
        (none.any(), Reason.NOT_VISIBLE),
        (several.any(), Reason.NOT_UNIQUE_IN_IMAGE),
        (share <= SAME_SIZE, Reason.SAME_SIZE),
        margin=checks.least(checks.share_margin(share, SAME_SIZE), sight.min()),
        shown=checks.evidence(
            (
                *checks.longest_side(scene, target[0]),
                *checks.longest_side(scene, target[1]),
            ),
            (target[0], target[1]),
            (side[0], side[1]),
        ),
    )


TASK = TaskSpec(
    "attribute_measurement",
    "image_pair",
    attribute_measurement,
    "label",
    ("object1_label", "object2_label"),
)
