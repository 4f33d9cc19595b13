"""Our numbers against transformers' Qwen2_5_VLForConditionalGeneration, random weights, float32."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spatialevo_jax.models.qwen2_5_vl import images
from spatialevo_jax.models.qwen2_5_vl import model as qwen
from spatialevo_jax.models.qwen2_5_vl.rope import mrope_positions
from spatialevo_jax.models.qwen2_5_vl.weights import from_released

from .checkpoints import IDS, Pair, picture, prompt

torch = pytest.importorskip("torch", reason="parity needs PyTorch, which is not installed")

TOLERANCE = 2e-4  # of the logit scale
# Width and height in pixels: exact windows, a single window, partial ones, far from square.
SIZES = ((224, 224), (112, 112), (150, 100), (100, 150), (300, 60))


def preprocess(pair: Pair, *sizes: tuple[int, int], first_seed: int = 0) -> list[images.Patches]:
    return [
        images.preprocess(picture(*size, seed=first_seed + i), pair.config.vision)
        for i, size in enumerate(sizes)
    ]


def their_inputs(tokens: np.ndarray, shown: list[images.Patches]) -> dict[str, Any]:
    """Arguments of transformers' forward pass for one unpadded sequence."""
    inputs = {
        "input_ids": torch.tensor(tokens[None].astype(np.int64)),
        "attention_mask": torch.ones(1, len(tokens), dtype=torch.int64),
        "mm_token_type_ids": torch.tensor((tokens == IDS.image_pad)[None].astype(np.int32)),
    }
    if shown:
        inputs["pixel_values"] = torch.tensor(np.concatenate([one.values for one in shown]))
        inputs["image_grid_thw"] = torch.tensor([one.grid for one in shown])
    return inputs


def their_logits(pair: Pair, tokens: np.ndarray, shown: list[images.Patches]) -> np.ndarray:
    with torch.no_grad():
        return pair.theirs(**their_inputs(tokens, shown)).logits[0].numpy()


@functools.partial(jax.jit, static_argnames="policy")
def our_forward(policy, params, vision, tokens, index, positions, valid):
    """(P, T) tokens -> logits, everything in one pass."""
    features = None if vision is None else qwen.encode_images(policy, params, vision)
    x = qwen.embed(policy, params, tokens[:, None], index[:, None], features)
    hidden, _ = qwen.extend(policy, params, x, positions[:, :, None], valid[:, None])
    return qwen.logits(policy, params, hidden)[:, 0]


def our_logits(
    pair: Pair,
    sequences: list[np.ndarray],
    shown: list[list[images.Patches]],
    *,
    left: bool = False,
    extra: int = 0,
) -> list[np.ndarray]:
    """Logits of each sequence, computed in one padded batch."""
    length = max(map(len, sequences)) + extra
    shape = (len(sequences), length)
    tokens, index = np.full(shape, IDS.pad, np.int32), np.full(shape, -1, np.int32)
    positions, valid = np.ones((3, *shape), np.int32), np.zeros(shape, bool)
    spans, used = [], 0
    for row, (sequence, own) in enumerate(zip(sequences, shown, strict=True)):
        n = len(sequence)
        span = slice(length - n, length) if left else slice(0, n)
        spans.append(span)
        tokens[row, span], valid[row, span] = sequence, True
        positions[:, row, span] = mrope_positions(sequence, [one.grid for one in own], IDS)
        where = span.start + np.flatnonzero(sequence == IDS.image_pad)
        index[row, where] = used + np.arange(len(where))
        used += len(where)
    flat = [one for own in shown for one in own]
    vision = images.pack_images(flat, pair.config.vision) if flat else None
    scores = our_forward(pair.policy, pair.params, vision, tokens, index, positions, valid)
    return [np.asarray(scores[row, span]) for row, span in enumerate(spans)]


def assert_same_logits(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape
    error = np.abs(ours - theirs).max() / np.abs(theirs).max()
    assert error <= TOLERANCE, f"max |difference| is {error:.1e} of the logit scale"


def test_text_alone_gives_the_same_logits(pair: Pair) -> None:
    tokens = np.random.default_rng(0).integers(0, 300, 40).astype(np.int32)
    assert_same_logits(our_logits(pair, [tokens], [[]])[0], their_logits(pair, tokens, []))


def test_one_image_of_any_size_gives_the_same_logits(pair: Pair) -> None:
    shown = [preprocess(pair, size) for size in SIZES]
    sequences = [prompt(np.random.default_rng(1), own) for own in shown]
    ours = our_logits(pair, sequences, shown)
    for sequence, own, scores in zip(sequences, shown, ours, strict=True):
        assert_same_logits(scores, their_logits(pair, sequence, own))


@pytest.mark.parametrize("left", [False, True], ids=["padded right", "padded left"])
def test_a_batch_of_different_lengths_gives_the_logits_of_each_alone(
    pair: Pair, left: bool
) -> None:
    rng = np.random.default_rng(2)
    shown = [
        preprocess(pair, (150, 100), (224, 112), (60, 130)),  # three images in one prompt
        [],
        preprocess(pair, (112, 112), (84, 140), first_seed=7),
    ]
    sequences = [prompt(rng, own) for own in shown]
    ours = our_logits(pair, sequences, shown, left=left, extra=3)
    for sequence, own, scores in zip(sequences, shown, ours, strict=True):
        assert_same_logits(scores, their_logits(pair, sequence, own))


def test_visual_features_are_the_same(pair: Pair) -> None:
    shown = preprocess(pair, *SIZES)
    with torch.no_grad():
        theirs = pair.theirs.model.visual(
            torch.tensor(np.concatenate([one.values for one in shown])),
            grid_thw=torch.tensor([one.grid for one in shown]),
        )
    theirs = theirs.pooler_output.numpy()
    encode = jax.jit(qwen.encode_images, static_argnums=0)
    ours = np.asarray(
        encode(pair.policy, pair.params, images.pack_images(shown, pair.config.vision))
    )
    cosine = (ours * theirs).sum(-1) / np.linalg.norm(ours, axis=-1)
    cosine = cosine / np.linalg.norm(theirs, axis=-1)
    assert cosine.min() >= 0.999999
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE * np.abs(theirs).max(), rtol=0)


def test_greedy_generation_gives_the_same_tokens(pair: Pair) -> None:
    count = 24
    shown = preprocess(pair, (150, 100), (112, 112))
    tokens = prompt(np.random.default_rng(3), shown)
    with torch.no_grad():
        theirs = pair.theirs.generate(
            **their_inputs(tokens, shown),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            eos_token_id=None,
        )[0, len(tokens) :]

    positions = mrope_positions(tokens, [one.grid for one in shown], IDS)
    index = np.full(len(tokens), -1, np.int32)
    visual = tokens == IDS.image_pad
    index[visual] = np.arange(visual.sum())

    @functools.partial(jax.jit, static_argnums=0)
    def generate(policy, params, vision):
        features = qwen.encode_images(policy, params, vision)
        x = qwen.embed(
            policy, params, jnp.array(tokens[None, None]), jnp.array(index[None, None]), features
        )
        hidden, cache = qwen.extend(
            policy,
            params,
            x,
            jnp.array(positions[:, None, None]),
            jnp.ones((1, 1, len(tokens)), bool),
        )
        prefix = qwen.as_prefix(cache)
        first = qwen.logits(policy, params, hidden[:, :, -1]).argmax(-1)

        def step(carry, number):
            token, cache = carry
            x = qwen.embed(policy, params, token[..., None])
            position = jnp.full((3, 1, 1, 1), positions[0, -1] + 1 + number)
            hidden, cache = qwen.extend(
                policy, params, x, position, jnp.ones((1, 1, 1), bool), prefix, cache, number
            )
            following = qwen.logits(policy, params, hidden[:, :, 0]).argmax(-1)
            return (following, cache), token[0, 0]

        empty = qwen.empty_cache(policy, (1, 1, count))
        return jax.lax.scan(step, (first, empty), jnp.arange(count))[1]

    ours = generate(pair.policy, pair.params, images.pack_images(shown, pair.config.vision))
    assert np.asarray(ours).tolist() == theirs.tolist()


def test_every_gradient_is_the_same(small_pair: Pair) -> None:
    pair = small_pair
    shown = preprocess(pair, (150, 100), (112, 140))
    tokens = prompt(np.random.default_rng(4), shown)
    targets = np.roll(tokens, -1)
    pair.theirs.zero_grad()
    logits = pair.theirs(**their_inputs(tokens, shown)).logits[0]
    torch.nn.functional.cross_entropy(logits, torch.tensor(targets.astype(np.int64))).backward()
    named = {
        name.replace("model.visual.", "visual.").replace("model.language_model.", "model."): weight
        for name, weight in pair.theirs.named_parameters()
    }
    theirs = from_released({name: w.grad.numpy() for name, w in named.items()}, pair.config)

    positions = mrope_positions(tokens, [one.grid for one in shown], IDS)
    index = np.full(len(tokens), -1, np.int32)
    visual = tokens == IDS.image_pad
    index[visual] = np.arange(visual.sum())
    vision = images.pack_images(shown, pair.config.vision)

    @jax.jit
    @jax.grad
    def gradient(params):
        scores = our_forward(
            pair.policy,
            params,
            vision,
            tokens[None],
            index[None],
            positions[:, None],
            np.ones((1, len(tokens)), bool),
        )[0]
        chosen = jnp.take_along_axis(scores, targets[:, None], axis=-1)[:, 0]
        return (jax.nn.logsumexp(scores, axis=-1) - chosen).mean()

    ours = gradient(pair.params)
    whole = float(np.sqrt(sum((g**2).sum() for g in jax.tree.leaves(theirs))))

    def close(path, ours, theirs):
        # The gradient of a key bias is zero but for rounding: a softmax ignores a common shift.
        error = np.linalg.norm(ours - theirs) / (np.linalg.norm(theirs) + 1e-5 * whole)
        assert error <= 1e-3, f"{jax.tree_util.keystr(path)}: {error:.1e} of its norm"

    jax.tree_util.tree_map_with_path(close, ours, theirs)
