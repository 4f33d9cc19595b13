"""The table of labels: one vocabulary, whatever data set a spelling comes from."""

import csv

import pytest

from data_pipelines import labels
from spatialevo_jax.environment.labels import askable, plural, resolve

ARKIT = ("cabinet", "refrigerator", "shelf", "stove", "bed", "sink", "washer", "toilet", "bathtub")
ARKIT += ("oven", "dishwasher", "fireplace", "stool", "chair", "table", "tv_monitor", "sofa")
# Spellings of the same thing in the three data sets, and its name in VSI-Bench.
SAME = {
    "trash bin": ("trash can", "trashcan", "Trash Bin", "garbage bin", "recycling bin"),
    "refrigerator": ("refridgerator", "fridge", "mini fridge", "refrigerator"),
    "nightstand": ("night stand", "nightstand", "bedside table", "night_stand"),
    "tv": ("tv_monitor", "television", "tv", "TV screen"),
    "sofa": ("couch", "sofa"),
    "washer": ("washing machine", "washer", "washing_machine"),
    "chair": ("office chair", "Office  Chair", "armchair", "office_chair"),
    "cup": ("mug", "cup", "coffee mug"),
    "ceiling light": ("ceiling lamp", "ceiling light"),
    "table": ("desk", "coffee table", "table"),
    "cabinet": ("kitchen cabinet", "storage cabinet", "cabinet"),
    "shelf": ("shelf", "shelves", "wall shelf"),
    "stool": ("stool", "footstool"),
}


def rows() -> list[dict[str, str]]:
    with labels.TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("label", SAME)
def test_spellings_of_one_thing_get_one_label(label: str) -> None:
    assert {labels.harmonise(spelling).label for spelling in SAME[label]} == {label}


def test_all_labels_of_arkitscenes_are_known_and_kept() -> None:
    for source_label in ARKIT:
        found = labels.harmonise(source_label)
        assert found.known and found.group not in labels.DROPPED, source_label


def test_table_is_sound() -> None:
    table = rows()
    spellings = [row["source_label"] for row in table]
    assert tuple(table[0]) == labels.COLUMNS
    assert spellings == sorted(set(spellings))
    group_of: dict[str, str] = {}
    for row in table:
        assert all(value for value in row.values()), row
        assert labels.normalise(row["source_label"]) == row["source_label"]
        assert row["group"] in labels.GROUPS
        assert group_of.setdefault(row["label"], row["group"]) == row["group"], row
    for label in group_of:  # a label is its own spelling: harmonising twice changes nothing
        assert labels.harmonise(label).label == label


def test_questions_can_name_every_label_beside_all_the_others() -> None:
    kept = {row["label"] for row in rows() if row["group"] not in labels.DROPPED}
    vocabulary = tuple(sorted(kept))
    assert askable(vocabulary) == kept
    for label in vocabulary:
        assert resolve(f"the {label}", vocabulary) == label
        assert resolve(plural(label), vocabulary) == label


@pytest.mark.parametrize("source_label", ["wall", "Floor", "ceiling", "shower walls", "door frame"])
def test_parts_of_the_building_are_no_objects(source_label: str) -> None:
    assert labels.harmonise(source_label).group == "structure"


@pytest.mark.parametrize("source_label", ["remove", "SPLIT", "object", "reflection", "  ", "??"])
def test_words_that_name_no_thing_are_vague(source_label: str) -> None:
    assert labels.harmonise(source_label).group == "vague"


@pytest.mark.parametrize("source_label", ["cabinet", "shelf", "kitchen cabinets", "bookshelf"])
def test_cabinets_and_shelves_are_kept(source_label: str) -> None:
    assert labels.harmonise(source_label).group == "storage"
    assert "storage" not in labels.DROPPED


def test_unknown_spelling_stays_and_says_so() -> None:
    assert labels.harmonise("Lava_Lamp-Stand") == labels.Label("lava lamp stand", "object", False)
