"""What both roles face: pools of labels, questions read and answered by geometry."""

from spatialevo_jax.environment.pools import Pools, feasible_tasks, pools
from spatialevo_jax.environment.records import answer_records, validate_and_answer
from spatialevo_jax.environment.respond import Reply, Request, answer_requests
from spatialevo_jax.environment.summaries import get_environment_summary
from spatialevo_jax.environment.wordings import Slots, draw_slots, render

__all__ = [
    "Pools",
    "Reply",
    "Request",
    "Slots",
    "answer_records",
    "answer_requests",
    "draw_slots",
    "feasible_tasks",
    "get_environment_summary",
    "pools",
    "render",
    "validate_and_answer",
]
