"""The table of rules, and eight devices that compute what one computes."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from geometry_jax.types import leaf
from spatialevo_jax import sharding
from spatialevo_jax.config import GrpoConfig, TrainConfig, WarmStartConfig
from spatialevo_jax.mesh import BATCH, FSDP, TENSOR
from spatialevo_jax.models.qwen2_5_vl import attention, images
from spatialevo_jax.models.qwen2_5_vl import model as qwen
from spatialevo_jax.models.qwen2_5_vl.config import SIZES, ModelConfig, sized
from spatialevo_jax.rollout.batch import Prompts, Suffixes
from spatialevo_jax.scheduler import accuracy_scheduler
from spatialevo_jax.train import step as steps
from spatialevo_jax.train.state import (
    TrainState,
    evolution_optimizer,
    init_state,
    warm_start_optimizer,
)

from .models.qwen2_5_vl.checkpoints import SMALL

CONFIG = dataclasses.replace(
    SMALL,
    vision=dataclasses.replace(SMALL.vision, depth=2, fullatt_block_indexes=(1,)),
    text=dataclasses.replace(SMALL.text, num_layers=2),
    remat="full",
)
P, G, S, T = 4, 2, 12, 6
VISUAL = 4  # tokens of an image
GRPO = GrpoConfig(kl_coefficient=0.1, entropy_weight=0.05)
PARTS = dataclasses.replace(GRPO, micro_batches=2, logit_chunk=4)
KEEPING = optax.trace(0.0)  # an optimizer whose state is the latest gradient


def specs(config: ModelConfig, **sizes: int) -> dict[str, PartitionSpec]:
    paths = jax.tree_util.tree_leaves_with_path(qwen.abstract_params(config))
    named = {jax.tree_util.keystr(path, simple=True, separator="."): x for path, x in paths}
    axes = {"data": 1, "fsdp": 1, "tensor": 1} | sizes
    return {name: sharding.spec(name, x.shape, config, axes) for name, x in named.items()}


@pytest.mark.parametrize("size", SIZES)
def test_every_parameter_of_every_size_has_a_rule(size: str) -> None:
    """Matrices and tables are split, norms and the vision tower's biases are not."""
    for name, spec in specs(sized(size), fsdp=4, tensor=2).items():
        matrix = name.endswith(("kernel", "embedding"))
        assert (FSDP in spec) == matrix, name
        assert (TENSOR in spec) == (name.startswith("text") and "norm" not in name), name
        assert ".blocks." not in name or not spec or spec[0] is None, name


@pytest.mark.parametrize(("size", "fsdp"), [("qwen2_5_vl_3b", 256), ("qwen2_5_vl_7b", 128)])
def test_released_sizes_divide_over_whole_pods(size: str, fsdp: int) -> None:
    assert specs(sized(size), fsdp=fsdp)


def test_few_key_heads_are_on_every_device_of_tensor() -> None:
    """3B has two key heads: over four devices keys are whole and queries are not."""
    four = specs(sized("qwen2_5_vl_3b"), tensor=4)
    assert four["text.blocks.k.kernel"] == PartitionSpec(None, FSDP, None)
    assert four["text.blocks.v.bias"] == PartitionSpec(None, None)
    assert four["text.blocks.q.kernel"] == PartitionSpec(None, FSDP, TENSOR)
    two = specs(sized("qwen2_5_vl_3b"), tensor=2)
    assert two["text.blocks.k.kernel"] == PartitionSpec(None, FSDP, TENSOR)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"tensor": 3}, "text.blocks.k.bias: expected the 4 kv_heads in dimension 1 of (28, 512)"),
        ({"tensor": 8}, "text.blocks.o.kernel: expected the 28 heads in dimension 1 of"),
        ({"fsdp": 48}, "dimension 1 of (28, 3584, 512) to divide over fsdp=48"),
    ],
)
def test_what_does_not_divide_is_named(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        specs(sized("qwen2_5_vl_7b"), **sizes)


def test_a_parameter_without_a_rule_is_named() -> None:
    with pytest.raises(ValueError, match=r"text\.blocks\.r\.kernel: expected a rule in"):
        sharding.spec("text.blocks.r.kernel", (2, 4, 4), SMALL, {"fsdp": 1})
    with pytest.raises(ValueError, match=r"q\.kernel: expected 3 dimensions, got the shape \(4,\)"):
        sharding.spec("mu.text.blocks.q.kernel", (4,), SMALL, {"fsdp": 1, "tensor": 1})


def test_a_mesh_takes_all_devices() -> None:
    count = jax.device_count()
    assert dict(sharding.make_mesh().shape) == {"data": 1, "fsdp": count, "tensor": 1}
    message = f"expected data 3 x fsdp 5 x tensor 1 to make up {count} devices"
    with pytest.raises(ValueError, match=message):
        sharding.make_mesh(data=3, fsdp=5)


# --- eight devices -------------------------------------------------------------------------------


def test_eight_devices_compute_what_one_computes() -> None:
    """In a process of its own, where there are eight."""
    code = "from tests import test_sharding; test_sharding.compare_with_one_device()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "8",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # compiling is all the time it takes
            "HF_HUB_OFFLINE": "1",
        },
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def batch(count: int = P) -> steps.EvolutionBatch:
    """Prompts about an image each, with two responses of different lengths."""
    rng = np.random.default_rng(0)
    shown = [
        images.preprocess(rng.integers(0, 256, (56, 56, 3), dtype=np.uint8), SMALL.vision)
        for _ in range(count)
    ]
    feature_index = np.full((count, S), -1, np.int32)
    feature_index[:, 2 : 2 + VISUAL] = np.arange(count * VISUAL).reshape(count, VISUAL)
    lengths = np.resize([12, 10, 11, 8], count)
    there = np.arange(S) < lengths[:, None]
    prompts = Prompts(
        tokens=leaf(rng.integers(0, 300, (count, S)).astype(np.int32)),
        positions=leaf(np.broadcast_to(np.arange(S, dtype=np.int32), (3, count, S)).copy()),
        valid=leaf(there),
        feature_index=leaf(feature_index),
    )
    own = np.arange(T) < rng.integers(2, T + 1, (count, G))[..., None]
    positions = (
        lengths[:, None, None] + np.arange(T, dtype=np.int32) + np.zeros((3, count, G, 1), int)
    )
    suffixes = Suffixes(
        inputs=leaf(rng.integers(0, 300, (count, G, T)).astype(np.int32)),
        targets=leaf(rng.integers(0, 300, (count, G, T)).astype(np.int32)),
        positions=leaf(positions.astype(np.int32)),
        valid=leaf(own),
        mask=leaf(own.astype(np.float32)),
    )
    old = leaf(rng.normal(-6, 0.1, (count, G, T)).astype(np.float32))
    gains = leaf(rng.normal(size=(count, G)).astype(np.float32))
    role = steps.RoleBatch(prompts, suffixes, old, gains)
    return steps.EvolutionBatch(images.pack_images(shown, SMALL.vision), role, role)


def begun(params: Any) -> TrainState:
    """A state at the start of evolution whose reference is another policy, and whose optimizer
    keeps the gradient.
    """
    rng = np.random.default_rng(2)
    scheduler = accuracy_scheduler(3, prior_accuracy=0.5, prior_count=2.0, floor=0.1, decay=0.9)
    warm = WarmStartConfig(steps=0, naming_steps=0, looking_steps=0)
    state = init_state(TrainConfig(warm_start=warm, grpo=GRPO), params, scheduler)
    other = jax.tree.map(
        lambda x: x + 0.02 * rng.normal(size=x.shape).astype(np.float32), state.reference
    )
    return dataclasses.replace(state, reference=other, opt_state=KEEPING.init(params))


def gradient(
    policy: qwen.Policy, config: GrpoConfig, state: TrainState, given: steps.EvolutionBatch
) -> tuple[Any, steps.Metrics]:
    """Of the whole loss of evolution."""
    banned = jnp.arange(CONFIG.text.vocab_size) % 7 == 6
    update = steps.make_evolution_step(policy, KEEPING, config, banned, temperature=0.9)
    state, metrics = update(state, given)
    kept: Any = state.opt_state
    return kept.trace, metrics


def same(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Relative to the largest number of each array."""

    def close(a: jax.Array, b: jax.Array) -> None:
        scale = float(jnp.abs(b).max()) + 1e-9
        np.testing.assert_allclose(np.asarray(a) / scale, np.asarray(b) / scale, atol=tolerance)

    jax.tree.map(close, found, expected)


def laid_out(tree: Any, layout: Any) -> None:
    jax.tree.map(
        lambda x, s: np.testing.assert_(x.sharding.is_equivalent_to(s, x.ndim)), tree, layout
    )


def compare_with_one_device() -> None:
    """The gradient of the whole loss, there in parts and here at once, and an update; images are
    among the inputs. And how all of it is laid out.
    """
    given, tx = batch(8), evolution_optimizer(GrpoConfig(warmup_steps=0))
    mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
    layout = sharding.param_shardings(CONFIG, mesh)
    policy, born = qwen.build(CONFIG, 3, layout)
    laid_out(born, layout)
    q = born["text"]["blocks"]["q"]["kernel"]
    assert q.addressable_shards[0].data.size * 4 == q.size
    params = jax.device_get(born)
    state = begun(params)
    grads, metrics = gradient(policy, GRPO, jax.tree.map(jnp.copy, state), given)
    moments = sharding.shardings(jax.eval_shape(tx.init, params), CONFIG, mesh)
    step = jax.jit(lambda grads, params: tx.update(grads, tx.init(params), params, step=0))
    with jax.set_mesh(mesh):
        spread = jax.device_put(state, sharding.shardings(state, CONFIG, mesh))
        laid_out((spread.params, spread.reference), (layout, layout))
        here = jax.device_put(given, sharding.batch_shardings(given, mesh))
        laid_out(tx.init(spread.params), moments)
        pulled, seen = gradient(policy, PARTS, spread, here)
        pulled = jax.device_put(pulled, layout)
        updates, after = jax.jit(step, out_shardings=(layout, moments))(pulled, born)
    laid_out(after, moments)
    same(pulled, grads)
    same(updates, step(jax.device_get(pulled), params)[0])
    assert seen.keys() == metrics.keys() and metrics["policy/kl_reference_solver"] > 0.0
    for name, value in metrics.items():
        np.testing.assert_allclose(seen[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    assert here.roles["solver"].prompts.positions.sharding.spec == PartitionSpec(None, BATCH)
    assert here.vision.patches.sharding.spec == PartitionSpec(BATCH)
    compare_kernel(mesh)


def compare_kernel(mesh: jax.sharding.Mesh) -> None:
    """Splash attention is a kernel that the compiler does not split by itself."""
    rng = np.random.default_rng(1)

    def random(*shape: int) -> jax.Array:
        return leaf(rng.normal(size=shape).astype(np.float32))

    q, k, v = random(4, 1, 8, 4, 16), random(4, 1, 8, 2, 16), random(4, 1, 8, 2, 16)
    own = attention.KVCache(k, v, jnp.ones((4, 1, 8), bool))
    expected = attention.causal(q, own, None, 0, "plain")
    run = jax.jit(attention.causal, static_argnums=(3, 4))
    with jax.set_mesh(mesh):
        heads = jax.sharding.NamedSharding(mesh, PartitionSpec(BATCH, None, None, TENSOR))
        found = run(jax.device_put(q, heads), own, None, 0, "splash")
        assert found.sharding.is_equivalent_to(heads, found.ndim)
    same(found, expected)


@pytest.mark.parametrize("warm", [True, False], ids=["Muon", "AdamW"])
def test_moments_lie_where_their_parameters_do(warm: bool) -> None:
    start = WarmStartConfig()
    tx = warm_start_optimizer(start) if warm else evolution_optimizer(GrpoConfig())
    config = sized("qwen2_5_vl_3b")
    mesh: Any = jax.sharding.AbstractMesh((2, 4, 2), ("data", "fsdp", "tensor"))
    state = jax.eval_shape(tx.init, qwen.abstract_params(config))
    layout = sharding.shardings({"opt_state": state}, config, mesh)
    expected = specs(config, fsdp=4, tensor=2)
    found = set()
    for path, one in jax.tree_util.tree_leaves_with_path(layout):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        tail = next((x for x in expected if name.endswith(f".{x}")), None)
        assert one.spec == (expected[tail] if tail else PartitionSpec()), name
        found.add(tail)
    assert found == {*expected, None}  # of every parameter, and counts


def test_prompts_that_do_not_divide_are_named() -> None:
    given = batch()
    mesh = jax.sharding.AbstractMesh((1, 3, 1), ("data", "fsdp", "tensor"))
    any_mesh: Any = mesh
    with pytest.raises(ValueError, match=r"questioner.prompts.tokens: expected 4 rows to divide"):
        sharding.batch_shardings(dataclasses.replace(given, vision=None), any_mesh)  # pyright: ignore
    with pytest.raises(ValueError, match=r"patches: expected 4 rows to divide over data x fsdp=3"):
        sharding.batch_shardings(given.vision, any_mesh)
    layout = sharding.batch_shardings(given.vision, any_mesh, blocks=3)
    assert layout.patches.spec == PartitionSpec(BATCH)  # each of three hosts has four windows
