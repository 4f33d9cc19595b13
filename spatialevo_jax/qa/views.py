"""What a scene offers to ask about, as arrays: frames worth showing, labels that each shows once.

The same definitions as `environment.pools`, for all frames at once. F frames, L labels, N objects.
"""

import dataclasses
import functools
import itertools

import numpy as np

from geometry_jax.reasons import Reason
from geometry_jax.scene_io import SceneRecord
from geometry_jax.types import MAX_LABELS, MIN_VISIBILITY
from spatialevo_jax.environment import regions
from spatialevo_jax.environment.identity import Same
from spatialevo_jax.environment.labels import NOT_OBJECTS, askable, look_up, spoken, vocabulary

SAME_PLACE, SAME_VIEW = 0.15, np.deg2rad(10.0)  # metres and radians: nearer frames are one
# What regions are named after, beside the labels that stand for them.
THINGS = {label for own in regions.ANCHORS.values() for label in own} | {
    *("desk", "television", "shower", "washing machine", "stove", "closet"),
}
MOST_FRAMES = 48  # of a scene that are asked about


@dataclasses.dataclass(frozen=True)
class View:
    """One scene. Masks over labels are False for those that no sentence may name."""

    kept: np.ndarray  # (K,) frames that differ from each other, in order: each may be shown alone
    # (F, F) bool, frames that may be shown together: both kept, and one object at least in common
    paired: np.ndarray
    shown: tuple[int, ...]  # frames that a question about the whole room comes with
    named: np.ndarray  # (L,) bool, labels that a sentence can name, and no kind of which is another
    seen: np.ndarray  # (L,) bool, `shown` shows all objects of the label; named or not
    unique: np.ndarray  # (L,) bool, once in the room, and seen
    repeated: np.ndarray  # (L,) bool, several times in the room, and seen
    count: np.ndarray  # (F, L) i32, objects that each frame shows well enough
    which: np.ndarray  # (F, L) i32, the object that each frame shows, where it shows one
    phrases: tuple[str, ...]  # names of regions: labels, "LABEL area", listed regions
    anchors: np.ndarray  # (phrases, 6) i32, the labels that may stand for each, -1 unused
    after: np.ndarray  # (phrases,) i32, the label that each is named after, -1 where none is

    @property
    def unique_in_frame(self) -> np.ndarray:
        """(F, L) bool."""
        return (self.count == 1) & self.named


def distinct_frames(poses: np.ndarray, valid: np.ndarray, most: int) -> np.ndarray:
    """Frames in order, without those that look from the place and in the direction of one before;
    spread evenly where there are more than `most`. A frame without a pose can't be told from
    others and stays.

    Args:
        poses: (F, 4, 4) world_from_camera. valid: (F,) bool, the pose is known.
    """
    kept: list[int] = []
    for frame in range(len(poses)):
        others = [other for other in kept if valid[other]]
        if valid[frame] and others:
            apart = np.linalg.norm(poses[others, :3, 3] - poses[frame, :3, 3], axis=1)
            cosine = poses[others, :3, 2] @ poses[frame, :3, 2]
            turned = np.arccos(np.clip(cosine, -1.0, 1.0))
            if ((apart < SAME_PLACE) & (turned < SAME_VIEW)).any():
                continue
        kept.append(frame)
    if len(kept) > most:
        kept = [kept[i] for i in np.linspace(0, len(kept) - 1, most).round().astype(int)]
    return np.array(kept, np.int64)


def covering_frames(visible: np.ndarray, kept: np.ndarray, most: int) -> tuple[int, ...]:
    """At most `most` of the kept frames, in order: each next one shows most objects that those
    before do not; then those in between.

    Args:
        visible: (F, N) bool.
    """
    chosen: list[int] = []
    seen = np.zeros(visible.shape[1], bool)
    while len(chosen) < min(most, len(kept)):
        rest = [int(frame) for frame in kept if frame not in chosen]
        gain = [int((visible[frame] & ~seen).sum()) for frame in rest]
        if max(gain) == 0:  # all is seen: the frame farthest along the path from those chosen
            gain = [min(abs(frame - other) for other in chosen or [-1]) for frame in rest]
        best = rest[int(np.argmax(gain))]
        chosen.append(best)
        seen |= visible[best]
    return tuple(sorted(chosen))


def _phrases(
    record: SceneRecord, named: np.ndarray, published: bool
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """`phrases`, `anchors` and `after`."""
    names = vocabulary(record.labels, published)
    labels = [spoken(label) for label, good in zip(record.labels, named, strict=True) if good]
    # The listed regions by their other names: nobody asks where "the sleep" is.
    listed = itertools.chain.from_iterable(regions.ALIASES.values())
    wanted = [*labels, *(f"{label} area" for label in labels), *listed]
    index = {label: place for place, label in enumerate(record.labels)}
    phrases, anchors, after = [], [], []
    for phrase in dict.fromkeys(wanted):
        found = regions.anchors(phrase, names)
        around = regions.LABEL_REGION.fullmatch(phrase)
        thing = around[1] if around else phrase
        own = look_up(thing, names)
        if isinstance(found, Reason) or len(found) > MAX_LABELS:
            continue
        # Without its sofa, a "sofa area" would be where something else is; without what tells it
        # best, a bathroom would be wherever a mirror hangs.
        if not isinstance(own, str):
            telling = regions.ANCHORS[regions.REGION_OF[phrase]][0]
            if thing in THINGS or not isinstance(look_up(telling, names), str):
                continue
        row = [index[label] for label in found]
        phrases.append(phrase)
        anchors.append(row + [-1] * (MAX_LABELS - len(row)))
        after.append(index[own] if isinstance(own, str) else -1)
    table = np.array(anchors, np.int32).reshape(-1, MAX_LABELS)
    return tuple(phrases), table, np.array(after, np.int32)


Lists = tuple[tuple[int, ...], ...]  # frames of a scene that are shown together


def view(
    record: SceneRecord, scene_images: int, published: bool, lists: Lists | None = None
) -> View:
    """What can be asked about a scene; cached by the record.

    Args:
        scene_images: most images of a question about the whole room.
        lists: the frames that may be shown together, none others; None leaves it to us.
    """
    return _view(Same(record), scene_images, published, lists)


def _as_listed(lists: Lists, frames: int) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """`kept`, `paired` and `shown` of lists: singles, pairs, and the first longer one."""
    kept = sorted({one[0] for one in lists if len(one) == 1})
    paired = np.zeros((frames, frames), bool)
    for first, second in (one for one in lists if len(one) == 2):
        paired[first, second] = paired[second, first] = True
    shown = next((one for one in lists if len(one) > 2), ())
    return np.array(kept, np.int64), paired, shown


@functools.lru_cache(maxsize=256)
def _view(key: Same, scene_images: int, published: bool, lists: Lists | None) -> View:
    (record,) = key.records
    scene = record.scene
    valid = np.asarray(scene.object_valid)
    visible = np.asarray(scene.seen) & (np.asarray(scene.visibility) >= MIN_VISIBILITY) & valid
    is_label = np.asarray(scene.label)[:, None] == np.arange(len(record.labels))  # (N, L)
    own = (is_label & valid[:, None]).astype(np.int32)
    count = visible.astype(np.int32) @ own
    which = (visible * np.arange(len(own), dtype=np.int32)) @ own
    known, names = askable(record.labels), [spoken(one) for one in record.labels]
    # Who says "the chair", or counts chairs, may mean the office chair too.
    vague = {one for one in names for other in names if other.endswith(f" {one}")}
    unfit = vague | NOT_OBJECTS
    named = np.array([one in known and spoken(one) not in unfit for one in record.labels], bool)
    if lists is None:
        poses = np.asarray(scene.world_from_camera, np.float64)
        kept = distinct_frames(poses, np.asarray(scene.pose_valid), MOST_FRAMES)
        among = np.isin(np.arange(len(poses)), kept)
        paired = (visible.astype(np.int32) @ visible.T.astype(np.int32)) > 0
        paired &= among & among[:, None] & ~np.eye(len(poses), dtype=bool)
        shown = covering_frames(visible, kept, scene_images)
    else:
        kept, paired, shown = _as_listed(lists, len(visible))
    total = (is_label & valid[:, None]).sum(0)
    in_shown = np.any(visible[list(shown)], axis=0)
    found = (is_label & np.expand_dims(in_shown, 1)).sum(0)  # objects of a label seen
    seen = found == total
    phrases, anchors, after = _phrases(record, named, published)
    return View(
        kept=kept,
        paired=paired,
        shown=shown,
        named=named,
        seen=seen,
        unique=named & (total == 1) & seen,
        repeated=named & (total > 1) & seen,
        count=count,
        which=which,
        phrases=phrases,
        anchors=anchors,
        after=after,
    )
