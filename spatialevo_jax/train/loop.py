"""A run from start to end. All side effects of training are here: files, clocks, logs, the progress bar.

    warm start   supervised steps on generated conversations, in place of a pretrained base model
    evolution    Questioner -> oracle -> Solver -> rewards -> joint GRPO update, with held-out scores on the way

Everything that changes is in the train state, and everything drawn is a function of (seed, step): a run that is killed
goes on from its last checkpoint and ends with the same numbers.
"""

import dataclasses
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np
from tqdm import tqdm

from geometry_jax.tasks import TASKS
from spatialevo_jax import grpo, rewards
from spatialevo_jax.config import TrainConfig
from spatialevo_jax.data import RoomSet, Row, RowSource, load_rooms, row_source
from spatialevo_jax.evaluation import held_out
from spatialevo_jax.models.qwen2_5_vl import images, model as qwen
from spatialevo_jax.models.qwen2_5_vl.config import SIZES
from spatialevo_jax.rollout import batch as packing, decode, sampling
from spatialevo_jax.scheduler import Scheduler, accuracy_scheduler
from spatialevo_jax.tokenizer import load_tokenizer, special_ids, train_tokenizer
from spatialevo_jax.train import checkpoint, episode, warm_start
from spatialevo_jax.train.state import (
    TrainState,
    begin_evolution,
    init_state,
    optimizer,
)
from spatialevo_jax.train.step import (
    EvolutionBatch,
    RoleBatch,
    WarmStartBatch,
    make_evolution_step,
    make_warm_start_step,
)
