"""How well the parts of a scan agree: one number for the geometry, one for the pictures."""

from collections.abc import Sequence

import numpy as np

from data_pipelines.scan import Images, Mesh, ScanFrame
from data_pipelines.unified import Quality

FRAMES = 8  # whose pictures are compared, evenly spread
VERTICES = 20_000  # of the mesh, at most
TOLERANCE = 0.03  # share of the depth, and metres at least, as in `views`
LEAST_VERTICES = 200  # in a frame; fewer say nothing
LEAST_CONTRAST = 2.0  # grey levels, standard deviation; less has nothing to compare
GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def _reprojection(frame: ScanFrame, images: Images, points: np.ndarray, grey: np.ndarray) -> float:
    """Correlation of the vertices' grey with that of the picture where they appear; NaN where too
    few do. A pose that is inverted or turned leaves about 0.
    """
    camera_from_mesh = np.linalg.inv(frame.mesh_from_camera)
    local = points @ camera_from_mesh[:3, :3].T + camera_from_mesh[:3, 3]
    z = np.maximum(local[:, 2], 1e-3)

    def pixels(intrinsics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        u = np.floor(intrinsics[0, 0] * local[:, 0] / z + intrinsics[0, 2])
        v = np.floor(intrinsics[1, 1] * local[:, 1] / z + intrinsics[1, 2])
        return u, v

    def inside(u: np.ndarray, v: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        return (local[:, 2] > 0.1) & (u >= 0) & (u < size[0]) & (v >= 0) & (v < size[1])

    u, v = pixels(frame.color_intrinsics)
    shown = inside(u, v, frame.color_size)
    if min(frame.depth_size) > 0:
        depth = images.depth(frame) / 1000.0
        column, row = pixels(frame.depth_intrinsics)
        shown &= inside(column, row, (depth.shape[1], depth.shape[0]))
        at = np.flatnonzero(shown)
        measured = depth[row[at].astype(int), column[at].astype(int)]
        near = np.abs(measured - z[at]) < np.maximum(TOLERANCE, TOLERANCE * z[at])
        shown[at[~near]] = False
    at = np.flatnonzero(shown)
    if len(at) < LEAST_VERTICES:
        return float("nan")
    picture = images.color(frame)[v[at].astype(int), u[at].astype(int)] @ GREY
    if picture.std() < LEAST_CONTRAST or grey[at].std() < LEAST_CONTRAST:
        return float("nan")
    return float(np.corrcoef(picture, grey[at])[0, 1])


def _median(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.median(known)) if known else float("nan")


def quality(
    mesh: Mesh, frames: Sequence[ScanFrame], images: Images, agreement: np.ndarray
) -> Quality:
    """`agreement` (F,) is each frame's share of measured depth on the mesh, as `views` finds it."""
    rows = np.unique(np.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).round().astype(int))
    chosen = slice(None, None, max(1, -(-len(mesh.points) // VERTICES)))
    points, grey = mesh.points[chosen].astype(np.float64), mesh.colors[chosen] @ GREY
    return Quality(
        depth_agreement=_median([float(share) for share in agreement]),
        reprojection=_median([_reprojection(frames[row], images, points, grey) for row in rows]),
    )
