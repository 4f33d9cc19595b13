"""A whole run on three small rooms: it ends, it resumes to the same numbers, it compiles once."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from geometry_jax.tasks import TASKS
from spatialevo_jax.config import (
    DataConfig,
    EvaluationConfig,
    GrpoConfig,
    RolloutConfig,
    TrainConfig,
    WarmStartConfig,
)
from spatialevo_jax.rollout import decode
from spatialevo_jax.train import checkpoint, loop
from spatialevo_jax.train.records import Records
from spatialevo_jax.train.setup import Setup

WARM, EVOLVE = 3, 4
STOPS = (1, 5)  # once in each phase


class Stopped(Exception):
    """Stands for a process that is killed."""


@dataclasses.dataclass
class Seen:
    """What a run did, as its neighbours saw it."""

    params: Any = None  # after the last step
    programs: list[int] = dataclasses.field(default_factory=list)  # compiled so far, by step


def config_of(rooms_root: Path) -> TrainConfig:
    return TrainConfig(
        vocab_size=384,
        data=DataConfig(scenes=rooms_root, image_size=56, scene_frames=3, rows=(1, 1, 1)),
        warm_start=WarmStartConfig(
            steps=WARM,
            naming_steps=1,
            naming_rows=(2, 0, 0),
            looking_steps=2,
            looking_rows=(0, 1, 0),
            warmup_steps=1,
            rows=(1, 1, 1),
            questions=1,
            answers=2,
        ),
        rollout=RolloutConfig(
            questioner_samples=2,
            solver_samples=2,
            solver_prompts=3,
            questioner_tokens=8,
            solver_tokens=6,
            questioner_prompt=320,
            solver_prompt=320,
            prompt_bucket=384,
        ),
        grpo=GrpoConfig(steps=EVOLVE, warmup_steps=1),
        evaluation=EvaluationConfig(questions_per_task=1, every=2, batch=len(TASKS)),
        checkpoint_every=1,
    )


def train(config: TrainConfig, workdir: Path, *, stop_before: int | None = None) -> Seen:
    """One try of a run; it is stopped when the records of step `stop_before` are written."""
    seen, managers, steps = Seen(), [], []
    generate: Any = decode.generate
    with pytest.MonkeyPatch.context() as patch:
        save, open_manager, record = checkpoint.save, checkpoint.manager, Records.metrics
        make_steps = loop.Steps

        def watched_save(checkpoints: Any, state: Any) -> None:
            seen.params = jax.device_get(state.params)
            save(checkpoints, state)

        def watched_manager(folder: Path, *, kept: int) -> Any:
            managers.append(open_manager(folder, kept=kept))
            return managers[-1]

        def watched_steps(setup: Setup) -> Any:
            steps.append(make_steps(setup))
            return steps[-1]

        def watched_record(self: Records, step: int, phase: str, values: dict[str, float]) -> None:
            if step == stop_before:
                raise Stopped
            seen.programs.append(steps[0].update._cache_size() + generate._cache_size())
            record(self, step, phase, values)

        patch.setattr(checkpoint, "save", watched_save)
        patch.setattr(checkpoint, "manager", watched_manager)
        patch.setattr(loop, "Steps", watched_steps)
        patch.setattr(Records, "metrics", watched_record)
        if stop_before is None:
            loop.train(loop.open_run(config, workdir))
            return seen
        with pytest.raises(Stopped):
            loop.train(loop.open_run(config, workdir))
        managers[0].wait_until_finished()
        managers[0].close()
    return seen


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Programs compiled for one run of this file serve the others."""
    config: Any = jax.config
    known = config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("programs")))
    yield
    jax.config.update("jax_compilation_cache_dir", known)


@pytest.fixture(scope="module")
def unbroken(
    rooms_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainConfig, Path, Seen]:
    """A run from start to end: its configuration, its folder and what was seen of it."""
    config, workdir = config_of(rooms_root), tmp_path_factory.mktemp("unbroken") / "run"
    return config, workdir, train(config, workdir)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_run_records_every_step_and_its_summary(
    unbroken: tuple[TrainConfig, Path, Seen],
) -> None:
    config, workdir, _ = unbroken
    metrics = lines(workdir / "metrics.jsonl")
    assert [line["step"] for line in metrics] == list(range(config.total_steps))
    assert [line["phase"] for line in metrics] == ["warm_start"] * WARM + ["evolve"] * EVOLVE
    assert all(np.isfinite(line["loss/total"]) for line in metrics)
    chances = [metrics[-1][f"scheduler/probability/{task.name}"] for task in TASKS]
    assert sum(chances) == pytest.approx(1.0, abs=1e-4)

    evaluations = lines(workdir / "evaluations.jsonl")
    assert [(line["step"], line["moment"]) for line in evaluations] == [
        (WARM, "before"),
        (WARM + 2, "during"),
        (WARM + EVOLVE, "after"),
    ]
    assert {sample["task"] for sample in evaluations[0]["samples"]} == {t.name for t in TASKS}
    assert {line["role"] for line in lines(workdir / "samples.jsonl")} == {"questioner", "solver"}

    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["steps"] == config.total_steps
    assert summary["final_accuracy"] == evaluations[-1]["accuracy"]
    assert set(summary["per_task"]) == {task.name for task in TASKS}
    assert summary["peak_memory_bytes"] > 1e8


def test_the_update_uses_the_distribution_that_was_sampled_from(
    unbroken: tuple[TrainConfig, Path, Seen],
) -> None:
    for line in lines(unbroken[1] / "metrics.jsonl")[WARM:]:
        for role in ("questioner", "solver"):
            assert line[f"policy/logprob_difference_{role}"] < 1e-3


def test_nothing_is_compiled_after_the_first_step_of_evolution(
    unbroken: tuple[TrainConfig, Path, Seen],
) -> None:
    programs = unbroken[2].programs[WARM:]
    assert programs == [programs[0]] * EVOLVE


def test_a_run_stopped_twice_ends_with_the_same_numbers(
    unbroken: tuple[TrainConfig, Path, Seen], tmp_path: Path
) -> None:
    config, workdir, whole = unbroken
    again = tmp_path / "run"
    for stop in STOPS:
        train(config, again, stop_before=stop)
        assert not (again / "summary.json").exists()
    resumed = train(config, again)
    assert len(resumed.programs) == config.total_steps - STOPS[-1]
    jax.tree.map(np.testing.assert_array_equal, resumed.params, whole.params)

    def numbers(line: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in line.items() if not k.startswith(("time/", "seconds"))}

    for name in ("metrics.jsonl", "evaluations.jsonl", "samples.jsonl"):
        assert list(map(numbers, lines(again / name))) == list(
            map(numbers, lines(workdir / name))
        ), name


def test_a_finished_run_is_left_as_it_is(unbroken: tuple[TrainConfig, Path, Seen]) -> None:
    config, workdir, _ = unbroken
    before = (workdir / "metrics.jsonl").read_bytes(), lines(workdir / "evaluations.jsonl")
    assert train(config, workdir).programs == []
    assert before == (
        (workdir / "metrics.jsonl").read_bytes(),
        lines(workdir / "evaluations.jsonl"),
    )


def test_a_folder_holds_one_configuration(unbroken: tuple[TrainConfig, Path, Seen]) -> None:
    config, workdir, _ = unbroken
    other = dataclasses.replace(config, grpo=dataclasses.replace(config.grpo, lr=1e-3))
    with pytest.raises(ValueError, match=r"another configuration .*grpo\.lr"):
        loop.open_run(other, workdir)


def test_a_folder_without_rooms_says_how_to_make_some(tmp_path: Path) -> None:
    config = TrainConfig(data=DataConfig(scenes=tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"launch\.prepare"):
        loop.open_run(config, tmp_path / "run")
