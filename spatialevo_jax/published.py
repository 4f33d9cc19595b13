"""The published system's scoring of both roles, with all its oddities, for people who must
reproduce its numbers. Nothing of it is on the default path.

How the default (`rewards`, `evaluation.readings`, `roles.replies`) differs:

    published                                         default
    ------------------------------------------------  ----------------------------------------
    f_obs from a language model that sees text only   share of the observation's claims that hold
    a valid question is worth at least f_obs = 0.1    an observation without a true claim is worth 0
    f_exp from a language model, format only costs    by reason class, format credited as elsewhere
    any <word> is a tag, "a <b and c>" a violation    only observation, question, answer are tags
    the first number, "85cm" is 8, units ignored      the last number with its unit, converted
    11 tolerances of relative error (0.05 to 0.50)    VSI-Bench's 10
    `same`, `overlap` as directions score 0           such questions are invalid
    an empty answer equals the truth "invalid"        an empty answer scores 0
    counting: partial credit in the accuracy too      partial credit in the reward only
"""

import dataclasses
import re

import numpy as np

from spatialevo_jax.evaluation.readings import DIRECTION_TASKS, DIRECTIONS, TENS, UNITS

ALPHA = 0.1
OBSERVATION_FLOOR = 0.1  # of f_obs for a valid, well-formed question
TOLERANCES = 1.0 - np.linspace(0.5, 0.95, 11)
MRA_TASKS = frozenset({"absolute_distance", "distance_cam_obj", "object_size", "room_size"})
ANY_TAG = re.compile(r"<\s*(?:/\s*)?([A-Za-z][^>]*)>")
TAG = re.compile(r"<\s*(?:(/)\s*)?(observation|question)\s*>", re.IGNORECASE)
# A number that letters touch is read up to the digit before the last: the pattern backs off.
NUMBER = re.compile(r"(?<![A-Za-z])[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![A-Za-z])")
LEVELS = re.compile(r"0\.3|0\.6|0(?:\.0+)?|1(?:\.0+)?")
WORDS = UNITS | TENS
SYNONYMS = {"behind": "back", "backward": "back", "backwards": "back", "rear": "back"}
SYNONYMS |= {"forward": "front", "forwards": "front", "ahead": "front"}
SYNONYMS |= {"above": "up", "below": "down"}
GLUED = re.compile(rf"(?:{'|'.join(DIRECTIONS)})+")


@dataclasses.dataclass(frozen=True)
class Asked:
    """A Questioner response as the published parser reads it."""

    question: str  # "" where a language model would be asked to repair it
    observation: str
    format_score: float
    question_count: int  # opening question tags
    inner_tags: bool  # anything like a tag inside the extracted blocks


def clean(text: str) -> str:
    """Blanks with a line end among them become one; lower case, without full stops at the end."""
    joined = re.sub(r"\s+", lambda blanks: " " if "\n" in blanks[0] else blanks[0], text)
    return joined.strip().rstrip(".").lower().strip()


def any_tags(text: str) -> list[str]:
    """The insides of all that looks like a tag. What no bracket closes is cut off first: else each
    opening one would be followed to the end of the text.
    """
    return ANY_TAG.findall(text[: text.rfind(">") + 1])


def blocks(name: str, text: str) -> tuple[list[str], str]:
    """What stands inside the blocks of a tag, and the text without them. What the last closing tag
    leaves is cut off before blocks are looked for, for the same reason.
    """
    closing = rf"<\s*/\s*{name}\s*>"
    end = max((tag.end() for tag in re.finditer(closing, text, re.IGNORECASE)), default=0)
    block = re.compile(rf"<\s*{name}\s*>(.*?){closing}", re.IGNORECASE | re.DOTALL)
    return block.findall(text[:end]), block.sub("", text[:end]) + text[end:]


def parse_question(text: str) -> Asked:
    """Reads one observation and one question by their tags."""
    counts = {"observation": [0, 0], "question": [0, 0]}
    for closing, name in TAG.findall(text):
        counts[name.lower()][bool(closing)] += 1

    questions, outside = blocks("question", text)
    observations, _ = blocks("observation", text)
    _, outside = blocks("observation", outside)
    single = counts["question"] == [1, 1] and len(questions) == 1
    balanced = counts["observation"] in ([0, 0], [1, 1])
    well_formed = single and balanced and not outside.strip()
    question = questions[0].strip() if questions else ""
    observation = observations[0].strip() if observations else ""
    score = (1.0 if observation else 0.5) if well_formed else 0.0
    inner = bool(any_tags(question) or any_tags(observation))
    return Asked(question, observation, score, counts["question"][0], inner)


def question_value(task: str, valid: bool, truth: str) -> float:
    """f_valid."""
    if not valid:
        return 0.0
    if task == "object_counting":
        return {"0": 0.0, "1": 0.5}.get(truth, 1.0)
    if task == "elevation_cam_cam" and truth == "same_level":
        return 0.0
    half = {"depth_order_obj_obj": {"same"}, "visibility_compare": {"same", "neither"}}
    return 0.5 if truth in half.get(task, ()) else 1.0


def questioner_reward(asked: Asked, value: float, judged: float | None) -> float:
    """r_Q; `value` is f_valid, `judged` the language model's f_obs, None where it gave none."""
    hard = asked.question_count > 1 or asked.inner_tags
    if hard:
        return -1.0
    looked_at = value > 0 and asked.format_score > 0 and bool(asked.observation)
    grounding = max(OBSERVATION_FLOOR, judged or 0.0) if looked_at else 0.0
    return ALPHA * asked.format_score + (1 - ALPHA) * value * grounding


def solver_reward(
    response: str, task: str, truth: str, *, valid: bool, judged: float = 0.0
) -> float:
    """r_A; `judged` is the language model's f_exp for an invalid question."""
    answers, _ = blocks("answer", response)
    foreign = any(tag.strip().lower() != "answer" for tag in any_tags(response))
    if valid:
        if len(answers) > 1 or foreign:
            return -1.0
        answer = answers[0] if answers else ""
        return ALPHA * len(answers) + (1 - ALPHA) * accuracy(task, answer, truth)
    explained = judged if len(answers) <= 1 and response.strip() else 0.0
    return -ALPHA * foreign + (1 - ALPHA) * explained


def accuracy(task: str, answer: str, truth: str) -> float:
    """f_acc."""
    if "invalid" in truth:
        truth = ""
    if task in MRA_TASKS:
        predicted, expected = number(answer), number(truth)
        if predicted is None or expected is None:
            return 0.0
        return mean_relative_accuracy(predicted, expected)
    if task == "object_counting":
        predicted, expected = number(answer), number(truth)
        if predicted is None or expected is None:
            return 0.0
        error = abs(predicted - expected)
        return 1.0 if error <= 1e-6 else 0.3 if error <= 1 else 0.1 if error <= 2 else 0.0
    if task in DIRECTION_TASKS:
        given, wanted = directions(answer, task), directions(truth, task)
        if not given or not wanted:
            return 0.0
        if given == wanted:
            return 1.0
        if task == "single_image_relative_direction" and given < wanted:
            return {(2, 3): 1.0, (1, 2): 0.1}.get((len(given), len(wanted)), 0.0)
        return 0.0
    return float(exact(task, answer) == exact(task, truth))


def number(text: str) -> float | None:
    """The first number of the text; else the number words that it begins with."""
    text = clean(text.replace(",", ""))
    found = NUMBER.search(text)
    if found:
        return float(found.group())
    total: float | None = None
    for word in re.findall(r"[a-z]+", text):
        if word in WORDS:
            total = (total or 0.0) + WORDS[word]
        elif word == "hundred" and total is not None:
            total *= 100.0
        elif word != "and" or total is None:
            break
    return total


def mean_relative_accuracy(predicted: float, truth: float) -> float:
    """Share of the 11 tolerances within which the relative error stays."""
    error = abs(predicted - truth) / max(truth, 1e-9)
    return float((error <= TOLERANCES).mean())


def directions(text: str, task: str) -> frozenset[str]:
    """The set of direction words in the text."""
    text = re.sub(r"[_\-]", " ", clean(text))
    if task == "motion_camera":
        text = re.sub(r"\bcounter ?clockwise\b", "left", text)
        text = re.sub(r"\bclockwise\b", "right", text)
    found: set[str] = set()
    words: list[str] = re.findall(r"[a-z]+", text)
    for word in (SYNONYMS.get(word, word) for word in words):
        if GLUED.fullmatch(word):
            found.update(re.findall("|".join(DIRECTIONS), word))
    return frozenset(found)


def exact(task: str, text: str) -> str:
    """The text as it is compared word by word."""
    text = " ".join(re.sub(r"[_\-]", " ", clean(text)).split())
    text = re.sub(r"^(?:the|a|an) ", "", re.sub(r"^(?:the|a|an) ", "", text))
    if task == "visibility_compare":
        for index, names in (
            (1, "image 1|image one|first image"),
            (2, "image 2|image two|second image"),
        ):
            if re.fullmatch(names, text):
                return f"image{index}"
    if re.fullmatch(r"(?:the )?same(?: |_)?(?:level|height)", text):
        return "same level"
    return text


def judge_level(reply: str) -> float:
    """The level that a judge's reply on an explanation is taken for: its first digits decide."""
    found = LEVELS.search(reply)
    return (
        min((0.0, 0.3, 0.6, 1.0), key=lambda level: abs(level - float(found.group())))
        if found
        else 0.0
    )
