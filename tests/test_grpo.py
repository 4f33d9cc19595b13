"""Advantages and the policy loss, against numbers worked by hand and a plain loop."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spatialevo_jax import grpo

CLIP = {"clip_low": 0.2, "clip_high": 0.3, "clip_dual": 3.0}


def objective(log_ratio: float, advantage: float) -> float:
    """The loss of one token whose log-probability moved by `log_ratio`."""
    old = jnp.full((1, 1, 1), -2.0)
    loss = grpo.clipped_objective(old + log_ratio, old, jnp.full((1, 1), advantage), **CLIP)
    return float(loss[0, 0, 0])


def test_advantages_by_hand() -> None:
    """Mean 3; deviations -2, -1, 0, 3 have 14 as sum of squares, over 4 - 1."""
    rewards = jnp.array([[1.0, 2.0, 3.0, 6.0]])
    expected = np.array([[-2.0, -1.0, 0.0, 3.0]]) / math.sqrt(14 / 3)
    np.testing.assert_allclose(grpo.group_advantages(rewards), expected, rtol=1e-5)


def test_advantages_without_standardising_are_deviations_from_the_mean() -> None:
    rewards = jnp.array([[1.0, 2.0, 3.0, 6.0], [0.0, 0.0, 0.0, 2.0]])
    expected = [[-2.0, -1.0, 0.0, 3.0], [-0.5, -0.5, -0.5, 1.5]]
    np.testing.assert_allclose(grpo.group_advantages(rewards, normalise_std=False), expected)


@pytest.mark.parametrize("normalise_std", [True, False])
def test_a_group_of_equal_rewards_teaches_nothing(normalise_std: bool) -> None:
    # Whole multiples of 1/8, whose mean is exact; 0.1 is the harder case, its sum is rounded.
    rewards = jnp.array([[0.625] * 8, [-1.0] * 8])
    found = grpo.group_advantages(rewards, normalise_std=normalise_std)
    np.testing.assert_array_equal(found, np.zeros((2, 8)))


@pytest.mark.parametrize("reward", [0.1, 0.37, 0.1 + 0.9 * 0.7])
@pytest.mark.parametrize("samples", [3, 4, 6, 7, 8])
def test_rounding_in_the_mean_of_equal_rewards_stays_small(reward: float, samples: int) -> None:
    """The mean may miss the reward by one bit; that must not be blown up to a standard deviation.

    One bit of 1 in float32 is 6e-8, a sixteenth of the eps below which deviations fade.
    """
    found = grpo.group_advantages(jnp.full((1, samples), reward, jnp.float32))
    assert float(jnp.abs(found).max()) < 0.1


def test_groups_do_not_see_each_other() -> None:
    rewards = jnp.asarray(np.random.default_rng(0).random((5, 4), np.float32))
    each = [grpo.group_advantages(row[None])[0] for row in rewards]
    np.testing.assert_allclose(grpo.group_advantages(rewards), jnp.stack(each), atol=1e-6)


def test_advantages_ignore_the_scale_and_the_origin_of_rewards() -> None:
    rewards = jnp.asarray(np.random.default_rng(1).random((5, 4), np.float32))
    np.testing.assert_allclose(
        grpo.group_advantages(3.0 * rewards - 1.0), grpo.group_advantages(rewards), atol=1e-3
    )


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.0, 2.0, -2.0),
        (1.1, 2.0, -2.2),
        (1.5, 2.0, -2.6),  # no more to gain above 1.3
        (0.5, 2.0, -1.0),  # a fallen good token is pulled back in full
        (1.5, -2.0, 3.0),  # a risen bad token is pushed back in full ...
        (5.0, -2.0, 6.0),  # ... up to three times its advantage
        (0.5, -2.0, 1.6),  # no more to gain below 0.8
        (0.5, 0.0, 0.0),
    ],
)
def test_the_clipped_objective_by_hand(ratio: float, advantage: float, expected: float) -> None:
    assert objective(math.log(ratio), advantage) == pytest.approx(expected, abs=1e-6)


def test_the_objective_of_extreme_ratios_is_finite() -> None:
    """Bounded but for a good token that vanished, whose loss goes to 0."""
    assert objective(500.0, -1.0) == 3.0
    assert objective(500.0, 1.0) == pytest.approx(-1.3)
    assert objective(-500.0, 1.0) == pytest.approx(0.0, abs=1e-8)
    assert objective(-500.0, -1.0) == pytest.approx(0.8)


def test_the_clipped_objective_equals_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    old = rng.normal(-2.0, 1.0, (3, 4, 5)).astype(np.float32)
    new = old + rng.normal(0.0, 1.0, old.shape).astype(np.float32)
    advantages = rng.normal(0.0, 1.0, (3, 4)).astype(np.float32)
    expected = np.zeros(old.shape)
    for p, g, t in np.ndindex(*old.shape):
        ratio, advantage = math.exp(float(new[p, g, t] - old[p, g, t])), float(advantages[p, g])
        loss = max(-advantage * ratio, -advantage * min(max(ratio, 0.8), 1.3))
        expected[p, g, t] = min(loss, -advantage * 3.0) if advantage < 0 else loss
    found = grpo.clipped_objective(
        jnp.asarray(new), jnp.asarray(old), jnp.asarray(advantages), **CLIP
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("ratio", "advantage", "slope"),
    [
        (1.0, 2.0, -2.0),  # at the start this is the plain policy gradient, -A
        (1.0, -2.0, 2.0),
        (1.5, 2.0, 0.0),
        (0.5, -2.0, 0.0),
        (5.0, -2.0, 0.0),
        (0.5, 2.0, -1.0),  # -A times the ratio
        (math.exp(30.0), 2.0, 0.0),
    ],
)
def test_the_gradient_vanishes_where_the_objective_is_clipped(
    ratio: float, advantage: float, slope: float
) -> None:
    old, weights = jnp.full((1, 1, 1), -40.0), jnp.full((1, 1), advantage)

    def loss(logprobs: jax.Array) -> jax.Array:
        return grpo.clipped_objective(logprobs, old, weights, **CLIP).sum()

    gradient = jax.grad(loss)(old + math.log(ratio))
    assert float(gradient[0, 0, 0]) == pytest.approx(slope, abs=1e-5)


def test_the_masked_mean_leaves_padding_out() -> None:
    values, mask = jnp.array([[1.0, 2.0], [30.0, 6.0]]), jnp.array([[1.0, 1.0], [0.0, 1.0]])
    assert float(grpo.masked_mean(values, mask)) == 3.0


def test_the_masked_mean_weighs_its_values() -> None:
    assert float(grpo.masked_mean(jnp.array([1.0, 5.0]), jnp.array([0.75, 0.25]))) == 2.0


def test_the_masked_mean_of_nothing_is_zero_with_a_zero_gradient() -> None:
    values, mask = jnp.array([1.0, 2.0]), jnp.zeros(2)
    assert float(grpo.masked_mean(values, mask)) == 0.0
    np.testing.assert_array_equal(jax.grad(grpo.masked_mean)(values, mask), np.zeros(2))
