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
        rows=(12, 2, 2),
        tasks=(
            "distance_cam_obj",
            "depth_order_obj_obj",
            "visibility_compare",
            "object_counting",
        ),
    ),
    rollout=RolloutConfig(
        solver_prompts=32, questioner_prompt=160, solver_prompt=128, prompt_bucket=80
    ),
    warm_start=WarmStartConfig(
        steps=950, naming_steps=200, looking_steps=600, questions=2, answer_noise=1.0
    ),
    grpo=GrpoConfig(steps=140, lr=4e-4, warmup_steps=10),
    evaluation=EvaluationConfig(questions_per_task=60, every=35),
)
