"""Writes a scan as ScanNet++ releases it, so that the reader can be tried without licensed data."""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_pipelines import depth_bin, meshes, video
from data_pipelines.raster import depth_map
from data_pipelines.scan import OrientedBox, Scan, ScanFrame, ScanObject
from data_pipelines.scannetpp import MESH, OBJECTS, SCAN_NAME, SEGMENTS
from data_pipelines.scannetpp_dslr import (
    DEPTH_FOLDER,
    PINHOLE_FILE,
    UNDISTORTED_FOLDERS,
    transform_matrix,
)
from data_pipelines.scannetpp_iphone import DEPTH, POSES

TEST_EVERY = 15  # one of so many stills is held out
JPEG_QUALITY = 95
PHONE_WORLD = np.array(  # phone_from_mesh: where a phone might have begun
    [[0.8, 0.6, 0, 1.25], [0, 0, 1, -1.5], [0.6, -0.8, 0, 0.75], [0, 0, 0, 1.0]]
)


def source_id_of(scan: Scan) -> str:
    """The ten hex digits that a scan is written under: its own, or drawn from its name."""
    if SCAN_NAME.fullmatch(scan.source_id):
        return scan.source_id
    return hashlib.sha256(scan.source_id.encode()).hexdigest()[:10]


def write_scan(
    scan: Scan,
    raw: Path,
    *,
    bad: Collection[int] = (),
    with_depth: bool = True,
    depth_form: depth_bin.Form = "lz4",
) -> None:
    """Writes `<raw>/data/<id>/` with the pictures of both cameras, the mesh and the objects, and
    adds the id to `<raw>/splits/`.

    Args:
        bad: ids of frames that are marked as bad stills.
        with_depth: write depth images of the stills; the released data has none.
        depth_form: of the video's depth.

    Raises:
        ValueError: frames that are not numbered from 0 without gaps: a video can't hold them.
    """
    if [frame.frame_id for frame in scan.frames] != list(range(len(scan.frames))):
        raise ValueError(f"{scan.source_id}: expected frames numbered from 0 without gaps.")
    source_id = source_id_of(scan)
    folder = raw / "data" / source_id
    _write_labelled_mesh(folder / "scans", scan)
    _write_stills(folder / "dslr", scan, bad, with_depth)
    _write_video(folder / "iphone", scan, depth_form)
    (raw / "splits").mkdir(exist_ok=True)
    listed = raw / "splits" / f"nvs_sem_{scan.split}.txt"
    ids = set(listed.read_text().split()) if listed.is_file() else set()
    listed.write_text("".join(f"{one}\n" for one in sorted(ids | {source_id})))


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


# --- mesh and objects ----------------------------------------------------------------------------


def _write_labelled_mesh(folder: Path, scan: Scan) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    meshes.write_mesh(folder / MESH, scan.mesh)
    count = len(scan.mesh.points)
    # The colon inside the key is in the released files.
    segments = {"sceneId:": source_id_of(scan), "segIndices": list(range(count))}
    _write_json(folder / SEGMENTS, segments)
    groups = [_group(row, one, scan) for row, one in enumerate(scan.objects)]
    annotation = {
        "sceneId": f"scannetpp.{source_id_of(scan)}",
        "appId": "stk.v1",
        "annId": source_id_of(scan),
        "segGroups": groups,
    }
    _write_json(folder / OBJECTS, annotation)


def _group(row: int, one: ScanObject, scan: Scan) -> dict[str, Any]:
    box = one.box
    if box is None:  # every object of the released files has one
        own = scan.mesh.points[one.vertices].astype(np.float64)
        low, high = own.min(0), own.max(0)
        box = OrientedBox((low + high) / 2, high - low, np.eye(3))
    corners = box.corners()
    return {
        "id": one.object_id,
        "objectId": one.object_id,
        "label": one.label,
        "segments": one.vertices.tolist(),
        "obb": {
            "centroid": box.center.tolist(),
            "axesLengths": box.extent.tolist(),
            "normalizedAxes": box.rotation.T.ravel().tolist(),
            "min": corners.min(0).tolist(),
            "max": corners.max(0).tolist(),
        },
        "dominantNormal": box.rotation[:, 2].tolist(),
        "partId": one.object_id,
        "index": row,
    }


# --- stills --------------------------------------------------------------------------------------


def _still_name(frame: ScanFrame) -> str:
    return f"DSC{frame.frame_id + 1:05d}.JPG"


def _write_stills(dslr: Path, scan: Scan, bad: Collection[int], with_depth: bool) -> None:
    images, depths = dslr / UNDISTORTED_FOLDERS[0], dslr / DEPTH_FOLDER
    for folder in (images, dslr / "nerfstudio", dslr / "colmap", *([depths] if with_depth else [])):
        folder.mkdir(parents=True, exist_ok=True)
    train, test = [], []
    for frame in scan.frames:
        name = _still_name(frame)
        jpeg = scan.images.color_jpeg(frame)
        if jpeg is not None:
            (images / name).write_bytes(jpeg)
        else:
            picture = Image.fromarray(scan.images.color(frame))
            picture.save(images / name, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        if with_depth:
            Image.fromarray(scan.images.depth(frame)).save(depths / f"{Path(name).stem}.png")
        record = {
            "file_path": name,
            "transform_matrix": transform_matrix(frame.mesh_from_camera).tolist(),
            "mask_path": f"{Path(name).stem}.png",
            "is_bad": frame.frame_id in bad,
        }
        (test if frame.frame_id % TEST_EVERY == TEST_EVERY - 1 else train).append(record)
    (fx, _, cx), (_, fy, cy), _ = scan.frames[0].color_intrinsics.tolist()
    width, height = scan.frames[0].color_size
    transforms = {
        "fl_x": fx,
        "fl_y": fy,
        "cx": cx,
        "cy": cy,
        "w": width,
        "h": height,
        **dict.fromkeys(("k1", "k2", "k3", "k4"), 0.0),
        "camera_model": "PINHOLE",
        "frames": train,
        "test_frames": test,
    }
    _write_json(dslr / "nerfstudio" / PINHOLE_FILE, transforms)
    names = {"train": train, "test": test}
    lists = {part: [one["file_path"] for one in records] for part, records in names.items()}
    _write_json(dslr / "train_test_lists.json", lists | {"has_masks": False})
    _write_colmap(dslr / "colmap", scan)


def _write_colmap(folder: Path, scan: Scan) -> None:
    (fx, _, cx), (_, fy, cy), _ = scan.frames[0].color_intrinsics.tolist()
    width, height = scan.frames[0].color_size
    camera = f"1 PINHOLE {width} {height} {fx!r} {fy!r} {cx!r} {cy!r}\n"
    (folder / "cameras.txt").write_text(f"# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]\n{camera}")
    lines = ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME", "# POINTS2D[]"]
    for frame in scan.frames:
        camera_from_mesh = np.linalg.inv(frame.mesh_from_camera)
        values = [*_quaternion(camera_from_mesh[:3, :3]), *camera_from_mesh[:3, 3]]
        numbers = " ".join(repr(float(x)) for x in values)
        lines += [f"{frame.frame_id + 1} {numbers} 1 {_still_name(frame)}", ""]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    (folder / "points3D.txt").write_text("# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[]\n")


def _quaternion(rotation: np.ndarray) -> np.ndarray:
    """w x y z of a rotation: the eigenvector of the largest eigenvalue of a symmetric matrix
    (Bar-Itzhack, 2000).
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation
    matrix = np.array(
        [
            [xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, xx - yy - zz, yx + xy, zx + xz],
            [xz - zx, yx + xy, yy - xx - zz, zy + yz],
            [yx - xy, zx + xz, zy + yz, zz - xx - yy],
        ]
    )
    return np.linalg.eigh(matrix)[1][:, -1]


# --- video ---------------------------------------------------------------------------------------


def _write_video(iphone: Path, scan: Scan, form: depth_bin.Form) -> None:
    iphone.mkdir(parents=True, exist_ok=True)
    video.write_video(iphone / "rgb.mkv", (scan.images.color(frame) for frame in scan.frames))
    depths = (_phone_depth(scan, frame) for frame in scan.frames)
    depth_bin.write_depths(iphone / DEPTH, depths, form)
    records = {
        f"frame_{frame.frame_id:06d}": {
            "timestamp": frame.time,
            "pose": (PHONE_WORLD @ frame.mesh_from_camera).tolist(),
            "aligned_pose": frame.mesh_from_camera.tolist(),
            "intrinsic": frame.color_intrinsics.tolist(),
            "imu": [],
        }
        for frame in scan.frames
    }
    _write_json(iphone / POSES, records)


def _phone_depth(scan: Scan, frame: ScanFrame) -> np.ndarray:
    """(192, 256) millimetres: the scan's own depth where it has that size, else the mesh's."""
    if frame.depth_size == depth_bin.SIZE:
        return scan.images.depth(frame)
    scale = np.diag([*np.divide(depth_bin.SIZE, frame.color_size), 1.0])
    depth = depth_map(
        scan.mesh.points,
        scan.mesh.faces,
        frame.mesh_from_camera,
        scale @ frame.color_intrinsics,
        depth_bin.SIZE,
    )
    return np.minimum(np.rint(depth * 1000), 65535).astype(np.uint16)
