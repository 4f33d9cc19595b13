"""The benchmark's numbers add up, on a scene set small enough to wait for."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from geometry_jax import batches
from geometry_jax.tasks import TASK_IDS
from launch import bench, bench_data, bench_requests, bench_visibility
from launch.errors import UserError
from spatialevo_jax.config import DataConfig

QUICK = ("object_counting", "room_size")


def run_bench(**values: object) -> None:
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["bench"])
    with flagsaver.flagsaver(**values):
        bench.main(["bench", "oracles"])


def test_the_table_and_the_file_hold_every_task_and_the_mix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "oracles.json"
    small = {"scene_count": 3, "object_count": 8, "frame_count": 4, "repeats": 2}
    run_bench(tasks=list(QUICK), batch_sizes=["64", "128"], out=str(out), **small)
    printed = capsys.readouterr().out
    record = json.loads(out.read_text())
    lines = record["lines"]
    names = [*QUICK, "equal mix"]
    assert [(line["task"], line["batch"]) for line in lines] == [
        (name, size) for name in names for size in (64, 128)
    ]
    for line in lines:
        assert line["answers_per_s"] > 0 and line["compile_s"] >= 0
        assert line["of_bound"] == pytest.approx(line["answers_per_s"] / line["bound_per_s"])
        assert f"| {line['task']} | {line['batch']}" in printed
    assert 0 < record["scene_set_mb"] < 1


def test_whole_requests_are_timed_with_distinct_sentences() -> None:
    rooms = bench_requests.named_rooms(bench.random_scenes(3, 16, 6))
    lines = bench_requests.draw_lines(rooms, 64)
    assert len(set(lines)) > 50
    replies = [
        json.loads(line) for line in bench_requests.answer_lines(lines, rooms, evidence=True)
    ]
    tasks = [json.loads(line)["task_type"] for line in lines]
    assert [reply["task_type"] for reply in replies] == tasks
    answered = {reply["task_type"] for reply in replies if reply["is_valid"]}
    assert len(answered) >= len(TASK_IDS) - 2  # geometry refuses some: level cameras, ties
    rates = [bench_requests.Rate(evidence, 1.0, 2e4, 3e4, 0.9) for evidence in (False, True)]
    assert "| without evidence | 1.0 | 20,000 | 30,000 | 90% | 194 times |" in (
        bench_requests.table(rates)
    )


def test_loading_and_serving_are_timed_on_scenes_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WIDTH", 56), ("HEIGHT", 56), ("FRAMES", 5), ("ORIGINALS", 1)):
        monkeypatch.setattr(bench_data, name, value)
    bench_data.copied_scenes(tmp_path, 3)
    config = DataConfig(scenes=tmp_path, image_size=56, rows=(0, 4, 0))
    loading, scenes = bench_data.time_loading(config)
    ids = [record.scene_id for record in scenes.rooms.records]
    assert ids == ["scene0000_00", "scene0001_00", "scene0002_00"] and loading.scenes == 3
    serving = bench_data.time_serving(scenes, config, workers=0, repeats=2)
    assert serving.prompts_per_s > 0 and serving.bound_per_s > 0
    loading = bench_data.Loading(1000, seconds=2.0, megabytes=150.4, rows_seconds=0.5)
    serving = bench_data.Serving(2, start_seconds=3.0, prompts_per_s=300.0, bound_per_s=400.0)
    printed = bench_data.table(loading, [serving])
    assert "1,000 packed scenes (150 MB) load in 2.0 s, 500/s" in printed
    assert "| 2 | 3.0 | 300 | 400 | 75% |" in printed


def test_a_wrong_command_is_one_sentence() -> None:
    asked = [sys.executable, "-m", "launch.bench", "speed"]
    done = subprocess.run(asked, capture_output=True, text=True)
    assert done.returncode == 2
    assert "expected one of oracles" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tasks": ["sums"]}, "--tasks: expected some of"),
        ({"tasks": []}, "--tasks: expected some of"),
        ({"batch_sizes": ["1", "many"]}, "--batch_sizes: expected whole numbers"),
        ({"batch_sizes": ["0"]}, "--batch_sizes: expected whole numbers"),
    ],
)
def test_a_wrong_flag_is_one_sentence(wrong: dict[str, list[str]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_bench(**wrong)


def test_bytes_of_a_question_are_those_of_what_it_reads() -> None:
    scenes = bench.random_scenes(2, 8, 4)
    _, queries = bench.random_queries(QUICK, scenes, 4)
    asked = bench.ANSWER_BYTES + sum(leaf.nbytes / 4 for leaf in jax.tree.leaves(queries))
    assert bench.read_leaves(TASK_IDS["room_size"], scenes, queries) == {"floor_area"}
    assert bench.question_bytes(TASK_IDS["room_size"], scenes, queries) == asked + 4
    # Counting searches the labels of the 8 objects (4 bytes) and which are real (1 byte).
    counting = bench.question_bytes(TASK_IDS["object_counting"], scenes, queries)
    assert counting == asked + 8 * (4 + 1)


def test_a_thousand_scenes_of_64_frames_fit_in_a_gigabyte() -> None:
    """With 64 objects and the table of gaps: by shapes alone, nothing is allocated."""
    one = bench.random_scenes(1, 64, 64)
    whole = jax.eval_shape(
        lambda scene: batches.with_gaps(
            jax.tree.map(lambda leaf: jax.numpy.broadcast_to(leaf, (1000, *leaf.shape[1:])), scene)
        ),
        one,
    )
    assert whole.box_gap.shape == (1000, 64, 64)
    total = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(whole))
    assert 100e6 < total < 1e9


def test_questions_in_any_order_are_answered_in_that_order() -> None:
    scenes = jax.device_put(bench.random_scenes(3, 8, 4))
    index, queries = bench.random_queries(QUICK, bench.random_scenes(3, 8, 4), 150)
    order = np.random.default_rng(1).permutation(150)
    found = batches.answer_by_task(
        scenes, index[order], jax.tree.map(lambda leaf: leaf[order], queries)
    )
    verdicts = batches.judge_by_task(scenes, index, queries)
    areas = np.asarray(scenes.floor_area)[index]
    sizes = np.asarray(queries.task_id) == TASK_IDS["room_size"]
    np.testing.assert_array_equal(verdicts.value[sizes], areas[sizes])
    for name in ("value", "reason", "margin"):
        np.testing.assert_array_equal(getattr(found, name), getattr(verdicts, name)[order])
    assert verdicts.evidence.points.shape == (150, 4, 3)
    with pytest.raises(ValueError, match="expected at least one"):
        batches.answer_by_task(scenes, index[:0], jax.tree.map(lambda leaf: leaf[:0], queries))


def test_visibility_is_timed_against_its_twin_and_the_published_loop() -> None:
    printed = bench_visibility.report(2000, 10, 1, (80, 60))
    assert "2,000 points of" in printed and "in 10 frames of 80 x 60 depth" in printed
    rows = [line for line in printed.splitlines() if line.startswith("| points")]
    assert ["float32" in row or "float64" in row for row in rows] == [True] * 3
    assert "The published loop does 0.58 M point-frames/s: 0 s." in printed
    # 13 bytes a point and frame, and 2 a pixel of depth.
    moved = 2000 * 10 * 13 + 10 * 80 * 60 * 2
    case = bench_visibility.make_case(2000, 10, (80, 60))
    assert bench_visibility.bound(case) == (moved, 2000 * 10 * bench_visibility.POINT_FLOPS)
    assert sum(map(len, case.point_members)) == 2000
    rate = bench_visibility.Rate("points", 1.0, 0.5, 0.9, 58_000_000)
    assert "| points | 1.0 | 0.50 | 0.90 | 116.0 | 200 times |" in bench_visibility.table([rate])
