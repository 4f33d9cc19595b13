"""A run from start to end. All side effects of training are here: files, clocks, logs, the progress
bar.

    warm start   supervised steps on generated conversations, in place of a pretrained base model
    evolution    Questioner -> oracle -> Solver -> rewards -> joint GRPO update, with held-out
    scores on the way; or, with `sft.data`, supervised steps on a question-answer set in its place

Everything that changes is in the train state, and everything drawn is a function of (seed, step): a
run that is killed goes on from its last checkpoint and ends with the same numbers.
"""

import dataclasses
import math
import resource
import string
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from geometry_jax.tasks import TASK_IDS, TASKS
from spatialevo_jax import grpo, rewards
from spatialevo_jax.config import SchedulerConfig, TrainConfig
from spatialevo_jax.data import RoomSet, Row, RowSource, load_rooms, row_source
from spatialevo_jax.evaluation import held_out as scoring
from spatialevo_jax.models.qwen2_5_vl import folders, images
from spatialevo_jax.models.qwen2_5_vl import model as qwen
from spatialevo_jax.models.qwen2_5_vl.config import SIZES, sized
from spatialevo_jax.roles import pointing, prompts
from spatialevo_jax.rollout import batch as packing
from spatialevo_jax.rollout import decode, sampling
from spatialevo_jax.scheduler import Scheduler, accuracy_scheduler
from spatialevo_jax.tokenizer import load_tokenizer, special_ids, train_tokenizer
from spatialevo_jax.train import checkpoint, episode, sft, warm_start
from spatialevo_jax.train.records import Records
from spatialevo_jax.train.state import TrainState, begin_evolution, init_state, optimizer
from spatialevo_jax.train.step import (
    EvolutionBatch,
    RoleBatch,
    SftBatch,
    Supervised,
    WarmStartBatch,
    make_evolution_step,
    make_sft_step,
    make_warm_start_step,
)

QUESTIONER, SOLVER = 0, 1  # roles, folded into the random keys
SAMPLES_SHOWN = 6  # held-out and training samples that are logged with their texts
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


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that is ready to begin or to go on."""

    setup: Setup
    records: Records
    checkpoints: ocp.CheckpointManager
    state: TrainState


def open_run(config: TrainConfig, workdir: Path) -> Run:
    """Loads all that the run of `workdir` needs, and its latest state where there is one.

    Raises:
        FileNotFoundError: no rooms. ValueError: the folder holds a run of another configuration, or
            scene files are of the wrong form.
    """
    records = Records(workdir, dataclasses.asdict(config))
    setup, params = prepare(config, workdir)
    checkpoints = checkpoint.manager(workdir / "checkpoints", kept=config.checkpoints_kept)
    # The two phases have optimizers of different form: the checkpoint's step tells which.
    saved = checkpoints.latest_step() or 0
    fresh = init_state(config, params, setup.scheduler, step=saved)
    restored = checkpoint.restore(checkpoints, fresh)
    return Run(setup, records, checkpoints, fresh if restored is None else restored)


def train(run: Run) -> dict[str, Any]:
    """Trains to the end; returns the summary that it also writes.

    Raises:
        FloatingPointError: the loss is no longer finite.
    """
    setup, records, checkpoints, state = run.setup, run.records, run.checkpoints, run.state
    config = setup.config
    first = int(state.step)
    records.resume(first)
    steps = Steps(setup)
    bar = tqdm(
        total=config.total_steps,
        initial=first,
        desc="train",
        unit="step",
        disable=None,
        smoothing=0.05,
    )
    accuracy = records.last_accuracy()
    second, second_phase = ("evolve", steps.evolve)
    if setup.lessons is not None:
        second, second_phase = ("sft", steps.imitate)
    for number in range(first, config.total_steps):
        evolving = number >= config.warm_start.steps
        if number == config.warm_start.steps and not records.has_moment("before"):
            accuracy = steps.evaluate(state, "before", records)
        phase = second_phase if evolving else steps.supervise
        state, metrics = phase(state, number, records)
        if not math.isfinite(metrics["loss/total"]):
            raise FloatingPointError(f"step {number}: the loss is {metrics['loss/total']}.")
        records.metrics(number, second if evolving else "warm_start", metrics)
        done = number + 1
        if done == config.warm_start.steps:
            state = begin_evolution(config, state)
        since = done - config.warm_start.steps
        if evolving and since % config.evaluation.every == 0 and done < config.total_steps:
            accuracy = steps.evaluate(state, "during", records)
        if done % config.checkpoint_every == 0 or done == config.warm_start.steps:
            checkpoint.save(checkpoints, state)
        bar.update()
        shown = {"loss": f"{metrics['loss/total']:.3f}"}
        if accuracy is not None:
            shown = {"held_out": f"{accuracy:.1%}"}
            shown["sampled"] = f"{metrics.get('accuracy/sampled', 0.0):.1%}"
        bar.set_postfix(shown)
    bar.close()
    if not records.has_moment("after"):
        steps.evaluate(state, "after", records)
    checkpoint.save(checkpoints, state)
    checkpoints.wait_until_finished()
    checkpoints.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )
    return records.summary(int(state.step), peak, config.seed, config.reward)


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


class Steps:
    """The jitted functions of a run with their host sides. Holds nothing that changes."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        config = setup.config
        self.update_warm = make_warm_start_step(
            setup.policy, optimizer(config, 0), config.warm_start.naming_weight
        )
        self.update = make_evolution_step(
            setup.policy,
            optimizer(config, config.warm_start.steps),
            config.grpo,
            setup.banned,
            temperature=config.rollout.temperature,
        )
        self.update_sft = make_sft_step(setup.policy, optimizer(config, config.warm_start.steps))

    def vision(self, rooms: RoomSet, rows: Sequence[Row]) -> tuple[qwen.VisionInputs, list[int]]:
        """The rows' images packed, and the first feature row of each."""
        vision = self.setup.policy.config.vision
        patches = [images.preprocess(x, vision) for row in rows for x in rooms.row_images(row)]
        shown = np.array([len(row.frames) for row in rows]) * self.setup.encoder.tokens_per_image
        return images.pack_images(patches, vision), (np.cumsum(shown) - shown).tolist()

    def supervise(
        self, state: TrainState, step: int, records: Records
    ) -> tuple[TrainState, dict[str, float]]:
        setup = self.setup
        config, wordings = setup.config.warm_start, setup.config.data.wordings
        rng = np.random.default_rng((setup.config.seed, 2, step))
        if step < config.naming_steps:
            rows = setup.rows.step_rows(step, config.naming_rows)
            kinds = []
        elif step < config.looking_steps:
            rows = setup.rows.step_rows(step, config.looking_rows)
            looked = warm_start.looking_examples(setup.train, rows, rng)
            kinds = [[(example,) for example in looked]]
        else:
            rows = setup.rows.step_rows(step, config.rows)
            drawn = warm_start.row_examples(setup.train, rows, config, wordings, rng)
            kinds = [
                [one.looking for one in drawn],
                [one.questioner for one in drawn],
                [one.solver for one in drawn],
            ]
        vision, first = self.vision(setup.train, rows)
        side = setup.encoder.grid[1] // setup.policy.config.vision.spatial_merge_size
        batch = WarmStartBatch(
            vision,
            warm_start.names(setup.train, rows, side, setup.encoder.encode),
            tuple(self._supervised(rows, first, examples) for examples in kinds),
        )
        state, metrics = self.update_warm(state, batch)
        return state, _floats(metrics)

    def imitate(
        self, state: TrainState, step: int, records: Records
    ) -> tuple[TrainState, dict[str, float]]:
        setup, config = self.setup, self.setup.config
        if setup.lessons is None:
            raise ValueError("sft.data: expected a set to learn from, got none.")
        lessons = setup.lessons.step_lessons(step, config.sft.rows)
        rows = [lesson.row for lesson in lessons]
        vision, first = self.vision(setup.train, rows)
        taught = self._supervised(rows, first, [(lesson.example,) for lesson in lessons])
        state, metrics = self.update_sft(state, SftBatch(vision, taught))
        return state, _floats(metrics)

    def _supervised(
        self,
        rows: Sequence[Row],
        first: Sequence[int],
        groups: Sequence[tuple[warm_start.Example, ...]],
    ) -> Supervised:
        """Conversations about the rows' images: all but the last token of each prompt, then the
        reply.
        """
        encoder, config = self.setup.encoder, self.setup.config.rollout
        asked, firsts, replies = [], [], []
        for row, start, group in zip(rows, first, groups, strict=True):
            for example in group:
                asked.append(encoder.conversation(example.prompt, len(row.frames)))
                firsts.append(start)
                replies.append(example.reply)
        ends = [len(one.tokens) - 1 for one in asked]
        dialogues = [
            [packing.dialogue(encoder, one, end, reply)]
            for one, end, reply in zip(asked, ends, replies, strict=True)
        ]
        length = packing.bucket(max(ends), config.prompt_bucket)
        return Supervised(
            packing.pad_prompts(asked, ends, firsts, length),
            packing.pad_dialogues(dialogues, config.reply_bucket),
        )

    def evolve(
        self, state: TrainState, step: int, records: Records
    ) -> tuple[TrainState, dict[str, float]]:
        setup, config = self.setup, self.setup.config
        rng = np.random.default_rng((config.seed, 3, step))
        clock = _Clock()
        rows = setup.rows.step_rows(step, config.data.rows)
        feasible = episode.feasible_mask(setup.train, rows)
        chances = np.asarray(setup.scheduler.probabilities(state.scheduler, jnp.asarray(feasible)))
        assignments = episode.assign_tasks(setup.train, rows, chances, rng)
        vision, first = self.vision(setup.train, rows)
        vision = jax.device_put(vision)

        texts = [prompts.questioner(one.task, one.pools) for one in assignments]
        asking = [
            setup.encoder.conversation(text, len(row.frames))
            for text, row in zip(texts, rows, strict=True)
        ]
        clock.lap("time/prompts_s")
        asked_prompts, asked_starts = self.decodable(
            asking, first, config.rollout.questioner_prompt
        )
        keys = sampling.sample_keys(
            state.key, step, QUESTIONER, len(rows), config.rollout.questioner_samples
        )
        asked_out = self.generate(
            state.policy_params,
            vision,
            asked_prompts,
            asked_starts,
            keys,
            config.rollout.questioner_tokens,
        )
        asked_texts = self.texts(asked_out)
        clock.lap("time/rollout_questioner_s")
        asked = episode.judge_questions(setup.train, assignments, asked_texts, config.reward)
        asked_rewards = episode.questioner_rewards(
            asked, config.reward, alpha=config.alpha, scoring=config.scoring
        )

        def to_solve(question: episode.Question) -> packing.Conversation:
            assignment = assignments[question.assignment]
            text = episode.solver_prompt(question, assignment, config.reward)
            return setup.encoder.conversation(text, len(assignment.row.frames))

        questions = episode.distinct_questions(
            assignments,
            asked,
            config,
            # All tokens but the last, which decoding begins with.
            lambda question: len(to_solve(question).tokens) - 1 <= config.rollout.solver_prompt,
        )
        clock.lap("time/oracle_s")

        answering = [to_solve(question) for question in questions]
        solved_prompts, solved_starts = self.decodable(
            answering, [first[q.assignment] for q in questions], config.rollout.solver_prompt
        )
        keys = sampling.sample_keys(
            state.key, step, SOLVER, len(questions), config.rollout.solver_samples
        )
        solved_out = self.generate(
            state.policy_params,
            vision,
            solved_prompts,
            solved_starts,
            keys,
            config.rollout.solver_tokens,
        )
        solved_texts = self.texts(solved_out)
        clock.lap("time/rollout_solver_s")
        scored = episode.score_answers(
            questions, solved_texts, config.reward, alpha=config.alpha, scoring=config.scoring
        )
        solved_rewards = scored.rewards
        if config.reward == "shuffled":
            asked_rewards = rewards.shuffled(asked_rewards, rng)
            solved_rewards = rewards.shuffled(solved_rewards, rng)
        weights = np.array([question.weight for question in questions], np.float32)
        batch = EvolutionBatch(
            vision=vision,
            questioner=self._role_batch(
                asked_prompts, asked_starts, asked_out, asked_rewards, np.ones(len(rows))
            ),
            solver=self._role_batch(
                solved_prompts, solved_starts, solved_out, solved_rewards, weights
            ),
        )
        state, metrics = self.update(state, batch)
        valid = np.array([question.verdict.valid for question in questions])
        task_ids = np.array([TASK_IDS[question.task] for question in questions])
        state = dataclasses.replace(
            state,
            scheduler=setup.scheduler.update(
                state.scheduler,
                jnp.asarray(task_ids),
                jnp.asarray(scored.correctness.mean(1)),
                jnp.asarray(valid),
                jnp.asarray(weights),
            ),
        )
        values = _floats(metrics)
        clock.lap("time/update_s")
        values |= _evolution_metrics(
            assignments, asked, asked_rewards, questions, scored, solved_rewards
        )
        values |= {
            "rollout/unfinished_questioner": 1.0 - float(np.mean(np.asarray(asked_out.finished))),
            "rollout/unfinished_solver": 1.0 - float(np.mean(np.asarray(solved_out.finished))),
        }
        everywhere = jnp.asarray([task.name in config.data.tasks for task in TASKS])
        probability = np.asarray(setup.scheduler.probabilities(state.scheduler, everywhere))
        for task in config.data.tasks:
            values[f"scheduler/probability/{task}"] = float(probability[TASK_IDS[task]])
        if step % config.evaluation.every == 0:
            _log_samples(
                records,
                step,
                setup,
                assignments,
                asked,
                asked_rewards,
                questions,
                solved_texts,
                solved_rewards,
            )
        return state, values | clock.laps

    def decodable(
        self, conversations: list[packing.Conversation], first: list[int], length: int
    ) -> tuple[packing.Prompts, packing.Starts]:
        """Prompts padded to `length` tokens; `first` are the first feature rows of their images."""
        return jax.device_put(packing.prompts_for_decoding(conversations, first, length))

    def generate(
        self,
        params: qwen.Params,
        vision: qwen.VisionInputs,
        shown: packing.Prompts,
        starts: packing.Starts,
        keys: jax.Array,
        length: int,
        *,
        greedy: bool = False,
    ) -> decode.Responses:
        """Sampled responses of at most `length` tokens, one for each of the keys (P, G)."""
        return decode.generate(
            self.setup.policy,
            params,
            vision,
            shown,
            starts,
            keys,
            self.setup.banned,
            length=length,
            temperature=0.0 if greedy else self.setup.config.rollout.temperature,
            end_token=self.setup.encoder.ids.im_end,
        )

    def texts(self, responses: decode.Responses) -> list[list[str]]:
        """(P, G) decoded responses, without the end-of-turn token."""
        tokens, mask = np.asarray(responses.tokens), np.asarray(responses.mask)
        lengths = mask.sum(-1).astype(int) - np.asarray(responses.finished)
        flat = [
            tokens[p, g, : lengths[p, g]].tolist()
            for p in range(tokens.shape[0])
            for g in range(tokens.shape[1])
        ]
        texts = self.setup.encoder.tokenizer.batch_decode(flat, skip_special_tokens=False)
        size = tokens.shape[1]
        return [texts[start : start + size] for start in range(0, len(texts), size)]

    def _role_batch(
        self,
        shown: packing.Prompts,
        starts: packing.Starts,
        responses: decode.Responses,
        earned: np.ndarray,
        weights: np.ndarray,
    ) -> RoleBatch:
        """Padding groups (weight 0) lose their mask, so they count in no mean."""
        config = self.setup.config.grpo
        kept = jnp.asarray(weights, jnp.float32)
        advantages = grpo.group_advantages(
            jnp.asarray(earned, jnp.float32), normalise_std=config.normalise_std
        )
        suffixes = packing.response_suffixes(starts, responses.tokens, responses.mask)
        suffixes = dataclasses.replace(suffixes, mask=suffixes.mask * kept[:, None, None])
        return RoleBatch(shown, suffixes, responses.logprobs, advantages * kept[:, None])

    def evaluate(self, state: TrainState, moment: str, records: Records) -> float:
        """Greedy answers to all held-out items; records and returns the accuracy."""
        setup, config = self.setup, self.setup.config
        items = setup.items
        size = config.evaluation.batch
        replies: list[str] = []
        for start in range(0, len(items), size):
            part = items[start : start + size]
            rows = [item.row for item in part]
            vision, first = self.vision(setup.held_out, rows)
            asked = [
                setup.encoder.conversation(
                    prompts.solver(item.task, item.question), len(item.row.frames)
                )
                for item in part
            ]
            shown, starts = self.decodable(asked, first, config.rollout.solver_prompt)
            keys = sampling.sample_keys(state.key, 0, SOLVER, len(part), 1)
            out = self.generate(
                state.policy_params,
                vision,
                shown,
                starts,
                keys,
                config.rollout.solver_tokens,
                greedy=True,
            )
            replies += [group[0] for group in self.texts(out)]
        score, points = scoring.score(items, replies)
        samples = []
        if moment != "during":
            # Spread over the items, so that every task is shown.
            chosen = range(0, min(len(items), SAMPLES_SHOWN * len(setup.config.data.tasks)))
            samples = [
                {
                    "task": items[i].task,
                    "modality": TASKS[TASK_IDS[items[i].task]].modality,
                    "images": _paths(setup.held_out, items[i].row),
                    "question": items[i].question,
                    "reply": replies[i],
                    "truth": items[i].truth,
                    "score": points[i],
                }
                for i in chosen
            ]
        step = int(state.step)
        phase = "warm_start" if moment == "before" else "evolve"
        records.evaluation(step, phase, moment, score, samples)
        return score.accuracy


def _floats(metrics: dict[str, jax.Array]) -> dict[str, float]:
    return {name: float(value) for name, value in jax.device_get(metrics).items()}


class _Clock:
    """Seconds of the phases of one step."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = now - self._last
        self._last = now


def _paths(rooms: RoomSet, row: Row) -> list[str]:
    record = rooms.records[row.room]
    return [str(record.image_paths[frame].absolute()) for frame in row.frames]


def _evolution_metrics(
    assignments: Sequence[episode.Assignment],
    asked: Sequence[Sequence[episode.Asked]],
    asked_rewards: np.ndarray,
    questions: Sequence[episode.Question],
    scored: episode.Scored,
    solved_rewards: np.ndarray,
) -> dict[str, float]:
    """What a step did, in plain numbers. Accuracies are against geometry, whatever the reward."""
    values = {
        "reward/questioner": float(asked_rewards.mean()),
        "questioner/valid": float(np.mean([x.verdict.valid for group in asked for x in group])),
        "questioner/grounding": float(np.mean([x.grounding for group in asked for x in group])),
        "questioner/format": float(
            np.mean([x.reply.format_score for group in asked for x in group])
        ),
    }
    real = np.array([question.weight > 0 for question in questions])
    valid = np.array([question.verdict.valid for question in questions]) & real
    values["solver/questions"] = float(real.sum())
    values["solver/valid_questions"] = float(valid.sum())
    values["reward/solver"] = float(solved_rewards[real].mean()) if real.any() else 0.0
    values["solver/flat_groups"] = (
        float((solved_rewards[real].std(1) < 1e-6).mean()) if real.any() else 0.0
    )
    if valid.any():
        values["accuracy/sampled"] = float(scored.correctness[valid].mean())
    for task in TASKS:
        own = np.array([question.task == task.name for question in questions])
        if (own & valid).any():
            values[f"accuracy/sampled/{task.name}"] = float(scored.correctness[own & valid].mean())
        flags = [
            x.verdict.valid
            for assignment, group in zip(assignments, asked, strict=True)
            if assignment.task == task.name
            for x in group
        ]
        if flags:
            values[f"validity/{task.name}"] = float(np.mean(flags))
    return values


def _log_samples(
    records: Records,
    step: int,
    setup: Setup,
    assignments: Sequence[episode.Assignment],
    asked: Sequence[Sequence[episode.Asked]],
    asked_rewards: np.ndarray,
    questions: Sequence[episode.Question],
    solved_texts: Sequence[Sequence[str]],
    solved_rewards: np.ndarray,
) -> None:
    """Some texts of the step, for people."""
    for index in np.linspace(0, len(asked) - 1, SAMPLES_SHOWN).astype(int):
        item, assignment = asked[index][0], assignments[index]
        records.sample(
            step,
            "questioner",
            assignment.task,
            _paths(setup.train, assignment.row),
            question=item.reply.question,
            reply=item.reply.observation,
            reward=float(asked_rewards[index, 0]),
            truth=item.verdict.answer,
            valid=item.verdict.valid,
            reason=item.verdict.error,
        )
    for index in np.linspace(0, len(questions) - 1, SAMPLES_SHOWN).astype(int):
        question = questions[index]
        records.sample(
            step,
            "solver",
            question.task,
            _paths(setup.train, assignments[question.assignment].row),
            question=question.text,
            reply=solved_texts[index][0],
            reward=float(solved_rewards[index, 0]),
            truth=question.verdict.answer,
            valid=question.verdict.valid,
            reason=question.verdict.error,
        )
