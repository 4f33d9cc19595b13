"""Small released folders, written by the safetensors library and transformers' config class."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from spatialevo_jax.models.qwen2_5_vl import folders
from spatialevo_jax.models.qwen2_5_vl.config import ModelConfig, TextConfig, VisionConfig
from spatialevo_jax.models.qwen2_5_vl.weights import released_shapes

from .checkpoints import their_config

# Every number differs, so that no two axes can be taken for each other.
UNTIED = ModelConfig(
    vision=VisionConfig(
        depth=3,
        hidden_size=24,
        intermediate_size=20,
        num_heads=2,
        out_hidden_size=40,
        fullatt_block_indexes=(2,),
    ),
    text=TextConfig(
        vocab_size=320,
        hidden_size=40,
        intermediate_size=28,
        num_layers=2,
        num_heads=5,
        num_kv_heads=1,
        head_dim=8,
        mrope_section=(1, 1, 2),
    ),
)
TIED = dataclasses.replace(UNTIED, text=dataclasses.replace(UNTIED.text, tie_word_embeddings=True))
COMPANIONS = {
    "chat_template.json": b'{"chat_template": "{{ messages }}"}',
    "generation_config.json": b'{\n  "temperature": 1e-06\n}',  # no line end, as some have it
    "merges.txt": "Ġ t\nĠ a\r\n".encode(),
    "preprocessor_config.json": b'{"min_pixels": 3136}\n',
    "tokenizer.json": b'{"model": {"vocab": {}}}',
    "tokenizer_config.json": b"{}\n",
    "vocab.json": b"{}",
    "README.md": b"",
}


def random_tensors(config: ModelConfig, seed: int = 0, **dtypes: Any) -> dict[str, np.ndarray]:
    """Tensors by their released names: bfloat16, or the type given for a word in the name."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in released_shapes(config).items():
        words = [dtypes[word] for word in dtypes if word in name]
        dtype = words[0] if words else ml_dtypes.bfloat16
        tensors[name] = rng.standard_normal(shape, np.float32).astype(dtype)
    return tensors


def config_fields(config: ModelConfig, dtype: str = "bfloat16") -> dict[str, Any]:
    """What transformers writes into config.json for a model of these sizes."""
    fields = json.loads(their_config(config).to_json_string())
    return fields | {"architectures": ["Qwen2_5_VLForConditionalGeneration"], "dtype": dtype}


def write_folder(
    folder: Path,
    config: ModelConfig,
    tensors: Mapping[str, np.ndarray],
    *,
    files: int = 1,
    companions: Mapping[str, bytes] = COMPANIONS,
) -> Path:
    """A folder as `save_pretrained` lays it out: one file, or several with an index."""
    folder.mkdir(parents=True)
    (folder / folders.CONFIG).write_text(json.dumps(config_fields(config), indent=2) + "\n")
    for name, content in companions.items():
        (folder / name).write_bytes(content)
    if files == 1:
        save_file(dict(tensors), folder / folders.SINGLE, metadata={"format": "pt"})
        return folder
    names = list(tensors)
    places = {}
    for number in range(files):
        file = f"model-{number + 1:05d}-of-{files:05d}.safetensors"
        part = {name: tensors[name] for name in names[number::files]}
        save_file(part, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(part, file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    text = json.dumps(index, indent=2, sort_keys=True) + "\n"
    (folder / folders.INDEX).write_text(text)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
