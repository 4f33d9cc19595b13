"""An update on eight devices, in parts, against one device and the whole batch."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from spatialevo_jax import sharding
from spatialevo_jax.config import GrpoConfig, TrainConfig, WarmStartConfig
from spatialevo_jax.models.qwen2_5_vl import model as qwen
from spatialevo_jax.scheduler import accuracy_scheduler
from spatialevo_jax.train import step as steps
from spatialevo_jax.train.state import TrainState, init_state
from tests import test_sharding

GRPO = GrpoConfig(kl_coefficient=0.1, entropy_weight=0.05)
PARTS = dataclasses.replace(GRPO, micro_batches=2, logit_chunk=4)  # of 6 tokens
CONFIG = test_sharding.CONFIG


def test_parts_on_eight_devices_make_the_gradient_of_the_whole_on_one() -> None:
    """In a process of its own, where there are eight."""
    code = "from tests.train import test_evolution_mesh as test; test.compare_with_one_device()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "8",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # compiling is all the time it takes
            "HF_HUB_OFFLINE": "1",
        },
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def begun(params: Any) -> TrainState:
    """A state whose reference is another decoder and tower."""
    rng = np.random.default_rng(2)
    scheduler = accuracy_scheduler(3, prior_accuracy=0.5, prior_count=2.0, floor=0.1, decay=0.9)
    warm = WarmStartConfig(steps=0, naming_steps=0, looking_steps=0)
    state = init_state(TrainConfig(warm_start=warm, grpo=GRPO), params, scheduler)
    other = jax.tree.map(
        lambda x: x + 0.02 * rng.normal(size=x.shape).astype(np.float32), state.reference
    )
    return dataclasses.replace(state, reference=other, opt_state=optax.trace(0.0).init(params))


def compare_with_one_device() -> None:
    """Gradients, which the optimizer keeps, and metrics; each device holds its share of them."""
    policy, params = qwen.build(CONFIG, 3)
    given, state = test_sharding.batch(8), begun(jax.device_get(params))
    known = jax.tree.map(jnp.copy, state)
    banned = jnp.arange(CONFIG.text.vocab_size) % 7 == 6

    def run(config: GrpoConfig, state: TrainState, batch: steps.EvolutionBatch) -> Any:
        update = steps.make_evolution_step(
            policy, optax.trace(0.0), config, banned, temperature=0.9
        )
        state, metrics = update(state, batch)
        kept: Any = state.opt_state
        return kept.trace, metrics

    grads, metrics = run(GRPO, known, given)
    mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
    with jax.set_mesh(mesh):
        spread = jax.device_put(state, sharding.shardings(state, CONFIG, mesh))
        here = jax.device_put(given, sharding.batch_shardings(given, mesh))
        found, seen = run(PARTS, spread, here)
    test_sharding.same(found, grads)
    assert seen.keys() == metrics.keys()
    for name, value in metrics.items():
        np.testing.assert_allclose(seen[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    assert metrics["policy/kl_reference_solver"] > 0.0
    up = found["text"]["blocks"]["mlp"]["up"]["kernel"]
    assert up.addressable_shards[0].data.size * 4 == up.size
