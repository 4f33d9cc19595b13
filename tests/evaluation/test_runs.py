"""Reading a run's folder: what is kept, what is refused and with which words."""

import json
from pathlib import Path

import numpy as np
import pytest

from spatialevo_jax.evaluation.charts import moving_mean
from spatialevo_jax.evaluation.runs import Evaluation, read_run, read_summary

METRIC = '{"step": %d, "phase": "evolve", "loss/total": %s}\n'


def folder_with(tmp_path: Path, name: str, text: str) -> Path:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_a_step_written_twice_by_a_resumed_run_counts_once(tmp_path: Path) -> None:
    text = METRIC % (1, 0.5) + METRIC % (2, 0.6) + METRIC % (2, 0.7) + METRIC % (3, 0.8)
    rows = read_run(folder_with(tmp_path, "metrics.jsonl", text)).metrics
    assert [row.step for row in rows] == [1, 2, 3]
    assert rows[1].values["loss/total"] == 0.7


def test_a_cut_off_last_line_is_left_out_and_noted(tmp_path: Path) -> None:
    text = METRIC % (1, 0.5) + '{"step": 2, "pha'
    run = read_run(folder_with(tmp_path, "metrics.jsonl", text))
    assert len(run.metrics) == 1
    assert "The last line of metrics.jsonl is cut off and was left out." in run.notes


def test_a_broken_line_in_the_middle_names_its_place(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "metrics.jsonl", "{oops\n" + METRIC % (1, 0.5))
    with pytest.raises(ValueError, match=r"metrics\.jsonl:1: expected a JSON object"):
        read_run(folder)


def test_a_line_that_is_no_object_names_its_place(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "metrics.jsonl", METRIC % (1, 0.5) + "[1, 2]\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl:2: expected a JSON object, got list"):
        read_run(folder)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "metrics.jsonl", '{"phase": "evolve"}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl:1: expected the key 'step'"):
        read_run(folder)


def test_an_unknown_moment_is_refused(tmp_path: Path) -> None:
    row = {"step": 1, "phase": "evolve", "moment": "later", "accuracy": 0.5, "format": 1.0}
    folder = folder_with(tmp_path, "evaluations.jsonl", json.dumps(row) + "\n")
    with pytest.raises(ValueError, match="expected moment to be one of before, during, after"):
        read_run(folder)


def test_a_summary_that_is_no_json_names_its_line(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "summary.json", "{\n]")
    with pytest.raises(ValueError, match=r"summary\.json:2: expected JSON"):
        read_summary(folder / "summary.json")


def test_an_empty_file_is_noted(tmp_path: Path) -> None:
    run = read_run(folder_with(tmp_path, "metrics.jsonl", ""))
    assert "metrics.jsonl is empty so far." in run.notes


def test_a_number_that_was_not_finite_is_read_as_none(tmp_path: Path) -> None:
    run = read_run(folder_with(tmp_path, "metrics.jsonl", METRIC % (1, "null")))
    assert np.isnan(run.metrics[0].values["loss/total"])


def test_the_standard_error_of_a_mean_of_tasks_by_hand() -> None:
    """Two tasks: 0.5 of 25 questions and 1.0 of 10; only the first one is uncertain: 0.1 / 2."""
    per_task, counts = {"a": 0.5, "b": 1.0}, {"a": 25, "b": 10}
    row = Evaluation(0, "evolve", "before", 0.75, per_task, counts, 1.0, ())
    assert row.standard_error == pytest.approx(0.05)


def test_the_moving_mean_is_short_at_the_start_and_skips_nan() -> None:
    np.testing.assert_allclose(moving_mean([1, 3, 5, 7], window=2), [1, 2, 4, 6])
    np.testing.assert_allclose(moving_mean([1, np.nan, 3], window=2), [1, 1, 3])
    np.testing.assert_allclose(moving_mean([1, 2], window=10), [1, 1.5])
    assert np.isnan(moving_mean([np.nan])).all()
