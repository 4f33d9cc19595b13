"""Whose meaning of the words: the project's own, or that of the published oracle.

Everything about reading and printing in which the two differ stands in this table; the geometry has
its own (`geometry_jax.reference`).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

from geometry_jax import reference
from geometry_jax.tasks import TASK_IDS, TASKS
from geometry_jax.types import Oracle
from spatialevo_jax.environment.labels import PUBLISHED_NOT_OBJECTS

ConventionName = Literal["corrected", "reference"]


def two_decimals(value: float) -> str:
    """A number as our answers print it."""
    return f"{round(value, 2):.2f}"


def shortest(value: float) -> str:
    """A number as the published answers print it: no trailing zeros, one decimal at least."""
    return str(round(value, 2))


@dataclasses.dataclass(frozen=True)
class Convention:
    """The differences."""

    oracle: Callable[[str], Oracle]  # of a task
    choices: Callable[[str], tuple[str, ...]]  # of a task: what a verdict's value indexes into
    number: Callable[[float], str]  # how lengths and areas are printed
    published: bool  # names, fields and regions as the published oracle means them
    hidden: frozenset[str]  # labels of objects that the geometry does not see
    # Images that a sentence leaves open, by the number of roles; none: the role is missing.
    default_images: tuple[tuple[int, ...], ...]
    any_sentence: bool  # where nothing has to be read, what the sentence asks does not matter
    offered_answers: bool  # a sentence that offers its answers asks for one of them


def _oracle(task: str) -> Oracle:
    return TASKS[TASK_IDS[task]].oracle


def _choices(task: str) -> tuple[str, ...]:
    return TASKS[TASK_IDS[task]].choices


CORRECTED = Convention(
    oracle=_oracle,
    choices=_choices,
    number=two_decimals,
    published=False,
    hidden=frozenset(),
    default_images=((), (), ()),
    any_sentence=False,
    offered_answers=True,
)


def _published(task: str) -> Oracle:
    if task not in reference.REFERENCE:
        return _oracle(task)
    return functools.partial(reference.REFERENCE[task], rules=True)


REFERENCE = Convention(
    oracle=_published,
    choices=reference.choices,
    number=shortest,
    published=True,
    hidden=PUBLISHED_NOT_OBJECTS,
    default_images=((), (2,), (1, 2)),
    any_sentence=True,
    offered_answers=False,
)
CONVENTIONS: dict[ConventionName, Convention] = {"corrected": CORRECTED, "reference": REFERENCE}
LEAST_SENTENCE = 10  # characters; what the published oracle takes for a sentence
