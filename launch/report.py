"""Makes one self-contained HTML page of a run, or compares several runs.

Examples:
  python -m launch.report --workdir=runs/demo
      writes runs/demo/report.html (another place with --out=FILE)
  python -m launch.report --compare=geometry=runs/demo,vote=runs/vote --out=curves.png
      draws the held-out accuracy of several runs in one picture (.png, .svg or .pdf)
  python -m launch.report --summaries=runs/seed0,runs/seed1,runs/seed2
      prints warm start, final and gain of each run, their mean and standard deviation
      (--out=FILE writes the same as JSON)
  python -m launch.report --summaries=full=runs/full0,full=runs/full1,vote=runs/vote0
      with names: a line for each name, mean and spread over its runs
"""

import dataclasses
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from launch.errors import UserError, run, user_errors
from spatialevo_jax.evaluation import charts, report
from spatialevo_jax.evaluation.runs import (
    Run,
    Summary,
    groups_table,
    read_run,
    read_summary,
    seeds_table,
)
from spatialevo_jax.files import whole_file

_WORKDIR = flags.DEFINE_string("workdir", None, "The folder of one run.", allow_override=True)
_COMPARE = flags.DEFINE_list("compare", [], "NAME=DIR for each run to draw in one picture.")
_SUMMARIES = flags.DEFINE_list("summaries", [], "DIR or NAME=DIR of runs to take means over.")
_OUT = flags.DEFINE_string("out", None, "The file to write.", allow_override=True)

PICTURES = (".png", ".svg", ".pdf")


def main(argv: Sequence[str]) -> None:
    del argv
    chosen = [flag for flag in (_WORKDIR, _COMPARE, _SUMMARIES) if flag.value]
    if len(chosen) != 1:
        got = ", ".join(f"--{flag.name}" for flag in chosen) or "none of them"
        raise UserError(f"expected one of --workdir, --compare and --summaries, got {got}.")
    out = Path(_OUT.value) if _OUT.value else None
    with user_errors(FileNotFoundError, ValueError, OSError):
        if _WORKDIR.value:
            write_page(Path(_WORKDIR.value), out)
        elif _COMPARE.value:
            write_comparison(_COMPARE.value, out)
        else:
            print_summaries(_SUMMARIES.value or [], out)


def write_page(workdir: Path, out: Path | None) -> None:
    """Writes the HTML page of one run, by default into its folder."""
    page = report.build_page(read_run(workdir))
    path = out or workdir / "report.html"
    with whole_file(path) as part:
        part.write_text(page, encoding="utf-8")
    print(f"Wrote {path} ({len(page.encode()) / 1e6:.1f} MB).")


def write_comparison(pairs: Sequence[str], out: Path | None) -> None:
    """Draws the held-out accuracy of the runs of `NAME=DIR` pairs."""
    if out is None or out.suffix not in PICTURES:
        raise UserError(
            f"--out: expected a file that ends in {', '.join(PICTURES)}, got {out or 'none'}."
        )
    runs: dict[str, Run] = {}
    for pair in pairs:
        name, equals, folder = pair.partition("=")
        if not equals or not name or not folder:
            raise UserError(f"--compare: expected NAME=DIR, got {pair!r}.")
        if name in runs:
            raise UserError(f"--compare: expected a name for each run, got {name!r} twice.")
        runs[name] = read_run(Path(folder))
        if not runs[name].evaluations:
            raise UserError(f"{folder}: expected held-out evaluations, found none yet.")
    out.parent.mkdir(parents=True, exist_ok=True)
    charts.save(charts.compare_runs(runs), out)
    print(f"Wrote {out}.")


def print_summaries(folders: Sequence[str], out: Path | None) -> None:
    """Prints the table of several runs; writes it as JSON where `out` is given. Each is `DIR` or
    `NAME=DIR`.
    """
    groups: dict[str, list[tuple[str, Summary]]] = {}
    for given in folders:
        name, _, folder = given.rpartition("=")
        summary = read_summary(Path(folder) / "summary.json")
        groups.setdefault(name, []).append((folder, summary))
    unnamed = groups.get("")
    if unnamed and len(groups) > 1:
        raise UserError("--summaries: expected NAME=DIR for all runs or for none.")
    if unnamed:
        table, values = seeds_table(unnamed), _as_json(unnamed)
    else:
        table = groups_table({name: [one for _, one in runs] for name, runs in groups.items()})
        values = {name: _as_json(runs) for name, runs in groups.items()}
    print(table)
    if out is not None:
        with whole_file(out) as part:
            part.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _as_json(summaries: Sequence[tuple[str, Summary]]) -> dict[str, object]:
    gains = [summary.gain for _, summary in summaries]
    return {
        "mean_gain": statistics.fmean(gains),
        "std_gain": statistics.stdev(gains) if len(gains) > 1 else None,
        "runs": [
            {"workdir": folder, "gain": s.gain, **dataclasses.asdict(s)} for folder, s in summaries
        ],
    }


if __name__ == "__main__":
    run(main)
