"""The task table. A new task is its file, one line here, and its test."""

import jax

from geometry_jax.tasks import (
    absolute_distance,
    attribute_measurement,
    depth_order_obj_obj,
    distance_cam_obj,
    elevation_cam_cam,
    motion_camera,
    object_counting,
    object_size,
    position_cam_cam,
    position_cam_obj,
    position_cam_reg,
    relative_direction_hard,
    relative_distance,
    room_size,
    single_image_relative_direction,
    visibility_compare,
)
from geometry_jax.types import Query, Scene, TaskSpec, Verdict

# The order is the task id, which checkpoints and data sets hold: append only.
TASKS: tuple[TaskSpec, ...] = (
    object_counting.TASK,
    absolute_distance.TASK,
    relative_distance.TASK,
    relative_direction_hard.TASK,
    single_image_relative_direction.TASK,
    distance_cam_obj.TASK,
    depth_order_obj_obj.TASK,
    position_cam_cam.TASK,
    elevation_cam_cam.TASK,
    motion_camera.TASK,
    visibility_compare.TASK,
    object_size.TASK,
    room_size.TASK,
    position_cam_obj.TASK,
    position_cam_reg.TASK,
    attribute_measurement.TASK,
)
TASK_IDS: dict[str, int] = {task.name: index for index, task in enumerate(TASKS)}


def judge(scene: Scene, query: Query) -> Verdict:
    """Answers one query. `jax.vmap(judge)` answers a batch of rollouts."""
    return jax.lax.switch(query.task_id, [task.oracle for task in TASKS], scene, query)
