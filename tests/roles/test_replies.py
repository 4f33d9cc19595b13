"""Replies as models write them, the malformed ones above all."""

import random
from itertools import pairwise

import pytest

from spatialevo_jax.roles.replies import TAG, blocks, parse_questioner, parse_solver

Q, SEEN, A = "<question>q</question>", "<observation>o</observation>", "<answer>a</answer>"


@pytest.mark.parametrize(
    ("text", "question", "observation", "format_score", "hard"),
    [
        (f"{SEEN}{Q}", "q", "o", 1.0, False),
        (f"{Q}{SEEN}", "q", "o", 1.0, False),  # the order does not matter
        (f" \n{SEEN}\n\n{Q}\t", "q", "o", 1.0, False),
        ("<Observation> o </OBSERVATION>< question >\nq\n< / Question>", "q", "o", 1.0, False),
        (Q, "q", "", 0.5, False),
        (f"<observation> </observation>{Q}", "q", "", 0.5, False),
        (f"{SEEN}and {Q}", "q", "o", 0.0, False),  # text outside
        (f"{SEEN}{Q}.", "q", "o", 0.0, False),
        (f"{SEEN}{SEEN}{Q}", "q", "o", 0.0, False),
        (f"{SEEN}{Q}{A}", "q", "o", 0.0, False),  # another role's block
        ("", "", "", 0.0, False),
        ("How far is the chair?", "", "", 0.0, False),
        (SEEN, "", "o", 0.0, False),
        ("<question>q", "", "", 0.0, False),  # cut off
        ("q</question>", "", "", 0.0, False),
        ("</question>q<question>", "", "", 0.0, False),
        ("<observation>o<question>q", "", "", 0.0, False),
        (f"{Q}{Q}", "q", "", 0.0, True),
        ("<question>q</question><question>r</question>", "q", "", 0.0, True),
        (f"{SEEN}{Q}<question>", "q", "o", 0.0, True),
        ("<question>q<question>", "", "", 0.0, True),
        ("<question><question>q</question></question>", "q", "", 0.0, True),
        (f"{Q}</question>", "q", "", 0.0, True),
        (f"<observation>o{Q}", "q", "", 0.0, True),
        (f"<observation>{Q}</observation>", "q", "", 0.0, True),  # nested
        (f"{SEEN}<answer>{Q}", "q", "o", 0.0, True),
        ("<observation>o</question><question>q</observation>", "", "", 0.0, False),  # crossed
    ],
)
def test_a_questioners_reply(
    text: str, question: str, observation: str, format_score: float, hard: bool
) -> None:
    reply = parse_questioner(text)
    assert (reply.question, reply.observation) == (question, observation)
    assert (reply.format_score, reply.hard_violation) == (format_score, hard)


@pytest.mark.parametrize("inside", [SEEN, A, "<answer>a", "<observation>"])
def test_a_question_around_another_block_is_no_question(inside: str) -> None:
    reply = parse_questioner(f"{SEEN}<question>q{inside}</question>")
    assert (reply.question, reply.format_score) == ("", 0.0)


@pytest.mark.parametrize(
    ("text", "answer", "format_score", "hard"),
    [
        (A, "a", 1.0, False),
        (f"chair 1254, so {A}", "a", 1.0, False),
        (f"{A} I think.", "a", 1.0, False),
        ("< ANSWER >\n front-left \n</ Answer >", "front-left", 1.0, False),
        ("<answer></answer>", "", 1.0, False),
        ("<answer>1 < 2 and 3 > 2</answer>", "1 < 2 and 3 > 2", 1.0, False),
        ("", "", 0.0, False),
        ("left", "", 0.0, False),
        ("<answer>a", "", 0.0, False),
        ("a</answer>", "", 0.0, False),
        ("</answer>a<answer>", "", 0.0, False),
        (f"{A}</answer>", "", 0.0, False),
        (f"{A}{A}", "", 0.0, True),
        (f"{A}<answer>", "", 0.0, True),
        ("<answer><answer>a</answer></answer>", "", 0.0, True),
        ("<answer>a<answer>b</answer>", "", 0.0, True),
        (f"{SEEN}{A}", "", 0.0, True),
        (f"{A}<question>", "", 0.0, True),
        ("<answer></question></answer>", "", 0.0, True),
    ],
)
def test_a_solvers_reply(text: str, answer: str, format_score: float, hard: bool) -> None:
    reply = parse_solver(text)
    assert (reply.answer, reply.format_score) == (answer, format_score)
    assert reply.hard_violation == hard


@pytest.mark.parametrize(
    "look_alike",
    [
        "a < b and c > d",
        "<think>hm</think>",
        "<answers>a</answers>",
        "<answer1>a</answer1>",
        '<answer id="1">a</answer id="1">',
        "<an swer>a</an swer>",
        "&lt;answer&gt;a&lt;/answer&gt;",
        "[answer]a[/answer]",
        "<answer a</answer",
        "<//answer>",
        "<answer/>",
        "\uff1canswer\uff1ea\uff1c/answer\uff1e",
        "<|im_end|>",
    ],
)
def test_what_only_looks_like_a_tag_is_prose(look_alike: str) -> None:
    assert blocks(look_alike) == ((), 0)
    assert parse_solver(f"{look_alike} {A}").answer == "a"
    assert parse_solver(f"{look_alike} {A}").format_score == 1.0
    inside = parse_questioner(f"{SEEN}<question>{look_alike}</question>")
    assert (inside.question, inside.format_score) == (look_alike, 1.0)


def test_blocks_keep_their_order_names_and_places() -> None:
    text = f"x {A} y <QUESTION> q </question>"
    found, loose = blocks(text)
    assert [(block.name, block.text) for block in found] == [("answer", "a"), ("question", "q")]
    assert [text[slice(*block.span)] for block in found] == [A, "<QUESTION> q </question>"]
    assert loose == 0


@pytest.mark.parametrize(
    "text",
    [
        "<" * 10_000,
        "<answer" * 10_000,
        "<answer>" * 10_000,
        "</answer>" * 10_000,
        "<" + " " * 10_000 + "answer>",
        "<" + " \n" * 500_000,
        "<answer>" + "x" * 10_000,
        "< /" * 10_000,
    ],
)
def test_long_rubbish_has_no_answer(text: str) -> None:
    reply = parse_solver(text)
    assert (reply.answer, reply.format_score) == ("", 0.0)
    assert parse_questioner(text).question == ""


def test_a_long_answer_is_kept_whole() -> None:
    long = "chair 1254 " * 1_000 + "left"
    assert parse_solver(f"{long}<answer>{long}</answer>{long}").answer == long


def test_ten_thousand_blocks_are_all_found() -> None:
    found, loose = blocks(A * 10_000)
    assert (len(found), loose) == (10_000, 0)


def test_any_mixture_of_tags_is_accounted_for() -> None:
    """Every tag is in one block or loose, blocks do not overlap, and a tag inside one is loose."""
    rng = random.Random(0)
    pieces = [f"<{slash}{name}>" for name in ("question", "observation", "answer") for slash in "/"]
    pieces += [piece.replace("/", "") for piece in pieces] + ["x", " ", "<", ">"]
    for _ in range(300):
        text = "".join(rng.choices(pieces, k=rng.randrange(12)))
        found, loose = blocks(text)
        assert 2 * len(found) + loose == len(TAG.findall(text))
        assert all(before.span[1] <= after.span[0] for before, after in pairwise(found))
        assert sum(len(TAG.findall(block.text)) for block in found) <= loose
        solver, questioner = parse_solver(text), parse_questioner(text)
        assert solver.format_score in (0.0, 1.0)
        assert questioner.format_score in (0.0, 0.5, 1.0)
        assert not (solver.hard_violation and solver.format_score)
        assert not (questioner.hard_violation and questioner.format_score)
