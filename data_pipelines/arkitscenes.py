"""ARKitScenes scans, of the 3dod and of the raw release. Host side, NumPy.

    <root>/3dod/{Training,Validation}/<video>/<video>_3dod_{mesh.ply,annotation.json}
                                              <video>_frames/lowres_wide/<video>_<seconds>.png ...
    <root>/raw/{Training,Validation}/<video>/ the same without <video>_frames, and larger pictures
    <root>/{raw,3dod}/metadata.csv

Depth is in millimetres; `arkit_formats` says what `.traj` and `.pincam` hold. Pictures are stored
as the sensor has them and turned upright here. The mesh is level, its yaw is arbitrary.
"""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipelines import arkit_annotation, arkit_formats, meshes, upright
from data_pipelines.pictures import NO_SIZE, read_picture, usual_size
from data_pipelines.scan import Scan, ScanError, ScanFrame, Skipped, listed
from data_pipelines.trajectory import Trajectory, poses_at

FOLDS = {"Training": "train", "Validation": "val"}
RELEASES = ("raw", "3dod")  # the first one that has a file wins
EXACT = 0.005  # seconds; a pose this near belongs to the picture, as in the official loader
LONGEST_GAP = 0.150  # seconds between two poses that one may interpolate between
LARGEST_TURN = np.deg2rad(90.0)  # between the two: no hand turns so fast, a lost tracker does
PINCAM_TOLERANCE = 1  # milliseconds
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


class Source(NamedTuple):
    """Which folders a scan's frames come from; of several names the first that is there."""

    name: str
    color: tuple[str, ...]
    depth: tuple[str, ...]
    color_intrinsics: tuple[str, ...]
    depth_intrinsics: tuple[str, ...]


SOURCES = (
    Source("raw_wide", ("wide",), ("highres_depth",), *[("wide_intrinsics",)] * 2),
    Source(
        "raw_vga",
        ("vga_wide",),
        ("lowres_depth",),
        ("vga_wide_intrinsics",),
        ("lowres_wide_intrinsics",),
    ),
    Source("raw_lowres", ("lowres_wide",), ("lowres_depth",), *[("lowres_wide_intrinsics",)] * 2),
    Source(
        "3dod",
        ("lowres_wide", "wide", "color"),
        ("lowres_depth", "depth_densified"),
        *[("lowres_wide_intrinsics", "color_intrinsics")] * 2,
    ),
)
NO_SKY = ("", "nan", "na", "none")  # of metadata.csv, in lower case
TRAJECTORIES = ("lowres_wide.traj", "color.traj")


class _Video(NamedTuple):
    """One release's files of a video."""

    release: str  # "raw" or "3dod"
    fold: str  # "Training" or "Validation"
    folder: Path  # mesh and annotation
    frames: Path  # pictures, intrinsics and trajectory


def _entries(folder: Path) -> list[Path]:
    """The visible files of a folder, by name."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise ScanError(
            f"{folder}: expected a folder, cannot list it: {error.strerror}."
        ) from error


def _release_folders(raw: Path) -> list[Path]:
    """The folders with `Training` or `Validation`: below `raw`, or `raw` itself."""
    found = [raw / name for name in RELEASES] + [raw]
    return [path for path in found if any((path / fold).is_dir() for fold in FOLDS)]


def _is_raw_video(folder: Path) -> bool:
    """Whether anything of a video is in a folder: a few were released without their mesh."""
    parts = [name for source in SOURCES for names in source[1:] for name in names]
    return folder.is_dir() and (
        any((folder / name).is_dir() for name in parts)
        or any(folder.glob(f"{folder.name}_3dod_*"))
        or any((folder / name).is_file() for name in TRAJECTORIES)
    )


def _videos(raw: Path) -> dict[str, list[_Video]]:
    """Every video with its folders, those of the raw release first."""
    videos: dict[str, list[_Video]] = {}
    for release in _release_folders(raw):
        for fold in FOLDS:
            if not (release / fold).exists():
                continue
            for folder in _entries(release / fold):
                frames = folder / f"{folder.name}_frames"
                if frames.is_dir():
                    video = _Video("3dod", fold, folder, frames)
                elif _is_raw_video(folder):
                    video = _Video("raw", fold, folder, folder)
                else:
                    continue  # what archivers and people leave beside the videos
                videos.setdefault(folder.name, []).append(video)
    for found in videos.values():
        found.sort(key=lambda video: RELEASES.index(video.release))
    return videos


def list_scans(raw: Path) -> tuple[str, ...]:
    """The videos in a download, sorted.

    Raises:
        ScanError: no such folder, or no video in it.
    """
    return listed(raw, "ARKitScenes", "3dod/Training/41048143/41048143_frames", _videos)


def read_scan(raw: Path, source_id: str, *, source: str = "best") -> Scan:
    """Reads one video.

    Frame ids are places in the sorted list of the times that have both colour and depth.

    Args:
        raw: the folder that holds `3dod` and `raw`, or one of them.
        source_id: the video, as of `list_scans`.
        source: name of one of `SOURCES`; "best" is the first that has a frame.

    Raises:
        ScanError: a file is missing or of the wrong form, or no source has a frame.
    """
    if source != "best" and source not in [one.name for one in SOURCES]:
        names = ", ".join(one.name for one in SOURCES)
        raise ScanError(f"expected a source of ARKitScenes (best, {names}), got {source!r}.")
    videos = _videos(raw).get(source_id)
    if not videos:
        raise ScanError(f"{raw}: expected a video {source_id!r}, found none of that name.")
    if len({video.fold for video in videos}) > 1:
        folders = ", ".join(str(video.folder) for video in videos)
        raise ScanError(f"expected video {source_id} in one fold, found it in {folders}.")
    mesh_file = _file(videos, f"{source_id}_3dod_mesh.ply")
    mesh = meshes.read_mesh(mesh_file)
    annotation = _file(videos, f"{source_id}_3dod_annotation.json")
    trajectory, lost = arkit_formats.read_trajectory(_trajectory_file(videos))
    eyes = trajectory.mesh_from_camera[:, :3, 3]
    objects, skipped_objects = arkit_annotation.read_objects(annotation, mesh, eyes)

    sky = _sky_of_table(raw, source_id)
    reasons = []
    for option in SOURCES if source == "best" else [s for s in SOURCES if s.name == source]:
        for video in videos:
            if (video.release == "3dod") != (option.name == "3dod"):
                continue
            try:
                stored, skipped = _stored_frames(video, option, trajectory)
            except ScanError as error:
                reasons.append(f"{option.name}: {error}")
                continue
            turns = upright.SKIES.index(sky or upright.sky_of_poses(_poses(stored)))
            return Scan(
                dataset="arkitscenes",
                scene_id=f"scene{source_id}_00",
                source_id=source_id,
                split=FOLDS[video.fold],
                mesh=mesh,
                objects=objects,
                frames=tuple(turned_frame(one.frame, turns) for one in stored),
                images=ArkitImages({one.frame.frame_id: one for one in stored}, turns),
                world_from_mesh=None,
                skipped=(*skipped_objects, *lost, *skipped),
                files=(mesh_file, annotation, _trajectory_file(videos), *_consulted(raw, videos)),
            )
    raise ScanError(
        f"{raw}: expected frames of video {source_id}, found none. " + " ".join(reasons)
    )


def _consulted(raw: Path, videos: Sequence[_Video]) -> list[Path]:
    """The tables and folders that decide which frames there are, and which way is up."""
    folders = {name for source in SOURCES for names in source[1:] for name in names}
    return [
        *dict.fromkeys(folder / "metadata.csv" for folder in _release_folders(raw)),
        *(video.frames / name for video in videos for name in sorted(folders)),
    ]


def _file(videos: Sequence[_Video], name: str) -> Path:
    for video in videos:
        if (video.folder / name).is_file():
            return video.folder / name
    raise ScanError(
        f"{videos[0].folder / name}: expected this file, found none (a few raw videos were "
        "released without mesh, annotation and trajectory)."
    )


def _trajectory_file(videos: Sequence[_Video]) -> Path:
    for video in videos:
        for name in TRAJECTORIES:
            if (video.frames / name).is_file():
                return video.frames / name
    raise ScanError(
        f"{videos[0].frames / TRAJECTORIES[0]}: expected the poses, found no such file."
    )


def _sky_of_table(raw: Path, source_id: str) -> str:
    """The `sky_direction` of a video in the first metadata.csv that has it; empty if none does."""
    for path in dict.fromkeys(folder / "metadata.csv" for folder in _release_folders(raw)):
        if not path.is_file():
            continue
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                table = csv.DictReader(file, skipinitialspace=True)
                rows = [row for row in table if _same_video(row, source_id)]
                columns = table.fieldnames or ()
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ScanError(f"{path}: expected a table, cannot read it: {error}.") from error
        if not {"video_id", "sky_direction"} <= set(columns):
            raise ScanError(
                f"{path}: expected columns video_id and sky_direction, "
                f"got {', '.join(columns)[:80] or 'none'}."
            )
        sky = (rows[0].get("sky_direction") or "").strip().capitalize() if rows else ""
        if sky.lower() not in NO_SKY:
            if sky not in upright.SKIES:
                raise ScanError(
                    f"{path}: video {source_id}: expected a sky_direction of "
                    f"{', '.join(upright.SKIES)}, got {sky!r}."
                )
            return sky
    return ""


def _same_video(row: dict[str, str | None], source_id: str) -> bool:
    # Tables that went through pandas hold the number as 41048143.0.
    return (row.get("video_id") or "").strip().removesuffix(".0") == source_id


@dataclasses.dataclass(frozen=True)
class StoredFrame:
    """A frame as the sensor has it, and its files."""

    frame: ScanFrame
    color: Path
    depth: Path


def _poses(stored: Sequence[StoredFrame]) -> np.ndarray:
    return np.stack([one.frame.mesh_from_camera for one in stored])


def _folder(frames: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (frames / name).is_dir():
            return frames / name
    raise ScanError(f"{frames}: expected a folder {' or '.join(names)}, found none.")


def _by_time(folder: Path, suffixes: Sequence[str]) -> tuple[dict[int, Path], list[Skipped]]:
    """Files by their time in milliseconds; names are <video>_<seconds>.png or <seconds>.png."""
    found: dict[int, Path] = {}
    skipped = []
    for path in _entries(folder):
        if path.suffix.lower() not in suffixes:
            continue
        try:
            time = round(float(path.stem.rpartition("_")[2]) * 1000)
        except (ValueError, OverflowError):
            skipped.append(Skipped(f"file {path}", "its name does not end in a time in seconds"))
            continue
        if found.setdefault(time, path) != path:
            same = found[time].name
            skipped.append(Skipped(f"file {path}", f"same time to the millisecond as {same}"))
    return found, skipped


def _stored_frames(
    video: _Video, source: Source, trajectory: Trajectory
) -> tuple[list[StoredFrame], list[Skipped]]:
    """Frames of one source that have colour, depth, both intrinsics and a pose, at least one."""
    colors, again = _by_time(_folder(video.frames, source.color), IMAGE_SUFFIXES)
    depths, and_again = _by_time(_folder(video.frames, source.depth), IMAGE_SUFFIXES)
    color_cameras, _ = _by_time(_folder(video.frames, source.color_intrinsics), (".pincam",))
    depth_cameras, _ = _by_time(_folder(video.frames, source.depth_intrinsics), (".pincam",))
    common = sorted(set(colors) & set(depths))
    if not common:
        raise ScanError(
            f"{video.frames}: expected times with both colour and depth, found none "
            f"({len(colors)} and {len(depths)} files)."
        )
    color_size, depth_size = (
        usual_size([files[time] for time in common]) for files in (colors, depths)
    )
    for name, size in (("colour", color_size), ("depth", depth_size)):
        if size == NO_SIZE:
            raise ScanError(f"{video.frames}: expected {name} images, but none does decode.")
    times = np.array(common) / 1000
    poses = poses_at(trajectory, times, exact=EXACT, gap=LONGEST_GAP, turn=LARGEST_TURN)
    stored, skipped = [], []
    for kind, own, other, others in (
        ("colour", colors, "depth", depths),
        ("depth", depths, "colour", colors),
    ):
        lone = [own[time].name for time in sorted(set(own) - set(others))]
        if lone:  # thousands, where the two have rates of their own
            what = f"{len(lone)} of {len(own)} {kind} images"
            skipped.append(Skipped(what, f"no {other} of the same time, the first is {lone[0]}"))
    for frame_id, (time, pose) in enumerate(zip(common, poses, strict=True)):
        what = f"frame {frame_id} ({colors[time].name})"
        if not np.isfinite(pose).all():
            why = (
                f"no pose within {EXACT * 1000:.0f} ms, and none on both sides that are "
                f"{LONGEST_GAP * 1000:.0f} ms apart or less, turned by "
                f"{np.rad2deg(LARGEST_TURN):.0f} degrees or less"
            )
            skipped.append(Skipped(what, why))
            continue
        try:
            color_intrinsics = _camera(color_cameras, time, color_size, source.color_intrinsics)
            depth_intrinsics = _camera(depth_cameras, time, depth_size, source.depth_intrinsics)
        except ScanError as error:
            skipped.append(Skipped(what, str(error)))
            continue
        frame = ScanFrame(
            frame_id=frame_id,
            source=colors[time].stem,
            mesh_from_camera=pose,
            color_intrinsics=color_intrinsics,
            depth_intrinsics=depth_intrinsics,
            color_size=color_size,
            depth_size=depth_size,
            time=time / 1000,
        )
        stored.append(StoredFrame(frame, colors[time], depths[time]))
    if not stored:
        raise ScanError(f"all {len(common)} frames are unusable, the first: {skipped[0].why}.")
    return stored, [*again, *and_again, *skipped]


def _camera(
    cameras: dict[int, Path], time: int, size: tuple[int, int], names: Sequence[str]
) -> np.ndarray:
    """(3, 3) intrinsics at a time, for an image of `size`."""
    offsets = sorted(range(-PINCAM_TOLERANCE, PINCAM_TOLERANCE + 1), key=abs)
    path = next((cameras[time + shift] for shift in offsets if time + shift in cameras), None)
    if path is None:
        raise ScanError(f"no intrinsics in {' or '.join(names)} within {PINCAM_TOLERANCE} ms")
    intrinsics, stated = arkit_formats.read_pincam(path)
    scale = np.array(size) / stated
    if abs(scale[0] - scale[1]) > 0.01 * scale[0]:
        raise ScanError(f"{path}: expected the shape of its image, {size}, got {stated}")
    return np.diag([*scale, 1.0]) @ intrinsics


def turned_frame(frame: ScanFrame, turns: int) -> ScanFrame:
    """The frame of an image that is turned by quarter turns clockwise."""
    return dataclasses.replace(
        frame,
        mesh_from_camera=upright.turned_poses(frame.mesh_from_camera, turns),
        color_intrinsics=upright.turned_intrinsics(frame.color_intrinsics, frame.color_size, turns),
        depth_intrinsics=upright.turned_intrinsics(frame.depth_intrinsics, frame.depth_size, turns),
        color_size=upright.turned_size(frame.color_size, turns),
        depth_size=upright.turned_size(frame.depth_size, turns),
    )


@dataclasses.dataclass(frozen=True)
class ArkitImages:
    """Pixels of a video, turned upright."""

    stored: dict[int, StoredFrame]  # by frame id
    turns: int  # quarter turns clockwise

    def color(self, frame: ScanFrame) -> np.ndarray:
        one = self.stored[frame.frame_id]
        return upright.turned_image(read_picture(one.color, one.frame.color_size), self.turns)

    def color_jpeg(self, frame: ScanFrame) -> bytes | None:
        path = self.stored[frame.frame_id].color
        if self.turns or path.suffix.lower() == ".png":
            return None
        try:
            return path.read_bytes()
        except OSError as error:
            raise ScanError(f"{path}: expected an image, cannot read it: {error}.") from error

    def depth(self, frame: ScanFrame) -> np.ndarray:
        one = self.stored[frame.frame_id]
        depth = read_picture(one.depth, one.frame.depth_size, deep=True)
        return upright.turned_image(depth, self.turns)
