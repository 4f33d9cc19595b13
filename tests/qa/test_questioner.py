"""Questions of a policy as requests. The policy is random, what it says is put into its mouth."""

import dataclasses
from pathlib import Path

import pytest

from geometry_jax.tasks import TASK_IDS, TASKS
from spatialevo_jax.config import Language, RewardConfig, TrainConfig, WarmStartConfig
from spatialevo_jax.environment import Pools
from spatialevo_jax.qa import questioner
from spatialevo_jax.roles import prompts
from spatialevo_jax.train import batches
from tests.train.test_loop import config_of

SAYING = "<observation>1 bed c42</observation><question>How large is the room?</question>"


@pytest.fixture
def config(rooms_root: Path) -> TrainConfig:
    return dataclasses.replace(config_of(rooms_root), seed=3)


def speak(monkeypatch: pytest.MonkeyPatch, *texts: str) -> None:
    """Every group of samples says `texts`."""
    monkeypatch.setattr(batches, "texts", lambda setup, out: [list(texts)] * out.tokens.shape[0])


def test_requests_name_the_scene_the_task_and_the_pictures_that_were_shown(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speak(monkeypatch, SAYING, "no question at all")
    asked = list(questioner.ask(config, tmp_path, 5))
    assert len(asked) == 5
    for request in asked:
        assert request["question"] == "How large is the room?"
        assert request["scene_id"].startswith("scene")
        modality = TASKS[TASK_IDS[request["task_type"]]].modality
        shown = {"single_image": "image_path", "image_pair": "image_paths"}.get(modality)
        assert {"image_path", "image_paths"} & set(request) == ({shown} if shown else set())
        if modality == "image_pair":
            assert len(set(request["image_paths"])) == 2
    assert {TASKS[TASK_IDS[one["task_type"]]].modality for one in asked} > {"scene"}


def test_a_policy_is_asked_in_the_language_of_its_run(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    languages: list[Language] = []

    def short(task: str, seen: Pools, language: Language = "pointings") -> str:
        languages.append(language)
        return "Ask."

    monkeypatch.setattr(prompts, "questioner", short)
    speak(monkeypatch, SAYING, SAYING)
    prose = dataclasses.replace(
        config,
        rewards=RewardConfig(observation="prose"),
        warm_start=WarmStartConfig(steps=0, naming_steps=0, looking_steps=0),
        rollout=dataclasses.replace(config.rollout, solver_prompt=1024),
    )
    assert len(list(questioner.ask(prose, tmp_path, 1))) == 1
    assert languages[-sum(config.data.rows) :] == ["prose"] * 3  # earlier ones: before it asks


def test_a_policy_that_asks_nothing_is_an_error(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speak(monkeypatch, "silence", "")
    monkeypatch.setattr(questioner, "FRUITLESS", 2)
    with pytest.raises(ValueError, match="tiny: expected questions, got none in 2 steps"):
        list(questioner.ask(config, tmp_path, 1))


def test_a_run_without_a_checkpoint_is_an_error(config: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(FileNotFoundError, match="expected a checkpoint, found none"):
        list(questioner.ask(config, tmp_path, 1))
