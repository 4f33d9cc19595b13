"""The whole loss of GRPO in an update: reference, entropy, parts of a batch, roles, what is frozen.

Every update here is plain gradient descent, so that the step is the gradient.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from geometry_jax.types import leaf
from spatialevo_jax.config import GrpoConfig
from spatialevo_jax.models.qwen2_5_vl import model
from spatialevo_jax.rollout import decode
from spatialevo_jax.train import step as steps
from spatialevo_jax.train.likelihoods import token_likelihoods
from spatialevo_jax.train.state import TrainState, frozen_copy
from tests.train.small_policy import (
    BANNED,
    CONFIG,
    GRPO,
    START,
    TEMPERATURE,
    Setup,
    changed_role,
    log_softmax,
)

RATE = 1e-4
ADVANTAGES = {  # a group without signal among them, but for rounding
    "questioner": np.array([[0.7, -0.7], [-0.6, 0.8]]),
    "solver": np.array([[-0.7, 0.7], [0.05, 0.0]]),
}
KL, ENTROPY = 0.3, 0.2
FULL = dataclasses.replace(
    GRPO, kl_coefficient=KL, kl_estimator="k2", entropy_weight=ENTROPY, aggregation="sequence"
)
SHARES = {"questioner": GRPO.questioner_weight, "solver": 1.0}

pytestmark = pytest.mark.usefixtures("compiled_fast")


@pytest.fixture(scope="module")
def batch(setup: Setup) -> steps.EvolutionBatch:
    """As if the policy had moved since it sampled, so that some tokens are clipped."""
    rng = np.random.default_rng(5)
    given = setup.batch(**ADVANTAGES)
    for name, role in given.roles.items():
        moved = rng.normal(0.0, 0.3, role.old_logprobs.shape).astype(np.float32)
        given = changed_role(given, name, old_logprobs=role.old_logprobs + moved)
    return given


@pytest.fixture(scope="module")
def reference(setup: Setup) -> Any:
    """Another tower and another decoder than the policy's."""
    rng = np.random.default_rng(6)
    return jax.tree.map(
        lambda x: x + 0.02 * rng.normal(size=x.shape).astype(np.float32), setup.params
    )


def update(
    setup: Setup,
    batch: steps.EvolutionBatch,
    reference: Any,
    grpo: GrpoConfig = FULL,
    count: int = 1,
    *,
    advance: bool = True,
    **how: Any,
) -> tuple[TrainState, list[dict[str, float]]]:
    """The state after `count` updates on one batch, with the metrics of each."""
    policy = model.Policy(dataclasses.replace(CONFIG, **how))
    tx = optax.chain(optax.trace(0.0), optax.sgd(RATE))
    evolve = steps.make_evolution_step(
        policy, tx, grpo, leaf(BANNED), temperature=TEMPERATURE, advance=advance
    )
    state = setup.state(dataclasses.replace(grpo, micro_batches=1))
    own = {name: reference[name] for name in state.trained}
    state = dataclasses.replace(
        state, opt_state=tx.init(state.trained), reference=jax.tree.map(jnp.copy, own)
    )
    seen = []
    for _ in range(count):
        state, metrics = evolve(state, batch)
        seen.append({name: float(value) for name, value in metrics.items()})
    return state, seen


@pytest.fixture(scope="module")
def whole(
    setup: Setup, batch: steps.EvolutionBatch, reference: Any
) -> tuple[TrainState, list[dict[str, float]]]:
    return update(setup, batch, reference, count=2)


def gradient(state: TrainState) -> Any:
    """Of the latest update, which the optimizer keeps."""
    kept: Any = state.opt_state
    return kept[0].trace


def same_gradient(found: Any, expected: Any) -> None:
    """To the rounding of float32, relative to the largest number of each parameter's gradient."""

    def close(a: jax.Array, b: jax.Array) -> None:
        scale = np.abs(b).max()
        assert scale > 1e-4
        np.testing.assert_allclose(a, b, atol=1e-5 * scale)

    jax.tree.map(close, found, expected)


def test_the_loss_is_objective_and_divergence_and_entropy(
    setup: Setup, batch: steps.EvolutionBatch, reference: Any, whole: Any
) -> None:
    """Against NumPy: means over each sequence's tokens, then over sequences."""
    metrics = whole[1][0]
    total = 0.0
    for name, role in batch.roles.items():
        mask, advantages = np.asarray(role.suffixes.mask), np.asarray(role.advantages)[..., None]
        now, known = (setup.logprobs(params, name) for params in (setup.params, reference))
        ratio = np.exp(now - np.asarray(role.old_logprobs))
        cut = np.clip(ratio, 1 - GRPO.clip_low, 1 + GRPO.clip_high)
        objective = np.maximum(-advantages * ratio, -advantages * cut)
        bound = -advantages * GRPO.clip_dual
        objective = np.where(advantages < 0, np.minimum(objective, bound), objective)
        divergence = (now - known) ** 2 / 2
        chances = log_softmax(np.where(BANNED, -1e30, setup.plain_logits(name)) / TEMPERATURE)
        entropy = -(np.exp(chances) * chances).sum(-1)
        assert (divergence * mask).max() < 10.0
        values = objective + KL * divergence - ENTROPY * entropy
        loss = ((values * mask).sum(-1) / mask.sum(-1)).mean()
        tokens = mask.sum()
        assert metrics[f"loss/{name}"] == pytest.approx(loss, rel=1e-4)
        assert metrics[f"policy/entropy_{name}"] == pytest.approx(
            (entropy * mask).sum() / tokens, rel=1e-4
        )
        assert metrics[f"policy/kl_reference_{name}"] == pytest.approx(
            (divergence * mask).sum() / tokens, rel=1e-3
        )
        drift = np.abs(now - np.asarray(role.old_logprobs)) * mask
        assert metrics[f"policy/logprob_difference_mean_{name}"] == pytest.approx(
            drift.sum() / tokens, rel=1e-3
        )
        clipped = (np.where(advantages > 0, ratio > 1 + GRPO.clip_high, 0) * mask) + (
            np.where(advantages < 0, (ratio < 1 - GRPO.clip_low) | (ratio > 3.0), 0) * mask
        )
        assert 0 < clipped.sum() < tokens
        assert metrics[f"policy/clipped_{name}"] == pytest.approx(clipped.sum() / tokens)
        assert metrics[f"policy/clipped_replies_{name}"] == clipped.any(-1).mean()
        assert metrics[f"policy/flat_groups_{name}"] == {"questioner": 0.0, "solver": 0.5}[name]
        total += SHARES[name] * loss
    assert metrics["loss/total"] == pytest.approx(total, rel=1e-4)


def test_an_update_goes_down_the_loss(whole: Any) -> None:
    """By the rate times the square of the gradient, of a plane; and its norms are of its parts."""
    (first, second) = whole[1]
    fall = RATE * first["optimizer/grad_norm"] ** 2
    assert fall > 1e-3
    assert first["loss/total"] - second["loss/total"] == pytest.approx(fall, rel=0.2)
    parts = [first[f"optimizer/grad_norm_{name}"] for name in ("text", "vision")]
    assert min(parts) > 0.01
    assert np.hypot(*parts) == pytest.approx(first["optimizer/grad_norm"], rel=1e-5)
    assert first["optimizer/update_norm"] == pytest.approx(
        RATE * first["optimizer/grad_norm"], rel=1e-5
    )
    assert first["optimizer/skipped"] == 0.0


@pytest.mark.parametrize("remat", ["dots", "full"])
def test_parts_of_a_batch_make_the_gradient_of_the_whole(
    setup: Setup, batch: steps.EvolutionBatch, reference: Any, whole: Any, remat: str
) -> None:
    """One prompt at a time and two tokens of a reply at a time, layers computed again: both roles,
    the tower too.
    """
    parts = dataclasses.replace(FULL, micro_batches=2, logit_chunk=2)
    state, seen = update(setup, batch, reference, parts, count=2, remat=remat)
    same_gradient(gradient(state), gradient(whole[0]))
    for one, other in zip(seen, whole[1], strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert value == pytest.approx(other[name], rel=1e-4, abs=1e-6), name


def test_a_frozen_tower_stays_and_a_role_alone_has_the_whole_weight(
    setup: Setup, batch: steps.EvolutionBatch, reference: Any, whole: Any
) -> None:
    """The tower has no gradient, no moments, and no copy as reference: the one that there is does
    not move. And a role's update may be one of several in a step, which do not count it.
    """
    frozen = dataclasses.replace(FULL, vision_lr_share=0.0)
    begun = setup.state(frozen)
    assert begun.reference is not None and set(begun.trained) == set(begun.reference) == {"text"}
    alone = dataclasses.replace(batch, solver=None)
    state, (metrics, _) = update(setup, alone, reference, frozen, count=2, advance=False)
    assert set(gradient(state)) == {"text"}
    jax.tree.map(np.testing.assert_array_equal, state.params["vision"], setup.params["vision"])
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), state.params, setup.params)
    assert all(jax.tree.leaves(changed["text"]))
    assert int(state.step) == START
    assert metrics["loss/total"] == metrics["loss/questioner"]
    for name in ("policy/nll_questioner", "policy/entropy_questioner", "policy/kl_old_questioner"):
        assert metrics[name] == pytest.approx(whole[1][0][name], rel=1e-5)
    assert metrics["optimizer/grad_norm_text"] == metrics["optimizer/grad_norm"]
    assert not [name for name in metrics if name.endswith(("solver", "vision"))]
    with pytest.raises(ValueError, match="at least one role"):
        update(setup, dataclasses.replace(alone, questioner=None), reference)


def test_without_the_reference_that_its_loss_asks_for_an_update_is_refused(
    setup: Setup, batch: steps.EvolutionBatch
) -> None:
    evolve = steps.make_evolution_step(
        setup.policy, optax.sgd(RATE), FULL, leaf(BANNED), temperature=TEMPERATURE
    )
    with pytest.raises(ValueError, match="kl_coefficient: expected a reference in the state"):
        evolve(setup.state(GRPO), batch)


def test_prompts_that_do_not_make_up_the_parts_are_named(
    setup: Setup, batch: steps.EvolutionBatch, reference: Any
) -> None:
    three = dataclasses.replace(FULL, micro_batches=3)
    with pytest.raises(ValueError, match=r"a divisor of 2 prompts \(questioner\), got 3"):
        update(setup, batch, reference, three)


# --- likelihoods ---------------------------------------------------------------------------------


def likelihoods(setup: Setup, params: Any, **how: Any) -> Any:
    """Of the Solver's replies, by a policy that may compute in another type."""
    policy = model.Policy(dataclasses.replace(CONFIG, **how))

    @jax.jit
    def run(params: Any) -> Any:
        features = model.encode_images(policy, params, setup.vision)
        prefix = decode.prefill(policy, params, features, setup.prompts)
        return token_likelihoods(policy, params, prefix, setup.responses["solver"])

    return run(params)


def test_a_bfloat16_copy_is_the_same_policy_where_it_computes_in_bfloat16(setup: Setup) -> None:
    copy = frozen_copy(setup.params, dtype="bfloat16")
    found, expected = (
        likelihoods(setup, params, compute_dtype="bfloat16") for params in (copy, setup.params)
    )
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    kernel, scale = (copy["text"]["blocks"]["q"]["kernel"], copy["text"]["norm"]["norm"]["scale"])
    assert (kernel.dtype, scale.dtype) == (jnp.bfloat16, jnp.float32)
