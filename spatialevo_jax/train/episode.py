"""The host side of one step of self-evolution: text in, text out. Pure functions between the two
rollouts.

rows -> tasks -> Questioner prompts -> [rollout] -> parse, judge, reward, dedup
     -> Solver prompts -> [rollout] -> score, reward
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from geometry_jax.reasons import Reason
from geometry_jax.tasks import TASK_IDS, TASKS
from spatialevo_jax import published, rewards
from spatialevo_jax.config import Language, RewardConfig, RewardSource, Scoring, TrainConfig
from spatialevo_jax.data import RoomSet, Row
from spatialevo_jax.environment import Pools, Reply, Request, Slots, answer_requests, pools
from spatialevo_jax.evaluation import readings
from spatialevo_jax.rewards import ExplanationJudge, ObservationJudge
from spatialevo_jax.roles import claims, prompts, replies

STACKED_ROOMS = 256  # so many at most stay on the device together, else those of a step


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
    """(R, K) bool: the tasks that can be asked about each row."""
    mask = np.zeros((len(rows), len(TASKS)), bool)
    for index, row in enumerate(rows):
        for task in rooms.feasible_tasks(row):
            mask[index, TASK_IDS[task]] = True
    return mask


def assign_tasks(
    rooms: RoomSet, rows: Sequence[Row], probabilities: np.ndarray, rng: np.random.Generator
) -> list[Assignment]:
    """Draws one task for each row among those that are feasible for it, by the (K,) probabilities
    of all tasks; evenly where the feasible ones have none, as the scheduler does.
    """
    chosen = []
    for row, feasible in zip(rows, feasible_mask(rooms, rows), strict=True):
        weights = np.where(feasible, probabilities.astype(np.float64), 0.0)
        weights = weights if weights.any() else feasible.astype(np.float64)
        task = TASKS[rng.choice(len(TASKS), p=weights / weights.sum())].name
        chosen.append(Assignment(row, task, pools(rooms.records[row.room], row.frames)))
    return chosen


def judge_questions(
    rooms: RoomSet,
    assignments: Sequence[Assignment],
    texts: Sequence[Sequence[str]],
    reward: RewardSource,
    places: Sequence[int] | None = None,
    *,
    judge: ObservationJudge | None = None,
) -> list[list[Asked]]:
    """Parses and judges the responses, (R, G) texts -> (R, G). All of them in one call of the
    oracle. `places` are the assignments' numbers in the step, where they are not all of it; `judge`
    says what observations are worth, by default as pointings.
    """
    judge = judge or claims.observation_judge("pointings", rooms.records)
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
    among = rooms.records if len(rooms.records) <= STACKED_ROOMS else ()
    answered = answer_requests(requests, strict_margin=True, evidence=False, among=among)
    verdicts = zip(requests, answered, strict=True)
    judged: list[list[Asked]] = []
    places = range(len(assignments)) if places is None else places
    for index, written, group in zip(places, texts, parsed, strict=True):
        judged.append([])
        for text, reply in zip(written, group, strict=True):
            request, verdict = next(verdicts)
            # Without geometry there is nothing to hold an observation against.
            grounding = (
                float(bool(reply.observation))
                if reward == "vote"
                else judge(reply.observation, request)
            )
            judged[-1].append(Asked(index, text, reply, verdict, grounding))
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


def with_content_factor(
    given: np.ndarray,
    assignments: Sequence[Assignment],
    asked: Sequence[Sequence[Asked]],
    questions: Sequence[Question],
    correctness: np.ndarray,
    config: RewardConfig,
    *,
    alpha: float,
) -> np.ndarray:
    """The Questioner's rewards (R, G) with learnability and novelty, now that the Solver answered.

    `correctness` (U, G) is of the Solver's `questions`. Questions that ask the same share what was
    found of the one that stood for them; of one that was not posed, the budget being full, the mean
    over those that were is assumed.
    """
    if config.learnability == config.novelty == 0.0:
        return given
    spreads = {
        (question.assignment, question.verdict.signature): float(row.var())
        for question, row in zip(questions, correctness, strict=True)
        if question.weight > 0 and question.verdict.valid
    }
    usual = float(np.mean(list(spreads.values()))) if spreads else 0.0
    meant = [[_meaning(assignments[x.assignment], x) for x in group] for group in asked]
    counts = collections.Counter(key for group in meant for key in group)
    factor = rewards.content_factor(
        np.array(
            [
                [spreads.get((x.assignment, x.verdict.signature), usual) for x in group]
                for group in asked
            ]
        ),
        np.array([[counts[key] for key in group] for group in meant]),
        learnability=config.learnability,
        novelty=config.novelty,
    )
    form = alpha * np.array([[x.reply.format_score for x in group] for group in asked])
    violation = np.array([[x.reply.hard_violation for x in group] for group in asked])
    return np.where(violation, given, form + (given - form) * factor).astype(np.float32)


def _meaning(assignment: Assignment, item: Asked) -> tuple[Any, ...]:
    """The same for questions that ask the same of the same images."""
    return (assignment.row, assignment.task, item.verdict.signature)


def distinct_questions(
    assignments: Sequence[Assignment],
    asked: Sequence[Sequence[Asked]],
    config: TrainConfig,
    fits: Callable[[Question], bool] = lambda question: True,
) -> list[Question]:
    """Fills the Solver's fixed budget with distinct questions.

    A question that does not fit the Solver's prompt is not asked: a policy may write one of any
    length, and with marks in it that end a turn.

    Questions of one row that ask the same thing are asked once (valid and invalid never merge).
    Rows take turns, so that a step never consists of one row. Invalid questions have their share of
    the budget, valid ones all that is left; what nobody takes is padding of weight 0.
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
    if not chosen:
        # Nothing readable was asked: the step keeps its shapes and teaches the Questioner only.
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


def solver_prompt(
    question: Question,
    assignment: Assignment,
    reward: RewardSource,
    language: Language = "pointings",
) -> str:
    if question.verdict.valid or reward == "vote":
        return prompts.solver(question.task, question.text, language)
    return prompts.explainer(question.task, question.text, assignment.pools, language)


@dataclasses.dataclass(frozen=True)
class Scored:
    rewards: np.ndarray  # (U, G) f32
    correctness: np.ndarray  # (U, G) f32, against geometry: what is reported and scheduled


def score_answers(
    questions: Sequence[Question],
    texts: Sequence[Sequence[str]],
    reward: RewardSource,
    *,
    alpha: float,
    scoring: Scoring = "corrected",
    judge: ExplanationJudge = rewards.reason_class,
) -> Scored:
    """Rewards of the Solver's responses, (U, G) texts. `vote` takes the group's majority for the
    truth. `judge` says what explanations are worth; in the published scoring it stands for the
    language model that did.
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
            earned = [judge(one, verdict) for one in answers]
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
