"""Rationales: what is written adds up, and leads to the answer."""

import math
import re

import numpy as np
import pytest

from geometry_jax.reasons import Reason
from geometry_jax.types import Evidence, leaf
from spatialevo_jax.environment.respond import Reply, Request, answer_requests
from spatialevo_jax.environment.wordings import Slots
from spatialevo_jax.qa.rationale import rationale
from tests.scenes import Thing, camera, make_record

THINGS = [
    Thing("plant", (0, 3, 1), (1, 1, 1)),
    Thing("bed", (1, 4, 0.4), (2, 2, 0.8)),
    Thing("tv", (1, 5, 0.4), (1, 0.1, 0.6)),
]


def explained(
    task: str,
    question: str,
    *poses: np.ndarray,
    hidden: dict[tuple[int, int], float] | None = None,
) -> tuple[Reply, str]:
    record = make_record(THINGS, poses, visibility=hidden)
    frames = tuple(range(len(poses)))
    request = Request(record, task, question, (frames[0], frames[-1])[: len(frames)])
    (reply,) = answer_requests([request])
    return reply, rationale(request, reply)


def lengths(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"(\d+\.\d+) m\b", text)]


def test_a_turn_along_the_path_may_be_more_than_half_a_turn() -> None:
    """To the left all the way, though at the end it looks to the right of where it began."""
    poses = [camera(0, 0, 1.5, heading=heading) for heading in (0, 90, 180, 210)]
    asked = "How does the camera move from Image 1 to Image 2?"
    reply, text = explained("motion_camera", asked, *poses)
    assert reply.answer == "left" and "turns 210.0 degrees to the left" in text


def test_a_motion_is_told_from_the_image_that_it_is_asked_from() -> None:
    poses = [camera(0, 0, 1.5, heading=0), camera(0, 0, 1.5, heading=30)]
    asked = "How does the camera move from Image 2 to Image 1?"
    reply, text = explained("motion_camera", asked, *poses)
    assert reply.answer == "right"
    assert "From Image 2 to Image 1 the camera turns 30.0 degrees to the right" in text


@pytest.mark.parametrize(("first", "second"), [(2.0649, 1.1351), (1.5049, 1.7551), (1.2, 1.3512)])
def test_heights_that_are_written_add_up(first: float, second: float) -> None:
    poses = [camera(0, 0, first, heading=90), camera(1, 0, second, heading=90)]
    asked = "Is the camera of Image 2 higher or lower than the camera of Image 1?"
    _, text = explained("elevation_cam_cam", asked, *poses)
    one, other, apart = lengths(text)
    assert abs(one - other) == pytest.approx(apart, abs=1e-9) and apart > 0.15


@pytest.mark.parametrize("depths", [(2.6515, 2.4265), (2.0, 2.1505), (2.0, 2.1495), (3.005, 4.0)])
def test_depths_that_are_written_add_up(depths: tuple[float, float]) -> None:
    record = make_record(THINGS, [camera(0, 0, 1.5, heading=90)])
    request = Request(record, "depth_order_obj_obj", "", (0,))
    same = abs(depths[0] - depths[1]) <= 0.15
    shown = Evidence(
        points=leaf(np.zeros((0, 3))),
        objects=leaf(np.array([0, 1])),
        numbers=leaf(np.array([*depths, math.nan])),
    )
    answer = "same" if same else "bed"
    slots = Slots(("plant", "bed"))
    reply = Reply(True, request.task, "", answer, Reason.OK, 1.0, slots, (), shown)
    one, other, apart, limit = lengths(rationale(request, reply))
    assert abs(one - other) == pytest.approx(apart, abs=1e-9)
    assert (apart <= limit) == same and apart != limit


def test_an_image_that_does_not_show_a_thing_has_no_share_in_the_evidence() -> None:
    poses = [camera(0, 0, 1.5, heading=90), camera(1, 0, 1.5, heading=90)]
    asked = "Which image shows the bed more clearly?"
    reply, text = explained("visibility_compare", asked, *poses, hidden={(0, 1): 0.0})
    assert text == "Image 2 shows the bed, Image 1 does not. So the answer is image2."
    assert reply.evidence is not None and reply.evidence.objects.tolist()[:2] == [-1, 1]
