"""Decoding with shared prompts and a cache, against whole sequences computed anew."""

import dataclasses
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geometry_jax.types import leaf
from spatialevo_jax.models.qwen2_5_vl import images, model
from spatialevo_jax.models.qwen2_5_vl.config import sized
from spatialevo_jax.rollout.batch import ChatEncoder, Conversation, prompts_for_decoding
from spatialevo_jax.rollout.decode import Responses, generate
from spatialevo_jax.rollout.sampling import sample_keys

VOCABULARY, SAMPLES, LENGTH = 320, 2, 6
CONFIG = sized("tiny", VOCABULARY)
BANNED = np.arange(VOCABULARY) % 5 == 0
SHOWN = (1, 2)  # images of each prompt
LONGEST = 120  # tokens of a prompt with its response
NEVER = -1  # an end token that is never sampled


@dataclasses.dataclass(frozen=True)
class Setup:
    policy: model.Policy
    params: model.Params
    vision: model.VisionInputs
    conversations: tuple[Conversation, ...]
    first_features: tuple[int, ...]

    def generate(
        self,
        *,
        padded: int = 96,
        temperature: float = 1.0,
        end_token: int = NEVER,
        seed: int = 0,
        whole_weights: bool = False,
    ) -> Responses:
        prompts, starts = prompts_for_decoding(self.conversations, self.first_features, padded)
        keys = sample_keys(jax.random.key(seed), 0, 0, jnp.arange(len(self.conversations)), SAMPLES)
        return jax.device_get(
            generate(
                self.policy,
                self.params,
                self.vision,
                prompts,
                starts,
                keys,
                leaf(BANNED),
                length=LENGTH,
                temperature=temperature,
                end_token=end_token,
                whole_weights=whole_weights,
            )
        )

    def next_logprobs(self, prompt: int, response: jax.Array) -> np.ndarray:
        """(T, V) what follows the prompt and each token of a response but the last, from one pass
        over the whole sequence without a cache.
        """
        conversation = self.conversations[prompt]
        first, last = len(conversation.tokens), len(conversation.tokens) + len(response) - 1
        # One length for both prompts, one compilation: no token sees what comes after it.
        tokens, feature_index = np.zeros(LONGEST, np.int32), np.full(LONGEST, -1)
        positions = np.zeros((3, LONGEST), np.int32)
        tokens[:last] = [*conversation.tokens, *response[:-1]]
        positions[:, :first] = conversation.positions
        positions[:, first:last] = conversation.positions[:, -1:] + 1 + np.arange(last - first)
        where = np.flatnonzero(conversation.visual)
        feature_index[where] = self.first_features[prompt] + np.arange(len(where))
        logprobs = whole_sequence(
            self.policy, self.params, self.vision, tokens, positions, feature_index
        )
        return np.asarray(logprobs)[first - 1 : last]


@functools.partial(jax.jit, static_argnums=0)
def whole_sequence(
    policy: model.Policy,
    params: model.Params,
    vision: model.VisionInputs,
    tokens: np.ndarray,
    positions: np.ndarray,
    feature_index: np.ndarray,
) -> jax.Array:
    """(n, V) log-probabilities of the next token, banned ones left out."""
    features = model.encode_images(policy, params, vision)
    x = model.embed(
        policy,
        params,
        jnp.asarray(tokens)[None, None],
        jnp.asarray(feature_index)[None, None],
        features,
    )
    valid = jnp.ones((1, 1, *tokens.shape), bool)
    hidden, _ = model.extend(policy, params, x, jnp.asarray(positions)[:, None, None], valid)
    logits = model.logits(policy, params, hidden[0, 0])
    return jax.nn.log_softmax(jnp.where(BANNED, -jnp.inf, logits))


@pytest.fixture(scope="module", autouse=True)
def compiled_fast() -> Iterator[None]:
    """These programs run once or twice: their compilation is all the time they take."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def setup(encoder: ChatEncoder) -> Setup:
    """Two prompts of different lengths, each about its own images."""
    policy, params = model.build(CONFIG, seed=0)
    # Larger weights than at the start, and heads that do not look for what is like themselves,
    # or each token would only repeat the last.
    params = jax.tree.map(lambda array: 1.5 * jnp.flip(array, -1), params)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (sum(SHOWN), 56, 56, 3), dtype=np.uint8)
    patches = [images.preprocess(picture, CONFIG.vision) for picture in pictures]
    texts = ("Where is the lamp?", "left")
    return Setup(
        policy,
        params,
        images.pack_images(patches, CONFIG.vision),
        tuple(
            encoder.turn(text, [images.Visual((1, 4, 4))] * count)
            for text, count in zip(texts, SHOWN, strict=True)
        ),
        (0, 4),
    )


@pytest.fixture(scope="module")
def sampled(setup: Setup) -> Responses:
    return setup.generate()


def test_greedy_decoding_equals_the_best_token_of_whole_sequences(setup: Setup) -> None:
    """By induction: each token is the most likely one after those before it."""
    greedy = setup.generate(temperature=0.0)
    assert len(np.unique(greedy.tokens)) > 2  # or the cache could hold anything
    for prompt in range(len(SHOWN)):
        for sample in range(SAMPLES):
            response = greedy.tokens[prompt, sample]
            logprobs = setup.next_logprobs(prompt, response)
            np.testing.assert_array_equal(response, logprobs.argmax(axis=-1))
            np.testing.assert_allclose(
                greedy.logprobs[prompt, sample], logprobs.max(axis=-1), atol=1e-4
            )


def test_log_probabilities_are_those_of_whole_sequences(setup: Setup, sampled: Responses) -> None:
    for prompt in range(len(SHOWN)):
        for sample in range(SAMPLES):
            response = sampled.tokens[prompt, sample]
            expected = setup.next_logprobs(prompt, response)[np.arange(LENGTH), response]
            np.testing.assert_allclose(sampled.logprobs[prompt, sample], expected, atol=1e-4)


def test_without_an_end_the_length_runs_out(sampled: Responses) -> None:
    assert not sampled.finished.any()
    np.testing.assert_array_equal(sampled.mask, np.ones((len(SHOWN), SAMPLES, LENGTH)))
    assert not BANNED[sampled.tokens].any()


def test_samples_of_one_prompt_differ(sampled: Responses) -> None:
    flat = sampled.tokens.reshape(-1, LENGTH)
    assert len(np.unique(flat, axis=0)) == len(flat)


def test_a_response_stops_after_its_end_and_the_others_go_on(
    setup: Setup, sampled: Responses
) -> None:
    """With the same keys: the same responses, cut after the first end token."""
    end = int(sampled.tokens[0, 0, 2])
    cut = setup.generate(end_token=end)
    assert cut.finished[0, 0] and not cut.finished.all()
    ended = sampled.tokens == end
    mask = np.cumsum(ended, axis=-1) - ended == 0
    np.testing.assert_array_equal(cut.mask, mask)
    np.testing.assert_array_equal(cut.tokens, np.where(mask, sampled.tokens, 0))
    np.testing.assert_allclose(cut.logprobs, np.where(mask, sampled.logprobs, 0.0), atol=1e-5)
    np.testing.assert_array_equal(cut.finished, ended.any(axis=-1))


def test_more_padding_changes_nothing(setup: Setup, sampled: Responses) -> None:
    padded = setup.generate(padded=131)
    np.testing.assert_array_equal(padded.tokens, sampled.tokens)
    np.testing.assert_allclose(padded.logprobs, sampled.logprobs, atol=1e-4)


def test_a_copy_of_the_weights_in_their_type_samples_the_same(setup: Setup) -> None:
    """In half precision: norms must not be rounded, and all else is rounded just as it is used."""
    half = model.Policy(dataclasses.replace(CONFIG, compute_dtype="bfloat16"))
    odd = jax.tree.map(lambda array: 1.003 * array, setup.params)  # norms that bfloat16 has not
    setup = dataclasses.replace(setup, policy=half, params=odd)
    copied, own = setup.generate(whole_weights=True), setup.generate()
    np.testing.assert_array_equal(copied.tokens, own.tokens)
    np.testing.assert_allclose(copied.logprobs, own.logprobs, atol=1e-6)
