"""The world frame of a scan: floor near z = 0, walls along x and y.

A data set's own alignment is taken as it is. Where there is none, z is up already and what is left
is the height of the floor and one angle; both are estimated from the mesh, deterministically.
"""

from collections.abc import Sequence

import numpy as np

from data_pipelines import labels
from data_pipelines.scan import Mesh, Scan, ScanError, ScanFrame
from geometry_jax.scene_io import pose_fault

STEEP, LEVEL = 0.2, 0.9  # |z| of a unit normal: below, a face belongs to a wall; above, to a floor
HEIGHT_STEP = 0.02  # metres, bins of the height histogram
ANGLE_STEP = np.deg2rad(0.5)  # bins of the histogram of wall directions
PEAK_BINS = 4  # to both sides, that count as one peak
SEARCH = ((np.deg2rad(4.0), np.deg2rad(0.25)), (np.deg2rad(0.3), np.deg2rad(0.02)))  # reach, step
CLOSE = np.deg2rad(1.0)  # normals so near to the walls' direction have the last word
MOST_FACES = 100_000  # steep ones, evenly strided, say enough about walls
FARTHEST = 100.0  # metres from a scan's middle at which nothing is part of it
PLANE_STEP = 0.02  # metres, bins of distance across walls
LEAST_SHARE = 0.2  # of the largest level area; the lowest level that has so much is the floor
ABOVE_FLOOR = 3.0  # metres that cameras are above the floor, at most: hand-held or on a tripod
BESIDE = 1.5  # metres around the cameras, from above, in which there is floor
QUARTER = np.pi / 2


def face_normals(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """(T, 3) unit normals and (T,) areas in square metres; a normal is 0 where the area is."""
    a, b, c = (mesh.points[mesh.faces[:, corner]].astype(np.float64) for corner in range(3))
    cross = np.cross(b - a, c - a)
    length = np.linalg.norm(cross, axis=1)
    return cross / np.where(length > 0, length, 1.0)[:, None], length / 2


def floor_height(mesh: Mesh, eyes: np.ndarray) -> float:
    """z of the lowest large level surface: metres, in the frame of the mesh.

    Faces are weighed by area, vertices alike where there are no faces. Heights are those of the
    surface's median, so that stray points below it do not count. Where cameras were, only what
    lies about and below them does, unless that has no level surface: the street that a window
    shows is no floor, nor are reflections in one.

    Args:
        eyes: (E, 3) where the cameras were, in the frame of the mesh.
    """
    if len(mesh.faces):
        normals, areas = face_normals(mesh)
        places = mesh.points[mesh.faces].mean(1).astype(np.float64)
        # Up or down: the turning sense of faces is not the same in all data sets.
        weights = areas * (np.abs(normals[:, 2]) > LEVEL)
    else:
        places, weights = mesh.points.astype(np.float64), np.ones(len(mesh.points))
    heights = places[:, 2]
    if not weights.sum() > 0:
        return float(np.min(heights, initial=np.inf)) if len(heights) else 0.0
    if len(eyes):
        middle = np.median(eyes, axis=0)  # a camera that got lost counts little
        reach = np.median(np.linalg.norm(eyes[:, :2] - middle[:2], axis=1)) + BESIDE
        near = np.linalg.norm(places[:, :2] - middle[:2], axis=1) <= reach
        near &= heights > middle[2] - ABOVE_FLOOR
        weights = weights * near if weights[near].sum() > 0 else weights
    middle = weighted_quantile(heights, weights)
    near = (np.abs(heights - middle) <= FARTHEST) & (weights > 0)  # what is farther is a stray
    heights, weights = heights[near], weights[near]
    bins = np.floor((heights - heights.min()) / HEIGHT_STEP).astype(int)
    area = np.bincount(bins, weights)
    # Three bins at a time: a floor is not cut in two by a bin's edge.
    level = np.convolve(area, np.ones(3), "same")
    enough = level >= LEAST_SHARE * level.max()
    first = int(np.argmax(enough))
    peak = first
    while peak + 1 < len(level) and level[peak + 1] > level[peak]:
        peak += 1
    near = np.abs(bins - peak) <= 1
    return weighted_quantile(heights[near], weights[near])


def weighted_quantile(values: np.ndarray, weights: np.ndarray, share: float = 0.5) -> float:
    """The least of (k,) values up to which a share of the weight lies; half of it: the median."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] * share)])


def scan_floor(scan: Scan, mesh: Mesh, eyes: np.ndarray) -> float:
    """z of a scan's floor: of the annotated one, else as of `floor_height`.

    Args:
        mesh: the scan's, in the frame that z is wanted in.
        eyes: (E, 3) where its cameras were, in that frame.
    """
    rows = [one.vertices for one in scan.objects if labels.harmonise(one.label).label == "floor"]
    if rows and sum(map(len, rows)):
        return float(np.median(mesh.points[np.concatenate(rows), 2]))
    return floor_height(mesh, eyes)


def eyes(frames: Sequence[ScanFrame]) -> np.ndarray:
    """(F, 3) where the cameras were, metres, in the mesh frame."""
    return np.array([frame.mesh_from_camera[:3, 3] for frame in frames]).reshape(-1, 3)


def wall_yaw(mesh: Mesh) -> float:
    """Direction of the walls about +z, radians in (-pi/4, pi/4]: 0 where they follow x and y.

    First the peak of an area-weighted histogram of the steep faces' normals modulo a quarter turn.
    Normals of a noisy mesh scatter by many degrees, but walls are long: near the peak, the yaw
    wins from which the steep faces' places fall into the fewest and fullest bins across the walls.
    0 where there are no steep faces.
    """
    normals, areas = face_normals(mesh)
    steep = np.flatnonzero((np.abs(normals[:, 2]) < STEEP) & (areas > 0))
    if not len(steep):
        return 0.0
    steep = steep[:: -(-len(steep) // MOST_FACES)]
    angles = np.arctan2(normals[steep, 1], normals[steep, 0])
    weights = areas[steep]
    count = round(QUARTER / ANGLE_STEP)
    histogram = np.bincount(
        np.floor(angles % QUARTER / ANGLE_STEP).astype(int) % count, weights, minlength=count
    )
    around = sum(np.roll(histogram, shift) for shift in range(-PEAK_BINS, PEAK_BINS + 1))
    yaw = (np.argmax(around) + 0.5) * ANGLE_STEP
    places = mesh.points[mesh.faces[steep], :2].mean(1).astype(np.float64)
    places -= np.median(places, axis=0)  # stray faces may be anywhere
    for reach, step in SEARCH:
        tried = yaw + np.arange(-reach, reach + step / 2, step)
        yaw = tried[np.argmax([_fullness(places, angles, weights, one) for one in tried])]
    # Where the mesh is clean, its normals are exact.
    off = (angles - yaw + QUARTER / 2) % QUARTER - QUARTER / 2
    near = np.abs(off) < CLOSE
    yaw += weighted_quantile(off[near], weights[near]) if near.any() else 0.0
    yaw = (yaw + QUARTER / 2) % QUARTER - QUARTER / 2
    return float(yaw if yaw > -QUARTER / 2 else yaw + QUARTER)


def _fullness(places: np.ndarray, angles: np.ndarray, weights: np.ndarray, yaw: float) -> float:
    """How much of the steep area lies in few planes across the axes that `yaw` gives: the sum of
    the squares of the area in bins of distance along the axis that a face looks along.
    """
    across = np.round((angles - yaw) / QUARTER).astype(int) % 2 == 1
    x_axis = np.array([np.cos(yaw), np.sin(yaw)])
    y_axis = np.array([-x_axis[1], x_axis[0]])
    distance = np.where(across, places @ y_axis, places @ x_axis)
    bins = np.floor(np.clip(distance, -FARTHEST, FARTHEST) / PLANE_STEP).astype(int)
    bins = bins - bins.min() + 1
    area = np.bincount(bins + across * (bins.max() + 3), weights)
    area = np.convolve(area, [0.25, 0.5, 0.25], "same")  # no wall is cut in two by a bin's edge
    return float((area**2).sum())


def world_from_mesh(scan: Scan) -> tuple[np.ndarray, bool]:
    """(4, 4) rigid, and whether the data set gave it.

    Raises:
        ScanError: the data set's alignment is not rigid.
    """
    if scan.world_from_mesh is not None:
        fault = pose_fault(scan.world_from_mesh)
        if fault:
            raise ScanError(f"{scan.source_id}: axis alignment: {fault}.")
        return np.asarray(scan.world_from_mesh, np.float64), True
    yaw = wall_yaw(scan.mesh)
    cos, sin = np.cos(-yaw), np.sin(-yaw)
    estimate = np.eye(4)
    estimate[:2, :2] = [[cos, -sin], [sin, cos]]
    estimate[2, 3] = -scan_floor(scan, scan.mesh, eyes(scan.frames))
    return estimate, False
