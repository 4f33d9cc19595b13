"""A state on disk and back: every number, the phase's optimizer, the random key, any mesh; and what
a broken disk, a full one and a killed process leave.
"""

import dataclasses
import json
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spatialevo_jax import manifest, sharding
from spatialevo_jax.config import GrpoConfig, TrainConfig, WarmStartConfig
from spatialevo_jax.models.qwen2_5_vl import model as qwen
from spatialevo_jax.scheduler import accuracy_scheduler
from spatialevo_jax.train import checkpoint
from spatialevo_jax.train.state import TrainState, init_state
from tests.models.qwen2_5_vl.checkpoints import SMALL

WARM = 3
CONFIG = TrainConfig(
    warm_start=WarmStartConfig(steps=WARM, naming_steps=0, looking_steps=0, warmup_steps=1)
)
SCHEDULER = accuracy_scheduler(3, prior_accuracy=0.5, prior_count=2.0, floor=0.1, decay=0.9)
ROWS = {"step": 4, "seed": 0}


def blank(step: int) -> TrainState:
    """What a run that starts anew puts in the place of a saved state."""
    params = {"layer": {"kernel": jnp.zeros((2, 3, 4))}, "norm": jnp.zeros(4)}
    return init_state(CONFIG, params, SCHEDULER, step=step)


def filled(state: TrainState, seed: int) -> TrainState:
    """Distinct numbers in every place."""
    rng = np.random.default_rng(seed)

    def fill(array: jax.Array) -> jax.Array:
        return jnp.asarray(rng.integers(1, 1000, array.shape), array.dtype)

    changed = {
        name: jax.tree.map(fill, getattr(state, name))
        for name in ("params", "opt_state", "scheduler")
    }
    return dataclasses.replace(state, key=jax.random.key(seed), **changed)


def state_at(step: int, seed: int | None = None) -> TrainState:
    return filled(blank(step), step if seed is None else seed)


def numbers(state: TrainState) -> Any:
    return dataclasses.replace(state, key=jax.random.key_data(state.key))


def assert_same(found: TrainState, expected: TrainState) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(
        jax.tree.leaves(numbers(found)), jax.tree.leaves(numbers(expected)), strict=True
    ):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def write(folder: Path, *states: TrainState, kept: int = 2, scores: dict[int, float] | None = None):
    """Saves them one after the other, as a run does."""
    with checkpoint.manager(folder, kept=kept, scores=scores or {}) as checkpoints:
        for state in states:
            checkpoint.save(checkpoints, state, ROWS)
            checkpoint.finish(checkpoints)


def steps_in(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


@pytest.mark.parametrize("step", [1, WARM + 2])
def test_a_state_comes_back_as_it_was_saved(tmp_path: Path, step: int) -> None:
    """By another process, in either phase."""
    saved = state_at(step, seed=7)
    write(tmp_path / "checkpoints", saved)
    assert checkpoint.newest(tmp_path / "checkpoints") == step
    found, rows = checkpoint.load(tmp_path / "checkpoints", step, blank(step))
    assert_same(found, saved)
    assert rows == ROWS
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
    write(tmp_path, saved)
    found, _ = checkpoint.load(tmp_path, WARM, begun(0.0))
    assert_same(found, saved)
    assert found.reference is not None
    assert found.reference["text"]["kernel"].dtype == jnp.bfloat16
    assert set(found.trained) == set(found.reference) == {"text"}


def test_the_latest_state_is_found_and_the_oldest_go(tmp_path: Path) -> None:
    write(tmp_path, *map(state_at, (9, 10, 11)))
    assert steps_in(tmp_path) == [10, 11]
    assert checkpoint.newest(tmp_path) == 11


def test_a_step_is_saved_once(tmp_path: Path) -> None:
    """The end of a run may fall on a step that was saved a moment ago."""
    write(tmp_path, state_at(5, seed=1), state_at(5, seed=2))
    assert_same(checkpoint.load(tmp_path, 5, blank(5))[0], state_at(5, seed=1))


def test_without_a_checkpoint_there_is_no_state(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path / "new") is None
    with pytest.raises(FileNotFoundError, match="expected a checkpoint, found none"):
        checkpoint.latest_folder(tmp_path)


# --- which are kept ------------------------------------------------------------------------------


def test_the_best_measured_state_is_kept_beside_the_last(tmp_path: Path) -> None:
    write(tmp_path, *map(state_at, range(1, 4)), kept=1, scores={1: 0.25, 2: 0.5, 3: 0.25})
    assert steps_in(tmp_path) == [2, 3]
    write(tmp_path, *map(state_at, range(4, 7)), kept=1, scores={1: 0.25, 2: 0.5, 3: 0.25, 5: 0.5})
    assert steps_in(tmp_path) == [5, 6]  # of equals the latest


def test_a_score_may_be_measured_after_its_state_was_written(tmp_path: Path) -> None:
    """As after a signal, which comes before the score."""
    write(tmp_path, *map(state_at, (1, 2)), kept=2)
    write(tmp_path, *map(state_at, (3, 4)), kept=1, scores={2: 0.5, 4: 0.25})
    assert steps_in(tmp_path) == [2, 4]


@pytest.mark.parametrize("score", [0.0, None])
def test_a_state_without_a_score_is_never_the_best(tmp_path: Path, score: float | None) -> None:
    """A measured 0 % is a score; no measurement is none, however early it comes."""
    scores = {} if score is None else {2: score}
    write(tmp_path, *map(state_at, range(1, 6)), kept=1, scores=scores)
    assert steps_in(tmp_path) == ([5] if score is None else [2, 5])


# --- other meshes --------------------------------------------------------------------------------


def test_a_state_comes_back_on_another_mesh() -> None:
    """In a process of its own, where there are eight devices."""
    code = "from tests.train import test_checkpoint as t; t.move_between_meshes()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "8",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "HF_HUB_OFFLINE": "1",
        },
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def move_between_meshes() -> None:
    """Saved on 1 x 8 x 1 devices, read on 2 x 2 x 2 and on one."""
    import tempfile

    params = qwen.abstract_params(SMALL)
    shape = jax.eval_shape(lambda p: init_state(CONFIG, p, SCHEDULER, step=WARM), params)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(numbers, shape))
    state = filled(dataclasses.replace(zeros, key=jax.random.key(5), step=jnp.int32(4)), seed=5)

    def placed(mesh: Any) -> Any:
        return sharding.shardings(shape, SMALL, mesh)

    saved = jax.device_put(state, placed(sharding.make_mesh(fsdp=8)))
    kernel = saved.params["text"]["blocks"]["q"]["kernel"]
    assert len({str(shard.index) for shard in kernel.addressable_shards}) == 8
    meshes = {
        8: sharding.make_mesh(data=2, fsdp=2, tensor=2),
        1: sharding.make_mesh(devices=jax.devices()[:1]),
    }
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), saved)
        for count, mesh in meshes.items():
            like = jax.tree.map(
                lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
                shape,
                placed(mesh),
            )
            found, _ = checkpoint.load(Path(folder), 4, like)
            assert_same(found, state)
            kernel = found.params["text"]["blocks"]["q"]["kernel"]
            assert len(kernel.sharding.device_set) == count
            assert kernel.sharding.is_equivalent_to(
                placed(mesh).params["text"]["blocks"]["q"]["kernel"], kernel.ndim
            )


# --- what a disk does ----------------------------------------------------------------------------


def largest_file(folder: Path) -> Path:
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(folder: Path) -> None:
    path = largest_file(folder / "state")
    path.write_bytes(path.read_bytes()[:100])


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def other_form(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"form": 99}))


Damage = Callable[[Path], object]
DAMAGES: list[tuple[Damage, str]] = [
    (truncate, r"state/\S+ has 100 of \d+ bytes"),
    (lambda folder: flip(largest_file(folder / "state")), r"state/\S+ has other bytes than"),
    (lambda folder: (folder / "state" / "_METADATA").unlink(), "state/_METADATA is missing"),
    (lambda folder: flip(folder / "rows" / "metadata"), "rows/metadata has other bytes than"),
    (lambda folder: shutil.rmtree(folder / "state"), r"state/\S+ is missing"),
    (empty, "manifest.json is missing"),
    (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json is damaged"),
    (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json is damaged"),
    (other_form, "it has the form 99, this version reads 1"),
]


@pytest.fixture(scope="module")
def two_saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the states of steps 4 and 5."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    write(folder, state_at(4), state_at(5))
    return folder


@pytest.mark.parametrize(("damage", "said"), DAMAGES)
def test_a_broken_newest_checkpoint_is_set_aside_for_the_one_before(
    two_saved: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Damage, said: str
) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(two_saved, folder)
    damage(folder / "5")
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert checkpoint.latest_folder(tmp_path) == folder / "4" / "state"
        assert steps_in(folder) == [4, 5]  # who only reads moves nothing
        assert checkpoint.newest(folder, set_aside=True) == 4
    first, second = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(rf"{re.escape(str(folder / '5'))}: broken and left out: {said}.*", first)
    assert re.fullmatch(rf"{re.escape(str(folder / '5'))}: broken and set aside: {said}.*", second)
    assert steps_in(folder) == [4]
    assert (folder / "broken-5").is_dir()
    assert_same(checkpoint.load(folder, 4, blank(4))[0], state_at(4))
    write(folder, state_at(5))  # the step is done again
    assert checkpoint.newest(folder) == 5


@pytest.mark.parametrize("file", ["_CHECKPOINT_METADATA", "commit_success.txt"])
@pytest.mark.parametrize("damage", [flip, Path.unlink, lambda path: path.write_bytes(b"")])
def test_the_state_does_not_depend_on_what_orbax_notes_beside_it(
    two_saved: Path, tmp_path: Path, file: str, damage: Damage
) -> None:
    """These are written last, so the manifest can't know them."""
    folder = tmp_path / "checkpoints"
    shutil.copytree(two_saved, folder)
    damage(folder / "5" / file)
    assert checkpoint.newest(folder) == 5
    assert_same(checkpoint.load(folder, 5, blank(5))[0], state_at(5))
    write(folder, state_at(6))


def test_a_step_that_breaks_again_keeps_both(two_saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(two_saved, folder)
    for _ in range(2):
        truncate(folder / "5")
        assert checkpoint.newest(folder, set_aside=True) == 4
        write(folder, state_at(5))
    assert {path.name for path in folder.glob("broken-*")} == {"broken-5", "broken-5-2"}


@pytest.mark.parametrize("file", ["rows/metadata", "manifest.json", "state/_METADATA"])
def test_a_broken_old_checkpoint_does_not_stop_a_run(
    two_saved: Path, tmp_path: Path, file: str
) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(two_saved, folder)
    (folder / "4" / file).write_text("{")
    assert checkpoint.newest(folder, set_aside=True) == 5
    write(folder, state_at(6))
    assert steps_in(folder) == [5, 6]


def test_without_a_whole_checkpoint_nothing_begins_anew(two_saved: Path, tmp_path: Path) -> None:
    """However often it is tried."""
    folder = tmp_path / "checkpoints"
    shutil.copytree(two_saved, folder)
    truncate(folder / "4")
    empty(folder / "5")
    for _ in range(2):
        with pytest.raises(
            ValueError, match=r"only broken ones \(5: manifest.json is missing; 4: "
        ):
            checkpoint.newest(folder, set_aside=True)
    for step in "45":
        (folder / step).rename(folder / f"broken-{step}")
    with pytest.raises(ValueError, match=r"only broken ones \(broken-4; broken-5\)"):
        checkpoint.newest(folder, set_aside=True)


def test_what_a_killed_process_left_is_not_found(two_saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(two_saved, folder)
    shutil.copytree(folder / "5", folder / "6.orbax-checkpoint-tmp")
    assert checkpoint.newest(folder) == 5
    write(folder, state_at(6), state_at(7))
    assert steps_in(folder) == [6, 7]
    assert not list(folder.glob("*tmp*"))


def test_a_full_disk_is_a_sentence_and_costs_no_earlier_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, state_at(4))

    def full(path: Path) -> int:
        raise OSError(28, "No space left on device")

    with checkpoint.manager(tmp_path, kept=2, scores={}) as checkpoints:
        monkeypatch.setattr(manifest, "_checksum", full)
        checkpoint.save(checkpoints, state_at(5), ROWS)
        with pytest.raises(OSError, match=r"could not be written \(No space left on device\)"):
            checkpoint.finish(checkpoints)
        monkeypatch.undo()
    assert checkpoint.newest(tmp_path) == 4
    write(tmp_path, state_at(5))  # there is room again
    assert checkpoint.newest(tmp_path) == 5
