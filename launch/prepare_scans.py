"""The part of `launch.prepare` that reads raw data sets: which scans, in how many processes, and
the report.
"""

import concurrent.futures
import contextlib
import dataclasses
import difflib
import functools
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_pipelines.preparing import (
    FORMATS,
    Job,
    Outcome,
    WriteError,
    current_scene,
    prepare_scan,
)
from data_pipelines.scan import ScanError
from geometry_jax import scene_io
from launch.errors import UserError, is_used, user_errors
from launch.workers import alone, results, started
from spatialevo_jax.files import whole_file

LISTED = 20  # failures and labels that are printed; the report has all


@dataclasses.dataclass(frozen=True)
class Share:
    """Which of the scans this run does."""

    scenes: tuple[str, ...] = ()  # source ids or scene ids; none: all
    host_index: int = 0
    host_count: int = 1


def prepare(job: Job, share: Share, workers: int) -> int:
    """Prepares scans; returns the exit code: 0, or 1 where some could not be prepared.

    Raises:
        UserError: nothing can be done at all.
    """
    begun = time.monotonic()
    with user_errors(ScanError, OSError):
        sources = _chosen(job, share)
    _check_folder(job)
    name = "prepare_report" + (f".{share.host_index}" if share.host_count > 1 else "")
    path = job.out / f"{name}.jsonl"
    tasks = [functools.partial(prepare_scan, job, source) for source in sources]
    outcomes: list[Outcome] = []
    with user_errors(OSError, WriteError), contextlib.ExitStack() as stack:
        path.touch()
        stack.enter_context(alone(path))  # hosts that share the folder have reports of their own
        report = stack.enter_context(path.open("w", encoding="utf-8"))
        todo = [source for source in sources if current_scene(job, source) is None]
        try:
            with started(min(workers, len(todo))) as submit:
                made = results(submit, tasks)
                for _, outcome in tqdm(made, total=len(tasks), desc=job.dataset, unit="scene"):
                    outcomes.append(outcome)
                    report.write(json.dumps(outcome._asdict(), ensure_ascii=False) + "\n")
                    report.flush()
        except KeyboardInterrupt as stop:
            raise UserError(
                "stopped; finished scenes are kept, the same command goes on."
            ) from stop
        except concurrent.futures.BrokenExecutor as error:
            raise UserError(
                "a worker process died, most likely for want of memory; finished scenes are kept, "
                f"the same command goes on; try --workers={max(1, workers // 2)}."
            ) from error
        summary = _summary(outcomes, round(time.monotonic() - begun, 1))
        report.write(json.dumps(summary) + "\n")
    _print_summary(job, outcomes, summary, path)
    return 1 if summary["failed"] else 0


def _chosen(job: Job, share: Share) -> tuple[str, ...]:
    found = FORMATS[job.dataset].list_scans(job.raw)
    names = {FORMATS[job.dataset].scene_id(source): source for source in found}
    names |= {source: source for source in found}
    for wanted in share.scenes:
        if wanted not in names:
            near = difflib.get_close_matches(wanted, names, 1)
            hint = f"; the nearest is {near[0]!r}" if near else ""
            raise UserError(f"--scans: {job.raw} has no scan {wanted!r}{hint}.")
    chosen = sorted({names[wanted] for wanted in share.scenes}) if share.scenes else found
    return tuple(chosen[share.host_index :: share.host_count])


def _check_folder(job: Job) -> None:
    """One folder holds scenes of one recipe for each data set, and of no procedural rooms."""
    path = job.out / f"{job.dataset}.json"
    recipe = job.recipe()
    with user_errors(OSError):
        if path.is_file():
            with user_errors(ValueError, place=str(path)):
                known = json.loads(path.read_text(encoding="utf-8"))
            if known != recipe:
                known = known if isinstance(known, dict) else {}
                differs = [key for key in recipe if known.get(key) != recipe[key]]
                shown = ", ".join(f"{k}: {known.get(k)} there, {recipe[k]} asked" for k in differs)
                raise UserError(
                    f"{job.out} holds {job.dataset} scenes of other settings ({shown}); choose "
                    "another --out, or delete the folder."
                )
            return
        ours = [job.out / f"{name}.json" for name in FORMATS]
        if is_used(job.out) and not any(path.is_file() for path in ours):
            raise UserError(
                f"{job.out} is not empty and holds no prepared scans; choose another --out."
            )
        write_recipe(path, recipe)


def write_recipe(path: Path, recipe: Mapping[str, Any]) -> None:
    """Writes a file of settings, whole or not at all."""
    with whole_file(path) as part:
        part.write_text(json.dumps(recipe, indent=1) + "\n", encoding="utf-8")


def _summary(outcomes: Sequence[Outcome], seconds: float) -> dict[str, float]:
    count = Counter(outcome.status for outcome in outcomes)
    return {
        "done": count["done"],
        "skipped": count["skipped"],
        "failed": count["failed"],
        "seconds": seconds,
    }


def _print_summary(
    job: Job, outcomes: Sequence[Outcome], summary: dict[str, float], report: Path
) -> None:
    failures = [outcome for outcome in outcomes if outcome.status == "failed"]
    for outcome in failures[:LISTED]:
        print(f"failed {outcome.source_id}: {outcome.why}")
    if len(failures) > LISTED:
        print(f"... and {len(failures) - LISTED} more")
    unknown = Counter(label for outcome in outcomes for label in outcome.unknown_labels)
    if unknown:
        shown = ", ".join(f"{label} ({count})" for label, count in unknown.most_common(LISTED))
        print(f"labels that the table lacks, kept as they are: {shown}")
    counts = ", ".join(f"{name} {summary[name]}" for name in ("done", "skipped", "failed"))
    total = sum(len(scene_io.list_scenes(job.out, split)) for split in ("train", "val"))
    print(f"{job.out}: {counts}, {summary['seconds']} s; {total} scenes there; report: {report}")
