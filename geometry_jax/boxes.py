"""Distances between boxes that stand upright: full sides, any yaw."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from geometry_jax import ops

SIGNS = jnp.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])  # counter-clockwise


def footprint(
    center: Float[Array, "3"], extent: Float[Array, "3"], yaw: Float[Array, ""]
) -> Float[Array, "4 2"]:
    """Corners of the box seen from above, counter-clockwise."""
    cos, sin = jnp.cos(yaw), jnp.sin(yaw)
    rotation = jnp.array([[cos, -sin], [sin, cos]])
    return center[:2] + (SIGNS * extent[:2]) @ rotation.T


def point_segment(
    point: Float[Array, "*#b 2"], start: Float[Array, "*#b 2"], end: Float[Array, "*#b 2"]
) -> Float[Array, "*b 2"]:
    """The point of a segment that is closest to `point`."""
    along = end - start
    squared = jnp.sum(along * along, -1)
    share = jnp.sum((point - start) * along, -1) / jnp.where(squared > 0, squared, 1.0)
    return start + jnp.clip(share, 0.0, 1.0)[..., None] * along


def _inside(
    center: Float[Array, "3"],
    extent: Float[Array, "3"],
    yaw: Float[Array, ""],
    points: Float[Array, "*b 2"],
) -> Bool[Array, "*b"]:
    """Whether points lie within the footprint of a box, its edge included.

    Tested in the box's own axes: the signs of edge products say nothing where a side is 0.
    """
    cos, sin = jnp.cos(yaw), jnp.sin(yaw)
    world_from_box = jnp.array([[cos, -sin], [sin, cos]])
    return jnp.all(jnp.abs((points - center[:2]) @ world_from_box) <= extent[:2] / 2, axis=-1)


def _crossing(a: Float[Array, "4 2"], b: Float[Array, "4 2"]) -> tuple[jax.Array, jax.Array]:
    """Whether edges of two rectangles cross, and a crossing point."""
    start_a, start_b = a[:, None], b[None]
    along_a = (jnp.roll(a, -1, 0) - a)[:, None]
    along_b = (jnp.roll(b, -1, 0) - b)[None]
    between = start_b - start_a

    def cross(u: jax.Array, v: jax.Array) -> jax.Array:
        return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]

    denominator = cross(along_a, along_b)
    safe = jnp.where(denominator == 0, 1.0, denominator)
    share_a, share_b = cross(between, along_b) / safe, cross(between, along_a) / safe
    hit = (denominator != 0) & (share_a >= 0) & (share_a <= 1) & (share_b >= 0) & (share_b <= 1)
    points = start_a + share_a[..., None] * along_a
    first = jnp.argmax(hit)
    return hit.any(), points.reshape(-1, 2)[first]


def closest_points(
    center_a: Float[Array, "3"],
    extent_a: Float[Array, "3"],
    yaw_a: Float[Array, ""],
    center_b: Float[Array, "3"],
    extent_b: Float[Array, "3"],
    yaw_b: Float[Array, ""],
) -> Float[Array, "2 3"]:
    """The closest points of two upright boxes, one on each; the same point twice where they touch
    or overlap.

    Upright boxes are prisms, so the distance splits exactly into the gap of the two footprints in
    the plane and the gap of the two height intervals.
    """
    a, b = footprint(center_a, extent_a, yaw_a), footprint(center_b, extent_b, yaw_b)
    on_b = point_segment(a[:, None], b[None], jnp.roll(b, -1, 0)[None])  # (4, 4, 2)
    on_a = point_segment(b[:, None], a[None], jnp.roll(a, -1, 0)[None])
    ends_a = jnp.concatenate([jnp.broadcast_to(a[:, None], on_b.shape), on_a]).reshape(-1, 2)
    ends_b = jnp.concatenate([on_b, jnp.broadcast_to(b[:, None], on_a.shape)]).reshape(-1, 2)
    nearest = jnp.argmin(ops.safe_norm(ends_a - ends_b))
    plan_a, plan_b = ends_a[nearest], ends_b[nearest]
    a_in_b = _inside(center_b, extent_b, yaw_b, a)
    b_in_a = _inside(center_a, extent_a, yaw_a, b)
    crosses, crossing = _crossing(a, b)
    shared = jnp.where(
        a_in_b.any(),
        a[jnp.argmax(a_in_b)],
        jnp.where(b_in_a.any(), b[jnp.argmax(b_in_a)], crossing),
    )
    overlap = a_in_b.any() | b_in_a.any() | crosses
    plan_a, plan_b = jnp.where(overlap, shared, plan_a), jnp.where(overlap, shared, plan_b)
    low = jnp.maximum(center_a[2] - extent_a[2] / 2, center_b[2] - extent_b[2] / 2)
    high = jnp.minimum(center_a[2] + extent_a[2] / 2, center_b[2] + extent_b[2] / 2)
    # `low` above `high`: apart, and the box with the higher bottom meets the other at `low`.
    a_is_above = center_a[2] - extent_a[2] / 2 >= center_b[2] - extent_b[2] / 2
    apart = low > high
    middle = (low + high) / 2
    height_a = jnp.where(apart, jnp.where(a_is_above, low, high), middle)
    height_b = jnp.where(apart, jnp.where(a_is_above, high, low), middle)
    return jnp.stack([jnp.append(plan_a, height_a), jnp.append(plan_b, height_b)])


def closest_to_point(
    center: Float[Array, "3"],
    extent: Float[Array, "3"],
    yaw: Float[Array, ""],
    point: Float[Array, "3"],
) -> Float[Array, "3"]:
    """The point of the box (inside included) that is closest to `point`."""
    cos, sin = jnp.cos(yaw), jnp.sin(yaw)
    world_from_box = jnp.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    local = world_from_box.T @ (point - center)
    return center + world_from_box @ jnp.clip(local, -extent / 2, extent / 2)
