"""The `requests` subject of `launch.bench`: whole requests with question text, JSON in and out.

Everything that `launch.ask --requests` does but reading and writing files: parsing the line,
reading the sentence, judging, and writing the reply. All 16 tasks in turn about random rooms, every
sentence about other labels, frames and wordings. Warm; compilation apart.
"""

import dataclasses
import gc
import json
import time
from pathlib import Path

import jax
import numpy as np

from data_pipelines.furniture import CATEGORIES
from geometry_jax.scene_io import FRAME_FOLDER, SceneRecord
from geometry_jax.tasks import TASKS
from geometry_jax.types import Scene
from spatialevo_jax.environment import draw_slots, records, render

PUBLISHED_REQUESTS = 103  # whole requests a second of the published oracle, one core
WORDINGS = 3  # of each task
IMAGES = {"scene": 0, "single_image": 1, "image_pair": 2}


@dataclasses.dataclass(frozen=True)
class Rate:
    """One line of the table."""

    evidence: bool
    compile_s: float
    median_per_s: float
    best_per_s: float
    valid_share: float


def named_rooms(scenes: Scene) -> dict[str, SceneRecord]:
    """Records of the scenes of a set, with labels from the furniture of the generated rooms."""
    count, objects = scenes.label.shape
    frames = scenes.frame_valid.shape[1]
    names = [category.label for category in CATEGORIES]
    names += [f"{color} box" for color in ("red", "green", "blue", "white", "black", "brown")]
    names += [f"box number {index}" for index in range(objects)]
    labels = tuple(dict.fromkeys(names))[:objects]
    ids = tuple(str(10 * frame) for frame in range(frames))
    found = {}
    for index in range(count):
        scene = jax.tree.map(lambda leaf, i=index: np.asarray(leaf[i]), scenes)
        name = f"scene{index:04d}_00"
        paths = tuple(Path(name) / FRAME_FOLDER / f"{frame}.jpg" for frame in ids)
        found[name] = SceneRecord(name, scene, labels, tuple(range(objects)), ids, paths)
    return found


def draw_lines(rooms: dict[str, SceneRecord], count: int, seed: int = 0) -> list[str]:
    """`count` requests as JSON lines, the tasks in turn, about random rooms."""
    rng = np.random.default_rng(seed)
    names = list(rooms)
    lines: list[str] = []
    while len(lines) < count:
        task = TASKS[len(lines) % len(TASKS)]
        room = rooms[names[rng.integers(len(names))]]
        shown = rng.permutation(len(room.frame_ids))[: IMAGES[task.modality]].tolist()
        slots = draw_slots(room, tuple(shown), task.name, rng)
        if slots is None:
            continue
        question = render(task.name, slots, int(rng.integers(WORDINGS)))
        fields = {"task_type": task.name, "scene_id": room.scene_id, "question": question}
        paths = [f"{FRAME_FOLDER}/{room.frame_ids[frame]}.jpg" for frame in shown]
        images = {1: {"image_path": paths[:1] and paths[0]}, 2: {"image_paths": paths}}
        lines.append(json.dumps(fields | images.get(len(paths), {})))
    return lines


def answer_lines(lines: list[str], rooms: dict[str, SceneRecord], *, evidence: bool) -> list[str]:
    """One reply line for each request line."""
    asked = [json.loads(line) for line in lines]
    replies = records.answer_records(asked, rooms.__getitem__, evidence=evidence)
    return [records.to_line(reply) for reply in replies]


def time_requests(scenes: Scene, count: int, repeats: int) -> list[Rate]:
    """Rates with and without evidence in the replies; every run has sentences of its own."""
    rooms = named_rooms(scenes)
    runs = [draw_lines(rooms, count, seed) for seed in range(repeats)]
    rates = []
    for evidence in (False, True):
        start = time.perf_counter()
        replies = answer_lines(runs[0], rooms, evidence=evidence)
        first = time.perf_counter() - start
        valid = sum(json.loads(reply)["is_valid"] for reply in replies) / count
        seconds = []
        gc.disable()  # as launch.ask does
        for lines in runs:
            start = time.perf_counter()
            answer_lines(lines, rooms, evidence=evidence)
            seconds.append(time.perf_counter() - start)
        gc.enable()
        middle = float(np.median(seconds))
        rates.append(
            Rate(evidence, max(first - middle, 0.0), count / middle, count / min(seconds), valid)
        )
    return rates


def table(rates: list[Rate]) -> str:
    """A Markdown table."""
    rows = [
        "| replies | compile s | requests/s, median | best | valid | against the published |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    rows += [
        f"| {'with' if one.evidence else 'without'} evidence | {one.compile_s:.1f} "
        f"| {one.median_per_s:,.0f} | {one.best_per_s:,.0f} | {one.valid_share:.0%} "
        f"| {one.median_per_s / PUBLISHED_REQUESTS:,.0f} times |"
        for one in rates
    ]
    return "\n".join(rows)
