"""Scene files in the published unified layout <-> Scene. Host side, NumPy; the only file of this
package that reads disks.

    <root>/<split>/<scene>/pose/<frame>.txt  <scene>.txt  frame_processed/<frame>.jpg
    <root>/metadata/<scene>/<scene>.json     <scene>.npz (packed)   frame_processed/<frame>.json

The packed file holds the same numbers as the JSON files, and instance points beside them, and loads
without parsing any.
"""

import contextlib
import dataclasses
import functools
import io
import json
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from geometry_jax.types import OPTIONAL_LEAVES, SCENE_AXES, Scene, leaf

PACK_VERSION = 2
# As ScanNet writes it; other tools write the name in other letters, or a colon.
ALIGNMENT_LINE = re.compile(r"\s*axisAlignment\s*[=:](.*)", re.IGNORECASE)
SCANNET_ID = re.compile(r"(scene\d{4})_\d{2}")  # room and scan
FRAME_FOLDER = "frame_processed"
ROUNDING = 1e-2  # of the rotation of a pose, as trackers write them
EXACT = 1e-6  # of the last row of a pose, which is written as it is
LARGEST = 1e9  # square metres, pixels or radians; beyond it a number is an accident
FARTHEST = 5_000.0  # metres from the origin up to which float32 tells millimetres
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
NPY_MAGIC = b"\x93NUMPY\x01\x00"  # with the version that `np.savez` writes


@dataclasses.dataclass(frozen=True)
class SceneRecord:
    """A scene with the names that arrays cannot hold. `scene` has NumPy leaves and no padding."""

    scene_id: str
    scene: Scene
    labels: tuple[str, ...]  # `Scene.label` indexes into it
    object_ids: tuple[int, ...]  # (N,) ids of the data set
    frame_ids: tuple[str, ...]  # (F,) names of the frames, such as "120"
    image_paths: tuple[Path, ...]  # (F,)


def list_scenes(root: Path, split: str) -> tuple[str, ...]:
    """Ids of the complete scenes of a split, sorted: those that have both a folder and metadata."""
    folder = root / split
    if not folder.is_dir():
        return ()
    return tuple(
        sorted(
            path.name
            for path in folder.iterdir()
            if (root / "metadata" / path.name / f"{path.name}.json").is_file()
        )
    )


def room_of(scene_id: str) -> str:
    """The room that a scene is a scan of. ScanNet scans many rooms more than once, and says so:
    scene0000_00 and scene0000_01 are one room. Other data sets' ids do not tell.
    """
    scan = SCANNET_ID.fullmatch(scene_id)
    return scan[1] if scan else scene_id


def require_split_by_room(root: Path) -> None:
    """
    Raises:
        ValueError: a room is in two splits: what is held out would have been trained on.
    """
    held_out = {room_of(name): name for name in list_scenes(root, "val")}
    for name in list_scenes(root, "train"):
        if room_of(name) in held_out:
            raise ValueError(
                f"{root}: expected each room in one split, but train/{name} and "
                f"val/{held_out[room_of(name)]} are one; move one of them to the other's split."
            )


def scene_folder(root: Path, scene_id: str) -> Path:
    """The folder of a scene, in whichever split it lies.

    Raises:
        FileNotFoundError: no split has it.
    """
    # Names are compared, not joined to a path: an id can be any text, "../x" and "*" included.
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: expected a folder of scenes, found none.")
    splits = sorted(path for path in root.iterdir() if path.is_dir() and path.name != "metadata")
    for parent in [*splits, root]:
        if scene_id in os.listdir(parent) and (parent / scene_id).is_dir():
            return parent / scene_id
    raise FileNotFoundError(
        f"{root}: expected a scene {scene_id!r} in one of its splits, found none."
    )


def load_scene(root: Path, scene_id: str, *, packed: bool = True) -> SceneRecord:
    """Reads one scene, from its packed file when there is one that `packed` allows.

    Raises:
        FileNotFoundError: the scene or its metadata is missing.
        ValueError: a file of the wrong form; the message names it.
    """
    folder = scene_folder(root, scene_id)
    metadata = root / "metadata" / scene_id
    pack = metadata / f"{scene_id}.npz"
    if packed and pack.is_file():
        return load_packed(pack, folder)
    return read_layout(folder, metadata)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a metadata file, found none.")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, but it does not parse ({error}).") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(value).__name__}.")
    return value


def _numbers(value: Any, count: int, where: str) -> np.ndarray:
    good = isinstance(value, list) and len(value) == count
    good = good and all(isinstance(x, int | float) and not isinstance(x, bool) for x in value)
    if not good or not all(abs(x) <= LARGEST for x in value):  # so that NaN is refused too
        raise ValueError(f"{where}: expected {count} finite numbers, got {value!r:.80}.")
    return np.asarray(value, np.float64)


def _metres(value: Any, count: int, where: str) -> np.ndarray:
    numbers = _numbers(value, count, where)
    _require_near(numbers, where)
    return numbers


def _require_near(metres: np.ndarray, where: str) -> None:
    far = metres[~(np.abs(metres) <= FARTHEST)]  # so that NaN is far too
    if far.size:
        raise ValueError(
            f"{where}: expected metres within {FARTHEST:,.0f} of the origin, "
            f"got {far.tolist()!r:.80}; shift the room there."
        )


def _object_id(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{where}.object_id: expected a whole number, got {value!r}.")
    return value


def _objects(record: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    objects = record.get("objects")
    if not isinstance(objects, list) or not all(isinstance(one, dict) for one in objects):
        raise ValueError(
            f"{path}: expected a list of records under 'objects', got {objects!r:.80}."
        )
    return objects


def _label(value: Any, where: str) -> str:
    """A label; "" where there is none: such an object is there, but no question can name it."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{where}.label: expected text, got {value!r:.80}.")
    return value


def pose_fault(pose: np.ndarray) -> str:
    """What is wrong with a (4, 4) matrix as a rigid pose, in words; empty when nothing is."""
    if not np.isfinite(pose).all():
        return f"expected finite numbers, got {pose[~np.isfinite(pose)][0]} (tracking was lost)"
    rotation = pose[:3, :3]
    # Products of huge numbers overflow, also to NaN, which is near nothing.
    with np.errstate(over="ignore", invalid="ignore"):
        near = np.abs(rotation @ rotation.T - np.eye(3)).max() <= ROUNDING
    if not near or np.linalg.det(rotation) < 0:
        got = rotation.round(4).tolist()
        return f"expected a rotation in the upper left 3x3 block, got {got}"
    if np.abs(pose[3] - [0, 0, 0, 1]).max() > EXACT:
        return f"expected a last row of 0 0 0 1, got {pose[3]}"
    return ""


class LostPoseError(ValueError):
    """A pose file whose numbers are not finite: what trackers write where they were lost."""


def read_pose(path: Path) -> np.ndarray:
    """(4, 4) float64 rigid world_from_camera.

    Raises:
        FileNotFoundError: no such file; a missing pose is never taken for the identity.
        LostPoseError: a 4x4 matrix that is not finite.
        ValueError: not a 4x4 matrix with an orthonormal rotation.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a camera pose, found none.")
    try:
        matrix = np.loadtxt(path, dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"{path}: expected a 4x4 matrix of numbers ({error}).") from error
    if matrix.shape != (4, 4):
        raise ValueError(f"{path}: expected a 4x4 matrix, got {matrix.shape}.")
    fault = pose_fault(matrix)
    if fault:
        kind = ValueError if np.isfinite(matrix).all() else LostPoseError
        raise kind(f"{path}: {fault}.")
    return matrix


def find_alignment(path: Path) -> np.ndarray | None:
    """(4, 4) world_from_mesh from the `axisAlignment` line; None where the file or the line is
    absent.

    Raises:
        ValueError: not 16 numbers, or two lines that say different things.
    """
    if not path.is_file():
        return None
    # Only the one line matters, and it is ASCII, whatever else the file has.
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    if "\0" in text:
        raise ValueError(f"{path}: expected text in UTF-8, got bytes of 0 in it.")
    found = [
        match[1].split() for match in map(ALIGNMENT_LINE.fullmatch, text.splitlines()) if match
    ]
    for words in found:
        try:
            numbers = np.array([float(x) for x in words])
        except ValueError as error:
            raise ValueError(f"{path}: axisAlignment: expected numbers ({error}).") from error
        if numbers.shape != (16,) or not np.isfinite(numbers).all():
            raise ValueError(
                f"{path}: axisAlignment: expected 16 finite numbers, got {' '.join(words)!r:.80}."
            )
        if words != found[0]:
            raise ValueError(f"{path}: expected one axisAlignment, got two different ones.")
    return np.array(found[0], np.float64).reshape(4, 4) if found else None


def read_alignment(path: Path) -> np.ndarray:
    """As `find_alignment`, the identity where there is none.

    Raises:
        ValueError: also where it is no rigid motion: it would change every length.
    """
    found = find_alignment(path)
    if found is None:
        return np.eye(4)
    fault = pose_fault(found)
    if fault:
        raise ValueError(f"{path}: axisAlignment: {fault}.")
    return found


def path_headings(poses: np.ndarray) -> np.ndarray:
    """(M, 4, 4) poses in order -> (M,) heading of the optical axis about +z, radians, unwrapped.

    Where the camera looks straight up or down, or the pose is not finite, it has no heading and the
    last one stands.
    """
    poses = np.where(np.isfinite(poses).all((1, 2), keepdims=True), poses, 0.0)
    axis = poses[:, :2, 2]
    length = np.linalg.norm(axis, axis=1)
    heading = np.arctan2(axis[:, 1], axis[:, 0])
    defined = length > 1e-8
    if not defined.any():
        return np.zeros(len(poses))
    # Each pose takes the heading of the last defined one before it; those before the first take the
    # first.
    last = np.maximum.accumulate(np.where(defined, np.arange(len(poses)), -1))
    heading = heading[np.where(last >= 0, last, np.argmax(defined))]
    return np.unwrap(heading)


def path_turns_xz(poses: np.ndarray) -> np.ndarray:
    """(M, 4, 4) poses in order -> (M,) radians turned since the first one, in the published way.

    Turns are those of the optical axis in the world's x-z plane, each taken from one pose to the
    next that is finite; an axis without a part in that plane turns by 0. For the `reference`
    convention only.
    """
    there = np.flatnonzero(np.isfinite(poses).all(axis=(1, 2)))
    axis = poses[there][:, [0, 2], 2]
    length = np.linalg.norm(axis, axis=1, keepdims=True)
    axis = np.where(length > 1e-8, axis / np.where(length > 1e-8, length, 1.0), np.nan)
    a, b = axis[:-1], axis[1:]
    turn = np.arctan2(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0], np.clip((a * b).sum(1), -1, 1))
    steps = np.zeros(len(poses))
    steps[there[1:]] = np.where(np.isfinite(turn), turn, 0.0)
    return np.cumsum(steps)


def _path_poses(folder: Path, ids: Sequence[str], alignment: np.ndarray) -> np.ndarray:
    """(M, 4, 4) poses by id; NaN where the file is missing or says that tracking was lost."""
    poses = np.full((len(ids), 4, 4), np.nan)
    for row, frame_id in enumerate(ids):
        with contextlib.suppress(FileNotFoundError, LostPoseError):
            poses[row] = alignment @ read_pose(folder / "pose" / f"{frame_id}.txt")
    return poses


def _floor_area(value: Any, path: Path) -> float:
    if isinstance(value, dict):
        value = value.get("area")
    if value is None:
        return math.nan
    return float(_numbers([value], 1, f"{path}: room_size (square metres)")[0])


def _stored_size(value: Any) -> float:
    """The published `size` of an object in centimetres; NaN where it has another form.

    Only the `reference` convention reads it, so a form that nobody can use is no error.
    """
    if isinstance(value, dict):
        sides = [_length(value.get(key, 0.0)) for key in ("width", "length", "height")]
        return 100.0 * max(sides) if all(side == side for side in sides) else math.nan
    return _length(value)


def _length(value: Any) -> float:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if known and abs(value) <= LARGEST else math.nan


class _ObjectTable(NamedTuple):
    """What a scene's record says of its N objects."""

    ids: tuple[int, ...]
    labels: tuple[str, ...]  # (N,) of each object
    aabb: np.ndarray  # (N, 6) minima and maxima, world metres
    obb: np.ndarray  # (N, 7) centre, full sides, yaw; the axis-aligned box where there is none
    stored_size: np.ndarray  # (N,) centimetres


class _FrameTable(NamedTuple):
    """What the frames' records say of F frames and N objects, as in `Scene`."""

    image_size: np.ndarray  # (F, 2)
    seen: np.ndarray  # (F, N) bool
    visibility: np.ndarray  # (F, N)
    bbox_2d: np.ndarray  # (F, N, 4)
    camera_location: np.ndarray  # (F, N, 3)
    truncated: np.ndarray  # (F, N) bool
    occluded: np.ndarray  # (F, N) bool


def _parse_objects(record: dict[str, Any], path: Path) -> _ObjectTable:
    ids, labels, aabb, obb, sizes = [], [], [], [], []
    for index, one in enumerate(_objects(record, path)):
        where = f"{path}: objects[{index}]"
        labels.append(_label(one.get("label"), where))
        box = _metres(one.get("3d_bbox"), 6, f"{where}.3d_bbox")
        low, high = box[:3], box[3:]
        if (high < low).any():
            raise ValueError(
                f"{where}.3d_bbox: expected minima before maxima, got {one['3d_bbox']}."
            )
        aabb.append(box)
        upright = [*(low + high) / 2, *(high - low), 0.0]
        obb.append(_parse_obb(one["obb"], f"{where}.obb") if "obb" in one else upright)
        ids.append(_object_id(one.get("object_id", index + 1), where))
        sizes.append(_stored_size(one.get("size")))
    if len(set(ids)) < len(ids):
        twice = next(number for number in ids if ids.count(number) > 1)
        raise ValueError(f"{path}: expected distinct values of object_id, got {twice} twice.")
    return _ObjectTable(
        tuple(ids),
        tuple(labels),
        np.array(aabb).reshape(-1, 6),
        np.array(obb).reshape(-1, 7),
        np.array(sizes),
    )


def _parse_obb(box: Any, where: str) -> list[float]:
    """Centre, full sides and yaw."""
    if not isinstance(box, dict):
        raise ValueError(f"{where}: expected center, extent and yaw, got {box!r}.")
    center = _metres(box.get("center"), 3, f"{where}.center")
    extent = _metres(box.get("extent"), 3, f"{where}.extent")
    if (extent < 0).any():
        raise ValueError(f"{where}.extent: expected full sides, got {extent.tolist()}.")
    return [*center, *extent, *_numbers([box.get("yaw")], 1, f"{where}.yaw")]


def _read_frames(
    files: Sequence[Path], images: Sequence[Path], object_ids: tuple[int, ...]
) -> _FrameTable:
    column_of_id = {object_id: column for column, object_id in enumerate(object_ids)}
    shape = (len(files), len(object_ids))
    table = _FrameTable(
        image_size=np.zeros((len(files), 2)),
        seen=np.zeros(shape, bool),
        visibility=np.zeros(shape),
        bbox_2d=np.zeros((*shape, 4)),
        camera_location=np.zeros((*shape, 3)),
        truncated=np.zeros(shape, bool),
        occluded=np.zeros(shape, bool),
    )
    for row, (file, image) in enumerate(zip(files, images, strict=True)):
        frame = _read_json(file)
        table.image_size[row] = _image_size(frame, image, file)
        for index, one in enumerate(_objects(frame, file)):
            where = f"{file}: objects[{index}]"
            column = column_of_id.get(_object_id(one.get("object_id"), where))
            if column is None:
                raise ValueError(f"{where}.object_id: {one['object_id']} is not in the scene.")
            at = (row, column)
            table.seen[at] = True
            table.visibility[at] = _numbers([one.get("visibility")], 1, f"{where}.visibility")[0]
            table.bbox_2d[at] = _numbers(one.get("2d_bbox"), 4, f"{where}.2d_bbox")
            location = _metres(one.get("camera_location"), 3, f"{where}.camera_location")
            table.camera_location[at] = location
            table.truncated[at] = bool(one.get("truncated", False))
            table.occluded[at] = bool(one.get("occluded", False))
    return table


def read_layout(folder: Path, metadata: Path, *, scene_id: str = "") -> SceneRecord:
    """Reads a scene from its JSON and pose files. See `load_scene` for errors.

    `scene_id` is the folder's name unless said otherwise.
    """
    scene_id = scene_id or folder.name
    path = metadata / f"{scene_id}.json"
    record = _read_json(path)
    objects = _parse_objects(record, path)
    labels = tuple(dict.fromkeys(objects.labels))

    alignment = read_alignment(folder / f"{scene_id}.txt")
    pose_ids = {p.stem for p in (folder / "pose").glob("*.txt") if p.stem.isdigit()}
    frame_files = sorted(
        (p for p in (metadata / FRAME_FOLDER).glob("*.json") if p.stem.isdigit()),
        key=lambda p: int(p.stem),
    )
    frame_ids = tuple(p.stem for p in frame_files)
    path_ids = sorted(pose_ids | set(frame_ids), key=int)
    poses = _path_poses(folder, path_ids, alignment)
    at = [path_ids.index(frame_id) for frame_id in frame_ids]
    # A tracker that is lost writes numbers that are not finite, or that run away.
    pose_valid = np.asarray((np.abs(poses[at]) <= FARTHEST).all(axis=(1, 2)))

    image_paths = tuple(_image_path(folder, frame_id) for frame_id in frame_ids)
    frames = _read_frames(frame_files, image_paths, objects.ids)

    def f32(array: np.ndarray) -> jax.Array:
        return leaf(array.astype(np.float32))

    low, high = objects.aabb[:, :3], objects.aabb[:, 3:]
    count = len(objects.ids)
    scene = Scene(
        center=f32((low + high) / 2),
        extent=f32(high - low),
        obb_center=f32(objects.obb[:, :3]),
        obb_extent=f32(objects.obb[:, 3:6]),
        obb_yaw=f32(objects.obb[:, 6]),
        obb_rotation=f32(np.zeros((0, 3, 3))),
        label=leaf(np.array([labels.index(label) for label in objects.labels], np.int32)),
        object_valid=leaf(np.ones(count, bool)),
        world_from_camera=f32(np.where(pose_valid[:, None, None], poses[at], alignment)),
        heading=f32(path_headings(poses)[at]),
        frame_valid=leaf(np.ones(len(frame_ids), bool)),
        pose_valid=leaf(pose_valid),
        image_size=f32(frames.image_size),
        seen=leaf(frames.seen),
        visibility=f32(frames.visibility),
        bbox_2d=f32(frames.bbox_2d),
        camera_location=f32(frames.camera_location),
        truncated=leaf(frames.truncated),
        occluded=leaf(frames.occluded),
        points=f32(np.zeros((count, 0, 3))),
        point_valid=leaf(np.zeros((count, 0), bool)),
        floor_area=leaf(np.float32(_floor_area(record.get("room_size"), path))),
        stored_size=f32(objects.stored_size),
        path_turn_xz=f32(path_turns_xz(poses)[at]),
        box_gap=f32(np.zeros((0, 0))),
    )
    return SceneRecord(scene_id, scene, labels, objects.ids, frame_ids, image_paths)


def _image_path(folder: Path, frame_id: str) -> Path:
    for suffix in IMAGE_SUFFIXES:
        path = folder / FRAME_FOLDER / f"{frame_id}{suffix}"
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"{folder / FRAME_FOLDER / frame_id}.jpg: expected an image, found none."
    )


def _image_size(frame: dict[str, Any], path: Path, file: Path) -> np.ndarray:
    if "image_size" in frame:
        return _numbers(frame["image_size"], 2, f"{file}: image_size")
    from PIL import (
        Image,  # only scenes made elsewhere lack the size; the oracle itself needs no images
    )

    try:
        with Image.open(path) as image:
            return np.asarray(image.size, np.float64)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: expected an image, but it does not decode ({error}).") from error


def with_points(record: SceneRecord, points: Sequence[np.ndarray]) -> SceneRecord:
    """The record with instance points: one (k_i, 3) array of world metres for each object."""
    most = max((len(cloud) for cloud in points), default=0)
    stacked = np.zeros((len(points), most, 3), np.float32)
    valid = np.zeros((len(points), most), bool)
    for index, cloud in enumerate(points):
        stacked[index, : len(cloud)] = cloud
        valid[index, : len(cloud)] = True
    scene = dataclasses.replace(record.scene, points=stacked, point_valid=valid)
    return dataclasses.replace(record, scene=scene)


def save_packed(record: SceneRecord, path: Path) -> None:
    """Writes all arrays and names of a scene into one uncompressed .npz file."""
    arrays = {field.name: getattr(record.scene, field.name) for field in dataclasses.fields(Scene)}
    np.savez(
        path,
        version=np.int32(PACK_VERSION),
        labels=np.array(record.labels, dtype=np.str_),
        object_ids=np.array(record.object_ids, dtype=np.int64),
        frame_ids=np.array(record.frame_ids, dtype=np.str_),
        image_names=np.array([p.name for p in record.image_paths], dtype=np.str_),
        **arrays,
    )


@functools.lru_cache(maxsize=4096)
def _array_header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether columns come first, and type, from the header of an .npy file."""
    return np.lib.format.read_array_header_1_0(io.BytesIO(header))


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file.

    `np.load` spends nearly all its time on the headers of thirty small arrays; they repeat from
    scene to scene, and here each is parsed once.
    """
    content = path.read_bytes()
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for member in archive.infolist():
            # A member's own header has 30 bytes; the last four are lengths of what follows it.
            at = member.header_offset
            start = at + 30 + sum(struct.unpack_from("<HH", content, at + 26))
            stored = content[start : start + member.file_size]
            good = member.compress_type == zipfile.ZIP_STORED and stored[:8] == NPY_MAGIC
            if not good or zlib.crc32(stored) != member.CRC:
                raise ValueError(f"{member.filename} is no whole array")
            end = 10 + int.from_bytes(stored[8:10], "little")
            shape, by_columns, kind = _array_header(stored[8:end])
            array = np.frombuffer(stored, kind, math.prod(shape), end)  # refuses Python objects
            array = array.reshape(shape, order="F" if by_columns else "C").copy()
            arrays[member.filename.removesuffix(".npy")] = array
    return arrays


def load_packed(path: Path, folder: Path) -> SceneRecord:
    """Reads a packed file; images are looked for in `folder`.

    Raises:
        ValueError: not a packed scene, of another version, or of a room too far from the origin.
    """
    try:
        arrays = _read_arrays(path)
    except (ValueError, OSError, struct.error, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: expected a packed scene, but it does not load ({error})."
        ) from error
    if not np.array_equal(arrays.get("version", -1), PACK_VERSION):
        raise ValueError(
            f"{path}: expected a packed scene of version {PACK_VERSION}, "
            f"got {arrays.get('version')}. Prepare the scene again, or delete the file to read the "
            "JSON files, which hold no instance points."
        )
    names = {"labels", "object_ids", "frame_ids", "image_names"}
    missing = (names | {field.name for field in dataclasses.fields(Scene)}) - set(arrays)
    if missing:
        raise ValueError(f"{path}: expected arrays {sorted(missing)}, found none.")
    # A pack may be older than the limit.
    for name in ("center", "extent", "obb_center", "obb_extent", "camera_location"):
        _require_near(arrays[name], f"{path}: {name}")
    near = np.abs(arrays["world_from_camera"]) <= FARTHEST
    arrays["pose_valid"] &= near.all((1, 2))
    scene = Scene(**{field.name: leaf(arrays[field.name]) for field in dataclasses.fields(Scene)})
    return SceneRecord(
        scene_id=folder.name,
        scene=scene,
        labels=tuple(str(x) for x in arrays["labels"]),
        object_ids=tuple(int(x) for x in arrays["object_ids"]),
        frame_ids=tuple(str(x) for x in arrays["frame_ids"]),
        image_paths=tuple(folder / FRAME_FOLDER / str(x) for x in arrays["image_names"]),
    )


def pad_scene(scene: Scene, num_objects: int, num_frames: int, num_points: int = 0) -> Scene:
    """Pads to N objects, F frames, K points; points beyond K are dropped, so that K = 0 leaves them
    out.

    Raises:
        ValueError: more objects or frames than asked for.
    """
    objects, frames = scene.label.shape[0], scene.frame_valid.shape[0]
    if objects > num_objects or frames > num_frames:
        raise ValueError(
            f"expected at most {num_objects} objects and {num_frames} frames, "
            f"got {objects} and {frames}."
        )
    sizes = {"N": num_objects, "F": num_frames, "K": num_points}
    padded = {}
    for name, axes in SCENE_AXES.items():
        value = np.asarray(getattr(scene, name))
        if name in OPTIONAL_LEAVES and not len(value):
            padded[name] = value
            continue
        if axes == "NK":
            value = value[:, :num_points]
        width = [(0, sizes[axis] - length) for axis, length in zip(axes, value.shape, strict=False)]
        width += [(0, 0)] * (value.ndim - len(axes))
        padded[name] = np.pad(value, width) if value.ndim else value
    # Padding must be harmless wherever it is computed with: a rigid pose, a label that nothing has.
    padded["world_from_camera"][frames:] = np.eye(4)
    padded["label"][objects:] = -1
    return Scene(**{name: leaf(value) for name, value in padded.items()})


def _with_rotations(scene: Scene) -> Scene:
    if scene.obb_rotation.shape[0]:
        return scene
    yaw = np.asarray(scene.obb_yaw)
    rotation = np.zeros((len(yaw), 3, 3), np.float32)
    rotation[:, 0, 0] = rotation[:, 1, 1] = np.cos(yaw)
    rotation[:, 1, 0], rotation[:, 0, 1] = np.sin(yaw), -np.sin(yaw)
    rotation[:, 2, 2] = 1.0
    return dataclasses.replace(scene, obb_rotation=leaf(rotation))


def stack_scenes(scenes: Sequence[Scene]) -> Scene:
    """Scenes of equal padding on a new first axis. Beside one whose boxes are tilted, upright ones
    have rotations too.
    """
    if len({scene.obb_rotation.shape for scene in scenes}) > 1:
        scenes = [_with_rotations(scene) for scene in scenes]
    return Scene(
        **{
            field.name: leaf(np.stack([getattr(scene, field.name) for scene in scenes]))
            for field in dataclasses.fields(Scene)
        }
    )
