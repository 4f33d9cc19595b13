"""Which of several candidates is closest to a target."""

import jax
import jax.numpy as jnp

from geometry_jax import checks, ops
from geometry_jax.reasons import Reason
from geometry_jax.types import Query, Scene, TaskSpec, Verdict

TIE_DISTANCE = 0.05  # metres; the best two must differ by more than this ...
TIE_SHARE = 0.05  # ... or by more than this share of the second best


def relative_distance(scene: Scene, query: Query) -> Verdict:
    """Slot 0 is the target, unique in the scene; slots 1 to 4 are candidates. The value is the
    winner's label.

    A candidate label with several instances counts by its nearest one, as in VSI-Bench. The best
    two closer than both tolerances: no clear answer.
    """
    target, absent, several = checks.unique_object(scene, query.labels[0])
    every = jnp.arange(scene.label.shape[0])
    ends = jax.vmap(lambda other: checks.gap(scene, target, other, query.use_points))(every)
    distance = ops.safe_norm(ends[:, 1] - ends[:, 0])

    def nearest(label: jax.Array) -> tuple[jax.Array, jax.Array]:
        own = jnp.where(checks.instances(scene, label), distance, jnp.inf)
        return own.min(), jnp.argmin(own)

    candidates = query.labels[1:]
    asked = candidates >= 0
    nearest_distance, nearest_object = jax.vmap(nearest)(candidates)
    order = jnp.argsort(nearest_distance)
    best, second = nearest_distance[order[0]], nearest_distance[order[1]]
    lead = second - best
    tie = (lead <= TIE_DISTANCE) & (lead <= TIE_SHARE * second)
    # The answer flips where the lead vanishes; how far that is, relative to the second best.
    margin = lead / jnp.maximum(second * checks.CLEAR_SHARE, 1e-6)
    winner = nearest_object[order[0]]
    return checks.verdict(
        candidates[order[0]],
        (absent | jnp.any(asked & jnp.isinf(nearest_distance)), Reason.ABSENT_LABEL),
        (asked.sum() < 2, Reason.MISSING_ROLE),
        (checks.same_labels(query.labels, 1 + asked.sum()), Reason.SAME_LABEL),
        (several, Reason.NOT_UNIQUE),
        (tie, Reason.TOO_CLOSE),
        margin=margin,
        shown=checks.evidence(
            (ends[winner, 0], ends[winner, 1]),
            (target, *jnp.where(asked, nearest_object, -1)),
            (*jnp.where(asked, nearest_distance, jnp.nan),),
        ),
    )


TASK = TaskSpec(
    "relative_distance",
    "scene",
    relative_distance,
    "label",
    ("target_label", "candidate1", "candidate2", "candidate3"),
)
