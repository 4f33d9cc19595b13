"""Whether the mesh, the depth images, the poses and the object records of a scene tell one story,
and if not, which known mistake makes them do so.

Three witnesses, each blind to what the others see: vertices of the mesh against depth images
(poses, depth, intrinsics; no alignment), what frames say of objects against their boxes (poses and
alignment; no mesh), and groups of mesh vertices against the boxes (alignment; no poses).
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

DEPTH_TOLERANCE = (0.06, 0.03)  # a vertex lies on the measured surface: metres, share of depth
NEAR = 0.05  # metres; what is nearer to a camera says nothing
BEHIND_WEIGHT = 0.1  # vertices behind what was measured may well be hidden
LEAST_POINTS = 50  # vertices in a frame that judge its depth
LEAST_COLORS = 200  # vertices in a frame that judge its picture
GOOD = 0.5  # of a witness, 1 where everything agrees
BETTER = 0.15  # a mistake is named when undoing it makes a witness so much better
BOX_MATCH = (0.08, 0.08)  # a box fits vertices: metres, share of its longest side
REFINEMENTS = 4
LOCATION_REACH = (0.1, 0.15)  # a seen middle lies in its box: metres, share of the diagonal

# ScanNet++ writes poses of its mesh in the world and camera axes of nerfstudio.
OPENGL_FROM_OPENCV = np.diag([1.0, -1, -1, 1])
NERFSTUDIO_WORLD = np.array([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]])
DEPTH_UNITS = {  # factor from what is stored to millimetres -> what it is then stored in
    1000.0: "metres",
    10.0: "centimetres",
    0.1: "tenths of a millimetre",
    0.2: "1/5000 of a metre",
    0.25: "1/4000 of a metre",
    0.001: "micrometres",
}


class Frame(NamedTuple):
    """One frame whose pose is finite."""

    frame_id: int
    mesh_from_camera: np.ndarray  # (4, 4)
    color_intrinsics: np.ndarray  # (3, 3) pixels of the picture
    depth_intrinsics: np.ndarray  # (3, 3) pixels of the depth image
    color: np.ndarray | None  # (H, W, 3) uint8
    depth: np.ndarray | None  # (h, w) f32 metres, 0 where nothing was measured


class Sighting(NamedTuple):
    """What a frame's record says of one object."""

    row: int  # of the frame
    box: np.ndarray  # (6,) axis-aligned, world
    location: np.ndarray  # (3,) middle of what is seen, in the camera


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What a scene folder says about its geometry."""

    frames: tuple[Frame, ...]
    alignment: np.ndarray  # (4, 4) world_from_mesh
    points: np.ndarray  # (V, 3) vertices, in the mesh frame
    colors: np.ndarray  # (V, 3) uint8
    groups: tuple[tuple[int, str, np.ndarray], ...]  # object id, label, (k, 3) vertices
    boxes: tuple[tuple[int, str, np.ndarray], ...]  # object id, label, (6,) world box
    sightings: tuple[Sighting, ...]
    known_poses: Mapping[int, np.ndarray]  # (4, 4) by frame id, also of frames without a picture

    @property
    def poses(self) -> np.ndarray:
        """(F, 4, 4) mesh_from_camera."""
        return np.array([frame.mesh_from_camera for frame in self.frames]).reshape(-1, 4, 4)


class Mistake(NamedTuple):
    """Something that people get wrong, with how to undo it."""

    code: str
    words: str
    undo_pose: Callable[[np.ndarray], np.ndarray] = lambda poses: poses  # (F, 4, 4) both
    depth_factor: float = 1.0  # right depth from what is stored
    turns: int = 0  # quarter turns, counter-clockwise, that put the stored images right
    zoom: float = 1.0  # right intrinsics from those stored


NONE = Mistake("", "")


# --- mesh against depth --------------------------------------------------------------------------


def project(
    points: np.ndarray, pose: np.ndarray, intrinsics: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Points (k, 3) in a camera (4, 4): pixels (k, 2) and depth (k,); pixels mean nothing where the
    depth is not above `NEAR`.
    """
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    depth = local[:, 2]
    safe = np.where(depth > NEAR, depth, 1.0)
    pixels = local[:, :2] / safe[:, None] * intrinsics[[0, 1], [0, 1]] + intrinsics[:2, 2]
    return pixels, depth


def look_up(
    image: np.ndarray, pixels: np.ndarray, depth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which points fall into the image, and its values there."""
    height, width = image.shape[:2]
    inside = (depth > NEAR) & (pixels >= 0).all(1) & (pixels < [width, height]).all(1)
    column, row = np.floor(np.where(inside[:, None], pixels, 0)).astype(int).T
    return inside, image[row, column]


def _zoomed(intrinsics: np.ndarray, zoom: float) -> np.ndarray:
    return intrinsics * np.array([[zoom], [zoom], [1.0]])


def depth_counts(
    evidence: Evidence, row: int, pose: np.ndarray, mistake: Mistake = NONE
) -> np.ndarray:
    """(3,) vertices that lie on the depth image of a frame, before it, behind it."""
    frame = evidence.frames[row]
    if frame.depth is None or not len(evidence.points):
        return np.zeros(3)
    stored = np.rot90(frame.depth, mistake.turns)
    pixels, z = project(evidence.points, pose, _zoomed(frame.depth_intrinsics, mistake.zoom))
    inside, measured = look_up(stored, pixels, z)
    use = inside & (measured > 0)
    z, measured = z[use], measured[use] * mistake.depth_factor
    # Stored numbers are whole: half a step of them is no disagreement either.
    step = 0.0006 * mistake.depth_factor if mistake.depth_factor > 1 else 0.0
    tolerance = np.maximum(max(DEPTH_TOLERANCE[0], step), DEPTH_TOLERANCE[1] * z)
    on = np.abs(z - measured) <= tolerance
    return np.array([on.sum(), (~on & (z < measured)).sum(), (~on & (z > measured)).sum()])


def depth_score(counts: np.ndarray) -> float:
    """(..., 3) counts -> 0 to 1; NaN where there are too few points to say."""
    on, before, behind = counts.reshape(-1, 3).sum(0)
    if on + before + behind < LEAST_POINTS:
        return float("nan")
    return float(on / (on + before + BEHIND_WEIGHT * behind))


def depth_factor(evidence: Evidence, rows: Sequence[int]) -> float | None:
    """The factor on depth at which most vertices would lie on it; None where no depth meets any."""
    ratios = []
    for row in rows:
        frame = evidence.frames[row]
        if frame.depth is None:
            continue
        pixels, z = project(evidence.points, frame.mesh_from_camera, frame.depth_intrinsics)
        inside, measured = look_up(frame.depth, pixels, z)
        use = inside & (measured > 0)
        ratios.append(np.log(z[use] / measured[use]))
    together = np.concatenate([np.zeros(0), *ratios])
    if not len(together):
        return None
    edges = np.arange(np.log(1e-4), np.log(1e4), 0.02)
    count, _ = np.histogram(together, edges)
    smooth = np.convolve(count, [1, 2, 1], "same")
    return float(np.exp(edges[np.argmax(smooth)] + 0.01))


# --- records against boxes -----------------------------------------------------------------------


def sighting_scores(
    evidence: Evidence, poses: np.ndarray, alignment: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(S,) frame rows, and whether the middle of what was seen lies in the object's box."""
    rows = np.array([one.row for one in evidence.sightings], int)
    if not len(rows):
        return rows, np.zeros(0, bool)
    boxes = np.array([one.box for one in evidence.sightings])
    local = np.array([one.location for one in evidence.sightings])
    world_from_camera = alignment @ poses[rows]
    world = np.einsum("nij,nj->ni", world_from_camera[:, :3, :3], local)
    world += world_from_camera[:, :3, 3]
    outside = np.maximum(boxes[:, :3] - world, world - boxes[:, 3:]).clip(0)
    diagonal = np.linalg.norm(boxes[:, 3:] - boxes[:, :3], axis=1)
    reach = LOCATION_REACH[0] + LOCATION_REACH[1] * diagonal
    return rows, np.linalg.norm(outside, axis=1) <= reach


def sighting_score(
    evidence: Evidence, rows: Sequence[int], poses: np.ndarray, alignment: np.ndarray
) -> float:
    """Share of the sightings of some frames that lie in their boxes; NaN without any."""
    of, good = sighting_scores(evidence, poses, alignment)
    own = np.isin(of, list(rows))
    return float(good[own].mean()) if own.any() else float("nan")


# --- groups against boxes ------------------------------------------------------------------------


def _bounds(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(6,) minima and maxima of transformed points."""
    moved = points @ matrix[:3, :3].T + matrix[:3, 3]
    return np.concatenate([moved.min(0), moved.max(0)])


def box_score(evidence: Evidence, alignment: np.ndarray) -> float:
    """Share of the objects whose box is that of some group of vertices; NaN without any.

    Any group will do: ids and labels are not what is judged here.
    """
    if not evidence.groups or not evidence.boxes:
        return float("nan")
    found = np.array([_bounds(points, alignment) for _, _, points in evidence.groups])
    fits = []
    for _, _, box in evidence.boxes:
        error = np.abs(found - box).max(1).min()
        fits.append(error <= BOX_MATCH[0] + BOX_MATCH[1] * (box[3:] - box[:3]).max())
    return float(np.mean(fits))


def _fit_level(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(4, 4) turn about z and shift that brings points (k, 3) closest to others, least squares."""
    a, b = source - source.mean(0), target - target.mean(0)
    sine = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()
    angle = np.arctan2(sine, (a[:, :2] * b[:, :2]).sum())
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = target.mean(0) - matrix[:3, :3] @ source.mean(0)
    return matrix


Pairs = list[tuple[np.ndarray, np.ndarray]]  # (k, 3) vertices, (6,) box, of one object


def _pairs(evidence: Evidence) -> Iterator[Pairs]:
    """Groups and boxes that may be the same objects: by id, then by label."""
    groups = {number: points for number, _, points in evidence.groups}
    yield [(groups[number], box) for number, _, box in evidence.boxes if number in groups]
    group_labels = [label for _, label, _ in evidence.groups]
    box_labels = [label for _, label, _ in evidence.boxes]
    yield [
        (evidence.groups[group_labels.index(label)][2], box)
        for _, label, box in evidence.boxes
        if box_labels.count(label) == group_labels.count(label) == 1
    ]


def _fit_pairs(pairs: Pairs) -> np.ndarray:
    """(4, 4) level transform that brings the bounds of vertices onto their boxes."""
    target = np.array([(box[:3] + box[3:]) / 2 for _, box in pairs])
    matrix = np.eye(4)
    for _ in range(REFINEMENTS):
        # The middle of the bounds depends on the turn, for all but symmetric things.
        bounds = np.array([_bounds(points, matrix) for points, _ in pairs])
        middle = (bounds[:, :3] + bounds[:, 3:]) / 2
        matrix = _fit_level((middle - matrix[:3, 3]) @ matrix[:3, :3], target)
    return matrix


def fit_alignment(evidence: Evidence, poses: np.ndarray) -> np.ndarray | None:
    """The world_from_mesh, a turn about z and a shift, at which boxes fit their groups of vertices,
    or without groups at which they hold what frames see of them; None where there is none.
    """
    if evidence.groups:
        fits = [_fit_pairs(pairs) for pairs in _pairs(evidence) if len(pairs) > 1]
        scores = [box_score(evidence, matrix) for matrix in fits]
    elif len(evidence.sightings) > 1:
        rows = np.array([one.row for one in evidence.sightings])
        local = np.array([np.append(one.location, 1) for one in evidence.sightings])
        seen = np.einsum("nij,nj->ni", poses[rows], local)[:, :3]
        boxes = np.array([one.box for one in evidence.sightings])
        fits = [_fit_level(seen, (boxes[:, :3] + boxes[:, 3:]) / 2)]
        scores = [sighting_score(evidence, range(len(poses)), poses, fits[0])]
    else:
        return None
    if not scores or max(scores) < GOOD:
        return None
    return fits[int(np.argmax(scores))]


# --- pictures against the mesh's colours ----------------------------------------------------------


def color_scores(evidence: Evidence, row: int, pictures: Sequence[np.ndarray]) -> np.ndarray:
    """(k,) correlation of the mesh's colours with those of pictures (H, W, 3), at the vertices that
    a frame sees; NaN where too few are, or all of one colour.
    """
    frame, scores = evidence.frames[row], np.full(len(pictures), np.nan)
    if not len(evidence.points):
        return scores
    points, colors = evidence.points, evidence.colors.astype(np.float32)
    if frame.depth is not None:  # vertices that lie on it are those that are seen
        at, z = project(points, frame.mesh_from_camera, frame.depth_intrinsics)
        there, measured = look_up(frame.depth, at, z)
        there &= np.abs(z - measured) <= DEPTH_TOLERANCE[0] + DEPTH_TOLERANCE[1] * z
        points, colors = points[there], colors[there]
    pixels, z = project(points, frame.mesh_from_camera, frame.color_intrinsics)
    for index, picture in enumerate(pictures):
        inside, seen = look_up(picture, pixels, z)
        if inside.sum() >= LEAST_COLORS:
            scores[index] = _correlation(colors[inside], seen[inside].astype(np.float32))
    return scores


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Of (n, 3) colours, each channel about its mean."""
    one, other = one - one.mean(0), other - other.mean(0)
    norm = np.sqrt((one**2).sum() * (other**2).sum())
    return float((one * other).sum() / norm) if norm > 1e-3 else float("nan")
