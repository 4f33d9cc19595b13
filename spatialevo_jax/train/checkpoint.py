"""Saving and finding the train state. A half-written checkpoint is never found: orbax renames it
when complete.
"""

import dataclasses
from pathlib import Path

import jax
import orbax.checkpoint as ocp

from spatialevo_jax.train.state import TrainState


def manager(folder: Path, *, kept: int) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(max_to_keep=kept, enable_async_checkpointing=True)
    return ocp.CheckpointManager(folder.absolute(), options=options)


def _storable(state: TrainState) -> TrainState:
    # Typed keys are a JAX notion; on disk they are plain integers.
    return dataclasses.replace(state, key=jax.random.key_data(state.key))


def save(checkpoints: ocp.CheckpointManager, state: TrainState) -> None:
    """Starts writing in the background; `checkpoints.wait_until_finished()` waits for it."""
    step = int(state.step)
    if step not in checkpoints.all_steps():
        checkpoints.save(step, args=ocp.args.StandardSave(_storable(state)))


def latest_folder(workdir: Path) -> Path:
    """Where orbax keeps the latest complete state of a run; its parameters are the branch `params`.

    Raises:
        FileNotFoundError: there is none.
    """
    folder = (workdir / "checkpoints").absolute()
    options = ocp.CheckpointManagerOptions(read_only=True)
    with ocp.CheckpointManager(folder, options=options) as checkpoints:
        latest = checkpoints.latest_step()
    if latest is None:
        raise FileNotFoundError(f"{folder}: expected a checkpoint, found none.")
    return folder / str(latest) / "default"


def restore(checkpoints: ocp.CheckpointManager, like: TrainState) -> TrainState | None:
    """The latest complete state, with the shapes, types and shardings of `like`; None when there is
    none.
    """
    latest = checkpoints.latest_step()
    if latest is None:
        return None
    target = jax.tree.map(ocp.utils.to_shape_dtype_struct, _storable(like))
    state = checkpoints.restore(latest, args=ocp.args.StandardRestore(target))
    if not isinstance(state, TrainState):
        raise ValueError(f"{checkpoints.directory}: expected a train state, got {type(state)}.")
    return dataclasses.replace(state, key=jax.random.wrap_key_data(state.key))
