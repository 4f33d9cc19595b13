"""Reads ScanNet++: stills of the DSLR, or the video of the iPhone, with the laser scanner's mesh.

    <raw>/data/<10 hex digits>/scans/mesh_aligned_0.05.ply, segments.json, segments_anno.json
                               dslr/      see `scannetpp_dslr`
                               iphone/    see `scannetpp_iphone`
    <raw>/splits/*.txt

Scans may also lie in <raw> itself. The mesh frame is metric with z up; its yaw is arbitrary, and
the data set gives no alignment.
"""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from data_pipelines import meshes, raw_json, scannetpp_dslr, scannetpp_iphone
from data_pipelines.scan import (
    Mesh,
    OrientedBox,
    Scan,
    ScanError,
    ScanObject,
    Skipped,
    listed,
    object_fault,
    require_some,
)
from data_pipelines.segments import by_segment, read_segments, vertices_of, whole_numbers

Camera = Literal["dslr", "iphone"]
Split = Literal["train", "val"]
SCAN_NAME = re.compile(r"[0-9a-f]{10}")
PARTS = ("scans", "dslr", "iphone")  # folders of a scan
SLACK = 0.2  # metres between a box and its vertices
MOST = 0.9  # share of its vertices that a box holds
LARGER = 1.5  # times the span of its vertices that a box may have
MESH, SEGMENTS, OBJECTS = "mesh_aligned_0.05.ply", "segments.json", "segments_anno.json"


# --- which scans there are -----------------------------------------------------------------------


def list_scans(raw: Path) -> tuple[str, ...]:
    """Ids of the scans in a folder, sorted.

    Raises:
        ScanError: no such folder, or no scan in it.
    """
    return listed(
        raw,
        "ScanNet++",
        "data/0a1b2c3d4e/scans and data/0a1b2c3d4e/dslr",
        lambda folder: (scan.name for scan in _scan_folders(folder)),
    )


def _scan_folders(raw: Path) -> Iterator[Path]:
    try:
        for parent in (raw, raw / "data"):
            for folder in parent.iterdir() if parent.is_dir() else ():
                if SCAN_NAME.fullmatch(folder.name) and any((folder / p).is_dir() for p in PARTS):
                    yield folder
    except OSError as error:
        raise ScanError(f"{raw}: expected a folder that can be read ({error}).") from error


def _scan_folder(raw: Path, source_id: str) -> Path:
    for folder in _scan_folders(raw):
        if folder.name == source_id:
            return folder
    raise ScanError(f"{raw}: expected a scan {source_id!r}, found none.")


def split_of(raw: Path, source_id: str) -> Split:
    """ "val" for a scan of a validation or test list of the data set, else "train"."""
    for folder in (raw / "splits", raw.parent / "splits"):
        for path in sorted(folder.glob("*.txt")):
            held_out = re.search(r"val|test", path.stem)
            if held_out and source_id in path.read_bytes().decode(errors="replace").split():
                return "val"
    return "train"


# --- objects -------------------------------------------------------------------------------------


def read_objects(path: Path, segments: np.ndarray) -> tuple[list[ScanObject], list[Skipped]]:
    """The annotated objects that have vertices, and what was left out. A segment of several objects
    belongs to each of them.

    Args:
        segments: (V,) segment of every vertex; as released, each has one of its own.

    Raises:
        ScanError: no list of objects, none that can be used, or two of one id.
    """
    groups = raw_json.field(raw_json.read_object(path), "segGroups", list, path)
    vertices = by_segment(segments)
    objects, skipped, labels = [], [], {}
    for position, record in enumerate(groups):
        try:
            group = _parse_group(record)
        except ScanError as error:
            skipped.append(Skipped(f"object {position} of the file", f"{path.name}: {error}"))
            continue
        name = f"object {group.object_id} ({group.label})"
        if group.object_id in labels:
            raise ScanError(
                f"{path}: expected distinct values of objectId, got {group.object_id} for both "
                f"{labels[group.object_id]!r} and {group.label!r}."
            )
        labels[group.object_id] = group.label
        rows, lacking = vertices_of(group.segments, vertices, name, path.name)
        skipped += lacking
        if not len(rows):
            continue
        try:
            box = None if record.get("obb") is None else _oriented_box(record["obb"])
        except ScanError as error:
            box = None
            skipped.append(Skipped(f"box of {name}", f"{path.name}: {error}"))
        objects.append(ScanObject(group.object_id, group.label, rows, box))
    require_some(objects, skipped, path)
    return objects, skipped


class _Group(NamedTuple):
    object_id: int
    label: str
    segments: np.ndarray  # (k,) i64, ascending, without repeats


def _parse_group(record: Any) -> _Group:
    object_id = raw_json.field(record, "objectId", int, "group")
    label = raw_json.field(record, "label", str, "group")
    segments = whole_numbers(record.get("segments"))
    fault = object_fault(object_id, label)
    if fault:
        raise ScanError(fault)
    if segments is None:
        raise ScanError(
            f"expected whole numbers under 'segments', got {record.get('segments')!r:.40}"
        )
    return _Group(object_id, label, np.unique(segments))


def _oriented_box(obb: Any) -> OrientedBox:
    center, extent, axes = (
        raw_json.numbers(obb.get(name) if isinstance(obb, dict) else None, (size,), name)
        for name, size in (("centroid", 3), ("axesLengths", 3), ("normalizedAxes", 9))
    )
    rotation = axes.reshape(3, 3).T  # the file's rows are the box's axes
    if not np.isfinite([*center, *extent]).all() or (extent < 0).any():
        raise ScanError(f"expected a box, got {center.tolist()} with sides {extent.tolist()}")
    if not np.abs(rotation.T @ rotation - np.eye(3)).max() <= 1e-2:
        raise ScanError(f"expected three unit axes at right angles, got {axes.tolist()}")
    # A box has no handedness: turn the third axis round where the three are left-handed.
    rotation[:, 2] *= np.sign(np.linalg.det(rotation))
    return OrientedBox(center, extent, rotation)


def _with_fitting_boxes(
    objects: list[ScanObject], mesh: Mesh, name: str
) -> tuple[list[ScanObject], list[Skipped]]:
    """The objects without boxes that are not about their vertices, and which those were."""
    kept, skipped = [], []
    for one in objects:
        fault = "" if one.box is None else _misfit(one.box, mesh.points[one.vertices])
        if fault:
            skipped.append(
                Skipped(f"box of object {one.object_id} ({one.label})", f"{name}: {fault}")
            )
        kept.append(dataclasses.replace(one, box=None) if fault else one)
    return kept, skipped


def _misfit(box: OrientedBox, points: np.ndarray) -> str:
    """Why a box can't be that of (k, 3) points, in words; empty where it can. Released boxes are
    the least around the vertices; annotators may have moved a face.
    """
    local = (points - box.center) @ box.rotation
    inside = (np.abs(local) <= box.extent / 2 + SLACK).all(axis=1).mean()
    if inside < MOST:
        return f"expected its {len(points)} vertices inside, {inside:.0%} are"
    if (box.extent > LARGER * np.ptp(local, axis=0) + SLACK).any():
        sides, span = box.extent.tolist(), np.round(np.ptp(local, axis=0), 2).tolist()
        return f"expected a box about as large as its vertices' {span} metres, got {sides}"
    return ""


# --- a scan --------------------------------------------------------------------------------------


def read_scan(
    raw: Path,
    source_id: str,
    *,
    camera: Camera = "dslr",
    part: scannetpp_dslr.Part = "train",
    split: Split | None = None,
) -> Scan:
    """Reads one scan; pixels stay where they are until asked for.

    Args:
        raw: the folder that `list_scans` lists.
        camera: whose pictures: stills in no order of time, or a video.
        part: of the stills: the training images, the held-out ones, or all.
        split: None takes it from the data set's lists.

    Raises:
        ScanError: something is missing, cut short or of the wrong form; the message names the file.
    """
    folder = _scan_folder(raw, source_id)
    try:
        return _read(folder, camera, part, split or split_of(raw, source_id))
    except OSError as error:
        raise ScanError(f"{folder}: expected files that can be read ({error}).") from error


def _read(folder: Path, camera: Camera, part: scannetpp_dslr.Part, split: Split) -> Scan:
    scans = folder / "scans"
    files = [scans / name for name in (MESH, SEGMENTS, OBJECTS)]
    mesh = meshes.read_mesh(files[0])
    objects, left_out = read_objects(files[2], read_segments(files[1], len(mesh.points)))
    objects, unlike = _with_fitting_boxes(objects, mesh, files[2].name)
    if camera == "dslr":
        frames, images, skipped = scannetpp_dslr.read_frames(folder / "dslr", mesh, part=part)
        files += [folder / "dslr" / name for name in scannetpp_dslr.CONSULTED]
    else:
        frames, images, skipped = scannetpp_iphone.read_frames(folder / "iphone")
        files += [folder / "iphone" / name for name in scannetpp_iphone.FILES]
    return Scan(
        dataset="scannetpp",
        scene_id=f"scene{folder.name}_00",
        source_id=folder.name,
        split=split,
        mesh=mesh,
        objects=tuple(objects),
        frames=tuple(frames),
        images=images,
        world_from_mesh=None,
        is_video=camera == "iphone",
        skipped=(*skipped, *left_out, *unlike),
        files=tuple(files),
    )
