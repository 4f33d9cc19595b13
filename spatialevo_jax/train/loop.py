"""A run from start to end. All side effects of training are here: files, clocks, logs, the progress
bar.

    warm start   supervised steps on generated conversations, in place of a pretrained base model
    evolution    Questioner -> oracle -> Solver -> rewards -> joint GRPO update, with held-out
    scores on the way; or, with `sft.data`, supervised steps on a question-answer set in its place

Everything that changes is in the train state, and everything drawn is a function of (seed, step): a
run that is killed goes on from its last checkpoint and ends with the same numbers.
"""

import contextlib
import dataclasses
import resource
import sys
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from tqdm import tqdm

from spatialevo_jax import hosts, sharding
from spatialevo_jax.config import TrainConfig
from spatialevo_jax.train import alarms, checkpoint
from spatialevo_jax.train.checkpoint import CHECKPOINTS
from spatialevo_jax.train.records import METRICS, Records, forget_refused_start
from spatialevo_jax.train.setup import (
    Setup,
    placed_state,
    position,
    prepare,
    require_position,
)
from spatialevo_jax.train.state import TrainState, begin_evolution, init_state
from spatialevo_jax.train.steps import Steps
from spatialevo_jax.train.stopping import Asked, Stopped, stop_requests


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that is ready to begin or to go on."""

    setup: Setup
    records: Records
    checkpoints: ocp.CheckpointManager
    scores: dict[int, float]  # held-out accuracies by the step of their state, of what is kept
    state: TrainState
    summary: dict[str, Any] | None = None  # of a run that is finished: there is nothing to do


def open_run(config: TrainConfig, workdir: Path, *, tensorboard: bool = False) -> Run:
    """Loads all that the run of `workdir` needs, and its latest whole state where there is one.

    Raises:
        ModuleNotFoundError: see `Records`.
        FileNotFoundError: no rooms. ValueError: the folder holds a run of another configuration or
            of other rooms, or one without any whole checkpoint, or scene files or a summary are of
            the wrong form.
    """
    if jax.process_index() == 0:
        forget_refused_start(workdir)
    hosts.wait_for_all("forgotten")
    records = Records(
        workdir,
        dataclasses.asdict(config),
        writer=jax.process_index() == 0,
        tensorboard=tensorboard,
    )
    folder = workdir / CHECKPOINTS
    saved = checkpoint.newest(folder, set_aside=True)
    # One is whole before the first step: where there are steps and none, they were lost.
    if saved is None and (workdir / METRICS).is_file():
        raise ValueError(
            f"{folder}: expected the checkpoints of the run that {METRICS} beside it tells of, "
            "found none; bring them back, or choose another --workdir to begin anew."
        )
    setup, params = prepare(config, workdir, saved or 0)
    if saved is None:
        state = sharding.init_sharded(
            lambda params: init_state(config, params, setup.scheduler),
            setup.policy.config,
            setup.mesh,
            params,
        )
    else:
        del params  # there may not be room for them and the saved ones
        # The two phases have optimizers of different form: the checkpoint's step tells which.
        state, rows = checkpoint.load(folder, saved, placed_state(setup, saved))
        require_position(setup, rows, saved)
    scores: dict[int, float] = {}
    checkpoints = checkpoint.manager(folder, kept=config.checkpoints_kept, scores=scores)
    summary = records.known_summary() if saved == config.total_steps else None
    return Run(setup, records, checkpoints, scores, state, summary)


def train(run: Run) -> dict[str, Any]:
    """Trains to the end; returns the summary that it also writes. A finished run is left as it is.

    Raises:
        FloatingPointError: updates have not been finite for `max_skipped` steps in a row.
        Stopped: a signal asked for it. OSError: a record or a checkpoint could not be written.
        PictureError: a held-out picture is gone, or so many others that no row can be shown.
        PromptError: a prompt, other than those that were tried before, has no room or is no text.
    """
    with (
        stop_requests() as asked,
        contextlib.closing(Steps(run.setup)) as steps,
        contextlib.closing(run.records),
    ):
        state = _updates(run, steps, asked)
    run.checkpoints.close()
    if run.summary is not None:
        return run.summary
    config = run.setup.config
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )
    return run.records.summary(int(state.step), peak, config.seed, config.reward)


def _updates(run: Run, steps: Steps, asked: Asked) -> TrainState:
    """All updates that are still to be done, with scores and checkpoints between them."""
    setup, records, checkpoints, state = run.setup, run.records, run.checkpoints, run.state
    config = setup.config
    first, total, warm = int(state.step), config.total_steps, config.warm_start.steps
    records.resume(first)
    hosts.wait_for_all("records")
    run.scores.update(records.scores())
    bar = tqdm(total=total, initial=first, desc="train", unit="step", disable=None, smoothing=0.05)
    accuracy, skipped = records.last_accuracy(), records.skipped()
    window = alarms.replay(records.history("evolve"), config.alarms)
    second, second_phase = ("evolve", steps.evolve)
    if setup.lessons is not None:
        second, second_phase = ("sft", steps.imitate)
    for number in range(first, total + 1):
        # Here `number` updates are done.
        stop, due = asked(number), number == 0  # see `open_run`
        for moment in moments(config, number):
            if stop is None and not records.evaluated(number, moment):
                accuracy = run.scores[number] = steps.evaluate(state, moment, records)
                due = True
        due |= number > first and (number % config.checkpoint_every == 0 or number in (warm, total))
        if due or stop is not None:
            checkpoint.save(checkpoints, state, position(setup, number))
        if number == 0 or stop is not None:
            checkpoint.finish(checkpoints)
        if stop is not None:
            bar.close()
            raise Stopped(stop, number, total, Path(checkpoints.directory) / str(number))
        if number == total:
            break
        evolving = number >= warm
        phase = second_phase if evolving else steps.supervise
        state, metrics = phase(state, number, records)
        records.metrics(number, second if evolving else "warm_start", metrics)
        if second == "evolve" and evolving:
            window, raised = alarms.observe(window, metrics, accuracy, config.alarms)
            for alarm in raised:
                if records.writer:
                    tqdm.write(f"step {number}: {alarm.sentence}", file=sys.stderr)
                records.alarm(number, alarm.name, alarm.sentence)
        skipped = skipped + 1 if metrics["optimizer/skipped"] else 0
        if skipped == config.max_skipped:
            raise FloatingPointError(
                f"step {number}: expected finite updates, left some out in each of the last "
                f"{skipped} steps; the last loss is {metrics['loss/total']}, the last norm of the "
                f"gradient {metrics['optimizer/grad_norm']}. A smaller rate may help."
            )
        if number + 1 == warm:
            state = sharding.init_sharded(
                lambda state: begin_evolution(config, state),
                setup.policy.config,
                setup.mesh,
                state,
            )
        bar.update()
        shown = {"loss": f"{metrics['loss/total']:.3f}"}
        if accuracy is not None:
            shown = {"held_out": f"{accuracy:.1%}"}
            shown["sampled"] = f"{metrics.get('accuracy/sampled', 0.0):.1%}"
        bar.set_postfix(shown)
    bar.close()
    checkpoint.finish(checkpoints)
    return state


def moments(config: TrainConfig, step: int) -> tuple[str, ...]:
    """Which held-out scores are taken of the state after `step` updates."""
    since = step - config.warm_start.steps
    during = 0 < since < config.grpo.steps and since % config.evaluation.every == 0
    due = {"before": since == 0, "during": during, "after": step == config.total_steps}
    return tuple(moment for moment, taken in due.items() if taken)
