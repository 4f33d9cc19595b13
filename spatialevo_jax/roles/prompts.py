"""The words both roles are given: short ones for a small model that is taught here and points at
what it sees, and longer ones, in `prose`, for a released model that has to be told.

A prompt is the images, each announced as "Image k:", then one of these texts. The label pools come
from the same definition as the truth, and nothing in a prompt gives an answer away.
"""

from collections.abc import Sequence

from geometry_jax.reasons import Reason
from geometry_jax.tasks import TASK_IDS, TASKS
from spatialevo_jax.config import Language
from spatialevo_jax.environment.pools import Pools
from spatialevo_jax.environment.wordings import WORDINGS

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
UNITS = ("meters", "centimeters", "square meters")


def task_title(task: str) -> str:
    return task.replace("_", " ")


def pool_text(pools: Pools) -> str:
    """All labels, by how often they occur."""
    parts = [f"Unique: {', '.join(pools.unique) or 'none'}."]
    if pools.repeated:
        parts.append(f"Repeated: {', '.join(pools.repeated)}.")
    return " ".join(parts)


# What stands in the blanks of a wording where it is shown as a form.
BLANKS = {"a": "A", "b": "B", "c": "C", "d": "D", "a_plural": "A (plural)", "n": "N", "m": "M"}


def questioner(task: str, pools: Pools, language: Language = "pointings") -> str:
    """Offers the labels that fit the task; none where a question names only cameras."""
    labels = pools.offered(task) if TASKS[TASK_IDS[task]].slots else ()
    names = f"Name only: {', '.join(labels)}. " if labels else ""
    if language == "pointings":
        return (
            f"Ask a question. Task {task_title(task)}: {GOALS[task]}. {names}Reply with "
            "<observation> image, label, column, row, depth </observation><question> </question>"
        )
    forms = " or ".join(f'"{wording.format(**BLANKS)}"' for wording in WORDINGS[task])
    once = "Name no object twice, and each by exactly its name above. " if labels else ""
    return (
        "All images show one room. First describe what each image shows: which objects, how many, "
        "and where they are relative to each other. State only what can be seen. Then ask one "
        f"question that measuring the room would settle. Task {task_title(task)}: {GOALS[task]}. "
        f"{names}{once}The question has one of these forms, with names and the numbers of images "
        f"in the place of capital letters: {forms}. Do not answer it. Reply with these two parts "
        "and nothing else: "
        "<observation> the description </observation><question> the question </question>"
    )


def look(image: int, labels: Sequence[str]) -> str:
    return f"Point at all of these in Image {image}: {', '.join(labels)}."


def solver(task: str, question: str, language: Language = "pointings") -> str:
    hint = HINTS[task]
    if language == "pointings":
        return f"{question} Point at objects, then <answer> {hint} </answer>"
    form = f"a number, in {hint}" if hint in UNITS else hint
    return (
        f"{question} Reason step by step in plain words, from what the images show: where the "
        "objects are, how large they are and how far away, and from where each image was taken. "
        f"Say nothing twice. End with the answer alone, {form}: <answer> the answer </answer>"
    )


def explainer(task: str, question: str, pools: Pools, language: Language = "pointings") -> str:
    title = task_title(task)
    if language == "pointings":
        return (
            f"Task {title}: this question is invalid: {question} {pool_text(pools)} "
            "Say why: <answer> </answer>"
        )
    return (
        f"Task {title}: {GOALS[task]}. This question was found invalid for the task: {question} "
        f"Labels of what is shown, by how often: {pool_text(pools)} Reason step by step in plain "
        f"words about why it is. The reasons there are: {', '.join(reason_phrases())}. End with "
        "the reason alone, in these words: <answer> the reason </answer>"
    )


def reason_phrases() -> tuple[str, ...]:
    """What an explanation may say: the distinct phrases of all reasons but OK, in order."""
    return tuple(dict.fromkeys(reason.phrase for reason in Reason if reason.value))
