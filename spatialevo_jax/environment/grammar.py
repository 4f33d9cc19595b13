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

from spatialevo_jax.environment.labels import LETTERS
from spatialevo_jax.environment.wordings import WORDINGS

# The longest label with an article and a plural's ending.
BLANK = rf"[{LETTERS}][{LETTERS} '&\-/]{{0,45}}?"
LIST = rf"[{LETTERS}][{LETTERS} ,'&\-/]{{0,300}}?"

_METERS = "(?:meters|meter|m)"
_CENTIMETERS = "(?:centimeters|centimeter|cm)"
_SQUARE_METERS = r"(?:square meters?|sq\.? ?m|sqm|m2|m\^2|m\u00b2)"


def _unit(names: str) -> str:
    """A unit behind what is measured, or none."""
    return rf"(?:,? (?:measured |expressed )?in {names}| \((?:measured )?(?:in )?{names}\))?"


# One may hold others.
FRAGMENTS = {
    "<m>": _unit(_METERS),
    "<cm>": _unit(_CENTIMETERS),
    "<m2>": _unit(_SQUARE_METERS),
    "<measuring>": (
        "(?:(?:measuring |measured )?from the closest points? of each(?: object)?, )?<in m>"
    ),
    "<measured>": (
        "(?: in <place>)?<m>(?:,? measured (?:from|between) (?:the|their) closest points?"
        "(?: of each(?: object)?)?)?"
    ),
    "<in m>": f"(?:in {_METERS}, )?",
    "<in cm>": f"(?:in {_CENTIMETERS}, )?",
    "<in m2>": f"(?:in {_SQUARE_METERS}, )?",
    "<place>": (
        "(?:(?:this|the)(?: whole| entire)? (?:room|scene|space|flat|apartment|house|home)|here)"
    ),
    "<room>": "(?:this|the)(?: whole| entire)? (?:room|space|scene|flat|apartment|house|home)",
    "<what is>": "(?:what (?:is|was)|estimate|measure|calculate|determine|find|give|state)",
    "<total>": "(?: in total| altogether)?",
    "<there>": (
        "(?: that are| there are)?(?: present| located| found)?(?: (?:in|inside) <place>| here)?"
    ),
    "<distance>": (
        "(?:direct |shortest |closest |nearest |minimum |smallest |straight-line )?distance"
    ),
    "<is nearest to>": (
        "(?:<is> <nearest>(?: to)?|has the (?:shortest|smallest) distance (?:to|from))"
    ),
    "<nearest>": "(?:the )?(?:closest|nearest|closer|nearer)(?: object| one)?",
    "<these>": (
        "(?:(?:these|the following|the)(?: two| three| four)? (?:objects|items|things)|these"
        "(?: two| three| four)?|the (?:following|two|three|four))"
    ),
    "<of these>": "(?: object| one| thing| item)?(?: of <these>)?",
    "<is>": "(?:is|lies|sits|stands|appears)<located>",
    "<of>": "(?:in|of|for|that took)",
    "<when>": "(?:when|while)",
    "<taking>": (
        "(?:you took|i took|you take|i take|taking|i am taking|you are taking|you were taking|"
        "i was taking)"
    ),
    "<me>": "(?:me|you)",
    "<where>": (
        "(?:where|(?:in )?(?:which|what) direction|which way|on (?:which|what) side(?: of me| of "
        "you)?)"
    ),
    "<located>": "(?: located| positioned| situated| placed)?",
    "<relative to>": (
        "(?:relative to|with respect to|in relation to|compared (?:with|to)|as seen from)"
    ),
    # From an image or its camera; the second one says of an image alone that it is a viewpoint.
    "<from n>": (
        "(?:(?:(?:as )?(?:seen|viewed) )?from|<relative to>) (?:<viewpoint> )?"
        "(?:(?:the camera|that) <of> )?image {n}(?: camera)?"
    ),
    "<from camera n>": (
        "(?:(?:(?:as )?(?:seen|viewed) (?:from|by)|from|<relative to>) "
        "(?=the camera|image [12] camera)|from <viewpoint> )"
        "(?:the camera <of> )?image {n}(?: camera)?"
    ),
    "<viewpoint>": "the (?:viewpoint|perspective|point of view) of",
    "<camera m>": (
        "(?=the camera|image [12] camera)(?:the camera <of> )?image {m}(?: camera)?<located>"
    ),
    "<camera>": "the (?:camera|viewer|lens)",
    "<image>": (
        "(?: in (?:this|the)(?: current)? <picture>| when (?:this|the) <picture> was taken)?"
    ),
    "<see>": "(?:(?:in (?:this|the)|looking at (?:this|the)(?: current)?) <picture>, )?",
    "<which image>": (
        "(?:which|what) (?:<picture>|of (?:the|these)(?: two)? <picture>s)(?:, <either image>,)?"
    ),
    "<either image>": "(?:image 1 or(?: in)? image 2|image 2 or(?: in)? image 1)",
    "<picture>": "(?:image|picture|photo|photograph|view|frame)",
    "<from to>": "(?:from|between(?= image 1)) image {n} (?:to|and) image {m}",
    "<between>": "(?:,? (?:<from to>|(?:between|across|in) (?:the|these)(?: two)? <picture>s))?",
    "<larger>": "(?:larger|longer|bigger)",
    "<longest>": "(?:longest|largest|greatest|maximum)",
    "<side>": "(?:dimension|side|edge)",
    "<at its>": "(?: (?:in|along|at) its longest <side>)?",
    "<or>": r"{a},? or {b}",
    "<by>": "(?:by|at|near|next to|beside|close to)",
    "<face>": (
        "(?:(?:i |you )?(?:am |are )?(?:facing|face|faced)(?: towards?)?|"
        "(?:i |you )?(?:am |are )?(?:looking|look) (?:at|towards?))"
    ),
    "<if>": "(?:(?:if|say|suppose|imagine|assume|when|while) )?",
    "<stand>": (
        "(?:(?:i am|you are|i was|i were|you were)(?: standing| positioned| to stand)?|"
        "(?:i|you) (?:standing|stand|stood))"
    ),
    "<would>": "(?:(?:do|would|will|can) (?:i|you) (?:find|see)|is|would)",
    "<found>": "(?: be)?(?: located)?(?: (?:relative to|from) <me>)?",
    "<higher>": (
        "(?: (?:taken|shot|captured) from| positioned| placed)?(?: a| at a)? (?:higher|lower)"
        "(?: up)?(?: or (?:a )?(?:higher|lower))?(?: position| height| viewpoint)?"
    ),
    "<shows>": "(?:shows|gives|has|offers|provides)",
    "<better>": "(?:more clearly|better|most clearly|best)",
    "<visible>": (
        "(?:(?:more|most)(?: clearly)? visible|(?:better|best) visible|clearer|clearest|"
        "easier to see|(?:seen|shown) <better>|(?:more|most) clearly (?:seen|shown))"
    ),
    "<based>": "(?:based on the continuous images, )?",
}

# Seen from a camera: an object or a region.
_FROM_CAMERA = (
    "<where> (?:is|was) {a}<located> relative to <me> <when> <taking> image {n}",
    "<where> is {a}<located> <relative to> the camera(?: <of> image {n})?",
    "<where> is {a} relative to (?:<me>|image {n} camera)",
    "<where> (?:is|was) {a}<located> <when> <taking> image {n}",
    "<when> <taking> image {n},? <where> (?:is|was) {a}<located>"
    "(?: (?:relative to|from) (?:<me>|the camera))?",
    "<from camera n>, <where> (?:is|was) {a}<located>",
    "<where> (?:is|was) {a}<located> <from camera n>",
    "(?:(?:in )?(?:which|what) direction from|on (?:which|what) side of) the camera <of> image {n} "
    "is {a}<located>",
    "in image {n}, <where> is {a}<located> <relative to> the camera",
)

# Wordings of others that mean the same: the families of the published generator and of the public
# benchmarks, in the project's reading.
FAMILIES: dict[str, tuple[str, ...]] = {
    "object_counting": (
        r"(?:in (?:<place>|total), )?(?:count (?:them all: )?)?how many {a}(?:\(s\))?"
        "(?: objects| instances)?<total> (?:are|do you see|can you see|can be found|exist)"
        "(?: there)?<total><there><total>",
        r"(?:count them all: )?how many {a}(?:\(s\))? (?:does|do) <place> "
        "(?:have|contain|hold|include)<total>",
        r"count (?:all )?(?:of )?{a}(?:\(s\))?<there>",
        "(?:<what is> )?the (?:total )?(?:number|count) of {a}(?: instances| objects)?<there>",
    ),
    "absolute_distance": (
        "<measuring>(?:<what is> )?the (?:<distance>|gap)<m> (?:between {a} and {b}|from {a2} to "
        "{b2})<measured>",
        "<measuring>how (?:far|many meters) apart are {a} and {b}<measured>",
        "<measuring>how far (?:is|away is) {a} (?:located )?(?:away )?from {b}<measured>",
        "<measuring>how far(?: away)?(?: is it)? from {a} (?:to|is) {b}<measured>",
        "<measuring>how many meters (?:is it|are there|is there|lie)? ?(?:from {a} to {b}|between "
        "{a2} and {b2})<measured>",
        "<measuring>(?:how many meters separate|what distance separates) {a} (?:and|from) {b}"
        "<measured>",
        "<measuring>(?:what|how much) (?:gap|distance) is there between {a} and {b}<measured>",
        "<measuring>(?:how many meters (?:away )?is|<what is> the <distance><m> of) {a} (?:away )?"
        "from {b}<measured>",
        "<measuring>how (?:close is {a} to {b}|(?:large|big|wide) is the (?:gap|distance) between "
        "{a2} and {b2})<measured>",
    ),
    "relative_distance": (
        r"<measuring>(?:which|what)(?: one)? of <these> \({list}\),? <is nearest to> {a}",
        "<measuring>(?:which|what)(?: one)? of <these>,? {list},? <is nearest to> {a}",
        r"of <these> \({list}\), which(?: one| object)? <is nearest to> {a}",
        "(?:among|of|out of|between)(?: <these>[,:]?)? {list}, which(?: one| object)? "
        "<is nearest to> {a}",
        "<measuring>which(?: one)? of {list},? <is nearest to> {a}",
        "<measuring>(?:which|what)<of these> <is nearest to> {a}(?:[:,]| among| of| out of)"
        "(?: <these>:?)? {list}",
        "is {list},? (?:the )?(?:closest|nearest)(?: object)? to {a}",
        "is (?=.+ or ){list},? (?:closer|nearer) to {a}",
        "which(?: object| one| thing)? is {a} (?:closest|nearest|closer|nearer) to[:,] {list}",
    ),
    "relative_direction_hard": (
        "<if><stand> <by> {a},?(?: and)? <face> {b}[,;.]? <where> <would> {c}<found>",
        "(?:<if>standing <by>|from) {a},?(?: and)? <face> {b}[,;.]? <where> <would> {c}<found>",
        "(?:if )?<stand> <by> {a},?(?: and)? <face> {b}, is {c} to (?:my|your) front-left, "
        r"front-right, back-left,? or back-right(?P<hard>\? the directions refer to the quadrants "
        r"of a cartesian plane \(.{0,120}\))?",
        "(?:if )?<stand> <by> {a},?(?: and)? <face> {b}, is {c} to (?:my|your) "
        r"(?P<medium>left, right,? or back)(?:\? an object is to my back if i would have to turn "
        "at least 135 degrees in order to face it)?",
        "(?:if )?<stand> <by> {a},?(?: and)? <face> {b}, is {c} to the (?P<easy>left or the right) "
        "of {b2}",
        "<where> <would> {c}<found> (?:if|when|while) (?:<stand>|standing) <by> {a},?(?: and)? "
        "<face> {b}",
    ),
    "single_image_relative_direction": (
        "<see><where> (?:is|does) {b}(?: lie| sit)?<located> <relative to> {a}<image>",
        "<see>what is the (?:relative )?(?:direction|position|location) of {b} "
        "(?:from|<relative to>) {a}<image>",
        "<see><where> (?:is|lies|does) {b}(?: lie| sit)?<located> (?:from|seen from) {a}<image>",
        "<see>(?:(?:as )?(?:seen|viewed) )?from {a}, <where> (?:is|lies) {b}<located><image>",
        "<see><relative to> {a}, <where> (?:is|lies) {b}<located><image>",
        "<see>(?:(?:on |to )?(?:which|what) side of|(?:in )?(?:which|what) direction from) {a} is "
        "{b}(?: on)?<located><image>",
    ),
    "distance_cam_obj": (
        "<in m><see>(?:how far(?: away)?(?: is it)?|at what distance) from <camera> (?:is|was|to) "
        "{a}<located><image><m>",
        "<in m><see>how far (?:away )?(?:is|was) (?:{a} (?:located )?(?:away )?from <camera>|"
        "<camera> (?:away )?from {a2})<image><m>",
        "<in m><see>(?:<what is> )?the (?:<distance><m> from <camera> to|camera's <distance> "
        "(?:to|from)) {a}<image><m>",
        "<in m><see>(?:(?:<what is> )?the <distance><m> between|how many meters separate) "
        "(?:<camera> and {a}|{a2} and <camera>)<image><m>",
        "<see>how (?:many meters|far) away(?: from <camera>)? is {a}<image><m>",
        "<see>how many meters (?:away )?is {a} (?:away )?from <camera><image>",
        "<in m><see>(?:<what is> )?the <distance><m> (?:from {a} to|of {a2} from) <camera><image>"
        "<m>",
        "<in m><see>how close (?:is|was) (?:<camera> to {a}|{a2} to <camera>)<image><m>",
    ),
    "depth_order_obj_obj": (
        "<see>(?:(?:which|what)<of these> <is> )?<nearest>(?: to <camera>)?<image>[,:] <or>",
        "<see>(?:between|of) {a} and {b}, which(?: object| one)? <is> <nearest>(?: to <camera>)?"
        "<image>",
        "<see>is {a} (?:in front of|(?:closer|nearer) to <camera> than) {b}"
        "(?: as seen by the camera)?<image>",
        "<see>(?:which(?: one)? of {a} (?:and|or) {b} <is>|is {a2} or {b2}) <nearest>"
        "(?: to <camera>)?<image>",
        "<see>is <camera> (?:closer|nearer) to {a},? or(?: to)? {b}<image>",
    ),
    "position_cam_cam": (
        "<when> <taking> image {n},? <where> (?:was|is) <camera m>(?:,? relative to <me>)?",
        "<where> (?:was|is) <camera m>(?: relative to <me>)?,? <when> <taking> image {n}",
        "<from n>, <where> (?:was|is) <camera m>",
        "<where> (?:was|is) <camera m> <from n>",
        "<where> was image {m} (?:taken|shot)(?: from)?,? <from n>",
        "what is the (?:relative )?(?:position|direction|location) of <camera m> <from n>",
        "(?:in )?(?:which|what) direction from (?:the camera <of> )?image {n} is <camera m>",
    ),
    "elevation_cam_cam": (
        "<relative to>(?: the camera <of>)? image {n},? (?:is|was)(?: the camera <of>)? "
        "image {m}(?: camera)?<higher>",
        "(?:is|was)(?: the camera(?: position| height)? <of>)? image {m}(?: camera)?<higher> than"
        "(?: in)?(?: the camera <of>)? image {n}(?: camera)?",
        "when <taking> image {n}, where was the camera <of> image {m}, higher or lower",
        "(?:did|does) the camera (?:move|go) up or down <from to>",
        "(?:is|was) the camera<higher> in image {m} than(?: it (?:is|was))? in image {n}",
    ),
    "motion_camera": (
        "<based>(?:in )?(?:which|what) direction (?:(?:is|does|did|was) the camera (?:rotating|"
        "moving|turning|rotate|move|turn)|has the camera (?:moved|turned))(?: in)?<between>",
        "<based>(?:what|which) (?:is|was) (?:the camera(?:'s)?|its) (?:(?:motion|movement)"
        "(?: direction)?|direction of (?:motion|movement))<between>",
        "<based>(?:what|which) (?:is|was) the (?:(?:motion|movement) direction of the camera|"
        "direction of (?:the )?camera(?:'s)? (?:motion|movement))<between>",
        "how (?:(?:did|does) (?:the camera|i) (?:move|turn)(?: or turn)?(?: the camera)?|"
        "has the camera (?:moved|turned))<between>",
        "which way (?:(?:did|does) (?:the camera|i) (?:move|turn|rotate)(?: or turn)?"
        "(?: the camera)?|(?:is|was) the camera (?:moving|turning)|was the camera moved)<between>",
        "(?:<from to>|between the(?: two)? <picture>s), "
        "(?:how|which way|in (?:which|what) direction) (?:did|does) the camera (?:move|turn)",
    ),
    "visibility_compare": (
        "(?:for|considering) {a}, <which image> shows it <better>",
        "(?:for|considering) {a}, in <which image> is it <visible>",
        "<which image> (?:shows|displays) {a} <better>",
        "in <which image> is {a} <visible>",
        "<which image> <shows> (?:the|a) (?:better|clearer|best|clearest) view of {a}",
        "does <either image> (?:(?:give|show|have|offer|provide) (?:the|a) (?:better|clearer) view "
        "of {a}|show {a2} <better>)",
        "(?:where )?is {a} <visible>[,:]?(?: in)? <either image>",
        "in <which image> can (?:(?:i|you) see {a}|{a2} be seen) <better>",
    ),
    "position_cam_obj": _FROM_CAMERA,
    "position_cam_reg": _FROM_CAMERA,
    "attribute_measurement": (
        "(?:(?:between|of|comparing) {a} and {b}, which(?: object| one)?|which(?: one)? of {a2} "
        "and {b2}) has (?:the|a) (?:<larger>|greater|<longest>) (?:longest )?<side>",
        "(?:(?:between|of|comparing) {a} and {b}, which(?: object| one)?|which(?: one)? of {a2} "
        "and {b2}) is <larger><at its>",
        "(?:which|what)<of these> is <larger><at its>(?: in image {i})?[,:] <or>",
        "(?:which|what)<of these> has (?:the|a) (?:<larger>|greater|<longest>) (?:longest )?<side>"
        "[,:] <or>",
        "is {a} <larger><at its> than {b}<at its>(?: in image {i})?",
        "is {a} or {b} <larger><at its>(?: in image {i})?",
        "does {a} (?:or {b} have (?:the|a)|have a) (?:<larger>|greater) (?:longest )?<side>"
        "(?: than {b2})?",
    ),
    "object_size": (
        "<in cm><what is> the (?:(?:length|size)<cm> of the )?<longest> <side>"
        r"(?: \(length, width,? or height\))? of {a}<cm>",
        "<in cm><what is> the (?:size|length) of {a}<cm>",
        "<in cm>(?:how (?:long|large|big) is|what does) the <longest> <side> of {a}(?: measure)?"
        "<cm>",
        "<in cm>how (?:long|large|big) is {a} (?:in|along|at) its <longest> <side><cm>",
        "<in cm>how (?:big|large|long) is {a}<cm>",
        "how many centimeters (?:(?:is|does) the <longest> <side> of|long is) {a}(?: measure)?",
        "<in cm>(?:<what is>|how (?:long|large|big|many centimeters) is) "
        "(?:the (?:length|size) of )?{a}'s <longest> <side><cm>",
    ),
    "room_size": (
        "<in m2>(?:<what is> )?the (?:total )?(?:floor )?(?:size|area|space) of <room>(?:'s floor)?"
        r"<m2>(?:\? if multiple rooms are shown, estimate the size of the combined space)?",
        "<in m2>how (?:large|big) is (?:<room>|the (?:floor(?: area)?|area)(?: of <room>| here)?)"
        "<m2>",
        "(?:<what is> )?(?:(?:the )?(?:room|floor)|<room>'s)(?: floor)? (?:size|area)<m2>",
        "how (?:many square meters(?: of floor)?|much floor (?:space|area)) (?:is <room>|"
        "(?:does|has) <room> (?:have|cover|measure))",
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
FRAGMENT = re.compile(r"(?<!\?P)<[a-z0-9 ]+>")  # but no name of a group
LEAST_HEAD = 8  # characters; a shorter beginning says too little about what is asked


def _built(template: str) -> tuple[str, str]:
    """A template as a regular expression, and the part before its first blank."""
    while FRAGMENT.search(template):
        template = FRAGMENT.sub(lambda match: FRAGMENTS[match[0]], template)
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
