"""From the text of a question to its slots: a fixed grammar, no model, no similarity.

Each task has a few sentence patterns with blanks. A sentence that fits a pattern of its task gives
phrases, which must be labels of the scene; one that fits only another task's patterns is the wrong
task. Blanks are bounded, so the time is linear in the text.
"""

import functools
import re
from collections.abc import Sequence

from geometry_jax.reasons import Reason
from geometry_jax.tasks import TASK_IDS, TASKS
from spatialevo_jax.environment.labels import normalise, resolve
from spatialevo_jax.environment.wordings import WORDINGS, Slots

MAX_LENGTH = 600  # characters; no honest question is longer
BLANK = r"[a-z0-9][a-z0-9 '\-/]{0,45}?"  # the longest label with an article and a plural's ending

# Wordings of others that mean the same: the families of the published generator, in the project's
# reading.
FAMILIES: dict[str, tuple[str, ...]] = {
    "object_counting": (
        "how many {a} are there( in (this|the) (room|whole scene|scene))?",
        "how many {a} are in (this|the whole|the) (room|scene)",
    ),
    "absolute_distance": (
        "(measuring )?from the closest points? of each( object)?, what is the( direct)? distance "
        "between {a} and {b}( in meters| \\(in meters\\))?",
        "what is the( direct)? distance between {a} and {b}( in meters| \\(in meters\\))?",
        "how far apart are {a} and {b}(,? in meters)?",
    ),
    "relative_distance": (
        "(measuring )?(from the closest points? of each( object)?, )?which of these objects "
        "\\({b}, {c},( and| or)? {d}\\) is( the)? (closest|nearest) to {a}",
        "which (object )?is( the)? (closest|nearest) to {a}[:,] {b}, {c},?( and| or)? {d}",
    ),
    "relative_direction_hard": (
        "if (i am|you are) standing (by|at|near) {a} and facing {b}, "
        "(where|in which direction) is {c}( relative to (me|you)| located)?",
        "(i am )?standing (by|at|near) {a},?( and)? facing {b}, where is {c}( relative to me)?",
    ),
    "single_image_relative_direction": (
        "in this image, where is {b} relative to {a}",
        "where is {b} relative to {a} in (this|the) image",
        "what is the direction of {b} from {a}",
    ),
    "distance_cam_obj": (
        "how far( away)? from the camera is {a}( in meters)?",
        "how far is {a} from the camera",
        "what is the distance from the camera to {a}( \\(in meters\\))?",
    ),
    "depth_order_obj_obj": (
        "which (object )?is (closer|nearer) to the (camera|lens)[,:] {a} or {b}",
        "between {a} and {b}, which( one)? is (closer|nearer) to the camera",
    ),
    "position_cam_cam": (
        "when (you took|i took|you take|taking) image {n}, where (was|is) the camera (for|of) "
        "image {m}( relative to (you|me))?",
    ),
    "elevation_cam_cam": (
        "compared (with|to) the camera (in|of) image {n}, (is|was) the camera (in|of) image {m} "
        "higher or lower",
    ),
    "motion_camera": (
        "how did the camera move from image {n} to image {m}",
        "in which direction did the camera (move|turn|rotate) from image {n} to image {m}",
    ),
    "visibility_compare": ("in which image is {a} more( clearly)? visible",),
    "object_size": (
        "what is the( length of the)? longest (dimension|side)( \\(length, width,? or height\\))? "
        "of {a}( in centimeters|,? in cm)?",
    ),
    "room_size": (
        "what is the (size|area) of (this|the) room( in square meters| \\(in square meters\\))?",
    ),
    "position_cam_obj": (
        "(which|in which) direction is {a} relative to me when (i am|i'm) taking image {n}",
    ),
    "position_cam_reg": (
        "when (you are|i am) taking image {n}, in which direction is {a} relative to (you|me)",
    ),
    "attribute_measurement": (
        "which is larger in its longest dimension, {a} or {b}",
        "between {a} and {b}, which( one)? has the (larger|longer) longest (dimension|side)",
    ),
}


def _pattern(template: str, *, literal: bool) -> re.Pattern[str]:
    text = template.lower()
    if literal:  # a family may end in a group that may be left out: its `?` stays
        text = text.rstrip("?. ")
    text = text.replace("_plural}", "}").replace("the {", "{")  # articles belong to the blank
    parts = re.split(r"\{([a-dnm])\}", text)
    built = []
    for index, part in enumerate(parts):
        if index % 2 == 0:
            built.append(re.escape(part) if literal else part)
        elif part in "nm":
            built.append(rf"(?P<{part}>[12])")
        else:
            built.append(rf"(?P<{part}>{BLANK})")
    return re.compile("".join(built))


@functools.cache
def patterns(task: str) -> tuple[re.Pattern[str], ...]:
    """The compiled patterns of a task, the project's own wordings first."""
    own = [_pattern(template, literal=True) for template in WORDINGS[task]]
    return (*own, *(_pattern(template, literal=False) for template in FAMILIES.get(task, ())))


def read_question(task: str, question: str, labels: Sequence[str]) -> Slots | Reason:
    """The slots that the question fills, or why it cannot be answered.

    Args:
        task: canonical task name.
        question: free text.
        labels: distinct labels of the scene.
    """
    if len(question) > MAX_LENGTH:
        return Reason.EMPTY_QUESTION
    line = re.sub(r"[ \t\r\n]+", " ", question).strip()
    if not line or not line.isprintable():
        return Reason.EMPTY_QUESTION
    text = normalise(line)
    found = _fit(task, text, labels)
    if found is not None:
        return found
    # A sentence of another task must not be answered; one that only lacks a part says so.
    if any(_matches(other.name, text) for other in TASKS if other.name != task):
        return Reason.WRONG_TASK
    return Reason.MISSING_ROLE if _opens_like(task, text) else Reason.WRONG_TASK


def _matches(task: str, text: str) -> bool:
    return any(pattern.fullmatch(text) for pattern in patterns(task))


def _opens_like(task: str, text: str) -> bool:
    """Whether the sentence begins as one of the task's own wordings does, before any blank."""
    starts = (t.lower().split("{")[0].removesuffix("the ") for t in WORDINGS[task])
    return any(start.strip() and text.startswith(start.strip()) for start in starts)


def _fit(task: str, text: str, labels: Sequence[str]) -> Slots | Reason | None:
    """The first pattern whose phrases are all labels; else the reason of the first pattern that
    fits at all.
    """
    spec = TASKS[TASK_IDS[task]]
    failure: Reason | None = None
    for pattern in patterns(task):
        match = pattern.fullmatch(text)
        if match is None:
            continue
        groups = match.groupdict()
        resolved = [resolve(groups[key], labels) for key in "abcd"[: len(spec.slots)]]
        reasons = [one for one in resolved if isinstance(one, Reason)]
        names = tuple(one for one in resolved if not isinstance(one, Reason))
        if not reasons and len(set(names)) < len(names):
            reasons = [Reason.SAME_LABEL]
        images = tuple(int(groups[key]) for key in "nm" if groups.get(key))
        if not reasons and len(images) == 2 and images[0] == images[1]:
            reasons = [Reason.SAME_IMAGE]
        if not reasons:
            return Slots(names, images)
        failure = failure or reasons[0]
    return failure
