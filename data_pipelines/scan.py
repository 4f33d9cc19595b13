"""What every raw data set is read into: a mesh, labelled objects, posed frames. Host side, NumPy.

A reader turns raw files into a `Scan`, a writer turns a `Scan` into raw files, and `building` turns
it into a unified scene. Nothing of a data set's own conventions is left in it:

Mesh frame: metres, z up, yaw and origin as the data set has them. Camera: x right, y down, z
forward (OpenCV); a pixel (column, row) covers [column, column + 1) x [row, row + 1), so that
intrinsics are those of continuous image coordinates with the origin in the image's corner.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

# From intrinsics whose pixel centres are at whole numbers to ours, with the origin in the corner.
HALF_PIXEL = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
MOST_OBJECTS = 1 << 20  # numbers above are damage, and would not fit where ids are kept


class ScanError(ValueError):
    """Raw data that is missing, cut short or of the wrong form; the message names the file."""


@dataclasses.dataclass(frozen=True)
class OrientedBox:
    """A box in the mesh frame."""

    center: np.ndarray  # (3,) metres
    extent: np.ndarray  # (3,) full sides, metres
    rotation: np.ndarray  # (3, 3) mesh_from_box: the columns are the box's axes

    def corners(self) -> np.ndarray:
        """(8, 3) metres."""
        signs = np.stack(np.meshgrid([-0.5, 0.5], [-0.5, 0.5], [-0.5, 0.5]), -1).reshape(-1, 3)
        return self.center + (signs * self.extent) @ self.rotation.T


@dataclasses.dataclass(frozen=True)
class ScanObject:
    """One annotated object. It has vertices, or a box of the data set, or both."""

    object_id: int  # unique in the scan, from 1; ScanNet's own numbers are one less
    label: str  # as the data set spells it
    vertices: np.ndarray  # (k,) i64 rows of `Mesh.points`; one vertex may belong to several objects
    box: OrientedBox | None = None


@dataclasses.dataclass(frozen=True)
class Mesh:
    points: np.ndarray  # (V, 3) f32, metres
    colors: np.ndarray  # (V, 3) uint8
    faces: np.ndarray  # (T, 3) i32; no rows where the data set has points only


@dataclasses.dataclass(frozen=True)
class ScanFrame:
    """One posed picture, without its pixels."""

    frame_id: int  # its number in the unified scene; ascending, gaps allowed
    source: str  # what the data set calls it
    mesh_from_camera: np.ndarray  # (4, 4) f64
    color_intrinsics: np.ndarray  # (3, 3) pixels of the colour image
    depth_intrinsics: np.ndarray  # (3, 3) pixels of the depth image
    color_size: tuple[int, int]  # width, height
    depth_size: tuple[int, int]  # width, height; (0, 0) where there is no depth
    time: float = float("nan")  # seconds


class Images(Protocol):
    """Pixels of a scan, read when asked for."""

    def color(self, frame: ScanFrame) -> np.ndarray:
        """(H, W, 3) uint8 RGB. Raises ScanError where it does not decode."""
        ...

    def color_jpeg(self, frame: ScanFrame) -> bytes | None:
        """The stored JPEG file, where the data set has one that shows the frame as `color` does."""
        ...

    def depth(self, frame: ScanFrame) -> np.ndarray:
        """(H, W) uint16 millimetres along z, 0 where nothing was measured. Raises ScanError where
        it does not decode, or where there is no depth.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Skipped:
    """Something of the raw data that the scan does not have, for the report."""

    what: str  # such as "frame 12", "object 7"
    why: str


@dataclasses.dataclass(frozen=True)
class Scan:
    """One raw scan."""

    dataset: str  # "scannet", "scannetpp", "arkitscenes", "rooms"
    scene_id: str  # of the unified scene, such as "scene0000_00"
    source_id: str  # what the data set calls it
    split: str  # "train" or "val"
    mesh: Mesh
    objects: tuple[ScanObject, ...]
    frames: tuple[ScanFrame, ...]  # those with a finite, rigid pose, ascending by frame_id
    images: Images
    # (4, 4) rigid, the alignment that the data set gives; None: it gives none
    world_from_mesh: np.ndarray | None
    is_video: bool = True  # whether neighbouring frames are neighbours in time
    skipped: tuple[Skipped, ...] = ()
    files: tuple[Path, ...] = ()  # files, and folders of pictures, that it depends on, there or not


def listed(
    raw: Path, dataset: str, example: str, find: Callable[[Path], Iterable[str]]
) -> tuple[str, ...]:
    """Ids of the scans in a folder, sorted.

    Args:
        dataset: its name, for people.
        example: where in a folder one of its scans may lie, for people.
        find: the ids in a folder, none or some.

    Raises:
        ScanError: no such folder, or no scan in it; where a folder inside has some, it is named.
    """
    if not raw.is_dir():
        raise ScanError(f"{raw}: expected a folder of {dataset} scans, found none.")
    found = tuple(sorted(set(find(raw))))
    if found:
        return found
    inside = sorted(raw.iterdir())
    names = ", ".join(path.name for path in inside[:5]) or "nothing"
    deeper = next((path for path in inside if path.is_dir() and _has_some(path, find)), None)
    hint = f"; there are some in {deeper}, give that folder" if deeper else ""
    raise ScanError(f"{raw}: expected {dataset} scans such as {example}, found {names}{hint}.")


def _has_some(folder: Path, find: Callable[[Path], Iterable[str]]) -> bool:
    try:
        return any(True for _ in find(folder))
    except (OSError, ScanError):  # one that can't be looked into is no hint
        return False


def first_reason(skipped: Sequence[Skipped]) -> str:
    """Why the first one was skipped, to end an error with; empty when nothing was."""
    return f"; {skipped[0].what}: {skipped[0].why.removesuffix('.')}" if skipped else ""


def require_some(objects: Sequence[ScanObject], skipped: Sequence[Skipped], where: Path) -> None:
    """
    Raises:
        ScanError: there are objects in the file, and none that can be used: it is of another form.
    """
    if not objects and skipped:
        raise ScanError(
            f"{where}: expected objects that can be used, found none among "
            f"{len(skipped)}{first_reason(skipped)}."
        )


def object_fault(object_id: object, label: object) -> str:
    """What is wrong with the number and the label of an annotated object, in words; empty when
    nothing is.
    """
    if type(object_id) is not int or not 0 <= object_id < MOST_OBJECTS:
        return f"expected objectId as a whole number below {MOST_OBJECTS}, got {object_id!r:.40}"
    return label_fault(label)


def label_fault(label: object) -> str:
    """As `object_fault`, of a label alone."""
    if not isinstance(label, str) or not label.strip():
        return f"expected a label, got {label!r:.40}"
    if any(0xD800 <= ord(letter) < 0xE000 for letter in label):  # JSON can spell half a character
        return f"expected a label of whole characters, got {label!a:.40}"
    return ""
