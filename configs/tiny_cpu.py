"""python -m launch.train --config=configs/tiny_cpu.py --workdir=runs/demo

The demo: a 0.4 M-parameter Qwen2.5-VL on 2 CPU cores. README.md: what was measured.
Four of the sixteen tasks, of all three modalities: the language of all of them takes longer to
learn than the demo may last. Every answer of the warm start is a coin flip: what the policy comes
to know of geometry, it has from the oracle's verdicts.
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
            "depth_order_obj_obj",
            "distance_cam_obj",
            "attribute_measurement",
            "absolute_distance",
        ),
    ),
    rollout=RolloutConfig(
        questioner_samples=6,
        solver_prompts=32,
        questioner_prompt=160,
        solver_prompt=136,
        prompt_bucket=72,
        reply_bucket=56,
        questioner_tokens=48,
        solver_tokens=26,
        temperature=0.8,
    ),
    warm_start=WarmStartConfig(
        steps=750,
        naming_steps=100,
        looking_steps=450,
        rows=(4, 1, 1),
        questions=3,
        answers=2,
        answer_noise=1.0,
        question_noise=0.05,
    ),
    grpo=GrpoConfig(steps=160, lr=5e-4, warmup_steps=10, final_lr_share=0.1),
    evaluation=EvaluationConfig(questions_per_task=60, every=40),
)
