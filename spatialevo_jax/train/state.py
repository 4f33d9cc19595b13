"""The one value that is a run: everything that changes from step to step."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from spatialevo_jax.config import GrpoConfig, TrainConfig, WarmStartConfig
from spatialevo_jax.scheduler import Scheduler, SchedulerState


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    params: Any  # nested dict of f32 master weights
    opt_state: Any  # of the phase that the step is in
    scheduler: SchedulerState
    key: jax.Array  # () random key of the run; steps fold into it, it never changes
    step: jax.Array  # () i32, updates done, warm start included


def warm_start_optimizer(config: WarmStartConfig) -> optax.GradientTransformation:
    """AdamW with a linear rise and a cosine fall to a tenth of the peak rate."""
    rate = optax.warmup_cosine_decay_schedule(
        0.0, config.peak_lr, config.warmup_steps, max(config.steps, 1), 0.1 * config.peak_lr
    )
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(rate, b2=0.98, weight_decay=0.01)
    )


def evolution_optimizer(config: GrpoConfig) -> optax.GradientTransformation:
    """AdamW with a short linear rise and then a constant rate."""
    rate = optax.warmup_constant_schedule(0.0, config.lr, config.warmup_steps)
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.adamw(rate, weight_decay=config.weight_decay),
    )


def optimizer(config: TrainConfig, step: int) -> optax.GradientTransformation:
    """The optimizer of the phase that update number `step` belongs to."""
    if step < config.warm_start.steps:
        return warm_start_optimizer(config.warm_start)
    return evolution_optimizer(config.grpo)


def init_state(config: TrainConfig, params: Any, scheduler: Scheduler) -> TrainState:
    return TrainState(
        params=params,
        opt_state=optimizer(config, 0).init(params),
        scheduler=scheduler.init(),
        key=jax.random.key(config.seed),
        step=jnp.int32(0),
    )


def begin_evolution(config: TrainConfig, state: TrainState) -> TrainState:
    """The warm-started policy with a fresh optimizer: moments of the supervised loss say nothing
    about the reward.
    """
    return dataclasses.replace(state, opt_state=evolution_optimizer(config.grpo).init(state.params))
