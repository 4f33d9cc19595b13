"""Rooms made by hand, small enough to check answers with a ruler.

World: metres, z up, x to the east, y to the north. Headings in degrees, counter-clockwise from
east.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from geometry_jax import scene_io
from geometry_jax.scene_io import SceneRecord
from geometry_jax.tasks import TASK_IDS, TASKS
from geometry_jax.types import MAX_LABELS, MIN_VISIBILITY, Query, Scene, Verdict, leaf

IMAGE_SIZE = (100, 80)
SEEN_SHARE = 0.8  # visibility of whatever stands before a camera, unless said otherwise
DIFFICULTIES = {"": 0, "easy": 1, "medium": 2, "hard": 3}
NUM_OBJECTS, NUM_FRAMES = 16, 16  # every test pads to these: one compilation serves them all


@dataclasses.dataclass(frozen=True)
class Thing:
    """An upright box with full sides; `yaw` in degrees."""

    label: str
    center: tuple[float, float, float]
    extent: tuple[float, float, float]
    yaw: float = 0.0


def camera(x: float, y: float, z: float, *, heading: float, pitch: float = 0.0) -> np.ndarray:
    """(4, 4) world_from_camera that looks along `heading`, up by `pitch` degrees, without roll."""
    h, p = np.deg2rad(heading), np.deg2rad(pitch)
    forward = np.array([np.cos(h) * np.cos(p), np.sin(h) * np.cos(p), np.sin(p)])
    right = np.array([np.sin(h), -np.cos(h), 0.0])
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2] = right, np.cross(forward, right), forward
    pose[:3, 3] = x, y, z
    return pose


def yaw_matrix(radians: float) -> np.ndarray:
    cos, sin = np.cos(radians), np.sin(radians)
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def enclosing(extent: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """(N, 3) full sides of the axis-aligned boxes around (N, 3) boxes with (N,) yaws (radians)."""
    cos, sin = np.abs(np.cos(yaw)), np.abs(np.sin(yaw))
    x, y = extent[:, 0] * cos + extent[:, 1] * sin, extent[:, 0] * sin + extent[:, 1] * cos
    return np.stack([x, y, extent[:, 2]], axis=1)


def make_record(
    things: Sequence[Thing],
    poses: Sequence[np.ndarray],
    *,
    visibility: Mapping[tuple[int, int], float] | None = None,
    scene_id: str = "scene0000_00",
) -> SceneRecord:
    """A scene in which a frame has a record of every object that stands before its camera.

    `visibility` maps (frame, object) to another share than SEEN_SHARE. Object ids count from 1,
    frame ids by tens.
    """
    count, frames = len(things), len(poses)
    labels = tuple(dict.fromkeys(thing.label for thing in things))
    center = np.array([thing.center for thing in things], np.float64).reshape(count, 3)
    extent = np.array([thing.extent for thing in things], np.float64).reshape(count, 3)
    yaw = np.deg2rad(np.array([thing.yaw for thing in things], np.float64))
    world_from_camera = np.stack(poses) if poses else np.zeros((0, 4, 4))
    offset = center[None] - world_from_camera[:, None, :3, 3]
    location = np.einsum("fij,fni->fnj", world_from_camera[:, :3, :3], offset)
    seen = location[..., 2] > 0.1
    shares = np.where(seen, SEEN_SHARE, 0.0)
    for (frame, index), share in (visibility or {}).items():
        shares[frame, index], seen[frame, index] = share, share > 0
    f32 = np.float32
    scene = Scene(
        center=leaf(center.astype(f32)),
        extent=leaf(enclosing(extent, yaw).astype(f32)),
        obb_center=leaf(center.astype(f32)),
        obb_extent=leaf(extent.astype(f32)),
        obb_yaw=leaf(yaw.astype(f32)),
        obb_rotation=leaf(np.zeros((0, 3, 3), f32)),
        label=leaf(np.array([labels.index(thing.label) for thing in things], np.int32)),
        object_valid=leaf(np.ones(count, bool)),
        world_from_camera=leaf(world_from_camera.astype(f32)),
        heading=leaf(scene_io.path_headings(world_from_camera).astype(f32)),
        frame_valid=leaf(np.ones(frames, bool)),
        pose_valid=leaf(np.ones(frames, bool)),
        image_size=leaf(np.tile(np.array(IMAGE_SIZE, f32), (frames, 1))),
        seen=leaf(seen),
        visibility=leaf(shares.astype(f32)),
        bbox_2d=leaf(np.where(seen[..., None], np.array([10, 10, 50, 50], f32), f32(0))),
        camera_location=leaf(np.where(seen[..., None], location, 0.0).astype(f32)),
        truncated=leaf(np.zeros((frames, count), bool)),
        occluded=leaf(np.zeros((frames, count), bool)),
        points=leaf(np.zeros((count, 0, 3), f32)),
        point_valid=leaf(np.zeros((count, 0), bool)),
        floor_area=leaf(f32(25.0)),
        stored_size=leaf((100 * enclosing(extent, yaw).max(1, initial=0.0)).astype(f32)),
        path_turn_xz=leaf(scene_io.path_turns_xz(world_from_camera).astype(f32)),
        box_gap=leaf(np.zeros((0, 0), f32)),
    )
    frame_ids = tuple(str(10 * index) for index in range(frames))
    paths = tuple(Path(scene_id) / scene_io.FRAME_FOLDER / f"{i}.jpg" for i in frame_ids)
    return SceneRecord(scene_id, scene, labels, tuple(range(1, count + 1)), frame_ids, paths)


# --- the room that most tests ask about ------------------------------------------------------

THINGS = (
    Thing("bed", (2.0, 3.0, 0.4), (2.0, 1.6, 0.8)),
    Thing("table", (4.5, 1.0, 0.4), (1.0, 1.0, 0.8), yaw=45.0),
    Thing("lamp", (4.5, 3.5, 1.0), (0.4, 0.4, 2.0)),
    Thing("chair", (0.5, 2.5, 0.5), (0.5, 0.5, 1.0)),
    Thing("chair", (3.8, 2.0, 0.5), (0.5, 0.5, 1.0)),
    Thing("sink", (0.3, 4.2, 0.9), (0.6, 0.5, 0.2)),
    Thing("tv", (2.5, 0.1, 1.2), (1.0, 0.1, 0.6)),
    Thing("wall", (2.5, 5.0, 1.25), (5.0, 0.1, 2.5)),
    Thing("cushion", (2.0, 3.0, 0.9), (0.5, 0.5, 0.2)),  # lies on the bed
    Thing("trash can", (5.0, 0.3, 0.2), (0.3, 0.3, 0.4)),
    Thing("trash bin", (5.0, 4.5, 0.2), (0.3, 0.3, 0.4)),
    Thing("box", (7.0, 4.0, 0.2), (0.4, 0.4, 0.4)),
    Thing("crate", (8.4, 4.0, 0.2), (0.4, 0.4, 0.4)),  # as far from the bucket as the box
    Thing("bucket", (7.7, 4.0, 0.2), (0.2, 0.2, 0.4)),
    Thing("lid", (8.4, 4.0, 0.2), (0.2, 0.2, 0.1)),  # in the middle of the crate
)
SOUTH, EAST, AHEAD, TURNED, RAISED, DOWNWARD, AGAIN, DIAGONAL = range(8)
POSES = (
    camera(2.5, -1.0, 1.5, heading=90.0),  # SOUTH: outside, looks north at everything
    camera(4.5, -1.0, 1.5, heading=90.0),  # EAST: two metres to its right
    camera(2.5, 1.0, 1.9, heading=90.0),  # AHEAD: two metres before it and higher
    camera(2.5, -1.0, 1.5, heading=120.0),  # TURNED: on the spot, 30 degrees to the left
    camera(2.5, -1.0, 1.9, heading=90.0),  # RAISED: straight up
    camera(2.5, -1.0, 1.5, heading=90.0, pitch=-88.0),  # DOWNWARD: looks at its feet
    camera(2.5, -1.0, 1.5, heading=90.0),  # AGAIN: like SOUTH
    camera(3.5, 0.0, 1.5, heading=90.0),  # DIAGONAL: one metre to the right and one ahead
)
VISIBILITY = {
    (SOUTH, 3): 0.05,  # one chair is hardly visible here, so the other one is the only chair
    (EAST, 2): 0.5,  # the lamp
    (EAST, 5): 0.0,  # the sink, which nobody sees from the east ...
    (AHEAD, 5): 0.0,  # ... nor from ahead
}


def room() -> SceneRecord:
    return make_record(THINGS, POSES, visibility=VISIBILITY)


@dataclasses.dataclass(frozen=True)
class Case:
    """What is asked of a record, and the right answer (text, or a number for metres and counts)."""

    task: str
    labels: tuple[str, ...]
    frames: tuple[int, ...]
    answer: str | float
    difficulty: str = ""


# Every answer here was worked out by hand from THINGS and POSES.
CASES: tuple[Case, ...] = (
    Case("object_counting", ("chair",), (), 2),
    Case("absolute_distance", ("bed", "tv"), (), float(np.hypot(2.05, 0.1))),
    Case("absolute_distance", ("tv", "table"), (), float(np.hypot(1.64289 / 2**0.5, 0.1))),
    Case("absolute_distance", ("bed", "cushion"), (), 0.0),
    Case("relative_distance", ("bed", "table", "lamp", "tv"), (), "lamp"),
    Case("relative_distance", ("bed", "tv", "chair", "lamp"), (), "chair"),
    Case("relative_direction_hard", ("table", "lamp", "sink"), (), "front-left"),
    Case("relative_direction_hard", ("table", "lamp", "tv"), (), "back-left"),
    Case("relative_direction_hard", ("table", "lamp", "trash can"), (), "back-right"),
    Case("relative_direction_hard", ("table", "lamp", "trash bin"), (), "front"),
    Case("relative_direction_hard", ("table", "lamp", "sink"), (), "left", "easy"),
    Case("relative_direction_hard", ("table", "lamp", "trash can"), (), "right", "easy"),
    Case("relative_direction_hard", ("table", "lamp", "tv"), (), "left", "medium"),
    Case("relative_direction_hard", ("table", "lamp", "trash can"), (), "back", "medium"),
    Case("relative_direction_hard", ("table", "lamp", "trash can"), (), "back-right", "hard"),
    Case("single_image_relative_direction", ("bed", "lamp"), (SOUTH,), "right"),
    Case("single_image_relative_direction", ("lamp", "bed"), (SOUTH,), "left"),
    Case("single_image_relative_direction", ("table", "lamp"), (SOUTH,), "front"),
    Case("single_image_relative_direction", ("bed", "sink"), (SOUTH,), "front-left"),
    Case("single_image_relative_direction", ("bed", "cushion"), (SOUTH,), "up"),
    Case("single_image_relative_direction", ("cushion", "bed"), (SOUTH,), "down"),
    Case("single_image_relative_direction", ("chair", "table"), (SOUTH,), "back-right"),
    Case("single_image_relative_direction", ("trash bin", "lamp"), (SOUTH,), "up-back"),
    Case("distance_cam_obj", ("tv",), (SOUTH,), 1.05),
    Case("distance_cam_obj", ("bed",), (SOUTH,), float(np.hypot(3.2, 0.7))),
    Case("depth_order_obj_obj", ("bed", "lamp"), (SOUTH,), "bed"),
    Case("depth_order_obj_obj", ("lamp", "bed"), (SOUTH,), "bed"),
    Case("depth_order_obj_obj", ("bed", "cushion"), (SOUTH,), "same"),
    Case("position_cam_cam", (), (SOUTH, EAST), "right"),
    Case("position_cam_cam", (), (EAST, SOUTH), "left"),
    Case("position_cam_cam", (), (SOUTH, AHEAD), "front"),
    Case("position_cam_cam", (), (AHEAD, SOUTH), "back"),
    Case("position_cam_cam", (), (SOUTH, DIAGONAL), "front-right"),
    Case("position_cam_cam", (), (DIAGONAL, SOUTH), "back-left"),
    Case("elevation_cam_cam", (), (SOUTH, AHEAD), "higher"),
    Case("elevation_cam_cam", (), (AHEAD, SOUTH), "lower"),
    Case("motion_camera", (), (SOUTH, EAST), "right"),
    Case("motion_camera", (), (EAST, SOUTH), "left"),
    Case("motion_camera", (), (SOUTH, AHEAD), "front"),
    Case("motion_camera", (), (AHEAD, SOUTH), "back"),
    Case("motion_camera", (), (SOUTH, TURNED), "left"),
    Case("motion_camera", (), (TURNED, SOUTH), "right"),
    Case("motion_camera", (), (SOUTH, RAISED), "up"),
    Case("motion_camera", (), (RAISED, SOUTH), "down"),
    Case("motion_camera", (), (SOUTH, DIAGONAL), "right-front"),
    Case("visibility_compare", ("lamp",), (SOUTH, EAST), "image1"),
    Case("visibility_compare", ("lamp",), (EAST, SOUTH), "image2"),
    Case("visibility_compare", ("bed",), (SOUTH, EAST), "same"),
    Case("visibility_compare", ("sink",), (SOUTH, EAST), "image1"),
    Case("object_size", ("bed",), (), 2.0),
    Case("object_size", ("table",), (), 1.0),
    Case("room_size", (), (), 25.0),
    Case("position_cam_obj", ("table",), (SOUTH, EAST), "front-right"),
    Case("position_cam_obj", ("table",), (EAST, SOUTH), "front"),
    Case("position_cam_obj", ("bed",), (EAST, SOUTH), "front-left"),
    Case("position_cam_obj", ("lamp",), (TURNED, SOUTH), "front-right"),
    Case("position_cam_reg", ("table",), (SOUTH, EAST), "front-right"),
    Case("position_cam_reg", ("bed",), (EAST, SOUTH), "front-left"),
    Case("position_cam_reg", ("chair",), (SOUTH, EAST), "front-right"),
    Case("attribute_measurement", ("bed", "table"), (SOUTH, EAST), "bed"),
    Case("attribute_measurement", ("table", "bed"), (SOUTH, EAST), "bed"),
    Case("attribute_measurement", ("sink", "lamp"), (SOUTH, EAST), "lamp"),
)


# --- asking ----------------------------------------------------------------------------------


def query(
    record: SceneRecord,
    task: str,
    labels: Sequence[str] = (),
    frames: Sequence[int] = (),
    *,
    difficulty: str = "",
    use_points: bool = False,
    min_visibility: float = MIN_VISIBILITY,
    label_frames: Sequence[int] = (-1, -1),
) -> Query:
    """A query by names; a label that the record does not have becomes one past its last."""
    names = (*record.labels, *(label for label in labels if label not in record.labels))
    slots = np.full(MAX_LABELS, -1, np.int32)
    slots[: len(labels)] = [names.index(label) for label in labels]
    shown = np.full(2, -1, np.int32)
    shown[: len(frames)] = frames
    return Query(
        task_id=leaf(np.int32(TASK_IDS[task])),
        labels=leaf(slots),
        frames=leaf(shown),
        difficulty=leaf(np.int32(DIFFICULTIES[difficulty])),
        use_points=leaf(np.bool_(use_points)),
        min_visibility=leaf(np.float32(min_visibility)),
        label_frames=leaf(np.array(label_frames, np.int32)),
    )


def case_query(record: SceneRecord, case: Case) -> Query:
    return query(record, case.task, case.labels, case.frames, difficulty=case.difficulty)


def stack(queries: Sequence[Query]) -> Query:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *queries)


def pick(verdicts: Verdict, index: int) -> Verdict:
    return jax.tree.map(lambda array: array[index], verdicts)


def pick_query(queries: Query, index: int) -> Query:
    return jax.tree.map(lambda array: array[index], queries)


def said(record: SceneRecord, task: str, verdict: Verdict) -> str | float:
    """The value of one verdict, in the form of `Case.answer`."""
    spec, value = TASKS[TASK_IDS[task]], float(verdict.value)
    if spec.answer in ("metres", "centimetres", "square_metres", "count"):
        return value
    if spec.answer == "choice":
        return spec.choices[int(value)]
    return "same" if value < 0 else record.labels[int(value)]


# --- the same room, told differently ---------------------------------------------------------


def moved(record: SceneRecord, yaw: float, shift: Sequence[float]) -> SceneRecord:
    """The room turned by `yaw` radians about the origin's vertical and then shifted, cameras and
    all.
    """
    scene, turn = record.scene, yaw_matrix(yaw)
    transform = np.eye(4)
    transform[:3, :3], transform[:3, 3] = turn, shift
    obb_yaw = np.asarray(scene.obb_yaw) + yaw
    center = np.asarray(scene.obb_center) @ turn.T + np.asarray(shift)
    f32 = np.float32
    scene = dataclasses.replace(
        scene,
        center=center.astype(f32),
        extent=enclosing(np.asarray(scene.obb_extent), obb_yaw).astype(f32),
        obb_center=center.astype(f32),
        obb_yaw=obb_yaw.astype(f32),
        world_from_camera=(transform @ np.asarray(scene.world_from_camera)).astype(f32),
        heading=(np.asarray(scene.heading) + yaw).astype(f32),
    )
    return dataclasses.replace(record, scene=scene)


def shuffled(record: SceneRecord, order: Sequence[int]) -> SceneRecord:
    """The room with its objects listed in another order; the label list stays."""
    scene, order = record.scene, list(order)
    first = (
        "center extent obb_center obb_extent obb_yaw label object_valid points point_valid "
        "stored_size"
    )
    second = "seen visibility bbox_2d camera_location truncated occluded"
    changes = {name: np.asarray(getattr(scene, name))[order] for name in first.split()}
    changes |= {name: np.asarray(getattr(scene, name))[:, order] for name in second.split()}
    scene = dataclasses.replace(scene, **changes)
    ids = tuple(record.object_ids[index] for index in order)
    return dataclasses.replace(record, scene=scene, object_ids=ids)


# --- on disk ---------------------------------------------------------------------------------


def write_layout(record: SceneRecord, root: Path, *, split: str = "train") -> Path:
    """Writes the record in the unified layout, float for float; returns the scene's folder."""
    scene, scene_id = record.scene, record.scene_id
    folder, metadata = root / split / scene_id, root / "metadata" / scene_id
    for path in (folder / "pose", folder / "frame_processed", metadata / "frame_processed"):
        path.mkdir(parents=True)
    center, half = np.asarray(scene.center, np.float64), np.asarray(scene.extent, np.float64) / 2
    objects = [
        {
            "object_id": identity,
            "label": record.labels[int(scene.label[i])],
            "3d_bbox": [*(center[i] - half[i]).tolist(), *(center[i] + half[i]).tolist()],
            "obb": {
                "center": np.asarray(scene.obb_center[i]).tolist(),
                "extent": np.asarray(scene.obb_extent[i]).tolist(),
                "yaw": float(scene.obb_yaw[i]),
            },
        }
        for i, identity in enumerate(record.object_ids)
    ]
    area = float(scene.floor_area)
    write_json(
        metadata / f"{scene_id}.json",
        {"scene_id": scene_id, "room_size": area, "objects": objects},
    )
    (folder / f"{scene_id}.txt").write_text(f"axisAlignment = {' '.join(['1 0 0 0 0'] * 3)} 1\n")
    for frame, frame_id in enumerate(record.frame_ids):
        np.savetxt(folder / "pose" / f"{frame_id}.txt", scene.world_from_camera[frame], fmt="%.9g")
        Image.new("RGB", IMAGE_SIZE).save(folder / "frame_processed" / f"{frame_id}.jpg")
        shown = [
            {
                "object_id": identity,
                "label": record.labels[int(scene.label[i])],
                "visibility": float(scene.visibility[frame, i]),
                "2d_bbox": np.asarray(scene.bbox_2d[frame, i]).tolist(),
                "camera_location": np.asarray(scene.camera_location[frame, i]).tolist(),
                "truncated": bool(scene.truncated[frame, i]),
                "occluded": bool(scene.occluded[frame, i]),
            }
            for i, identity in enumerate(record.object_ids)
            if scene.seen[frame, i]
        ]
        write_json(
            metadata / "frame_processed" / f"{frame_id}.json",
            {"frame_id": f"{frame_id}.jpg", "image_size": list(IMAGE_SIZE), "objects": shown},
        )
    return folder


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
