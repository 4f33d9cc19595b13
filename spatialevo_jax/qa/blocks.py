"""Units of work: blocks of scenes, each of one split and of one shard. The same blocks for any
number of processes and hosts.
"""

import dataclasses
import zlib
from pathlib import Path

from geometry_jax import scene_io
from spatialevo_jax.qa.recipe import Recipe

SCENES = 16  # of a block; what the environment stacks at least
HELD_OUT = ("val", "test")  # splits on disk whose rooms are for validation


@dataclasses.dataclass(frozen=True)
class Block:
    number: int  # counts through all blocks
    split: str  # "train" or "validation"
    scenes: tuple[str, ...]  # ids, in order


def make_blocks(root: Path, recipe: Recipe) -> list[Block]:
    """All scenes of a folder in blocks. No room is in both splits: one that any scan holds out is
    held out whole, and so is a share of the others.

    Raises:
        FileNotFoundError: there are no scenes.
    """
    splits = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    found = {name: split for split in splits for name in scene_io.list_scenes(root, split)}
    if not found:
        raise FileNotFoundError(f"{root}: expected scenes in train/ or val/, found none.")
    held = {scene_io.room_of(name) for name, split in found.items() if split in HELD_OUT}
    rooms = sorted({scene_io.room_of(name) for name in found} - held)
    shuffled = sorted(rooms, key=lambda room: zlib.crc32(f"{recipe.seed}/{room}".encode()))
    held.update(shuffled[: round(recipe.validation_share * len(rooms))])
    blocks: list[Block] = []
    for split in ("train", "validation"):
        names = sorted(
            name for name in found if (scene_io.room_of(name) in held) == (split != "train")
        )
        for start in range(0, len(names), SCENES):
            part = tuple(names[start : start + SCENES])
            blocks.append(Block(len(blocks), split, part))
    return blocks
