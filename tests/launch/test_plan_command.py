"""The command's mistakes are sentences. tests/test_plan.py has what it computes."""

import subprocess
import sys
from pathlib import Path


def test_a_model_of_no_known_size_is_said_in_a_sentence(repository: Path) -> None:
    line = [sys.executable, "-m", "launch.plan", "--config=configs/spatialevo_3b.py"]
    line += ["--topology=v5e:4x4", "--config.model=runs/mine"]
    done = subprocess.run(line, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("launch.plan: runs/mine: expected one of tiny, qwen2_5_vl_3b")
    assert done.stderr.count("\n") == 1
