r"""What a run needs of machines that are not here: bytes, arithmetic, and whether it fits.

python -m launch.plan --config=configs/spatialevo_3b.py --topology=v5p:4x4x4
python -m launch.plan --config=configs/spatialevo_3b.py --topology=v5e:4x4,v6e:2x4,h100:8 \
    --out=plan.jsonl
python -m launch.plan --config=configs/spatialevo_7b.py --smallest=v5e,v5p,v6e

Compiles the rollouts and the update of the run for TPUs on a machine without any, minutes for each
topology: `pip install -c constraints.txt '.[tpu]'` brings the compiler. docs/plan.md tells what is
compiled and what is counted. --smallest tries the slices of a kind of chip from the smallest on.
"""

import dataclasses
import json
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

# To compile is all that libtpu is asked for. Without these it looks for TPUs, waits, and refuses to
# be loaded by two processes at a time.
COMPILE_ONLY = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
}
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.update({name: os.environ.get(name, value) for name, value in COMPILE_ONLY.items()})

import jax  # noqa: E402
from absl import flags, logging  # noqa: E402
from tqdm import tqdm  # noqa: E402

from launch.errors import UserError, run, user_errors, writable  # noqa: E402
from launch.flags import define_config  # noqa: E402
from spatialevo_jax import plan  # noqa: E402
from spatialevo_jax.config import TrainConfig  # noqa: E402
from spatialevo_jax.models.qwen2_5_vl import model as qwen  # noqa: E402
from spatialevo_jax.models.qwen2_5_vl.config import ModelConfig  # noqa: E402

GIB = 2**30
FITS = {True: "yes", False: "no", None: "perhaps"}

_CONFIG = define_config(TrainConfig)
_TOPOLOGY = flags.DEFINE_list(
    "topology", [], "Machines, such as v5e:4x4, v5p:2x2x2 or h100:8.", allow_override=True
)
_SMALLEST = flags.DEFINE_list(
    "smallest",
    [],
    f"Kinds of chip ({', '.join(plan.SLICES)}): of each, slices until one fits.",
    allow_override=True,
)
_SIZE = flags.DEFINE_string(
    "size", None, "The model's size, where its name does not say it.", allow_override=True
)
_COMPILE = flags.DEFINE_bool(
    "compile",
    True,
    "--nocompile counts only what needs no compiler, in seconds.",
    allow_override=True,
)
_OUT = flags.DEFINE_string(
    "out", None, "A file for the plans as JSON, one on a line.", allow_override=True
)


def main(argv: Sequence[str]) -> None:
    config = _CONFIG.load()
    logging.set_verbosity(logging.WARNING)  # optax tells of schedules that stay where they are
    if config.sft.data is not None:
        raise UserError("sft.data: expected none; what is planned are steps of self-evolution.")
    unknown = [kind for kind in _SMALLEST.value if kind not in plan.SLICES]
    if unknown:
        known = ", ".join(plan.SLICES)
        raise UserError(f"--smallest: expected some of {known}; got {', '.join(unknown)}.")
    if not _TOPOLOGY.value and not _SMALLEST.value:
        raise UserError("expected --topology=v5e:4x4 or the like, or --smallest=v5e.")
    with user_errors(ValueError):
        model = plan.model_of(config, _SIZE.value)
        asked = [plan.described(name) for name in _TOPOLOGY.value]
    made: list[plan.Plan] = []
    refused: list[str] = []
    out = writable(_OUT.value)  # said now, not after minutes of compiling
    with tqdm(desc="plan", unit=" programs", disable=None) as bar:
        for one in (*_asked(config, model, asked, bar), *_searched(config, model, bar)):
            if isinstance(one, str):
                refused.append(one)
            else:
                made.append(one)
    print(described(config, model, made))
    for sentence in refused:
        print(f"\n{sentence}")
    if out is not None and made:
        with user_errors(OSError):
            out.write_text("".join(json.dumps(record(one)) + "\n" for one in made))
    if not made:
        raise UserError("none of these machines can be planned for.")


def _made(
    config: TrainConfig, model: ModelConfig, machine: plan.Machine, bar: Any
) -> plan.Plan | str:
    """The plan, or why there is none."""

    def progress(name: str) -> None:
        bar.set_description(f"{machine.name}: {name}")
        bar.update()

    try:
        return plan.make_plan(config, model, machine, progress, compiled=_COMPILE.value)
    except plan.NoMeshError as error:
        return str(error)


def _asked(
    config: TrainConfig, model: ModelConfig, machines: Sequence[plan.Machine], bar: Any
) -> Iterator[plan.Plan | str]:
    made: list[plan.Plan] = []
    for machine in machines:
        known = (one.on(config, model, machine) for one in made)
        one = next(filter(None, known), None) or _made(config, model, machine, bar)
        if isinstance(one, plan.Plan):
            made.append(one)
        yield one


def _searched(config: TrainConfig, model: ModelConfig, bar: Any) -> Iterator[plan.Plan | str]:
    """Of each kind the slices from the smallest on, until one fits. Those that can't even hold the
    state are not compiled for.
    """
    for kind in _SMALLEST.value:
        for size in plan.SLICES[kind]:
            with user_errors(ValueError):
                machine = plan.described(f"{kind}:{size}")
            if plan.least_bytes(config, model, machine) > machine.chip.memory:
                continue
            one = _made(config, model, machine, bar)
            yield one
            if isinstance(one, plan.Plan) and one.fits is not False:
                break
        else:
            yield f"{kind}: none of {', '.join(plan.SLICES[kind])} fits."


def record(one: plan.Plan) -> dict[str, Any]:
    """A plan as JSON: its fields, and what follows from them."""
    return dataclasses.asdict(one) | {
        "state_bytes": one.memory.state,
        "rollout_bytes": one.rollout_bytes,
        "update_bytes": one.update_bytes,
        "fits": one.fits,
    }


def _updates(config: TrainConfig) -> str:
    grpo = config.grpo
    if grpo.two_pass:
        parts = config.rollout.solver_prompts // grpo.two_pass
        said = f"an update of the Questioner and {parts} of {grpo.two_pass} questions"
    else:
        said = "one update of both roles"
    return said + (f", in {grpo.micro_batches} micro-batches" if grpo.micro_batches > 1 else "")


def described(config: TrainConfig, model: ModelConfig, plans: Sequence[plan.Plan]) -> str:
    """Two Markdown tables: memory, then work and time."""
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(qwen.abstract_params(model)))
    rollout, (width, height) = config.rollout, config.data.image_size
    images = sum(
        rows * shown
        for rows, shown in zip(config.data.rows, (1, 2, config.data.scene_frames), strict=True)
    )
    lines = [
        f"{count / 1e9:.2f} B parameters. A step: {sum(config.data.rows)} rows with {images} "
        f"images of {width} x {height} pixels; prompts of "
        f"{rollout.questioner_prompt:,} and {rollout.solver_prompt:,} tokens; "
        f"{rollout.questioner_samples} questions of {rollout.questioner_tokens:,} tokens for each "
        f"row, {rollout.solver_samples} answers of {rollout.solver_tokens:,} tokens for each of "
        f"{rollout.solver_prompts} questions; {_updates(config)}.",
        "",
        "GiB of each chip:",
        "",
        "| machine | chips, hosts | mesh | params | moments | reference | gradients | cache "
        "| copy | rollout | update | of | fits |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for one in plans:
        memory = one.memory
        cells = [
            memory.params,
            memory.optimizer,
            memory.reference,
            memory.gradients,
            memory.prefix_cache + memory.reply_cache,
            memory.copy,
            one.rollout_bytes,
            one.update_bytes,
            one.limit,
        ]
        numbers = " | ".join(f"{cell / GIB:.2f}" for cell in cells)
        axes = " x ".join(f"{name} {size}" for name, size in one.mesh.items() if size > 1)
        name = one.machine
        if one.compiled_for != name:
            name += f" (as {one.compiled_for})"
        lines.append(
            f"| {name} | {one.chips}, {one.hosts} | {axes or 'one'} | {numbers} "
            f"| {FITS[one.fits]} |"
        )
    lines += [
        "",
        "params, moments, reference, gradients, cache (keys and values of the Solver's rollout), "
        "copy (of the decoder, for rollouts) are counted; rollout and update are all that a chip "
        "holds then, by the compiler, the state included. Perhaps: nothing was compiled, and what "
        "is counted fits.",
        "",
        "Arithmetic of a step, the least time for it, and what compiling took here:",
        "",
        "| machine | rollout PFLOP | update PFLOP | rollout s, at least | update s, at least | "
        "compiled in s | GiB here |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in plans:
        work = one.work
        seconds = sum(program.seconds for program in (*one.rollouts, *one.updates))
        lines.append(
            f"| {one.machine} | {work.rollout_flops / 1e15:.2f} | {work.update_flops / 1e15:.2f} "
            f"| {work.rollout_seconds:.1f} | {work.update_seconds:.1f} | {seconds:.0f} "
            f"| {one.host_peak / GIB:.1f} |"
        )
    lines += [
        "",
        "Least times are bounds from peaks of arithmetic, memory and network, with all replies at "
        "full length. No run reaches them; they predict nothing.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
