"""Directions: names and edges of the compass, cameras levelled by gravity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geometry_jax import ops
from tests.reference import compass
from tests.scenes import camera


def test_every_direction_has_its_own_bin() -> None:
    angles = np.arange(8) * np.pi / 4
    index, to_edge = ops.compass_bin(jnp.sin(angles), jnp.cos(angles))
    assert [ops.PLANAR[i] for i in np.asarray(index)] == list(ops.PLANAR)
    np.testing.assert_allclose(np.asarray(to_edge), np.pi / 8, atol=1e-6)


def test_bins_and_edges_match_the_twin_all_around() -> None:
    angles = np.random.default_rng(0).uniform(-np.pi, np.pi, 2000)
    lengths = np.random.default_rng(1).uniform(0.05, 9.0, 2000)
    forward, rightward = lengths * np.sin(angles), lengths * np.cos(angles)
    index, to_edge = ops.compass_bin(
        jnp.array(forward, jnp.float32), jnp.array(rightward, jnp.float32)
    )
    for i in range(len(angles)):
        name, degrees = compass.direction(forward[i], rightward[i])
        assert np.rad2deg(float(to_edge[i])) == pytest.approx(degrees, abs=1e-3)
        if degrees > 1e-3:
            assert ops.PLANAR[int(index[i])] == name


@pytest.mark.parametrize("pitch", [-60.0, -15.0, 0.0, 40.0])
@pytest.mark.parametrize("heading", [0.0, 33.0, 180.0, 275.0])
def test_levelled_directions_ignore_the_pitch(heading: float, pitch: float) -> None:
    pose = jnp.array(camera(1.0, 2.0, 1.5, heading=heading, pitch=pitch), jnp.float32)
    h = np.deg2rad(heading)
    # Three ahead, two to the right, and up, which is not looked at.
    ahead, right = np.array([np.cos(h), np.sin(h)]), np.array([np.sin(h), -np.cos(h)])
    displacement = jnp.array([*(3 * ahead + 2 * right), 7.0], jnp.float32)
    forward, rightward = ops.levelled(pose, displacement)
    assert float(forward) == pytest.approx(3.0, abs=1e-5)
    assert float(rightward) == pytest.approx(2.0, abs=1e-5)


@pytest.mark.parametrize(
    ("pitch", "vertical"), [(-89, True), (-76, True), (-74, False), (80, True)]
)
def test_a_steep_camera_looks_vertical(pitch: float, vertical: bool) -> None:
    pose = jnp.array(camera(0, 0, 0, heading=20.0, pitch=pitch), jnp.float32)
    assert bool(ops.looks_vertical(pose, np.deg2rad(15.0))) is vertical


def test_the_norm_of_nothing_is_zero_with_a_zero_gradient() -> None:
    value, gradient = jax.value_and_grad(ops.safe_norm)(jnp.zeros(3))
    assert float(value) == 0.0
    np.testing.assert_array_equal(np.asarray(gradient), 0.0)


@pytest.mark.parametrize("forward", [0.0, -0.0])
@pytest.mark.parametrize("rightward", [0.0, -0.0])
def test_nowhere_is_to_the_right_whatever_the_signs_of_its_zeros(
    forward: float, rightward: float
) -> None:
    index, _ = jax.jit(ops.compass_bin)(jnp.float32(forward), jnp.float32(rightward))
    assert ops.PLANAR[int(index)] == "right"
