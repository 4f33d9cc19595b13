"""Adapters: what they compute, what they change, which linear maps they take."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spatialevo_jax import lora
from spatialevo_jax.config import LoraConfig, TrainConfig, WarmStartConfig
from spatialevo_jax.models.qwen2_5_vl import model as qwen
from spatialevo_jax.models.qwen2_5_vl.config import ModelConfig
from spatialevo_jax.scheduler import accuracy_scheduler
from spatialevo_jax.train.state import begin_evolution, evolution_optimizer, init_state

from .models.qwen2_5_vl.released import UNTIED

ABSTRACT = qwen.abstract_params(UNTIED)
EVERYTHING = LoraConfig(rank=3, alpha=6.0, targets=("text.*", "vision.*"))


def random_params(config: ModelConfig, seed: int = 0) -> qwen.Params:
    """No program to compile."""
    rng = np.random.default_rng(seed)

    def drawn(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        return jnp.asarray(rng.normal(size=leaf.shape) * 0.2, jnp.float32)

    return jax.tree.map(drawn, qwen.abstract_params(config))


def trained(params: qwen.Params, config: LoraConfig) -> lora.Adapter:
    """An adapter after some training: `b` is no longer zero."""
    adapter = lora.init(params, config, jax.random.key(1))
    rng = np.random.default_rng(2)
    factors = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape) * 0.3, jnp.float32), adapter.factors
    )
    return dataclasses.replace(adapter, factors=factors)


@jax.jit
def logits(params: qwen.Params) -> jax.Array:
    policy, tokens = qwen.Policy(UNTIED), jnp.arange(6)[None, None]
    positions = jnp.broadcast_to(jnp.arange(6), (3, 1, 1, 6))
    x = qwen.embed(policy, params, tokens)
    hidden, _ = qwen.extend(policy, params, x, positions, jnp.ones((1, 1, 6), bool))
    return qwen.logits(policy, params, hidden)


def test_a_fresh_adapter_changes_nothing() -> None:
    params = random_params(UNTIED)
    adapter = lora.init(params, EVERYTHING, jax.random.key(0))
    plain = logits(params)
    np.testing.assert_array_equal(logits(lora.attach(params, adapter)), plain)
    jax.tree.map(np.testing.assert_array_equal, lora.merge(params, adapter), params)
    a = adapter.factors["text"]["blocks"]["q"].a
    assert a.shape == (2, 40, 3) and 0.9 * 40**-0.5 < jnp.abs(a).max() <= 40**-0.5


def test_merged_parameters_compute_what_the_attached_ones_do() -> None:
    params = random_params(UNTIED)
    adapter = trained(params, EVERYTHING)
    attached, plain = logits(lora.attach(params, adapter)), logits(params)
    np.testing.assert_allclose(logits(lora.merge(params, adapter)), attached, atol=1e-4)
    assert np.abs(attached - plain).max() > 0.1


def test_a_loop_that_decodes_has_the_changes_too() -> None:
    params = random_params(UNTIED)
    attached = lora.attach(params, trained(params, EVERYTHING))
    found = logits(qwen.for_decoding(attached))
    np.testing.assert_allclose(found, logits(attached), atol=1e-4)


def test_the_change_is_the_one_of_peft() -> None:
    """Its weights are (outputs, inputs): W + (alpha / rank) lora_B lora_A, layer by layer."""
    params = random_params(UNTIED)
    adapter = trained(params, LoraConfig(rank=4, alpha=10.0, targets=("text.blocks.mlp.up",)))
    factors = adapter.factors["text"]["blocks"]["mlp"]["up"]
    before = np.asarray(params["text"]["blocks"]["mlp"]["up"]["kernel"], np.float64)
    after = lora.merge(params, adapter)["text"]["blocks"]["mlp"]["up"]["kernel"]
    for layer in range(UNTIED.text.num_layers):
        lora_a, lora_b = (np.asarray(x[layer], np.float64).T for x in factors)
        expected = before[layer].T + 10.0 / 4 * lora_b @ lora_a
        np.testing.assert_allclose(after[layer].T, expected, atol=1e-5)
    on_host = lora.merged(before.astype(np.float32), factors, adapter.scale)
    assert isinstance(on_host, np.ndarray)
    np.testing.assert_allclose(on_host, after, atol=1e-5)


def adapted(config: LoraConfig) -> set[str]:
    adapter = lora.init(ABSTRACT, config, jax.random.key(0))
    paths = jax.tree_util.tree_leaves_with_path(adapter.factors)
    return {jax.tree_util.keystr(path[:-1], simple=True, separator=".") for path, _ in paths}


def test_patterns_choose_the_linear_maps() -> None:
    decoder = {f"text.blocks.{name}" for name in (*"qkvo", "mlp.gate", "mlp.up", "mlp.down")}
    assert adapted(LoraConfig(rank=1)) == decoder
    assert adapted(LoraConfig(rank=1, targets=("text.blocks.[qv]", "vision.merger.up"))) == {
        "text.blocks.q",
        "text.blocks.v",
        "vision.merger.up",
    }
    assert {"text.head", "vision.blocks.qkv", "vision.patch_embed"} < adapted(EVERYTHING)


def test_a_pattern_that_fits_nothing_is_named() -> None:
    config = LoraConfig(rank=1, targets=("text.blocks.q", "q_proj"))
    with pytest.raises(ValueError, match=r"expected patterns of .*text\.blocks\.q.* 'q_proj' fits"):
        adapted(config)


def test_a_rank_that_no_map_has_is_refused() -> None:
    highest = max(min(k.shape[-2:]) for k in lora.adapted(ABSTRACT, LoraConfig(rank=1)).values())
    assert lora.adapted(ABSTRACT, LoraConfig(rank=highest))
    with pytest.raises(ValueError, match=f"expected at most {highest}, .* got {highest + 1}"):
        lora.adapted(ABSTRACT, LoraConfig(rank=highest + 1))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"rank": -1}, "lora.rank: expected 0 or more"), ({"targets": ()}, "lora.targets: expected")],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoraConfig(**wrong)


def test_the_warm_start_has_no_adapter_and_evolution_begins_with_one() -> None:
    """The same one, whether a run comes from the warm start or resumes."""
    warm = WarmStartConfig(steps=3, naming_steps=0, looking_steps=0, warmup_steps=1)
    config = TrainConfig(warm_start=warm, lora=LoraConfig(rank=2))
    scheduler = accuracy_scheduler(3, prior_accuracy=0.5, prior_count=2.0, floor=0.1, decay=0.9)
    params = random_params(UNTIED)
    wrong = dataclasses.replace(config, lora=LoraConfig(rank=2, targets=("q_proj",)))
    with pytest.raises(ValueError, match="'q_proj' fits none"):
        init_state(wrong, params, scheduler, step=2)  # before hours of warm start
    before = init_state(config, params, scheduler, step=2)
    assert before.adapter is None
    assert before.trained is params and before.policy_params is params
    begun = begin_evolution(config, before)
    assert begun.params is params and begun.adapter is not None
    assert begun.trained is begun.adapter.factors
    assert float(begun.adapter.scale) == 16.0 / 2
    fresh = evolution_optimizer(config.grpo).init(begun.adapter.factors)
    assert jax.tree.structure(begun.opt_state) == jax.tree.structure(fresh)
    resumed = init_state(config, params, scheduler, step=3)
    jax.tree.map(np.testing.assert_array_equal, resumed.adapter, begun.adapter)
