"""The report of a run: what is shown, what is said when something is missing, what is escaped."""

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from launch import report as tool
from launch.errors import UserError
from spatialevo_jax.evaluation import report
from spatialevo_jax.evaluation.runs import read_run

TASKS = ("object_counting", "motion_camera", "depth_order_obj_obj")
NASTY = "</pre><script>alert(1)</script>\x00\x1b[31m \ud800 <answer>chair & lamp</answer>"


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def make_run(folder: Path, *, gain: float = 0.3, seed: int = 0, reward: str = "geometry") -> Path:
    """A small finished run: 10 warm start steps, 20 steps of evolution."""
    folder.mkdir(parents=True)
    Image.fromarray(np.full((112, 112, 3), 90, np.uint8)).save(folder / "frame.png")
    metrics: list[dict[str, Any]] = [
        {"step": s, "phase": "warm_start", "seconds": s / 10, "loss/total": 3.0 - s / 10}
        for s in range(10)
    ]
    for step in range(10, 30):
        row: dict[str, Any] = {"step": step, "phase": "evolve", "seconds": float(step)}
        row |= {"loss/total": 0.1, "policy/entropy_solver": 0.5, "time/rollout_s": 0.25}
        row |= {"reward/questioner": 0.5, "reward/solver": 0.4, "accuracy/sampled": 0.4}
        row |= {f"scheduler/probability/{task}": 1 / 3 for task in TASKS}
        row |= {f"validity/{task}": 0.8 for task in TASKS}
        row |= {f"accuracy/sampled/{TASKS[step % 3]}": 0.4}
        metrics.append(row)
    write_lines(folder / "metrics.jsonl", metrics)
    evaluations = []
    for step, moment in ((10, "before"), (20, "during"), (30, "after")):
        accuracy = 0.4 + gain * (step - 10) / 20
        row = {"step": step, "phase": "evolve", "moment": moment, "accuracy": accuracy}
        row |= {"format": 0.9} | {f"accuracy/{task}": accuracy for task in TASKS}
        row |= {f"count/{task}": 40 for task in TASKS}
        if moment != "during":
            row["samples"] = [
                {
                    "task": task,
                    "modality": "single_image",
                    "images": ["frame.png"],
                    "question": f"Which is closer, the <b>{index}</b> or the lamp?",
                    "reply": f"{moment} {NASTY}",
                    "truth": "chair",
                    "score": float(moment == "after"),
                }
                for task in TASKS
                for index in range(6)
            ]
        evaluations.append(row)
    write_lines(folder / "evaluations.jsonl", evaluations)
    (folder / "broken.png").write_bytes(b"no picture")
    write_lines(
        folder / "samples.jsonl",
        [
            {
                "step": step,
                "role": role,
                "task": TASKS[0],
                "images": ["gone.png", "broken.png"],
                "question": "How many chairs are there?",
                "reply": NASTY,
                "reward": 0.5,
                "truth": "3" if step % 2 else None,
                "valid": bool(step % 2),
                "reason": "" if step % 2 else "not unique",
            }
            for step in range(10, 30)
            for role in ("questioner", "solver")
        ],
    )
    summary = {
        "warm_start_accuracy": 0.4,
        "final_accuracy": 0.4 + gain,
        "per_task": {t: {"before": 0.4, "after": 0.4 + gain, "count": 40} for t in TASKS},
        "seconds": 600.0,
        "peak_memory_bytes": 2_000_000_000,
        "steps": 30,
        "seed": seed,
        "reward": reward,
    }
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    (folder / "config.json").write_text('{"seed": 0}', encoding="utf-8")
    return folder


class Page(HTMLParser):
    """Collects what a browser would see: tags, addresses, text; complains of wrong nesting."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(folder: Path) -> Page:
    return Page(report.build_page(read_run(folder)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "demo")


@pytest.fixture(scope="module")
def page(finished: Path) -> Page:
    return page_of(finished)


def test_the_page_shows_every_part_of_a_run(page: Page) -> None:
    for words in (
        "after the warm start",
        "after self-evolution",
        "+30.0",
        "10.0 min",
        "2.0 GB",
        "Rewards came from geometry",
        "motion camera",
        "The scheduler",
        "Share of the Questioner's questions that geometry can answer",
        "Mean reward",
        "Samples, held out",
        "Questioner: the policy asks",
        "Solver: the policy answers",
        "Geometry refuses the question:",
        "not unique",
        '"seed": 0',
    ):
        assert words in page.text, words
    assert page.tags.count("figure") == 7
    assert "is not there:" not in page.text


def test_accuracy_comes_with_its_standard_error(page: Page) -> None:
    expected = 100 * (3 * 0.4 * 0.6 / 40) ** 0.5 / 3
    assert f"40.0 ± {expected:.1f} %" in page.text


def test_the_page_needs_nothing_outside_itself(page: Page) -> None:
    assert all(source.startswith("data:image/") for source in page.sources)


def test_alarms_stand_above_the_curves_and_are_limited(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    assert "Alarms" not in page_of(folder).text
    rows = [
        {"step": step, "name": "flat", "sentence": f"Sentence {step}: <b>nothing</b> is learnt."}
        for step in range(1000, 1040)
    ]
    write_lines(folder / "alarms.jsonl", rows)
    page = page_of(folder)
    assert "step 1,000 Sentence 1000: <b>nothing</b> is learnt." in page.text
    assert "step 1,039 Sentence 1039" in page.text
    assert page.text.count(" is learnt.") == report.MAX_ALARMS
    assert "10 more are in alarms.jsonl." in page.text
    assert page.text.index("Alarms") < page.text.index("Held-out accuracy")


def test_what_a_model_wrote_can_not_become_markup(page: Page) -> None:
    assert "script" not in page.tags
    assert "b" in page.tags  # ours
    assert "<b>3</b>" in page.text  # the question's, as text
    assert "</pre><script>alert(1)</script>\\x00\\x1b[31m \N{REPLACEMENT CHARACTER}" in page.text


def test_a_frame_that_is_gone_or_broken_is_named(page: Page) -> None:
    assert "not there any more: gone.png" in page.text
    assert "does not decode any more: broken.png" in page.text


def test_before_and_after_stand_side_by_side_and_are_limited(page: Page) -> None:
    text = page.text
    assert text.count("before </pre>") == text.count("after </pre>") == 3 * report.SAMPLES_PER_TASK


@pytest.mark.parametrize("reward", ["vote", "shuffled"])
def test_a_control_is_called_a_control(tmp_path: Path, reward: str) -> None:
    assert "This is a control." in page_of(make_run(tmp_path / "run", reward=reward)).text


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("metrics.jsonl", "No step has been written yet."),
        ("evaluations.jsonl", "No evaluation has been written yet."),
        ("samples.jsonl", "the samples from training are missing."),
        ("summary.json", "the run has not finished."),
        ("config.json", "the settings are missing."),
    ],
)
def test_a_missing_file_is_said_and_the_rest_is_shown(
    tmp_path: Path, name: str, sentence: str
) -> None:
    folder = make_run(tmp_path / "run")
    (folder / name).unlink()
    text = page_of(folder).text
    assert sentence in text
    assert f"{name} is not there" in text


def test_a_run_on_a_set_is_not_said_to_have_evolved_itself(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    path = folder / "metrics.jsonl"
    path.write_text(path.read_text().replace('"evolve"', '"sft"'))
    (folder / "samples.jsonl").unlink()
    text = page_of(folder).text
    assert "learned the replies of a question-answer set" in text
    assert "after training on the set" in text
    assert not any(word in text for word in ("GRPO", "Self-evolution", "Rewards came from"))


def test_a_run_in_its_warm_start_has_a_page(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    for name in ("evaluations.jsonl", "samples.jsonl", "summary.json"):
        (folder / name).unlink()
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)[:3]
    (folder / "metrics.jsonl").write_text("".join(lines))
    assert "Self-evolution has not begun" in page_of(folder).text


def test_a_run_that_goes_on_shows_where_it_is(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (folder / "summary.json").unlink()
    lines = (folder / "evaluations.jsonl").read_text().splitlines(keepends=True)[:2]
    (folder / "evaluations.jsonl").write_text("".join(lines))
    assert "so far, at step 20" in page_of(folder).text


# --- the command ---------------------------------------------------------------------------


def test_the_page_is_written_into_the_run_or_elsewhere(finished: Path, tmp_path: Path) -> None:
    tool.write_page(finished, None)
    tool.write_page(finished, tmp_path / "new" / "page.html")
    assert (finished / "report.html").read_bytes() == (tmp_path / "new/page.html").read_bytes()


def test_several_runs_are_drawn_in_one_picture(finished: Path, tmp_path: Path) -> None:
    vote = make_run(tmp_path / "vote", gain=0.0, reward="vote")
    out = tmp_path / "pictures" / "curves.png"
    tool.write_comparison([f"geometry={finished}", f"vote={vote}"], out)
    with Image.open(out) as image:
        assert image.width > 800
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24) or []}
    assert {(0, 114, 178), (213, 94, 0)} <= colours  # one line each


def test_seeds_are_summed_up_by_mean_and_deviation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [make_run(tmp_path / f"s{i}", gain=g, seed=i) for i, g in enumerate((0.1, 0.2, 0.3))]
    tool.print_summaries([*map(str, folders)], tmp_path / "seeds.json")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[1:]] == ["+10.0", "+20.0", "+30.0", "+20.0", "10.0"]
    written = json.loads((tmp_path / "seeds.json").read_text())
    assert written["mean_gain"] == pytest.approx(0.2)
    assert written["std_gain"] == pytest.approx(0.1)
    assert [run["seed"] for run in written["runs"]] == [0, 1, 2]


def test_one_seed_has_no_deviation(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool.print_summaries([str(finished)], None)
    assert "std" not in capsys.readouterr().out


def test_named_summaries_are_a_line_for_each_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = {"full": [(0.4, 0.5), (0.4, 0.7)], "vote": [(0.4, 0.3)]}
    given = []
    for name, runs in numbers.items():
        for seed, (before, after) in enumerate(runs):
            folder = tmp_path / f"{name}{seed}"
            folder.mkdir()
            summary = {
                "warm_start_accuracy": before,
                "final_accuracy": after,
                "per_task": {},
                "seconds": 1.0,
                "peak_memory_bytes": 1,
                "steps": 1,
                "seed": seed,
                "reward": "geometry",
            }
            (folder / "summary.json").write_text(json.dumps(summary))
            given.append(f"{name}={folder}")
    tool.print_summaries(given, tmp_path / "table.json")
    _, full, vote = capsys.readouterr().out.splitlines()
    assert full.split() == ["full", "2", "40.0", "%", "60.0", "%", "+20.0", "14.1"]
    assert vote.split() == ["vote", "1", "40.0", "%", "30.0", "%", "-10.0", "-"]
    table = json.loads((tmp_path / "table.json").read_text())
    assert table["full"]["mean_gain"] == pytest.approx(0.2) and len(table["vote"]["runs"]) == 1
    with pytest.raises(UserError, match="NAME=DIR for all runs or for none"):
        tool.print_summaries([*given, str(tmp_path / "full0")], None)


def test_a_run_of_two_groups_is_once_in_each(finished: Path, tmp_path: Path) -> None:
    tool.print_summaries([f"a={finished}", f"b={finished}"], tmp_path / "table.json")
    table = json.loads((tmp_path / "table.json").read_text())
    assert [len(table[name]["runs"]) for name in "ab"] == [1, 1]


@pytest.mark.parametrize(
    ("pairs", "out", "message"),
    [
        (["runs/demo"], "x.png", "expected NAME=DIR, got 'runs/demo'"),
        (["a=RUN", "a=RUN"], "x.png", "got 'a' twice"),
        (["a=RUN"], "x.html", "expected a file that ends in .png, .svg, .pdf"),
        (["a=RUN"], None, "got none"),
    ],
)
def test_a_wrong_comparison_is_refused(
    finished: Path, pairs: list[str], out: str | None, message: str
) -> None:
    pairs = [pair.replace("RUN", str(finished)) for pair in pairs]
    with pytest.raises(UserError) as caught:
        tool.write_comparison(pairs, Path(out) if out else None)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected one of --workdir, --compare and --summaries, got none of them."),
        (["--workdir=x", "--compare=a=x"], "got --workdir, --compare."),
        (["--workdir=nowhere"], "nowhere: expected the folder of a run, found no folder."),
        (["--workdir=."], "found none of them."),
        (["--summaries=nowhere"], "nowhere/summary.json: no such file or directory."),
    ],
)
def test_a_user_mistake_is_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "launch.report", *arguments],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("launch.report: ")
    assert done.stderr.strip().endswith(message)
    assert done.stderr.count("\n") == 1
