"""The video of a ScanNet++ scan: `<scan>/iphone/` with rgb.mkv (formerly rgb.mp4), depth.bin and
pose_intrinsic_imu.json.

Frame `frame_%06d` of the JSON file is the frame of that number in the video and in depth.bin. Its
`aligned_pose` is camera-to-mesh, of a camera with x right, y down, z forward; its `pose` is in the
phone's own world, whose place in the mesh frame nothing tells. Depth shows what the image shows.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines import depth_bin, raw_json
from data_pipelines.scan import Images, ScanError, ScanFrame, Skipped, first_reason
from data_pipelines.video import Video, read_index
from geometry_jax.scene_io import pose_fault

VIDEOS = ("rgb.mkv", "rgb.mp4")
POSES, DEPTH = "pose_intrinsic_imu.json", "depth.bin"
FILES = (*VIDEOS, DEPTH, POSES)
FRAME_KEY = re.compile(r"frame_(\d+)")
SENSOR_SIZE = (1920, 1440)  # what released intrinsics are for
CENTERED = 0.2  # how far the principal point may be from the image's middle, in shares of its side


@dataclasses.dataclass(frozen=True)
class VideoImages:
    """Pixels of a video; a frame's id is its number in it."""

    video: Video
    depths: depth_bin.FramedDepth | depth_bin.StreamDepth

    def color(self, frame: ScanFrame) -> np.ndarray:
        return self.video.frame(frame.frame_id)

    def color_jpeg(self, frame: ScanFrame) -> bytes | None:
        return None

    def depth(self, frame: ScanFrame) -> np.ndarray:
        if frame.depth_size == (0, 0):
            raise ScanError(f"{self.depths.path}: expected frame {frame.frame_id}, found 0 bytes.")
        return self.depths.frame(frame.frame_id)


def read_frames(iphone: Path) -> tuple[list[ScanFrame], Images, list[Skipped]]:
    """All frames of the video that have a pose in the mesh frame.

    Raises:
        ScanError: a file is missing, cut short or of another form, the video or the depth ends
            before the poses do, or no frame has a pose in the mesh frame.
    """
    records, skipped = _records(iphone / POSES)
    video = read_index(_video_path(iphone))
    depths = depth_bin.read_depths(iphone / DEPTH)
    last = max(records)
    for path, count in ((video.path, len(video.times)), (depths.path, len(depths.sizes))):
        if last >= count:
            raise ScanError(
                f"{path}: expected {last + 1} frames or more, as {POSES} has poses for, "
                f"got {count}; is the file complete?"
            )
    frames = []
    for number, record in sorted(records.items()):
        name, where = f"frame {number}", f"{iphone / POSES}: frame_{number:06d}"
        if record.get("aligned_pose") is None:
            skipped.append(Skipped(name, "it has no aligned_pose"))
            continue
        try:
            pose = raw_json.numbers(record["aligned_pose"], (4, 4), f"{where}: aligned_pose")
            stated = raw_json.numbers(record.get("intrinsic"), (3, 3), f"{where}: intrinsic")
            color = image_intrinsics(stated, video.size, where)
            time = raw_json.numbers(record.get("timestamp", np.nan), (), f"{where}: timestamp")
        except ScanError as error:
            skipped.append(Skipped(name, str(error)))
            continue
        fault = pose_fault(pose)
        if fault:
            skipped.append(Skipped(name, fault))
            continue
        has_depth = bool(depths.sizes[number])
        if not has_depth:
            skipped.append(Skipped(f"depth of frame {number}", "no depth image (0 bytes)"))
        scale = np.diag([*np.divide(depth_bin.SIZE, video.size), 1.0])
        frames.append(
            ScanFrame(
                frame_id=number,
                source=f"frame_{number:06d}",
                mesh_from_camera=pose,
                color_intrinsics=color,
                depth_intrinsics=scale @ color,
                color_size=video.size,
                depth_size=depth_bin.SIZE if has_depth else (0, 0),
                time=float(time),
            )
        )
    if not frames:
        raise ScanError(
            f"{iphone / POSES}: expected frames with a rigid pose, found none"
            f"{first_reason(skipped)}."
        )
    return frames, VideoImages(Video(video), depths), skipped


def _records(path: Path) -> tuple[dict[int, dict[str, Any]], list[Skipped]]:
    """What is known of each frame, by its number, and what is no frame."""
    records, skipped = {}, []
    for key, record in raw_json.read_object(path).items():
        match = FRAME_KEY.fullmatch(key)
        if match is None or not isinstance(record, dict):
            why = f"{path.name}: expected a record named frame_000000"
            skipped.append(Skipped(f"{key!a:.40} of the file", why))
        else:
            records[int(match[1])] = record
    if not records:
        raise ScanError(f"{path}: expected frames, found none.")
    if not any("aligned_pose" in record for record in records.values()):
        raise ScanError(
            f"{path}: expected an aligned_pose for each frame; `pose` alone is in the phone's own "
            "world, not in the mesh's. Newer releases have it: download this file again."
        )
    return records, skipped


def _video_path(iphone: Path) -> Path:
    for name in VIDEOS:
        if (iphone / name).is_file():
            return iphone / name
    raise ScanError(f"{iphone}: expected {' or '.join(VIDEOS)}, found neither.")


def image_intrinsics(stated: np.ndarray, size: tuple[int, int], where: str) -> np.ndarray:
    """(3, 3) for images of a size. Intrinsics are stated for the sensor's size or, in files that
    were made smaller, for the video's: for the one whose middle is near the principal point.

    Raises:
        ScanError: for neither.
    """
    if np.isfinite(stated).all() and min(stated[0, 0], stated[1, 1]) > 0:
        for of in (size, SENSOR_SIZE):
            if (np.abs(stated[:2, 2] / of - 0.5) <= CENTERED).all():
                return np.diag([*np.divide(size, of), 1.0]) @ stated
    raise ScanError(
        f"{where}: expected intrinsics of {size[0]}x{size[1]} or {SENSOR_SIZE[0]}x{SENSOR_SIZE[1]} "
        f"pixels, got {np.round(stated, 2).tolist()}."
    )
