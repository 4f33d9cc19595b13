"""Distances between boxes: full sides; upright with any yaw, or tilted."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from geometry_jax import ops

# Constants are NumPy arrays, so that importing this module does not initialise a JAX backend.
# Corners of the unit square, counter-clockwise.
SIGNS = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]], np.float32)
SLANTED = 1e-8  # squared sine of an angle; edges at a smaller one are parallel and do not cross


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
    # Between parallel edges the denominator, and with it the shares, is mere rounding. Leaving them
    # out loses nothing: rectangles that overlap have other edges that cross, or a corner inside.
    slanted = denominator**2 > SLANTED * (along_a**2).sum(-1) * (along_b**2).sum(-1)
    safe = jnp.where(slanted, denominator, 1.0)
    share_a, share_b = cross(between, along_b) / safe, cross(between, along_a) / safe
    hit = slanted & (share_a >= 0) & (share_a <= 1) & (share_b >= 0) & (share_b <= 1)
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


def yaw_rotation(yaw: Float[Array, ""]) -> Float[Array, "3 3"]:
    """world_from_box of an upright box."""
    cos, sin = jnp.cos(yaw), jnp.sin(yaw)
    return jnp.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def closest_to_point(
    center: Float[Array, "3"],
    extent: Float[Array, "3"],
    rotation: Float[Array, "3 3"],
    points: Float[Array, "*b 3"],
) -> Float[Array, "*b 3"]:
    """The points of a box (inside included) that are closest to `points`; `rotation` is
    world_from_box.
    """
    local = (points - center) @ rotation
    return center + jnp.clip(local, -extent / 2, extent / 2) @ rotation.T


# --- tilted boxes --------------------------------------------------------------------------------

CORNERS = np.array(
    [[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)], np.float32
)
# Pairs of corners that differ along one axis: x, y, z in turn.
EDGES = np.array([[i, i | bit] for bit in (4, 2, 1) for i in range(8) if not i & bit])  # (12, 2)
PARALLEL = 1e-6  # squared sine of an angle; edges or axes at a smaller one are parallel
PROJECTIONS = 24  # alternating projections onto two boxes that lead to a point of both


def _edge_to_edge(
    a: Float[Array, "8 3"], b: Float[Array, "8 3"]
) -> tuple[Float[Array, "144 3"], Float[Array, "144 3"]]:
    """Closest points of all pairs of edges (Ericson, Real-Time Collision Detection, 5.1.9)."""
    start_a, start_b = a[EDGES[:, 0]][:, None], b[EDGES[:, 0]][None]
    along_a = (a[EDGES[:, 1]] - a[EDGES[:, 0]])[:, None]
    along_b = (b[EDGES[:, 1]] - b[EDGES[:, 0]])[None]
    between = start_a - start_b
    aa, bb = jnp.sum(along_a * along_a, -1), jnp.sum(along_b * along_b, -1)
    ab, ar = jnp.sum(along_a * along_b, -1), jnp.sum(along_a * between, -1)
    br = jnp.sum(along_b * between, -1)
    safe_aa, safe_bb = jnp.where(aa > 0, aa, 1.0), jnp.where(bb > 0, bb, 1.0)
    square = aa * bb - ab * ab
    skew = square > PARALLEL * aa * bb
    share_a = jnp.clip(jnp.where(skew, (ab * br - ar * bb) / jnp.where(skew, square, 1.0), 0), 0, 1)
    share_b = jnp.clip((ab * share_a + br) / safe_bb, 0, 1)
    share_a = jnp.clip((ab * share_b - ar) / safe_aa, 0, 1)
    on_a = start_a + share_a[..., None] * along_a
    on_b = start_b + share_b[..., None] * along_b
    return on_a.reshape(-1, 3), on_b.reshape(-1, 3)


def _separated(
    between: Float[Array, "3"],
    half_a: Float[Array, "3"],
    rotation_a: Float[Array, "3 3"],
    half_b: Float[Array, "3"],
    rotation_b: Float[Array, "3 3"],
) -> Bool[Array, ""]:
    """Whether two boxes are disjoint: the separating axis test with its 15 candidate axes
    (Gottschalk et al. 1996). `between` leads from the first centre to the second.
    """
    a, b = rotation_a.T, rotation_b.T  # rows: axes in the world
    crossed = jnp.cross(a[:, None], b[None]).reshape(9, 3)
    axes = jnp.concatenate([a, b, crossed])
    reach = jnp.abs(axes @ rotation_a) @ half_a + jnp.abs(axes @ rotation_b) @ half_b
    usable = jnp.sum(axes * axes, -1) > PARALLEL
    return jnp.any(usable & (jnp.abs(axes @ between) > reach))


def closest_points_tilted(
    center_a: Float[Array, "3"],
    extent_a: Float[Array, "3"],
    rotation_a: Float[Array, "3 3"],
    center_b: Float[Array, "3"],
    extent_b: Float[Array, "3"],
    rotation_b: Float[Array, "3 3"],
) -> Float[Array, "2 3"]:
    """`closest_points` of boxes with any rotation (world_from_box), one on each.

    Disjoint boxes are nearest at a corner of one or between two edges. Overlapping boxes share the
    point given, found by alternating projections; where they barely overlap, it may lie a few
    centimetres outside them.
    """
    corners_a = center_a + (CORNERS * extent_a) @ rotation_a.T
    corners_b = center_b + (CORNERS * extent_b) @ rotation_b.T
    edge_a, edge_b = _edge_to_edge(corners_a, corners_b)
    into_a = closest_to_point(center_a, extent_a, rotation_a, corners_b)
    into_b = closest_to_point(center_b, extent_b, rotation_b, corners_a)
    on_a = jnp.concatenate([corners_a, into_a, edge_a])
    on_b = jnp.concatenate([into_b, corners_b, edge_b])
    nearest = jnp.argmin(ops.safe_norm(on_a - on_b))
    shared = (center_a + center_b) / 2
    for _ in range(PROJECTIONS):
        shared = closest_to_point(center_a, extent_a, rotation_a, shared)
        shared = closest_to_point(center_b, extent_b, rotation_b, shared)
    apart = _separated(center_b - center_a, extent_a / 2, rotation_a, extent_b / 2, rotation_b)
    return jnp.where(apart, jnp.stack([on_a[nearest], on_b[nearest]]), shared[None])
