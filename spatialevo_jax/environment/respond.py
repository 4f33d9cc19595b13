"""Questions in, verdicts out: the environment's one call. Batched; the geometry runs jitted and
vmapped.
"""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from geometry_jax import scene_io
from geometry_jax.reasons import Reason
from geometry_jax.scene_io import SceneRecord
from geometry_jax.tasks import TASK_IDS, TASKS, judge
from geometry_jax.types import MAX_LABELS, Evidence, Query, Scene, TaskSpec, Verdict, leaf
from spatialevo_jax.environment.extract import read_question
from spatialevo_jax.environment.pools import modality_of
from spatialevo_jax.environment.wordings import Slots

BATCH = 128  # queries judged at once; a fixed shape, so nothing recompiles
LEAST_OBJECTS, LEAST_FRAMES = 16, 16  # scenes are padded to these or to the next power of two
DIFFICULTIES = ("", "easy", "medium", "hard")

_judge = jax.jit(jax.vmap(judge))


@dataclasses.dataclass(frozen=True)
class Request:
    """One question about the frames shown (indices into the record's frames)."""

    record: SceneRecord
    task: str  # canonical name
    question: str
    frames: tuple[int, ...] = ()
    difficulty: str = ""  # of relative_direction_hard: "", "easy", "medium" or "hard"
    use_points: bool = False


@dataclasses.dataclass(frozen=True)
class Reply:
    """The environment's answer to one request."""

    valid: bool
    task: str
    question: str
    answer: str  # "" when invalid
    reason: Reason
    margin: float  # 1 = just clear of the nearest decision edge
    slots: Slots
    signature: tuple[object, ...]  # equal for questions that ask the same
    evidence: Evidence | None  # NumPy leaves; None when the question could not be read

    @property
    def error(self) -> str:
        """Why there is no answer, for people; "" when there is one."""
        return "" if self.valid else self.reason.sentence


def answer_requests(requests: Sequence[Request], *, strict_margin: bool = False) -> list[Reply]:
    """Answers every request, in order. `strict_margin` rejects answers too near a decision edge
    (margin < 1).
    """
    read = [_read(request) for request in requests]
    judged = _judge_all(
        [
            (request, slots)
            for request, slots in zip(requests, read, strict=True)
            if isinstance(slots, Slots)
        ]
    )
    verdicts = iter(judged)
    return [
        _refusal(request, slots)
        if isinstance(slots, Reason)
        else _reply(request, slots, next(verdicts), strict_margin)
        for request, slots in zip(requests, read, strict=True)
    ]


def _read(request: Request) -> Slots | Reason:
    if request.task not in TASK_IDS:
        raise ValueError(f"task: expected one of {', '.join(TASK_IDS)}, got {request.task!r}.")
    spec = TASKS[TASK_IDS[request.task]]
    shown = modality_of(request.frames)
    if spec.modality != "scene" and shown != spec.modality:
        return Reason.WRONG_IMAGES
    return read_question(request.task, request.question, request.record.labels)


def _query(request: Request, slots: Slots) -> Query:
    spec = TASKS[TASK_IDS[request.task]]
    labels = np.full(MAX_LABELS, -1, np.int32)
    for index, label in enumerate(slots.labels):
        labels[index] = request.record.labels.index(label)
    frames = np.full(2, -1, np.int32)
    shown = request.frames[:2] if spec.modality != "scene" else ()
    if slots.images:
        shown = tuple(request.frames[image - 1] for image in slots.images)
    frames[: len(shown)] = shown
    return Query(
        task_id=leaf(np.int32(TASK_IDS[request.task])),
        labels=leaf(labels),
        frames=leaf(frames),
        difficulty=leaf(np.int32(DIFFICULTIES.index(request.difficulty))),
        use_points=leaf(np.bool_(request.use_points)),
    )


def _bucket(size: int, least: int) -> int:
    return max(least, 1 << (size - 1).bit_length())


def _judge_all(asked: Sequence[tuple[Request, Slots]]) -> list[Verdict]:
    """Judges in batches of a fixed size; the last one is filled with copies."""
    if not asked:
        return []
    records = {id(request.record): request.record for request, _ in asked}.values()
    objects = _bucket(max(r.scene.label.shape[0] for r in records), LEAST_OBJECTS)
    frames = _bucket(max(r.scene.frame_valid.shape[0] for r in records), LEAST_FRAMES)
    points = 0
    if any(request.use_points for request, _ in asked):
        points = max(r.scene.points.shape[1] for r in records)
    padded: dict[int, Scene] = {
        id(r): scene_io.pad_scene(r.scene, objects, frames, points) for r in records
    }
    verdicts: list[Verdict] = []
    for start in range(0, len(asked), BATCH):
        part = list(asked[start : start + BATCH])
        used = len(part)
        part += [part[0]] * (BATCH - used)
        scenes = scene_io.stack_scenes([padded[id(request.record)] for request, _ in part])
        queries = [_query(request, slots) for request, slots in part]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *queries)
        batch = jax.device_get(_judge(scenes, stacked))
        verdicts += [jax.tree.map(lambda leaf, i=i: leaf[i], batch) for i in range(used)]
    return verdicts


def answer_text(spec: TaskSpec, value: float, labels: Sequence[str]) -> str:
    """A verdict's value in words: "2.35 meters", "90.98 cm", "18.47 square meters", "3", a label
    or one of the task's choices. Rounded in float64.
    """
    if spec.answer == "metres":
        return f"{round(float(value), 2):.2f} meters"
    if spec.answer == "centimetres":
        return f"{round(100 * float(value), 2):.2f} cm"
    if spec.answer == "square_metres":
        return f"{round(float(value), 2):.2f} square meters"
    if spec.answer == "count":
        return str(round(float(value)))
    if spec.answer == "label":
        return spec.choices[0] if value < 0 else labels[int(value)]
    return spec.choices[int(value)]


def _signature(task: str, slots: Slots, valid: bool) -> tuple[object, ...]:
    """What is asked, in a form in which the same question is equal however it is worded."""
    labels = slots.labels
    if task in ("absolute_distance", "depth_order_obj_obj", "attribute_measurement"):
        labels = tuple(sorted(labels))
    if task == "relative_distance":
        labels = (labels[0], *sorted(labels[1:]))
    return (task, valid, labels, slots.images)


def _reply(request: Request, slots: Slots, verdict: Verdict, strict: bool) -> Reply:
    reason = Reason(int(verdict.reason))
    margin = float(verdict.margin)
    if reason is Reason.OK and strict and margin < 1.0:
        reason = Reason.UNCLEAR
    valid = reason is Reason.OK
    spec = TASKS[TASK_IDS[request.task]]
    return Reply(
        valid=valid,
        task=request.task,
        question=request.question,
        answer=answer_text(spec, float(verdict.value), request.record.labels) if valid else "",
        reason=reason,
        margin=margin,
        slots=slots,
        signature=_signature(request.task, slots, valid),
        evidence=verdict.evidence,
    )


def _refusal(request: Request, reason: Reason) -> Reply:
    text = " ".join(request.question.lower().split())
    return Reply(
        valid=False,
        task=request.task,
        question=request.question,
        answer="",
        reason=reason,
        margin=0.0,
        slots=Slots(),
        signature=(request.task, False, text),
        evidence=None,
    )
