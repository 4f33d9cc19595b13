r"""Asks the geometric environment: one question by hand, or many as JSON lines.

    python -m launch.ask --scene=data/rooms/val/scene5000_00 --task=absolute_distance \
        --question="What is the distance between the bed and the bookshelf in meters?"
    python -m launch.ask --scenes=data/rooms --scene=scene5000_00 --task=depth_order_obj_obj \
        --images=frame_processed/0.jpg \
        --question="Which is closer to the camera, the bed or the cabinet?"
    python -m launch.ask --scenes=data/rooms --scene=scene5000_00 --task=object_size \
        --question="How big is the bed?" --picture=why.png
    python -m launch.ask --scenes=data/rooms --requests=questions.jsonl --out=replies.jsonl

By hand, the answer is printed as JSON with its evidence; a refused question is one sentence and a
non-zero exit; --picture draws why. With --requests there is one reply a line, in order, whatever
the requests hold; a line with "request": "summary" is summed up.
"""

import codecs
import functools
import gc
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from tqdm import tqdm

from geometry_jax import scene_io
from geometry_jax.tasks import TASK_IDS
from launch.errors import UserError, one_sentence, run, user_errors
from spatialevo_jax.environment import fields as request_fields
from spatialevo_jax.environment import records
from spatialevo_jax.environment.conventions import CONVENTIONS, ConventionName
from spatialevo_jax.environment.respond import answer_requests

CHUNK = 4096  # requests answered together

_SCENES = flags.DEFINE_string(
    "scenes", None, "Folder in the unified layout: train/, val/, metadata/."
)
_SCENE = flags.DEFINE_string("scene", None, "By hand: a scene id, or the path of a scene folder.")
_TASK = flags.DEFINE_string("task", None, f"By hand: one of {', '.join(TASK_IDS)}.")
_QUESTION = flags.DEFINE_string("question", None, "By hand: the question.")
_IMAGES = flags.DEFINE_list(
    "images", [], "By hand: the images shown, such as frame_processed/0.jpg."
)
_DIFFICULTY = flags.DEFINE_string(
    "difficulty", None, "relative_direction_hard: easy, medium, hard."
)
_REQUESTS = flags.DEFINE_string("requests", None, "File of JSON lines, one request each.")
_OUT = flags.DEFINE_string(
    "out", None, "File for the replies, one JSON line each.", allow_override=True
)
_PICTURE = flags.DEFINE_string("picture", None, "By hand: a PNG file that shows why.")
_BRIEF = flags.DEFINE_bool("brief", False, "With --requests: replies without their evidence.")
_STRICT = flags.DEFINE_bool("strict_margin", False, "Refuse answers too near a decision edge.")
_CONVENTION = flags.DEFINE_enum(
    "convention", "corrected", tuple(CONVENTIONS), "What the words mean, or what was published."
)


def _convention() -> ConventionName:
    return "reference" if _CONVENTION.value == "reference" else "corrected"


def _loader(root: Path) -> request_fields.Loader:
    """Loads each scene once; one that can't be read is remembered too."""

    @functools.lru_cache(maxsize=4096)
    def found(scene_id: str) -> scene_io.SceneRecord | str:
        try:
            return scene_io.load_scene(root, scene_id)
        except (OSError, ValueError) as error:
            return one_sentence(error)

    def load(scene_id: str) -> scene_io.SceneRecord:
        record = found(scene_id)
        if isinstance(record, str):
            raise ValueError(record)
        return record

    return load


def _by_hand() -> None:
    scene_id, root = _SCENE.value, _SCENES.value
    if not (scene_id and _TASK.value and _QUESTION.value):
        raise UserError("by hand, --scene, --task and --question are needed; see --help.")
    if "/" in scene_id or root is None:
        folder = Path(scene_id)
        if not folder.is_dir():
            raise UserError(
                f"--scene: expected a scene folder, found no {folder}; or give --scenes too."
            )
        scene_id, root = folder.resolve().name, folder.resolve().parent.parent
    fields: dict[str, Any] = {
        "task_type": _TASK.value,
        "scene_id": scene_id,
        "question": _QUESTION.value,
        "difficulty": _DIFFICULTY.value,
    }
    if len(_IMAGES.value) == 1:
        fields["image_path"] = _IMAGES.value[0]
    elif _IMAGES.value:
        fields["image_paths"] = _IMAGES.value
    convention = _convention()
    request = request_fields.parse_request(fields, _loader(Path(root)), convention)
    if isinstance(request, request_fields.BadRequest):
        raise UserError(request.message)
    (reply,) = answer_requests([request], convention=convention, strict_margin=_STRICT.value)
    if _PICTURE.value:
        from spatialevo_jax.environment import picture  # matplotlib takes a second to import

        with user_errors(OSError):
            picture.draw(request, reply, Path(_PICTURE.value))
    record = records.reply_record(request, reply)
    if not reply.valid:
        raise UserError(record["error"])
    record["evidence"] = records.evidence_record(request, reply)
    print(json.dumps(record, indent=1, ensure_ascii=False))


def _read_line(number: int, line: bytes) -> Any:
    try:
        return json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        # Still one reply for the line: a record that asks nothing.
        return request_fields.BadRequest(
            "INVALID_INPUT",
            f"line {number}: expected a JSON object; it does not parse ({error}).",
        )


def _many(requests: Path) -> None:
    if not _SCENES.value or not _OUT.value:
        raise UserError("--requests needs --scenes and --out.")
    root = Path(_SCENES.value)
    if not root.is_dir():
        raise UserError(f"--scenes: expected a folder, found no {root}.")
    if Path(_OUT.value).is_dir():
        raise UserError(f"--out: expected a file to write, got the folder {_OUT.value}.")
    with user_errors(OSError):
        lines = requests.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
    if lines and not lines[-1]:
        lines.pop()
    load = _loader(root)
    partial = Path(f"{_OUT.value}.part")
    gc.disable()  # a reply holds no cycles; looking for some would take a tenth of the time
    with user_errors(OSError), partial.open("w", encoding="utf-8") as file:
        for start in tqdm(range(0, len(lines), CHUNK), desc="ask", unit="batch", disable=None):
            part = lines[start : start + CHUNK]
            asked = [_read_line(start + i + 1, line) for i, line in enumerate(part)]
            for reply in records.answer_records(
                asked,
                load,
                convention=_convention(),
                strict_margin=_STRICT.value,
                evidence=not _BRIEF.value,
            ):
                # Escaped: a request may hold half a surrogate pair, which UTF-8 has no form for.
                file.write(records.to_line(reply) + "\n")
    gc.enable()
    with user_errors(OSError):
        partial.replace(_OUT.value)
    print(f"answered {len(lines)} requests: {_OUT.value}", file=sys.stderr)


def main(argv: Sequence[str]) -> None:
    if _REQUESTS.value:
        _many(Path(_REQUESTS.value))
    else:
        _by_hand()


if __name__ == "__main__":
    run(main)
