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
SPEAKABLE = re.compile(r"[a-z0-9][a-z0-9 '\-/]{0,39}")  # what a blank of a sentence may hold


def spoken(label: str) -> str:
    """A label as sentences write it: lower case, single blanks, no underscores."""
    return " ".join(label.lower().replace("_", " ").split())


@functools.lru_cache(maxsize=4096)
def askable(labels: tuple[str, ...]) -> frozenset[str]:
    """Those of a scene's distinct labels that a sentence can name without doubt, as object."""
    return frozenset(
        label
        for label in labels
        if SPEAKABLE.fullmatch(spoken(label))
        and CONNECTIVES.isdisjoint(spoken(label).split())
        and resolve(spoken(label), labels) == label
        and resolve(plural(spoken(label)), labels) == label
    )


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
