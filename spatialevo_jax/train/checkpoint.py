"""Saving and finding the train state.

    checkpoints/STEP/state          the train state, written by orbax in the background
                    /rows           JSON: where the stream of rows was, see `setup.position`
                    /manifest.json  the size and checksum of each of these files
    checkpoints/broken-STEP         what no longer was what its manifest says

A folder has a step's name when all of it is written, the manifest too; until then it has another
one. So what a killed process leaves is never read, and what a disk lost is noticed.
"""

import contextlib
import dataclasses
import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint.checkpoint_managers import preservation_policy as preservation

from spatialevo_jax import hosts, manifest
from spatialevo_jax.train.state import TrainState

CHECKPOINTS = "checkpoints"  # below the folder of a run
STATE, ROWS = "state", "rows"
BROKEN = "broken-"
UNFINISHED = "*.orbax-checkpoint-tmp*"
SMALL = 1 << 16  # bytes; files of old checkpoints are read again up to this size


# --- writing -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Best(preservation.PreservationPolicy):
    """Keeps the checkpoint with the highest measured score, the latest of equals."""

    scores: Mapping[int, float]

    def should_preserve(
        self, checkpoints: Sequence[Any], *, context: preservation.PreservationContext
    ) -> Sequence[bool]:
        measured = [info.step for info in checkpoints if info.step in self.scores]
        best = max(measured, key=lambda step: (self.scores[step], step), default=None)
        return [info.step == best for info in checkpoints]


def manager(folder: Path, *, kept: int, scores: Mapping[int, float]) -> ocp.CheckpointManager:
    """Writes checkpoints of one run; keeps the last `kept` and the best. What a killed process left
    half-written is removed.

    Args:
        scores: the held-out accuracy of states by their step, where it was measured. Looked at
            whenever one is written: the caller adds to it.
    """
    folder = folder.absolute()
    options = ocp.CheckpointManagerOptions(
        preservation_policy=preservation.AnyPreservationPolicy(
            [preservation.LatestN(kept), _Best(scores)]
        ),
        cleanup_tmp_directories=True,
        async_options=ocp.AsyncOptions(post_finalization_callback=functools.partial(_seal, folder)),
    )
    return ocp.CheckpointManager(folder, options=options)


def _seal(folder: Path) -> None:
    """Writes the manifest of the one checkpoint that is complete but for its name. In the
    background, in one of the processes.
    """
    (unnamed,) = folder.glob(UNFINISHED)
    files = sorted(
        path
        for item in unnamed.iterdir()
        if item.is_dir()
        for path in item.rglob("*")
        if path.is_file()
    )
    manifest.write(unnamed, files)


def _storable(state: TrainState) -> TrainState:
    # Typed keys are a JAX notion; on disk they are plain integers.
    return dataclasses.replace(state, key=jax.random.key_data(state.key))


def save(
    checkpoints: ocp.CheckpointManager,
    state: TrainState,
    rows: Mapping[str, Any],
) -> None:
    """Starts writing in the background, unless this step is saved already; `finish` waits for it.

    Args:
        rows: where the stream of rows is, as JSON.

    Raises:
        OSError: this one, or the one before, could not be written.
    """
    step = int(state.step)
    if step in checkpoints.all_steps():
        return
    items = ocp.args.Composite(
        state=ocp.args.StandardSave(_storable(state)), rows=ocp.args.JsonSave(dict(rows))
    )
    with _told_in_a_sentence(checkpoints):
        checkpoints.save(step, args=items)


def finish(checkpoints: ocp.CheckpointManager) -> None:
    """Waits until all that was saved is on disk.

    Raises:
        OSError: it could not be written.
    """
    with _told_in_a_sentence(checkpoints):
        checkpoints.wait_until_finished()


@contextlib.contextmanager
def _told_in_a_sentence(checkpoints: ocp.CheckpointManager) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        # TensorStore's errors are ValueErrors that quote the system's.
        quoted = re.search(r"os_error_code='(\d+)'", str(error))
        if isinstance(error, ValueError) and quoted is None:
            raise
        cause = os.strerror(int(quoted[1])) if quoted else getattr(error, "strerror", str(error))
        raise OSError(
            f"{checkpoints.directory}: a checkpoint could not be written ({cause}); those before "
            "it are whole, and the same command goes on from the last of them."
        ) from error


# --- reading -------------------------------------------------------------------------------------


def newest(folder: Path, *, set_aside: bool = False) -> int | None:
    """The step of the newest whole checkpoint; None where none was ever written. Broken ones are
    warned of, each in a sentence. Processes share the work and must call this together.

    Args:
        set_aside: whether they are also renamed, so that a run that goes on can take their names.

    Raises:
        ValueError: there are checkpoints, but none is whole.
    """
    found, faults = None, {}
    for step in _steps(folder):
        # What is older only has to be whole enough to be listed.
        fault = manifest.fault(folder / str(step), None if found is None else SMALL)
        if fault is not None:
            faults[step] = fault
        elif found is None:
            found = step
    if found is None:
        before = sorted(path.name for path in folder.glob(f"{BROKEN}*"))
        said = [f"{step}: {fault}" for step, fault in faults.items()] + before
        if said:
            raise ValueError(
                f"{folder}: expected a whole checkpoint, found only broken ones "
                f"({'; '.join(said)}); choose another --workdir to begin anew."
            )
        return None
    hosts.wait_for_all("checked")
    for step, fault in faults.items():
        action = "set aside" if set_aside else "left out"
        logging.warning("%s: broken and %s: %s.", folder / str(step), action, fault)
        if set_aside and jax.process_index() == 0:
            (folder / str(step)).rename(_unused(folder / f"{BROKEN}{step}"))
    hosts.wait_for_all("set aside")
    return found


def _steps(folder: Path) -> list[int]:
    """Of all that bears a step's name, newest first."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())[::-1]


def _unused(path: Path) -> Path:
    tries = (path.with_name(f"{path.name}-{number}") for number in range(2, 1000))
    return next(one for one in (path, *tries) if not one.exists())


def latest_folder(workdir: Path) -> Path:
    """Where orbax keeps the latest whole state of a run; its parameters are the branch `params`.

    Raises:
        FileNotFoundError: there is none. ValueError: none is whole.
    """
    folder = (workdir / CHECKPOINTS).absolute()
    latest = newest(folder)
    if latest is None:
        raise FileNotFoundError(f"{folder}: expected a checkpoint, found none.")
    return folder / str(latest) / STATE


def load(folder: Path, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
    """A whole checkpoint: the state, with the shapes, types and shardings of `like`, which need not
    hold values nor be on the mesh that it was saved from; and where the stream of rows was.
    """
    target = jax.tree.map(
        lambda stored, leaf: jax.ShapeDtypeStruct(
            stored.shape, stored.dtype, sharding=leaf.sharding
        ),
        jax.eval_shape(_storable, like),
        like,
    )
    items = ocp.args.Composite(state=ocp.args.StandardRestore(target), rows=ocp.args.JsonRestore())
    options = ocp.CheckpointManagerOptions(read_only=True)
    with ocp.CheckpointManager(folder.absolute(), options=options) as checkpoints:
        found = checkpoints.restore(step, args=items)
    if not isinstance(found.state, TrainState):
        raise ValueError(f"{folder / str(step)}: expected a train state, got {type(found.state)}.")
    state = dataclasses.replace(found.state, key=jax.random.wrap_key_data(found.state.key))
    return state, dict(found.rows)
