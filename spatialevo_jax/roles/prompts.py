"""The words both roles are given. One short wording for every model size.

A prompt is the images, each announced as "Image k:", then one of these texts. The label pools come
from the same definition as the truth, and nothing in a prompt gives an answer away.
"""

from collections.abc import Sequence

from geometry_jax.reasons import Reason
from geometry_jax.tasks import TASK_IDS, TASKS
from spatialevo_jax.config import Language
from spatialevo_jax.environment.pools import Pools

GOALS = {
    "object_counting": "ask how many objects of one repeated label the room has",
    "absolute_distance": "ask for the distance between two unique objects in meters",
    "relative_distance": "ask which of three unique objects is closest to a fourth",
    "relative_direction_hard": "stand by one unique object, face a second, ask where a third is",
    "single_image_relative_direction": "ask where one unique object is relative to another",
    "distance_cam_obj": "ask for the distance from the camera to a unique object in meters",
    "depth_order_obj_obj": "ask which of two unique objects is closer to the camera",
    "position_cam_cam": "ask where the camera of one image was, seen from the other",
    "elevation_cam_cam": "ask whether the camera of one image was higher or lower",
    "motion_camera": "ask in which direction the camera moved from Image 1 to Image 2",
    "visibility_compare": "ask which image shows one object more clearly",
    "object_size": "ask how long the longest side of a unique object is in centimeters",
    "room_size": "ask how large the floor of the room is in square meters",
    "position_cam_obj": "ask in which direction an object is from the camera of one image",
    "position_cam_reg": "ask in which direction a part of the room is from the camera of one image",
    "attribute_measurement": "ask which of two unique objects has the longer longest side",
}
DIRECTION = "a direction such as front-left"
HINTS = {
    "object_counting": "a number",
    "absolute_distance": "meters",
    "distance_cam_obj": "meters",
    "relative_distance": "one of the names",
    "depth_order_obj_obj": "one of the names, or same",
    "relative_direction_hard": DIRECTION,
    "position_cam_cam": DIRECTION,
    "single_image_relative_direction": f"{DIRECTION} or up-left",
    "elevation_cam_cam": "higher or lower",
    "motion_camera": "left, right, front, back, up or down",
    "visibility_compare": "image1, image2 or same",
    "object_size": "centimeters",
    "room_size": "square meters",
    "position_cam_obj": DIRECTION,
    "position_cam_reg": DIRECTION,
    "attribute_measurement": "one of the names",
}


def task_title(task: str) -> str:
    return task.replace("_", " ")


def pool_text(pools: Pools) -> str:
    """All labels, by how often they occur."""
    parts = [f"Unique: {', '.join(pools.unique) or 'none'}."]
    if pools.repeated:
        parts.append(f"Repeated: {', '.join(pools.repeated)}.")
    return " ".join(parts)


# What an observation is to say, by the language it is written in; see `roles.claims`.
OBSERVATIONS: dict[Language, str] = {
    "pointings": "image, label, column, row, depth",
    "prose": "what each image shows: objects, how many, and where they are relative to each other",
}


def questioner(task: str, pools: Pools, observation: Language = "pointings") -> str:
    """Offers the labels that fit the task; none where a question names only cameras."""
    labels = pools.offered(task) if TASKS[TASK_IDS[task]].slots else ()
    names = f"Name only: {', '.join(labels)}. " if labels else ""
    return (
        f"Ask a question. Task {task_title(task)}: {GOALS[task]}. {names}Reply with "
        f"<observation> {OBSERVATIONS[observation]} </observation>"
        "<question> </question>"
    )


def look(image: int, labels: Sequence[str]) -> str:
    return f"Point at all of these in Image {image}: {', '.join(labels)}."


def solver(task: str, question: str) -> str:
    return f"{question} Point at objects, then <answer> {HINTS[task]} </answer>"


def explainer(task: str, question: str, pools: Pools) -> str:
    return (
        f"Task {task_title(task)}: this question is invalid: {question} {pool_text(pools)} "
        "Say why: <answer> </answer>"
    )


def reason_phrases() -> tuple[str, ...]:
    """What an explanation may say: the distinct phrases of all reasons but OK, in order."""
    return tuple(dict.fromkeys(reason.phrase for reason in Reason if reason.value))
