"""Fields of a request -> a `Request`: the published names, and nothing that they do not name.

A field that is not understood is never silently used: one of the wrong type, or of another task, is
a bad request; one that nothing reads is named in the reply as ignored.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

from geometry_jax.scene_io import FRAME_FOLDER, SceneRecord
from geometry_jax.tasks import TASK_IDS, TASKS
from geometry_jax.types import MIN_VISIBILITY, TaskSpec
from spatialevo_jax.environment.conventions import ConventionName
from spatialevo_jax.environment.respond import DIFFICULTIES, NOTHING_GIVEN, Given, Request

Loader = Callable[[str], SceneRecord]  # scene id -> record; raises OSError or ValueError

ALIASES = {
    "relative_direction_hard": (
        "relativedirection relativedirectioneasy relativedirectionmedium vsirelativedirection "
        "vsirelativedirectioneasy vsirelativedirectionmedium"
    ),
    "single_image_relative_direction": "singleimagedirection",
    "depth_order_obj_obj": "depthorder depthcomparison",
    "position_cam_cam": "cameraposition camerarelativeposition",
    "motion_camera": "cameramotion",
    "distance_cam_obj": (
        "cameradistance distancetocamera distancefromcamera cameraobjectdistance "
        "objectcameradistance"
    ),
    "elevation_cam_cam": "cameraelevation cameraheight",
    "position_cam_obj": "cameraobjectposition",
    "position_cam_reg": "cameraregionposition",
    "attribute_measurement": "objectsizecomparison sizecomparison",
}
TASK_OF = {
    name: task
    for task in TASK_IDS
    for name in (task.replace("_", ""), *ALIASES.get(task, "").split())
}  # squeezed name -> canonical name

NULLS = frozenset({"", "null", "none", "unknown", "n/a"})  # a slot that is left open
ROLE_FIELDS = ("camera_reference_image_idx", "camera_target_image_idx")
SLOT_FIELDS = frozenset(
    slot for task in TASKS for slot in task.slots if not slot.startswith("candidate")
) | {"candidate_labels"}
IMAGES_NEEDED = {"scene": 0, "single_image": 1, "image_pair": 2}
# Fields that name the images of a task one by one, by how many it needs.
IMAGE_FIELDS = {
    0: (),
    1: (("image_path",), ("frame_id",)),
    2: (("image_path_1", "image_path_2"), ("frame_id_1", "frame_id_2")),
}
# The fields of a request that says nothing but its question and its images.
PLAIN_FIELDS = frozenset(
    (
        *("request", "task_type", "scene_id", "question", "image_path", "image_paths"),
        *("image_path_1", "image_path_2", "frame_id", "frame_id_1", "frame_id_2"),
    )
)
# Fields beside slots and roles that only some tasks read.
OPTIONS_OF = {
    "relative_direction_hard": ("difficulty",),
    "attribute_measurement": ("measurement_type",),
    "absolute_distance": ("use_points",),
    "relative_distance": ("use_points",),
}
TASK_FIELDS = SLOT_FIELDS.union(ROLE_FIELDS) | {
    "difficulty",
    "measurement_type",
    "use_points",
}  # what each of them says depends on the task
# Everything that a request may hold; other fields are named in the reply.
KNOWN_FIELDS = PLAIN_FIELDS | TASK_FIELDS | {"frame_type", "min_visibility", "return_intermediate"}


@dataclasses.dataclass(frozen=True)
class BadRequest:
    """A record that asks nothing that could be answered."""

    code: str
    message: str


@functools.cache
def expected_fields(task: str) -> tuple[str, ...]:
    """The slots of a task under their published names."""
    if task == "relative_distance":
        return ("target_label", "candidate_labels")
    return TASKS[TASK_IDS[task]].slots


@functools.cache
def own_fields(task: str) -> tuple[str, ...]:
    """The fields that say what a question of the task asks."""
    roles = ROLE_FIELDS[: len(TASKS[TASK_IDS[task]].roles)]
    return (*expected_fields(task), *roles, *OPTIONS_OF.get(task, ()))


def fields_of_others(fields: Mapping[str, Any], task: str) -> list[str]:
    """The fields of a request that say something, to other tasks but not to this one, sorted."""
    strange = fields.keys() & TASK_FIELDS - set(own_fields(task))
    return sorted(key for key in strange if not _says_nothing(fields[key]))


def _says_nothing(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in NULLS
    return value is None or value is False or value == []


def resolve_task(name: str) -> str | BadRequest:
    """Canonical task name, by exact name or listed alias; blanks, brackets and case drop out."""
    if name in TASK_IDS:
        return name
    squeezed = re.sub(r"[\s_\[\]【】]", "", name).lower()
    if squeezed in TASK_OF:
        return TASK_OF[squeezed]
    return BadRequest(
        "UNSUPPORTED_TASK", f"task_type: expected one of {', '.join(TASK_IDS)}, got {name!r:.80}."
    )


@functools.lru_cache(maxsize=4096)
def _positions(frame_ids: tuple[str, ...]) -> dict[str, int]:
    """Every short name of a frame -> its index."""
    named = {f"{FRAME_FOLDER}/{frame}.jpg": index for index, frame in enumerate(frame_ids)}
    return named | {frame: index for index, frame in enumerate(frame_ids)}


def frame_index(record: SceneRecord, name: str) -> int | BadRequest:
    """The frame that a path or id names: `frame_processed/120.jpg`, any path that ends so, or
    `120`. Leading zeros count for nothing.
    """
    positions = _positions(record.frame_ids)
    found = positions.get(name)
    if found is None:
        stem = PurePosixPath(name.replace("\\", "/")).stem
        found = positions.get(stem)
        digits = re.search(r"[0-9]+$", stem)
        if found is None and digits:
            found = positions.get(digits[0].lstrip("0") or "0")
    if found is not None:
        return found
    shown = ", ".join(f"{FRAME_FOLDER}/{i}.jpg" for i in record.frame_ids[:4])
    return BadRequest(
        "INVALID_INPUT", f"{record.scene_id}: expected a frame such as {shown}, got {name!r:.80}."
    )


def text_field(fields: Mapping[str, Any], key: str) -> str | BadRequest:
    """A field that must hold text."""
    value = fields.get(key)
    return value if isinstance(value, str) and value.strip() else _no_text(key, value)


def _no_text(key: str, value: Any) -> BadRequest:
    return BadRequest("INVALID_INPUT", f"{key}: expected text, got {value!r:.80}.")


def image_names(fields: Mapping[str, Any]) -> list[str] | BadRequest:
    """The images of a request, in order, from any of the published fields."""
    paths = fields.get("image_paths")
    if isinstance(paths, list) and len(paths) >= 2:
        names = paths
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
        names = []
    return frame_names(names)


def _other_images(
    record: SceneRecord, fields: Mapping[str, Any], frames: list[int]
) -> BadRequest | None:
    """What is wrong where a request names its images twice: they must be the same ones."""
    for keys in IMAGE_FIELDS[len(frames)]:
        if keys[0] not in fields:
            continue
        names = [fields[key] for key in keys if fields.get(key) is not None]
        read = frame_names(names)
        if isinstance(read, BadRequest):
            return read
        found = [frame_index(record, name) for name in read]
        if len(found) == len(frames) and found != frames:
            ids = ", ".join(record.frame_ids[frame] for frame in frames)
            got = ", ".join(map(str, names))
            return BadRequest(
                "INVALID_INPUT",
                f"{keys[0]}: expected frame {ids} as in the other fields, got {got:.80}.",
            )
    return None


def frame_names(names: list[Any]) -> list[str] | BadRequest:
    """Paths or ids of frames, the ids as text or whole numbers."""
    read: list[str] = []
    for name in names:
        text = str(name) if isinstance(name, int) and not isinstance(name, bool) else name
        if not isinstance(text, str) or not text.strip():
            return BadRequest(
                "INVALID_INPUT", f"images: expected a path or a frame id, got {text!r:.80}."
            )
        read.append(text)
    return read


def min_visibility(
    fields: Mapping[str, Any], convention: ConventionName = "corrected"
) -> float | BadRequest:
    """The share of an object that an image must show; a request may raise the floor only."""
    value = fields.get("min_visibility")
    if value is None:
        return MIN_VISIBILITY
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        if convention == "reference":
            return MIN_VISIBILITY
        return BadRequest(
            "INVALID_INPUT", f"min_visibility: expected a number from 0 to 1, got {value!r:.80}."
        )
    return float(max(MIN_VISIBILITY, min(value, 2)))


def given(fields: Mapping[str, Any], spec: TaskSpec) -> Given | BadRequest:
    """The slots and image roles that a request states beside its sentence."""
    labels: list[str] = []
    for slot in spec.slots:
        if slot.startswith("candidate"):
            break
        value = fields.get(slot)
        if value is not None and not isinstance(value, str):
            return BadRequest("INVALID_INPUT", f"{slot}: expected text, got {value!r:.80}.")
        labels.append("" if value is None or value.strip().lower() in NULLS else value)
    candidates = fields.get("candidate_labels") if spec.name == "relative_distance" else None
    if candidates is not None:
        if not isinstance(candidates, list) or not all(isinstance(one, str) for one in candidates):
            return BadRequest(
                "INVALID_INPUT",
                f"candidate_labels: expected a list of text, got {candidates!r:.80}.",
            )
        labels += [one for one in candidates if one.strip().lower() not in NULLS]
    images = [fields.get(field) for field in ROLE_FIELDS[: len(spec.roles)]]
    for field, image in zip(ROLE_FIELDS, images, strict=False):
        if image is not None and (isinstance(image, bool) or image not in (1, 2)):
            return BadRequest("INVALID_INPUT", f"{field}: expected 1 or 2, got {image!r:.80}.")
    stated = Given(tuple(labels), tuple(int(image or 0) for image in images))
    return stated if any(stated.labels) or any(stated.images) else NOTHING_GIVEN


def _choice(fields: Mapping[str, Any], key: str, choices: tuple[str, ...]) -> BadRequest | None:
    value = fields.get(key)
    if value is None or (isinstance(value, str) and value in choices):
        return None
    expected = " or ".join(", ".join(choice for choice in choices if choice).rsplit(", ", 1))
    return BadRequest("INVALID_INPUT", f"{key}: expected {expected}, got {value!r:.80}.")


@dataclasses.dataclass(frozen=True)
class Options:
    """What a request may say beside its question and its images."""

    difficulty: str = ""
    use_points: bool = False
    given: Given = NOTHING_GIVEN
    min_visibility: float = MIN_VISIBILITY


PLAIN = Options()


def _options(
    fields: Mapping[str, Any], spec: TaskSpec, convention: ConventionName
) -> Options | BadRequest:
    strange = fields_of_others(fields, spec.name)
    if strange and convention == "corrected":
        own = ", ".join(own_fields(spec.name)) or "none"
        return BadRequest(
            "INVALID_INPUT",
            f"{strange[0]}: {spec.name} does not read it; expected of such fields: {own}.",
        )
    bad = (
        _choice(fields, "difficulty", DIFFICULTIES)
        or _choice(fields, "measurement_type", ("", "compare_longer"))
        or _choice(fields, "frame_type", ("", FRAME_FOLDER))
    )
    if bad is not None:
        return bad
    threshold, stated = min_visibility(fields, convention), given(fields, spec)
    if isinstance(threshold, BadRequest):
        return threshold
    if isinstance(stated, BadRequest):
        return stated
    difficulty = fields.get("difficulty") or ""
    return Options(
        difficulty if spec.name == "relative_direction_hard" else "",
        fields.get("use_points") is True,
        stated,
        threshold,
    )


def parse_request(
    fields: Mapping[str, Any], load: Loader, convention: ConventionName = "corrected"
) -> Request | BadRequest:
    """A JSON record as a request; reads the scene."""
    for key in ("task_type", "question", "scene_id"):
        value = fields.get(key)
        if type(value) is not str or not value or value.isspace():
            return _no_text(key, value)
    task = resolve_task(fields["task_type"])
    if isinstance(task, BadRequest):
        return task
    spec = TASKS[TASK_IDS[task]]
    names = image_names(fields)
    if isinstance(names, BadRequest):
        return names
    needed = IMAGES_NEEDED[spec.modality]
    if len(names) < needed:
        return BadRequest("INVALID_INPUT", f"{task} needs {needed} image(s), got {len(names)}.")
    if needed == 1 and len(names) > 1:
        return BadRequest("INVALID_INPUT", f"{task} needs one image, got {len(names)}.")
    options = PLAIN if PLAIN_FIELDS.issuperset(fields) else _options(fields, spec, convention)
    if isinstance(options, BadRequest):
        return options
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
    twice = _other_images(record, fields, frames)
    if twice is not None:
        return twice
    return Request(
        record,
        task,
        fields["question"],
        tuple(frames),
        options.difficulty,
        options.use_points,
        options.given,
        options.min_visibility,
    )


def ignored_fields(fields: Mapping[str, Any], task: str) -> list[str]:
    """The fields of a request that nothing has read, sorted."""
    if PLAIN_FIELDS.issuperset(fields):
        return []
    return sorted((fields.keys() - KNOWN_FIELDS).union(fields_of_others(fields, task)))
