"""Rows of a step and the devices that they are split over."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from spatialevo_jax.config import DataConfig, EvaluationConfig, TrainConfig, WarmStartConfig
from spatialevo_jax.train import setup

EIGHT = (4, 2, 2)
WARM = WarmStartConfig(
    steps=6,
    naming_steps=2,
    looking_steps=4,
    warmup_steps=1,
    naming_rows=(3, 0, 0),
    looking_rows=(5, 0, 0),
    rows=EIGHT,
)


@pytest.mark.parametrize(
    ("done", "named"),
    [(0, "naming_rows"), (1, "naming_rows"), (2, "looking_rows"), (3, "looking_rows")],
)
def test_rows_that_are_still_to_come_must_divide(
    tmp_path: Path, done: int, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run may go on with more devices once the phases with too few rows for them are over."""
    mesh = SimpleNamespace(shape={"data": 1, "fsdp": 8, "tensor": 1})
    monkeypatch.setattr(setup, "make_mesh", lambda **_: mesh)
    monkeypatch.setattr(setup.hosts, "share", lambda _: SimpleNamespace(blocks=1))
    config = TrainConfig(
        data=DataConfig(scenes=tmp_path / "nowhere", rows=EIGHT),
        warm_start=WARM,
        evaluation=EvaluationConfig(batch=8),
    )
    with pytest.raises(ValueError, match=rf"^warm_start.{named}: expected a number that divides"):
        setup.prepare(config, tmp_path, done)
    with pytest.raises(FileNotFoundError):  # of the rooms, which are loaded after that
        setup.prepare(config, tmp_path, WARM.looking_steps)
