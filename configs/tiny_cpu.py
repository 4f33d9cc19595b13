"""python -m launch.train --config=configs/tiny_cpu.py --workdir=runs/demo

The demo: a 0.4 M-parameter Qwen2.5-VL on 2 CPU cores, about 12 minutes, held-out accuracy rises.
"""

from spatialevo_jax.config import TrainConfig

CONFIG = TrainConfig()
