"""The distance between two objects, surface to surface."""

from geometry_jax import checks
from geometry_jax.reasons import Reason
from geometry_jax.types import Query, Scene, TaskSpec, Verdict


def absolute_distance(scene: Scene, query: Query) -> Verdict:
    """Metres between the closest points of two unique objects; 0 when they touch."""
    first, no_first, many_first = checks.unique_object(scene, query.labels[0])
    second, no_second, many_second = checks.unique_object(scene, query.labels[1])
    ends = checks.gap(scene, first, second, query.use_points)
    distance = checks.gap_length(scene, first, second, query.use_points)
    return checks.verdict(
        distance,
        (no_first | no_second, Reason.ABSENT_LABEL),
        (query.labels[0] == query.labels[1], Reason.SAME_LABEL),
        (many_first | many_second, Reason.NOT_UNIQUE),
        shown=checks.evidence((ends[0], ends[1]), (first, second), (distance,)),
    )


TASK = TaskSpec(
    "absolute_distance", "scene", absolute_distance, "metres", ("object1_label", "object2_label")
)
