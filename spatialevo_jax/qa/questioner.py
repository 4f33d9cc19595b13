"""Questions that a policy asks about rooms, as requests: sampled as in training, one prompt for
each row of images, its task at random. Whether they can be answered, the oracle decides later.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from geometry_jax.tasks import TASK_IDS, TASKS
from spatialevo_jax.config import TrainConfig
from spatialevo_jax.environment import pools
from spatialevo_jax.models.qwen2_5_vl import model as qwen
from spatialevo_jax.roles import prompts
from spatialevo_jax.roles.replies import parse_questioner
from spatialevo_jax.train import batches, checkpoint
from spatialevo_jax.train.batches import QUESTIONER
from spatialevo_jax.train.setup import Setup, placed_state, prepare

FRUITLESS = 20  # steps without a question after which nothing more is expected


def ask(config: TrainConfig, workdir: Path, count: int) -> Iterator[dict[str, Any]]:
    """`count` requests about the training rooms of the config, in the form of `launch.ask`.

    Args:
        config: `model` is the policy; `data` and `rollout` say what it is shown and how it samples.
        workdir: a run of this config, whose latest checkpoint asks; or, without checkpoints, a
            folder where the policy's tokenizer is put.

    Raises:
        FileNotFoundError: no rooms or no model. ValueError: the policy asks nothing.
    """
    setup, params = prepare(config, workdir)
    if (workdir / checkpoint.CHECKPOINTS).is_dir():
        params = _trained(setup, workdir)
    key = jax.random.key(config.seed)
    asked, step, samples = 0, 0, config.rollout.questioner_samples
    rng = np.random.default_rng((config.seed, 5))
    while asked < count:
        rows = setup.rows.step_rows(step, config.data.rows)
        feasible = [setup.train.feasible_tasks(row) for row in rows]
        tasks = [own[int(rng.integers(len(own)))] for own in feasible]
        records = [setup.train.records[row.room] for row in rows]
        texts = [
            prompts.questioner(task, pools(record, row.frames), config.rewards.observation)
            for task, record, row in zip(tasks, records, rows, strict=True)
        ]
        conversations = [
            setup.encoder.turn(text, setup.visuals(setup.train, row))
            for text, row in zip(texts, rows, strict=True)
        ]
        vision, first = batches.show(setup, setup.train, rows, map(setup.train.row_images, rows))
        shown = batches.decodable(setup, conversations, first, config.rollout.questioner_prompt)
        keys = batches.keys(setup, key, step, QUESTIONER, len(rows), samples)
        out = batches.generate(setup, params, vision, shown, keys, config.rollout.questioner_tokens)
        before = asked
        for task, record, row, replies in zip(
            tasks, records, rows, batches.texts(setup, out), strict=True
        ):
            for reply in replies:
                question = parse_questioner(reply).question
                if question and asked < count:
                    asked += 1
                    images = [record.image_paths[frame].name for frame in row.frames]
                    yield _request(task, record.scene_id, question, images)
        step += 1
        if asked == before and step >= FRUITLESS:
            raise ValueError(f"{config.model}: expected questions, got none in {step} steps.")


def _trained(setup: Setup, workdir: Path) -> qwen.Params:
    """The parameters of a run's latest checkpoint."""
    folder = checkpoint.latest_folder(workdir).parent
    step = int(folder.name)
    state, _ = checkpoint.load(folder.parent, step, placed_state(setup, step))
    return state.policy_params


def _request(task: str, scene_id: str, question: str, images: list[str]) -> dict[str, Any]:
    fields: dict[str, Any] = {"task_type": task, "scene_id": scene_id, "question": question}
    modality = TASKS[TASK_IDS[task]].modality
    if modality == "single_image":
        fields["image_path"] = f"frame_processed/{images[0]}"
    elif modality == "image_pair":
        fields["image_paths"] = [f"frame_processed/{name}" for name in images]
    return fields
