"""Options of a multiple-choice row: the truth among answers that could be meant, and are wrong.

They tell as little of the truth as they can. Who knows how often each answer comes, and no more,
picks the most frequent one that is offered: so the frequent ones always are, counts come in fixed
windows, and lengths are near each other, nearer where a name says more: from the camera, small
things are seen near, and large ones far. What a name alone tells has no options: among lengths that
are apart, the size of a bed is the one that is a bed's.
"""

from collections.abc import Sequence

import numpy as np

from geometry_jax.tasks import TASK_IDS, TASKS
from spatialevo_jax.environment.conventions import Convention
from spatialevo_jax.environment.respond import Reply

OPTIONS = 4  # at most
# Between two lengths offered, least and most: none is right by rounding.
RATIOS = {"absolute_distance": (1.2, 1.4), "distance_cam_obj": (1.12, 1.2)}
SMALLEST = 0.10  # metres; a shorter length has no honest neighbours
FEWEST = 2  # that a question about a number of things can be right with: one is not counted
UNFAIR = frozenset({"object_size", "room_size"})  # things of a kind are of a size, as rooms are
# Answers that most questions of a task have: a picture shows what is ahead, and cameras turn.
AHEAD = ("front-left", "front", "front-right")
FREQUENT = {
    "position_cam_obj": AHEAD,
    "position_cam_reg": AHEAD,
    "motion_camera": ("left", "right"),
}
LEVELS = {
    "easy": ("left", "right"),
    "medium": ("left", "right", "back"),
    "hard": ("front-left", "front-right", "back-left", "back-right"),
}


def options(reply: Reply, rules: Convention, rng: np.random.Generator) -> tuple[list[str], int]:
    """Options and the place of the truth among them; none where no honest ones can be made.

    Numbers ascend; the truth of a length is at any place equally often. The others come in random
    order.

    Args:
        reply: a valid one.
    """
    spec = TASKS[TASK_IDS[reply.task]]
    if reply.task in UNFAIR:
        return [], -1
    if spec.answer == "metres":
        return _lengths(reply.answer, RATIOS[reply.task], rules, rng)
    if spec.answer == "count":
        place = (int(reply.answer) - FEWEST) % OPTIONS
        return [str(int(reply.answer) - place + i) for i in range(OPTIONS)], place
    if spec.answer == "label":
        named = reply.slots.labels[1:] if len(reply.slots.labels) > 2 else reply.slots.labels
        return _shuffled([*named, *spec.choices], reply.answer, rng)
    pool = LEVELS.get(reply.slots.difficulty, rules.choices(reply.task))
    mixed = [pool[int(i)] for i in rng.permutation(len(pool))]
    first = (reply.answer, *FREQUENT.get(reply.task, ()), *mixed)
    return _shuffled(list(dict.fromkeys(first))[:OPTIONS], reply.answer, rng)


def _shuffled(found: Sequence[str], truth: str, rng: np.random.Generator) -> tuple[list[str], int]:
    mixed = [found[int(i)] for i in rng.permutation(len(found))]
    return mixed, mixed.index(truth)


def _lengths(
    truth: str, ratios: tuple[float, float], rules: Convention, rng: np.random.Generator
) -> tuple[list[str], int]:
    value, unit = truth.split()
    if float(value) < SMALLEST:
        return [], -1
    place, ratio = int(rng.integers(OPTIONS)), rng.uniform(*ratios)
    found = [f"{rules.number(float(value) * ratio ** (i - place))} {unit}" for i in range(OPTIONS)]
    found[place] = truth
    return found, place
