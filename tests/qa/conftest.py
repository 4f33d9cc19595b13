"""Rooms that questions of a set are about."""

import pytest

from geometry_jax.scene_io import SceneRecord
from tests.named_rooms import random_records


@pytest.fixture(scope="session")
def records() -> list[SceneRecord]:
    return random_records(16)
