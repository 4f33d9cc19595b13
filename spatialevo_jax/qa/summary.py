"""What a set holds, counted from its shards and its plan: what the card says and draws."""

import collections
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from spatialevo_jax.qa import shards
from spatialevo_jax.qa.blocks import Block
from spatialevo_jax.qa.pipeline import Report, read_block, read_reports
from spatialevo_jax.qa.recipe import Recipe
from spatialevo_jax.qa.rows import Row


@dataclasses.dataclass(frozen=True)
class Summary:
    """Counts of a set."""

    recipe: Recipe
    reports: tuple[Report, ...]
    rows: dict[str, int]  # by split
    rooms: dict[str, int]  # scenes that could be read, by split
    by_task: dict[str, dict[str, int]]  # task -> split -> rows with an answer
    answers: dict[str, dict[str, int]]  # task -> answer -> rows, the most frequent ones first
    difficulty: dict[str, dict[str, int]]  # task -> "hard", ... -> rows
    reasons: dict[str, int]  # of rows without an answer
    unanswered: dict[str, int]  # the same by split
    choices: int  # rows with options
    wordings: int  # distinct questions
    skipped: tuple[tuple[str, str], ...]  # scenes that could not be read, and why
    refused: int  # given questions that no row can ask
    samples: dict[str, Row]  # one of each task


def summarise(out: Path, blocks: Sequence[Block], recipe: Recipe) -> Summary:
    """Reads all shards of a finished set once."""
    judged = [read_block(out, block) for block in blocks]
    count: collections.Counter[str] = collections.Counter()
    by_task: dict[str, collections.Counter[str]] = {}
    answers: dict[str, collections.Counter[str]] = {}
    difficulty: dict[str, collections.Counter[str]] = {}
    reasons: collections.Counter[str] = collections.Counter()
    unanswered: collections.Counter[str] = collections.Counter()
    samples: dict[str, Row] = {}
    questions: set[int] = set()
    choices = 0
    for row in _all_rows(out, recipe):
        count[row["split"]] += 1
        questions.add(hash(row["question"]))
        choices += bool(row["options"])
        if not row["valid"]:
            reasons[row["reason"]] += 1
            unanswered[row["split"]] += 1
            continue
        task = row["task"]
        by_task.setdefault(task, collections.Counter())[row["split"]] += 1
        answers.setdefault(task, collections.Counter())[row["answer"]] += 1
        difficulty.setdefault(task, collections.Counter())[row["difficulty"]] += 1
        samples.setdefault(task, row)
    tasks = [task for task in recipe.tasks if task in by_task]
    rooms: collections.Counter[str] = collections.Counter()
    for block, one in zip(blocks, judged, strict=True):
        rooms[block.split] += len(one.scenes)
    return Summary(
        recipe=recipe,
        reports=tuple(read_reports(out)),
        rows=dict(count),
        rooms=dict(rooms),
        by_task={task: dict(by_task[task]) for task in tasks},
        answers={task: dict(answers[task].most_common()) for task in tasks},
        difficulty={task: dict(difficulty[task]) for task in tasks},
        reasons=dict(reasons.most_common()),
        unanswered=dict(unanswered),
        choices=choices,
        wordings=len(questions),
        skipped=tuple(pair for one in judged for pair in one.skipped),
        refused=sum(one.refused for one in judged),
        samples={task: samples[task] for task in tasks},
    )


def _all_rows(out: Path, recipe: Recipe) -> Iterator[Row]:
    form = "jsonl" if "jsonl" in recipe.formats else "parquet"
    for path in shards.list_shards(out, form):
        yield from shards.read_shard(path)
