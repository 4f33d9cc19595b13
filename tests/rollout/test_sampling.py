"""Picking tokens: the right one, as often as it should come, never a banned one."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spatialevo_jax.rollout import sampling
from spatialevo_jax.rollout.sampling import sample_keys

sample = jax.jit(sampling.sample, static_argnames="temperature")

VOCABULARY = 11
ALLOWED = jnp.zeros(VOCABULARY, bool)
BANNED = jnp.asarray(np.isin(np.arange(VOCABULARY), [0, 4, VOCABULARY - 1]))
LAST = float(np.nextafter(np.float32(1.0), np.float32(0.0)))  # the largest uniform number


# Drawn by NumPy: a jax program for each shape takes far longer than these tests.
def some_logits(*shape: int) -> jax.Array:
    drawn = np.random.default_rng(0).normal(0.0, 2.0, (*shape, VOCABULARY))
    return jnp.asarray(drawn.astype(np.float32))


def uniforms(*shape: int, seed: int = 1) -> jax.Array:
    drawn = np.random.default_rng(seed).random(shape, np.float32)
    return jnp.asarray(drawn)


def test_tokens_of_a_small_distribution_by_hand() -> None:
    """Chances 0.2, 0.5, 0.3: the steps lie at 0.2 and 0.7."""
    logits = jnp.broadcast_to(jnp.log(jnp.array([0.2, 0.5, 0.3])), (6, 3))
    draws = jnp.array([0.0, 0.19, 0.21, 0.69, 0.71, LAST])
    tokens, logprobs = sample(logits, draws, jnp.zeros(3, bool), temperature=1.0)
    np.testing.assert_array_equal(tokens, [0, 0, 1, 1, 2, 2])
    np.testing.assert_allclose(jnp.exp(logprobs), [0.2, 0.2, 0.5, 0.5, 0.3, 0.3], rtol=1e-5)


@pytest.mark.parametrize("size", [127, 1_000, 4_096])
def test_the_blocks_of_a_vocabulary_make_one_cumulative_distribution(size: int) -> None:
    """Each number falls on the token whose step of the exact distribution it lies on."""
    rows = 500
    logits = np.random.default_rng(size).normal(0.0, 3.0, (rows, size))
    draws = np.concatenate([[0.0, LAST], np.random.default_rng(1).random(rows - 2)])
    banned = np.arange(size) % 7 == 0
    tokens, _ = sample(
        jnp.asarray(logits, jnp.float32),
        jnp.asarray(draws, jnp.float32),
        jnp.asarray(banned),
        temperature=0.7,
    )
    chances = np.where(banned, 0.0, np.exp(logits / 0.7))
    chances /= chances.sum(-1, keepdims=True)
    drawn = np.arange(rows), np.asarray(tokens)
    ends = np.cumsum(chances, axis=-1)[drawn]
    starts = ends - chances[drawn]
    assert (starts - 2e-6 <= draws).all() and (draws <= ends + 2e-6).all()
    assert len(np.unique(tokens)) > 30


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 100.0])
def test_banned_tokens_are_never_sampled(temperature: float) -> None:
    """Even if they were the most likely ones by far, and at both ends of the uniform numbers."""
    logits = jnp.asarray(np.asarray(some_logits(2_000)) + 50.0 * np.asarray(BANNED))
    draws = jnp.asarray(np.concatenate([[0.0, LAST], uniforms(1_998)]).astype(np.float32))
    tokens, logprobs = sample(logits, draws, BANNED, temperature=temperature)
    assert not np.asarray(BANNED)[np.asarray(tokens)].any()
    assert np.isfinite(logprobs).all()


def test_rounding_at_the_end_of_a_vocabulary_samples_no_banned_token() -> None:
    """The sum of the chances is rounded, so the largest uniform number can reach beyond it."""
    drawn = np.random.default_rng(3).normal(0.0, 2.0, (4_096, 768)).astype(np.float32)
    banned = jnp.arange(768) >= 741
    tokens, logprobs = sample(jnp.asarray(drawn), jnp.full(4_096, LAST), banned, temperature=1.0)
    assert int(tokens.max()) < 741
    assert float(logprobs.min()) > -50.0


@pytest.mark.parametrize("draw", [0.0, 0.5, LAST])
def test_the_only_token_allowed_is_certain(draw: float) -> None:
    only = jnp.asarray(np.arange(VOCABULARY) != 7)
    tokens, logprobs = sample(some_logits(3), jnp.full(3, draw), only, temperature=1.0)
    np.testing.assert_array_equal(tokens, [7, 7, 7])
    np.testing.assert_array_equal(logprobs, np.zeros(3))


def test_temperature_zero_takes_the_most_likely_token() -> None:
    logits = some_logits(50)
    expected = np.argmax(np.where(BANNED, -np.inf, logits), axis=-1)
    for seed in (1, 2):
        tokens, _ = sample(logits, uniforms(50, seed=seed), BANNED, temperature=0.0)
        np.testing.assert_array_equal(tokens, expected)


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_log_probabilities_are_those_of_the_distribution_sampled_from(temperature: float) -> None:
    logits = some_logits(4, 6)
    tokens, logprobs = sample(logits, uniforms(4, 6), BANNED, temperature=temperature)
    kept = np.where(BANNED, -np.inf, np.asarray(logits, np.float64)) / (temperature or 1.0)
    exact = kept - np.log(np.exp(kept).sum(-1, keepdims=True))
    chosen = np.take_along_axis(exact, np.asarray(tokens)[..., None], -1)[..., 0]
    np.testing.assert_allclose(logprobs, chosen, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_as_often_as_they_should(temperature: float) -> None:
    """Each count lies within 4.5 standard deviations of its binomial expectation."""
    draws, logits = 40_000, some_logits(1)
    uniform = uniforms(draws, seed=3)
    tokens, _ = sample(
        jnp.broadcast_to(logits, (draws, VOCABULARY)), uniform, ALLOWED, temperature=temperature
    )
    chances = np.exp(np.asarray(logits[0], np.float64) / temperature)
    chances /= chances.sum()
    counts = np.bincount(np.asarray(tokens), minlength=VOCABULARY)
    assert (np.abs(counts - draws * chances) < 4.5 * np.sqrt(draws * chances)).all()


def test_the_last_uniform_number_falls_on_a_token_with_mass() -> None:
    """Rounding of the cumulative sum must not lead past the end of a large vocabulary."""
    size = 150_000
    logits = np.random.default_rng(5).normal(size=(2, size)).astype(np.float32)
    logits[:, size // 2 :] = -math.inf
    tokens, logprobs = sample(
        jnp.asarray(logits), jnp.array([LAST, 0.0]), jnp.zeros(size, bool), temperature=1.0
    )
    assert (np.asarray(tokens) < size // 2).all()
    assert np.isfinite(logprobs).all()


def test_half_precision_logits_are_sampled_in_single_precision() -> None:
    _, logprobs = sample(some_logits(5).astype(jnp.bfloat16), uniforms(5), ALLOWED, temperature=1.0)
    assert logprobs.dtype == jnp.float32


def numbers(keys: jax.Array) -> np.ndarray:
    return np.asarray(jax.random.key_data(keys))


def test_no_two_keys_of_a_run_are_equal() -> None:
    key = jax.random.key(0)
    data = np.concatenate(
        [
            np.asarray(jax.random.key_data(sample_keys(key, step, role, jnp.arange(6), 4))).reshape(
                24, -1
            )
            for step in range(3)
            for role in range(2)
        ]
    )
    assert len(np.unique(data, axis=0)) == len(data) == 3 * 2 * 24


def test_keys_are_reproduced_and_differ_between_runs() -> None:
    def data(seed: int) -> np.ndarray:
        return np.asarray(
            jax.random.key_data(sample_keys(jax.random.key(seed), 5, 1, jnp.arange(2), 3))
        )

    np.testing.assert_array_equal(data(0), data(0))
    assert not (data(0) == data(1)).all(axis=-1).any()
