"""A few small rooms, made once."""

from pathlib import Path

import numpy as np
import pytest

from data_pipelines import rooms, unified

WIDTH, HEIGHT, FRAMES = 80, 60, 6
SEEDS = ((7, 0), (7, 1), (7, 2))


@pytest.fixture(scope="session")
def made() -> tuple[rooms.Room, ...]:
    view = float(np.deg2rad(85.0))
    return tuple(
        rooms.make_room(seed, frames=FRAMES, width=WIDTH, height=HEIGHT, field_of_view=view)
        for seed in SEEDS
    )


@pytest.fixture(scope="session")
def sources(made: tuple[rooms.Room, ...]) -> tuple[unified.SceneSource, ...]:
    return tuple(
        rooms.scene_source(room, f"scene{index:04d}_00", SEEDS[index])
        for index, room in enumerate(made)
    )


@pytest.fixture(scope="session")
def root(
    sources: tuple[unified.SceneSource, ...], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The rooms on disk."""
    folder = tmp_path_factory.mktemp("scenes")
    for source in sources:
        unified.write_scene(folder, "train", source)
    return folder
