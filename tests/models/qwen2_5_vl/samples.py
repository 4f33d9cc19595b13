"""Random prompts with images and videos, and both implementations' passes over them."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geometry_jax.types import leaf
from spatialevo_jax.models.qwen2_5_vl import images
from spatialevo_jax.models.qwen2_5_vl import model as qwen
from spatialevo_jax.models.qwen2_5_vl.config import VisionConfig
from spatialevo_jax.models.qwen2_5_vl.images import Patches
from spatialevo_jax.models.qwen2_5_vl.rope import mrope_positions
from spatialevo_jax.rollout.batch import Conversation, Prompts, pad_prompts

from .checkpoints import IDS, Pair, picture

torch: Any = pytest.importorskip("torch", reason="parity needs PyTorch, which is not installed")


class Clip(NamedTuple):
    """A video to make: its size in pixels, frames, and frames a second."""

    width: int
    height: int
    frames: int
    fps: float


class Sample(NamedTuple):
    """A prompt with what it shows."""

    conversation: Conversation
    shown: list[Patches]


def preprocess(
    config: VisionConfig, items: Sequence[tuple[int, int] | Clip], first_seed: int = 0
) -> list[Patches]:
    """Made images, given as (width, height), and videos."""
    shown = []
    for seed, item in enumerate(items, first_seed):
        if isinstance(item, Clip):
            seeds = range(100 * seed, 100 * seed + item.frames)
            frames = np.stack([picture(item.width, item.height, seed=one) for one in seeds])
            shown.append(images.preprocess_video(frames, config, fps=item.fps, min_pixels=56 * 56))
        else:
            shown.append(images.preprocess(picture(*item, seed=seed), config))
    return shown


def sample(pair: Pair, items: Sequence[tuple[int, int] | Clip], seed: int = 0) -> Sample:
    """Random text of random lengths around the items."""
    config, rng = pair.config.vision, np.random.default_rng(seed)
    shown = preprocess(config, items, first_seed=10 * seed)
    parts = [rng.integers(0, 300, rng.integers(2, 9))]
    for one in shown:
        pad = IDS.image_pad if one.seconds is None else IDS.video_pad
        count = len(one.values) // config.spatial_merge_size**2
        parts += [[IDS.vision_start], np.full(count, pad), [IDS.vision_end]]
        parts.append(rng.integers(0, 300, rng.integers(1, 9)))
    tokens = np.concatenate(parts).astype(np.int32)
    positions = mrope_positions(
        tokens,
        [one.grid for one in shown],
        IDS,
        config.spatial_merge_size,
        seconds=[one.seconds for one in shown],
        tokens_per_second=config.tokens_per_second,
    )
    visual = np.isin(tokens, (IDS.image_pad, IDS.video_pad))
    return Sample(Conversation(tokens, positions, visual), shown)


# --- transformers ----------------------------------------------------------------------------


def their_inputs(one: Sample) -> dict[str, Any]:
    """Arguments of transformers' forward pass for one unpadded sequence."""
    tokens = one.conversation.tokens
    kinds = (tokens == IDS.image_pad) + 2 * (tokens == IDS.video_pad)
    inputs = {
        "input_ids": torch.tensor(tokens[None].astype(np.int64)),
        "attention_mask": torch.ones(1, len(tokens), dtype=torch.int64),
        "mm_token_type_ids": torch.tensor(kinds[None].astype(np.int32)),
    }
    stills = [item for item in one.shown if item.seconds is None]
    videos = [item for item in one.shown if item.seconds is not None]
    if stills:
        inputs["pixel_values"] = torch.tensor(np.concatenate([item.values for item in stills]))
        inputs["image_grid_thw"] = torch.tensor([item.grid for item in stills])
    if videos:
        values = np.concatenate([item.values for item in videos])
        inputs["pixel_values_videos"] = torch.tensor(values)
        inputs["video_grid_thw"] = torch.tensor([item.grid for item in videos])
        inputs["second_per_grid_ts"] = torch.tensor([item.seconds for item in videos])
    return inputs


def their_logits(pair: Pair, one: Sample, **more: Any) -> np.ndarray:
    """(n, V)"""
    with torch.no_grad():
        return pair.theirs(**their_inputs(one), **more).logits[0].float().numpy()


# --- ours ------------------------------------------------------------------------------------


def our_inputs(
    pair: Pair, samples: Sequence[Sample], length: int | None = None
) -> tuple[qwen.VisionInputs | None, Prompts]:
    """All samples in one batch, padded on the right."""
    conversations = [one.conversation for one in samples]
    ends = [len(one.tokens) for one in conversations]
    counts = [int(one.visual.sum()) for one in conversations]
    firsts = [sum(counts[:row]) for row in range(len(counts))]
    shown = [item for one in samples for item in one.shown]
    vision = images.pack_images(shown, pair.config.vision) if shown else None
    return vision, pad_prompts(conversations, ends, firsts, length or max(ends))


def padded_left(prompts: Prompts) -> Prompts:
    """Every row moved to the end."""
    shifts = prompts.valid.shape[-1] - np.asarray(prompts.valid).sum(-1)

    def move(array: jax.Array) -> jax.Array:
        rows = np.moveaxis(np.asarray(array), -2, 0)
        moved = [np.roll(row, shift, axis=-1) for row, shift in zip(rows, shifts, strict=True)]
        return leaf(np.moveaxis(np.stack(moved), 0, -2))

    return jax.tree.map(move, prompts)


@functools.partial(jax.jit, static_argnames="policy")
def forward(
    policy: qwen.Policy, params: qwen.Params, vision: qwen.VisionInputs | None, prompts: Prompts
) -> jax.Array:
    """(P, T, V) logits, everything in one pass and without a cache."""
    features = None if vision is None else qwen.encode_images(policy, params, vision)
    x = qwen.embed(
        policy, params, prompts.tokens[:, None], prompts.feature_index[:, None], features
    )
    positions, valid = prompts.positions[:, :, None], prompts.valid[:, None]
    hidden, _ = qwen.extend(policy, params, x, jnp.asarray(positions), jnp.asarray(valid))
    return qwen.logits(policy, params, hidden)[:, 0]


def our_logits(
    pair: Pair, samples: Sequence[Sample], *, left: bool = False, length: int | None = None
) -> list[np.ndarray]:
    """(n, V) logits of each sample, computed in one padded batch."""
    vision, prompts = our_inputs(pair, samples, length)
    prompts = padded_left(prompts) if left else prompts
    scores = np.asarray(forward(pair.policy, pair.params, vision, prompts))
    return [row[real] for row, real in zip(scores, np.asarray(prompts.valid), strict=True)]
