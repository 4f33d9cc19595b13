"""Rotary positions: one-dimensional angles, the multimodal (time, height, width) positions, and
their application.

Angles are float32 throughout: in bfloat16 the error grows with the position.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from spatialevo_jax.models.qwen2_5_vl import products

VISION_THETA = 10_000.0


class VisualIds(Protocol):
    """The tokens of a prompt in whose places the features of images and videos stand."""

    @property
    def image_pad(self) -> int: ...

    @property
    def video_pad(self) -> int: ...


def frequencies(dim: int, theta: float) -> np.ndarray:
    """(dim / 2,) f32, theta^(-2i / dim): radians per position."""
    return (1.0 / theta ** (np.arange(0, dim, 2, dtype=np.float64) / dim)).astype(np.float32)


def mrope_angles(
    positions: jax.Array, head_dim: int, theta: float, section: tuple[int, int, int]
) -> jax.Array:
    """(3, ...) positions -> (..., head_dim / 2) angles; frequency i takes the position on the
    axis of its section.
    """
    axis = np.repeat(np.arange(3), section)
    chosen = jnp.moveaxis(positions.astype(jnp.float32)[axis], 0, -1)
    return chosen * frequencies(head_dim, theta)


def vision_angles(positions: jax.Array, head_dim: int) -> jax.Array:
    """(..., 2) row and column of a patch -> (..., head_dim / 2) angles, rows in the first half."""
    angles = positions.astype(jnp.float32)[..., None] * frequencies(head_dim // 2, VISION_THETA)
    return angles.reshape(*positions.shape[:-1], head_dim // 2)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CosSin:
    """Cosines and sines of angles, (..., d / 2) float32."""

    cos: jax.Array
    sin: jax.Array


def cos_sin(angles: jax.Array) -> CosSin:
    """Computed here, once: a compiler would do it again in every layer, for every head."""
    return CosSin(products.materialized(jnp.cos(angles)), products.materialized(jnp.sin(angles)))


def rotate(x: jax.Array, by: CosSin) -> jax.Array:
    """Rotates the pairs (x_i, x_{i + d/2}) of (..., heads, d) by (..., d / 2) angles, the same for
    all heads.
    """
    cos, sin = by.cos[..., None, :], by.sin[..., None, :]
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


def mrope_positions(
    tokens: np.ndarray,
    grids: Sequence[tuple[int, int, int]],
    ids: VisualIds,
    merge: int = 2,
    *,
    seconds: Sequence[float | None] | None = None,
    tokens_per_second: int = 2,
) -> np.ndarray:
    """(n,) tokens -> (3, n) i32 positions of one unpadded sequence, as Qwen2.5-VL defines them.
    Host side.

    Text advances all three axes together. An image keeps time still and spreads height and width. A
    video's temporal patches advance time by whole positions, `tokens_per_second` of them a second,
    rounded down. The text after it goes on from one past the largest position so far.

        text   image 2 x 2      text    video 2 x 1 x 2, 1 s apart    text
        0 1    2 2 2 2          4 5     6 6   8 8                     9     time
        0 1    2 2 3 3          4 5     6 6   6 6                     9     height
        0 1    2 3 2 3          4 5     6 7   6 7                     9     width

    Args:
        grids: patches (time, height, width) of the images and videos, in order.
        seconds: between the temporal patches of each video, None for an image; by default all are
            images.

    Raises:
        ValueError: the visual tokens do not match the grids, in number or in kind.
    """
    tokens = np.asarray(tokens)
    positions = np.zeros((3, len(tokens)), np.int32)
    visual = (tokens == ids.image_pad) | (tokens == ids.video_pad)
    expected = sum(t * h * w // merge**2 for t, h, w in grids)
    if int(visual.sum()) != expected:
        raise ValueError(
            f"expected {expected} image tokens for grids {list(grids)}, got {visual.sum()}."
        )
    intervals = [None] * len(grids) if seconds is None else seconds
    at, here = 0, 0
    for (t, h, w), interval in zip(grids, intervals, strict=True):
        start = here + int(np.argmax(visual[here:]))
        positions[:, here:start] = at + np.arange(start - here)
        at += start - here
        shape = (t, h // merge, w // merge)
        here = start + math.prod(shape)
        pad = ids.image_pad if interval is None else ids.video_pad
        if not (tokens[start:here] == pad).all():
            raise ValueError(
                f"expected {here - start} tokens {pad} from token {start} on for the grid "
                f"{(t, h, w)}, got {tokens[start:here].tolist()}."
            )
        # In float32, as in the reference: where the product is not exact, rounding decides.
        step = 1 if interval is None else np.float32(tokens_per_second) * np.float32(interval)
        times = (np.arange(t, dtype=np.float32) * step).astype(np.int32)
        time, rows, columns = np.indices(shape).reshape(3, -1)
        positions[:, start:here] = at + np.stack([times[time], rows, columns])
        at += max(int(times[-1]) + 1, *shape[1:])
    positions[:, here:] = at + np.arange(len(tokens) - here)
    return positions
