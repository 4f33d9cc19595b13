"""Frames of ScanNet scans: from a .sens file, or from the folders that its exporter makes of one.

ScanNet's intrinsics put pixel centres on whole numbers: its own reader unprojects pixel (column,
row) as it is, and nominal principal points are (width - 1) / 2. Half a pixel is added here, as the
intrinsics of a `Scan` have their origin in the image's corner.
"""

import dataclasses
from pathlib import Path

import numpy as np

from data_pipelines import raw_json, sens
from data_pipelines.pictures import NO_SIZE, read_picture, usual_size
from data_pipelines.scan import HALF_PIXEL, Images, ScanError, ScanFrame, Skipped
from geometry_jax.scene_io import pose_fault

OFF_CENTRE = 0.25  # of half the image, by which a principal point may be off its middle


def _with_corner_origin(intrinsics: np.ndarray, size: tuple[int, int], where: str) -> np.ndarray:
    """(3, 3) intrinsics, of images of the given size."""
    matrix = np.asarray(intrinsics, np.float64)[:3, :3]
    if not np.isfinite(matrix).all() or matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise ScanError(f"{where}: expected intrinsics, got {np.ravel(matrix).tolist()}.")
    # Images are often exported at another size than the one that was calibrated.
    if size != NO_SIZE and np.abs(2 * matrix[:2, 2] / size - 1).max() > OFF_CENTRE:
        raise ScanError(
            f"{where}: expected intrinsics of {size[0]}x{size[1]} images, got a principal point "
            f"at {matrix[0, 2]:.1f}, {matrix[1, 2]:.1f}."
        )
    return matrix + HALF_PIXEL


def _check_extrinsics(extrinsics: np.ndarray, where: str) -> None:
    """Depth is released registered to colour; otherwise one pose would not do for both."""
    if not np.abs(extrinsics - np.eye(4)).max() <= 1e-3:
        raise ScanError(
            f"{where}: expected the identity, as depth is registered to colour, "
            f"got {np.round(extrinsics, 4).tolist()}."
        )


@dataclasses.dataclass(frozen=True)
class SensImages:
    """Pixels of a .sens file; a frame's id is its row."""

    index: sens.SensIndex

    def color(self, frame: ScanFrame) -> np.ndarray:
        return sens.color(self.index, frame.frame_id)

    def color_jpeg(self, frame: ScanFrame) -> bytes | None:
        if self.index.header.color_codec != sens.ColorCodec.JPEG:
            return None
        self.color(frame)  # what does not decode must not be passed on
        return sens.color_bytes(self.index, frame.frame_id)

    def depth(self, frame: ScanFrame) -> np.ndarray:
        return sens.depth(self.index, frame.frame_id)


def from_sens(path: Path, keep_whole_frames: bool) -> tuple[list[ScanFrame], Images, list[Skipped]]:
    """The frames whose pose was not lost, their pixels, and what was left out.

    Raises:
        ScanError: not a .sens file that can be read, or cut short and not to be kept so.
    """
    index = sens.read_index(path)
    skipped = []
    if index.cut:
        if not keep_whole_frames and len(index.poses) < index.frame_count:
            raise ScanError(f"{index.cut} Download it again.")
        skipped.append(Skipped(path.name, index.cut))
    header = index.header
    _check_extrinsics(header.color_extrinsics, f"{path}: colour extrinsics")
    _check_extrinsics(header.depth_extrinsics, f"{path}: depth extrinsics")
    color_k = _with_corner_origin(header.color_intrinsics, header.color_size, f"{path}: colour")
    depth_k = _with_corner_origin(header.depth_intrinsics, header.depth_size, f"{path}: depth")
    frames = []
    for row, pose in enumerate(index.poses.astype(np.float64)):
        fault = pose_fault(pose)
        if fault or not index.sizes[row, 0]:
            skipped.append(Skipped(f"frame {row}", fault or "no colour image (0 bytes)"))
            continue
        has_depth = bool(index.sizes[row, 1])
        if not has_depth:
            skipped.append(Skipped(f"depth of frame {row}", "no depth image (0 bytes)"))
        frames.append(
            ScanFrame(
                frame_id=row,
                source=str(row),
                mesh_from_camera=pose,
                color_intrinsics=color_k,
                depth_intrinsics=depth_k,
                color_size=header.color_size,
                depth_size=header.depth_size if has_depth else NO_SIZE,
                time=float(index.times[row, 0]) / 1e6 if index.times[:, 0].any() else float("nan"),
            )
        )
    return frames, SensImages(index), skipped


@dataclasses.dataclass(frozen=True)
class ExportedImages:
    """Pixels in image files, by frame id."""

    colors: dict[int, Path]
    depths: dict[int, Path]

    def color(self, frame: ScanFrame) -> np.ndarray:
        return read_picture(self.colors[frame.frame_id], frame.color_size)

    def color_jpeg(self, frame: ScanFrame) -> bytes | None:
        path = self.colors[frame.frame_id]
        if path.suffix.lower() not in (".jpg", ".jpeg"):
            return None
        self.color(frame)  # what does not decode must not be passed on
        return path.read_bytes()

    def depth(self, frame: ScanFrame) -> np.ndarray:
        if frame.frame_id not in self.depths:
            raise ScanError(f"depth of frame {frame.frame_id}: expected an image, found none.")
        return read_picture(self.depths[frame.frame_id], frame.depth_size, deep=True)


def _by_number(folder: Path, suffixes: tuple[str, ...]) -> dict[int, Path]:
    """Files by the number that is their name, ascending.

    Raises:
        ScanError: files, but none with such a name; or two with one number.
    """
    names = sorted(path.name for path in folder.glob("[!.]*"))
    numbers: dict[int, str] = {}
    for name in names:
        stem, suffix = Path(name).stem, Path(name).suffix
        if not (stem.isascii() and stem.isdecimal() and suffix.lower() in suffixes):
            continue
        other = numbers.setdefault(int(stem), name)
        if other != name:
            raise ScanError(f"{folder}: expected one file of each number, got {other} and {name}.")
    if names and not numbers:
        raise ScanError(f"{folder}: expected files such as 0{suffixes[0]}, got {names[0]}.")
    return {number: folder / numbers[number] for number in sorted(numbers)}


def _read_matrix(path: Path) -> np.ndarray:
    """(4, 4) numbers, which may be infinite; a 3x3 matrix is filled up."""
    lines = raw_json.read_text(path).splitlines()
    try:
        matrix = np.array([[float(x) for x in line.split()] for line in lines if line.strip()])
    except ValueError as error:
        raise ScanError(f"{path}: expected a matrix of numbers ({error}).") from error
    if matrix.shape == (3, 3):
        matrix = np.block([[matrix, np.zeros((3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]])
    if matrix.shape != (4, 4):
        raise ScanError(f"{path}: expected a 4x4 matrix, got {matrix.shape}.")
    return matrix


def _calibration(folder: Path, name: str) -> Path | None:
    for path in (folder / "intrinsic" / name, folder / name):
        if path.is_file():
            return path
    return None


def _exported_intrinsics(folder: Path, kind: str, size: tuple[int, int]) -> np.ndarray:
    path = _calibration(folder, f"intrinsic_{kind}.txt")
    if path is None:
        raise ScanError(
            f"{folder}: expected intrinsic_{kind}.txt there or in intrinsic/, found none."
        )
    extrinsics = _calibration(folder, f"extrinsic_{kind}.txt")
    if extrinsics is not None:
        _check_extrinsics(_read_matrix(extrinsics), str(extrinsics))
    return _with_corner_origin(_read_matrix(path), size, str(path))


def exported_files(folder: Path) -> list[Path]:
    """What an export consists of: folders, and files of cameras wherever they may lie."""
    names = [f"{kind}_{of}.txt" for kind in ("intrinsic", "extrinsic") for of in ("color", "depth")]
    return [
        *(folder / name for name in ("color", "depth", "pose", "intrinsic")),
        *(folder / name for name in names),
    ]


def from_export(folder: Path) -> tuple[list[ScanFrame], Images, list[Skipped]]:
    """As `from_sens`, of the folders color, depth and pose.

    Raises:
        ScanError: no intrinsics, or those of images of another size.
    """
    colors = _by_number(folder / "color", (".jpg", ".jpeg", ".png"))
    depths = _by_number(folder / "depth", (".png",))
    poses = _by_number(folder / "pose", (".txt",))
    color_size, depth_size = (usual_size(list(each.values())) for each in (colors, depths))
    color_k = _exported_intrinsics(folder, "color", color_size)
    depth_k = _exported_intrinsics(folder, "depth", depth_size) if depths else color_k
    frames, skipped = [], []
    for number in sorted(colors.keys() | depths.keys() | poses.keys()):
        fault = ""
        if number not in poses or number not in colors:
            absent = "pose" if number not in poses else "color"
            fault = f"expected {absent}/{number}.*, found none"
        pose = np.eye(4)
        if not fault:
            try:
                pose = _read_matrix(poses[number])
                fault = pose_fault(pose)
            except ScanError as error:
                fault = str(error)
        if fault:
            skipped.append(Skipped(f"frame {number}", fault))
            continue
        if number not in depths:
            why = f"expected depth/{number}.png, found none"
            skipped.append(Skipped(f"depth of frame {number}", why))
        frames.append(
            ScanFrame(
                frame_id=number,
                source=colors[number].name,
                mesh_from_camera=pose,
                color_intrinsics=color_k,
                depth_intrinsics=depth_k,
                color_size=color_size,
                depth_size=depth_size if number in depths else NO_SIZE,
            )
        )
    return frames, ExportedImages(colors, depths), skipped
