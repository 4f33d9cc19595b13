"""What a step of self-evolution did, in plain numbers and some texts."""

from collections.abc import Sequence

import numpy as np

from geometry_jax.tasks import TASKS
from spatialevo_jax.data import RoomSet, row_paths
from spatialevo_jax.train import episode
from spatialevo_jax.train.records import Records

SAMPLES_SHOWN = 6  # samples of a step that are logged with their texts


def evolution_metrics(
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
    """Some texts of the step, for people."""
    for index in np.linspace(0, len(asked) - 1, SAMPLES_SHOWN).astype(int):
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
    for index in np.linspace(0, len(questions) - 1, SAMPLES_SHOWN).astype(int):
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
