"""What ends a run ends it in a sentence. In a process of its own, whose flags are given."""

import json
import subprocess
import sys
from pathlib import Path

OPENED = """
import types
from launch import errors, train
from spatialevo_jax.data import PictureError

def fail(run):
    raise PictureError("rooms/0.jpg: expected an image.")

def opened(config, workdir, *, tensorboard):
    return types.SimpleNamespace(summary=SUMMARY, records=types.SimpleNamespace(writer=True))

train.loop.open_run = opened
"""
FAILING = f"SUMMARY = None{OPENED}train.loop.train = fail\nerrors.run(train.main)\n"
FINISHED = (
    f"SUMMARY = {{'seed': 0}}{OPENED}"
    "train.loop.train = lambda run: run.summary\nerrors.run(train.main)\n"
)


def test_pictures_that_are_gone_end_a_run_in_one_line(repository: Path, tmp_path: Path) -> None:
    flags = ("--config=configs/tiny_cpu.py", f"--workdir={tmp_path / 'run'}")
    command = [sys.executable, "-c", FAILING, *flags]
    ended = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].endswith(": rooms/0.jpg: expected an image.")
    assert "Traceback" not in ended.stderr


def test_a_finished_run_says_so_in_one_line_beside_its_summary(
    repository: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    flags = ("--config=configs/tiny_cpu.py", f"--workdir={folder}")
    command = [sys.executable, "-c", FINISHED, *flags]
    ended = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout) == {"seed": 0}
    assert f"{folder}: all 910 steps are done, nothing is left to do." in ended.stderr


COMPLAINING = """
import asyncio
from launch import errors

class Complaint:
    def __init__(self, text):
        self.text = text

    def __del__(self):
        raise RuntimeError(self.text)

async def failing():
    raise OSError("once more")

async def forgotten():
    asyncio.ensure_future(failing())
    await asyncio.sleep(0)

errors.hush_orbax()
Complaint("Event loop is closed")
Complaint("of another kind")
asyncio.run(forgotten())
"""


def test_what_a_failed_checkpoint_leaves_behind_does_not_hide_the_sentence(
    repository: Path,
) -> None:
    """On a full disk each write that orbax had begun would print a traceback."""
    ended = subprocess.run(
        [sys.executable, "-c", COMPLAINING],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "RuntimeError: of another kind" in ended.stderr
    assert "Event loop is closed" not in ended.stderr and "once more" not in ended.stderr
