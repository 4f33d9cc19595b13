"""What a set is made of, judged a second time by the float64 twins of the oracles."""

import collections

import numpy as np

from geometry_jax import scene_io
from geometry_jax.reasons import Reason
from geometry_jax.scene_io import SceneRecord
from geometry_jax.tasks import TASKS
from spatialevo_jax.qa import candidates
from spatialevo_jax.qa.groups import usable
from spatialevo_jax.qa.recipe import Recipe
from tests import random_rooms
from tests.geometry_jax.test_random_rooms import agrees
from tests.named_rooms import random_records
from tests.reference import oracles

ROOMS, QUESTIONS = 64, 10_000


def padded(records: list[SceneRecord]) -> oracles.Scene:
    sizes = (random_rooms.NUM_OBJECTS, random_rooms.NUM_FRAMES)
    return scene_io.stack_scenes([scene_io.pad_scene(one.scene, *sizes) for one in records])


def test_the_twins_agree_on_ten_thousand_random_questions() -> None:
    """Those that a set may hold: each clear of every edge, so that no rounding excuses anything."""
    records = random_records(ROOMS, seed=5)
    scenes = padded(records)
    recipe = Recipe(count=100_000, source="own", tasks=tuple(task.name for task in TASKS))
    blocks = [records[start : start + 16] for start in range(0, ROOMS, 16)]
    judged = []
    for number, block in enumerate(blocks):
        drawn = [candidates.draw_candidates(r, place, recipe, 400) for place, r in enumerate(block)]
        one = candidates.judge(block, candidates.concatenated(drawn), recipe)
        one = one.take(usable(one, recipe))
        judged.append((number, one))
    seen: collections.Counter[str] = collections.Counter()
    total = sum(len(one) for _, one in judged)
    share = min(1.0, 1.02 * QUESTIONS / total)
    rng = np.random.default_rng(0)
    for number, one in judged:
        kept = one.take(rng.random(len(one)) < share)
        rows = zip(oracles.questions(candidates.queries(kept)), kept.scene, kept.value, strict=True)
        rooms = {place: oracles.Room(scenes, 16 * number + place) for place in range(16)}
        for (task, asked), scene, value in rows:
            expected = oracles.TWINS[TASKS[task].name](rooms[int(scene)], asked)
            assert expected.reason is Reason.OK, (TASKS[task].name, asked, expected)
            assert agrees(task, float(value), expected.value), (TASKS[task].name, asked, expected)
            seen[TASKS[task].name] += 1
    assert set(seen) == {task.name for task in TASKS}
    assert sum(seen.values()) >= min(QUESTIONS, 0.97 * total), (seen, total)
