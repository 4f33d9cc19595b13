"""What a run needs and never changes: rooms, tokenizer, policy, held-out questions."""

import dataclasses
import string
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from transformers import PreTrainedTokenizerBase

from geometry_jax.tasks import TASKS
from spatialevo_jax.config import SchedulerConfig, TrainConfig
from spatialevo_jax.data import RoomSet, RowSource, load_rooms, row_source
from spatialevo_jax.evaluation import held_out as scoring
from spatialevo_jax.models.qwen2_5_vl import folders
from spatialevo_jax.models.qwen2_5_vl import model as qwen
from spatialevo_jax.models.qwen2_5_vl.config import SIZES, sized
from spatialevo_jax.roles import pointing, prompts
from spatialevo_jax.rollout import batch as packing
from spatialevo_jax.scheduler import Scheduler, accuracy_scheduler
from spatialevo_jax.tokenizer import load_tokenizer, special_ids, train_tokenizer
from spatialevo_jax.train import sft, warm_start

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
    banned: jax.Array  # (V,) bool, tokens that no response may contain
    scheduler: Scheduler
    lessons: sft.LessonSource | None  # of a set, where it takes the place of self-evolution


def prepare(config: TrainConfig, workdir: Path) -> tuple[Setup, qwen.Params]:
    """Loads rooms, trains or reads the tokenizer, builds or reads the policy."""
    train, val = load_rooms(config.data, "train"), load_rooms(config.data, "val")
    sizes = (1, 2, config.data.scene_frames)
    rows = row_source(train, sizes, config.seed)
    policy, params, tokenizer = _policy(config, workdir, train, rows)
    ids, model = special_ids(tokenizer), policy.config
    side = config.data.image_size // model.vision.patch_size
    encoder = packing.ChatEncoder(
        tokenizer,
        ids,
        (1, side, side),
        (side // model.vision.spatial_merge_size) ** 2,
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
        banned=jnp.asarray(banned),
        scheduler=_scheduler(config.scheduler),
        lessons=sft.lesson_source(config.sft, config.data, train, config.seed)
        if config.sft.data is not None
        else None,
    )
    return setup, params


def _scheduler(config: SchedulerConfig) -> Scheduler:
    return accuracy_scheduler(
        len(TASKS),
        prior_accuracy=config.prior_accuracy,
        prior_count=config.prior_count,
        floor=config.floor,
        decay=config.decay,
        count_invalid=config.count_invalid,
        targets=[0.5 if task.name in config.half_is_perfect else 1.0 for task in TASKS],
    )


def _policy(
    config: TrainConfig, workdir: Path, rooms: RoomSet, rows: RowSource
) -> tuple[qwen.Policy, qwen.Params, PreTrainedTokenizerBase]:
    """Of a model folder with its tokenizer, or of a size, random, with a tokenizer trained here."""
    path = Path(config.model)
    if config.model not in SIZES and path.is_dir():
        source = folders.open_either(path)
        tokenizer = load_tokenizer(folders.begin_run(source, workdir))
        size = source.config.text.vocab_size
        if len(tokenizer) > size:
            raise ValueError(
                f"{path}: expected a tokenizer of at most the model's {size} tokens, "
                f"got {len(tokenizer)}."
            )
        params = jax.device_put(folders.load(source, np.float32))
        return qwen.Policy(source.config), params, tokenizer
    sized(config.model)  # an unknown one is said before a tokenizer is trained for it
    folder = workdir / "tokenizer"
    if not folder.is_dir():
        train_tokenizer(_tokenizer_texts(config, rooms, rows), config.vocab_size, folder)
    tokenizer = load_tokenizer(folder)
    model = sized(config.model, _padded_vocabulary(len(tokenizer)))
    return *qwen.build(model, config.seed), tokenizer


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
