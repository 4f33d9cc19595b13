"""Reads what a run wrote into its folder: metrics, evaluations, samples, summary and config.

    metrics.jsonl      one row a step
    evaluations.jsonl  one row a held-out evaluation; samples before and after self-evolution
    samples.jsonl      questions and answers from training, of both roles
    alarms.jsonl       what went wrong, in sentences; absent where nothing did
    summary.json       the numbers of a finished run
    config.json        the resolved config

A run may still be going, or have been killed: a file may be absent, and the last line of one may
be cut off. Both are noted in `Run.notes`, never hidden. A run that was resumed may have written a
step twice; the later row counts.
"""

import dataclasses
import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

Moment = Literal["before", "during", "after"]
MOMENTS: tuple[Moment, ...] = ("before", "during", "after")
FILES = ("metrics.jsonl", "evaluations.jsonl", "samples.jsonl", "summary.json", "config.json")

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class MetricRow:
    step: int
    phase: str  # "warm_start" or "evolve"
    values: dict[str, float]  # by slashed name


@dataclasses.dataclass(frozen=True)
class Sample:
    """One question with one reply, held out or from training."""

    step: int
    role: str  # "questioner" or "solver"
    task: str
    images: tuple[str, ...]  # paths, absolute or relative to the run's folder
    question: str
    reply: str
    truth: str  # "" where geometry refused the question
    score: float  # of the answer when held out, the reward in training
    valid: bool
    reason: str  # why geometry refused, "" where it did not


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The held-out score at one step."""

    step: int
    phase: str
    moment: Moment
    accuracy: float  # mean over tasks, 0 to 1
    per_task: dict[str, float]
    counts: dict[str, int]  # questions by task
    formatted: float  # share of replies in the asked format
    samples: tuple[Sample, ...]

    @property
    def standard_error(self) -> float:
        """Of `accuracy`, from the finite number of questions alone (binomial within each task)."""
        variances = [
            p * (1.0 - p) / self.counts[task]
            for task, p in self.per_task.items()
            if self.counts.get(task)
        ]
        return sum(variances) ** 0.5 / len(variances) if variances else float("nan")


@dataclasses.dataclass(frozen=True)
class Alarm:
    step: int
    name: str
    sentence: str


@dataclasses.dataclass(frozen=True)
class TaskChange:
    before: float
    after: float
    count: int


@dataclasses.dataclass(frozen=True)
class Summary:
    warm_start_accuracy: float
    final_accuracy: float
    per_task: dict[str, TaskChange]
    seconds: float
    peak_memory_bytes: int
    steps: int
    seed: int
    reward: str  # where rewards came from: "geometry", "vote" or "shuffled"

    @property
    def gain(self) -> float:
        return self.final_accuracy - self.warm_start_accuracy


@dataclasses.dataclass(frozen=True)
class Run:
    folder: Path
    metrics: tuple[MetricRow, ...]  # by step
    evaluations: tuple[Evaluation, ...]  # by step; before, during, after
    samples: tuple[Sample, ...]  # by step
    alarms: tuple[Alarm, ...]  # by step
    summary: Summary | None
    config_text: str  # "" where absent
    notes: tuple[str, ...]  # what was absent or cut off, as sentences

    def evaluation(self, moment: Moment) -> Evaluation | None:
        """The last evaluation of that moment."""
        found = [row for row in self.evaluations if row.moment == moment]
        return found[-1] if found else None


def read_run(folder: Path) -> Run:
    """Reads a run's folder.

    Raises:
        FileNotFoundError: the folder, or every one of its files, is absent.
        ValueError: a file holds something else than expected; the message says where.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected the folder of a run, found no folder.")
    if not any((folder / name).is_file() for name in FILES):
        raise FileNotFoundError(
            f"{folder}: expected the files of a run ({', '.join(FILES)}), found none of them."
        )
    notes = [
        f"{name} is not there: {reason}"
        for name, reason in (
            ("metrics.jsonl", "the curves of training are missing."),
            ("evaluations.jsonl", "the held-out accuracy is missing."),
            ("samples.jsonl", "the samples from training are missing."),
            ("summary.json", "the run has not finished."),
            ("config.json", "the settings are missing."),
        )
        if not (folder / name).is_file()
    ]
    metrics = _rows(folder / "metrics.jsonl", _metric_row, notes)
    evaluations = _rows(folder / "evaluations.jsonl", _evaluation, notes)
    samples = _rows(folder / "samples.jsonl", _training_sample, notes)
    told = folder / "alarms.jsonl"
    alarms = _rows(told, _alarm, notes) if told.is_file() and told.stat().st_size else []
    config = folder / "config.json"
    summary = folder / "summary.json"
    return Run(
        folder=folder,
        metrics=_latest(metrics, lambda row: (row.step,)),
        evaluations=_latest(evaluations, lambda row: (row.step, MOMENTS.index(row.moment))),
        samples=tuple(sorted(samples, key=lambda row: row.step)),
        alarms=tuple(sorted(alarms, key=lambda row: row.step)),
        summary=read_summary(summary) if summary.is_file() else None,
        config_text=config.read_text(encoding="utf-8") if config.is_file() else "",
        notes=tuple(notes),
    )


def read_summary(path: Path) -> Summary:
    """Reads `summary.json`; raises ValueError with the path when it is something else."""
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        return _located(_summary, row, str(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: expected JSON: {error.msg}.") from error


def _rows(path: Path, build: Callable[[Any], T], notes: list[str]) -> list[T]:
    if not path.is_file():
        return []
    rows = []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    last = len(lines)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == last:  # no newline after it: the writer was stopped in the middle
                notes.append(f"The last line of {path.name} is cut off and was left out.")
                continue
            raise ValueError(f"{path}:{number}: expected a JSON object: {error.msg}.") from error
        rows.append(_located(build, row, f"{path}:{number}"))
    if not rows:
        notes.append(f"{path.name} is empty so far.")
    return rows


def _located(build: Callable[[Any], T], row: Any, place: str) -> T:
    if not isinstance(row, dict):
        raise ValueError(f"{place}: expected a JSON object, got {type(row).__name__}.")
    try:
        return build(row)
    except KeyError as error:
        raise ValueError(f"{place}: expected the key {error.args[0]!r}, found none.") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{place}: {error}") from error


def _latest(rows: Iterable[T], key: Callable[[T], tuple[int, ...]]) -> tuple[T, ...]:
    """Rows in the order of the key, the last written one of each."""
    latest = {key(row): row for row in rows}
    return tuple(latest[place] for place in sorted(latest))


def _metric_row(row: Any) -> MetricRow:
    values = {
        name: math.nan if value is None else float(value)  # null: it was not finite
        for name, value in row.items()
        if name not in ("step", "phase") and isinstance(value, int | float | None)
    }
    return MetricRow(int(row["step"]), str(row["phase"]), values)


def _alarm(row: Any) -> Alarm:
    return Alarm(int(row["step"]), str(row["name"]), str(row["sentence"]))


def _evaluation(row: Any) -> Evaluation:
    moment = row["moment"]
    if moment not in MOMENTS:
        raise ValueError(f"expected moment to be one of {', '.join(MOMENTS)}, got {moment!r}.")
    step = int(row["step"])
    return Evaluation(
        step=step,
        phase=str(row["phase"]),
        moment=moment,
        accuracy=float(row["accuracy"]),
        per_task=_below(row, "accuracy/", float),
        counts=_below(row, "count/", int),
        formatted=float(row["format"]),
        samples=tuple(_held_out_sample(sample, step) for sample in row.get("samples", ())),
    )


def _below(row: dict[str, Any], prefix: str, kind: Callable[[Any], T]) -> dict[str, T]:
    return {k.removeprefix(prefix): kind(v) for k, v in row.items() if k.startswith(prefix)}


def _held_out_sample(row: Any, step: int) -> Sample:
    return Sample(
        step=step,
        role="solver",
        task=str(row["task"]),
        images=tuple(str(path) for path in row["images"]),
        question=str(row["question"]),
        reply=str(row["reply"]),
        truth=str(row["truth"]),
        score=float(row["score"]),
        valid=True,
        reason="",
    )


def _training_sample(row: Any) -> Sample:
    return Sample(
        step=int(row["step"]),
        role=str(row["role"]),
        task=str(row["task"]),
        images=tuple(str(path) for path in row["images"]),
        question=str(row["question"]),
        reply=str(row["reply"]),
        truth=str(row["truth"] or ""),
        score=float(row["reward"]),
        valid=bool(row["valid"]),
        reason=str(row["reason"] or ""),
    )


def _summary(row: Any) -> Summary:
    return Summary(
        warm_start_accuracy=float(row["warm_start_accuracy"]),
        final_accuracy=float(row["final_accuracy"]),
        per_task={
            str(task): TaskChange(float(v["before"]), float(v["after"]), int(v["count"]))
            for task, v in row["per_task"].items()
        },
        seconds=float(row["seconds"]),
        peak_memory_bytes=int(row["peak_memory_bytes"]),
        steps=int(row["steps"]),
        seed=int(row["seed"]),
        reward=str(row["reward"]),
    )


def seeds_table(summaries: Sequence[tuple[str, Summary]]) -> str:
    """A table for the terminal: warm start, final and gain of each run, mean and spread."""
    width = max(len("mean"), *(len(name) for name, _ in summaries))
    lines = [f"{'run':<{width}}  seed  warm start     final      gain"]
    columns: list[tuple[float, float, float]] = []
    for name, summary in summaries:
        values = (summary.warm_start_accuracy, summary.final_accuracy, summary.gain)
        columns.append(values)
        lines.append(f"{name:<{width}}  {summary.seed:>4}  {_cells(values)}")
    by_column = list(zip(*columns, strict=True))
    lines.append(f"{'mean':<{width}}        {_cells([statistics.fmean(c) for c in by_column])}")
    if len(summaries) > 1:
        deviations = [statistics.stdev(column) for column in by_column]
        lines.append(f"{'std':<{width}}        {_cells(deviations, sign='')}")
    return "\n".join(lines)


def groups_table(groups: Mapping[str, Sequence[Summary]]) -> str:
    """A table for the terminal: of each group of runs the means, and the spread of their gains."""
    width = max(map(len, ("run", *groups)))
    lines = [f"{'run':<{width}}  seeds  warm start     final      gain       std"]
    for name, runs in groups.items():
        values = [(one.warm_start_accuracy, one.final_accuracy, one.gain) for one in runs]
        means = [statistics.fmean(column) for column in zip(*values, strict=True)]
        gains = [100 * gain for _, _, gain in values]
        spread = f"{statistics.stdev(gains):>8.1f}" if len(gains) > 1 else f"{'-':>8}"
        lines.append(f"{name:<{width}}  {len(runs):>5}  {_cells(means)}  {spread}")
    return "\n".join(lines)


def _cells(values: Sequence[float], sign: str = "+") -> str:
    warm, final, gain = (100 * value for value in values)
    return f"{warm:>8.1f} %  {final:>6.1f} %  {gain:>{sign}8.1f}"
