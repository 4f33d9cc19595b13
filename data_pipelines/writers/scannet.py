"""Writes a scan as ScanNet releases it, so that the reader can be tried without licensed data."""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from data_pipelines import meshes, sens
from data_pipelines.scan import HALF_PIXEL, Mesh, Scan, ScanFrame
from data_pipelines.scannet import MESH_FILES

SEGMENT_SIZE = 200  # vertices of a segment at most, so that objects have several
LOST = np.full((4, 4), -np.inf)
SENSOR = "StructureSensor"
SEGMENTER = {
    "kThresh": "0.0001",
    "segMinVerts": "20",
    "minPoints": "750",
    "maxPoints": "30000",
    "thinThresh": "0.05",
    "flatThresh": "0.001",
    "minLength": "0.02",
    "maxLength": "1",
}


def write_scan(
    scan: Scan,
    raw: Path,
    *,
    form: Literal["sens", "exported"] = "sens",
    lost: Collection[int] = (),
    color_codec: sens.ColorCodec = sens.ColorCodec.JPEG,
    depth_codec: sens.DepthCodec = sens.DepthCodec.ZLIB,
) -> None:
    """Writes `<raw>/scans/<source_id>/`: pictures and poses, both meshes with their segments and
    objects, and the text file.

    The decimated mesh is the scan's; the full one has its edges halved. Object ids are written from
    0, one less than they are.

    Args:
        form: a .sens file, or the folders that ScanNet's exporter makes of one.
        lost: ids of frames whose pose is written as -inf, as where tracking was lost. Ids that the
            scan has no frame for are written so too, with empty images.

    Raises:
        ValueError: frames of differing sizes or intrinsics, which a .sens file has no place for.
    """
    first = scan.frames[0]
    if any(_camera(frame) != _camera(first) for frame in scan.frames):
        raise ValueError(f"{scan.source_id}: expected frames of one camera.")
    folder = raw / "scans" / scan.source_id
    folder.mkdir(parents=True, exist_ok=True)
    members = [one.vertices for one in scan.objects]
    _write_labelled_mesh(folder, scan, MESH_FILES["decimated"], scan.mesh, members)
    _write_labelled_mesh(folder, scan, MESH_FILES["full"], *halved(scan.mesh, members))
    _write_text(folder / f"{scan.source_id}.txt", scan)
    header = sens.SensHeader(
        SENSOR,
        _square(first.color_intrinsics - HALF_PIXEL),
        np.eye(4, dtype=np.float32),
        _square(first.depth_intrinsics - HALF_PIXEL),
        np.eye(4, dtype=np.float32),
        color_codec,
        depth_codec,
        first.color_size,
        first.depth_size,
    )
    if form == "exported":
        _write_export(folder, scan, header, lost)
    else:
        frames = _sens_frames(scan, header, lost)
        sens.write_sens(folder / f"{scan.source_id}.sens", header, frames)


def _camera(frame: ScanFrame) -> tuple[Any, ...]:
    matrices = (frame.color_intrinsics, frame.depth_intrinsics)
    return (*(one.tobytes() for one in matrices), frame.color_size, frame.depth_size)


def _square(intrinsics: np.ndarray) -> np.ndarray:
    full = np.eye(4, dtype=np.float32)
    full[:3, :3] = intrinsics
    return full


# --- mesh and objects ----------------------------------------------------------------------------


def halved(mesh: Mesh, members: list[np.ndarray]) -> tuple[Mesh, list[np.ndarray]]:
    """The same surface with four triangles for each; new vertices lie halfway along edges.

    Returns:
        The mesh, and the members (rows of vertices) of each object: a new vertex belongs to the
        objects that both of its ends belong to.
    """
    corners = mesh.faces
    edges = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
    count = len(mesh.points)
    keys, row = np.unique(edges.min(1).astype(np.int64) * count + edges.max(1), return_inverse=True)
    ends = np.stack(np.divmod(keys, count), axis=1)
    middle = (count + row.reshape(3, -1)).astype(np.int32)  # of ab, bc, ca
    a, b, c = corners.T
    ab, bc, ca = middle
    triangles = [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
    finer = Mesh(
        np.concatenate([mesh.points, mesh.points[ends].mean(1)]).astype(np.float32),
        np.concatenate([mesh.colors, mesh.colors[ends].mean(1).astype(np.uint8)]),
        np.concatenate([np.stack(one, axis=1) for one in triangles]).astype(np.int32),
    )
    grown = []
    for own in members:
        inside = np.zeros(count, bool)
        inside[own] = True
        between = count + np.flatnonzero(inside[ends].all(1))
        grown.append(np.concatenate([np.sort(own), between]))
    return finer, grown


def segment(vertex_count: int, members: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Cuts the vertices into segments so that each object is made of whole ones.

    Returns:
        (V,) segment of every vertex, named by its first vertex, and the segments of each object.
    """
    kind = np.zeros(vertex_count, np.int64)  # vertices of the same objects are of one kind
    for own in members:
        joined = np.zeros(vertex_count, np.int64)
        joined[own] = 1
        _, kind = np.unique(2 * kind + joined, return_inverse=True)
    order = np.argsort(kind, kind="stable")
    ordered = kind[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    place = np.arange(vertex_count) - np.repeat(starts, np.diff(starts, append=vertex_count))
    opens = place % SEGMENT_SIZE == 0
    segments = np.empty(vertex_count, np.int64)
    segments[order] = order[opens][np.cumsum(opens) - 1]
    return segments, [np.unique(segments[own]) for own in members]


def _write_labelled_mesh(
    folder: Path,
    scan: Scan,
    files: tuple[str, str, str],
    mesh: Mesh,
    members: list[np.ndarray],
) -> None:
    mesh_path, segments_path, aggregation_path = (
        folder / f"{scan.source_id}{suffix}" for suffix in files
    )
    meshes.write_mesh(mesh_path, mesh, alpha=True)
    segments, of_object = segment(len(mesh.points), members)
    _write_json(
        segments_path,
        {"params": SEGMENTER, "sceneId": scan.source_id, "segIndices": segments.tolist()},
    )
    groups = [
        {
            "id": row,
            "objectId": one.object_id - 1,
            "segments": own.tolist(),
            "label": one.label,
        }
        for row, (one, own) in enumerate(zip(scan.objects, of_object, strict=True))
    ]
    _write_json(
        aggregation_path,
        {
            "sceneId": f"scannet.{scan.source_id}",
            "appId": "Aggregator.v2",
            "segGroups": groups,
            "segmentsFile": f"scannet.{segments_path.name}",
        },
    )


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def _write_text(path: Path, scan: Scan) -> None:
    first, count = scan.frames[0], scan.frames[-1].frame_id + 1
    values: dict[str, object] = {}
    if scan.world_from_mesh is not None:
        # The blank at the end of the line is in the released files too.
        values["axisAlignment"] = "".join(f"{x:.6f} " for x in scan.world_from_mesh.ravel())
    sizes = {"color": first.color_size, "depth": first.depth_size}
    cameras = {"color": first.color_intrinsics, "depth": first.depth_intrinsics}
    for kind, (width, height) in sizes.items():
        values |= {f"{kind}Width": width, f"{kind}Height": height}
        values[f"num{kind.capitalize()}Frames"] = count
    for kind, matrix in cameras.items():
        (fx, _, mx), (_, fy, my), _ = matrix - HALF_PIXEL
        for name, number in (("fx", fx), ("fy", fy), ("mx", mx), ("my", my)):
            values[f"{name}_{kind}"] = f"{number:.6f}"
    # Not the identity in the released files either, and not to be applied: depth is registered.
    shift = np.eye(4)
    shift[0, 3] = -0.038
    values["colorToDepthExtrinsics"] = " ".join(f"{x:.6f}" for x in shift.ravel())
    values |= {"numIMUmeasurements": 0, "sceneType": "Misc."}
    path.write_text("".join(f"{name} = {values[name]}\n" for name in sorted(values)))


# --- frames --------------------------------------------------------------------------------------


def _sens_frames(
    scan: Scan, header: sens.SensHeader, lost: Collection[int]
) -> Iterator[sens.SensFrame]:
    frames = {frame.frame_id: frame for frame in scan.frames}
    for number in range(scan.frames[-1].frame_id + 1):
        frame = frames.get(number)
        if frame is None:
            yield sens.SensFrame(LOST, b"", b"")
            continue
        jpeg = scan.images.color_jpeg(frame) if header.color_codec == sens.ColorCodec.JPEG else None
        color = jpeg or sens.encode_color(scan.images.color(frame), header.color_codec)
        depth = sens.encode_depth(scan.images.depth(frame), header.depth_codec)
        pose = LOST if number in lost else frame.mesh_from_camera
        time = 0 if np.isnan(frame.time) else round(frame.time * 1e6)
        yield sens.SensFrame(pose, color, depth, time, time)


def _write_export(folder: Path, scan: Scan, header: sens.SensHeader, lost: Collection[int]) -> None:
    for name in ("color", "depth", "pose", "intrinsic"):
        (folder / name).mkdir(exist_ok=True)
    for kind in ("color", "depth"):
        for part in ("intrinsic", "extrinsic"):
            matrix = getattr(header, f"{kind}_{part}s")
            _write_matrix(folder / "intrinsic" / f"{part}_{kind}.txt", matrix)
    for frame in scan.frames:
        number = frame.frame_id
        jpeg = scan.images.color_jpeg(frame)
        content = jpeg or sens.encode_color(scan.images.color(frame), sens.ColorCodec.JPEG)
        (folder / "color" / f"{number}.jpg").write_bytes(content)
        Image.fromarray(scan.images.depth(frame)).save(folder / "depth" / f"{number}.png")
        pose = LOST if number in lost else frame.mesh_from_camera
        _write_matrix(folder / "pose" / f"{number}.txt", pose)


def _write_matrix(path: Path, matrix: np.ndarray) -> None:
    path.write_text("".join(" ".join(f"{x:.6f}" for x in row) + "\n" for row in matrix))
