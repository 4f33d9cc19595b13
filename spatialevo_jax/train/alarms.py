"""When a run goes wrong, it says so in a sentence. Pure: numbers of the last steps in, sentences
out; `config.AlarmConfig` holds every threshold with its reason.

An alarm is raised once, and again only after its cause was gone for a step.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping

from spatialevo_jax.config import AlarmConfig

Values = Mapping[str, float]  # the metrics of a step
ROLES = {"questioner": "Questioner", "solver": "Solver"}


@dataclasses.dataclass(frozen=True)
class Window:
    """What has to be remembered of earlier steps."""

    rows: tuple[Values, ...] = ()  # of the last steps of self-evolution, the latest last
    raised: frozenset[str] = frozenset()  # alarms whose cause was there at the latest step
    best: float | None = None  # held-out accuracy


@dataclasses.dataclass(frozen=True)
class Alarm:
    name: str  # of its cause
    sentence: str


def observe(
    window: Window, values: Values, accuracy: float | None, config: AlarmConfig
) -> tuple[Window, tuple[Alarm, ...]]:
    """One more step of self-evolution: the window after it, and the alarms that are new.

    Args:
        values: of the step, by name. accuracy: the latest held-out score, None before the first.
    """
    rows = (*window.rows, values)[-longest(config) :]
    known = [score for score in (window.best, accuracy) if score is not None]
    best = max(known, default=None)
    found = {alarm.name: alarm for alarm in _of_steps(rows, config)}
    if best is not None and accuracy is not None and best - accuracy > config.fall:
        sentence = (
            f"The held-out accuracy fell to {accuracy:.1%}, from {best:.1%} at its best: what is "
            "learnt in training no longer carries over."
        )
        found["held_out"] = Alarm("held_out", sentence)
    new = tuple(alarm for name, alarm in found.items() if name not in window.raised)
    return Window(rows, frozenset(found), best), new


def replay(steps: Iterable[tuple[Values, float | None]], config: AlarmConfig) -> Window:
    """The window after steps that were recorded, for a run that goes on."""
    window = Window()
    for values, accuracy in steps:
        window, _ = observe(window, values, accuracy, config)
    return window


def longest(config: AlarmConfig) -> int:
    """Steps that the window holds."""
    fields = (field.name for field in dataclasses.fields(config))
    return max(getattr(config, name) for name in fields if name.endswith("_steps"))


def _of_steps(rows: tuple[Values, ...], config: AlarmConfig) -> Iterable[Alarm]:
    def lasting(steps: int, name: str, holds: Callable[[float], bool]) -> bool:
        """Whether a number was such in each of the last steps."""
        last = rows[-steps:]
        return len(last) == steps and all(name in row and holds(row[name]) for row in last)

    latest = rows[-1]
    steps = config.invalid_steps
    if lasting(steps, "questioner/valid", lambda x: x < config.least_valid):
        yield Alarm(
            "validity",
            f"Fewer than {config.least_valid:.0%} of the questions were valid for {steps} steps: "
            f"the Questioner is lost, now at {latest['questioner/valid']:.1%}.",
        )
    steps = config.flat_steps
    # The Solver has no groups where nothing was posed, and then learns nothing either.
    posed = [row.get("solver/flat_groups", 1.0) for row in rows[-steps:]]
    if lasting(steps, "questioner/flat_groups", lambda x: x >= 1.0) and min(posed) >= 1.0:
        yield Alarm(
            "flat",
            f"All replies of every group earned the same for {steps} steps: nothing is learnt.",
        )
    for role, name in ROLES.items():
        yield from _of_role(role, name, latest, lasting, config)
    skipped = [row.get("optimizer/skipped", 0.0) > 0 for row in rows[-config.skipped_steps :]]
    if sum(skipped) >= config.most_skipped:
        yield Alarm(
            "skipped",
            f"In {sum(skipped)} of the last {len(skipped)} steps updates were left out, since the "
            "loss or its gradient was not finite.",
        )
    if latest.get("questioner/grounding_of_nothing", 0.0) > 0.0:
        yield Alarm(
            "grounding",
            "Replies without an observation were rewarded for it: the judge of observations is "
            "broken.",
        )
    steps = config.idle_steps
    prefix = "scheduler/probability/"
    tasks = [name.removeprefix(prefix) for name in latest if name.startswith(prefix)]
    for task in tasks if len(rows) >= steps else ():
        if not any(row.get(f"questions/{task}") for row in rows[-steps:]):
            yield Alarm(
                f"idle_{task}",
                f"No valid question of the task {task} was posed for {steps} steps: it is not "
                "practised.",
            )


def _of_role(
    role: str,
    name: str,
    latest: Values,
    lasting: Callable[[int, str, Callable[[float], bool]], bool],
    config: AlarmConfig,
) -> Iterable[Alarm]:
    mean, most = (
        latest.get(f"policy/logprob_difference{kind}_{role}", 0.0) for kind in ("_mean", "")
    )
    if not (mean <= config.mean_drift and most <= config.most_drift):  # NaN is an alarm too
        yield Alarm(
            f"drift_{role}",
            f"Log-probabilities of the {name}'s tokens differ between sampling and update by "
            f"{mean:.3g} on average and {most:.3g} at most: the two no longer compute one policy.",
        )
    steps, key = config.unfinished_steps, f"rollout/unfinished_{role}"
    if lasting(steps, key, lambda x: x > config.most_unfinished):
        yield Alarm(
            f"unfinished_{role}",
            f"{latest[key]:.0%} of the {name}'s replies hit the limit of their length, for "
            f"{steps} steps more than {config.most_unfinished:.0%}: they lose their answers.",
        )
    steps, key = config.unreadable_steps, f"{role}/unreadable"
    if lasting(steps, key, lambda x: x > config.most_unreadable):
        yield Alarm(
            f"unreadable_{role}",
            f"{latest[key]:.0%} of the {name}'s replies could not be read, for {steps} steps more "
            f"than {config.most_unreadable:.0%}: the form of replies is lost.",
        )
    steps, key = config.entropy_steps, f"policy/entropy_{role}"
    if lasting(steps, key, lambda x: x < config.least_entropy):
        yield Alarm(
            f"entropy_{role}",
            f"The entropy of the {name}'s tokens collapsed to {latest[key]:.2g} nats, for {steps} "
            f"steps below {config.least_entropy:g}: its samples no longer differ.",
        )
