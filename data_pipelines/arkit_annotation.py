"""The boxes of an ARKitScenes annotation as objects of a scan. Host side, NumPy.

Each entry of `data` has an oriented box `obbAligned` in metres, in the mesh frame, whose
`normalizedAxes` are nine numbers, the box's axes as rows. Its sibling `obb` is in centimetres and
in another frame, and isn't used.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from data_pipelines import raw_json
from data_pipelines.scan import (
    Mesh,
    OrientedBox,
    ScanError,
    ScanObject,
    Skipped,
    label_fault,
    require_some,
)

LONGEST = 50.0  # metres; a longer side is one in other units
SKIN = 0.02  # metres: surfaces this near to a box's face may belong to what the box touches
OUTSIDE = 1.0  # metres between the mesh and a box of it, at most: meshes have holes at windows
AROUND = 0.3  # metres around a box in which such a surface is followed


def read_objects(
    path: Path, mesh: Mesh, eyes: np.ndarray
) -> tuple[tuple[ScanObject, ...], tuple[Skipped, ...]]:
    """The annotated objects, numbered by their place in the file from 1, and those left out.

    An object has the mesh's vertices in its box, less what the box stands on or leans against;
    what lies in several boxes belongs to the smallest of them.

    Args:
        eyes: (P, 3) where the camera was, metres, in the mesh frame.

    Raises:
        ScanError: no such file, not JSON of this form, marked as skipped by its annotators, two
            boxes with one `uid`, or none that can be used.
    """
    found: list[tuple[int, str, OrientedBox]] = []
    skipped = []
    uids: dict[str, int] = {}
    for object_id, entry in enumerate(_entries(path), start=1):
        what = f"object {object_id}"
        fault = label_fault(entry.get("label") if isinstance(entry, dict) else None)
        if fault:
            skipped.append(Skipped(what, f"{path}: {fault}"))
            continue
        what = f"{what} ({entry['label']})"
        try:
            box = _box(entry)
            _check_near(box, mesh)
        except ValueError as error:
            skipped.append(Skipped(what, f"{path}: {error}"))
            continue
        uid = entry.get("uid")
        if uid and uids.setdefault(str(uid), object_id) != object_id:
            raise ScanError(
                f"{path}: expected one object for each uid, got {uid!r} as object "
                f"{uids[str(uid)]} and object {object_id}."
            )
        found.append((object_id, entry["label"], box))
    owned = _owned([box for _, _, box in found], mesh, eyes)
    objects = tuple(
        ScanObject(object_id, label, own, box)
        for (object_id, label, box), own in zip(found, owned, strict=True)
    )
    require_some(objects, skipped, path)
    return objects, tuple(skipped)


def _entries(path: Path) -> list[Any]:
    record = raw_json.read_object(path)
    entries = raw_json.field(record, "data", list, path)
    if record.get("skipped"):
        raise ScanError(
            f"{path}: expected a finished annotation, but its annotators skipped this scan "
            f"(skipped: {record['skipped']!r}, comment: {record.get('comment')!r:.80})."
        )
    return entries


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


def _check_near(box: OrientedBox, mesh: Mesh) -> None:
    """Raises ValueError where the box has nothing to do with the mesh."""
    corners = box.corners()
    apart = np.maximum(mesh.points.min(0) - corners.max(0), corners.min(0) - mesh.points.max(0))
    if apart.max() > OUTSIDE:
        raise ValueError(f"expected a box in the mesh, got one {apart.max():.1f} metres outside it")


def _numbers(record: dict[str, Any], key: str, count: int) -> np.ndarray:
    try:
        numbers = np.asarray(record.get(key), np.float64).ravel()
    except (TypeError, ValueError):
        numbers = np.zeros(0)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise ValueError(f"{key}: expected {count} finite numbers, got {record.get(key)!r:.80}")
    return numbers


def _owned(boxes: Sequence[OrientedBox], mesh: Mesh, eyes: np.ndarray) -> list[np.ndarray]:
    """The vertices of each box, (k,) i64 rows of the mesh's points."""
    normals = vertex_normals(mesh)
    # Triangles need not be wound alike; what was seen faces where the camera was.
    to_eyes = np.einsum("vx,vx->v", normals, eyes.mean(axis=0) - mesh.points)
    facing = normals * np.sign(to_eyes)[:, None]
    inside = [
        np.intersect1d(
            vertices_in(box, mesh.points, normals, mesh.faces),
            vertices_in(box, mesh.points, facing, mesh.faces),
        )
        for box in boxes
    ]
    owner = np.full(len(mesh.points), -1)
    for index in np.argsort([-box.extent.prod() for box in boxes], kind="stable"):
        owner[inside[index]] = index  # the smallest comes last
    return [rows[owner[rows] == index] for index, rows in enumerate(inside)]


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


def vertices_in(
    box: OrientedBox, points: np.ndarray, normals: np.ndarray, faces: np.ndarray | None = None
) -> np.ndarray:
    """(k,) i64 rows of the points (V, 3) that belong to what the box holds.

    The floor under a chair lies in the chair's box, or nearly so. A surface within `SKIN` of a face
    of the box that looks into the box is of the thing outside, and left out, where it goes on
    outside the box; a keyboard, as thin, ends inside. Without `faces` (T, 3) that isn't known, and
    all such surfaces are left out.
    """
    reach = np.linalg.norm(box.extent) / 2 + AROUND
    near = np.flatnonzero((np.abs(points - box.center) <= reach).all(axis=1))
    local = (points[near] - box.center) @ box.rotation
    beyond = np.abs(local) - box.extent / 2  # of the nearer face along each axis
    inside = np.asarray((beyond <= SKIN / 2).all(axis=1))
    own = inside.copy()
    looks_in = np.sign(local) * (normals[near] @ box.rotation) < -0.5
    edges = None if faces is None else _edges(faces, near, len(points))
    for axis, side in itertools.product(range(3), (-1, 1)):
        on_face = looks_in[:, axis] & (np.abs(beyond[:, axis]) <= SKIN)
        on_face &= np.sign(local[:, axis]) == side
        if edges is not None:
            on_face = _goes_on(on_face, inside, edges)
        own &= ~on_face
    return near[own]


def _edges(faces: np.ndarray, near: np.ndarray, count: int) -> np.ndarray:
    """(E, 2) edges of the triangles whose corners are all in `near`, as places in it."""
    place = np.full(count, -1)
    place[near] = np.arange(len(near))
    corners = place[faces]
    corners = corners[(corners >= 0).all(axis=1)]
    return np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])


def _goes_on(surface: np.ndarray, inside: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(n,) bool: the vertices of the surface whose connected piece reaches out of the inside."""
    edges = edges[surface[edges].all(axis=1)]
    graph = coo_array((np.ones(len(edges), bool), edges.T), shape=(len(surface),) * 2)
    _, piece = connected_components(graph, directed=False)
    return surface & np.isin(piece, piece[surface & ~inside])
