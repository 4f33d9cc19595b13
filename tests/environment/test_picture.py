"""Pictures: one for every task and for a refusal, with the deciding things on them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geometry_jax.tasks import TASKS
from spatialevo_jax.environment import picture
from spatialevo_jax.environment.respond import Request, answer_requests
from spatialevo_jax.environment.wordings import WORDINGS, Slots, render
from tests.scenes import CASES, SOUTH, room

ROOM = room()
FIRST = {case.task: case for case in reversed(CASES)}  # the first case of each task


def asked(task: str) -> Request:
    case = FIRST[task]
    images = tuple(n for n, role in ((1, "{n}"), (2, "{m}")) if role in WORDINGS[task][0])
    return Request(ROOM, task, render(task, Slots(case.labels, images), 0), case.frames)


@pytest.fixture(scope="module")
def answered() -> dict[str, picture.Shown]:
    requests = [asked(task.name) for task in TASKS]
    replies = answer_requests(requests)
    assert all(reply.valid for reply in replies)
    return {
        request.task: picture.what_decides(request, reply)
        for request, reply in zip(requests, replies, strict=True)
    }


def test_every_task_says_its_numbers(answered: dict[str, picture.Shown]) -> None:
    silent = {task for task, shown in answered.items() if not shown.facts}
    assert silent == {"object_counting"}  # its objects are all marked
    assert len(answered["object_counting"].objects) == 2


def test_lines_join_the_deciding_points(answered: dict[str, picture.Shown]) -> None:
    for task, ends in picture.SEGMENTS.items():
        assert answered[task].segments == ends
    shown = answered["absolute_distance"]
    assert shown.measured
    assert shown.facts == ("closest points 2.05 m apart",)
    assert np.linalg.norm(shown.points[1] - shown.points[0]) == pytest.approx(2.052, abs=1e-3)


def test_directions_cover_the_circle_once() -> None:
    for level, sectors in picture.DIRECTIONS.items():
        assert sum(end - start for _, start, end in sectors) == 360.0, level
        assert len({name for name, _, _ in sectors}) == len(sectors)


@pytest.mark.parametrize("name", ["position_cam_obj", "relative_distance", "refused"])
def test_a_picture_is_written(name: str, tmp_path: Path) -> None:
    request = asked(name) if name != "refused" else Request(ROOM, "room_size", "Hm?", (SOUTH,))
    (reply,) = answer_requests([request])
    picture.draw(request, reply, tmp_path / "why.png")
    with Image.open(tmp_path / "why.png") as image:
        assert image.width > 1000
        assert len(set(image.convert("L").resize((64, 64)).tobytes())) > 20
