"""The card of a set: a README with counts, balance, blind guessers, licences and the recipe, in the
form that dataset hubs show.
"""

import json
import textwrap
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from geometry_jax.tasks import TASK_IDS, TASKS
from spatialevo_jax.evaluation import charts
from spatialevo_jax.files import whole_file
from spatialevo_jax.qa import shards
from spatialevo_jax.qa.groups import HARD, MEDIUM
from spatialevo_jax.qa.summary import Summary

NAME, FOLDER = "README.md", "card"
MOST_ANSWERS = 18  # bars of one panel
COLUMNS = 4  # panels beside each other
LICENCES = {
    "rooms": (
        "apache-2.0",
        "Procedural rooms, generated from a seed by this project. Pictures and geometry are free "
        "to use under Apache-2.0.",
    ),
    "own": (
        "other",
        "Scans of whoever made this set. The licence of the scans is theirs to state: write it "
        "here before you pass the set on.",
    ),
    "scannet": (
        "other",
        "Made from ScanNet. The set holds questions, answers and image names, no pixels and no "
        "meshes; to use it, get the scans under the ScanNet Terms of Use (non-commercial research "
        "and education), which also bind what is derived from them.",
    ),
    "scannetpp": (
        "other",
        "Made from ScanNet++. The set holds questions, answers and image names, no pixels and no "
        "meshes; to use it, get the scans under the ScanNet++ Terms of Use (non-commercial "
        "research), which also bind what is derived from them.",
    ),
    "arkitscenes": (
        "other",
        "Made from ARKitScenes. The set holds questions, answers and image names, no pixels and no "
        "meshes; to use it, get the scans under the ARKitScenes licence (non-commercial), which "
        "also binds what is derived from them.",
    ),
}


def write_card(out: Path, summary: Summary, pictures: Sequence[str] = ()) -> None:
    """Writes the README and its plots. `pictures` are names of sample pictures in `out`."""
    folder = out / FOLDER
    for name, figure in (
        ("answers.png", _answers(summary)),
        ("difficulty.png", _difficulty(summary)),
    ):
        with whole_file(folder / name) as part:
            _save(figure, part)
    with whole_file(out / NAME) as part:
        part.write_text(text(summary, pictures), encoding="utf-8")


def _save(figure: Figure, path: Path) -> None:
    with matplotlib.rc_context(charts.STYLE):
        figure.savefig(path, dpi=110, format="png", metadata={"Software": None})


def text(summary: Summary, pictures: Sequence[str] = ()) -> str:
    """The card in Markdown."""
    recipe = summary.recipe
    total = sum(summary.rows.values())
    parts = [
        _front_matter(summary),
        f"# {total:,} questions about rooms, with exact answers\n",
        textwrap.fill(
            f"{total:,} question-answer pairs of {len(summary.by_task)} kinds about "
            f"{sum(summary.rooms.values()):,} scenes, in {summary.wordings:,} different sentences. "
            "Every answer is computed from the geometry of its scene, and every question was read "
            "back by the environment to the query that it was made from. No answer was written by "
            "a person or a model.",
            98,
        )
        + "\n",
        _section("Rows", _rows_table(summary)),
        _section("What a row holds", _fields_text(recipe.embed_images)),
        _section("Balance", _balance(summary)),
        _section("What can be guessed without looking", _blind(summary)),
        _section("Licence", LICENCES[recipe.source][1]),
        _section("How it was made", _recipe_text(summary)),
    ]
    if pictures:
        shown = "\n".join(f"![{Path(name).stem}]({name})\n" for name in pictures)
        parts.append(_section("Samples", f"One row of each task, with what decides it.\n\n{shown}"))
    return "\n".join(parts)


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body.strip()}\n"


def _front_matter(summary: Summary) -> str:
    """What hubs read: licence, size, and which files are which split."""
    form = "parquet" if "parquet" in summary.recipe.formats else "jsonl"
    total = sum(summary.rows.values())
    sizes = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))
    size = next((name for most, name in sizes if total < most), "100K<n<1M")
    lines = ["---", f"license: {LICENCES[summary.recipe.source][0]}", "language:", "- en"]
    lines += ["task_categories:", "- visual-question-answering", "tags:", "- spatial-reasoning"]
    lines += ["- 3d", "size_categories:", f"- {size}", "configs:", "- config_name: default"]
    lines += ["  data_files:"]
    for split in summary.rows:
        lines += [f"  - split: {split}", f"    path: {form}/{split}-*.{form}"]
    if form == "jsonl":  # parquet says itself what its columns are; YAML reads JSON
        info = {"features": _described(shards.features())["struct"]}
        lines.append(f"dataset_info: {json.dumps(info)}")
    return "\n".join([*lines, "---", ""])


def _described(feature: dict[str, Any]) -> dict[str, Any]:
    """A feature as the head of a card says it."""
    if "dtype" in feature:
        return {"dtype": feature["dtype"]}
    if "feature" in feature:
        inner = _described(feature["feature"])
        return {"list": inner.get("dtype", inner)}
    return {"struct": [{"name": name, **_described(one)} for name, one in feature.items()]}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, numbers to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _rows_table(summary: Summary) -> str:
    splits = list(summary.rows)
    rows = []
    for task, counts in summary.by_task.items():
        own = [f"{counts.get(split, 0):,}" for split in splits]
        rows.append([f"`{task}`", TASKS[TASK_IDS[task]].modality.replace("_", " "), *own])
    if summary.unanswered:
        own = [f"{summary.unanswered.get(split, 0):,}" for split in splits]
        rows.append(["no answer, but a reason", "all", *own])
    rows.append(["**all**", "", *(f"**{summary.rows[split]:,}**" for split in splits)])
    table = _table(["task", "images", *splits], rows)
    rooms = ", ".join(f"{count:,} in {split}" for split, count in summary.rooms.items() if count)
    notes = f"Scenes: {rooms}; no room is in two splits."
    if summary.choices:
        notes += f" {summary.choices:,} rows have options."
    if summary.reasons:
        named = ", ".join(f"{name} {count:,}" for name, count in summary.reasons.items())
        notes += f"\n\nReasons of questions without an answer: {named}."
    return f"{table}\n\n{notes}"


def _fields_text(pictures: bool) -> str:
    fields = {
        "id": "scene, task and a digest of what is asked",
        "split, task, modality, convention, scene_id": "where the row belongs",
        "images": "paths below the folder of the scenes, in the order shown: Image 1, Image 2",
        "question, answer": "the pair; without an answer (`valid` false), the reason in words",
        "options, correct": "a choice of answers and the place of the right one; [] and -1: open",
        "reason": "`OK`, or why there is no answer",
        "margin, difficulty": "distance to the nearest decision edge, 1 is 2 degrees or 2 %; "
        f"below {HARD:.0f} hard, below {MEDIUM:.0f} medium, else easy, or measured",
        "labels, roles, level": "what the question names: things, images, and its answers' form",
        "rationale": "the chain of measurements that leads to the answer, where asked for",
        "evidence": "ids of the deciding objects, points in metres in the world, numbers",
        "scene_hash": "of the geometry: a scene that changed is found by `--verify`",
    }
    if pictures:
        fields["pictures"] = "the images themselves (parquet only)"
    lines = [f"- `{'`, `'.join(names.split(', '))}`: {what}." for names, what in fields.items()]
    images = "inside" if pictures else "not inside: only their names are"
    return "\n".join(lines) + f"\n\nPixels are {images}."


def _balance(summary: Summary) -> str:
    return (
        "Answers of a task come equally often as far as the scenes allow; lengths are balanced in "
        "steps of a quarter.\n\n"
        f"![How often each answer comes, by task]({FOLDER}/answers.png)\n\n"
        f"![How near each decision is to its edge, by task]({FOLDER}/difficulty.png)"
    )


def _blind(summary: Summary) -> str:
    """The guessers' scores beside their bounds."""
    rows = []
    for one in summary.reports:
        if not one.is_guessed:
            continue
        rows.append(
            [
                f"`{one.group}`",
                one.split,
                f"{one.rows:,}",
                f"{one.most_share:.1%}",
                f"{one.share_bound:.1%}",
                *(f"{score:.1%}" for score in (one.majority, one.regression, one.table)),
                f"{one.blind_bound:.1%}",
            ]
        )
    table = _table(
        [
            *("task", "split", "rows", "most frequent answer", "bound"),
            *("majority", "regression", "table", "bound"),
        ],
        rows,
    )
    return (
        "Scores of three guessers that see no image, on rooms that they were not fitted to: the "
        "answer (for numbers: the constant) that is right most often; a ridge regression on the "
        "labels that a question names; a table of the answers to the same words in other rooms. "
        "Choices by accuracy, numbers by mean relative accuracy. Rows that they guess were "
        "replaced until each was below the bound: for choices 10 points above chance among the "
        "answers that are common, for numbers a stated one, because things of a kind are of a "
        "size; and two standard errors of a score on so many rows.\n\n" + table
    )


def _recipe_text(summary: Summary) -> str:
    recipe = summary.recipe
    lines = [
        f"Made by `launch.generate` of spatialevo-jax {metadata.version('spatialevo-jax')}, recipe "
        f"version {recipe.version}, seed {recipe.seed}, convention `{recipe.convention}`. The same "
        "recipe on the same scenes gives the same bytes:",
        "",
        "```json",
        json.dumps(recipe.to_json(), indent=1),
        "```",
        "",
        "`python -m launch.generate --verify=THIS --scenes=SCENES` answers every row again from "
        "its scene and lists those that differ.",
    ]
    if summary.refused:
        lines += ["", f"Given questions that no row can ask: {summary.refused:,}."]
    if summary.skipped:
        lines += ["", f"Scenes left out, {len(summary.skipped)}:", ""]
        lines += [f"- `{name}`: {why}" for name, why in summary.skipped]
    return "\n".join(lines)


# --- plots -----------------------------------------------------------------------------------


def _answers(summary: Summary) -> Figure:
    """How often each answer comes: choices one by one, lengths as a histogram."""
    tasks = list(summary.answers)
    lines = max(-(-len(tasks) // COLUMNS), 1)  # a set may hold questions without an answer alone
    with matplotlib.rc_context(charts.STYLE):
        figure = Figure(figsize=(3.1 * COLUMNS, 2.3 * lines), layout="constrained")
        for place, task in enumerate(tasks):
            axes = figure.add_subplot(lines, COLUMNS, place + 1)
            axes.set_title(task, fontsize=8.5)
            answers = summary.answers[task]
            if TASKS[TASK_IDS[task]].answer in ("metres", "centimetres", "square_metres"):
                values = [float(answer.split()[0]) for answer in answers]
                axes.hist(values, bins=30, weights=list(answers.values()), color=charts.COLOURS[0])
                axes.set_xlabel(next(iter(answers)).partition(" ")[2], fontsize=8)
            else:
                shown = dict(list(answers.items())[:MOST_ANSWERS])
                axes.bar(range(len(shown)), list(shown.values()), color=charts.COLOURS[0])
                axes.set_xticks(range(len(shown)), list(shown), rotation=90, fontsize=7)
            axes.tick_params(axis="y", labelsize=7)
    return figure


def _difficulty(summary: Summary) -> Figure:
    """Stacked shares of the difficulties of each task."""
    tasks = list(summary.difficulty)
    words = ("hard", "medium", "easy", "measured")
    with matplotlib.rc_context(charts.STYLE):
        figure = Figure(figsize=(3.1 * COLUMNS, 0.32 * len(tasks) + 1.0), layout="constrained")
        axes = figure.add_subplot()
        start = [0.0] * len(tasks)
        for colour, word in zip(("#D55E00", "#E69F00", "#009E73", charts.GREY), words, strict=True):
            own = [summary.difficulty[task] for task in tasks]
            share = [counts.get(word, 0) / sum(counts.values()) for counts in own]
            axes.barh(tasks, share, left=start, color=colour, label=word)
            start = [a + b for a, b in zip(start, share, strict=True)]
        axes.set_xlim(0, 1)
        axes.invert_yaxis()
        axes.set_xlabel("share of rows")
        axes.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=8)
    return figure
