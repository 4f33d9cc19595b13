"""Furniture: boxes, points, and nothing inside anything else."""

import itertools

import numpy as np
import pytest

from data_pipelines import rooms
from data_pipelines.furniture import CATEGORIES, Category
from data_pipelines.placing import Placed, separation, surface_points, turn


def standing(category: Category, yaw: float = 0.4) -> Placed:
    return Placed(category, np.array([2.0, 3.0]), yaw, np.array([1.1, 1.1, 0.95]), np.ones(3))


def in_box_frame(points: np.ndarray, placed: Placed) -> np.ndarray:
    """(k, 3) points relative to the middle of the oriented box, in its axes."""
    center, _, yaw = placed.obb()
    local = points - center
    return np.column_stack([turn(-yaw, local[:, :2]), local[:, 2]])


def test_turn_is_counter_clockwise() -> None:
    np.testing.assert_allclose(turn(np.pi / 2, np.array([1.0, 0.0])), [0.0, 1.0], atol=1e-12)


def test_separation_of_squares_by_hand() -> None:
    square = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    assert separation(square, square + [1.5, 0.2]) == pytest.approx(0.5)
    assert separation(square, square + [0.75, 0]) == pytest.approx(-0.25)
    diamond = turn(np.pi / 4, square - 0.5) + [0.5, 2.0]
    assert separation(square, diamond) == pytest.approx(1.0 - np.sqrt(0.5))


@pytest.mark.parametrize("category", CATEGORIES, ids=lambda one: one.label)
def test_parts_stand_on_the_floor(category: Category) -> None:
    assert standing(category).aabb()[2] == pytest.approx(0.0)


@pytest.mark.parametrize("category", CATEGORIES, ids=lambda one: one.label)
def test_surface_points_span_the_boxes(category: Category) -> None:
    placed = standing(category)
    points = surface_points(placed, 0.1, np.random.default_rng(0))
    np.testing.assert_allclose(np.concatenate([points.min(0), points.max(0)]), placed.aabb())
    local, extent = in_box_frame(points, placed), placed.obb()[1]
    assert (np.abs(local) <= extent / 2 + 1e-9).all()
    np.testing.assert_allclose(np.ptp(local, axis=0), extent, rtol=0.02)


def test_labels_and_colours_are_told_apart() -> None:
    assert len({category.label for category in CATEGORIES}) == len(CATEGORIES)
    for one, other in itertools.combinations(CATEGORIES, 2):
        assert np.abs(np.subtract(one.color, other.color)).max() > 0.25, (one.label, other.label)


def test_furniture_does_not_interpenetrate(made: tuple[rooms.Room, ...], sources: tuple) -> None:
    for room, source in zip(made, sources, strict=True):
        for index, placed in enumerate(room.objects):
            for other in source.objects[:index] + source.objects[index + 1 :]:
                inside = np.abs(in_box_frame(other.points, placed)) < placed.obb()[1] / 2
                assert not inside.all(1).any(), (placed.category.label, other.label)


def test_furniture_stays_within_the_walls(made: tuple[rooms.Room, ...]) -> None:
    for room in made:
        for placed in room.objects:
            box = placed.aabb()
            assert (box[:3] >= -1e-9).all() and (box[3:] <= room.plan.size).all()


def test_camera_passes_beside_or_above_furniture(made: tuple[rooms.Room, ...]) -> None:
    for room in made:
        for placed in room.objects:
            local = in_box_frame(room.views.path[:, :3, 3], placed)
            inside = np.abs(local) < placed.obb()[1] / 2 + 0.1
            assert not inside.all(1).any()
