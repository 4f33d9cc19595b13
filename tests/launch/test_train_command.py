"""What ends a run ends it in a sentence. In a process of its own, whose flags are given."""

import subprocess
import sys
from pathlib import Path

FAILING = """
from launch import errors, train
from spatialevo_jax.data import PictureError

def fail(run):
    raise PictureError("rooms/0.jpg: expected an image.")

train.loop.open_run = lambda *_, **__: None
train.loop.train = fail
errors.run(train.main)
"""


def test_pictures_that_are_gone_end_a_run_in_one_line(repository: Path, tmp_path: Path) -> None:
    flags = ("--config=configs/tiny_cpu.py", f"--workdir={tmp_path / 'run'}")
    command = [sys.executable, "-c", FAILING, *flags]
    ended = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].endswith(": rooms/0.jpg: expected an image.")
    assert "Traceback" not in ended.stderr
