"""Checkpoints that several files share."""

import jax
import numpy as np
import pytest

from spatialevo_jax.models.qwen2_5_vl import model as qwen

from .checkpoints import CONFIGS, SMALL, Pair, make_pair


@pytest.fixture(scope="session", params=CONFIGS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(CONFIGS[request.param], tmp_path_factory.mktemp("released"))


@pytest.fixture(scope="session")
def small_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(SMALL, tmp_path_factory.mktemp("released"))


@pytest.fixture(scope="session")
def small() -> tuple[qwen.Policy, qwen.Params]:
    """Random weights of our own, with biases that are not zero."""
    policy, params = qwen.build(SMALL, seed=0)
    rng = np.random.default_rng(0)
    noisy = jax.tree.map(lambda x: x + 0.1 * rng.standard_normal(x.shape, np.float32), params)
    return policy, noisy
