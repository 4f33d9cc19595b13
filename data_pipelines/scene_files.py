"""The files of a scene in the unified layout: which are there, whole and consistent, and what they
say about its geometry. Nothing here raises for what a file holds: it becomes a finding.
"""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_pipelines import meshes
from data_pipelines.findings import Finding
from data_pipelines.pictures import DAMAGED
from data_pipelines.reprojection import Evidence, Frame, Sighting
from data_pipelines.scan import ScanError
from geometry_jax import scene_io

SUFFIXES = {
    "color": scene_io.IMAGE_SUFFIXES,
    "depth": (".png",),
    "pose": (".txt",),
    scene_io.FRAME_FOLDER: scene_io.IMAGE_SUFFIXES,
}
SHOWN = 6  # ids of frames in a message
LARGEST = 100.0  # metres: no room has a longer side
OBB_SLACK = 0.25  # metres between the middle of an oriented box and the upright one, at most
SAME_BOX = 0.01  # metres between two texts of one box: rounding
MOST_POINTS = 20_000  # vertices that are compared with depth
TAIL = 1024  # bytes at the end of an image that hold its end mark
MARKS = {".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9", ".png": b"IEND"}


def shown(ids: Iterable[int]) -> str:
    """Ids of frames for a message, the first few."""
    known = sorted(ids)
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return ", ".join(map(str, known[:SHOWN])) + more


@dataclasses.dataclass(frozen=True)
class SceneFiles:
    """A scene folder while it is looked through: findings are added to the list as they come up."""

    folder: Path
    metadata: Path
    findings: list[Finding]
    ids: dict[str, dict[int, Path]]  # of each folder of frames: file by frame id

    @property
    def scene_id(self) -> str:
        return self.folder.name

    @property
    def selected(self) -> dict[int, Path]:
        return self.ids[scene_io.FRAME_FOLDER]

    def add(self, code: str, where: str, what: str) -> None:
        self.findings.append(Finding(code, where, what))

    def path(self, suffix: str) -> Path:
        return self.folder / f"{self.scene_id}{suffix}"


def _numbered(folder: Path, suffixes: tuple[str, ...]) -> dict[int, Path]:
    if not folder.is_dir():
        return {}
    return {
        int(path.stem): path
        for path in folder.iterdir()
        if path.stem.isdecimal() and path.suffix.lower() in suffixes
    }


def open_scene(folder: Path, metadata: Path) -> SceneFiles:
    """The scene with what its folders list."""
    ids = {name: _numbered(folder / name, suffixes) for name, suffixes in SUFFIXES.items()}
    return SceneFiles(folder, metadata, [], ids)


# --- which files there are -----------------------------------------------------------------------


def check_presence(files: SceneFiles) -> None:
    """Folders, calibration, mesh and metadata that a scene must have."""
    wanted = [files.folder / f"intrinsic_{kind}.txt" for kind in ("color", "depth")]
    wanted += [files.path(".txt"), files.path("_vh_clean.ply")]
    parts = [files.path("_vh_clean.segs.json"), files.path("_vh_clean.aggregation.json")]
    if sum(path.is_file() for path in parts) == 1:
        wanted += parts  # some data sets have neither; one alone means nothing
    wanted.append(files.metadata / f"{files.scene_id}.json")
    missing = [path.name for path in wanted if not path.is_file()]
    missing += [f"{name}/" for name in SUFFIXES if not (files.folder / name).is_dir()]
    if missing:
        files.add("missing_file", ", ".join(missing), "expected these, found none.")


def check_frame_sets(files: SceneFiles) -> None:
    """Frames need a picture, a depth image, a pose and a record each."""
    records = set(_numbered(files.metadata / scene_io.FRAME_FOLDER, (".json",)))
    selected = set(files.selected)
    wanted = {
        "color/": (selected, set(files.ids["color"])),
        "depth/": (selected | set(files.ids["color"]), set(files.ids["depth"])),
        "pose/": (selected | set(files.ids["color"]) | records, set(files.ids["pose"])),
        "metadata": (selected, records),
        f"{scene_io.FRAME_FOLDER}/": (records, selected),
    }
    if not files.metadata.is_dir():
        del wanted["metadata"]
    for name, (needed, there) in wanted.items():
        lost = needed - there
        if lost and (there or name == "metadata" or (files.folder / name).is_dir()):
            what = f"expected frame {shown(lost)} there too, found none."
            files.add("frame_sets", name, what)
    if not selected and (files.folder / scene_io.FRAME_FOLDER).is_dir():
        files.add("empty_scene", f"{scene_io.FRAME_FOLDER}/", "expected pictures, found none.")


# --- whether they are whole ----------------------------------------------------------------------


def _decode(path: Path) -> np.ndarray | str:
    """The pixels, or why there are none."""
    try:
        with Image.open(path) as image:
            return np.asarray(image)
    except DAMAGED as error:
        return f"expected an image, but it does not decode ({error})."


def _seems_whole(path: Path) -> bool:
    """Whether the end mark is near the end: quick, for images that need not be decoded."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL))
        return MARKS[path.suffix.lower()] in file.read()


def check_images(files: SceneFiles) -> dict[str, dict[int, np.ndarray]]:
    """Decodes the pictures and depth images of the selected frames, and looks at the ends of all
    others. Returns the pixels by folder and frame id.
    """
    pixels: dict[str, dict[int, np.ndarray]] = {"picture": {}, "depth": {}}
    bad: list[str] = []
    for name, folder in (("picture", scene_io.FRAME_FOLDER), ("depth", "depth")):
        for number in files.selected:
            path = files.ids[folder].get(number)
            if path is None:
                continue
            image = _decode(path)
            if isinstance(image, str):
                bad.append(f"{folder}/{path.name}")
            elif name == "depth" and (image.ndim != 2 or image.dtype.itemsize < 2):
                what = f"expected one channel of 16 bits, got {image.dtype} {image.shape}."
                files.add("damaged_file", f"depth/{path.name}", what)
            else:
                pixels[name][number] = image
    for folder in ("color", "depth"):
        for number, path in files.ids[folder].items():
            looked_at = folder == "depth" and number in files.selected
            if not looked_at and not _seems_whole(path) and isinstance(_decode(path), str):
                bad.append(f"{folder}/{path.name}")
    if bad:
        names = ", ".join(bad[:SHOWN]) + (" ..." if len(bad) > SHOWN else "")
        what = f"expected images, but {len(bad)} do not decode; they were cut short."
        files.add("damaged_file", names, what)
    return pixels


def _json(files: SceneFiles, path: Path, kind: type) -> Any:
    """The value, or None with a finding."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        files.add("damaged_file", path.name, f"expected whole JSON ({error}).")
        return None
    if not isinstance(value, kind):
        what = f"expected {kind.__name__}, got {type(value).__name__}."
        files.add("damaged_file", path.name, what)
        return None
    return value


def read_poses(files: SceneFiles) -> dict[int, np.ndarray]:
    """(4, 4) poses that are finite and rigid; others become findings. Lost poses of frames that
    are not selected are none: trackers do lose some.
    """
    poses, lost, bad = {}, [], []
    for number, path in files.ids["pose"].items():
        try:
            poses[number] = scene_io.read_pose(path)
        except scene_io.LostPoseError:
            lost += [number] if number in files.selected else []
        except (OSError, ValueError) as error:
            bad.append((number, str(error)))
    if bad:
        where = f"pose/ of frame {shown(n for n, _ in bad)}"
        files.add("bad_pose", where, min(bad)[1])
    if lost:
        where = f"pose/ of frame {shown(lost)}"
        files.add("lost_pose", where, "expected finite numbers, got inf or nan.")
    return poses


# --- what the metadata says ----------------------------------------------------------------------


def check_records(files: SceneFiles) -> tuple[dict[str, Any] | None, dict[int, dict[str, Any]]]:
    """The scene's record and those of its frames, with their ids compared."""
    path = files.metadata / f"{files.scene_id}.json"
    scene = _json(files, path, dict) if path.is_file() else None
    frames = {}
    for number, file in _numbered(files.metadata / scene_io.FRAME_FOLDER, (".json",)).items():
        frame = _json(files, file, dict)
        if frame is not None:
            frames[number] = frame
    objects = scene.get("objects") if scene else None
    if not isinstance(objects, list):
        return scene, frames
    if not objects:
        files.add("empty_scene", path.name, "expected objects, found none.")
    known = [one["object_id"] for one in _records(objects)]
    twice = {number for number in known if known.count(number) > 1}
    if twice:
        what = f"expected distinct values of object_id, got {sorted(map(str, twice))[0]} twice."
        files.add("ids", path.name, what)
    for number, frame in sorted(frames.items()):
        own = [one["object_id"] for one in _records(frame.get("objects"))]
        strangers = [one for one in own if one not in known]
        if strangers:
            where = f"metadata {scene_io.FRAME_FOLDER}/{number}.json"
            what = f"expected objects of the scene, got object_id {strangers[0]}."
            files.add("ids", where, what)
            break
    _check_numbers(files, path.name, scene, frames)
    _check_repeated(files, objects, frames)
    named = {scene.get("scene_id", files.scene_id)} if scene else set()
    named |= {frame.get("scene_id", files.scene_id) for frame in frames.values()}
    if named - {files.scene_id}:
        other = sorted(map(str, named - {files.scene_id}))[0]
        files.add("ids", path.name, f"expected scene_id {files.scene_id}, got {other}.")
    return scene, frames


def _check_repeated(
    files: SceneFiles, objects: list[Any], frames: dict[int, dict[str, Any]]
) -> None:
    """What frames' records say again: their own name, and of each object its label and box."""
    known = {one["object_id"]: one for one in _records(objects)}
    for number, frame in sorted(frames.items()):
        where = f"metadata {scene_io.FRAME_FOLDER}/{number}.json"
        name = frame.get("frame_id", number)
        if str(name).rpartition(".")[0] != str(number) and str(name) != str(number):
            files.add("ids", where, f"expected the record of frame {number}, got that of {name}.")
            return
        for one in _records(frame.get("objects")):
            owner = known.get(one["object_id"])
            if owner is None:
                continue
            what = f"object {one['object_id']}"
            if one.get("label", owner.get("label")) != owner.get("label"):
                got = f"expected {owner.get('label')!r} for {what}, got {one.get('label')!r}."
                files.add("ids", where, got)
                return
            here, there = _box(one.get("3d_bbox")), _box(owner.get("3d_bbox"))
            if here is not None and there is not None and np.abs(here - there).max() > SAME_BOX:
                far = np.abs(here - there).max()
                got = f"expected the scene's box of {what}, got one {far:.2f} m off."
                files.add("stale_records", where, got)
                return


def _check_numbers(
    files: SceneFiles, name: str, scene: dict[str, Any] | None, frames: dict[int, dict[str, Any]]
) -> None:
    """Numbers that nothing can have."""
    faults = []
    area = (scene or {}).get("room_size")
    # The published code writes 0 where it knows no floor.
    if isinstance(area, int | float) and not 0 <= area < LARGEST**2:
        faults.append((name, f"expected room_size in square metres, 0 or above, got {area!r:.40}"))
    for one in _records((scene or {}).get("objects")):
        fault = _box_fault(one)
        if fault:
            faults.append((name, f"object {one['object_id']}: {fault}"))
    for number, frame in sorted(frames.items()):
        width, height = _numbers(frame.get("image_size"), 2) or (np.inf, np.inf)
        for one in _records(frame.get("objects")):
            share, box = one.get("visibility", 0), one.get("2d_bbox")
            where = f"metadata {scene_io.FRAME_FOLDER}/{number}.json"
            if not isinstance(share, int | float) or not 0 <= share <= 1:
                faults.append((where, f"expected a visibility of 0 to 1, got {share!r:.40}"))
            corners = _numbers(box, 4)
            if corners is None or max(corners) <= 0:  # of what shows no pixel
                continue
            x1, y1, x2, y2 = corners
            if not (0 <= x1 <= x2 <= width and 0 <= y1 <= y2 <= height):
                faults.append((where, f"expected a 2d_bbox in the picture, got {box}"))
    if faults:
        where, what = faults[0]
        more = f", and {len(faults) - 1} more of the kind" if len(faults) > 1 else ""
        files.add("bad_number", where, f"{what}{more}.")


def _box_fault(one: dict[str, Any]) -> str:
    """Why an object's boxes can't be those of one thing in a room; empty where they can."""
    box, obb = _box(one.get("3d_bbox")), one.get("obb")
    if box is not None and not ((box[:3] <= box[3:]).all() and (box[3:] - box[:3]).max() < LARGEST):
        return f"expected 3d_bbox as minima and maxima within {LARGEST:.0f} m, got {box.tolist()}"
    if box is None or not isinstance(obb, dict):
        return ""
    try:
        center, extent = (np.array(obb.get(key), float).reshape(3) for key in ("center", "extent"))
    except (TypeError, ValueError, OverflowError):
        return ""  # `check_loading` says so
    if not ((extent >= 0).all() and extent.max() < LARGEST):
        return f"expected the sides of obb from 0 to {LARGEST:.0f} m, got {extent.tolist()}"
    # The upright box around the same vertices: its middle lies in theirs, give or take noise.
    outside = np.maximum(box[:3] - center, center - box[3:]).max()
    return (
        f"expected obb in 3d_bbox, got its centre {outside:.2f} m outside"
        if (outside > OBB_SLACK)
        else ""
    )


def check_loading(files: SceneFiles) -> None:
    """Whether the scene loads as the environment loads it, and the packed file says the same."""
    try:
        record = scene_io.read_layout(files.folder, files.metadata)
    except (OSError, ValueError) as error:
        if not files.findings:
            files.add("damaged_file", "", " ".join(str(error).split()))
        return
    pack = files.metadata / f"{files.scene_id}.npz"
    if files.findings or not pack.is_file():
        return  # what else is wrong makes the packed file differ too
    try:
        packed = scene_io.load_packed(pack, files.folder)
    except (OSError, ValueError) as error:
        files.add("stale_pack", pack.name, " ".join(str(error).split()))
        return
    pairs = [(name, getattr(packed, name), getattr(record, name)) for name in _NAMES]
    for field in dataclasses.fields(packed.scene):
        if field.name not in ("points", "point_valid", "box_gap"):
            one, other = (np.asarray(getattr(x.scene, field.name)) for x in (packed, record))
            pairs.append((field.name, one, other))
    differing = [name for name, one, other in pairs if not _same(one, other)]
    if differing:
        what = f"expected what the JSON files say, but {', '.join(differing)} differ."
        files.add("stale_pack", pack.name, what)


_NAMES = ("labels", "object_ids", "frame_ids", "image_paths")


def _same(one: Any, other: Any) -> bool:
    if not isinstance(one, np.ndarray):
        return one == other
    if one.shape != other.shape:
        return False
    if one.dtype.kind != "f":
        return bool((one == other).all())
    return bool(np.allclose(one, other, rtol=1e-5, atol=1e-5, equal_nan=True))


# --- what it says about geometry -----------------------------------------------------------------


def _intrinsics(files: SceneFiles, path: Path) -> np.ndarray | None:
    """(3, 3), or None with a finding where the file is there and says something else."""
    if not path.is_file():
        return None
    try:
        matrix = np.loadtxt(path, dtype=np.float64)
    except (OSError, ValueError):
        matrix = np.zeros(0)
    if matrix.shape not in ((3, 3), (4, 4)) or not np.isfinite(matrix).all() or matrix[0, 0] <= 0:
        what = f"expected 4x4 intrinsics, got {matrix.shape}."
        files.add("damaged_file", path.name, what)
        return None
    return matrix[:3, :3]


def _groups(files: SceneFiles, points: np.ndarray) -> tuple[tuple[int, str, np.ndarray], ...]:
    """Vertices of every annotated group; findings where the parts do not fit together."""
    segments_path = files.path("_vh_clean.segs.json")
    aggregation_path = files.path("_vh_clean.aggregation.json")
    if not (segments_path.is_file() and aggregation_path.is_file()):
        return ()
    stored = _json(files, segments_path, dict)
    aggregation = _json(files, aggregation_path, dict)
    if stored is None or aggregation is None:
        return ()
    try:
        segments = np.array(stored.get("segIndices"), np.int64).ravel()
        groups = [
            (int(one["objectId"]), str(one["label"]), np.array(one["segments"], np.int64))
            for one in aggregation["segGroups"]
        ]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        what = f"expected segments and groups ({type(error).__name__}: {error})."
        files.add("damaged_file", aggregation_path.name, what)
        return ()
    if len(segments) != len(points):
        what = f"expected a segment for each of {len(points)} vertices, got {len(segments)}."
        files.add("ids", segments_path.name, what)
        return ()
    order = np.argsort(segments, kind="stable")
    ordered, found = segments[order], []
    for number, label, own in groups:
        ends = zip(
            np.searchsorted(ordered, own), np.searchsorted(ordered, own, side="right"), strict=True
        )
        rows = np.concatenate([np.zeros(0, int), *(order[a:b] for a, b in ends)])
        if len(rows):
            found.append((number + 1, label, points[rows]))
    return tuple(found)


def _records(value: Any) -> list[dict[str, Any]]:
    """The records with a whole number as object_id in what should be a list of records."""
    kept = value if isinstance(value, list) else []
    return [one for one in kept if isinstance(one, dict) and type(one.get("object_id")) is int]


def _numbers(value: Any, count: int) -> list[float] | None:
    """So many finite numbers, or None where there is something else."""
    good = isinstance(value, list) and len(value) == count
    good = good and all(isinstance(x, int | float) and abs(x) <= scene_io.LARGEST for x in value)
    return [float(x) for x in value] if good else None


def _box(value: Any) -> np.ndarray | None:
    found = _numbers(value, 6)
    return None if found is None else np.array(found)


def _location(value: Any) -> np.ndarray | None:
    found = _numbers(value, 3)
    # -1 -1 -1: nothing was seen
    return None if found is None or found[2] <= 0 else np.array(found)


def gather(
    files: SceneFiles,
    poses: dict[int, np.ndarray],
    pixels: dict[str, dict[int, np.ndarray]],
    scene: dict[str, Any] | None,
    records: dict[int, dict[str, Any]],
) -> Evidence:
    """What the readable files say; what is missing is left out."""
    points, colors = np.zeros((0, 3)), np.zeros((0, 3), np.uint8)
    groups: tuple[tuple[int, str, np.ndarray], ...] = ()
    path = files.path("_vh_clean.ply")
    if path.is_file():
        try:
            mesh = meshes.read_mesh(path)
        except ScanError as error:
            files.add("damaged_file", path.name, str(error).removeprefix(f"{path}: "))
        else:
            groups = _groups(files, mesh.points.astype(np.float64))
            stride = max(1, len(mesh.points) // MOST_POINTS)
            points = mesh.points[::stride].astype(np.float64)
            colors = mesh.colors[::stride]
    try:
        alignment = scene_io.read_alignment(files.path(".txt"))
    except (OSError, ValueError) as error:
        files.add("damaged_file", files.path(".txt").name, " ".join(str(error).split()))
        alignment = np.eye(4)
    color_k = _intrinsics(files, files.folder / "intrinsic_color.txt")
    depth_k = _intrinsics(files, files.folder / "intrinsic_depth.txt")
    frames, sightings = [], []
    for number in sorted(files.selected):
        if number not in poses:
            continue
        picture, depth = pixels["picture"].get(number), pixels["depth"].get(number)
        own = _intrinsics(files, files.folder / "intrinsic" / f"{number}.txt")
        of_color, of_depth = (color_k, depth_k) if own is None else (own, None)
        if of_depth is None and of_color is not None and picture is not None and depth is not None:
            ratio = np.array([*depth.shape[::-1], 1]) / np.array([*picture.shape[1::-1], 1])
            of_depth = of_color * ratio[:, None]
        frames.append(
            Frame(
                number,
                poses[number],
                np.eye(3) if of_color is None else of_color,
                np.eye(3) if of_depth is None else of_depth,
                _rgb(picture) if of_color is not None else None,
                depth / np.float32(1000) if depth is not None and of_depth is not None else None,
            )
        )
        for one in _records(records.get(number, {}).get("objects")):
            box, location = _box(one.get("3d_bbox")), _location(one.get("camera_location"))
            if box is not None and location is not None:
                sightings.append(Sighting(len(frames) - 1, box, location))
    boxes = []
    for one in _records((scene or {}).get("objects")):
        box = _box(one.get("3d_bbox"))
        if box is not None:
            boxes.append((one["object_id"], str(one.get("label")), box))
    return Evidence(
        tuple(frames), alignment, points, colors, groups, tuple(boxes), tuple(sightings), poses
    )


def _rgb(picture: np.ndarray | None) -> np.ndarray | None:
    if picture is None or picture.ndim == 3:
        return None if picture is None else picture[..., :3]
    return np.repeat(picture[..., None], 3, axis=2)
