"""What a step takes of TPUs that are not here; `make setup-dev` installs the compiler for them."""

import dataclasses
import importlib.util
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from launch import plan as command
from launch.flags import load_config
from spatialevo_jax import costs, plan, sharding
from spatialevo_jax.config import (
    DataConfig,
    GrpoConfig,
    LoraConfig,
    MeshConfig,
    RolloutConfig,
    TrainConfig,
    WarmStartConfig,
)
from spatialevo_jax.models.qwen2_5_vl import model as qwen
from spatialevo_jax.models.qwen2_5_vl.config import SIZES, TINY

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
P, G, S, T = 4, 2, 40, 24
SMALL = TrainConfig(
    data=DataConfig(image_size=(56, 56), scene_frames=3, rows=(2, 1, 1)),
    warm_start=WarmStartConfig(steps=0, naming_steps=0, looking_steps=0),
    rollout=RolloutConfig(
        questioner_samples=G,
        solver_samples=G,
        solver_prompts=P,
        questioner_tokens=T,
        solver_tokens=T,
        questioner_prompt=S,
        solver_prompt=S,
        whole_weights=True,
    ),
    grpo=GrpoConfig(kl_coefficient=0.01, reference_dtype="bfloat16", two_pass=P),
    mesh=MeshConfig(fsdp=2, tensor=2),
)
MODEL = dataclasses.replace(TINY, compute_dtype="bfloat16", remat="full", unroll=1)
COUNT = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(qwen.abstract_params(MODEL)))


def published(size: str) -> TrainConfig:
    return load_config(CONFIGS / f"spatialevo_{size}.py", [], TrainConfig)


@pytest.fixture(scope="module")
def small() -> plan.Plan:
    """The real functions, compiled for four chips of v5e."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("no libtpu, the compiler for TPUs: make setup-dev installs it")
    return plan.make_plan(SMALL, MODEL, plan.described("v5e:2x2"))


def test_a_small_step_compiles_for_tpus_and_fits(small: plan.Plan) -> None:
    assert small.fits
    assert small.mesh == {"data": 1, "fsdp": 2, "tensor": 2}
    assert all(program.compiles for program in (*small.rollouts, *small.updates))
    assert small.needed == max(small.rollout_bytes, small.update_bytes)
    assert small.rollout_bytes > small.rollouts[0].needed, "moments and reference stay meanwhile"


def test_both_axes_of_the_mesh_split_the_state(small: plan.Plan) -> None:
    """The decoder's matrices are split by both, the tower's by fsdp, norms by none."""
    expected = 0.0
    for path, leaf in jax.tree_util.tree_leaves_with_path(qwen.abstract_params(MODEL)):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        matrix = name.endswith(("kernel", "embedding"))
        of_decoder = name.startswith("text") and "norm" not in name
        shares = (2 if matrix else 1) * (2 if of_decoder else 1)
        expected += 4 * math.prod(leaf.shape) / shares
    memory = small.memory
    assert memory.params == expected < 4 * COUNT / 2
    assert memory.optimizer == pytest.approx(2 * memory.params, abs=64)
    assert memory.reference == pytest.approx(memory.params / 2, rel=0.05)
    assert memory.gradients == memory.params


def test_the_compiler_is_given_what_was_counted(small: plan.Plan) -> None:
    """Its layouts fill small arrays up to whole tiles, so it may take more and never less."""
    (update,) = small.updates
    assert update.name == "update of a role"
    assert small.memory.state < update.arguments
    assert small.memory.params < small.rollouts[0].arguments < update.arguments
    assert update.results < small.memory.params / 10, "the state is written over"


def test_caches_are_split_over_prompts_and_heads(small: plan.Plan) -> None:
    text = MODEL.text
    entry = 2 * 2 * text.num_layers * text.num_kv_heads * text.head_dim  # bytes of a token
    assert small.memory.prefix_cache == P * S * entry // 4
    assert small.memory.reply_cache == P * G * T * entry // 4


def test_a_plan_is_told_in_words_and_as_json(small: plan.Plan) -> None:
    text = command.described(SMALL, MODEL, [small])
    assert "| v5e:2x2 | 4, 1 | fsdp 2 x tensor 2 |" in text
    assert "15.75 | yes |" in text
    told = command.record(small)
    assert told["fits"] is True
    assert told["update_bytes"] == small.update_bytes


class Refused:
    """A program that the compiler refuses in these words."""

    def __init__(self, words: str) -> None:
        self.words = words

    def compile(self) -> Any:
        raise jax.errors.JaxRuntimeError(self.words)


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        ("Ran out of memory in memory space hbm. Used 117.50G of 15.75G hbm.", 117.5),
        ("the total memory required for HLO temporaries (23.83G) exceeds available HBM", 25.83),
    ],
)
def test_what_does_not_fit_is_told_by_how_much(words: str, needed: float) -> None:
    program = plan.compile_program("update", Refused(f"RESOURCE_EXHAUSTED: {words}"), 4, 2 * 2**30)
    assert not program.compiles
    assert program.needed == pytest.approx(needed * 2**30)


def test_another_failure_of_the_compiler_is_not_hidden() -> None:
    with pytest.raises(jax.errors.JaxRuntimeError, match="Mosaic"):
        plan.compile_program("update", Refused("INTERNAL: Mosaic failed to compile"), 4, 0)


# --- without a compiler for TPUs -----------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Device:
    """As much of a device as a mesh looks at."""

    id: int
    process_index: int
    platform: str = "tpu"
    device_kind: str = "TPU v5 lite"


@pytest.mark.parametrize("size", ["3b", "7b"])
def test_a_step_of_the_published_run_has_shapes_that_fit_together(size: str) -> None:
    """Rollouts and update are traced whole, on one device and without any memory."""
    config = published(size)
    model = plan.model_of(config)
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    shapes, state, programs = plan.lower_all(config, model, mesh)
    assert shapes.images == 1 + 4 * 2 + 3 * 16
    assert shapes.visual_tokens == 192
    assert 16 * shapes.visual_tokens < shapes.prompt_tokens["questioner"]
    for lower in programs.values():
        lower()
    assert plan.chip_bytes(state.params) > 12e9


@pytest.mark.parametrize("size", ["3b", "7b"])
def test_the_published_models_are_known_by_their_folders(size: str) -> None:
    config = published(size)
    model = plan.model_of(config)
    assert model.text == SIZES[f"qwen2_5_vl_{size}"].text
    assert (model.compute_dtype, model.remat) == ("bfloat16", "full")
    with pytest.raises(ValueError, match=r"my_model: expected one of tiny, .* said with --size"):
        plan.model_of(dataclasses.replace(config, model="runs/my_model"))
    assert plan.model_of(dataclasses.replace(config, model="runs/mine"), "tiny").text == TINY.text


def test_arithmetic_is_six_flops_a_parameter_and_token_and_more() -> None:
    """Of the decoder; attention and the tower add to that."""
    model = SIZES["qwen2_5_vl_3b"]
    tokens = costs.text_flops(model, 1, 1)
    assert tokens == pytest.approx(2 * 2.77e9, rel=0.01)
    assert costs.text_flops(model, 3, 100, 1000) > 300 * tokens


def test_an_unknown_machine_is_named() -> None:
    with pytest.raises(ValueError, match=r"expected one such as v5e:2x2, .* got 'v9:1x1'"):
        plan.described("v9:1x1")


def test_a_slice_that_there_is_not_is_named() -> None:
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("no libtpu, the compiler for TPUs: make setup-dev installs it")
    with pytest.raises(ValueError, match=r"a slice that there is, such as 2x2.*'v5e:3x3'"):
        plan.described("v5e:3x3")


@pytest.mark.parametrize("name", ["v5e:", "v5p:2x2", "v5e:2x2x2", "v6e:4", "h100:2x2x2"])
def test_a_slice_of_another_form_is_refused(name: str) -> None:
    """Chips of v5p stand in three dimensions, of v5e and v6e in two."""
    with pytest.raises(ValueError, match=rf"expected one such as v5e:2x2.* got '{name}'"):
        plan.described(name)


def test_adapters_need_no_gradient_of_kernels() -> None:
    """A forward pass and one backward through the decoder, in place of two; no tower's."""
    chips = np.empty((1, 1, 1), object)
    chips[0, 0, 0] = Device(0, 0)
    one = jax.sharding.Mesh(chips, ("data", "fsdp", "tensor"))
    shapes, chip = plan.shapes_of(SMALL, MODEL, 1, 1), costs.CHIPS["v5e"]

    def updates(config: TrainConfig) -> float:
        return plan.count_work(config, MODEL, shapes, one, chip).update_flops

    tower = ("vision.blocks.qkv",)
    frozen = dataclasses.replace(SMALL, grpo=dataclasses.replace(SMALL.grpo, vision_lr_share=0.0))
    decoder = updates(dataclasses.replace(SMALL, lora=LoraConfig(rank=2)))
    both = updates(dataclasses.replace(SMALL, lora=LoraConfig(rank=2, targets=tower)))
    assert 0.5 < decoder / updates(frozen) < 0.9
    assert decoder < both < updates(SMALL)


def test_hosts_that_share_no_block_of_rows_are_refused() -> None:
    def mesh(owners: list[int]) -> Any:
        devices = np.empty((1, 4, 1), object)
        devices[0, :, 0] = [Device(at, host) for at, host in enumerate(owners)]
        return jax.sharding.Mesh(devices, ("data", "fsdp", "tensor"))

    assert plan.blocks_of(mesh([0, 0, 1, 1])) == 2
    with pytest.raises(ValueError, match="expected hosts to hold blocks of rows"):
        plan.blocks_of(mesh([0, 1, 0, 1]))


def test_servers_that_the_same_chips_stand_for_share_their_programs() -> None:
    """What is found for one of them is what would be found for the other."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("no libtpu, the compiler for TPUs: make setup-dev installs it")
    chips = plan.described("v5e:2x2")
    first, second = (
        dataclasses.replace(chips, name=f"{kind}:4", chip=costs.CHIPS[kind])
        for kind in ("h100", "h200")
    )
    one = plan.make_plan(SMALL, MODEL, first, compiled=False)
    found = one.on(SMALL, MODEL, second)
    expected = plan.make_plan(SMALL, MODEL, second, compiled=False)
    assert found == dataclasses.replace(expected, host_peak=one.host_peak)
    assert found is not None and found.limit > one.limit and found.work != one.work
    assert one.on(SMALL, MODEL, chips) is None, "the chips themselves are of several hosts"
