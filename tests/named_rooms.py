"""Rooms for question-answer sets: random boxes under real names, written to disk."""

import dataclasses
from pathlib import Path

import jax
import numpy as np

from geometry_jax.scene_io import FRAME_FOLDER, SceneRecord
from geometry_jax.types import Scene, leaf
from tests import random_rooms
from tests.scenes import write_layout

LABELS = ("bed", "chair", "table", "sofa", "tv", "night stand", "lamp", "trash can", "plant")
TRAIN, VAL = 36, 4  # four blocks: three of training, the last one short, and one of validation
BROKEN = "scene0003_00"  # its metadata is no JSON


def random_records(count: int, seed: int = 11) -> list[SceneRecord]:
    """Rooms whose objects have names; every floor has an area."""
    scenes = random_rooms.room_set(seed, count)
    found = []
    for index in range(count):
        padded = jax.tree.map(lambda array, i=index: np.asarray(array[i]), scenes)
        objects, frames = int(padded.object_valid.sum()), int(padded.frame_valid.sum())
        scene = _cut(padded, objects, frames)
        area = leaf(np.float32(10.0 + 0.7 * index))
        scene = dataclasses.replace(scene, floor_area=area)
        name = f"scene{index:04d}_00"
        ids = tuple(str(10 * frame) for frame in range(frames))
        paths = tuple(Path(name) / FRAME_FOLDER / f"{one}.jpg" for one in ids)
        found.append(SceneRecord(name, scene, LABELS, tuple(range(1, objects + 1)), ids, paths))
    return found


def _cut(scene: Scene, objects: int, frames: int) -> Scene:
    """The scene without its padding."""
    # The two sizes differ, so that a shape tells which axis is which.
    sizes = {random_rooms.NUM_OBJECTS: objects, random_rooms.NUM_FRAMES: frames}
    return jax.tree.map(
        lambda array: (
            array[tuple(slice(sizes.get(n, n)) for n in array.shape[:2])] if array.ndim else array
        ),
        scene,
    )


def write_scenes(root: Path) -> None:
    """Scenes on disk, one of them broken."""
    for index, record in enumerate(random_records(TRAIN + VAL)):
        write_layout(record, root, split="train" if index < TRAIN else "val")
    (root / "metadata" / BROKEN / f"{BROKEN}.json").write_text("{")
