"""The sentences that each task is asked in: patterns with blanks, compiled once.

A template is a regular expression over normalised text (`labels.normalise`) with marks:

    {a} {b} {c}   the phrase of the task's first, second, third slot, article and all;
                  {a2} {b2} where a form names it in two places, which must agree
    {list}        two or more phrases, joined by commas, `and`, `or`
    {n} {m}       1 or 2: the reference image, the target image
    {i}           1 or 2: the image in which both objects are compared
    <name>        a fragment below

Blanks are bounded and fill as little as they can, so that the time is linear in the text.
"""

import dataclasses
import functools
import re

from spatialevo_jax.environment.wordings import WORDINGS

BLANK = r"[a-z0-9][a-z0-9 '\-/]{0,45}?"  # the longest label with an article and a plural's ending
LIST = r"[a-z0-9][a-z0-9 ,'\-/]{0,300}?"

_METERS = "(?:meters|meter|m)"
_CENTIMETERS = "(?:centimeters|centimeter|cm)"
FRAGMENTS = {
    "<m>": rf"(?:,? (?:measured )?in {_METERS}| \((?:measured )?in {_METERS}\))?",
    "<cm>": rf"(?:,? (?:measured )?in {_CENTIMETERS}| \((?:measured )?in {_CENTIMETERS}\))?",
    "<m2>": r"(?:,? (?:measured )?in square meters| \((?:measured )?in square meters\))?",
    "<place>": "(?:(?:this|the)(?: whole| entire)? (?:room|scene|space|flat|apartment|house)|here)",
    "<room>": "(?:this|the)(?: whole| entire)? (?:room|space|scene|flat|apartment|house)",
    "<measuring>": "(?:(?:measuring |measured )?from the closest points? of each(?: object)?, )?",
    "<nearest>": "(?:the )?(?:closest|nearest)(?: object| one)?",
    "<of>": "(?:in|of|for)",
    "<taking>": (
        "(?:you took|i took|you take|i take|taking|i am taking|you are taking|you were taking|"
        "i was taking)"
    ),
    "<me>": "(?:me|you)",
    "<where>": (
        "(?:where|(?:in )?(?:which|what) direction|which way|on (?:which|what) side(?: of me| of "
        "you)?)"
    ),
    "<image>": "(?: in (?:this|the)(?: current)? image)?",
    "<see>": "(?:(?:in this image|looking at (?:this|the)(?: current)? image), )?",
    "<larger>": "(?:larger|longer|bigger)",
    "<side>": "(?:dimension|side)",
    "<or>": r"{a},? or {b}",
    "<by>": "(?:by|at|near|next to|beside)",
    "<face>": "(?:facing|face|looking at|look at)",
    "<stand>": "(?:i am |you are |i |you )(?:standing|stand)",
    "<shows>": "(?:shows|gives|has|offers)",
    "<based>": "(?:based on the continuous images, )?",
}

# Seen from a camera: an object or a region.
_FROM_CAMERA = (
    "<where> is {a} relative to <me> when <taking> image {n}",
    "<where> is {a} relative to the camera(?: <of> image {n})?",
    "<where> is {a} relative to (?:<me>|image {n} camera)",
    "<where> is {a} when <taking> image {n}",
    "when <taking> image {n},? <where> is {a}(?: relative to (?:<me>|the camera))?",
    "(?:as )?seen (?:by|from) the camera <of> image {n}, <where> is {a}",
    "<where> is {a} (?:from|seen from) image {n} camera",
    "<where> is {a} (?:from|seen from) the camera <of> image {n}",
    "from the camera <of> image {n}, <where> is {a}",
)

# Wordings of others that mean the same: the families of the published generator and of the public
# benchmarks, in the project's reading.
FAMILIES: dict[str, tuple[str, ...]] = {
    "object_counting": (
        r"(?:count them all: )?how many {a}(?:\(s\))? (?:are|do you see|can you see)(?: there)?"
        r"(?: in <place>| here)?",
        r"(?:count them all: )?how many {a}(?:\(s\))? (?:does|do) <place> (?:have|contain|hold)",
        r"count (?:all )?(?:of )?{a}(?:\(s\))?(?: in <place>| here)?(?:, please)?",
        "(?:what is )?the (?:total )?(?:number|count) of {a}(?: instances| objects)?"
        "(?: in <place>| here)",
    ),
    "absolute_distance": (
        "<measuring>what is the(?: direct| shortest| closest)? distance (?:between {a} and {b}|"
        "from {a2} to {b2})<m>",
        "<measuring>how far apart are {a} and {b}<m>",
        "<measuring>how far (?:is|away is) {a} (?:away )?from {b}<m>",
        "<measuring>how far is it from {a} to {b}<m>",
        "<measuring>how many meters (?:is it|are there|is there)? ?(?:from {a} to {b}|between {a2} "
        "and {b2})",
        "<measuring>how many meters separate {a} (?:and|from) {b}",
        "what gap is there between {a} and {b}<m>",
    ),
    "relative_distance": (
        r"<measuring>(?:which|what)(?: one)? of these(?: objects)? \({list}\),? (?:is|lies) "
        "<nearest> to {a}",
        "<measuring>(?:which|what)(?: one)? of these(?: objects)?,? {list},? (?:is|lies) "
        "<nearest> to {a}",
        r"of these(?: objects)? \({list}\), which(?: one| object)? (?:is|lies) <nearest> to {a}",
        "(?:among|of|out of)(?: these objects,?)? {list}, which(?: one| object)? (?:is|lies) "
        "<nearest> to {a}",
        "<measuring>which of {list},? (?:is|lies) <nearest> to {a}",
        "<measuring>(?:which|what)(?: object| one| thing)? (?:is|lies) <nearest> to {a}"
        "(?:[:,]| among| of)(?: these objects:?)? {list}",
        "is {list},? (?:the )?(?:closest|nearest)(?: object)? to {a}",
    ),
    "relative_direction_hard": (
        "(?:if |say |suppose )?<stand> <by> {a},?(?: and)? <face> {b}[,;]? <where> is {c}"
        "(?: located)?(?: relative to <me>)?",
        "standing <by> {a},?(?: and)? <face> {b}, <where> is {c}(?: located)?(?: relative to "
        "<me>)?",
        "(?:if )?<stand> <by> {a},?(?: and)? <face> {b}, is {c} to (?:my|your) front-left, "
        r"front-right, back-left,? or back-right(?P<hard>\? the directions refer to the quadrants "
        r"of a cartesian plane \(.{0,120}\))?",
        "(?:if )?<stand> <by> {a},?(?: and)? <face> {b}, is {c} to (?:my|your) "
        r"(?P<medium>left, right,? or back)(?:\? an object is to my back if i would have to turn "
        "at least 135 degrees in order to face it)?",
        "(?:if )?<stand> <by> {a},?(?: and)? <face> {b}, is {c} to the (?P<easy>left or the right) "
        "of {b2}",
        "<where> is {c} (?:if|when) <stand> <by> {a},? and <face> {b}",
    ),
    "single_image_relative_direction": (
        "<see><where> is {b} (?:relative to|with respect to|compared with) {a}<image>",
        "<see>what is the (?:direction|position) of {b} (?:from|relative to|with respect to|"
        "compared with) {a}<image>",
        "<see><where> (?:is|lies) {b} (?:from|seen from) {a}<image>",
        "<see>(?:as )?seen from {a}, <where> (?:is|lies) {b}<image>",
        "<see>(?:relative to|with respect to|compared with) {a}, <where> (?:is|lies) {b}<image>",
    ),
    "distance_cam_obj": (
        "how far(?: away)? from the camera is {a}<image><m>",
        "how far is {a} (?:away )?from the camera<image><m>",
        "(?:what is )?the(?: nearest| shortest| closest| direct)? distance from the camera to {a}"
        "<image><m>",
        "(?:what is )?the(?: nearest| shortest| closest| direct)? distance between the camera and "
        "{a}<image><m>",
        "how many meters away(?: from the camera)? is {a}<image>",
        "how many meters away is {a} from the camera<image>",
    ),
    "depth_order_obj_obj": (
        "<see>(?:(?:which|what)(?: object| one)? is )?(?:closer|nearer)(?: to the "
        "(?:camera|lens|viewer))?[,:] <or>",
        "<see>between {a} and {b}, which(?: object| one)? is (?:closer|nearer)(?: to the "
        "(?:camera|lens|viewer))?",
        "<see>is {a} (?:in front of|closer to the camera than|nearer to the camera than) {b}"
        "(?: as seen by the camera)?<image>",
    ),
    "position_cam_cam": (
        "when <taking> image {n},? <where> (?:was|is) the camera <of> image {m}"
        "(?:,? relative to <me>)?",
        "<where> (?:was|is) the camera <of> image {m},? when <taking> image {n}",
        "relative to image {n} camera, <where> (?:was|is) image {m} camera",
        "<where> (?:was|is) image {m} camera (?:relative to|from) image {n} camera",
    ),
    "elevation_cam_cam": (
        "compared (?:with|to)(?: the camera <of>)? image {n}, (?:is|was)(?: the camera <of>)? "
        "image {m}(?: taken from| shot from| positioned)? (?:higher|lower)(?: up| or lower| or "
        "higher)?",
        "(?:is|was)(?: the camera <of>)? image {m}(?: taken from| shot from| positioned)? "
        "(?:higher|lower)(?: up| or lower| or higher)? than(?: the camera <of>)? image {n}",
        "when <taking> image {n}, where was the camera <of> image {m}, higher or lower",
        "(?:did|does) the camera move up or down from image {n} to image {m}",
        "relative to image {n}, (?:is|was) image {m} (?:shot|taken) from (?:higher|lower)"
        "(?: up)?(?: or lower| or higher)?",
    ),
    "motion_camera": (
        "<based>in (?:which|what) direction (?:is|does|did|was) the camera (?:rotating|moving|"
        "turning|rotate|move|turn)(?: from image {n} to image {m})?",
        "<based>(?:what|which) (?:is|was) (?:the camera(?:'s)?|its) (?:motion|movement) direction"
        "(?: from image {n} to image {m})?",
        "<based>(?:what|which) (?:is|was) the (?:motion|movement) direction of the camera"
        "(?: from image {n} to image {m})?",
        "how (?:did|does) (?:the camera|i) (?:move|turn)(?: or turn)?(?: the camera)?"
        "(?: from image {n} to image {m})?",
        "which way (?:did|does) (?:the camera|i) (?:move|turn|rotate)(?: or turn)?(?: the camera)?"
        "(?: from image {n} to image {m})?",
    ),
    "visibility_compare": (
        "(?:for|considering) {a}, which image shows it (?:more clearly|better)",
        "(?:for|considering) {a}, in which image is it (?:more(?: clearly)? visible|clearer)",
        "which image shows {a} (?:more clearly|better)",
        "in which image is {a} (?:more(?: clearly)? visible|clearer|better visible)",
        "which image <shows> (?:the|a) (?:better|clearer) view of {a}",
        "does image 1 or image 2 (?:give|show|have|offer) (?:the|a) (?:better|clearer) view of {a}",
        "is {a} (?:more(?: clearly)? visible|clearer|better visible) in image 1 or(?: in)? image 2",
    ),
    "position_cam_obj": _FROM_CAMERA,
    "position_cam_reg": _FROM_CAMERA,
    "attribute_measurement": (
        "between {a} and {b}, which(?: object| one)? has the (?:<larger>|longest) (?:longest )?"
        "<side>",
        "between {a} and {b}, which(?: object| one)? is <larger>(?: in its longest <side>)?",
        "which(?: object| one)? is <larger>(?: in its longest <side>)?(?: in image {i})?[,:] <or>",
        "(?:which|what)(?: object| one)? has the (?:<larger>|longest) (?:longest )?<side>[,:] <or>",
        "is {a} <larger> than {b}(?: in its longest <side>)?(?: in image {i})?",
    ),
    "object_size": (
        r"what is the (?:length of the )?(?:longest|largest) <side>(?: \(length, width,? or "
        r"height\))? of {a}<cm>",
        "what is the (?:size|length) of {a}<cm>",
        "how long is the (?:longest|largest) <side> of {a}<cm>",
        "how long is {a} at its longest <side><cm>",
        "how (?:big|large|long) is {a}<cm>",
    ),
    "room_size": (
        "(?:what is |estimate )?the (?:total )?(?:floor )?(?:size|area|space) of <room><m2>"
        r"(?:\? if multiple rooms are shown, estimate the size of the combined space)?"
        "(?:, please)?",
        "how (?:large|big) is the (?:floor(?: area)?|area|room|space)(?: of <room>| here)?<m2>",
        "(?:the )?(?:room|floor) (?:size|area)<m2>",
        "how many square meters (?:does|has) <room> (?:have|cover|measure)",
    ),
}


@dataclasses.dataclass(frozen=True)
class Pattern:
    """A sentence form."""

    sentence: re.Pattern[str]
    needs: str  # a text that every such sentence holds: looking for it is faster than matching
    # Its beginning up to the first blank; None where that says too little.
    head: re.Pattern[str] | None
    # Numbers of groups: of each slot, one or two places; of the images; 0 where there is none.
    slots: tuple[tuple[int, int], ...]
    images: tuple[int, ...]
    listed: int
    bound: int
    levels: tuple[tuple[str, int], ...]


LEVELS = ("easy", "medium", "hard")  # of relative_direction_hard, where the sentence says which
MARK = re.compile(r"\{(a2|b2|a|b|c|d|n|m|i|list)\}")
LEAST_HEAD = 8  # characters; a shorter beginning says too little about what is asked


def _built(template: str) -> tuple[str, str]:
    """A template as a regular expression, and the part before its first blank."""
    for name, fragment in FRAGMENTS.items():
        template = template.replace(name, fragment)
    built, head, seen = [], None, set()
    parts = MARK.split(template)
    for index, part in enumerate(parts):
        if index % 2 == 0:
            built.append(part)
            continue
        head = "".join(built) if head is None else head
        if part in seen:
            raise ValueError(f"{template}: expected {{{part}}} once.")
        seen.add(part)
        blank = "[12]" if part in ("n", "m", "i") else LIST if part == "list" else BLANK
        built.append(f"(?P<{part}>{blank})")
    return "".join(built), "".join(built) if head is None else head


def _own(wording: str) -> str:
    """One of the project's own wordings as a template; articles belong to the blank."""
    text = re.escape(wording.lower().rstrip("?. "))
    text = text.replace(r"\{", "{").replace(r"\}", "}").replace("_plural}", "}")
    return text.replace(r"the\ {", "{").replace(r"\ ", " ")


def _literals(expression: str) -> list[str]:
    """The texts outside all groups of an expression: every match holds each of them."""
    found, depth, index = [""], 0, 0
    while index < len(expression):
        char = expression[index]
        escaped = char == "\\"
        if escaped:
            index += 1
            char = expression[index]
        if not escaped and char == "[":
            index = expression.index("]", index)
            found.append("")
        elif not escaped and char in "()":
            depth += 1 if char == "(" else -1
            found.append("")
        elif not escaped and char in "?*+{":
            if depth == 0:
                found[-1] = found[-1][:-1]  # the character before it may be absent
            found.append("")
        elif depth == 0:
            found[-1] += char
        index += 1
    return found


@functools.cache
def _compiled(template: str) -> Pattern:
    sentence, head = _built(template)
    # A head that ends inside a group can't be compiled: such a form has none.
    closed = head.count("(") - head.count(r"\(") == head.count(")") - head.count(r"\)")
    usable = closed and len(re.sub(r"\(.*?\)\??", "", head)) >= LEAST_HEAD
    needs = max(_literals(sentence), key=len)
    compiled = re.compile(sentence)
    group = compiled.groupindex
    return Pattern(
        sentence=compiled,
        needs=needs,
        head=re.compile(head.rstrip()) if usable else None,
        slots=tuple((group[key], group.get(f"{key}2", 0)) for key in "abcd" if key in group),
        images=tuple(group[key] for key in "nm" if key in group),
        listed=group.get("list", 0),
        bound=group.get("i", 0),
        levels=tuple((level, group[level]) for level in LEVELS if level in group),
    )


@functools.cache
def patterns(task: str) -> tuple[Pattern, ...]:
    """The compiled patterns of a task, the project's own wordings first."""
    templates = [*map(_own, WORDINGS[task]), *FAMILIES[task]]
    return tuple(_compiled(template) for template in dict.fromkeys(templates))
