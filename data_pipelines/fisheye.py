"""The four-coefficient fisheye camera (OPENCV_FISHEYE in COLMAP), and undistorting its pictures.

A ray at angle t from the optical axis meets the image plane at distance
t (1 + k1 t^2 + k2 t^4 + k3 t^6 + k4 t^8) from the principal point, in focal lengths (Kannala and
Brandt, 2006). Pixels: the image's corner is the origin.
"""

import dataclasses
import functools

import numpy as np
from scipy import ndimage

NEWTON_STEPS = 20
STEEPEST = np.deg2rad(85.0)  # no pinhole shows a ray further from its axis


@dataclasses.dataclass(frozen=True)
class Fisheye:
    intrinsics: np.ndarray  # (3, 3) pixels
    coefficients: np.ndarray  # (4,) k1 to k4

    def project(self, plane: np.ndarray) -> np.ndarray:
        """Pixels (..., 2) of rays (x, y, 1), given as (..., 2)."""
        radius = np.linalg.norm(plane, axis=-1)
        angle = np.arctan(radius)
        stretched = self._stretched(angle)
        scale = np.divide(stretched, radius, out=np.ones_like(radius), where=radius > 0)
        focal = self.intrinsics[[0, 1], [0, 1]]
        return plane * scale[..., None] * focal + self.intrinsics[:2, 2]

    def unproject(self, pixels: np.ndarray) -> np.ndarray:
        """Rays (x, y, 1), as (..., 2), of pixels (..., 2)."""
        focal = self.intrinsics[[0, 1], [0, 1]]
        bent = (pixels - self.intrinsics[:2, 2]) / focal
        stretched = np.linalg.norm(bent, axis=-1)
        angle = np.minimum(stretched, STEEPEST)
        for _ in range(NEWTON_STEPS):
            powers = angle[..., None] ** np.array([2, 4, 6, 8])
            slope = 1 + powers @ (self.coefficients * np.array([3, 5, 7, 9]))
            angle = np.clip(angle - (self._stretched(angle) - stretched) / slope, 0, STEEPEST)
        scale = np.divide(
            np.tan(angle), stretched, out=np.ones_like(stretched), where=stretched > 0
        )
        return bent * scale[..., None]

    def _stretched(self, angle: np.ndarray) -> np.ndarray:
        return angle * (1 + angle[..., None] ** np.array([2, 4, 6, 8]) @ self.coefficients)

    def pinhole(self, size: tuple[int, int]) -> np.ndarray:
        """(3, 3) intrinsics of a pinhole camera of that size with the principal point in the centre
        and the same pixel aspect ratio, such that the fisheye picture just covers its image at the
        middle of each of the four sides, as OpenCV estimates it with balance 0.
        """
        width, height = size
        middles = np.array([[width / 2, 0], [width, height / 2], [width / 2, height]])
        plane = self.unproject(np.concatenate([middles, [[0, height / 2]]]))
        aspect = self.intrinsics[0, 0] / self.intrinsics[1, 1]
        plane[:, 1] *= aspect
        reach = np.abs(plane - plane.mean(0))
        sides = np.array([reach[3, 0], reach[1, 0], reach[0, 1], reach[2, 1]])
        focal = (np.array([width, width, height * aspect, height * aspect]) / 2 / sides).max()
        return np.array([[focal, 0, width / 2], [0, focal / aspect, height / 2], [0, 0, 1]])


@dataclasses.dataclass(frozen=True)
class Undistortion:
    """From a fisheye camera's pictures to those of a pinhole camera at the same place."""

    lens: Fisheye
    intrinsics: np.ndarray  # (3, 3) pixels, of the pinhole camera
    size: tuple[int, int]  # width, height

    @functools.cached_property
    def sources(self) -> np.ndarray:
        """(2, H, W) f32: row and column, counted from the centre of the first pixel, where the
        fisheye picture has what a pixel of the pinhole camera shows.
        """
        v, u = np.mgrid[: self.size[1], : self.size[0]] + 0.5
        plane = np.stack([u - self.intrinsics[0, 2], v - self.intrinsics[1, 2]], -1)
        pixels = self.lens.project(plane / self.intrinsics[[0, 1], [0, 1]])
        return np.moveaxis(pixels[..., ::-1] - 0.5, -1, 0).astype(np.float32)

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8, bilinear; outside of the picture its border continues."""
        channels = [
            ndimage.map_coordinates(picture[..., channel], self.sources, order=1, mode="nearest")
            for channel in range(picture.shape[-1])
        ]
        return np.stack(channels, -1)
