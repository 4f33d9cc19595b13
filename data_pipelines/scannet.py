"""Reads ScanNet: scans as released, straight from the .sens file, or exported to folders.

    <raw>/scans/<scan>/<scan>.sens                          or color/ depth/ pose/ intrinsic/
                       <scan>_vh_clean_2.ply                decimated mesh, and what belongs to it:
                       <scan>_vh_clean_2.0.010000.segs.json
                       <scan>.aggregation.json
                       <scan>_vh_clean.ply                  full resolution:
                       <scan>_vh_clean.segs.json
                       <scan>_vh_clean.aggregation.json
                       <scan>.txt                           axisAlignment

Scans may also lie in <raw> itself, or in <raw>/train and <raw>/val. Intrinsics of an export may lie
beside the folders instead of in `intrinsic/`.

ScanNet's intrinsics put pixel centres on whole numbers: its own reader unprojects pixel (column,
row) as it is, and nominal principal points are (width - 1) / 2. Ours have the origin in the image's
corner, so that half a pixel is added here.
"""

import dataclasses
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from data_pipelines import meshes, sens
from data_pipelines.scan import (
    Images,
    Mesh,
    Scan,
    ScanError,
    ScanFrame,
    ScanObject,
    Skipped,
    pose_fault,
)
from geometry_jax import scene_io

Resolution = Literal["decimated", "full"]
SCAN_NAME = re.compile(r"scene\d{4}_\d{2}")
CONTAINERS = ("scans", "train", "val")  # folders of scans inside the raw folder
SPLITS = ("train", "val")
SPLIT_LIST = "scannetv2_{}.txt"  # the official lists, one id a line
HALF_PIXEL = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])  # to intrinsics with a corner origin


class MeshFiles(NamedTuple):
    """What one resolution consists of; segments of one mean nothing in the other."""

    mesh: str
    segments: str
    aggregation: str


MESH_FILES: dict[Resolution, MeshFiles] = {
    "decimated": MeshFiles(
        "_vh_clean_2.ply", "_vh_clean_2.0.010000.segs.json", ".aggregation.json"
    ),
    "full": MeshFiles("_vh_clean.ply", "_vh_clean.segs.json", "_vh_clean.aggregation.json"),
}


# --- which scans there are -----------------------------------------------------------------------


def _is_scan(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    if SCAN_NAME.fullmatch(folder.name):
        return True
    suffixes = (".sens", *(files.mesh for files in MESH_FILES.values()))
    return any((folder / f"{folder.name}{suffix}").is_file() for suffix in suffixes)


def _scan_folders(raw: Path) -> Iterator[Path]:
    for parent in (raw, *(raw / name for name in CONTAINERS)):
        if parent.is_dir():
            yield from filter(_is_scan, parent.iterdir())


def list_scans(raw: Path) -> tuple[str, ...]:
    """Ids of the scans in a folder, sorted.

    Raises:
        ScanError: no such folder, or no scan in it.
    """
    if not raw.is_dir():
        raise ScanError(f"{raw}: expected a folder of ScanNet scans, found none.")
    found = sorted({folder.name for folder in _scan_folders(raw)})
    if not found:
        names = ", ".join(sorted(path.name for path in raw.iterdir())[:5]) or "nothing"
        raise ScanError(
            f"{raw}: expected ScanNet scans such as scans/scene0000_00/scene0000_00.sens, "
            f"found {names}."
        )
    return tuple(found)


def _scan_folder(raw: Path, source_id: str) -> Path:
    for folder in _scan_folders(raw):
        if folder.name == source_id:
            return folder
    raise ScanError(f"{raw}: expected a scan {source_id!r}, found none.")


def _split_of(folder: Path, lists: Path | None, default: str) -> str:
    if lists is None:
        return folder.parent.name if folder.parent.name in SPLITS else default
    for split in SPLITS:
        path = lists / SPLIT_LIST.format(split)
        if not path.is_file():
            raise ScanError(f"{path}: expected a list of scans, found none.")
        if folder.name in path.read_text(encoding="utf-8").split():
            return split
    raise ScanError(f"{lists}: expected {folder.name} in one of the lists of scans.")


# --- mesh and objects ----------------------------------------------------------------------------


def _resolution(folder: Path, wanted: Resolution | None) -> MeshFiles:
    """The files of the wanted resolution; without a wish the decimated one, where it is whole, else
    the full one.
    """
    missing = {
        name: [suffix for suffix in files if not (folder / f"{folder.name}{suffix}").is_file()]
        for name, files in MESH_FILES.items()
        if wanted in (None, name)
    }
    for name, files in MESH_FILES.items():
        if name in missing and not missing[name]:
            return files
    name, files = min(missing.items(), key=lambda item: len(item[1]))
    raise ScanError(
        f"{folder}: expected the {name} mesh with its segments and aggregation; "
        f"{', '.join(folder.name + suffix for suffix in files)} missing."
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ScanError(f"{path}: expected JSON, but it does not parse ({error}).") from error
    if not isinstance(value, dict):
        raise ScanError(f"{path}: expected a JSON object, got {type(value).__name__}.")
    return value


def _whole_numbers(value: Any) -> np.ndarray | None:
    """(k,) i64, or None where the value is no list of whole numbers."""
    if not isinstance(value, list) or not all(type(x) is int for x in value):
        return None
    try:
        return np.array(value, np.int64)
    except OverflowError:
        return None


def read_segments(path: Path, vertex_count: int) -> np.ndarray:
    """(V,) i64 segment of every vertex.

    Raises:
        ScanError: not one whole number for each vertex.
    """
    segments = _whole_numbers(_read_json(path).get("segIndices"))
    if segments is None:
        raise ScanError(f"{path}: expected a list of whole numbers under 'segIndices'.")
    if len(segments) != vertex_count:
        raise ScanError(
            f"{path}: expected a segment for each of the mesh's {vertex_count} vertices, "
            f"got {len(segments)}."
        )
    return segments


def read_objects(path: Path, segments: np.ndarray) -> tuple[list[ScanObject], list[Skipped]]:
    """The groups of an aggregation file that have vertices, and what was left out.

    Object ids count from 1, as in the published scenes: `objectId` + 1. A segment of two groups
    belongs to both objects.

    Args:
        segments: (V,) segment of every vertex, of the same resolution.

    Raises:
        ScanError: no list of groups, or two groups of one id.
    """
    groups = _read_json(path).get("segGroups")
    if not isinstance(groups, list):
        raise ScanError(f"{path}: expected a list under 'segGroups', got {type(groups).__name__}.")
    order = np.argsort(segments, kind="stable")
    ordered = segments[order]
    objects, skipped, taken = [], [], {}
    for position, group in enumerate(groups):
        name = f"group {position}"
        fault = _group_fault(group)
        if fault:
            skipped.append(Skipped(name, f"{path.name}: {fault}"))
            continue
        number, label, own = group["objectId"], group["label"], np.unique(group["segments"])
        if number in taken:
            raise ScanError(
                f"{path}: expected distinct values of objectId, got {number} twice: "
                f"{taken[number]!r} and {label!r}."
            )
        taken[number] = label
        name = f"object {number + 1} ({label})"
        low, high = np.searchsorted(ordered, own), np.searchsorted(ordered, own, side="right")
        absent = own[low == high]
        if len(absent) == len(own):
            why = f"none of its {len(own)} segments has a vertex" if len(own) else "no segments"
            skipped.append(Skipped(name, f"{path.name}: {why}"))
            continue
        if len(absent):
            which = f"{len(absent)} of {len(own)} segments of {name}"
            skipped.append(Skipped(which, f"{path.name}: no vertex has segment {absent[0]}"))
        rows = [order[start:end] for start, end in zip(low, high, strict=True)]
        objects.append(ScanObject(number + 1, label, np.sort(np.concatenate(rows))))
    return objects, skipped


def _group_fault(group: Any) -> str:
    """What is wrong with a group of an aggregation file, in words; empty when nothing is."""
    if not isinstance(group, dict):
        return f"expected a record, got {type(group).__name__}"
    if type(group.get("objectId")) is not int or group["objectId"] < 0:
        return f"expected objectId as a whole number, got {group.get('objectId')!r}"
    if not isinstance(group.get("label"), str) or not group["label"].strip():
        return f"expected a label, got {group.get('label')!r}"
    if _whole_numbers(group.get("segments")) is None:
        return f"expected whole numbers under 'segments', got {group.get('segments')!r:.40}"
    return ""


def _read_labelled_mesh(
    folder: Path, files: MeshFiles
) -> tuple[Mesh, list[ScanObject], list[Skipped]]:
    mesh_path, segments_path, aggregation_path = (
        folder / f"{folder.name}{suffix}" for suffix in files
    )
    _check_segments_file(aggregation_path, segments_path.name)
    mesh = meshes.read_mesh(mesh_path)
    segments = read_segments(segments_path, len(mesh.points))
    return mesh, *read_objects(aggregation_path, segments)


def _check_segments_file(aggregation: Path, segments: str) -> None:
    """An aggregation names the segments that it is about, with "scannet." before it or not."""
    named = _read_json(aggregation).get("segmentsFile")
    others = [files.segments for files in MESH_FILES.values() if not segments.endswith(files[1])]
    if isinstance(named, str) and named.endswith(tuple(others)):
        raise ScanError(
            f"{aggregation}: expected the aggregation of {segments}, got that of {named}."
        )


def read_alignment(path: Path) -> np.ndarray | None:
    """(4, 4) world_from_mesh of a scan's text file; None where it gives none, as for test scans.

    Raises:
        ScanError: an alignment that is not rigid.
    """
    try:
        matrix = scene_io.find_alignment(path)
    except (ValueError, OSError) as error:
        raise ScanError(str(error)) from error
    fault = "" if matrix is None else pose_fault(matrix)
    if fault:
        raise ScanError(f"{path}: axisAlignment: {fault}.")
    return matrix


# --- frames --------------------------------------------------------------------------------------


def _with_corner_origin(intrinsics: np.ndarray, where: str) -> np.ndarray:
    matrix = np.asarray(intrinsics, np.float64)[:3, :3]
    if not np.isfinite(matrix).all() or matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise ScanError(f"{where}: expected intrinsics, got {np.ravel(matrix).tolist()}.")
    return matrix + HALF_PIXEL


def _check_extrinsics(extrinsics: np.ndarray, where: str) -> None:
    """Depth is released registered to colour; otherwise one pose would not do for both."""
    if not np.abs(extrinsics - np.eye(4)).max() <= 1e-3:
        raise ScanError(
            f"{where}: expected the identity, as depth is registered to colour, "
            f"got {np.round(extrinsics, 4).tolist()}."
        )


@dataclasses.dataclass(frozen=True)
class SensImages:
    """Pixels of a .sens file; a frame's id is its row."""

    index: sens.SensIndex

    def color(self, frame: ScanFrame) -> np.ndarray:
        return sens.color(self.index, frame.frame_id)

    def color_jpeg(self, frame: ScanFrame) -> bytes | None:
        if self.index.header.color_codec != sens.ColorCodec.JPEG:
            return None
        self.color(frame)  # what does not decode must not be passed on
        return sens.color_bytes(self.index, frame.frame_id)

    def depth(self, frame: ScanFrame) -> np.ndarray:
        return sens.depth(self.index, frame.frame_id)


def _sens_frames(
    path: Path, keep_whole_frames: bool
) -> tuple[list[ScanFrame], Images, list[Skipped]]:
    index = sens.read_index(path)
    skipped = []
    if index.cut:
        if not keep_whole_frames and len(index.poses) < index.frame_count:
            raise ScanError(f"{index.cut} Download it again.")
        skipped.append(Skipped(path.name, index.cut))
    header = index.header
    _check_extrinsics(header.color_extrinsics, f"{path}: colour extrinsics")
    _check_extrinsics(header.depth_extrinsics, f"{path}: depth extrinsics")
    color_k = _with_corner_origin(header.color_intrinsics, f"{path}: colour")
    depth_k = _with_corner_origin(header.depth_intrinsics, f"{path}: depth")
    frames = []
    for row, pose in enumerate(index.poses.astype(np.float64)):
        # The owners' reader takes a first element of 0 for a lost pose too.
        fault = pose_fault(pose) if pose[0, 0] else "expected a pose, got 0 first (tracking lost)"
        if fault or not index.sizes[row, 0]:
            skipped.append(Skipped(f"frame {row}", fault or "no colour image (0 bytes)"))
            continue
        has_depth = bool(index.sizes[row, 1])
        if not has_depth:
            skipped.append(Skipped(f"depth of frame {row}", "no depth image (0 bytes)"))
        frames.append(
            ScanFrame(
                frame_id=row,
                source=str(row),
                mesh_from_camera=pose,
                color_intrinsics=color_k,
                depth_intrinsics=depth_k,
                color_size=header.color_size,
                depth_size=header.depth_size if has_depth else (0, 0),
                time=float(index.times[row, 0]) / 1e6 if index.times[:, 0].any() else float("nan"),
            )
        )
    return frames, SensImages(index), skipped


@dataclasses.dataclass(frozen=True)
class ExportedImages:
    """Pixels in image files, by frame id."""

    colors: dict[int, Path]
    depths: dict[int, Path]

    def color(self, frame: ScanFrame) -> np.ndarray:
        path = self.colors[frame.frame_id]
        return _decode(path, path.read_bytes(), frame.color_size, "RGB")

    def color_jpeg(self, frame: ScanFrame) -> bytes | None:
        path = self.colors[frame.frame_id]
        if path.suffix.lower() not in (".jpg", ".jpeg"):
            return None
        content = path.read_bytes()
        _decode(path, content, frame.color_size, "RGB")
        return content

    def depth(self, frame: ScanFrame) -> np.ndarray:
        if frame.frame_id not in self.depths:
            raise ScanError(f"depth of frame {frame.frame_id}: expected an image, found none.")
        path = self.depths[frame.frame_id]
        return _decode(path, path.read_bytes(), frame.depth_size, "depth").astype(np.uint16)


def _decode(path: Path, content: bytes, size: tuple[int, int], kind: str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(content)) as image:
            if kind == "depth" and not image.mode.startswith("I"):
                raise ScanError(f"{path}: expected 16-bit depth, got mode {image.mode}.")
            pixels = np.asarray(image if kind == "depth" else image.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ScanError(f"{path}: expected an image, but it does not decode ({error}).") from error
    if pixels.shape[1::-1] != size:
        got = f"{pixels.shape[1]}x{pixels.shape[0]}"
        raise ScanError(f"{path}: expected {size[0]}x{size[1]} pixels, got {got}.")
    return pixels


def _by_number(folder: Path, suffixes: tuple[str, ...]) -> dict[int, Path]:
    """Files by the number that is their name, ascending."""
    found = [p for p in folder.glob("*") if p.stem.isdecimal() and p.suffix.lower() in suffixes]
    return {int(path.stem): path for path in sorted(found, key=lambda path: int(path.stem))}


def _read_matrix(path: Path) -> np.ndarray:
    """(4, 4) numbers, which may be infinite; a 3x3 matrix is filled up."""
    try:
        rows = [[float(x) for x in line.split()] for line in path.read_text().splitlines() if line]
        matrix = np.array(rows)
    except ValueError as error:
        raise ScanError(f"{path}: expected a matrix of numbers ({error}).") from error
    if matrix.shape == (3, 3):
        matrix = np.block([[matrix, np.zeros((3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]])
    if matrix.shape != (4, 4):
        raise ScanError(f"{path}: expected a 4x4 matrix, got {matrix.shape}.")
    return matrix


def _calibration(folder: Path, name: str) -> Path | None:
    for path in (folder / "intrinsic" / name, folder / name):
        if path.is_file():
            return path
    return None


def _exported_intrinsics(folder: Path, kind: str) -> np.ndarray:
    path = _calibration(folder, f"intrinsic_{kind}.txt")
    if path is None:
        raise ScanError(
            f"{folder}: expected intrinsic_{kind}.txt there or in intrinsic/, found none."
        )
    extrinsics = _calibration(folder, f"extrinsic_{kind}.txt")
    if extrinsics is not None:
        _check_extrinsics(_read_matrix(extrinsics), str(extrinsics))
    return _with_corner_origin(_read_matrix(path), str(path))


def _image_size(paths: dict[int, Path]) -> tuple[int, int]:
    """That of the first image whose head can be read; the others are compared when decoded."""
    for path in paths.values():
        try:
            with Image.open(path) as image:
                return image.size
        except (OSError, SyntaxError):
            continue
    return (0, 0)


def _exported_frames(folder: Path) -> tuple[list[ScanFrame], Images, list[Skipped]]:
    colors = _by_number(folder / "color", (".jpg", ".jpeg", ".png"))
    depths = _by_number(folder / "depth", (".png",))
    poses = _by_number(folder / "pose", (".txt",))
    color_k = _exported_intrinsics(folder, "color")
    depth_k = _exported_intrinsics(folder, "depth") if depths else color_k
    color_size, depth_size = _image_size(colors), _image_size(depths)
    frames, skipped = [], []
    for number in sorted(colors.keys() | depths.keys() | poses.keys()):
        fault = ""
        if number not in poses or number not in colors:
            absent = "pose" if number not in poses else "color"
            fault = f"expected {absent}/{number}.*, found none"
        pose = np.eye(4)
        if not fault:
            try:
                pose = _read_matrix(poses[number])
                fault = pose_fault(pose)
            except ScanError as error:
                fault = str(error)
        if fault:
            skipped.append(Skipped(f"frame {number}", fault))
            continue
        if number not in depths:
            why = f"expected depth/{number}.png, found none"
            skipped.append(Skipped(f"depth of frame {number}", why))
        frames.append(
            ScanFrame(
                frame_id=number,
                source=colors[number].name,
                mesh_from_camera=pose,
                color_intrinsics=color_k,
                depth_intrinsics=depth_k,
                color_size=color_size,
                depth_size=depth_size if number in depths else (0, 0),
            )
        )
    return frames, ExportedImages(colors, depths), skipped


def read_scan(
    raw: Path,
    source_id: str,
    *,
    resolution: Resolution | None = None,
    split: str = "train",
    split_lists: Path | None = None,
    keep_whole_frames: bool = False,
) -> Scan:
    """Reads one scan; pixels stay where they are until asked for.

    Args:
        raw: the folder that `list_scans` lists.
        resolution: "decimated" or "full" mesh; None takes the decimated one where its three files
            are there, else the full one.
        split: of scans that lie in no folder named train or val, unless there are lists.
        split_lists: folder with the official scannetv2_train.txt and scannetv2_val.txt.
        keep_whole_frames: use what a .sens file holds that was cut short, instead of refusing it.

    Raises:
        ScanError: something is missing, cut short or of the wrong form; the message names the file.
    """
    folder = _scan_folder(raw, source_id)
    files = _resolution(folder, resolution)
    sens_path = folder / f"{source_id}.sens"
    if sens_path.is_file():
        frames, images, skipped = _sens_frames(sens_path, keep_whole_frames)
    elif (folder / "color").is_dir() and (folder / "pose").is_dir():
        frames, images, skipped = _exported_frames(folder)
    else:
        raise ScanError(
            f"{folder}: expected {sens_path.name}, or the folders color, depth and pose of an "
            "export, found neither."
        )
    if not frames:
        raise ScanError(
            f"{folder}: expected frames with a pose, found none among {len(skipped)}; "
            f"{skipped[0].what}: {skipped[0].why}."
            if skipped
            else f"{folder}: expected frames, found none."
        )
    mesh, objects, left_out = _read_labelled_mesh(folder, files)
    return Scan(
        dataset="scannet",
        scene_id=source_id,
        source_id=source_id,
        split=_split_of(folder, split_lists, split),
        mesh=mesh,
        objects=tuple(objects),
        frames=tuple(frames),
        images=images,
        world_from_mesh=read_alignment(folder / f"{source_id}.txt"),
        skipped=(*skipped, *left_out),
        files=tuple(
            path
            for suffix in (".sens", ".txt", *files)
            if (path := folder / f"{source_id}{suffix}").is_file()
        ),
    )
