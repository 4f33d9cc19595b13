"""Images of a camera that was held sideways, turned upright, with their intrinsics and poses.

A picture is turned by quarter turns clockwise; intrinsics have their origin in the image's corner,
as everywhere in a `Scan`.
"""

import numpy as np

# The side of the stored image where the sky is. Its index is the number of quarter turns clockwise
# that bring the sky up.
SKIES = ("Up", "Left", "Down", "Right")

# A quarter turn clockwise takes the direction (x, y) of the image to (-y, x).
QUARTER_TURN = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])


def turned_image(image: np.ndarray, turns: int) -> np.ndarray:
    """(H, W, ...) -> (H, W, ...) or (W, H, ...)."""
    return np.ascontiguousarray(np.rot90(image, -turns))


def turned_size(size: tuple[int, int], turns: int) -> tuple[int, int]:
    """(width, height) of the turned image."""
    return size if turns % 2 == 0 else (size[1], size[0])


def turned_intrinsics(intrinsics: np.ndarray, size: tuple[int, int], turns: int) -> np.ndarray:
    """(3, 3) of an image of `size` (width, height) -> (3, 3) of the turned image."""
    for _ in range(turns % 4):
        (fx, _, cx), (_, fy, cy) = intrinsics[:2]
        intrinsics = np.array([[fy, 0, size[1] - cy], [0, fx, cx], [0, 0, 1.0]])
        size = (size[1], size[0])
    return intrinsics


def turned_poses(mesh_from_camera: np.ndarray, turns: int) -> np.ndarray:
    """(..., 4, 4) poses of the stored images -> those of the turned ones."""
    turned = mesh_from_camera.copy()
    rotation = np.linalg.matrix_power(QUARTER_TURN, turns % 4)
    turned[..., :3, :3] = turned[..., :3, :3] @ rotation.T
    return turned


def sky_of_poses(mesh_from_camera: np.ndarray) -> str:
    """Where the sky is in most of the images with these (F, 4, 4) poses; z is up in the mesh frame.

    The direction up in camera axes is the third row of the rotation; of its x and y parts, summed
    over the frames, the larger tells the side.
    """
    up = mesh_from_camera[:, 2, :2].sum(axis=0)
    return SKIES[int(np.argmax([-up[1], -up[0], up[1], up[0]]))]
