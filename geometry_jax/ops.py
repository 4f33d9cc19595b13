"""Small geometry on arrays. Leading axes broadcast; angles in radians."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

TAU = 2 * math.pi

# Eight horizontal directions, counter-clockwise from the right; bin i is centred on i * 45 degrees.
PLANAR = ("right", "front-right", "front", "front-left", "left", "back-left", "back", "back-right")


def safe_norm(x: Float[Array, "*b d"]) -> Float[Array, "*b"]:
    """Length of the last axis, with a zero gradient at zero."""
    squared = jnp.sum(x * x, axis=-1)
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)


def first_index(mask: Bool[Array, "*b n"]) -> Int[Array, "*b"]:
    """Index of the first True of the last axis, 0 where there is none.

    As `argmax`, but by a plain minimum, which XLA compiles to faster code.
    """
    n = mask.shape[-1]
    place = jnp.min(jnp.where(mask, jnp.arange(n, dtype=jnp.int32), n), axis=-1)
    return jnp.where(place == n, 0, place)


def compass_bin(forward: jax.Array, rightward: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Index into PLANAR of a horizontal displacement, and its angle to the nearest bin edge (0 to
    22.5 degrees).
    """
    # No displacement counts as to the right, whatever the signs of its zeros.
    angle = jnp.arctan2(forward, jnp.where(rightward == 0, 0.0, rightward))
    eighth = TAU / 8
    index = jnp.floor((angle + eighth / 2) / eighth)
    from_centre = jnp.abs(angle - index * eighth)
    return jnp.mod(index, 8).astype(jnp.int32), eighth / 2 - from_centre


def levelled(
    world_from_camera: Float[Array, "*#b 4 4"], displacement: Float[Array, "*#b 3"]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """A world displacement in the camera's gravity-levelled frame: (forward, rightward), metres.

    Forward is the optical axis projected on the floor; right is forward x up. Undefined (0, 0) for
    a camera that looks straight up or down: check with `looks_vertical`.
    """
    axis = world_from_camera[..., :2, 2]
    length = safe_norm(axis)
    forward = axis / jnp.where(length > 0, length, 1.0)[..., None]
    right = jnp.stack([forward[..., 1], -forward[..., 0]], axis=-1)
    plane = displacement[..., :2]
    return jnp.sum(forward * plane, -1), jnp.sum(right * plane, -1)


def looks_vertical(
    world_from_camera: Float[Array, "*b 4 4"], tolerance: float
) -> Bool[Array, "*b"]:
    """Whether the optical axis is within `tolerance` radians of straight up or down."""
    return safe_norm(world_from_camera[..., :2, 2]) < jnp.sin(tolerance)
