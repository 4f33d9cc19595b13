"""python -m launch.generate --scenes=data/rooms --out=sets/sft --count=4000 --scene_images=3 \
    --tasks=depth_order_obj_obj,distance_cam_obj,attribute_measurement,absolute_distance
python -m launch.train --config=configs/sft.py --workdir=runs/sft

The offline counterpart of the demo: the same policy and warm start, then as many supervised steps
on a question-answer set as the demo has of self-evolution. Compare with
`python -m launch.report --compare=online=runs/demo,offline=runs/sft --out=curves.png`.
"""

import dataclasses
from pathlib import Path

from configs.tiny_cpu import CONFIG as DEMO
from spatialevo_jax.config import SftConfig

CONFIG = dataclasses.replace(DEMO, sft=SftConfig(data=Path("sets/sft")))
