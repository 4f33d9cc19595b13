"""Questions in, verdicts out: the environment's one call. Batched; the geometry runs jitted and
vmapped.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import numpy as np

from geometry_jax import scene_io
from geometry_jax.reasons import Reason
from geometry_jax.scene_io import SceneRecord
from geometry_jax.tasks import TASK_IDS, TASKS, judge
from geometry_jax.types import (
    MAX_LABELS,
    MIN_VISIBILITY,
    Evidence,
    Query,
    Scene,
    TaskSpec,
    Verdict,
    leaf,
)
from spatialevo_jax.environment import extract, regions
from spatialevo_jax.environment.labels import NOT_OBJECTS, given_label, vocabulary
from spatialevo_jax.environment.pools import modality_of, visible_labels
from spatialevo_jax.environment.wordings import Slots

BATCH = 128  # queries judged at once; a fixed shape, so nothing recompiles
LEAST_OBJECTS, LEAST_FRAMES = 16, 16  # scenes are padded to these or to the next power of two
DIFFICULTIES = ("", "easy", "medium", "hard")

_judge = jax.jit(jax.vmap(judge))


@dataclasses.dataclass(frozen=True)
class Given:
    """Slots that a request states beside its sentence."""

    labels: tuple[str, ...] = ()  # in the order of the task's slots, "" where the sentence has it
    images: tuple[int, ...] = ()  # (reference, target), 0 where the sentence has it


@dataclasses.dataclass(frozen=True)
class Request:
    """One question about the frames shown (indices into the record's frames)."""

    record: SceneRecord
    task: str  # canonical name
    question: str
    frames: tuple[int, ...] = ()
    difficulty: str = ""  # of relative_direction_hard: "", "easy", "medium" or "hard"
    use_points: bool = False
    given: Given = Given()
    min_visibility: float = MIN_VISIBILITY  # share of an object that an image must show


@dataclasses.dataclass(frozen=True)
class Reply:
    """The environment's answer to one request."""

    valid: bool
    task: str
    question: str
    answer: str  # "" when invalid
    reason: Reason
    margin: float  # 1 = just clear of the nearest decision edge
    slots: Slots  # what was understood, of a refused question too
    signature: tuple[object, ...]  # equal for questions that ask the same
    evidence: Evidence | None  # NumPy leaves; None when the question could not be read
    phrase: str = ""  # the words of a question that are the trouble

    @property
    def error(self) -> str:
        """Why there is no answer, for people; "" when there is one."""
        return "" if self.valid else self.reason.sentence


def answer_requests(requests: Sequence[Request], *, strict_margin: bool = False) -> list[Reply]:
    """Answers every request, in order. `strict_margin` rejects answers too near a decision edge
    (margin < 1).
    """
    readings = [_read(request) for request in requests]
    judged = _judge_all(
        [
            (request, reading.slots)
            for request, reading in zip(requests, readings, strict=True)
            if reading.reason is Reason.OK
        ]
    )
    verdicts = iter(judged)
    return [
        _reply(request, reading.slots, next(verdicts), strict_margin)
        if reading.reason is Reason.OK
        else _refusal(request, reading)
        for request, reading in zip(requests, readings, strict=True)
    ]


def _read(request: Request) -> extract.Reading:
    """The slots of a request: those it gives, the others from its sentence."""
    if request.task not in TASK_IDS:
        raise ValueError(f"task: expected one of {', '.join(TASK_IDS)}, got {request.task!r}.")
    spec = TASKS[TASK_IDS[request.task]]
    shown = modality_of(request.frames)
    if spec.modality != "scene" and shown != spec.modality:
        return extract.Reading(extract.NOTHING, Reason.WRONG_IMAGES)
    given = _given(request)
    if given.reason is not Reason.OK:
        return given
    if _is_complete(spec, given.slots):
        # The sentence is not needed, but it must not ask something else.
        text = extract.readable(request.question)
        if text is None:
            return dataclasses.replace(given, reason=Reason.EMPTY_QUESTION)
        if extract.asks_another(request.task, text):
            return dataclasses.replace(given, reason=Reason.WRONG_TASK)
        return dataclasses.replace(given, reason=extract.clash(given.slots))
    reading = extract.read(request.task, request.question, request.record.labels)
    if reading.reason is Reason.OK and given.slots != extract.NOTHING:
        slots = _filled(reading.slots, given.slots)
        reading = extract.Reading(slots, extract.clash(slots))
    if reading.reason is Reason.OK and len(reading.slots.images) < len(spec.roles):
        return dataclasses.replace(reading, reason=Reason.MISSING_ROLE)
    return reading


def _given(request: Request) -> extract.Reading:
    """The labels and images that a request states, resolved. Nothing is ever put in their place."""
    if request.given == Given():
        return extract.Reading(extract.NOTHING)
    labels, reason, phrase = [], Reason.OK, ""
    for name in request.given.labels:
        label: str | Reason = ""
        if name and request.task == "position_cam_reg":
            label = extract.region_name(name, vocabulary(request.record.labels, NOT_OBJECTS))
        elif name:
            label = given_label(name, request.record.labels)
        if isinstance(label, Reason):
            reason, phrase, label = reason or label, phrase or name, ""
        labels.append(label)
    return extract.Reading(Slots(tuple(labels), request.given.images), reason, phrase)


def _is_complete(spec: TaskSpec, given: Slots) -> bool:
    """Whether a request states every slot and every image role of a task that has any."""
    wanted = 2 if spec.name == "relative_distance" else len(spec.slots)
    labels = len(given.labels) >= wanted and all(given.labels)
    images = len(given.images) >= len(spec.roles) and all(given.images[: len(spec.roles)])
    return labels and images and bool(spec.slots or spec.roles)


def _filled(read: Slots, given: Slots) -> Slots:
    """The slots of a sentence, overruled by those that the request states."""
    labels = given.labels + read.labels[len(given.labels) :]
    images = given.images + read.images[len(given.images) :]
    return dataclasses.replace(
        read,
        labels=tuple(a or b for a, b in zip(labels, (*read.labels, *labels), strict=False)),
        images=tuple(a or b for a, b in zip(images, (*read.images, *images), strict=False)),
    )


@functools.lru_cache(maxsize=4096)
def _label_index(labels: tuple[str, ...]) -> dict[str, int]:
    return {label: index for index, label in enumerate(labels)}


def _anchor_labels(request: Request, slots: Slots, frame: int) -> tuple[str, ...]:
    """The labels that may stand for a region, those that the reference image shows first: the query
    has room for only some.
    """
    found = regions.anchors(slots.labels[0], vocabulary(request.record.labels, NOT_OBJECTS))
    if isinstance(found, Reason):  # a region was read, so it has anchors
        raise ValueError(f"{slots.labels[0]!r}: expected a region, got {found.name}.")
    if len(found) > MAX_LABELS:
        seen = set(visible_labels(request.record, frame, request.min_visibility))
        found = tuple(sorted(found, key=lambda label: label not in seen))
    return found[:MAX_LABELS]


def _query(request: Request, slots: Slots) -> Query:
    spec = TASKS[TASK_IDS[request.task]]
    shown = request.frames[:2] if spec.modality != "scene" else ()
    if slots.images:
        others = tuple(image for image in (1, 2) if image not in slots.images)
        shown = tuple(request.frames[image - 1] for image in (*slots.images, *others))
    names = slots.labels
    if request.task == "position_cam_reg":
        names = _anchor_labels(request, slots, shown[0])
    index = _label_index(request.record.labels)
    labels = np.full(MAX_LABELS, -1, np.int32)
    labels[: len(names)] = [index[label] for label in names]
    frames = np.full(2, -1, np.int32)
    frames[: len(shown)] = shown
    bound = request.frames[slots.bound_image - 1] if slots.bound_image else -1
    return Query(
        task_id=leaf(np.int32(TASK_IDS[request.task])),
        labels=leaf(labels),
        frames=leaf(frames),
        difficulty=leaf(np.int32(DIFFICULTIES.index(request.difficulty or slots.difficulty))),
        use_points=leaf(np.bool_(request.use_points)),
        min_visibility=leaf(np.float32(request.min_visibility)),
        label_frames=leaf(np.full(2, bound, np.int32)),
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


def _refusal(request: Request, reading: extract.Reading) -> Reply:
    text = " ".join(request.question.lower().split())
    return Reply(
        valid=False,
        task=request.task,
        question=request.question,
        answer="",
        reason=reading.reason,
        margin=0.0,
        slots=reading.slots,
        signature=(request.task, False, text),
        evidence=None,
        phrase=reading.phrase,
    )
