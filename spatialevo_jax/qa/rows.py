"""Chosen candidates -> rows: worded, asked through the whole request path, and written down only if
the environment reads back what was meant and answers what was planned.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geometry_jax.checks import ALWAYS_CLEAR
from geometry_jax.reasons import Reason
from geometry_jax.scene_io import SceneRecord
from geometry_jax.tasks import TASKS
from spatialevo_jax.environment.conventions import CONVENTIONS
from spatialevo_jax.environment.identity import Same, scene_hash
from spatialevo_jax.environment.labels import spoken
from spatialevo_jax.environment.respond import (
    DIFFICULTIES,
    Reply,
    Request,
    answer_requests,
    answer_text,
)
from spatialevo_jax.environment.wordings import Slots
from spatialevo_jax.qa import wording
from spatialevo_jax.qa.candidates import UNORDERED, Candidates, absent_labels
from spatialevo_jax.qa.groups import clearness
from spatialevo_jax.qa.options import options
from spatialevo_jax.qa.rationale import rationale
from spatialevo_jax.qa.recipe import Recipe
from spatialevo_jax.qa.views import Lists, view

Row = dict[str, Any]  # the fields of `FIELDS`, as JSON has them
FIELDS = (
    *("id", "split", "task", "modality", "convention", "scene_id", "images", "question", "answer"),
    *("options", "correct", "valid", "reason", "margin", "difficulty", "labels", "roles", "level"),
    *("rationale", "evidence", "scene_hash"),
)
FRAME_DECIMALS = 4


@dataclasses.dataclass(frozen=True)
class Placed:
    """A scene of a set: its record and the folder that image paths are relative to."""

    record: SceneRecord
    root: Path


def make_rows(
    placed: Sequence[Placed],
    chosen: Candidates,
    recipe: Recipe,
    split: str,
    block: int,
    texts: Sequence[str] = (),
    lists: Sequence[Lists | None] = (),
) -> list[Row]:
    """The rows of a block, scene by scene.

    Args:
        texts: the sentences of the candidates, where they came with some; else ours are used.
        lists: of each scene, as in `view`.

    Raises:
        RuntimeError: a question is not read back as it was meant: a fault of ours.
    """
    rng = np.random.default_rng((recipe.seed, 2, block, split == "train"))
    draws = rng.random((len(chosen), 2))
    turns = rng.permuted(np.tile(np.arange(4), (len(chosen), 1)), axis=1)
    asked = [
        _worded(placed, chosen, i, recipe, draws[i], turns[i])
        if not texts
        else (_request(placed, chosen, i, texts[i]), None)
        for i in range(len(chosen))
    ]
    requests = [request for request, _ in asked]
    published = CONVENTIONS[recipe.convention].published

    def answered(some: list[Request]) -> list[Reply]:
        return answer_requests(
            some, convention=recipe.convention, strict_margin=recipe.strict, evidence=True
        )

    replies = answered(requests)
    again = [
        i
        for i, ((request, slots), reply) in enumerate(zip(asked, replies, strict=True))
        if slots is not None
        and chosen.reason[i] == Reason.OK
        and not _is_meant(request, slots, reply)
    ]
    for i, reply in zip(
        again, answered([_plainly(asked[i], published) for i in again]), strict=True
    ):
        replies[i], asked[i] = reply, (_plainly(asked[i], published), asked[i][1])
    rows = []
    for i, ((request, slots), reply) in enumerate(zip(asked, replies, strict=True)):
        meant = reply.slots if slots is None else slots
        _check(request, meant, reply, float(chosen.value[i]), int(chosen.reason[i]), recipe)
        scene = int(chosen.scene[i])
        own = lists[scene] if lists else None
        shown = view(request.record, recipe.scene_images, published, own).shown
        rows.append(row_of(request, reply, placed[scene].root, recipe, split, shown))
    return rows


def _request(placed: Sequence[Placed], chosen: Candidates, i: int, question: str) -> Request:
    """A candidate as the request that a sentence makes of it."""
    task = TASKS[int(chosen.task[i])].name
    frames = tuple(int(frame) for frame in chosen.frames[i] if frame >= 0)
    level = DIFFICULTIES[int(chosen.difficulty[i])]
    return Request(placed[int(chosen.scene[i])].record, task, question, frames, level)


def _worded(
    placed: Sequence[Placed],
    chosen: Candidates,
    i: int,
    recipe: Recipe,
    draw: np.ndarray,
    turn: np.ndarray,
) -> tuple[Request, Slots]:
    """A candidate in our words, and the slots that they must be read back to."""
    record = placed[int(chosen.scene[i])].record
    task = TASKS[int(chosen.task[i])].name
    indices = [int(label) for label in chosen.labels[i] if label >= 0]
    region = False
    if chosen.phrase[i] >= 0:
        published = CONVENTIONS[recipe.convention].published
        name = view(record, recipe.scene_images, published).phrases[int(chosen.phrase[i])]
        own = [label for label in record.labels if spoken(label) == name]
        region = not own
        labels = (own[0] if own else name,)
    else:
        names = (*record.labels, *absent_labels(record.labels))
        labels = tuple(names[index] for index in indices)
    if task in UNORDERED and turn[0] > turn[1]:
        labels = labels[::-1]
    if task == "relative_distance":
        others = [label for _, label in sorted(zip(turn[:3], labels[1:], strict=True))]
        labels = (labels[0], *others)
    images = tuple(int(image) for image in chosen.roles[i] if image)
    slots = Slots(labels, images, DIFFICULTIES[int(chosen.difficulty[i])])
    question = wording.word(task, slots, region, recipe.wordings, (draw[0], draw[1]))
    return _request(placed, chosen, i, question), slots


def _check(
    request: Request, slots: Slots, reply: Reply, value: float, reason: int, recipe: Recipe
) -> None:
    if reason != Reason.OK:
        if reply.valid:
            raise RuntimeError(f"{request.question!r}: planned as {Reason(reason).name}, answered.")
        return
    spec, rules = TASKS_BY_NAME[request.task], CONVENTIONS[recipe.convention]
    planned = answer_text(spec, value, request.record.labels, rules)
    if not _is_meant(request, slots, reply) or reply.answer != planned:
        raise RuntimeError(
            f"{request.record.scene_id}, {request.question!r}: meant {slots} with {planned!r}, "
            f"read as {reply.slots} with {reply.answer!r} ({reply.reason.name})."
        )


def _is_meant(request: Request, slots: Slots, reply: Reply) -> bool:
    """Whether a sentence was read back to the slots that it was written from."""
    if request.task == "motion_camera" and not reply.slots.images:
        slots = slots._replace(images=())  # as shown: the sentence need not say so
    return reply.slots == slots


def _plainly(asked: tuple[Request, Slots | None], published: bool) -> Request:
    """The request in words that its labels leave readable."""
    request, slots = asked
    if slots is None:
        return request
    labels = request.record.labels
    region = request.task == "position_cam_reg" and slots.labels[0] not in labels
    question = wording.plainest(request.task, slots, region, labels, published)
    return request._replace(question=question)


TASKS_BY_NAME = {task.name: task for task in TASKS}


def row_of(
    request: Request,
    reply: Reply,
    root: Path,
    recipe: Recipe,
    split: str,
    shown: tuple[int, ...],
) -> Row:
    """The row of a request and its reply: both, the recipe and the split decide every field of it.
    `shown` are the frames that a question about the whole room comes with.
    """
    record, task = request.record, reply.task
    spec = TASKS_BY_NAME[task]
    frames = shown if spec.modality == "scene" else request.frames
    key = (recipe.convention, request.frames, reply.signature, request.question)
    digest = hashlib.blake2b(repr(key).encode(), digest_size=6).hexdigest()
    reason = recipe.rationales and reply.valid
    name = f"{record.scene_id}/{task}/{digest}"
    # Of this row alone, so that whoever has the row can draw its options again; of its scene too,
    # or the place of the truth would be the same wherever the same is asked.
    rng = np.random.default_rng((recipe.seed, *name.encode()))
    offered, correct = [], -1
    if reply.valid and rng.random() < recipe.choice_share:
        offered, correct = options(reply, CONVENTIONS[recipe.convention], rng)
    return {
        "id": name,
        "split": split,
        "task": task,
        "modality": spec.modality,
        "convention": recipe.convention,
        "scene_id": record.scene_id,
        "images": [_paths(Same(record), root)[frame] for frame in frames],
        "question": request.question,
        "answer": reply.answer if reply.valid else reply.reason.phrase,
        "options": offered,
        "correct": correct,
        "valid": reply.valid,
        "reason": reply.reason.name,
        # None where nothing has to be decided, as for a length.
        "margin": None if reply.margin >= ALWAYS_CLEAR else round(reply.margin, 4),
        "difficulty": clearness(reply.margin) if reply.valid else "",
        "labels": list(reply.slots.labels),
        "roles": list(reply.slots.images),
        "level": reply.slots.difficulty or request.difficulty,
        "rationale": rationale(request, reply) if reason else "",
        "evidence": _evidence(record, reply),
        "scene_hash": scene_hash(record),
    }


@functools.lru_cache(maxsize=1024)
def _paths(key: Same, root: Path) -> tuple[str, ...]:
    """Image paths of a scene's frames, relative to the folder of the scenes."""
    (record,) = key.records
    return tuple(path.relative_to(root).as_posix() for path in record.image_paths)


def _evidence(record: SceneRecord, reply: Reply) -> dict[str, list[Any]]:
    """What decides: ids of objects, points in world metres, and numbers, in the oracle's order."""
    if not reply.valid or reply.evidence is None:
        return {"objects": [], "points_world": [], "numbers": []}
    shown, ids = reply.evidence, record.object_ids
    points = np.round(np.asarray(shown.points, np.float64), FRAME_DECIMALS)
    numbers = np.round(np.asarray(shown.numbers, np.float64), FRAME_DECIMALS)
    return {
        "objects": [ids[i] for i in np.asarray(shown.objects).tolist() if 0 <= i < len(ids)],
        "points_world": points[np.isfinite(points).all(1)].tolist(),
        "numbers": numbers[np.isfinite(numbers)].tolist(),
    }
