"""Raw data to unified scenes. `rooms` needs no raw data: it makes furnished rooms.

    python -m launch.prepare --dataset=rooms --out=data/rooms --count=240 --val_count=60 --seed=0
    python -m launch.prepare --dataset=scannet --raw=/data/scannet --out=data/scannet --preview
    python -m launch.prepare --dataset=scannetpp --raw=/data/scannetpp --out=data/scannetpp
    python -m launch.prepare --dataset=arkitscenes --raw=/data/ARKitScenes --out=data/arkit
    python -m launch.prepare --dataset=rooms --raw_format=scannet --out=raw --count=2 --val_count=0

The last one writes rooms as raw scans of a data set, for trying the others without its data.

A run that was stopped goes on: finished scenes are kept, and --count may grow. The same input gives
the same bytes with any number of workers. One bad scan does not stop the others: failures are
listed at the end and in prepare_report.jsonl. Exit code: 0, 1 where a scan failed, 2 where nothing
could be done.
"""

import contextlib
import dataclasses
import functools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

from data_pipelines import (
    contact_sheet,
    interiors,
    labels,
    preview,
    room_scan,
    rooms,
    scannet,
    unified,
)
from data_pipelines.building import BuildSettings
from data_pipelines.preparing import FORMATS, PREVIEWS, Job
from geometry_jax import scene_io
from launch import prepare_scans
from launch.errors import UserError, is_used, run, user_errors
from launch.workers import alone, results, started, use_cpu

DATASETS = ("rooms", *FORMATS)
STYLES = ("plain", "lived_in")
RECIPE_VERSION = 3
RECIPE_FILE = "rooms.json"
WRITTEN = ".written"  # folder of one empty file for each room that is written as a raw scan
VAL_START = 5000  # held-out rooms are numbered from here, whatever the count
WORTH_A_WORKER = 24  # rooms; a process needs about three seconds to start
MESH_SPACING = 0.05  # metres between the vertices of a room's raw mesh
SHIFT = 2.0  # metres; a raw scan's origin lies so far from the room's corner at most

_DATASET = flags.DEFINE_enum("dataset", "rooms", DATASETS, "What to prepare.")
_RAW = flags.DEFINE_string("raw", None, "Raw data: its folder.")
_OUT = flags.DEFINE_string(
    "out", None, "Folder for the scenes.", allow_override=True, required=True
)
_WORKERS = flags.DEFINE_integer("workers", 2, "Processes.", lower_bound=1)

_SCANS = flags.DEFINE_list("scans", [], "Raw data: only these scans, by their ids in the data set.")
_SPLIT = flags.DEFINE_enum(
    "split", None, unified.SPLITS, "Raw data: where scenes go; else as the data set says."
)
_FRAMES_PER_SCENE = flags.DEFINE_integer(
    "frames_per_scene",
    BuildSettings().frames,
    "Raw data: frames of a scene with a picture, at most.",
    1,
    1000,
)
_DROP = flags.DEFINE_list(
    "drop",
    list(labels.DROPPED),
    f"Raw data: groups of labels that are no objects, of {', '.join(labels.GROUPS)}.",
)
_HOST_INDEX = flags.DEFINE_integer(
    "host_index", 0, "Raw data: which part of the scans is this host's.", 0, allow_override=True
)
_HOST_COUNT = flags.DEFINE_integer(
    "host_count", 1, "Raw data: into how many parts they are cut.", 1, allow_override=True
)
_PREVIEW = flags.DEFINE_bool("preview", False, "Also draw each scene into OUT/preview/SCENE.png.")
_RESOLUTION = flags.DEFINE_enum(
    "resolution", None, ["decimated", "full"], "ScanNet: which mesh; else the one that is there."
)
_SPLIT_LISTS = flags.DEFINE_string(
    "split_lists", None, "ScanNet: folder of scannetv2_train.txt and scannetv2_val.txt."
)
_KEEP_WHOLE = flags.DEFINE_bool(
    "keep_whole_frames", None, "ScanNet: use what a .sens file holds that was cut short."
)
_CAMERA = flags.DEFINE_enum(
    "camera", None, ["dslr", "iphone"], "ScanNet++: whose pictures, else dslr."
)
_PART = flags.DEFINE_enum(
    "part", None, ["train", "test", "all"], "ScanNet++: which stills, else train."
)
_SOURCE = flags.DEFINE_string(
    "source",
    None,
    "ARKitScenes: raw_wide, raw_vga, raw_lowres or 3dod; else the first there.",
    allow_override=True,
)

_COUNT = flags.DEFINE_integer("count", 240, "Rooms: how many for training.", 0, VAL_START)
_VAL_COUNT = flags.DEFINE_integer("val_count", 60, "Rooms: how many held out.", 0, VAL_START)
_SEED = flags.DEFINE_integer("seed", 0, "Rooms: seed of all of them.", lower_bound=0)
_FRAMES = flags.DEFINE_integer("frames", 8, "Rooms: pictures of each.", 2, 64)
_SIZE = flags.DEFINE_string(
    "image_size", "112x112", "Rooms: width and height of a picture, pixels."
)
_VIEW = flags.DEFINE_float("field_of_view", 85.0, "Rooms: horizontal, degrees.", 20.0, 130.0)
_STYLE = flags.DEFINE_enum(
    "style", STYLES[0], STYLES, "Rooms: for a small policy, or as people live in them."
)
_SHEET = flags.DEFINE_string("contact_sheet", None, "Rooms: also draw some into this PNG.")
_RAW_FORMAT = flags.DEFINE_enum(
    "raw_format", None, list(FORMATS), "Rooms: write them as raw scans of this data set instead."
)
OF_ROOMS = (_COUNT, _VAL_COUNT, _SEED, _FRAMES, _SIZE, _VIEW, _STYLE, _SHEET, _RAW_FORMAT)
OF_RAW_DATA = (_RAW, _SCANS, _SPLIT, _FRAMES_PER_SCENE, _DROP, _HOST_INDEX, _HOST_COUNT)
OF_RAW_DATA += (_RESOLUTION, _SPLIT_LISTS, _KEEP_WHOLE, _CAMERA, _PART, _SOURCE)


def _refuse(others: Sequence[flags.FlagHolder[Any]], owner: str) -> None:
    """Raises UserError where a flag was given that the data set would pass over."""
    for flag in others:
        if not flags.FLAGS[flag.name].using_default_value:
            raise UserError(f"--{flag.name} is for {owner}, got --dataset={_DATASET.value}.")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What decides the bytes of a room, beside its number."""

    version: int
    seed: int
    frames: int
    width: int  # pixels
    height: int
    field_of_view: float  # degrees
    raw_format: str | None = None  # as raw scans of this data set
    style: str | None = None  # of STYLES, where it is not the first


def _recipe() -> Recipe:
    width, _, height = _SIZE.value.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UserError(
            f"--image_size: expected WIDTHxHEIGHT such as 112x112, got {_SIZE.value!r}."
        )
    if int(width) % 2 or int(height) % 2:
        raise UserError(f"--image_size: expected even numbers, got {_SIZE.value}.")
    return Recipe(
        RECIPE_VERSION,
        _SEED.value,
        _FRAMES.value,
        int(width),
        int(height),
        _VIEW.value,
        _RAW_FORMAT.value,
        None if _STYLE.value == STYLES[0] else _STYLE.value,
    )


def _check_recipe(root: Path, recipe: Recipe) -> None:
    """One folder holds rooms of one recipe; the counts may grow."""
    path = root / RECIPE_FILE
    wanted = {key: value for key, value in dataclasses.asdict(recipe).items() if value is not None}
    if path.is_file():
        with user_errors(ValueError, place=str(path)):
            known = json.loads(path.read_text())
        if not isinstance(known, dict):
            raise UserError(f"{path}: expected the recipe of the rooms, got {known!r:.40}.")
        differs = [key for key in known | wanted if known.get(key) != wanted.get(key)]
        if differs:
            shown = ", ".join(f"{k}: {known.get(k)} there, {wanted.get(k)} asked" for k in differs)
            raise UserError(
                f"{root} holds rooms of another recipe ({shown}); "
                "choose another --out, or delete the folder."
            )
    elif is_used(root):
        raise UserError(f"{root} is not empty and holds no rooms; choose another --out.")
    else:
        prepare_scans.write_recipe(path, wanted)


def scene_name(number: int) -> str:
    return f"scene{number:04d}_00"


def _room(number: int, recipe: Recipe) -> rooms.Room:
    make = rooms.make_room if recipe.style is None else interiors.make_interior
    return make(
        (recipe.seed, number),
        frames=recipe.frames,
        width=recipe.width,
        height=recipe.height,
        field_of_view=float(np.deg2rad(recipe.field_of_view)),
    )


def make_scene(root: Path, split: str, number: int, recipe: Recipe) -> str:
    """Generates and writes room `number`; runs in a worker process. Returns the scene's id."""
    seed = (recipe.seed, number)
    source = rooms.scene_source(_room(number, recipe), scene_name(number), seed)
    unified.write_scene(root, split, source)
    return source.scene_id


def make_raw_scan(root: Path, split: str, number: int, recipe: Recipe) -> str:
    """Writes room `number` as a raw scan, in a frame of its own: turned about the vertical and
    shifted. Returns the scene's id.
    """
    rng = np.random.default_rng((recipe.seed, number, 2))
    yaw = rng.uniform(-np.pi, np.pi)
    world_from_mesh = np.eye(4)
    world_from_mesh[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    world_from_mesh[:3, 3] = rng.uniform(-SHIFT, SHIFT, 3)
    name = scene_name(number)
    scan = room_scan.room_scan(
        _room(number, recipe),
        name,
        split=split,
        spacing=MESH_SPACING,
        world_from_mesh=world_from_mesh,
    )
    assert recipe.raw_format is not None, "only called for raw scans"
    FORMATS[recipe.raw_format].write_scan(scan, root)
    (root / WRITTEN).mkdir(exist_ok=True)
    (root / WRITTEN / name).touch()
    return name


def _write_sheet(root: Path, path: Path) -> None:
    names = [name for split in ("train", "val") for name in scene_io.list_scenes(root, split)]
    with user_errors(ValueError, FileNotFoundError, place="--contact_sheet"):
        records = [scene_io.load_scene(root, name) for name in names[: contact_sheet.ROOMS]]
        sheet = contact_sheet.draw(records)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _write_previews(root: Path, names: Sequence[str]) -> None:
    folder = root / PREVIEWS
    todo = [name for name in names if not (folder / f"{name}.png").is_file()]
    for name in tqdm(todo, desc="previews", unit="scene", disable=not todo):
        preview.write(root, name, folder / f"{name}.png")


def _job() -> Job:
    dataset = _DATASET.value
    if not _RAW.value:
        raise UserError(f"--raw: expected the folder of the raw {dataset} data, got nothing.")
    unknown = sorted(set(_DROP.value) - set(labels.GROUPS))
    if unknown:
        raise UserError(f"--drop: expected groups of {', '.join(labels.GROUPS)}, got {unknown[0]}.")
    if _HOST_INDEX.value >= _HOST_COUNT.value:
        raise UserError(
            f"--host_index: expected less than --host_count={_HOST_COUNT.value}, "
            f"got {_HOST_INDEX.value}."
        )
    options = {
        "resolution": _RESOLUTION.value,
        "split_lists": Path(_SPLIT_LISTS.value) if _SPLIT_LISTS.value else None,
        "keep_whole_frames": _KEEP_WHOLE.value,
        "camera": _CAMERA.value,
        "part": _PART.value,
        "source": _SOURCE.value,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if _SPLIT_LISTS.value:
        with user_errors(scannet.ScanError, place="--split_lists"):
            scannet.read_split_lists(Path(_SPLIT_LISTS.value))
    for name in given:
        if name not in FORMATS[dataset].options:
            owner = next(key for key, form in FORMATS.items() if name in form.options)
            raise UserError(f"--{name} is for --dataset={owner}, got --dataset={dataset}.")
    return Job(
        dataset=dataset,
        raw=Path(_RAW.value),
        out=Path(_OUT.value),
        settings=BuildSettings(frames=_FRAMES_PER_SCENE.value, dropped=tuple(sorted(_DROP.value))),
        options=given,
        split=_SPLIT.value,
        preview=_PREVIEW.value,
    )


def _is_there(root: Path, split: str, number: int, recipe: Recipe) -> bool:
    if recipe.raw_format is not None:
        return (root / WRITTEN / scene_name(number)).is_file()
    return unified.is_complete(root, split, scene_name(number))


def _make_rooms() -> None:
    _refuse(OF_RAW_DATA, "raw data")
    if _SHEET.value and not _SHEET.value.lower().endswith(".png"):
        raise UserError(f"--contact_sheet: expected a name that ends in .png, got {_SHEET.value}.")
    if _SHEET.value and _STYLE.value != STYLES[0]:
        raise UserError("--contact_sheet has the colours of plain rooms; use --preview for others.")
    for name, value in (("contact_sheet", _SHEET.value), ("preview", _PREVIEW.value)):
        if value and _RAW_FORMAT.value:
            raise UserError(f"--{name}: expected unified scenes, but --raw_format makes none.")
    begun = time.monotonic()
    root = Path(_OUT.value)
    recipe = _recipe()
    with user_errors(OSError):
        _check_recipe(root, recipe)
    wanted = [("train", n) for n in range(_COUNT.value)]
    wanted += [("val", VAL_START + n) for n in range(_VAL_COUNT.value)]
    make = make_scene if recipe.raw_format is None else make_raw_scan
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(user_errors(OSError, rooms.NoRoomError))
            stack.enter_context(alone(root))
            todo = [
                (root, split, number, recipe)
                for split, number in wanted
                if not _is_there(root, split, number, recipe)
            ]
            # Raw scans are written one by one: those of a data set share tables.
            workers = 1 if recipe.raw_format else min(_WORKERS.value, len(todo) // WORTH_A_WORKER)
            submit = stack.enter_context(started(workers))
            made = results(submit, [functools.partial(make, *one) for one in todo])
            for _ in tqdm(made, total=len(todo), desc="rooms", unit="room", disable=not todo):
                pass
            if _SHEET.value:
                _write_sheet(root, Path(_SHEET.value))
            if _PREVIEW.value:
                _write_previews(root, [scene_name(number) for _, number in wanted])
    except KeyboardInterrupt as stop:
        raise UserError("stopped; finished rooms are kept, the same command goes on.") from stop
    seconds = time.monotonic() - begun
    skipped = len(wanted) - len(todo)
    print(f"{root}: done {len(todo)}, skipped {skipped}, {seconds:.1f} s")


def main(argv: Sequence[str]) -> int:
    use_cpu()
    if _DATASET.value == "rooms":
        _make_rooms()
        return 0
    _refuse(OF_ROOMS, "--dataset=rooms")
    share = prepare_scans.Share(tuple(_SCANS.value), _HOST_INDEX.value, _HOST_COUNT.value)
    return prepare_scans.prepare(_job(), share, _WORKERS.value)


if __name__ == "__main__":
    run(main)
