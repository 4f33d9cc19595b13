"""The small files of ARKitScenes: trajectories and camera files. Host side, NumPy.

A `.traj` line is a timestamp, an axis-angle rotation and a translation: camera_from_mesh, ten times
a second. A `.pincam` file is width, height, fx, fy, cx, cy of one picture. Its principal point is
measured from the centre of the first pixel: at 1920x1440 that of an ideal camera is 959.5, 719.5,
and the official loader unprojects integer pixel indices with it. Hence half a pixel is added here.
"""

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from data_pipelines import raw_json
from data_pipelines.scan import HALF_PIXEL, ScanError, Skipped
from data_pipelines.trajectory import Trajectory


def read_trajectory(path: Path) -> tuple[Trajectory, tuple[Skipped, ...]]:
    """The poses of a `.traj` file as mesh_from_camera, and those that are not finite.

    Raises:
        ScanError: a line that is not seven numbers, no finite pose, or two of one time.
    """
    rows, skipped = [], []
    for number, line in enumerate(raw_json.read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = [float(word) for word in line.split()]
        except ValueError:
            row = []
        if len(row) != 7:
            raise ScanError(
                f"{path}: line {number}: expected 7 numbers (time, axis-angle, translation), "
                f"got {line!r:.80}."
            )
        if np.isfinite(row).all():
            rows.append(row)
        else:
            skipped.append(Skipped(f"pose {number}", f"{path}: not finite (tracking was lost)"))
    if not rows:
        raise ScanError(f"{path}: expected poses, found none that is finite.")
    table = np.unique(np.asarray(rows, np.float64), axis=0)  # by time; a line may be there twice
    if (np.diff(table[:, 0]) <= 0).any():
        twice = table[1:][np.diff(table[:, 0]) <= 0][0, 0]
        raise ScanError(f"{path}: expected one pose for each time, got two at {twice}.")
    camera_from_mesh = Rotation.from_rotvec(table[:, 1:4]).as_matrix()
    poses = np.tile(np.eye(4), (len(table), 1, 1))
    poses[:, :3, :3] = camera_from_mesh.transpose(0, 2, 1)
    poses[:, :3, 3] = -np.einsum("pcm,pc->pm", camera_from_mesh, table[:, 4:7])
    return Trajectory(table[:, 0], poses), tuple(skipped)


def read_pincam(path: Path) -> tuple[np.ndarray, tuple[int, int]]:
    """(3, 3) intrinsics, with the origin in the image's corner, and (width, height).

    Raises:
        ScanError: not six finite numbers, sizes and focal lengths positive.
    """
    words = raw_json.read_text(path).split()
    try:
        numbers = np.array([float(word) for word in words])
    except ValueError as error:
        raise ScanError(f"{path}: expected six numbers, cannot read them: {error}.") from error
    if numbers.shape != (6,) or not np.isfinite(numbers).all() or (numbers[:4] <= 0).any():
        raise ScanError(
            f"{path}: expected width, height, fx, fy, cx and cy, got {numbers.tolist()}."
        )
    width, height, fx, fy, cx, cy = numbers
    intrinsics = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
    return intrinsics + HALF_PIXEL, (int(width), int(height))
