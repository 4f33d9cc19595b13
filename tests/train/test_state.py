"""What a run holds: the optimizer of each phase, and the passage from one to the other."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spatialevo_jax.config import (
    MOST,
    DataConfig,
    EvaluationConfig,
    GrpoConfig,
    LoraConfig,
    RewardConfig,
    RolloutConfig,
    SftConfig,
    TrainConfig,
    WarmStartConfig,
)
from spatialevo_jax.models.qwen2_5_vl import model
from spatialevo_jax.models.qwen2_5_vl.config import TINY
from spatialevo_jax.scheduler import Scheduler, accuracy_scheduler
from spatialevo_jax.train.state import (
    ADAPTER,
    begin_evolution,
    evolution_optimizer,
    init_state,
    optimizer,
    warm_start_optimizer,
)

WARM = 3
CONFIG = TrainConfig(
    seed=5,
    warm_start=WarmStartConfig(
        steps=WARM, naming_steps=0, looking_steps=0, warmup_steps=0, matrix_lr=1.0
    ),
    grpo=GrpoConfig(steps=4, lr=0.5, warmup_steps=2),
)
PARAMS = {
    "layer": {"kernel": jnp.ones((2, 4, 4)), "bias": jnp.ones((2, 4))},
    "embedding": jnp.ones((6, 4)),
}


@pytest.fixture(scope="module")
def scheduler() -> Scheduler:
    return accuracy_scheduler(3, prior_accuracy=0.5, prior_count=2.0, floor=0.1, decay=0.9)


structure = jax.tree.structure


@pytest.mark.parametrize(("step", "evolving"), [(0, False), (2, False), (WARM, True), (6, True)])
def test_a_state_has_the_optimizer_of_its_phase(
    scheduler: Scheduler, step: int, evolving: bool
) -> None:
    state = init_state(CONFIG, PARAMS, scheduler, step=step)
    phases = (warm_start_optimizer(CONFIG.warm_start), evolution_optimizer(CONFIG.grpo))
    own, other = phases[::-1] if evolving else phases
    assert structure(state.opt_state) == structure(own.init(PARAMS))
    assert structure(state.opt_state) != structure(other.init(PARAMS))
    assert structure(optimizer(CONFIG, step).init(PARAMS)) == structure(state.opt_state)
    assert (int(state.step), state.step.dtype) == (step, jnp.int32)


def test_a_fresh_state_knows_the_seed_and_nothing_else(scheduler: Scheduler) -> None:
    state = init_state(CONFIG, PARAMS, scheduler)
    assert jnp.array_equal(state.key, jax.random.key(5))
    assert state.params is PARAMS
    jax.tree.map(np.testing.assert_array_equal, state.scheduler, scheduler.init())


def test_without_a_warm_start_evolution_comes_first(scheduler: Scheduler) -> None:
    none = WarmStartConfig(steps=0, naming_steps=0, looking_steps=0)
    config = dataclasses.replace(CONFIG, warm_start=none)
    state = init_state(config, PARAMS, scheduler)
    assert structure(state.opt_state) == structure(evolution_optimizer(config.grpo).init(PARAMS))


@pytest.mark.parametrize("before", [0, WARM])
def test_evolution_begins_with_the_same_policy_and_without_moments(
    scheduler: Scheduler, before: int
) -> None:
    state = init_state(CONFIG, PARAMS, scheduler, step=before)
    moments = jax.tree.map(np.ones_like, state.opt_state)
    known = scheduler.update(
        state.scheduler, jnp.array([1]), jnp.array([0.5]), jnp.array([True]), jnp.array([1.0])
    )
    state = dataclasses.replace(
        state, opt_state=moments, scheduler=known, step=jnp.int32(WARM), key=jax.random.key(8)
    )
    begun = begin_evolution(CONFIG, state)
    for kept in ("params", "scheduler", "key", "step"):
        assert getattr(begun, kept) is getattr(state, kept), kept
    fresh = evolution_optimizer(CONFIG.grpo).init(PARAMS)
    assert structure(begun.opt_state) == structure(fresh)
    assert not any(np.any(array) for array in jax.tree.leaves(begun.opt_state))


def test_the_rate_of_evolution_rises_and_then_stays() -> None:
    """Of a constant gradient AdamW makes a step of exactly the rate."""
    tx = evolution_optimizer(CONFIG.grpo)
    params = {"weight": jnp.zeros(3)}
    update, state, steps = jax.jit(tx.update), tx.init(params), []
    for step in range(4):
        updates, state = update({"weight": jnp.full(3, 0.1)}, state, params, step=step)
        steps.append(updates)
    found = np.stack([np.asarray(one["weight"]) for one in steps])
    expected = -CONFIG.grpo.lr * np.array([0.0, 0.5, 1.0, 1.0])
    np.testing.assert_allclose(found, np.broadcast_to(expected[:, None], (4, 3)), rtol=1e-4)


def run_optimizer(config: GrpoConfig, params: Any, steps: Any, first: int = 0) -> list[Any]:
    """The updates of a constant gradient of ones, at these steps of a run."""
    tx = evolution_optimizer(config, first=first)
    update, state, seen = jax.jit(tx.update), tx.init(params), []
    for step in steps:
        updates, state = update(jax.tree.map(jnp.ones_like, params), state, params, step=step)
        seen.append(updates)
    return seen


def test_the_rate_may_fall_along_a_half_cosine() -> None:
    config = GrpoConfig(steps=7, lr=0.5, warmup_steps=2, final_lr_share=0.2, decay="cosine")
    seen = run_optimizer(config, {"weight": jnp.zeros(1)}, range(8))
    falling = 0.1 + 0.4 * (1 + np.cos(np.pi * np.arange(5) / 4)) / 2
    expected = [0.0, 0.25, *falling, 0.1]
    np.testing.assert_allclose([-x["weight"][0] for x in seen], expected, rtol=1e-4, atol=1e-6)


def test_the_rate_is_that_of_the_steps_of_evolution_however_many_updates_they_have() -> None:
    """Two updates in step 4 of the run, none in step 6."""
    config = GrpoConfig(steps=8, lr=0.5, warmup_steps=4)
    seen = run_optimizer(config, {"weight": jnp.zeros(1)}, (3, 4, 4, 5, 7), first=3)
    lengths = [-float(x["weight"][0]) for x in seen]
    np.testing.assert_allclose(lengths, [0.0, 0.125, 0.125, 0.25, 0.5], rtol=1e-4, atol=1e-6)
    tx = evolution_optimizer(config)
    with pytest.raises(ValueError, match="the run's step"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS)


def test_the_tower_has_its_own_rate_and_norms_and_biases_do_not_decay() -> None:
    layer = {"kernel": jnp.full((2, 2), 4.0), "bias": jnp.full(2, 4.0), "scale": jnp.full(2, 4.0)}
    params = {"text": layer, "vision": layer}
    config = GrpoConfig(lr=0.5, warmup_steps=0, weight_decay=0.25, vision_lr_share=0.1)
    (updates,) = run_optimizer(config, params, [0])
    for branch, rate in (("text", 0.5), ("vision", 0.05)):
        np.testing.assert_allclose(updates[branch]["kernel"], -rate * (1 + 0.25 * 4), rtol=1e-4)
        for name in ("bias", "scale"):
            np.testing.assert_allclose(updates[branch][name], -rate, rtol=1e-4)


BRANCHES = {
    "text": {"kernel": jnp.ones((2, 3)), "norm": {"scale": jnp.ones(3)}},
    "vision": {"kernel": jnp.ones((3, 2))},
}


def test_evolution_keeps_what_its_loss_compares_with(scheduler: Scheduler) -> None:
    """And nothing without a KL term, or where rows of a set are learnt; never an array of its own
    parameters, which updates consume.
    """
    assert init_state(CONFIG, BRANCHES, scheduler, step=WARM).reference is None
    pulled = GrpoConfig(kl_coefficient=0.1, reference_dtype="bfloat16", vision_lr_share=0.5)
    config = dataclasses.replace(CONFIG, grpo=pulled)
    assert init_state(config, BRANCHES, scheduler, step=0).reference is None
    state = init_state(config, BRANCHES, scheduler, step=WARM)
    types = jax.tree.map(lambda x: str(x.dtype), state.reference)
    assert types == {
        "text": {"kernel": "bfloat16", "norm": {"scale": "float32"}},
        "vision": {"kernel": "bfloat16"},
    }
    plain = dataclasses.replace(pulled, reference_dtype="float32")
    config = dataclasses.replace(config, grpo=plain)
    begin = jax.jit(
        lambda params: init_state(config, params, scheduler, step=WARM), donate_argnums=0
    )
    state = begin(jax.tree.map(jnp.copy, BRANCHES))
    places = {x.unsafe_buffer_pointer() for x in jax.tree.leaves((state.params, state.reference))}
    assert len(places) == 6
    on_set = dataclasses.replace(config, sft=SftConfig(data=Path("set")))
    assert init_state(on_set, BRANCHES, scheduler, step=WARM).reference is None


def test_no_step_has_the_noise_of_the_adapter() -> None:
    """Both are folded into the run's key."""
    assert ADAPTER > MOST  # what a run has at most, see `TrainConfig.total_steps`
    key = jax.random.key(0)
    adapter, last = (jax.random.fold_in(key, number) for number in (ADAPTER, jnp.int32(MOST)))
    assert not bool((jax.random.key_data(adapter) == jax.random.key_data(last)).any())


def test_an_adapter_of_a_frozen_tower_is_refused(scheduler: Scheduler) -> None:
    config = dataclasses.replace(
        CONFIG,
        grpo=GrpoConfig(vision_lr_share=0.0),
        lora=LoraConfig(rank=2, targets=("vision.*", "text.*")),
    )
    params = {name: {"up": branch} for name, branch in BRANCHES.items()}
    with pytest.raises(ValueError, match=r"grpo.vision_lr_share=0 freezes, got \['vision.up'\]"):
        init_state(config, params, scheduler)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"micro_batches": 3}, "a divisor of the 16 prompts of data.rows, got 3"),
        ({"micro_batches": 0}, "grpo.micro_batches: expected 1 or more"),
        ({"kl_coefficient": -0.1}, "grpo.kl_coefficient: expected 0 or more"),
        ({"kl_coefficient": math.nan}, "grpo.kl_coefficient: expected 0 or more"),
        ({"lr": math.inf}, r"grpo.lr: expected at most 1e\+18, got inf"),
        ({"max_grad_norm": math.nan}, "grpo.max_grad_norm: expected 1e-18 or more, got nan"),
        ({"clip_low": 2.0}, r"grpo.clip_low: expected a share in \[0, 1\], got 2.0"),
        ({"steps": -1}, "grpo.steps: expected 0 or more, got -1"),
        ({"two_pass": -4}, "grpo.two_pass: expected 0 or more, got -4"),
    ],
)
def test_a_loss_that_cannot_be_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(grpo=GrpoConfig(**wrong))


@pytest.mark.parametrize(
    ("group", "wrong", "message"),
    [
        (DataConfig, {"rows": (0, 0, 0)}, r"data.rows: expected counts .* got \(0, 0, 0\)"),
        (DataConfig, {"rows": (-1, 3, 2)}, r"data.rows: expected counts .* got \(-1, 3, 2\)"),
        (DataConfig, {"tasks": ("room_size", "room_size")}, "data.tasks: expected each once"),
        (DataConfig, {"workers": -1}, "data.workers: expected 0 or more"),
        (RolloutConfig, {"solver_prompts": 0}, "rollout.solver_prompts: expected 1 or more"),
        (RolloutConfig, {"solver_tokens": 0}, "rollout.solver_tokens: expected 1 or more"),
        (RolloutConfig, {"max_invalid_share": 2.0}, "rollout.max_invalid_share: expected a share"),
        (
            RolloutConfig,
            {"temperature": math.inf},
            r"temperature: expected at most 1e\+18, got inf",
        ),
        (RolloutConfig, {"temperature": 0.0}, "rollout.temperature: expected 1e-06 or more, got 0"),
        (EvaluationConfig, {"every": 0}, "evaluation.every: expected 1 or more, got 0"),
        (EvaluationConfig, {"batch": 0}, "evaluation.batch: expected 1 or more, got 0"),
        (WarmStartConfig, {"answers": 0}, "warm_start.answers: expected 1 or more, got 0"),
        (WarmStartConfig, {"peak_lr": math.nan}, "warm_start.peak_lr: expected 0 or more, got nan"),
        (LoraConfig, {"alpha": math.nan}, "lora.alpha: expected 0 or more, got nan"),
        (TrainConfig, {"seed": -1}, "seed: expected 0 to"),
        (TrainConfig, {"reward": "vote", "scoring": "published"}, "vote needs scoring=corrected"),
        (TrainConfig, {"vocab_size": 0}, "vocab_size: expected 1 or more"),
        (TrainConfig, {"scoring": "published", "alpha": 0.5}, "alpha: the published scoring has"),
        (
            TrainConfig,
            {"rewards": RewardConfig(observation="prose")},
            "warm_start.steps: expected 0 with rewards.observation=prose",
        ),
        (
            TrainConfig,
            {"sft": SftConfig(Path("set")), "grpo": GrpoConfig(micro_batches=2)},
            "sft.data: expected grpo.micro_batches=1 and reward=geometry beside it.* got 2 and",
        ),
        (
            TrainConfig,
            {"sft": SftConfig(Path("set")), "reward": "vote"},
            "sft.data: expected grpo.micro_batches=1 and reward=geometry beside it.* 1 and vote",
        ),
        (
            TrainConfig,
            {
                "sft": SftConfig(Path("set")),
                "rewards": RewardConfig(observation="prose"),
                "warm_start": WarmStartConfig(steps=0, naming_steps=0, looking_steps=0),
            },
            "sft.reply: expected answer or rationale with rewards.observation=prose",
        ),
    ],
)
def test_numbers_that_no_run_could_use_are_refused(
    group: Any, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        group(**wrong)


# --- Muon ------------------------------------------------------------------------------------

MUON = {
    *(f"text.blocks.{name}.kernel" for name in "qkvo"),
    *(f"text.blocks.mlp.{name}.kernel" for name in ("gate", "up", "down")),
    *(f"vision.blocks.{name}.kernel" for name in ("qkv", "proj")),
    *(f"vision.blocks.mlp.{name}.kernel" for name in ("gate", "up", "down")),
    *(f"vision.merger.{name}.kernel" for name in ("up", "down")),
}


def moments_of(kind: str, field: str, opt_state: Any) -> set[str]:
    """Names of the parameters of which the optimizer `kind` keeps the moment `field`."""
    found = set()
    for path, _ in jax.tree_util.tree_leaves_with_path(opt_state):
        keys = [jax.tree_util.keystr((key,), simple=True) for key in path]
        if kind in keys and field in keys:
            found.add(".".join(keys[keys.index(field) + 1 :]))
    return found


def test_muon_takes_the_matrices_of_the_layers_and_adamw_all_else() -> None:
    params = model.abstract_params(TINY)
    opt_state = jax.eval_shape(warm_start_optimizer(CONFIG.warm_start).init, params)
    paths = jax.tree_util.tree_leaves_with_path(params)
    everything = {jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths}
    assert moments_of("muon", "mu", opt_state) == MUON
    assert moments_of("adam", "mu", opt_state) == everything - MUON
    assert moments_of("adam", "nu", opt_state) == everything - MUON
    assert {"text.embedding.embedding", "vision.patch_embed.kernel"} <= everything - MUON


def test_muon_leaves_a_head_of_its_own_to_adamw() -> None:
    untied = dataclasses.replace(
        TINY, text=dataclasses.replace(TINY.text, tie_word_embeddings=False)
    )
    params = model.abstract_params(untied)
    assert "head" in params["text"]
    opt_state = jax.eval_shape(warm_start_optimizer(CONFIG.warm_start).init, params)
    assert moments_of("muon", "mu", opt_state) == MUON


def test_evolution_without_a_rise_learns_from_its_first_step() -> None:
    tx = evolution_optimizer(GrpoConfig(lr=0.5, warmup_steps=0))
    updates, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS, step=0)
    for change in jax.tree.leaves(updates):
        np.testing.assert_allclose(change, -0.5, rtol=1e-3)


def test_the_rate_of_evolution_falls_in_a_straight_line() -> None:
    """Adam's first steps along a constant gradient are as long as the rate."""
    tx = evolution_optimizer(GrpoConfig(steps=7, lr=0.5, warmup_steps=2, final_lr_share=0.2))
    params, state, lengths = PARAMS, tx.init(PARAMS), []
    for step in range(7):
        updates, state = tx.update(PARAMS, state, params, step=step)
        lengths.append(-np.asarray(jax.tree.leaves(updates)[0]).flat[0])
    np.testing.assert_allclose(lengths, [0.0, 0.25, 0.5, 0.4, 0.3, 0.2, 0.1], rtol=1e-3, atol=1e-6)


def test_muon_turns_each_layer_by_itself() -> None:
    """Layers are stacked: one with a hundred times the gradient moves as far as its neighbour, and
    each along all directions alike.
    """
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(4, 4)))[0] for _ in range(2))
    gradient = left @ np.diag([0.1, 0.2, 0.5, 1.0]) @ right
    stacked = jnp.asarray(np.stack([gradient, 100 * gradient]), jnp.float32)
    grads = {"layer": {"kernel": stacked, "bias": jnp.ones((2, 4))}, "embedding": jnp.ones((6, 4))}
    tx = warm_start_optimizer(CONFIG.warm_start)
    updates, _ = jax.jit(tx.update)(grads, tx.init(PARAMS), PARAMS)
    first, second = np.asarray(updates["layer"]["kernel"])
    np.testing.assert_allclose(first, second, atol=0.01 * np.abs(first).max())
    sizes = np.linalg.svd(first, compute_uv=False)
    assert sizes.max() < 2 * sizes.min()  # 10 times in the gradient
    assert np.sqrt(np.mean(first**2)) == pytest.approx(0.2, rel=0.2)  # the size of AdamW's updates
