"""Questions in, verdicts out: the environment's one call. Batched; the geometry runs jitted and
vmapped.
"""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import jax
import numpy as np

from geometry_jax import batches, scene_io
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
    CORRECTED,
    LEAST_SENTENCE,
    Convention,
    ConventionName,
)
from spatialevo_jax.environment.identity import Same
from spatialevo_jax.environment.labels import given_label, look_up, spoken, vocabulary
from spatialevo_jax.environment.pools import modality_of, visible_labels
from spatialevo_jax.environment.wordings import Slots

BATCH = 256  # queries of a task judged at once; a fixed shape, so nothing recompiles
# Scenes, objects and frames are padded to these or to the next power of two.
LEAST_SCENES, LEAST_OBJECTS, LEAST_FRAMES = 16, 32, 32
SCENE_SETS = 4  # sets of scenes that stay on the device
DIFFICULTIES = ("", "easy", "medium", "hard")
# Tasks in which the order of the two objects changes nothing.
UNORDERED = frozenset({"absolute_distance", "depth_order_obj_obj", "attribute_measurement"})


@dataclasses.dataclass(frozen=True)
class Given:
    """Slots that a request states beside its sentence."""

    labels: tuple[str, ...] = ()  # in the order of the task's slots, "" where not stated
    images: tuple[int, ...] = ()  # (reference, target), 0 where not stated


NOTHING_GIVEN = Given()


# Named tuples, for what is built anew for each request: a frozen dataclass takes far longer to
# build, and `launch.bench requests` shows it.
class Request(NamedTuple):
    """One question about the frames shown (indices into the record's frames)."""

    record: SceneRecord
    task: str  # canonical name
    question: str
    frames: tuple[int, ...] = ()
    difficulty: str = ""  # of relative_direction_hard: "", "easy", "medium" or "hard"
    use_points: bool = False
    given: Given = NOTHING_GIVEN
    min_visibility: float = MIN_VISIBILITY  # share of an object that an image must show


class Reply(NamedTuple):
    """The environment's answer to one request."""

    valid: bool
    task: str
    question: str
    answer: str  # "" when invalid
    reason: Reason
    # 1 = just clear of the nearest decision edge; `checks.ALWAYS_CLEAR` where there is none
    margin: float
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
    evidence: bool = True,
    among: Sequence[SceneRecord] = (),
) -> list[Reply]:
    """Answers every request, in order. `strict_margin` rejects answers too near a decision edge
    (margin < 1); without `evidence` the replies have none and cost less. The scenes asked about are
    stacked on the device, and stay there for the next call about the same ones: where calls differ
    in them, `among` are all that there are, to be stacked once.

    Raises:
        ValueError: `among` lacks a scene that is asked about.
    """
    rules = CONVENTIONS[convention]
    readings = [read_request(request, rules) for request in requests]
    read = [index for index, reading in enumerate(readings) if reading.reason is Reason.OK]
    slots = [readings[index].slots for index in read]
    asked = [requests[index] for index in read]
    verdicts = _judge_all(asked, slots, convention, evidence, among)
    replies: list[Reply | None] = [None] * len(requests)
    for index, said, judged in zip(read, slots, verdicts, strict=True):
        replies[index] = _reply(requests[index], said, judged, rules, strict_margin)
    return [
        _refusal(request, reading) if reply is None else reply
        for request, reading, reply in zip(requests, readings, replies, strict=True)
    ]


def read_request(request: Request, rules: Convention) -> extract.Reading:
    """The slots of a request: those it gives, the others from its sentence."""
    if request.task not in TASK_IDS:
        raise ValueError(f"task: expected one of {', '.join(TASK_IDS)}, got {request.task!r}.")
    spec = TASKS[TASK_IDS[request.task]]
    if spec.modality != "scene" and modality_of(request.frames) != spec.modality:
        return extract.Reading(extract.NOTHING, Reason.WRONG_IMAGES)
    if rules.any_sentence:
        return _read_as_published(request, spec, rules)
    if request.given is NOTHING_GIVEN:
        reading = extract.read(request.task, request.question, request.record.labels)
    else:
        reading = _read_with_fields(request, spec, rules)
    slots = reading.slots
    if reading.reason is not Reason.OK:
        return reading
    if not _has_images(spec, slots):
        return reading._replace(reason=Reason.MISSING_ROLE)
    if request.difficulty and slots.difficulty not in ("", request.difficulty):
        return reading._replace(reason=Reason.CONTRADICTION, phrase=slots.difficulty)
    return reading


def _read_with_fields(request: Request, spec: TaskSpec, rules: Convention) -> extract.Reading:
    """Fields fill what the sentence leaves open, which may be all: a text that no task reads. They
    never change what it asks.
    """
    given, labels = _given(request, rules), request.record.labels
    if given.reason is not Reason.OK:
        return given
    said, stated = extract.read(request.task, request.question, labels), given.slots
    if said.reason is Reason.OK or (said.reason is Reason.MISSING_ROLE and said.slots.labels):
        slots = _joined(request, said.slots, stated)
        if slots is None:
            words = [*said.slots.labels, *(f"Image {image}" for image in said.slots.images)]
            return extract.Reading(stated, Reason.CONTRADICTION, ", ".join(filter(None, words)))
        if not _is_complete(spec, slots, rules):
            return extract.Reading(slots, Reason.MISSING_ROLE, said.phrase)
        return extract.Reading(slots, extract.clash(slots))
    free = said.reason in (Reason.WRONG_TASK, Reason.MISSING_ROLE)
    free = free and not extract.has_a_form(request.question, labels)
    if not free or not _is_complete(spec, stated, rules):
        return said
    others = extract.mentioned(request.question, labels) - set(stated.labels)
    if others and request.task != "position_cam_reg":  # a region is told by what stands there
        return extract.Reading(stated, Reason.CONTRADICTION, ", ".join(sorted(others)))
    return extract.Reading(stated, extract.clash(stated))


def _joined(request: Request, said: Slots, stated: Slots) -> Slots | None:
    """The slots that a sentence and the fields beside it give; None where they differ."""
    task, one, other = request.task, said.labels, stated.labels
    if task == "relative_distance":
        target = _together(one[:1], other[:1])
        candidates = _together(one[1:], other[1:], ordered=False)
        labels = None if target is None or candidates is None else (*target, *candidates)
    elif task == "position_cam_reg" and all((*one, *other)):
        names = vocabulary(request.record.labels)
        anchors = {regions.anchors(label, names) for label in (*one, *other)}
        labels = one if len(anchors) == 1 else None
    else:
        labels = _together(one, other, ordered=task not in UNORDERED)
    images = _together(said.images, stated.images)
    if labels is None or images is None:
        return None
    return said._replace(labels=labels, images=images)


Said = TypeVar("Said", str, int)


def _together(
    said: tuple[Said, ...], stated: tuple[Said, ...], *, ordered: bool = True
) -> tuple[Said, ...] | None:
    """What two say of the same roles, where "" and 0 leave one open; None where they differ."""
    if not said or not stated:
        return said or stated
    if not ordered and (all(said) or all(stated)):
        full, part = (said, stated) if all(said) else (stated, said)
        agree = len(full) == len(part) and set(filter(None, part)) <= set(full)
        return full if agree else None
    if len(said) != len(stated) or any(
        a and b and a != b for a, b in zip(said, stated, strict=True)
    ):
        return None
    return tuple(a or b for a, b in zip(said, stated, strict=True))


def _read_as_published(request: Request, spec: TaskSpec, rules: Convention) -> extract.Reading:
    """Fields overrule the sentence, and those that state everything let it be."""
    given = _given(request, rules)
    if given.reason is not Reason.OK:
        return given
    if _is_complete(spec, given.slots, rules):
        reading = _unread(request, given, rules)
    else:
        labels = request.record.labels
        reading = extract.read(request.task, request.question, labels, rules.published)
        if reading.reason is Reason.OK and given is not NOTHING_READ:
            slots = _filled(reading.slots, given.slots)
            reading = extract.Reading(slots, extract.clash(slots))
    if reading.reason is Reason.OK and not _has_images(spec, reading.slots):
        images = rules.default_images[len(spec.roles)]
        slots = reading.slots._replace(images=images)
        reading = extract.Reading(slots, Reason.OK if images else Reason.MISSING_ROLE)
    return _published_region(request, reading) if request.task == "position_cam_reg" else reading


def _published_region(request: Request, reading: extract.Reading) -> extract.Reading:
    """A region that is a label must be unique in the reference image, unless no label is."""
    if reading.reason is not Reason.OK or reading.slots.labels[0] not in request.record.labels:
        return reading
    frame = request.frames[reading.slots.images[0] - 1]
    seen = collections.Counter(visible_labels(request.record, frame, request.min_visibility))
    if 1 in seen.values() and seen[reading.slots.labels[0]] > 1:
        return reading._replace(reason=Reason.NOT_UNIQUE_IN_IMAGE)
    return reading


def _unread(request: Request, given: extract.Reading, rules: Convention) -> extract.Reading:
    """A request whose fields state all its labels: a sentence that is read gives images only."""
    text = extract.readable(request.question)
    said = extract.read(request.task, request.question, request.record.labels, rules.published)
    known = said.reason is Reason.OK
    if text is None or (not known and len(text) < LEAST_SENTENCE):
        return given._replace(reason=Reason.EMPTY_QUESTION)
    slots = given.slots
    if known and not _has_images(TASKS[TASK_IDS[request.task]], slots):
        slots = slots._replace(images=said.slots.images)
    return given._replace(slots=slots, reason=extract.clash(given.slots))


NOTHING_READ = extract.Reading(extract.NOTHING)


def _given(request: Request, rules: Convention) -> extract.Reading:
    """The labels and images that a request states, resolved. Nothing is ever put in their place."""
    if request.given is NOTHING_GIVEN:
        return NOTHING_READ
    names = vocabulary(request.record.labels, rules.published)
    spec = TASKS[TASK_IDS[request.task]]
    labels, reason, phrase = [], Reason.OK, ""
    for name in request.given.labels:
        label: str | Reason = ""
        if name and request.task == "position_cam_reg":
            label = extract.region_name(name, names)
        elif name and rules.published and spec.modality == "single_image":
            label = look_up(name, names)
        elif name:
            label = given_label(name, request.record.labels, rules.published)
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
    labels = len(given.labels) >= wanted and all(given.labels)
    if rules.any_sentence:
        return labels
    return labels and _has_images(spec, given) and bool(spec.slots or spec.roles)


def _has_images(spec: TaskSpec, slots: Slots) -> bool:
    """Whether every image role of a task is filled."""
    return len(slots.images) >= len(spec.roles) and all(slots.images)


def _filled(read: Slots, given: Slots) -> Slots:
    """The slots of a sentence, overruled by those that the request states."""

    def overruled(said: tuple, stated: tuple) -> tuple:
        longer = max(len(said), len(stated))
        pairs = zip(
            said + (0,) * (longer - len(said)), stated + (0,) * (longer - len(stated)), strict=True
        )
        return tuple(b or a for a, b in pairs)

    labels = given.labels if len(given.labels) > 1 and all(given.labels) else ()
    return read._replace(
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
    found = regions.anchors(slots.labels[0], vocabulary(request.record.labels, rules.published))
    if isinstance(found, Reason):  # a region was read, so it has anchors
        raise ValueError(f"{slots.labels[0]!r}: expected a region, got {found.name}.")
    if len(found) > MAX_LABELS:
        seen = set(visible_labels(request.record, frame, request.min_visibility))
        found = tuple(sorted(found, key=lambda label: label not in seen))
    return found[:MAX_LABELS]


@dataclasses.dataclass(frozen=True, eq=False)
class SceneSet:
    """Scenes of one padding, stacked on the device; a record is known by its identity."""

    records: tuple[SceneRecord, ...]
    scenes: Scene  # (S, ...) leaves on the device
    index: dict[int, int]  # id of a record -> its place


@functools.lru_cache(maxsize=SCENE_SETS)
def scene_set(key: Same, points: bool, hidden: frozenset[str]) -> SceneSet:
    """Pads and stacks; the number of scenes is padded too, with copies of the first one. Objects
    with `hidden` labels are left out.
    """
    records = key.records
    objects = _bucket(max(r.scene.label.shape[0] for r in records), LEAST_OBJECTS)
    frames = _bucket(max(r.scene.frame_valid.shape[0] for r in records), LEAST_FRAMES)
    most = max(r.scene.points.shape[1] for r in records) if points else 0
    padded = [scene_io.pad_scene(_without(r, hidden), objects, frames, most) for r in records]
    padded += [padded[0]] * (_bucket(len(padded), LEAST_SCENES) - len(padded))
    scenes = batches.with_gaps(jax.device_put(scene_io.stack_scenes(padded)))
    return SceneSet(records, scenes, {id(r): place for place, r in enumerate(records)})


def _without(record: SceneRecord, hidden: frozenset[str]) -> Scene:
    out = [index for index, label in enumerate(record.labels) if spoken(label) in hidden]
    if not out:
        return record.scene
    kept = np.asarray(record.scene.object_valid) & ~np.isin(np.asarray(record.scene.label), out)
    return dataclasses.replace(record.scene, object_valid=leaf(kept))


def _bucket(size: int, least: int) -> int:
    return max(least, 1 << (size - 1).bit_length())


@functools.cache
def batched_oracle(
    convention: ConventionName, task: str, evidence: bool
) -> Callable[[Scene, np.ndarray, Query], Verdict]:
    """A task's oracle over (BATCH,) queries, each about one of the (S,) scenes of a set. Without
    `evidence` that of every query is empty, and is not computed.
    """
    oracle = CONVENTIONS[convention].oracle(task)

    def one(scenes: Scene, place: jax.Array, query: Query) -> Verdict:
        verdict = oracle(*batches.focus(scenes, place, query))
        return verdict if evidence else dataclasses.replace(verdict, evidence=None)

    return jax.jit(jax.vmap(one, in_axes=(None, 0, 0)))


def _queries(
    requests: Sequence[Request], slots: Sequence[Slots], rules: Convention, size: int
) -> Query:
    """(size,) queries; the last ones repeat the first to fill up."""
    labels = np.full((size, MAX_LABELS), -1, np.int32)
    frames = np.full((size, 2), -1, np.int32)
    bound = np.full((size, 2), -1, np.int32)
    rest = np.zeros((size, 4), np.float32)  # task, difficulty, points, visibility
    for row, (request, said) in enumerate(zip(requests, slots, strict=True)):
        shown = _shown_frames(request, said)
        frames[row, : len(shown)] = shown
        names = said.labels
        if request.task == "position_cam_reg":
            names = _anchor_labels(request, said, shown[0], rules)
        if names:
            index = _label_index(request.record.labels)
            labels[row, : len(names)] = [index[label] for label in names]
        if said.bound_image and rules.offered_answers:
            bound[row] = request.frames[said.bound_image - 1]
        difficulty = request.difficulty or (said.difficulty if rules.offered_answers else "")
        rest[row] = (
            TASK_IDS[request.task],
            DIFFICULTIES.index(difficulty),
            request.use_points,
            request.min_visibility,
        )
    used = len(requests)
    for array in (labels, frames, bound, rest):
        array[used:] = array[:1]
    return Query(
        task_id=leaf(rest[:, 0].astype(np.int32)),
        labels=leaf(labels),
        frames=leaf(frames),
        difficulty=leaf(rest[:, 1].astype(np.int32)),
        use_points=leaf(rest[:, 2].astype(bool)),
        min_visibility=leaf(rest[:, 3]),
        label_frames=leaf(bound),
    )


def _shown_frames(request: Request, slots: Slots) -> tuple[int, ...]:
    """The frames of a query: reference and target; as shown where the sentence names no roles."""
    if not request.frames or TASKS[TASK_IDS[request.task]].modality == "scene":
        return ()
    if not slots.images:
        return request.frames[:2]
    others = tuple(image for image in (1, 2) if image not in slots.images)
    return tuple(request.frames[image - 1] for image in (*slots.images, *others))


Judged = tuple[float, int, float, Evidence | None]  # value, reason, margin, evidence


def _judge_all(
    requests: Sequence[Request],
    slots: Sequence[Slots],
    convention: ConventionName,
    evidence: bool,
    among: Sequence[SceneRecord],
) -> list[Judged]:
    """One verdict for each request. Task by task, in batches of a fixed size."""
    if not requests:
        return []
    # In one order, so that the same scenes are the same set whoever is asked about first.
    own = {id(request.record): request.record for request in requests}
    records = among or [one for _, one in sorted(own.items())]
    lacking = own.keys() - {id(record) for record in records}
    if lacking:
        names = ", ".join(sorted(own[one].scene_id for one in lacking))
        raise ValueError(f"among: expected all scenes that are asked about, lacks {names}.")
    rules = CONVENTIONS[convention]
    points = any(request.use_points for request in requests)
    held = scene_set(Same(*records), points, rules.hidden)
    by_task: dict[str, list[int]] = {}
    for index, request in enumerate(requests):
        by_task.setdefault(request.task, []).append(index)
    running = []
    for task, members in by_task.items():
        judge = batched_oracle(convention, task, evidence)
        for start in range(0, len(members), BATCH):
            part = members[start : start + BATCH]
            asked = [requests[index] for index in part]
            queries = _queries(asked, [slots[index] for index in part], rules, BATCH)
            places = np.zeros(BATCH, np.int32)
            places[: len(part)] = [held.index[id(request.record)] for request in asked]
            running.append((part, judge(held.scenes, places, queries)))
    # Only now is anything waited for: the next batch is prepared while the last one runs.
    judged: list[Judged] = [(0.0, 0, 0.0, None)] * len(requests)
    for part, verdicts in running:
        for index, one in zip(part, _rows(jax.device_get(verdicts)), strict=False):
            judged[index] = one
    return judged


def _rows(verdicts: Verdict) -> Iterator[Judged]:
    shown: Evidence | None = verdicts.evidence
    numbers = [np.asarray(x).tolist() for x in (verdicts.value, verdicts.reason, verdicts.margin)]
    if shown is None:
        return zip(*numbers, itertools.repeat(None), strict=False)
    parts = zip(shown.points, shown.objects, shown.numbers, strict=True)
    return zip(*numbers, (Evidence(*one) for one in parts), strict=True)


def answer_text(
    spec: TaskSpec, value: float, labels: Sequence[str], rules: Convention = CORRECTED
) -> str:
    """A verdict's value in words: "2.35 meters", "90.98 cm", "18.47 square meters", "3", a label,
    or one of the task's choices. Rounded in float64.
    """
    number = rules.number
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
    return rules.choices(spec.name)[int(value)]


def _signature(task: str, slots: Slots, valid: bool) -> tuple[object, ...]:
    """What is asked, in a form in which the same question is equal however it is worded."""
    labels = slots.labels
    if task in UNORDERED:
        labels = tuple(sorted(labels))
    if task == "relative_distance":
        labels = (labels[0], *sorted(labels[1:]))
    return (task, valid, labels, slots.images, slots.bound_image, slots.difficulty)


def _reply(
    request: Request, slots: Slots, judged: Judged, rules: Convention, strict: bool
) -> Reply:
    value, why, margin, evidence = judged
    reason = Reason(why)
    if reason is Reason.OK and strict and margin < 1.0:
        reason = Reason.UNCLEAR
    valid = reason is Reason.OK
    spec = TASKS[TASK_IDS[request.task]]
    return Reply(
        valid=valid,
        task=request.task,
        question=request.question,
        answer=answer_text(spec, value, request.record.labels, rules) if valid else "",
        reason=reason,
        margin=margin,
        slots=slots,
        signature=_signature(request.task, slots, valid),
        evidence=evidence,
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
