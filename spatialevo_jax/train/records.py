"""What a run writes for people and for the report: JSON lines, appended; a resumed run drops what
it will do again.

config.json        the resolved configuration; a folder holds one run
metrics.jsonl      one line a step; null is a number that is not finite, which JSON can't say
evaluations.jsonl  one line for each held-out score
samples.jsonl      some texts of training
alarms.jsonl       sentences about what goes wrong, where anything does
summary.json       at the end
tensorboard/       numbers of the lines once more, for TensorBoard, where that is asked for;
                   `wandb sync` takes the same files to Weights & Biases
"""

import contextlib
import dataclasses
import importlib
import itertools
import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from absl import logging

from spatialevo_jax.config import TrainConfig
from spatialevo_jax.evaluation.held_out import Score
from spatialevo_jax.evaluation.runs import read_summary
from spatialevo_jax.files import whole_file
from spatialevo_jax.locks import lock
from spatialevo_jax.models.qwen2_5_vl import folders
from spatialevo_jax.models.qwen2_5_vl.config import SIZES
from spatialevo_jax.models.qwen2_5_vl.hf_config import read_json
from spatialevo_jax.train.checkpoint import CHECKPOINTS

METRICS, EVALUATIONS, SAMPLES = "metrics.jsonl", "evaluations.jsonl", "samples.jsonl"
ALARMS = "alarms.jsonl"
TENSORBOARD = "tensorboard"
CONFIG, SUMMARY = "config.json", "summary.json"
TOKENIZER = "tokenizer"
FLUSHED = 10  # seconds between writes of TensorBoard's files
LOCK = ".lock"  # held while a run goes on
CLOCKS = ("seconds", "time/", "speed/")  # begin the fields that no two runs share
OF_UPDATES = (METRICS, SAMPLES, ALARMS)  # a line's step is the number of an update, from 0
OF_STATES = (EVALUATIONS,)  # a line's step is the number of updates that a state has


@contextlib.contextmanager
def alone_in(workdir: Path) -> Iterator[None]:
    """One run at a time writes into a folder.

    Raises:
        ValueError: another one does.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / LOCK).open("w") as file:
        free = lock(file.fileno())
        if free is False:
            raise ValueError(f"{workdir}: expected no other run in this folder, one is going on.")
        if free is None:
            logging.warning("%s: no locks here; a second run would not be noticed.", workdir)
        yield


def forget_refused_start(workdir: Path) -> None:
    """A start that was refused, say for a setting or for a file of its model, began no run: what it
    left must not bind the next one. Nothing else in the folder is touched.
    """
    begun = any((workdir / name).exists() for name in (CHECKPOINTS, METRICS))
    if begun or not _is_ours(workdir / CONFIG):
        return
    for name in (TOKENIZER, folders.COMPANIONS):
        shutil.rmtree(workdir / name, ignore_errors=True)
    for name in (folders.LAYOUT, CONFIG):  # the last one says that there is something to forget
        (workdir / name).unlink(missing_ok=True)


def _is_ours(path: Path) -> bool:
    """Whether a file is the configuration of a run, and not, say, of a model."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(known, dict) and known.keys() == {
        f.name for f in dataclasses.fields(TrainConfig)
    }


class Records:
    """The files of one run."""

    def __init__(
        self,
        workdir: Path,
        config: dict[str, Any],
        *,
        writer: bool = True,
        tensorboard: bool = False,
    ) -> None:
        """Opens or begins the folder of a run. Of several processes one is the writer.

        Raises:
            ValueError: the folder holds a run of another configuration, or none that can be read.
            ModuleNotFoundError: TensorBoard's files are asked for, and nothing here writes them.
        """
        self.workdir = workdir
        self.writer = writer
        self._event_writer = importlib.import_module("tensorboardX") if tensorboard else None
        self._events: Any = None
        workdir.mkdir(parents=True, exist_ok=True)
        self._seconds_before = 0.0
        self._started = time.monotonic()
        path = workdir / CONFIG
        wanted = json.loads(json.dumps(config, default=str))
        if path.is_file():
            known = read_json(path)
            found = sorted(_differences(known, wanted))
            may = MAY_CHANGE
            if not {str(one.get("model")) for one in (known, wanted)} & SIZES.keys():
                may += ("model",)  # a folder may be moved: `folders.begin_run` looks at its sizes
            differs = [name for name in found if not name.startswith(may)]
            if differs:
                raise ValueError(
                    f"{workdir} holds a run of another configuration "
                    f"(differs in {', '.join(differs)}); "
                    "choose another --workdir, or delete it to begin anew."
                )
        elif writer:
            _replace(path, json.dumps(wanted, indent=1) + "\n")

    def resume(self, step: int) -> None:
        """Keeps what was recorded up to `step` updates; the rest will be done again. Says how much
        that is, and warns where lines of what was done are gone.

        Raises:
            ValueError: a line is no record.
        """
        recorded = _read(self.workdir / METRICS)
        metrics = [line for line in recorded if line["step"] < step]
        self._seconds_before = metrics[-1]["seconds"] if metrics else 0.0
        if not self.writer:
            return
        if len(recorded) > len(metrics):
            logging.warning(
                "%s: goes on after step %d; %d more that were recorded are done again.",
                self.workdir,
                step,
                len(recorded) - len(metrics),
            )
        if [line["step"] for line in metrics] != list(range(step)):
            logging.warning(
                "%s: expected a line for each of %d steps, found %d; the run goes on without them.",
                self.workdir / METRICS,
                step,
                len(metrics),
            )
        for name in (*OF_UPDATES, *OF_STATES):
            path, end = self.workdir / name, step + (name in OF_STATES)
            if path.is_file():
                kept = "".join(_as_text(line) for line in _read(path) if line["step"] < end)
                if kept.encode() != path.read_bytes():
                    _replace(path, kept)
        if self._event_writer is not None:
            # Anew: what was not yet in these files when a run was killed is in the lines.
            folder = self.workdir / TENSORBOARD
            shutil.rmtree(folder, ignore_errors=True)
            self._events = self._event_writer.SummaryWriter(str(folder), flush_secs=FLUSHED)
            for line in metrics:
                self._show_metrics(line)
            for line in _read(self.workdir / EVALUATIONS):
                self._show_evaluation(line)

    @property
    def seconds(self) -> float:
        """Seconds of training, earlier tries counted in."""
        return self._seconds_before + time.monotonic() - self._started

    def metrics(self, step: int, phase: str, values: dict[str, float]) -> None:
        line = {"step": step, "phase": phase, "seconds": round(self.seconds, 3)}
        line |= {k: float(f"{v:.6g}") if math.isfinite(v) else None for k, v in values.items()}
        self._append(METRICS, line)
        self._show_metrics(line)

    def evaluation(
        self, step: int, phase: str, moment: str, score: Score, samples: list[dict[str, Any]]
    ) -> None:
        line: dict[str, Any] = {
            "step": step,
            "phase": phase,
            "moment": moment,
            "seconds": round(self.seconds, 3),
            "accuracy": score.accuracy,
            "format": score.formatted,
        }
        line |= {f"accuracy/{task}": value for task, value in score.per_task.items()}
        line |= {f"count/{task}": count for task, count in score.counts.items()}
        self._append(EVALUATIONS, line | {"samples": samples})
        self._show_evaluation(line)

    def sample(self, step: int, role: str, task: str, images: list[str], **texts: Any) -> None:
        line = {"step": step, "role": role, "task": task, "images": images}
        self._append(SAMPLES, line | texts)

    def alarm(self, step: int, name: str, sentence: str) -> None:
        self._append(ALARMS, {"step": step, "name": name, "sentence": sentence})

    def history(self, phase: str) -> list[tuple[dict[str, float], float | None]]:
        """The metrics of each step of a phase so far, NaN where they were not finite, with the
        held-out score that was the latest when it was recorded.
        """
        scores = _read(self.workdir / EVALUATIONS)
        found = []
        for line in _read(self.workdir / METRICS):
            if line["phase"] == phase:
                before = [x["accuracy"] for x in scores if x["step"] <= line["step"]]
                values = {k: math.nan if v is None else v for k, v in line.items()}
                found.append((values, before[-1] if before else None))
        return found

    def skipped(self) -> int:
        """How many of the latest steps in a row left out their updates."""
        lines = reversed(_read(self.workdir / METRICS))
        return sum(1 for _ in itertools.takewhile(lambda line: line["optimizer/skipped"], lines))

    def _show_metrics(self, line: Mapping[str, Any]) -> None:
        """By the number of updates that are done, which is how held-out scores are counted."""
        numbers = {k: v for k, v in line.items() if "/" in k and v is not None}
        self._show(line["step"] + 1, numbers)

    def _show_evaluation(self, line: Mapping[str, Any]) -> None:
        shown = ("accuracy", "accuracy/", "format")
        self._show(
            line["step"],
            {f"held_out/{k}": v for k, v in line.items() if k.startswith(shown)},
        )

    def _show(self, step: int, numbers: Mapping[str, float]) -> None:
        if self._events is not None:
            for name, value in numbers.items():
                self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Nothing is recorded after this."""
        if self._events is not None:
            self._events.close()

    def _append(self, name: str, line: dict[str, Any]) -> None:
        if not self.writer:
            return
        path = self.workdir / name
        with _named(path), path.open("a", encoding="utf-8") as file:
            file.write(_as_text(line))

    def evaluated(self, step: int, moment: str) -> bool:
        """Whether that held-out score of the state after `step` updates is known."""
        lines = _read(self.workdir / EVALUATIONS)
        return any((line["step"], line["moment"]) == (step, moment) for line in lines)

    def scores(self) -> dict[int, float]:
        """Held-out accuracies by the number of updates of their state."""
        lines = _read(self.workdir / EVALUATIONS)
        return {line["step"]: line["accuracy"] for line in lines}

    def last_accuracy(self) -> float | None:
        lines = _read(self.workdir / EVALUATIONS)
        return lines[-1]["accuracy"] if lines else None

    def summary(self, steps: int, peak_memory: int, seed: int, reward: str) -> dict[str, Any]:
        """Writes and returns summary.json; of other processes than the writer it is empty.

        Raises:
            FileNotFoundError: the scores that it compares are gone.
        """
        if not self.writer:
            return {}
        path = self.workdir / EVALUATIONS
        scores = {line["moment"]: line for line in _read(path)}
        for moment in ("before", "after"):
            if moment not in scores:
                raise FileNotFoundError(
                    f"{path}: expected the held-out score {moment!r}, found none; the run is "
                    "complete and saved, but has no summary."
                )
        before, after = scores["before"], scores["after"]
        tasks = [key.removeprefix("accuracy/") for key in after if key.startswith("accuracy/")]
        summary = {
            "warm_start_accuracy": before["accuracy"],
            "final_accuracy": after["accuracy"],
            "per_task": {
                task: {
                    "before": before[f"accuracy/{task}"],
                    "after": after[f"accuracy/{task}"],
                    "count": after[f"count/{task}"],
                }
                for task in tasks
            },
            "seconds": round(self.seconds, 1),
            "peak_memory_bytes": peak_memory,
            "steps": steps,
            "seed": seed,
            "reward": reward,
        }
        _replace(self.workdir / SUMMARY, json.dumps(summary, indent=1) + "\n")
        return summary

    def known_summary(self) -> dict[str, Any] | None:
        """What summary.json says, where there is one.

        Raises:
            ValueError: it is no summary.
        """
        path = self.workdir / SUMMARY
        return dataclasses.asdict(read_summary(path)) if path.is_file() else None


# What may change when a run goes on: where the work is done and kept, what is said of it and how
# much room it has, not what it is.
MAY_CHANGE = (
    *("mesh", "data.workers", "checkpoint_every", "checkpoints_kept", "alarms"),
    # Folders may be moved: that their rooms and rows are the same, checkpoints tell.
    *("data.scenes", "sft.data"),
    "rollout.questioner_prompt",  # padding: no prompt is cut to it
)


def _differences(known: Any, wanted: Any, path: str = "") -> list[str]:
    if isinstance(known, dict) and isinstance(wanted, dict):
        keys = sorted(set(known) | set(wanted))
        return [d for k in keys for d in _differences(known.get(k), wanted.get(k), f"{path}.{k}")]
    return [] if known == wanted else [path.lstrip(".")]


def _read(path: Path) -> list[dict[str, Any]]:
    """All complete lines; a last line cut by a kill is left out.

    Raises:
        ValueError: a complete line is no record of a step.
    """
    if not path.is_file():
        return []
    lines = []
    # Cut as bytes: a kill may leave half a character.
    for number, text in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            line = json.loads(text, parse_constant=lambda name: None)  # NaN, as once written
        except ValueError:
            line = None
        if not isinstance(line, dict) or not isinstance(line.get("step"), int):
            raise ValueError(
                f"{path}: line {number}: expected a record of a step, got {text[:40]!r}; take the "
                "line out, or move the file away."
            )
        lines.append(line)
    return lines


def _as_text(line: Mapping[str, Any]) -> str:
    """
    Raises:
        ValueError: a number in it is not finite.
    """
    return json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n"


def _replace(path: Path, text: str) -> None:
    """Writes whole or not at all."""
    with _named(path), whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of writing name the file: on a full disk the system does not."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
