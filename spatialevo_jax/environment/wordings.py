"""The project's own wordings of every task, and how their blanks are filled.

Every rendering is read back by `extract` to the same slots. `{a}` to `{d}` are label slots in the
task's order, `{a_plural}` a plural, `{n}` and `{m}` the reference and the target image.
"""

from typing import NamedTuple

import numpy as np

from geometry_jax.scene_io import SceneRecord
from geometry_jax.tasks import TASK_IDS, TASKS
from spatialevo_jax.environment.labels import plural, spoken
from spatialevo_jax.environment.pools import pools

WORDINGS: dict[str, tuple[str, ...]] = {
    "object_counting": (
        "How many {a_plural} are in the room?",
        "How many {a_plural} does the room have?",
        "What is the number of {a_plural} in the room?",
    ),
    "absolute_distance": (
        "What is the distance between the {a} and the {b} in meters?",
        "How far is the {a} from the {b} in meters?",
        "How many meters are between the {a} and the {b}?",
    ),
    "relative_distance": (
        "Which is closest to the {a}: the {b}, the {c} or the {d}?",
        "Of the {b}, the {c} and the {d}, which is closest to the {a}?",
        "Which of the {b}, the {c} and the {d} is closest to the {a}?",
    ),
    "relative_direction_hard": (
        "Standing by the {a} and facing the {b}, where is the {c}?",
        "If I stand by the {a} and face the {b}, where is the {c}?",
        "Where is the {c} when I stand by the {a} and face the {b}?",
    ),
    "single_image_relative_direction": (
        "Where is the {b} relative to the {a}?",
        "In which direction is the {b} from the {a}?",
        "Relative to the {a}, where is the {b}?",
    ),
    "distance_cam_obj": (
        "What is the distance from the camera to the {a} in meters?",
        "How far is the {a} from the camera in meters?",
        "How many meters are between the camera and the {a}?",
    ),
    "depth_order_obj_obj": (
        "Which is closer to the camera, the {a} or the {b}?",
        "Of the {a} and the {b}, which is closer to the camera?",
        "Is the {a} or the {b} closer to the camera?",
    ),
    "position_cam_cam": (
        "From Image {n}, where is the camera of Image {m}?",
        "Where is the camera of Image {m} relative to the camera of Image {n}?",
        "In which direction is the camera of Image {m} from Image {n}?",
    ),
    "elevation_cam_cam": (
        "Is the camera of Image {m} higher or lower than the camera of Image {n}?",
        "Compared with Image {n}, is the camera of Image {m} higher or lower?",
        "Is Image {m} taken from higher or lower than Image {n}?",
    ),
    "motion_camera": (
        "In which direction does the camera move from Image {n} to Image {m}?",
        "How does the camera move from Image {n} to Image {m}?",
        "Which way does the camera move or turn from Image {n} to Image {m}?",
    ),
    "visibility_compare": (
        "Which image shows the {a} more clearly?",
        "In which image is the {a} more visible?",
        "Which image gives the better view of the {a}?",
    ),
    "object_size": (
        "How long is the longest side of the {a} in centimeters?",
        "What is the longest dimension of the {a} in centimeters?",
        "How many centimeters long is the longest side of the {a}?",
    ),
    "room_size": (
        "What is the size of the room in square meters?",
        "How large is the floor of the room in square meters?",
        "How many square meters is the floor of the room?",
    ),
    "position_cam_obj": (
        "From the camera of Image {n}, in which direction is the {a}?",
        "When I take Image {n}, in which direction is the {a}?",
        "In which direction is the {a} when I take Image {n}?",
    ),
    "position_cam_reg": (
        "From the camera of Image {n}, in which direction is the area of the {a}?",
        "When I take Image {n}, in which direction is the area of the {a}?",
        "In which direction is the area of the {a} when I take Image {n}?",
    ),
    "attribute_measurement": (
        "Which has the longer longest side, the {a} or the {b}?",
        "Of the {a} and the {b}, which has the longer longest side?",
        "Between the {a} and the {b}, which has the larger longest dimension?",
    ),
}


class Slots(NamedTuple):
    """What a question names: labels in the order of the task's slots, and images in their roles."""

    labels: tuple[str, ...] = ()  # a region (position_cam_reg) stands here as its phrase
    # (reference, target) or (reference,), 1 or 2; () where the sentence names none
    images: tuple[int, ...] = ()
    difficulty: str = ""  # of relative_direction_hard, where the sentence offers its answers
    bound_image: int = 0  # of attribute_measurement: 1 or 2 where both objects are meant in it


def render(task: str, slots: Slots, wording: int) -> str:
    """A question; `wording` counts modulo the number of wordings of the task."""
    templates = WORDINGS[task]
    blanks = dict(zip("abcd", map(spoken, slots.labels), strict=False))
    blanks |= {f"{key}_plural": plural(label) for key, label in blanks.items()}
    blanks |= dict(zip("nm", map(str, slots.images), strict=False))
    return templates[wording % len(templates)].format(**blanks)


def draw_slots(
    record: SceneRecord, frames: tuple[int, ...], task: str, rng: np.random.Generator
) -> Slots | None:
    """Random slots from the pools of the images shown; None when the pools are too small."""
    spec = TASKS[TASK_IDS[task]]
    if spec.roles == ("reference",) and frames:  # looked for in the reference image alone
        image = int(rng.integers(1, 3))
        seen = pools(record, (frames[image - 1],)).unique
        return Slots((seen[rng.integers(len(seen))],), (image,)) if seen else None
    source = pools(record, frames).offered(task)
    if len(source) < len(spec.slots):
        return None
    labels = tuple(source[index] for index in rng.permutation(len(source))[: len(spec.slots)])
    if task == "motion_camera":
        return Slots(labels, (1, 2))
    images = tuple(int(i) for i in 1 + rng.permutation(2)) if spec.roles else ()
    return Slots(labels, images[: len(spec.roles)])
