"""From a phrase of the question to a label of the scene: exact names, plurals and listed synonyms.
Nothing fuzzy.
"""

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


def plural(label: str) -> str:
    """The regular English plural, good enough to be read back by `singulars`."""
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
    is ambiguous, one that fits none is absent. `labels` are the distinct labels of the scene.
    """
    name = " ".join(phrase.lower().replace("_", " ").split())
    for article in ARTICLES:
        name = name.removeprefix(article)
    readable = {" ".join(label.lower().replace("_", " ").split()): label for label in labels}
    if name in readable:
        return _allowed(readable[name])
    candidates = [label for spoken, label in readable.items() if plural(spoken) == name]
    if not candidates:
        candidates = [
            label
            for spoken, label in readable.items()
            for group in SYNONYMS
            if spoken in group and any(name in (word, plural(word)) for word in group)
        ]
    if len(candidates) > 1:
        return Reason.AMBIGUOUS_LABEL
    if candidates:
        return _allowed(candidates[0])
    singular_surface = any(name in (word, plural(word)) for word in NOT_OBJECTS)
    return Reason.NOT_AN_OBJECT if singular_surface else Reason.ABSENT_LABEL


def _allowed(label: str) -> str | Reason:
    return Reason.NOT_AN_OBJECT if label.lower() in NOT_OBJECTS else label
