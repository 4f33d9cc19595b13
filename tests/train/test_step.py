"""The two updates on a very small policy, against whole sequences and NumPy."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from geometry_jax.types import leaf
from spatialevo_jax import lora
from spatialevo_jax.config import LoraConfig, TrainConfig
from spatialevo_jax.train import checkpoint
from spatialevo_jax.train import step as steps
from spatialevo_jax.train.state import TrainState, evolution_optimizer, init_state
from tests.train.small_policy import (
    BANNED,
    GRPO,
    LENGTHS,
    SCHEDULER,
    START,
    TEMPERATURE,
    VISUAL,
    VOCABULARY,
    Setup,
    advantage_of,
    changed_role,
    encode_images,
    log_softmax,
)

NAMING_WEIGHT, SGD_RATE = 0.3, 2e-4
Evolve = Callable[[TrainState, steps.EvolutionBatch], tuple[TrainState, steps.Metrics]]
pytestmark = pytest.mark.usefixtures("compiled_fast")


# --- log-probabilities -----------------------------------------------------------------------


@pytest.mark.parametrize("role", LENGTHS)
@pytest.mark.parametrize("as_sampled", [True, False])
def test_target_logprobs_are_those_of_whole_sequences(
    setup: Setup, role: str, as_sampled: bool
) -> None:
    """With the sampler's banned tokens and temperature, and plain."""
    logits = setup.plain_logits(role)
    if as_sampled:
        logits = np.where(BANNED, -np.inf, logits) / TEMPERATURE
    targets, mask = (np.asarray(getattr(setup.responses[role], x)) for x in ("targets", "mask"))
    expected = np.take_along_axis(log_softmax(logits), targets[..., None], -1)[..., 0]
    assert expected[mask > 0].std() > 0.5  # or the targets could be anything
    found = setup.logprobs(setup.params, role, as_sampled=as_sampled)
    np.testing.assert_allclose(found[mask > 0], expected[mask > 0], atol=1e-4)


def test_a_banned_token_has_no_chance(setup: Setup) -> None:
    """The third target of one response is banned: that place alone changes."""
    role = "questioner"
    targets = np.array(setup.responses[role].targets)
    targets[1, 1, 2] = int(np.flatnonzero(BANNED)[0])
    changed = dataclasses.replace(setup.responses[role], targets=leaf(targets))
    other = dataclasses.replace(setup, responses={role: changed})
    before, after = (np.array(one.logprobs(setup.params, role)) for one in (setup, other))
    assert after[1, 1, 2] < -1e20
    after[1, 1, 2] = before[1, 1, 2]
    np.testing.assert_array_equal(after, before)


# --- naming ----------------------------------------------------------------------------------


def naming_by_hand(setup: Setup, features: np.ndarray, names: steps.Names) -> float:
    table = np.asarray(setup.params["text"]["embedding"]["embedding"], np.float64)
    total = 0.0
    for feature, tokens, weights in zip(features, names.tokens, names.weights, strict=True):
        normed = feature / np.sqrt(np.mean(feature**2) + 1e-6)
        logprobs = log_softmax(table @ normed)
        total -= sum(w * logprobs[t] for t, w in zip(tokens, weights, strict=True))
    return total / len(features)


def test_naming_reads_features_through_the_vocabulary(setup: Setup) -> None:
    """Of any size: one of the features is nearly nothing and one is large."""
    rng = np.random.default_rng(3)
    features = rng.normal(size=(3, 16)) * np.array([[1e-4], [1.0], [50.0]])
    names = steps.Names(
        leaf(np.array([[1, 7], [2, 2], [0, VOCABULARY - 1]], np.int32)),
        leaf(np.array([[1.0, 0.25], [0.5, 0.5], [0.0, 2.0]], np.float32)),
    )
    found = steps.naming_loss(setup.policy, setup.params, jnp.asarray(features, jnp.float32), names)
    assert found.shape == ()
    assert float(found) == pytest.approx(naming_by_hand(setup, features, names), rel=1e-5)


# --- evolution -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evolve(setup: Setup) -> Evolve:
    return steps.make_evolution_step(
        setup.policy,
        evolution_optimizer(GRPO, first=START),
        GRPO,
        leaf(BANNED),
        temperature=TEMPERATURE,
    )


def evolved(
    setup: Setup, evolve: Evolve, batch: steps.EvolutionBatch
) -> tuple[TrainState, list[dict[str, float]]]:
    """Two updates on one batch. The first has rate 0, so the second sees the same policy."""
    state = setup.state()
    seen = []
    for _ in range(2):
        state, metrics = evolve(state, batch)
        seen.append({name: float(value) for name, value in metrics.items()})
    return state, seen


def test_without_advantages_nothing_changes(setup: Setup, evolve: Evolve) -> None:
    state, seen = evolved(setup, evolve, setup.batch())
    jax.tree.map(np.testing.assert_array_equal, state.params, setup.params)
    assert int(state.step) == START + 2
    for metrics in seen:
        assert metrics["optimizer/grad_norm"] == 0.0
        assert metrics["loss/total"] == 0.0


@pytest.mark.parametrize("role", LENGTHS)
@pytest.mark.parametrize(("sample", "value"), [((0, 1), 1.0), ((1, 0), 2.0), ((1, 1), -1.0)])
def test_a_sample_becomes_likelier_by_a_positive_advantage_and_rarer_by_a_negative_one(
    setup: Setup, evolve: Evolve, role: str, sample: tuple[int, int], value: float
) -> None:
    state, _ = evolved(setup, evolve, setup.batch(**{role: advantage_of(sample, value)}))
    mask = np.asarray(setup.responses[role].mask)[sample]
    before, after = (setup.logprobs(p, role)[sample] for p in (setup.params, state.params))
    assert np.sign(value) * ((after - before) * mask).sum() > 0.01


def test_the_first_loss_is_the_share_of_the_samples_tokens(setup: Setup, evolve: Evolve) -> None:
    """While the policy is the one that sampled, every ratio is 1: 3 of 17 and 5 of 13 tokens."""
    batch = setup.batch(questioner=advantage_of((0, 1), 2.0), solver=advantage_of((0, 1), -1.0))
    _, (metrics, again) = evolved(setup, evolve, batch)
    assert metrics["loss/questioner"] == pytest.approx(-2.0 * 3 / 17, rel=1e-4)
    assert metrics["loss/solver"] == pytest.approx(5 / 13, rel=1e-4)
    assert metrics["loss/total"] == pytest.approx(0.5 * -2.0 * 3 / 17 + 5 / 13, rel=1e-4)
    for role in LENGTHS:
        mask = np.asarray(setup.responses[role].mask)
        nll = -(setup.logprobs(setup.params, role) * mask).sum() / mask.sum()
        assert metrics[f"policy/nll_{role}"] == pytest.approx(nll, rel=1e-4)
        assert metrics[f"policy/logprob_difference_{role}"] < 1e-4
    moved = {"optimizer/learning_rate", "optimizer/update_norm"}
    for name in metrics.keys() - moved:
        assert again[name] == metrics[name], name  # the first rate is 0
    assert [metrics["optimizer/learning_rate"], again["optimizer/learning_rate"]] == [
        0.0,
        pytest.approx(GRPO.lr),
    ]
    assert metrics["optimizer/update_norm"] == 0.0 < again["optimizer/update_norm"]


def test_a_token_that_is_already_much_likelier_is_not_pushed_further(
    setup: Setup, evolve: Evolve
) -> None:
    """As if it had been sampled at half its chance: the ratio is clipped, no gradient is left."""
    batch = setup.batch(questioner=np.ones((2, 2)))
    old = batch.roles["questioner"].old_logprobs - np.log(2.0)
    clipped = changed_role(batch, "questioner", old_logprobs=old)
    state, (metrics, _) = evolved(setup, evolve, clipped)
    assert metrics["loss/questioner"] == pytest.approx(-(1.0 + GRPO.clip_high), rel=1e-5)
    assert metrics["policy/logprob_difference_questioner"] == pytest.approx(np.log(2.0), abs=1e-4)
    assert metrics["policy/kl_old_questioner"] == pytest.approx(1.0 - np.log(2.0), abs=1e-4)
    shares = [metrics[f"policy/{name}_questioner"] for name in ("clipped", "clipped_replies")]
    assert shares == [1.0, 1.0]
    jax.tree.map(np.testing.assert_array_equal, state.params, setup.params)


def test_samples_without_a_mask_teach_nothing(setup: Setup, evolve: Evolve) -> None:
    """Padding of the Solver's budget: its advantages do not matter."""
    masks = [np.asarray(setup.responses[role].mask) for role in LENGTHS]
    kept = dataclasses.replace(setup.responses["solver"], mask=leaf(np.zeros_like(masks[1])))
    batch = changed_role(setup.batch(solver=np.full((2, 2), 3.0)), "solver", suffixes=kept)
    state, (metrics, _) = evolved(setup, evolve, batch)
    assert metrics["loss/solver"] == 0.0
    assert metrics["policy/logprob_difference_solver"] == 0.0
    jax.tree.map(np.testing.assert_array_equal, state.params, setup.params)


def test_an_update_that_is_not_finite_is_left_out(setup: Setup, evolve: Evolve) -> None:
    """Nothing moves but the step; the next update is what it would have been."""
    batch = setup.batch(solver=advantage_of((1, 0), 2.0))
    role = batch.roles["solver"]
    old = np.array(role.old_logprobs)
    old[1, 0, 0] = np.nan
    broken = changed_role(batch, "solver", old_logprobs=leaf(old))
    state, _ = evolve(setup.state(), batch)
    kept = jax.tree.map(np.asarray, (state.params, state.opt_state))
    state, metrics = evolve(state, broken)
    assert (metrics["optimizer/skipped"], metrics["optimizer/update_norm"]) == (1.0, 0.0)
    assert not np.isfinite(metrics["loss/total"])
    jax.tree.map(np.testing.assert_array_equal, (state.params, state.opt_state), kept)
    assert int(state.step) == START + 2
    state, metrics = evolve(state, batch)
    assert metrics["optimizer/skipped"] == 0.0
    other, seen = evolved(setup, evolve, batch)
    jax.tree.map(np.testing.assert_array_equal, state.params, other.params)
    assert metrics["optimizer/update_norm"] == seen[1]["optimizer/update_norm"]


# --- warm start ------------------------------------------------------------------------------


def test_a_warm_start_update_learns_replies_and_names(setup: Setup) -> None:
    """The mean over the replies' tokens, untempered and with no token banned; and naming."""
    replies = jax.tree.map(lambda array: array[..., :1, :], setup.responses["questioner"])
    names = steps.Names(
        leaf(np.arange(2 * VISUAL, dtype=np.int32)[:, None]),
        leaf(np.linspace(0.5, 1.0, 2 * VISUAL, dtype=np.float32)[:, None]),
    )
    looking = steps.Supervised(setup.prompts, replies)
    batch = steps.WarmStartBatch(setup.vision, names, (looking,))
    tx = optax.sgd(SGD_RATE)
    update = steps.make_warm_start_step(setup.policy, tx, NAMING_WEIGHT)
    state = dataclasses.replace(setup.state(), opt_state=tx.init(setup.params))
    state, metrics = update(state, batch)

    logprobs = setup.logprobs(setup.params, "questioner", as_sampled=False)[:, 0]
    mask = np.asarray(replies.mask)[:, 0]
    said = -(logprobs * mask).sum() / mask.sum()
    features = np.asarray(encode_images(setup.policy, setup.params, setup.vision))
    named = naming_by_hand(setup, features.astype(np.float64), names)
    total = said + NAMING_WEIGHT * named
    assert {name: float(x) for name, x in metrics.items() if name.startswith("loss")} == {
        "loss/looking": pytest.approx(said, rel=1e-4),
        "loss/naming": pytest.approx(named, rel=1e-4),
        "loss/total": pytest.approx(total, rel=1e-4),
    }
    assert int(state.step) == START + 1
    _, after = update(state, batch)
    fall = SGD_RATE * float(metrics["optimizer/grad_norm"]) ** 2  # of a plane
    assert fall > 0.01
    assert float(after["loss/total"]) == pytest.approx(total - fall, abs=0.1 * fall)


# --- an adapter ------------------------------------------------------------------------------


def test_with_an_adapter_only_it_learns_and_a_stopped_run_ends_with_the_same_numbers(
    setup: Setup, tmp_path: Path
) -> None:
    """Three updates, and the same with a checkpoint after the second. The parameters beside it,
    which do not move, are the reference of the KL term.
    """
    batch = setup.batch(solver=advantage_of((1, 0), 2.0))
    grpo = dataclasses.replace(GRPO, kl_coefficient=0.01)
    config = TrainConfig(grpo=grpo, lora=LoraConfig(rank=2))
    tx = evolution_optimizer(grpo, first=START)
    evolve = steps.make_evolution_step(
        setup.policy, tx, grpo, leaf(BANNED), temperature=TEMPERATURE
    )

    def begun() -> TrainState:
        return init_state(config, jax.tree.map(jnp.copy, setup.params), SCHEDULER, step=START)

    state, divergences = begun(), []
    for update in range(3):
        state, metrics = evolve(state, batch)
        assert metrics["optimizer/grad_norm"] > 0
        divergences.append(float(metrics["policy/kl_reference_solver"]))
        if update == 1:
            with checkpoint.manager(tmp_path, kept=1, scores={}) as checkpoints:
                checkpoint.save(checkpoints, state, {})
    jax.tree.map(np.testing.assert_array_equal, state.params, setup.params)
    assert state.adapter is not None and state.reference is None
    assert divergences[:2] == [0.0, 0.0] and divergences[2] > 0.0  # the first rate is 0
    changed = jax.tree.map(lambda x: bool(jnp.any(x)), state.adapter.factors)
    assert all(jax.tree.leaves(changed))  # `b` left zero everywhere
    mask = np.asarray(setup.responses["solver"].mask)[1, 0]
    before, after = (
        setup.logprobs(p, "solver")[1, 0]
        for p in (setup.params, lora.merge(state.params, state.adapter))
    )
    assert ((after - before) * mask).sum() > 0

    resumed, _ = checkpoint.load(tmp_path, START + 2, begun())
    assert int(resumed.step) == START + 2
    resumed, _ = evolve(resumed, batch)
    jax.tree.map(np.testing.assert_array_equal, resumed.adapter, state.adapter)
    jax.tree.map(np.testing.assert_array_equal, resumed.opt_state, state.opt_state)


def test_an_update_on_a_set_learns_its_replies(setup: Setup) -> None:
    """The same loss of replies as in the warm start, with nothing beside it."""
    replies = jax.tree.map(lambda array: array[..., :1, :], setup.responses["questioner"])
    batch = steps.SftBatch(setup.vision, steps.Supervised(setup.prompts, replies))
    tx = optax.sgd(SGD_RATE)
    update = steps.make_sft_step(setup.policy, tx)
    state = dataclasses.replace(setup.state(), opt_state=tx.init(setup.params))
    state, metrics = update(state, batch)

    logprobs = setup.logprobs(setup.params, "questioner", as_sampled=False)[:, 0]
    mask = np.asarray(replies.mask)[:, 0]
    said = -(logprobs * mask).sum() / mask.sum()
    assert float(metrics["loss/total"]) == pytest.approx(said, rel=1e-4)
    assert int(state.step) == START + 1
    _, after = update(state, batch)
    fall = SGD_RATE * float(metrics["optimizer/grad_norm"]) ** 2  # of a plane
    assert fall > 0.01
    assert float(after["loss/total"]) == pytest.approx(said - fall, abs=0.1 * fall)
