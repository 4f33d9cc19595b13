"""Writes scenes in the published unified layout, whole or not at all.

A scene is first written into a hidden folder beside its place and then renamed; the metadata folder
is renamed last, so that a scene with metadata is complete. Files: see `geometry_jax.scene_io` for
what is read back.
"""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from plyfile import PlyData, PlyElement

from geometry_jax import scene_io

VISIBILITY_FLOOR = 0.1
JPEG_QUALITY = 95


@dataclasses.dataclass(frozen=True)
class ObjectRecord:
    """One labelled object."""

    object_id: int  # from 1
    label: str
    aabb: np.ndarray  # (6,) minima and maxima, world metres
    obb_center: np.ndarray  # (3,) world metres
    obb_extent: np.ndarray  # (3,) full sides, metres
    obb_yaw: float  # radians
    points: np.ndarray  # (k, 3) world metres
    color: np.ndarray  # (3,) uint8, of its points


@dataclasses.dataclass(frozen=True)
class SeenObject:
    """What one frame shows of an object."""

    object_id: int
    visibility: float
    truncated: bool
    occluded: bool
    bbox_2d: tuple[int, int, int, int]  # pixels
    camera_location: np.ndarray  # (3,) metres in the camera


@dataclasses.dataclass(frozen=True)
class FrameRecord:
    frame_id: int
    color: np.ndarray  # (H, W, 3) uint8
    depth: np.ndarray  # (H, W) metres
    seen: tuple[SeenObject, ...]


@dataclasses.dataclass(frozen=True)
class SceneSource:
    """Everything a scene folder holds."""

    scene_id: str
    room_size: float  # square metres
    floor_polygon: np.ndarray  # (n, 2) world metres
    objects: tuple[ObjectRecord, ...]
    frames: tuple[FrameRecord, ...]
    poses: np.ndarray  # (M, 4, 4) world_from_camera; the row is the frame id
    intrinsics: np.ndarray  # (3, 3) pixels
    surfaces: tuple[
        tuple[str, np.ndarray, np.ndarray], ...
    ]  # label, (k, 3) points, (3,) colour: floor, walls


def is_complete(root: Path, split: str, scene_id: str) -> bool:
    """Whether a scene was written to the end."""
    metadata = root / "metadata" / scene_id / f"{scene_id}.npz"
    return metadata.is_file() and (root / split / scene_id).is_dir()


def write_scene(root: Path, split: str, source: SceneSource) -> None:
    """Writes one scene; leftovers of an earlier, interrupted try are replaced."""
    name = source.scene_id
    folder, metadata = root / split / name, root / "metadata" / name
    part_folder, part_metadata = (
        folder.with_name(f".{name}.part"),
        metadata.with_name(f".{name}.part"),
    )
    for path in (folder, metadata, part_folder, part_metadata):
        if path.exists():
            shutil.rmtree(path)
    part_folder.mkdir(parents=True)
    part_metadata.mkdir(parents=True)
    _write_folder(part_folder, source)
    _write_metadata(part_metadata, source)
    part_folder.rename(folder)
    record = scene_io.read_layout(folder, part_metadata, scene_id=name)
    record = scene_io.with_points(record, [one.points for one in source.objects])
    scene_io.save_packed(record, part_metadata / f"{name}.npz")
    part_metadata.rename(metadata)


def _matrix(path: Path, matrix: np.ndarray) -> None:
    path.write_text("".join(" ".join(f"{x:.8f}" for x in row) + "\n" for row in matrix))


def _square(intrinsics: np.ndarray) -> np.ndarray:
    full = np.eye(4)
    full[:3, :3] = intrinsics
    return full


def _write_folder(folder: Path, source: SceneSource) -> None:
    for sub in ("color", "depth", "pose", scene_io.FRAME_FOLDER):
        (folder / sub).mkdir()
    for index, pose in enumerate(source.poses):
        _matrix(folder / "pose" / f"{index}.txt", pose)
    for frame in source.frames:
        shown = folder / "color" / f"{frame.frame_id}.jpg"
        Image.fromarray(frame.color).save(shown, quality=JPEG_QUALITY, subsampling=0)
        shutil.copyfile(shown, folder / scene_io.FRAME_FOLDER / shown.name)
        millimetres = np.clip(np.rint(frame.depth * 1000), 0, 65535).astype(np.uint16)
        Image.fromarray(millimetres).save(folder / "depth" / f"{frame.frame_id}.png")
    for kind in ("color", "depth"):
        _matrix(folder / f"intrinsic_{kind}.txt", _square(source.intrinsics))
        _matrix(folder / f"extrinsic_{kind}.txt", np.eye(4))
    alignment = " ".join(f"{x:.6f}" for x in np.eye(4).ravel())
    (folder / f"{source.scene_id}.txt").write_text(f"axisAlignment = {alignment}\n")
    _write_mesh(folder, source)
    (folder / "processed").touch()


def _write_mesh(folder: Path, source: SceneSource) -> None:
    """The labelled vertices: segment i is group i, surfaces first, as scans have them."""
    groups = [*source.surfaces, *((o.label, o.points, o.color) for o in source.objects)]
    points = np.concatenate([cloud for _, cloud, _ in groups]).astype(np.float32)
    colors = np.concatenate([np.tile(c, (len(cloud), 1)) for _, cloud, c in groups])
    segments = np.repeat(np.arange(len(groups)), [len(cloud) for _, cloud, _ in groups])
    vertex = np.empty(
        len(points),
        dtype=[(n, "f4") for n in ("x", "y", "z")] + [(n, "u1") for n in ("red", "green", "blue")],
    )
    for axis, name in enumerate(("x", "y", "z")):
        vertex[name] = points[:, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        vertex[name] = colors[:, channel]
    stem = folder / f"{source.scene_id}_vh_clean"
    PlyData([PlyElement.describe(vertex, "vertex")], text=False).write(f"{stem}.ply")
    _json(Path(f"{stem}.segs.json"), {"sceneId": source.scene_id, "segIndices": segments.tolist()})
    first_object = len(source.surfaces)
    _json(
        Path(f"{stem}.aggregation.json"),
        {
            "sceneId": source.scene_id,
            "segGroups": [
                {
                    "objectId": index,
                    "label": label,
                    "segments": [index],
                    "surface": index < first_object,
                }
                for index, (label, _, _) in enumerate(groups)
            ],
        },
    )


def _json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def _rounded(values: np.ndarray | Sequence[float]) -> list[float]:
    return [round(float(x), 6) for x in values]


def _object_json(one: ObjectRecord) -> dict[str, Any]:
    low, high = one.aabb[:3], one.aabb[3:]
    return {
        "object_id": one.object_id,
        "label": one.label,
        "size": round(float((high - low).max() * 100), 6),
        "3d_bbox": _rounded(one.aabb),
        "3d_location": _rounded((low + high) / 2),
    }


def _write_metadata(folder: Path, source: SceneSource) -> None:
    first_frame = {}
    for frame in source.frames:
        for seen in frame.seen:
            if seen.visibility >= VISIBILITY_FLOOR:
                first_frame.setdefault(seen.object_id, f"{frame.frame_id}.jpg")
    objects = [
        _object_json(one)
        | {
            "first_frame": first_frame.get(one.object_id, "-1"),
            "obb": {
                "center": _rounded(one.obb_center),
                "extent": _rounded(one.obb_extent),
                "yaw": round(float(one.obb_yaw), 8),
            },
        }
        for one in source.objects
    ]
    scene = {
        "scene_id": source.scene_id,
        "room_size": round(source.room_size, 6),
        "floor_polygon": [_rounded(corner) for corner in source.floor_polygon],
        "objects": objects,
    }
    _json(folder / f"{source.scene_id}.json", scene)
    (folder / scene_io.FRAME_FOLDER).mkdir()
    by_id = {one.object_id: _object_json(one) for one in source.objects}
    for frame in source.frames:
        height, width = frame.depth.shape
        record = {
            "scene_id": source.scene_id,
            "frame_id": f"{frame.frame_id}.jpg",
            "image_size": [width, height],
            "objects": [
                by_id[seen.object_id]
                | {
                    "visibility": round(seen.visibility, 4),
                    "truncated": seen.truncated,
                    "occluded": seen.occluded,
                    "2d_bbox": list(seen.bbox_2d),
                    "camera_location": _rounded(seen.camera_location),
                }
                for seen in frame.seen
            ],
        }
        _json(folder / scene_io.FRAME_FOLDER / f"{frame.frame_id}.json", record)
