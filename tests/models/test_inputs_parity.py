"""What goes into the model is what transformers would put in: pixels and rotary positions."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from spatialevo_jax.models.qwen2_5_vl import images, rope
from spatialevo_jax.models.qwen2_5_vl.config import TINY

torch: Any = pytest.importorskip("torch")

LIMITS = {"min_pixels": 56 * 56, "max_pixels": 28 * 28 * 64}
VISION_START, IMAGE_PAD, VIDEO_PAD, VISION_END = 90, 91, 92, 93
# Height and width: to be rounded, exact, shrunk, grown, exact.
SHAPES = ((100, 150), (224, 224), (301, 57), (20, 30), (56, 112))


class Ids:
    image_pad = IMAGE_PAD
    video_pad = VIDEO_PAD


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in SHAPES]


@pytest.fixture(scope="module")
def their_processor() -> Any:
    processing: Any = pytest.importorskip(
        "transformers.models.qwen2_vl.image_processing_pil_qwen2_vl"
    )
    return processing.Qwen2VLImageProcessorPil(**LIMITS)


def test_pixel_values_equal_those_of_transformers(
    pictures: list[np.ndarray], their_processor: Any
) -> None:
    rng = np.random.default_rng(1)
    odd = [rng.integers(0, 256, (*rng.integers(9, 400, 2), 3), dtype=np.uint8) for _ in range(40)]
    shown = pictures + odd
    theirs = their_processor(images=[Image.fromarray(x) for x in shown], return_tensors="np")
    ours = [images.preprocess(x, TINY.vision, **LIMITS) for x in shown]
    assert [list(x.grid) for x in ours] == theirs["image_grid_thw"].tolist()
    values = np.concatenate([x.values for x in ours])
    np.testing.assert_allclose(values, theirs["pixel_values"], atol=1e-5)
    # All three ways were taken: grown to the least size, shrunk to the largest, and neither.
    pixels = [x.shape[0] * x.shape[1] for x in odd]
    assert min(pixels) < LIMITS["min_pixels"] and max(pixels) > LIMITS["max_pixels"]
    assert any(LIMITS["min_pixels"] < n < LIMITS["max_pixels"] for n in pixels)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 4, 5])
def test_frames_of_a_video_equal_images_of_transformers(
    shape: tuple[int, int], count: int, their_processor: Any
) -> None:
    """Their images fill both frames of a temporal patch: a video's patch is one half of each."""
    film = np.random.default_rng(2).integers(0, 256, (count, *shape, 3), dtype=np.uint8)
    stills = their_processor(images=[Image.fromarray(x) for x in film], return_tensors="np")
    halves = stills["pixel_values"].reshape(count, -1, 3, 2, 14, 14)[:, :, :, 0]
    halves = np.concatenate([halves, halves[-1:]])[: count + count % 2]
    expected = np.stack([halves[0::2], halves[1::2]], axis=4)  # (time, patch, channel, y, 2, x)
    expected = np.moveaxis(expected, 4, 3).reshape(-1, TINY.vision.patch_dim)
    ours = images.preprocess_video(film, TINY.vision, fps=1.5, **LIMITS)
    assert ours.grid == ((count + 1) // 2, *stills["image_grid_thw"][0, 1:].tolist())
    assert ours.seconds == pytest.approx(2 / 1.5)
    np.testing.assert_allclose(ours.values, expected, atol=1e-5)


def their_positions(
    tokens: list[int], shown: list[images.Visual], tokens_per_second: int = 2
) -> np.ndarray:
    transformers: Any = pytest.importorskip("transformers")
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 16,
            "num_hidden_layers": 0,
            "vocab_size": 99,
            "bos_token_id": None,
            "eos_token_id": None,
        },
        vision_config={
            "depth": 0,
            "hidden_size": 16,
            "out_hidden_size": 16,
            "tokens_per_second": tokens_per_second,
        },
        image_token_id=IMAGE_PAD,
        video_token_id=VIDEO_PAD,
    )
    stills = [one.grid for one in shown if one.kind == "image"]
    videos = [one.grid for one in shown if one.kind == "video"]
    seconds = [one.seconds for one in shown if one.kind == "video"]
    kinds = [(token == IMAGE_PAD) + 2 * (token == VIDEO_PAD) for token in tokens]
    expected, _ = transformers.Qwen2_5_VLModel(config).get_rope_index(
        torch.tensor([tokens]),
        mm_token_type_ids=torch.tensor([kinds]),
        image_grid_thw=torch.tensor(stills) if stills else None,
        video_grid_thw=torch.tensor(videos) if videos else None,
        second_per_grid_ts=torch.tensor(seconds) if videos else None,
    )
    return expected[:, 0].numpy()


def prompt(shown: list[images.Visual], rng: np.random.Generator) -> list[int]:
    tokens = rng.integers(0, 80, 3).tolist()
    for one in shown:
        pad = IMAGE_PAD if one.kind == "image" else VIDEO_PAD
        visual = [pad] * (int(np.prod(one.grid)) // 4)
        tokens += [VISION_START, *visual, VISION_END, *rng.integers(0, 80, rng.integers(0, 5))]
    return [int(token) for token in tokens]


def our_positions(
    tokens: list[int], shown: list[images.Visual], tokens_per_second: int = 2
) -> np.ndarray:
    return rope.mrope_positions(
        np.array(tokens),
        [one.grid for one in shown],
        Ids(),
        seconds=[one.seconds for one in shown],
        tokens_per_second=tokens_per_second,
    )


def random_visual(rng: np.random.Generator, longest: int, rate: int) -> images.Visual:
    """An image, or a video whose positions in time reach less far than its height or width."""
    rows, columns = (int(2 * n) for n in rng.integers(1, longest, 2))
    if rng.random() < 0.3:
        return images.Visual((1, rows, columns))
    times = int(rng.integers(1, 9))
    most = (max(rows, columns) // 2 - 0.01) / rate / max(times - 1, 1)
    return images.Visual((times, rows, columns), float(rng.uniform(0, most)) or most)


@pytest.mark.parametrize("rate", [1, 2, 4, 25])
def test_positions_equal_those_of_transformers(rate: int) -> None:
    rng = np.random.default_rng(rate)
    for _ in range(25):
        shown = [random_visual(rng, 12, rate) for _ in range(rng.integers(0, 5))]
        tokens = prompt(shown, rng)
        expected = their_positions(tokens, shown, rate)
        np.testing.assert_array_equal(our_positions(tokens, shown, rate), expected)


def test_text_goes_on_after_the_end_of_a_long_video() -> None:
    """transformers 5.3 to 5.24 begins it in the middle: everything before is the same."""
    long, rng = images.Visual((8, 4, 6), 1.0), np.random.default_rng(0)
    tokens = prompt([long], rng)
    ours, theirs = our_positions(tokens, [long]), their_positions(tokens, [long])
    end = 4 + 8 * 6
    np.testing.assert_array_equal(ours[:, :end], theirs[:, :end])
    assert ours[0, end - 1] == 4 + 7 * 2
    np.testing.assert_array_equal(
        ours[:, end:], [ours[0, end - 1] + 1 + np.arange(len(tokens) - end)] * 3
    )
    assert len(set(ours[0, end:] - theirs[0, end:])) == 1


@pytest.mark.parametrize(
    ("tokens", "shown"),
    [
        ([5, IMAGE_PAD, 6], images.Visual((1, 2, 2), 1.0)),
        ([5, VIDEO_PAD, 6], images.Visual((1, 2, 2))),
        ([5, VIDEO_PAD, IMAGE_PAD, 6], images.Visual((2, 2, 2), 1.0)),
    ],
    ids=["an image's token for a video", "a video's for an image", "both"],
)
def test_tokens_of_the_wrong_kind_are_refused(tokens: list[int], shown: images.Visual) -> None:
    with pytest.raises(ValueError, match=r"expected \d tokens 9\d from token 1 on for the grid"):
        our_positions(tokens, [shown])


def test_visual_tokens_without_an_image_are_refused() -> None:
    for pad in (IMAGE_PAD, VIDEO_PAD):
        with pytest.raises(ValueError, match="expected 0 image tokens"):
            our_positions([5, pad, 6], [])
