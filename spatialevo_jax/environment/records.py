"""The environment's requests and replies as JSON records, with the field names of the published
oracle.

    {"task_type": "absolute_distance", "scene_id": "scene0000_00", "question": "…"}
    {"request": "summary", "summary_type": "scene", "scene_id": "scene0000_00"}

A record becomes a dataclass on the line after it is read; a bad one becomes a reply with an error
code, never a crash.
"""

import functools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from geometry_jax.checks import ALWAYS_CLEAR
from geometry_jax.reasons import Reason
from geometry_jax.tasks import TASK_IDS, TASKS
from spatialevo_jax.environment.conventions import ConventionName
from spatialevo_jax.environment.fields import (
    ROLE_FIELDS,
    BadRequest,
    Loader,
    expected_fields,
    ignored_fields,
    parse_request,
)
from spatialevo_jax.environment.identity import Same
from spatialevo_jax.environment.respond import Reply, Request, answer_requests
from spatialevo_jax.environment.summaries import (
    RESPONSE_VERSION,
    box_record,
    get_environment_summary,
)
from spatialevo_jax.environment.wordings import Slots

# How hard a task is to ask and to answer: the published scores, (generation, question).
DIFFICULTY = {
    "object_counting": (0.7, 1.0),
    "object_size": (1.0, 1.0),
    "absolute_distance": (1.0, 1.0),
    "room_size": (0.6, 1.0),
    "relative_distance": (1.0, 1.0),
    "relative_direction_hard": (1.0, 1.0),
    "single_image_relative_direction": (0.8, 1.0),
    "distance_cam_obj": (0.82, 0.86),
    "depth_order_obj_obj": (0.78, 0.83),
    "position_cam_cam": (0.9, 0.9),
    "elevation_cam_cam": (0.62, 0.72),
    "visibility_compare": (0.8, 0.82),
    "position_cam_obj": (0.8, 0.9),
    "position_cam_reg": (0.75, 0.9),
    "motion_camera": (0.9, 0.8),
    "attribute_measurement": (0.8, 0.9),
}
ISSUE_COST = 0.01  # of confidence, for each thing about the sentence that is merely odd
DIRECTION_WORDS = ("left", "right", "front", "back", "behind", "where", "direction")
# Where a reason is found, in the published terms: error code and failure stage.
READING = ("QUESTION_INVALID", "validation")
RULE = ("INVALID_QUESTION_RULE", "rule")
EXECUTION = ("EXECUTION_FAILED", "execution")
STAGES = {reason: RULE for reason in Reason} | {
    Reason.EMPTY_QUESTION: READING,
    Reason.WRONG_TASK: READING,
    Reason.MISSING_ROLE: READING,
    Reason.TOO_MANY: READING,
    Reason.CONTRADICTION: READING,
    Reason.WRONG_IMAGES: ("INVALID_INPUT", "input"),
    Reason.MISSING_FRAME: EXECUTION,
    Reason.MISSING_POSE: EXECUTION,
}
LABEL_REASONS = frozenset({Reason.ABSENT_LABEL, Reason.AMBIGUOUS_LABEL, Reason.NOT_AN_OBJECT})
LONGEST_ECHO = 80  # characters of a question's phrase that a message repeats


def validate_and_answer(
    fields: Mapping[str, Any], load: Loader, *, convention: ConventionName = "corrected"
) -> dict[str, Any]:
    """The reply to one question; see `answer_records` for many at once.

    Args:
        fields: `task_type`, `scene_id`, `question`, the images in any of the published fields.
        load: scene id -> record; raises OSError or ValueError for a scene that can't be read.
    """
    (reply,) = answer_records([fields], load, convention=convention)
    return reply


def answer_records(
    records: Sequence[Any],
    load: Loader,
    *,
    convention: ConventionName = "corrected",
    strict_margin: bool = False,
    evidence: bool = True,
) -> list[dict[str, Any]]:
    """One reply for each record, in order; questions are judged together.

    A record that could not even be parsed comes as a `BadRequest` and has its reply too. Without
    `evidence`, only the replies to requests with `return_intermediate` show what decides them.
    """
    replies: list[dict[str, Any]] = [{}] * len(records)
    places: list[int] = []
    requests: list[Request] = []
    for index, fields in enumerate(records):
        if isinstance(fields, BadRequest):
            replies[index] = refusal({}, fields)
        elif not isinstance(fields, dict):
            got = type(fields).__name__
            bad = BadRequest("INVALID_INPUT", f"expected a JSON object, got {got}.")
            replies[index] = refusal({}, bad)
        elif fields.get("request") == "summary":
            replies[index] = get_environment_summary(fields, load)
        else:
            request = parse_request(fields, load, convention)
            if isinstance(request, BadRequest):
                replies[index] = refusal(fields, request)
            else:
                places.append(index)
                requests.append(request)
    shown = evidence or any(records[i].get("return_intermediate") is True for i in places)
    answered = answer_requests(
        requests, convention=convention, strict_margin=strict_margin, evidence=shown
    )
    for index, request, reply in zip(places, requests, answered, strict=True):
        record = reply_record(request, reply)
        if reply.valid and (evidence or records[index].get("return_intermediate") is True):
            record["evidence"] = evidence_record(request, reply)
        ignored = ignored_fields(records[index], request.task)
        if ignored:
            record["ignored_fields"] = ignored
        replies[index] = record
    return replies


_ENCODER = json.JSONEncoder(check_circular=False)


def to_line(reply: dict[str, Any]) -> str:
    """A reply as one line of JSON."""
    return _ENCODER.encode(reply)


def refusal(fields: Mapping[str, Any], bad: BadRequest) -> dict[str, Any]:
    """The reply to a record that could not be read."""
    stage = "execution" if bad.code == "EXECUTION_FAILED" else "input"
    task = fields.get("task_type", "")
    return {
        "response_version": RESPONSE_VERSION,
        "is_valid": False,
        "task_type": task,
        "question": fields.get("question", ""),
        "answer": "",
        "error": bad.message,
        "error_code": bad.code,
        "failure_stage": stage,
        "parsed_params": {},
        "confidence": 0.0,
        "generation_difficulty_score": 1.0,
        "question_difficulty_score": 1.0,
        "judge_reference": {
            "task_type": task,
            "final_invalid_reason": bad.message,
            "error_code": bad.code,
            "error": bad.message,
            "failure_stage": stage,
            "parsed_params": {},
        },
    }


def issues(task: str, question: str) -> list[str]:
    """What is merely odd about a sentence."""
    found = [] if "?" in question else ["The sentence has no question mark."]
    if "position" in task:
        text = question.lower()
        if not any(word in text for word in DIRECTION_WORDS):
            found.append("The sentence holds no word of direction.")
    return found


def parsed_params(task: str, slots: Slots) -> dict[str, Any]:
    """The slots under their published names; labels that were not understood are left out."""
    labels = slots.labels
    if task == "relative_distance" and labels:
        parsed: dict[str, Any] = {
            "target_label": labels[0],
            "candidate_labels": [label for label in labels[1:] if label],
        }
    else:
        parsed = dict(zip(TASKS[TASK_IDS[task]].slots, labels, strict=False))
    if "" in labels:
        parsed = {name: value for name, value in parsed.items() if value}
    if slots.images:
        parsed |= zip(ROLE_FIELDS, slots.images, strict=False)
    if slots.difficulty:
        parsed["difficulty"] = slots.difficulty
    return parsed


def reply_record(request: Request, reply: Reply) -> dict[str, Any]:
    """The reply to a request, without its evidence."""
    task, valid = reply.task, reply.valid
    odd = issues(task, reply.question)
    generation, difficulty = DIFFICULTY[task] if valid else (1.0, 1.0)
    record: dict[str, Any] = {
        "response_version": RESPONSE_VERSION,
        "is_valid": valid,
        "task_type": task,
        "question": reply.question,
        "answer": reply.answer,
        "error": "",
        "error_code": "",
        "failure_stage": "ok",
        "parsed_params": parsed_params(task, reply.slots),
        "confidence": round(1.0 - ISSUE_COST * len(odd), 4) if valid else 0.0,
        "generation_difficulty_score": generation,
        "question_difficulty_score": difficulty,
        # Null where nothing has to be decided, as for a length.
        "margin": None if reply.margin >= ALWAYS_CLEAR else round(reply.margin, 4),
    }
    if valid:
        record["reasoning"] = ""
        record["score_detail"] = {
            "llm_extraction_calls": 0,
            "base_confidence": 1.0,
            "llm_extraction_penalty": 0.0,
        }
        return record
    return record | _failure(request, reply, record["parsed_params"], odd)


def _failure(
    request: Request, reply: Reply, parsed: dict[str, Any], odd: list[str]
) -> dict[str, Any]:
    code, stage = STAGES[reply.reason]
    sentence = explain(request, reply)
    expected = expected_fields(reply.task)
    failure: dict[str, Any] = {
        "error": sentence,
        "error_code": code,
        "failure_stage": stage,
        "reason": reply.reason.name,
    }
    judged = {
        "task_type": reply.task,
        "final_invalid_reason": sentence,
        **failure,
        "parsed_params": parsed,
        "expected_extraction_fields": list(expected),
        "resolved_extraction_fields": [name for name in expected if name in parsed],
        "unresolved_extraction_fields": [name for name in expected if name not in parsed],
    }
    if code == "QUESTION_INVALID":
        notes = {"validation_issues": [sentence, *odd], "validation_suggestions": []}
        result = {"is_valid": False, "issues": [sentence, *odd], "suggestions": []}
        failure |= {"validation_result": result, **notes}
        judged |= notes
    return failure | {"judge_reference": judged}


def explain(request: Request, reply: Reply) -> str:
    """The reason in words; where a label is the trouble, with that label and the scene's."""
    reason = reply.reason
    if reason is Reason.CONTRADICTION:
        return f"{reason.sentence} The sentence says {reply.phrase[:LONGEST_ECHO]!r}."
    if reason not in LABEL_REASONS:
        return reason.sentence
    phrase = f" It says {reply.phrase[:LONGEST_ECHO]!r}." if reply.phrase else ""
    labels = ", ".join(sorted(filter(str.strip, request.record.labels)))
    return f"{reason.sentence}{phrase} {request.record.scene_id} has: {labels}."


def evidence_record(request: Request, reply: Reply) -> dict[str, Any]:
    """What decides the answer: objects with boxes, points in world metres, frames, numbers."""
    if reply.evidence is None:
        return {}
    record, shown = request.record, reply.evidence
    boxes = _boxes(Same(record))
    points = [_rounded(point) for point in np.asarray(shown.points).tolist()]
    numbers = _rounded(np.asarray(shown.numbers).tolist())
    return {
        "objects": [boxes[i] for i in np.asarray(shown.objects).tolist() if 0 <= i < len(boxes)],
        "points_world": [point for point in points if len(point) == 3],
        "numbers": numbers,
        "frames": [record.frame_ids[frame] for frame in request.frames],
    }


@functools.lru_cache(maxsize=4096)
def _boxes(key: Same) -> list[dict[str, Any]]:
    """The objects of a scene as evidence shows them."""
    (record,) = key.records
    return [box_record(record, index) for index in range(len(record.object_ids))]


def _rounded(values: list[float]) -> list[float]:
    """The numbers that are finite, as JSON writes them."""
    return [round(value, 4) for value in values if math.isfinite(value)]
