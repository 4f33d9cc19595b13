"""What a step of self-evolution did, in plain numbers and some texts."""

import collections
from collections.abc import Mapping, Sequence

import numpy as np

from geometry_jax.tasks import TASKS
from spatialevo_jax import grpo
from spatialevo_jax.data import RoomSet, row_paths
from spatialevo_jax.evaluation import readings
from spatialevo_jax.roles.replies import SolverReply, parse_solver
from spatialevo_jax.train import episode
from spatialevo_jax.train.records import Records

SAMPLES_SHOWN = 6  # samples of a step that are logged with their texts


def evolution_metrics(
    assignments: Sequence[episode.Assignment],
    asked: Sequence[Sequence[episode.Asked]],
    asked_lengths: np.ndarray,
    asked_rewards: np.ndarray,
    questions: Sequence[episode.Question],
    solved_texts: Sequence[Sequence[str]],
    solved_lengths: np.ndarray,
    scored: episode.Scored,
    solved_rewards: np.ndarray,
) -> dict[str, float]:
    """What a step did, in plain numbers: shares unless said otherwise. Padding counts nowhere.

    Args:
        asked_lengths: (R, G, 2) tokens of each response, and 1 where it came to its end.
        asked_rewards: (R, G). solved_lengths, solved_rewards: likewise, (U, G, 2) and (U, G).
    """
    real = np.array([question.weight > 0 for question in questions])
    replies = [
        [parse_solver(text) for text in group]
        for group, counts in zip(solved_texts, real, strict=True)
        if counts
    ]
    return (
        _of_role("questioner", asked_lengths, asked_rewards)
        | _of_role("solver", solved_lengths[real], solved_rewards[real])
        | _of_questions(assignments, asked)
        | _of_answers(questions, real, replies, scored)
    )


def _of_role(role: str, lengths: np.ndarray, earned: np.ndarray) -> dict[str, float]:
    if not len(earned):
        return {f"reward/{role}": 0.0}
    return {
        f"reward/{role}": float(earned.mean()),
        f"reward_std/{role}": float(earned.std()),
        f"{role}/flat_groups": float((np.ptp(earned, axis=1) <= grpo.EQUAL).mean()),
        f"length/mean_{role}": float(lengths[..., 0].mean()),  # tokens
        f"length/max_{role}": float(lengths[..., 0].max()),
        f"rollout/unfinished_{role}": 1.0 - float(lengths[..., 1].mean()),
    }


def _of_questions(
    assignments: Sequence[episode.Assignment], asked: Sequence[Sequence[episode.Asked]]
) -> dict[str, float]:
    """Of all questions written: form, observations, validity by task, reasons against it."""
    every = [x for group in asked for x in group]
    silent = [x.grounding for x in every if not x.reply.observation]
    different = sum(
        len({x.verdict.signature for x in group if x.reply.question})
        + sum(not x.reply.question for x in group)
        for group in asked
    )
    values = {
        "questioner/valid": np.mean([x.verdict.valid for x in every]),
        "questioner/grounding": np.mean([x.grounding for x in every]),
        # Of replies that observe nothing: it can only be 0, unless their judge is broken.
        "questioner/grounding_of_nothing": np.mean(silent) if silent else 0.0,
        "questioner/format": np.mean([x.reply.format_score for x in every]),
        "questioner/unreadable": np.mean([not x.reply.question for x in every]),
        "questioner/violations": np.mean([x.reply.hard_violation for x in every]),
        "questioner/duplicates": 1.0 - different / len(every),  # within a row
    }
    reasons = collections.Counter(x.verdict.reason for x in every if not x.verdict.valid)
    values |= {f"invalid/{why.name.lower()}": n / len(every) for why, n in reasons.items()}
    for task in TASKS:
        groups = [
            group
            for assignment, group in zip(assignments, asked, strict=True)
            if assignment.task == task.name
        ]
        if groups:
            values[f"rows/{task.name}"] = len(groups)
            values[f"validity/{task.name}"] = np.mean(
                [x.verdict.valid for group in groups for x in group]
            )
    return {name: float(value) for name, value in values.items()}


def _of_answers(
    questions: Sequence[episode.Question],
    real: np.ndarray,
    replies: Sequence[Sequence[SolverReply]],
    scored: episode.Scored,
) -> dict[str, float]:
    """Of the questions posed; accuracies are against geometry, whatever the reward."""
    valid = np.array([question.verdict.valid for question in questions]) & real
    values = {"solver/questions": real.sum(), "solver/valid_questions": valid.sum()}
    if replies:
        every = [reply for group in replies for reply in group]
        answers = [len({readings.clean(x.answer) for x in group} - {""}) for group in replies]
        values |= {
            "solver/format": np.mean([x.format_score for x in every]),
            "solver/unreadable": np.mean([not x.answer for x in every]),
            "solver/violations": np.mean([x.hard_violation for x in every]),
            "solver/two_answers": np.mean(np.array(answers) >= 2),  # or more different ones
            "solver/three_answers": np.mean(np.array(answers) >= 3),
        }
    if valid.any():
        values["accuracy/sampled"] = scored.correctness[valid].mean()
    for task in TASKS:
        own = valid & np.array([question.task == task.name for question in questions])
        if own.any():
            values[f"questions/{task.name}"] = own.sum()
            values[f"accuracy/sampled/{task.name}"] = scored.correctness[own].mean()
    return {name: float(value) for name, value in values.items()}


def without_solvers_tokens(values: Mapping[str, float]) -> dict[str, float]:
    """The metrics of an update for which nothing was posed: means over no tokens are left out."""
    return {
        name: value
        for name, value in values.items()
        if not (name.startswith("policy/") and name.endswith("_solver"))
    }


def speeds(
    asked_lengths: np.ndarray, solved_lengths: np.ndarray, laps: Mapping[str, float]
) -> dict[str, float]:
    """Tokens of responses per second of their phase, all processes together, padding groups
    included: they cost as much. `laps` are seconds, by the names of `time/`.
    """
    asked, solved = float(asked_lengths[..., 0].sum()), float(solved_lengths[..., 0].sum())
    updating = laps["time/update_s"] + laps.get("time/update_questioner_s", 0.0)
    phases = {
        "questioner": (asked, laps["time/rollout_questioner_s"]),
        "solver": (solved, laps["time/rollout_solver_s"]),
        "update": (asked + solved, updating),
        "step": (asked + solved, sum(laps.values())),
    }
    return {
        f"speed/{name}": tokens / max(seconds, 1e-6) for name, (tokens, seconds) in phases.items()
    }


def log_samples(
    records: Records,
    step: int,
    rooms: RoomSet,
    assignments: Sequence[episode.Assignment],
    asked: Sequence[Sequence[episode.Asked]],
    asked_rewards: np.ndarray,
    questions: Sequence[episode.Question],
    solved_texts: Sequence[Sequence[str]],
    solved_rewards: np.ndarray,
) -> None:
    """Some texts of the step, for people: each once, and none of padding."""
    for index in _spread(range(len(asked))):
        item, assignment = asked[index][0], assignments[index]
        records.sample(
            step,
            "questioner",
            assignment.task,
            row_paths(rooms, assignment.row),
            question=item.reply.question,
            reply=item.reply.observation,
            reward=float(asked_rewards[index, 0]),
            truth=item.verdict.answer,
            valid=item.verdict.valid,
            reason=item.verdict.error,
        )
    for index in _spread([i for i, question in enumerate(questions) if question.weight > 0]):
        question = questions[index]
        records.sample(
            step,
            "solver",
            question.task,
            row_paths(rooms, assignments[question.assignment].row),
            question=question.text,
            reply=solved_texts[index][0],
            reward=float(solved_rewards[index, 0]),
            truth=question.verdict.answer,
            valid=question.verdict.valid,
            reason=question.verdict.error,
        )


def _spread(places: Sequence[int]) -> list[int]:
    """At most `SAMPLES_SHOWN` of them, the first and the last among these."""
    chosen = np.linspace(0, len(places) - 1, min(SAMPLES_SHOWN, len(places)))
    return [places[index] for index in chosen.astype(int)]
