"""What the warm start teaches: the formats, pointing, and answers that are mostly coin flips.

It stands for the pretrained base model that a real run starts from. Openly, for each image set:

- Solver: a valid question, the exact pointings of the objects it names, and an answer; with chance `answer_noise` the
  answer is drawn at random among those the task can have. So the policy learns to look, and hardly to reason.
- Solver, invalid questions: the reason, replaced at random with the same chance.
- Questioner: exact pointings and one question of its task; with chance `question_noise` the question names labels at
  random, so that a good share of its questions is invalid.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from geometry_jax.scene_io import SceneRecord
from geometry_jax.tasks import TASKS
from spatialevo_jax.config import WarmStartConfig
from spatialevo_jax.data import RoomSet, Row
from spatialevo_jax.environment import Reply, Request, answer_requests, feasible_tasks, pools
from spatialevo_jax.environment.wordings import render, slot_choices
from spatialevo_jax.evaluation import readings
from spatialevo_jax.roles import pointing, prompts
