"""One vocabulary for all data sets: what an annotator wrote -> the label of a unified scene.

The table `labels.csv` has a row for each spelling: `source_label` (normalised), `label` (as
VSI-Bench spells it: `trash bin`, `refrigerator`, `nightstand`, `tv`) and the label's `group`. One
spelling means one thing whichever data set it comes from, so there is one look-up.
"""

import csv
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).with_name("labels.csv")
COLUMNS = ("source_label", "label", "group")
# object: things; storage: cabinets and shelves; structure: parts of the building; body: people;
# vague: annotations that name no thing, such as `object` or `remove`.
GROUPS = ("object", "storage", "structure", "body", "vague")
DROPPED = ("structure", "body", "vague")  # groups that are no objects of a scene


class Label(NamedTuple):
    """What the table says about a spelling."""

    label: str
    group: str
    known: bool  # False: not in the table; the label is the spelling itself, the group `object`


def normalise(source_label: str) -> str:
    """Lower case, `_` and `-` as blanks, single blanks."""
    return " ".join(source_label.lower().replace("_", " ").replace("-", " ").split())


@functools.cache
def table() -> Mapping[str, Label]:
    """All rows of `labels.csv`, by normalised spelling."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["source_label"]: Label(row["label"], row["group"], True) for row in rows}


def harmonise(source_label: str) -> Label:
    """The unified label of what an annotator wrote. A spelling that the table lacks stays as it is,
    normalised; one without any letter or digit is `vague`.
    """
    name = normalise(source_label)
    known = table().get(name)
    if known is not None:
        return known
    group = "object" if any(char.isalnum() for char in name) else "vague"
    return Label(name, group, False)
