"""Our numbers against transformers' Qwen2_5_VLForConditionalGeneration, random weights, float32."""

from typing import Any

import jax
import numpy as np
import pytest

from spatialevo_jax.models.qwen2_5_vl import images
from spatialevo_jax.models.qwen2_5_vl import model as qwen

from .checkpoints import Pair
from .samples import Clip, Sample, our_logits, preprocess, sample, their_inputs, their_logits

torch: Any = pytest.importorskip("torch", reason="parity needs PyTorch, which is not installed")

TOLERANCE = 2e-4  # of the logit scale
# Widths and heights in pixels: exact windows, one window, partial ones, far from square. Videos of
# an odd and an even number of frames, 2, 1.5 and 0.25 positions between their temporal patches. The
# long one takes more positions in time than in height and width; see docs/model.md.
PROMPTS: dict[str, tuple] = {
    "text": (),
    "two exact windows a side": ((224, 224),),
    "one window": ((112, 112),),
    "a ribbon": ((300, 60),),
    "three images": ((150, 100), (224, 112), (60, 130)),
    "a video": (Clip(90, 130, frames=5, fps=2.0),),
    "a still video": (Clip(60, 60, frames=2, fps=2.0),),
    "videos and an image": (
        Clip(120, 90, frames=4, fps=8 / 3),
        (100, 150),
        Clip(120, 60, frames=6, fps=16.0),
    ),
    "a long video": (Clip(60, 112, frames=16, fps=2.0), (60, 60)),
}
WIDE_PROMPTS = ("text", "three images", "videos and an image")


def prompts(pair: Pair, names: Any = PROMPTS) -> list[Sample]:
    return [sample(pair, PROMPTS[name], seed) for seed, name in enumerate(names)]


def assert_same_logits(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape
    error = np.abs(ours - theirs).max() / np.abs(theirs).max()
    print(f"max |difference| {error:.1e} of the logit scale")
    assert error <= TOLERANCE, f"max |difference| is {error:.1e} of the logit scale"


@pytest.fixture(scope="module")
def expected(pair: Pair) -> list[np.ndarray]:
    """transformers' logits of each prompt alone, at the positions that it gives them; for the long
    video at ours.
    """
    *shorter, long = prompts(pair)
    positions = torch.tensor(long.conversation.positions[:, None].astype(np.int64))
    logits = [their_logits(pair, one) for one in shorter]
    return [*logits, their_logits(pair, long, position_ids=positions)]


@pytest.mark.parametrize("left", [False, True], ids=["padded right", "padded left"])
def test_every_prompt_of_a_batch_has_the_logits_that_it_has_alone(
    pair: Pair, expected: list[np.ndarray], left: bool
) -> None:
    samples = prompts(pair)
    longest = max(len(one.conversation.tokens) for one in samples)
    ours = our_logits(pair, samples, left=left, length=longest + 3)
    for scores, theirs in zip(ours, expected, strict=True):
        assert_same_logits(scores, theirs)


@pytest.mark.parametrize("left", [False, True], ids=["padded right", "padded left"])
def test_their_padded_batch_has_these_logits_too(
    pair: Pair, expected: list[np.ndarray], left: bool
) -> None:
    """Without it, both sides might be right only for prompts that are alone."""
    chosen = [list(PROMPTS).index(name) for name in ("three images", "text", "a video")]
    inputs = [their_inputs(prompts(pair)[index]) for index in chosen]
    longest = max(one["input_ids"].shape[1] for one in inputs)

    def pad(name: str) -> Any:
        rows = []
        for one in inputs:
            missing = longest - one[name].shape[1]
            rows.append(
                torch.nn.functional.pad(one[name][0], (missing, 0) if left else (0, missing))
            )
        return torch.stack(rows)

    both = {name: value for one in inputs for name, value in one.items()}
    both |= {name: pad(name) for name in ("input_ids", "attention_mask", "mm_token_type_ids")}
    with torch.no_grad():
        scores = pair.theirs(**both).logits.numpy()
    for row, index in enumerate(chosen):
        real = both["attention_mask"][row].bool().numpy()
        assert_same_logits(scores[row, real], expected[index])


def test_released_widths_and_heads_give_the_same_logits(thin_pair: Pair) -> None:
    samples = prompts(thin_pair, WIDE_PROMPTS)
    for one, scores in zip(samples, our_logits(thin_pair, samples), strict=True):
        assert_same_logits(scores, their_logits(thin_pair, one))


def test_visual_features_are_the_same(pair: Pair) -> None:
    items = [item for name in PROMPTS for item in PROMPTS[name]]
    shown = preprocess(pair.config.vision, items)
    with torch.no_grad():
        theirs = pair.theirs.model.visual(
            torch.tensor(np.concatenate([one.values for one in shown])),
            grid_thw=torch.tensor([one.grid for one in shown]),
        )
    theirs = theirs.pooler_output.numpy()
    encode = jax.jit(qwen.encode_images, static_argnums=0)
    packed = images.pack_images(shown, pair.config.vision)
    ours = np.asarray(encode(pair.policy, pair.params, packed))
    cosine = (ours * theirs).sum(-1) / np.linalg.norm(ours, axis=-1)
    cosine = cosine / np.linalg.norm(theirs, axis=-1)
    print(f"least cosine 1 - {1 - cosine.min():.1e} of {len(cosine)} tokens")
    assert cosine.min() >= 0.999999
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE * np.abs(theirs).max(), rtol=0)
