"""Random rooms and questions about them: arrays alone, no names, no files."""

import dataclasses

import numpy as np

from geometry_jax import scene_io
from geometry_jax.tasks import TASKS
from geometry_jax.types import MAX_LABELS, Query, Scene, leaf
from tests.scenes import camera, enclosing

NUM_OBJECTS, NUM_FRAMES, LABELS = 12, 8, 9
WIDTH, HEIGHT = 640.0, 480.0
f32 = np.float32


def room(rng: np.random.Generator) -> Scene:
    """A room of up to NUM_OBJECTS boxes, seen along a path of up to NUM_FRAMES poses.

    Labels repeat, boxes overlap, poses are lost, cameras look at their feet or do not move: all
    that an oracle must refuse occurs.
    """
    count, frames = int(rng.integers(6, NUM_OBJECTS + 1)), int(rng.integers(4, NUM_FRAMES + 1))
    center = rng.uniform((0, 0, 0), (6, 5, 2), (count, 3))
    center[-1] = center[0] + rng.uniform(-0.2, 0.2, 3)  # one lies in another or beside it
    extent = rng.uniform(0.1, 1.6, (count, 3))
    yaw = rng.uniform(-7, 7, count) * (rng.random(count) < 0.7)
    turns = np.cumsum(rng.normal(0, 25, frames))
    pitch = np.where(rng.random(frames) < 0.1, -80.0, rng.uniform(-45, 30, frames))
    steps = np.cumsum(rng.normal(0, 0.4, (frames, 3)) * (rng.random((frames, 1)) < 0.85), axis=0)
    at = np.array([3.0, 2.5, 1.5]) + steps * (1, 1, 0.4)
    poses = np.stack([camera(*at[i], heading=turns[i], pitch=pitch[i]) for i in range(frames)])
    offset = center[None] - poses[:, None, :3, 3]
    location = np.einsum("fij,fni->fnj", poses[:, :3, :3], offset)
    location += rng.normal(0, 0.05, location.shape)
    seen = rng.random((frames, count)) < 0.75
    visibility = np.round(rng.uniform(0, 1, (frames, count)), 4) * seen
    corner = rng.uniform(0, (WIDTH, HEIGHT), (frames, count, 2))
    box = np.concatenate([corner, corner + rng.uniform(-20, 500, corner.shape)], axis=-1)
    area = rng.uniform(8, 40) if rng.random() < 0.8 else np.nan
    none = np.zeros((count, 0, 3), f32)
    scene = Scene(
        center=leaf(center.astype(f32)),
        extent=leaf(enclosing(extent, yaw).astype(f32)),
        obb_center=leaf(center.astype(f32)),
        obb_extent=leaf(extent.astype(f32)),
        obb_yaw=leaf(yaw.astype(f32)),
        obb_rotation=leaf(np.zeros((0, 3, 3), f32)),
        label=leaf(rng.integers(0, LABELS, count).astype(np.int32)),
        object_valid=leaf(np.ones(count, bool)),
        world_from_camera=leaf(poses.astype(f32)),
        heading=leaf(np.deg2rad(turns).astype(f32)),
        frame_valid=leaf(np.ones(frames, bool)),
        pose_valid=leaf(rng.random(frames) < 0.95),
        image_size=leaf(np.tile(np.array([WIDTH, HEIGHT], f32), (frames, 1))),
        seen=leaf(seen),
        visibility=leaf(visibility.astype(f32)),
        bbox_2d=leaf(box.astype(f32)),
        camera_location=leaf(location.astype(f32)),
        truncated=leaf(rng.random((frames, count)) < 0.5),
        occluded=leaf(rng.random((frames, count)) < 0.5),
        points=leaf(none),
        point_valid=leaf(np.zeros((count, 0), bool)),
        floor_area=leaf(f32(area)),
        stored_size=leaf(np.full(count, np.nan, f32)),
        path_turn_xz=leaf(scene_io.path_turns_xz(poses).astype(f32)),
        box_gap=leaf(np.zeros((0, 0), f32)),
    )
    return scene_io.pad_scene(scene, NUM_OBJECTS, NUM_FRAMES)


def room_set(seed: int, count: int) -> Scene:
    """`count` rooms on a first axis."""
    rng = np.random.default_rng(seed)
    return scene_io.stack_scenes([room(rng) for _ in range(count)])


def questions(scenes: Scene, seed: int, count: int) -> tuple[np.ndarray, Query]:
    """`count` questions, the tasks in turn, and the room of each.

    Most name labels that occur once and frames that are there; the rest any labels and frames.
    """
    rng = np.random.default_rng(seed)
    rooms = len(np.asarray(scenes.floor_area))
    index = rng.integers(0, rooms, count).astype(np.int32)
    task = np.arange(count, dtype=np.int32) % len(TASKS)
    label, valid = np.asarray(scenes.label), np.asarray(scenes.object_valid)
    frame_valid = np.asarray(scenes.frame_valid)
    often = np.stack(
        [np.bincount(label[r][valid[r]], minlength=LABELS + 1) for r in range(rooms)]
    )  # (rooms, LABELS + 1); the last label is never there
    liking = np.where(often == 1, 6.0, np.where(often > 1, 1.0, 0.2))
    liking = np.where(
        (task == TASKS_BY_NAME["object_counting"])[:, None], 1.0 + often[index], liking[index]
    )
    # The largest of random keys come first: labels without repeats, the liked ones more often.
    order = np.argsort(-(rng.random((count, LABELS + 1)) ** (1.0 / liking)), axis=1)
    used = np.array([slots_of(name) for name in TASKS_BY_NAME])[task]
    labels = np.full((count, MAX_LABELS), -1, np.int32)
    labels[:] = np.where(np.arange(MAX_LABELS) < used[:, None], order[:, :MAX_LABELS], -1)
    repeat = rng.random(count) < 0.03
    labels[:, 1] = np.where(repeat & (used > 1), labels[:, 0], labels[:, 1])
    frames = np.argsort(-(rng.random((count, NUM_FRAMES)) * frame_valid[index]), axis=1)[:, :2]
    frames[rng.random(count) < 0.02, 1] = NUM_FRAMES
    frames[rng.random(count) < 0.02, 0] = -1
    same = rng.random(count) < 0.02
    frames[same, 1] = frames[same, 0]
    bound = np.where(rng.random((count, 2)) < 0.8, -1, frames)
    queries = Query(
        task_id=leaf(task),
        labels=leaf(labels),
        frames=leaf(frames.astype(np.int32)),
        difficulty=leaf(rng.integers(0, 4, count).astype(np.int32)),
        use_points=leaf(np.zeros(count, bool)),
        min_visibility=leaf(rng.choice([0.1, 0.1, 0.3], count).astype(f32)),
        label_frames=leaf(bound.astype(np.int32)),
    )
    return index, queries


TASKS_BY_NAME = {task.name: index for index, task in enumerate(TASKS)}


def slots_of(name: str) -> int:
    """How many labels a question of a task names here, where candidates and anchors are free."""
    return {"relative_distance": 4, "position_cam_reg": 3}.get(
        name, len(TASKS[TASKS_BY_NAME[name]].slots)
    )


def replace(scenes: Scene, **leaves: np.ndarray) -> Scene:
    return dataclasses.replace(scenes, **{name: leaf(array) for name, array in leaves.items()})
