"""What every test shares. The environment is set before jax or transformers is imported."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Reference data that lies beside the checkout and is not part of it; skips where absent."""
    path = REPOSITORY.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"no reference data: {path.name}/ is not beside the checkout")
    return path


@pytest.fixture(scope="session")
def rooms_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small generated rooms: two for training and one held out, five frames of 56 pixels."""
    from launch import prepare

    root = tmp_path_factory.mktemp("rooms")
    recipe = prepare.Recipe(
        prepare.RECIPE_VERSION, seed=7, frames=5, width=56, height=56, field_of_view=85.0
    )
    for split, number in (("train", 0), ("train", 1), ("val", prepare.VAL_START)):
        prepare.make_scene(root, split, number, recipe)
    return root
