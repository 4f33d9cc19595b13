"""Questions in, verdicts out: the environment's one call. Batched; the geometry runs jitted and
vmapped.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np

from geometry_jax import scene_io
from geometry_jax.reasons import Reason
from geometry_jax.scene_io import SceneRecord
from geometry_jax.tasks import TASK_IDS, TASKS
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
from spatialevo_jax.environment.conventions import (
    CONVENTIONS,
    LEAST_SENTENCE,
    Convention,
    ConventionName,
    two_decimals,
)
from spatialevo_jax.environment.labels import given_label, look_up, vocabulary
from spatialevo_jax.environment.pools import modality_of, visible_labels
from spatialevo_jax.environment.wordings import Slots

BATCH = 128  # queries judged at once; a fixed shape, so nothing recompiles
LEAST_OBJECTS, LEAST_FRAMES = 16, 16  # scenes are padded to these or to the next power of two
DIFFICULTIES = ("", "easy", "medium", "hard")

_judges = {name: jax.jit(jax.vmap(one.judge)) for name, one in CONVENTIONS.items()}


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


def answer_requests(
    requests: Sequence[Request],
    *,
    convention: ConventionName = "corrected",
    strict_margin: bool = False,
) -> list[Reply]:
    """Answers every request, in order. `strict_margin` rejects answers too near a decision edge
    (margin < 1).
    """
    rules = CONVENTIONS[convention]
    readings = [_read(request, rules) for request in requests]
    judged = _judge_all(
        [
            (request, reading.slots)
            for request, reading in zip(requests, readings, strict=True)
            if reading.reason is Reason.OK
        ],
        convention,
    )
    verdicts = iter(judged)
    return [
        _reply(request, reading.slots, next(verdicts), rules, strict_margin)
        if reading.reason is Reason.OK
        else _refusal(request, reading)
        for request, reading in zip(requests, readings, strict=True)
    ]


def _read(request: Request, rules: Convention) -> extract.Reading:
    """The slots of a request: those it gives, the others from its sentence."""
    if request.task not in TASK_IDS:
        raise ValueError(f"task: expected one of {', '.join(TASK_IDS)}, got {request.task!r}.")
    spec = TASKS[TASK_IDS[request.task]]
    shown = modality_of(request.frames)
    if spec.modality != "scene" and shown != spec.modality:
        return extract.Reading(extract.NOTHING, Reason.WRONG_IMAGES)
    given = _given(request, rules)
    if given.reason is not Reason.OK:
        return given
    if _is_complete(spec, given.slots, rules):
        reading = _unread(request, given, rules)
    else:
        labels = request.record.labels
        reading = extract.read(request.task, request.question, labels, rules.surfaces)
        if reading.reason is Reason.OK and given.slots != extract.NOTHING:
            slots = _filled(reading.slots, given.slots)
            reading = extract.Reading(slots, extract.clash(slots))
    if reading.reason is not Reason.OK or len(reading.slots.images) >= len(spec.roles):
        return reading
    images = rules.default_images[len(spec.roles)]
    slots = dataclasses.replace(reading.slots, images=images)
    return extract.Reading(slots, Reason.OK if images else Reason.MISSING_ROLE)


def _unread(request: Request, given: extract.Reading, rules: Convention) -> extract.Reading:
    """A request that states all its slots: the sentence must only not ask something else."""
    text = extract.readable(request.question)
    reason = extract.clash(given.slots)
    if text is None:
        reason = Reason.EMPTY_QUESTION
    elif rules.any_sentence:
        read = len(text) >= LEAST_SENTENCE or extract.matches(request.task, text)
        reason = reason if read else Reason.EMPTY_QUESTION
    elif extract.asks_another(request.task, text):
        reason = Reason.WRONG_TASK
    return dataclasses.replace(given, reason=reason)


def _given(request: Request, rules: Convention) -> extract.Reading:
    """The labels and images that a request states, resolved. Nothing is ever put in their place."""
    if request.given == Given():
        return extract.Reading(extract.NOTHING)
    names = vocabulary(request.record.labels, rules.surfaces)
    spec = TASKS[TASK_IDS[request.task]]
    labels, reason, phrase = [], Reason.OK, ""
    for name in request.given.labels:
        label: str | Reason = ""
        if name and request.task == "position_cam_reg":
            label = extract.region_name(name, names)
        elif name and rules.words_in_fields and spec.modality == "single_image":
            label = look_up(name, names)
        elif name:
            label = given_label(name, request.record.labels, rules.surfaces)
        if isinstance(label, Reason):
            reason, phrase, label = reason or label, phrase or name, ""
        labels.append(label)
    images = request.given.images
    if rules.any_sentence and len(set(images)) < len(images):
        images = ()  # the published oracle passes over indices that are equal
    return extract.Reading(Slots(tuple(labels), images), reason, phrase)


def _is_complete(spec: TaskSpec, given: Slots, rules: Convention) -> bool:
    """Whether nothing is left for the sentence to say."""
    wanted = 2 if spec.name == "relative_distance" else len(spec.slots)
    if rules.any_sentence:
        return len(given.labels) >= wanted and all(given.labels)
    labels = len(given.labels) >= wanted and all(given.labels)
    images = len(given.images) >= len(spec.roles) and all(given.images)
    return labels and images and bool(spec.slots or spec.roles)


def _filled(read: Slots, given: Slots) -> Slots:
    """The slots of a sentence, overruled by those that the request states."""

    def overruled(said: tuple, stated: tuple) -> tuple:
        longer = max(len(said), len(stated))
        pairs = zip(
            said + (0,) * (longer - len(said)), stated + (0,) * (longer - len(stated)), strict=True
        )
        return tuple(b or a for a, b in pairs)

    labels = given.labels if len(given.labels) > 1 and all(given.labels) else ()
    return dataclasses.replace(
        read,
        labels=labels or overruled(read.labels, given.labels),
        images=overruled(read.images, given.images),
    )


@functools.lru_cache(maxsize=4096)
def _label_index(labels: tuple[str, ...]) -> dict[str, int]:
    return {label: index for index, label in enumerate(labels)}


def _anchor_labels(
    request: Request, slots: Slots, frame: int, rules: Convention
) -> tuple[str, ...]:
    """The labels that may stand for a region, those that the reference image shows first: the query
    has room for only some.
    """
    found = regions.anchors(slots.labels[0], vocabulary(request.record.labels, rules.surfaces))
    if isinstance(found, Reason):  # a region was read, so it has anchors
        raise ValueError(f"{slots.labels[0]!r}: expected a region, got {found.name}.")
    if len(found) > MAX_LABELS:
        seen = set(visible_labels(request.record, frame, request.min_visibility))
        found = tuple(sorted(found, key=lambda label: label not in seen))
    return found[:MAX_LABELS]


def _query(request: Request, slots: Slots, rules: Convention) -> Query:
    spec = TASKS[TASK_IDS[request.task]]
    shown = request.frames[:2] if spec.modality != "scene" else ()
    if slots.images:
        others = tuple(image for image in (1, 2) if image not in slots.images)
        shown = tuple(request.frames[image - 1] for image in (*slots.images, *others))
    names = slots.labels
    if request.task == "position_cam_reg":
        names = _anchor_labels(request, slots, shown[0], rules)
    index = _label_index(request.record.labels)
    labels = np.full(MAX_LABELS, -1, np.int32)
    labels[: len(names)] = [index[label] for label in names]
    frames = np.full(2, -1, np.int32)
    frames[: len(shown)] = shown
    bound = request.frames[slots.bound_image - 1] if slots.bound_image else -1
    difficulty = request.difficulty or (slots.difficulty if rules.offered_answers else "")
    return Query(
        task_id=leaf(np.int32(TASK_IDS[request.task])),
        labels=leaf(labels),
        frames=leaf(frames),
        difficulty=leaf(np.int32(DIFFICULTIES.index(difficulty))),
        use_points=leaf(np.bool_(request.use_points)),
        min_visibility=leaf(np.float32(request.min_visibility)),
        label_frames=leaf(np.full(2, bound, np.int32)),
    )


def _bucket(size: int, least: int) -> int:
    return max(least, 1 << (size - 1).bit_length())


def _judge_all(asked: Sequence[tuple[Request, Slots]], convention: ConventionName) -> list[Verdict]:
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
        queries = [_query(request, slots, CONVENTIONS[convention]) for request, slots in part]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *queries)
        batch = jax.device_get(_judges[convention](scenes, stacked))
        verdicts += [jax.tree.map(lambda leaf, i=i: leaf[i], batch) for i in range(used)]
    return verdicts


def answer_text(
    spec: TaskSpec,
    value: float,
    labels: Sequence[str],
    number: Callable[[float], str] = two_decimals,
) -> str:
    """A verdict's value in words: "2.35 meters", "90.98 cm", "18.47 square meters", "3", a label,
    or one of the task's choices. Rounded in float64.
    """
    if spec.answer == "metres":
        return f"{number(float(value))} meters"
    if spec.answer == "centimetres":
        return f"{number(100 * float(value))} cm"
    if spec.answer == "square_metres":
        return f"{number(float(value))} square meters"
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


def _reply(
    request: Request, slots: Slots, verdict: Verdict, rules: Convention, strict: bool
) -> Reply:
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
        answer=answer_text(spec, float(verdict.value), request.record.labels, rules.number)
        if valid
        else "",
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
