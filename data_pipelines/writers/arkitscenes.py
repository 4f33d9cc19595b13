"""A scan in the raw format of ARKitScenes, as `data_pipelines.arkitscenes` reads it.

Objects without a box are not annotated, as floors and walls are not in the released data.
"""

import csv
import io
import json
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from data_pipelines import arkitscenes, meshes, upright
from data_pipelines.scan import HALF_PIXEL, OrientedBox, Scan, ScanFrame

Layout = Literal["raw_wide", "raw_vga", "raw_lowres", "3dod"]
START = 1627.68140546  # seconds; device time of the first frame
COLUMNS: tuple[str, ...] = (
    "video_id",
    "visit_id",
    "fold",
    "sky_direction",
    "has_laser_scanner_point_clouds",
    "is_in_upsampling",
    "is_in_threedod",
)


def video_id(scan: Scan) -> str:
    """The eight digits under which a scan is written: those of its id, filled up from the left."""
    digits = "".join(letter for letter in scan.source_id if letter.isdigit())
    if not 0 < len(digits) <= 8:
        raise ValueError(f"expected a source_id with one to eight digits, got {scan.source_id!r}.")
    return digits.zfill(8)


def write_scan(
    scan: Scan,
    raw: Path,
    *,
    layout: Layout = "3dod",
    sky: str = "Up",
    frame_rate: int = 10,
    pose_rate: int = 10,
) -> None:
    """Writes one video below `raw` and its row in the release's metadata.csv.

    Args:
        layout: folders of one of `arkitscenes.SOURCES`.
        sky: the side of the stored images where the sky is: the scan's upright images are turned.
        frame_rate: frames of the scan are taken as this many a second.
        pose_rate: poses in the trajectory a second, a divisor of `frame_rate`.

    Raises:
        ValueError: a layout that cannot hold the scan, or rates that don't divide.
    """
    if frame_rate % pose_rate:
        raise ValueError(
            f"expected a pose_rate that divides frame_rate {frame_rate}, got {pose_rate}."
        )
    source = next(one for one in arkitscenes.SOURCES if one.name == layout)
    name, turns = video_id(scan), upright.SKIES.index(sky)
    fold = next(fold for fold, split in arkitscenes.FOLDS.items() if split == scan.split)
    release = raw / ("3dod" if layout == "3dod" else "raw")
    folder = release / fold / name
    frames = folder / f"{name}_frames" if layout == "3dod" else folder
    frames.mkdir(parents=True, exist_ok=True)
    meshes.write_mesh(folder / f"{name}_3dod_mesh.ply", scan.mesh, alpha=True)
    _write_annotation(folder / f"{name}_3dod_annotation.json", scan)
    lines = []
    for index, frame in enumerate(scan.frames):
        time = START + index / frame_rate
        stored = sensor_frame(frame, turns)
        if index % (frame_rate // pose_rate) == 0:
            lines.append(trajectory_line(time, stored.mesh_from_camera))
        _write_frame(frames, source, f"{name}_{time:.3f}", scan, frame, turns)
    (frames / arkitscenes.TRAJECTORIES[0]).write_text("".join(f"{line}\n" for line in lines))
    row = dict.fromkeys(COLUMNS, "False") | {
        "video_id": name,
        "visit_id": name,
        "fold": fold,
        "sky_direction": sky,
        "is_in_upsampling": str(layout == "raw_wide"),
        "is_in_threedod": "True",
    }
    _add_row(release / "metadata.csv", row)


def sensor_frame(frame: ScanFrame, turns: int) -> ScanFrame:
    """The frame as a sensor has it whose images become upright by quarter turns clockwise."""
    return arkitscenes.turned_frame(frame, -turns)


def trajectory_line(time: float, mesh_from_camera: np.ndarray) -> str:
    """Seven numbers: seconds, and axis-angle and translation of camera_from_mesh."""
    camera_from_mesh = np.linalg.inv(mesh_from_camera)
    turn = Rotation.from_matrix(camera_from_mesh[:3, :3]).as_rotvec()
    numbers = [*(f"{x:.16g}" for x in turn), *(f"{x:.9g}" for x in camera_from_mesh[:3, 3])]
    return " ".join([f"{time:.8f}", *numbers])


def pincam_line(intrinsics: np.ndarray, size: tuple[int, int]) -> str:
    """Width, height, focal lengths, principal point from the centre of the first pixel."""
    (fx, _, cx), (_, fy, cy) = (intrinsics - HALF_PIXEL)[:2]
    return " ".join([*map(str, size), *(f"{x:.9g}" for x in (fx, fy, cx, cy))])


def _write_frame(
    frames: Path,
    source: arkitscenes.Source,
    stem: str,
    scan: Scan,
    frame: ScanFrame,
    turns: int,
) -> None:
    stored = sensor_frame(frame, turns)
    color_camera = pincam_line(stored.color_intrinsics, stored.color_size)
    depth_camera = pincam_line(stored.depth_intrinsics, stored.depth_size)
    if source.color_intrinsics == source.depth_intrinsics and color_camera != depth_camera:
        raise ValueError(
            f"{source.name}: expected one camera for colour and depth, got {color_camera} and "
            f"{depth_camera}."
        )
    cameras = {source.color_intrinsics[0]: color_camera, source.depth_intrinsics[0]: depth_camera}
    for name, line in cameras.items():
        _write(frames / name / f"{stem}.pincam", f"{line}\n".encode())
    color = upright.turned_image(scan.images.color(frame), -turns)
    depth = upright.turned_image(scan.images.depth(frame), -turns)
    confidence = np.where(depth > 0, 2, 0).astype(np.uint8)
    _write(frames / source.color[0] / f"{stem}.png", _png(color))
    _write(frames / source.depth[0] / f"{stem}.png", _png(depth))
    if source.depth[0] == "lowres_depth":
        _write(frames / "confidence" / f"{stem}.png", _png(confidence))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _write_annotation(path: Path, scan: Scan) -> None:
    entries = [
        {
            "uid": f"{scan.source_id}-{one.object_id}",
            "label": one.label,
            "modelId": None,
            "children": [],
            "objectId": one.object_id,
            "segments": {"obb": _obb(one.box), "obbAligned": _obb_aligned(one.box)},
            "hierarchy": [],
            "isInGroup": False,
            "labelType": "object",
            "attributes": {},
        }
        for one in scan.objects
        if one.box is not None
    ]
    record = {"data": entries, "stats": {}, "comment": "", "confirm": True, "skipped": False}
    path.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")


def _obb_aligned(box: OrientedBox) -> dict[str, Any]:
    return {
        "centroid": box.center.tolist(),
        "axesLengths": box.extent.tolist(),
        "normalizedAxes": box.rotation.T.ravel().tolist(),  # rows are axes
    }


def _obb(box: OrientedBox) -> dict[str, Any]:
    """The same box in centimetres, y up."""
    y_up = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0.0]])
    return {
        "centroid": (y_up @ box.center * 100).tolist(),
        "axesLengths": (box.extent * 100).tolist(),
        "normalizedAxes": (y_up @ box.rotation).T.ravel().tolist(),
    }


def _add_row(path: Path, row: dict[str, str]) -> None:
    """Adds a row to the table, in the place of one for the same video."""
    rows = []
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            rows = [old for old in csv.DictReader(file) if old["video_id"] != row["video_id"]]
    part = path.with_name(f".{path.name}.{row['video_id']}.part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*rows, row])
    os.replace(part, path)
