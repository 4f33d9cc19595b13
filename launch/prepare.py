"""Raw data to unified scenes. `rooms` needs no raw data: it makes furnished rooms.

    python -m launch.prepare --dataset=rooms --out=data/rooms --count=200 --val_count=40 --seed=0
    python -m launch.prepare --dataset=rooms --out=data/rooms --contact_sheet=rooms.png

A run that was stopped goes on: finished scenes are kept.
"""

import concurrent.futures
import dataclasses
import json
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from absl import flags
from PIL import Image, ImageDraw
from tqdm import tqdm

from data_pipelines import rooms, unified
from data_pipelines.furniture import CATEGORIES
from geometry_jax import scene_io
from launch.errors import UserError, run, user_errors

DATASETS = ("rooms", "scannet", "scannetpp", "arkitscenes")
RECIPE_VERSION = 1
VAL_START = 5000  # held-out rooms are numbered from here, whatever the count
SHEET_ROOMS = 6
MAX_OBJECTS_SHEET = 8

_DATASET = flags.DEFINE_enum("dataset", "rooms", DATASETS, "What to prepare.")
_RAW = flags.DEFINE_string("raw", None, "Folder of the raw data; rooms needs none.")
_OUT = flags.DEFINE_string("out", None, "Folder for the scenes.", required=True)
_COUNT = flags.DEFINE_integer("count", 240, "Rooms for training.", lower_bound=0)
_VAL_COUNT = flags.DEFINE_integer("val_count", 60, "Held-out rooms.", lower_bound=0)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of all rooms.", lower_bound=0)
_FRAMES = flags.DEFINE_integer("frames", 8, "Pictures of a room.", lower_bound=2)
_SIZE = flags.DEFINE_string("image_size", "112x112", "Width and height of a picture, pixels.")
_VIEW = flags.DEFINE_float("field_of_view", 85.0, "Horizontal, degrees.", 20.0, 130.0)
_WORKERS = flags.DEFINE_integer("workers", 2, "Processes.", lower_bound=1)
_SHEET = flags.DEFINE_string("contact_sheet", None, "Also draw some rooms into this PNG.")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What decides the pixels of a room, beside its number."""

    version: int
    seed: int
    frames: int
    width: int
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
    """One folder holds rooms of one recipe; the count may grow."""
    path = root / "rooms.json"
    if path.is_file():
        with user_errors(ValueError, place=str(path)):
            known = json.loads(path.read_text())
        wanted = dataclasses.asdict(recipe)
        differs = sorted(key for key in wanted if known.get(key) != wanted[key])
        if differs:
            shown = ", ".join(f"{k}={known.get(k)} there, {wanted[k]} asked" for k in differs)
            raise UserError(
                f"{root} holds rooms of another recipe ({shown}); choose another --out."
            )
    elif root.is_dir() and any(root.iterdir()):
        raise UserError(f"{root} is not empty and holds no rooms; choose another --out.")
    else:
        root.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dataclasses.asdict(recipe), indent=1) + "\n")


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


def scene_name(number: int) -> str:
    return f"scene{number:04d}_00"


def _make_all(
    root: Path, todo: Sequence[tuple[str, int]], recipe: Recipe, workers: int
) -> Iterator[str]:
    if workers == 1 or len(todo) < 4 * workers:
        for split, number in todo:
            yield make_scene(root, split, number, recipe)
        return
    # Spawned, because JAX must not be forked once it runs.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = [pool.submit(make_scene, root, split, n, recipe) for split, n in todo]
        for future in concurrent.futures.as_completed(futures):
            yield future.result()


def contact_sheet(root: Path, path: Path) -> None:
    """A picture of some rooms, a row each, under a legend of the labels."""
    names = scene_io.list_scenes(root, "train")[:SHEET_ROOMS]
    rows = []
    for name in names:
        record = scene_io.load_scene(root, name)
        shown = [
            Image.open(p).resize((224, 224), Image.Resampling.NEAREST) for p in record.image_paths
        ]
        rows.append(
            np.concatenate([np.asarray(x.convert("RGB")) for x in shown[:MAX_OBJECTS_SHEET]], 1)
        )
    body = np.concatenate(rows)
    sheet = Image.new("RGB", (body.shape[1], body.shape[0] + 40), "white")
    sheet.paste(Image.fromarray(body), (0, 40))
    draw = ImageDraw.Draw(sheet)
    for index, category in enumerate(CATEGORIES):
        left = 8 + index * (sheet.width // len(CATEGORIES))
        color = tuple(int(255 * c) for c in category.color)
        draw.rectangle([left, 10, left + 20, 30], fill=color, outline="black")
        draw.text((left + 26, 13), category.label, fill="black")
    sheet.save(path)


def main(argv: Sequence[str]) -> None:
    if _DATASET.value != "rooms":
        raise UserError(f"--dataset={_DATASET.value} is not available yet; expected rooms.")
    if _RAW.value:
        raise UserError("--raw: rooms are generated and need no raw data.")
    started = time.monotonic()
    root = Path(_OUT.value)
    recipe = _recipe()
    with user_errors(OSError):
        _check_recipe(root, recipe)
    wanted = [("train", n) for n in range(_COUNT.value)]
    wanted += [("val", VAL_START + n) for n in range(_VAL_COUNT.value)]
    if _COUNT.value > VAL_START:
        raise UserError(f"--count: expected at most {VAL_START}, got {_COUNT.value}.")
    todo = [
        (split, number)
        for split, number in wanted
        if not unified.is_complete(root, split, scene_name(number))
    ]
    with user_errors(OSError, RuntimeError):
        made = _make_all(root, todo, recipe, _WORKERS.value)
        for _ in tqdm(made, total=len(todo), desc="rooms", unit="room", disable=not todo):
            pass
        if _SHEET.value:
            contact_sheet(root, Path(_SHEET.value))
    seconds = time.monotonic() - started
    print(f"done {len(todo)}, skipped {len(wanted) - len(todo)}, {seconds:.1f} s: {root}")


if __name__ == "__main__":
    run(main)
