"""What can be asked about the images shown: label pools and feasible tasks, from the same objects
as the truth.
"""

import collections
import dataclasses

import numpy as np

from geometry_jax.scene_io import SceneRecord
from geometry_jax.tasks.elevation_cam_cam import SAME_LEVEL
from geometry_jax.types import MIN_VISIBILITY, Modality
from spatialevo_jax.environment.labels import NOT_OBJECTS, askable, spoken

# Unique labels that a task needs; the others need what `feasible_tasks` says.
LEAST_UNIQUE = {
    "absolute_distance": 2,
    "relative_distance": 4,
    "relative_direction_hard": 3,
    "single_image_relative_direction": 2,
    "distance_cam_obj": 1,
    "depth_order_obj_obj": 2,
    "object_size": 1,
    "visibility_compare": 1,
    "position_cam_obj": 1,
    "position_cam_reg": 1,
    "attribute_measurement": 2,
}
# Tasks that can be asked about images whose camera poses are lost.
WITHOUT_POSES = frozenset({"depth_order_obj_obj", "visibility_compare", "attribute_measurement"})


@dataclasses.dataclass(frozen=True)
class Pools:
    """Labels by how often they occur: in the whole scene, in the one image, or over the pair."""

    modality: Modality
    unique: tuple[
        str, ...
    ]  # exactly once; pair: at most once in each image and seen in at least one
    repeated: tuple[str, ...]  # twice or more; pair: in one of the images

    def offered(self, task: str) -> tuple[str, ...]:
        """The labels that a question of the task may name."""
        return self.repeated if task == "object_counting" else self.unique


def modality_of(frames: tuple[int, ...]) -> Modality:
    """One image is a single image, two are a pair, any other number is the scene."""
    return "single_image" if len(frames) == 1 else "image_pair" if len(frames) == 2 else "scene"


def _labels(record: SceneRecord, mask: np.ndarray) -> list[str]:
    names = [record.labels[int(record.scene.label[index])] for index in np.flatnonzero(mask)]
    return [name for name in names if spoken(name) not in NOT_OBJECTS]


def visible_labels(
    record: SceneRecord, frame: int, min_visibility: float = MIN_VISIBILITY
) -> list[str]:
    """Labels of the objects that a frame shows well enough, one for each object."""
    scene = record.scene
    mask = np.asarray(scene.seen[frame]) & (np.asarray(scene.visibility[frame]) >= min_visibility)
    return _labels(record, mask & np.asarray(scene.object_valid))


def pools(record: SceneRecord, frames: tuple[int, ...]) -> Pools:
    """The label pools of the modality that the number of frames stands for.

    They hold only labels that a sentence can name: every question about them can be read back.
    """
    modality = modality_of(frames)
    if modality == "scene":
        counts = [collections.Counter(_labels(record, np.asarray(record.scene.object_valid)))]
    else:
        counts = [collections.Counter(visible_labels(record, frame)) for frame in frames]
    names = sorted(set().union(*counts) & askable(record.labels))
    most = {name: max(count[name] for count in counts) for name in names}
    return Pools(
        modality,
        unique=tuple(name for name in names if most[name] == 1),
        repeated=tuple(name for name in names if most[name] > 1),
    )


def feasible_tasks(record: SceneRecord, frames: tuple[int, ...]) -> tuple[str, ...]:
    """Tasks for which the images shown offer the labels, the poses and the camera heights that they
    need.
    """
    offered = pools(record, frames)
    unique = len(offered.unique)
    if offered.modality == "scene":
        needs = ("absolute_distance", "relative_distance", "relative_direction_hard", "object_size")
        found = [task for task in needs if unique >= LEAST_UNIQUE[task]]
        if float(record.scene.floor_area) > 0:
            found.append("room_size")
        return (*(["object_counting"] if offered.repeated else []), *found)
    if offered.modality == "single_image":
        found = []
        needs = ("single_image_relative_direction", "distance_cam_obj", "depth_order_obj_obj")
    else:
        heights = [float(record.scene.world_from_camera[frame][2, 3]) for frame in frames]
        level = abs(heights[1] - heights[0]) <= SAME_LEVEL
        found = ["position_cam_cam", *([] if level else ["elevation_cam_cam"]), "motion_camera"]
        needs = (
            *("visibility_compare", "position_cam_obj", "position_cam_reg"),
            "attribute_measurement",
        )
    found += [task for task in needs if unique >= LEAST_UNIQUE[task]]
    posed = all(bool(record.scene.pose_valid[frame]) for frame in frames)
    return tuple(task for task in found if posed or task in WITHOUT_POSES)
