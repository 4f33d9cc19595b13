"""A run whose updates are not finite: how long it goes on, and what it says then."""

import dataclasses
import json
import types
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest

from spatialevo_jax.config import TrainConfig, WarmStartConfig
from spatialevo_jax.scheduler import accuracy_scheduler
from spatialevo_jax.train import checkpoint, loop
from spatialevo_jax.train.records import Records
from spatialevo_jax.train.state import init_state

CONFIG = TrainConfig(
    warm_start=WarmStartConfig(steps=40, naming_steps=0, looking_steps=0, warmup_steps=1),
    max_skipped=3,
)


EVOLVING = dataclasses.replace(
    CONFIG, warm_start=WarmStartConfig(steps=0, naming_steps=0, looking_steps=0)
)


def train(
    workdir: Path,
    broken: set[int],
    monkeypatch: pytest.MonkeyPatch,
    config: TrainConfig = CONFIG,
) -> None:
    """A run whose updates of the steps in `broken` are not finite; it is stopped after step 20."""

    class Steps:
        def __init__(self, setup: Any) -> None:
            self.evolve, self.imitate = self.supervise, None

        def evaluate(self, state: Any, moment: str, records: Any) -> float:
            return 0.5

        def close(self) -> None:
            pass

        def supervise(self, state: Any, step: int, records: Any) -> Any:
            if step > 20:
                raise KeyboardInterrupt
            loss = float("nan") if step in broken else 0.5
            skipped = float(step in broken)
            return state, {
                "loss/total": loss,
                "optimizer/skipped": skipped,
                "optimizer/grad_norm": loss,
            }

    monkeypatch.setattr(loop, "Steps", Steps)
    monkeypatch.setattr(loop, "position", lambda setup, step: {"step": step})  # of no rooms
    scheduler = accuracy_scheduler(3, prior_accuracy=0.5, prior_count=2.0, floor=0.1, decay=0.9)
    setup: Any = types.SimpleNamespace(config=config, lessons=None)
    with checkpoint.manager(workdir / "checkpoints", kept=1, scores={}) as checkpoints:
        state = init_state(config, {"text": jnp.zeros(2)}, scheduler)
        run = loop.Run(setup, Records(workdir, {}), checkpoints, {}, state)
        loop.train(run)


def test_a_run_goes_on_after_updates_that_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, {2, 3, 5, 6, 9}, monkeypatch)
    recorded = (tmp_path / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line, parse_constant=pytest.fail)["loss/total"] for line in recorded]
    assert losses[:5] == [0.5, 0.5, None, None, 0.5]


def test_alarms_are_told_beside_what_other_programs_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, {2, 5, 9}, monkeypatch, EVOLVING)
    told = capsys.readouterr()
    assert "step 9: In 3 of the last 10 steps updates were left out, since the" in told.err
    assert told.out == ""


def test_a_run_stops_when_update_after_update_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FloatingPointError, match=r"step 8: .* each of the last 3 steps; .* is nan"):
        train(tmp_path, {2, 3, 6, 7, 8, 9}, monkeypatch)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 9


def test_a_resumed_run_knows_of_the_updates_left_out_before(
    tmp_path: Path,
) -> None:
    """Those of the steps that a checkpoint takes back do not count."""
    run = Records(tmp_path, {})
    for step, skipped in enumerate((1.0, 0.0, 1.0, 1.0, 0.0)):
        run.metrics(step, "warm_start", {"optimizer/skipped": skipped})
    run.resume(4)
    assert run.skipped() == 2
    run.resume(2)
    assert run.skipped() == 0
    run.resume(0)
    assert run.skipped() == 0
