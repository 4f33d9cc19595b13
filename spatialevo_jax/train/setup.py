"""What a run needs and never changes: rooms, tokenizer, policy, held-out questions, devices."""

import dataclasses
import math
import string
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh
from transformers import PreTrainedTokenizerBase

from geometry_jax.tasks import TASKS
from spatialevo_jax import hosts
from spatialevo_jax.config import SchedulerConfig, TrainConfig
from spatialevo_jax.data import SIDE, RoomSet, Row, RowSource, load_rooms, row_source
from spatialevo_jax.environment import pools
from spatialevo_jax.evaluation import held_out as scoring
from spatialevo_jax.mesh import BATCH
from spatialevo_jax.models.qwen2_5_vl import folders, images
from spatialevo_jax.models.qwen2_5_vl import model as qwen
from spatialevo_jax.models.qwen2_5_vl.config import SIZES, ModelConfig, VisionConfig, sized
from spatialevo_jax.models.qwen2_5_vl.hf_processor import read_processor
from spatialevo_jax.roles import pointing, prompts
from spatialevo_jax.rollout import batch as packing
from spatialevo_jax.scene_source import load_scenes
from spatialevo_jax.scheduler import Scheduler, accuracy_scheduler
from spatialevo_jax.sharding import make_mesh, param_shardings, shardings
from spatialevo_jax.tokenizer import load_tokenizer, special_ids, train_tokenizer
from spatialevo_jax.train import sft, warm_start
from spatialevo_jax.train.records import TOKENIZER
from spatialevo_jax.train.state import TrainState, init_state

PROMPTS_TRIED = 64  # rows of each dataset whose prompts are tried before a run begins
TOKENIZER_STEPS = 20  # steps' rows whose conversations the small tokenizer is trained on


@dataclasses.dataclass(frozen=True)
class Setup:
    """Everything of a run that does not change."""

    config: TrainConfig
    train: RoomSet
    held_out: RoomSet
    items: list[scoring.Item]
    rows: RowSource
    policy: qwen.Policy
    encoder: packing.ChatEncoder
    picture: images.VisionShape  # what any picture of the rooms takes, at most
    banned: np.ndarray  # (V,) bool, tokens that no response may contain
    scheduler: Scheduler
    lessons: sft.LessonSource | None  # of a set, where it takes the place of self-evolution
    mesh: Mesh
    share: hosts.Share  # which rows of a batch this process feeds

    def visuals(self, rooms: RoomSet, row: Row) -> list[images.Visual]:
        """What prompts have to know of the images of a row."""
        vision = self.policy.config.vision
        return [images.Visual(vision.grid(*size)) for size in rooms.row_sizes(row)]


def prepare(config: TrainConfig, workdir: Path, done: int = 0) -> tuple[Setup, qwen.Params]:
    """Loads rooms, trains or reads the tokenizer, builds or reads the policy, whose parameters are
    born where they stay. Training scenes that do not load are left out, with a warning. Of the
    updates `done` are behind a run that goes on.

    Raises:
        FileNotFoundError: no rooms. ValueError: held-out scene files of the wrong form, pictures
            that do not decode or are not as the model's image processor has them, or sizes that do
            not divide over the mesh.
    """
    mesh = make_mesh(**dataclasses.asdict(config.mesh))
    devices = math.prod(mesh.shape[axis] for axis in BATCH)
    _require_divisible(config, devices, hosts.share(mesh).blocks, done)
    scenes, val = load_scenes(config.data, "train"), load_rooms(config.data, "val")
    for sentence in scenes.skipped:
        logging.warning("left out: %s", sentence)
    train = scenes.rooms
    # The tokenizer is trained on what evolution asks, also where there are no steps of it.
    counts = [config.data.rows, *_rows_of_phases(config).values()]
    columns = zip((1, 2, config.data.scene_frames), *counts, strict=True)
    rows = row_source(train, [size if any(shown) else 0 for size, *shown in columns], config.seed)
    policy, params, tokenizer = _policy(config, workdir, train, rows, mesh)
    ids, model = special_ids(tokenizer), policy.config
    sizes_seen = {size for rooms in (train, val) for room in rooms.sizes for size in room}
    _require_pixels(config, workdir, sizes_seen, model.vision)
    encoder = packing.ChatEncoder(
        tokenizer,
        ids,
        images_last=config.data.images_last,
        merge=model.vision.spatial_merge_size,
        tokens_per_second=model.vision.tokens_per_second,
    )
    banned = np.zeros(model.text.vocab_size, bool)
    banned[len(tokenizer) :] = True
    special = [ids.pad, ids.image_pad, ids.video_pad, ids.vision_start, ids.vision_end]
    banned[special] = True
    setup = Setup(
        config=config,
        train=train,
        held_out=val,
        items=scoring.build_items(
            val,
            config.evaluation.questions_per_task,
            config.data.scene_frames,
            config.data.wordings,
        ),
        rows=rows,
        policy=policy,
        encoder=encoder,
        picture=images.pool_shape((model.vision.grid(*seen) for seen in sizes_seen), model.vision),
        banned=banned,
        scheduler=_scheduler(config.scheduler),
        lessons=sft.lesson_source(
            config.sft, config.data, train, config.seed, config.rewards.observation
        )
        if config.sft.data is not None
        else None,
        mesh=mesh,
        share=hosts.share(mesh),
    )
    _require_prompts(setup)
    for item in setup.items:
        val.row_images(item.row)  # a broken picture is said now, not after the warm start
    return setup, params


def abstract_state(setup: Setup, step: int) -> TrainState:
    """Shapes and types of the train state before update number `step`, without any memory."""
    return jax.eval_shape(
        lambda params: init_state(setup.config, params, setup.scheduler, step=step),
        qwen.abstract_params(setup.policy.config),
    )


def placed_state(setup: Setup, step: int) -> TrainState:
    """The same, each with its place on the mesh: what a checkpoint is read into."""
    state = abstract_state(setup, step)
    layout = shardings(state, setup.policy.config, setup.mesh)
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        state,
        layout,
    )


def position(setup: Setup, step: int) -> dict[str, Any]:
    """Where the rows are before update number `step`, as JSON: all that is drawn is a function of
    the seed, the step, these rooms and this set.
    """
    return {
        "step": step,
        "seed": setup.config.seed,
        "train": setup.train.fingerprint,
        "held_out": setup.held_out.fingerprint,
        "set": None if setup.lessons is None else setup.lessons.fingerprint,
    }


def require_position(setup: Setup, saved: Mapping[str, Any], step: int) -> None:
    """
    Raises:
        ValueError: `saved` is another position than that of `step`.
    """
    config = setup.config
    scenes, rows = config.data.scenes, config.sft.data or "sft.data"
    places = {
        "train": (scenes, "train rooms"),
        "held_out": (scenes, "held_out rooms"),
        "set": (rows, "question-answer set"),
    }
    for name, value in position(setup, step).items():
        if saved.get(name) != value:
            place, what = places.get(name, (scenes, name))
            raise ValueError(
                f"{place}: expected the {what} that the run began with "
                f"({saved.get(name)}), found others ({value}); bring them back, or choose another "
                "--workdir to begin anew."
            )


def _require_prompts(setup: Setup) -> None:
    """The prompts of all held-out questions, and the Questioner's about the first rows of each
    dataset, must have room. One that comes later and has none ends the run then. All lessons of a
    set must be plain texts.
    """
    config, language = setup.config, setup.config.rewards.observation

    def require(rooms: RoomSet, row: Row, text: str, field: str) -> None:
        turn = setup.encoder.turn(text, setup.visuals(rooms, row), rooms.records[row.room].scene_id)
        end = len(turn.tokens) - 1  # decoding begins with the last one
        turn.require_fit(getattr(config.rollout, field), end=end, name=f"rollout.{field}: a prompt")

    for item in setup.items:
        text = prompts.solver(item.task, item.question, language)
        require(setup.held_out, item.row, text, "solver_prompt")
    if setup.lessons is not None:
        for lesson in setup.lessons.lessons:
            name = f"{config.sft.data}: {setup.train.records[lesson.row.room].scene_id}"
            for text in (lesson.example.prompt, lesson.example.reply):
                setup.encoder.require_plain(text, name)
        return
    if not config.grpo.steps:
        return
    for kind, count in enumerate(config.data.rows):
        for index in range(PROMPTS_TRIED if count else 0):
            row = setup.rows.row(kind, index)
            seen = pools(setup.train.records[row.room], row.frames)
            for task in setup.train.feasible_tasks(row):
                text = prompts.questioner(task, seen, language)
                require(setup.train, row, text, "questioner_prompt")


def _require_pixels(
    config: TrainConfig, workdir: Path, sizes: Collection[tuple[int, int]], vision: VisionConfig
) -> None:
    """Pictures of these sizes, width and height, are what the model's own image processor would
    show of them: who has the trained model from `to-hf` sees with that.
    """
    side = vision.patch_size * vision.spatial_merge_size
    if side != SIDE:
        raise ValueError(
            f"{config.model}: expected visual tokens of {SIDE} pixels a side, got {side}."
        )
    pixels = read_processor(workdir / folders.COMPANIONS, vision)
    if pixels is None:
        return
    for width, height in sizes:
        if not pixels.least <= width * height <= pixels.most:
            raise ValueError(
                f"data.image_size: expected pictures of {pixels.least} to {pixels.most} pixels, as "
                f"the image processor of {config.model} leaves them, got {width}x{height}."
            )


def _require_divisible(config: TrainConfig, devices: int, blocks: int, done: int) -> None:
    """Every batch that is still to come must divide over the devices that batches are split over,
    and the parts of the Solver's over the blocks of hosts that it is dealt to.
    """
    if config.grpo.two_pass % blocks:
        raise ValueError(
            f"grpo.two_pass: expected a number that divides over the {blocks} blocks of hosts, "
            f"got {config.grpo.two_pass}."
        )
    sizes = {"evaluation.batch": config.evaluation.batch}
    sizes |= {name: sum(rows) for name, rows in _rows_of_phases(config, done).items()}
    if config.grpo.steps and config.sft.data is None:
        sizes["rollout.solver_prompts"] = config.rollout.solver_prompts
    elif config.grpo.steps:
        sizes["sft.rows"] = sum(config.sft.rows)
    for name, size in sizes.items():
        if size % devices:
            raise ValueError(
                f"{name}: expected a number that divides over the {devices} devices along "
                f"{' x '.join(BATCH)}, got {size}."
            )


def _rows_of_phases(config: TrainConfig, done: int = 0) -> dict[str, tuple[int, int, int]]:
    """Rows of one step of each phase that the run has after `done` updates, by the setting's name:
    single images, pairs, scenes.
    """
    warm, found = config.warm_start, {}
    if warm.naming_steps > done:
        found["warm_start.naming_rows"] = warm.naming_rows
    if warm.looking_steps > max(warm.naming_steps, done):
        found["warm_start.looking_rows"] = warm.looking_rows
    if warm.steps > max(warm.looking_steps, done):
        found["warm_start.rows"] = warm.rows
    if config.grpo.steps and config.sft.data is None:
        found["data.rows"] = config.data.rows
    return found


def _scheduler(config: SchedulerConfig) -> Scheduler:
    return accuracy_scheduler(
        len(TASKS),
        prior_accuracy=config.prior_accuracy,
        prior_count=config.prior_count,
        floor=config.floor,
        decay=config.decay,
        uniform=config.uniform,
        count_invalid=config.count_invalid,
        targets=[0.5 if task.name in config.half_is_perfect else 1.0 for task in TASKS],
    )


def _policy(
    config: TrainConfig, workdir: Path, rooms: RoomSet, rows: RowSource, mesh: Mesh
) -> tuple[qwen.Policy, qwen.Params, PreTrainedTokenizerBase]:
    """Of a model folder with its tokenizer, or of a size, random, with a tokenizer trained here."""
    path = Path(config.model)
    if config.model not in SIZES and path.is_dir():
        source = folders.open_either(path)
        if jax.process_index() == 0:
            folders.begin_run(source, workdir)
        hosts.wait_for_all("begin_run")
        tokenizer = load_tokenizer(folders.begin_run(source, workdir))
        size = source.config.text.vocab_size
        if len(tokenizer) > size:
            raise ValueError(
                f"{path}: expected a tokenizer of at most the model's {size} tokens, "
                f"got {len(tokenizer)}."
            )
        layout = param_shardings(source.config, mesh)
        policy = qwen.Policy(computing(config, source.config))
        return policy, folders.load(source, np.float32, layout), tokenizer
    sized(config.model)  # an unknown one is said before a tokenizer is trained for it
    folder = workdir / TOKENIZER
    if jax.process_index() == 0 and not folder.is_dir():
        train_tokenizer(_tokenizer_texts(config, rooms, rows), config.vocab_size, folder)
    hosts.wait_for_all("tokenizer")
    tokenizer = load_tokenizer(folder)
    model = computing(config, sized(config.model, _padded_vocabulary(len(tokenizer))))
    return *qwen.build(model, config.seed, param_shardings(model, mesh)), tokenizer


def computing(config: TrainConfig, model: ModelConfig) -> ModelConfig:
    """The model with the run's own way to compute, where it has one."""
    own = {"compute_dtype": config.compute_dtype, "remat": config.remat}
    own = {name: value for name, value in own.items() if value is not None}
    return dataclasses.replace(model, **own)


def _padded_vocabulary(tokens: int) -> int:
    return packing.bucket(tokens, 64)


def _tokenizer_texts(config: TrainConfig, rooms: RoomSet, source: RowSource) -> list[str]:
    """The project's own prompts and replies, as the warm start shows them."""
    rng = np.random.default_rng((config.seed, 1))
    texts: list[str] = ["system\nYou are a helpful assistant.", "user\nImage 1: ", "assistant\n"]
    for step in range(TOKENIZER_STEPS):
        rows = source.step_rows(step, config.data.rows)
        for one in warm_start.row_examples(
            rooms, rows, config.warm_start, config.data.wordings, rng
        ):
            for example in (*one.looking, *one.questioner, *one.solver):
                texts += [example.prompt, example.reply]
    # Every hint, reason, column and digit, however rare.
    texts += [
        f" {warm_start.NOTHING} {' '.join(pointing.COLUMNS + string.digits)}"
    ] * TOKENIZER_STEPS
    texts += [f" {phrase}" for phrase in prompts.reason_phrases()]
    texts += [f" {choice}" for task in TASKS for choice in task.choices]
    return texts
