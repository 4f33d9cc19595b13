"""Rows with their pictures, for more scenes than fit into memory. Host side.

`data` says which rows a step has; here worker processes decode their pictures ahead of time, and
each host of a run gets its part. Everything is a function of (seed, step): the state to save is the
number of the next step, whatever the number of workers and hosts.

    scenes = load_scenes(config, "train")
    with PromptStream(scenes.rooms, config, seed=0) as stream:
        prompts = next(stream)          # the rows of step 0: pictures, and the tasks they allow
        state = stream.get_state()      # {"step": 1, ...}, JSON
"""

import dataclasses
import functools
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import grain
import numpy as np
from absl import flags, logging

from geometry_jax import scene_io
from spatialevo_jax import children
from spatialevo_jax.config import DataConfig
from spatialevo_jax.data import (
    PictureError,
    RoomSet,
    Row,
    RowSource,
    read_image,
    row_source,
    scene_names,
)
from spatialevo_jax.roles import pointing

SUBSTITUTES = 8  # rows that are tried in the place of one whose pictures do not decode
BUFFER = 8  # rows that each worker decodes ahead
THREADS = 2  # that decode where there are no workers


class SceneSet(NamedTuple):
    rooms: RoomSet  # without pictures and instance points
    skipped: tuple[str, ...]  # why scenes were left out: one sentence each, with the file


class Prompt(NamedTuple):
    """What a row shows and what may be asked about it."""

    row: Row
    images: list[np.ndarray]  # n times (H, W, 3) uint8, as the policy sees them
    tasks: tuple[str, ...]


def load_scenes(config: DataConfig, split: str) -> SceneSet:
    """Every scene of a split, without pictures. Scenes of the wrong form are left out and listed.

    Raises:
        FileNotFoundError: no scene there.
        ValueError: none of them can be read, or a room is in the other split too.
    """
    names = scene_names(config, split)
    records, skipped = [], []
    for name in names:
        try:
            record = scene_io.load_scene(config.scenes, name)
        except (FileNotFoundError, ValueError) as error:
            skipped.append(f"{name}: {error}")
            continue
        bare = [np.zeros((0, 3), np.float32)] * len(record.object_ids)
        records.append(scene_io.with_points(record, bare))
    if not records:
        raise ValueError(f"expected readable scenes, but all {len(names)} fail; {skipped[0]}")
    rooms = RoomSet(tuple(records), config.tasks, config.image_size, config.dot_size)
    return SceneSet(rooms, tuple(skipped))


@dataclasses.dataclass(frozen=True)
class _Decoder:
    """Place in the stream -> row with pictures; what a worker process is given."""

    rows: RowSource
    counts: tuple[int, ...]  # rows of a step, one number for each of the datasets
    own: tuple[int, ...]  # which of them this host reads
    paths: tuple[tuple[Path, ...], ...]  # pictures by room and frame
    sizes: tuple[tuple[tuple[int, int], ...], ...]  # as they are seen, likewise
    dot_size: int

    def __call__(self, place: int) -> dict[str, Any]:
        step, turn = divmod(int(place), len(self.own))
        offset = self.own[turn]
        kind = int(np.searchsorted(np.cumsum(self.counts), offset, side="right"))
        count = self.counts[kind]
        index = step * count + offset - sum(self.counts[:kind])
        faults: list[str] = []
        # Another row in the place of a broken one keeps steps whole, and is the same on every run.
        for attempt in range(1 + SUBSTITUTES):
            row = self.rows.row(kind, index + attempt * count)
            try:
                paths, sizes = self.paths[row.room], self.sizes[row.room]
                images = [read_image(paths[frame], sizes[frame]) for frame in row.frames]
            except PictureError as error:
                faults.append(str(error))
                continue
            shown = pointing.overlay(images, self.dot_size)
            return {"row": row, "images": shown, "faults": tuple(faults)}
        raise PictureError(f"{1 + SUBSTITUTES} rows in turn have broken pictures; {faults[0]}")


def _start_worker(parent: int, worker: int, workers: int) -> None:
    children.live_with(parent, (signal.SIGINT, signal.SIGTERM))


class PromptStream:
    """Endless steps of prompts, so many rows of each modality, of which a host reads its part.

    Iterating gives lists of prompts, one for each step: single images first, then pairs, then
    scenes; the rows of `data.RowSource.step_rows`. Pictures that do not decode are logged and kept
    in `faults`, and another row takes the place of theirs.
    """

    def __init__(
        self,
        rooms: RoomSet,
        config: DataConfig,
        *,
        seed: int,
        counts: tuple[int, int, int] | None = None,
        start: int = 0,
        own: Sequence[int] | None = None,
    ):
        """
        Args:
            counts: rows of a step: single images, pairs, scenes; `config.rows` by default.
            start: step to begin with.
            own: places in a step that this host reads, in their order there; all by default.

        Raises:
            ValueError: no rows, places that a step does not have, or rooms without such rows.
        """
        counts = config.rows if counts is None else counts
        places = range(sum(counts))
        own = places if own is None else own
        if not own or not set(own) <= set(places):
            raise ValueError(
                f"data.rows: expected places of {sum(counts)} rows to read, got {list(own)}."
            )
        used = [
            (size, count)
            for size, count in zip((1, 2, config.scene_frames), counts, strict=True)
            if count
        ]
        self.rooms = rooms
        self.counts = counts
        self.faults: list[str] = []  # each picture once
        self._workers = config.workers
        self._decoder = _Decoder(
            rows=row_source(rooms, [size for size, _ in used], seed),
            counts=tuple(count for _, count in used),
            own=tuple(own),
            paths=tuple(record.image_paths for record in rooms.records),
            sizes=rooms.sizes,
            dot_size=rooms.dot_size,
        )
        self._identity = {"seed": seed, "rows": list(counts), "scenes": rooms.fingerprint}
        self._open(start)

    def _open(self, step: int) -> None:
        self._step = step
        places = grain.MapDataset.range(step * len(self._decoder.own), sys.maxsize)
        threads = 1 if self._workers else THREADS
        reading = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=BUFFER)
        decoded = places.map(self._decoder).to_iter_dataset(reading)
        if self._workers and not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # grain asks for flags, which only commands have parsed
        ahead = grain.MultiprocessingOptions(self._workers, per_worker_buffer_size=BUFFER)
        # What stops a run stops it after its step, and the pictures of that are still to come.
        heard = functools.partial(_start_worker, os.getpid()) if self._workers else None
        self._decoded = iter(decoded.mp_prefetch(ahead, worker_init_fn=heard))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> list[Prompt]:
        prompts = []
        for _ in self._decoder.own:
            shown = next(self._decoded)
            for fault in shown["faults"]:
                if fault not in self.faults:
                    self.faults.append(fault)
                    logging.warning("%s Another row takes its place.", fault)
            row = shown["row"]
            prompts.append(Prompt(row, shown["images"], self.rooms.feasible_tasks(row)))
        self._step += 1
        return prompts

    @property
    def step(self) -> int:
        """The one that comes next."""
        return self._step

    def get_state(self) -> dict[str, Any]:
        """What to save, as JSON: the next step, and what it is a step of."""
        return {"step": self._step, **self._identity}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on with the step that a state of `get_state` names.

        Raises:
            ValueError: the state is of other scenes, rows or of another seed.
        """
        for key, own in self._identity.items():
            if state.get(key) != own:
                raise ValueError(
                    f"expected the state of a stream with the same {key}: {own!r}, "
                    f"got {state.get(key)!r}."
                )
        self.close()
        self._open(int(state["step"]))

    def close(self) -> None:
        """Ends the worker processes."""
        self._decoded.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()
