"""The judge of killed runs, itself judged: it sees what differs, and when a process was killed."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import pytest

from launch import soak
from launch.errors import UserError
from spatialevo_jax.train import checkpoint
from tests.train.test_checkpoint import state_at, truncate, write

LINES = [{"step": 0, "seconds": 1.0, "time/update_s": 2.0, "speed/update": 3.0, "loss/total": 0.5}]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "whole"
    write(run / "checkpoints", state_at(4), state_at(5))
    for name in ("metrics.jsonl", "evaluations.jsonl", "samples.jsonl"):
        (run / name).write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return run


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def test_clocks_alone_may_differ(whole: Path, run: Path) -> None:
    line = LINES[0] | {"seconds": 9.0, "time/update_s": 9.0, "speed/update": 9.0}
    (run / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    soak.require_same(run, whole)


@pytest.mark.parametrize("name", ["metrics.jsonl", "evaluations.jsonl", "samples.jsonl"])
@pytest.mark.parametrize("text", ["", json.dumps(LINES[0] | {"loss/total": 0.6}) + "\n"])
def test_other_records_are_named(whole: Path, run: Path, name: str, text: str) -> None:
    (run / name).write_text(text)
    with pytest.raises(UserError, match=rf"{name}: line 1 differs"):
        soak.require_same(run, whole)


def test_another_number_of_the_state_is_named(whole: Path, run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    state = state_at(5)
    params = state.params | {"norm": state.params["norm"] + jnp.array([0, 0, 0, 1e-4])}
    write(run / "checkpoints", dataclasses.replace(state, params=params))
    with pytest.raises(UserError, match=r"\['params'\]\['norm'\] differs"):
        soak.require_same(run, whole)


def test_an_earlier_state_is_another(whole: Path, run: Path) -> None:
    truncate(run / "checkpoints" / "5")
    with pytest.raises(UserError, match=r"checkpoints/4/state: expected the step of .*/5/state"):
        soak.require_same(run, whole)


def sleeping(seconds: float) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({seconds})"])


def test_a_process_is_killed_or_was_faster(tmp_path: Path) -> None:
    slow, quick = sleeping(60), sleeping(0)
    assert soak.kill(slow, tmp_path, time.time(), 0.05)
    assert slow.returncode == -signal.SIGKILL
    assert not soak.kill(quick, tmp_path, time.time(), 60)


def test_a_kill_can_wait_for_a_checkpoint_that_is_being_written(tmp_path: Path) -> None:
    """Not for one that an earlier process left."""
    (tmp_path / "checkpoints").mkdir()
    left = tmp_path / "checkpoints" / f"3{checkpoint.UNFINISHED.replace('*', '')}"
    left.mkdir()
    since = time.time() + 0.001
    time.sleep(0.01)
    assert not soak.writing(left.parent, since)
    assert not soak.kill(sleeping(0.1), tmp_path, since, 0, into=0.0)
    left.rmdir()
    left.mkdir()
    assert soak.writing(left.parent, since)
    assert soak.kill(sleeping(60), tmp_path, since, 0, into=0.0)


def test_a_kill_can_wait_for_a_step(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(json.dumps(LINES[0]) + "\n")
    assert not soak.kill(sleeping(0.1), tmp_path, time.time(), 0, known=1)
    assert soak.kill(sleeping(60), tmp_path, time.time(), 0, known=0)
