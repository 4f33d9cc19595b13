"""The fisheye camera against its formula, its inverse, and a picture that is known everywhere."""

import numpy as np
import pytest

from data_pipelines.fisheye import Fisheye, Undistortion

SIZE = (160, 108)
LENS = Fisheye(
    np.array([[72.0, 0, 81], [0, 71, 53], [0, 0, 1]]), np.array([-0.03, 0.004, -0.002, 0.0003])
)


def test_ray_by_hand() -> None:
    # 45 degrees to the right of the axis.
    angle = np.pi / 4
    bent = angle * (1 - 0.03 * angle**2 + 0.004 * angle**4 - 0.002 * angle**6 + 0.0003 * angle**8)
    pixels = LENS.project(np.array([[1.0, 0], [0, -1], [0, 0]]))
    assert pixels == pytest.approx(np.array([[81 + 72 * bent, 53], [81, 53 - 71 * bent], [81, 53]]))


def test_unproject_undoes_project() -> None:
    plane = np.random.default_rng(0).uniform(-2, 2, (200, 2))
    assert LENS.unproject(LENS.project(plane)) == pytest.approx(plane, abs=1e-9)


def test_pinhole_is_filled_to_the_middles_of_its_sides() -> None:
    camera = LENS.pinhole(SIZE)
    assert camera[:2, 2] == pytest.approx([80, 54])
    assert camera[0, 0] / camera[1, 1] == pytest.approx(72 / 71)
    sides = np.array([[0, 54], [160, 54], [80, 0], [80, 108.0]])
    seen = LENS.project((sides - [80, 54]) / camera[[0, 1], [0, 1]])
    # The principal points differ by a pixel, and the wider direction decides.
    assert (seen >= -1.5).all() and (seen <= np.array(SIZE) + 1.5).all()
    assert min(seen.min(), (np.array(SIZE) - seen).min()) < 1.5


def test_undistorted_picture_is_what_a_pinhole_sees() -> None:
    def scene(plane: np.ndarray) -> np.ndarray:  # smooth over all rays
        waves = np.stack([np.sin(2 * plane[..., 0]), np.cos(2 * plane[..., 1]), plane[..., 0] / 3])
        return np.moveaxis(127 + 100 * np.clip(waves, -1, 1), 0, -1)

    def middles(size: tuple[int, int]) -> np.ndarray:
        v, u = np.mgrid[: size[1], : size[0]] + 0.5
        return np.stack([u, v], -1)

    bent = np.rint(scene(LENS.unproject(middles(SIZE)))).astype(np.uint8)
    camera = LENS.pinhole(SIZE)
    straight = Undistortion(LENS, camera, SIZE).apply(bent)
    expected = scene((middles(SIZE) - camera[:2, 2]) / camera[[0, 1], [0, 1]])
    assert straight.shape == (108, 160, 3)
    assert np.abs(straight - expected)[2:-2, 2:-2].max() < 3  # rounding, and bilinear blending
