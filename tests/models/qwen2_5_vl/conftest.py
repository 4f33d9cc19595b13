"""Checkpoints that several files share."""

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from spatialevo_jax.models.qwen2_5_vl import model as qwen

from .checkpoints import CONFIGS, SMALL, THIN, Pair, make_pair


@pytest.fixture(scope="session", params=CONFIGS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(CONFIGS[request.param], tmp_path_factory.mktemp("released"))


@pytest.fixture(scope="module", params=THIN)
def thin_pair(request: pytest.FixtureRequest) -> Pair:
    """Released widths: half a gigabyte each, on disk and in memory no longer than needed."""
    with tempfile.TemporaryDirectory() as folder:
        return make_pair(THIN[request.param], Path(folder))


@pytest.fixture(scope="session", params=[False, True], ids=["own head", "tied"])
def small_pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    text = dataclasses.replace(SMALL.text, tie_word_embeddings=request.param)
    config = dataclasses.replace(SMALL, text=text)
    return make_pair(config, tmp_path_factory.mktemp("released"))


@pytest.fixture(scope="session")
def small() -> tuple[qwen.Policy, qwen.Params]:
    """Random weights of our own, with biases that are not zero."""
    policy, params = qwen.build(SMALL, seed=0)
    rng = np.random.default_rng(0)
    noisy = jax.tree.map(lambda x: x + 0.1 * rng.standard_normal(x.shape, np.float32), params)
    return policy, noisy


@pytest.fixture(scope="module")
def compiled_fast() -> Iterator[None]:
    """For small programs that run once: their compilation is most of the time they take."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
