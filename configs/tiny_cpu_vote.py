"""python -m launch.train --config=configs/tiny_cpu_vote.py --workdir=runs/vote

A control: the demo with the majority of the policy's own answers in place of geometry.
"""

import dataclasses

from configs.tiny_cpu import CONFIG as DEMO

CONFIG = dataclasses.replace(DEMO, reward="vote")
