"""A policy that is rewarded learns: sampling, rewards, advantages and updates together."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geometry_jax.types import leaf
from spatialevo_jax import grpo
from spatialevo_jax.config import GrpoConfig
from spatialevo_jax.rollout import decode, sampling
from spatialevo_jax.rollout.batch import prompts_for_decoding, response_suffixes
from spatialevo_jax.train import step as steps
from spatialevo_jax.train.state import evolution_optimizer
from tests.train.small_policy import BANNED, TEMPERATURE, VISUAL, VOCABULARY, Setup

STEPS, SAMPLES, LENGTH, END = 30, 16, 5, 0
GRPO = GrpoConfig(steps=STEPS, lr=0.02, warmup_steps=1)


def earned(tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(P, G) share of a response's tokens that lie in the half of the vocabulary that its prompt
    wants: the lower one of the first prompt, the upper one of the second.
    """
    upper = tokens >= VOCABULARY // 2
    wanted = np.stack([~upper[0], upper[1]])
    return ((wanted * mask).sum(-1) / mask.sum(-1)).astype(np.float32)


def test_a_rewarded_policy_learns_what_each_prompt_wants(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    """From chance, one half, to nearly always, with three seeds."""
    shown, starts = prompts_for_decoding(setup.conversations, [0, VISUAL], 11)
    update = steps.make_evolution_step(
        setup.policy, evolution_optimizer(GRPO), GRPO, leaf(BANNED), temperature=TEMPERATURE
    )
    advantages = jax.jit(functools.partial(grpo.group_advantages, normalise_std=True))
    learnt = []
    for seed in range(3):
        state, means = setup.state(GRPO), []
        for number in range(STEPS):
            keys = sampling.sample_keys(jax.random.key(seed), number, 1, jnp.arange(2), SAMPLES)
            out = decode.generate(
                setup.policy,
                state.params,
                setup.vision,
                shown,
                starts,
                keys,
                leaf(BANNED),
                length=LENGTH,
                temperature=TEMPERATURE,
                end_token=END,
            )
            rewards = earned(np.asarray(out.tokens), np.asarray(out.mask))
            suffixes = response_suffixes(starts, out.tokens, out.mask)
            role = steps.RoleBatch(shown, suffixes, out.logprobs, advantages(leaf(rewards)))
            state, metrics = update(state, steps.EvolutionBatch(setup.vision, None, role))
            assert metrics["policy/logprob_difference_solver"] < 1e-4
            means.append(rewards.mean(-1))
        learnt.append((means[0], np.mean(means[-3:], axis=0)))
    before, after = np.moveaxis(np.array(learnt), 1, 0)  # (seeds, prompts)
    with capsys.disabled():
        gain = 100 * (after - before).mean(1)
        print(f"\n  learning test: {gain.mean():+.0f} points, std {gain.std(ddof=1):.1f}")
    assert (np.abs(before.mean(1) - 0.5) < 0.2).all()
    assert (after > 0.8).all()
