"""Many ways to ask each question: a small grammar of sentences, each read back to the same query.

A form is a sentence with choices: `[a|b|]` is one of the texts between the bars, the last one here
empty. Blanks as in `environment.wordings`: `{a}` to `{d}` are labels in the task's order,
`{a_plural}` a plural, `{n}` and `{m}` the reference and the target image. The environment's own
wordings come first; the families of the published generator are among the others.
"""

import functools
import itertools
import re
from collections.abc import Sequence

from spatialevo_jax.environment.extract import read_question
from spatialevo_jax.environment.labels import plural, spoken
from spatialevo_jax.environment.wordings import WORDINGS, Slots

_M = "[ in meters| measured in meters| (in meters)|]"
_CM = "[ in centimeters| measured in centimeters| (in centimeters)|]"
_M2 = "[ in square meters| measured in square meters| (in square meters)|]"
_CLOSEST = "[Measuring from the closest points of each, |From the closest point of each object, ]"
_BY = "[by|at|next to|near|beside]"
# Where somebody stands, and whose left it then is.
_STANDS = tuple(
    (clause.replace("BY", _BY), who)
    for clause, who in (
        ("I am standing BY the {a} and [facing|looking at] the {b}", "me"),
        ("I stand BY the {a} and [face|look at] the {b}", "me"),
        ("you are standing BY the {a} and [facing|looking at] the {b}", "you"),
        ("you stand BY the {a} and [face|look at] the {b}", "you"),
    )
)
_ROOM = "[this room|the room|the whole scene|this scene|the space]"

_TAKING = (("me", "I am taking", "I took"), ("you", "you are taking", "you took"))
_FROM_CAMERA = (
    *(
        "[Where|In which direction|In what direction|Which way] "
        f"[is the {{a}} relative to {whom} when {now}|was the {{a}} relative to {whom} when {then}]"
        " Image {n}?"
        for whom, now, then in _TAKING
    ),
    *(
        f"[When {now} Image {{n}}, where is|When {now} Image {{n}}, in which direction is|"
        f"When {then} Image {{n}}, where was|When {then} Image {{n}}, in which direction was]"
        f" the {{a}}[ relative to {whom}| relative to the camera|]?"
        for whom, now, then in _TAKING
    ),
    "[Where|In which direction] is the {a} relative to the camera of Image {n}?",
    "[As s|S]een [by|from] the camera of Image {n}, [where|in which direction] is the {a}?",
    "[Where|In which direction] is the {a} [from|seen from] the camera of Image {n}?",
    "From the camera of Image {n}, [where|in which direction] is the {a}?",
)

FORMS: dict[str, tuple[str, ...]] = {
    "object_counting": (
        "How many {a_plural} are [there |]in [this room|the room|this scene|the whole scene]?",
        "How many {a_plural} [can you see|do you see] in this room?",
        "How many {a_plural} does [this room|the room|this scene] [have|contain|hold]?",
        "[What is the|What is the total] number of {a_plural} in [this room|the scene]?",
        "Count [all |]the {a_plural} in [this room|the room|the whole scene].",
    ),
    "absolute_distance": (
        "What is the [direct |shortest |closest |]distance between the {a} and the {b}" + _M + "?",
        _CLOSEST + "what is the [direct |]distance between the {a} and the {b}" + _M + "?",
        "What is the [direct |shortest |]distance from the {a} to the {b}" + _M + "?",
        "How far apart are the {a} and the {b}" + _M + "?",
        "How far [is the {a} from|away is the {a} from] the {b}" + _M + "?",
        "How far is it from the {a} to the {b}" + _M + "?",
        "How many meters [is it|are there] from the {a} to the {b}?",
        "How many meters separate the {a} [and|from] the {b}?",
    ),
    "relative_distance": (
        "[Which|What] of these objects (the {b}, the {c}, the {d}) is [the |]"
        "[closest|nearest] to the {a}?",
        _CLOSEST + "which of these objects (the {b}, the {c}, the {d}) is the [closest|nearest] "
        "to the {a}?",
        "Of these objects (the {b}, the {c}, the {d}), which one [is|lies] [closest|nearest] "
        "to the {a}?",
        "Among the {b}, the {c} and the {d}, which [one |object |][is|lies] [closest|nearest] "
        "to the {a}?",
        "[Which object|Which one|What] is [closest|nearest] to the {a}: the {b}, the {c} or "
        "the {d}?",
        "Is the {b}, the {c} or the {d} [closest|the closest|nearest] to the {a}?",
    ),
    "relative_direction_hard": (
        *(f"[If|Say|Suppose] {clause}, where is the {{c}}?" for clause, _ in _STANDS),
        *(
            f"If {clause}, where is the {{c}} [located |]relative to {who}?"
            for clause, who in _STANDS
        ),
        *(f"Where is the {{c}} [if|when] {clause}?" for clause, _ in _STANDS),
        "Standing " + _BY + " the {a} and [facing|looking at] the {b}, [where|in which direction] "
        "is the {c}?",
    ),
    "single_image_relative_direction": (
        "[In this image, w|W]here is the {b} [relative to|with respect to|compared with] the {a}?",
        "[In this image, w|W]hat is the [direction of the {b} from|direction of the {b} relative "
        "to|position of the {b} relative to|position of the {b} with respect to] the {a}?",
        "[In which|In what] direction [is|lies] the {b} [from|seen from] the {a}?",
        "[Relative to|With respect to|Compared with] the {a}, [where|in which direction] is the "
        "{b}?",
        "Seen from the {a}, [where|in which direction] [is|lies] the {b}?",
    ),
    "distance_cam_obj": (
        "How far [away |]from the camera is the {a}" + _M + "?",
        "How far is the {a} [away |]from the camera" + _M + "?",
        "What is the [shortest |closest |direct |]distance from the camera to the {a}" + _M + "?",
    ),
    "depth_order_obj_obj": (
        "[Which|Which object|Which one] is [closer|nearer] to the [camera|viewer|lens], the {a} or "
        "the {b}?",
        "Between the {a} and the {b}, which [one |object |]is [closer|nearer] to the "
        "[camera|viewer|lens]?",
        "[In this image, w|W]hich is [closer|nearer] to the camera: the {a} or the {b}?",
    ),
    "position_cam_cam": (
        "When [you took|you were taking] Image {n}, where was the camera [for|of] Image {m}"
        "[, relative to you| relative to you|]?",
        "When [I took|I was taking] Image {n}, where was the camera [for|of] Image {m}"
        "[, relative to me| relative to me|]?",
        "When [you took Image {n}, in which direction was|you are taking Image {n}, in which "
        "direction is|I am taking Image {n}, in which direction is] the camera [for|of] Image {m}?",
        "[Where|In which direction|On which side] was the camera of Image {m} when "
        "[I took|you took] Image {n}?",
    ),
    "elevation_cam_cam": (
        "Compared [with|to] the camera [in|of] Image {n}, is the camera [in|of] Image {m} "
        "higher or lower?",
        "Compared [with|to] Image {n}, [is|was] Image {m} [taken from|shot from] higher or lower?",
        "[Is|Was] the camera [in|of] Image {m} higher or lower than the camera [in|of] Image {n}?",
        "When taking Image {n}, where was the camera of Image {m}, higher or lower?",
        "Relative to Image {n}, was Image {m} [shot|taken] from higher or lower?",
    ),
    "motion_camera": (
        "[Based on the continuous images, i|I]n [which|what] direction is the camera "
        "[rotating|moving|turning][ from Image {n} to Image {m}|]?",
        "[Based on the continuous images, w|W]hat is the camera's [motion|movement] direction"
        "[ from Image {n} to Image {m}|]?",
        "[Based on the continuous images, w|W]hat is the [motion|movement] direction of the camera"
        "[ from Image {n} to Image {m}|]?",
        "How [did|does] the camera [move|turn|move or turn] from Image {n} to Image {m}?",
        "Which way [did|does] the camera [move|turn|rotate][ from Image {n} to Image {m}|]?",
    ),
    "visibility_compare": (
        "Which image shows the {a} [more clearly|better]?",
        "In which image is the {a} [more visible|more clearly visible|clearer|better visible]?",
        "Which image [gives|has|offers] [the|a] [better|clearer] view of the {a}?",
        "[For|Considering] the {a}, which image shows it [more clearly|better]?",
        "Does Image 1 or Image 2 [give|show|have|offer] the [better|clearer] view of the {a}?",
        "Is the {a} [more visible|more clearly visible|clearer] in Image 1 or in Image 2?",
    ),
    "object_size": (
        "What is the [length of the |][longest|largest] [dimension|side] of the {a}" + _CM + "?",
        "What is the length of the longest dimension (length, width, or height) of the {a}"
        + _CM
        + "?",
        "How long is the [longest|largest] [dimension|side] of the {a}" + _CM + "?",
        "How long is the {a} at its longest [side|dimension]" + _CM + "?",
        "How [big|large|long] is the {a}" + _CM + "?",
    ),
    "room_size": (
        "What is the [total |][floor area|size|area] of " + _ROOM + _M2 + "?",
        "What is the size of this room (in square meters)? If multiple rooms are shown, estimate "
        "the size of the combined space.",
        "Estimate the [total |][floor area|size|area] of " + _ROOM + _M2 + ".",
        "How [large|big] is the [floor|floor of this room|floor area of this room|room]"
        + _M2
        + "?",
        "How many square meters does [this room|the room|this scene] [have|cover|measure]?",
    ),
    "position_cam_obj": _FROM_CAMERA,
    "position_cam_reg": _FROM_CAMERA,
    "attribute_measurement": (
        "Between the {a} and the {b}, which [one |object |]has the [larger|longer] "
        "longest [dimension|side]?",
        "Between the {a} and the {b}, which [one |object |]is [larger|longer|bigger] in its "
        "longest [dimension|side]?",
        "[Which|Which object|Which one] is [larger|longer|bigger] in its longest "
        "[dimension|side], the {a} or the {b}?",
        "[Which|What] has the [longer|larger] longest [dimension|side], the {a} or the {b}?",
    ),
}

# relative_direction_hard, where the sentence offers its answers.
_WHOSE, _WHO = {"me": "my", "you": "your"}, {"me": "I am", "you": "you are"}
_TURN = " An object is to my back if I would have to turn at least 135 degrees in order to face it."
_AXES = (
    " The directions refer to the quadrants of a Cartesian plane (if WHO standing at the origin "
    "and facing along the positive y-axis)."
)
_QUADRANTS = "front-left, front-right, back-left, or back-right?"
LEVEL_FORMS: dict[str, tuple[str, ...]] = {
    "easy": tuple(
        f"If {clause}, is the {{c}} to the left or the right of the {{b}}?" for clause, _ in _STANDS
    ),
    "medium": tuple(
        f"If {clause}, is the {{c}} to {_WHOSE[who]} left, right, or back?"
        + (f"[{_TURN}|]" if who == "me" else "")
        for clause, who in _STANDS
    ),
    "hard": tuple(
        f"If {clause}, is the {{c}} to {_WHOSE[who]} {_QUADRANTS}" + _AXES.replace("WHO", _WHO[who])
        for clause, who in _STANDS
    ),
}
CHOICE = re.compile(r"\[([^\]]*)\]")


@functools.cache
def expanded(form: str) -> tuple[str, ...]:
    """All sentences of a form, in the order of its choices."""
    parts = CHOICE.split(form)
    options = [[part] if i % 2 == 0 else part.split("|") for i, part in enumerate(parts)]
    return tuple("".join(one) for one in itertools.product(*options))


@functools.cache
def forms(task: str, level: str, region: bool, most: int) -> tuple[tuple[str, ...], ...]:
    """The sentences of a task, form by form; `most` forms, 0 for all.

    Args:
        level: of relative_direction_hard, where its answers are offered.
        region: the blank is the name of a region, not that of an object.
    """
    if level:
        found = LEVEL_FORMS[level]
    elif region:
        found = FORMS[task]
    else:
        found = (*WORDINGS[task], *(FORMS[task] if task != "position_cam_reg" else ()))
    return tuple(map(expanded, found[: most or None]))


def sentences(task: str, level: str = "", region: bool = False) -> tuple[str, ...]:
    """All sentences of a task, with their blanks."""
    return tuple(itertools.chain(*forms(task, level, region, 0)))


def word(task: str, slots: Slots, region: bool, most: int, draw: tuple[float, float]) -> str:
    """A question: a form, then one of its sentences, by two random numbers in [0, 1)."""
    own = forms(task, slots.difficulty, region, most)
    form = own[int(draw[0] * len(own))]
    return filled(form[int(draw[1] * len(form))], slots)


def plainest(task: str, slots: Slots, region: bool, labels: Sequence[str], published: bool) -> str:
    """The first sentence that is read back to the slots: for labels such as "facing", which not
    every sentence can hold.

    Raises:
        ValueError: none is.
    """
    for sentence in sentences(task, slots.difficulty, region):
        question = filled(sentence, slots)
        read = read_question(task, question, labels, published)
        if read == slots or (task == "motion_camera" and read == slots._replace(images=())):
            return question
    raise ValueError(f"{task}: expected a sentence that can hold {slots.labels}, found none.")


def filled(sentence: str, slots: Slots) -> str:
    """A sentence with its blanks filled."""
    blanks = dict(zip("abcd", map(spoken, slots.labels), strict=False))
    blanks |= {f"{key}_plural": plural(label) for key, label in blanks.items()}
    blanks |= dict(zip("nm", map(str, slots.images), strict=False))
    return sentence.format(**blanks)
