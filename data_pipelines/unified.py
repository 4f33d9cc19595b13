"""Writes scenes in the published unified layout, whole or not at all.

A scene is first written into a hidden folder beside its place and then renamed; the metadata folder
is renamed last, so that a scene with metadata is complete. Files: see `geometry_jax.scene_io` for
what is read back.
"""

import dataclasses
import io
import json
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import ExifTags, Image
from plyfile import PlyData, PlyElement

from geometry_jax import scene_io

SPLITS = ("train", "val")
VISIBILITY_FLOOR = 0.1
JPEG_QUALITY = 95
SCHEMA_VERSION = 2  # of what scenes from scans have beside the published keys


@dataclasses.dataclass(frozen=True)
class ObjectRecord:
    """One labelled object."""

    object_id: int  # from 1
    label: str
    aabb: np.ndarray  # (6,) minima and maxima, world metres
    obb_center: np.ndarray  # (3,) world metres
    obb_extent: np.ndarray  # (3,) full sides, metres
    obb_yaw: float  # radians
    points: np.ndarray  # (k, 3) world metres, for the packed file
    source_label: str | None = None  # as the data set spells it


@dataclasses.dataclass(frozen=True)
class SeenObject:
    """What one frame shows of an object."""

    object_id: int
    visibility: float
    truncated: bool
    occluded: bool
    bbox_2d: tuple[int, int, int, int]  # pixels
    camera_location: np.ndarray  # (3,) metres in the camera
    in_view: float | None = None  # share of its silhouette inside the picture
    hidden: float | None = None  # share of that which something nearer hides


@dataclasses.dataclass(frozen=True)
class FrameRecord:
    frame_id: int
    jpeg: bytes  # the picture, as a JPEG file
    size: tuple[int, int]  # of the picture: width, height
    depth: np.ndarray | None  # (h, w) uint16 millimetres
    seen: tuple[SeenObject, ...]
    intrinsics: np.ndarray | None = None  # (3, 3) pixels, where frames have their own
    source: str | None = None  # what the data set calls the frame


@dataclasses.dataclass(frozen=True)
class Group:
    """An annotated part of the mesh."""

    object_id: int  # from 1
    label: str  # as the data set spells it
    segments: tuple[int, ...]
    surface: bool  # a wall, a floor, ...: no object


@dataclasses.dataclass(frozen=True)
class LabelledMesh:
    """Vertices with segment ids, and what the segments are. In the frame of the mesh."""

    points: np.ndarray  # (V, 3) metres
    colors: np.ndarray  # (V, 3) uint8
    segments: np.ndarray  # (V,) int
    groups: tuple[Group, ...]


@dataclasses.dataclass(frozen=True)
class Quality:
    """How well the parts of a scan agree, 1 = in everything; NaN where there is nothing to
    compare.
    """

    depth_agreement: float  # median over frames: share of the measured depth that lies on the mesh
    reprojection: float  # median over frames: correlation of the mesh's colours with the picture's

    @property
    def score(self) -> float:
        """The weaker of the two witnesses; NaN where there is none."""
        known = [x for x in (self.depth_agreement, self.reprojection) if not np.isnan(x)]
        return max(min(known), 0.0) if known else float("nan")


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where a scene comes from. No times, so that the same input gives the same bytes."""

    dataset: str
    source_id: str
    files: tuple[Mapping[str, Any], ...]  # what it was read from, as `preparing.stamp` tells it
    fingerprint: str  # of names, sizes, first and last mebibyte of each file
    settings: Mapping[str, Any]
    made_by: str  # program and version


@dataclasses.dataclass(frozen=True)
class Details:
    """What scenes from scans say beside the published keys."""

    alignment: Literal["dataset", "estimated"]
    is_video: bool  # neighbouring frames are neighbours in time
    quality: Quality
    provenance: Provenance


@dataclasses.dataclass(frozen=True)
class SceneSource:
    """Everything a scene folder holds."""

    scene_id: str
    room_size: float | None  # square metres; None where it is not known
    floor_polygon: np.ndarray  # (n, 2) world metres; no rows where it is not known
    objects: tuple[ObjectRecord, ...]
    frames: tuple[FrameRecord, ...]
    poses: np.ndarray  # (M, 4, 4) mesh_from_camera of all frames, also those without a picture
    pose_ids: tuple[int, ...]  # (M,)
    intrinsics: np.ndarray  # (3, 3) pixels of the picture
    depth_intrinsics: np.ndarray  # (3, 3) pixels of the depth image
    mesh: LabelledMesh
    world_from_mesh: np.ndarray  # (4, 4)
    details: Details | None = None


def jpeg_bytes(color: np.ndarray) -> bytes:
    """A (H, W, 3) uint8 picture as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(color).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def is_upright(jpeg: bytes) -> bool:
    """Whether all viewers show the pixels of a JPEG file as they are stored: many turn them as its
    EXIF block says.
    """
    with Image.open(io.BytesIO(jpeg)) as image:
        return image.getexif().get(ExifTags.Base.Orientation, 1) in (0, 1)


def labelled_mesh(
    clouds: Sequence[tuple[str, np.ndarray, np.ndarray]], surfaces: int
) -> LabelledMesh:
    """A mesh of (label, (k, 3) points, (3,) colour) clouds, each a segment and a group; the first
    `surfaces` of them are no objects.
    """
    counts = [len(cloud) for _, cloud, _ in clouds]
    return LabelledMesh(
        np.concatenate([cloud for _, cloud, _ in clouds]),
        np.concatenate([np.tile(c, (len(cloud), 1)) for _, cloud, c in clouds]),
        np.repeat(np.arange(len(clouds)), counts),
        tuple(
            Group(index + 1, label, (index,), index < surfaces)
            for index, (label, _, _) in enumerate(clouds)
        ),
    )


def is_complete(root: Path, split: str, scene_id: str) -> bool:
    """Whether a scene was written to the end, and its pictures and packed file are still there."""
    metadata, folder = root / "metadata" / scene_id, root / split / scene_id
    records = list((metadata / scene_io.FRAME_FOLDER).glob("*.json"))
    pictures = {path.stem for path in (folder / "color").glob("*.jpg")}
    return (
        zipfile.is_zipfile(metadata / f"{scene_id}.npz")
        and folder.is_dir()
        and all(record.stem in pictures for record in records)
    )


def write_scene(root: Path, split: str, source: SceneSource) -> None:
    """Writes one scene; an earlier one of its name, or what an interrupted try left, is replaced
    once it is whole.

    Raises:
        OSError: a file can't be written.
    On any error nothing of the new scene is left behind.
    """
    name = source.scene_id
    folder, metadata = root / split / name, root / "metadata" / name
    parts = folder.with_name(f".{name}.part"), metadata.with_name(f".{name}.part")
    try:
        for path in parts:
            _remove(path)
            path.mkdir(parents=True)
        _write_folder(parts[0], source)
        _write_metadata(parts[1], source)
        record = scene_io.read_layout(*parts, scene_id=name)
        record = scene_io.with_points(record, [one.points for one in source.objects])
        scene_io.save_packed(record, parts[1] / f"{name}.npz")
        # Metadata first: without them a scene does not count, however far this gets. Both splits
        # share them, so that a scene that changes its split leaves the other.
        for path in (metadata, *(root / other / name for other in SPLITS)):
            _remove(path)
        parts[0].rename(folder)
        parts[1].rename(metadata)
    except BaseException:  # a full disk, Ctrl-C, a value that JSON can't hold
        for path in parts:
            shutil.rmtree(path, ignore_errors=True)
        raise


def _remove(path: Path) -> None:
    """A folder with all that is in it, a file, or a link and not what it points to."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _matrix(path: Path, matrix: np.ndarray) -> None:
    path.write_text("".join(" ".join(f"{x:.8f}" for x in row) + "\n" for row in matrix))


def _square(intrinsics: np.ndarray) -> np.ndarray:
    full = np.eye(4)
    full[:3, :3] = intrinsics
    return full


def _write_folder(folder: Path, source: SceneSource) -> None:
    for sub in ("color", "depth", "pose", scene_io.FRAME_FOLDER):
        (folder / sub).mkdir()
    for frame_id, pose in zip(source.pose_ids, source.poses, strict=True):
        _matrix(folder / "pose" / f"{frame_id}.txt", pose)
    for frame in source.frames:
        shown = folder / "color" / f"{frame.frame_id}.jpg"
        shown.write_bytes(frame.jpeg)
        shutil.copyfile(shown, folder / scene_io.FRAME_FOLDER / shown.name)
        if frame.depth is not None:
            Image.fromarray(frame.depth).save(folder / "depth" / f"{frame.frame_id}.png")
        if frame.intrinsics is not None:
            (folder / "intrinsic").mkdir(exist_ok=True)
            own = folder / "intrinsic" / f"{frame.frame_id}.txt"
            _matrix(own, _square(frame.intrinsics))
    for kind, intrinsics in (("color", source.intrinsics), ("depth", source.depth_intrinsics)):
        _matrix(folder / f"intrinsic_{kind}.txt", _square(intrinsics))
        _matrix(folder / f"extrinsic_{kind}.txt", np.eye(4))
    alignment = " ".join(f"{x:.6f}" for x in source.world_from_mesh.ravel())
    (folder / f"{source.scene_id}.txt").write_text(f"axisAlignment = {alignment}\n")
    _write_mesh(folder, source.scene_id, source.mesh)
    (folder / "processed").touch()


def _write_mesh(folder: Path, scene_id: str, mesh: LabelledMesh) -> None:
    """Vertices, segments and groups; readers of this layout use no faces."""
    vertex = np.empty(
        len(mesh.points),
        dtype=[(n, "f4") for n in ("x", "y", "z")] + [(n, "u1") for n in ("red", "green", "blue")],
    )
    for axis, name in enumerate(("x", "y", "z")):
        vertex[name] = mesh.points[:, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        vertex[name] = mesh.colors[:, channel]
    stem = folder / f"{scene_id}_vh_clean"
    PlyData([PlyElement.describe(vertex, "vertex")], text=False).write(f"{stem}.ply")
    _json(Path(f"{stem}.segs.json"), {"sceneId": scene_id, "segIndices": mesh.segments.tolist()})
    groups = [
        {
            "objectId": group.object_id - 1,
            "label": group.label,
            "segments": list(group.segments),
            "surface": group.surface,
        }
        for group in mesh.groups
    ]
    _json(Path(f"{stem}.aggregation.json"), {"sceneId": scene_id, "segGroups": groups})


def _json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def _rounded(values: np.ndarray | Sequence[float]) -> list[float]:
    return [round(float(x), 6) for x in values]


def _known(value: float) -> float | None:
    """JSON has no NaN."""
    return None if np.isnan(value) else round(float(value), 4)


def _object_json(one: ObjectRecord) -> dict[str, Any]:
    low, high = one.aabb[:3], one.aabb[3:]
    return {
        "object_id": one.object_id,
        "label": one.label,
        "size": round(float((high - low).max() * 100), 6),
        "3d_bbox": _rounded(one.aabb),
        "3d_location": _rounded((low + high) / 2),
    }


def _details_json(details: Details) -> dict[str, Any]:
    quality, origin = details.quality, details.provenance
    return {
        "schema_version": SCHEMA_VERSION,
        "alignment": details.alignment,
        "is_video": details.is_video,
        "quality": {
            "score": _known(quality.score),
            "depth_agreement": _known(quality.depth_agreement),
            "reprojection": _known(quality.reprojection),
        },
        "provenance": {
            "dataset": origin.dataset,
            "source_id": origin.source_id,
            "files": [dict(file) for file in origin.files],
            "fingerprint": origin.fingerprint,
            "settings": dict(origin.settings),
            "made_by": origin.made_by,
        },
    }


def _shares_json(seen: SeenObject) -> dict[str, float]:
    shares = {"in_view": seen.in_view, "hidden": seen.hidden}
    return {name: round(share, 4) for name, share in shares.items() if share is not None}


def _pinhole_json(intrinsics: np.ndarray) -> dict[str, float]:
    """Pixels of the picture."""
    places = {"fx": (0, 0), "fy": (1, 1), "cx": (0, 2), "cy": (1, 2)}
    return {name: round(float(intrinsics[at]), 6) for name, at in places.items()}


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
        | ({} if one.source_label is None else {"source_label": one.source_label})
        for one in source.objects
    ]
    scene = {
        "scene_id": source.scene_id,
        "room_size": None if source.room_size is None else round(source.room_size, 6),
        "floor_polygon": [_rounded(corner) for corner in source.floor_polygon],
        "objects": objects,
    }
    if source.details is not None:
        scene |= _details_json(source.details)
    _json(folder / f"{source.scene_id}.json", scene)
    (folder / scene_io.FRAME_FOLDER).mkdir()
    by_id = {one.object_id: _object_json(one) for one in source.objects}
    for frame in source.frames:
        record = {
            "scene_id": source.scene_id,
            "frame_id": f"{frame.frame_id}.jpg",
            "image_size": list(frame.size),
            "objects": [
                by_id[seen.object_id]
                | {
                    "visibility": round(seen.visibility, 4),
                    "truncated": seen.truncated,
                    "occluded": seen.occluded,
                    "2d_bbox": list(seen.bbox_2d),
                    "camera_location": _rounded(seen.camera_location),
                }
                | _shares_json(seen)
                for seen in frame.seen
            ],
        }
        if frame.source is not None:
            record["source"] = frame.source
        if source.details is not None:
            record["intrinsics"] = _pinhole_json(
                source.intrinsics if frame.intrinsics is None else frame.intrinsics
            )
        _json(folder / scene_io.FRAME_FOLDER / f"{frame.frame_id}.json", record)
