"""python -m launch.train --config=configs/tiny_cpu.py --workdir=runs/demo

The demo: a 0.4 M-parameter Qwen2.5-VL on 2 CPU cores. README.md: what was measured.
Four of the eleven tasks, of all three modalities: the language of all of them takes longer to learn
than the demo may last.
"""

from spatialevo_jax.config import (
    DataConfig,
    EvaluationConfig,
    GrpoConfig,
    RolloutConfig,
    TrainConfig,
    WarmStartConfig,
)

CONFIG = TrainConfig(
    data=DataConfig(
        dot_size=4,
        images_last=True,
        scene_frames=3,
        rows=(8, 4, 4),
        tasks=(
            "distance_cam_obj",
            "depth_order_obj_obj",
            "visibility_compare",
            "object_counting",
        ),
    ),
    rollout=RolloutConfig(
        solver_prompts=32,
        questioner_prompt=160,
        solver_prompt=136,
        prompt_bucket=72,
        reply_bucket=56,
        questioner_tokens=48,
        temperature=0.8,
    ),
    warm_start=WarmStartConfig(
        steps=750,
        naming_steps=100,
        looking_steps=450,
        rows=(4, 1, 1),
        questions=3,
        answers=2,
        answer_noise=0.95,
    ),
    grpo=GrpoConfig(steps=140, lr=5e-4, warmup_steps=10),
    evaluation=EvaluationConfig(questions_per_task=60, every=35),
)
