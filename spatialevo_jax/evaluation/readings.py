"""How the text of an answer is read and scored against the truth: numbers with units, directions,
names.

Scores lie in [0, 1]. Distances use mean relative accuracy with VSI-Bench's ten thresholds (arXiv
2412.14171).
"""

import math
import re

MRA_TOLERANCES = tuple(0.05 * k for k in range(1, 11))  # relative error allowed at 1 - tolerance
EDGE = 1e-9  # an error exactly on a threshold passes in spite of float rounding

METRES = {"m": 1.0, "meter": 1.0, "metre": 1.0, "cm": 0.01, "centimeter": 0.01, "centimetre": 0.01}
METRES |= {"millimeter": 0.001, "millimetre": 0.001, "kilometer": 1000.0, "kilometre": 1000.0}
METRES |= {"mm": 0.001, "km": 1000.0, "ft": 0.3048, "feet": 0.3048, "foot": 0.3048, "inch": 0.0254}
METRES |= {name + "s": scale for name, scale in METRES.items() if len(name) > 3 and name != "feet"}
METRES |= {"inches": 0.0254}
# Not of a name ("chair2") and not an exponent ("m^2").
NUMBER = re.compile(
    r"(?<![\w.^])([+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|[+-]?\.\d+)\s*([a-z]+)?"
)
_BELOW_TWENTY = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
)
UNITS = {word: value for value, word in enumerate(_BELOW_TWENTY.split())}
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
TENS = {word: 10 * (value + 2) for value, word in enumerate(_TENS.split())}

DIRECTIONS = ("left", "right", "front", "back", "up", "down")
DIRECTION_WORDS = {word: word for word in DIRECTIONS}
DIRECTION_WORDS |= {"behind": "back", "backward": "back", "backwards": "back", "rear": "back"}
DIRECTION_WORDS |= {"forward": "front", "forwards": "front", "ahead": "front"}
DIRECTION_WORDS |= {"above": "up", "upward": "up", "below": "down", "downward": "down"}
GLUED = re.compile(rf"(?:{'|'.join(DIRECTIONS)})+")

METRIC_TASKS = frozenset({"absolute_distance", "distance_cam_obj"})  # answered in metres
BARE_UNITS = {"object_size": METRES["cm"]}  # a number without a unit, in metres; 1 elsewhere
DIRECTION_TASKS = frozenset(
    {
        "relative_direction_hard",
        "single_image_relative_direction",
        "position_cam_cam",
        "position_cam_obj",
        "position_cam_reg",
        "motion_camera",
    }
)


def clean(text: str) -> str:
    """Lower case, single blanks, no full stop at the end."""
    return " ".join(text.lower().split()).rstrip(". ").strip()


def name(text: str) -> str:
    """A label or option: no separators, one leading article dropped, image names unified."""
    words = re.sub(r"[_\-]+", " ", clean(text)).split()
    if words and words[0] in ("the", "a", "an"):
        words = words[1:]
    joined = " ".join(words)
    for number, names in (
        (1, "image 1|image1|image one|first image|img 1|1"),
        (2, "image 2|image2|image two|second image|img 2|2"),
    ):
        if joined in names.split("|"):
            return f"image{number}"
    return joined


def number(text: str) -> tuple[float, str] | None:
    """The last number of the text and the word glued to or following it; None when there is none.

    The last one, because an answer such as "between the 2 chairs: 1.5 m" ends with what it claims.
    """
    found = list(NUMBER.finditer(clean(text)))
    if found:
        digits, unit = found[-1].groups()
        return float(digits.replace(",", "")), unit or ""
    total: float | None = None  # whole numbers of words without end are too large for one
    for word in re.findall(r"[a-z]+", clean(text)):
        if word in UNITS or word in TENS:
            total = (total or 0.0) + UNITS.get(word, 0) + TENS.get(word, 0)
        elif word == "hundred" and total:
            total *= 100.0
        elif total is not None and word != "and":
            return total, word
    return None if total is None else (total, "")


def metres(text: str, bare: float = 1.0) -> float | None:
    """A length in metres; a bare number is taken as so many metres each."""
    read = number(text)
    if read is None:
        return None
    value, unit = read
    return value * METRES.get(unit, bare)


def directions(text: str, task: str) -> frozenset[str]:
    """The set of direction words in the text; order and other words do not matter."""
    found = set()
    spaced = clean(text).replace("_", " ").replace("-", " ")
    if task == "motion_camera":
        spaced = re.sub(r"\b(?:counter ?|anti ?)clockwise\b", "left", spaced)
        spaced = re.sub(r"\bclockwise\b", "right", spaced)
    for word in re.findall(r"[a-z]+", spaced):
        if word in DIRECTION_WORDS:
            found.add(DIRECTION_WORDS[word])
        elif GLUED.fullmatch(word):
            found.update(re.findall("|".join(DIRECTIONS), word))
    return frozenset(found)


def mean_relative_accuracy(predicted: float, truth: float) -> float:
    """Share of the ten tolerances within which the relative error stays; a truth of 0 needs an
    exact 0.
    """
    if not math.isfinite(predicted):
        return 0.0
    error = abs(predicted - truth) / max(abs(truth), EDGE)
    return sum(error <= tolerance + EDGE for tolerance in MRA_TOLERANCES) / len(MRA_TOLERANCES)


def score(task: str, answer: str, truth: str, *, partial: bool) -> float:
    """Score of an answer against the oracle's truth.

    `partial` grants the published partial credits, used as a training reward (a count off by one
    0.3, by two 0.1; one of two parts of a direction 0.1). Without it, choices and counts are right
    or wrong: the accuracy that is reported.
    """
    if not clean(answer):
        return 0.0
    if task in METRIC_TASKS or task in BARE_UNITS:
        bare = BARE_UNITS.get(task, 1.0)
        predicted, expected = metres(answer, bare), metres(truth, bare)
        if predicted is None or expected is None:
            return 0.0
        return mean_relative_accuracy(predicted, expected)
    if task == "room_size":
        area, expected_area = number(answer), number(truth)
        if area is None or expected_area is None:
            return 0.0
        return mean_relative_accuracy(area[0], expected_area[0])
    if task == "object_counting":
        predicted_count, expected_count = number(answer), number(truth)
        if predicted_count is None or expected_count is None:
            return 0.0
        error = abs(predicted_count[0] - expected_count[0])
        if error <= 1e-6:
            return 1.0
        return (0.3 if error <= 1 else 0.1 if error <= 2 else 0.0) if partial else 0.0
    if task in DIRECTION_TASKS:
        given, expected_set = directions(answer, task), directions(truth, task)
        if given and given == expected_set:
            return 1.0
        half = len(expected_set) == 2 and len(given) == 1 and given < expected_set
        return 0.1 if partial and half else 0.0
    return 1.0 if name(answer) == name(truth) else 0.0
