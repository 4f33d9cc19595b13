"""python -m launch.soak --workdir=runs/soak --kills=20 -- --config=configs/soak.py

Not to learn anything: every phase of a run in a few seconds, with a checkpoint after every step.
"""

import dataclasses

from configs.tiny_cpu import CONFIG as DEMO

CONFIG = dataclasses.replace(
    DEMO,
    data=dataclasses.replace(DEMO.data, rows=(2, 1, 1)),
    warm_start=dataclasses.replace(
        DEMO.warm_start,
        steps=6,
        naming_steps=2,
        naming_rows=(4, 0, 0),
        looking_steps=4,
        looking_rows=(2, 0, 0),
        warmup_steps=1,
        rows=(2, 1, 1),
    ),
    rollout=dataclasses.replace(
        DEMO.rollout, questioner_samples=2, solver_samples=2, solver_prompts=4
    ),
    # A policy that earns nothing yet is moved by its entropy and held by the KL.
    grpo=dataclasses.replace(
        DEMO.grpo, steps=6, warmup_steps=1, entropy_weight=0.1, kl_coefficient=0.1
    ),
    evaluation=dataclasses.replace(DEMO.evaluation, questions_per_task=4, every=2, batch=16),
    checkpoint_every=1,
)
