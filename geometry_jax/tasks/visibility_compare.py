"""In an image pair: which image shows an object more clearly."""

import jax
import jax.numpy as jnp

from geometry_jax import checks
from geometry_jax.reasons import Reason
from geometry_jax.types import Query, Scene, TaskSpec, Verdict

SAME_SCORE = 0.05
SHARE_WEIGHT, AREA_WEIGHT = 0.75, 0.25
OCCLUDED_COST, TRUNCATED_COST = 0.03, 0.02


def visibility_compare(scene: Scene, query: Query) -> Verdict:
    """Compares 0.75 visibility + 0.25 image share - 0.03 occluded - 0.02 truncated; `same` within
    0.05.

    The object must be the only one of its label in each image that shows it; shown in neither,
    there is no answer.
    """

    def look(frame: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        target, none, several = checks.unique_in_frame(
            scene, frame, query.labels[0], query.min_visibility
        )
        box = scene.bbox_2d[frame, target]
        sides = jnp.maximum(box[2:] - box[:2], 0.0) / jnp.maximum(scene.image_size[frame], 1.0)
        score = (
            SHARE_WEIGHT * scene.visibility[frame, target]
            + AREA_WEIGHT * jnp.clip(sides[0] * sides[1], 0.0, 1.0)
            - OCCLUDED_COST * scene.occluded[frame, target]
            - TRUNCATED_COST * scene.truncated[frame, target]
        )
        return target, none, several, score

    target, none, several, score = jax.vmap(look)(query.frames)
    sight = jax.vmap(
        lambda frame: checks.visibility_margin(scene, frame, query.labels[0], query.min_visibility)
    )(query.frames)
    lead = score[0] - score[1]
    both = ~none[0] & ~none[1]
    by_score = jnp.where(jnp.abs(lead) <= SAME_SCORE, 2, jnp.where(lead > 0, 0, 1))
    return checks.verdict(
        jnp.where(both, by_score, jnp.where(none[1], 0, 1)),
        (~checks.has_frames(scene, query.frames), Reason.MISSING_FRAME),
        (query.frames[0] == query.frames[1], Reason.SAME_IMAGE),
        (several.any(), Reason.NOT_UNIQUE_IN_IMAGE),
        (none.all(), Reason.NOT_VISIBLE),
        margin=checks.least(
            jnp.where(both, checks.share_margin(jnp.abs(lead), SAME_SCORE), checks.ALWAYS_CLEAR),
            sight.min(),
        ),
        shown=checks.evidence(
            objects=(*jnp.where(none, -1, target),),
            numbers=(*jnp.where(none, 0.0, score),),
        ),
    )


TASK = TaskSpec(
    "visibility_compare",
    "image_pair",
    visibility_compare,
    "choice",
    ("target_label",),
    ("image1", "image2", "same"),
)
