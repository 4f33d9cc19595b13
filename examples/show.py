"""What the examples share: a room made on the spot, and a question shown with its reply."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from geometry_jax import scene_io
from geometry_jax.scene_io import SceneRecord
from launch import prepare
from spatialevo_jax.environment import picture, records
from spatialevo_jax.environment.fields import BadRequest, parse_request
from spatialevo_jax.environment.respond import answer_requests

SEED, FRAMES, WIDTH, HEIGHT, FIELD_OF_VIEW = 7, 8, 256, 192, 85.0


def make_room(out: Path, number: int = 0) -> Path:
    """Generates one furnished room below `out`, once; returns the root of its scenes."""
    root = out / "scenes"
    if not scene_io.list_scenes(root, "train"):
        recipe = prepare.Recipe(prepare.RECIPE_VERSION, SEED, FRAMES, WIDTH, HEIGHT, FIELD_OF_VIEW)
        prepare.make_scene(root, "train", number, recipe)
    return root


def load_room(root: Path) -> SceneRecord:
    """The room that `make_room` made."""
    (name,) = scene_io.list_scenes(root, "train")
    return scene_io.load_scene(root, name)


def ask(
    room: SceneRecord, fields: dict[str, Any], out: Path, name: str
) -> tuple[dict[str, Any], Path]:
    """Asks one question, prints request and reply, and draws why; returns both."""
    fields = {"scene_id": room.scene_id, **fields}
    print("request ", json.dumps(fields))
    request = parse_request(fields, lambda _: room)
    path = out / f"{name}.png"
    if isinstance(request, BadRequest):
        reply = records.refusal(fields, request)
        print("reply   ", reply["error_code"], "-", reply["error"], "\n")
        return reply, path
    (answered,) = answer_requests([request])
    reply = records.reply_record(request, answered)
    if answered.valid:
        clear = "nothing to decide" if reply["margin"] is None else f"margin {reply['margin']:g}"
        print("reply   ", reply["answer"], f"({clear})")
        print("evidence", json.dumps(records.evidence_record(request, answered)))
    else:
        print("reply   ", reply["error_code"], answered.reason.name, "-", reply["error"])
    picture.draw(request, answered, path)
    print("picture ", path, "\n")
    return reply, path


def images(room: SceneRecord, *frames: int) -> list[str]:
    """Paths of frames, as a request names them."""
    return [f"{scene_io.FRAME_FOLDER}/{room.image_paths[frame].name}" for frame in frames]


def run(main: Callable[[Path], None]) -> None:
    """Runs an example with the folder named on the command line, runs/examples by default."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.exit(f"{out}: expected a folder for the pictures ({error}).")
    main(out)
