"""The held-out score: the same questions about rooms that training never sees, answered greedily,
judged by geometry.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from geometry_jax.tasks import TASKS
from spatialevo_jax.data import RoomSet, Row, enumerate_rows
from spatialevo_jax.environment import Request, answer_requests, draw_slots, render
from spatialevo_jax.evaluation import readings
from spatialevo_jax.roles import replies

SEED = 20_000  # of the question set; not the run's seed, so that all runs answer the same questions
DRAWS = 12  # candidate questions drawn for each one that is kept, to balance the answers
MODALITY_IMAGES = {"single_image": 1, "image_pair": 2}


@dataclasses.dataclass(frozen=True)
class Item:
    """One held-out question with its truth."""

    task: str
    row: Row
    question: str
    truth: str
    weight: float  # 1, or 0 for padding up to the same number for each task


@dataclasses.dataclass(frozen=True)
class Score:
    accuracy: float  # mean over tasks of the mean over items
    per_task: dict[str, float]
    counts: dict[str, int]
    formatted: float  # share of replies with exactly one answer block


def build_items(rooms: RoomSet, per_task: int, scene_frames: int, wordings: int) -> list[Item]:
    """`per_task` questions of each task, ordered so that every run of len(rooms.tasks) items has
    one of each task.

    Answers are balanced: among valid candidates the rarest answers are taken in turn.

    Raises:
        ValueError: the rooms offer no valid question for a task.
    """
    columns = []
    for task in (task for task in TASKS if task.name in rooms.tasks):
        images = MODALITY_IMAGES.get(task.modality, scene_frames)
        rows = enumerate_rows(rooms, images, SEED)
        rng = np.random.default_rng((SEED, TASKS.index(task)))
        requests, drawn = [], []
        for _ in range(DRAWS * per_task):
            row = rows[rng.integers(len(rows))]
            slots = draw_slots(rooms.records[row.room], row.frames, task.name, rng)
            if slots is not None:
                question = render(task.name, slots, int(rng.integers(wordings)))
                drawn.append((row, question))
                requests.append(Request(rooms.records[row.room], task.name, question, row.frames))
        verdicts = answer_requests(requests, strict_margin=True)
        by_answer: dict[str, list[Item]] = {}
        seen = set()
        for (row, question), verdict in zip(drawn, verdicts, strict=True):
            key = (row, verdict.signature)
            if verdict.valid and key not in seen:
                seen.add(key)
                item = Item(task.name, row, question, verdict.answer, 1.0)
                by_answer.setdefault(_answer_class(task.name, verdict.answer), []).append(item)
        columns.append(_balanced(by_answer, per_task, task.name))
    return [item for row in zip(*columns, strict=True) for item in row]


def _answer_class(task: str, answer: str) -> str:
    """Answers that should come equally often; labels and distances need no balance."""
    if task in readings.METRIC_TASKS or task in ("relative_distance", "depth_order_obj_obj"):
        return ""
    return answer


def _balanced(by_answer: dict[str, list[Item]], count: int, task: str) -> list[Item]:
    groups = [list(items) for _, items in sorted(by_answer.items())]
    if not groups:
        raise ValueError(f"{task}: expected valid questions in the held-out rooms, found none.")
    chosen = []
    while len(chosen) < count and any(groups):
        chosen += [group.pop(0) for group in groups if group]
    chosen = chosen[:count]
    padding = [dataclasses.replace(item, weight=0.0) for item in chosen]
    return [*chosen, *(padding[index % len(padding)] for index in range(count - len(chosen)))]


def examples(items: Sequence[Item], most: int) -> list[int]:
    """Places of items to show, each question once: of the first ones, among which is every task."""
    return [place for place, item in enumerate(items[:most]) if item.weight]


def score(items: Sequence[Item], texts: Sequence[str]) -> tuple[Score, list[float]]:
    """Scores one reply for each item; also returns each item's own score."""
    parsed = [replies.parse_solver(text) for text in texts]
    points = [
        readings.score(item.task, reply.answer, item.truth, partial=False)
        for item, reply in zip(items, parsed, strict=True)
    ]
    per_task, counts = {}, {}
    for task in dict.fromkeys(item.task for item in items):
        own = [
            point
            for item, point in zip(items, points, strict=True)
            if item.task == task and item.weight
        ]
        per_task[task], counts[task] = float(np.mean(own)), len(own)
    formats = [reply.format_score for reply in parsed]
    formatted = float(np.average(formats, weights=[item.weight for item in items]))
    return Score(float(np.mean(list(per_task.values()))), per_task, counts, formatted), points
