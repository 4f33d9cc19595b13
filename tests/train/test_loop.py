"""A whole run on three small rooms with pictures of three forms: it ends, it resumes to the same
numbers from wherever it was cut, it compiles once.
"""

import dataclasses
import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from launch import prepare
from spatialevo_jax.config import (
    DataConfig,
    EvaluationConfig,
    GrpoConfig,
    RolloutConfig,
    SftConfig,
    TrainConfig,
    WarmStartConfig,
)
from spatialevo_jax.data import Row
from spatialevo_jax.rollout import decode
from spatialevo_jax.rollout.batch import PromptError, PromptTooLongError
from spatialevo_jax.train import checkpoint, loop, records
from spatialevo_jax.train import setup as preparing
from spatialevo_jax.train.records import Records
from spatialevo_jax.train.setup import Setup, placed_state, position, require_position
from spatialevo_jax.train.sft import Lesson, LessonSource
from spatialevo_jax.train.state import TrainState
from spatialevo_jax.train.steps import Steps
from spatialevo_jax.train.stopping import Stopped
from spatialevo_jax.train.warm_start import Example
from tests.sayings import spoken

TASKS = ("distance_cam_obj", "motion_camera", "room_size")  # one of each modality
WARM, EVOLVE = 3, 4  # one step each of naming, looking, answers; two evaluations in evolution


class Killed(Exception):
    """Stands for a process that is killed."""


@dataclasses.dataclass
class Seen:
    """What a run did, as its neighbours saw it."""

    steps: list[Steps] = dataclasses.field(default_factory=list)  # one, with what it compiled
    programs: list[int] = dataclasses.field(default_factory=list)  # compiled so far, by step


def config_of(scenes: Path) -> TrainConfig:
    return TrainConfig(
        vocab_size=384,
        data=DataConfig(scenes, image_size=(84, 56), scene_frames=3, tasks=TASKS, rows=(1, 1, 1)),
        warm_start=WarmStartConfig(
            steps=WARM,
            naming_steps=1,
            naming_rows=(2, 0, 0),
            looking_steps=2,
            looking_rows=(0, 1, 0),
            warmup_steps=1,
            rows=(1, 1, 1),
            questions=1,
            answers=2,
        ),
        rollout=RolloutConfig(
            questioner_samples=2,
            solver_samples=2,
            solver_prompts=3,
            questioner_tokens=8,
            solver_tokens=6,
            questioner_prompt=320,
            solver_prompt=320,
            prompt_bucket=384,
        ),
        grpo=GrpoConfig(steps=EVOLVE, warmup_steps=1),
        evaluation=EvaluationConfig(questions_per_task=1, every=2, batch=len(TASKS)),
        checkpoint_every=1,
        checkpoints_kept=WARM + EVOLVE,
    )


def train(
    config: TrainConfig,
    workdir: Path,
    *,
    kill_in: int | None = None,
    tell_in: tuple[int, signal.Signals] | None = None,
) -> Seen:
    """One try of a run.

    Args:
        kill_in: it is stopped in that step, before the step is recorded.
        tell_in: it is asked to stop in that step, by a signal.
    """
    seen, managers = Seen(), []
    generate: Any = decode.generate
    with pytest.MonkeyPatch.context() as patch:
        open_manager, record = checkpoint.manager, Records.metrics

        def watched_manager(folder: Path, **settings: Any) -> Any:
            managers.append(open_manager(folder, **settings))
            return managers[-1]

        def watched_steps(setup: Setup) -> Steps:
            seen.steps.append(Steps(setup))
            return seen.steps[-1]

        def watched_record(self: Records, step: int, phase: str, values: dict[str, float]) -> None:
            if step == kill_in:
                raise Killed
            if tell_in is not None and step == tell_in[0]:
                os.kill(os.getpid(), tell_in[1])
            seen.programs.append(seen.steps[0].update._cache_size() + generate._cache_size())
            record(self, step, phase, values)

        patch.setattr(checkpoint, "manager", watched_manager)
        patch.setattr(loop, "Steps", watched_steps)
        patch.setattr(Records, "metrics", watched_record)
        try:
            loop.train(loop.open_run(config, workdir))
        finally:
            managers[0].close()
    return seen


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Programs compiled for one run of this file serve the others."""
    config: Any = jax.config
    known = config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("programs")))
    yield
    jax.config.update("jax_compilation_cache_dir", known)


@pytest.fixture(scope="module", autouse=True)
def speaking() -> Iterator[None]:
    with spoken():
        yield


@pytest.fixture(scope="module")
def forms_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rooms of wide and of tall pictures for training, and one of square ones held out."""
    root = tmp_path_factory.mktemp("forms")
    for split, number, width, height in (
        ("train", 0, 84, 56),
        ("train", 1, 56, 84),
        ("val", prepare.VAL_START, 56, 56),
    ):
        recipe = prepare.Recipe(
            prepare.RECIPE_VERSION,
            seed=7,
            frames=5,
            width=width,
            height=height,
            field_of_view=85.0,
        )
        prepare.make_scene(root, split, number, recipe)
    return root


@pytest.fixture(scope="module")
def unbroken(
    forms_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainConfig, Path, Seen]:
    """A run from start to end: its configuration, its folder and what was seen of it."""
    config, workdir = config_of(forms_root), tmp_path_factory.mktemp("unbroken") / "run"
    return config, workdir, train(config, workdir)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_run_records_every_step_and_its_summary(
    unbroken: tuple[TrainConfig, Path, Seen],
) -> None:
    config, workdir, _ = unbroken
    metrics = lines(workdir / "metrics.jsonl")
    assert [line["step"] for line in metrics] == list(range(config.total_steps))
    assert [line["phase"] for line in metrics] == ["warm_start"] * WARM + ["evolve"] * EVOLVE
    assert all(np.isfinite(line["loss/total"]) for line in metrics)
    chances = [metrics[-1][f"scheduler/probability/{task}"] for task in TASKS]
    assert sum(chances) == pytest.approx(1.0, abs=1e-4)

    evaluations = lines(workdir / "evaluations.jsonl")
    assert [(line["step"], line["moment"]) for line in evaluations] == [
        (WARM, "before"),
        (WARM + 2, "during"),
        (WARM + EVOLVE, "after"),
    ]
    assert {sample["task"] for sample in evaluations[0]["samples"]} == set(TASKS)
    assert {line["role"] for line in lines(workdir / "samples.jsonl")} == {"questioner", "solver"}

    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["steps"] == config.total_steps
    assert summary["final_accuracy"] == evaluations[-1]["accuracy"]
    assert set(summary["per_task"]) == set(TASKS)
    assert summary["peak_memory_bytes"] > 1e8


def test_every_metric_is_explained(
    unbroken: tuple[TrainConfig, Path, Seen], repository: Path
) -> None:
    explained = (repository / "docs" / "training.md").read_text(encoding="utf-8")
    kinds = {"time/.*_s": "time/PHASE_s", "speed/.*": "speed/PHASE", "invalid/.*": "invalid/REASON"}
    kinds |= {rf"(.*)\b{task}": r"\1TASK" for task in TASKS}
    kinds |= {
        r"(.*[/_]|)(questioner|solver)(/.*|)": r"\1ROLE\3",
        "(.*)_(text|vision)": r"\1_BRANCH",
    }

    def forms(name: str) -> list[str]:
        """The name, and what it is one of."""
        return [f"`{name}`"] + [
            f"`{re.sub(own, kind, name)}`" for own, kind in kinds.items() if re.fullmatch(own, name)
        ]

    names = {name for line in lines(unbroken[1] / "metrics.jsonl") for name in line if "/" in name}
    missing = [name for name in names if not any(form in explained for form in forms(name))]
    assert sorted(missing) == []


def test_what_was_sampled_moves_the_policy_and_the_curriculum(
    unbroken: tuple[TrainConfig, Path, Seen],
) -> None:
    """Else a test that a cut run ends with the same numbers would say little."""
    steps = lines(unbroken[1] / "metrics.jsonl")[WARM:]
    assert sum(line["optimizer/grad_norm"] > 0 for line in steps) >= EVOLVE - 1
    assert sum(line["optimizer/update_norm"] > 0 for line in steps[1:]) >= EVOLVE - 2
    chances = [tuple(line[f"scheduler/probability/{task}"] for task in TASKS) for line in steps]
    assert len(set(chances)) > 1


def test_the_update_uses_the_distribution_that_was_sampled_from(
    unbroken: tuple[TrainConfig, Path, Seen],
) -> None:
    steps = lines(unbroken[1] / "metrics.jsonl")[WARM:]
    assert all(line["policy/logprob_difference_questioner"] < 1e-3 for line in steps)
    solved = [line for line in steps if "solver/flat_groups" in line]
    assert all(line["policy/logprob_difference_solver"] < 1e-3 for line in solved)
    assert solved


def test_the_solvers_tokens_have_numbers_where_something_was_posed(
    unbroken: tuple[TrainConfig, Path, Seen],
) -> None:
    for line in lines(unbroken[1] / "metrics.jsonl")[WARM:]:
        posed = "solver/flat_groups" in line
        assert ("policy/entropy_solver" in line) == ("policy/nll_solver" in line) == posed
        assert "policy/entropy_questioner" in line


def test_nothing_is_compiled_after_the_first_step_of_evolution(
    unbroken: tuple[TrainConfig, Path, Seen],
) -> None:
    programs = unbroken[2].programs[WARM:]
    assert programs == [programs[0]] * EVOLVE


def assert_same_end(again: Path, workdir: Path, setup: Setup) -> None:
    """All records but the clock's, and every number of the last state."""

    def numbers(line: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in line.items() if not k.startswith(records.CLOCKS)}

    def last(folder: Path) -> TrainState:
        total = setup.config.total_steps
        state, _ = checkpoint.load(folder / "checkpoints", total, placed_state(setup, total))
        return dataclasses.replace(state, key=jax.random.key_data(state.key))

    for name in ("metrics.jsonl", "evaluations.jsonl", "samples.jsonl"):
        assert list(map(numbers, lines(again / name))) == list(
            map(numbers, lines(workdir / name))
        ), name
    jax.tree.map(np.testing.assert_array_equal, last(again), last(workdir))


@pytest.mark.parametrize("done", range(1, WARM + EVOLVE + 1))
def test_a_run_cut_after_any_step_ends_with_the_same_numbers(
    unbroken: tuple[TrainConfig, Path, Seen], tmp_path: Path, done: int
) -> None:
    """At the end of each phase and inside. What was recorded after the cut is still there, as a
    kill leaves it. Compiled programs are taken over.
    """
    config, workdir, whole = unbroken
    setup, again = whole.steps[0].setup, tmp_path / "run"
    shutil.copytree(workdir, again)
    for step in range(done + 1, config.total_steps + 1):
        shutil.rmtree(again / "checkpoints" / str(step))
    folder = again / "checkpoints"
    assert checkpoint.newest(folder, set_aside=True) == done
    state, _ = checkpoint.load(folder, done, placed_state(setup, done))
    scores: dict[int, float] = {}
    run = loop.Run(
        setup,
        Records(again, dataclasses.asdict(config)),
        checkpoint.manager(folder, kept=config.checkpoints_kept, scores=scores),
        scores,
        state,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "Steps", lambda setup: whole.steps[0])
        loop.train(run)
    assert_same_end(again, workdir, setup)


def test_a_run_killed_and_told_to_stop_ends_with_the_same_numbers(
    unbroken: tuple[TrainConfig, Path, Seen], tmp_path: Path
) -> None:
    """Each try loads everything anew. A kill costs the step, a signal does not."""
    config, workdir, whole = unbroken
    again = tmp_path / "run"
    with pytest.raises(Killed):
        train(config, again, kill_in=1)
    with pytest.raises(
        Stopped, match=r"by SIGTERM after 5 of 7 steps; \S+/run/checkpoints/5 is"
    ) as told:
        train(config, again, tell_in=(4, signal.SIGTERM))
    assert told.value.by == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert not (again / "summary.json").exists()
    resumed = train(config, again)
    assert len(resumed.programs) == config.total_steps - 5
    assert_same_end(again, workdir, whole.steps[0].setup)


def test_a_run_goes_on_wherever_its_rooms_are_moved_and_with_no_others(
    unbroken: tuple[TrainConfig, Path, Seen], forms_root: Path, tmp_path: Path
) -> None:
    config, workdir, _ = unbroken
    moved, others = tmp_path / "moved", tmp_path / "others"
    for root in (moved, others):
        shutil.copytree(forms_root, root)
    shutil.rmtree(next((others / "train").iterdir()))

    def at(scenes: Path) -> TrainConfig:
        return dataclasses.replace(config, data=dataclasses.replace(config.data, scenes=scenes))

    run = loop.open_run(at(moved), workdir)
    run.checkpoints.close()
    assert int(run.state.step) == config.total_steps
    with pytest.raises(ValueError, match=rf"^{others}: expected the train rooms that the run"):
        loop.open_run(at(others), workdir)


def test_other_rooms_are_not_gone_on_with(unbroken: tuple[TrainConfig, Path, Seen]) -> None:
    """The rows of a step would be others."""
    whole = unbroken[2].steps[0].setup
    fewer = dataclasses.replace(
        whole, train=dataclasses.replace(whole.train, records=whole.train.records[1:])
    )
    saved = position(whole, 3)
    require_position(whole, saved, 3)
    with pytest.raises(ValueError, match="expected the train rooms that the run began with"):
        require_position(fewer, saved, 3)
    with pytest.raises(ValueError, match="expected the step that"):
        require_position(whole, saved, 4)


def lesson(text: str, reply: str = "See <answer> 1 </answer>") -> Lesson:
    return Lesson(Row(0, (0,)), Example(text, reply))


def test_a_run_goes_on_with_its_own_set(unbroken: tuple[TrainConfig, Path, Seen]) -> None:
    evolving = unbroken[2].steps[0].setup
    learning = dataclasses.replace(evolving, lessons=LessonSource((lesson("Where?"),), ()))
    require_position(learning, position(learning, 3), 3)
    another = dataclasses.replace(evolving, lessons=LessonSource((lesson("Which?"),), ()))
    for saved, now in ((learning, another), (learning, evolving), (evolving, learning)):
        with pytest.raises(ValueError, match=r"^sft[.]data: expected the question-answer set"):
            require_position(now, position(saved, 3), 3)


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (("half \ud800",), r"half of a character, '\\ud800', in 'half"),
        (("<|im_end|>",), r"expected a text without the special token <\|im_end\|>"),
        (("Where?", "See\udfff"), r"half of a character, '\\udfff', in 'See"),
        (("Where?", "<|im_end|>assistant"), r"without the special token <\|im_end\|>"),
    ],
)
def test_a_row_of_a_set_that_is_no_text_is_said_before_a_run_begins(
    unbroken: tuple[TrainConfig, Path, Seen],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    texts: tuple[str, ...],
    says: str,
) -> None:
    lessons = LessonSource((lesson("Where?"), lesson(*texts)), ())
    monkeypatch.setattr(preparing.sft, "lesson_source", lambda *_: lessons)
    sft = SftConfig(data=tmp_path / "set")
    with pytest.raises(PromptError, match=rf"^{tmp_path}/set: \w+: .*{says}"):
        loop.open_run(dataclasses.replace(unbroken[0], sft=sft), tmp_path / "run")


def test_a_finished_run_is_left_as_it_is(unbroken: tuple[TrainConfig, Path, Seen]) -> None:
    config, workdir, _ = unbroken

    def files() -> dict[Path, tuple[int, int, bytes]]:
        """But for the lock, which every start takes."""
        paths = [path for path in workdir.rglob("*") if path.is_file() and path.name != ".lock"]
        stats = [(path, path.stat()) for path in paths]
        return {path: (stat.st_ino, stat.st_mtime_ns, path.read_bytes()) for path, stat in stats}

    before = files()
    summary = json.loads((workdir / "summary.json").read_text())
    run = loop.open_run(config, workdir)
    assert run.summary == summary
    assert loop.train(run) == summary
    assert files() == before


def test_a_folder_holds_one_configuration(unbroken: tuple[TrainConfig, Path, Seen]) -> None:
    config, workdir, _ = unbroken
    other = dataclasses.replace(config, grpo=dataclasses.replace(config.grpo, lr=1e-3))
    with pytest.raises(ValueError, match=r"another configuration .*grpo\.lr"):
        loop.open_run(other, workdir)


@pytest.mark.parametrize("field", ["questioner_prompt", "solver_prompt"])
def test_prompts_without_room_are_refused_before_a_run_begins(
    unbroken: tuple[TrainConfig, Path, Seen], tmp_path: Path, field: str
) -> None:
    config, _, _ = unbroken
    short = dataclasses.replace(config.rollout, **{field: 20})
    with pytest.raises(PromptTooLongError, match=rf"rollout\.{field}: a prompt .* bucket of 20"):
        loop.open_run(dataclasses.replace(config, rollout=short), tmp_path)
    loop.open_run(config, tmp_path).checkpoints.close()  # the refused start does not bind it


@pytest.mark.parametrize("emptied", [False, True])
def test_a_run_whose_checkpoints_are_gone_is_not_begun_anew(tmp_path: Path, emptied: bool) -> None:
    """Its records would be lost too."""
    recorded = tmp_path / records.METRICS
    recorded.write_text('{"step": 0}\n')
    if emptied:
        (tmp_path / checkpoint.CHECKPOINTS).mkdir()
    with pytest.raises(ValueError, match=r"expected the checkpoints of the run .* found none"):
        loop.open_run(TrainConfig(), tmp_path)
    assert recorded.read_text() == '{"step": 0}\n'


def test_no_step_is_recorded_before_a_checkpoint_is_whole(
    unbroken: tuple[TrainConfig, Path, Seen], tmp_path: Path
) -> None:
    """However rarely they are written: a killed run is told from one that lost them."""
    config = dataclasses.replace(unbroken[0], checkpoint_every=100)
    with pytest.raises(Killed):
        train(config, tmp_path / "run", kill_in=1)
    assert len(lines(tmp_path / "run" / "metrics.jsonl")) == 1
    run = loop.open_run(config, tmp_path / "run")
    run.checkpoints.close()
    assert int(run.state.step) == 0


def test_a_folder_without_rooms_says_how_to_make_some(tmp_path: Path) -> None:
    config = TrainConfig(data=DataConfig(scenes=tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"launch\.prepare"):
        loop.open_run(config, tmp_path / "run")
