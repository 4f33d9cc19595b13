"""Weights between a Hugging Face folder of Qwen2.5-VL and an orbax checkpoint.

    python -m launch.convert from-hf --source=Qwen2.5-VL-3B-Instruct --target=checkpoints/3b
    python -m launch.convert to-hf --source=checkpoints/3b --target=export/3b
    python -m launch.convert to-hf --source=runs/mine --target=export/mine

The checkpoint keeps each tensor's type, and under hf/ the configuration, tokenizer, processor and
generation files byte by byte: there and back gives the same folder. The target must not exist yet;
it appears when it is whole, or not at all. Of a training run that began from such a folder, to-hf
takes the latest checkpoint, merges its LoRA adapter if it has one, and rounds its parameters to the
types that they came with.
"""

import signal
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags
from tqdm import tqdm

from launch.errors import UserError, hush_orbax, run, user_errors
from spatialevo_jax.models.qwen2_5_vl import folders, weights
from spatialevo_jax.train import checkpoint

DIRECTIONS = ("from-hf", "to-hf")

_SOURCE = flags.DEFINE_string("source", None, "Folder to read.")
_TARGET = flags.DEFINE_string("target", None, "Folder to write; it must not exist.")


def _bar(total: int) -> folders.Progress:
    def progress(items: Iterable[Any]) -> Iterable[Any]:
        return tqdm(items, total=total, desc="convert", unit="parameter", disable=None)

    return progress


def _open_ours(source: Path) -> folders.OrbaxFolder:
    """A checkpoint of from-hf, or the latest one of a training run."""
    if not (source / "checkpoints").is_dir():
        return folders.open_orbax(source)
    if not (source / folders.COMPANIONS).is_dir():
        raise UserError(
            f"{source}: expected a run that began from a model folder; this one began from random "
            "weights and has no released form."
        )
    return folders.open_orbax(source, checkpoint.latest_folder(source), "params")


def convert(direction: str, source: Path, target: Path) -> str:
    """Converts one folder; returns what was done, in one line."""
    if direction == "from-hf":
        folder = folders.open_hf(source)
        folders.save_orbax(folder, target, _bar(len(weights.table(folder.config))))
        left_out = f"; left out: {', '.join(folder.left_out)}" if folder.left_out else ""
        kept = f", {len(folder.companions)} other files in {target / folders.COMPANIONS}"
        return f"{target}: {len(folder.tensors)} tensors{kept}{left_out}"
    copied = source / folders.COMPANIONS
    if target.resolve().is_relative_to(copied.resolve()):
        raise UserError(f"{target}: expected a target outside of {copied}, whose files are copied.")
    folder = _open_ours(source)
    folders.save_hf(folder, target, _bar(len(weights.table(folder.config))))
    written = len(list(target.glob("*.safetensors")))
    adapted = f"; merged an adapter of {len(folder.adapted)} kernels" if folder.adapted else ""
    others = len(list(target.iterdir())) - written
    return f"{target}: {written} safetensors files, {others} others{adapted}"


def main(argv: Sequence[str]) -> None:
    if len(argv) != 2 or argv[1] not in DIRECTIONS:
        got = " ".join(argv[1:]) or "nothing"
        raise UserError(f"expected {' or '.join(DIRECTIONS)} after the command, got {got}.")
    if not _SOURCE.value or not _TARGET.value:
        raise UserError("--source and --target are needed; see --help.")
    hush_orbax()
    jax.config.update("jax_platforms", "cpu")  # nothing is computed
    try:
        with user_errors(OSError, ValueError):
            done = convert(argv[1], Path(_SOURCE.value), Path(_TARGET.value))
    except KeyboardInterrupt as stop:
        raise UserError("stopped; nothing was written.") from stop
    print(done)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    run(main, positionals=True)
