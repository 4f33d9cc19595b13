"""Kills a run with -9 at random moments, starts it again until it is done, and compares all that it
leaves with a run that nobody disturbed. What follows -- is for launch.train.

python -m launch.soak --workdir=runs/soak --kills=20 -- --config=configs/soak.py

Moments are drawn evenly over the seconds that a whole run takes; those of every second kill over
the seconds of its steps, since starting takes as long as many of them; and every fourth kill waits
until a checkpoint is being written. When a run is done a new one begins, until all kills are spent.
Prints a table of the kills; exits with 2 if a number differs. Compiled programs are kept in
JAX_COMPILATION_CACHE_DIR, by default in the workdir, so that starting again is quick.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import flags
from tqdm import tqdm

from launch.errors import UserError, hush_orbax, run
from spatialevo_jax.train import checkpoint, records

STEPS_EVERY = 2  # every so many kills one counts from the first step
WRITING_EVERY = 4  # every so many kills one waits for a checkpoint that is being written
WRITING_SECONDS = 0.2  # the longest that such a kill waits then
POLL_SECONDS = 0.005
CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
CACHE = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the runs.", allow_override=True)
_KILLS = flags.DEFINE_integer("kills", 20, "How often a run is killed.", lower_bound=0)
_SEED = flags.DEFINE_integer("seed", 0, "Of the random moments.", allow_override=True)


@dataclasses.dataclass(frozen=True)
class Kill:
    """One row of the table."""

    number: int
    run: int  # the run that was killed, from 1
    after: float  # seconds since it was started, or started again
    during: str
    steps: int  # that were recorded
    saved: int | None  # step of the newest complete checkpoint


def start(workdir: Path, cache: Path, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "launch.train", f"--workdir={workdir}", *arguments],
            env=os.environ | CACHE | {CACHE_VARIABLE: str(cache)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def finish(process: subprocess.Popen[bytes], workdir: Path) -> None:
    if process.wait() != 0:
        raise UserError(
            f"{workdir}: launch.train ended with {process.returncode}; see {workdir / 'log.txt'}."
        )


def whole_run(workdir: Path, cache: Path, arguments: Sequence[str]) -> float:
    """Seconds of a run that is left alone."""
    began = time.monotonic()
    finish(start(workdir, cache, arguments), workdir)
    return time.monotonic() - began


def writing(folder: Path, since: float) -> bool:
    """Whether a checkpoint was begun after `since`, a time of the clock, and is not complete: what
    another process left is older.
    """
    with contextlib.suppress(FileNotFoundError):  # complete a moment later
        return any(path.stat().st_mtime >= since for path in folder.glob(checkpoint.UNFINISHED))
    return False


def kill(
    process: subprocess.Popen[bytes],
    workdir: Path,
    since: float,
    after: float,
    *,
    known: int = -1,
    into: float | None = None,
) -> bool:
    """Kills a process `after` seconds. False if it ended before.

    Args:
        known: if more steps than these are recorded; `after` counts from there.
        into: if a checkpoint is being written, this many seconds into the first one from there.
    """
    end = None
    while end is None or time.monotonic() < end or into is not None:
        if process.poll() is not None:
            return False
        if end is None and len(lines(workdir / records.METRICS)) > known:
            end = time.monotonic() + after
        waited = end is not None and time.monotonic() >= end
        if waited and into is not None and writing(workdir / checkpoint.CHECKPOINTS, since):
            end, into = time.monotonic() + into, None
        time.sleep(POLL_SECONDS)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def lines(path: Path) -> list[dict[str, Any]]:
    """Complete lines of a record; none before it is begun."""
    return [json.loads(x) for x in path.read_bytes().split(b"\n")[:-1]] if path.is_file() else []


def what_it_did(workdir: Path, since: float, known: int) -> str:
    """What a killed process was doing, as far as its files tell.

    Args:
        since: when it was started, a time of the clock.
        known: steps that were recorded then.
    """
    if writing(workdir / checkpoint.CHECKPOINTS, since):
        return "writing a checkpoint"
    metrics = lines(workdir / records.METRICS)
    if len(metrics) <= known:
        return "starting"
    config = json.loads((workdir / "config.json").read_text())
    step, warm = len(metrics), config["warm_start"]["steps"]
    due = step >= warm and (step - warm) % config["evaluation"]["every"] == 0
    if due and all(line["step"] != step for line in lines(workdir / records.EVALUATIONS)):
        return "evaluating"
    return "warm start" if step < warm else "evolution"


def kills(
    whole: Path,
    again: Path,
    cache: Path,
    arguments: Sequence[str],
    seconds: float,
    rng: random.Random,
) -> Iterator[Kill]:
    """Runs that are killed and done in the end, each compared with the whole one.

    Args:
        again: an undisturbed run with compiled programs, which took `seconds`.
    """
    number, round_ = 0, 0
    took = [line["seconds"] for line in lines(again / records.METRICS)]
    step_seconds = took[-1] - took[0]
    while number < _KILLS.value:
        round_ += 1
        workdir = whole.parent / f"killed{round_}"
        done = False
        while not done and number < _KILLS.value:
            known, since = len(lines(workdir / records.METRICS)), time.time()
            process = start(workdir, cache, arguments)
            steps, waits = (number % every == every - 1 for every in (STEPS_EVERY, WRITING_EVERY))
            share, into = rng.random(), rng.uniform(0, WRITING_SECONDS)
            if kill(
                process,
                workdir,
                since,
                share * (step_seconds if steps else seconds),
                known=known if steps else -1,
                into=into if waits else None,
            ):
                number += 1
                saved = [
                    int(path.name)
                    for path in (workdir / checkpoint.CHECKPOINTS).glob("*")
                    if path.name.isdecimal()
                ]
                yield Kill(
                    number,
                    round_,
                    time.time() - since,
                    what_it_did(workdir, since, known),
                    len(lines(workdir / records.METRICS)),
                    max(saved, default=None),
                )
            else:
                finish(process, workdir)
                done = True
        if not done:
            whole_run(workdir, cache, arguments)
        require_same(workdir, whole)


def _without_clocks(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if not name.startswith(records.CLOCKS)}


def require_same(workdir: Path, whole: Path) -> None:
    """
    Raises:
        UserError: two runs differ, in a record or in a number of their last state.
    """
    for name in (records.METRICS, records.EVALUATIONS, records.SAMPLES):
        one, other = (
            [_without_clocks(line) for line in lines(path)]
            for path in (workdir / name, whole / name)
        )
        if one != other:
            pairs = itertools.zip_longest(one, other)
            at = next(i for i, pair in enumerate(pairs, start=1) if pair[0] != pair[1])
            raise UserError(f"{workdir / name}: line {at} differs from that of {whole / name}.")
    folders = [checkpoint.latest_folder(path) for path in (workdir, whole)]
    if folders[0].parent.name != folders[1].parent.name:
        raise UserError(f"{folders[0]}: expected the step of {folders[1]}.")
    with ocp.StandardCheckpointer() as checkpointer:
        one, other = (checkpointer.restore(folder) for folder in folders)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(other), strict=True
    ):
        if np.asarray(a).tobytes() != np.asarray(b).tobytes():
            raise UserError(f"{folders[0]}: {jax.tree_util.keystr(path)} differs.")


def main(argv: Sequence[str]) -> None:
    arguments = list(argv[1:])
    if not any(one.startswith("--config") for one in arguments):
        raise UserError("expected -- and the flags of launch.train, --config among them.")
    if not _WORKDIR.value:
        raise UserError("expected --workdir=DIR, a new folder for the runs.")
    hush_orbax()
    jax.config.update("jax_platforms", "cpu")  # an accelerator is the runs'
    folder = Path(_WORKDIR.value).absolute()
    if folder.exists():
        raise UserError(f"{folder}: expected a new folder, this one exists.")
    whole, again = folder / "whole", folder / "again"
    cache = Path(os.environ.get(CACHE_VARIABLE, folder / "programs"))
    cold = whole_run(whole, cache, arguments)
    warm = whole_run(again, cache, arguments)
    require_same(again, whole)
    rows = kills(whole, again, cache, arguments, warm, random.Random(_SEED.value))
    print(f"undisturbed: {cold:.0f} s, with compiled programs {warm:.0f} s\n")
    print("| kill | run | after | during | steps recorded | newest checkpoint |")
    print("| ---: | ---: | ---: | --- | ---: | ---: |")
    for row in tqdm(rows, total=_KILLS.value, desc="soak", unit="kill", disable=None):
        saved = "none" if row.saved is None else row.saved
        tqdm.write(
            f"| {row.number} | {row.run} | {row.after:.1f} s | {row.during} | {row.steps} "
            f"| {saved} |"
        )
        sys.stdout.flush()
    print("\nall runs ended with the same records and the same state, bit for bit")


if __name__ == "__main__":
    run(main, positionals=True)
