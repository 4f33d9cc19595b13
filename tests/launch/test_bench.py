"""The benchmark's numbers add up, on a scene set small enough to wait for."""

import dataclasses
import json
import math
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from absl.testing import flagsaver

from geometry_jax import batches
from geometry_jax.tasks import TASK_IDS
from launch import bench, bench_data, bench_model, bench_requests, bench_visibility
from launch.errors import UserError
from spatialevo_jax.config import DataConfig
from spatialevo_jax.models.qwen2_5_vl import model as qwen
from tests.models.qwen2_5_vl.checkpoints import SMALL

QUICK = ("object_counting", "room_size")


def run_bench(**values: Any) -> None:
    run_subject("oracles", values)


def run_subject(subject: str, values: dict[str, Any]) -> None:
    with flagsaver.flagsaver(**values):
        bench.main(["bench", subject])


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


@pytest.mark.parametrize("subject", ["requests", "data", "visibility", "sens"])
def test_numbers_that_no_file_can_have_are_not_asked_for_in_vain(
    subject: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=f"--out is for oracles and model, got {subject}"):
        run_subject(subject, {"out": str(tmp_path / "numbers.json")})


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
    config = DataConfig(scenes=tmp_path, image_size=(56, 56), rows=(0, 4, 0))
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


# --- the model -----------------------------------------------------------------------------------

FEW = bench_model.Shapes(prompts=2, samples=2, prompt_tokens=16, new_tokens=3, image=(56, 84))
TWO_LAYERS = dataclasses.replace(
    SMALL,
    vision=dataclasses.replace(SMALL.vision, depth=2, fullatt_block_indexes=(1,)),
    text=dataclasses.replace(SMALL.text, num_layers=2),
)


@pytest.fixture
def compiled_fast() -> Iterator[None]:
    """These programs run once or twice: their compilation is all the time they take."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.usefixtures("compiled_fast")
def test_both_sides_compute_the_same_from_the_same_numbers() -> None:
    """Otherwise their speeds could not be compared."""
    pytest.importorskip("torch", reason="the comparison needs PyTorch")
    from launch.bench_torch import Theirs

    inputs = bench_model.make_inputs(TWO_LAYERS, FEW)
    params = bench_model.random_params(TWO_LAYERS)
    policy = qwen.Policy(TWO_LAYERS)
    ours = bench_model.our_forward(policy, params, inputs.vision, inputs.prompts)
    theirs = Theirs(params, TWO_LAYERS, inputs, "float32")
    np.testing.assert_allclose(ours, theirs.forward().numpy(), atol=1e-4)
    theirs.gradient()
    grads = bench_model.our_gradient(policy, params, inputs.vision, inputs.prompts)
    found = grads["text"]["blocks"]["mlp"]["up"]["kernel"][1]
    expected = theirs.model.model.language_model.layers[1].mlp.up_proj.weight.grad.numpy().T
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.usefixtures("compiled_fast")
def test_the_table_of_the_model_holds_every_subject_with_its_ratio(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model.json"
    monkeypatch.setattr(bench_model, "mid_config", lambda: TWO_LAYERS)
    monkeypatch.setattr(bench_model, "Shapes", lambda *_: FEW)
    monkeypatch.setattr(bench_model, "baseline_is_here", lambda: False)
    run_subject("model", {"dtypes": ["float32"], "repeats": 1, "out": str(out)})
    printed, record = capsys.readouterr().out, json.loads(out.read_text())
    subjects = ["products alone, 32 rows", "products alone, 4 rows"]
    subjects += ["forward", "forward + backward", "decode", "rollout, prompts included"]
    assert [line["subject"] for line in record["lines"]] == subjects
    assert record["shapes"]["new_tokens"] == 3 and record["baseline"] is None
    for line in record["lines"]:
        assert line["ratio"] is None and f"| {line['subject']} | float32 |" in printed
    assert "2 prompts of 16 tokens, each with an image of 84 x 56 pixels" in printed
    assert "ours alone: PyTorch is not installed" in printed


@pytest.mark.usefixtures("compiled_fast")
def test_parts_of_the_table_are_measured_as_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    measured = bench_model.measure

    def measure(config: Any, *args: Any, **settings: Any) -> Any:
        made.append(config)
        return measured(config, *args, **settings)

    monkeypatch.setattr(bench_model, "measure", measure)
    monkeypatch.setattr(bench_model, "mid_config", lambda: TWO_LAYERS)
    monkeypatch.setattr(bench_model, "Shapes", lambda *_: FEW)
    monkeypatch.setattr(bench_model, "baseline_is_here", lambda: False)
    asked = {
        "dtypes": ["float32"],
        "repeats": 1,
        "parts": ["forward"],
        "remat": "dots",
        "unroll": 2,
    }
    run_subject("model", asked)
    assert "| forward | float32 |" in (printed := capsys.readouterr().out)
    assert "backward" not in printed and "decode" not in printed and "products" not in printed
    assert (made[0].remat, made[0].unroll) == ("dots", 2)


def test_turns_alternate_and_ratios_are_of_one_turn() -> None:
    now, done = [0.0], []

    def side(name: str, takes: float) -> bench_model.Side:
        def call(length: float = 1) -> None:
            done.append(name)
            now[0] += takes * length

        made: Any = types.SimpleNamespace(
            products=lambda rows: call(rows / 1000), forward=call, gradient=call, generate=call
        )
        return made

    inputs = bench_model.make_inputs(SMALL, FEW)
    sides = [side("ours", 1.0), side("theirs", 3.0)]
    lines = bench_model._compare(SMALL, inputs, sides, 2, lambda: now[0], lambda: None)
    assert done[:18] == ["ours", "theirs"] * 9  # three calls, each in one turn to warm up and two
    forward = next(line for line in lines if line.subject == "forward")
    assert forward.ours_per_s == 32.0 and forward.ratio == 3.0  # 2 prompts of 16 tokens a second
    table = bench_model.table(lines)
    assert "| forward | float32 | 32 | 11 | 3.00 | 1.0 |" in table
    # Products for the 4 samples take 0.004 s at least, and the 2 steps of decoding 2 and 6 s.
    decode = next(line for line in lines if line.subject == "decode")
    assert decode.share == pytest.approx(0.004) and decode.most == pytest.approx(6 / 0.008)


def test_a_forward_pass_costs_two_operations_a_weight_and_token() -> None:
    """Counted by XLA, which also counts norms and softmax: a little more than the products."""
    config = dataclasses.replace(SMALL, unroll=4)
    few = dataclasses.replace(FEW, prompt_tokens=32, image=(112, 112))  # one whole window
    inputs = bench_model.make_inputs(config, few)
    shapes = qwen.abstract_params(config)
    forward: Any = bench_model.our_forward
    lowered = forward.lower(qwen.Policy(config), shapes, inputs.vision, inputs.prompts)
    counted = lowered.cost_analysis()
    assert counted is not None
    assert 0.8 < bench_model.forward_flops(config, inputs) / counted["flops"] < 1.0


def test_a_step_of_decoding_reads_the_decoder_and_the_keys() -> None:
    decoder = sum(math.prod(x.shape) for x in jax.tree.leaves(qwen.abstract_params(SMALL)["text"]))
    keys = 2 * 3 * 2 * 16 * 2 * (16 + 2 * 3 / 2)  # layers, heads, width; prompts of 16, samples
    assert bench_model.decode_bytes(SMALL, FEW) == 4 * (decoder + keys)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dtypes": ["float64"]}, "--dtypes: expected some of float32, bfloat16"),
        ({"parts": ["forwards"]}, "--parts: expected some of products, .*; got forwards"),
        ({"model": "huge"}, "--model: expected one of mid, tiny"),
        ({"prompt_tokens": 20}, "prompt_tokens: expected at least 169 for an image of 165 tokens"),
    ],
)
def test_a_wrong_flag_of_the_model_is_one_sentence(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_subject("model", wrong)
