"""Every alarm: what raises it, what does not, and that it is said once."""

import dataclasses
from collections.abc import Iterable, Mapping

import pytest

from spatialevo_jax.config import AlarmConfig
from spatialevo_jax.train import alarms
from spatialevo_jax.train.alarms import Window

# Short windows: the same rules, fewer steps.
CONFIG = AlarmConfig(
    invalid_steps=3,
    flat_steps=3,
    unfinished_steps=3,
    unreadable_steps=3,
    entropy_steps=3,
    most_skipped=2,
    skipped_steps=4,
    idle_steps=3,
)
HEALTHY = {
    "questioner/valid": 0.6,
    "questioner/flat_groups": 0.5,
    "solver/flat_groups": 1.0,
    "questioner/grounding_of_nothing": 0.0,
    "optimizer/skipped": 0.0,
    "scheduler/probability/room_size": 0.05,
    "questions/room_size": 1.0,
} | {
    f"{name}_{role}": value
    for role in ("questioner", "solver")
    for name, value in {
        "policy/logprob_difference": 0.3,
        "policy/logprob_difference_mean": 0.01,
        "policy/entropy": 0.4,
        "rollout/unfinished": 0.2,
    }.items()
}
HEALTHY |= {"questioner/unreadable": 0.5, "solver/unreadable": 0.5}


def told(
    steps: Iterable[Mapping[str, float]],
    accuracies: Iterable[float | None] | None = None,
    config: AlarmConfig = CONFIG,
) -> list[tuple[int, str]]:
    """The step and name of each alarm of a run."""
    window, found, steps = Window(), [], list(steps)
    for step, (values, accuracy) in enumerate(
        zip(steps, accuracies or [None] * len(steps), strict=True)
    ):
        window, raised = alarms.observe(window, values, accuracy, config)
        found += [(step, alarm.name) for alarm in raised]
    return found


def healthy_but(**changes: float) -> dict[str, float]:
    return HEALTHY | {name.replace("__", "/"): value for name, value in changes.items()}


def test_a_healthy_run_is_quiet() -> None:
    assert told([HEALTHY] * 10, [None, 0.5, 0.6, 0.58, 0.6, 0.61, 0.57, 0.6, 0.6, 0.6]) == []


# What a bad step says, after how many of them in a row it is told, and as what.
LASTING = {
    "validity": ({"questioner__valid": 0.09}, 3),
    "flat": ({"questioner__flat_groups": 1.0}, 3),
    "unfinished_questioner": ({"rollout__unfinished_questioner": 0.51}, 3),
    "unfinished_solver": ({"rollout__unfinished_solver": 0.51}, 3),
    "unreadable_questioner": ({"questioner__unreadable": 0.95}, 3),
    "unreadable_solver": ({"solver__unreadable": 0.95}, 3),
    "entropy_questioner": ({"policy__entropy_questioner": 0.001}, 3),
    "entropy_solver": ({"policy__entropy_solver": 0.001}, 3),
    "idle_room_size": ({"questions__room_size": 0.0}, 3),
    "skipped": ({"optimizer__skipped": 1.0}, 2),
    "drift_questioner": ({"policy__logprob_difference_questioner": 1.1}, 1),
    "drift_solver": ({"policy__logprob_difference_mean_solver": 0.06}, 1),
    "grounding": ({"questioner__grounding_of_nothing": 1.0}, 1),
}


@pytest.mark.parametrize("name", LASTING)
def test_what_lasts_is_told_once_and_again_after_it_was_gone(name: str) -> None:
    changes, steps = LASTING[name]
    bad = healthy_but(**changes)
    assert told([HEALTHY, *[bad] * (steps - 1), HEALTHY]) == []
    assert told([HEALTHY, *[bad] * (steps + 5)]) == [(steps, name)]
    gone = [HEALTHY] * CONFIG.skipped_steps
    again = [*[bad] * (steps + 1), *gone, *[bad] * (steps + 1)]
    assert told(again) == [(steps - 1, name), (2 * steps + len(gone), name)]


def test_a_solver_that_is_posed_nothing_has_no_groups_that_differ() -> None:
    bad = healthy_but(questioner__flat_groups=1.0)
    nothing = {name: x for name, x in bad.items() if name != "solver/flat_groups"}
    assert told([nothing] * 5) == [(CONFIG.flat_steps - 1, "flat")]


def test_a_task_without_a_chance_is_not_missed() -> None:
    elsewhere = {k: v for k, v in HEALTHY.items() if not k.endswith("room_size")}
    assert told([elsewhere] * 6) == []


def test_a_number_that_is_none_is_an_alarm() -> None:
    bad = healthy_but(policy__logprob_difference_mean_solver=float("nan"))
    assert told([bad]) == [(0, "drift_solver")]


def test_a_fall_of_the_held_out_accuracy_is_told() -> None:
    scores = [0.5, 0.6, 0.56, 0.54, 0.54, 0.58, 0.5, 0.62]
    assert told([HEALTHY] * len(scores), scores) == [(3, "held_out"), (6, "held_out")]


def test_sentences_have_the_numbers() -> None:
    bad = healthy_but(policy__logprob_difference_solver=1.25)
    _, (alarm,) = alarms.observe(Window(), bad, None, CONFIG)
    assert alarm.sentence == (
        "Log-probabilities of the Solver's tokens differ between sampling and update by 0.01 on "
        "average and 1.25 at most: the two no longer compute one policy."
    )
    _, (alarm,) = alarms.observe(Window(best=0.6), HEALTHY, 0.5, CONFIG)
    assert alarm.sentence.startswith("The held-out accuracy fell to 50.0%, from 60.0% at its best")


def test_a_run_that_goes_on_does_not_tell_again() -> None:
    bad = healthy_but(questioner__valid=0.01)
    steps = [(HEALTHY, 0.7), *[(bad, 0.6)] * 4]
    window = alarms.replay(steps, CONFIG)
    assert window.raised == {"validity", "held_out"}
    assert window.best == 0.7
    assert alarms.observe(window, bad, 0.6, CONFIG)[1] == ()


def test_the_window_holds_what_the_longest_rule_needs_and_no_more() -> None:
    config = AlarmConfig()
    assert alarms.longest(config) == config.idle_steps
    window = alarms.replay([(HEALTHY, None)] * 80, config)
    assert len(window.rows) == config.idle_steps


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(AlarmConfig)])
def test_thresholds_are_positive(field: str) -> None:
    with pytest.raises(ValueError, match=rf"alarms\.{field}: expected > 0"):
        AlarmConfig(**{field: 0})
