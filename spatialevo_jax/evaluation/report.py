"""One self-contained HTML page about a run: numbers, curves, and what the policy said.

Everything is inside the file: styles, charts as SVG, frames as small JPEG images. All text that a
model wrote is escaped, control characters are made visible.
"""

import base64
import html
import io
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from PIL import Image

from spatialevo_jax.evaluation import charts
from spatialevo_jax.evaluation.runs import Evaluation, Run, Sample

T = TypeVar("T")

THUMBNAIL = 160  # pixels, longest side
SAMPLES_PER_TASK = 4  # held-out questions shown of each task
TRAINING_SAMPLES = 24  # shown of each role, spread over the run
MAX_ALARMS = 30  # lines shown, spread over the run
MAX_MOMENTS = 7  # columns of the table by task

REWARD_SOURCES = {
    "geometry": "Rewards came from geometry: an exact oracle computed the truth of each question "
    "the policy asked itself, from boxes and camera poses.",
    "vote": "This is a control. Rewards came from majority vote among the policy's own answers, "
    "not from geometry.",
    "shuffled": "This is a control. Rewards came from geometry but were shuffled within the "
    "batch, so that they say nothing about the answer they are given for.",
}

STYLE = """
:root { color-scheme: light; --line: #e0e0e0; --soft: #5f6368; --accent: #0072b2; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 62rem; padding: 1.5rem; }
h1 { font-size: 1.7rem; margin: 0; } h2 { font-size: 1.2rem; margin: 2.4rem 0 .3rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .2rem; }
p { margin: .3rem 0 .8rem; max-width: 48rem; } .soft, figcaption { color: var(--soft); }
.note { background: #fff8e1; border-left: 4px solid #e69f00; padding: .3rem .8rem; }
.alarms { border-left: 4px solid #b34700; list-style: none; margin: .3rem 0; padding: 0 .8rem; }
.tiles { display: flex; flex-wrap: wrap; gap: .7rem; margin: 1.2rem 0; }
.tile { border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .9rem; }
.tile b { display: block; font-size: 1.45rem; } .tile.main b { color: var(--accent); }
.tile span { color: var(--soft); font-size: .8rem; }
figure { margin: .4rem 0 1rem; } figure img { width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .6rem; text-align: left; }
td { white-space: nowrap; } th { font-weight: 600; } td.n, th.n { text-align: right; }
tr.total td { font-weight: 700; border-top: 2px solid #888; }
.up { color: #00734f; } .down { color: #b34700; }
.sample { border: 1px solid var(--line); border-radius: .5rem; margin: .6rem 0; padding: .7rem; }
.frames { display: flex; flex-wrap: wrap; gap: .4rem; margin: .3rem 0; }
.frames img { border-radius: .25rem; height: 112px; image-rendering: auto; }
.missing { border: 1px dashed #999; color: var(--soft); font-size: .75rem; padding: .4rem;
           max-width: 10rem; overflow-wrap: anywhere; }
.replies { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: .6rem; }
pre { background: #f6f8fa; border-radius: .3rem; font-size: .8rem; margin: .2rem 0; padding: .5rem;
      overflow-wrap: anywhere; white-space: pre-wrap; }
.tag { border-radius: .8rem; color: #fff; font-size: .75rem; padding: .1rem .55rem; }
.good { background: #00734f; } .part { background: #9c6500; } .bad { background: #b34700; }
summary { cursor: pointer; }
"""


def build_page(run: Run) -> str:
    """The whole page as text."""
    kind = "Supervised" if _from_a_set(run) else "Self-evolution"
    title = f"{kind} run {run.folder.name}"
    sections = [
        _header(run, title),
        _summary_tiles(run),
        "".join(f'<p class="note">{escape(note)}</p>' for note in run.notes),
        _alarms(run),
        _held_out(run),
        _training(run),
        _held_out_samples(run),
        _training_samples(run),
        _settings(run),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(filter(None, sections))
        + "\n</body></html>\n"
    )


def escape(text: str) -> str:
    """Safe HTML for any text: control characters become visible, half surrogates a mark."""
    shown = "".join(
        character if character.isprintable() or character == "\n" else _visible(character)
        for character in text
    )
    return html.escape(shown, quote=True)


def _visible(character: str) -> str:
    code = ord(character)
    if 0xD800 <= code <= 0xDFFF:  # can't be written as UTF-8
        return "\N{REPLACEMENT CHARACTER}"
    return " " if character == "\N{NO-BREAK SPACE}" else f"\\x{code:02x}"


def percent(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{100 * value:.1f} %"


def points(change: float) -> str:
    """A change of accuracy in points, with its sign."""
    return "n/a" if math.isnan(change) else f"{100 * change:+.1f}"


# --- numbers -------------------------------------------------------------------------------


def _from_a_set(run: Run) -> bool:
    """Whether the run learned from a question-answer set in place of self-evolution."""
    return any(row.phase == "sft" for row in run.metrics)


def _header(run: Run, title: str) -> str:
    if _from_a_set(run):
        done = "One vision-language policy learned the replies of a question-answer set."
    else:
        source = REWARD_SOURCES.get(run.summary.reward, "") if run.summary else ""
        done = (
            "One vision-language policy looked at rooms, asked itself questions about their "
            "geometry (Questioner), answered them (Solver) and was updated by GRPO. No label was "
            f"used after the warm start. {source}"
        )
    return (
        f"<h1>{escape(title)}</h1><p>{escape(done)} Accuracy below is always greedy, on rooms "
        "that training never sees, with the same questions at every reading.</p>"
    )


def _summary_tiles(run: Run) -> str:
    before, after = run.evaluation("before"), run.evaluation("after")
    trained = "training on the set" if _from_a_set(run) else "self-evolution"
    tiles: list[tuple[str, str, bool]] = []
    if run.summary is not None:
        summary = run.summary
        tiles += [
            (_with_error(summary.warm_start_accuracy, before), "after the warm start", True),
            (_with_error(summary.final_accuracy, after), f"after {trained}", True),
            (points(summary.gain), "points gained", True),
            (f"{summary.steps:,}", "steps", False),
            (f"{summary.seconds / 60:.1f} min", "time", False),
            (f"{summary.peak_memory_bytes / 1e9:.1f} GB", "peak memory", False),
            (str(summary.seed), "seed", False),
        ]
        if not _from_a_set(run):
            tiles.append((summary.reward, "reward", False))
    elif before is not None:
        latest = run.evaluations[-1]
        tiles += [
            (_with_error(before.accuracy, before), "after the warm start", True),
            (_with_error(latest.accuracy, latest), f"so far, at step {latest.step:,}", True),
        ]
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile{" main" if main else ""}"><b>{escape(value)}</b>'
            f"<span>{escape(name)}</span></div>"
            for value, name, main in tiles
        )
        + "</div>"
        if tiles
        else ""
    )


def _with_error(accuracy: float, evaluation: Evaluation | None) -> str:
    """With one standard error, where the evaluation tells how many questions there were."""
    if evaluation is None or math.isnan(evaluation.standard_error):
        return percent(accuracy)
    return f"{100 * accuracy:.1f} ± {100 * evaluation.standard_error:.1f} %"


def _alarms(run: Run) -> str:
    """What the run said of itself; each line when it began."""
    if not run.alarms:
        return ""
    shown = _spread(run.alarms, MAX_ALARMS)
    lines = "".join(
        f'<li><span class="soft">step {row.step:,}</span> {escape(row.sentence)}</li>'
        for row in shown
    )
    left_out = len(run.alarms) - len(shown)
    more = f" {left_out:,} more are in alarms.jsonl." if left_out else ""
    lead = f"Each was raised once, when its cause appeared.{more}"
    return _section("Alarms", lead, f'<ul class="alarms">{lines}</ul>')


def _held_out(run: Run) -> str:
    if not run.evaluations:
        return _section("Held-out accuracy", "No evaluation has been written yet.")
    before, after = run.evaluation("before"), run.evaluation("after")
    parts = [
        _chart(
            lambda: charts.accuracy_over_time(run.evaluations),
            "Mean over tasks; the band is one standard error from the number of questions. The "
            "vertical line is where the warm start ends.",
        ),
        _task_table([row for row in run.evaluations if not before or row.step >= before.step]),
    ]
    if before and after:
        parts.append(_chart(lambda: charts.accuracy_bars(before, after), "Before and after."))
    parts.append(
        _chart(
            lambda: charts.accuracy_panels(run),
            "Each task: held-out accuracy (blue) and the moving mean of accuracy of the answers "
            "sampled in training (grey), which are about the policy's own questions.",
        )
    )
    return _section("Held-out accuracy", "", *parts)


def _task_table(evaluations: Sequence[Evaluation]) -> str:
    """Tasks down, moments across; the change is last minus first."""
    shown = _spread(evaluations, MAX_MOMENTS)
    first, last = shown[0], shown[-1]
    head = "".join(
        f'<th class="n">{escape(row.moment)}<br><span class="soft">step {row.step:,}</span></th>'
        for row in shown
    )
    rows = [
        _table_row(
            task,
            [row.per_task.get(task, math.nan) for row in shown],
            str(last.counts.get(task, first.counts.get(task, "")) or ""),
        )
        for task in dict.fromkeys(task for row in shown for task in row.per_task)
    ]
    total = _table_row(
        "mean of tasks",
        [row.accuracy for row in shown],
        str(sum(last.counts.values()) or ""),
        "total",
    )
    return (
        f'<div class="wide"><table><tr><th>per cent</th>{head}<th class="n">change</th>'
        f'<th class="n">questions</th></tr>{"".join(rows)}{total}</table></div>'
    )


def _table_row(name: str, values: Sequence[float], count: str, kind: str = "") -> str:
    change = values[-1] - values[0]
    sense = "up" if change > 0 else "down" if change < 0 else ""
    cells = "".join(f'<td class="n" style="{_shade(v)}">{_bare_percent(v)}</td>' for v in values)
    return (
        f'<tr class="{kind}"><td>{escape(name.replace("_", " "))}</td>{cells}'
        f'<td class="n {sense}">{points(change)}</td><td class="n">{escape(count)}</td></tr>'
    )


def _bare_percent(value: float) -> str:
    return "" if math.isnan(value) else f"{100 * value:.1f}"


def _shade(value: float) -> str:
    """A light blue that grows with the value."""
    return "" if math.isnan(value) else f"background: rgba(0, 114, 178, {0.35 * value:.3f})"


# --- curves of training --------------------------------------------------------------------


def _training(run: Run) -> str:
    evolve = [row for row in run.metrics if row.phase == "evolve"]
    if not run.metrics:
        return _section("Training", "No step has been written yet.")
    if _from_a_set(run):
        caption = "Loss of the warm start and of the replies of the set."
        return _section("Training", "", _chart(lambda: charts.health_curves(run.metrics), caption))
    if not evolve:
        return _section(
            "Training",
            "Self-evolution has not begun: only warm start steps have been written so far.",
            _chart(lambda: charts.health_curves(run.metrics), "Loss of the warm start."),
        )
    parts = [
        _chart(
            lambda: charts.reward_curves(evolve),
            "Mean reward of the questions asked and of the answers given, and the accuracy of "
            f"sampled answers. Bold: the mean of {charts.SMOOTHING} steps.",
        )
    ]
    if charts.names_below(evolve, "scheduler/probability/"):
        parts.append(
            _chart(
                lambda: charts.task_map(evolve, "scheduler/probability/", "probability"),
                "The scheduler: how probable each task is at each step. It asks more of what the "
                "Solver gets wrong.",
            )
        )
    if charts.names_below(evolve, "validity/"):
        parts.append(
            _chart(
                lambda: charts.task_map(evolve, "validity/", "share valid"),
                "Share of the Questioner's questions that geometry can answer.",
            )
        )
    parts.append(
        _chart(lambda: charts.health_curves(run.metrics), "Loss, and how undecided the policy is.")
    )
    return _section("Self-evolution", "", *parts, _time_table(run))


def _time_table(run: Run) -> str:
    """Median seconds of each part of a step."""
    evolve = [row for row in run.metrics if row.phase == "evolve"]
    rows = []
    for name in charts.names_below(evolve, "time/"):
        _, values = charts.series(evolve, f"time/{name}")
        if len(values):
            seconds = f"{statistics.median(values.tolist()):.3f}"
            words = name.removesuffix("_s").replace("_", " ")
            rows.append(f'<tr><td>{escape(words)}</td><td class="n">{seconds}</td></tr>')
    if not rows:
        return ""
    head = '<tr><th>part of a step</th><th class="n">median seconds</th></tr>'
    return f"<table>{head}{''.join(rows)}</table>"


# --- samples -------------------------------------------------------------------------------


def _held_out_samples(run: Run) -> str:
    """The same question before and after, side by side."""
    moments = [row for row in run.evaluations if row.samples]
    if not moments:
        return ""
    before = next((row for row in moments if row.moment == "before"), None)
    after = next((row for row in reversed(moments) if row.moment == "after"), None)
    by_question: dict[tuple[str, tuple[str, ...], str], list[tuple[str, Sample]]] = {}
    for name, row in (("before", before), ("after", after)):
        for sample in row.samples if row else ():
            key = (sample.task, sample.images, sample.question)
            by_question.setdefault(key, []).append((name, sample))
    parts, shown = [], dict[str, int]()
    for (task, _, _), replies in sorted(by_question.items(), key=lambda item: item[0][0]):
        if shown.get(task, 0) == 0:
            parts.append(f"<h3>{escape(task.replace('_', ' '))}</h3>")
        shown[task] = shown.get(task, 0) + 1
        if shown[task] <= SAMPLES_PER_TASK:
            parts.append(_sample_card(run.folder, replies, "score"))
    lead = "Questions about rooms that training never sees, and the greedy reply to them."
    return _section("Samples, held out", lead, *parts)


def _training_samples(run: Run) -> str:
    parts = []
    for role, lead in (
        ("questioner", "Questioner: the policy asks"),
        ("solver", "Solver: the policy answers its own questions"),
    ):
        own = _spread([row for row in run.samples if row.role == role], TRAINING_SAMPLES)
        if own:
            parts.append(f"<details><summary>{lead} ({len(own)} shown)</summary>")
            parts += [_sample_card(run.folder, [(f"step {s.step:,}", s)], "reward") for s in own]
            parts.append("</details>")
    if not parts:
        return ""
    return _section("Samples, training", "Sampled replies, from early to late.", *parts)


def _sample_card(folder: Path, replies: Sequence[tuple[str, Sample]], measure: str) -> str:
    _, first = replies[0]
    truth = f"<b>Truth:</b> {escape(first.truth)}" if first.truth else ""
    if not first.valid:
        truth = f"<b>Geometry refuses the question:</b> {escape(first.reason or 'invalid')}"
    columns = "".join(
        f"<div><b>{escape(name)}</b> {_score_tag(sample.score, measure)}"
        f"<pre>{escape(sample.reply)}</pre></div>"
        for name, sample in replies
    )
    frames = "".join(_frame(folder, path) for path in first.images)
    return (
        f'<div class="sample"><span class="soft">{escape(first.task.replace("_", " "))}</span>'
        f'<div class="frames">{frames}</div><p><b>Question:</b> {escape(first.question)}<br>'
        f'{truth}</p><div class="replies">{columns}</div></div>'
    )


def _score_tag(score: float, measure: str) -> str:
    kind = "good" if score > 0.95 else "bad" if score < 0.2 else "part"
    return f'<span class="tag {kind}">{measure} {score:.2f}</span>'


def _frame(folder: Path, path: str) -> str:
    """An image as a thumbnail inside the page, or a box that says which file is not there or is no
    image.
    """
    fault = "not there any more"
    for place in (folder / path, Path(path)):
        if place.is_file():
            try:
                return f'<img alt="" src="{_thumbnail(place)}">'
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
                fault = "does not decode any more"
    return f'<div class="missing">{fault}: {escape(path)}</div>'


def _thumbnail(path: Path) -> str:
    buffer = io.BytesIO()
    with Image.open(path) as image:
        small = image.convert("RGB")
        small.thumbnail((THUMBNAIL, THUMBNAIL))
        small.save(buffer, format="JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


# --- small parts ---------------------------------------------------------------------------


def _settings(run: Run) -> str:
    if not run.config_text:
        return ""
    return (
        "<h2>Settings</h2><details><summary>config.json</summary>"
        f"<pre>{escape(run.config_text)}</pre></details>"
    )


def _section(title: str, lead: str, *parts: str) -> str:
    paragraph = f"<p>{escape(lead)}</p>" if lead else ""
    return f"<section><h2>{escape(title)}</h2>{paragraph}{''.join(parts)}</section>"


def _chart(draw: Callable[[], charts.Figure], caption: str) -> str:
    return (
        f'<figure><img alt="{escape(caption)}" src="{charts.as_svg_uri(draw())}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _spread(items: Sequence[T], count: int) -> list[T]:
    """At most `count` items, evenly spread, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    places = sorted({round(i * (len(items) - 1) / (count - 1)) for i in range(count)})
    return [items[place] for place in places]
