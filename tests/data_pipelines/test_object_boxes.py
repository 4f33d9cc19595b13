"""Boxes of objects: worked by hand, and laws of turning and shuffling."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines import object_boxes
from data_pipelines.object_boxes import UprightBox, aabb, lean, minimal_box, upright
from data_pipelines.room_scan import box_surface
from data_pipelines.scan import OrientedBox


def turned(points: np.ndarray, yaw: float) -> np.ndarray:
    cos, sin = np.cos(yaw), np.sin(yaw)
    return points @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])


def corners(box: UprightBox) -> np.ndarray:
    signs = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    return box.center + turned(signs * box.extent, box.yaw)


def same_box(a: UprightBox, b: UprightBox, atol: float = 1e-6) -> bool:
    """Whether two boxes have the same corners, in any order."""
    gaps = np.linalg.norm(corners(a)[:, None] - corners(b)[None], axis=-1)
    return bool((gaps.min(1) < atol).all() and (gaps.min(0) < atol).all())


@pytest.mark.parametrize(
    ("sizes", "gap", "expected"),
    [
        ((200, 2), 0.8, [False, True]),
        ((200, 2), 0.2, [False, False]),  # not apart
        ((200, 3), 0.8, [False, False]),  # not few
        ((20, 1), 0.8, [False, True]),  # a single one is few
        ((120, 80, 1), 0.8, [False, False, False]),  # no part holds most
        ((1, 1), 3.0, [False, False]),
        ((1,), 0.0, [False]),
        ((0,), 0.0, []),
    ],
)
def test_stray_points_are_few_and_apart_from_a_part_that_holds_most(
    sizes: tuple[int, ...], gap: float, expected: list[bool]
) -> None:
    rng = np.random.default_rng(2)
    parts = [
        rng.uniform(0, 0.3, (size, 3)) + [index * (0.3 + gap), 0, 0]
        for index, size in enumerate(sizes)
    ]
    found = object_boxes.strays(np.concatenate(parts))
    at = np.repeat(np.arange(len(sizes)), sizes)
    np.testing.assert_array_equal(found, np.array(expected, bool)[at])


def test_a_table_at_thirty_degrees() -> None:
    top, _ = box_surface(np.array([-0.6, -0.4, 0.0]), np.array([0.6, 0.4, 0.75]), 0.05)
    box = minimal_box(turned(top, np.pi / 6) + [2.0, 1.0, 0.0])
    np.testing.assert_allclose(box.center, [2.0, 1.0, 0.375], atol=1e-9)
    np.testing.assert_allclose(box.extent, [1.2, 0.8, 0.75], atol=1e-9)
    assert box.yaw == pytest.approx(np.pi / 6)


@given(
    sides=st.tuples(*[st.floats(0.05, 3.0)] * 3),
    yaw=st.floats(-4.0, 4.0),
    place=st.tuples(*[st.floats(-20.0, 20.0)] * 3),
)
@settings(max_examples=60, deadline=None)
def test_box_of_a_tessellated_cuboid_is_the_cuboid(
    sides: tuple[float, ...], yaw: float, place: tuple[float, ...]
) -> None:
    half = np.array(sides) / 2
    surface, _ = box_surface(-half, half, max(sides) / 6)
    moved = (turned(surface, yaw) + np.array(place)).astype(np.float32)  # as meshes are stored
    truth = UprightBox(np.array(place), np.array(sides), yaw)
    box = minimal_box(moved)
    assert same_box(box, truth, 1e-4)
    assert -np.pi / 4 - 1e-6 < box.yaw <= np.pi / 4 + 1e-6


def test_order_of_points_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 3))
    expected = minimal_box(points)
    for _ in range(3):
        box = minimal_box(rng.permutation(points))
        np.testing.assert_allclose(box.center, expected.center, atol=1e-12)
        assert box.yaw == pytest.approx(expected.yaw, abs=1e-12)


def test_no_rectangle_of_another_yaw_is_smaller() -> None:
    rng = np.random.default_rng(1)
    for _ in range(10):
        points = rng.normal(size=(30, 3)) * [2, 1, 1]
        box = minimal_box(points)
        area = box.extent[0] * box.extent[1]
        for yaw in np.linspace(0, np.pi / 2, 200):
            low, high = turned(points, -yaw).min(0), turned(points, -yaw).max(0)
            assert np.prod((high - low)[:2]) >= area - 1e-9


def test_a_square_keeps_the_smallest_yaw_of_equals() -> None:
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 1.0]])
    assert minimal_box(square).yaw == 0.0


@pytest.mark.parametrize(
    ("points", "extent", "yaw"),
    [
        ([[1, 2, 3]], [0, 0, 0], 0.0),  # one vertex
        ([[0, 0, 0], [0, 0, 2]], [0, 0, 2], 0.0),  # a vertical line
        ([[0, 0, 0], [1, 1, 0], [2, 2, 1]], [0, np.sqrt(8), 1], -np.pi / 4),  # a thin door
    ],
)
def test_flat_things_have_flat_boxes(
    points: list[list[float]], extent: list[float], yaw: float
) -> None:
    box = minimal_box(np.array(points, float))
    near = np.allclose(box.extent, extent) and np.isclose(box.yaw, yaw)
    quarter = np.allclose(box.extent[[1, 0, 2]], extent) and np.isclose(box.yaw, yaw + np.pi / 2)
    assert near or quarter


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1)])
def test_upright_box_of_a_data_set_reads_in_any_order_of_axes(
    order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    yaw, extent = 0.4, np.array([1.0, 2.0, 3.0])
    axes = turned(np.eye(3), yaw).T * np.array(signs)
    box = OrientedBox(np.array([1.0, 2, 3]), extent[list(order)], axes[:, list(order)])
    assert lean(box) < 1e-6
    assert same_box(upright(box), UprightBox(box.center, extent, yaw))


def test_lean_is_the_angle_from_the_vertical() -> None:
    tilt = np.deg2rad(20)
    rotation = np.array(
        [[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]]
    )
    box = OrientedBox(np.zeros(3), np.ones(3), rotation)
    assert lean(box) == pytest.approx(tilt)
    assert lean(box) > object_boxes.UPRIGHT


def test_aabb_is_minima_and_maxima() -> None:
    points = np.array([[0.0, 5, -1], [2, 3, 4]])
    np.testing.assert_array_equal(aabb(points), [0, 3, -1, 2, 5, 4])
