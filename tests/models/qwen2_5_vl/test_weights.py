"""The table of names against transformers' own model, reading by shards, and faulty checkpoints."""

import dataclasses
import math
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spatialevo_jax.models.qwen2_5_vl import model as qwen
from spatialevo_jax.models.qwen2_5_vl import safetensors_io, weights
from spatialevo_jax.models.qwen2_5_vl.config import SIZES, ModelConfig

from .checkpoints import their_config
from .released import TIED, UNTIED, random_tensors, write_folder

Tensors = dict[str, np.ndarray]

# `total_size` in the published indices, and the tensors in them.
PUBLISHED = {"qwen2_5_vl_3b": (7_509_245_952, 824), "qwen2_5_vl_7b": (16_584_333_312, 729)}


@pytest.mark.parametrize("size", [size for size in SIZES if size != "tiny"])
def test_released_sizes_have_the_names_and_shapes_of_transformers_model(size: str) -> None:
    torch = pytest.importorskip("torch", reason="the comparison needs PyTorch")
    from transformers import Qwen2_5_VLForConditionalGeneration

    config = SIZES[size]
    with torch.device("meta"):
        theirs = Qwen2_5_VLForConditionalGeneration(their_config(config))
    shapes = {
        name.replace("model.visual.", "visual.").replace("model.language_model.", "model."): weight
        for name, weight in theirs.state_dict().items()
        if not (name == "lm_head.weight" and config.text.tie_word_embeddings)
    }
    ours = weights.released_shapes(config)
    assert ours == {name: tuple(weight.shape) for name, weight in shapes.items()}
    if size in PUBLISHED:
        assert len(ours) == PUBLISHED[size][1]


@pytest.mark.parametrize("size", PUBLISHED)
def test_released_sizes_have_the_parameters_of_the_published_index(size: str) -> None:
    count = sum(math.prod(x.shape) for x in jax.tree.leaves(qwen.abstract_params(SIZES[size])))
    assert 2 * count == PUBLISHED[size][0]
    assert sum(map(math.prod, weights.released_shapes(SIZES[size]).values())) == count


def test_parameters_have_the_shapes_of_the_model_and_the_types_of_the_tensors() -> None:
    tensors = random_tensors(UNTIED, norm=np.float32, patch_embed=np.float16)
    params = weights.from_released(tensors, UNTIED)
    announced = qwen.abstract_params(UNTIED)
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.shape, b.shape), params, announced)
    assert params["text"]["norm"]["norm"]["scale"].dtype == np.float32
    assert params["vision"]["patch_embed"]["kernel"].dtype == np.float16
    assert params["text"]["blocks"]["q"]["kernel"].dtype == jnp.bfloat16


@pytest.mark.parametrize("config", [TIED, UNTIED], ids=["tied", "untied"])
def test_there_and_back_gives_the_same_bytes(config: ModelConfig) -> None:
    tensors = random_tensors(config, norm=np.float32)
    back = weights.to_released(weights.from_released(tensors, config), config)
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (back[name].dtype, back[name].shape) == (tensor.dtype, tensor.shape)
        assert back[name].tobytes() == tensor.tobytes(), name


def test_another_type_can_be_asked_for() -> None:
    tensors = random_tensors(UNTIED)
    cast = weights.from_released(tensors, UNTIED, dtype=np.float32)
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(a, b.astype(np.float32), strict=True),
        cast,
        weights.from_released(tensors, UNTIED),
    )


@dataclasses.dataclass
class Counted:
    """A tensor that counts what is read of it."""

    tensor: np.ndarray
    read: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    @property
    def dtype(self) -> np.dtype:
        return self.tensor.dtype

    def __getitem__(self, index: Any, /) -> np.ndarray:
        part = self.tensor[index]
        self.read += part.size
        return part


def test_shards_are_read_once_and_only_those_of_the_devices_here() -> None:
    """Runs where there are eight devices: in a process of its own."""
    code = "from tests.models.qwen2_5_vl.test_weights import read_on_a_mesh; read_on_a_mesh()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8", "HF_HUB_OFFLINE": "1"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def read_on_a_mesh() -> None:
    tensors = random_tensors(UNTIED)
    whole = weights.from_released(tensors, UNTIED)

    def sharding(devices: Any, leaf: np.ndarray) -> jax.sharding.NamedSharding:
        """Input and output of every matrix over two axes, as far as they divide."""
        mesh = jax.make_mesh((2, 4), ("fsdp", "tensor"), devices=devices)
        sizes = dict(mesh.shape)
        axes: list[str | None] = [None] * leaf.ndim
        for axis, name in zip(range(leaf.ndim)[-2:], ("fsdp", "tensor"), strict=False):
            axes[axis] = name if leaf.shape[axis] % sizes[name] == 0 else None
        return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))

    shardings = jax.tree.map(lambda leaf: sharding(jax.devices(), leaf), whole)
    counted = {name: Counted(tensor) for name, tensor in tensors.items()}
    params = weights.from_released(counted, UNTIED, shardings=shardings)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), b), params, whole)
    jax.tree.map(lambda x, s: np.testing.assert_equal(x.sharding, s), params, shardings)
    split = [x for x in jax.tree.leaves(params) if x.addressable_shards[0].data.size < x.size]
    assert len(split) > 10
    for name, tensor in counted.items():
        # The patch embedding is stored with all of a filter together: a part reads whole filters.
        times = 2 if "patch_embed" in name else 1
        assert tensor.read <= times * tensor.tensor.size, name
    # One device's share: what another process would read.
    for entry in weights.table(UNTIED):
        leaf, spread = weights.at(whole, entry.ours), weights.at(shardings, entry.ours)
        index = spread.addressable_devices_indices_map(leaf.shape)[jax.devices()[5]]
        parts = [Counted(tensors[name]) for name in weights.released_names(entry, UNTIED)]
        stacked = "{}" in entry.released
        read = weights._read(parts, leaf.shape, entry.form, index, stacked=stacked, dtype=None)
        np.testing.assert_array_equal(read, leaf[index])
        if entry.form != "convolution":
            assert sum(part.read for part in parts) == read.size, entry.ours


def test_memory_stays_under_the_parameters_and_two_of_the_largest_tensor(tmp_path: Path) -> None:
    text = dataclasses.replace(UNTIED.text, vocab_size=20_000, num_layers=8)
    config = dataclasses.replace(UNTIED, text=text)
    tensors = random_tensors(config)
    total = sum(tensor.nbytes for tensor in tensors.values())
    largest = max(tensor.nbytes for tensor in tensors.values())
    path = write_folder(tmp_path / "hf", config, tensors) / "model.safetensors"
    qwen.abstract_params(config)  # traced once, its memory kept by JAX
    del tensors
    tracemalloc.start()
    params = weights.from_released(safetensors_io.read_header(path), config)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(params)) == total
    assert peak < total + 2 * largest


Q1 = "model.layers.1.self_attn.q_proj.weight"


def without(tensors: Tensors) -> None:
    del tensors[Q1]


def with_another(tensors: Tensors) -> None:
    tensors["model.layers.2.self_attn.q_proj.weight"] = tensors[Q1]


def with_a_head(tensors: Tensors) -> None:
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + tensors[Q1].dtype.type(1)


def with_a_head_of_another_shape(tensors: Tensors) -> None:
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"][:-1]


def turned(tensors: Tensors) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name] = tensors[name].T


def of_integers(tensors: Tensors) -> None:
    tensors[Q1] = tensors[Q1].astype(np.int8)


def of_another_type(tensors: Tensors) -> None:
    tensors[Q1] = tensors[Q1].astype(np.float32)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without, rf"{Q1}: expected this tensor in the checkpoint, found none"),
        (with_another, r"model\.layers\.2\.self_attn\.q_proj\.weight: .* the model has none such"),
        (with_a_head, r"lm_head\.weight: the configuration ties it to .*, but the two .* differ"),
        (with_a_head_of_another_shape, r"lm_head\.weight: expected the shape \(320, 40\)"),
        (turned, r"layers\.1\.mlp\.up_proj\.weight: expected the shape \(28, 40\), got \(40, 28\)"),
        (of_integers, rf"{Q1}: expected the type float32, bfloat16, float16, got int8"),
        (of_another_type, rf"{Q1}: expected the type bfloat16 of .*layers\.0.*, got float32"),
    ],
)
def test_the_tensor_at_fault_is_named(spoil: Callable[[Tensors], None], message: str) -> None:
    tensors = random_tensors(TIED)
    spoil(tensors)
    with pytest.raises(ValueError, match=message):
        weights.from_released(tensors, TIED)


def test_a_tied_head_may_be_there_again() -> None:
    tensors = random_tensors(TIED)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    assert "head" not in weights.from_released(tensors, TIED)["text"]


def test_an_untied_head_must_be_there() -> None:
    tensors = random_tensors(UNTIED)
    del tensors["lm_head.weight"]
    with pytest.raises(ValueError, match=r"lm_head\.weight: expected this tensor"):
        weights.from_released(tensors, UNTIED)
