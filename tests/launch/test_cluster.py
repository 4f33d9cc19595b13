"""The launch files of clusters: they parse, and what they pass is what launch.train takes."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

FILES = ("slurm.sbatch", "jobset.yaml", "xpk.sh", "hosts.sh", "local.sh")


@pytest.fixture(scope="module")
def known(repository: Path) -> set[str]:
    """The flags of launch.train, of its own file and of the configuration."""
    source = (repository / "launch/train.py").read_text(encoding="utf-8")
    return {*re.findall(r'DEFINE_\w+\(\s*"(\w+)"', source), "config"}


@pytest.mark.parametrize("name", FILES)
def test_a_file_starts_training_with_flags_that_exist(
    repository: Path, known: set[str], name: str
) -> None:
    text = (repository / "launch/cluster" / name).read_text(encoding="utf-8")
    assert "launch.train" in text
    own = text[text.index("launch.train", text.index("set -euo") if "set -euo" in text else 0) :]
    passed = set(re.findall(r"--(\w+)(?==|$|\s)", own)) - {"command"}
    assert {"workdir", "config"} <= passed <= known
    assert {"coordinator_address", "num_processes", "process_id"} <= passed or (
        "distributed" in passed
    )


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith("yaml")])
def test_a_script_is_one_that_bash_reads(repository: Path, name: str) -> None:
    script = repository / "launch/cluster" / name
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_file_is_in_the_table(repository: Path) -> None:
    folder = repository / "launch/cluster"
    table = (folder / "README.md").read_text(encoding="utf-8")
    assert {path.name for path in folder.iterdir()} == {*FILES, "README.md"}
    assert all(f"`{name}`" in table for name in FILES)


@pytest.fixture
def started(repository: Path, tmp_path: Path) -> Callable[[str], subprocess.Popen[bytes]]:
    """Starts local.sh with two processes, each of which does what a script says of its $number."""

    def start(does: str) -> subprocess.Popen[bytes]:
        stub = tmp_path / "python"
        stub.write_text(f'#!/usr/bin/env bash\nlast="${{!#}}"\nnumber="${{last: -1}}"\n{does}\n')
        stub.chmod(0o755)
        script = repository / "launch/cluster/local.sh"
        # A shell's background job ignores SIGINT, and so would what it starts.
        hears = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
        hears += "os.execvp('bash', ['bash', *sys.argv[1:]])"
        return subprocess.Popen(
            [sys.executable, "-c", hears, str(script), "2", "config.py", str(tmp_path)],
            env={**os.environ, "PYTHON": str(stub)},
            cwd=tmp_path,
        )

    return start


@pytest.mark.parametrize("failing", [0, 1])
def test_one_machine_fails_with_the_process_that_failed(
    started: Callable[[str], subprocess.Popen[bytes]], failing: int
) -> None:
    """Whichever it is, and whichever ends first."""
    assert started(f"if [ $number = {failing} ]; then exit 3; fi; sleep 0.3").wait(20) == 3
    assert started(f"if [ $number = {failing} ]; then sleep 0.3; exit 3; fi").wait(20) == 3
    assert started("exit 0").wait(20) == 0


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_one_machine_that_is_told_to_stop_tells_its_processes_and_waits_for_them(
    started: Callable[[str], subprocess.Popen[bytes]],
    tmp_path: Path,
    told: signal.Signals,
) -> None:
    saving = "trap 'sleep 0.3; touch saved$number; exit 143' TERM"
    run = started(f"{saving}; touch on$number; sleep 5 & wait")
    while not all((tmp_path / f"on{number}").exists() for number in (0, 1)):
        time.sleep(0.05)
    run.send_signal(told)
    assert run.wait(20) == 143
    assert all((tmp_path / f"saved{number}").exists() for number in (0, 1))
