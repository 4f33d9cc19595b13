"""The same run on one device, on eight and in two processes, by the command of a user, of a policy
that is told what to say (`tests.sayings`), so that it earns rewards and learns.

Sampled texts are equal, token by token; losses and parameters to float32's rounding.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from spatialevo_jax.train import checkpoint

STEPS = 3
MESHES = [(8, 1, 1), (1, 8, 1), (2, 2, 2), (1, 4, 2)]
CONFIG = """
from pathlib import Path
from spatialevo_jax.config import *

CONFIG = TrainConfig(
    vocab_size=384,
    data=DataConfig(
        scenes=Path({rooms!r}),
        image_size=(56, 56),
        scene_frames=3,
        rows=(4, 2, 2),
        tasks=("distance_cam_obj", "attribute_measurement", "absolute_distance", "room_size"),
    ),
    warm_start=WarmStartConfig(
        steps=0, naming_steps=0, looking_steps=0, warmup_steps=0, rows=(4, 2, 2),
        questions=1, answers=1,
    ),
    rollout=RolloutConfig(
        questioner_samples=2, solver_samples=2, solver_prompts=8, questioner_tokens=8,
        solver_tokens=6, questioner_prompt=256, solver_prompt=256, prompt_bucket=256,
        reply_bucket=128,
    ),
    grpo=GrpoConfig(steps={steps}, warmup_steps=0, kl_coefficient=0.1),
    evaluation=EvaluationConfig(questions_per_task=2, every=10, batch=8),
    checkpoint_every=1,
)
"""


@pytest.fixture(scope="module")
def folder(rooms_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the configuration, and later the runs."""
    root = tmp_path_factory.mktemp("meshes")
    text = CONFIG.format(rooms=str(rooms_root), steps=STEPS)
    (root / "config.py").write_text(text, encoding="utf-8")
    return root


def start(folder: Path, run: str, devices: int, *flags: str) -> subprocess.Popen[str]:
    """`launch.train`, so spoken, in a process of its own with so many devices."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.sayings"),
            *(f"--config={folder / 'config.py'}", f"--workdir={folder / run}"),
            *flags,
        ],
        env={
            "PATH": os.environ["PATH"],
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": str(devices),
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # compiling is most of the time it takes
            "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
            "HF_HUB_OFFLINE": "1",
        },
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        _, said = process.communicate(timeout=900)
        assert process.returncode == 0, said[-3000:]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def last_state(run: Path) -> Any:
    """Of the last checkpoint, read onto this process's one device."""
    stored: Any = checkpoint.latest_folder(run)
    handler = ocp.PyTreeCheckpointHandler()
    tree: Any = handler.metadata(stored).tree
    whole = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    with ocp.Checkpointer(handler) as reader:
        return reader.restore(stored, args=ocp.args.PyTreeRestore(restore_args=whole))


def assert_same_run(found: Path, expected: Path) -> None:
    if (expected / "samples.jsonl").is_file():
        assert lines(found / "samples.jsonl") == lines(expected / "samples.jsonl")
    for a, b in zip(lines(found / "metrics.jsonl"), lines(expected / "metrics.jsonl"), strict=True):
        assert a.keys() == b.keys()
        for name, value in b.items():
            if isinstance(value, float) and not re.match(
                r"time/|seconds|speed/|policy/logprob", name
            ):
                assert a[name] == pytest.approx(value, rel=1e-5, abs=2e-6), (b["step"], name)

    def close(path: Any, a: Any, b: Any) -> None:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        # As whole tensors, moments of the gradient among them. A bias began at 0, so that all of
        # it is what Adam added: it moves an entry whose gradient is rounding as far as any other.
        tolerance = 1e-2 if re.match(r"(params|reference)\..*\.bias$", name) else 1e-5
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b) + 1e-12, name

    jax.tree_util.tree_map_with_path(close, last_state(found), last_state(expected))


@pytest.fixture(scope="module")
def alone(folder: Path) -> Path:
    """The run on one device."""
    finish(start(folder, "alone", 1))
    run = folder / "alone"
    metrics = lines(run / "metrics.jsonl")
    assert [line["step"] for line in metrics] == list(range(STEPS))
    # Otherwise there would be little to compare.
    for line in metrics:
        assert line["solver/questions"] > 0 and line["optimizer/update_norm"] > 0
        assert line["reward_std/questioner"] > 0 and line["reward_std/solver"] > 0
    return run


@pytest.mark.parametrize("mesh", MESHES, ids=lambda mesh: "x".join(map(str, mesh)))
def test_eight_devices_do_what_one_does(
    folder: Path, alone: Path, mesh: tuple[int, int, int]
) -> None:
    data, fsdp, tensor = mesh
    name = f"mesh{data}{fsdp}{tensor}"
    axes = (f"data={data}", f"fsdp={fsdp}", f"tensor={tensor}")
    finish(start(folder, name, 8, *(f"--config.mesh.{axis}" for axis in axes)))
    assert_same_run(folder / name, alone)


def test_a_warm_start_on_eight_devices_does_what_one_does(folder: Path) -> None:
    """Without sampled texts after it: Muon, which orthogonalises, amplifies rounding."""
    flags = ("--config.warm_start.steps=2", "--config.grpo.steps=0")
    mesh = ("--config.mesh.data=2", "--config.mesh.tensor=2")
    finish(start(folder, "warm1", 1, *flags), start(folder, "warm8", 8, *flags, *mesh))
    assert len(lines(folder / "warm1" / "metrics.jsonl")) == 2
    assert_same_run(folder / "warm8", folder / "warm1")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start_two(folder: Path, run: str) -> list[subprocess.Popen[str]]:
    address = f"--coordinator_address=127.0.0.1:{free_port()}"
    return [
        start(folder, run, 4, address, "--num_processes=2", f"--process_id={number}")
        for number in range(2)
    ]


@pytest.mark.parametrize("killed", [1])
def test_two_processes_of_which_one_is_killed_go_on_and_do_what_one_device_does(
    folder: Path, alone: Path, killed: int
) -> None:
    """The other one ends at once and says why; started again, they end as if nothing happened."""
    run = folder / f"two{killed}"
    processes = start_two(folder, run.name)
    metrics = run / "metrics.jsonl"
    while not (metrics.is_file() and metrics.read_bytes().count(b"\n") > 0):
        assert all(process.poll() is None for process in processes), processes[0].communicate()
        time.sleep(0.02)
    processes[killed].send_signal(signal.SIGKILL)
    _, said = processes[1 - killed].communicate(timeout=60)
    processes[killed].communicate()
    assert processes[1 - killed].returncode == 3, said[-3000:]
    assert re.search(r"process 0 of 2 lost touch with another one.* Start all of them again", said)
    assert "Traceback" not in said
    assert not (run / "summary.json").exists()
    finish(*start_two(folder, run.name))
    assert_same_run(run, alone)
    assert (run / "summary.json").is_file()


def test_the_published_order_takes_several_updates_and_one_step(folder: Path, alone: Path) -> None:
    """The Questioner's first, then the Solver's in parts. Without a bonus on the entropy the loss
    before any update is none, whatever its parts.
    """
    bonus = 0.1
    flags = ("--config.grpo.two_pass=2", f"--config.grpo.entropy_weight={bonus}")
    finish(start(folder, "two_pass", 1, *flags))
    found, joint = (lines(run / "metrics.jsonl") for run in (folder / "two_pass", alone))
    assert [line["step"] for line in found] == list(range(STEPS))
    asked = joint[0]["loss/questioner"] - bonus * joint[0]["policy/entropy_questioner"]
    assert found[0]["loss/questioner"] == pytest.approx(asked, abs=2e-6)  # before any update
    assert found[1]["optimizer/update_norm"] > 0
    for line in found:
        assert line["loss/total"] == pytest.approx(
            line["loss/questioner"] + line["loss/solver"], rel=1e-5
        )
        assert line["loss/total"] < -bonus and line["optimizer/skipped"] == 0
