"""The launch files of clusters: they parse, and what they pass is what launch.train takes."""

import re
import subprocess
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
