"""The doctor as a command: words or JSON lines, and an exit code to rely on."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from absl.testing import flagsaver

from data_pipelines.findings import CURES
from launch import doctor
from launch.errors import UserError


def command(root: Path, **values: object) -> int:
    with flagsaver.flagsaver(scenes=str(root), **values):
        return doctor.main(["doctor"])


@pytest.fixture
def spoiled(rooms_root: Path, tmp_path: Path) -> Path:
    """Three rooms; in one of them the poses are inverted."""
    root = tmp_path / "rooms"
    shutil.copytree(rooms_root, root)
    (root / "metadata" / "scene0001_00" / "scene0001_00.npz").unlink()
    for path in (root / "train" / "scene0001_00" / "pose").iterdir():
        np.savetxt(path, np.linalg.inv(np.loadtxt(path)), fmt="%.8f")
    return root


def test_good_scenes_are_a_line_each(rooms_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(rooms_root) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        f"{name}: good" for name in ("scene0000_00", "scene0001_00", "scene5000_00")
    ]
    assert lines[-1] == "3 scenes: 3 good, 0 with findings"


def test_a_bad_scene_is_told_with_its_cure(
    spoiled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(spoiled) == 1
    printed = capsys.readouterr().out
    assert "scene0001_00: 1 found\n  pose_inverted (all frames): " in printed
    assert CURES["pose_inverted"] in printed
    assert "3 scenes: 2 good, 1 with findings\n     1  pose_inverted\n" in printed


def test_json_is_one_object_a_scene(spoiled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(spoiled, json=True) == 1
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["split"], one["scene_id"], one["good"]) for one in records] == [
        ("train", "scene0000_00", True),
        ("train", "scene0001_00", False),
        ("val", "scene5000_00", True),
    ]
    (finding,) = records[1]["findings"]
    assert finding["code"] == "pose_inverted" and finding["cure"] == CURES["pose_inverted"]
    assert set(finding) == {"code", "where", "what", "cure"}


def test_one_scene_can_be_asked_for(spoiled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(spoiled, scene="scene0000_00") == 0
    assert "1 scenes: 1 good" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"scene": "scene7777_00"}, r"expected a scene 'scene7777_00', found none"),
        ({"scene": "../x"}, r"expected a scene '\.\./x', found none"),
    ],
)
def test_a_scene_that_is_not_there_is_one_sentence(
    rooms_root: Path, values: dict[str, str], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        command(rooms_root, **values)


def test_a_folder_without_scenes_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected scenes in train/ or val/, found none"):
        command(tmp_path)
    with pytest.raises(UserError, match=r"--scenes: expected a folder of scenes, found no \S+re\."):
        command(tmp_path / "nowhere")


def test_exit_code_is_one_where_something_was_found(tmp_path: Path) -> None:
    (tmp_path / "train" / "scene0000_00").mkdir(parents=True)
    asked = [sys.executable, "-m", "launch.doctor", f"--scenes={tmp_path}"]
    done = subprocess.run(asked, capture_output=True, text=True)
    assert done.returncode == 1 and "missing_file" in done.stdout
    assert "Traceback" not in done.stderr
