"""How well the parts of a scan agree: one number for the geometry, one for the pictures."""

from collections.abc import Sequence

import numpy as np

from data_pipelines.reprojection import look_up, project
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
    if min(frame.depth_size) > 0:  # vertices that lie on the depth image are those that are seen
        pixels, z = project(points, frame.mesh_from_camera, frame.depth_intrinsics)
        inside, millimetres = look_up(images.depth(frame), pixels, z)
        near = np.abs(millimetres / 1000.0 - z) < np.maximum(TOLERANCE, TOLERANCE * z)
        points, grey = points[inside & near], grey[inside & near]
    pixels, z = project(points, frame.mesh_from_camera, frame.color_intrinsics)
    inside, colors = look_up(images.color(frame), pixels, z)
    picture, grey = colors[inside] @ GREY, grey[inside]
    if len(grey) < LEAST_VERTICES or min(picture.std(), grey.std()) < LEAST_CONTRAST:
        return float("nan")
    return float(np.corrcoef(picture, grey)[0, 1])


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
