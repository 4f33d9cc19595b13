"""python -m launch.train --config=configs/spatialevo_3b.py --config.model=DIR --workdir=runs/3b

The published run at 3B: 2,180 steps of 8 rows, of which 3 are scenes of 16 images, 4 are pairs and
1 is a single image (published: 37.5, 43.8 and 18.7 %); 4 questions for each row and 4 answers to
each question, of at most 2,048 tokens. DIR holds the released weights. The pool of rooms is yours:
`--config.data.scenes=DIR`.

As published: the Questioner's update before the Solver answers, the Solver's by 8 questions each;
clip, learning rate, decay, KL to the first policy, memory of the curriculum. Ours: scoring is
corrected (`--config.scoring=published` is theirs); masters and moments are float32, where the
published run kept them in bfloat16; pictures are seen in as many pixels as 448 x 336 at most, each
in its own form: 192 tokens.

16 chips of v5e (4x4), as `--config.mesh.fsdp=8 --config.mesh.tensor=2`: 7.7 of 15.75 GiB each in
rollouts and 8.7 in updates, as launch.plan compiles them; docs/plan.md has other machines. One H200
was measured: 59 s a step (docs/training.md).
"""

from pathlib import Path

from spatialevo_jax.config import (
    PUBLISHED_SCHEDULER,
    DataConfig,
    EvaluationConfig,
    GrpoConfig,
    RewardConfig,
    RolloutConfig,
    SftConfig,
    TrainConfig,
    WarmStartConfig,
)

CONFIG = TrainConfig(
    model="models/Qwen2.5-VL-3B-Instruct",
    compute_dtype="bfloat16",
    remat="full",
    seed=42,
    data=DataConfig(
        scenes=Path("data/scenes"),
        image_size=(448, 336),
        scene_frames=16,
        rows=(1, 4, 3),
        workers=4,
    ),
    warm_start=WarmStartConfig(steps=0, naming_steps=0, looking_steps=0),  # weights are released
    rollout=RolloutConfig(
        questioner_samples=4,
        solver_samples=4,
        solver_prompts=32,  # as many as there can be questions
        max_invalid_share=1.0,
        questioner_tokens=2048,
        solver_tokens=2048,
        questioner_prompt=4096,  # 16 images and their labels take 3,200, the rest is text
        solver_prompt=4096,
        whole_weights=True,
    ),
    grpo=GrpoConfig(
        steps=2180,
        lr=1e-6,
        warmup_steps=0,
        weight_decay=0.01,
        clip_low=0.2,
        clip_high=0.3,
        clip_dual=3.0,
        two_pass=8,
        kl_coefficient=0.01,
        kl_estimator="k3",
        reference_dtype="bfloat16",
    ),
    rewards=RewardConfig(observation="prose"),  # what a released model writes
    sft=SftConfig(reply="answer"),  # of --config.sft.data=DIR, where a set is to be learned instead
    scheduler=PUBLISHED_SCHEDULER,
    evaluation=EvaluationConfig(every=100, batch=32),
    checkpoint_every=100,
    checkpoints_kept=20,
)
