"""Why measured depth does not lie on the mesh: another depth scale, one small rigid motion of the
poses (found by point-to-plane registration), or the pose of another frame.

A measured point lies on the mesh when it is near the plane through the vertices around it. This
resolves decimetres and degrees, which the share of vertices on a depth image does not: along a ray
that grazes a wall, a shift of the camera hardly shows. In generated rooms 0.74 to 1 of a frame's
points lie on the mesh, 0.85 to 0.95 of a scene's; with all poses off by 0.2 m it is at most 0.75 of
a scene's, and with the pose of another frame at most 0.5 of the frame's.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from data_pipelines import reprojection
from data_pipelines.reprojection import LEAST_POINTS, NONE, Evidence, Frame, Mistake

SAMPLES = 150  # of a depth image, about
FARTHEST = 5.0  # metres; sensors measure what is beyond poorly
AROUND = 8  # vertices that make a plane
ON_PLANE = (0.04, 0.02)  # metres, share of depth
SOUND, SOUND_MEAN = 0.7, 0.85  # of the points of a frame, of all: below it a cause is looked for
# What a cause must do for frames together, and for a frame alone, whose points tell less.
FITS, OWN_FITS = 0.6, 0.7  # share of a frame's points on the mesh, once it is undone
GAIN, OWN_GAIN = 0.1, 0.25  # of that share
LEAST_MOTION, LEAST_OWN_MOTION = (0.1, 2.0), (0.15, 3.0)  # metres, degrees; less is noise
FOREIGN = 0.4  # below it a pose that two frames have is not the frame's own
ANNEALING = (0.5, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3, 0.3, 0.15, 0.15, 0.15, 0.08, 0.08, 0.08)  # metres
DAMPING = 1e-3  # of the weight of all points, so that what they do not tell stays as it is
MOST_MOTION = (0.75, 15.0)  # more is no slip of a pose
LEAST_SCALE = 0.03  # of the logarithm of a factor on depth
NEIGHBOURS = 4  # poses before and after a frame's own that are tried, of frames not selected
PLAIN = 0.05  # of a share, by which a motion of its own must beat another frame's pose
SAME_POSE = 1e-5  # between the numbers of a pose that was copied
WORLD = 1e6  # metres; points farther out are as good as there


class Cause(NamedTuple):
    """Why the depth of some frames lies beside the mesh."""

    code: str
    what: str  # what was expected and what is there; a sentence
    poses: dict[int, np.ndarray]  # (4, 4) mesh_from_camera by row, with the cause undone
    gain: float  # by which shares on the mesh grow then, summed over these frames


# --- points and planes ---------------------------------------------------------------------------


def measured_points(frame: Frame, mistake: Mistake = NONE) -> np.ndarray:
    """(k, 3) camera metres on a grid over a frame's depth image, with a mistake undone."""
    if frame.depth is None:
        return np.zeros((0, 3))
    depth = np.rot90(frame.depth, mistake.turns)
    height, width = depth.shape
    step = max(1, int(np.sqrt(height * width / SAMPLES)))
    row, column = np.mgrid[step // 2 : height : step, step // 2 : width : step].reshape(2, -1)
    z = depth[row, column] * float(mistake.depth_factor)
    (fx, _, cx), (_, fy, cy), _ = frame.depth_intrinsics * mistake.zoom
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        points = np.column_stack([(column + 0.5 - cx) / fx * z, (row + 0.5 - cy) / fy * z, z])
    return points[(z > 0) & np.isfinite(points).all(1)]


def _moved(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return (points @ matrix[:3, :3].T + matrix[:3, 3]).clip(-WORLD, WORLD)


def planes(mesh: KDTree, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signed distances (k,) of points (k, 3) to the planes of the vertices around them, and the
    planes' normals (k, 3).
    """
    around = mesh.data[mesh.query(points, AROUND)[1]]
    middle = around.mean(1)
    spread = around - middle[:, None]
    _, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", spread, spread))
    normal = axes[:, :, 0]
    return np.einsum("ni,ni->n", points - middle, normal), normal


def share_on_mesh(mesh: KDTree, points: np.ndarray, pose: np.ndarray) -> float:
    """Share of camera points (k, 3) that lie on the mesh; NaN where too few are near enough."""
    points = points[points[:, 2] <= FARTHEST]
    if len(points) < LEAST_POINTS:
        return float("nan")
    distance, _ = planes(mesh, _moved(points, pose))
    return float((np.abs(distance) <= np.maximum(ON_PLANE[0], ON_PLANE[1] * points[:, 2])).mean())


def register(mesh: KDTree, points: np.ndarray) -> np.ndarray:
    """(4, 4) rigid motion that brings points (k, 3) onto the mesh: point-to-plane steps, in which
    points farther than a shrinking distance count less and less (Geman-McClure).
    """
    motion = np.eye(4)
    for reach in ANNEALING:
        moved = _moved(points, motion)
        distance, normal = planes(mesh, moved)
        weight = (1 + (distance / reach) ** 2) ** -2
        middle = moved.mean(0)
        # d distance / d (turn about the middle, shift)
        slope = np.hstack([np.cross(moved - middle, normal), normal])
        normal_matrix = (slope * weight[:, None]).T @ slope + DAMPING * len(points) * np.eye(6)
        step = np.linalg.solve(normal_matrix, -(slope * weight[:, None]).T @ distance)
        small = np.eye(4)
        small[:3, :3] = Rotation.from_rotvec(step[:3]).as_matrix()
        small[:3, 3] = middle + step[3:] - small[:3, :3] @ middle
        motion = small @ motion
    return motion


def _size(motion: np.ndarray, poses: np.ndarray) -> tuple[float, float]:
    """How far a motion takes cameras (F, 4, 4) on average, metres, and turns them, degrees."""
    places = poses[:, :3, 3]
    metres = np.linalg.norm(_moved(places, motion) - places, axis=1).mean()
    return float(metres), float(np.rad2deg(Rotation.from_matrix(motion[:3, :3]).magnitude()))


# --- causes --------------------------------------------------------------------------------------


class _Depth(NamedTuple):
    """The mesh and what frames measured, by row."""

    mesh: KDTree
    points: dict[int, np.ndarray]  # (k, 3) camera
    before: dict[int, float]  # share on the mesh as things are

    def undone(
        self, code: str, words: str, poses: dict[int, np.ndarray], factor: float = 1.0
    ) -> list[Cause]:
        """The cause, if these poses and this factor on depth put frames on the mesh."""
        after = {
            row: share_on_mesh(self.mesh, self.points[row] * factor, pose)
            for row, pose in poses.items()
        }
        fits, gain = (FITS, GAIN) if len(poses) > 1 else (OWN_FITS, OWN_GAIN)
        fixed = [row for row, share in after.items() if share >= max(fits, self.before[row])]
        if not fixed:
            return []
        old, new = (np.mean([shares[row] for row in fixed]) for shares in (self.before, after))
        if new - old < gain:
            return []
        what = f"expected depth on the mesh, found {old:.0%} of it there; {new:.0%} would be if "
        right = {row: poses[row] for row in fixed}
        return [Cause(code, f"{what}{words}.", right, float(new - old) * len(fixed))]


def _motion(depth: _Depth, poses: dict[int, np.ndarray]) -> list[Cause]:
    """These frames moved as one, by more than noise and less than another place."""
    seen = [_moved(depth.points[row], pose) for row, pose in poses.items()]
    motion = register(depth.mesh, np.concatenate(seen))
    metres, degrees = _size(motion, np.array(list(poses.values())))
    least = LEAST_MOTION if len(poses) > 1 else LEAST_OWN_MOTION
    if metres < least[0] and degrees < least[1]:
        return []
    if metres > MOST_MOTION[0] or degrees > MOST_MOTION[1]:
        return []
    words = f"the camera were moved by {metres:.2f} m and turned by {degrees:.1f} degrees"
    return depth.undone("pose_shifted", words, {row: motion @ one for row, one in poses.items()})


def _scale(evidence: Evidence, depth: _Depth, poses: dict[int, np.ndarray]) -> list[Cause]:
    """Depth of these frames in one other unit."""
    factor = reprojection.depth_factor(evidence, tuple(poses))
    if factor is None or abs(np.log(factor)) < LEAST_SCALE:
        return []
    words = f"depth were divided by {1 / factor:.3g}"
    return depth.undone("depth_unit", words, poses, factor)


def _other_poses(evidence: Evidence, row: int) -> dict[int, np.ndarray]:
    """Poses of the other selected frames and of the frame's neighbours, by frame id."""
    own, known = evidence.frames[row].frame_id, sorted(evidence.known_poses)
    at = int(np.searchsorted(known, own))
    near = known[max(0, at - NEIGHBOURS) : at + NEIGHBOURS + 1]
    others = {number: evidence.known_poses[number] for number in near}
    others |= {frame.frame_id: frame.mesh_from_camera for frame in evidence.frames}
    return {number: pose for number, pose in others.items() if number != own}


def _copied(evidence: Evidence, depth: _Depth, row: int) -> list[Cause]:
    """A pose that another frame has, too, where depth is foreign to it; the right one is lost."""
    pose = evidence.frames[row].mesh_from_camera
    if depth.before[row] < FOREIGN:
        for number, other in _other_poses(evidence, row).items():
            if np.abs(other - pose).max() <= SAME_POSE:
                what = (
                    f"expected a pose under which depth lies on the mesh, found that of frame "
                    f"{number}, under which {depth.before[row]:.0%} does."
                )
                return [Cause("other_frame", what, {row: pose}, 0.0)]
    return []


def _own_cause(evidence: Evidence, depth: _Depth, row: int) -> list[Cause]:
    """What puts this frame alone on the mesh; another frame's pose rather than a motion."""
    poses = {row: evidence.frames[row].mesh_from_camera}
    found = _scale(evidence, depth, poses) + _motion(depth, poses)
    for number, other in _other_poses(evidence, row).items():
        words = f"the pose were that of frame {number}"
        found += depth.undone("other_frame", words, {row: other})
    likely = {"other_frame": PLAIN}
    return sorted(found, key=lambda one: one.gain + likely.get(one.code, 0.0))[-1:]


def causes(evidence: Evidence, mesh: KDTree, rows: Sequence[int], zoom: float) -> list[Cause]:
    """Why depth of these frames lies beside the mesh; frames that no cause explains are left out.

    Args:
        rows: of frames with depth.
        zoom: factor that puts intrinsics of depth right.
    """
    known = NONE._replace(zoom=zoom)
    points = {row: measured_points(evidence.frames[row], known) for row in rows}
    shares = {
        row: share_on_mesh(mesh, points[row], evidence.frames[row].mesh_from_camera) for row in rows
    }
    before = {row: share for row, share in shares.items() if not np.isnan(share)}
    low = {row for row, share in before.items() if share < SOUND}
    if not before or (not low and np.mean(list(before.values())) >= SOUND_MEAN):
        return []
    depth = _Depth(mesh, points, before)
    found = [one for row in sorted(low) for one in _copied(evidence, depth, row)]
    left = set(before) - {row for one in found for row in one.poses}
    if len(left) > 1:
        poses = {row: evidence.frames[row].mesh_from_camera for row in sorted(left)}
        shared = [
            one
            for one in _scale(evidence, depth, poses) + _motion(depth, poses)
            if len(one.poses) > 1 and 2 * len(low & set(one.poses)) >= len(low)
        ]
        found += sorted(shared, key=lambda one: one.gain)[-1:]
        left -= {row for one in found for row in one.poses}
    return found + [one for row in sorted(left & low) for one in _own_cause(evidence, depth, row)]
