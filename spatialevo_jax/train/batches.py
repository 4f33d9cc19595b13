"""Batches that hosts share: lists of prompts and pictures, of which each process has its part, to
arrays on the devices, and what the policy replied back to lists.
"""

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from spatialevo_jax import hosts, sharding
from spatialevo_jax.data import RoomSet, Row
from spatialevo_jax.mesh import BATCH
from spatialevo_jax.models.qwen2_5_vl import images
from spatialevo_jax.models.qwen2_5_vl import model as qwen
from spatialevo_jax.rollout import batch as packing
from spatialevo_jax.rollout import decode, sampling
from spatialevo_jax.train.setup import Setup

QUESTIONER, SOLVER = 0, 1  # roles, folded into the random keys

Shown = tuple[qwen.VisionInputs, list[int]]  # packed images; each row's first feature
Shared = tuple[packing.Prompts, packing.Starts]  # global arrays, of which each process has its rows


def put(setup: Setup, batch: Any) -> Any:
    """This process's rows of a batch -> the whole batch on the devices."""
    return hosts.put(batch, setup.mesh, setup.share.blocks)


def show(
    setup: Setup, rooms: RoomSet, rows: Sequence[Row], pictures: Iterable[Sequence[np.ndarray]]
) -> Shown:
    """The images of all rows, of which this process packs its own `pictures`, and the first feature
    of each row. The shape is that of as many of the largest images: one for all steps with so many.
    """
    share, vision = setup.share, setup.policy.config.vision
    blocks = [range(block, len(rows), share.blocks) for block in range(share.blocks)]
    counts = [sum(len(rows[place].frames) for place in block) for block in blocks]
    devices = setup.mesh.size // setup.mesh.shape[sharding.TENSOR]
    shape = images.shared_shape(
        [images.several(setup.picture, count) for count in counts],
        devices // share.blocks,
    )
    most = math.prod(setup.config.data.image_size)  # pictures have their size already
    patches = [
        images.preprocess(one, vision, min_pixels=0, max_pixels=most)
        for shown in pictures
        for one in shown
    ]
    packed = images.as_block(images.pack_images(patches, vision, shape), share.block)
    first = [0] * len(rows)
    for number, block in enumerate(blocks):
        at = number * shape.tokens
        for place in block:
            first[place] = at
            grids = [one.grid for one in setup.visuals(rooms, rows[place])]
            at += images.needed_shape(grids, vision).tokens
    return put(setup, packed), first


def decodable(
    setup: Setup, conversations: list[packing.Conversation], first: Sequence[int], length: int
) -> Shared:
    """This process's prompts padded to `length` tokens; `first` are the first feature rows of their
    images.
    """
    return put(setup, packing.prompts_for_decoding(conversations, first, length))


def generate(
    setup: Setup,
    params: qwen.Params,
    vision: qwen.VisionInputs,
    asked: Shared,
    keys: jax.Array,
    length: int,
    *,
    greedy: bool = False,
) -> decode.Responses:
    """Sampled responses of at most `length` tokens, one for each of the keys (P, G)."""
    with jax.set_mesh(setup.mesh):
        return decode.generate(
            setup.policy,
            params,
            vision,
            *asked,
            keys,
            setup.banned,
            length=length,
            temperature=0.0 if greedy else setup.config.rollout.temperature,
            end_token=setup.encoder.ids.im_end,
            whole_weights=setup.config.rollout.whole_weights,
        )


def keys(
    setup: Setup, key: jax.Array, step: int, role: int, prompts: int, samples: int
) -> jax.Array:
    """(P, G) keys of prompts that are dealt to the processes."""
    order = np.asarray(setup.share.order(prompts), np.int32)
    with jax.set_mesh(setup.mesh):
        return _sample_keys(setup.mesh)(key, step, role, order, samples)


@functools.cache
def _sample_keys(mesh: Mesh) -> Any:
    place = NamedSharding(mesh, PartitionSpec(BATCH))
    return jax.jit(sampling.sample_keys, static_argnums=(2, 4), out_shardings=place)


def texts(setup: Setup, responses: decode.Responses) -> list[list[str]]:
    """(P, G) decoded responses of this process, without the end-of-turn token."""
    tokens, mask, finished = map(
        hosts.rows_of, (responses.tokens, responses.mask, responses.finished)
    )
    lengths = mask.sum(-1).astype(int) - finished
    flat = [
        tokens[p, g, : lengths[p, g]].tolist()
        for p in range(tokens.shape[0])
        for g in range(tokens.shape[1])
    ]
    decoded = setup.encoder.tokenizer.batch_decode(flat, skip_special_tokens=False)
    size = tokens.shape[1]
    return [decoded[start : start + size] for start in range(0, len(decoded), size)]


def lengths(responses: decode.Responses) -> list[list[list[int]]]:
    """(P, G, 2) tokens of each response of this process, and 1 where it came to its end."""
    tokens = hosts.rows_of(responses.mask).sum(-1).astype(int)
    finished = hosts.rows_of(responses.finished).astype(int)
    return np.stack([tokens, finished], axis=-1).tolist()
