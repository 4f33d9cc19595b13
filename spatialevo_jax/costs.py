"""What a computation costs at least: arithmetic of the model by hand, and what chips can do."""

import dataclasses
import math
from typing import NamedTuple

import jax

from spatialevo_jax.models.qwen2_5_vl import model as qwen
from spatialevo_jax.models.qwen2_5_vl.config import ModelConfig
from spatialevo_jax.trees import dotted


@dataclasses.dataclass(frozen=True)
class Chip:
    """Peaks by the vendor's data sheet."""

    kind: str  # a part of the device's name, in lower case
    flops: float  # FLOP/s in half precision, dense
    bandwidth: float  # B/s between the chip and its memory
    memory: int  # bytes that a program can have: the runtime keeps a little for itself
    network: float  # B/s between the chip and the others of its slice or host, one way, all links


# TPUs: the system architecture pages of Google Cloud; their memory as the compiler counts it.
# GPUs: NVIDIA's data sheets of A100 80GB SXM, H100 SXM and H200 SXM.
CHIPS = {
    "v5e": Chip("v5 lite", 197e12, 0.82e12, int(15.75 * 2**30), 100e9),
    "v5p": Chip("v5p", 459e12, 2.77e12, int(95.74 * 2**30), 300e9),
    "v6e": Chip("v6 lite", 918e12, 1.64e12, int(31.25 * 2**30), 224e9),
    "a100": Chip("a100", 312e12, 2.04e12, 80 * 10**9, 300e9),
    "h200": Chip("h200", 989e12, 4.8e12, 141 * 10**9, 450e9),
    "h100": Chip("h100", 989e12, 3.35e12, 80 * 10**9, 450e9),
}


def chip_of(device_kind: str) -> Chip | None:
    """The chip of a device, None where it is not known."""
    kind = device_kind.lower()
    return next((chip for chip in CHIPS.values() if chip.kind in kind), None)


class Sizes(NamedTuple):
    """Numbers in the matrices that each token, patch or visual token is multiplied with."""

    text: int  # of the decoder's layers
    head: int
    vision: int  # of the tower's layers, for each patch
    merger: int  # for each visual token


def sizes(config: ModelConfig) -> Sizes:
    named = {
        dotted(path): math.prod(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(qwen.abstract_params(config))
    }

    def kernels(*starts: str) -> int:
        return sum(n for name, n in named.items() if name.startswith(starts) and "kernel" in name)

    return Sizes(
        text=kernels("text.blocks"),
        head=config.text.vocab_size * config.text.hidden_size,
        vision=kernels("vision.blocks", "vision.patch"),
        merger=kernels("vision.merger"),
    )


def vision_flops(config: ModelConfig, images: int, patches: int) -> float:
    """Multiplications and additions of the tower's matrix products for so many images of so many
    patches each.
    """
    vision, total = config.vision, images * patches
    whole = len(vision.fullatt_block_indexes)
    seen = total * (patches * whole + vision.window_patches * (vision.depth - whole))
    each = sizes(config)
    linear = total * each.vision + total // vision.spatial_merge_size**2 * each.merger
    return 2.0 * linear + 4.0 * seen * vision.hidden_size


def text_flops(config: ModelConfig, sequences: int, tokens: int, before: int = 0) -> float:
    """Of the decoder's layers for sequences of so many tokens behind others that are there already.
    Causal attention counts its half. Without the head: see `head_flops`.
    """
    text = config.text
    seen = sequences * tokens * (before + tokens / 2)
    linear = sequences * tokens * sizes(config).text
    return 2.0 * linear + 4.0 * seen * text.num_heads * text.head_dim * text.num_layers


def head_flops(config: ModelConfig, tokens: int) -> float:
    """Of the logits of so many tokens."""
    return 2.0 * tokens * sizes(config).head


def decode_bytes(
    config: ModelConfig, prompts: int, samples: int, prompt_tokens: int, reply_tokens: float
) -> float:
    """Bytes that a step of decoding must read: the decoder, each prompt's keys and values once, and
    those of all samples, of `reply_tokens` so far.
    """
    text, size = config.text, jax.numpy.dtype(config.compute_dtype).itemsize
    params = jax.tree.leaves(qwen.abstract_params(config)["text"])
    entry = 2 * text.num_layers * text.num_kv_heads * text.head_dim
    kept = prompts * (prompt_tokens + samples * reply_tokens)
    return size * (sum(math.prod(leaf.shape) for leaf in params) + entry * kept)
