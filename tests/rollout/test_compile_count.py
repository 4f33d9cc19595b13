"""Image sizes never reach a compiled program."""

import dataclasses
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geometry_jax.types import leaf
from spatialevo_jax.models.qwen2_5_vl import images, model
from spatialevo_jax.models.qwen2_5_vl.config import sized
from spatialevo_jax.rollout.batch import ChatEncoder, prompts_for_decoding
from spatialevo_jax.rollout.decode import generate
from spatialevo_jax.rollout.sampling import sample_keys

PROMPTS = 200
LENGTH = 352  # tokens of a prompt
BUDGET = images.VisionShape(windows=32, images=8, image_patches=256, tokens=256)
POLICY = model.Policy(dataclasses.replace(sized("tiny", 320), unroll=1))


def random_items(rng: np.random.Generator) -> list[images.Patches]:
    """Up to three images or short videos of 28 to 160 pixels a side."""
    items = []
    for _ in range(rng.integers(0, 4)):
        height, width = rng.integers(28, 161, 2)
        if rng.random() < 0.8:
            picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            items.append(images.preprocess(picture, POLICY.config.vision))
        else:
            film = rng.integers(0, 256, (rng.integers(1, 5), 60, width, 3), dtype=np.uint8)
            limits = {"min_pixels": 56 * 56, "max_pixels": 84 * 84}
            items.append(
                images.preprocess_video(film, POLICY.config.vision, fps=rng.uniform(1, 8), **limits)
            )
    return items


def test_200_random_prompts_compile_nothing_after_the_first(
    encoder: ChatEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    params = model.build(POLICY.config, seed=0)[1]
    rng = np.random.default_rng(0)
    words = ("lamp", "chair", "left", "Where is the", "1254", "Image 1")
    shapes, grids = set(), set()

    def ask(number: int) -> None:
        shown = random_items(rng)
        text = " ".join(rng.choice(words, rng.integers(1, 12)))
        turn = encoder.turn(text, [one.visual for one in shown], sample=f"prompt {number}")
        turn.require_fit(LENGTH)
        needed = images.needed_shape([one.grid for one in shown], POLICY.config.vision)
        shape = images.bucket_shape(needed, BUDGET)
        shapes.add(shape)
        grids.update(one.grid for one in shown)
        prompts, starts = prompts_for_decoding([turn], [0], LENGTH)
        out = generate(
            POLICY,
            params,
            images.pack_images(shown, POLICY.config.vision, shape),
            prompts,
            starts,
            sample_keys(jax.random.key(number), 0, 0, jnp.arange(1), 1),
            leaf(np.zeros(320, bool)),
            length=2,
            temperature=1.0,
            end_token=encoder.ids.im_end,
        )
        assert np.isfinite(out.logprobs).all()

    def compilations() -> list[str]:
        messages = [record.getMessage() for record in caplog.records]
        return [message for message in messages if message.startswith("Compiling")]

    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        ask(0)
        first = compilations()
        for number in range(1, PROMPTS + 1):
            ask(number)
    assert compilations() == first
    assert sum("generate" in message for message in first) == 1
    assert shapes == {BUDGET} and len(grids) > 30
