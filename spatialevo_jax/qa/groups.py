"""Judged candidates of all scenes -> the groups that are balanced, as `selection` takes them."""

from collections.abc import Sequence

import numpy as np

from geometry_jax.checks import ALWAYS_CLEAR
from geometry_jax.reasons import Reason
from geometry_jax.tasks import TASKS
from spatialevo_jax.environment.respond import DIFFICULTIES
from spatialevo_jax.qa.blind import Words
from spatialevo_jax.qa.candidates import Candidates
from spatialevo_jax.qa.recipe import Recipe
from spatialevo_jax.qa.selection import Group

NUMBERS = ("metres", "centimetres", "square_metres")
NUMBER_STEP = 1.25  # ratio of two numbers that are different kinds of answer
SMALLEST = 0.05  # metres; below it all lengths are one kind
SYMMETRIC = ("depth_order_obj_obj", "attribute_measurement")  # two labels, either may be first
HARD, MEDIUM = 5.0, 15.0  # margins, in units of 2 degrees and 2 %: less is hard, less is medium
INVALID = "no answer"  # name of the group of questions without one


def usable(candidates: Candidates, recipe: Recipe) -> np.ndarray:
    """(C,) bool: there is an answer, and it is clear enough."""
    clear = candidates.margin >= recipe.least_margin
    return (candidates.reason == Reason.OK) & (clear if recipe.strict else True)


def make_groups(
    candidates: Candidates,
    room: np.ndarray,
    names: Sequence[Sequence[str]],
    recipe: Recipe,
    rng: np.random.Generator,
) -> tuple[list[Group], list[np.ndarray]]:
    """The groups of a split, and the places of their members among the candidates.

    Args:
        candidates: of all scenes; `scene` counts through `names`.
        room: (C,) i32, what no guesser may know twice.
        names: the labels of each scene.
    """
    order = rng.permutation(len(candidates))
    labels = _spoken_labels(candidates, names)
    groups, members = [], []
    good = usable(candidates, recipe)
    for name in recipe.tasks:
        task = next(i for i, spec in enumerate(TASKS) if spec.name == name)
        own = good & (candidates.task == task)
        levels = np.unique(candidates.difficulty[own]).tolist()
        for level in levels:
            rows = np.flatnonzero(own & (candidates.difficulty == level))
            title = f"{name} ({DIFFICULTIES[level]})" if level else name
            words, kind = _answers(task, candidates.take(rows), labels[rows], room[rows])
            weight = (1.0 - recipe.invalid_share) * recipe.weight(name) / len(levels)
            groups.append(Group(title, name, weight, words, kind, order[rows]))
            members.append(rows)
    return groups, members


def make_invalid_group(
    candidates: Candidates, room: np.ndarray, recipe: Recipe, rng: np.random.Generator
) -> tuple[Group, np.ndarray]:
    """Questions without an answer: every reason of every task equally often."""
    rows = np.flatnonzero(candidates.reason != Reason.OK)
    kind = (candidates.task * len(Reason) + candidates.reason)[rows]
    words = Words(np.zeros((len(rows), 1), np.int32), room[rows], np.zeros(len(rows), np.int32), 1)
    return Group(INVALID, INVALID, 1.0, words, kind, rng.permutation(len(rows))), rows


def _spoken_labels(candidates: Candidates, names: Sequence[Sequence[str]]) -> np.ndarray:
    """(C, 6) labels by their names, the same number for the same name in all scenes."""
    known = {name: place for place, name in enumerate(sorted({n for own in names for n in own}))}
    most = max(map(len, names), default=0)
    table = np.full((len(names), most + 1), -1, np.int64)
    for scene, own in enumerate(names):
        table[scene, : len(own)] = [known[name] for name in own]
    inside = (candidates.labels >= 0) & (candidates.labels < most)
    found = table[candidates.scene[:, None], np.where(inside, candidates.labels, most)]
    return np.where(inside, found, -1)


def _answers(
    task: int, own: Candidates, labels: np.ndarray, room: np.ndarray
) -> tuple[Words, np.ndarray]:
    """What the questions of a task say, their answers, and which answers count as one kind."""
    spec = TASKS[task]
    value = own.value.astype(np.float64)
    if spec.answer == "label":
        return _named(spec.name, own, labels, room)
    width = max(len(spec.slots), 1)
    said = np.column_stack([labels[:, :width], own.roles[:, :1] - 1000])
    if spec.answer in NUMBERS:
        step = np.log(np.maximum(value, SMALLEST) / SMALLEST) / np.log(NUMBER_STEP)
        kind = np.where(value < SMALLEST, -1, np.floor(step)).astype(np.int32)
        return Words(said, room, value, 0), kind
    kinds, answer = np.unique(np.round(value).astype(np.int32), return_inverse=True)
    return Words(said, room, answer.astype(np.int32), len(kinds)), kinds[answer]


def _named(
    task: str, own: Candidates, labels: np.ndarray, room: np.ndarray
) -> tuple[Words, np.ndarray]:
    """Answers that are one of the labels named: which one, the labels in the order of their names;
    the last answer is "same".
    """
    first = 0 if task in SYMMETRIC else 1
    used = 2 if task in SYMMETRIC else 4
    options = labels[:, first:used]
    rank = np.argsort(options, axis=1, kind="stable")
    ordered = np.take_along_axis(options, rank, 1)
    indices = np.take_along_axis(own.labels[:, first:used], rank, 1)
    winner = indices == np.round(own.value).astype(np.int32)[:, None]
    answer = np.where(winner.any(1), winner.argmax(1), options.shape[1]).astype(np.int32)
    kind = np.where(winner.any(1), (np.where(winner, ordered, -1)).max(1), -1)
    said = np.column_stack([labels[:, :first], ordered])
    return Words(said, room, answer, options.shape[1] + 1), kind.astype(np.int32)


def clearness(margin: float) -> str:
    """How hard a decision is, by its margin; "measured" where nothing is decided."""
    if margin >= ALWAYS_CLEAR:
        return "measured"
    return "hard" if margin < HARD else "medium" if margin < MEDIUM else "easy"
