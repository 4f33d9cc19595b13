"""What an observation claims, and which of it geometry confirms: f_obs of the Questioner.

    The room has two chairs and a table. In Image 1 a lamp stands to the left of the bed.

holds three claims: a count, a label that is shown, and a relation. Names are those of the scene's
vocabulary (`environment.labels`): exact, plural or a listed synonym, nothing fuzzy. A label of
another room is known and not here, so a claim about it is wrong; any other noun, colour or mood is
no claim at all, and neither are words for near, sentences with `or` or `if`, and questions.

"in front of" and "behind" are meant as in plain English, seen from the camera: nearer, farther.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from geometry_jax.reasons import Reason
from geometry_jax.scene_io import SceneRecord
from geometry_jax.tasks.attribute_measurement import SAME_SIZE
from geometry_jax.tasks.depth_order_obj_obj import SAME_DEPTH
from geometry_jax.types import MIN_VISIBILITY
from spatialevo_jax.config import Language
from spatialevo_jax.environment import Request
from spatialevo_jax.environment.identity import Same
from spatialevo_jax.environment.labels import look_up, normalise, vocabulary
from spatialevo_jax.evaluation.readings import UNITS
from spatialevo_jax.rewards import ObservationJudge
from spatialevo_jax.roles import pointing

Kind = Literal["shown", "count", "left", "closer", "above", "larger", "taller"]

MOST = 12  # claims counted of one text: the rest is not read
WANTED = 3  # fewer claims count as if the missing ones were wrong
LONGEST = 2000  # characters read
SIDEWAYS = math.tan(math.radians(22.5))  # beside: outside the eighth straight ahead or behind
HEIGHT_STEP = 0.15  # metres, middles nearer than this to one height have no order

# How a relation is written, and whether it is meant the other way round; longer ones first.
PHRASES: dict[str, tuple[Kind, bool]] = {}
for _side, _turned in (("left", False), ("right", True)):
    for _way in ("to the {} side of", "on the {} side of", "to the {} of", "on the {} of", "{} of"):
        PHRASES[_way.format(_side)] = ("left", _turned)
for _near, _turned in (("closer", False), ("nearer", False), ("farther", True), ("further", True)):
    for _way in ("to the camera than", "from the camera than", "away from the camera than", "than"):
        PHRASES[f"{_near} {_way}"] = ("closer", _turned)
PHRASES |= {"in front of": ("closer", False), "behind": ("closer", True)}
PHRASES |= {words: ("above", False) for words in ("above", "on top of", "higher than")}
PHRASES |= {
    words: ("above", True) for words in ("below", "beneath", "under", "underneath", "lower than")
}
PHRASES |= {"larger than": ("larger", False), "bigger than": ("larger", False)}
PHRASES |= {"smaller than": ("larger", True), "taller than": ("taller", False)}
RELATIONS = {tuple(words.split()): meant for words, meant in PHRASES.items()}
LONGEST_RELATION = max(map(len, RELATIONS))

_STATES = (
    "is are was were stands stand sits sit lies lie appears appear hangs hang "
    "placed located positioned standing sitting lying hanging"
)
VERBS = frozenset(_STATES.split())
# Of all that was listed.
JOINT_VERBS = frozenset({"are", "were", "stand", "sit", "lie", "appear", "hang"})
# Words that may stand between an object and its relation, and change nothing.
_ASIDES = "which that directly just slightly clearly also there in to right much a bit"
FILLERS = VERBS | frozenset(_ASIDES.split())
DETERMINERS = frozenset({"the", "a", "an", "this", "that", "any", "exactly", "only"})
NEGATIONS = frozenset({"no", "not", "without", "never", "cannot"})
# With one of these, a sentence says less than its parts.
NOT_READ = frozenset(
    {"or", "nor", "neither", "either", "if", "unless", "except", "whether", "instead", "rather"}
)
_AROUND = "least most than about approximately nearly almost over around roughly"
VAGUE = frozenset(_AROUND.split())
WORD = re.compile(r"[^\W_][\w'\-/]*|[,&]")
SENTENCE = re.compile(r"[^.!?;\n]*(?:[.](?=\d)[^.!?;\n]*)*[.!?;\n]?")
LIST_MARK = re.compile(r"^\s*\d+[.)]", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Claim:
    """One thing said of the images. Two ways to say the same are equal."""

    kind: Kind
    labels: tuple[str, ...]  # one, or the two of a relation: the first is left, closer, above, …
    image: int = 0  # 1-based position among the images shown, 0: all of them
    count: int = 0  # of a count
    negated: bool = False


@dataclasses.dataclass(frozen=True)
class _Named:
    """An object in a sentence."""

    label: str
    count: int | None
    negated: bool


@dataclasses.dataclass(frozen=True)
class _Relation:
    kind: Kind
    turned: bool


_Item = str | _Named | _Relation | tuple[int, ...]  # the last: images


def observation_judge(language: Language, records: Sequence[SceneRecord]) -> ObservationJudge:
    """The rule of geometry for f_obs, by the language in which the prompt asks for observations.

    `records` are all rooms of a run: their labels are those that prose can be wrong about.
    """
    known = known_labels(Same(*records))

    def pointings(text: str, request: Request) -> float:
        return pointing.grounding(text, pointing.visible(request.record, request.frames))

    def prose(text: str, request: Request) -> float:
        return grounding(text, request.record, request.frames, known)

    return pointings if language == "pointings" else prose


@functools.lru_cache(maxsize=8)
def known_labels(rooms: Same) -> tuple[str, ...]:
    """Every label of the rooms, sorted."""
    return tuple(sorted({label for record in rooms.records for label in record.labels}))


def grounding(
    text: str, record: SceneRecord, frames: tuple[int, ...], known: tuple[str, ...] = ()
) -> float:
    """Share of a text's claims that hold, 0 to 1; 0 without any.

    Said once or often, a claim counts once. What geometry cannot decide, and a negation that holds,
    counts as not said. Of claims that contradict each other none holds. What can be said without
    looking (see `_is_free`) counts, where true, at most once more than all other true claims.
    Fewer claims than wanted count as if the missing ones were wrong.
    """
    claims = read(text, record.labels, known, len(frames))
    against = _contradicted(claims)
    free, right, wrong = 0, 0, 0
    for claim in claims:
        holds = check(claim, record, frames) if claim not in against else False
        if holds is None or (holds and claim.negated):
            continue
        if not holds:
            wrong += 1
        elif _is_free(claim, len(frames)):
            free += 1
        else:
            right += 1
    right += min(free, right + 1)
    seen = sum(len(one) for one in _by_label(record, frames, 0).values())
    return right / max(right + wrong, min(WANTED, max(seen, 1)))


def _is_free(claim: Claim, images: int) -> bool:
    """Whether no look at the images is needed: the prompt lists labels, those that occur once among
    them, and names tell sizes. In which of several images something is, it does not tell.
    """
    if claim.kind in ("larger", "taller"):
        return True
    somewhere = images == 1 or claim.image == 0
    return somewhere and (claim.kind == "shown" or (claim.kind == "count" and claim.count == 1))


# --- reading ---------------------------------------------------------------------------------


def read(
    text: str, labels: tuple[str, ...], known: tuple[str, ...] = (), images: int = 1
) -> tuple[Claim, ...]:
    """The distinct claims of a text, in order, at most MOST.

    Args:
        labels: of the scene. known: of all scenes; one that is not in `labels` is claimed wrongly.
        images: how many are shown; one alone is all of them, named or not.
    """
    here, elsewhere = vocabulary(labels), vocabulary(known)
    longest = _longest_name(labels, known)
    found: dict[Claim, None] = {}
    for sentence in SENTENCE.findall(LIST_MARK.sub("", text[:LONGEST])):
        if not sentence or sentence.endswith("?"):
            continue
        items = _items(WORD.findall(normalise(sentence)), here, elsewhere, longest)
        if not NOT_READ.isdisjoint(item for item in items if isinstance(item, str)):
            continue
        for claim in _claims(items, images):
            found.setdefault(claim)
            if len(found) == MOST:
                return tuple(found)
    return tuple(found)


@functools.lru_cache(maxsize=4096)
def _longest_name(labels: tuple[str, ...], known: tuple[str, ...]) -> int:
    """Words of the longest name."""
    names = [*vocabulary(labels), *vocabulary(known)]
    return max((len(name.split()) for name in names), default=1)


def _items(
    words: Sequence[str],
    here: Mapping[str, str | Reason],
    elsewhere: Mapping[str, str | Reason],
    longest: int,
) -> list[_Item]:
    """The words with images, relations and objects found in them; the longest name is taken."""
    items: list[_Item] = []
    at = 0
    while at < len(words):
        if words[at] == "image" and at + 1 < len(words) and words[at + 1].isdecimal():
            number = int(words[at + 1][:4])
            joined = len(items) > 1 and items[-1] in ("and", ",") and isinstance(items[-2], tuple)
            if joined:
                items.pop()
                items.append((*_images(items.pop()), number))
            else:
                items.append((number,))
            at += 2
            continue
        size = next(
            (k for k in range(LONGEST_RELATION, 0, -1) if tuple(words[at : at + k]) in RELATIONS), 0
        )
        if size:
            items.append(_Relation(*RELATIONS[tuple(words[at : at + size])]))
            at += size
            continue
        for size in range(min(longest, len(words) - at), 0, -1):
            name = _label(" ".join(words[at : at + size]), here, elsewhere)
            if name is not None:
                items.append(_named(name, items) if name else "…")
                at += size
                break
        else:
            items.append("and" if words[at] == "&" else words[at])
            at += 1
    return items


def _images(item: _Item) -> tuple[int, ...]:
    return item if isinstance(item, tuple) else ()


def _label(
    phrase: str, here: Mapping[str, str | Reason], elsewhere: Mapping[str, str | Reason]
) -> str | None:
    """A label of the scene or of another one; "" for a name that says no one label; None for none.

    The phrase has no article: `look_up` would take one for a part of the name.
    """
    if phrase.partition(" ")[0] in DETERMINERS:
        return None
    label = look_up(phrase, here)
    if label is Reason.ABSENT_LABEL:
        label = look_up(phrase, elsewhere)
        if label is Reason.ABSENT_LABEL:
            return None
    return label if isinstance(label, str) else ""


def _named(label: str, before: Sequence[_Item]) -> _Item:
    """An object with the number or negation right before it; a mere word where it is not clear
    what is denied: "no red chair", "not far from the chair".
    """
    segment: list[str] = []
    for item in reversed(before):
        if not isinstance(item, str) or item in (",", "and", "but", "with"):
            break
        segment.append(item)
    plain = [word for word in segment if word not in DETERMINERS]
    closest = plain[0] if plain else ""
    count = UNITS.get(closest, int(closest[:4]) if closest.isdecimal() else None)
    if count is not None and len(plain) > 1 and plain[1] in VAGUE:
        count = None
    if count == 0 or _denies(closest):
        return _Named(label, None, negated=True)
    if any(map(_denies, plain)):
        return "…"
    return _Named(label, count, negated=False)


def _denies(word: str) -> bool:
    return word in NEGATIONS or word.endswith("n't")


def _claims(items: Sequence[_Item], images: int) -> list[Claim]:
    """Relations first, then what is left of the objects."""
    found: list[Claim] = []
    used: set[int] = set()

    def add(place: int, kind: Kind, labels: tuple[str, ...], count: int, negated: bool) -> None:
        for image in _scope(items, place) or (0,):
            alone = 0 if images == image == 1 else image
            found.append(Claim(kind, labels, alone, count, negated))

    for place, item in enumerate(items):
        if not isinstance(item, _Relation):
            continue
        ends = _ends(items, place)
        if ends is None:
            continue
        subjects, other, negated = ends
        last = items[other]
        for subject in subjects:
            first = items[subject]
            if not isinstance(first, _Named) or not isinstance(last, _Named):
                continue
            if first.label == last.label or first.negated or last.negated:
                continue
            pair = (last.label, first.label) if item.turned else (first.label, last.label)
            add(subject, item.kind, pair, 0, negated)
            used |= {subject, other}
    for place, item in enumerate(items):
        if not isinstance(item, _Named):
            continue
        if item.count is not None:
            add(place, "count", (item.label,), item.count, False)
        elif place not in used:
            add(place, "shown", (item.label,), 0, item.negated)
    return found


def _ends(items: Sequence[_Item], place: int) -> tuple[list[int], int, bool] | None:
    """Places of the objects that a relation is said of and of the one it refers to, and whether it
    is denied; None where a word in between is not understood.
    """
    other = place + 1
    while other < len(items) and items[other] in DETERMINERS:
        other += 1
    if other == len(items) or not isinstance(items[other], _Named):
        return None
    between: list[str] = []
    subject = place - 1
    while subject >= 0 and not isinstance(items[subject], _Named):
        word = items[subject]
        if isinstance(word, str) and (word in FILLERS or _denies(word)):
            between.append(word)
        elif not isinstance(word, tuple):
            return None
        subject -= 1
    if subject >= 0:
        subjects = [subject]
        if not JOINT_VERBS.isdisjoint(between):
            subjects += _listed(items, subject)
        return subjects, other, any(map(_denies, between))
    # Nothing before it: "behind the table is a lamp", where a verb must follow.
    after, verb = other + 1, False
    while after < len(items) and not isinstance(items[after], _Named):
        word = items[after]
        if not isinstance(word, str) or word not in FILLERS | DETERMINERS | {","}:
            return None
        verb |= word in VERBS
        after += 1
    return ([after], other, False) if verb and after < len(items) and not between else None


def _listed(items: Sequence[_Item], last: int) -> list[int]:
    """The other objects of a list that ends here: "the chair, the table and the lamp"."""
    found, at, joined = [], last - 1, False
    while at >= 0:
        item = items[at]
        if isinstance(item, _Named) and joined:
            found.append(at)
            joined = False
        elif item in ("and", ","):
            joined = True
        elif item not in DETERMINERS:
            break
        at -= 1
    return found


def _scope(items: Sequence[_Item], place: int) -> tuple[int, ...]:
    """The images that a sentence is about at a place: those named last before it, else the first
    ones after it.
    """
    before = [item for item in items[:place] if isinstance(item, tuple)]
    after = [item for item in items[place:] if isinstance(item, tuple)]
    return before[-1] if before else after[0] if after else ()


# --- checking --------------------------------------------------------------------------------


def _contradicted(claims: Sequence[Claim]) -> set[Claim]:
    """Claims of which at most one can hold."""
    about: dict[tuple[object, ...], list[Claim]] = {}
    for claim in claims:
        about.setdefault((claim.kind, claim.image, frozenset(claim.labels)), []).append(claim)
    against: set[Claim] = set()
    for group in about.values():
        said = {(one.labels, one.count) for one in group if not one.negated}
        denied = {(one.labels, one.count) for one in group if one.negated}
        if len(said) > 1 or said & denied:
            against |= set(group)
    return against


def check(claim: Claim, record: SceneRecord, frames: tuple[int, ...]) -> bool | None:
    """Whether a claim holds, its negation counted in; None where geometry cannot tell."""
    if claim.image > len(frames):
        return False
    shown = _by_label(record, frames, claim.image)
    if claim.kind == "shown":
        return bool(shown.get(claim.labels[0])) != claim.negated
    if claim.kind == "count":
        return _counted(claim, record, shown)
    first, second = (list(shown.get(label, ())) for label in claim.labels)
    if not first or not second:
        return None if claim.negated else False  # rightly denied of what is not there
    if len(first) > 1 or len(second) > 1:
        return None
    found = _related(claim, record, frames, first[0], second[0])
    return None if found is None else found != claim.negated


def _by_label(
    record: SceneRecord, frames: tuple[int, ...], image: int
) -> dict[str, tuple[int, ...]]:
    """Objects that one image, or 0: all of them together, shows well enough."""
    scene = record.scene
    chosen = list(frames) if image == 0 else [frames[image - 1]]
    seen = np.asarray(scene.seen)[chosen] & (np.asarray(scene.visibility)[chosen] >= MIN_VISIBILITY)
    found: dict[str, tuple[int, ...]] = {}
    for index in np.flatnonzero(seen.any(0) & np.asarray(scene.object_valid)):
        label = record.labels[int(scene.label[index])]
        found[label] = (*found.get(label, ()), int(index))
    return found


def _counted(
    claim: Claim, record: SceneRecord, shown: Mapping[str, tuple[int, ...]]
) -> bool | None:
    """More than the images show, though not more than the room has, cannot be told."""
    label = claim.labels[0]
    seen = len(shown.get(label, ()))
    if claim.count == seen or claim.image:
        return claim.count == seen
    scene = record.scene
    names = [record.labels[int(i)] for i in np.asarray(scene.label)[np.asarray(scene.object_valid)]]
    return None if seen < claim.count <= names.count(label) else False


def _related(
    claim: Claim, record: SceneRecord, frames: tuple[int, ...], first: int, second: int
) -> bool | None:
    scene = record.scene
    if claim.kind == "above":
        return _sign(float(scene.obb_center[first][2] - scene.obb_center[second][2]), HEIGHT_STEP)
    if claim.kind in ("larger", "taller"):
        if claim.kind == "taller":
            heights = scene.extent[first][2], scene.extent[second][2]
            return _longer(float(heights[0]), float(heights[1]))
        sides = [np.sort(np.asarray(scene.obb_extent[i], np.float64)) for i in (first, second)]
        longest = _longer(sides[0][-1], sides[1][-1])
        volume = _longer(np.cbrt(sides[0].prod()), np.cbrt(sides[1].prod()))
        return longest if longest == volume else None  # larger by one measure only
    told = {
        _seen_from(claim.kind, record, frame, first, second)
        for frame in (frames if claim.image == 0 else (frames[claim.image - 1],))
        if scene.visibility[frame][[first, second]].min() >= MIN_VISIBILITY
    }
    return told.pop() if len(told) == 1 else None  # not the same from everywhere


def _seen_from(kind: Kind, record: SceneRecord, frame: int, first: int, second: int) -> bool | None:
    """Left of, or closer, from one camera: between the middles of what it sees, as the tasks do."""
    scene = record.scene
    places = np.asarray(scene.camera_location[frame], np.float64)
    if kind == "closer":
        return _sign(float(places[second, 2] - places[first, 2]), SAME_DEPTH)
    pose = np.asarray(scene.world_from_camera[frame], np.float64)
    axis = pose[:2, 2]
    length = float(np.hypot(*axis))
    if not scene.pose_valid[frame] or length < math.sin(math.radians(15.0)):
        return None  # no pose, or it looks up or down
    ahead = axis / length
    x, y = (pose[:3, :3] @ (places[first] - places[second]))[:2]
    forward, rightward = ahead[0] * x + ahead[1] * y, ahead[1] * x - ahead[0] * y
    return _sign(-rightward, max(SIDEWAYS * abs(forward), 1e-3))


def _sign(value: float, least: float) -> bool | None:
    return None if abs(value) <= least else bool(value > 0)


def _longer(first: float, second: float) -> bool | None:
    return _sign(float(first - second), SAME_SIZE * float(max(first, second)))
