"""The card of a set, as the `datasets` library reads it."""

from pathlib import Path

import datasets

from spatialevo_jax.qa import card, shards
from spatialevo_jax.qa.recipe import Recipe
from spatialevo_jax.qa.summary import Summary

NOTHING = {"objects": [], "points_world": [], "numbers": []}


def row(number: int, options: list[str]) -> shards.Row:
    """An open row says nothing of its options, margin, roles and evidence."""
    full = dict.fromkeys(shards.FIELDS, "x") | {"id": str(number), "images": ["a/b.jpg"]}
    full |= {"labels": [], "roles": [], "evidence": NOTHING, "margin": None, "valid": True}
    if options:
        numbers = {"objects": [1], "points_world": [[0.0, 1.0, 2.0]], "numbers": [0.5]}
        full |= {"labels": ["bed"], "roles": [2], "evidence": numbers, "margin": 1.5}
    return full | {"options": options, "correct": len(options) - 1}


def summary() -> Summary:
    """Of two rows, of which nothing is counted."""
    none: dict = {}
    return Summary(
        Recipe(2, "own", formats=("jsonl",)), (), {"train": 2}, {"train": 1}, none, none, none,
        none, none, 1, 2, (), 0, none,
    )  # fmt: skip


def test_a_set_without_any_answer_has_a_card(tmp_path: Path) -> None:
    card.write_card(tmp_path, summary())
    assert (tmp_path / card.NAME).is_file() and len(list((tmp_path / card.FOLDER).iterdir())) == 2


def test_columns_that_are_empty_in_the_first_shard_have_their_type(tmp_path: Path) -> None:
    out = tmp_path / "set"
    shards.write_shard(out, "train", 0, [row(0, [])], ["jsonl"])
    shards.write_shard(out, "train", 1, [row(1, ["left", "right"])], ["jsonl"])
    (out / card.NAME).write_text(card.text(summary()), encoding="utf-8")
    read = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "card"))["train"]
    assert read["options"][:] == [[], ["left", "right"]] and read["margin"][:] == [None, 1.5]
    features = datasets.Features.from_dict(shards.features())
    files = f"{out}/jsonl/train-*.jsonl"
    cache = str(tmp_path / "json")
    plain = datasets.load_dataset("json", data_files=files, features=features, cache_dir=cache)
    assert plain["train"][:] == read[:]
