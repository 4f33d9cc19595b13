"""The self-evolution loop. Resumes by itself from --workdir.

python -m launch.train --config=configs/tiny_cpu.py --workdir=runs/demo
python -m launch.train --config=configs/tiny_cpu.py --workdir=runs/short --config.grpo.steps=20
python -m launch.train --config=configs/tiny_cpu.py --workdir=runs/lora --config.lora.rank=8
"""

import json
from collections.abc import Sequence
from pathlib import Path

from absl import flags, logging

from launch import errors
from launch.errors import user_errors
from launch.flags import define_config
from spatialevo_jax.config import TrainConfig
from spatialevo_jax.train import loop

_CONFIG = define_config(TrainConfig)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run.", allow_override=True, required=True
)


def main(argv: Sequence[str]) -> None:
    config = _CONFIG.load()
    logging.set_verbosity(logging.WARNING)  # orbax tells every step of its work
    with user_errors(FileNotFoundError, ValueError):
        run = loop.open_run(config, Path(_WORKDIR.value))
    with user_errors(FloatingPointError):
        summary = loop.train(run)
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    errors.run(main)
