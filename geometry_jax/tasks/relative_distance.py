"""Which of several candidates is closest to a target."""

import jax
import jax.numpy as jnp

from geometry_jax import checks, ops
from geometry_jax.reasons import Reason
from geometry_jax.types import Query, Scene, TaskSpec, Verdict

TIE_DISTANCE = 0.05  # metres; the best two must differ by more than this ...
TIE_SHARE = 0.05  # ... or by more than this share of the second best
CLEAR_LEAD = 1e-3  # metres beyond a tie that are clear even between things that nearly touch


def relative_distance(scene: Scene, query: Query) -> Verdict:
    """Slot 0 is the target, unique in the scene; the others are two to five candidates. The
    value is the winner's label.

    A candidate label with several instances counts by its nearest one, as in VSI-Bench. The best
    two closer than both tolerances: no clear answer.
    """
    target, absent, several = checks.unique_object(scene, query.labels[0])
    every = jnp.arange(scene.label.shape[0])
    distance = jax.vmap(lambda other: checks.gap_length(scene, target, other, query.use_points))(
        every
    )

    candidates = query.labels[1:]
    asked = candidates >= 0
    own = jax.vmap(lambda label: checks.instances(scene, label))(candidates)  # (5, N)
    nearest_distance = jnp.min(jnp.where(own, distance, jnp.inf), axis=1)
    best = nearest_distance.min()
    first = ops.first_index(nearest_distance == best)
    others = jnp.arange(candidates.shape[0]) != first
    second = jnp.min(jnp.where(others, nearest_distance, jnp.inf))
    lead = second - best
    least_lead = jnp.minimum(TIE_DISTANCE, TIE_SHARE * second)
    nearest_object = ops.first_index(own & (distance == nearest_distance[:, None]))
    winner = nearest_object[first]
    ends = checks.gap(scene, target, winner, query.use_points)
    return checks.verdict(
        candidates[first],
        (absent | jnp.any(asked & jnp.isinf(nearest_distance)), Reason.ABSENT_LABEL),
        (asked.sum() < 2, Reason.MISSING_ROLE),
        (checks.same_labels(query.labels, 1 + asked.sum()), Reason.SAME_LABEL),
        (several, Reason.NOT_UNIQUE),
        (lead <= least_lead, Reason.TOO_CLOSE),
        margin=(lead - least_lead) / jnp.maximum(checks.CLEAR_SHARE * least_lead, CLEAR_LEAD),
        shown=checks.evidence(
            (ends[0], ends[1]),
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
