"""Small random checkpoints: ours alone, and side by side with transformers' implementation."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spatialevo_jax.models.qwen2_5_vl import model as qwen
from spatialevo_jax.models.qwen2_5_vl.config import (
    SIZES,
    ModelConfig,
    TextConfig,
    VisionConfig,
)
from spatialevo_jax.models.qwen2_5_vl.weights import from_released
from spatialevo_jax.tokenizer import SpecialIds

VOCABULARY = 320
IDS = SpecialIds(
    im_end=300, pad=301, image_pad=302, video_pad=303, vision_start=304, vision_end=305
)

# Three query heads share a key head; windows and whole images alternate; the head is its own.
SMALL = ModelConfig(
    vision=VisionConfig(
        depth=4,
        hidden_size=32,
        intermediate_size=48,
        num_heads=2,
        out_hidden_size=96,
        fullatt_block_indexes=(1, 3),
    ),
    text=TextConfig(
        vocab_size=VOCABULARY,
        hidden_size=96,
        intermediate_size=80,
        num_layers=3,
        num_heads=6,
        num_kv_heads=2,
        head_dim=16,
        mrope_section=(2, 3, 3),
    ),
)
# The released sizes' heads (128 wide with their rotary sections, 80 in the vision tower), tied.
RELEASED_HEADS = ModelConfig(
    vision=VisionConfig(
        depth=3,
        hidden_size=160,
        intermediate_size=96,
        num_heads=2,
        out_hidden_size=256,
        fullatt_block_indexes=(2,),
    ),
    text=TextConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=128,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        head_dim=128,
        mrope_section=(16, 24, 24),
        tie_word_embeddings=True,
    ),
)
CONFIGS = {"small": SMALL, "released heads": RELEASED_HEADS}


def _thin(size: str) -> ModelConfig:
    """A released size with its heads and widths, but few layers, tokens and hidden units."""
    released = SIZES[size]
    vision = dataclasses.replace(
        released.vision, depth=2, intermediate_size=96, fullatt_block_indexes=(1,)
    )
    text = dataclasses.replace(
        released.text, vocab_size=VOCABULARY, num_layers=1, intermediate_size=128
    )
    return ModelConfig(vision, text)


THIN = {size: _thin(size) for size in ("qwen2_5_vl_3b", "qwen2_5_vl_7b")}


@dataclasses.dataclass(frozen=True)
class Pair:
    """One random checkpoint in both implementations."""

    config: ModelConfig
    policy: qwen.Policy
    params: qwen.Params
    theirs: Any  # transformers' module, float32, in evaluation mode
    tensors: dict[str, np.ndarray]  # as `save_pretrained` wrote them, by their released names


def their_config(config: ModelConfig) -> Any:
    """The transformers configuration of the same shapes."""
    from transformers import Qwen2_5_VLConfig

    text, vision = config.text, config.vision
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": text.vocab_size,
            "hidden_size": text.hidden_size,
            "intermediate_size": text.intermediate_size,
            "num_hidden_layers": text.num_layers,
            "num_attention_heads": text.num_heads,
            "num_key_value_heads": text.num_kv_heads,
            "rms_norm_eps": text.rms_norm_eps,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": list(text.mrope_section),
                "rope_theta": text.rope_theta,
            },
            "tie_word_embeddings": text.tie_word_embeddings,
            "bos_token_id": None,
            "eos_token_id": IDS.im_end,
            "pad_token_id": IDS.pad,
        },
        vision_config={
            "depth": vision.depth,
            "hidden_size": vision.hidden_size,
            "intermediate_size": vision.intermediate_size,
            "num_heads": vision.num_heads,
            "out_hidden_size": vision.out_hidden_size,
            "fullatt_block_indexes": list(vision.fullatt_block_indexes),
            "window_size": vision.window_size,
            "patch_size": vision.patch_size,
            "tokens_per_second": vision.tokens_per_second,
        },
        image_token_id=IDS.image_pad,
        video_token_id=IDS.video_pad,
        vision_start_token_id=IDS.vision_start,
        vision_end_token_id=IDS.vision_end,
        tie_word_embeddings=text.tie_word_embeddings,
    )


def make_pair(config: ModelConfig, folder: Path) -> Pair:
    """Random weights of a size that lets every tensor show in the logits, biases included."""
    torch = pytest.importorskip("torch", reason="parity needs PyTorch, which is not installed")
    from safetensors.numpy import load_file
    from transformers import Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(0)
    theirs = Qwen2_5_VLForConditionalGeneration(their_config(config)).eval()
    with torch.no_grad():
        for name, weight in theirs.named_parameters():
            noise = torch.randn_like(weight)
            if weight.ndim > 1:
                weight.copy_(noise * weight[0].numel() ** -0.5)
            else:
                weight.copy_(0.2 * noise + (0.0 if name.endswith("bias") else 1.0))
    theirs.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    return Pair(config, qwen.Policy(config), from_released(tensors, config), theirs, tensors)


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8: smooth colours with noise, different for each seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 40.0
    waves = np.sin(x[..., None] * rng.uniform(0.5, 2, 3) + y[..., None] * rng.uniform(0.5, 2, 3))
    noisy = 127 + 90 * waves + rng.normal(0, 20, (height, width, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)
