"""What can be wrong with a scene on disk, in words, and how to mend it."""

from typing import NamedTuple


class Finding(NamedTuple):
    """One fault of one scene."""

    code: str  # a key of `CURES`
    where: str  # files or frames, relative to the scene
    what: str  # what was expected and what is there; a sentence


CURES: dict[str, str] = {
    "missing_file": "The scene was copied or prepared halfway: copy or prepare it again.",
    "damaged_file": "The file was cut short or overwritten: copy or prepare the scene again.",
    "frame_sets": (
        "Copy the missing images, or take the frame out of frame_processed/ and of the metadata."
    ),
    "lost_pose": (
        "Tracking was lost there: take the frame out of frame_processed/ and of the metadata."
    ),
    "bad_pose": "Write the pose again as a rigid 4x4 camera-to-world matrix, four lines of four.",
    "ids": "Metadata and scene come from different runs: prepare the metadata again.",
    "bad_number": "A faulty program wrote it: prepare the metadata again.",
    "empty_scene": "Nothing can be asked about it: take it out, or prepare it from its raw data.",
    "stale_pack": "Delete the .npz file, or prepare the scene again; the JSON files are read then.",
    "resolution": (
        "Scale the intrinsics by the ratio of the image sizes, or restore the images' own size."
    ),
    "pose_inverted": (
        "Invert every matrix in pose/: they must map camera to world. Then prepare the metadata "
        "again, unless it was made from right poses."
    ),
    "camera_axes": (
        "Multiply every pose by diag(1, -1, -1, 1) from the right: the camera's axes must be x "
        "right, y down, z forward. Then prepare the metadata again."
    ),
    "nerfstudio_pose": (
        "Undo ScanNet++'s nerfstudio convention: negate row 2, swap rows 0 and 1, negate columns 1 "
        "and 2. Then prepare the metadata again."
    ),
    "depth_unit": "Write depth/ again in millimetres, 16 bits, 0 where nothing was measured.",
    "pose_shifted": (
        "Take poses and mesh from one run: they are in slightly different frames of reference. For "
        "single frames tracking slipped: take them out."
    ),
    "other_frame": (
        "Pictures, depth images and poses were numbered apart: file them again from the source, or "
        "take the frames out. Then prepare the metadata again."
    ),
    "rotated_frame": (
        "Turn the images back, or turn the pose and the intrinsics with them; both must be upright "
        "or neither."
    ),
    "alignment_missing": "Put the line into the scene's text file.",
    "alignment_twice": (
        "Keep one: either poses and mesh as scanned with the axisAlignment, or both aligned with "
        "the identity; then prepare the metadata again."
    ),
    "alignment_wrong": "Restore the axisAlignment that the boxes were made with, or prepare again.",
    "stale_records": (
        "What frames say was worked out from other poses or boxes: prepare the metadata again, "
        "once those are right."
    ),
    "disagreement": (
        "No known mistake explains it: compare pose/, intrinsic_*.txt and the mesh with their "
        "source; for single frames tracking may be off, then take them out."
    ),
}
