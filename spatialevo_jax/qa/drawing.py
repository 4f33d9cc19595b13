"""Drawing what could be asked about one scene: for each task a function from what the scene offers
to arrays of labels and frames. Of two questions that ask the same, only one is drawn.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable

import numpy as np

from geometry_jax.tasks import TASK_IDS, TASKS
from geometry_jax.types import MAX_LABELS
from spatialevo_jax.qa.views import View

NONE = -1  # in arrays of labels and frames: nothing


@dataclasses.dataclass(frozen=True)
class Source:
    """What is chosen from, and how."""

    view: View
    rng: np.random.Generator
    most: int
    offered_answers: bool  # a sentence may offer its answers: relative_direction_hard
    labels: int  # of the scene
    absent: int  # of `candidates.absent_labels`, counted on from the scene's


Drawn = dict[str, np.ndarray]  # some of the fields of `Candidates`


def _tuples(pool: np.ndarray, size: int, ordered: bool, source: Source) -> np.ndarray:
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


def _limited(rows: np.ndarray, source: Source) -> np.ndarray:
    """At most `most` rows, in random order."""
    return rows[source.rng.permutation(len(rows))[: source.most]]


def _pairs(source: Source) -> np.ndarray:
    """(n, 2) frames that may be shown together, the earlier one first."""
    return np.argwhere(np.triu(source.view.paired, 1))


def _either_order(pairs: np.ndarray, source: Source) -> np.ndarray:
    """Each pair as it is or turned round."""
    turned = source.rng.random(len(pairs)) < 0.5
    return np.where(turned[:, None], pairs[:, ::-1], pairs)


def _counting(source: Source) -> Drawn:
    return {"labels": _limited(np.flatnonzero(source.view.repeated)[:, None], source)}


def _unique(size: int) -> Callable[[Source], Drawn]:
    def draw(source: Source) -> Drawn:
        return {"labels": _tuples(np.flatnonzero(source.view.unique), size, False, source)}

    return draw


def _relative_distance(source: Source) -> Drawn:
    """A target, then three candidates in ascending order: their order asks nothing."""
    four = _tuples(np.flatnonzero(source.view.unique), 4, False, source)
    # Each of the four is the target once.
    turned = [four[:, [target, *(i for i in range(4) if i != target)]] for target in range(4)]
    return {"labels": _limited(np.concatenate(turned), source)}


def _relative_direction(source: Source) -> Drawn:
    drawn = _tuples(np.flatnonzero(source.view.unique), 3, True, source)
    level = source.rng.integers(0, 4 if source.offered_answers else 1, len(drawn))
    return {"labels": drawn, "difficulty": level}


def _room_size(source: Source) -> Drawn:
    return {"labels": np.zeros((1 if source.view.shown else 0, 0), np.int32)}


def _in_frame(size: int) -> Callable[[Source], Drawn]:
    """Labels that one frame shows once each."""

    def draw(source: Source) -> Drawn:
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


def _cameras(source: Source) -> Drawn:
    """A pair, asked from either of its images."""
    pairs = _pairs(source)
    both = _limited(np.concatenate([pairs, pairs[:, ::-1]]), source)  # (reference, target)
    return _asked_from(both, source)


def _heights(source: Source) -> Drawn:
    """As `_cameras`, but a pair is asked from one of its images only: the other way is the same."""
    return _asked_from(_either_order(_limited(_pairs(source), source), source), source)


def _asked_from(pairs: np.ndarray, source: Source) -> Drawn:
    """(reference, target) frames, shown in either order."""
    turned = source.rng.random(len(pairs)) < 0.5
    roles = np.where(turned[:, None], [[2, 1]], [[1, 2]])
    frames = np.where(turned[:, None], pairs[:, ::-1], pairs)
    return {"labels": np.zeros((len(pairs), 0), np.int32), "frames": frames, "roles": roles}


def _motion(source: Source) -> Drawn:
    """Time runs forward."""
    pairs = _limited(_pairs(source), source)
    roles = np.tile([[1, 2]], (len(pairs), 1))
    return {"labels": np.zeros((len(pairs), 0), np.int32), "frames": pairs, "roles": roles}


def _seen_in_pairs(source: Source) -> tuple[np.ndarray, np.ndarray]:
    """(n, 2) pairs, and (n, L) labels of which they show one object: in one image, or in both."""
    pairs, view = _pairs(source), source.view
    counts, which = view.count[pairs], view.which[pairs]  # (n, 2, L)
    same = (counts.min(1) == 0) | (which[:, 0] == which[:, 1])
    return pairs, (counts.max(1) == 1) & same & view.named


def _visibility(source: Source) -> Drawn:
    pairs, unique = _seen_in_pairs(source)
    places = _limited(np.argwhere(unique), source)
    frames = _either_order(pairs[places[:, 0]], source)
    return {"labels": places[:, 1:], "frames": frames}


def _attribute(source: Source) -> Drawn:
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


def _with_other(frames: np.ndarray, source: Source) -> tuple[np.ndarray, np.ndarray]:
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


def _in_pairs(source: Source) -> np.ndarray:
    """Frames that have another to be shown beside."""
    return np.flatnonzero(source.view.paired.any(1))


def _from_camera(source: Source) -> Drawn:
    """A label that the reference image shows once; the other image is there to be passed over."""
    kept = _in_pairs(source)
    places = _limited(np.argwhere(source.view.unique_in_frame[kept]), source)
    frames, roles = _with_other(kept[places[:, 0]], source)
    return {"labels": places[:, 1:], "frames": frames, "roles": roles}


def _regions(source: Source) -> Drawn:
    """A region of which the reference image shows an anchor. Of several names that have the same
    anchors one is drawn for each image; none that is named after the only thing of its kind in the
    image: where the lamp is, `position_cam_obj` asks.
    """
    kept, anchors, after = _in_pairs(source), source.view.anchors, source.view.after
    if not len(anchors) or not len(kept):
        return {"labels": np.zeros((0, MAX_LABELS), np.int32), "frames": np.zeros((0, 2), np.int64)}
    order = source.rng.permutation(len(anchors))
    count = source.view.count[kept]
    shown = np.any((count[:, anchors] > 0) & (anchors >= 0), axis=2)
    shown &= (count[:, after] != 1) | (after < 0)
    places = np.argwhere(shown[:, order])
    rows = np.column_stack([places[:, :1], anchors[order[places[:, 1]]]])
    _, first = np.unique(rows, axis=0, return_index=True)
    places = _limited(places[first], source)
    phrase = order[places[:, 1]]
    frames, roles = _with_other(kept[places[:, 0]], source)
    return {"labels": anchors[phrase], "frames": frames, "roles": roles, "phrase": phrase}


DRAWING: dict[str, Callable[[Source], Drawn]] = {
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


def at_random(task: str, source: Source) -> Drawn:
    """Questions with no regard to what is unique, seen or there at all, for their reasons. Of a
    room only what its images show is named: that there are two of a thing, they must tell.
    """
    spec = TASKS[TASK_IDS[task]]
    seen = source.view.seen if spec.modality == "scene" else True
    named = np.flatnonzero(source.view.named & seen)
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
