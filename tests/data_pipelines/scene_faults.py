"""Ways to spoil a good scene on disk, each with the code that the doctor should give it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from data_pipelines import meshes
from data_pipelines.reprojection import NERFSTUDIO_WORLD, OPENGL_FROM_OPENCV
from data_pipelines.scan import Mesh
from geometry_jax import scene_io


class SceneDisk(NamedTuple):
    """Where a scene lies."""

    folder: Path
    metadata: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def record(self) -> Path:
        return self.metadata / f"{self.name}.json"

    @property
    def mesh(self) -> Path:
        return self.folder / f"{self.name}_vh_clean.ply"

    def selected(self) -> list[int]:
        return sorted(int(path.stem) for path in (self.folder / "frame_processed").iterdir())

    def drop_pack(self) -> None:
        """So that what is done to the JSON files is not a fault of its own."""
        (self.metadata / f"{self.name}.npz").unlink(missing_ok=True)


def change_json(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def change_poses(scene: SceneDisk, change: Callable[[np.ndarray], np.ndarray]) -> None:
    scene.drop_pack()
    for path in (scene.folder / "pose").iterdir():
        np.savetxt(path, change(np.loadtxt(path)), fmt="%.8f")


def change_mesh(scene: SceneDisk, matrix: np.ndarray) -> None:
    mesh = meshes.read_mesh(scene.mesh)
    points = mesh.points @ matrix[:3, :3].T + matrix[:3, 3]
    meshes.write_mesh(scene.mesh, Mesh(points.astype(np.float32), mesh.colors, mesh.faces))


def change_images(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for path in folder.iterdir():
        with Image.open(path) as image:
            pixels = change(np.asarray(image))
        Image.fromarray(pixels).save(path)


def write_alignment(scene: SceneDisk, matrix: np.ndarray) -> None:
    scene.drop_pack()
    line = " ".join(f"{x:.6f}" for x in matrix.ravel())
    (scene.folder / f"{scene.name}.txt").write_text(f"axisAlignment = {line} \n")


def level(yaw: float, *shift: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    matrix[:3, 3] = shift
    return matrix


ALIGNMENT = level(0.5, -2.0, 1.5, 0.3)  # world_from_mesh of scenes as scanned


def alignment_of(scene: SceneDisk) -> np.ndarray:
    return scene_io.read_alignment(scene.folder / f"{scene.name}.txt")


def as_scanned(scene: SceneDisk) -> np.ndarray:
    """Mesh and poses in a frame of their own, and the alignment that leads from it to the boxes,
    where the scene is not so already. Returns the alignment.
    """
    if not np.allclose(alignment_of(scene), np.eye(4)):
        return alignment_of(scene)
    inverse = np.linalg.inv(ALIGNMENT)
    change_poses(scene, lambda pose: inverse @ pose)
    change_mesh(scene, inverse)
    write_alignment(scene, ALIGNMENT)
    return ALIGNMENT


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# --- faults ---------------------------------------------------------------------------------------


def inverted(scene: SceneDisk) -> None:
    change_poses(scene, np.linalg.inv)


def opengl(scene: SceneDisk) -> None:
    change_poses(scene, lambda pose: pose @ OPENGL_FROM_OPENCV)


def nerfstudio(scene: SceneDisk) -> None:
    change_poses(scene, lambda pose: NERFSTUDIO_WORLD @ pose @ OPENGL_FROM_OPENCV)


def depth_times(factor: float) -> Callable[[SceneDisk], None]:
    def spoil(scene: SceneDisk) -> None:
        def change(depth: np.ndarray) -> np.ndarray:
            return np.clip(np.rint(depth * factor), 0, 65535).astype(np.uint16)

        change_images(scene.folder / "depth", change)

    return spoil


def images_turned(turns: int, *folders: str) -> Callable[[SceneDisk], None]:
    def spoil(scene: SceneDisk) -> None:
        for name in folders:
            change_images(
                scene.folder / name, lambda pixels: np.ascontiguousarray(np.rot90(pixels, turns))
            )

    return spoil


def cameras_turned(turns: int) -> Callable[[SceneDisk], None]:
    def spoil(scene: SceneDisk) -> None:
        turn = level(turns * np.pi / 2, 0, 0, 0)
        change_poses(scene, lambda pose: pose @ turn)

    return spoil


def alignment_forgotten(scene: SceneDisk) -> None:
    as_scanned(scene)
    scene.drop_pack()
    (scene.folder / f"{scene.name}.txt").write_text("sceneType = Misc.\n")


def alignment_squared(scene: SceneDisk) -> None:
    alignment = as_scanned(scene)
    write_alignment(scene, alignment @ alignment)


def already_aligned(scene: SceneDisk) -> None:
    alignment = as_scanned(scene)
    change_poses(scene, lambda pose: alignment @ pose)
    change_mesh(scene, alignment)


def poses_already_aligned(scene: SceneDisk) -> None:
    alignment = as_scanned(scene)
    change_poses(scene, lambda pose: alignment @ pose)


def mesh_already_aligned(scene: SceneDisk) -> None:
    change_mesh(scene, as_scanned(scene))


def alignment_of_another(scene: SceneDisk) -> None:
    write_alignment(scene, level(-1.2, 3.0, 0.5, -0.2) @ as_scanned(scene))


def images_halved(scene: SceneDisk) -> None:
    for name in ("color", "frame_processed", "depth"):
        change_images(scene.folder / name, lambda pixels: np.ascontiguousarray(pixels[::2, ::2]))


def intrinsics_of_larger(scene: SceneDisk) -> None:
    for kind in ("color", "depth"):
        path = scene.folder / f"intrinsic_{kind}.txt"
        matrix = np.loadtxt(path)
        matrix[:2] *= 4
        np.savetxt(path, matrix, fmt="%.8f")


def boxes_moved_on(scene: SceneDisk) -> None:
    """The poses were mended, the records were not: they were worked out with inverted poses."""
    scene.drop_pack()
    for path in (scene.metadata / "frame_processed").iterdir():
        pose = np.loadtxt(scene.folder / "pose" / f"{path.stem}.txt")
        wrong = pose @ pose  # camera_from_world of the inverted pose, seen from the right one

        def change(record: Any, wrong: np.ndarray = wrong) -> Any:
            for one in record["objects"]:
                local = wrong @ np.append(one["camera_location"], 1)
                local[2] = abs(local[2]) + 0.1
                one["camera_location"] = local[:3].tolist()
            return record

        change_json(path, change)


def one_pose(value: float) -> Callable[[SceneDisk], None]:
    def spoil(scene: SceneDisk) -> None:
        scene.drop_pack()
        path = scene.folder / "pose" / f"{scene.selected()[1]}.txt"
        np.savetxt(path, np.full((4, 4), value))

    return spoil


def pose_of_three_rows(scene: SceneDisk) -> None:
    path = scene.folder / "pose" / f"{scene.selected()[0]}.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))


def pose_scaled(scene: SceneDisk) -> None:
    path = scene.folder / "pose" / f"{scene.selected()[0]}.txt"
    matrix = np.loadtxt(path)
    matrix[:3, :3] *= 1.2
    np.savetxt(path, matrix)


def gone(*names: str) -> Callable[[SceneDisk], None]:
    """Files are deleted; `*` is the scene's name, `?` its second selected frame."""

    def spoil(scene: SceneDisk) -> None:
        for name in names:
            number = str(scene.selected()[1])
            (scene.folder / name.replace("*", scene.name).replace("?", number)).unlink()

    return spoil


def half(name: str) -> Callable[[SceneDisk], None]:
    def spoil(scene: SceneDisk) -> None:
        number = str(scene.selected()[1])
        cut(scene.folder / name.replace("*", scene.name).replace("?", number))

    return spoil


def record_gone(scene: SceneDisk) -> None:
    scene.record.unlink()


def record_cut(scene: SceneDisk) -> None:
    cut(scene.record)


def frame_record_cut(scene: SceneDisk) -> None:
    cut(scene.metadata / "frame_processed" / f"{scene.selected()[2]}.json")


def frame_record_gone(scene: SceneDisk) -> None:
    (scene.metadata / "frame_processed" / f"{scene.selected()[2]}.json").unlink()


def stranger_in_frame(scene: SceneDisk) -> None:
    def change(record: Any) -> Any:
        record["objects"][0]["object_id"] = 77
        return record

    path = next(
        path
        for path in sorted((scene.metadata / "frame_processed").iterdir())
        if json.loads(path.read_text())["objects"]
    )
    change_json(path, change)


def object_twice(scene: SceneDisk) -> None:
    def change(record: Any) -> Any:
        record["objects"][1]["object_id"] = record["objects"][0]["object_id"]
        return record

    scene.drop_pack()
    change_json(scene.record, change)
    for path in (scene.metadata / "frame_processed").iterdir():
        change_json(path, lambda frame: frame | {"objects": []})


def other_scene_id(scene: SceneDisk) -> None:
    change_json(scene.record, lambda record: record | {"scene_id": "scene9999_00"})


def one_segment_less(scene: SceneDisk) -> None:
    change_json(
        scene.folder / f"{scene.name}_vh_clean.segs.json",
        lambda value: value | {"segIndices": value["segIndices"][:-1]},
    )


def no_objects(scene: SceneDisk) -> None:
    scene.drop_pack()
    change_json(scene.record, lambda record: record | {"objects": []})
    for path in (scene.metadata / "frame_processed").iterdir():
        change_json(path, lambda frame: frame | {"objects": []})


def no_frames(scene: SceneDisk) -> None:
    scene.drop_pack()
    for folder in (scene.folder, scene.metadata):
        for path in (folder / "frame_processed").iterdir():
            path.unlink()


def label_changed_after_packing(scene: SceneDisk) -> None:
    known = json.loads(scene.record.read_text())["objects"][0]["object_id"]

    def change(record: Any) -> Any:
        for one in record["objects"]:
            if one["object_id"] == known:
                one["label"] = "grand piano"
        return record

    for path in (scene.record, *(scene.metadata / "frame_processed").iterdir()):
        change_json(path, change)


def change_object(name: str, value: Callable[[Any], Any]) -> Callable[[SceneDisk], None]:
    """Of the scene's record."""

    def change(record: Any) -> Any:
        record["objects"][0][name] = value(record["objects"][0][name])
        return record

    def spoil(scene: SceneDisk) -> None:
        scene.drop_pack()
        change_json(scene.record, change)

    return spoil


def change_sighting(name: str, value: Any) -> Callable[[SceneDisk], None]:
    """Of the first thing that a frame sees."""

    def spoil(scene: SceneDisk) -> None:
        scene.drop_pack()
        for path in sorted((scene.metadata / "frame_processed").iterdir()):
            record = json.loads(path.read_text())
            if record["objects"]:
                record["objects"][0][name] = value
                path.write_text(json.dumps(record))
                return

    return spoil


def record_of_another_frame(scene: SceneDisk) -> None:
    scene.drop_pack()
    first, second = sorted((scene.metadata / "frame_processed").iterdir())[:2]
    change_json(first, lambda record: record | {"frame_id": f"{second.stem}.jpg"})


def poses_moved(matrix: np.ndarray) -> Callable[[SceneDisk], None]:
    """All of them, against the mesh."""
    return lambda scene: change_poses(scene, lambda pose: matrix @ pose)


def one_pose_moved(scene: SceneDisk) -> None:
    scene.drop_pack()
    path = scene.folder / "pose" / f"{scene.selected()[2]}.txt"
    np.savetxt(path, level(0.05, 0.25, -0.2, 0.1) @ np.loadtxt(path), fmt="%.8f")


def off_by_one(*names: str) -> Callable[[SceneDisk], None]:
    """Every selected frame has the files of the next one, the last those of the first."""

    def spoil(scene: SceneDisk) -> None:
        for name in names:
            paths = {int(path.stem): path for path in (scene.folder / name).iterdir()}
            own = [paths[number] for number in scene.selected()]
            content = [path.read_bytes() for path in own]
            for path, other in zip(own, content[1:] + content[:1], strict=True):
                path.write_bytes(other)

    return spoil


def looks_away(scene: SceneDisk) -> tuple[Path, Path]:
    """The first picture's pose and that of the one which looks another way most."""
    scene.drop_pack()
    paths = [scene.folder / "pose" / f"{number}.txt" for number in scene.selected()]
    poses = [np.loadtxt(path) for path in paths]
    return paths[0], paths[int(np.argmin([poses[0][:3, 2] @ pose[:3, 2] for pose in poses]))]


def poses_swapped(scene: SceneDisk) -> None:
    first, other = looks_away(scene)
    one, two = first.read_bytes(), other.read_bytes()
    first.write_bytes(two)
    other.write_bytes(one)


def pose_copied(scene: SceneDisk) -> None:
    first, other = looks_away(scene)
    first.write_bytes(other.read_bytes())


def area_below_zero(scene: SceneDisk) -> None:
    scene.drop_pack()
    change_json(scene.record, lambda record: record | {"room_size": -3.0})


def pack_cut(scene: SceneDisk) -> None:
    cut(scene.metadata / f"{scene.name}.npz")


def depth_zero(scene: SceneDisk) -> None:
    change_images(scene.folder / "depth", np.zeros_like)


def depth_of_eight_bits(scene: SceneDisk) -> None:
    change_images(scene.folder / "depth", lambda depth: (depth // 40).astype(np.uint8))


ALL = ("color", "frame_processed", "depth")
PICTURES = ("color", "frame_processed")
GEOMETRIC: dict[str, tuple[Callable[[SceneDisk], None], str]] = {
    "inverted": (inverted, "pose_inverted"),
    "opengl": (opengl, "camera_axes"),
    "nerfstudio": (nerfstudio, "nerfstudio_pose"),
    "metres": (depth_times(1e-3), "depth_unit"),
    "centimetres": (depth_times(0.1), "depth_unit"),
    "quarter_millimetres": (depth_times(4), "depth_unit"),
    "fifth_millimetres": (depth_times(5), "depth_unit"),
    "inches_taken_for_cm": (depth_times(1 / 2.54), "depth_unit"),
    "turned_90": (images_turned(1, *ALL), "rotated_frame"),
    "turned_180": (images_turned(2, *ALL), "rotated_frame"),
    "turned_270": (images_turned(3, *ALL), "rotated_frame"),
    "depth_turned_180": (images_turned(2, "depth"), "rotated_frame"),
    "pictures_turned_90": (images_turned(1, *PICTURES), "rotated_frame"),
    "pictures_turned_180": (images_turned(2, *PICTURES), "rotated_frame"),
    "cameras_turned_90": (cameras_turned(1), "rotated_frame"),
    "cameras_turned_180": (cameras_turned(2), "rotated_frame"),
    "cameras_turned_270": (cameras_turned(3), "rotated_frame"),
    "alignment_forgotten": (alignment_forgotten, "alignment_missing"),
    "alignment_squared": (alignment_squared, "alignment_twice"),
    "already_aligned": (already_aligned, "alignment_twice"),
    "poses_already_aligned": (poses_already_aligned, "alignment_twice"),
    "mesh_already_aligned": (mesh_already_aligned, "alignment_twice"),
    "alignment_of_another": (alignment_of_another, "alignment_wrong"),
    "images_halved": (images_halved, "resolution"),
    "intrinsics_of_larger": (intrinsics_of_larger, "resolution"),
    "boxes_moved_on": (boxes_moved_on, "stale_records"),
    "depth_zero": (depth_zero, "damaged_file"),
    "poses_shifted": (poses_moved(level(0, 0.2, -0.2, 0.1)), "pose_shifted"),
    "poses_raised": (poses_moved(level(0, 0, 0, 0.4)), "pose_shifted"),
    "poses_turned": (poses_moved(level(np.deg2rad(6), 0, 0, 0)), "pose_shifted"),
    "one_pose_moved": (one_pose_moved, "pose_shifted"),
    "depth_of_the_next": (off_by_one("depth"), "other_frame"),
    "pictures_of_the_next": (off_by_one(*PICTURES), "other_frame"),
    "images_of_the_next": (off_by_one(*ALL), "other_frame"),
    "poses_swapped": (poses_swapped, "other_frame"),
    "pose_copied": (pose_copied, "other_frame"),
    "depth_a_tenth_too_long": (depth_times(1.1), "depth_unit"),
}
FILES: dict[str, tuple[Callable[[SceneDisk], None], str]] = {
    "nan_pose": (one_pose(np.nan), "lost_pose"),
    "inf_pose": (one_pose(-np.inf), "lost_pose"),
    "pose_of_three_rows": (pose_of_three_rows, "bad_pose"),
    "pose_scaled": (pose_scaled, "bad_pose"),
    "text_gone": (gone("*.txt"), "missing_file"),
    "mesh_gone": (gone("*_vh_clean.ply"), "missing_file"),
    "segments_gone": (gone("*_vh_clean.segs.json"), "missing_file"),
    "intrinsics_gone": (gone("intrinsic_depth.txt"), "missing_file"),
    "record_gone": (record_gone, "missing_file"),
    "pose_gone": (gone("pose/?.txt"), "frame_sets"),
    "color_gone": (gone("color/?.jpg"), "frame_sets"),
    "depth_gone": (gone("depth/?.png"), "frame_sets"),
    "frame_record_gone": (frame_record_gone, "frame_sets"),
    "mesh_cut": (half("*_vh_clean.ply"), "damaged_file"),
    "color_cut": (half("color/?.jpg"), "damaged_file"),
    "picture_cut": (half("frame_processed/?.jpg"), "damaged_file"),
    "depth_cut": (half("depth/?.png"), "damaged_file"),
    "segments_cut": (half("*_vh_clean.segs.json"), "damaged_file"),
    "intrinsics_cut": (half("intrinsic_color.txt"), "damaged_file"),
    "record_cut": (record_cut, "damaged_file"),
    "frame_record_cut": (frame_record_cut, "damaged_file"),
    "depth_of_eight_bits": (depth_of_eight_bits, "damaged_file"),
    "stranger_in_frame": (stranger_in_frame, "ids"),
    "object_twice": (object_twice, "ids"),
    "other_scene_id": (other_scene_id, "ids"),
    "one_segment_less": (one_segment_less, "ids"),
    "no_objects": (no_objects, "empty_scene"),
    "no_frames": (no_frames, "empty_scene"),
    "label_changed_after_packing": (label_changed_after_packing, "stale_pack"),
    "pack_cut": (pack_cut, "stale_pack"),
    "label_of_another": (change_sighting("label", "grand piano"), "ids"),
    "record_of_another_frame": (record_of_another_frame, "ids"),
    "visibility_of_seven": (change_sighting("visibility", 7), "bad_number"),
    "box_beyond_the_picture": (change_sighting("2d_bbox", [0, 0, 9999, 9999]), "bad_number"),
    "area_below_zero": (area_below_zero, "bad_number"),
    "obb_elsewhere": (
        change_object("obb", lambda obb: obb | {"center": [50.0, 50.0, 50.0]}),
        "bad_number",
    ),
    "obb_too_large": (change_object("obb", lambda obb: obb | {"extent": [1e6] * 3}), "bad_number"),
    "box_moved": (
        change_object("3d_bbox", lambda box: [x + 0.1 * (n % 3 == 0) for n, x in enumerate(box)]),
        "stale_records",
    ),
}
FAULTS = GEOMETRIC | FILES
