"""Questions that could be asked, as arrays: drawn for one scene, judged for a block of scenes.

A candidate is one fact about a scene, in one form: of two questions that ask the same, however they
are worded and in whichever order they name things, only one is drawn.
"""

import dataclasses
import functools
import itertools
import math
import zlib
from collections.abc import Callable, Sequence

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
from spatialevo_jax.qa.recipe import Recipe
from spatialevo_jax.qa.views import Lists, View, view

SPARE = 8  # candidates drawn for each row wanted of a scene and task
FEWEST, MOST = 64, 2048  # candidates of a scene and task, whatever is wanted
INVALID_FEWEST = 16  # candidates drawn without regard to what can be asked, likewise
NONE = -1
# Tasks whose two labels may be swapped.
UNORDERED = frozenset({"absolute_distance", "depth_order_obj_obj", "attribute_measurement"})
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


# --- drawing ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Source:
    """What the drawing functions below choose from."""

    view: View
    rng: np.random.Generator
    most: int
    offered_answers: bool  # a sentence may offer its answers: relative_direction_hard
    labels: int  # of the scene
    absent: int  # of `absent_labels`, counted on from the scene's


Drawn = dict[str, np.ndarray]  # some of the fields of `Candidates`


def _tuples(pool: np.ndarray, size: int, ordered: bool, source: _Source) -> np.ndarray:
    """(n, size) distinct members of a pool, at most `most`, in random order. Unordered ones come in
    ascending order.
    """
    total = math.perm(len(pool), size) if ordered else math.comb(len(pool), size)
    if total <= 8 * source.most:
        choose = itertools.permutations if ordered else itertools.combinations
        every = np.array(list(choose(pool.tolist(), size)), np.int32).reshape(-1, size)
    else:
        # Random keys: the places of the smallest are a tuple without repeats.
        keys = source.rng.random((2 * source.most, len(pool)))
        every = pool[np.argsort(keys, axis=1)[:, :size]].astype(np.int32)
        every = np.unique(every if ordered else np.sort(every, axis=1), axis=0)
    return every[source.rng.permutation(len(every))[: source.most]]


def _limited(rows: np.ndarray, source: _Source) -> np.ndarray:
    """At most `most` rows, in random order."""
    return rows[source.rng.permutation(len(rows))[: source.most]]


def _pairs(source: _Source) -> np.ndarray:
    """(n, 2) frames that may be shown together, the earlier one first."""
    return np.argwhere(np.triu(source.view.paired, 1))


def _either_order(pairs: np.ndarray, source: _Source) -> np.ndarray:
    """Each pair as it is or turned round."""
    turned = source.rng.random(len(pairs)) < 0.5
    return np.where(turned[:, None], pairs[:, ::-1], pairs)


def _counting(source: _Source) -> Drawn:
    return {"labels": _limited(np.flatnonzero(source.view.repeated)[:, None], source)}


def _unique(size: int) -> Callable[[_Source], Drawn]:
    def draw(source: _Source) -> Drawn:
        return {"labels": _tuples(np.flatnonzero(source.view.unique), size, False, source)}

    return draw


def _relative_distance(source: _Source) -> Drawn:
    """A target, then three candidates in ascending order: their order asks nothing."""
    four = _tuples(np.flatnonzero(source.view.unique), 4, False, source)
    # Each of the four is the target once.
    turned = [four[:, [target, *(i for i in range(4) if i != target)]] for target in range(4)]
    return {"labels": _limited(np.concatenate(turned), source)}


def _relative_direction(source: _Source) -> Drawn:
    drawn = _tuples(np.flatnonzero(source.view.unique), 3, True, source)
    level = source.rng.integers(0, 4 if source.offered_answers else 1, len(drawn))
    return {"labels": drawn, "difficulty": level}


def _room_size(source: _Source) -> Drawn:
    return {"labels": np.zeros((1 if source.view.shown else 0, 0), np.int32)}


def _in_frame(size: int) -> Callable[[_Source], Drawn]:
    """Labels that one frame shows once each."""

    def draw(source: _Source) -> Drawn:
        unique = source.view.unique_in_frame
        labels, frames = [np.zeros((0, size), np.int32)], [np.zeros(0, np.int64)]
        for frame in source.view.kept:
            found = _tuples(np.flatnonzero(unique[frame]), size, False, source)
            turned = source.rng.random(len(found)) < 0.5  # which is the reference
            labels.append(np.where(turned[:, None], found[:, ::-1], found))
            frames.append(np.full(len(found), frame))
        rows = _limited(np.arange(sum(map(len, frames))), source)
        return {
            "labels": np.concatenate(labels)[rows],
            "frames": np.concatenate(frames)[rows][:, None],
        }

    return draw


def _cameras(source: _Source) -> Drawn:
    """A pair, asked from either of its images."""
    pairs = _pairs(source)
    both = _limited(np.concatenate([pairs, pairs[:, ::-1]]), source)  # (reference, target)
    return _asked_from(both, source)


def _heights(source: _Source) -> Drawn:
    """As `_cameras`, but a pair is asked from one of its images only: the other way is the same."""
    return _asked_from(_either_order(_limited(_pairs(source), source), source), source)


def _asked_from(pairs: np.ndarray, source: _Source) -> Drawn:
    """(reference, target) frames, shown in either order."""
    turned = source.rng.random(len(pairs)) < 0.5
    roles = np.where(turned[:, None], [[2, 1]], [[1, 2]])
    frames = np.where(turned[:, None], pairs[:, ::-1], pairs)
    return {"labels": np.zeros((len(pairs), 0), np.int32), "frames": frames, "roles": roles}


def _motion(source: _Source) -> Drawn:
    """Time runs forward."""
    pairs = _limited(_pairs(source), source)
    roles = np.tile([[1, 2]], (len(pairs), 1))
    return {"labels": np.zeros((len(pairs), 0), np.int32), "frames": pairs, "roles": roles}


def _seen_in_pairs(source: _Source) -> tuple[np.ndarray, np.ndarray]:
    """(n, 2) pairs, and (n, L) labels that either shows, and neither more than once."""
    pairs = _pairs(source)
    counts = source.view.count[pairs]  # (n, 2, L)
    return pairs, (counts.max(1) == 1) & source.view.named


def _visibility(source: _Source) -> Drawn:
    pairs, unique = _seen_in_pairs(source)
    places = _limited(np.argwhere(unique), source)
    frames = _either_order(pairs[places[:, 0]], source)
    return {"labels": places[:, 1:], "frames": frames}


def _attribute(source: _Source) -> Drawn:
    """Two labels, compared in one pair of images that shows them: sizes are those of the room."""
    pairs, unique = _seen_in_pairs(source)
    labels, frames = [], []
    for a, b in _tuples(np.flatnonzero(source.view.named), 2, False, source):
        places = np.flatnonzero(unique[:, a] & unique[:, b])
        if len(places):
            labels.append((a, b))
            frames.append(pairs[source.rng.choice(places)])
    return {
        "labels": np.array(labels, np.int32).reshape(-1, 2),
        "frames": _either_order(np.array(frames, np.int64).reshape(-1, 2), source),
    }


def _with_other(frames: np.ndarray, source: _Source) -> tuple[np.ndarray, np.ndarray]:
    """Reference frames with another that may be shown beside them: the pair in the order shown,
    and the roles.
    """
    near = source.view.paired[frames]
    others = np.argmax(np.where(near, source.rng.random(near.shape), -1.0), axis=1)
    pairs = np.stack([frames, others], 1)
    turned = source.rng.random(len(pairs)) < 0.5
    shown = np.where(turned[:, None], pairs[:, ::-1], pairs)
    roles = np.stack([np.where(turned, 2, 1), np.zeros(len(pairs), np.int64)], 1)
    return shown, roles


def _in_pairs(source: _Source) -> np.ndarray:
    """Frames that have another to be shown beside."""
    return np.flatnonzero(source.view.paired.any(1))


def _from_camera(source: _Source) -> Drawn:
    """A label that the reference image shows once; the other image is there to be passed over."""
    kept = _in_pairs(source)
    places = _limited(np.argwhere(source.view.unique_in_frame[kept]), source)
    frames, roles = _with_other(kept[places[:, 0]], source)
    return {"labels": places[:, 1:], "frames": frames, "roles": roles}


def _regions(source: _Source) -> Drawn:
    """A region of which the reference image shows an anchor. Of several names that have the same
    anchors one is drawn for each image.
    """
    kept, anchors = _in_pairs(source), source.view.anchors
    if not len(anchors) or not len(kept):
        return {"labels": np.zeros((0, MAX_LABELS), np.int32), "frames": np.zeros((0, 2), np.int64)}
    order = source.rng.permutation(len(anchors))
    shown = np.where(anchors >= 0, source.view.count[kept][:, anchors] > 0, False).any(2)
    places = np.argwhere(shown[:, order])
    rows = np.column_stack([places[:, :1], anchors[order[places[:, 1]]]])
    _, first = np.unique(rows, axis=0, return_index=True)
    places = _limited(places[first], source)
    phrase = order[places[:, 1]]
    frames, roles = _with_other(kept[places[:, 0]], source)
    return {"labels": anchors[phrase], "frames": frames, "roles": roles, "phrase": phrase}


DRAWING: dict[str, Callable[[_Source], Drawn]] = {
    "object_counting": _counting,
    "absolute_distance": _unique(2),
    "relative_distance": _relative_distance,
    "relative_direction_hard": _relative_direction,
    "single_image_relative_direction": _in_frame(2),
    "distance_cam_obj": _in_frame(1),
    "depth_order_obj_obj": _in_frame(2),
    "position_cam_cam": _cameras,
    "elevation_cam_cam": _heights,
    "motion_camera": _motion,
    "visibility_compare": _visibility,
    "object_size": _unique(1),
    "room_size": _room_size,
    "position_cam_obj": _from_camera,
    "position_cam_reg": _regions,
    "attribute_measurement": _attribute,
}


def _at_random(task: str, source: _Source) -> Drawn:
    """Questions with no regard to what is unique, seen or there at all, for their reasons."""
    spec = TASKS[TASK_IDS[task]]
    named = np.flatnonzero(source.view.named)
    absent = source.rng.permutation(source.absent)[: max(len(named) // 4, 2)]
    pool = np.concatenate([named, source.labels + absent])
    size = source.most
    if task in ("room_size", "position_cam_reg", "motion_camera", "position_cam_cam"):
        size = 0  # what is wrong with these, their own candidates show
    order = np.argsort(source.rng.random((size, len(pool))), axis=1)
    drawn: Drawn = {"labels": pool[order[:, : len(spec.slots)]]}
    if drawn["labels"].shape[1] < len(spec.slots):
        drawn["labels"] = np.zeros((0, len(spec.slots)), np.int32)
    count = len(drawn["labels"])
    kept = source.view.kept if spec.modality == "single_image" else _in_pairs(source)
    images = {"scene": 0, "single_image": 1, "image_pair": 2}[spec.modality]
    if images > len(kept):
        return {"labels": drawn["labels"][:0]}
    if images == 1:
        drawn["frames"] = kept[source.rng.integers(len(kept), size=(count, 1))]
    elif images:
        pairs = _pairs(source)
        drawn["frames"] = _either_order(pairs[source.rng.integers(len(pairs), size=count)], source)
    roles = np.argsort(source.rng.random((count, 2)), axis=1) + 1
    drawn["roles"] = roles[:, : len(spec.roles)]
    return drawn


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
    rules = CONVENTIONS[recipe.convention]
    seen = view(record, recipe.scene_images, rules.published, lists)
    source = _Source(
        view=seen,
        rng=scene_rng(recipe, record.scene_id, 1),
        most=most,
        offered_answers=rules.offered_answers,
        labels=len(record.labels),
        absent=len(absent_labels(record.labels)),
    )
    parts = [_filled(DRAWING[task](source), task, place) for task in recipe.tasks]
    if recipe.invalid_share > 0:
        few = math.ceil(recipe.invalid_share * most)
        source = dataclasses.replace(source, most=max(few, INVALID_FEWEST))
        parts += [_filled(_at_random(task, source), task, place) for task in recipe.tasks]
    return _distinct(concatenated(parts))


def _distinct(candidates: Candidates) -> Candidates:
    """Without those that ask what one before them asks: what is drawn at random may."""
    asks = queries(candidates)
    labels = np.asarray(asks.labels).copy()
    swapped = np.isin(candidates.task, [TASK_IDS[task] for task in UNORDERED])
    labels[swapped, :2] = np.sort(labels[swapped, :2], axis=1)
    compares = candidates.task == TASK_IDS["relative_distance"]
    labels[compares, 1:4] = np.sort(labels[compares, 1:4], axis=1)
    keys = np.column_stack([candidates.task, labels, candidates.difficulty, asks.frames])
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
