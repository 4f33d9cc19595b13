"""Questions that could be asked, as arrays: drawn for one scene, judged for a block of scenes.

A candidate is one fact about a scene, in one form: of two questions that ask the same, however they
are worded and in whichever order they name things, only one is drawn.
"""

import dataclasses
import functools
import math
import zlib
from collections.abc import Sequence

import jax
import numpy as np

from geometry_jax.reasons import Reason
from geometry_jax.scene_io import SceneRecord
from geometry_jax.tasks import TASK_IDS, TASKS
from geometry_jax.types import MAX_LABELS, MIN_VISIBILITY, Query, leaf
from spatialevo_jax.environment.conventions import CONVENTIONS
from spatialevo_jax.environment.identity import Same
from spatialevo_jax.environment.labels import resolve
from spatialevo_jax.environment.respond import BATCH, batched_oracle, scene_set
from spatialevo_jax.qa.drawing import DRAWING, NONE, Drawn, Source, at_random
from spatialevo_jax.qa.recipe import Recipe
from spatialevo_jax.qa.views import Lists, view

SPARE = 8  # candidates drawn for each row wanted of a scene and task
FEWEST, MOST = 64, 2048  # candidates of a scene and task, whatever is wanted
INVALID_FEWEST = 16  # candidates drawn without regard to what can be asked, likewise
# Tasks whose two labels may be swapped.
UNORDERED = frozenset({"absolute_distance", "depth_order_obj_obj", "attribute_measurement"})
TWO_WAYS = frozenset({"elevation_cam_cam"})  # asked from either image, it is the same fact
ANY_IMAGES = frozenset({"attribute_measurement"})  # whichever images show the things
# Things that a question may wrongly take for granted.
COMMON = (
    *("bathtub", "bed", "bookshelf", "chair", "dishwasher", "fireplace", "guitar", "lamp"),
    *("laptop", "microwave", "mirror", "piano", "plant", "printer", "refrigerator", "sofa"),
    *("stool", "suitcase", "table", "toilet", "tv", "washer", "whiteboard", "radiator"),
)


@dataclasses.dataclass(frozen=True)
class Candidates:
    """C questions about the scenes of a block."""

    scene: np.ndarray  # (C,) i32, place of the scene in the block
    task: np.ndarray  # (C,) i32
    # (C, 6) i32, index into the scene's labels, -1 unused; of a region its anchors; beyond the
    # scene's labels: those that it does not have (`absent_labels`)
    labels: np.ndarray
    phrase: np.ndarray  # (C,) i32, of position_cam_reg: index into the view's phrases; else -1
    frames: np.ndarray  # (C, 2) i32, in the order shown, -1 unused
    roles: np.ndarray  # (C, 2) i32, 1 or 2: reference and target image; 0 where none is named
    difficulty: np.ndarray  # (C,) i32, as in `Query`
    value: np.ndarray  # (C,) f32, as in `Verdict`
    reason: np.ndarray  # (C,) i32
    margin: np.ndarray  # (C,) f32

    def __len__(self) -> int:
        return len(self.task)

    def take(self, rows: np.ndarray) -> "Candidates":
        """The candidates at some places, or where a mask is True."""
        return Candidates(*(getattr(self, f.name)[rows] for f in dataclasses.fields(self)))


def concatenated(parts: Sequence[Candidates]) -> Candidates:
    """Candidates of several scenes or blocks, one after the other."""
    fields = [field.name for field in dataclasses.fields(Candidates)]
    return Candidates(*(np.concatenate([getattr(p, name) for p in parts]) for name in fields))


def most_candidates(recipe: Recipe, scenes: int) -> int:
    """Candidates that are drawn of one scene and task."""
    wanted = recipe.count / (len(recipe.tasks) * max(scenes, 1))
    return min(max(math.ceil(SPARE * wanted), FEWEST), MOST)


def _filled(drawn: Drawn, task: str, place: int) -> Candidates:
    """The fields that were drawn, padded, and the others as they are where nothing is said."""
    count = len(drawn["labels"])

    def padded(name: str, width: int, fill: int) -> np.ndarray:
        full = np.full((count, width), fill, np.int32)
        if name in drawn:
            full[:, : drawn[name].shape[1]] = drawn[name]
        return full

    return Candidates(
        scene=np.full(count, place, np.int32),
        task=np.full(count, TASK_IDS[task], np.int32),
        labels=padded("labels", MAX_LABELS, NONE),
        phrase=np.asarray(drawn.get("phrase", np.full(count, NONE)), np.int32),
        frames=padded("frames", 2, NONE),
        roles=padded("roles", 2, 0),
        difficulty=np.asarray(drawn.get("difficulty", np.zeros(count)), np.int32),
        value=np.zeros(count, np.float32),
        reason=np.zeros(count, np.int32),
        margin=np.zeros(count, np.float32),
    )


def scene_rng(recipe: Recipe, scene_id: str, purpose: int) -> np.random.Generator:
    """Random numbers of a scene that hang on no other scene."""
    return np.random.default_rng((recipe.seed, purpose, zlib.crc32(scene_id.encode())))


def draw_candidates(
    record: SceneRecord, place: int, recipe: Recipe, most: int, lists: Lists | None = None
) -> Candidates:
    """Candidates of all tasks of the recipe about one scene, not judged; `lists` as in `view`."""
    source = _source(record, recipe, 1, most, lists)
    return distinct(
        concatenated([_filled(DRAWING[task](source), task, place) for task in recipe.tasks])
    )


def draw_at_random(
    record: SceneRecord, place: int, recipe: Recipe, most: int, lists: Lists | None = None
) -> Candidates:
    """As `draw_candidates`, with no regard to what the images show: for the reasons of those that
    have no answer. Those that have one may be about what nobody sees, and are not for sets.
    """
    few = max(math.ceil(recipe.invalid_share * most), INVALID_FEWEST)
    source = _source(record, recipe, 6, few, lists)
    return concatenated([_filled(at_random(task, source), task, place) for task in recipe.tasks])


def _source(
    record: SceneRecord, recipe: Recipe, purpose: int, most: int, lists: Lists | None
) -> Source:
    rules = CONVENTIONS[recipe.convention]
    return Source(
        view=view(record, recipe.scene_images, rules.published, lists),
        rng=scene_rng(recipe, record.scene_id, purpose),
        most=most,
        offered_answers=rules.offered_answers,
        labels=len(record.labels),
        absent=len(absent_labels(record.labels)),
    )


def distinct(candidates: Candidates) -> Candidates:
    """Without those that ask what one before them asks: what is drawn at random may."""
    asks = queries(candidates)
    labels = np.asarray(asks.labels).copy()
    swapped = np.isin(candidates.task, [TASK_IDS[task] for task in UNORDERED])
    labels[swapped, :2] = np.sort(labels[swapped, :2], axis=1)
    compares = candidates.task == TASK_IDS["relative_distance"]
    labels[compares, 1:4] = np.sort(labels[compares, 1:4], axis=1)
    frames = np.asarray(asks.frames).copy()
    both_ways = np.isin(candidates.task, [TASK_IDS[task] for task in TWO_WAYS])
    both_ways |= candidates.roles[:, 0] == 0
    frames[both_ways] = np.sort(frames[both_ways], axis=1)
    shown_only = (candidates.roles[:, 0] > 0) & (candidates.roles[:, 1] == 0)
    frames[shown_only, 1] = NONE  # the other image is shown, and not asked about
    frames[np.isin(candidates.task, [TASK_IDS[task] for task in ANY_IMAGES])] = NONE
    own = [candidates.scene, candidates.task, candidates.difficulty]
    keys = np.column_stack([*own, labels, frames])
    _, first = np.unique(keys, axis=0, return_index=True)
    return candidates.take(np.sort(first))


# --- judging ---------------------------------------------------------------------------------


def queries(candidates: Candidates) -> Query:
    """What the candidates ask. Frames come in their roles, and as shown where none is named."""
    frames, roles = candidates.frames, candidates.roles
    turned = roles[:, 0] == 2
    count = len(candidates)
    return Query(
        task_id=leaf(candidates.task),
        labels=leaf(candidates.labels),
        frames=leaf(np.where(turned[:, None], frames[:, ::-1], frames)),
        difficulty=leaf(candidates.difficulty),
        use_points=leaf(np.zeros(count, bool)),
        min_visibility=leaf(np.full(count, MIN_VISIBILITY, np.float32)),
        label_frames=leaf(np.full((count, 2), -1, np.int32)),
    )


def judge(records: Sequence[SceneRecord], candidates: Candidates, recipe: Recipe) -> Candidates:
    """The candidates with what the oracle says of each; task by task, a fixed number at once."""
    if not len(candidates):
        return candidates
    rules = CONVENTIONS[recipe.convention]
    held = scene_set(Same(*records), False, rules.hidden)
    place = np.array([held.index[id(record)] for record in records], np.int32)[candidates.scene]
    asked = queries(candidates)
    value, margin = candidates.value.copy(), candidates.margin.copy()
    reason = candidates.reason.copy()
    for task in np.unique(candidates.task).tolist():
        oracle = batched_oracle(recipe.convention, TASKS[task].name, True)
        own = np.flatnonzero(candidates.task == task)
        for start in range(0, len(own), BATCH):
            rows = own[start : start + BATCH]
            filled = np.concatenate([rows, np.full(BATCH - len(rows), rows[0])])
            part = jax.tree.map(lambda leaf, rows=filled: leaf[rows], asked)
            verdict = oracle(held.scenes, place[filled], part)
            found = jax.device_get((verdict.value, verdict.reason, verdict.margin))
            for whole, some in zip((value, reason, margin), found, strict=True):
                whole[rows] = some[: len(rows)]
    labels = np.array([len(record.labels) for record in records])[candidates.scene]
    absent = (candidates.labels >= labels[:, None]).any(1)
    reason[absent] = Reason.ABSENT_LABEL
    return dataclasses.replace(
        candidates,
        value=np.where(absent, 0, value),
        reason=reason,
        margin=np.where(absent, 0, margin),
    )


@functools.lru_cache(maxsize=4096)
def absent_labels(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Common things that mean nothing in a scene with these labels, in the order in which its
    candidates count them.
    """
    return tuple(name for name in COMMON if resolve(name, labels) is Reason.ABSENT_LABEL)
