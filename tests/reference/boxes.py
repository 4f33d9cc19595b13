"""The distance of two boxes as a least-squares problem with bounds: nothing shared with the
package.
"""

import numpy as np
from scipy.optimize import lsq_linear


def axes(yaw: float) -> np.ndarray:
    """(3, 3) columns: the box's own axes in the world."""
    return np.array(
        [[np.cos(yaw), -np.sin(yaw), 0.0], [np.sin(yaw), np.cos(yaw), 0.0], [0.0, 0.0, 1.0]]
    )


def distance(
    center_a: np.ndarray,
    extent_a: np.ndarray,
    yaw_a: float,
    center_b: np.ndarray,
    extent_b: np.ndarray,
    yaw_b: float,
) -> float:
    """Metres between the closest points of upright boxes."""
    return between(center_a, extent_a, axes(yaw_a), center_b, extent_b, axes(yaw_b))


def between(
    center_a: np.ndarray,
    extent_a: np.ndarray,
    axes_a: np.ndarray,
    center_b: np.ndarray,
    extent_b: np.ndarray,
    axes_b: np.ndarray,
) -> float:
    """Metres between the closest points: the smallest |a + A u - b - B v| with u, v in the boxes.

    A flat side is given a thickness of a nanometre, which the solver's bounds need.
    """
    matrix = np.hstack([axes_a, -axes_b])
    half = np.maximum(np.concatenate([extent_a, extent_b]) / 2, 1e-9)
    found = lsq_linear(matrix, center_b - center_a, (-half, half), method="bvls", tol=1e-14)
    return float(np.linalg.norm(matrix @ found.x - (center_b - center_a)))


def outside(center: np.ndarray, extent: np.ndarray, yaw: float, point: np.ndarray) -> float:
    """Metres from a point to the box, 0 inside."""
    local = axes(yaw).T @ (point - center)
    return float(np.linalg.norm(np.maximum(np.abs(local) - extent / 2, 0.0)))
