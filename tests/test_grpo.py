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
    loss = grpo.clipped_objective(
        jnp.full((1, 1, 1), log_ratio), jnp.full((1, 1), advantage), **CLIP
    )
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


@pytest.mark.parametrize("reward", [0.1, 0.37, 0.1 + 0.9 * 0.7, 0.98])
@pytest.mark.parametrize("samples", [3, 4, 6, 7, 8, 16])
def test_rounding_in_the_mean_of_equal_rewards_teaches_nothing(reward: float, samples: int) -> None:
    """The mean may miss the reward by one bit, which a standard deviation would blow up."""
    found = grpo.group_advantages(jnp.full((1, samples), reward, jnp.float32))
    np.testing.assert_array_equal(found, np.zeros((1, samples)))


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
    ratios = grpo.log_ratios(jnp.asarray(new), jnp.asarray(old), jnp.ones(old.shape), level="token")
    found = grpo.clipped_objective(ratios, jnp.asarray(advantages), **CLIP)
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
        ratios = grpo.log_ratios(logprobs, old, jnp.ones_like(old), level="token")
        return grpo.clipped_objective(ratios, weights, **CLIP).sum()

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


def test_groups_with_equal_rewards_are_not_live() -> None:
    rewards = jnp.array([[0.1, 0.1, 0.1], [0.1, 0.1, 0.2], [-1.0, -1.0, -1.0]])
    np.testing.assert_array_equal(grpo.live_groups(rewards), [False, True, False])


LOGPROBS = jnp.array([[[-1.0, -2.0, -0.5], [-3.0, -1.0, -9.0]]])
OLD = jnp.array([[[-1.5, -1.0, -0.7], [-2.0, -1.5, -1.0]]])
MASK = jnp.array([[[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]])


def test_ratios_of_tokens_are_their_own() -> None:
    found = grpo.log_ratios(LOGPROBS, OLD, MASK, level="token")
    np.testing.assert_allclose(found, [[[0.5, -1.0, 0.2], [-1.0, 0.5, 0.0]]], atol=1e-6)


def test_ratios_of_sequences_are_the_mean_over_their_tokens() -> None:
    found = grpo.log_ratios(LOGPROBS, OLD, MASK, level="sequence")
    np.testing.assert_allclose(found[0, :, 0], [-0.1, -0.25], atol=1e-6)
    np.testing.assert_array_equal(found, np.broadcast_to(found[..., :1], found.shape))


def test_the_gradient_of_gspo_is_that_of_its_formula() -> None:
    """d/dlogp of mean over sequences of -A s, with s = exp(mean log-ratio): -A s / (length N)."""
    advantages = jnp.array([[1.0, -0.5]])

    def loss(logprobs: jax.Array) -> jax.Array:
        ratios = grpo.log_ratios(logprobs, OLD, MASK, level="sequence")
        objective = grpo.clipped_objective(
            ratios, advantages, clip_low=0.9, clip_high=9.0, clip_dual=9.0
        )
        weights = grpo.sequence_weights(MASK, aggregation="sequence")
        return grpo.aggregate(objective, MASK, weights)

    found = jax.grad(loss)(LOGPROBS)
    ratio = np.exp([-0.1, -0.25])
    expected = np.array([[[-ratio[0] / 6] * 3, [0.5 * ratio[1] / 4] * 2 + [0.0]]])
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("ratio", "advantage", "clipped"),
    [(1.31, 1.0, True), (1.29, 1.0, False), (0.5, 1.0, False), (0.79, -1.0, True)]
    + [(0.81, -1.0, False), (2.9, -1.0, False), (3.1, -1.0, True), (9.0, 0.0, False)],
)
def test_clipped_tokens_are_those_without_a_gradient(
    ratio: float, advantage: float, clipped: bool
) -> None:
    log_ratio, weights = jnp.full((1, 1, 1), math.log(ratio)), jnp.full((1, 1), advantage)
    assert bool(grpo.clipped_tokens(log_ratio, weights, **CLIP)[0, 0, 0]) == clipped
    slope = jax.grad(lambda x: grpo.clipped_objective(x, weights, **CLIP).sum())(log_ratio)
    assert (float(slope[0, 0, 0]) == 0.0) == (clipped or advantage == 0.0)


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [("k1", 0.5), ("k2", 0.125), ("k3", math.exp(-0.5) - 1 + 0.5)],
)
def test_the_kl_of_one_token_by_hand(estimator: grpo.KlEstimator, expected: float) -> None:
    """The policy finds the token exp(0.5) times likelier than the reference."""
    found = grpo.kl_penalty(
        jnp.full((1, 1, 1), -1.0), jnp.full((1, 1, 1), -1.5), estimator=estimator
    )
    assert float(found[0, 0, 0]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_unbiased_estimators_average_to_the_divergence(estimator: grpo.KlEstimator) -> None:
    rng = np.random.default_rng(0)
    p, q = (np.exp(x) / np.exp(x).sum() for x in rng.normal(size=(2, 7)))
    exact = float((p * np.log(p / q)).sum())
    shape = (1, 1, 7)
    each = grpo.kl_penalty(
        jnp.log(p).reshape(shape), jnp.log(q).reshape(shape), estimator=estimator
    )
    assert float((np.asarray(each).ravel() * p).sum()) == pytest.approx(exact, rel=1e-5)


def test_the_kl_of_extreme_tokens_is_bounded() -> None:
    lost = grpo.kl_penalty(jnp.full((1, 1, 1), -90.0), jnp.full((1, 1, 1), -1.0), estimator="k3")
    assert float(lost[0, 0, 0]) == grpo.MAX_KL


def test_the_entropy_of_known_distributions() -> None:
    logits = jnp.array([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1e30, -1e30], [50.0, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(grpo.entropy(logits), [math.log(4), math.log(2), 0.0], atol=1e-6)


def test_aggregations_by_hand() -> None:
    """Values 1, 2, 3 in one sequence, 10 in another, a third is padding; T is 4."""
    values = jnp.array([[[1.0, 2.0, 3.0, 0.0], [10.0, 0.0, 0.0, 0.0], [7.0, 7.0, 7.0, 7.0]]])
    mask = jnp.array([[[1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0] * 4]])
    expected = {"token": 16 / 4, "sequence": (2 + 10) / 2, "constant": 16 / 8}
    for aggregation, value in expected.items():
        weights = grpo.sequence_weights(mask, aggregation=aggregation)  # pyright: ignore
        assert float(grpo.aggregate(values, mask, weights)) == pytest.approx(value)


@pytest.mark.parametrize("aggregation", ["token", "sequence", "constant"])
def test_micro_batches_add_up_to_the_batch(aggregation: grpo.Aggregation) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 7, (6, 4))
    mask = jnp.asarray((np.arange(6) < lengths[..., None]).astype(np.float32))
    values = jnp.asarray(rng.normal(size=mask.shape).astype(np.float32))
    weights = grpo.sequence_weights(mask, aggregation=aggregation)
    whole = grpo.aggregate(values, mask, weights)
    parts = [
        grpo.aggregate(values[i : i + 2], mask[i : i + 2], weights[i : i + 2]) for i in (0, 2, 4)
    ]
    assert float(sum(parts)) == pytest.approx(float(whole), abs=1e-6)


def test_nothing_to_aggregate_is_zero_and_garbage_in_padding_does_not_matter() -> None:
    mask = jnp.zeros((1, 2, 3))
    values = jnp.full((1, 2, 3), jnp.nan)
    for aggregation in ("token", "sequence", "constant"):
        weights = grpo.sequence_weights(mask, aggregation=aggregation)
        assert float(grpo.aggregate(values, mask, weights)) == 0.0
