"""python -m launch.train --config=configs/ablations.py:no_scheduler --workdir=runs/no_scheduler

The demo with one part taken out, or its reward replaced. `make demo-ablations` runs all of them
over three seeds and prints a table; docs/training.md says what was measured.
"""

import dataclasses

from configs.tiny_cpu import CONFIG as DEMO

CONFIGS = {
    "full": DEMO,
    # Tasks are drawn evenly, whatever the Solver gets wrong.
    "no_scheduler": dataclasses.replace(
        DEMO, scheduler=dataclasses.replace(DEMO.scheduler, uniform=True)
    ),
    # The Questioner asks as the warm start taught it.
    "no_questioner": dataclasses.replace(
        DEMO, grpo=dataclasses.replace(DEMO.grpo, questioner_weight=0.0)
    ),
    # The majority of the policy's own answers in place of geometry.
    "vote": dataclasses.replace(DEMO, reward="vote"),
    # Geometric rewards, handed to other samples: they say nothing.
    "shuffled": dataclasses.replace(DEMO, reward="shuffled"),
}
