"""The self-evolution loop. Resumes by itself from --workdir.

python -m launch.train --config=configs/tiny_cpu.py --workdir=runs/demo
python -m launch.train --config=configs/tiny_cpu.py --workdir=runs/short --config.grpo.steps=20
"""

import json
from collections.abc import Sequence
from pathlib import Path

from absl import flags, logging

from launch.errors import run, user_errors
from launch.flags import define_config
from spatialevo_jax.config import TrainConfig
from spatialevo_jax.train import loop

_CONFIG = define_config(TrainConfig)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)


def main(argv: Sequence[str]) -> None:
    config = _CONFIG.load()
    logging.set_verbosity(logging.WARNING)  # orbax tells every step of its work
    with user_errors(FileNotFoundError, ValueError, FloatingPointError):
        summary = loop.run(config, Path(_WORKDIR.value))
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    run(main)
