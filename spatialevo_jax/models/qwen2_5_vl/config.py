"""Sizes of Qwen2.5-VL. Numbers as in the released checkpoints' config.json."""

import dataclasses
from typing import Literal, get_args

Attention = Literal["auto", "plain", "cudnn", "splash"]  # see `attention`
# What backward passes compute again: nothing; all of the decoder but its products, and all of the
# tower, which sees the images of a whole step at once; or all of both, from what goes into layers.
Remat = Literal["off", "dots", "full"]


@dataclasses.dataclass(frozen=True)
class VisionConfig:
    depth: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    out_hidden_size: int  # the text decoder's width
    fullatt_block_indexes: tuple[
        int, ...
    ]  # layers that see the whole image; the others see windows
    patch_size: int = 14  # pixels
    temporal_patch_size: int = 2  # frames; a still image is doubled
    spatial_merge_size: int = 2  # patches a side that become one visual token
    window_size: int = 112  # pixels a side
    tokens_per_second: int = 2  # temporal positions of a second of video

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def patch_dim(self) -> int:
        return 3 * self.temporal_patch_size * self.patch_size**2

    @property
    def window_side(self) -> int:
        """Patches along a window, of whole merge blocks."""
        merge = self.spatial_merge_size
        return self.window_size // self.patch_size // merge * merge

    @property
    def window_patches(self) -> int:
        return self.window_side**2

    def __post_init__(self) -> None:
        if self.window_side == 0:
            raise ValueError(
                f"vision_config.window_size: expected at least one visual token of "
                f"{self.patch_size * self.spatial_merge_size} pixels, got {self.window_size}."
            )
        if self.head_dim % 4:
            raise ValueError(
                f"vision_config.hidden_size: expected a multiple of 4, for two rotary axes, in "
                f"each of num_heads={self.num_heads}, got {self.hidden_size}."
            )

    def grid(self, width: int, height: int) -> tuple[int, int, int]:
        """Patches (time, height, width) of a still image of so many pixels."""
        return 1, height // self.patch_size, width // self.patch_size


@dataclasses.dataclass(frozen=True)
class TextConfig:
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mrope_section: tuple[int, int, int]  # rotary frequencies for time, height, width
    rope_theta: float = 1_000_000.0
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = False

    def __post_init__(self) -> None:
        if sum(self.mrope_section) * 2 != self.head_dim:
            raise ValueError(
                f"mrope_section: expected a sum of {self.head_dim // 2} (half of head_dim), "
                f"got {self.mrope_section}."
            )
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads: expected a multiple of num_kv_heads={self.num_kv_heads}, "
                f"got {self.num_heads}."
            )


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    vision: VisionConfig
    text: TextConfig
    compute_dtype: str = "float32"  # "bfloat16" on accelerators; masters stay float32
    remat: Remat = "off"
    unroll: int = 1  # layers unrolled in the scan
    attention: Attention = "auto"  # how to compute it, "auto": as the platform and the length ask

    def __post_init__(self) -> None:
        if self.vision.out_hidden_size != self.text.hidden_size:
            raise ValueError(
                f"vision_config.out_hidden_size: expected the decoder's {self.text.hidden_size}, "
                f"got {self.vision.out_hidden_size}."
            )
        for name, known in (("attention", get_args(Attention)), ("remat", get_args(Remat))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name}: expected one of {', '.join(known)}, got {getattr(self, name)!r}."
                )
        if self.attention == "cudnn" and self.compute_dtype not in ("bfloat16", "float16"):
            raise ValueError(
                f"attention: cudnn computes in bfloat16 or float16, got {self.compute_dtype}."
            )


def _released(
    hidden: int,
    intermediate: int,
    layers: int,
    heads: int,
    kv_heads: int,
    vocab: int,
    *,
    tied: bool = False,
    vision_intermediate: int = 3420,
) -> ModelConfig:
    vision = VisionConfig(
        depth=32,
        hidden_size=1280,
        intermediate_size=vision_intermediate,
        num_heads=16,
        out_hidden_size=hidden,
        fullatt_block_indexes=(7, 15, 23, 31),
    )
    text = TextConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=128,
        mrope_section=(16, 24, 24),
        tie_word_embeddings=tied,
    )
    return ModelConfig(vision, text, compute_dtype="bfloat16", remat="full")


# The tiny size is for the demo and the tests. Of its 8 rotary frequencies the first serves the
# height and the others the width. Most are slow: what a token says must hardly turn with its
# distance, or a label would not find its image token across a long prompt.
TINY = ModelConfig(
    vision=VisionConfig(
        depth=2,
        hidden_size=64,
        intermediate_size=128,
        num_heads=4,
        out_hidden_size=64,
        fullatt_block_indexes=(1,),
    ),
    text=TextConfig(
        vocab_size=768,
        hidden_size=64,
        intermediate_size=192,
        num_layers=3,
        num_heads=4,
        num_kv_heads=2,
        head_dim=16,
        mrope_section=(0, 1, 7),
        rope_theta=10_000.0,
        tie_word_embeddings=True,
    ),
    unroll=3,  # all layers: an update on CPU is faster without the residuals that a scan stacks up
)

SIZES: dict[str, ModelConfig] = {
    "tiny": TINY,
    "qwen2_5_vl_3b": _released(2048, 11008, 36, 16, 2, 151_936, tied=True),
    "qwen2_5_vl_7b": _released(3584, 18944, 28, 28, 4, 152_064),
    "qwen2_5_vl_32b": _released(5120, 27648, 64, 40, 8, 152_064, vision_intermediate=3456),
    "qwen2_5_vl_72b": _released(8192, 29568, 80, 64, 8, 152_064, vision_intermediate=3456),
}


def sized(name: str, vocab_size: int | None = None) -> ModelConfig:
    """The configuration of a size, optionally for another vocabulary.

    Raises:
        ValueError: unknown size.
    """
    if name not in SIZES:
        raise ValueError(
            f"model: expected one of {', '.join(SIZES)} or a model folder, got {name!r}."
        )
    config = SIZES[name]
    if vocab_size is None:
        return config
    return dataclasses.replace(config, text=dataclasses.replace(config.text, vocab_size=vocab_size))
