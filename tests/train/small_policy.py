"""A very small policy with two prompts about an image each, and responses of both roles."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from geometry_jax.types import leaf
from spatialevo_jax.config import GrpoConfig, TrainConfig
from spatialevo_jax.models.qwen2_5_vl import images, model, rope
from spatialevo_jax.models.qwen2_5_vl.config import ModelConfig, TextConfig, VisionConfig
from spatialevo_jax.rollout import decode
from spatialevo_jax.rollout.batch import (
    Conversation,
    Prompts,
    Suffixes,
    prompts_for_decoding,
    response_suffixes,
)
from spatialevo_jax.scheduler import accuracy_scheduler
from spatialevo_jax.train import step as steps
from spatialevo_jax.train.likelihoods import token_likelihoods
from spatialevo_jax.train.state import TrainState, init_state

VOCABULARY, VISUAL = 40, 4  # tokens; how many of them an image has
CONFIG = ModelConfig(
    vision=VisionConfig(
        depth=1,
        hidden_size=16,
        intermediate_size=16,
        num_heads=2,
        out_hidden_size=16,
        fullatt_block_indexes=(0,),
    ),
    text=TextConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        head_dim=8,
        mrope_section=(1, 1, 2),
        tie_word_embeddings=True,
    ),
)
BANNED = np.arange(VOCABULARY) % 5 == 4
TEMPERATURE = 0.7
LENGTHS = {"questioner": [[5, 3], [4, 5]], "solver": [[2, 5], [5, 1]]}  # (P, G) of the responses
LENGTH, LONGEST = 5, 16  # tokens of a response, and of a prompt with its response
# Steps so small that the loss is a plane, though AdamW moves every weight by the whole rate.
GRPO = GrpoConfig(lr=1e-5, warmup_steps=1, weight_decay=0.0, questioner_weight=0.5)
START = TrainConfig().warm_start.steps  # the first update of evolution
SCHEDULER = accuracy_scheduler(3, prior_accuracy=0.5, prior_count=2.0, floor=0.1, decay=0.9)


class Ids:
    image_pad = VOCABULARY - 1
    video_pad = VOCABULARY - 2


@dataclasses.dataclass(frozen=True)
class Setup:
    policy: model.Policy
    params: model.Params
    vision: model.VisionInputs  # of two images, one for each prompt
    conversations: tuple[Conversation, ...]
    prompts: Prompts
    responses: dict[str, Suffixes]  # of both roles, to the same prompts

    def logprobs(self, params: model.Params, role: str, *, as_sampled: bool = True) -> np.ndarray:
        """(P, G, T), as the updates compute them."""
        found = cached_logprobs(
            self.policy,
            params,
            encode_images(self.policy, params, self.vision),
            self.prompts,
            self.responses[role],
            leaf(BANNED & as_sampled),
            TEMPERATURE if as_sampled else 1.0,
        )
        return np.asarray(found)

    def plain_logits(self, role: str) -> np.ndarray:
        """(P, G, T, V) float64, from one pass over each whole sequence without a cache."""
        targets = np.asarray(self.responses[role].targets)
        tokens = np.zeros((*targets.shape[:2], LONGEST), np.int32)
        feature_index = np.full(tokens.shape, -1)
        positions = np.zeros((3, *tokens.shape), np.int32)
        firsts = [len(conversation.tokens) for conversation in self.conversations]
        for p, first in enumerate(firsts):
            asked = self.conversations[p]
            tokens[p, :, :first] = asked.tokens
            tokens[p, :, first : first + LENGTH] = targets[p]
            positions[:, p, :, :first] = asked.positions[:, None]
            positions[:, p, :, first:] = asked.positions[0, -1] + 1 + np.arange(LONGEST - first)
            feature_index[p, :, :first][:, asked.visual] = VISUAL * p + np.arange(VISUAL)
        features = encode_images(self.policy, self.params, self.vision)
        logits = np.asarray(
            whole_sequences(self.policy, self.params, features, tokens, positions, feature_index)
        )
        found = [logits[p, :, n - 1 : n - 1 + LENGTH] for p, n in enumerate(firsts)]
        return np.stack(found).astype(np.float64)

    def batch(self, **advantages: np.ndarray) -> steps.EvolutionBatch:
        """Responses of the policy as it is, with the given (P, G) advantages or none."""
        return steps.EvolutionBatch(
            self.vision, *(self.role_batch(role, advantages.get(role)) for role in LENGTHS)
        )

    def role_batch(self, role: str, advantages: np.ndarray | None) -> steps.RoleBatch:
        given = np.zeros((2, 2)) if advantages is None else advantages
        return steps.RoleBatch(
            self.prompts,
            self.responses[role],
            leaf(self.logprobs(self.params, role)),
            leaf(given.astype(np.float32)),
        )

    def state(self, grpo: GrpoConfig | None = None) -> TrainState:
        """A new state at the start of evolution, with parameters of its own: an update consumes
        them.
        """
        params = jax.tree.map(jnp.copy, self.params)
        return init_state(TrainConfig(grpo=grpo or GRPO), params, SCHEDULER, step=START)


def changed_role(batch: steps.EvolutionBatch, role: str, **fields: Any) -> steps.EvolutionBatch:
    """The batch with other fields of one role."""
    own = dataclasses.replace(batch.roles[role], **fields)
    return dataclasses.replace(batch, **{role: own})


encode_images = jax.jit(model.encode_images, static_argnums=0)


@functools.partial(jax.jit, static_argnums=0)
def cached_logprobs(
    policy: model.Policy,
    params: model.Params,
    features: jax.Array,
    prompts: Prompts,
    responses: Suffixes,
    banned: jax.Array,
    temperature: float,
) -> jax.Array:
    prefix = decode.prefill(policy, params, features, prompts)
    return token_likelihoods(
        policy, params, prefix, responses, banned, temperature=temperature
    ).logprobs


@functools.partial(jax.jit, static_argnums=0)
def whole_sequences(
    policy: model.Policy,
    params: model.Params,
    features: jax.Array,
    tokens: np.ndarray,
    positions: np.ndarray,
    feature_index: np.ndarray,
) -> jax.Array:
    """(P, G, n, V); no token sees what comes after it, so padding needs no mask."""
    x = model.embed(policy, params, jnp.asarray(tokens), jnp.asarray(feature_index), features)
    valid = jnp.ones(tokens.shape, bool)
    hidden, _ = model.extend(policy, params, x, jnp.asarray(positions), valid)
    return model.logits(policy, params, hidden)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def advantage_of(sample: tuple[int, int], value: float) -> np.ndarray:
    advantages = np.zeros((2, 2))
    advantages[sample] = value
    return advantages


def make_setup() -> Setup:
    """Two prompts of different lengths, each about its own image."""
    rng = np.random.default_rng(0)

    def drawn(path: tuple[object, ...], shape: jax.ShapeDtypeStruct) -> jax.Array:
        """Norms are ones; kernels keep the size of what they multiply. No program to compile."""
        name = jax.tree_util.keystr(path)
        size = shape.shape[-2] ** -0.5 if "kernel" in name else 0.5
        values = np.ones(shape.shape) if "scale" in name else size * rng.normal(size=shape.shape)
        return jnp.asarray(values, shape.dtype)

    params = jax.tree_util.tree_map_with_path(drawn, model.abstract_params(CONFIG))
    pictures = rng.integers(0, 256, (2, 56, 56, 3), dtype=np.uint8)
    patches = [images.preprocess(picture, CONFIG.vision) for picture in pictures]
    conversations = []
    for before, after in (([3, 8], [1, 2, 7]), ([6], [5, 3])):
        tokens = np.array([*before, *[Ids.image_pad] * VISUAL, *after], np.int32)
        positions = rope.mrope_positions(tokens, [(1, 4, 4)], Ids())
        conversations.append(Conversation(tokens, positions, tokens == Ids.image_pad))
    prompts, starts = prompts_for_decoding(conversations, [0, VISUAL], 11)
    responses = {}
    for role, lengths in LENGTHS.items():
        mask = np.arange(LENGTH) < np.array(lengths)[..., None]
        tokens = rng.choice(np.flatnonzero(~BANNED), mask.shape)
        responses[role] = response_suffixes(
            starts,
            jnp.asarray(np.where(mask, tokens, 0), jnp.int32),
            jnp.asarray(mask, jnp.float32),
        )
    return Setup(
        model.Policy(CONFIG),
        params,
        images.pack_images(patches, CONFIG.vision),
        tuple(conversations),
        prompts,
        responses,
    )
