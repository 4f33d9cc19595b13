"""A run from start to end. All side effects of training are here: files, clocks, logs, the progress
bar.

    warm start   supervised steps on generated conversations, in place of a pretrained base model
    evolution    Questioner -> oracle -> Solver -> rewards -> joint GRPO update, with held-out
    scores on the way; or, with `sft.data`, supervised steps on a question-answer set in its place

Everything that changes is in the train state, and everything drawn is a function of (seed, step): a
run that is killed goes on from its last checkpoint and ends with the same numbers.
"""

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
from spatialevo_jax.train import checkpoint
from spatialevo_jax.train.records import Records
from spatialevo_jax.train.setup import Setup, prepare
from spatialevo_jax.train.state import TrainState, begin_evolution, init_state
from spatialevo_jax.train.steps import Steps


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that is ready to begin or to go on."""

    setup: Setup
    records: Records
    checkpoints: ocp.CheckpointManager
    state: TrainState


def open_run(config: TrainConfig, workdir: Path) -> Run:
    """Loads all that the run of `workdir` needs, and its latest state where there is one.

    Raises:
        FileNotFoundError: no rooms. ValueError: the folder holds a run of another configuration, or
            scene files are of the wrong form.
    """
    records = Records(workdir, dataclasses.asdict(config), writer=jax.process_index() == 0)
    setup, params = prepare(config, workdir)
    checkpoints = checkpoint.manager(workdir / "checkpoints", kept=config.checkpoints_kept)
    # The two phases have optimizers of different form: the checkpoint's step tells which.
    saved = checkpoints.latest_step() or 0
    fresh = sharding.born(
        lambda params: init_state(config, params, setup.scheduler, step=saved),
        setup.policy.config,
        setup.mesh,
        params,
    )
    restored = checkpoint.restore(checkpoints, fresh)
    return Run(setup, records, checkpoints, fresh if restored is None else restored)


def train(run: Run) -> dict[str, Any]:
    """Trains to the end; returns the summary that it also writes.

    Raises:
        FloatingPointError: updates have not been finite for `max_skipped` steps in a row.
    """
    setup, records, checkpoints, state = run.setup, run.records, run.checkpoints, run.state
    config = setup.config
    first = int(state.step)
    records.resume(first)
    hosts.wait_for_all("records")
    steps = Steps(setup)
    bar = tqdm(
        total=config.total_steps,
        initial=first,
        desc="train",
        unit="step",
        disable=None,
        smoothing=0.05,
    )
    accuracy, skipped = records.last_accuracy(), 0
    second, second_phase = ("evolve", steps.evolve)
    if setup.lessons is not None:
        second, second_phase = ("sft", steps.imitate)
    for number in range(first, config.total_steps):
        evolving = number >= config.warm_start.steps
        if number == config.warm_start.steps and not records.has_moment("before"):
            accuracy = steps.evaluate(state, "before", records)
        phase = second_phase if evolving else steps.supervise
        state, metrics = phase(state, number, records)
        records.metrics(number, second if evolving else "warm_start", metrics)
        skipped = skipped + 1 if metrics["optimizer/skipped"] else 0
        if skipped == config.max_skipped:
            raise FloatingPointError(
                f"step {number}: expected finite updates, had none in {skipped} steps; the last "
                f"loss is {metrics['loss/total']}, the last norm of the gradient "
                f"{metrics['optimizer/grad_norm']}. A smaller rate may help."
            )
        done = number + 1
        if done == config.warm_start.steps:
            state = sharding.born(
                lambda state: begin_evolution(config, state),
                setup.policy.config,
                setup.mesh,
                state,
            )
        since = done - config.warm_start.steps
        if evolving and since % config.evaluation.every == 0 and done < config.total_steps:
            accuracy = steps.evaluate(state, "during", records)
        if done % config.checkpoint_every == 0 or done == config.warm_start.steps:
            checkpoint.save(checkpoints, state)
        bar.update()
        shown = {"loss": f"{metrics['loss/total']:.3f}"}
        if accuracy is not None:
            shown = {"held_out": f"{accuracy:.1%}"}
            shown["sampled"] = f"{metrics.get('accuracy/sampled', 0.0):.1%}"
        bar.set_postfix(shown)
    bar.close()
    steps.close()
    if not records.has_moment("after"):
        steps.evaluate(state, "after", records)
    checkpoint.save(checkpoints, state)
    checkpoints.wait_until_finished()
    checkpoints.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )
    return records.summary(int(state.step), peak, config.seed, config.reward)
