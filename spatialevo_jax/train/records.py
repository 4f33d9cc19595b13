"""What a run writes for people and for the report: JSON lines, appended; a resumed run drops what
it will do again.

config.json        the resolved configuration; a folder holds one run
metrics.jsonl      one line a step
evaluations.jsonl  one line for each held-out score
samples.jsonl      some texts of training
summary.json       at the end
"""

import json
import time
from pathlib import Path
from typing import Any

from spatialevo_jax.evaluation.held_out import Score

METRICS, EVALUATIONS, SAMPLES = "metrics.jsonl", "evaluations.jsonl", "samples.jsonl"


class Records:
    """The files of one run."""

    def __init__(self, workdir: Path, config: dict[str, Any], *, writer: bool = True) -> None:
        """Opens or begins the folder of a run. Of several processes one is the writer.

        Raises:
            ValueError: the folder holds a run of another configuration.
        """
        self.workdir = workdir
        self.writer = writer
        workdir.mkdir(parents=True, exist_ok=True)
        self._seconds_before = 0.0
        self._started = time.monotonic()
        path = workdir / "config.json"
        wanted = json.loads(json.dumps(config, default=str))
        if path.is_file():
            known = json.loads(path.read_text())
            found = sorted(_differences(known, wanted))
            differs = [name for name in found if not name.startswith(MAY_CHANGE)]
            if differs:
                raise ValueError(
                    f"{workdir} holds a run of another configuration "
                    f"(differs in {', '.join(differs)}); "
                    "choose another --workdir, or delete it to begin anew."
                )
        elif writer:
            _replace(path, json.dumps(wanted, indent=1) + "\n")

    def resume(self, step: int) -> None:
        """Keeps what was recorded up to `step` updates; the rest will be done again."""
        metrics = _read(self.workdir / METRICS)
        kept = [line for line in metrics if line["step"] < step]
        self._seconds_before = kept[-1]["seconds"] if kept else 0.0
        if not self.writer:
            return
        _rewrite(self.workdir / METRICS, kept)
        _rewrite(
            self.workdir / EVALUATIONS,
            [line for line in _read(self.workdir / EVALUATIONS) if line["step"] <= step],
        )
        _rewrite(
            self.workdir / SAMPLES,
            [line for line in _read(self.workdir / SAMPLES) if line["step"] < step],
        )

    @property
    def seconds(self) -> float:
        """Seconds of training, earlier tries counted in."""
        return self._seconds_before + time.monotonic() - self._started

    def metrics(self, step: int, phase: str, values: dict[str, float]) -> None:
        line = {"step": step, "phase": phase, "seconds": round(self.seconds, 3)}
        self._append(METRICS, line | {k: round(v, 6) for k, v in values.items()})

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

    def sample(self, step: int, role: str, task: str, images: list[str], **texts: Any) -> None:
        line = {"step": step, "role": role, "task": task, "images": images}
        self._append(SAMPLES, line | texts)

    def _append(self, name: str, line: dict[str, Any]) -> None:
        if self.writer:
            with (self.workdir / name).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def has_moment(self, moment: str) -> bool:
        return any(line["moment"] == moment for line in _read(self.workdir / EVALUATIONS))

    def last_accuracy(self) -> float | None:
        lines = _read(self.workdir / EVALUATIONS)
        return lines[-1]["accuracy"] if lines else None

    def summary(self, steps: int, peak_memory: int, seed: int, reward: str) -> dict[str, Any]:
        """Writes and returns summary.json; of other processes than the writer it is empty."""
        if not self.writer:
            return {}
        lines = _read(self.workdir / EVALUATIONS)
        before = next(line for line in lines if line["moment"] == "before")
        after = next(line for line in lines if line["moment"] == "after")
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
        _replace(self.workdir / "summary.json", json.dumps(summary, indent=1) + "\n")
        return summary


# What may change when a run goes on: it says where the work is done, not what it is.
MAY_CHANGE = ("mesh", "data.workers")


def _differences(known: Any, wanted: Any, path: str = "") -> list[str]:
    if isinstance(known, dict) and isinstance(wanted, dict):
        keys = sorted(set(known) | set(wanted))
        return [d for k in keys for d in _differences(known.get(k), wanted.get(k), f"{path}.{k}")]
    return [] if known == wanted else [path.lstrip(".")]


def _read(path: Path) -> list[dict[str, Any]]:
    """All complete lines; a last line cut by a kill is left out."""
    if not path.is_file():
        return []
    # Cut as bytes: a kill may leave half a character.
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def _rewrite(path: Path, lines: list[dict[str, Any]]) -> None:
    _replace(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def _replace(path: Path, text: str) -> None:
    """Writes whole or not at all."""
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
