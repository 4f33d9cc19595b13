r"""The self-evolution loop. Resumes by itself from --workdir; SIGTERM or Ctrl-C ends it after the
step that it is in (docs/resume.md).

python -m launch.train --config=configs/tiny_cpu.py --workdir=runs/demo
python -m launch.train --config=configs/tiny_cpu.py --workdir=runs/short --config.grpo.steps=20
python -m launch.train --config=configs/tiny_cpu.py --workdir=runs/lora --config.lora.rank=8
python -m launch.train --config=configs/tiny_cpu.py --workdir=runs/shown --tensorboard

On several hosts the same command runs once on each of them, with a --workdir that all of them see
(launch/cluster/ has the files for SLURM and Kubernetes):

python -m launch.train --config=... --workdir=... --distributed
python -m launch.train --config=... --workdir=... --coordinator_address=10.0.0.1:8476 \
    --num_processes=2 --process_id=0
"""

import contextlib
import importlib.util
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
from absl import flags

from launch import errors
from launch.allocator import keep_freed_memory
from launch.errors import user_errors
from launch.flags import define_config
from spatialevo_jax import hosts
from spatialevo_jax.config import TrainConfig
from spatialevo_jax.data import PictureError
from spatialevo_jax.rollout.batch import PromptError
from spatialevo_jax.train import loop
from spatialevo_jax.train.records import alone_in
from spatialevo_jax.train.stopping import Stopped

LOST_PEER = 3  # exit code: another process of the run is gone, start all of them again
SIGNALLED = 128  # exit code, with the number of the signal added: the shell's habit

_CONFIG = define_config(TrainConfig)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run.", allow_override=True, required=True
)
_TENSORBOARD = flags.DEFINE_bool(
    "tensorboard",
    False,
    "Also write WORKDIR/tensorboard, for TensorBoard.",
    allow_override=True,
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "One of several processes, as SLURM, TPU or Kubernetes says in the environment.",
    allow_override=True,
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator_address",
    None,
    "HOST:PORT of process 0, where nothing in the environment says so.",
    allow_override=True,
)
_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "Their number, with --coordinator_address.", allow_override=True
)
_PROCESS = flags.DEFINE_integer(
    "process_id", None, "Which one this is, from 0, likewise.", allow_override=True
)


@contextlib.contextmanager
def lost_peers() -> Iterator[None]:
    """Says in a sentence that another process of the run is gone, and ends this one: what is left
    of a run of several processes can't go on, and can't wait for the others either.
    """
    host = _COORDINATOR.value.rpartition(":")[0] if _COORDINATOR.value else None
    with user_errors(OSError, place="the processes of the run can't reach process 0"):
        leave = hosts.watch_peers(end_of_run, host)
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1 or "RESOURCE_EXHAUSTED" in str(error):
            raise
        end_of_run()
    leave()


def end_of_run() -> None:
    """Ends this process for the loss of another one."""
    own = f"process {jax.process_index()} of {jax.process_count()}"
    print(
        f"{errors.program_name()}: {own} lost touch with another one, which may have been killed. "
        "Start all of them again: the run goes on from its last checkpoint.",
        file=sys.stderr,
        flush=True,
    )
    sys.stdout.flush()
    os._exit(LOST_PEER)  # an ordinary exit would wait for the one that is gone


def main(argv: Sequence[str]) -> int:
    config = _CONFIG.load()
    if not _WORKDIR.value:
        raise errors.UserError("--workdir: expected a folder, got nothing.")
    if _TENSORBOARD.value and importlib.util.find_spec("tensorboardX") is None:
        raise errors.UserError(
            "--tensorboard: needs tensorboardX, found none: "
            "pip install -c constraints.txt '.[tensorboard]'"
        )
    keep_freed_memory()
    errors.hush_orbax()
    with user_errors(ValueError, RuntimeError):
        hosts.join(
            distributed=_DISTRIBUTED.value,
            coordinator_address=_COORDINATOR.value,
            num_processes=_PROCESSES.value,
            process_id=_PROCESS.value,
        )
    with lost_peers(), contextlib.ExitStack() as stack:
        workdir = Path(_WORKDIR.value)
        with user_errors(OSError, ValueError):
            if jax.process_index() == 0:
                stack.enter_context(alone_in(workdir))
            run = loop.open_run(config, workdir, tensorboard=_TENSORBOARD.value)
        if run.summary is not None and run.records.writer:
            said = f"{workdir}: all {config.total_steps} steps are done, nothing is left to do."
            print(f"{errors.program_name()}: {said}", file=sys.stderr)
        try:
            with user_errors(FloatingPointError, OSError, PictureError, PromptError):
                summary = loop.train(run)
        except Stopped as stop:
            print(f"{errors.program_name()}: {stop}", file=sys.stderr)
            return SIGNALLED + stop.by
    if run.records.writer:
        print(json.dumps(summary, indent=1))
    return 0


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        # Until the run listens itself: where Python would raise, JAX may be what hears it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    errors.run(main)
