"""Looks through a scene in the unified layout and says in words what is wrong with it.

Files first, then geometry: where mesh, depth, poses and records disagree, each known mistake is
undone in turn, and the one that makes them agree is named.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from data_pipelines import registration, reprojection, scene_files
from data_pipelines.findings import Finding
from data_pipelines.reprojection import BETTER, GOOD, Evidence, Mistake
from data_pipelines.scene_files import SceneFiles, shown

SUSPECT = 0.4  # of a frame's depth: below it a mistake is looked for
WRONG = 0.25  # below it the frame is said to be wrong though no mistake explains it
CENTRE = np.log(1.25)  # how far from the middle a principal point may lie, as a ratio
TURNED = 0.3  # of the correlation of colours, by which a turned picture fits better
SAME_TURN, SAME_PLACE = np.deg2rad(4), 0.25  # alignments that are one: radians, metres
LEAST_STRANGE = 2  # pictures that are other frames': numbers that are off make more than one so
LEAST_SIGHTINGS = 2  # of a frame that judge its pose
LATER = 0.002  # of a score, by which a mistake must beat a likelier one
METRES_AS_INTEGERS = 0.05  # metres; depth that nowhere exceeds it is of another unit


Add = Callable[[Finding], None]


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What was found; nothing means that the scene is good."""

    scene_id: str
    findings: tuple[Finding, ...]


def list_folders(root: Path) -> tuple[tuple[str, str], ...]:
    """(split, scene id) of all scenes, also of those that lack a folder (split "") or metadata."""
    found = {
        (split.name, folder.name)
        for split in root.iterdir()
        if split.is_dir() and split.name != "metadata" and not split.name.startswith(".")
        for folder in split.iterdir()
        if folder.is_dir() and not folder.name.startswith(".")
    }
    names = {name for _, name in found}
    metadata = root / "metadata"
    orphans = metadata.iterdir() if metadata.is_dir() else ()
    found |= {
        ("", path.name)
        for path in orphans
        if path.is_dir() and path.name not in names and not path.name.startswith(".")
    }
    return tuple(sorted(found))


def diagnose(root: Path, split: str, scene_id: str) -> Diagnosis:
    """Everything that is wrong with a scene; its split is "" where only metadata is there."""
    if not split:
        what = "expected a scene folder in train/ or val/ beside the metadata, found none."
        return Diagnosis(scene_id, (Finding("missing_file", scene_id, what),))
    files = scene_files.open_scene(root / split / scene_id, root / "metadata" / scene_id)
    try:
        _look_through(files)
    except OSError as error:  # no right to read, a disk that fails: one scene of many
        name = Path(error.filename).name if error.filename else scene_id
        files.add("damaged_file", name, f"expected a readable file ({error.strerror or error}).")
    return Diagnosis(scene_id, tuple(dict.fromkeys(files.findings)))


def _look_through(files: SceneFiles) -> None:
    scene_files.check_presence(files)
    scene_files.check_frame_sets(files)
    poses = scene_files.read_poses(files)
    pixels = scene_files.check_images(files)
    scene, records = scene_files.check_records(files)
    evidence = scene_files.gather(files, poses, pixels, scene, records)
    scene_files.check_loading(files)
    sizes = {number: record.get("image_size") for number, record in records.items()}
    check_geometry(files, evidence, sizes)


def check_geometry(files: SceneFiles, evidence: Evidence, sizes: Mapping[int, Any]) -> None:
    """Adds a finding for each way in which the witnesses disagree, one of a kind.

    Args:
        sizes: `image_size` of the records, by frame id.
    """
    found: dict[str, Finding] = {}

    def add(finding: Finding) -> None:
        found.setdefault(finding.code, finding)

    zoom = _check_sizes(evidence, sizes, add)
    poses, suspect = _check_frames(evidence, zoom, add)
    _check_pictures(evidence, suspect, add)
    if not files.path(".txt").is_file():
        files.findings.extend(found.values())
        return  # without the alignment, boxes are not where they should be
    _check_alignment(files, evidence, poses, add)
    judged = set(found) - {"resolution", "rotated_frame", "depth_unit"}
    if not judged and not suspect:
        _check_sightings(evidence, poses, add)
    files.findings.extend(found.values())


# --- sizes ---------------------------------------------------------------------------------------


def _centre_ratios(intrinsics: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(2,) logarithms: twice the principal point by the image's width and height."""
    return np.log(np.maximum(2 * intrinsics[:2, 2], 1e-9) / np.array([shape[1], shape[0]]))


def _turned(ratios: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether the intrinsics are those of the image with its sides swapped."""
    swapped = np.log(shape[0] / shape[1])
    return bool(abs(swapped) > 0.1 and np.abs(ratios - [swapped, -swapped]).max() < 0.1)


def _check_sizes(evidence: Evidence, sizes: Mapping[int, Any], add: Add) -> float:
    """Intrinsics against the sizes of images. Returns the factor that puts depth's right."""
    zoom, turned = 1.0, []
    for frame in evidence.frames:
        pictured = (
            ("picture", frame.color, frame.color_intrinsics),
            ("depth", frame.depth, frame.depth_intrinsics),
        )
        for kind, image, intrinsics in pictured:
            if image is None:
                continue
            ratios = _centre_ratios(intrinsics, image.shape)
            size = f"{image.shape[1]}x{image.shape[0]}"
            if np.abs(ratios).max() <= CENTRE:
                continue
            if _turned(ratios, image.shape):
                turned.append(frame.frame_id)
                continue
            factor = float(np.exp(ratios.mean()))
            cx, cy = intrinsics[:2, 2]
            what = (
                f"expected a principal point near the middle of the {kind}'s {size} pixels, got "
                f"{cx:.1f}, {cy:.1f}: intrinsics of images {factor:.3g} times as large."
            )
            add(Finding("resolution", f"frame {frame.frame_id}", what))
            if kind == "depth" and np.ptp(ratios) < CENTRE:
                zoom = 1 / factor
        size = sizes.get(frame.frame_id)
        if frame.color is None or not isinstance(size, list) or len(size) != 2:
            continue
        height, width = frame.color.shape[:2]
        if size != [width, height] and size == [height, width]:
            turned.append(frame.frame_id)
        elif size != [width, height]:
            what = f"expected a picture of {size[0]}x{size[1]} pixels, got {width}x{height}."
            add(Finding("resolution", f"frame {frame.frame_id}", what))
    if turned:
        where = f"frame {shown(set(turned))}"
        what = "expected images as the intrinsics have them, got width and height swapped: turned "
        add(Finding("rotated_frame", where, what + "by 90 or 270 degrees."))
    return zoom


# --- mesh against depth --------------------------------------------------------------------------


def _quarter_turn(turns: int) -> np.ndarray:
    """(4, 4) turn of camera axes about the optical axis, by quarter turns."""
    sine, cosine = ((0, 1), (1, 0), (0, -1), (-1, 0))[turns % 4]
    matrix = np.eye(4)
    matrix[:2, :2] = [[cosine, -sine], [sine, cosine]]
    return matrix


def _mistakes(evidence: Evidence, rows: Sequence[int]) -> list[Mistake]:
    """What may be wrong with poses and depth images of some frames, likelier ones first."""
    flip, world = reprojection.OPENGL_FROM_OPENCV, reprojection.NERFSTUDIO_WORLD
    found = [
        Mistake("pose_inverted", "the poses are world-to-camera, inverted", np.linalg.inv),
        Mistake(
            "camera_axes",
            "the poses' camera axes are those of OpenGL (x right, y up, z backward)",
            lambda poses: poses @ flip,
        ),
        Mistake(
            "nerfstudio_pose",
            "the poses follow ScanNet++'s nerfstudio convention, world axes and camera axes",
            lambda poses: np.linalg.inv(world) @ poses @ flip,
        ),
    ]
    alignment = evidence.alignment
    if not _one_alignment(alignment, np.eye(4), evidence.points):
        inverse = np.linalg.inv(alignment)
        found += [
            Mistake(
                "alignment_twice",
                "the poses are aligned already, the mesh is not: readers align the poses twice",
                lambda poses: inverse @ poses,
            ),
            Mistake(
                "alignment_twice",
                "the mesh is aligned already, the poses are not: readers align the mesh twice",
                lambda poses: alignment @ poses,
            ),
        ]
    for turns in (1, 2, 3):
        words = f"the images are turned by {90 * turns} degrees clockwise against their pose"
        found.append(Mistake("rotated_frame", words, turns=turns))
        found.append(
            Mistake("rotated_frame", words, lambda poses, k=turns: poses @ _quarter_turn(k))
        )
    depths = [evidence.frames[row].depth for row in rows]
    largest = max((float(depth.max()) for depth in depths if depth is not None), default=0.0)
    for factor, unit in reprojection.DEPTH_UNITS.items():
        if factor > 100 and largest > METRES_AS_INTEGERS:
            continue
        words = f"depth is stored in {unit}, not millimetres"
        found.append(Mistake("depth_unit", words, depth_factor=factor))
    return found


def _explanations(
    before: Mapping[int, float], after: Sequence[Mapping[int, float]], suspect: set[int]
) -> list[tuple[int, set[int]]]:
    """Greedy cover: mistakes, as places in `after`, each with the suspect rows that it explains and
    no earlier one does. The mistake that explains most comes first, of equals the likelier one.

    Args:
        before: scores of frames by row, as they are stored.
        after: for each mistake, likelier ones first, scores by row with it undone.
    """
    found, left = [], set(suspect)
    while left:
        fixes = [
            {r for r in left if value[r] >= GOOD and not before[r] > value[r] - BETTER}
            for value in after
        ]
        best = max(
            range(len(after)),
            key=lambda index: sum(after[index][r] - LATER * index for r in fixes[index]),
        )
        if not fixes[best]:
            break
        found.append((best, fixes[best]))
        left -= fixes[best]
    return found


def _check_frames(evidence: Evidence, zoom: float, add: Add) -> tuple[np.ndarray, set[int]]:
    """Frames whose depth the mesh contradicts, and the mistakes that explain it.

    Returns:
        (F, 4, 4) poses with those mistakes undone, and the rows of frames that were suspect.
    """
    poses = evidence.poses.copy()
    usable = [row for row, frame in enumerate(evidence.frames) if frame.depth is not None]
    if not usable:
        return poses, set()
    if all(not frame.depth.any() for frame in evidence.frames if frame.depth is not None):
        add(Finding("damaged_file", "depth/", "expected measurements, got zeros in all frames."))
        return poses, set()
    if len(evidence.points) < reprojection.LEAST_POINTS:
        return poses, set()
    mesh = KDTree(evidence.points)
    none = reprojection.NONE._replace(zoom=zoom)

    def score(row: int, mistake: Mistake) -> float:
        moved = mistake.undo_pose(evidence.poses[row : row + 1])[0]
        counts = reprojection.depth_counts(evidence, row, moved, mistake._replace(zoom=zoom))
        return reprojection.depth_score(counts)

    def undone(row: int, mistake: Mistake) -> float:
        """The score that a mistake explains, which is low where it does so by chance: measured
        points are not on surfaces then. Rounded depth, in metres, never has them there.
        """
        value = score(row, mistake)
        if not value >= GOOD or mistake.depth_factor != 1:
            return value
        points = registration.measured_points(evidence.frames[row], mistake._replace(zoom=zoom))
        moved = mistake.undo_pose(evidence.poses[row : row + 1])[0]
        return float(np.fmin(value, registration.share_on_mesh(mesh, points, moved)))

    before = {row: score(row, none) for row in usable}
    suspect = {row for row, value in before.items() if not value >= SUSPECT}
    left, candidates = set(suspect), _mistakes(evidence, sorted(suspect))
    after = [{row: undone(row, mistake) for row in sorted(suspect)} for mistake in candidates]
    for best, fixed in _explanations(before, after, suspect):
        mistake = candidates[best]
        ids = {evidence.frames[row].frame_id for row in fixed}
        share = np.nanmean([after[best][row] for row in fixed])
        what = (
            f"expected depth that the mesh confirms; it does so, to {share:.0%}, only when "
            f"{mistake.words}."
        )
        every = len(fixed) == len(usable)
        add(Finding(mistake.code, "all frames" if every else f"frame {shown(ids)}", what))
        for row in fixed:
            poses[row] = mistake.undo_pose(evidence.poses[row : row + 1])[0]
        left -= fixed
    unexplained = [row for row in usable if row not in suspect - left]
    placed = _check_places(evidence, mesh, unexplained, zoom, add)
    for row, pose in placed.items():
        poses[row] = pose
    suspect |= set(placed)
    left -= set(placed)
    lost = {row for row in left if before[row] < WRONG}
    if lost:
        ids = {evidence.frames[row].frame_id for row in lost}
        share = np.mean([before[row] for row in lost])
        what = f"expected depth that the mesh confirms, got {share:.0%} of it."
        add(Finding("disagreement", f"frame {shown(ids)}", what))
    return poses, suspect


def _check_places(
    evidence: Evidence, mesh: KDTree, rows: Sequence[int], zoom: float, add: Add
) -> dict[int, np.ndarray]:
    """Frames whose depth lies beside the mesh for a cause that can be told.

    Returns:
        (4, 4) poses by row, with the causes undone.
    """
    every = sum(frame.depth is not None for frame in evidence.frames)
    found = registration.causes(evidence, mesh, rows, zoom)
    for code in dict.fromkeys(one.code for one in found):
        alike = [one for one in found if one.code == code]
        first, *_ = alike
        ids = [evidence.frames[row].frame_id for one in alike for row in one.poses]
        where = "all frames" if len(ids) == every else f"frame {shown(ids)}"
        of = f"frame {evidence.frames[next(iter(first.poses))].frame_id}: " if alike[1:] else ""
        add(Finding(code, where, of + first.what))
    return {row: pose for one in found for row, pose in one.poses.items()}


def _check_pictures(evidence: Evidence, suspect: set[int], add: Add) -> None:
    """Pictures that show the mesh's colours only when they are turned, or only from the pose of
    another frame, in frames whose poses and depth are above suspicion.
    """
    own: dict[int, np.ndarray] = {}  # (4,) scores of pictures that lack them, by quarter turns
    pictures: list[np.ndarray] = []
    sound = [row for row in range(len(evidence.frames)) if row not in suspect]
    for row in sound:
        color = evidence.frames[row].color
        if color is None:
            continue
        turned = [np.rot90(color, turns) for turns in range(4)]
        scores = reprojection.color_scores(evidence, row, turned)
        if not np.isfinite(scores).all():
            continue
        if scores[0] < TURNED or scores.max() >= scores[0] + TURNED:
            own[row] = scores
            pictures.append(color)
    if not own:
        return
    elsewhere = np.full((len(sound), len(own)), -1.0)
    if len(own) >= LEAST_STRANGE:
        seen = [reprojection.color_scores(evidence, row, pictures) for row in sound]
        elsewhere = np.nan_to_num(np.array(seen), nan=-1.0)
    turns_of: dict[int, list[int]] = {}
    owners: dict[int, int] = {}  # frame ids of pictures -> of the frames that they are of
    for (row, scores), others in zip(own.items(), elsewhere.T, strict=True):
        turns, other = int(np.argmax(scores)), int(np.argmax(others))
        if max(scores[turns], others[other]) < max(TURNED, scores[0] + TURNED):
            continue
        number = evidence.frames[row].frame_id
        if scores[turns] >= others[other]:
            turns_of.setdefault(turns, []).append(number)
        else:
            owners[number] = evidence.frames[sound[other]].frame_id
    for turns, ids in turns_of.items():
        what = (
            "expected the mesh's colours in the picture; they are there only when it is turned by "
            f"{90 * turns} degrees counter-clockwise."
        )
        add(Finding("rotated_frame", f"frame {shown(ids)}", what))
    if len(owners) >= LEAST_STRANGE:
        first = min(owners)
        what = (
            f"expected the mesh's colours in the pictures; frame {first}'s shows them only from "
            f"the pose of frame {owners[first]}."
        )
        add(Finding("other_frame", f"frame {shown(owners)}", what))


# --- alignment -----------------------------------------------------------------------------------


def _one_alignment(one: np.ndarray, other: np.ndarray, points: np.ndarray) -> bool:
    """Whether two alignments put the scene in one place, as near as boxes can tell."""
    turn = one[:3, :3] @ other[:3, :3].T
    angle = np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))
    middle = np.append(points.mean(0) if len(points) else np.zeros(3), 1)
    return bool(angle <= SAME_TURN and np.linalg.norm((one - other) @ middle) <= SAME_PLACE)


def _check_alignment(files: SceneFiles, evidence: Evidence, poses: np.ndarray, add: Add) -> None:
    """The text's axisAlignment against the one at which boxes fit what they are the boxes of."""
    alignment = evidence.alignment
    every = range(len(evidence.frames))
    by_groups = bool(evidence.groups)
    score = reprojection.box_score(evidence, alignment)
    if not by_groups:
        # What frames say may have been worked out before or after the poses went wrong.
        score = max(
            reprojection.sighting_score(evidence, every, known, alignment)
            for known in (poses, evidence.poses)
        )
    if not score < GOOD:
        return
    fit = reprojection.fit_alignment(evidence, poses)
    text, identity = files.path(".txt").name, np.eye(4)
    if fit is None:
        if by_groups:
            what = (
                f"expected boxes around the mesh's objects, but {1 - score:.0%} fit none, at no "
                "alignment."
            )
            add(Finding("ids", f"{files.scene_id}.json", what))
        return

    def same(one: np.ndarray, other: np.ndarray) -> bool:
        return _one_alignment(one, other, evidence.points)

    line = " ".join(f"{x:.6f}" for x in fit.ravel())
    if same(alignment, identity):
        found = Finding(
            "alignment_missing",
            text,
            f"expected the alignment that the boxes have, got none. axisAlignment = {line}",
        )
    elif same(fit, identity):
        found = Finding(
            "alignment_twice",
            text,
            "expected boxes that fit the mesh with the axisAlignment, but they fit without it: "
            "mesh and poses are aligned already, or the boxes were made without it.",
        )
    elif same(fit @ fit, alignment):
        what = f"expected the alignment once, got it applied twice. axisAlignment = {line}"
        found = Finding("alignment_twice", text, what)
    elif same(fit, alignment @ alignment):
        what = "expected boxes in the aligned frame, got boxes that were aligned twice."
        found = Finding("alignment_twice", f"{files.scene_id}.json", what)
    else:
        what = f"expected the alignment that the boxes have. axisAlignment = {line}"
        found = Finding("alignment_wrong", text, what)
    add(found)


def _check_single_frames(evidence: Evidence, poses: np.ndarray, add: Add) -> None:
    """Frames whose own records see objects elsewhere while those of most others see them well: two
    poses that were swapped, or one that was lost.
    """
    of, good = reprojection.sighting_scores(evidence, poses, evidence.alignment)
    odd = [
        evidence.frames[row].frame_id
        for row in np.unique(of).tolist()
        if (of == row).sum() >= LEAST_SIGHTINGS and good[of == row].mean() < GOOD
    ]
    if odd:
        what = (
            "expected objects where the frame's record sees them, but most are elsewhere from "
            "its pose; in other frames they fit."
        )
        add(Finding("stale_records", f"frame {shown(odd)}", what))


def _check_sightings(evidence: Evidence, poses: np.ndarray, add: Add) -> None:
    """What frames say of objects against poses that mesh and depth confirm; without these, poses
    against what frames say.
    """
    every = range(len(evidence.frames))
    share = reprojection.sighting_score(evidence, every, poses, evidence.alignment)
    if not share < GOOD:
        _check_single_frames(evidence, poses, add)
        return
    confirmed = len(evidence.points) and any(one.depth is not None for one in evidence.frames)
    for mistake in _mistakes(evidence, []):
        moved = mistake.undo_pose(poses)
        value = reprojection.sighting_score(evidence, every, moved, evidence.alignment)
        if value >= GOOD and value >= share + BETTER:
            code = "stale_records" if confirmed else mistake.code
            what = (
                f"expected objects where the frames' records see them, but {1 - share:.0%} are "
                f"elsewhere; they fit when {mistake.words}."
            )
            add(Finding(code, "all frames", what))
            return
    what = f"expected objects where frames see them, but {1 - share:.0%} are elsewhere."
    add(Finding("stale_records" if confirmed else "disagreement", "metadata", what))
