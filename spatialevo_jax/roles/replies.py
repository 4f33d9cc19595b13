"""What a role's response text says: known tags, counted and cut out. Model output is text and
nothing else.

Only the project's own tags count, so that "a < b and c > d" is prose.
"""

import dataclasses
import re

# Blanks have one way to be read: with two, as many as stand in a row would be tried squared.
TAG = re.compile(r"<\s*(?:(/)\s*)?(observation|question|answer)\s*>", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Block:
    """The inside of one balanced tag pair."""

    name: str
    text: str
    span: tuple[int, int]  # of the whole block in the response, tags included


@dataclasses.dataclass(frozen=True)
class QuestionerReply:
    observation: str
    question: str  # "" when no complete question block was found
    format_score: float  # 1, 0.5 without an observation, 0
    hard_violation: bool  # several questions, or a tag inside a block


@dataclasses.dataclass(frozen=True)
class SolverReply:
    answer: str  # "" unless there is exactly one answer block
    format_score: float  # 1 or 0
    hard_violation: bool  # several answers, or another role's tag


def blocks(text: str) -> tuple[tuple[Block, ...], int]:
    """Top-level blocks in order, and how many tags belong to none of them (unbalanced or nested).

    Linear in the text: one pass over the tags, an opening tag closed by the very next tag of its
    name.
    """
    found, loose, open_tag = [], 0, None
    for tag in TAG.finditer(text):
        name, closing = tag.group(2).lower(), bool(tag.group(1))
        if open_tag is not None and closing and open_tag.group(2).lower() == name:
            inside = text[open_tag.end() : tag.start()]
            found.append(Block(name, inside.strip(), (open_tag.start(), tag.end())))
            open_tag = None
        elif closing:
            loose += 1
        else:
            loose += (
                open_tag is not None
            )  # the earlier opening tag never closed, or this one is nested
            open_tag = tag
    return tuple(found), loose + (open_tag is not None)


def _outside(text: str, found: tuple[Block, ...]) -> str:
    kept, at = [], 0
    for block in found:
        kept.append(text[at : block.span[0]])
        at = block.span[1]
    return "".join([*kept, text[at:]]).strip()


def parse_questioner(text: str) -> QuestionerReply:
    """Reads `<observation>…</observation><question>…</question>`.

    exactly one question, at most one observation, nothing else   1.0
    the same without an observation                              0.5
    any other text with one complete question                    0.0
    no complete question                                         0.0, question ""
    """
    found, loose = blocks(text)
    questions = [block for block in found if block.name == "question"]
    observations = [block for block in found if block.name == "observation"]
    opened = sum(
        tag.group(2).lower() == "question" and not tag.group(1) for tag in TAG.finditer(text)
    )
    clean = loose == 0 and len(questions) == 1 and len(observations) <= 1
    clean = clean and len(found) == len(questions) + len(observations) and not _outside(text, found)
    observation = observations[0].text if observations else ""
    return QuestionerReply(
        observation=observation,
        question=questions[0].text if questions else "",
        format_score=(1.0 if observation else 0.5) if clean else 0.0,
        hard_violation=opened > 1 or (bool(questions) and loose > 0),
    )


def parse_solver(text: str) -> SolverReply:
    """Reads free reasoning that ends in one `<answer>…</answer>`."""
    found, loose = blocks(text)
    answers = [block for block in found if block.name == "answer"]
    opened = sum(
        tag.group(2).lower() == "answer" and not tag.group(1) for tag in TAG.finditer(text)
    )
    foreign = any(tag.group(2).lower() != "answer" for tag in TAG.finditer(text))
    single = len(answers) == 1 and opened == 1 and loose == 0 and not foreign
    return SolverReply(
        answer=answers[0].text if single else "",
        format_score=1.0 if single else 0.0,
        hard_violation=opened > 1 or foreign,
    )
