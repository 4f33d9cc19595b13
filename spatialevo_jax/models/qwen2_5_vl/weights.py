"""One table between the released checkpoints' tensors and our parameters, used both ways.

A released name holds `{}` for the layer; ours stacks the layers on the first axis. Linear kernels
are stored transposed there (out, in), and the patch embedding as a 3-D convolution (out, channel,
time, y, x).
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import numpy as np

from spatialevo_jax.models.qwen2_5_vl.config import ModelConfig
from spatialevo_jax.models.qwen2_5_vl.model import Params

Form = Literal["same", "transposed", "convolution"]


@dataclasses.dataclass(frozen=True)
class Entry:
    released: str  # name in the hub's safetensors, `{}` stands for the layer
    ours: str  # path in the parameter dict, dotted
    form: Form


def _linear(released: str, ours: str, *, bias: bool) -> list[Entry]:
    weight = [Entry(f"{released}.weight", f"{ours}.kernel", "transposed")]
    return weight + ([Entry(f"{released}.bias", f"{ours}.bias", "same")] if bias else [])


def _mlp(released: str, ours: str, *, bias: bool) -> list[Entry]:
    names = ("gate", "up", "down")
    return [e for n in names for e in _linear(f"{released}.{n}_proj", f"{ours}.{n}", bias=bias)]


def table(config: ModelConfig) -> tuple[Entry, ...]:
    """All tensors of a checkpoint of this configuration."""
    block, layer = "visual.blocks.{}", "model.layers.{}"
    entries = [
        Entry("visual.patch_embed.proj.weight", "vision.patch_embed.kernel", "convolution"),
        Entry(f"{block}.norm1.weight", "vision.blocks.norm1.norm.scale", "same"),
        Entry(f"{block}.norm2.weight", "vision.blocks.norm2.norm.scale", "same"),
        *_linear(f"{block}.attn.qkv", "vision.blocks.qkv", bias=True),
        *_linear(f"{block}.attn.proj", "vision.blocks.proj", bias=True),
        *_mlp(f"{block}.mlp", "vision.blocks.mlp", bias=True),
        Entry("visual.merger.ln_q.weight", "vision.merger.norm.norm.scale", "same"),
        *_linear("visual.merger.mlp.0", "vision.merger.up", bias=True),
        *_linear("visual.merger.mlp.2", "vision.merger.down", bias=True),
        Entry("model.embed_tokens.weight", "text.embedding.embedding", "same"),
        Entry(f"{layer}.input_layernorm.weight", "text.blocks.norm1.norm.scale", "same"),
        Entry(f"{layer}.post_attention_layernorm.weight", "text.blocks.norm2.norm.scale", "same"),
        *_linear(f"{layer}.self_attn.q_proj", "text.blocks.q", bias=True),
        *_linear(f"{layer}.self_attn.k_proj", "text.blocks.k", bias=True),
        *_linear(f"{layer}.self_attn.v_proj", "text.blocks.v", bias=True),
        *_linear(f"{layer}.self_attn.o_proj", "text.blocks.o", bias=False),
        *_mlp(f"{layer}.mlp", "text.blocks.mlp", bias=False),
        Entry("model.norm.weight", "text.norm.norm.scale", "same"),
    ]
    if not config.text.tie_word_embeddings:
        entries += _linear("lm_head", "text.head", bias=False)
    return tuple(entries)


def _layers(config: ModelConfig, entry: Entry) -> int | None:
    if "{}" not in entry.released:
        return None
    return config.vision.depth if entry.ours.startswith("vision") else config.text.num_layers


def _to_ours(tensor: np.ndarray, form: Form) -> np.ndarray:
    if form == "convolution":
        tensor = tensor.reshape(tensor.shape[0], -1)
    return tensor if form == "same" else np.ascontiguousarray(tensor.T)


def _to_released(tensor: np.ndarray, form: Form, config: ModelConfig) -> np.ndarray:
    if form == "same":
        return tensor
    tensor = np.ascontiguousarray(tensor.T)
    if form == "convolution":
        patch = config.vision.patch_size
        frames = config.vision.temporal_patch_size
        tensor = tensor.reshape(-1, 3, frames, patch, patch)
    return tensor


def from_released(tensors: Mapping[str, np.ndarray], config: ModelConfig) -> Params:
    """Tensors by their released names -> parameters.

    Raises:
        ValueError: a tensor is missing.
    """
    params: dict = {}
    for entry in table(config):
        layers = _layers(config, entry)
        names = [entry.released.format(i) for i in range(layers or 1)]
        for name in names:
            if name not in tensors:
                raise ValueError(f"{name}: expected this tensor in the checkpoint, found none.")
        parts = [_to_ours(np.asarray(tensors[name]), entry.form) for name in names]
        *folders, leaf = entry.ours.split(".")
        node = params
        for folder in folders:
            node = node.setdefault(folder, {})
        node[leaf] = parts[0] if layers is None else np.stack(parts)
    return params


def to_released(params: Params, config: ModelConfig) -> dict[str, np.ndarray]:
    """The inverse of `from_released`."""
    tensors = {}
    for entry in table(config):
        value = params
        for key in entry.ours.split("."):
            value = value[key]
        value = np.asarray(value)
        layers = _layers(config, entry)
        for i, part in enumerate(value if layers is not None else value[None]):
            tensors[entry.released.format(i)] = _to_released(part, entry.form, config)
    return tensors
