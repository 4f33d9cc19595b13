"""How fast this machine is at what the project does, against a named baseline and the hardware.

    python -m launch.bench oracles
    python -m launch.bench oracles --batch_sizes=16384,262144 --out=oracles.json
    python -m launch.bench requests --scene_count=64
    python -m launch.bench data
    python -m launch.bench visibility
    python -m launch.bench sens
    python -m launch.bench model --out=model.json
    python -m launch.bench model --model=qwen2_5_vl_3b --dtypes=bfloat16 --prompt_tokens=3072

`oracles`: verified answers per second of structured queries, task by task and for the equal mix of
all tasks, from queries in NumPy to answers in NumPy, in questions of random rooms. Warm, the median
of several runs; compilation apart. Beside each rate: the bytes of scene, query and answer that a
question moves, and the rate at which the cores can fetch so many from random rows of a table.

`requests`: whole requests a second with question text, JSON lines in and out.

`data`: how fast packed scenes load, and how many prompts a second the training stream serves.

`visibility`: what the frames of a scan show of its objects, by points and by surfaces.

`sens`: frames of a ScanNet .sens file a second, found and decoded.

`model`: tokens a second of Qwen2.5-VL forward, forward + backward and sampling; on CPU beside
transformers on PyTorch, on an accelerator beside the chip's peak. See docs/model_speed.md.
"""

import dataclasses
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, get_args

import jax
import numpy as np
from absl import flags
from jax.interpreters import partial_eval
from tqdm import tqdm

from geometry_jax import batches
from geometry_jax.tasks import TASK_IDS, TASKS
from geometry_jax.types import MAX_LABELS, Query, Scene, leaf
from launch import bench_data, bench_model, bench_requests, bench_sens, bench_visibility
from launch.allocator import keep_freed_memory
from launch.errors import UserError, run, user_errors, writable
from spatialevo_jax.models.qwen2_5_vl.config import Remat

SUBJECTS = ("oracles", "requests", "data", "visibility", "sens", "model")
PUBLISHED = 1_129  # questions a second of the published oracle, labels given as fields, one core
ANSWER_BYTES = 12  # value, reason, margin
FETCHED = 1 << 17  # rows fetched to find how fast that is
WARM_UP = 2  # calls before the clock: compilation, then memory

_SCENES = flags.DEFINE_integer(
    "scene_count", 1000, "oracles, requests, data: scenes in the set.", lower_bound=1
)
_OBJECTS = flags.DEFINE_integer(
    "object_count", 32, "oracles, requests: objects of a scene.", lower_bound=8
)
_FRAMES = flags.DEFINE_integer(
    "frame_count", 64, "oracles, requests: frames of a scene.", lower_bound=2
)
_TASKS = flags.DEFINE_list("tasks", list(TASK_IDS), "oracles: which tasks to time.")
_BATCHES = flags.DEFINE_list(
    "batch_sizes", ["1024", "16384", "262144"], "oracles: questions of one call."
)
_REQUESTS = flags.DEFINE_integer(
    "request_count", 4096, "requests: how many in one run.", lower_bound=16
)
_POINTS = flags.DEFINE_integer(
    "point_count", 150_000, "visibility: labelled points.", lower_bound=100
)
_VIEWS = flags.DEFINE_integer("view_count", 300, "visibility: frames that see them.", lower_bound=1)
_SENS_FRAMES = flags.DEFINE_integer("sens_frames", 64, "sens: frames of the file.", lower_bound=1)
_REPEATS = flags.DEFINE_integer("repeats", 7, "Runs that a median is taken of.", lower_bound=1)
_EVIDENCE = flags.DEFINE_bool(
    "evidence", False, "oracles: work out the evidence of every answer too."
)
_MODEL = flags.DEFINE_string("model", bench_model.MID, "model: a size, or mid: 117 M parameters.")
_DTYPES = flags.DEFINE_list("dtypes", list(bench_model.DTYPES), "model: types to compute in.")
_PROMPTS = flags.DEFINE_integer("prompt_count", 4, "model: prompts, an image each.", lower_bound=1)
_SAMPLES = flags.DEFINE_integer("sample_count", 4, "model: samples of a prompt.", lower_bound=1)
_TOKENS = flags.DEFINE_integer("prompt_tokens", 256, "model: tokens of a prompt.", lower_bound=8)
_NEW = flags.DEFINE_integer("new_tokens", 32, "model: tokens of a sample.", lower_bound=2)
_PARTS = flags.DEFINE_list("parts", list(bench_model.PARTS), "model: which of these to measure.")
_REMAT = flags.DEFINE_enum(
    "remat",
    None,
    get_args(Remat),
    "model: what the backward pass computes again; by default as the size does.",
)
_UNROLL = flags.DEFINE_integer(
    "unroll", None, "model: layers in one turn of the loop; by default as the size does.", 1
)
_CPU_TIME = flags.DEFINE_bool(
    "cpu_time",
    False,
    "model: count this process's CPU seconds; with one thread, on a busy machine.",
)
_OUT = flags.DEFINE_string(
    "out", None, "oracles, model: file for the numbers as JSON.", allow_override=True
)


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of the table."""

    task: str
    batch: int
    compile_s: float
    answers_per_s: float
    valid_share: float
    bytes_per_question: float
    bound_per_s: float  # answers a second if only the bytes had to move

    @property
    def of_bound(self) -> float:
        return self.answers_per_s / self.bound_per_s


# --- what is asked -------------------------------------------------------------------------------


def random_scenes(count: int, objects: int, frames: int, seed: int = 0) -> Scene:
    """A scene set of boxes in rooms of 8 x 8 m, seen by cameras along random walks."""
    rng = np.random.default_rng(seed)
    f32, per = np.float32, (count, frames, objects)
    center = rng.uniform((0, 0, 0), (8, 8, 2), (count, objects, 3)).astype(f32)
    extent = rng.uniform(0.1, 1.5, (count, objects, 3)).astype(f32)
    heading = np.cumsum(rng.normal(0, 0.3, (count, frames)), axis=1)
    pitch = rng.uniform(-0.8, 0.4, (count, frames))
    steps = np.cumsum(rng.normal(0, 0.3, (count, frames, 3)) * (1, 1, 0.3), axis=1)
    ahead = np.stack(
        [np.cos(heading) * np.cos(pitch), np.sin(heading) * np.cos(pitch), np.sin(pitch)], axis=-1
    )
    right = np.stack([np.sin(heading), -np.cos(heading), 0 * heading], axis=-1)
    pose = np.tile(np.eye(4), (count, frames, 1, 1))
    pose[..., :3, 0], pose[..., :3, 1], pose[..., :3, 2] = right, np.cross(ahead, right), ahead
    pose[..., :3, 3] = (4, 4, 1.5) + steps
    offset = center[:, None] - pose[:, :, None, :3, 3]
    location = np.einsum("sfij,sfni->sfnj", pose[..., :3, :3], offset).astype(f32)
    visibility = rng.uniform(0, 1, per).astype(f32) * (location[..., 2] > 0)
    order = rng.permuted(np.tile(np.arange(objects), (count, 1)), axis=1)
    corner = rng.uniform(0, 500, (*per, 2)).astype(f32)
    bbox = np.concatenate([corner, corner + rng.uniform(5, 140, (*per, 2)).astype(f32)], axis=-1)
    return Scene(
        center=leaf(center),
        extent=leaf(extent),
        obb_center=leaf(center),
        obb_extent=leaf(extent),
        obb_yaw=leaf(rng.uniform(-np.pi, np.pi, (count, objects)).astype(f32)),
        obb_rotation=leaf(np.zeros((count, 0, 3, 3), f32)),
        label=leaf((order * 3 // 4).astype(np.int32)),  # every third label comes twice
        object_valid=leaf(np.ones((count, objects), bool)),
        world_from_camera=leaf(pose.astype(f32)),
        heading=leaf(heading.astype(f32)),
        frame_valid=leaf(np.ones((count, frames), bool)),
        pose_valid=leaf(np.ones((count, frames), bool)),
        image_size=leaf(np.tile(np.array([640, 480], f32), (count, frames, 1))),
        seen=leaf(visibility > 0),
        visibility=leaf(visibility),
        bbox_2d=leaf(bbox),
        camera_location=leaf(location),
        truncated=leaf(rng.random(per) < 0.3),
        occluded=leaf(rng.random(per) < 0.5),
        points=leaf(np.zeros((count, objects, 0, 3), f32)),
        point_valid=leaf(np.zeros((count, objects, 0), bool)),
        floor_area=leaf(rng.uniform(8, 40, count).astype(f32)),
        stored_size=leaf(np.full((count, objects), np.nan, f32)),
        path_turn_xz=leaf(np.zeros((count, frames), f32)),
        box_gap=leaf(np.zeros((count, 0, 0), f32)),
    )


def random_queries(
    tasks: Sequence[str], scenes: Scene, count: int, seed: int = 0
) -> tuple[np.ndarray, Query]:
    """`count` questions, the tasks in turn, about random scenes, labels and frames."""
    rng = np.random.default_rng(seed)
    rooms, frames = scenes.frame_valid.shape
    labels_there = scenes.label.shape[1] * 3 // 4
    task = np.array([TASK_IDS[name] for name in tasks], np.int32)[np.arange(count) % len(tasks)]
    used = np.array([len(spec.slots) for spec in TASKS])[task]
    # Different labels: a random one, and further ones at random steps from it.
    steps = np.cumsum(rng.integers(1, labels_there // MAX_LABELS + 1, (count, MAX_LABELS)), axis=1)
    labels = (rng.integers(0, labels_there, (count, 1)) + steps) % labels_there
    step = rng.integers(1, frames, count)
    first = rng.integers(0, frames, count)
    pair = np.stack([first, (first + step) % frames], axis=1)
    queries = Query(
        task_id=leaf(task),
        labels=leaf(np.where(np.arange(MAX_LABELS) < used[:, None], labels, -1).astype(np.int32)),
        frames=leaf(pair.astype(np.int32)),
        difficulty=leaf(np.zeros(count, np.int32)),
        use_points=leaf(np.zeros(count, bool)),
        min_visibility=leaf(np.full(count, 0.1, np.float32)),
        label_frames=leaf(np.full((count, 2), -1, np.int32)),
    )
    return rng.integers(0, rooms, count).astype(np.int32), queries


# --- what it moves -------------------------------------------------------------------------------


def read_leaves(task: int, scenes: Scene, queries: Query) -> frozenset[str]:
    """The leaves of a scene that a task's value, reason and margin depend on."""
    scene, query = (
        jax.eval_shape(lambda tree: jax.tree.map(lambda leaf: leaf[0], tree), tree)
        for tree in (scenes, queries)
    )

    def answer(scene: Scene, query: Query) -> tuple[jax.Array, ...]:
        verdict = TASKS[task].oracle(scene, query)
        return verdict.value, verdict.reason, verdict.margin

    jaxpr = jax.make_jaxpr(answer)(scene, query).jaxpr
    _, used = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    names = [field.name for field in dataclasses.fields(Scene)]
    return frozenset(name for name, kept in zip(names, used, strict=False) if kept)


def question_bytes(task: int, scenes: Scene, queries: Query) -> float:
    """Bytes that one question must move: what it reads of its scene, itself, and its answer.

    Leaves that are searched count whole, for each frame that is looked at; the others count at the
    places of the objects asked about.
    """
    spec = TASKS[task]
    objects = scenes.label.shape[1]
    looks = len(spec.roles) or {"scene": 0, "single_image": 1, "image_pair": 2}[spec.modality]
    places = max(len(spec.slots), 1)
    total = ANSWER_BYTES + sum(leaf.nbytes / len(leaf) for leaf in jax.tree.leaves(queries))
    for name in read_leaves(task, scenes, queries):
        array = getattr(scenes, name)
        shape = array.shape[2:] if name in batches.PER_FRAME else array.shape[1:]
        entries = float(np.prod(shape))
        searched = name in batches.SEARCHED or name == "box_gap" or spec.name == "position_cam_reg"
        if not searched and shape[:1] == (objects,):
            entries *= places / objects
        if name == "box_gap":
            entries /= objects  # the target's row
        total += entries * array.dtype.itemsize * (looks if name in batches.PER_FRAME else 1)
    return total


def fetch_rate(scenes: Scene, repeats: int) -> float:
    """Bytes a second that one core reads and writes when it fetches random rows of a table."""
    rows = np.asarray(scenes.camera_location).reshape(-1, scenes.camera_location.shape[2] * 3)
    index = np.random.default_rng(0).integers(0, len(rows), FETCHED)
    into = np.empty((FETCHED, rows.shape[1]), rows.dtype)
    seconds = timed(lambda: np.take(rows, index, axis=0, out=into, mode="clip"), repeats)
    return 2 * into.nbytes / seconds


# --- the clock -----------------------------------------------------------------------------------


def timed(call: Callable[[], Any], repeats: int) -> float:
    """Seconds of a warm call, the median of several."""
    for _ in range(WARM_UP):
        call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def time_oracles(
    tasks: Sequence[str], scenes: Scene, sizes: Sequence[int], repeats: int, *, evidence: bool
) -> list[Line]:
    """Every task alone and the equal mix, at every batch size."""
    judge = batches.judge_by_task if evidence else batches.answer_by_task
    rate, cores = fetch_rate(scenes, repeats), len(os.sched_getaffinity(0))
    groups = [*((name, (name,)) for name in tasks), ("equal mix", tuple(tasks))]
    lines, moved = [], {}
    with tqdm(total=len(groups) * len(sizes), desc="oracles", unit="line", disable=None) as bar:
        for name, group in groups:
            for size in sizes:
                index, queries = random_queries(group, scenes, size)
                for one in group:
                    moved.setdefault(one, question_bytes(TASK_IDS[one], scenes, queries))
                start = time.perf_counter()
                found = judge(scenes, index, queries)
                first = time.perf_counter() - start
                seconds = timed(lambda i=index, q=queries: judge(scenes, i, q), repeats)
                volume = statistics.mean(moved[one] for one in group)
                lines.append(
                    Line(
                        task=name,
                        batch=size,
                        compile_s=max(first - seconds, 0.0),
                        answers_per_s=size / seconds,
                        valid_share=float(np.mean(found.reason == 0)),
                        bytes_per_question=volume,
                        bound_per_s=rate * cores / volume,
                    )
                )
                bar.update()
    return lines


# --- the table -----------------------------------------------------------------------------------


def table(lines: Sequence[Line]) -> str:
    """A Markdown table, rates in thousands a second."""
    rows = [
        "| task | questions a call | compile s | k answers/s | valid | bytes/question | k/s bound "
        "| of bound |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    rows += [
        f"| {one.task} | {one.batch:,} | {one.compile_s:.1f} | {one.answers_per_s / 1e3:,.0f} "
        f"| {one.valid_share:.0%} | {one.bytes_per_question:,.0f} "
        f"| {one.bound_per_s / 1e3:,.0f} | {one.of_bound:.1%} |"
        for one in lines
    ]
    return "\n".join(rows)


def time_model() -> None:
    unknown = [name for name in _DTYPES.value if name not in bench_model.DTYPES]
    if unknown or not _DTYPES.value:
        known = ", ".join(bench_model.DTYPES)
        raise UserError(f"--dtypes: expected some of {known}; got {unknown or 'none'}.")
    others = sorted(set(_PARTS.value) - set(bench_model.PARTS))
    if others or not _PARTS.value:
        known = ", ".join(bench_model.PARTS)
        raise UserError(f"--parts: expected some of {known}; got {', '.join(others) or 'none'}.")
    out = writable(_OUT.value)
    shapes = bench_model.Shapes(_PROMPTS.value, _SAMPLES.value, _TOKENS.value, _NEW.value)
    baseline = bench_model.baseline_is_here()
    clock = time.process_time if _CPU_TIME.value else time.perf_counter
    with user_errors(ValueError):
        config = bench_model.known_config(_MODEL.value)
        own = {"remat": _REMAT.value, "unroll": _UNROLL.value}
        own = {name: value for name, value in own.items() if value is not None}
        config = dataclasses.replace(config, **own)
        lines = bench_model.measure(
            config,
            shapes,
            _DTYPES.value,
            _REPEATS.value,
            baseline=baseline,
            clock=clock,
            parts=_PARTS.value,
        )
    said = bench_model.describe(config, shapes, baseline=baseline)
    unit = "CPU seconds" if _CPU_TIME.value else "seconds"
    print(f"{said} Tokens per {unit}, median of {_REPEATS.value} turns.\n")
    print(bench_model.table(lines))
    if out is not None:
        record = {
            "device": jax.devices()[0].device_kind,
            "model": _MODEL.value,
            "shapes": dataclasses.asdict(shapes),
            "baseline": "transformers on PyTorch" if baseline else None,
            "lines": [dataclasses.asdict(line) for line in lines],
        }
        with user_errors(OSError):
            out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def main(argv: Sequence[str]) -> None:
    keep_freed_memory()
    subject = argv[1] if len(argv) == 2 else ""
    if subject not in SUBJECTS:
        raise UserError(f"expected one of {', '.join(SUBJECTS)} after the command; see --help.")
    if _OUT.value and subject not in ("oracles", "model"):
        raise UserError(f"--out is for oracles and model, got {subject}.")
    if subject == "requests":
        scenes = random_scenes(_SCENES.value, _OBJECTS.value, _FRAMES.value)
        rates = bench_requests.time_requests(scenes, _REQUESTS.value, _REPEATS.value)
        print(bench_requests.table(rates))
        return
    if subject == "data":
        print(bench_data.report(_SCENES.value, _REPEATS.value))
        return
    if subject == "visibility":
        print(bench_visibility.report(_POINTS.value, _VIEWS.value, _REPEATS.value))
        return
    if subject == "sens":
        print(bench_sens.table(bench_sens.time_sens(_SENS_FRAMES.value, _REPEATS.value)))
        return
    if subject == "model":
        time_model()
        return
    unknown = [name for name in _TASKS.value if name not in TASK_IDS]
    if unknown or not _TASKS.value:
        known = ", ".join(TASK_IDS)
        raise UserError(f"--tasks: expected some of {known}; got {unknown or 'none'}.")
    sizes = [int(text) for text in _BATCHES.value if text.isascii() and text.isdigit()]
    if len(sizes) < max(len(_BATCHES.value), 1) or min(sizes) < 1:
        raise UserError(f"--batch_sizes: expected whole numbers above 0, got {_BATCHES.value}.")
    out = writable(_OUT.value)
    scenes = jax.device_put(random_scenes(_SCENES.value, _OBJECTS.value, _FRAMES.value))
    scenes = jax.block_until_ready(batches.with_gaps(scenes))
    megabytes = sum(leaf.nbytes for leaf in jax.tree.leaves(scenes)) / 1e6
    device = f"{jax.devices()[0].device_kind}, {len(os.sched_getaffinity(0))} cores"
    lines = time_oracles(_TASKS.value, scenes, sizes, _REPEATS.value, evidence=_EVIDENCE.value)
    print(
        f"{_SCENES.value} scenes of {_OBJECTS.value} objects and {_FRAMES.value} frames, "
        f"{megabytes:.0f} MB on the device ({device}); median of {_REPEATS.value} runs.\n"
    )
    print(table(lines))
    mix = max(line.answers_per_s for line in lines if line.task == "equal mix")
    times = mix / PUBLISHED
    print(f"\nThe published oracle answers {PUBLISHED:,}/s: the mix is {times:,.0f} times that.")
    if out is not None:
        record = {
            "device": device,
            "scene_set_mb": megabytes,
            "published_per_s": PUBLISHED,
            "lines": [dataclasses.asdict(line) | {"of_bound": line.of_bound} for line in lines],
        }
        with user_errors(OSError):
            out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(main, positionals=True)
