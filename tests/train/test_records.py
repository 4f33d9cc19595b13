"""The files of a run: what is written, what a resumed run keeps, what the summary says."""

import dataclasses
import importlib
import json
import logging
import math
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from spatialevo_jax.config import AlarmConfig, TrainConfig
from spatialevo_jax.evaluation.held_out import Score
from spatialevo_jax.evaluation.runs import read_run
from spatialevo_jax.models.qwen2_5_vl import folders
from spatialevo_jax.train import alarms, records
from spatialevo_jax.train.checkpoint import CHECKPOINTS
from spatialevo_jax.train.records import Records

CONFIG: dict[str, Any] = {"seed": 3, "data": {"scenes": Path("rooms"), "rows": (1, 2, 3)}}


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(records, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


def scored(accuracy: float, **tasks: float) -> Score:
    return Score(accuracy, tasks, dict.fromkeys(tasks, 8), 0.75)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def steps_in(folder: Path) -> dict[str, list[int]]:
    return {path.stem: [line["step"] for line in lines(path)] for path in folder.glob("*.jsonl")}


def run_of(folder: Path, steps: int) -> Records:
    """A run with that many steps, a sample of each, and a held-out score before each."""
    run = Records(folder, CONFIG)
    for step in range(steps):
        run.evaluation(step, "evolve", "during", scored(step / 10), [])
        run.metrics(step, "evolve", {"loss/total": 0.5 * step})
        run.sample(step, "solver", "motion_camera", ["0.jpg"], reply=f"reply {step}")
    return run


def test_a_folder_in_which_a_run_goes_on_is_refused_to_another(tmp_path: Path) -> None:
    refused = pytest.raises(ValueError, match="run: expected no other run in this folder")
    with records.alone_in(tmp_path / "run"), refused, records.alone_in(tmp_path / "run"):
        pass
    with records.alone_in(tmp_path / "run"), records.alone_in(tmp_path / "other"):
        pass
    with records.alone_in(tmp_path / "run"):
        pass


# --- lines -----------------------------------------------------------------------------------


def test_lines_say_when_and_what(tmp_path: Path, clock: Clock) -> None:
    run = Records(tmp_path, CONFIG)
    clock.now += 2.5
    run.metrics(0, "warm_start", {"loss/total": 1.23456789})
    run.evaluation(4, "evolve", "before", scored(0.5, counting=0.25), [{"reply": "one"}])
    run.sample(1, "solver", "counting", ["a.jpg"], question="How many?", reward=0.1)
    assert lines(tmp_path / "metrics.jsonl") == [
        {"step": 0, "phase": "warm_start", "seconds": 2.5, "loss/total": 1.23457}
    ]
    assert lines(tmp_path / "evaluations.jsonl") == [
        {
            "step": 4,
            "phase": "evolve",
            "moment": "before",
            "seconds": 2.5,
            "accuracy": 0.5,
            "format": 0.75,
            "accuracy/counting": 0.25,
            "count/counting": 8,
            "samples": [{"reply": "one"}],
        }
    ]
    assert lines(tmp_path / "samples.jsonl") == [
        {
            "step": 1,
            "role": "solver",
            "task": "counting",
            "images": ["a.jpg"],
            "question": "How many?",
            "reward": 0.1,
        }
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_null_and_an_alarm_also_when_a_run_goes_on(
    tmp_path: Path, value: float
) -> None:
    """NaN and Infinity are no JSON: other programs would refuse the line."""
    run = Records(tmp_path, CONFIG, tensorboard=True)
    run.metrics(0, "evolve", {"policy/logprob_difference_solver": value, "loss/total": 1.0})
    again = Records(tmp_path, CONFIG, tensorboard=True)
    again.resume(1)
    again.close()
    (text,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    line = json.loads(text, parse_constant=pytest.fail)
    assert line["policy/logprob_difference_solver"] is None
    assert events(tmp_path / records.TENSORBOARD) == {("loss/total", 1): 1.0}
    assert alarms.replay(again.history("evolve"), AlarmConfig()).raised == {"drift_solver"}
    row = read_run(tmp_path).metrics[0]
    assert math.isnan(row.values["policy/logprob_difference_solver"])


def test_lines_that_say_nan_are_mended_when_a_run_goes_on(tmp_path: Path) -> None:
    """As earlier versions wrote them."""
    path = tmp_path / records.METRICS
    path.write_text('{"step": 0, "phase": "evolve", "seconds": 1.0, "loss/total": NaN}\n')
    Records(tmp_path, CONFIG).resume(1)
    assert json.loads(path.read_text(), parse_constant=pytest.fail)["loss/total"] is None


def test_whatever_the_policy_says_stays_one_line(tmp_path: Path) -> None:
    said = 'a "quote"\nof café\u2028\ufffd\x00'
    run = Records(tmp_path, CONFIG)
    run.sample(0, "solver", "counting", [], reply=said)
    run.resume(1)  # reads and writes it once more
    text = (tmp_path / "samples.jsonl").read_text(encoding="utf-8")
    assert text.count("\n") == 1
    assert "café" in text
    assert json.loads(text)["reply"] == said


def test_moments_and_the_last_score_are_remembered(tmp_path: Path) -> None:
    run = Records(tmp_path, CONFIG)
    assert run.last_accuracy() is None
    assert not run.evaluated(3, "before")
    run.evaluation(3, "evolve", "before", scored(0.25), [])
    run.evaluation(5, "evolve", "during", scored(0.5), [])
    again = Records(tmp_path, CONFIG)
    assert again.last_accuracy() == 0.5
    known = [(3, "before"), (5, "during"), (5, "before"), (3, "after")]
    assert [again.evaluated(*one) for one in known] == [True, True, False, False]


# --- resuming --------------------------------------------------------------------------------


def test_a_resumed_run_drops_what_it_will_do_again(tmp_path: Path) -> None:
    """Step 3 is the first to be done again; the score at step 3 was taken before it."""
    run_of(tmp_path, 6)
    Records(tmp_path, CONFIG).resume(3)
    assert steps_in(tmp_path) == {
        "metrics": [0, 1, 2],
        "evaluations": [0, 1, 2, 3],
        "samples": [0, 1, 2],
    }
    assert lines(tmp_path / "metrics.jsonl")[-1]["loss/total"] == 1.0
    assert lines(tmp_path / "samples.jsonl")[-1]["reply"] == "reply 2"


def test_a_run_that_lost_nothing_keeps_every_byte(tmp_path: Path) -> None:
    run_of(tmp_path, 3)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    Records(tmp_path, CONFIG).resume(3)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_fresh_run_resumes_from_nothing(tmp_path: Path) -> None:
    run = Records(tmp_path / "new" / "run", CONFIG)
    run.resume(0)
    assert [path.name for path in run.workdir.iterdir()] == ["config.json"]


@pytest.mark.parametrize("lost", [records.METRICS, records.EVALUATIONS, records.SAMPLES])
def test_a_lost_file_is_missed_but_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, lost: str
) -> None:
    run_of(tmp_path, 4)
    (tmp_path / lost).unlink()
    run = Records(tmp_path, CONFIG)
    with caplog.at_level(logging.WARNING, logger="absl"):
        run.resume(3)
    said = [record.getMessage() for record in caplog.records]
    assert said == (
        [
            f"{tmp_path / lost}: expected a line for each of 3 steps, found 0; "
            "the run goes on without them."
        ]
        if lost == records.METRICS
        else [f"{tmp_path}: goes on after step 3; 1 more that were recorded are done again."]
    )
    run.metrics(3, "evolve", {})
    assert lines(tmp_path / records.METRICS)[-1]["step"] == 3


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    """A killed process leaves none of these; whatever did, it is not thrown away in silence."""
    run_of(tmp_path, 2)
    path = tmp_path / records.METRICS
    path.write_bytes(b'{"step": 0, "seconds": 1}\n\x00\x00\n{"step": 1, "seconds": 2}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl: line 2: expected a record of a step"):
        Records(tmp_path, CONFIG).resume(2)
    path.write_bytes(b'{"loss/total": 0}\n')
    with pytest.raises(ValueError, match="line 1"):
        Records(tmp_path, CONFIG).resume(1)


def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(tmp_path, 1)
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *how, **more: opened(Path("/dev/full"), "w"))
    with pytest.raises(OSError, match=r"No space left on device: '.*metrics\.jsonl'"):
        run.metrics(1, "evolve", {})


def test_only_the_writer_writes(tmp_path: Path) -> None:
    """The other processes of a run see the same folder, and read the same in it."""
    run_of(tmp_path, 3)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = Records(tmp_path, CONFIG, writer=False)
    other.resume(1)
    other.metrics(1, "evolve", {})
    other.evaluation(1, "evolve", "after", scored(0.5), [])
    other.sample(1, "solver", "motion_camera", [])
    assert other.summary(steps=1, peak_memory=0, seed=0, reward="geometry") == {}
    assert other.last_accuracy() == 0.2
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", [records.METRICS, records.EVALUATIONS, records.SAMPLES])
@pytest.mark.parametrize(
    "torn",
    [b"{", b'{"step": 1, "moment": "after", "accura', b'{"step": 1}', b'{"step": 1, "x": "caf\xc3'],
)
def test_a_torn_last_line_is_dropped_and_the_next_one_is_whole(
    tmp_path: Path, name: str, torn: bytes
) -> None:
    """Even one that could be read: without its line end nobody knows that it is complete."""
    run_of(tmp_path, 1)
    with (tmp_path / name).open("ab") as file:
        file.write(torn)
    run = Records(tmp_path, CONFIG)
    assert not run.evaluated(1, "after")
    run.resume(9)
    assert steps_in(tmp_path) == {"metrics": [0], "evaluations": [0], "samples": [0]}
    run.metrics(1, "evolve", {})
    run.evaluation(1, "evolve", "during", scored(0.5), [])
    run.sample(1, "solver", "motion_camera", [])
    assert steps_in(tmp_path) == {"metrics": [0, 1], "evaluations": [0, 1], "samples": [0, 1]}


def test_seconds_go_on_where_the_kept_steps_ended(tmp_path: Path, clock: Clock) -> None:
    run = Records(tmp_path, CONFIG)
    for step, took in enumerate((10.0, 20.0, 40.0)):
        clock.now += took
        run.metrics(step, "evolve", {})
    clock.now += 500.0  # until somebody starts it again
    again = Records(tmp_path, CONFIG)
    again.resume(2)  # the third step is lost, and its time with it
    clock.now += 5.0
    assert again.seconds == 35.0
    again.metrics(2, "evolve", {})
    assert [line["seconds"] for line in lines(tmp_path / "metrics.jsonl")] == [10.0, 30.0, 35.0]


# --- configuration ---------------------------------------------------------------------------


def test_the_configuration_is_written_once(tmp_path: Path) -> None:
    Records(tmp_path, CONFIG)
    written = (tmp_path / "config.json").read_bytes()
    assert json.loads(written) == {"seed": 3, "data": {"scenes": "rooms", "rows": [1, 2, 3]}}
    Records(tmp_path, CONFIG)
    assert (tmp_path / "config.json").read_bytes() == written
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (CONFIG | {"seed": 4}, "seed"),
        (CONFIG | {"data": {"scenes": "rooms", "rows": [1, 2]}}, "data.rows"),
        ({"seed": 4, "data": {"scenes": "halls", "rows": [1, 2]}}, "data.rows, seed"),
        (CONFIG | {"alpha": 0.1}, "alpha"),
        ({"seed": 3, "data": {"scenes": "rooms"}}, "data.rows"),
    ],
)
def test_another_configuration_is_refused_by_name(
    tmp_path: Path, other: dict[str, Any], named: str
) -> None:
    Records(tmp_path, CONFIG)
    written = (tmp_path / "config.json").read_bytes()
    with pytest.raises(ValueError, match=rf"differs in {named}\)"):
        Records(tmp_path, other)
    assert (tmp_path / "config.json").read_bytes() == written


# --- summary ---------------------------------------------------------------------------------


def test_the_summary_compares_before_with_after(tmp_path: Path, clock: Clock) -> None:
    run = Records(tmp_path, CONFIG)
    run.evaluation(3, "evolve", "before", scored(0.25, counting=0.5, motion=0.0), [])
    run.evaluation(5, "evolve", "during", scored(0.9, counting=0.9, motion=0.9), [])
    run.evaluation(7, "evolve", "after", scored(0.75, counting=0.625, motion=0.875), [])
    clock.now += 12.34
    summary = run.summary(steps=7, peak_memory=1 << 30, seed=3, reward="geometry")
    assert summary == {
        "warm_start_accuracy": 0.25,
        "final_accuracy": 0.75,
        "per_task": {
            "counting": {"before": 0.5, "after": 0.625, "count": 8},
            "motion": {"before": 0.0, "after": 0.875, "count": 8},
        },
        "seconds": 12.3,
        "peak_memory_bytes": 1 << 30,
        "steps": 7,
        "seed": 3,
        "reward": "geometry",
    }
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert not list(tmp_path.glob(".*"))  # nothing half-written is left


@pytest.mark.parametrize("lost", ["before", "after"])
def test_a_summary_without_its_scores_says_which(tmp_path: Path, lost: str) -> None:
    run = Records(tmp_path, CONFIG)
    for moment in {"before", "after"} - {lost}:
        run.evaluation(3, "evolve", moment, scored(0.25), [])
    with pytest.raises(FileNotFoundError, match=f"expected the held-out score {lost!r}"):
        run.summary(steps=3, peak_memory=0, seed=3, reward="geometry")


# --- alarms ----------------------------------------------------------------------------------


def test_alarms_are_kept_up_to_where_a_run_goes_on(tmp_path: Path) -> None:
    run = run_of(tmp_path, 5)
    run.alarm(1, "flat", "Nothing is learnt.")
    run.alarm(3, "skipped", "Updates were left out.")
    Records(tmp_path, CONFIG).resume(3)
    assert lines(tmp_path / "alarms.jsonl") == [
        {"step": 1, "name": "flat", "sentence": "Nothing is learnt."}
    ]


def test_the_history_of_a_phase_has_each_step_with_its_latest_score(tmp_path: Path) -> None:
    run = Records(tmp_path, CONFIG)
    run.metrics(0, "warm_start", {"x": 0.0})
    run.metrics(1, "evolve", {"x": 1.0})
    run.evaluation(2, "evolve", "during", scored(0.4), [])
    run.metrics(2, "evolve", {"x": 2.0})
    run.metrics(3, "evolve", {"x": 3.0})
    found = [(line["x"], accuracy) for line, accuracy in run.history("evolve")]
    assert found == [(1.0, None), (2.0, 0.4), (3.0, 0.4)]


def events(folder: Path) -> dict[tuple[str, int], float]:
    """The numbers of TensorBoard's files by name and step."""
    proto: Any = importlib.import_module("tensorboardX.proto.event_pb2")
    found: dict[tuple[str, int], float] = {}
    for path in folder.iterdir():
        data, at = path.read_bytes(), 0
        while at < len(data):
            # A record: its length, a checksum of that, itself, a checksum.
            (length,) = struct.unpack_from("<Q", data, at)
            event = proto.Event.FromString(data[at + 12 : at + 12 + length])
            at += 16 + length
            for value in event.summary.value:
                assert (value.tag, event.step) not in found
                found[value.tag, event.step] = value.simple_value
    return found


def test_tensorboard_shows_what_the_lines_say_once_a_step(tmp_path: Path) -> None:
    """By updates done; what a resumed run does again replaces what was there."""
    first = Records(tmp_path, CONFIG, tensorboard=True)
    first.resume(0)
    for step in range(4):
        first.metrics(step, "evolve", {"loss/total": 0.5 * step})
    first.evaluation(2, "evolve", "during", scored(0.25, motion_camera=0.5), [])
    first.close()
    again = Records(tmp_path, CONFIG, tensorboard=True)
    again.resume(2)
    again.metrics(2, "evolve", {"loss/total": 8.0})
    again.close()
    shown = events(tmp_path / records.TENSORBOARD)
    losses = {step: value for (name, step), value in shown.items() if name == "loss/total"}
    assert losses == {1: 0.0, 2: 0.5, 3: 8.0}
    scores = {name: value for (name, step), value in shown.items() if step == 2}
    assert scores["held_out/accuracy"] == 0.25
    assert scores["held_out/accuracy/motion_camera"] == 0.5


def test_without_the_flag_and_in_other_processes_there_are_no_such_files(tmp_path: Path) -> None:
    other = Records(tmp_path, CONFIG, writer=False, tensorboard=True)
    for run in (Records(tmp_path, CONFIG), other):
        run.resume(0)
        run.metrics(0, "evolve", {"loss/total": 0.5})
        run.close()
    assert not (tmp_path / records.TENSORBOARD).exists()


def test_what_a_kill_took_from_tensorboard_comes_back_from_the_lines(tmp_path: Path) -> None:
    """Its files are written every ten seconds, and one step may have lost all of its numbers."""
    run = Records(tmp_path, CONFIG, tensorboard=True)
    run.resume(0)
    for step in range(3):
        run.metrics(step, "evolve", {"loss/total": 0.5 * step})
    run.close()
    (path,) = (tmp_path / records.TENSORBOARD).iterdir()
    path.write_bytes(path.read_bytes()[:80])
    again = Records(tmp_path, CONFIG, tensorboard=True)
    again.resume(3)
    again.close()
    losses = {("loss/total", step + 1): 0.5 * step for step in range(3)}
    assert events(tmp_path / records.TENSORBOARD) == losses


def test_folders_may_be_moved_and_a_size_is_no_folder(tmp_path: Path) -> None:
    """That what is in them is the same is looked at when it is read."""
    begun = CONFIG | {"model": "models/3b", "sft": {"data": Path("sets/a")}}
    moved = {"model": "/new/3b", "sft": {"data": "/new/a"}, "data": CONFIG["data"]}
    Records(tmp_path / "run", begun)
    Records(tmp_path / "run", begun | moved)
    with pytest.raises(ValueError, match=r"another configuration \(differs in model\)"):
        Records(tmp_path / "run", begun | {"model": "qwen2_5_vl_3b"})
    Records(tmp_path / "random", begun | {"model": "tiny"})
    for other in ("qwen2_5_vl_3b", "models/3b"):
        with pytest.raises(ValueError, match=r"another configuration \(differs in model\)"):
            Records(tmp_path / "random", begun | {"model": other})


@pytest.mark.parametrize("text", ["[]", "{", "3"])
def test_a_configuration_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / records.CONFIG).write_text(text)
    with pytest.raises(ValueError, match=rf"{records.CONFIG}: expected (a )?JSON"):
        Records(tmp_path, CONFIG)


# --- starts that were refused ----------------------------------------------------------------


def started(folder: Path) -> dict[str, Any]:
    """What a start leaves before it is refused."""
    config = json.loads(json.dumps(dataclasses.asdict(TrainConfig()), default=str))
    Records(folder, config)
    for name in (records.TOKENIZER, folders.COMPANIONS):
        (folder / name).mkdir()
        (folder / name / "tokenizer.json").write_text("{}")
    (folder / folders.LAYOUT).write_text("{}")
    return config


def test_a_start_that_was_refused_does_not_bind_the_next(tmp_path: Path) -> None:
    config = started(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="another configuration"):
        Records(tmp_path, config | {"seed": 1})
    records.forget_refused_start(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    Records(tmp_path, config | {"seed": 1})


@pytest.mark.parametrize("begun", [records.METRICS, CHECKPOINTS])
def test_a_run_that_began_keeps_all_it_has(tmp_path: Path, begun: str) -> None:
    config = started(tmp_path)
    (tmp_path / begun).mkdir()
    before = sorted(tmp_path.rglob("*"))
    records.forget_refused_start(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(ValueError, match="another configuration"):
        Records(tmp_path, config | {"seed": 1})


@pytest.mark.parametrize("text", ['{"model_type": "qwen2_5_vl"}', "[]", "{", None])
def test_a_folder_of_something_else_is_not_touched(tmp_path: Path, text: str | None) -> None:
    """Such as a model's."""
    (tmp_path / records.TOKENIZER).mkdir()
    if text is not None:
        (tmp_path / records.CONFIG).write_text(text)
    before = sorted(tmp_path.rglob("*"))
    records.forget_refused_start(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
