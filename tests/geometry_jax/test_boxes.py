"""Distances between boxes, against rulers and against a solver that knows nothing of boxes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from geometry_jax import boxes
from tests.reference import boxes as reference
from tests.scenes import yaw_matrix

Box = tuple[tuple[float, float, float], tuple[float, float, float], float]
closest_points = jax.jit(jax.vmap(boxes.closest_points))


def ends(pairs: list[tuple[Box, Box]]) -> np.ndarray:
    """(B, 2, 3) closest points of pairs of (center, extent, yaw in degrees)."""
    columns = [[*one, *other] for one, other in pairs]
    arrays = [jnp.array([row[i] for row in columns], jnp.float32) for i in range(6)]
    arrays[2], arrays[5] = jnp.deg2rad(arrays[2]), jnp.deg2rad(arrays[5])
    return np.asarray(closest_points(*arrays))


def gap(a: Box, b: Box) -> float:
    found = ends([(a, b)])[0]
    return float(np.linalg.norm(found[0] - found[1]))


UNIT: Box = ((0.0, 0.0, 0.5), (1.0, 1.0, 1.0), 0.0)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (((3.0, 0.0, 0.5), (1.0, 1.0, 1.0), 0.0), 2.0),  # side by side
        (((0.0, 0.0, 3.5), (1.0, 1.0, 1.0), 0.0), 2.0),  # above
        (((0.0, 0.0, -2.5), (1.0, 1.0, 1.0), 0.0), 2.0),  # below
        (((2.0, 2.0, 2.5), (1.0, 1.0, 1.0), 0.0), 3**0.5),  # corner to corner
        (((3.0, 0.0, 0.5), (2.0, 2.0, 1.0), 45.0), 2.5 - 2**0.5),  # a corner towards a side
        (((1.0, 0.0, 0.5), (1.0, 1.0, 1.0), 0.0), 0.0),  # touching sides
        (((1.0, 1.0, 1.5), (1.0, 1.0, 1.0), 0.0), 0.0),  # touching corners
        (((0.3, 0.2, 0.5), (1.0, 1.0, 1.0), 30.0), 0.0),  # overlapping
        (((0.0, 0.0, 0.5), (0.2, 0.2, 0.2), 10.0), 0.0),  # nested
        (((0.0, 0.0, 0.5), (1.0, 1.0, 1.0), 0.0), 0.0),  # the same box
        (((0.0, 0.0, 0.5), (4.0, 0.2, 0.2), 0.0), 0.0),  # a bar through it, no corner inside
    ],
)
def test_a_gap_is_what_a_ruler_says(other: Box, expected: float) -> None:
    assert gap(UNIT, other) == pytest.approx(expected, abs=1e-5)
    assert gap(other, UNIT) == pytest.approx(expected, abs=1e-5)


def test_flat_boxes_in_one_line_are_apart() -> None:
    """Two pictures on one wall, without thickness: being in line is not being inside."""
    one: Box = ((0.0, 0.5, 1.0), (0.0, 1.0, 1.0), 0.0)
    other: Box = ((0.0, 3.0, 1.0), (0.0, 1.0, 1.0), 0.0)
    assert gap(one, other) == pytest.approx(1.5, abs=1e-6)


@pytest.mark.parametrize("yaw", [15.0, 30.0, 45.0, 60.0, 123.0])
def test_furniture_along_a_wall_is_apart(yaw: float) -> None:
    """Upright boxes of one yaw whose backs are in one line: parallel edges do not cross, however
    their product is rounded.
    """
    rng, count = np.random.default_rng(int(yaw)), 20_000
    one, other = (np.round(rng.uniform(0.3, 2, (count, 3)), 2) for _ in range(2))
    place, gaps = (
        np.round(rng.uniform(-4, 4, (count, 3)), 2),
        np.round(rng.uniform(0.05, 3, count), 2),
    )
    along = (one[:, 0] + other[:, 0]) / 2 + gaps
    shift = np.stack([along, (other[:, 1] - one[:, 1]) / 2, np.zeros(count)], axis=1)
    beside = place + shift @ yaw_matrix(np.deg2rad(yaw))[:3, :3].T
    turn = jnp.full(count, np.deg2rad(yaw), jnp.float32)
    first, second = (
        (jnp.float32(place), jnp.float32(one), turn),
        (jnp.float32(beside), jnp.float32(other), turn),
    )
    for pair in ((*first, *second), (*second, *first)):
        found = np.asarray(closest_points(*pair))
        lengths = np.linalg.norm(found[:, 0] - found[:, 1], axis=1)
        np.testing.assert_allclose(lengths, gaps, atol=1e-5)


def test_boxes_without_any_size_are_points() -> None:
    one: Box = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0)
    assert gap(one, ((3.0, 4.0, 0.0), (0.0, 0.0, 0.0), 20.0)) == pytest.approx(5.0, abs=1e-6)


def random_boxes(seed: int, count: int) -> list[tuple[Box, Box]]:
    rng = np.random.default_rng(seed)

    def one() -> Box:
        center, extent = rng.uniform(-1.5, 1.5, 3), rng.uniform(0.02, 2.0, 3)
        x, y, z = (float(v) for v in center)
        dx, dy, dz = (float(v) for v in extent)
        return (x, y, z), (dx, dy, dz), float(rng.uniform(-360, 360))

    return [(one(), one()) for _ in range(count)]


def twin(a: Box, b: Box) -> float:
    return reference.distance(
        np.array(a[0]), np.array(a[1]), np.deg2rad(a[2]),
        np.array(b[0]), np.array(b[1]), np.deg2rad(b[2]),
    )  # fmt: skip


def test_gaps_match_the_solver_on_random_boxes() -> None:
    pairs = random_boxes(0, 600)
    found = ends(pairs)
    gaps = np.linalg.norm(found[:, 0] - found[:, 1], axis=-1)
    expected = np.array([twin(a, b) for a, b in pairs])
    assert 0.1 < (expected < 1e-6).mean() < 0.8  # both kinds occur
    np.testing.assert_allclose(gaps, expected, atol=1e-3)


def test_gaps_of_tilted_boxes_match_the_solver() -> None:
    """Any rotation: among them the same boxes as above, stood upright."""
    rng = np.random.default_rng(4)
    turns = Rotation.random(800, rng=rng).as_matrix()
    pairs = random_boxes(5, 400)
    turns[:60] = [yaw_matrix(np.deg2rad(yaw)) for a, b in pairs[:30] for yaw in (a[2], b[2])]
    columns = [
        [np.array(one[i], np.float32) for one in side] for side in zip(*pairs, strict=True)
        for i in range(2)
    ]  # fmt: skip
    a, b = turns[::2].astype(np.float32), turns[1::2].astype(np.float32)
    (ca, ea), (cb, eb) = (np.array(columns[:2]), np.array(columns[2:]))
    found = np.asarray(jax.jit(jax.vmap(boxes.closest_points_tilted))(ca, ea, a, cb, eb, b))
    gaps = np.linalg.norm(found[:, 0] - found[:, 1], axis=-1)
    rows = zip(ca, ea, turns[::2], cb, eb, turns[1::2], strict=True)
    expected = np.array([reference.between(*row) for row in rows])
    assert 0.1 < (expected < 1e-6).mean() < 0.8
    np.testing.assert_allclose(gaps, expected, atol=1e-3)
    for center, extent, turn, point in ((ca, ea, a, found[:, 0]), (cb, eb, b, found[:, 1])):
        local = np.einsum("nij,ni->nj", turn, point - center)
        outside = (np.abs(local) - extent / 2).max(1)
        assert outside[gaps > 0].max() < 1e-4
        assert outside.max() < 0.05


def test_the_closest_points_lie_on_their_boxes() -> None:
    pairs = random_boxes(1, 200)
    for (a, b), (on_a, on_b) in zip(pairs, ends(pairs), strict=True):
        for box, point in ((a, on_a), (b, on_b)):
            away = reference.outside(
                np.array(box[0]), np.array(box[1]), np.deg2rad(box[2]), point.astype(np.float64)
            )
            assert away < 1e-4


def test_the_point_of_a_box_closest_to_a_point_matches_clipping() -> None:
    rng = np.random.default_rng(2)
    closest = jax.jit(boxes.closest_to_point)
    for (a, _), point in zip(random_boxes(3, 50), rng.uniform(-3, 3, (50, 3)), strict=True):
        center, extent = jnp.array(a[0]), jnp.array(a[1])
        rotation = boxes.yaw_rotation(jnp.deg2rad(jnp.float32(a[2])))
        found = np.asarray(closest(center, extent, rotation, jnp.array(point, jnp.float32)))
        expected = reference.outside(np.array(a[0]), np.array(a[1]), np.deg2rad(a[2]), point)
        assert np.linalg.norm(found - point) == pytest.approx(expected, abs=1e-4)


def test_a_gap_has_a_gradient_where_boxes_touch() -> None:
    """Touching boxes have length 0, where a plain norm's gradient is NaN."""

    def distance(x: jax.Array) -> jax.Array:
        side = jnp.ones(3)
        found = boxes.closest_points(
            jnp.zeros(3), side, jnp.float32(0.0), jnp.stack([x, x * 0, x * 0]), side, jnp.float32(0)
        )
        return boxes.ops.safe_norm(found[1] - found[0])

    assert np.isfinite(float(jax.grad(distance)(jnp.float32(0.5))))
    assert float(jax.grad(distance)(jnp.float32(2.0))) == pytest.approx(1.0)
