"""Rooms and rows: which images are shown together. Host side.

A row is a room and the frames of it that are shown: one (single_image), two (image_pair) or more
(scene). Rows of a step are a function of (seed, step) alone: `grain` shuffles them by index, so
nothing has to be remembered to resume.
"""

import dataclasses
import functools
import hashlib
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import grain
import numpy as np
from PIL import Image

from geometry_jax import scene_io
from geometry_jax.scene_io import SceneRecord
from spatialevo_jax.config import DataConfig
from spatialevo_jax.environment import feasible_tasks
from spatialevo_jax.environment.identity import scene_hash
from spatialevo_jax.roles import pointing

ROWS_PER_ROOM = 12  # of each modality, so that a room with many frames does not outweigh the others
PICTURES = 512  # that are kept decoded
SIDE = 28  # pixels of a visual token: sides are multiples of it


class PictureError(ValueError):
    """A picture is missing or does not decode."""


@dataclasses.dataclass(frozen=True)
class Row:
    room: int  # index into RoomSet.records
    frames: tuple[int, ...]  # indices into the room's frames, in the order shown


@dataclasses.dataclass(frozen=True)
class RoomSet:
    """Rooms without pictures: those are read when a row is shown."""

    records: tuple[SceneRecord, ...]
    tasks: tuple[str, ...]  # that are asked about them
    image_size: tuple[int, int]  # see `seen_size`
    dot_size: int = 0  # pixels of the dots drawn over the images of a row, 0: none

    @functools.cached_property
    def sizes(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """Width and height of every frame of every room, pixels, as the policy sees them."""
        return tuple(
            tuple(
                seen_size((float(width), float(height)), self.image_size)
                for width, height in np.asarray(record.scene.image_size)
            )
            for record in self.records
        )

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of what rows are drawn from and what the oracle answers by, see `scene_hash`."""
        told = (self.tasks, *map(scene_hash, self.records))
        return hashlib.sha256(repr(told).encode()).hexdigest()[:16]

    def row_sizes(self, row: Row) -> list[tuple[int, int]]:
        """Width and height of a row's pictures as the policy sees them."""
        return [self.sizes[row.room][frame] for frame in row.frames]

    def row_images(self, row: Row) -> list[np.ndarray]:
        """n pictures (H, W, 3) uint8, as the policy sees them.

        Raises:
            PictureError: one of them is missing or does not decode.
        """
        paths = self.records[row.room].image_paths
        pictures = [
            _kept_image(paths[frame], size)
            for frame, size in zip(row.frames, self.row_sizes(row), strict=True)
        ]
        return pointing.overlay(pictures, self.dot_size)

    def feasible_tasks(self, row: Row) -> tuple[str, ...]:
        """The tasks that can be asked about a row."""
        record = self.records[row.room]
        return tuple(task for task in feasible_tasks(record, row.frames) if task in self.tasks)


def scene_names(config: DataConfig, split: str) -> tuple[str, ...]:
    """The scenes of a split.

    Raises:
        FileNotFoundError: there are none. ValueError: one of their rooms is in the other split too.
    """
    scene_io.require_split_by_room(config.scenes)
    names = scene_io.list_scenes(config.scenes, split)
    if not names:
        raise FileNotFoundError(
            f"{config.scenes / split}: expected scenes, found none. Make some with: "
            f"python -m launch.prepare --dataset=rooms --out={config.scenes}"
        )
    return names


def load_rooms(config: DataConfig, split: str) -> RoomSet:
    """Every scene of a split.

    Raises:
        FileNotFoundError: no scene there.
        ValueError: a scene file of the wrong form, or a room that is in the other split too.
    """
    names = scene_names(config, split)
    records = tuple(scene_io.load_scene(config.scenes, name) for name in names)
    return RoomSet(records, config.tasks, config.image_size, config.dot_size)


def seen_size(size: tuple[float, float], wanted: tuple[int, int]) -> tuple[int, int]:
    """Width and height, multiples of 28, as the policy sees a picture of `size`: in its own form,
    as nearly as sides around its size with the area of `wanted` allow, and in no more pixels.
    """
    ratio, area = size[0] / size[1], math.prod(wanted)
    sides = []
    for exact in (math.sqrt(area * ratio), math.sqrt(area / ratio)):
        tokens = min(max(exact, SIDE), area / SIDE) / SIDE
        sides.append((SIDE * math.floor(tokens), SIDE * math.ceil(tokens)))

    def bent(seen: tuple[int, int]) -> tuple[float, int]:
        return abs(math.log(seen[0] / seen[1] / ratio)), -math.prod(seen)

    return min((seen for seen in itertools.product(*sides) if math.prod(seen) <= area), key=bent)


def read_image(path: Path, size: tuple[int, int]) -> np.ndarray:
    """(height, width, 3) uint8 RGB of `size`, which is (width, height).

    Raises:
        PictureError: it is missing or does not decode.
    """
    try:
        with Image.open(path) as image:
            rgb = image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PictureError(
            f"{path}: expected an image, but it does not decode ({error})."
        ) from error
    if rgb.size != size:
        rgb = rgb.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(rgb, np.uint8)


_kept_image = functools.lru_cache(maxsize=PICTURES)(read_image)


def _visible(record: SceneRecord) -> np.ndarray:
    """(F, N) bool: objects seen well enough to be asked about."""
    scene = record.scene
    seen = np.asarray(scene.seen) & (np.asarray(scene.visibility) >= pointing.MIN_VISIBILITY)
    return seen & np.asarray(scene.object_valid)[None]


def _frame_sets(
    record: SceneRecord, images: int, rng: np.random.Generator
) -> list[tuple[int, ...]]:
    """Frames to show together: pairs share an object, scene sets see every object of the room."""
    visible = _visible(record)
    frames = range(len(record.frame_ids))
    if images == 1:
        found = [(frame,) for frame in frames if visible[frame].sum() >= 2]
    elif images == 2:
        pairs = itertools.permutations(frames, 2)
        found = [pair for pair in pairs if (visible[pair[0]] & visible[pair[1]]).any()]
    else:
        # Random subsets rather than all: with 32 frames there are 600 million sets of 16.
        draws = [tuple(range(images))] if len(frames) >= images else []
        draws += [
            tuple(sorted(rng.choice(len(frames), images, replace=False).tolist()))
            for _ in range(3 * ROWS_PER_ROOM if len(frames) >= images else 0)
        ]
        everything = visible.any(axis=0)
        found = [
            chosen
            for chosen in dict.fromkeys(draws)
            if (visible[list(chosen)].any(axis=0) == everything).all()
        ]
    order = rng.permutation(len(found))[:ROWS_PER_ROOM]
    return [found[index] for index in order]


def enumerate_rows(rooms: RoomSet, images: int, seed: int) -> list[Row]:
    """Rows with the given number of images about which one of the tasks can be asked.

    Raises:
        ValueError: no room offers such a row.
    """
    rows = []
    for room, record in enumerate(rooms.records):
        rng = np.random.default_rng((seed, images, room))
        rows += [
            Row(room, frames)
            for frames in _frame_sets(record, images, rng)
            if rooms.feasible_tasks(Row(room, frames))
        ]
    if not rows:
        raise ValueError(
            f"expected rooms with rows of {images} images to ask {', '.join(rooms.tasks)} about, "
            "found none."
        )
    return rows


@dataclasses.dataclass(frozen=True)
class RowSource:
    """Endless shuffled rows of the three modalities, by step."""

    datasets: tuple[grain.MapDataset | None, ...]  # single images, pairs, scenes; of those shown

    def row(self, kind: int, index: int) -> Row:
        """The row at any place, from 0, in the endless order of one modality."""
        dataset = self.datasets[kind]
        found = None if dataset is None else dataset[index]
        if not isinstance(found, Row):
            raise ValueError(f"place {index}: expected a row, got {found!r}.")
        return found

    def step_rows(self, step: int, counts: Sequence[int]) -> list[Row]:
        """`counts[i]` rows of each modality; the same for the same step, whatever came before."""
        if len(counts) != len(self.datasets):
            raise ValueError(f"expected {len(self.datasets)} counts, got {len(counts)}.")
        return [
            self.row(kind, step * count + offset)
            for kind, count in enumerate(counts)
            for offset in range(count)
        ]


def row_source(rooms: RoomSet, sizes: Sequence[int], seed: int) -> RowSource:
    """Rows with `sizes[i]` images each; 0: none are shown, and the rooms need not have any.

    Raises:
        ValueError: no room offers rows of a size.
    """
    sources = (
        grain.MapDataset.source(enumerate_rows(rooms, size, seed)) if size else None
        for size in sizes
    )
    return RowSource(tuple(one and one.seed(seed).shuffle().repeat() for one in sources))


def row_paths(rooms: RoomSet, row: Row) -> list[str]:
    """The picture files of a row."""
    record = rooms.records[row.room]
    return [str(record.image_paths[frame].absolute()) for frame in row.frames]
