"""The command that converts weights: both ways, and what a user can get wrong."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import flagsaver

from launch import convert
from launch.errors import UserError
from spatialevo_jax import lora
from spatialevo_jax.config import (
    DataConfig,
    LoraConfig,
    RolloutConfig,
    TrainConfig,
    WarmStartConfig,
)
from spatialevo_jax.models.qwen2_5_vl import folders
from spatialevo_jax.models.qwen2_5_vl import model as qwen
from spatialevo_jax.models.qwen2_5_vl.config import sized
from spatialevo_jax.scheduler import accuracy_scheduler
from spatialevo_jax.tokenizer import train_tokenizer
from spatialevo_jax.train import checkpoint, loop
from spatialevo_jax.train import setup as preparing
from spatialevo_jax.train.state import init_state
from tests.models.qwen2_5_vl.released import TIED, UNTIED, contents, random_tensors, write_folder


def command(*words: str, source: Path | None, target: Path) -> None:
    with flagsaver.flagsaver(source=source and str(source), target=str(target)):
        convert.main(["convert", *words])


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("released") / "hf"
    return write_folder(place, TIED, random_tensors(TIED), files=2)


def test_there_and_back_gives_the_same_folder(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, back = tmp_path / "new" / "ours", tmp_path / "back"
    command("from-hf", source=released, target=ours)
    command("to-hf", source=ours, target=back)
    assert contents(back) == contents(released)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{ours}: ") and "9 other files" in first
    assert second == f"{back}: 2 safetensors files, 10 others"


def test_what_is_left_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_folder(tmp_path / "hf", TIED, random_tensors(TIED), companions={})
    (source / "pytorch_model.bin").write_bytes(b"")
    command("from-hf", source=source, target=tmp_path / "ours")
    assert "left out: pytorch_model.bin" in capsys.readouterr().out


def test_a_run_begins_from_a_folder_and_its_checkpoint_goes_back(
    rooms_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is learnt here: float32 copies of bfloat16 weights must come back to the byte."""
    tokenizer = tmp_path / "tokenizer"
    train_tokenizer(["How far is the lamp from the table?"], 300, tokenizer)
    model = sized("tiny", vocab_size=320)
    pixels = {"preprocessor_config.json": b'{"min_pixels": 3136, "max_pixels": 3136}'}
    source = write_folder(
        tmp_path / "hf",
        model,
        random_tensors(model),
        files=2,
        companions=contents(tokenizer) | pixels,
    )
    command("from-hf", source=source, target=tmp_path / "ours")
    monkeypatch.setattr(preparing.scoring, "build_items", lambda *_: [])  # nothing is asked here
    data = DataConfig(rooms_root, image_size=(56, 56), scene_frames=3, rows=(1, 1, 1))
    rollout = RolloutConfig(questioner_prompt=1024)  # this tokenizer knows few words
    config = TrainConfig(model=str(tmp_path / "ours"), data=data, rollout=rollout)
    larger = dataclasses.replace(data, image_size=(112, 112))
    with pytest.raises(
        ValueError, match=r"data\.image_size: expected pictures of 3136 to 3136 pix"
    ):
        loop.open_run(dataclasses.replace(config, data=larger), tmp_path / "run")
    run = loop.open_run(config, tmp_path / "run")
    assert {leaf.dtype for leaf in jax.tree.leaves(run.state.params)} == {np.dtype(np.float32)}
    with pytest.raises(UserError, match="checkpoints: expected a checkpoint, found none"):
        command("to-hf", source=tmp_path / "run", target=tmp_path / "early")
    checkpoint.save(run.checkpoints, run.state, {})
    run.checkpoints.wait_until_finished()
    run.checkpoints.close()
    command("to-hf", source=tmp_path / "run", target=tmp_path / "back")
    assert contents(tmp_path / "back") == contents(source)


def test_an_adapter_is_merged_and_transformers_computes_what_we_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch", reason="the comparison needs PyTorch")
    from transformers import Qwen2_5_VLForConditionalGeneration

    source = write_folder(tmp_path / "hf", UNTIED, random_tensors(UNTIED))
    workdir = tmp_path / "run"
    folder = folders.open_hf(source)
    workdir.mkdir()
    folders.begin_run(folder, workdir)
    warm = WarmStartConfig(steps=0, naming_steps=0, looking_steps=0)
    config = TrainConfig(warm_start=warm, lora=LoraConfig(rank=3, targets=("text.*", "vision.*")))
    scheduler = accuracy_scheduler(3, prior_accuracy=0.5, prior_count=2.0, floor=0.1, decay=0.9)
    state = init_state(config, jax.device_put(folders.load(folder, np.float32)), scheduler)
    assert state.adapter is not None
    rng = np.random.default_rng(0)
    factors = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape) * 0.1, x.dtype), state.adapter.factors
    )
    adapter = dataclasses.replace(state.adapter, factors=factors)
    state = dataclasses.replace(state, adapter=adapter)
    with checkpoint.manager(workdir / "checkpoints", kept=1, scores={}) as checkpoints:
        checkpoint.save(checkpoints, state, {})
    command("to-hf", source=workdir, target=tmp_path / "merged")
    assert "merged an adapter of 16 kernels" in capsys.readouterr().out

    loaded = folders.load(folders.open_hf(tmp_path / "merged"), np.float32)
    rounded = jax.tree.map(
        lambda x: np.asarray(x.astype(jnp.bfloat16), np.float32),
        lora.merge(state.params, adapter),
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2**-7), loaded, rounded)
    run = folders.open_orbax(workdir, checkpoint.latest_folder(workdir), "params")
    jax.tree.map(np.testing.assert_array_equal, folders.load(run, np.float32), loaded)

    tokens = np.arange(7)
    theirs = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        tmp_path / "merged", dtype=torch.float32
    ).eval()
    with torch.no_grad():
        expected = theirs(input_ids=torch.from_numpy(tokens)[None]).logits[0].numpy()
    policy = qwen.Policy(UNTIED)
    given = lora.attach(state.params, adapter)
    x = qwen.embed(policy, given, jnp.asarray(tokens)[None, None])
    positions = jnp.broadcast_to(jnp.asarray(tokens), (3, 1, 1, 7))
    hidden, _ = qwen.extend(policy, given, x, positions, jnp.ones((1, 1, 7), bool))
    found = qwen.logits(policy, given, hidden)[0, 0]
    # The export is in bfloat16, as the folder that the run began from.
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
    assert np.corrcoef(np.ravel(found), np.ravel(expected))[0, 1] > 0.9999


def test_a_run_from_random_weights_has_no_released_form(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="began from random weights and has no released form"):
        command("to-hf", source=tmp_path / "run", target=tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "expected from-hf or to-hf after the command, got nothing"),
        (("both",), "expected from-hf or to-hf after the command, got both"),
        (("from-hf", "to-hf"), "expected from-hf or to-hf after the command, got from-hf to-hf"),
    ],
)
def test_a_direction_is_needed(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        command(*words, source=tmp_path, target=tmp_path / "out")


def test_both_folders_are_needed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--source and --target are needed"):
        command("to-hf", source=None, target=tmp_path / "out")


@pytest.mark.parametrize("direction", convert.DIRECTIONS)
def test_a_missing_source_is_a_sentence(tmp_path: Path, direction: str) -> None:
    with pytest.raises(UserError, match="nowhere: expected a model folder, found none"):
        command(direction, source=tmp_path / "nowhere", target=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_the_other_form_is_a_sentence(released: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected the folders params and hf, as from-hf writes"):
        command("to-hf", source=released, target=tmp_path / "out")


def test_a_target_that_exists_is_a_sentence(released: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a new folder, this one exists"):
        command("from-hf", source=released, target=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_target_among_the_files_that_are_copied_is_a_sentence(
    released: Path, tmp_path: Path
) -> None:
    command("from-hf", source=released, target=tmp_path / "ours")
    before = contents(tmp_path / "ours")
    with pytest.raises(UserError, match=r"expected a target outside of .*hf, whose files are"):
        command("to-hf", source=tmp_path / "ours", target=tmp_path / "ours" / "hf" / "out")
    assert contents(tmp_path / "ours") == before
    command("to-hf", source=tmp_path / "ours", target=tmp_path / "ours" / "out")


def test_a_target_that_cannot_be_made_is_a_sentence(released: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file: (file exists|not a directory)"):
        command("from-hf", source=released, target=tmp_path / "file" / "out")


def test_a_truncated_file_ends_with_a_sentence_and_a_code(
    released: Path, tmp_path: Path, repository: Path
) -> None:
    source = tmp_path / "hf"
    source.mkdir()
    for name, content in contents(released).items():
        (source / name).write_bytes(content[:-1] if name.startswith("model-00002") else content)
    flags_given = [f"--source={source}", f"--target={tmp_path / 'out'}"]
    line = [sys.executable, "-m", "launch.convert", "from-hf", *flags_given]
    done = subprocess.run(line, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    (said,) = done.stderr.strip().splitlines()
    assert said.startswith(f"launch.convert: {source}/model-00002-of-00002.safetensors: ")
    assert "truncated" in said
    assert not (tmp_path / "out").exists()
