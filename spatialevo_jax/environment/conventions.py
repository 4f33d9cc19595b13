"""Whose meaning of the words: the project's own, or that of the published oracle.

Everything about reading and printing in which the two differ stands in this table; the geometry has
its own (`geometry_jax.tasks`).
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

from geometry_jax.tasks import TASK_IDS, TASKS
from geometry_jax.types import Oracle
from spatialevo_jax.environment.labels import NOT_OBJECTS, PUBLISHED_NOT_OBJECTS

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
    surfaces: frozenset[str]  # labels that are no objects
    # Images that a sentence leaves open, by the number of roles; none: the role is missing.
    default_images: tuple[tuple[int, ...], ...]
    any_sentence: bool  # where nothing has to be read, what the sentence asks does not matter
    words_in_fields: bool  # single-image tasks: a field may hold a plural, as a sentence may
    offered_answers: bool  # a sentence that offers its answers asks for one of them


def _oracle(task: str) -> Oracle:
    return TASKS[TASK_IDS[task]].oracle


def _choices(task: str) -> tuple[str, ...]:
    return TASKS[TASK_IDS[task]].choices


CORRECTED = Convention(
    oracle=_oracle,
    choices=_choices,
    number=two_decimals,
    surfaces=NOT_OBJECTS,
    default_images=((), (), ()),
    any_sentence=False,
    words_in_fields=False,
    offered_answers=True,
)
REFERENCE = Convention(
    oracle=_oracle,
    choices=_choices,
    number=shortest,
    surfaces=PUBLISHED_NOT_OBJECTS,
    default_images=((), (2,), (1, 2)),
    any_sentence=True,
    words_in_fields=True,
    offered_answers=False,
)
CONVENTIONS: dict[ConventionName, Convention] = {"corrected": CORRECTED, "reference": REFERENCE}
LEAST_SENTENCE = 10  # characters; what the published oracle takes for a sentence
