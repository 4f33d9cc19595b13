"""Units of work: blocks of scenes, each of one split and of one shard. The same blocks for any
number of processes and hosts.
"""

import dataclasses
import hashlib
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


def lot(room: str, seed: int) -> float:
    """In [0, 1): a room is held out by every share above it, whatever other rooms there are."""
    digest = hashlib.blake2b(f"{seed}/{room}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53


def splits_of(root: Path, recipe: Recipe) -> dict[str, str]:
    """The split of each scene of a folder, "train" or "validation". No room is in both: one that
    any scan holds out is held out whole, and so are others by their `lot`.

    Raises:
        FileNotFoundError: there are no scenes.
    """
    folders = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    found = {name: folder for folder in folders for name in scene_io.list_scenes(root, folder)}
    if not found:
        raise FileNotFoundError(f"{root}: expected scenes in train/ or val/, found none.")
    held = {scene_io.room_of(name) for name, folder in found.items() if folder in HELD_OUT}
    rooms = {scene_io.room_of(name) for name in found}
    held |= {room for room in rooms if lot(room, recipe.seed) < recipe.validation_share}
    return {
        name: "validation" if scene_io.room_of(name) in held else "train" for name in sorted(found)
    }


def make_blocks(root: Path, recipe: Recipe) -> list[Block]:
    """All scenes of a folder in blocks.

    Raises:
        FileNotFoundError: there are no scenes. ValueError: the share that shall be held out leaves
            a split empty, as it may of few rooms.
    """
    splits = splits_of(root, recipe)
    share = recipe.validation_share
    if share and "validation" not in splits.values():
        least = min(lot(scene_io.room_of(name), recipe.seed) for name in splits)
        raise ValueError(
            f"{root}: a validation_share of {share} holds out none of its few rooms, each of which "
            f"draws its own lot; expected more than {least:.4f}, or another seed."
        )
    if share and "train" not in splits.values():
        raise ValueError(
            f"{root}: a validation_share of {share} holds out all of its few rooms, each of which "
            "draws its own lot; expected less, or another seed."
        )
    blocks: list[Block] = []
    for split in ("train", "validation"):
        names = [name for name, own in splits.items() if own == split]
        for start in range(0, len(names), SCENES):
            part = tuple(names[start : start + SCENES])
            blocks.append(Block(len(blocks), split, part))
    return blocks
