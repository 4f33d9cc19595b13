"""One step of a run, host and device together: rows to texts, texts to an update.

Lists of rows, questions and replies are whole and the same in every process; what costs work is
shared. A process takes its part of a list in turn (`hosts.Share.dealt`): it decodes their pictures,
packs their tokens, reads and judges their texts, and tells the others what came out.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from geometry_jax.tasks import TASK_IDS, TASKS
from spatialevo_jax import grpo, hosts, mesh, rewards, sharding
from spatialevo_jax.config import TrainConfig
from spatialevo_jax.data import Row, row_paths
from spatialevo_jax.evaluation import held_out as scoring
from spatialevo_jax.mesh import BATCH
from spatialevo_jax.models.qwen2_5_vl import model as qwen
from spatialevo_jax.roles import claims, prompts
from spatialevo_jax.rollout import batch as packing
from spatialevo_jax.rollout import decode
from spatialevo_jax.scene_source import PromptStream
from spatialevo_jax.train import batches, episode, warm_start
from spatialevo_jax.train.batches import QUESTIONER, SOLVER, Shared, Shown
from spatialevo_jax.train.metrics import (
    evolution_metrics,
    log_samples,
    speeds,
    without_solvers_tokens,
)
from spatialevo_jax.train.records import Records
from spatialevo_jax.train.setup import Setup, abstract_state
from spatialevo_jax.train.state import TrainState, optimizer
from spatialevo_jax.train.step import (
    EvolutionBatch,
    Names,
    RoleBatch,
    SftBatch,
    Supervised,
    WarmStartBatch,
    make_evolution_step,
    make_sft_step,
    make_warm_start_step,
)

SAMPLES_SHOWN = 6  # held-out samples of each task that are logged with their texts

Counts = tuple[int, int, int]  # rows of single images, pairs and scenes


class Assigned(NamedTuple):
    """The rows of a step: what is shown, which task is to be asked about it, and in which words."""

    assignments: list[episode.Assignment]
    vision: qwen.VisionInputs
    first: list[int]  # the first feature of each row
    prompts: Shared


class Asking(NamedTuple):
    """What the Questioner asked; all but the arrays on the devices is whole in every process."""

    asked: list[list[episode.Asked]]  # (R, G)
    lengths: np.ndarray  # (R, G, 2), see `batches.lengths`
    rewards: np.ndarray  # (R, G) f32
    responses: decode.Responses


class Solving(NamedTuple):
    """What the Solver answered, likewise."""

    questions: list[episode.Question]  # (U,)
    texts: Sequence[Sequence[str]]  # (U, G)
    lengths: np.ndarray  # (U, G, 2)
    scored: episode.Scored
    rewards: np.ndarray  # (U, G) f32, which a control may have shuffled
    weights: np.ndarray  # (U,) f32, 0 for padding
    prompts: Shared
    responses: decode.Responses


class _Clock:
    """Seconds of the phases of one step."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = now - self._last
        self._last = now


class Steps:
    """The jitted functions of a run with their host sides. Holds nothing that changes but the
    stream of pictures and the next step's, which follow the step that they are asked for.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        config, policy = setup.config, setup.policy
        second = optimizer(config, config.warm_start.steps)
        whole = NamedSharding(setup.mesh, PartitionSpec())

        def pinned(step: Callable[[Any, Any], Any], number: int) -> Any:
            """Leaves the state where it lies: the compiler is not asked where it would like it."""
            layout = sharding.shardings(abstract_state(setup, number), policy.config, setup.mesh)
            return jax.jit(step, donate_argnums=0, out_shardings=(layout, whole))

        naming = config.warm_start.naming_weight
        self.update_warm = pinned(make_warm_start_step(policy, optimizer(config, 0), naming), 0)

        def evolution(*, advance: bool) -> Any:
            step = make_evolution_step(
                policy,
                second,
                config.grpo,
                jnp.asarray(setup.banned),
                temperature=config.rollout.temperature,
                advance=advance,
            )
            return pinned(step, config.warm_start.steps)

        self.update = evolution(advance=True)
        self.update_part = evolution(advance=False)  # more updates of the same step follow
        self.update_sft = pinned(make_sft_step(policy, second), config.warm_start.steps)
        self._role_batch = jax.jit(
            lambda *parts: _role_batch(*parts, normalise_std=config.grpo.normalise_std)
        )
        self._cut = jax.jit(_cut, static_argnums=(2, 3))
        self._chances = jax.jit(setup.scheduler.probabilities, out_shardings=whole)
        self._scheduled = jax.jit(setup.scheduler.update, out_shardings=whole)
        self._stream: PromptStream | None = None
        self._ahead: tuple[int, list[Row], Shown] | None = None
        self._assigned: tuple[int, Assigned] | None = None

    def on_mesh(self, function: Callable[..., Any], *args: Any, **settings: Any) -> Any:
        with jax.set_mesh(self.setup.mesh):
            return function(*args, **settings)

    # --- rows and their pictures ---------------------------------------------------------------

    def shown_rows(self, step: int) -> tuple[list[Row], Shown]:
        """The rows of a step and their images."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == step:
            return ahead[1:]
        return self._read(step)

    def look_ahead(self, step: int) -> bool:
        """Reads and packs the images of a step that is to come: done while the devices still work.

        Only where the stream that is open goes on with that step; whether it does.
        """
        config, stream = self.setup.config, self._stream
        if step == config.total_steps or stream is None:
            return False
        goes_on = stream.step == step and stream.counts == row_counts(config, step)
        if goes_on:
            self._ahead = (step, *self._read(step))
        return goes_on

    def _read(self, step: int) -> tuple[list[Row], Shown]:
        setup, share = self.setup, self.setup.share
        counts = row_counts(setup.config, step)
        own = share.dealt(sum(counts))
        stream = self._stream
        if stream is None or stream.counts != counts or stream.step != step:
            self.close()
            stream = self._stream = PromptStream(
                setup.train,
                setup.config.data,
                seed=setup.config.seed,
                counts=counts,
                start=step,
                own=own,
            )
        taken = next(stream)
        # Which rows they are is told, since another may stand in the place of a broken one.
        said = {
            place: [one.row.room, *one.row.frames] for place, one in zip(own, taken, strict=True)
        }
        rows = [Row(room, tuple(frames)) for room, *frames in hosts.gather(said, sum(counts))]
        return rows, batches.show(setup, setup.train, rows, (one.images for one in taken))

    def close(self) -> None:
        """Ends the processes that decode pictures."""
        self._ahead = self._assigned = None
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    # --- supervised steps ----------------------------------------------------------------------

    def supervise(
        self, state: TrainState, step: int, records: Records
    ) -> tuple[TrainState, dict[str, float]]:
        setup = self.setup
        config, wordings = setup.config.warm_start, setup.config.data.wordings
        rng = np.random.default_rng((setup.config.seed, 2, step))
        rows, (vision, first) = self.shown_rows(step)
        if step < config.naming_steps:
            kinds = []
        elif step < config.looking_steps:
            looked = warm_start.looking_examples(setup.train, rows, rng)
            kinds = [[(example,) for example in looked]]
        else:
            drawn = warm_start.row_examples(setup.train, rows, config, wordings, rng)
            kinds = [
                [one.looking for one in drawn],
                [one.questioner for one in drawn],
                [one.solver for one in drawn],
            ]
        batch = WarmStartBatch(
            vision,
            self._names(rows, vision.token_slots.shape[0] // setup.share.blocks),
            tuple(self._supervised(rows, first, examples) for examples in kinds),
        )
        state, metrics = self.on_mesh(self.update_warm, state, batch)
        self.look_ahead(step + 1)
        return state, _floats(metrics)

    def _names(self, rows: Sequence[Row], tokens: int) -> Names:
        """What this process's visual tokens should say, padded as they are."""
        setup = self.setup
        own = hosts.local(rows, setup.share.dealt(len(rows)))
        named = warm_start.names(setup.train, own, setup.encoder.encode)
        padding = ((0, tokens - len(named.tokens)), (0, 0))
        return batches.put(setup, jax.tree.map(lambda x: np.pad(np.asarray(x), padding), named))

    def imitate(
        self, state: TrainState, step: int, records: Records
    ) -> tuple[TrainState, dict[str, float]]:
        setup, config = self.setup, self.setup.config
        if setup.lessons is None:
            raise ValueError("sft.data: expected a set to learn from, got none.")
        lessons = setup.lessons.step_lessons(step, config.sft.rows)
        rows = [lesson.row for lesson in lessons]
        own = hosts.local(rows, setup.share.dealt(len(rows)))
        vision, first = batches.show(setup, setup.train, rows, map(setup.train.row_images, own))
        taught = self._supervised(rows, first, [(lesson.example,) for lesson in lessons])
        state, metrics = self.on_mesh(self.update_sft, state, SftBatch(vision, taught))
        return state, _floats(metrics)

    def _supervised(
        self,
        rows: Sequence[Row],
        first: Sequence[int],
        groups: Sequence[tuple[warm_start.Example, ...]],
    ) -> Supervised:
        """Conversations about the rows' images: all but the last token of each prompt, then the
        reply. Lengths are padded to what all of them need, so that all processes agree.
        """
        encoder, config, share = self.setup.encoder, self.setup.config.rollout, self.setup.share
        asked, firsts, replies = [], [], []
        for row, start, group in zip(rows, first, groups, strict=True):
            for example in group:
                asked.append(
                    encoder.turn(example.prompt, self.setup.visuals(self.setup.train, row))
                )
                firsts.append(start)
                replies.append(example.reply)
        ends = [len(one.tokens) - 1 for one in asked]
        dialogues = [
            [packing.dialogue(encoder, one, end, reply)]
            for one, end, reply in zip(asked, ends, replies, strict=True)
        ]
        length = packing.bucket(max(ends), config.prompt_bucket)
        longest = packing.dialogue_length(dialogues, config.reply_bucket)
        own = share.dealt(len(asked))
        asked, ends, firsts, dialogues = (
            hosts.local(values, own) for values in (asked, ends, firsts, dialogues)
        )
        return batches.put(
            self.setup,
            Supervised(
                packing.pad_prompts(asked, ends, firsts, length),
                packing.pad_dialogues(dialogues, longest),
            ),
        )

    # --- self-evolution ------------------------------------------------------------------------

    def evolve(
        self, state: TrainState, step: int, records: Records
    ) -> tuple[TrainState, dict[str, float]]:
        """Questions, answers, rewards, and the update or updates that they lead to."""
        config = self.setup.config
        clock = _Clock()
        shown = self._assigned_rows(state, step)
        clock.lap("time/prompts_s")
        asking = self._ask(state, step, shown, clock)
        rng = np.random.default_rng((config.seed, 3, step, 1))
        if config.reward == "shuffled":
            asking = asking._replace(rewards=rewards.shuffled(asking.rewards, rng))
        updates: list[dict[str, jax.Array]] = []
        if config.grpo.two_pass:
            batch = EvolutionBatch(shown.vision, self._questioner_batch(shown, asking), None)
            state, metrics = self.on_mesh(self.update_part, state, batch)
            updates.append(metrics)
            jax.block_until_ready(state.step)  # what comes next would wait for it, on its own clock
            clock.lap("time/update_questioner_s")
        solving = self._solve(state, step, shown, asking, clock)
        if config.reward == "shuffled":
            solving = solving._replace(rewards=rewards.shuffled(solving.rewards, rng))
        solver = self.role_batch(
            solving.prompts, solving.responses, solving.rewards, solving.weights
        )
        # Before the update: what the next step asks, and how, is then ready while it runs.
        state = self._scheduled_after(state, solving)
        chances = self._task_chances(state)
        if config.grpo.two_pass:
            questions = int(solving.weights.sum())
            state = self._update_solver(state, shown.vision, solver, questions, updates)
        else:
            earned = episode.with_content_factor(
                asking.rewards,
                shown.assignments,
                asking.asked,
                solving.questions,
                solving.scored.correctness,
                config.rewards,
                alpha=config.alpha,
            )
            asking = asking._replace(rewards=earned)
            batch = EvolutionBatch(shown.vision, self._questioner_batch(shown, asking), solver)
            clock.lap("time/rewards_s")
            state, metrics = self.on_mesh(self.update, state, batch)
            updates.append(metrics)
        # While the devices are at it:
        if self.look_ahead(step + 1):
            self._assigned = (step + 1, self._assign(chances, step + 1))
        found = self._metrics(step, records, shown, asking, solving)
        found |= self._probabilities(chances)
        values = _joined([_floats(metrics) for metrics in updates]) | found
        if not solving.weights.any():
            values = without_solvers_tokens(values)
        clock.lap("time/update_s")
        return state, values | speeds(asking.lengths, solving.lengths, clock.laps) | clock.laps

    def _metrics(
        self, step: int, records: Records, shown: Assigned, asking: Asking, solving: Solving
    ) -> dict[str, float]:
        """Of the texts of a step; some of these are recorded."""
        values = evolution_metrics(
            shown.assignments,
            asking.asked,
            asking.lengths,
            asking.rewards,
            solving.questions,
            solving.texts,
            solving.lengths,
            solving.scored,
            solving.rewards,
        )
        if step % self.setup.config.evaluation.every == 0:
            log_samples(
                records,
                step,
                self.setup.train,
                shown.assignments,
                asking.asked,
                asking.rewards,
                solving.questions,
                solving.texts,
                solving.rewards,
            )
        return values

    def _task_chances(self, state: TrainState) -> np.ndarray:
        """(K,) the chance of each task where all can be asked."""
        everything = np.ones(len(TASKS), bool)
        return np.asarray(self.on_mesh(self._chances, state.scheduler, everything))

    def _assigned_rows(self, state: TrainState, step: int) -> Assigned:
        """What a step asks: made while the last one was updated, or now."""
        ahead, self._assigned = self._assigned, None
        if ahead is not None and ahead[0] == step:
            return ahead[1]
        return self._assign(self._task_chances(state), step)

    def _assign(self, chances: np.ndarray, step: int) -> Assigned:
        """The rows of the step with their images, a task for each, drawn by the (K,) `chances`
        among those that it can be asked about, and the Questioner's prompts.
        """
        setup, config = self.setup, self.setup.config
        rows, (vision, first) = self.shown_rows(step)
        rng = np.random.default_rng((config.seed, 3, step))
        assignments = episode.assign_tasks(setup.train, rows, chances, rng)
        own = setup.share.dealt(len(rows))
        asking = [
            setup.encoder.turn(
                prompts.questioner(one.task, one.pools, config.rewards.observation),
                setup.visuals(setup.train, one.row),
            )
            for one in hosts.local(assignments, own)
        ]
        asked = batches.decodable(
            setup, asking, hosts.local(first, own), config.rollout.questioner_prompt
        )
        return Assigned(assignments, vision, first, asked)

    def _ask(self, state: TrainState, step: int, shown: Assigned, clock: _Clock) -> Asking:
        """Questions about every row, each judged by the process that takes the row."""
        setup, config = self.setup, self.setup.config
        count, length = len(shown.assignments), config.rollout
        own = setup.share.dealt(count)
        mine = hosts.local(shown.assignments, own)
        keys = batches.keys(setup, state.key, step, QUESTIONER, count, length.questioner_samples)
        responses = batches.generate(
            setup, state.policy_params, shown.vision, shown.prompts, keys, length.questioner_tokens
        )
        jax.block_until_ready(responses)
        clock.lap("time/rollout_questioner_s")
        written = batches.texts(setup, responses)
        judged = episode.judge_questions(
            setup.train,
            mine,
            written,
            config.reward,
            own,
            judge=claims.observation_judge(config.rewards.observation, setup.train.records),
        )
        said = {
            place: [episode.to_json(group), lengths]
            for place, group, lengths in zip(own, judged, batches.lengths(responses), strict=True)
        }
        told, known = hosts.gather(said, count), dict(zip(own, judged, strict=True))
        asked = [
            known.get(place) or episode.from_json(group) for place, (group, _) in enumerate(told)
        ]
        earned = episode.questioner_rewards(
            asked, config.reward, alpha=config.alpha, scoring=config.scoring
        )
        clock.lap("time/oracle_s")
        lengths = np.asarray([lengths for _, lengths in told])
        return Asking(asked, lengths, earned, responses)

    def _solve(
        self, state: TrainState, step: int, shown: Assigned, asking: Asking, clock: _Clock
    ) -> Solving:
        """Answers to the distinct questions, each scored by the process that takes the question."""
        setup, config = self.setup, self.setup.config
        length = config.rollout

        @functools.cache  # asked for twice
        def turn(text: str, row: Row) -> packing.Conversation:
            return setup.encoder.turn(text, setup.visuals(setup.train, row))

        def to_solve(question: episode.Question) -> packing.Conversation:
            assignment = shown.assignments[question.assignment]
            text = episode.solver_prompt(
                question, assignment, config.reward, config.rewards.observation
            )
            return turn(text, assignment.row)

        def fits(question: episode.Question) -> bool:
            if setup.encoder.special_in(question.text):
                return False
            # All tokens but the last, which decoding begins with.
            return len(to_solve(question).tokens) - 1 <= length.solver_prompt

        questions = episode.distinct_questions(shown.assignments, asking.asked, config, fits)
        own = setup.share.dealt(len(questions))
        mine = hosts.local(questions, own)
        solved_prompts = batches.decodable(
            setup,
            [to_solve(question) for question in mine],
            [shown.first[question.assignment] for question in mine],
            length.solver_prompt,
        )
        clock.lap("time/questions_s")
        keys = batches.keys(setup, state.key, step, SOLVER, len(questions), length.solver_samples)
        responses = batches.generate(
            setup, state.policy_params, shown.vision, solved_prompts, keys, length.solver_tokens
        )
        jax.block_until_ready(responses)
        clock.lap("time/rollout_solver_s")
        written = batches.texts(setup, responses)
        scored = episode.score_answers(
            mine, written, config.reward, alpha=config.alpha, scoring=config.scoring
        )
        parts = (written, batches.lengths(responses), scored.rewards, scored.correctness)
        said = {
            place: [texts, lengths, earned.tolist(), correct.tolist()]
            for place, texts, lengths, earned, correct in zip(own, *parts, strict=True)
        }
        texts, lengths, earned, correct = zip(*hosts.gather(said, len(questions)), strict=True)
        scored = episode.Scored(np.asarray(earned, np.float32), np.asarray(correct, np.float32))
        weights = np.array([question.weight for question in questions], np.float32)
        return Solving(
            questions,
            texts,
            np.asarray(lengths),
            scored,
            scored.rewards,
            weights,
            solved_prompts,
            responses,
        )

    def _questioner_batch(self, shown: Assigned, asking: Asking) -> RoleBatch:
        weights = np.ones(len(asking.rewards), np.float32)
        return self.role_batch(shown.prompts, asking.responses, asking.rewards, weights)

    def _scheduled_after(self, state: TrainState, solving: Solving) -> TrainState:
        """The curriculum after the questions of a step."""
        updated = self.on_mesh(
            self._scheduled,
            state.scheduler,
            np.array([TASK_IDS[question.task] for question in solving.questions]),
            solving.scored.correctness.mean(1),
            np.array([question.verdict.valid for question in solving.questions]),
            solving.weights,
        )
        return dataclasses.replace(state, scheduler=updated)

    def _probabilities(self, chances: np.ndarray) -> dict[str, float]:
        """The (K,) chances among the tasks of the run, as metrics."""
        ids = {task: TASK_IDS[task] for task in self.setup.config.data.tasks}
        total = sum(chances[number] for number in ids.values())
        return {
            f"scheduler/probability/{task}": float(chances[number] / total)
            for task, number in ids.items()
        }

    def _update_solver(
        self,
        state: TrainState,
        vision: qwen.VisionInputs,
        solver: RoleBatch,
        questions: int,
        updates: list[dict[str, jax.Array]],
    ) -> TrainState:
        """Updates of `two_pass` prompts each, as many as hold the step's questions; at least one,
        which counts the step. Their metrics are added to `updates`.
        """
        size = self.setup.config.grpo.two_pass
        last = max(-(-questions // size), 1) - 1
        for number in range(last + 1):
            part = self.on_mesh(self._cut, solver, number, size, self.setup.share.blocks)
            update = self.update if number == last else self.update_part
            state, metrics = self.on_mesh(update, state, EvolutionBatch(vision, None, part))
            updates.append(metrics)
        return state

    def role_batch(
        self,
        asked: Shared,
        responses: decode.Responses,
        earned: np.ndarray,
        weights: np.ndarray,
    ) -> RoleBatch:
        """Prompts, their responses, what these earned (P, G) and what each group weighs (P,)."""
        own = self.setup.share.dealt(len(earned))
        earned, weights = batches.put(self.setup, (earned[own].astype(np.float32), weights[own]))
        return self.on_mesh(self._role_batch, *asked, responses, earned, weights)

    # --- the held-out score --------------------------------------------------------------------

    def evaluate(self, state: TrainState, moment: str, records: Records) -> float:
        """Greedy answers to all held-out items; records and returns the accuracy."""
        setup, items = self.setup, self.setup.items
        replies = self._held_out_replies(state)
        score, points = scoring.score(items, replies)
        samples = []
        if moment != "during":
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
                for i in scoring.examples(items, SAMPLES_SHOWN * len(setup.config.data.tasks))
            ]
        step = int(state.step)
        phase = "warm_start" if moment == "before" else "evolve"
        records.evaluation(step, phase, moment, score, samples)
        return score.accuracy

    def _held_out_replies(self, state: TrainState) -> list[str]:
        """One greedy reply to each held-out item."""
        setup, config, share = self.setup, self.setup.config, self.setup.share
        items, size, params = setup.items, config.evaluation.batch, state.policy_params
        keys = batches.keys(setup, state.key, 0, SOLVER, size, 1)  # greedy replies use none
        replies: list[str] = []
        for start in range(0, len(items), size):
            # The last batch is filled up with items from the front: one shape, one program.
            part = [items[(start + offset) % len(items)] for offset in range(size)]
            own = share.dealt(size)
            mine = hosts.local(part, own)
            shown = map(setup.held_out.row_images, (item.row for item in mine))
            vision, first = batches.show(setup, setup.held_out, [item.row for item in part], shown)
            conversations = [
                setup.encoder.turn(
                    prompts.solver(item.task, item.question, config.rewards.observation),
                    setup.visuals(setup.held_out, item.row),
                )
                for item in mine
            ]
            asked = batches.decodable(
                setup, conversations, hosts.local(first, own), config.rollout.solver_prompt
            )
            length = config.rollout.solver_tokens
            out = batches.generate(setup, params, vision, asked, keys, length, greedy=True)
            said = {
                place: group[0] for place, group in zip(own, batches.texts(setup, out), strict=True)
            }
            replies += hosts.gather(said, size)
        return replies[: len(items)]


def row_counts(config: TrainConfig, step: int) -> Counts:
    """Rows of a step by the number of their images: one, two, a scene's."""
    warm = config.warm_start
    if step < warm.naming_steps:
        return warm.naming_rows
    if step < warm.looking_steps:
        return warm.looking_rows
    return warm.rows if step < warm.steps else config.data.rows


def _role_batch(
    shown: packing.Prompts,
    starts: packing.Starts,
    responses: decode.Responses,
    earned: jax.Array,
    weights: jax.Array,
    *,
    normalise_std: bool,
) -> RoleBatch:
    """Padding groups (weight 0) lose their mask, so they count in no mean. Device side."""
    advantages = grpo.group_advantages(earned, normalise_std=normalise_std)
    suffixes = packing.response_suffixes(starts, responses.tokens, responses.mask)
    suffixes = dataclasses.replace(suffixes, mask=suffixes.mask * weights[:, None, None])
    return RoleBatch(shown, suffixes, responses.logprobs, advantages * weights[:, None])


def _cut(role: RoleBatch, number: int, size: int, blocks: int) -> RoleBatch:
    """Items `number * size` and on of a role's list, `size` of them. Device side.

    In the batch the items are dealt to the blocks of hosts, and so are those of the part.
    """

    def cut(_: str, x: jax.Array, axis: int) -> jax.Array:
        before, rows, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
        x = x.reshape(*before, blocks, rows // blocks, *after)
        own = size // blocks
        x = jax.lax.dynamic_slice_in_dim(x, number * own, own, axis + 1)
        return mesh.constrain(x.reshape(*before, size, *after), *[None] * axis, BATCH)

    return packing.map_rows(cut, role)


def _joined(updates: Sequence[dict[str, float]]) -> dict[str, float]:
    """The metrics of the updates of a step: means over those that have one, but for losses of the
    roles, which add up to the step's, and for updates left out, which are counted.
    """
    names = dict.fromkeys(name for metrics in updates for name in metrics)
    values = {
        name: float(np.mean([metrics[name] for metrics in updates if name in metrics]))
        for name in names
    }
    if len(updates) > 1:
        values["loss/total"] = values["loss/questioner"] + values["loss/solver"]
        values["optimizer/skipped"] = sum(metrics["optimizer/skipped"] for metrics in updates)
    return values


def _floats(metrics: dict[str, jax.Array]) -> dict[str, float]:
    return {name: float(value) for name, value in jax.device_get(metrics).items()}
