"""python -m launch.train --config=configs/spatialevo_7b.py --config.model=DIR --workdir=runs/7b

The published run at 7B: `configs/spatialevo_3b.py`, which says what is as published and what is
ours, with the larger model.

4 chips of v5p (2x2x1): 47 of 95.74 GiB each in rollouts and 54 in updates, as launch.plan compiles
them. 16 chips of v5e have no room for its updates. docs/plan.md has other machines.
"""

import dataclasses

from configs.spatialevo_3b import CONFIG as SMALLER

CONFIG = dataclasses.replace(SMALLER, model="models/Qwen2.5-VL-7B-Instruct")
