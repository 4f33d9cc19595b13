"""The boxes of an ARKitScenes annotation as objects of a scan. Host side, NumPy.

Each entry of `data` has an oriented box `obbAligned` in metres, in the mesh frame, whose
`normalizedAxes` are nine numbers, the box's axes as rows. Its sibling `obb` is in centimetres and
in another frame, and isn't used.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.scan import Mesh, OrientedBox, ScanError, ScanObject, Skipped

LONGEST = 50.0  # metres; a longer side is one in other units
SKIN = 0.02  # metres: surfaces this near to a box's face may belong to what the box touches


def read_objects(path: Path, mesh: Mesh) -> tuple[tuple[ScanObject, ...], tuple[Skipped, ...]]:
    """The annotated objects, numbered by their place in the file from 1, and those left out.

    An object has the mesh's vertices in its box, less what the box stands on or leans against.

    Raises:
        ScanError: no such file, not JSON of this form, marked as skipped by its annotators, or two
            boxes with one `uid`.
    """
    objects, skipped = [], []
    uids: dict[str, int] = {}
    normals = vertex_normals(mesh)
    for object_id, entry in enumerate(_entries(path), start=1):
        what = f"object {object_id}"
        if not isinstance(entry, dict) or not isinstance(entry.get("label"), str):
            skipped.append(
                Skipped(what, f"{path}: expected an entry with a label, got {entry!r:.80}")
            )
            continue
        what = f"{what} ({entry['label']})"
        try:
            box = _box(entry)
        except ValueError as error:
            skipped.append(Skipped(what, f"{path}: {error}"))
            continue
        uid = entry.get("uid")
        if uid and uids.setdefault(str(uid), object_id) != object_id:
            raise ScanError(
                f"{path}: expected one object for each uid, got {uid!r} as object "
                f"{uids[str(uid)]} and object {object_id}."
            )
        own = vertices_in(box, mesh.points, normals)
        objects.append(ScanObject(object_id, entry["label"], own, box))
    return tuple(objects), tuple(skipped)


def _entries(path: Path) -> list[Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ScanError(
            f"{path}: expected an annotation in JSON, cannot read it: {error}"
        ) from error
    if not isinstance(record, dict) or not isinstance(record.get("data"), list):
        raise ScanError(f"{path}: expected an object with a list 'data', got {record!r:.80}.")
    if record.get("skipped"):
        raise ScanError(
            f"{path}: expected a finished annotation, but its annotators skipped this scan "
            f"(skipped: {record['skipped']!r}, comment: {record.get('comment')!r:.80})."
        )
    return record["data"]


def _box(entry: dict[str, Any]) -> OrientedBox:
    """Raises ValueError, which says what is wrong."""
    segments = entry.get("segments")
    aligned = segments.get("obbAligned") if isinstance(segments, dict) else None
    if not isinstance(aligned, dict):
        beside = "only an obb, in centimetres and another frame" if segments else "no box"
        raise ValueError(f"expected a box segments.obbAligned, found {beside}")
    center = _numbers(aligned, "centroid", 3)
    extent = _numbers(aligned, "axesLengths", 3)
    axes = _numbers(aligned, "normalizedAxes", 9).reshape(3, 3)
    if (extent < 0).any() or not 0 < extent.max() <= LONGEST:
        raise ValueError(f"expected side lengths of 0 to {LONGEST:.0f} metres, got {extent}")
    if np.abs(axes @ axes.T - np.eye(3)).max() > 1e-2:
        raise ValueError(f"expected orthonormal axes, got {axes.tolist()}")
    if np.linalg.det(axes) < 0:
        axes[2] = -axes[2]  # the same box, its axes right-handed
    return OrientedBox(center, extent, axes.T)


def _numbers(record: dict[str, Any], key: str, count: int) -> np.ndarray:
    try:
        numbers = np.asarray(record.get(key), np.float64).ravel()
    except (TypeError, ValueError):
        numbers = np.zeros(0)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise ValueError(f"{key}: expected {count} finite numbers, got {record.get(key)!r:.80}")
    return numbers


def vertex_normals(mesh: Mesh) -> np.ndarray:
    """(V, 3) unit normals, weighted by the triangles' areas; 0 where a vertex has no triangle."""
    corners = mesh.points[mesh.faces].astype(np.float64)  # (T, 3, 3)
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.stack(
        [
            np.bincount(mesh.faces.ravel(), np.repeat(across[:, axis], 3), len(mesh.points))
            for axis in range(3)
        ],
        -1,
    )
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.divide(total, length, out=np.zeros_like(total), where=length > 0)


def vertices_in(box: OrientedBox, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """(k,) i64 rows of the points (V, 3) that belong to what the box holds.

    The floor under a chair lies in the chair's box, or nearly so. Where a surface within `SKIN` of
    a face of the box looks into the box, it is of the thing outside and is left out.
    """
    reach = np.linalg.norm(box.extent) / 2 + SKIN
    near = np.flatnonzero((np.abs(points - box.center) <= reach).all(axis=1))
    local = (points[near] - box.center) @ box.rotation
    beyond = np.abs(local) - box.extent / 2  # of the nearer face along each axis
    looks_in = np.sign(local) * (normals[near] @ box.rotation) < -0.5
    of_neighbour = (looks_in & (beyond > -SKIN)).any(axis=1)
    return near[(beyond <= SKIN / 2).all(axis=1) & ~of_neighbour]
