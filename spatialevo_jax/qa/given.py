"""Questions that come as text, a Questioner's or anybody's, as candidates like our own."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from geometry_jax.reasons import Reason
from geometry_jax.tasks import TASK_IDS
from geometry_jax.types import MAX_LABELS
from spatialevo_jax.environment import regions
from spatialevo_jax.environment.conventions import CONVENTIONS
from spatialevo_jax.environment.labels import vocabulary
from spatialevo_jax.environment.respond import DIFFICULTIES, Request, read_request
from spatialevo_jax.qa.candidates import ANY_IMAGES, TWO_WAYS, UNORDERED, Candidates
from spatialevo_jax.qa.drawing import NONE
from spatialevo_jax.qa.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Given:
    """Candidates with the sentences that ask them; those that can't be read have their reason."""

    candidates: Candidates
    texts: tuple[str, ...]


def given_candidates(requests: Sequence[Request], places: Sequence[int], recipe: Recipe) -> Given:
    """Requests about the scenes of a block as candidates, not judged yet. Of several that ask the
    same, the first stays.

    Args:
        places: of each request's scene in the block.
    """
    rules = CONVENTIONS[recipe.convention]
    seen: set[tuple[object, ...]] = set()
    kept: list[tuple[int, ...]] = []
    texts = []
    for request, place in zip(requests, places, strict=True):
        reading = read_request(request, rules)
        slots, reason = reading.slots, reading.reason
        labels: list[int] = []
        if reason is Reason.OK:
            labels = _label_indices(request, slots.labels, rules.published)
            if len(labels) > MAX_LABELS:
                reason = Reason.TOO_MANY
        images = slots.images if reason is Reason.OK else ()
        frames = request.frames if reason is Reason.OK else ()
        said = slots.difficulty or request.difficulty
        level = DIFFICULTIES.index(said) if reason is Reason.OK else 0
        asks = _meaning(request.task, labels, frames, images, level)
        key = (place, request.question.lower()) if reason else (place, *asks)
        if key in seen:
            continue
        seen.add(key)
        texts.append(request.question)
        kept.append(
            (
                *(place, TASK_IDS[request.task]),
                *_padded(labels, MAX_LABELS, NONE),
                *_padded(request.frames, 2, NONE),
                *_padded(images, 2, 0),
                *(level, reason.value),
            )
        )
    table = np.array(kept, np.int32).reshape(-1, 14)
    count = len(table)
    return Given(
        Candidates(
            scene=table[:, 0],
            task=table[:, 1],
            labels=table[:, 2:8],
            phrase=np.full(count, NONE, np.int32),
            frames=table[:, 8:10],
            roles=table[:, 10:12],
            difficulty=table[:, 12],
            value=np.zeros(count, np.float32),
            reason=table[:, 13],
            margin=np.zeros(count, np.float32),
        ),
        tuple(texts),
    )


def _padded(values: Sequence[int], width: int, fill: int) -> tuple[int, ...]:
    return (*values, *([fill] * (width - len(values))))[:width]


def _label_indices(request: Request, labels: Sequence[str], published: bool) -> list[int]:
    """Places of labels in the scene's list; of a region those of its anchors."""
    names: Sequence[str] = labels
    if request.task == "position_cam_reg":
        found = regions.anchors(labels[0], vocabulary(request.record.labels, published))
        names = () if isinstance(found, Reason) else found
    return [request.record.labels.index(name) for name in names]


def _meaning(
    task: str, labels: Sequence[int], frames: Sequence[int], images: Sequence[int], level: int
) -> tuple[object, ...]:
    """Equal for questions that ask the same of a scene, whatever their words and their order."""
    if task in UNORDERED:
        labels = sorted(labels)
    if task == "relative_distance":
        labels = [*labels[:1], *sorted(labels[1:])]
    roles = [frames[image - 1] for image in images] or sorted(frames)
    if task in TWO_WAYS:
        roles = sorted(roles)
    if task in ANY_IMAGES:
        roles = []
    return (task, *labels, "at", *roles, level)
