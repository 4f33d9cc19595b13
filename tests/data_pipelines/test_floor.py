"""The floor's outline and area: rooms whose area is known, with furniture, noise and gaps."""

import dataclasses
import itertools

import numpy as np
import pytest

from data_pipelines import floor
from data_pipelines.room_scan import box_surface
from data_pipelines.scan import Mesh

HEIGHT = 2.5
EMPTY = np.zeros((0, 3), np.int32)
EYES = np.zeros((0, 3))  # where not said otherwise, it is not known where the cameras were
# Walls from corner to corner, counter-clockwise.
RECTANGLE = np.array([[0, 0], [4.31, 0], [4.31, 3.27], [0, 3.27]])
L_SHAPE = np.array([[0, 0], [5.2, 0], [5.2, 2.03], [2.51, 2.03], [2.51, 4.4], [0, 4.4]])
U_SHAPE = np.array([[0, 0], [6, 0], [6, 4], [4, 4], [4, 1.5], [2, 1.5], [2, 4], [0, 4.0]])


def patch(start: np.ndarray, u: np.ndarray, v: np.ndarray, step: float = 0.06):
    counts = [max(1, int(np.ceil(np.linalg.norm(side) / step))) for side in (u, v)]
    a, b = np.meshgrid(*(np.linspace(0, 1, n + 1) for n in counts), indexing="ij")
    at = np.arange(a.size).reshape(a.shape)
    quads = np.stack([at[:-1, :-1], at[1:, :-1], at[1:, 1:], at[:-1, 1:]], -1).reshape(-1, 4)
    points = start + a[..., None] * u + b[..., None] * v
    return points.reshape(-1, 3), np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def joined(pieces: list[tuple[np.ndarray, np.ndarray]]) -> Mesh:
    starts = np.cumsum([0] + [len(points) for points, _ in pieces])
    points = np.concatenate([points for points, _ in pieces]).astype(np.float32)
    faces = [faces + start for (_, faces), start in zip(pieces, starts, strict=False)]
    return Mesh(
        points, np.zeros((len(points), 3), np.uint8), np.concatenate(faces).astype(np.int32)
    )


def strips(corners: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rectangles that make up an axis-aligned polygon: lower corner, size."""
    xs = np.unique(corners[:, 0])
    found = []
    for left, right in itertools.pairwise(xs):
        inside = [
            corner[1]
            for corner, after in zip(corners, np.roll(corners, -1, 0), strict=True)
            if min(corner[0], after[0]) <= left and max(corner[0], after[0]) >= right
        ]
        for low, high in zip(*[iter(sorted(inside))] * 2, strict=True):
            found.append((np.array([left, low]), np.array([right - left, high - low])))
    return found


def room(corners: np.ndarray, furniture: list[tuple[list[float], list[float]]]) -> Mesh:
    """Floor, ceiling, walls, and boxes on the floor; no floor is seen under a box."""
    pieces = []
    for low, size in strips(corners):
        for z in (0.0, HEIGHT):
            u, v = np.array([size[0], 0, 0]), np.array([0, size[1], 0])
            points, faces = patch(np.array([*low, z]), u, v)
            for minimum, maximum in furniture if z == 0 else []:
                hidden = (points[:, :2] > minimum[:2]) & (points[:, :2] < maximum[:2])
                under = np.all(hidden, axis=1)
                faces = faces[~under[faces].any(1)]
            pieces.append((points, faces))
    for start, end in zip(corners, np.roll(corners, -1, 0), strict=True):
        pieces.append(
            patch(np.array([*start, 0]), np.array([*(end - start), 0]), np.array([0, 0, HEIGHT]))
        )
    pieces += [box_surface(np.array(low), np.array(high), 0.06) for low, high in furniture]
    return joined(pieces)


FURNITURE = [([0.02, 0.02, 0], [1.9, 1.4, 0.5]), ([2.0, 0.7, 0], [2.45, 1.2, 0.8])]
SHAPES = {"rectangle": RECTANGLE, "L": L_SHAPE, "U": U_SHAPE}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("noise", [0.0, 0.005])
def test_area_is_right_though_furniture_hides_the_floor(shape: str, noise: float) -> None:
    corners = SHAPES[shape]
    mesh = room(corners, FURNITURE)
    shaken = mesh.points + np.random.default_rng(0).normal(0, noise, mesh.points.shape)
    mesh = dataclasses.replace(mesh, points=shaken.astype(np.float32))
    found = floor.floor_of(mesh, 0.0, eyes=EYES)
    assert found is not None
    assert found.area == pytest.approx(floor.polygon_area(corners), rel=0.01)
    assert found.area == pytest.approx(floor.polygon_area(found.polygon))


@pytest.mark.parametrize("shape", SHAPES)
def test_polygon_has_the_rooms_corners(shape: str) -> None:
    corners = SHAPES[shape]
    found = floor.floor_of(room(corners, []), 0.0, eyes=EYES)
    assert found is not None
    assert len(found.polygon) == len(corners)
    for corner in corners:
        assert np.linalg.norm(found.polygon - corner, axis=1).min() < 0.015


def test_annotation_keeps_the_neighbouring_room_out() -> None:
    # Seen through a wide doorway, the other room's floor joins this one's.
    mesh = room(RECTANGLE, [])
    beyond = patch(np.array([4.31, 1.0, 0]), np.array([3.0, 0, 0]), np.array([0, 1.5, 0]))
    joint = joined([(mesh.points, mesh.faces), beyond])
    annotated = np.zeros(len(joint.points), bool)
    annotated[: len(mesh.points)] = mesh.points[:, 2] == 0
    without = floor.floor_of(joint, 0.0, eyes=EYES)
    found = floor.floor_of(
        joint, 0.0, eyes=EYES, on_floor=annotated, furniture=np.zeros_like(annotated)
    )
    truth = floor.polygon_area(RECTANGLE)
    assert found is not None and without is not None
    assert found.area == pytest.approx(truth, rel=0.01)
    assert without.area == pytest.approx(truth + 4.5, rel=0.02)


INSIDE = np.array([[1.0, 1.0, 1.5], [3.0, 2.0, 1.4], [2.0, 0.5, 1.6]])  # cameras, in `RECTANGLE`


def specks(count: int, distance: float, height: float) -> Mesh:
    """Level triangles of some centimetres, all around."""
    angles = np.linspace(0.3, 6.0, count)
    places = distance * np.stack([np.cos(angles), np.sin(angles), 0 * angles], 1)
    triangle = np.array([[0, 0, height], [0.05, 0, height], [0, 0.05, height]])
    points = (places[:, None] + triangle).reshape(-1, 3)
    return joined([(points, np.arange(len(points)).reshape(-1, 3))])


def both(one: Mesh, other: Mesh) -> Mesh:
    return joined([(one.points, one.faces), (other.points, other.faces)])


@pytest.mark.parametrize("distance", [10.0, 1e4, 1e30])
@pytest.mark.parametrize("height", [0.05, -3.0, 40.0])
@pytest.mark.parametrize("faces", [True, False])
def test_what_floats_far_away_leaves_the_floor_as_it_is(
    distance: float, height: float, faces: bool
) -> None:
    mesh, stray = room(L_SHAPE, FURNITURE), specks(60, distance, height)
    if not faces:
        mesh, stray = (dataclasses.replace(m, faces=EMPTY) for m in (mesh, stray))
    clean = floor.floor_of(mesh, 0.0, eyes=EYES)
    found = floor.floor_of(both(mesh, stray), 0.0, eyes=EYES)
    assert clean is not None and found is not None
    np.testing.assert_allclose(found.polygon, clean.polygon, atol=1e-9)


@pytest.mark.parametrize("distance", [3.0, 10.0, 100.0, 1e4])
def test_a_vertex_that_flew_away_takes_no_floor_with_it(distance: float) -> None:
    mesh = room(RECTANGLE, [])
    points = mesh.points.copy()
    nearest = np.argmin(np.linalg.norm(points - [2.0, 1.5, 0.0], axis=1))
    points[nearest, :2] += [distance, 0.3 * distance]
    found = floor.floor_of(dataclasses.replace(mesh, points=points), 0.0, eyes=EYES)
    assert found is not None
    assert found.area == pytest.approx(floor.polygon_area(RECTANGLE), rel=0.005)


@pytest.mark.parametrize("height", [0.0, 1.0, -0.4])
def test_what_a_window_shows_is_not_the_room_however_large(height: float) -> None:
    mesh = room(RECTANGLE, FURNITURE)
    lawn = joined(
        [patch(np.array([5.0, -3.0, height]), np.array([9.0, 0, 0]), np.array([0, 8.0, 0]))]
    )
    clean = floor.floor_of(mesh, 0.0, eyes=INSIDE)
    found = floor.floor_of(both(mesh, lawn), 0.0, eyes=INSIDE)
    assert clean is not None and found is not None
    np.testing.assert_allclose(found.polygon, clean.polygon, atol=1e-9)


def test_a_room_that_no_camera_was_over_is_the_largest_piece() -> None:
    small = joined([patch(np.array([9.0, 0, 0]), np.array([2.0, 0, 0]), np.array([0, 2.0, 0]))])
    outside = INSIDE + [0, 40.0, 0]
    found = floor.floor_of(both(room(RECTANGLE, []), small), 0.0, eyes=outside)
    assert found is not None
    assert found.area == pytest.approx(floor.polygon_area(RECTANGLE), rel=0.003)


@pytest.mark.parametrize("height", [0.35, -0.35])
def test_two_steps_up_or_down_are_in_the_same_room(height: float) -> None:
    mesh = room(RECTANGLE, [])
    points = mesh.points.copy()
    points[(points[:, 2] == 0) & (points[:, 0] > 3.4), 2] = height
    found = floor.floor_of(dataclasses.replace(mesh, points=points), 0.0, eyes=EYES)
    assert found is not None
    assert found.area == pytest.approx(floor.polygon_area(RECTANGLE), rel=0.003)


def test_a_hole_in_the_floor_is_floor() -> None:
    mesh = room(RECTANGLE, [])
    middle = mesh.points[mesh.faces].mean(1)
    hole = (middle[:, 2] == 0) & (np.linalg.norm(middle[:, :2] - [2.1, 1.6], axis=1) < 0.7)
    found = floor.floor_of(dataclasses.replace(mesh, faces=mesh.faces[~hole]), 0.0, eyes=INSIDE)
    assert found is not None
    assert found.area == pytest.approx(floor.polygon_area(RECTANGLE), rel=0.003)


def test_order_of_vertices_and_faces_means_nothing() -> None:
    mesh = both(room(L_SHAPE, FURNITURE), specks(60, 10.0, 0.05))
    rng = np.random.default_rng(0)
    order = rng.permutation(len(mesh.points))
    faces = rng.permutation(np.argsort(order)[mesh.faces].astype(np.int32))
    faces = rng.permuted(faces, axis=1)
    other = Mesh(mesh.points[order], mesh.colors, faces)
    one, two = (floor.floor_of(m, 0.0, eyes=INSIDE) for m in (mesh, other))
    assert one is not None and two is not None
    np.testing.assert_array_equal(one.polygon, two.polygon)


def test_floor_moves_with_the_room() -> None:
    mesh = both(room(L_SHAPE, FURNITURE), specks(60, 10.0, 0.05))
    shift = np.array([3.0, -7.0, 0.25], np.float32)
    one = floor.floor_of(mesh, 0.0, eyes=INSIDE)
    shifted = dataclasses.replace(mesh, points=mesh.points + shift)
    two = floor.floor_of(shifted, 0.25, eyes=INSIDE + shift)
    assert one is not None and two is not None
    np.testing.assert_allclose(two.polygon, one.polygon + shift[:2], atol=1e-5)


def test_points_without_faces_have_a_floor_too() -> None:
    mesh = room(RECTANGLE, [])
    found = floor.floor_of(dataclasses.replace(mesh, faces=EMPTY), 0.0, eyes=EYES)
    assert found is not None
    assert found.area == pytest.approx(floor.polygon_area(RECTANGLE), rel=0.02)


def test_turned_room_keeps_its_area() -> None:
    mesh = room(RECTANGLE, FURNITURE)
    cos, sin = np.cos(0.4), np.sin(0.4)
    turned = mesh.points @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    found = floor.floor_of(
        dataclasses.replace(mesh, points=turned.astype(np.float32)), 0.0, eyes=EYES
    )
    assert found is not None
    assert found.area == pytest.approx(floor.polygon_area(RECTANGLE), rel=0.015)


def test_no_surface_that_faces_up_is_no_floor() -> None:
    wall = joined([patch(np.zeros(3), np.array([3.0, 0, 0]), np.array([0, 0, 2.5]))])
    assert floor.floor_of(wall, 0.0, eyes=EYES) is None
    empty = Mesh(
        np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), np.zeros((0, 3), np.int32)
    )
    assert floor.floor_of(empty, 0.0, eyes=EYES) is None


def test_triangles_cover_the_cells_whose_middle_they_hold() -> None:
    grid = floor.Grid(np.zeros(2), 0.5, (6, 5))
    triangle = np.array([[[0.1, 0.1], [2.9, 0.1], [0.1, 2.4]]])
    expected = np.zeros((6, 5), bool)
    for i in range(6):
        for j in range(5):
            x, y = 0.5 * i + 0.25, 0.5 * j + 0.25
            expected[i, j] = x > 0.1 and y > 0.1 and (x - 0.1) / 2.8 + (y - 0.1) / 2.3 < 1
    for corners in ([0, 1, 2], [2, 1, 0]):  # either turning sense
        np.testing.assert_array_equal(floor.rasterise(triangle[:, corners], grid), expected)


@pytest.mark.parametrize("batch", [floor.BATCH, 64])
def test_long_thin_and_tiny_triangles_cover_what_testing_every_cell_finds(
    monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(floor, "BATCH", batch)
    rng = np.random.default_rng(4)
    grid = floor.Grid(np.array([-0.3, 0.2]), 0.05, (60, 40))
    triangles = rng.uniform(-1, 4, (90, 1, 2)) + rng.uniform(-1, 1, (90, 3, 2)) * 0.1
    triangles[::3, 0] = rng.uniform(-1, 4, (30, 2))  # whiskers to stray vertices
    triangles[1::9, 1, 0] = triangles[1::9, 0, 0]  # an edge along a column
    triangles[2::9, 2] = triangles[2::9, 0]  # no area
    x, y = (grid.origin[axis] + (np.arange(grid.shape[axis]) + 0.5) * 0.05 for axis in (0, 1))
    expected = np.zeros(grid.shape, bool)
    for a, b, c in triangles:
        sides = np.array(
            [
                (q - p)[0] * (y[None] - p[1]) - (q - p)[1] * (x[:, None] - p[0])
                for p, q in ((a, b), (b, c), (c, a))
            ]
        )
        if (a != c).any():
            expected |= (sides >= 0).all(0) | (sides <= 0).all(0)
    assert 0.05 < expected.mean() < 0.9
    np.testing.assert_array_equal(floor.rasterise(triangles, grid), expected)


def test_many_triangles_leave_no_gap_between_them() -> None:
    rng = np.random.default_rng(3)
    points, faces = patch(np.zeros(3), np.array([2.0, 0, 0]), np.array([0, 1.0, 0]), 0.07)
    inner = (points[:, :2] > 0.01).all(1) & (points[:, :2] < [1.99, 0.99]).all(1)
    points[inner, :2] += rng.uniform(-0.02, 0.02, (inner.sum(), 2))
    grid = floor.Grid(np.zeros(2), 0.01, (200, 100))
    assert floor.rasterise(points[faces][..., :2], grid).all()
