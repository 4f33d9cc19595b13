"""Pointing: where an object is said to be, and which claims hold."""

import dataclasses

import numpy as np
import pytest

from geometry_jax.scene_io import SceneRecord
from geometry_jax.types import leaf
from spatialevo_jax.roles import pointing
from spatialevo_jax.roles.pointing import Pointing, grounding, parse, visible
from tests.scenes import THINGS, camera, make_record

CHAIR = Pointing("chair", 1, 2, 5, 4)
LAMP = Pointing("lamp", 1, 6, 1, 7)


def record_with(boxes: list[list[float]], depths: list[float]) -> SceneRecord:
    """Two images of 100 by 80 pixels; the objects' boxes and depths in both are as given."""
    pose = camera(0.0, 0.0, 1.5, heading=90.0)
    things = [dataclasses.replace(thing, center=(0.0, 3.0, 1.0)) for thing in THINGS[: len(boxes)]]
    record = make_record(things, [pose, pose])
    location = np.zeros((2, len(boxes), 3), np.float32)
    location[..., 2] = depths
    scene = dataclasses.replace(
        record.scene,
        bbox_2d=leaf(np.asarray([boxes, boxes], np.float32)),
        camera_location=leaf(location),
    )
    return dataclasses.replace(record, scene=scene)


def test_a_pointing_by_hand() -> None:
    """Middle (30, 55) of 100 by 80 pixels: 2.4 columns and 5.5 rows in; 2.3 m is 4.6 steps."""
    (found,) = visible(record_with([[20, 50, 40, 60]], [2.3]), (0,))
    assert found == Pointing("bed", 1, 2, 5, 4)
    assert str(found) == "1 bed c64"


@pytest.mark.parametrize(
    ("box", "depth", "cells"),
    [
        ([0, 0, 0, 0], 0.0, (0, 0, 0)),
        ([100, 80, 100, 80], 4.99, (7, 7, 9)),  # the far edge belongs to the last cell
        ([12, 10, 13, 10], 0.5, (1, 1, 1)),  # on an edge: the later cell
        ([-60, -60, 10, 10], -1.0, (0, 0, 0)),
        ([50, 40, 50, 40], 50.0, (4, 4, 9)),
    ],
)
def test_cells_at_the_edges(box: list[float], depth: float, cells: tuple[int, int, int]) -> None:
    (found,) = visible(record_with([box], [depth]), (0,))
    assert (found.column, found.row, found.depth) == cells


def test_objects_come_image_by_image_nearest_first() -> None:
    record = record_with([[0, 0, 10, 10]] * 3, [3.0, 1.0, 2.0])
    found = [(one.image, one.label) for one in visible(record, (1, 0))]
    near_to_far = ["table", "lamp", "bed"]
    assert found == [(image, label) for image in (1, 2) for label in near_to_far]


def test_only_what_is_seen_well_enough_is_pointed_at() -> None:
    pose = camera(2.5, -1.0, 1.5, heading=90.0)
    shares = {(0, 0): pointing.MIN_VISIBILITY, (0, 1): pointing.MIN_VISIBILITY - 0.01, (0, 2): 0.0}
    found = visible(make_record(THINGS[:3], [pose], visibility=shares), (0,))
    assert [one.label for one in found] == ["bed"]


def test_what_is_written_is_read_back() -> None:
    record = record_with([[0, 0, 30, 30], [50, 60, 70, 70], [90, 5, 99, 9]], [0.7, 2.6, 9.0])
    truth = visible(record, (0, 1))
    assert len(truth) == 6
    assert parse(" ".join(map(str, truth))) == truth
    assert grounding("\n".join(map(str, truth)), truth) == 1.0


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("", []),
        ("I see a chair.", []),
        ("1 chair c64", ["1 chair c64"]),
        ("1 Chair c64, 1 LAMP g27", ["1 chair c64", "1 lamp g27"]),
        ("In 1 lamp g27.", ["1 lamp g27"]),
        ("2 trash can d12", ["2 trash can d12"]),
        ("1 chair c645", []),  # three digits are no pointing ...
        ("1 chair c6", []),  # ... nor is one
        ("1 chair c64.5", []),
        ("1 chair i64", []),  # there is no ninth column ...
        ("1 chair c94", []),  # ... nor a ninth row
        ("1 chairc64", []),
        ("c64", []),
        ("11 chair c64", []),
        ("1 chair c64 1 lamp g27 1 chair c64", ["1 chair c64", "1 lamp g27", "1 chair c64"]),
        ("1 chair\nc64", []),
    ],
)
def test_claims_in_a_text(text: str, claims: list[str]) -> None:
    assert [str(claim) for claim in parse(text)] == claims


@pytest.mark.parametrize(
    ("claim", "holds"),
    [
        ("1 chair c64", True),
        ("1 chair b53", True),  # one cell and one step off in everything
        ("1 chair d75", True),
        ("1 chair e64", False),
        ("1 chair c84", False),
        ("1 chair c66", False),
        ("2 chair c64", False),  # another image
        ("1 lamp c64", False),
        ("1 the red chair c64", True),
        ("1 armchair c64", False),
        ("1 chair lamp c64", False),
    ],
)
def test_a_claim_holds_within_one_cell_and_one_step(claim: str, holds: bool) -> None:
    assert grounding(claim, (CHAIR,), wanted=1) == float(holds)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 chair c64 1 lamp g27", 1.0),
        ("1 chair c64", 0.5),  # one of the two wanted
        ("1 chair c64 1 lamp g21", 0.5),
        ("1 chair c64 1 chair c64", 0.5),  # said twice, right once
        ("1 chair c64 1 lamp g27 1 tv b21 1 tv c32", 0.5),
        ("1 chair c64 1 lamp g27 1 lamp g27", 2 / 3),
        ("nothing", 0.0),
        ("", 0.0),
    ],
)
def test_the_share_of_claims_that_hold(text: str, expected: float) -> None:
    assert grounding(text, (CHAIR, LAMP)) == pytest.approx(expected)


def test_no_more_claims_are_wanted_than_objects_are_seen() -> None:
    assert grounding("1 chair c64", (CHAIR,)) == 1.0
    assert grounding("", ()) == 0.0
    assert grounding("1 chair c64", ()) == 0.0


def test_two_objects_of_one_label_are_two_claims() -> None:
    second = Pointing("chair", 1, 7, 5, 4)
    assert grounding("1 chair c64 1 chair h64", (CHAIR, second)) == 1.0


@pytest.mark.parametrize("width", [112, 224])
def test_the_dots_tell_the_cell(width: int) -> None:
    drawn = np.stack(pointing.overlay([np.full((112, width, 3), 9, np.uint8)] * 2, 4))
    middles = drawn[:, 7::14, width // 16 :: width // 8]
    assert (middles[..., 0] == np.rint(np.arange(8) * 255 / 7)).all()
    assert (middles[..., 1] == np.rint(np.arange(8) * 255 / 7)[:, None]).all()
    assert (middles[..., 2] == np.array([0, 85])[:, None, None]).all()
    assert (drawn == 9).all(-1).mean() == pytest.approx(1 - 64 * 16 / (112 * width))


def test_no_dots_leave_the_images() -> None:
    images = [np.zeros((56, 56, 3), np.uint8)]
    assert pointing.overlay(images, 0) is images
