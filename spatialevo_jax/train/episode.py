"""The host side of one step of self-evolution: text in, text out. Pure functions between the two
rollouts.

rows -> tasks -> Questioner prompts -> [rollout] -> parse, judge, reward, dedup
     -> Solver prompts -> [rollout] -> score, reward
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from geometry_jax.reasons import Reason
from geometry_jax.tasks import TASK_IDS, TASKS
from spatialevo_jax import published, rewards
from spatialevo_jax.config import RewardSource, Scoring, TrainConfig
from spatialevo_jax.data import RoomSet, Row
from spatialevo_jax.environment import Pools, Reply, Request, Slots, answer_requests, pools
from spatialevo_jax.evaluation import readings
from spatialevo_jax.roles import pointing, prompts, replies


@dataclasses.dataclass(frozen=True)
class Assignment:
    """A row and the task that the scheduler gave it."""

    row: Row
    task: str
    pools: Pools


@dataclasses.dataclass(frozen=True)
class Asked:
    """One Questioner response, judged."""

    assignment: int  # index of its row in the step
    text: str  # the whole response
    reply: replies.QuestionerReply
    verdict: Reply
    grounding: float  # f_obs


@dataclasses.dataclass(frozen=True)
class Question:
    """One distinct question that the Solver answers, or explains when it is invalid."""

    assignment: int
    task: str
    text: str
    verdict: Reply
    weight: float  # 1, or 0 for padding up to the fixed budget


def feasible_mask(rooms: RoomSet, rows: Sequence[Row]) -> np.ndarray:
    """(R, K) bool."""
    mask = np.zeros((len(rows), len(TASKS)), bool)
    for index, row in enumerate(rows):
        for task in rooms.feasible_tasks(row):
            mask[index, TASK_IDS[task]] = True
    return mask


def assign_tasks(
    rooms: RoomSet, rows: Sequence[Row], probabilities: np.ndarray, rng: np.random.Generator
) -> list[Assignment]:
    """Draws one task for each row; `probabilities` is (R, K)."""
    chosen = []
    for row, chances in zip(rows, probabilities.astype(np.float64), strict=True):
        task = TASKS[rng.choice(len(TASKS), p=chances / chances.sum())].name
        chosen.append(Assignment(row, task, pools(rooms.records[row.room], row.frames)))
    return chosen


def judge_questions(
    rooms: RoomSet,
    assignments: Sequence[Assignment],
    texts: Sequence[Sequence[str]],
    reward: RewardSource,
    places: Sequence[int] | None = None,
) -> list[list[Asked]]:
    """Parses and judges the responses, (R, G) texts -> (R, G). All of them in one call of the
    oracle. `places` are the assignments' numbers in the step, where they are not all of it.
    """
    parsed = [[replies.parse_questioner(text) for text in group] for group in texts]
    requests = [
        Request(
            record=rooms.records[assignment.row.room],
            task=assignment.task,
            question=reply.question,
            frames=assignment.row.frames,
        )
        for assignment, group in zip(assignments, parsed, strict=True)
        for reply in group
    ]
    verdicts = iter(answer_requests(requests, strict_margin=True))
    judged = []
    places = range(len(assignments)) if places is None else places
    for index, assignment, written, group in zip(places, assignments, texts, parsed, strict=True):
        seen = pointing.visible(rooms.records[assignment.row.room], assignment.row.frames)
        judged.append(
            [
                Asked(
                    assignment=index,
                    text=text,
                    reply=reply,
                    verdict=next(verdicts),
                    # Without geometry there is nothing to hold an observation against.
                    grounding=float(bool(reply.observation))
                    if reward == "vote"
                    else pointing.grounding(reply.observation, seen),
                )
                for text, reply in zip(written, group, strict=True)
            ]
        )
    return judged


KEPT = ("valid", "task", "question", "answer", "margin", "phrase")  # of a verdict, as they are


def to_json(group: Sequence[Asked]) -> list[Any]:
    """What other processes need to know of a row's questions: all but what the oracle understood
    and its evidence.
    """
    return [
        {
            "assignment": item.assignment,
            "text": item.text,
            "grounding": item.grounding,
            "verdict": {name: getattr(item.verdict, name) for name in KEPT},
            "reason": int(item.verdict.reason),
            "signature": item.verdict.signature,
        }
        for item in group
    ]


def from_json(group: Sequence[Any]) -> list[Asked]:
    """The questions of another process."""
    return [
        Asked(
            assignment=item["assignment"],
            text=item["text"],
            reply=replies.parse_questioner(item["text"]),
            verdict=Reply(
                **item["verdict"],
                reason=Reason(item["reason"]),
                signature=_tuples(item["signature"]),
                slots=Slots(),
                evidence=None,
            ),
            grounding=item["grounding"],
        )
        for item in group
    ]


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples, which can be compared as keys."""
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def questioner_rewards(
    asked: Sequence[Sequence[Asked]],
    reward: RewardSource,
    *,
    alpha: float,
    scoring: Scoring = "corrected",
) -> np.ndarray:
    """(R, G). Under `vote` every well-formed question counts as valid: nobody is there to say
    otherwise. In the published scoring the share of claims that hold stands for the language model
    that judged observations.
    """

    def one(item: Asked) -> float:
        if scoring == "published":
            value = published.question_value(
                item.verdict.task, item.verdict.valid, item.verdict.answer
            )
            parsed = published.parse_question(item.text)
            return published.questioner_reward(parsed, value, item.grounding)
        if reward == "vote":
            value = float(bool(item.reply.question))
        else:
            value = rewards.question_value(
                item.verdict.task, item.verdict.valid, item.verdict.answer
            )
        return rewards.questioner_reward(item.reply, value, item.grounding, alpha=alpha)

    return np.asarray([[one(item) for item in group] for group in asked], np.float32)


def distinct_questions(
    assignments: Sequence[Assignment],
    asked: Sequence[Sequence[Asked]],
    config: TrainConfig,
    fits: Callable[[Question], bool] = lambda question: True,
) -> list[Question]:
    """Fills the Solver's fixed budget with distinct questions.

    A question that does not fit the Solver's prompt is not asked: a policy may write one of any
    length.

    Questions of one row that ask the same thing are asked once (valid and invalid never merge).
    Rows take turns, valid questions first, so that a step never consists of one row; the rest of
    the budget is padding of weight 0.
    """
    budget = config.rollout.solver_prompts
    invalid_budget = math.floor(config.rollout.max_invalid_share * budget + 1e-9)
    valid: list[list[Question]] = []
    invalid: list[list[Question]] = []
    for index, group in enumerate(asked):
        seen = set()
        valid.append([])
        invalid.append([])
        for item in group:
            if not item.reply.question or item.verdict.signature in seen:
                continue
            question = Question(
                index, assignments[index].task, item.reply.question, item.verdict, 1.0
            )
            if not fits(question):
                continue
            seen.add(item.verdict.signature)
            answered = item.verdict.valid or config.reward == "vote"
            (valid if answered else invalid)[index].append(question)
    chosen = _take_turns(invalid, invalid_budget)
    chosen = _take_turns(valid, budget - len(chosen)) + chosen
    if (
        not chosen
    ):  # nothing readable was asked: the step keeps its shapes and teaches the Questioner only
        first = asked[0][0]
        chosen = [Question(0, assignments[0].task, "", first.verdict, 0.0)]
    return chosen + [
        dataclasses.replace(chosen[index % len(chosen)], weight=0.0)
        for index in range(budget - len(chosen))
    ]


def _take_turns(groups: Sequence[Sequence[Question]], count: int) -> list[Question]:
    longest = max((len(group) for group in groups), default=0)
    turns = [group[turn] for turn in range(longest) for group in groups if turn < len(group)]
    return turns[:count]


def solver_prompt(question: Question, assignment: Assignment, reward: RewardSource) -> str:
    if question.verdict.valid or reward == "vote":
        return prompts.solver(question.task, question.text)
    return prompts.explainer(question.task, question.text, assignment.pools)


@dataclasses.dataclass(frozen=True)
class Scored:
    rewards: np.ndarray  # (U, G) f32
    correctness: (
        np.ndarray
    )  # (U, G) f32, against geometry: the accuracy that is reported and scheduled


def score_answers(
    questions: Sequence[Question],
    texts: Sequence[Sequence[str]],
    reward: RewardSource,
    *,
    alpha: float,
    scoring: Scoring = "corrected",
) -> Scored:
    """Rewards of the Solver's responses, (U, G) texts. `vote` takes the group's majority for the
    truth. In the published scoring the reason class stands for the language model that judged
    explanations.
    """
    given, correct = [], []
    for question, group in zip(questions, texts, strict=True):
        verdict = question.verdict
        parsed = [replies.parse_solver(text) for text in group]
        answers = [reply.answer for reply in parsed]
        truth = verdict.answer
        if reward == "vote":
            majority = rewards.majority_answer(answers)
            earned = [readings.score(question.task, one, majority, partial=True) for one in answers]
        elif verdict.valid:
            earned = [readings.score(question.task, one, truth, partial=True) for one in answers]
        else:
            phrase = verdict.reason.phrase
            earned = [rewards.explanation_score(one, phrase) for one in answers]
        if scoring == "published":
            received = [
                published.solver_reward(
                    text, question.task, truth, valid=verdict.valid, judged=value
                )
                for text, value in zip(group, earned, strict=True)
            ]
        else:
            received = [
                rewards.solver_reward(reply, value, alpha=alpha)
                for reply, value in zip(parsed, earned, strict=True)
            ]
        given.append(received)
        correct.append(
            [readings.score(question.task, one, truth, partial=False) for one in answers]
            if verdict.valid
            else [0.0] * len(group)
        )
    return Scored(np.asarray(given, np.float32), np.asarray(correct, np.float32))
