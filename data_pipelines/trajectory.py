"""A camera's path by time, between whose poses one may interpolate. Host side, NumPy."""

from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation, Slerp


class Trajectory(NamedTuple):
    times: np.ndarray  # (P,) seconds, strictly ascending
    mesh_from_camera: np.ndarray  # (P, 4, 4) rigid


def poses_at(
    trajectory: Trajectory, times: np.ndarray, *, exact: float, gap: float, turn: float
) -> np.ndarray:
    """The pose at each time: the nearest one as it stands where it is near enough, else one
    between its two neighbours: rotations by SLERP, camera centres on a straight line.

    Args:
        times: (F,) seconds, in any order.
        exact: a pose this near is taken as it stands, seconds.
        gap: neighbours at most this far apart are interpolated between, seconds,
        turn: and turned against each other by at most this, radians: nearer to a half turn, noise
            would decide which way round.

    Returns:
        (F, 4, 4) mesh_from_camera, NaN where neither holds.
    """
    known, poses = trajectory
    result = np.full((len(times), 4, 4), np.nan)
    if not len(known):
        return result
    after = np.searchsorted(known, times)
    left, right = np.maximum(after - 1, 0), np.minimum(after, len(known) - 1)
    nearest = np.where(times - known[left] <= known[right] - times, left, right)
    near = np.abs(known[nearest] - times) <= exact
    result[near] = poses[nearest[near]]

    between = ~near & (left < right) & (after > 0) & (known[right] - known[left] <= gap)
    # The trace of a rotation by an angle is 1 + 2 cos(angle).
    trace = np.einsum("fij,fij->f", poses[left, :3, :3], poses[right, :3, :3])
    between &= trace >= 1 + 2 * np.cos(turn)
    if between.any():
        before, behind = left[between], right[between]
        share = (times[between] - known[before]) / (known[behind] - known[before])
        start, end = poses[before, :3, 3], poses[behind, :3, 3]
        result[between] = np.eye(4)
        turns = Slerp(known, Rotation.from_matrix(poses[:, :3, :3]))
        result[between, :3, :3] = turns(times[between]).as_matrix()
        result[between, :3, 3] = start + share[:, None] * (end - start)
    return result
