"""From the text of a question to its slots: a fixed grammar, no model, no similarity.

A sentence that fits a pattern of its task (`grammar`) gives phrases, which must be names of the
scene; one that only another task can read is the wrong task. Nothing is guessed: a sentence that
leaves something open has a reason.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from geometry_jax.reasons import Reason
from geometry_jax.tasks import TASKS
from geometry_jax.types import MAX_LABELS
from spatialevo_jax.environment import regions
from spatialevo_jax.environment.grammar import Pattern, patterns
from spatialevo_jax.environment.labels import (
    LETTERS,
    OddNames,
    bare,
    look_up,
    normalise,
    odd_names,
    vocabulary,
)
from spatialevo_jax.environment.wordings import Slots

MAX_LENGTH = 600  # characters; no honest question is longer
BLANKS = re.compile(r"[\t\r\n\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+")
WORD = re.compile(rf"[{LETTERS}][{LETTERS}'&\-/]*")
# What stands for a thing without naming it: such a question is open.
UNNAMED = frozenset({"it", "this", "that", "object", "thing", "item"})
JOINTS = re.compile(r",? and |,? or |, ?")

Names = Mapping[str, str | Reason]


class Reading(NamedTuple):
    """What a question says. `slots` are complete where `reason` is OK; else they hold what was
    understood, "" for a label that was not.
    """

    slots: Slots
    reason: Reason = Reason.OK
    phrase: str = ""  # the words that are the trouble


NOTHING = Slots()


def read_question(
    task: str,
    question: str,
    labels: Sequence[str],
    published: bool = False,
) -> Slots | Reason:
    """The slots that the question fills, or why it cannot be answered; see `read`."""
    reading = read(task, question, labels, published)
    return reading.slots if reading.reason is Reason.OK else reading.reason


def read(
    task: str,
    question: str,
    labels: Sequence[str],
    published: bool = False,
) -> Reading:
    """Reads a question.

    Args:
        task: canonical task name.
        question: free text.
        labels: distinct labels of the scene.
        published: names as the published oracle means them, see `vocabulary`.
    """
    odd = odd_names(tuple(labels), published)
    text = readable(question, odd)
    if text is None:
        return Reading(NOTHING, Reason.EMPTY_QUESTION)
    if odd is None:
        return _read(task, text, vocabulary(tuple(labels), published))
    found = _read(task, text, odd.names)
    said = tuple(map(odd.in_words, found.slots.labels))  # a region is held by its phrase
    return found._replace(
        slots=found.slots._replace(labels=said), phrase=odd.in_words(found.phrase)
    )


def _read(task: str, text: str, names: Names) -> Reading:
    found = _fit(task, text, names)
    if found is None:
        others = any(matches(other.name, text) for other in TASKS if other.name != task)
        started = not others and _opens_like(task, text)
        return Reading(NOTHING, Reason.MISSING_ROLE if started else Reason.WRONG_TASK)
    if found.reason is Reason.ABSENT_LABEL and _is_read_elsewhere(task, text, names):
        # "The distance between the camera and the bed" names no thing called camera.
        return Reading(NOTHING, Reason.WRONG_TASK)
    return found


def readable(question: str, odd: OddNames | None = None) -> str | None:
    """The question normalised; None where it is empty, too long or holds control characters."""
    if len(question) > MAX_LENGTH:
        return None
    # Line ends, tabs and blanks of other widths are blanks; nothing else hides in a text.
    if not question.isprintable():
        question = BLANKS.sub(" ", question)
        if not question.isprintable():
            return None
    return normalise(question, odd) if question.strip() else None


def has_a_form(question: str, labels: Sequence[str]) -> bool:
    """Whether a sentence asks something that a task can read, of things that the scene may lack."""
    text = readable(question, odd_names(tuple(labels)))
    return text is not None and any(matches(task.name, text) for task in TASKS)


def mentioned(question: str, labels: Sequence[str]) -> set[str]:
    """The scene's labels that a text names at all, whatever it says of them."""
    odd = odd_names(tuple(labels))
    names = vocabulary(tuple(labels)) if odd is None else odd.names
    words = WORD.findall(readable(question, odd) or "")
    longest = max((len(name.split()) for name in names), default=0)
    found, at = set(), 0
    while at < len(words):
        sizes = range(min(longest, len(words) - at), 0, -1)
        named = next((k for k in sizes if " ".join(words[at : at + k]) in names), 0)
        found.add(names.get(" ".join(words[at : at + named])))
        at += named or 1
    return {label for label in found if isinstance(label, str)}


def matches(task: str, text: str) -> bool:
    """Whether a normalised sentence has a form of the task."""
    return any(one.needs in text and one.sentence.fullmatch(text) for one in patterns(task))


def _opens_like(task: str, text: str) -> bool:
    """Whether the sentence begins as a form of the task does, before any blank."""
    return any(pattern.head and pattern.head.match(text) for pattern in patterns(task))


def _is_read_elsewhere(task: str, text: str, names: Names) -> bool:
    others = (_fit(other.name, text, names) for other in TASKS if other.name != task)
    return any(other is not None and other.reason is Reason.OK for other in others)


def _fit(task: str, text: str, names: Names) -> Reading | None:
    """By the first pattern whose phrases all mean something here; else by the first that fits at
    all, and rather by one that takes no "it" for a thing: "how far is it from the bed to the sofa".
    """
    failure: Reading | None = None
    for pattern in patterns(task):
        match = pattern.sentence.fullmatch(text) if pattern.needs in text else None
        if match is None:
            continue
        found = _reading(task, pattern, match, names)
        if found.reason is Reason.OK:
            return found
        unnamed = failure is not None and failure.reason is Reason.MISSING_ROLE
        if failure is None or (unnamed and found.reason is not Reason.MISSING_ROLE):
            failure = found
    return failure


def _reading(task: str, pattern: Pattern, match: re.Match[str], names: Names) -> Reading:
    """What the blanks of a matched sentence name."""
    phrases = []
    for place, other in pattern.slots:
        phrase, again = match[place], match[other] if other else None
        if phrase and again and look_up(phrase, names) != look_up(again, names):
            return Reading(NOTHING, Reason.MISSING_ROLE, again)
        phrases.append(phrase or again or "")
    if pattern.listed:
        phrases += [one for one in JOINTS.split(match[pattern.listed]) if one]
    find = region_name if task == "position_cam_reg" else look_up
    reason, trouble, labels = Reason.OK, "", []
    for phrase in phrases:
        label = find(phrase, names)
        if isinstance(label, Reason):
            if label is Reason.ABSENT_LABEL and bare(phrase) in UNNAMED:
                label = Reason.MISSING_ROLE
            if not reason:
                reason, trouble = label, phrase
            label = ""
        labels.append(label)
    slots = Slots(
        tuple(labels),
        tuple([int(match[place]) for place in pattern.images if match[place]]),
        next((level for level, place in pattern.levels if match[place]), "")
        if pattern.levels
        else "",
        int(match[pattern.bound] or 0) if pattern.bound else 0,
    )
    return Reading(slots, reason or clash(slots), trouble)


def clash(slots: Slots) -> Reason:
    """What is wrong with slots as such: a label or an image in two roles, too many of them."""
    if len(slots.labels) > MAX_LABELS:
        return Reason.TOO_MANY
    if len(set(slots.labels)) < len(slots.labels):
        return Reason.SAME_LABEL
    if len(slots.images) == 2 and slots.images[0] == slots.images[1]:
        return Reason.SAME_IMAGE
    return Reason.OK


def region_name(phrase: str, names: Names) -> str | Reason:
    """A region phrase as `Slots` hold it: a label of the scene, or the phrase without article."""
    found = regions.anchors(phrase, names)
    if isinstance(found, Reason):
        return found
    label = look_up(phrase, names)
    return label if isinstance(label, str) else bare(phrase)
