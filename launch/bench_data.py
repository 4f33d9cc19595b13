"""The `data` subject of `launch.bench`: loading packed scenes, and serving prompts from them.

A few generated rooms with pictures of 320x240 are copied until there are enough scenes. Loading is
that of `launch.train`, from warm disks. A prompt is a pair of pictures, decoded and resized to what
the policy sees, with the tasks that it allows; the bound is what the cores can decode and resize if
nothing else is to do.
"""

import dataclasses
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from data_pipelines import rooms, unified
from geometry_jax import scene_io
from spatialevo_jax.config import DataConfig
from spatialevo_jax.data import read_image
from spatialevo_jax.scene_source import PromptStream, SceneSet, load_scenes

WIDTH, HEIGHT, FRAMES = 320, 240, 8
SEEN = (308, 224)  # pixels, in multiples of 28: the form of the stored picture and nearly its size
ORIGINALS = 4  # rooms that are generated
PAIRS = 32  # prompts of a step
STEPS = 4  # of one run


@dataclasses.dataclass(frozen=True)
class Loading:
    scenes: int
    seconds: float
    megabytes: float
    rows_seconds: float  # finding the pairs that a question can be asked about


@dataclasses.dataclass(frozen=True)
class Serving:
    workers: int  # 0: threads of the process that asks
    start_seconds: float  # until the first prompt
    prompts_per_s: float
    bound_per_s: float


def copied_scenes(root: Path, count: int) -> None:
    """Writes `count` scenes that differ in name only from one of a few; pictures are links."""
    originals = [f"original{index}" for index in range(min(ORIGINALS, count))]
    store = root / "store"
    for index, name in enumerate(originals):
        room = rooms.make_room(
            (0, index), frames=FRAMES, width=WIDTH, height=HEIGHT, field_of_view=np.deg2rad(85.0)
        )
        unified.write_scene(store, "train", rooms.scene_source(room, name, (0, index)))
    for index in range(count):
        source, name = originals[index % len(originals)], f"scene{index:04d}_00"
        folder, metadata = root / "train" / name, root / "metadata" / name
        folder.mkdir(parents=True)
        metadata.mkdir(parents=True)
        pictures = store / "train" / source / scene_io.FRAME_FOLDER
        (folder / scene_io.FRAME_FOLDER).symlink_to(pictures, target_is_directory=True)
        for suffix in (".json", ".npz"):
            known = store / "metadata" / source / f"{source}{suffix}"
            shutil.copyfile(known, metadata / f"{name}{suffix}")


def time_loading(config: DataConfig) -> tuple[Loading, SceneSet]:
    start = time.perf_counter()
    scenes = load_scenes(config, "train")
    seconds = time.perf_counter() - start
    packed = config.scenes.glob("metadata/*/*.npz")
    megabytes = sum(path.stat().st_size for path in packed) / 1e6
    start = time.perf_counter()
    PromptStream(scenes.rooms, config, seed=0).close()
    rows_seconds = time.perf_counter() - start
    return Loading(len(scenes.rooms.records), seconds, megabytes, rows_seconds), scenes


def decoding_rate(scenes: SceneSet, repeats: int) -> float:
    """Pairs of pictures a second that one core decodes and resizes, the best of several runs."""
    paths = [path for one in scenes.rooms.records[:ORIGINALS] for path in one.image_paths]
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        for path in paths:
            read_image(path, SEEN)
        seconds.append(time.perf_counter() - start)
    return len(paths) / 2 / min(seconds)


def time_serving(scenes: SceneSet, config: DataConfig, workers: int, repeats: int) -> Serving:
    """Median of several runs, after one that fills the buffers."""
    bound = decoding_rate(scenes, repeats) * min(max(workers, 1), len(os.sched_getaffinity(0)))
    with PromptStream(scenes.rooms, dataclasses.replace(config, workers=workers), seed=0) as stream:
        start = time.perf_counter()
        next(stream)
        first = time.perf_counter() - start
        rates = []
        for _ in range(repeats):
            start = time.perf_counter()
            served = sum(len(next(stream)) for _ in range(STEPS))
            rates.append(served / (time.perf_counter() - start))
    return Serving(workers, first, float(np.median(rates)), bound)


def table(loading: Loading, serving: list[Serving]) -> str:
    """Sentences and a Markdown table."""
    rate = loading.scenes / loading.seconds
    lines = [
        f"{loading.scenes:,} packed scenes ({loading.megabytes:,.0f} MB) load in "
        f"{loading.seconds:.1f} s, {rate:,.0f}/s; their pairs are found in "
        f"{loading.rows_seconds:.1f} s.",
        "",
        f"Prompts with two pictures, stored as {WIDTH}x{HEIGHT}, seen as {SEEN[0]}x{SEEN[1]}:",
        "",
        "| workers | first step s | prompts/s | bound/s | of bound |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {one.workers} | {one.start_seconds:.1f} | {one.prompts_per_s:,.0f} "
        f"| {one.bound_per_s:,.0f} | {one.prompts_per_s / one.bound_per_s:.0%} |"
        for one in serving
    ]
    return "\n".join(lines)


def report(count: int, repeats: int) -> str:
    """Makes the scenes, measures, and says it."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        copied_scenes(root, count)
        config = DataConfig(scenes=root, image_size=SEEN, rows=(0, PAIRS, 0))
        loading, scenes = time_loading(config)
        cores = len(os.sched_getaffinity(0))
        serving = [
            time_serving(scenes, config, workers, repeats) for workers in sorted({0, 1, cores})
        ]
    return table(loading, serving)
