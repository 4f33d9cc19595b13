"""The pictures of a report: each function draws one matplotlib figure from what a run wrote."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spatialevo_jax.evaluation.runs import Evaluation, MetricRow, Run

# Told apart also without colour vision (Okabe and Ito).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#9aa0a6"
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: small files, sharp letters
    "svg.hashsalt": "report",  # the same run gives the same bytes
}
WIDTH = 9.6  # inches, of the figures of the page
PANEL_COLUMNS = 4
SMOOTHING = 10  # steps of the moving mean drawn over a noisy curve


def as_svg_uri(figure: Figure) -> str:
    """The figure as a `data:` address that an HTML page can hold."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def save(figure: Figure, path: Path) -> None:
    """Writes the figure in the format that the file name asks for."""
    with matplotlib.rc_context(STYLE):
        figure.savefig(path, dpi=150)


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def moving_mean(values: Sequence[float] | np.ndarray, window: int = SMOOTHING) -> np.ndarray:
    """Mean of the last `window` values at each place; shorter at the start, NaN left out."""
    array = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(array)
    # A zero in front makes the sum over (first, last] a difference of two cumulative sums.
    totals = np.concatenate([[0.0], np.cumsum(np.where(finite, array, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    last = np.arange(1, len(array) + 1)
    first = np.maximum(last - window, 0)
    count = counts[last] - counts[first]
    return np.where(count > 0, (totals[last] - totals[first]) / np.maximum(count, 1), np.nan)


def series(rows: Sequence[MetricRow], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of one metric, where it was written and is finite."""
    pairs = [(r.step, r.values[name]) for r in rows if math.isfinite(r.values.get(name, math.nan))]
    return np.array([step for step, _ in pairs]), np.array([value for _, value in pairs])


def names_below(rows: Sequence[MetricRow], prefix: str) -> tuple[str, ...]:
    """`("a", "b")` for metrics `prefix/a` and `prefix/b`, in the order they first appear."""
    found = dict.fromkeys(
        name.removeprefix(prefix) for row in rows for name in row.values if name.startswith(prefix)
    )
    return tuple(found)


# --- held-out accuracy ---------------------------------------------------------------------


def accuracy_over_time(evaluations: Sequence[Evaluation]) -> Figure:
    """Held-out accuracy and the share of well-formed replies, by step."""
    with matplotlib.rc_context(STYLE):
        figure = _figure(WIDTH, 3.2)
        axes = figure.subplots()
        _accuracy_line(axes, evaluations, 0, COLOURS[0], "accuracy")
        axes.plot(
            [row.step for row in evaluations],
            [100 * row.formatted for row in evaluations],
            color=GREY,
            linestyle=":",
            label="replies in the asked format",
        )
        _mark_start(axes, evaluations)
        axes.set(xlabel="step", ylabel="per cent", ylim=(0, 102))
        axes.legend(loc="best")
        return figure


def _accuracy_line(
    axes: Axes, evaluations: Sequence[Evaluation], origin: int, colour: str, label: str
) -> None:
    steps = np.array([row.step - origin for row in evaluations])
    accuracy = 100 * np.array([row.accuracy for row in evaluations])
    error = 100 * np.array([row.standard_error for row in evaluations])
    axes.fill_between(steps, accuracy - error, accuracy + error, color=colour, alpha=0.15, lw=0)
    axes.plot(steps, accuracy, color=colour, marker="o", markersize=3.5, label=label)


def _mark_start(axes: Axes, evaluations: Sequence[Evaluation]) -> None:
    """A line where self-evolution begins, and the accuracy it begins with."""
    for row in evaluations:
        if row.moment == "before":
            axes.axvline(row.step, color=GREY, lw=0.8)
            axes.axhline(100 * row.accuracy, color=GREY, lw=0.8, ls="--")


def compare_runs(runs: Mapping[str, Run]) -> Figure:
    """Held-out accuracy of several runs, by step of self-evolution, in one picture."""
    with matplotlib.rc_context(STYLE):
        figure = _figure(7.4, 3.8)
        axes = figure.subplots()
        for index, (name, run) in enumerate(runs.items()):
            before = run.evaluation("before")
            origin = before.step if before else 0
            rows = [row for row in run.evaluations if row.step >= origin]
            _accuracy_line(axes, rows, origin, COLOURS[index % len(COLOURS)], name)
            last = rows[-1]
            axes.annotate(
                f" {100 * last.accuracy:.0f}",
                (last.step - origin, 100 * last.accuracy),
                color=COLOURS[index % len(COLOURS)],
                va="center",
            )
        axes.set(xlabel="step of self-evolution", ylabel="held-out accuracy, per cent")
        axes.set_title("Held-out accuracy; the band is one standard error", loc="left")
        axes.legend(loc="best")
        return figure


def accuracy_bars(before: Evaluation, after: Evaluation) -> Figure:
    """Held-out accuracy of each task, before and after."""
    tasks = list(before.per_task)
    with matplotlib.rc_context(STYLE):
        figure = _figure(WIDTH, 0.7 + 0.32 * len(tasks))
        axes = figure.subplots()
        place = np.arange(len(tasks))
        for offset, row, colour in ((-0.2, before, GREY), (0.2, after, COLOURS[0])):
            values = [100 * row.per_task.get(task, math.nan) for task in tasks]
            axes.barh(place + offset, values, height=0.38, color=colour, label=row.moment)
        axes.set_yticks(place, [_words(task) for task in tasks])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set(xlabel="held-out accuracy, per cent", xlim=(0, 100))
        figure.legend(loc="outside upper right", ncols=2)
        return figure


def accuracy_panels(run: Run) -> Figure:
    """A panel for each task: held-out accuracy, and accuracy of sampled answers in training."""
    tasks = tuple(dict.fromkeys(task for row in run.evaluations for task in row.per_task))
    rows = math.ceil(len(tasks) / PANEL_COLUMNS)
    with matplotlib.rc_context(STYLE):
        figure = _figure(WIDTH, 0.4 + 1.75 * rows)
        grid = figure.subplots(rows, PANEL_COLUMNS, sharex=True, sharey=True, squeeze=False)
        for index, axes in enumerate(grid.flat):
            if index >= len(tasks):
                axes.set_axis_off()
                grid.flat[index - PANEL_COLUMNS].tick_params(labelbottom=True)
                continue
            task = tasks[index]
            steps, sampled = series(run.metrics, f"accuracy/sampled/{task}")
            if len(steps):
                axes.plot(steps, 100 * moving_mean(sampled), color=GREY, label="sampled")
            axes.plot(
                [row.step for row in run.evaluations if task in row.per_task],
                [100 * row.per_task[task] for row in run.evaluations if task in row.per_task],
                color=COLOURS[0],
                marker="o",
                markersize=3,
                label="held out",
            )
            axes.set_title(_words(task), fontsize=8, loc="left")
            axes.set_ylim(-2, 102)
        grid.flat[0].legend(fontsize=7, loc="best")
        figure.supxlabel("step", fontsize=9)
        figure.supylabel("accuracy, per cent", fontsize=9)
        return figure


# --- training ------------------------------------------------------------------------------


def reward_curves(rows: Sequence[MetricRow]) -> Figure:
    """Mean reward of both roles: every step faint, the moving mean on top."""
    with matplotlib.rc_context(STYLE):
        figure = _figure(WIDTH, 3.0)
        axes = figure.subplots()
        _curves(axes, rows, ("reward/questioner", "reward/solver", "accuracy/sampled"))
        axes.set(xlabel="step", ylabel="mean of a step")
        axes.legend(loc="best")
        return figure


def health_curves(rows: Sequence[MetricRow]) -> Figure:
    """Loss of both phases; entropy of both roles during self-evolution."""
    with matplotlib.rc_context(STYLE):
        figure = _figure(WIDTH, 2.5)
        loss, entropy = figure.subplots(1, 2)
        for index, phase in enumerate(dict.fromkeys(row.phase for row in rows)):
            steps, values = series([row for row in rows if row.phase == phase], "loss/total")
            if len(steps):
                loss.plot(steps, values, color=COLOURS[index], alpha=0.25, lw=0.8)
                loss.plot(steps, moving_mean(values), color=COLOURS[index], label=_words(phase))
        loss.set_title("loss", loc="left")
        _curves(entropy, rows, ("policy/entropy_questioner", "policy/entropy_solver"))
        entropy.set_title("entropy of a token, nats", loc="left")
        for axes in (loss, entropy):
            axes.set_xlabel("step")
            if axes.lines:
                axes.legend(loc="best", fontsize=8)
        return figure


def _curves(axes: Axes, rows: Sequence[MetricRow], names: Sequence[str]) -> None:
    for index, name in enumerate(names):
        steps, values = series(rows, name)
        if len(steps):
            axes.plot(steps, values, color=COLOURS[index], alpha=0.25, lw=0.8)
            axes.plot(steps, moving_mean(values), color=COLOURS[index], label=name)


def task_map(rows: Sequence[MetricRow], prefix: str, label: str) -> Figure:
    """One row a task, one column a step, colour for the value of `prefix/<task>`."""
    tasks = names_below(rows, prefix)
    own = [row for row in rows if any(prefix + task in row.values for task in tasks)]
    table = np.array([[row.values.get(prefix + task, math.nan) for row in own] for task in tasks])
    with matplotlib.rc_context(STYLE):
        figure = _figure(WIDTH, 0.9 + 0.26 * len(tasks))
        axes = figure.subplots()
        axes.grid(visible=False)
        image = axes.imshow(
            table,
            aspect="auto",
            interpolation="nearest",
            cmap="viridis",
            vmin=0.0,
            extent=(own[0].step - 0.5, own[-1].step + 0.5, len(tasks) - 0.5, -0.5),
        )
        axes.set_yticks(range(len(tasks)), [_words(task) for task in tasks])
        axes.set_xlabel("step")
        figure.colorbar(image, ax=axes, label=label)
        return figure


def _words(name: str) -> str:
    return name.replace("_", " ")
