"""One step of a run, host and device together: rows to texts, texts to an update."""

import dataclasses
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from geometry_jax.tasks import TASK_IDS, TASKS
from spatialevo_jax import grpo, rewards
from spatialevo_jax.data import RoomSet, Row, row_paths
from spatialevo_jax.evaluation import held_out as scoring
from spatialevo_jax.models.qwen2_5_vl import images
from spatialevo_jax.models.qwen2_5_vl import model as qwen
from spatialevo_jax.roles import prompts
from spatialevo_jax.rollout import batch as packing
from spatialevo_jax.rollout import decode, sampling
from spatialevo_jax.train import episode, warm_start
from spatialevo_jax.train.metrics import evolution_metrics, log_samples
from spatialevo_jax.train.records import Records
from spatialevo_jax.train.setup import Setup
from spatialevo_jax.train.state import TrainState, optimizer
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
SAMPLES_SHOWN = 6  # held-out samples of each task that are logged with their texts


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
        values |= evolution_metrics(
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
            log_samples(
                records,
                step,
                setup.train,
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
                    "images": row_paths(setup.held_out, items[i].row),
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
