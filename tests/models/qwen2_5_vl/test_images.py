"""Packing images and videos: padding, budgets, and what is refused."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from spatialevo_jax.models.qwen2_5_vl import images
from spatialevo_jax.models.qwen2_5_vl import model as qwen
from spatialevo_jax.models.qwen2_5_vl.config import TINY
from spatialevo_jax.models.qwen2_5_vl.images import VisionShape

from .checkpoints import picture

pytestmark = pytest.mark.usefixtures("compiled_fast")

CONFIG = dataclasses.replace(TINY, unroll=1)
VISION, POLICY = CONFIG.vision, qwen.Policy(CONFIG)
ROOMY = VisionShape(windows=16, images=8, image_patches=200, tokens=128)


@pytest.fixture(scope="module")
def params() -> qwen.Params:
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: 0.1 * rng.standard_normal(leaf.shape, np.float32),
        qwen.abstract_params(CONFIG),
    )


def frames(count: int, width: int = 60, height: int = 90) -> np.ndarray:
    return np.stack([picture(width, height, seed) for seed in range(count)])


@pytest.mark.parametrize(
    ("grids", "expected"),
    [
        ([], (0, 0, 0, 0)),
        ([(1, 8, 8)], (1, 1, 64, 16)),
        ([(1, 10, 4)], (2, 1, 40, 10)),  # two rows beyond the first window
        ([(3, 10, 12)], (12, 3, 120, 90)),  # every temporal patch has its own windows
        ([(1, 8, 8), (2, 4, 18)], (7, 3, 72, 52)),
    ],
)
def test_what_images_take_by_hand(grids: list[images.Grid], expected: tuple[int, ...]) -> None:
    assert images.needed_shape(grids, VISION) == expected


@pytest.mark.parametrize("window", [112, 126])  # of which the latter cuts a token: it holds none
def test_packing_takes_what_was_announced(window: int) -> None:
    config = dataclasses.replace(VISION, window_size=window)
    shown = [
        images.preprocess(picture(150, 100), config),
        images.preprocess_video(frames(5), config, fps=1.0, min_pixels=56 * 56),
    ]
    packed = images.pack_images(shown, config)
    shape = images.needed_shape([one.grid for one in shown], config)
    assert packed.patches.shape == (shape.windows, VISION.window_patches, VISION.patch_dim)
    assert packed.image_slots.shape == (shape.images, shape.image_patches)
    assert packed.token_slots.shape == (shape.tokens, 4)
    assert int(np.sum(packed.valid)) == int(np.sum(packed.image_valid)) == 4 * shape.tokens


def test_a_bucket_is_the_next_power_of_two_and_no_less_than_the_least() -> None:
    least = VisionShape(windows=4, images=2, image_patches=64, tokens=32)
    needed = VisionShape(windows=5, images=2, image_patches=64, tokens=33)
    assert images.bucket_shape(needed, least) == (8, 2, 64, 64)
    assert images.bucket_shape(VisionShape(0, 0, 0, 0), least) == least
    assert images.bucket_shape(VisionShape(0, 1, 3, 8), VisionShape(0, 0, 0, 0)) == (1, 1, 4, 8)


def test_padding_changes_no_feature_and_no_gradient(params: qwen.Params) -> None:
    shown = [
        images.preprocess(picture(150, 100), VISION),
        images.preprocess_video(frames(4), VISION, fps=1.0, min_pixels=56 * 56),
    ]
    count = sum(len(one.values) for one in shown) // 4

    @jax.jit
    @jax.value_and_grad
    def energy(params: qwen.Params, inputs: qwen.VisionInputs) -> jax.Array:
        return (qwen.encode_images(POLICY, params, inputs)[:count] ** 2).mean()

    plain = energy(params, images.pack_images(shown, VISION))
    padded = energy(params, images.pack_images(shown, VISION, ROOMY))
    assert plain[0] > 0.01
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-4), plain, padded)


def test_a_batch_without_images_has_the_shape_of_the_others() -> None:
    empty = images.pack_images([], VISION, ROOMY)
    full = images.pack_images([images.preprocess(picture(150, 100), VISION)], VISION, ROOMY)
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.shape, b.shape), empty, full)
    assert not np.any(empty.valid)


def test_temporal_patches_of_a_video_do_not_see_each_other(params: qwen.Params) -> None:
    """As still images: the tower has no attention over time."""
    encode = jax.jit(qwen.encode_images, static_argnums=0)
    film = frames(4)
    limits = {"min_pixels": 56 * 56}
    whole = images.preprocess_video(film, VISION, fps=2.0, **limits)
    halves = [images.preprocess_video(film[i : i + 2], VISION, fps=2.0, **limits) for i in (0, 2)]
    np.testing.assert_allclose(
        encode(POLICY, params, images.pack_images([whole], VISION)),
        encode(POLICY, params, images.pack_images(halves, VISION)),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("short", "size"), [("windows", 3), ("images", 1), ("image_patches", 79), ("tokens", 43)]
)
def test_a_sample_that_does_not_fit_is_named_with_its_grids_and_the_budget(
    short: str, size: int
) -> None:
    grids, exact = [(1, 8, 10), (1, 8, 12)], VisionShape(4, 2, 96, 44)
    images.require_fit("room 7, question 2", grids, VISION, exact)
    budget = exact._replace(**{short: size})
    with pytest.raises(ValueError, match="room 7, question 2") as caught:
        images.require_fit("room 7, question 2", grids, VISION, budget)
    said = str(caught.value)
    assert "(1, 8, 10) (1, 8, 12)" in said
    assert f"at most {budget.tokens} visual tokens in {budget.windows} windows" in said
    assert "got 44 visual tokens in 4 windows of 2 images with 96 patches each" in said


def test_a_batch_beyond_its_shape_is_refused_and_never_cut() -> None:
    shown = [images.preprocess(picture(150, 100, seed), VISION) for seed in range(2)]
    shape = images.needed_shape([one.grid for one in shown], VISION)
    images.pack_images(shown, VISION, shape)
    with pytest.raises(ValueError, match=r"batch of 2 images.*do not fit the budget"):
        images.pack_images(shown, VISION, shape._replace(tokens=shape.tokens - 1))


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((20, 20), np.uint8),
        np.zeros((20, 20, 4), np.uint8),
        np.zeros((20, 20, 3), np.float32),
    ],
    ids=["no colours", "alpha", "floats"],
)
def test_what_is_no_picture_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected an image \(H, W, 3\) of uint8, got"):
        images.preprocess(wrong, VISION)


def test_what_is_no_video_is_refused() -> None:
    film: Any = frames(2)
    for wrong in (film[0], film[:0]):
        with pytest.raises(ValueError, match=r"expected frames \(F, H, W, 3\)"):
            images.preprocess_video(wrong, VISION, fps=1.0)
    for rate in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="fps: expected frames a second above 0"):
            images.preprocess_video(film, VISION, fps=rate)
