"""A state on disk and back: every number, the phase's optimizer, the random key."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spatialevo_jax.config import GrpoConfig, TrainConfig, WarmStartConfig
from spatialevo_jax.scheduler import accuracy_scheduler
from spatialevo_jax.train import checkpoint
from spatialevo_jax.train.state import TrainState, init_state

WARM = 3
CONFIG = TrainConfig(
    warm_start=WarmStartConfig(steps=WARM, naming_steps=0, looking_steps=0, warmup_steps=1)
)
SCHEDULER = accuracy_scheduler(3, prior_accuracy=0.5, prior_count=2.0, floor=0.1, decay=0.9)


def blank(step: int) -> TrainState:
    """What a run that starts anew puts in the place of a saved state."""
    params = {"layer": {"kernel": jnp.zeros((2, 3, 4))}, "norm": jnp.zeros(4)}
    return init_state(CONFIG, params, SCHEDULER, step=step)


def filled(step: int, seed: int) -> TrainState:
    """Distinct numbers in every place."""
    state = blank(step)
    rng = np.random.default_rng(seed)

    def fill(array: jax.Array) -> jax.Array:
        return jnp.asarray(rng.integers(1, 1000, array.shape), array.dtype)

    changed = {
        name: jax.tree.map(fill, getattr(state, name))
        for name in ("params", "opt_state", "scheduler")
    }
    return dataclasses.replace(state, key=jax.random.key(seed), **changed)


def numbers(state: TrainState) -> Any:
    return dataclasses.replace(state, key=jax.random.key_data(state.key))


def assert_same(found: TrainState | None, expected: TrainState) -> None:
    assert found is not None
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(
        jax.tree.leaves(numbers(found)), jax.tree.leaves(numbers(expected)), strict=True
    ):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("step", [1, WARM + 2])
def test_a_state_comes_back_as_it_was_saved(tmp_path: Path, step: int) -> None:
    """By another process, in either phase."""
    saved = filled(step, seed=7)
    with checkpoint.manager(tmp_path / "checkpoints", kept=2) as checkpoints:
        checkpoint.save(checkpoints, saved)
    with checkpoint.manager(tmp_path / "checkpoints", kept=2) as checkpoints:
        found = checkpoint.restore(checkpoints, blank(step))
    assert_same(found, saved)
    assert found is not None
    drawn, expected = (jax.random.uniform(state.key, (3,)) for state in (found, saved))
    np.testing.assert_array_equal(drawn, expected)  # a key again, and not only its numbers


def test_a_reference_and_what_is_frozen_come_back(tmp_path: Path) -> None:
    """In its own type; the frozen tower has no moments to restore."""
    grpo = GrpoConfig(kl_coefficient=0.1, reference_dtype="bfloat16", vision_lr_share=0.0)
    config = dataclasses.replace(CONFIG, grpo=grpo)

    def begun(value: float) -> TrainState:
        params = {name: {"kernel": jnp.full((2, 3), value)} for name in ("text", "vision")}
        return init_state(config, params, SCHEDULER, step=WARM)

    saved = begun(2.0)
    with checkpoint.manager(tmp_path, kept=1) as checkpoints:
        checkpoint.save(checkpoints, saved)
    with checkpoint.manager(tmp_path, kept=1) as checkpoints:
        found = checkpoint.restore(checkpoints, begun(0.0))
    assert_same(found, saved)
    assert found is not None and found.reference is not None
    assert found.reference["text"]["kernel"].dtype == jnp.bfloat16
    assert set(found.trained) == set(found.reference) == {"text"}


def test_the_latest_state_is_found_and_the_oldest_go(tmp_path: Path) -> None:
    states = {step: filled(step, seed=step) for step in (9, 10, 11)}
    with checkpoint.manager(tmp_path, kept=2) as checkpoints:
        for state in states.values():
            checkpoint.save(checkpoints, state)
        checkpoints.wait_until_finished()
        assert sorted(checkpoints.all_steps()) == [10, 11]
        assert_same(checkpoint.restore(checkpoints, blank(9)), states[11])


def test_a_step_is_saved_once(tmp_path: Path) -> None:
    """The end of a run may fall on a step that was saved a moment ago."""
    with checkpoint.manager(tmp_path, kept=2) as checkpoints:
        for seed in (1, 2):
            checkpoint.save(checkpoints, filled(5, seed))
            checkpoints.wait_until_finished()
        assert list(checkpoints.all_steps()) == [5]
        assert_same(checkpoint.restore(checkpoints, blank(5)), filled(5, 1))


def test_without_a_checkpoint_there_is_no_state(tmp_path: Path) -> None:
    with checkpoint.manager(tmp_path / "new", kept=2) as checkpoints:
        assert checkpoint.restore(checkpoints, blank(0)) is None


def test_a_half_written_checkpoint_is_not_found(tmp_path: Path) -> None:
    saved = filled(4, seed=1)
    with checkpoint.manager(tmp_path, kept=2) as checkpoints:
        checkpoint.save(checkpoints, saved)
    (tmp_path / "6.orbax-checkpoint-tmp").mkdir()  # as a killed process leaves it
    with checkpoint.manager(tmp_path, kept=2) as checkpoints:
        assert checkpoints.latest_step() == 4
        assert_same(checkpoint.restore(checkpoints, blank(4)), saved)
