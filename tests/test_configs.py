"""Every config file builds, names its command, and every field of it can be set by a flag."""

import dataclasses
import enum
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launch.errors import UserError
from launch.flags import load_config, override
from spatialevo_jax.config import TrainConfig

FILES = sorted((Path(__file__).resolve().parent.parent / "configs").glob("*.py"))


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of everything that is not a group."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value


def as_text(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(as_text, value))},)" if value else "()"
    return value.name if isinstance(value, enum.Enum) else str(value)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_config_file_builds_and_begins_with_its_command(path: Path) -> None:
    names = runpy.run_path(str(path)).get("CONFIGS", {"": None})
    for name in names:
        given = path.with_name(f"{path.name}:{name}") if name else path
        load_config(given, [], TrainConfig)
    assert f"--config=configs/{path.name}" in path.read_text(encoding="utf-8").split('"""')[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reward='geomtry'", "reward: expected one of geometry, vote, shuffled, got 'geomtry'"),
        ("grpo=GrpoConfig(aggregation='tokens')", "grpo.aggregation: expected one of token, "),
        ("compute_dtype='float16'", "compute_dtype: expected one of float32, bfloat16 or none, "),
        ("grpo=GrpoConfig(steps=2.5)", "grpo.steps: expected an int, got 2.5 (float)."),
        ("seed=True", "seed: expected an int, got True (bool)."),
        ("data=DataConfig(scenes='rooms')", "data.scenes: expected a path, got 'rooms' (str)."),
        ("data=DataConfig(rows=(1, 2, 3, 4))", "data.rows: expected 3 values (an int, an int, "),
        ("data=DataConfig(rows=(1.5, 2, 0.5))", "data.rows: expected 3 values (an int, an int, "),
        (
            "lora=LoraConfig(targets='text.*')",
            "lora.targets: expected values separated by commas, ",
        ),
    ],
)
def test_a_field_of_another_type_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.py"
    path.write_text(f"from spatialevo_jax.config import *\nCONFIG = TrainConfig({text})\n")
    with pytest.raises(UserError) as caught:
        load_config(path, [], TrainConfig)
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    "text", ["grpo=GrpoConfig(lr=1)", "compute_dtype=None", "lora=LoraConfig()"]
)
def test_a_field_of_its_type_is_taken(tmp_path: Path, text: str) -> None:
    path = tmp_path / "own.py"
    path.write_text(f"from spatialevo_jax.config import *\nCONFIG = TrainConfig({text})\n")
    assert load_config(path, [], TrainConfig)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("grpo.warmup_steps", 2**31, "grpo.warmup_steps: expected at most 2147483647, got 2147483"),
        ("rollout.solver_tokens", 10**20, "rollout.solver_tokens: expected at most 2147483647, "),
        ("grpo.steps", 2**31 - 1, "grpo.steps: expected at most 2147483647 with those of the warm"),
    ],
)
def test_more_than_devices_count_is_refused(name: str, value: int, message: str) -> None:
    """It would be a traceback when the updates are compiled."""
    with pytest.raises(UserError, match=message):
        override(TrainConfig(), [f"{name}={value}"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.image_size=28000,28000"], "fewer visual tokens than the 192 of rollout.solver_pr"),
        (["data.image_size=280000000000,28"], "the 192 of rollout.solver_prompt, got 10000000000 "),
        (["data.image_size=448,336"], "solver_prompt, got 192 of (448, 336)."),
        (["data.image_size=420,336", "rollout.questioner_prompt=180"], "the 180 of rollout.quest"),
    ],
)
def test_a_picture_that_no_prompt_has_room_for_is_refused(changes: list[str], message: str) -> None:
    """Before any is decoded, which may take more memory than there is."""
    with pytest.raises(UserError) as caught:
        override(TrainConfig(), changes)
    assert str(caught.value).startswith("--config.data.image_size: expected fewer visual tokens")
    assert message in str(caught.value)


def test_the_questioners_room_does_not_count_where_nothing_is_asked() -> None:
    changes = ["data.image_size=420,336", "rollout.questioner_prompt=180"]
    for nothing in ("grpo.steps=0", "sft.data=sets/a"):
        assert override(TrainConfig(), [*changes, nothing])


REALS = [name for name, value in leaves(TrainConfig()) if isinstance(value, float)]


@pytest.mark.parametrize("value", ["1e300", "-1e300", "inf", "nan"])
@pytest.mark.parametrize("name", REALS)
def test_more_than_float32_computes_with_is_refused(name: str, value: str) -> None:
    with pytest.raises(UserError, match=f"^--config.{re.escape(name)}: expected .*got "):
        override(TrainConfig(), [f"{name}={value}"])


@pytest.mark.parametrize(
    "name",
    [
        *("grpo.lr", "grpo.vision_lr_share", "grpo.max_grad_norm", "warm_start.peak_lr"),
        *("rollout.temperature", "scheduler.prior_count", "alarms.fall", "lora.alpha"),
    ],
)
def test_less_than_float32_computes_with_is_refused(name: str) -> None:
    """On a device it would be 0, which is another setting or none."""
    with pytest.raises(UserError, match=f"^--config.{re.escape(name)}: .*1e-.*, got 1e-300"):
        override(TrainConfig(), [f"{name}=1e-300"])


@pytest.mark.parametrize("name", [name for name, _ in leaves(TrainConfig())])
def test_every_field_can_be_set_to_what_it_is(name: str) -> None:
    config = TrainConfig()
    value = dict(leaves(config))[name]
    assert override(config, [f"{name}={as_text(value)}"]) == config
