"""Which frames of a scan to keep: those that together show most of it. Deterministic.

Greedy maximum coverage, as in the published selection (Video-3D-LLM's maximum coverage sampling):
the scan is cut into voxels, each candidate frame shows some of them, and the frame that adds the
most new ones is taken next. Ties go to the lowest frame id.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data_pipelines.scan import Images, Mesh, ScanError, ScanFrame, Skipped

VOXEL = 0.1  # metres
CANDIDATES = 160  # frames at most whose depth is read, evenly strided
PIXELS = 20_000  # depth pixels of a frame that are back-projected, about
NEAR, DEEP = 0.1, 10.0  # metres; measurements outside are no surfaces of the room
BEHIND = 0.05  # share of its depth by which a vertex lies behind a nearer one to be hidden by it
COARSE = 48  # columns of the grid of pixels in which vertices hide one another


class Coverage(NamedTuple):
    frames: tuple[ScanFrame, ...]  # ascending by id
    colors: dict[int, np.ndarray]  # their pictures by frame id: only those that decode are kept
    share: float  # of the candidates' voxels that the frames show
    skipped: tuple[Skipped, ...]


def candidates(frames: Sequence[ScanFrame], most: int = CANDIDATES) -> tuple[ScanFrame, ...]:
    """Every k-th frame, k the smallest that leaves at most `most`."""
    stride = max(1, -(-len(frames) // most))
    return tuple(frames[::stride])


def _voxels(points: np.ndarray) -> np.ndarray:
    """(k, 3) points in metres -> sorted distinct voxels as int64 codes, 21 bits an axis."""
    at = np.floor(points / VOXEL).astype(np.int64) + (1 << 20)
    return np.unique((at[:, 0] << 42) | (at[:, 1] << 21) | at[:, 2])


def seen_in_depth(frame: ScanFrame, depth: np.ndarray) -> np.ndarray:
    """Voxels of a depth image's back-projected pixels; every k-th row and column."""
    step = max(1, round(np.sqrt(depth.size / PIXELS)))
    rows, columns = np.mgrid[step // 2 : depth.shape[0] : step, step // 2 : depth.shape[1] : step]
    z = depth[rows, columns].ravel() / 1000.0
    k = frame.depth_intrinsics
    x = (columns.ravel() + 0.5 - k[0, 2]) / k[0, 0] * z
    y = (rows.ravel() + 0.5 - k[1, 2]) / k[1, 1] * z
    good = (z > NEAR) & (z < DEEP)
    points = np.stack([x, y, z], -1)[good]
    pose = frame.mesh_from_camera
    return _voxels(points @ pose[:3, :3].T + pose[:3, 3])


def seen_of_mesh(frame: ScanFrame, points: np.ndarray) -> np.ndarray:
    """Voxels of the (V, 3) vertices that a frame without depth shows: inside the picture, and not
    behind a nearer one in the same cell of a coarse grid.
    """
    camera_from_mesh = np.linalg.inv(frame.mesh_from_camera)
    local = points @ camera_from_mesh[:3, :3].T + camera_from_mesh[:3, 3]
    width, height = frame.color_size
    z = np.where(local[:, 2] > NEAR, local[:, 2], np.inf)
    u = frame.color_intrinsics[0, 0] * local[:, 0] / z + frame.color_intrinsics[0, 2]
    v = frame.color_intrinsics[1, 1] * local[:, 1] / z + frame.color_intrinsics[1, 2]
    inside = np.flatnonzero((z < DEEP) & (u >= 0) & (u < width) & (v >= 0) & (v < height))
    cell = width / COARSE
    across = COARSE + 1
    code = (v[inside] // cell).astype(int) * across + (u[inside] // cell).astype(int)
    nearest = np.full(code.max(initial=0) + 1, np.inf)
    np.minimum.at(nearest, code, z[inside])
    shown = z[inside] <= nearest[code] * (1 + BEHIND)
    return _voxels(points[inside[shown]])


def select(frames: Sequence[ScanFrame], images: Images, mesh: Mesh, *, most: int = 32) -> Coverage:
    """At most `most` frames; fewer where the rest would add nothing.

    A candidate whose depth or picture does not decode is skipped, with the reason.
    """
    skipped: list[Skipped] = []
    usable: list[ScanFrame] = []
    seen: list[np.ndarray] = []
    points = mesh.points.astype(np.float64)
    for frame in candidates(frames):
        try:
            if frame.depth_size == (0, 0):
                seen.append(seen_of_mesh(frame, points))
            else:
                seen.append(seen_in_depth(frame, images.depth(frame)))
        except ScanError as error:
            skipped.append(Skipped(f"frame {frame.source}", str(error)))
            continue
        usable.append(frame)
    everything = np.unique(np.concatenate(seen)) if seen else np.zeros(0, np.int64)
    shows = np.zeros((len(usable), len(everything)), bool)
    for row, voxels in enumerate(seen):
        shows[row, np.searchsorted(everything, voxels)] = True
    chosen: list[int] = []
    colors: dict[int, np.ndarray] = {}
    open_voxels = np.ones(len(everything), bool)
    gain = shows.sum(1)
    while len(chosen) < most and len(gain) and gain.max() > 0:
        best = int(np.argmax(gain))  # the first of equals
        try:
            colors[usable[best].frame_id] = images.color(usable[best])
        except ScanError as error:
            skipped.append(Skipped(f"frame {usable[best].source}", str(error)))
            shows[best] = False
        else:
            chosen.append(best)
            open_voxels &= ~shows[best]
        gain = (shows & open_voxels).sum(1)
    kept = tuple(usable[row] for row in sorted(chosen))
    share = 1.0 - float(open_voxels.mean()) if len(everything) else 0.0
    return Coverage(kept, colors, share, tuple(skipped))
