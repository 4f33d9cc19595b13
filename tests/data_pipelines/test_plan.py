"""Floor plans: rectangles and Ls."""

import numpy as np
import pytest

from data_pipelines.plan import Plan

SIZE = np.array([5.0, 4.0, 2.6])
CUTS = {
    "none": (None, 20.0),
    "lower left": ((0, 0, 1, 1.5), 18.5),
    "lower right": ((4, 0, 5, 1.5), 18.5),
    "upper right": ((3, 3, 5, 4), 18.0),
    "upper left": ((0, 3, 2, 4), 18.0),
}


@pytest.fixture(params=CUTS, ids=str)
def case(request: pytest.FixtureRequest) -> tuple[Plan, float]:
    cut, area = CUTS[request.param]
    return Plan(SIZE, None if cut is None else np.array(cut, float)), area


def shoelace(polygon: np.ndarray) -> float:
    x, y = polygon.T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def test_polygon_turns_counter_clockwise_around_the_area(case: tuple[Plan, float]) -> None:
    plan, area = case
    assert plan.area == pytest.approx(area)
    assert shoelace(plan.polygon()) == pytest.approx(area)
    assert len(plan.polygon()) == (4 if plan.cut is None else 6)


def test_the_rectangles_of_the_floor_cover_it_once(case: tuple[Plan, float]) -> None:
    plan, area = case
    assert sum(np.prod(high - low) for low, high in plan.floors()) == pytest.approx(area)
    points = np.random.default_rng(0).uniform([0, 0], SIZE[:2], (500, 2))
    inside = np.ones(len(points), bool)
    if plan.cut is not None:
        inside = ~((points >= plan.cut[:2]) & (points <= plan.cut[2:])).all(axis=1)
    hits = sum(((points >= low) & (points < high)).all(axis=1) for low, high in plan.floors())
    np.testing.assert_array_equal(hits, inside.astype(int))


def test_walls_run_with_the_room_on_their_left(case: tuple[Plan, float]) -> None:
    plan, _ = case
    for start, run in plan.walls():
        assert (run == 0).sum() == 1  # along one of the axes
        left = np.array([-run[1], run[0]]) / np.linalg.norm(run)
        inside = start + run / 2 + 0.01 * left
        assert any(((low <= inside) & (inside <= high)).all() for low, high in plan.floors())


def test_each_outer_wall_has_its_colour() -> None:
    plan = Plan(SIZE, np.array([3.0, 3, 5, 4]))
    assert [plan.wall_color(*wall) for wall in plan.walls()] == [2, 1, 0, 0, 3, 0]
