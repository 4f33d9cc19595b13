"""Boxes of one object: axis-aligned, and oriented about the vertical. World: metres, z up."""

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import ConvexHull, KDTree

from data_pipelines.scan import OrientedBox

FLAT = 1e-5  # metres; a plan view thinner than this is a line
TIE = 1e-6  # relative; rectangles whose areas differ by less are equal, the smallest yaw wins
UPRIGHT = np.deg2rad(5.0)  # a data set's box that leans by no more counts as upright
APART = 0.5  # metres between a stray vertex and the others, about
GRAIN = 0.1  # metres; vertices in one such cube are looked at as one
MOST_GRAINS = 2**19  # from an object's middle along an axis: farther is as far
FEW = 0.01  # share of an object's vertices in a part that is stray, at most; a single one is few
MOST = 0.9  # share of them that must be in one part for others to be stray


class UprightBox(NamedTuple):
    """A box that stands on its floor. Its yaw lies in (-pi/4, pi/4]: x is the nearest axis."""

    center: np.ndarray  # (3,) world metres
    extent: np.ndarray  # (3,) full sides in the box's own axes, metres
    yaw: float  # radians about +z, counter-clockwise


def aabb(points: np.ndarray) -> np.ndarray:
    """(k, 3) -> (6,) minima and maxima."""
    return np.concatenate([points.min(0), points.max(0)])


def strays(points: np.ndarray) -> np.ndarray:
    """Which of an object's (k, 3) points are slips of its annotation, as a (k,) mask: those of
    small parts apart from the one that holds most. A box around them is as large as the way there.
    """
    if len(points) < 2:
        return np.zeros(len(points), bool)
    at = np.floor((points - np.median(points, axis=0)) / GRAIN)
    at = (np.clip(at, -MOST_GRAINS, MOST_GRAINS - 1) + MOST_GRAINS).astype(np.int64)
    codes = (at[:, 0] * 2 * MOST_GRAINS + at[:, 1]) * 2 * MOST_GRAINS + at[:, 2]
    _, first, cell = np.unique(codes, return_index=True, return_inverse=True)
    near = KDTree(points[first]).query_pairs(APART, output_type="ndarray")
    graph = coo_array((np.ones(len(near), bool), near.T), (len(first), len(first)))
    part = connected_components(graph, directed=False)[1][cell]
    size = np.bincount(part)
    few = size <= max(1.0, FEW * len(points))
    return few[part] & bool(size.max() >= MOST * len(points))


def _folded(center: np.ndarray, extent: np.ndarray, yaw: float) -> UprightBox:
    """The same box with its yaw in (-pi/4, pi/4]; a quarter turn swaps its sides."""
    quarters = int(np.ceil(yaw / (np.pi / 2) - 0.5 - 1e-9))
    sides = extent[[1, 0, 2]] if quarters % 2 else extent
    return UprightBox(np.asarray(center, np.float64), sides, float(yaw - quarters * np.pi / 2))


def _outline(plan: np.ndarray) -> np.ndarray:
    """(k, 2) -> (h, 2) corners of the convex hull in order; two where the points lie on a line."""
    middle = plan.mean(0)
    _, _, axes = np.linalg.svd(plan - middle, full_matrices=False)
    along = (plan - middle) @ axes[0]
    across = (plan - middle) @ axes[-1] if len(axes) > 1 else np.zeros(1)
    if np.ptp(across) < FLAT:
        return plan[[np.argmin(along), np.argmax(along)]]
    return plan[ConvexHull(plan).vertices]


def minimal_box(points: np.ndarray) -> UprightBox:
    """The upright box of least plan area around (k, 3) points, k at least 1.

    One side of the smallest rectangle around a convex polygon lies along one of its edges (Freeman
    and Shapira 1975), so all edges are tried at once.
    """
    points = np.asarray(points, np.float64)
    corners = _outline(points[:, :2])
    edges = np.roll(corners, -1, 0) - corners
    edges = edges[np.linalg.norm(edges, axis=1) > FLAT]
    if not len(edges):
        edges = np.array([[1.0, 0.0]])
    yaws = np.unique(np.arctan2(edges[:, 1], edges[:, 0]) % (np.pi / 2))
    x_axis = np.stack([np.cos(yaws), np.sin(yaws)], -1)  # (e, 2)
    y_axis = np.stack([-x_axis[:, 1], x_axis[:, 0]], -1)
    x, y = x_axis @ corners.T, y_axis @ corners.T  # (e, h)
    area = np.ptp(x, axis=1) * np.ptp(y, axis=1)
    # `yaws` ascend, so that the first within the tolerance is the smallest.
    best = int(np.argmax(area <= area.min() * (1 + TIE) + FLAT**2))
    low = np.array([x[best].min(), y[best].min(), points[:, 2].min()])
    high = np.array([x[best].max(), y[best].max(), points[:, 2].max()])
    middle = (low + high) / 2
    center = np.append(middle[0] * x_axis[best] + middle[1] * y_axis[best], middle[2])
    return _folded(center, high - low, yaws[best])


def lean(box: OrientedBox) -> float:
    """Radians between the vertical and the axis of the box that is nearest to it."""
    return float(np.arccos(np.clip(np.abs(box.rotation[2]).max(), 0.0, 1.0)))


def upright(box: OrientedBox) -> UprightBox:
    """An upright box for one of a data set, in the world, whose axes come in any order and sense.

    What it leans by (see `lean`) is dropped: the centre and the sides stay.
    """
    up = int(np.argmax(np.abs(box.rotation[2])))
    first, second = [axis for axis in range(3) if axis != up]
    yaw = float(np.arctan2(box.rotation[1, first], box.rotation[0, first]))
    return _folded(box.center, box.extent[[first, second, up]], yaw)
