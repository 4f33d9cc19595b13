"""What the tests of updates share."""

from collections.abc import Iterator

import jax
import pytest

from tests.train.small_policy import Setup, make_setup


@pytest.fixture(scope="module")
def compiled_fast() -> Iterator[None]:
    """For programs that run a few times: their compilation is all the time they take."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def setup(compiled_fast: None) -> Setup:
    """Two prompts of different lengths, each about its own image."""
    return make_setup()
