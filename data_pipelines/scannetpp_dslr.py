"""The stills of a ScanNet++ scan: `<scan>/dslr/`.

Images and cameras belong together: `undistorted_images` (of the official toolkit) and
`resized_undistorted_images` (released) to `nerfstudio/transforms_undistorted.json`, the fisheye
`resized_images` to `nerfstudio/transforms.json`. Where only the latter are there, pictures are
undistorted when they are asked for, to the camera of transforms_undistorted.json or, without it, to
one of our own.

Poses of these files are W C F, with C the pose of an OpenCV camera in the mesh frame, F the turn to
an OpenGL camera, and W half a turn of the world about the direction (1, 1, 0).
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from data_pipelines import colmap, raw_json
from data_pipelines.fisheye import Fisheye, Undistortion
from data_pipelines.pictures import NO_SIZE, read_picture, usual_size
from data_pipelines.raster import depth_map
from data_pipelines.scan import Images, Mesh, ScanError, ScanFrame, Skipped, first_reason
from geometry_jax.scene_io import pose_fault

Part = Literal["train", "test", "all"]
PINHOLE_FILE, FISHEYE_FILE = "transforms_undistorted.json", "transforms.json"
FILES = tuple(f"nerfstudio/{name}" for name in (PINHOLE_FILE, FISHEYE_FILE))
UNDISTORTED_FOLDERS = ("undistorted_images", "resized_undistorted_images")
FISHEYE_FOLDER = "resized_images"
DEPTH_FOLDER = "undistorted_depths"
CONSULTED = (
    *FILES,
    *UNDISTORTED_FOLDERS,
    FISHEYE_FOLDER,
    DEPTH_FOLDER,
    "colmap/cameras.txt",
    "colmap/images.txt",
)
WORLD_TURN = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1.0]])  # W, also W^-1
CAMERA_TURN = np.diag([1.0, -1, -1, 1])  # F, also F^-1
RENDERED_WIDTH = 876  # pixels at most of depth that is rendered from the mesh: half a DSLR image
POSE_TOLERANCE = 1e-3  # metres, and entries of the rotation: rounding of text files, not more


class Still(NamedTuple):
    name: str  # of the image file
    transform: np.ndarray  # (4, 4) W C F
    is_bad: bool


class Transforms(NamedTuple):
    """A nerfstudio file."""

    path: Path
    model: str
    intrinsics: np.ndarray  # (3, 3) pixels
    distortion: np.ndarray  # (4,) k1 to k4
    size: tuple[int, int]
    train: tuple[Still, ...]
    test: tuple[Still, ...]


def mesh_from_camera(transform: np.ndarray) -> np.ndarray:
    """(4, 4) pose of an OpenCV camera in the mesh frame, from a ScanNet++ transform_matrix."""
    return WORLD_TURN @ transform @ CAMERA_TURN


def transform_matrix(mesh_from_camera: np.ndarray) -> np.ndarray:
    """(4, 4) what `mesh_from_camera` undoes."""
    return WORLD_TURN @ mesh_from_camera @ CAMERA_TURN


def read_transforms(path: Path) -> Transforms:
    """Reads camera and poses.

    Raises:
        ScanError: missing, cut short, or of another form.
    """
    content = raw_json.read_object(path)
    fx, fy, cx, cy, w, h = (
        float(raw_json.numbers(content.get(name), (), f"{path}: {name}"))
        for name in ("fl_x", "fl_y", "cx", "cy", "w", "h")
    )
    if not (np.isfinite([fx, fy, cx, cy]).all() and min(fx, fy, w, h) > 0):
        raise ScanError(f"{path}: expected a camera, got fl {fx} {fy}, c {cx} {cy}, size {w} {h}.")
    distortion = [
        float(raw_json.numbers(content.get(name, 0.0), (), f"{path}: {name}"))
        for name in ("k1", "k2", "k3", "k4")
    ]
    return Transforms(
        path=path,
        model=raw_json.field(content, "camera_model", str, str(path)),
        intrinsics=np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]),
        distortion=np.array(distortion),
        size=(int(w), int(h)),
        train=_stills(raw_json.field(content, "frames", list, str(path)), path),
        test=_stills(content.get("test_frames") or [], path),
    )


def _stills(records: list[Any], path: Path) -> tuple[Still, ...]:
    stills = []
    for position, record in enumerate(records):
        where = f"{path}: frame {position}"
        name = raw_json.field(record, "file_path", str, where)
        where = f"{path}: {name}"
        stills.append(
            Still(
                name=name.replace("\\", "/").rsplit("/", 1)[-1],
                transform=_pose(record.get("transform_matrix"), where),
                is_bad=_flag(record.get("is_bad"), f"{where}: is_bad"),
            )
        )
    return tuple(stills)


def _flag(value: Any, where: str) -> bool:
    """False where it is not stated."""
    if value not in (None, False, True):
        raise ScanError(f"{where}: expected true or false, got {value!r:.40}.")
    return bool(value)


def _pose(value: Any, where: str) -> np.ndarray:
    """(4, 4) numbers; NaN, which leaves the frame out, where there is no pose."""
    return np.full((4, 4), np.nan) if value is None else raw_json.numbers(value, (4, 4), where)


# --- pixels --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class StillImages:
    """Pixels of the stills; a frame's source is the name of its image."""

    folder: Path  # of the images
    undistortion: Undistortion | None  # None: the images are undistorted
    depths: Path | None  # folder of depth images; None: depth is rendered from the mesh
    mesh: Mesh

    def color(self, frame: ScanFrame) -> np.ndarray:
        pixels = read_picture(self.folder / frame.source, frame.color_size)
        return pixels if self.undistortion is None else self.undistortion.apply(pixels)

    def color_jpeg(self, frame: ScanFrame) -> bytes | None:
        path = self.folder / frame.source
        if self.undistortion is not None or path.suffix.lower() not in (".jpg", ".jpeg"):
            return None
        self.color(frame)  # what does not decode must not be passed on
        return path.read_bytes()

    def depth(self, frame: ScanFrame) -> np.ndarray:
        if frame.depth_size == (0, 0):
            raise ScanError(f"{frame.source}: expected depth, found none.")
        if self.depths is not None:
            path = _depth_path(self.depths, frame.source)
            return read_picture(path, frame.depth_size, deep=True)
        depth = depth_map(
            self.mesh.points,
            self.mesh.faces,
            frame.mesh_from_camera,
            frame.depth_intrinsics,
            frame.depth_size,
        )
        return np.minimum(np.rint(depth * 1000), 65535).astype(np.uint16)


def _depth_path(folder: Path, name: str) -> Path:
    path = folder / f"{Path(name).stem}.png"
    capital = path.with_suffix(".PNG")
    return capital if capital.is_file() else path


# --- frames --------------------------------------------------------------------------------------


class _Source(NamedTuple):
    """Images and what belongs to them."""

    folder: Path
    transforms: Transforms  # poses, and the camera that the frames get
    undistortion: Undistortion | None
    depths: Path | None
    bent: Transforms | None = None  # the camera of the images, where they are to be undistorted


def read_frames(
    dslr: Path, mesh: Mesh, *, part: Part = "train"
) -> tuple[list[ScanFrame], Images, list[Skipped]]:
    """The stills with a pose, numbered from 0 in the order of the file without those that it calls
    bad; test images come after all training images.

    Args:
        dslr: the folder.
        mesh: depth is rendered from it where there are no depth images.
        part: which images.

    Raises:
        ScanError: no images that a camera file is about, a camera file of another form, poses that
            COLMAP's do not agree with, or no frame with image and pose.
    """
    source = _source(dslr)
    transforms = source.transforms
    _check_with_colmap(dslr / "colmap", transforms, source.bent)
    depth_intrinsics, depth_size = _depth_camera(source)
    frames, skipped = [], []
    for frame_id, still in _numbered(transforms, part, skipped):
        pose = mesh_from_camera(still.transform)
        fault = pose_fault(pose)
        if not fault and not (source.folder / still.name).is_file():
            fault = f"expected {source.folder.name}/{still.name}, found none"
        if fault:
            skipped.append(Skipped(f"frame {still.name}", fault))
            continue
        has_depth = source.depths is None or _depth_path(source.depths, still.name).is_file()
        if not has_depth:
            why = f"expected {DEPTH_FOLDER}/{Path(still.name).stem}.png, found none"
            skipped.append(Skipped(f"depth of frame {still.name}", why))
        frames.append(
            ScanFrame(
                frame_id=frame_id,
                source=still.name,
                mesh_from_camera=pose,
                color_intrinsics=transforms.intrinsics,
                depth_intrinsics=depth_intrinsics,
                color_size=transforms.size,
                depth_size=depth_size if has_depth else (0, 0),
            )
        )
    if not frames:
        raise ScanError(
            f"{transforms.path}: expected frames with image and pose, found none"
            f"{first_reason(skipped)}."
        )
    _check_image_size(source, frames)
    return frames, StillImages(source.folder, source.undistortion, source.depths, mesh), skipped


def _numbered(
    transforms: Transforms, part: Part, skipped: list[Skipped]
) -> Iterator[tuple[int, Still]]:
    """The usable stills of a part, each with its number among those of both; the reasons of others
    go into `skipped`.
    """
    numbers: dict[str, int] = {}
    for own_part, stills in (("train", transforms.train), ("test", transforms.test)):
        for still in stills:
            if still.is_bad or still.name in numbers:
                twice = f"{transforms.path.name} has it twice"
                why = "the data set calls it bad" if still.is_bad else twice
                skipped.append(Skipped(f"frame {still.name}", why))
                continue
            numbers[still.name] = len(numbers)
            if part in ("all", own_part):
                yield numbers[still.name], still


def _source(dslr: Path) -> _Source:
    pinhole, fisheye = (dslr / name for name in FILES)
    depths = _depth_folder(dslr)
    for name in UNDISTORTED_FOLDERS:
        if (dslr / name).is_dir() and pinhole.is_file():
            return _Source(dslr / name, _read_pinhole(pinhole), None, depths)
    if (dslr / FISHEYE_FOLDER).is_dir() and fisheye.is_file():
        bent = read_transforms(fisheye)
        if bent.model != "OPENCV_FISHEYE":
            raise ScanError(f"{fisheye}: expected camera_model OPENCV_FISHEYE, got {bent.model!r}.")
        lens = Fisheye(bent.intrinsics, bent.distortion)
        if pinhole.is_file():
            straight = _read_pinhole(pinhole)
        else:  # depth images would be of a camera that nothing describes
            own = lens.pinhole(bent.size)
            plain = bent._replace(model="PINHOLE", intrinsics=own, distortion=np.zeros(4))
            straight, depths = plain, None
        undistortion = Undistortion(lens, straight.intrinsics, straight.size)
        return _Source(dslr / FISHEYE_FOLDER, straight, undistortion, depths, bent)
    found = sorted(path.name for path in dslr.glob("*") if path.is_dir())
    raise ScanError(
        f"{dslr}: expected {' or '.join(UNDISTORTED_FOLDERS)} with nerfstudio/{pinhole.name}, or "
        f"{FISHEYE_FOLDER} with nerfstudio/{fisheye.name}; found {', '.join(found) or 'nothing'}."
    )


def _depth_folder(dslr: Path) -> Path | None:
    """The folder of depth images; None where there are none.

    Raises:
        ScanError: what is there are no depth images: they are not quietly rendered instead.
    """
    folder = dslr / DEPTH_FOLDER
    names = sorted(path.name for path in folder.glob("[!.]*"))
    if names and not any(name.lower().endswith(".png") for name in names):
        raise ScanError(f"{folder}: expected depth images such as DSC00001.png, got {names[0]}.")
    return folder if names else None


def _read_pinhole(path: Path) -> Transforms:
    transforms = read_transforms(path)
    if transforms.model != "PINHOLE" or transforms.distortion.any():
        raise ScanError(
            f"{path}: expected camera_model PINHOLE without distortion, got {transforms.model!r} "
            f"with k = {transforms.distortion.tolist()}."
        )
    return transforms


def _depth_camera(source: _Source) -> tuple[np.ndarray, tuple[int, int]]:
    """Intrinsics and size of depth images: stored ones show what the image shows, at a size of
    their own.
    """
    width, height = source.transforms.size
    share = -(-width // RENDERED_WIDTH)  # rounded up
    size = (width // share, height // share)
    if source.depths is not None:
        stills = (*source.transforms.train, *source.transforms.test)
        size = usual_size([_depth_path(source.depths, still.name) for still in stills])
        if size == NO_SIZE:
            raise ScanError(f"{source.depths}: expected depth images of the frames, found none.")
    scale = np.diag([size[0] / width, size[1] / height, 1.0])
    return scale @ source.transforms.intrinsics, size


def _check_image_size(source: _Source, frames: list[ScanFrame]) -> None:
    """Images of another size than the camera's are those of another camera. Every image is measured
    again when it is decoded.
    """
    wanted = source.transforms.size
    size = usual_size([source.folder / frame.source for frame in frames])
    if size not in (wanted, NO_SIZE):
        raise ScanError(
            f"{source.folder}: expected {wanted[0]}x{wanted[1]} pixels as in "
            f"{source.transforms.path.name}, got {size[0]}x{size[1]}."
        )


def _check_with_colmap(folder: Path, transforms: Transforms, bent: Transforms | None) -> None:
    """COLMAP's files, where they are, hold the same poses in the OpenCV convention, and one of the
    cameras.
    """
    if (folder / "cameras.txt").is_file():
        for camera in colmap.read_cameras(folder / "cameras.txt").values():
            for stated in filter(None, (transforms, bent)):
                _check_camera(folder / "cameras.txt", camera, stated)
    if not (folder / "images.txt").is_file():
        return
    poses = colmap.read_poses(folder / "images.txt")
    stills = [
        still
        for still in (*transforms.train, *transforms.test)
        if still.name in poses
        and not still.is_bad
        and not pose_fault(mesh_from_camera(still.transform))  # such a frame is left out anyway
    ]
    where = f"{transforms.path} and {folder / 'images.txt'}"
    if not stills:
        raise ScanError(f"{where}: expected the same images, but they have none in common.")
    theirs = np.stack([poses[still.name] for still in stills])
    ours = np.stack([mesh_from_camera(still.transform) for still in stills])
    off = np.abs(ours - theirs).max((1, 2))
    if (off <= POSE_TOLERANCE).all():
        return
    plain = np.abs(np.stack([still.transform for still in stills]) - theirs).max((1, 2))
    if (plain <= POSE_TOLERANCE).all():
        raise ScanError(
            f"{where}: expected poses in the convention of nerfstudio in the first, but they are "
            "those of the second as they stand."
        )
    worst = int(np.argmax(off))
    distance = np.linalg.norm(ours[worst, :3, 3] - theirs[worst, :3, 3])
    cosine = (np.trace(ours[worst, :3, :3] @ theirs[worst, :3, :3].T) - 1) / 2
    raise ScanError(
        f"{where}: expected the same poses, but {(off > POSE_TOLERANCE).sum()} of {len(stills)} "
        f"differ, {stills[worst].name} by {distance:.3f} m and "
        f"{np.rad2deg(np.arccos(np.clip(cosine, -1, 1))):.1f} degrees."
    )


def _check_camera(path: Path, camera: colmap.Camera, transforms: Transforms) -> None:
    if camera.model != transforms.model or camera.size != transforms.size:
        return  # COLMAP's camera has the distortion that the images were freed of
    stated = [*transforms.intrinsics[[0, 1], [0, 1]], *transforms.intrinsics[:2, 2]]
    parameters = camera.parameters[:4]
    if len(parameters) < 4 or not (np.abs(parameters - stated) <= 0.5).all():
        raise ScanError(
            f"{path} and {transforms.path}: expected the same camera, "
            f"got {parameters.tolist()} and {np.round(stated, 3).tolist()}."
        )
