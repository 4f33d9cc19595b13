"""From a phrase of the question to a label of the scene: exact names, plurals and listed synonyms.
Nothing fuzzy.
"""

import functools
import re
from collections.abc import Sequence

from geometry_jax.reasons import Reason

# Surfaces and leftovers that no question may be about.
NOT_OBJECTS = frozenset({"wall", "floor", "ceiling", "otherprop", "otherfurniture"})
ARTICLES = ("the ", "a ", "an ", "this ", "that ")
# Words for the same thing, each group in both directions. A label of the scene always wins over a
# synonym of it.
SYNONYMS = (
    frozenset({"sofa", "couch"}),
    frozenset({"refrigerator", "fridge"}),
    frozenset({"tv", "television"}),
    frozenset({"bookshelf", "bookcase"}),
    frozenset({"bin", "trash can", "trash bin", "garbage can", "trashcan"}),
    frozenset({"stool", "footstool"}),
    frozenset({"plant", "potted plant"}),
    frozenset({"cabinet", "cupboard"}),
    frozenset({"nightstand", "night stand", "bedside table"}),
)

# Words that sentences are built of: with one of them inside a label, a sentence has two readings.
CONNECTIVES = frozenset(
    {"a", "an", "and", "from", "in", "is", "or", "relative", "that", "the", "this", "to", "when"}
)
ROLE = {"first": "1", "second": "2", "one": "1", "two": "2", "1st": "1", "2nd": "2"}
ROLE_WORD = "|".join(ROLE)
SPEAKABLE = re.compile(r"[a-z0-9][a-z0-9 '\-/]{0,39}")  # what a blank of a sentence may hold


def spoken(label: str) -> str:
    """A label as sentences write it: lower case, single blanks, no underscores."""
    return " ".join(label.lower().replace("_", " ").split())


def normalise(question: str) -> str:
    """Lower case, single blanks, images by number, nothing after the question mark."""
    text = " ".join(question.lower().replace("metres", "meters").split())
    text = re.sub(
        rf"\b(?:the )?({ROLE_WORD}) (?:image|picture|photo)\b",
        lambda m: f"image {ROLE[m[1]]}",
        text,
    )
    text = re.sub(
        rf"\b(?:image|picture|photo) ?#?({ROLE_WORD}|[12])\b",
        lambda m: f"image {ROLE.get(m[1], m[1])}",
        text,
    )
    return text.rstrip("?.! ")


@functools.lru_cache(maxsize=4096)
def askable(labels: tuple[str, ...]) -> frozenset[str]:
    """Those of a scene's distinct labels that a sentence can name without doubt, as object."""
    return frozenset(
        label
        for label in labels
        if SPEAKABLE.fullmatch(spoken(label))
        and _is_kept(spoken(label))
        and CONNECTIVES.isdisjoint(spoken(label).split())
        and resolve(spoken(label), labels) == label
        and resolve(plural(spoken(label)), labels) == label
    )


def _is_kept(name: str) -> bool:
    """Whether reading a sentence leaves the name as it is: `picture 2` would become an image."""
    return normalise(name) == name and normalise(plural(name)) == plural(name)


def plural(label: str) -> str:
    """The regular English plural, good enough for `resolve` to read back; `clothes` stays."""
    if label.endswith("s") and not label.endswith(("as", "is", "ss", "us")):
        return label
    if label.endswith(("s", "x", "z", "ch", "sh")):
        return f"{label}es"
    if label.endswith("y") and label[-2:-1] not in "aeiou":
        return f"{label[:-1]}ies"
    if label.endswith("shelf"):
        return f"{label[:-1]}ves"
    return f"{label}s"


def resolve(phrase: str, labels: Sequence[str]) -> str | Reason:
    """The scene's label that a phrase names.

    An exact label first, then its plural, then a listed synonym; a phrase that fits several labels
    (`Chair` and `chair` are two) is ambiguous, one that fits none is absent. `labels` are the
    distinct labels of the scene.
    """
    name = spoken(phrase)
    for article in ARTICLES:
        name = name.removeprefix(article)
    candidates = [label for label in labels if spoken(label) == name]
    if not candidates:
        candidates = [label for label in labels if plural(spoken(label)) == name]
    if not candidates:
        candidates = [
            label
            for label in labels
            for group in SYNONYMS
            if spoken(label) in group and any(name in (word, plural(word)) for word in group)
        ]
    if len(candidates) > 1:
        return Reason.AMBIGUOUS_LABEL
    if candidates:
        return _allowed(candidates[0])
    singular_surface = any(name in (word, plural(word)) for word in NOT_OBJECTS)
    return Reason.NOT_AN_OBJECT if singular_surface else Reason.ABSENT_LABEL


def _allowed(label: str) -> str | Reason:
    return Reason.NOT_AN_OBJECT if spoken(label) in NOT_OBJECTS else label
