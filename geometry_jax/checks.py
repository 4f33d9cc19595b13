"""What every task needs: finding objects, testing presence, putting a verdict together."""

import functools
import math

import jax
import jax.numpy as jnp

from geometry_jax import boxes, ops
from geometry_jax.reasons import Reason
from geometry_jax.types import MAX_LABELS, MIN_VISIBILITY, Evidence, Scene, Verdict

CLEAR_ANGLE = math.radians(2.0)  # nearer than this to the edge of a bin, an answer is not clear
CLEAR_SHARE = 0.02  # likewise for ratios of lengths
ALWAYS_CLEAR = 1e6  # the margin where nothing has to be decided


def evidence(
    points: tuple[jax.Array, ...] = (),
    objects: tuple[jax.Array, ...] = (),
    numbers: tuple[jax.Array, ...] = (),
) -> Evidence:
    """Pads what a task shows to the fixed shapes."""

    def padded(rows: tuple[jax.Array, ...], shape: tuple[int, ...], fill: float) -> jax.Array:
        full = jnp.full(shape, fill, jnp.float32)
        return full.at[: len(rows)].set(jnp.stack(rows).astype(jnp.float32)) if rows else full

    return Evidence(
        points=padded(points, (4, 3), jnp.nan),
        objects=padded(objects, (MAX_LABELS,), -1).astype(jnp.int32),
        numbers=padded(numbers, (5,), jnp.nan),
    )


def verdict(
    value: jax.Array,
    *failures: tuple[jax.Array, Reason],
    margin: jax.Array | float = ALWAYS_CLEAR,
    shown: Evidence | None = None,
) -> Verdict:
    """The value, unless a check fails: then the first failing check's reason, and value and margin
    0.
    """
    reason = jnp.int32(Reason.OK)
    for failed, why in reversed(failures):
        reason = jnp.where(failed, jnp.int32(why), reason)
    ok = reason == Reason.OK
    return Verdict(
        value=jnp.where(ok, jnp.asarray(value, jnp.float32), 0.0),
        reason=reason,
        margin=jnp.where(ok, jnp.asarray(margin, jnp.float32), 0.0),
        evidence=evidence() if shown is None else shown,
    )


def angle_margin(angle_to_edge: jax.Array) -> jax.Array:
    """Margin of an angle, radians from the edge of its bin: 1 at `CLEAR_ANGLE`."""
    return jnp.abs(angle_to_edge) / CLEAR_ANGLE


def level_margin(world_from_camera: jax.Array, tolerance: float) -> jax.Array:
    """Margin of a camera's pitch to where it looks too steeply up or down to have a heading."""
    level = jnp.clip(ops.safe_norm(world_from_camera[..., :2, 2]), 0.0, 1.0)
    return angle_margin(jnp.arcsin(level) - tolerance)


def least(*margins: jax.Array) -> jax.Array:
    """The smallest of several margins: what decides first."""
    return functools.reduce(jnp.minimum, margins)


def share_margin(value: jax.Array, edge: jax.Array | float) -> jax.Array:
    """Margin of a length or ratio to the edge where the answer changes: 1 at `CLEAR_SHARE`."""
    return jnp.abs(value - edge) / (CLEAR_SHARE * jnp.maximum(jnp.abs(jnp.asarray(edge)), 1e-6))


def has_frames(scene: Scene, frames: jax.Array) -> jax.Array:
    """Whether all indices name real frames; -1 and beyond are not silently wrapped or clamped."""
    inside = (frames >= 0) & (frames < scene.frame_valid.shape[0])
    return jnp.all(inside & scene.frame_valid[jnp.where(inside, frames, 0)])


def has_poses(scene: Scene, frames: jax.Array) -> jax.Array:
    """Whether the poses of real frames are there and finite: check `has_frames` first."""
    return jnp.all(scene.pose_valid[frames])


def instances(scene: Scene, label: jax.Array) -> jax.Array:
    """(N,) bool: the scene's objects of a label."""
    return scene.object_valid & (scene.label == label) & (label >= 0)


def visible(
    scene: Scene,
    frame: jax.Array,
    label: jax.Array,
    min_visibility: jax.Array | float = MIN_VISIBILITY,
) -> jax.Array:
    """(N,) bool: objects of a label that a frame shows well enough."""
    return instances(scene, label) & scene.seen[frame] & (scene.visibility[frame] >= min_visibility)


def visibility_margin(
    scene: Scene,
    frame: jax.Array,
    label: jax.Array,
    min_visibility: jax.Array | float = MIN_VISIBILITY,
) -> jax.Array:
    """Margin of what a frame shows of a label's objects to the share that counts as seen: one that
    is just seen might not be, and one that is just not seen might be a second.
    """
    known = instances(scene, label) & scene.seen[frame]
    apart = share_margin(scene.visibility[frame], min_visibility)
    return jnp.min(jnp.where(known, apart, ALWAYS_CLEAR))


def same_labels(labels: jax.Array, count: int | jax.Array) -> jax.Array:
    """Whether any two of the first `count` labels are equal."""
    index = jnp.arange(labels.shape[0])
    used = index < count
    equal = (labels[:, None] == labels[None]) & (index[:, None] < index[None])
    return jnp.any(equal & used[:, None] & used[None])


def only(mask: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Index of the first True, whether there is none, whether there are several."""
    count = mask.sum(dtype=jnp.int32)
    return ops.first_index(mask), count == 0, count > 1


def unique_object(scene: Scene, label: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Index of the scene's object of a label, whether there is none, whether several."""
    return only(instances(scene, label))


def unique_in_frame(
    scene: Scene,
    frame: jax.Array,
    label: jax.Array,
    min_visibility: jax.Array | float = MIN_VISIBILITY,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Index of a label's object in a frame, whether none is visible, whether several are."""
    return only(visible(scene, frame, label, min_visibility))


def box_rotation(scene: Scene, index: jax.Array) -> jax.Array:
    """(3, 3) world_from_box of an object's oriented box."""
    if scene.obb_rotation.shape[0]:
        return scene.obb_rotation[index]
    return boxes.yaw_rotation(scene.obb_yaw[index])


def longest_side(scene: Scene, index: jax.Array) -> jax.Array:
    """(2, 3) ends of an edge-parallel line through the middle of an object's oriented box, along
    its longest side: what to draw as its length.
    """
    extent = scene.obb_extent[index]
    half = box_rotation(scene, index)[:, jnp.argmax(extent)] * extent.max() / 2
    return jnp.stack([scene.obb_center[index] - half, scene.obb_center[index] + half])


def box_gap(scene: Scene, first: jax.Array, second: jax.Array) -> jax.Array:
    """(2, 3) closest points of the oriented boxes of two objects."""
    center, extent = scene.obb_center, scene.obb_extent
    turn, closest = scene.obb_yaw, boxes.closest_points
    if scene.obb_rotation.shape[0]:
        turn, closest = scene.obb_rotation, boxes.closest_points_tilted
    return closest(
        center[first], extent[first], turn[first], center[second], extent[second], turn[second]
    )


def gap(scene: Scene, first: jax.Array, second: jax.Array, use_points: jax.Array) -> jax.Array:
    """(2, 3) closest points of two objects: of their instance points when asked for and there, else
    of their boxes.
    """
    by_box = box_gap(scene, first, second)
    if scene.points.shape[1] == 0:
        return by_box
    a, b = scene.points[first], scene.points[second]
    real = scene.point_valid[first][:, None] & scene.point_valid[second][None]
    apart = jnp.where(real, ops.safe_norm(a[:, None] - b[None]), jnp.inf)
    nearest = jnp.argmin(apart)
    row, column = nearest // apart.shape[1], nearest % apart.shape[1]
    return jnp.where(use_points & real.any(), jnp.stack([a[row], b[column]]), by_box)


def gap_length(
    scene: Scene, first: jax.Array, second: jax.Array, use_points: jax.Array
) -> jax.Array:
    """Metres of the `gap`, looked up where the scene has its table and no points."""
    if scene.box_gap.shape[0] and scene.points.shape[1] == 0:
        return scene.box_gap[first, second]
    ends = gap(scene, first, second, use_points)
    return ops.safe_norm(ends[1] - ends[0])
