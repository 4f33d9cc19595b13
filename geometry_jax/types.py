"""What exists: a scene, a query about it, a verdict. Frozen pytrees; world frame z up, metres.

Cameras look along z with x to the right and y down. N objects, F frames, K points of an object.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal, cast

import jax
import numpy as np

Modality = Literal["scene", "single_image", "image_pair"]
AnswerKind = Literal["choice", "label", "metres", "centimetres", "square_metres", "count"]

MAX_LABELS = 6  # slots of a query: a target with up to five candidates
MIN_VISIBILITY = 0.1  # share of an object that an image must show for a question about it


def leaf(array: np.ndarray | np.generic) -> jax.Array:
    """A NumPy array as a pytree leaf: JAX takes both kinds, the fields' types name one."""
    return cast(jax.Array, array)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scene:
    """One room, padded to N objects, F frames and K points."""

    center: jax.Array  # (N, 3) f32, middle of the axis-aligned box, world
    extent: jax.Array  # (N, 3) f32, full sides of the axis-aligned box
    # (N, 3) f32, middle of the oriented box; the axis-aligned one where there is none
    obb_center: jax.Array
    obb_extent: jax.Array  # (N, 3) f32, full sides in the box's own axes
    obb_yaw: jax.Array  # (N,) f32, radians about +z, counter-clockwise
    # (N, 3, 3) f32, world_from_box, where a box is tilted; (0, 3, 3) where all stand upright
    obb_rotation: jax.Array
    label: jax.Array  # (N,) i32, index into the scene's label list
    object_valid: jax.Array  # (N,) bool, False for padding
    world_from_camera: jax.Array  # (F, 4, 4) f32, rigid
    # (F,) f32, radians of the optical axis about +z, unwrapped along all poses of the path
    heading: jax.Array
    frame_valid: jax.Array  # (F,) bool, False for padding
    # (F,) bool, the pose is there and finite; else `world_from_camera` and `heading` mean nothing
    pose_valid: jax.Array
    image_size: jax.Array  # (F, 2) f32, width and height in pixels
    seen: jax.Array  # (F, N) bool, the frame has a record of the object
    visibility: jax.Array  # (F, N) f32, share of the object seen, 0 to 1
    bbox_2d: jax.Array  # (F, N, 4) f32, x1 y1 x2 y2 in pixels
    camera_location: jax.Array  # (F, N, 3) f32, middle of the seen points in the camera frame
    truncated: jax.Array  # (F, N) bool, leaves the image
    occluded: jax.Array  # (F, N) bool, partly hidden by something nearer
    points: jax.Array  # (N, K, 3) f32, world; K may be 0
    point_valid: jax.Array  # (N, K) bool
    floor_area: jax.Array  # () f32, square metres, NaN where unknown
    # (N, N) f32, metres between the boxes of every two objects; (0, 0) where not worked out yet
    box_gap: jax.Array
    # Read by the `reference` convention only.
    stored_size: jax.Array  # (N,) f32, centimetres, the record's own `size`, NaN where it has none
    # (F,) f32, radians, turns of the optical axis in the world's x-z plane summed along the path
    path_turn_xz: jax.Array


# The leading axes of each leaf: N objects, F frames, K points.
SCENE_AXES: dict[str, str] = {
    **dict.fromkeys(("center", "extent", "obb_center", "obb_extent", "obb_yaw"), "N"),
    **dict.fromkeys(("obb_rotation", "label", "object_valid", "stored_size"), "N"),
    **dict.fromkeys(("world_from_camera", "heading", "frame_valid", "pose_valid"), "F"),
    **dict.fromkeys(("image_size", "path_turn_xz"), "F"),
    **dict.fromkeys(("seen", "visibility", "bbox_2d", "camera_location"), "FN"),
    **dict.fromkeys(("truncated", "occluded"), "FN"),
    **dict.fromkeys(("points", "point_valid"), "NK"),
    "box_gap": "NN",
    "floor_area": "",
}
OPTIONAL_LEAVES = ("obb_rotation", "box_gap")  # without rows where a scene has none


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Query:
    """What is asked, with names resolved."""

    task_id: jax.Array  # () i32, index into TASKS
    labels: jax.Array  # (6,) i32, in the order of the task's slots, -1 where unused
    frames: jax.Array  # (2,) i32, reference and target (motion: first and second), -1 where unused
    # () i32, of relative_direction_hard: 0 eight-way, 1 easy, 2 medium, 3 hard
    difficulty: jax.Array
    use_points: jax.Array  # () bool, distances between instance points where the scene has them
    # () f32, share of an object that an image must show
    min_visibility: jax.Array = dataclasses.field(
        default_factory=lambda: leaf(np.float32(MIN_VISIBILITY))
    )
    # (2,) i32, of attribute_measurement: the frame that each label is bound to, -1 for either
    label_frames: jax.Array = dataclasses.field(
        default_factory=lambda: leaf(np.full(2, -1, np.int32))
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Evidence:
    """What decides the answer, enough to draw it. Unused entries are NaN or -1."""

    points: jax.Array  # (4, 3) f32, world: the deciding points in the order of the roles
    objects: jax.Array  # (6,) i32, object indices in the order of the roles
    numbers: jax.Array  # (5,) f32, the deciding distances (metres), angles (radians) or scores


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Verdict:
    """What an oracle says. `value` and `evidence` mean nothing unless `reason` is OK."""

    # () f32: an index into the task's choices, a label index, metres, square metres or a count
    value: jax.Array
    reason: jax.Array  # () i32, a Reason
    # () f32, distance to the nearest decision edge, 1 = just clear (2 degrees, 2 %)
    margin: jax.Array
    evidence: Evidence


Oracle = Callable[[Scene, Query], Verdict]


@dataclasses.dataclass(frozen=True)
class TaskSpec:
    """A task: its name, what it is shown, and the function that answers it.

    `slots` are the label roles a question fills; `answer` says how `Verdict.value` is read and
    printed (`centimetres` is a value in metres, printed in centimetres). `roles` are the images
    that the sentence names.
    """

    name: str
    modality: Modality
    oracle: Oracle
    answer: AnswerKind
    slots: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    roles: tuple[Literal["reference", "target"], ...] = ()
