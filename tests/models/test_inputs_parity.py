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


def test_pixel_values_equal_those_of_transformers(pictures: list[np.ndarray]) -> None:
    processing: Any = pytest.importorskip(
        "transformers.models.qwen2_vl.image_processing_pil_qwen2_vl"
    )
    processor = processing.Qwen2VLImageProcessorPil(**LIMITS)
    theirs = processor(images=[Image.fromarray(x) for x in pictures], return_tensors="np")
    ours = [images.preprocess(x, TINY.vision, **LIMITS) for x in pictures]
    assert [list(x.grid) for x in ours] == theirs["image_grid_thw"].tolist()
    values = np.concatenate([x.values for x in ours])
    np.testing.assert_allclose(values, theirs["pixel_values"], atol=1e-5)


@pytest.mark.parametrize("shown", [0, 1, len(SHAPES)])
def test_positions_equal_those_of_transformers(pictures: list[np.ndarray], shown: int) -> None:
    transformers: Any = pytest.importorskip("transformers")
    grids = [images.preprocess(x, TINY.vision, **LIMITS).grid for x in pictures[:shown]]
    tokens = [5, 6, 7]
    for grid in grids:
        tokens += [VISION_START, *[IMAGE_PAD] * (int(np.prod(grid)) // 4), VISION_END, 8, 9]
    config = transformers.Qwen2_5_VLConfig(
        text_config={"hidden_size": 16, "num_hidden_layers": 0, "vocab_size": 99},
        vision_config={"depth": 0, "hidden_size": 16, "out_hidden_size": 16},
        image_token_id=IMAGE_PAD,
    )
    expected, _ = transformers.Qwen2_5_VLModel(config).get_rope_index(
        torch.tensor([tokens]),
        mm_token_type_ids=torch.tensor([[int(token == IMAGE_PAD) for token in tokens]]),
        image_grid_thw=torch.tensor(grids) if grids else None,
    )
    ours = rope.mrope_positions(np.array(tokens), grids, Ids())
    np.testing.assert_array_equal(ours, expected[:, 0].numpy())
