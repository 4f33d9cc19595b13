"""Which rooms are held out: by their names alone."""

from pathlib import Path

import pytest

from spatialevo_jax.qa.blocks import lot, make_blocks, splits_of
from spatialevo_jax.qa.recipe import Recipe

RECIPE = Recipe(count=1, source="own", validation_share=0.2)


def scenes(root: Path, names: list[str], folder: str = "train") -> Path:
    for name in names:
        (root / folder / name).mkdir(parents=True)
        (root / "metadata" / name).mkdir(parents=True)
        (root / "metadata" / name / f"{name}.json").touch()
    return root


def test_rooms_that_come_later_move_none_of_those_before(tmp_path: Path) -> None:
    names = [f"scene{i:04d}_00" for i in range(60)]
    before = splits_of(scenes(tmp_path, names[20:40]), RECIPE)
    scenes(tmp_path, names[:20])
    after = splits_of(scenes(tmp_path, names[40:]), RECIPE)
    assert before.items() <= after.items() and set(before.values()) == {"train", "validation"}


def test_the_share_is_that_of_many_rooms() -> None:
    held = [[lot(f"scene{i:04d}", seed) < 0.2 for i in range(1000)] for seed in range(3)]
    assert all(0.16 < sum(one) / 1000 < 0.24 for one in held)
    both = sum(a and b for a, b in zip(held[0], held[1], strict=True))
    assert 15 < both < 65  # another seed holds out others


def test_all_scans_of_a_room_are_held_out_together(tmp_path: Path) -> None:
    names = [f"scene{i:04d}_{scan:02d}" for i in range(20) for scan in range(3)]
    splits = splits_of(scenes(tmp_path, names), RECIPE)
    assert all(splits[name] == splits[f"{name[:-2]}00"] for name in names)
    scenes(tmp_path, ["scene0001_03"], "val")
    assert splits_of(tmp_path, RECIPE)["scene0001_00"] == "validation"


def test_few_rooms_of_which_none_is_held_out_are_an_error_that_says_which_share_is_one(
    tmp_path: Path,
) -> None:
    names = ["a", "b", "c"]
    least = min(lot(name, 0) for name in names)
    scenes(tmp_path, names)
    few = Recipe(count=1, source="own", validation_share=0.9 * least)
    with pytest.raises(ValueError, match=f"expected more than {least:.4f}"):
        make_blocks(tmp_path, few)
    more = Recipe(count=1, source="own", validation_share=least + 1e-4)
    assert [block.split for block in make_blocks(tmp_path, more)] == ["train", "validation"]
    most = Recipe(count=1, source="own", validation_share=0.9999)
    with pytest.raises(ValueError, match="holds out all"):
        make_blocks(tmp_path, most)
