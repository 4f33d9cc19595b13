"""A small tokenizer and the encoder around it, for images of 56 pixels."""

from pathlib import Path

import pytest

from spatialevo_jax.rollout.batch import ChatEncoder
from spatialevo_jax.tokenizer import load_tokenizer, special_ids, train_tokenizer


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> ChatEncoder:
    folder: Path = tmp_path_factory.mktemp("rollout") / "tokenizer"
    train_tokenizer(["Image 1: Where is the lamp? chair 1254 left"] * 4, 320, folder)
    tokenizer = load_tokenizer(folder)
    return ChatEncoder(tokenizer, special_ids(tokenizer))
