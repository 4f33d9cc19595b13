"""COLMAP's text files: cameras.txt and images.txt."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipelines import raw_json
from data_pipelines.scan import ScanError

POSE_FIELDS = 10  # id, quaternion, translation, camera, name; a row of points has 3 k numbers


class Camera(NamedTuple):
    model: str  # such as "PINHOLE"
    size: tuple[int, int]  # width, height
    parameters: np.ndarray  # as the model orders them; PINHOLE: fx fy cx cy


def read_cameras(path: Path) -> dict[int, Camera]:
    """Cameras by id.

    Raises:
        ScanError: a line of another form.
    """
    cameras = {}
    for line in _lines(path):
        fields = line.split()
        try:
            number, model, width, height, *rest = fields
            parameters = np.array(rest, np.float64)
            cameras[int(number)] = Camera(model, (int(width), int(height)), parameters)
        except ValueError as error:
            raise ScanError(f"{path}: expected a camera, got {line!r:.80}.") from error
    return cameras


def read_poses(path: Path) -> dict[str, np.ndarray]:
    """(4, 4) world_from_camera by the image's file name; the camera is x right, y down, z forward.

    Raises:
        ScanError: no poses, or a line of another form.
    """
    poses = {}
    for line in _lines(path):
        fields = line.split()
        if len(fields) != POSE_FIELDS:
            continue  # the points seen in the image above, three numbers each
        try:
            values = np.array(fields[1:8], np.float64)
            if not (np.isfinite(values).all() and values[:4].any()):
                raise ValueError("a quaternion and a translation are finite")
        except ValueError as error:
            raise ScanError(f"{path}: expected an image's pose, got {line!r:.80}.") from error
        camera_from_world = np.eye(4)
        camera_from_world[:3, :3] = _rotation(values[:4])
        camera_from_world[:3, 3] = values[4:]
        poses[fields[9].rsplit("/", 1)[-1]] = np.linalg.inv(camera_from_world)
    if not poses:
        raise ScanError(f"{path}: expected lines of poses, found none.")
    return poses


def _lines(path: Path) -> list[str]:
    lines = raw_json.read_text(path).splitlines()
    return [line for line in map(str.strip, lines) if line and not line.startswith("#")]


def _rotation(quaternion: np.ndarray) -> np.ndarray:
    """(3, 3) of a quaternion w x y z of any length but 0."""
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
