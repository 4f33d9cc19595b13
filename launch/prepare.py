"""Raw data to unified scenes. `rooms` needs no raw data: it makes furnished rooms.

    python -m launch.prepare --dataset=rooms --out=data/rooms --count=240 --val_count=60 --seed=0
    python -m launch.prepare --dataset=rooms --out=data/rooms --contact_sheet=rooms.png

A run that was stopped goes on: finished scenes are kept, and --count may grow. The same seed gives
the same bytes with any number of workers.
"""

import concurrent.futures
import dataclasses
import json
import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from data_pipelines import contact_sheet, rooms, unified
from geometry_jax import scene_io
from launch.errors import UserError, run, user_errors

DATASETS = ("rooms", "scannet", "scannetpp", "arkitscenes")
RECIPE_VERSION = 3
RECIPE_FILE = "rooms.json"
VAL_START = 5000  # held-out rooms are numbered from here, whatever the count
WORTH_A_WORKER = 24  # rooms; a process needs about three seconds to start

_DATASET = flags.DEFINE_enum("dataset", "rooms", DATASETS, "What to prepare.")
_RAW = flags.DEFINE_string("raw", None, "Folder of the raw data; rooms needs none.")
_OUT = flags.DEFINE_string(
    "out", None, "Folder for the scenes.", allow_override=True, required=True
)
_COUNT = flags.DEFINE_integer("count", 240, "Rooms for training.", 0, VAL_START)
_VAL_COUNT = flags.DEFINE_integer("val_count", 60, "Held-out rooms.", 0, VAL_START)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of all rooms.", lower_bound=0)
_FRAMES = flags.DEFINE_integer("frames", 8, "Pictures of a room.", 2, 64)
_SIZE = flags.DEFINE_string("image_size", "112x112", "Width and height of a picture, pixels.")
_VIEW = flags.DEFINE_float("field_of_view", 85.0, "Horizontal, degrees.", 20.0, 130.0)
_WORKERS = flags.DEFINE_integer("workers", 2, "Processes.", lower_bound=1)
_SHEET = flags.DEFINE_string("contact_sheet", None, "Also draw some rooms into this PNG.")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What decides the bytes of a room, beside its number."""

    version: int
    seed: int
    frames: int
    width: int  # pixels
    height: int
    field_of_view: float  # degrees


def _recipe() -> Recipe:
    width, _, height = _SIZE.value.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UserError(
            f"--image_size: expected WIDTHxHEIGHT such as 112x112, got {_SIZE.value!r}."
        )
    if int(width) % 2 or int(height) % 2:
        raise UserError(f"--image_size: expected even numbers, got {_SIZE.value}.")
    return Recipe(RECIPE_VERSION, _SEED.value, _FRAMES.value, int(width), int(height), _VIEW.value)


def _check_recipe(root: Path, recipe: Recipe) -> None:
    """One folder holds rooms of one recipe; the counts may grow."""
    path = root / RECIPE_FILE
    wanted = dataclasses.asdict(recipe)
    if path.is_file():
        with user_errors(ValueError, place=str(path)):
            known = json.loads(path.read_text())
        if not isinstance(known, dict):
            raise UserError(f"{path}: expected the recipe of the rooms, got {known!r:.40}.")
        differs = [key for key in wanted if known.get(key) != wanted[key]]
        if differs:
            shown = ", ".join(f"{k}: {known.get(k)} there, {wanted[k]} asked" for k in differs)
            raise UserError(
                f"{root} holds rooms of another recipe ({shown}); "
                "choose another --out, or delete the folder."
            )
    elif root.is_dir() and any(root.iterdir()):
        raise UserError(f"{root} is not empty and holds no rooms; choose another --out.")
    else:
        root.mkdir(parents=True, exist_ok=True)
        part = root / f".{RECIPE_FILE}.part"
        part.write_text(json.dumps(wanted, indent=1) + "\n")
        part.rename(path)


def scene_name(number: int) -> str:
    return f"scene{number:04d}_00"


def make_scene(root: Path, split: str, number: int, recipe: Recipe) -> str:
    """Generates and writes room `number`; runs in a worker process. Returns the scene's id."""
    seed = (recipe.seed, number)
    room = rooms.make_room(
        seed,
        frames=recipe.frames,
        width=recipe.width,
        height=recipe.height,
        field_of_view=float(np.deg2rad(recipe.field_of_view)),
    )
    source = rooms.scene_source(room, scene_name(number), seed)
    unified.write_scene(root, split, source)
    return source.scene_id


def _use_cpu() -> None:
    # The same bytes on every machine, and no accelerator shared by several processes.
    jax.config.update("jax_platforms", "cpu")


def _start_worker() -> None:
    _use_cpu()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C


def _make_all(
    root: Path, todo: Sequence[tuple[str, int]], recipe: Recipe, workers: int
) -> Iterator[str]:
    workers = min(workers, len(todo) // WORTH_A_WORKER)
    if workers < 2:
        for split, number in todo:
            yield make_scene(root, split, number, recipe)
        return
    # Spawned, because JAX must not be forked once it runs.
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, initializer=_start_worker)
    try:
        futures = [pool.submit(make_scene, root, split, n, recipe) for split, n in todo]
        for future in concurrent.futures.as_completed(futures):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _write_sheet(root: Path, path: Path) -> None:
    names = [name for split in ("train", "val") for name in scene_io.list_scenes(root, split)]
    with user_errors(ValueError, FileNotFoundError, place="--contact_sheet"):
        records = [scene_io.load_scene(root, name) for name in names[: contact_sheet.ROOMS]]
        sheet = contact_sheet.draw(records)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def main(argv: Sequence[str]) -> None:
    if _DATASET.value != "rooms":
        raise UserError(f"--dataset={_DATASET.value} is not available yet; expected rooms.")
    if _RAW.value:
        raise UserError("--raw: rooms are generated and need no raw data.")
    if _SHEET.value and not _SHEET.value.lower().endswith(".png"):
        raise UserError(f"--contact_sheet: expected a name that ends in .png, got {_SHEET.value}.")
    started = time.monotonic()
    root = Path(_OUT.value)
    recipe = _recipe()
    with user_errors(OSError):
        _check_recipe(root, recipe)
    wanted = [("train", n) for n in range(_COUNT.value)]
    wanted += [("val", VAL_START + n) for n in range(_VAL_COUNT.value)]
    todo = [
        (split, number)
        for split, number in wanted
        if not unified.is_complete(root, split, scene_name(number))
    ]
    _use_cpu()
    try:
        with user_errors(OSError, rooms.NoRoomError):
            made = _make_all(root, todo, recipe, _WORKERS.value)
            for _ in tqdm(made, total=len(todo), desc="rooms", unit="room", disable=not todo):
                pass
            if _SHEET.value:
                _write_sheet(root, Path(_SHEET.value))
    except KeyboardInterrupt as stop:
        raise UserError("stopped; finished rooms are kept, the same command goes on.") from stop
    seconds = time.monotonic() - started
    skipped = len(wanted) - len(todo)
    print(f"{root}: done {len(todo)}, skipped {skipped}, {seconds:.1f} s")


if __name__ == "__main__":
    run(main)
