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
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from data_pipelines import meshes, raw_json, scannet_frames
from data_pipelines.scan import (
    Mesh,
    Scan,
    ScanError,
    ScanObject,
    Skipped,
    first_reason,
    listed,
    object_fault,
    require_some,
)
from data_pipelines.segments import by_segment, read_segments, vertices_of, whole_numbers
from geometry_jax import scene_io

Resolution = Literal["decimated", "full"]
SCAN_NAME = re.compile(r"scene\d{4}_\d{2}")
CONTAINERS = ("scans", "train", "val")  # folders of scans inside the raw folder
SPLITS = ("train", "val")
SPLIT_LIST = "scannetv2_{}.txt"  # the official lists, one id a line


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
    return listed(
        raw,
        "ScanNet",
        "scans/scene0000_00/scene0000_00.sens",
        lambda folder: (scan.name for scan in _scan_folders(folder)),
    )


def _scan_folder(raw: Path, source_id: str) -> Path:
    found = [folder for folder in _scan_folders(raw) if folder.name == source_id]
    if len(found) > 1:
        places = ", ".join(folder.parent.name for folder in found)
        raise ScanError(f"{raw}: expected scan {source_id} once, found it in {places}.")
    if not found:
        raise ScanError(f"{raw}: expected a scan {source_id!r}, found none.")
    return found[0]


def read_split_lists(folder: Path) -> dict[str, str]:
    """The split of each scan that the official lists name.

    Raises:
        ScanError: a list that is missing or is no text.
    """
    found = {}
    for split in SPLITS:
        path = folder / SPLIT_LIST.format(split)
        if not path.is_file():
            raise ScanError(f"{path}: expected a list of scans, found none.")
        found |= dict.fromkeys(raw_json.read_text(path).split(), split)
    return found


def _split_of(folder: Path, lists: Path | None, default: str) -> str:
    if lists is None:
        return folder.parent.name if folder.parent.name in SPLITS else default
    split = read_split_lists(lists).get(folder.name)
    if split is None:
        raise ScanError(f"{lists}: expected {folder.name} in one of the lists of scans.")
    return split


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


def read_objects(path: Path, segments: np.ndarray) -> tuple[list[ScanObject], list[Skipped]]:
    """The groups of an aggregation file that have vertices, and what was left out.

    Object ids count from 1, as in the published scenes: `objectId` + 1. A segment of two groups
    belongs to both objects.

    Args:
        segments: (V,) segment of every vertex, of the same resolution.

    Raises:
        ScanError: no list of groups, none that can be used, or two of one id.
    """
    groups = raw_json.read_object(path).get("segGroups")
    if not isinstance(groups, list):
        raise ScanError(f"{path}: expected a list under 'segGroups', got {type(groups).__name__}.")
    vertices = by_segment(segments)
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
        rows, lacking = vertices_of(own, vertices, name, path.name)
        skipped += lacking
        if len(rows):
            objects.append(ScanObject(number + 1, label, rows))
    require_some(objects, skipped, path)
    return objects, skipped


def _group_fault(group: Any) -> str:
    """What is wrong with a group of an aggregation file, in words; empty when nothing is."""
    if not isinstance(group, dict):
        return f"expected a record, got {type(group).__name__}"
    if whole_numbers(group.get("segments")) is None:
        return f"expected whole numbers under 'segments', got {group.get('segments')!r:.40}"
    return object_fault(group.get("objectId"), group.get("label"))


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
    named = raw_json.read_object(aggregation).get("segmentsFile")
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
    fault = "" if matrix is None else scene_io.pose_fault(matrix)
    if fault:
        raise ScanError(f"{path}: axisAlignment: {fault}.")
    return matrix


# --- the scan ------------------------------------------------------------------------------------


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
        frames, images, skipped = scannet_frames.from_sens(sens_path, keep_whole_frames)
    elif (folder / "color").is_dir() and (folder / "pose").is_dir():
        frames, images, skipped = scannet_frames.from_export(folder)
    else:
        raise ScanError(
            f"{folder}: expected {sens_path.name}, or the folders color, depth and pose of an "
            "export, found neither."
        )
    if not frames:
        raise ScanError(
            f"{folder}: expected frames with a pose, found none among "
            f"{len(skipped)}{first_reason(skipped)}."
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
        files=(
            *(folder / f"{source_id}{suffix}" for suffix in (".sens", ".txt", *files)),
            *(() if sens_path.is_file() else scannet_frames.exported_files(folder)),
        ),
    )
