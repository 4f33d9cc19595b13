"""Rewards of both roles, from parsed replies and the oracle's verdict. Pure, host side, no model
and no network.

    questioner  r = -1 for a hard violation, else alpha * f_fmt + (1 - alpha) * f_valid * f_obs
    solver      r = -1 for a hard violation, else alpha * f_fmt + (1 - alpha) * (f_acc | f_exp)

f_acc scores the answer of a valid question against geometry, f_exp the explanation of an invalid
one by reason class. f_obs and f_exp come from a judge, by default from a rule: an
`ObservationJudge` of `roles.claims`, and `reason_class`.
"""

import collections
from collections.abc import Callable, Sequence

import numpy as np

from spatialevo_jax.environment import Reply, Request
from spatialevo_jax.evaluation import readings
from spatialevo_jax.roles.replies import QuestionerReply, SolverReply

# Who says what is good, in [0, 1]; a language model may stand here. An observation is judged with
# what was asked beside it, an explanation with what the oracle said of the question.
ObservationJudge = Callable[[str, Request], float]
ExplanationJudge = Callable[[str, Reply], float]

HALF_VALUE = {
    "depth_order_obj_obj": "same",
    "visibility_compare": "same",
}  # answers worth asking half as much


def question_value(task: str, valid: bool, answer: str) -> float:
    """f_valid: 0 for an invalid question, 0.5 for one with an uninformative answer, else 1."""
    if not valid:
        return 0.0
    return 0.5 if HALF_VALUE.get(task) == answer else 1.0


def questioner_reward(
    reply: QuestionerReply, value: float, grounding: float, *, alpha: float
) -> float:
    """`value` is f_valid, `grounding` f_obs (share of the observation's claims that hold), both in
    [0, 1].
    """
    if reply.hard_violation:
        return -1.0
    return alpha * reply.format_score + (1.0 - alpha) * value * grounding


def solver_reward(reply: SolverReply, correctness: float, *, alpha: float) -> float:
    """`correctness` is f_acc for a valid question and f_exp for an invalid one, in [0, 1]."""
    if reply.hard_violation:
        return -1.0
    return alpha * reply.format_score + (1.0 - alpha) * correctness


def explanation_score(answer: str, phrase: str) -> float:
    """f_exp: whether the reply names the oracle's reason class, given as its phrase."""
    return 1.0 if readings.name(answer) == readings.name(phrase) else 0.0


def reason_class(explanation: str, verdict: Reply) -> float:
    """f_exp by default."""
    return explanation_score(explanation, verdict.reason.phrase)


def content_factor(
    spread: np.ndarray, same: np.ndarray, *, learnability: float, novelty: float
) -> np.ndarray:
    """What f_valid f_obs of a question is multiplied by, in [0, 1]:

        (1 - l + l * 4 spread) * (1 - n + n / same)

    Args:
        spread: variance of the accuracies of the Solver's answers to it. With right and wrong
            answers alone, 4 spread is 4 p (1 - p): 1 where half of them are right, 0 where all or
            none are, and nothing can be learnt.
        same: how many questions of the step ask the same of the same images, itself among them.
        learnability, novelty: l and n, the shares that these two scale; 0 leaves the reward.
    """
    learnable = 1.0 - learnability + learnability * np.clip(4.0 * spread, 0.0, 1.0)
    return learnable * (1.0 - novelty + novelty / same)


def majority_answer(answers: Sequence[str]) -> str:
    """The most frequent answer of a group after cleaning; the earliest wins a tie; "" when all are
    empty.
    """
    cleaned = (readings.clean(answer) for answer in answers)
    counts = collections.Counter(answer for answer in cleaned if answer)
    return counts.most_common(1)[0][0] if counts else ""


def shuffled(rewards: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same rewards handed to other samples, (P, G): the control without any signal."""
    return rng.permutation(rewards.reshape(-1)).reshape(rewards.shape)
