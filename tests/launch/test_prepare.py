"""The command that prepares rooms: resumes, repeats exactly, and says what is wrong."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from absl.testing import flagsaver
from PIL import Image

from geometry_jax import scene_io
from launch import prepare
from launch.errors import UserError

SMALL = {"frames": 4, "image_size": "48x48", "count": 2, "val_count": 1, "workers": 1}


def command(out: Path, **values: object) -> None:
    of_rooms = SMALL if values.get("dataset", "rooms") == "rooms" else {}
    with flagsaver.flagsaver(out=str(out), **(of_rooms | values)):
        prepare.main(["prepare"])


def stamps(root: Path) -> dict[str, int]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in files}


def contents(root: Path) -> dict[str, bytes]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def rooms_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "rooms"
    command(out)
    return out


def test_both_splits_are_written_with_rooms_of_their_own(rooms_dir: Path) -> None:
    assert scene_io.list_scenes(rooms_dir, "train") == ("scene0000_00", "scene0001_00")
    assert scene_io.list_scenes(rooms_dir, "val") == ("scene5000_00",)
    areas = {
        float(scene_io.load_scene(rooms_dir, name).scene.floor_area)
        for name in ("scene0000_00", "scene0001_00", "scene5000_00")
    }
    assert len(areas) == 3


def test_finished_rooms_are_kept_and_missing_ones_made(
    rooms_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = stamps(rooms_dir)
    kept = contents(rooms_dir)
    for path in (rooms_dir / "metadata" / "scene0001_00").glob("*.npz"):
        path.unlink()  # as if it had been killed there
    command(rooms_dir)
    after = stamps(rooms_dir)
    assert contents(rooms_dir) == kept
    assert all(after[name] == before[name] for name in before if "scene0001" not in name)
    assert after["train/scene0001_00/color/0.jpg"] > before["train/scene0001_00/color/0.jpg"]
    assert "done 1, skipped 2" in capsys.readouterr().out


def test_number_of_workers_changes_no_byte(
    rooms_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "WORTH_A_WORKER", 1)
    command(tmp_path / "rooms", workers=2)
    assert contents(tmp_path / "rooms") == contents(rooms_dir)


def test_another_seed_makes_other_rooms(rooms_dir: Path, tmp_path: Path) -> None:
    command(tmp_path / "rooms", seed=1, count=1, val_count=0)
    name = "metadata/scene0000_00/scene0000_00.json"
    assert (tmp_path / "rooms" / name).read_bytes() != (rooms_dir / name).read_bytes()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": 5}, "another recipe .seed: 0 there, 5 asked.; choose another --out"),
        ({"frames": 6}, "frames: 4 there, 6 asked"),
        ({"image_size": "64x48"}, "width: 48 there, 64 asked"),
    ],
)
def test_one_folder_holds_one_recipe(
    rooms_dir: Path, values: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        command(rooms_dir, **values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dataset": "scannet"}, "--raw: expected the folder of the raw scannet data, got nothing"),
        (
            {"dataset": "scannet", "raw": "nowhere", "raw_format": "scannet"},
            "--raw_format is for --dataset=rooms, got --dataset=scannet",
        ),
        (
            {"dataset": "arkitscenes", "raw": "nowhere", "camera": "iphone"},
            "--camera is for --dataset=scannetpp, got --dataset=arkitscenes",
        ),
        (
            {"dataset": "scannet", "raw": "nowhere", "drop": ["chairs"]},
            "expected groups of object, storage, structure, body, vague, got chairs",
        ),
        (
            {"dataset": "scannet", "raw": "nowhere", "host_index": 2, "host_count": 2},
            "--host_index: expected less than --host_count=2, got 2",
        ),
        ({"dataset": "scannet", "raw": "nowhere"}, "nowhere: expected a folder of ScanNet scans"),
        ({"raw_format": "scannet", "contact_sheet": "a.png"}, "--raw_format makes none"),
        ({"raw_format": "scannet", "preview": True}, "--preview: expected unified scenes"),
        ({"scans": ["scene0001_00"]}, "--scans is for raw data, got --dataset=rooms"),
        ({"raw": "somewhere"}, "--raw is for raw data, got --dataset=rooms"),
        ({"host_count": 2}, "--host_count is for raw data, got --dataset=rooms"),
        ({"camera": "dslr"}, "--camera is for raw data, got --dataset=rooms"),
        (
            {"dataset": "scannet", "raw": "nowhere", "frames": 16},
            "--frames is for --dataset=rooms, got --dataset=scannet",
        ),
        ({"image_size": "big"}, "expected WIDTHxHEIGHT such as 112x112, got 'big'"),
        ({"image_size": "47x48"}, "expected even numbers, got 47x48"),
        ({"contact_sheet": "sheet.txt"}, "ends in .png, got sheet.txt"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        command(tmp_path / "rooms", **values)
    assert not (tmp_path / "rooms").exists()


def test_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="is not empty and holds no rooms"):
        command(tmp_path)
    assert stamps(tmp_path).keys() == {"thesis.tex"}


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_spoilt_recipe_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "rooms.json").write_text(text)
    with pytest.raises(UserError, match=r"rooms\.json|another recipe"):
        command(tmp_path)


def test_contact_sheet_shows_the_rooms(rooms_dir: Path, tmp_path: Path) -> None:
    command(rooms_dir, contact_sheet=str(tmp_path / "new" / "sheet.png"))
    with Image.open(tmp_path / "new" / "sheet.png") as sheet:
        assert sheet.width > 4 * 224 and sheet.height > 3 * 224


def test_rooms_have_previews_too(rooms_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(rooms_dir, tmp_path / "rooms")
    command(tmp_path / "rooms", preview=True)
    names = {path.stem for path in (tmp_path / "rooms" / "preview").glob("*.png")}
    assert names == {"scene0000_00", "scene0001_00", "scene5000_00"}
    with Image.open(tmp_path / "rooms" / "preview" / "scene0000_00.png") as sheet:
        assert sheet.width >= 1600


def test_contact_sheet_without_rooms_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one room"):
        command(tmp_path / "rooms", count=0, val_count=0, contact_sheet=str(tmp_path / "a.png"))


def test_command_line_mistakes_end_with_a_sentence_and_a_code(
    repository: Path, tmp_path: Path
) -> None:
    line = [sys.executable, "-m", "launch.prepare", f"--out={tmp_path / 'x'}", "--dataset=scannet"]
    done = subprocess.run(line, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.strip().splitlines() == [
        "launch.prepare: --raw: expected the folder of the raw scannet data, got nothing."
    ]


def test_recipe_is_written_beside_the_rooms(rooms_dir: Path) -> None:
    recipe = json.loads((rooms_dir / "rooms.json").read_text())
    assert recipe["seed"] == 0 and recipe["frames"] == 4


def test_lived_in_rooms_have_a_recipe_of_their_own(tmp_path: Path) -> None:
    lived_in = {"style": "lived_in", "image_size": "96x72", "count": 1, "val_count": 0}
    command(tmp_path / "rooms", **lived_in)
    record = scene_io.load_scene(tmp_path / "rooms", "scene0000_00")
    assert "door" in record.labels and len(record.object_ids) >= 8
    with pytest.raises(UserError, match="another recipe \\(style: lived_in there, None asked"):
        command(tmp_path / "rooms", **(lived_in | {"style": "plain"}))
    with pytest.raises(UserError, match="--contact_sheet has the colours of plain rooms"):
        command(tmp_path / "others", **lived_in, contact_sheet=str(tmp_path / "sheet.png"))
