"""How many objects of one label the room has."""

from geometry_jax import checks
from geometry_jax.reasons import Reason
from geometry_jax.types import Query, Scene, TaskSpec, Verdict

LEAST = 2  # a count below this is not worth asking


def object_counting(scene: Scene, query: Query) -> Verdict:
    """The number of the scene's objects of the label: pool and truth come from the same list."""
    count = checks.instances(scene, query.labels[0]).sum()
    return checks.verdict(
        count,
        (count == 0, Reason.ABSENT_LABEL),
        (count < LEAST, Reason.TOO_FEW),
        shown=checks.evidence(numbers=(count,)),
    )


TASK = TaskSpec("object_counting", "scene", object_counting, "count", ("target_category",))
