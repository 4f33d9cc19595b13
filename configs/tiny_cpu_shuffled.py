"""python -m launch.train --config=configs/tiny_cpu_shuffled.py --workdir=runs/shuffled

A control: the demo with its geometric rewards handed to other samples, so that they say nothing.
"""

import dataclasses

from configs.tiny_cpu import CONFIG as DEMO

CONFIG = dataclasses.replace(DEMO, reward="shuffled")
