"""The rollout's way through the model, a prompt and then token by token, against transformers and
against one pass over the whole sequence.
"""

import copy
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geometry_jax.types import leaf
from spatialevo_jax.models.qwen2_5_vl import model as qwen
from spatialevo_jax.rollout import decode
from spatialevo_jax.rollout.batch import Conversation, Prompts, Starts, prompts_for_decoding
from spatialevo_jax.rollout.sampling import sample_keys

from .checkpoints import VOCABULARY, Pair
from .samples import Clip, Sample, forward, our_inputs, sample, their_inputs

torch: Any = pytest.importorskip("torch", reason="parity needs PyTorch, which is not installed")
pytestmark = pytest.mark.usefixtures("compiled_fast")

LENGTH = 64
PROMPTS: tuple[tuple, ...] = (
    ((150, 100), (112, 112)),
    (),
    (Clip(90, 60, frames=4, fps=2.0), (60, 130)),
)


def continued(one: Sample, response: np.ndarray) -> Sample:
    """A prompt and its response in one sequence."""
    told = one.conversation
    after = told.positions[:, -1:] + 1 + np.arange(len(response))
    whole = Conversation(
        np.concatenate([told.tokens, response]),
        np.concatenate([told.positions, after], axis=1),
        np.concatenate([told.visual, np.zeros(len(response), bool)]),
    )
    return Sample(whole, one.shown)


@dataclasses.dataclass(frozen=True)
class Decoded:
    """Prompts and the tokens that follow them greedily."""

    samples: list[Sample]
    vision: qwen.VisionInputs
    prompts: Prompts
    starts: Starts
    tokens: np.ndarray  # (P, T) i32
    logprobs: np.ndarray  # (P, T) f32

    def whole(self) -> list[Sample]:
        return [
            continued(one, response)
            for one, response in zip(self.samples, self.tokens, strict=True)
        ]


@pytest.fixture(scope="module")
def decoded(pair: Pair) -> Decoded:
    samples = [sample(pair, items, seed) for seed, items in enumerate(PROMPTS)]
    vision, padded = our_inputs(pair, samples)
    assert vision is not None
    counts = np.array([int(one.conversation.visual.sum()) for one in samples])
    prompts, starts = prompts_for_decoding(
        [one.conversation for one in samples],
        (np.cumsum(counts) - counts).tolist(),
        padded.tokens.shape[1],
    )
    responses = decode.generate(
        pair.policy,
        pair.params,
        vision,
        prompts,
        starts,
        sample_keys(jax.random.key(0), 0, 0, jnp.arange(len(samples)), 1),
        leaf(np.zeros(VOCABULARY, bool)),
        length=LENGTH,
        temperature=0.0,
        end_token=-1,
    )
    tokens, logprobs = np.asarray(responses.tokens)[:, 0], np.asarray(responses.logprobs)[:, 0]
    return Decoded(samples, vision, prompts, starts, tokens, logprobs)


def test_64_greedy_tokens_are_those_of_transformers(pair: Pair, decoded: Decoded) -> None:
    for one, ours in zip(decoded.samples, decoded.tokens, strict=True):
        with torch.no_grad():
            theirs = pair.theirs.generate(
                **their_inputs(one),
                max_new_tokens=LENGTH,
                min_new_tokens=LENGTH,
                do_sample=False,
                eos_token_id=None,
            )
        assert ours.tolist() == theirs[0, len(one.conversation.tokens) :].tolist()


@functools.partial(jax.jit, static_argnames="policy")
def decoded_logits(
    policy: qwen.Policy,
    params: qwen.Params,
    vision: qwen.VisionInputs,
    prompts: Prompts,
    starts: Starts,
    tokens: jax.Array,
) -> jax.Array:
    """(P, T, V) logits from a prefill and one step a token, fed with (P, T) tokens."""
    features = qwen.encode_images(policy, params, vision)
    prefix = decode.prefill(policy, params, features, prompts)
    inputs = jnp.concatenate([starts.tokens[:, None], tokens[:, :-1]], axis=1)
    count, length = inputs.shape

    def step(cache: qwen.KVCache, number: jax.Array) -> tuple[qwen.KVCache, jax.Array]:
        x = qwen.embed(policy, params, inputs[:, number][:, None, None])
        position = jnp.broadcast_to((starts.positions + number)[:, None, None], (3, count, 1, 1))
        valid = jnp.ones((count, 1, 1), bool)
        hidden, cache = qwen.extend(policy, params, x, position, valid, prefix, cache, number)
        return cache, qwen.logits(policy, params, hidden[:, 0, 0])

    empty = qwen.empty_cache(policy, (count, 1, length))
    return jnp.swapaxes(jax.lax.scan(step, empty, jnp.arange(length))[1], 0, 1)


def both_ways(pair: Pair, decoded: Decoded, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """(P, T, V) logits of the responses: with the cache, and from one pass."""
    policy = qwen.Policy(dataclasses.replace(pair.config, compute_dtype=dtype))
    stepwise = decoded_logits(
        policy, pair.params, decoded.vision, decoded.prompts, decoded.starts, decoded.tokens
    )
    vision, whole = our_inputs(pair, decoded.whole())
    scores = np.asarray(forward(policy, pair.params, vision, whole))
    ends = [len(one.conversation.tokens) for one in decoded.samples]
    rows = [scores[row, end - 1 : end - 1 + LENGTH] for row, end in enumerate(ends)]
    return np.asarray(stepwise), np.stack(rows)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """The largest one, as a share of the logit scale."""
    return float(np.abs(a - b).max() / np.abs(b).max())


def test_prefill_and_decoding_equal_one_pass(pair: Pair, decoded: Decoded) -> None:
    stepwise, whole = both_ways(pair, decoded, "float32")
    print(f"float32: {difference(stepwise, whole):.1e}")
    assert difference(stepwise, whole) <= 1e-4
    logprobs = np.asarray(jax.nn.log_softmax(whole))
    np.testing.assert_array_equal(decoded.tokens, logprobs.argmax(-1))
    np.testing.assert_allclose(decoded.logprobs, logprobs.max(-1), atol=1e-4)


def test_bfloat16_is_no_further_from_float32_than_transformers_is(
    pair: Pair, decoded: Decoded
) -> None:
    """Theirs casts angles, norms and logits down as well, where ours keeps them in float32."""
    _, exact = both_ways(pair, decoded, "float32")
    stepwise, whole = both_ways(pair, decoded, "bfloat16")
    half = copy.deepcopy(pair.theirs).to(torch.bfloat16)
    rows = []
    for one, told in zip(decoded.whole(), decoded.samples, strict=True):
        end = len(told.conversation.tokens)
        with torch.no_grad():
            logits = half(**their_inputs(one)).logits[0].float().numpy()
        rows.append(logits[end - 1 : end - 1 + LENGTH])
    ours, theirs, steps = (
        (difference(a, b), float(np.sqrt(np.square(a - b).mean())))
        for a, b in ((whole, exact), (np.stack(rows), exact), (stepwise, whole))
    )
    print(f"bfloat16 (max, rms): ours {ours}, theirs {theirs}, decoding and one pass {steps}")
    assert 0 < ours[1] <= 1.25 * theirs[1]
    assert steps[1] <= 1.25 * theirs[1]
    assert max(ours[0], steps[0]) <= 0.05
