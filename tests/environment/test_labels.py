"""Names: what a phrase means among the labels of a scene, and which labels a sentence can name."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.furniture import CATEGORIES
from geometry_jax.reasons import Reason
from spatialevo_jax.environment.labels import (
    CONNECTIVES,
    NOT_OBJECTS,
    SYNONYMS,
    askable,
    plural,
    resolve,
    spoken,
    vocabulary,
)

LABELS = ("chair", "Night_Stand", "bookshelf", "sofa", "trash can", "trash bin", "wall", "TV")


@pytest.mark.parametrize(
    ("phrase", "label"),
    [
        ("chair", "chair"),
        ("the chair", "chair"),
        ("CHAIRS", "chair"),
        ("a  chair ", "chair"),
        ("night stand", "Night_Stand"),
        ("the night stands", "Night_Stand"),
        ("bedside table", "Night_Stand"),  # a synonym
        ("bookshelves", "bookshelf"),
        ("bookcases", "bookshelf"),  # the plural of a synonym
        ("couch", "sofa"),
        ("television", "TV"),
        ("trash can", "trash can"),  # exact, though the bin is a synonym of it
        ("trash bins", "trash bin"),
    ],
)
def test_a_phrase_names_a_label(phrase: str, label: str) -> None:
    assert resolve(phrase, LABELS) == label


@pytest.mark.parametrize(
    ("phrase", "reason"),
    [
        ("unicorn", Reason.ABSENT_LABEL),
        ("chai", Reason.ABSENT_LABEL),  # nothing fuzzy
        ("armchair", Reason.ABSENT_LABEL),
        ("", Reason.ABSENT_LABEL),
        ("the", Reason.ABSENT_LABEL),
        ("garbage can", Reason.AMBIGUOUS_LABEL),  # the can or the bin
        ("wall", Reason.NOT_AN_OBJECT),
        ("the walls", Reason.NOT_AN_OBJECT),
        ("floor", Reason.NOT_AN_OBJECT),  # even where no label says so
    ],
)
def test_a_phrase_that_names_nothing_says_why(phrase: str, reason: Reason) -> None:
    assert resolve(phrase, LABELS) is reason


def test_labels_that_are_spoken_alike_are_ambiguous() -> None:
    assert resolve("night stand", ("night_stand", "Night Stand")) is Reason.AMBIGUOUS_LABEL
    assert resolve("café", ("caf\u00e9", "cafe\u0301")) is Reason.AMBIGUOUS_LABEL
    assert resolve("box", ("box", "box?")) is Reason.AMBIGUOUS_LABEL  # a sentence may end in it
    assert resolve("chairs", ("Chair", "chair")) is Reason.AMBIGUOUS_LABEL


def test_an_exact_label_wins_over_a_plural_and_a_plural_over_a_synonym() -> None:
    assert resolve("chairs", ("chair", "chairs")) == "chairs"
    assert resolve("couches", ("sofa", "couch")) == "couch"


@pytest.mark.parametrize("group", SYNONYMS, ids=lambda group: min(group))
def test_synonyms_hold_in_both_directions(group: frozenset[str]) -> None:
    for label in group:
        assert {resolve(word, (label,)) for word in group} == {label}
        assert {resolve(plural(word), (label,)) for word in group} == {label}


@pytest.mark.parametrize("surface", sorted(NOT_OBJECTS))
def test_a_surface_that_the_scene_lists_is_no_object(surface: str) -> None:
    assert resolve(surface, (surface, "chair")) is Reason.NOT_AN_OBJECT
    assert resolve(plural(surface), (surface, "chair")) is Reason.NOT_AN_OBJECT


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("chair", "chairs"),
        ("box", "boxes"),
        ("bench", "benches"),
        ("dish", "dishes"),
        ("glass", "glasses"),
        ("bus", "buses"),
        ("canvas", "canvases"),
        ("battery", "batteries"),
        ("toy", "toys"),
        ("bookshelf", "bookshelves"),
        ("kitchen knife", "kitchen knives"),
        ("mouse", "mice"),
        ("person", "people"),
        ("trash can", "trash cans"),
        ("clothes", "clothes"),
    ],
)
def test_plurals_by_hand(one: str, many: str) -> None:
    assert plural(one) == many


def test_labels_are_spoken_in_lower_case_with_single_blanks() -> None:
    assert spoken("  Night_Stand\t 2 ") == "night stand 2"


def test_whatever_the_rooms_hold_can_be_asked_about() -> None:
    labels = tuple(category.label for category in CATEGORIES)
    assert askable(labels) == set(labels)


@pytest.mark.parametrize(
    "label",
    [
        "wall",
        "lamp (left)",
        "x" * 41,
        "",
        "_",
        "tv, lamp",
        "-",
        "it\n?",
        "picture 2",
        "one photo",
        "parking metre",
    ],
)
def test_what_a_sentence_can_not_hold_is_not_asked_about(label: str) -> None:
    assert askable((label, "chair")) == {"chair"} - {label}


@pytest.mark.parametrize("word", sorted(CONNECTIVES))
def test_a_label_with_a_word_that_joins_others_is_not_asked_about(word: str) -> None:
    assert askable((f"table {word} chair", "chair")) == {"chair"}


@pytest.mark.parametrize("label", ["tüv", "椅子", "Straße", "salt & pepper", "t-shirt", "a/c unit"])
def test_letters_of_any_script_are_asked_about(label: str) -> None:
    assert askable((label, "chair")) == {label, "chair"}


@pytest.mark.parametrize("label", ["", " ", "_", "?", "-"])
def test_a_label_that_says_nothing_has_no_name(label: str) -> None:
    assert vocabulary((label, "bed")) == vocabulary(("bed",))


def test_a_label_whose_plural_is_another_label_is_not_asked_about() -> None:
    assert askable(("chair", "chairs", "lamp")) == {"chairs", "lamp"}
    assert askable(("chair", "Chair", "lamp")) == {"lamp"}


@settings(deadline=None, derandomize=True, database=None)
@given(st.text(max_size=30), st.lists(st.text(max_size=12), max_size=4))
def test_any_phrase_among_any_labels_is_one_of_them_or_a_reason(
    phrase: str, labels: list[str]
) -> None:
    found = resolve(phrase, labels)
    assert found in labels or found in (
        Reason.ABSENT_LABEL,
        Reason.AMBIGUOUS_LABEL,
        Reason.NOT_AN_OBJECT,
    )
    assert askable(tuple(labels)) <= set(labels)
