"""The environment's requests and replies as JSON records, with the field names of the published
oracle.

    {"task_type": "absolute_distance", "scene_id": "scene0000_00", "question": "…"}
    {"request": "summary", "summary_type": "scene", "scene_id": "scene0000_00"}

A record becomes a dataclass on the line after it is read; a bad one becomes a reply with an error
code, never a crash.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from geometry_jax.checks import MIN_VISIBILITY
from geometry_jax.reasons import Reason
from geometry_jax.scene_io import FRAME_FOLDER, SceneRecord
from geometry_jax.tasks import TASK_IDS, TASKS
from spatialevo_jax.environment.pools import visible_labels
from spatialevo_jax.environment.respond import DIFFICULTIES, Reply, Request, answer_requests

RESPONSE_VERSION = "1.2"
Loader = Callable[[str], SceneRecord]  # scene id -> record; raises FileNotFoundError or ValueError

ALIASES = {
    "relative_direction_hard": (
        "relativedirection relativedirectioneasy relativedirectionmedium vsirelativedirection "
        "vsirelativedirectioneasy vsirelativedirectionmedium"
    ),
    "single_image_relative_direction": "singleimagedirection",
    "depth_order_obj_obj": "depthorder depthcomparison",
    "position_cam_cam": "cameraposition camerarelativeposition",
    "position_cam_obj": "cameraobjectposition",
    "position_cam_reg": "cameraregionposition",
    "attribute_measurement": "objectsizecomparison sizecomparison",
    "motion_camera": "cameramotion",
    "distance_cam_obj": (
        "cameradistance distancetocamera distancefromcamera cameraobjectdistance "
        "objectcameradistance"
    ),
    "elevation_cam_cam": "cameraelevation cameraheight",
}
# Where a reason is found, in the published terms: failure stage and error code.
READING_REASONS = frozenset(
    {Reason.EMPTY_QUESTION, Reason.WRONG_TASK, Reason.MISSING_ROLE, Reason.WRONG_IMAGES}
)
NEIGHBOURS = 3  # labels that an error suggests


@dataclasses.dataclass(frozen=True)
class BadRequest:
    """A record that asks nothing that could be answered."""

    code: str
    message: str


def resolve_task(name: str) -> str | BadRequest:
    """Canonical task name, by exact name or listed alias; blanks, brackets and case drop out."""
    squeezed = re.sub(r"[\s_\[\]【】]", "", name).lower()
    for task in TASK_IDS:
        if squeezed == task.replace("_", "") or squeezed in ALIASES.get(task, "").split():
            return task
    return BadRequest(
        "UNSUPPORTED_TASK", f"task_type: expected one of {', '.join(TASK_IDS)}, got {name!r}."
    )


def frame_index(record: SceneRecord, name: str) -> int | BadRequest:
    """The frame that a path or id names: `frame_processed/120.jpg`, any path that ends so, or
    `120`.
    """
    stem = PurePosixPath(name.replace("\\", "/")).stem
    digits = re.search(r"(\d+)$", stem)
    wanted = {stem} | ({digits[1].lstrip("0") or "0"} if digits else set())
    for index, frame_id in enumerate(record.frame_ids):
        if frame_id in wanted:
            return index
    shown = ", ".join(f"{FRAME_FOLDER}/{i}.jpg" for i in record.frame_ids[:4])
    return BadRequest(
        "INVALID_INPUT", f"{record.scene_id}: expected a frame such as {shown}, got {name!r}."
    )


def _text(fields: Mapping[str, Any], key: str) -> str | BadRequest:
    value = fields.get(key)
    if not isinstance(value, str) or not value.strip():
        return BadRequest("INVALID_INPUT", f"{key}: expected text, got {value!r}.")
    return value


def _image_names(fields: Mapping[str, Any]) -> list[str] | BadRequest:
    """The images of a request, in order, from any of the published fields."""
    paths = fields.get("image_paths")
    if isinstance(paths, list) and len(paths) >= 2:
        names = paths[:2]
    elif "image_path_1" in fields or "image_path_2" in fields:
        names = [fields.get("image_path_1"), fields.get("image_path_2")]
    elif "frame_id_1" in fields or "frame_id_2" in fields:
        names = [fields.get("frame_id_1"), fields.get("frame_id_2")]
    elif fields.get("image_path") is not None:
        names = [fields["image_path"]]
    elif fields.get("frame_id") is not None:
        names = [fields["frame_id"]]
    elif isinstance(paths, list):
        names = paths
    else:
        return []
    read: list[str] = []
    for name in names:
        text = str(name) if isinstance(name, int) and not isinstance(name, bool) else name
        if not isinstance(text, str) or not text.strip():
            return BadRequest(
                "INVALID_INPUT", f"images: expected a path or a frame id, got {text!r}."
            )
        read.append(text)
    return read


def parse_request(fields: Mapping[str, Any], load: Loader) -> Request | BadRequest:
    """A JSON record as a request; reads the scene."""
    for key in ("task_type", "question", "scene_id"):
        value = _text(fields, key)
        if isinstance(value, BadRequest):
            return value
    task = resolve_task(fields["task_type"])
    if isinstance(task, BadRequest):
        return task
    names = _image_names(fields)
    if isinstance(names, BadRequest):
        return names
    needed = {"single_image": 1, "image_pair": 2}.get(TASKS[TASK_IDS[task]].modality, 0)
    if len(names) < needed:
        return BadRequest("INVALID_INPUT", f"{task} needs {needed} image(s), got {len(names)}.")
    difficulty = fields.get("difficulty") or ""
    if difficulty not in DIFFICULTIES:
        return BadRequest(
            "INVALID_INPUT", f"difficulty: expected easy, medium or hard, got {difficulty!r}."
        )
    try:
        record = load(fields["scene_id"])
    except (OSError, ValueError) as error:
        return BadRequest("EXECUTION_FAILED", str(error))
    frames = []
    for name in names[:needed]:
        index = frame_index(record, name)
        if isinstance(index, BadRequest):
            return index
        frames.append(index)
    return Request(
        record,
        task,
        fields["question"],
        tuple(frames),
        difficulty if task == "relative_direction_hard" else "",
        bool(fields.get("use_points", False)),
    )


def refusal(fields: Mapping[str, Any], bad: BadRequest) -> dict[str, Any]:
    """The reply to a record that could not be read."""
    stage = "execution" if bad.code == "EXECUTION_FAILED" else "input"
    return {
        "response_version": RESPONSE_VERSION,
        "is_valid": False,
        "task_type": fields.get("task_type", ""),
        "question": fields.get("question", ""),
        "answer": "",
        "error": bad.message,
        "error_code": bad.code,
        "failure_stage": stage,
        "parsed_params": {},
        "judge_reference": {"final_invalid_reason": bad.message, "error_code": bad.code},
    }


def reply_record(request: Request, reply: Reply) -> dict[str, Any]:
    """The reply to a request, with the evidence for its answer."""
    spec = TASKS[TASK_IDS[reply.task]]
    parsed: dict[str, Any] = dict(zip(spec.slots, reply.slots.labels, strict=False))
    if reply.task == "relative_distance" and reply.slots.labels:
        parsed = {
            "target_label": reply.slots.labels[0],
            "candidate_labels": list(reply.slots.labels[1:]),
        }
    if reply.slots.images:
        parsed |= {
            f"camera_{role}_image_idx": image
            for role, image in zip(("reference", "target"), reply.slots.images, strict=False)
        }
    record: dict[str, Any] = {
        "response_version": RESPONSE_VERSION,
        "is_valid": reply.valid,
        "task_type": reply.task,
        "question": reply.question,
        "answer": reply.answer,
        "error": "",
        "error_code": "",
        "failure_stage": "ok",
        "parsed_params": parsed,
        "margin": round(min(reply.margin, 1e6), 4),
    }
    if reply.valid:
        return record | {"evidence": evidence_record(request, reply)}
    code = "QUESTION_INVALID" if reply.reason in READING_REASONS else "INVALID_QUESTION_RULE"
    sentence = explain(request, reply.reason)
    return record | {
        "error": sentence,
        "error_code": code,
        "failure_stage": "validation" if code == "QUESTION_INVALID" else "rule",
        "reason": reply.reason.name,
        "judge_reference": {
            "task_type": reply.task,
            "final_invalid_reason": sentence,
            "error_code": code,
            "parsed_parameters": parsed,
        },
    }


def explain(request: Request, reason: Reason) -> str:
    """The reason in words, with the scene's labels where a label is the trouble."""
    if reason not in (Reason.ABSENT_LABEL, Reason.AMBIGUOUS_LABEL):
        return reason.sentence
    labels = ", ".join(sorted(request.record.labels))
    return f"{reason.sentence} {request.record.scene_id} has: {labels}."


def evidence_record(request: Request, reply: Reply) -> dict[str, Any]:
    """What decides the answer: objects with boxes, points in world metres, frames, numbers."""
    if reply.evidence is None:
        return {}
    record, scene = request.record, request.record.scene
    objects = [
        {
            "object_id": record.object_ids[index],
            "label": record.labels[int(scene.label[index])],
            "center": _floats(scene.obb_center[index]),
            "extent": _floats(scene.obb_extent[index]),
            "yaw": round(float(scene.obb_yaw[index]), 4),
        }
        for index in map(int, reply.evidence.objects)
        if 0 <= index < len(record.object_ids)
    ]
    points = [_floats(point) for point in reply.evidence.points if np.isfinite(point).all()]
    numbers = [round(float(x), 4) for x in reply.evidence.numbers if math.isfinite(float(x))]
    frames = [record.frame_ids[frame] for frame in request.frames]
    return {"objects": objects, "points_world": points, "numbers": numbers, "frames": frames}


def _floats(values: Any) -> list[float]:
    return [round(float(x), 4) for x in values]


def summarise(fields: Mapping[str, Any], load: Loader) -> dict[str, Any]:
    """What a scene, an image or several images show: labels and counts."""
    kind = re.sub(r"[^a-z0-9_]", "", str(fields.get("summary_type", "scene")).lower())
    kind = {"image_pair": "multi_image", "pair": "multi_image", "image": "single_image"}.get(
        kind, kind
    )
    head: dict[str, Any] = {
        "response_version": RESPONSE_VERSION,
        "success": True,
        "summary_type": kind,
    }

    def failed(bad: BadRequest) -> dict[str, Any]:
        return head | {"success": False, "error_code": bad.code, "error": bad.message}

    scene_id = _text(fields, "scene_id")
    if isinstance(scene_id, BadRequest):
        return failed(scene_id)
    head["scene_id"] = scene_id
    if kind not in ("scene", "single_image", "multi_image"):
        return failed(
            BadRequest(
                "INVALID_SUMMARY_TYPE",
                f"summary_type: expected scene, single_image or multi_image, got {kind!r}.",
            )
        )
    try:
        record = load(scene_id)
    except (OSError, ValueError) as error:
        return failed(BadRequest("EXECUTION_FAILED", str(error)))
    if kind == "scene":
        counts = _counts(record, np.asarray(record.scene.object_valid))
        area = float(record.scene.floor_area)
        return head | {
            "total_objects": sum(counts.values()),
            "unique_label_count": len(counts),
            "labels": sorted(counts),
            "label_counts": counts,
            "room_size": None if math.isnan(area) else round(area, 4),
        }
    names = _image_names(fields)
    if isinstance(names, BadRequest):
        return failed(names)
    if not names:
        return failed(BadRequest("INVALID_INPUT", "expected image_path or image_paths, got none."))
    found = [(name, frame_index(record, name)) for name in names]
    summaries = [_image_summary(record, i) for _, i in found if not isinstance(i, BadRequest)]
    errors = [{"frame_id": n, "error": i.message} for n, i in found if isinstance(i, BadRequest)]
    if kind == "single_image":
        if not summaries:
            return failed(BadRequest("INVALID_INPUT", errors[0]["error"]))
        return head | summaries[0]
    labels = [set(summary["visible_labels"]) for summary in summaries]
    totals = sum(
        (collections.Counter(s["visible_label_counts"]) for s in summaries), collections.Counter()
    )
    return head | {
        "success": bool(summaries),
        "num_frames_requested": len(names),
        "num_frames_succeeded": len(summaries),
        "num_frames_failed": len(errors),
        "frame_summaries": summaries,
        "aggregate": {
            "union_visible_labels": sorted(set().union(*labels)),
            "intersection_visible_labels": sorted(set.intersection(*labels)) if labels else [],
            "sum_visible_label_counts": dict(totals),
        },
        "errors": errors,
    }


def _counts(record: SceneRecord, mask: np.ndarray) -> dict[str, int]:
    names = [record.labels[int(record.scene.label[index])] for index in np.flatnonzero(mask)]
    return dict(sorted(collections.Counter(names).items()))


def _image_summary(record: SceneRecord, frame: int) -> dict[str, Any]:
    counts = dict(sorted(collections.Counter(visible_labels(record, frame)).items()))
    return {
        "frame_id": record.frame_ids[frame],
        "image_path": f"{FRAME_FOLDER}/{record.image_paths[frame].name}",
        "min_visibility": MIN_VISIBILITY,
        "total_objects_in_frame": int(np.asarray(record.scene.seen[frame]).sum()),
        "visible_objects_count": sum(counts.values()),
        "visible_unique_label_count": len(counts),
        "visible_labels": sorted(counts),
        "visible_label_counts": counts,
    }


def answer_records(
    records: Sequence[Any], load: Loader, *, strict_margin: bool = False
) -> list[dict[str, Any]]:
    """One reply for each record, in order; questions are judged together.

    A record that could not even be parsed comes as a `BadRequest` and has its reply too.
    """
    replies: list[dict[str, Any] | None] = []
    requests: list[tuple[int, Request]] = []
    for index, fields in enumerate(records):
        if isinstance(fields, BadRequest):
            replies.append(refusal({}, fields))
        elif not isinstance(fields, dict):
            bad = BadRequest(
                "INVALID_INPUT", f"expected a JSON object, got {type(fields).__name__}."
            )
            replies.append(refusal({}, bad))
        elif fields.get("request") == "summary":
            replies.append(summarise(fields, load))
        else:
            request = parse_request(fields, load)
            if isinstance(request, BadRequest):
                replies.append(refusal(fields, request))
            else:
                replies.append(None)
                requests.append((index, request))
    answered = answer_requests([request for _, request in requests], strict_margin=strict_margin)
    for (index, request), reply in zip(requests, answered, strict=True):
        replies[index] = reply_record(request, reply)
    return [reply for reply in replies if reply is not None]
