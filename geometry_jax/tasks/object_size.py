"""How long the longest side of an object is."""

from geometry_jax import checks
from geometry_jax.reasons import Reason
from geometry_jax.types import Query, Scene, TaskSpec, Verdict


def object_size(scene: Scene, query: Query) -> Verdict:
    """Metres along the longest side of the unique object's oriented box."""
    target, absent, several = checks.unique_object(scene, query.labels[0])
    longest = scene.obb_extent[target].max()
    return checks.verdict(
        longest,
        (absent, Reason.ABSENT_LABEL),
        (several, Reason.NOT_UNIQUE),
        shown=checks.evidence((*checks.longest_side(scene, target),), (target,), (longest,)),
    )


TASK = TaskSpec("object_size", "scene", object_size, "centimetres", ("object_label",))
