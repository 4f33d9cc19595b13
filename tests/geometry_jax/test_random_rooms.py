"""Every oracle against its float64 twin, and the laws that all of them obey, on random rooms."""

import collections
import dataclasses

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geometry_jax import batches, scene_io
from geometry_jax.reasons import Reason
from geometry_jax.tasks import TASKS, judge
from geometry_jax.types import Query, Scene
from tests import random_rooms
from tests.reference import oracles
from tests.scenes import yaw_matrix

ROOMS, BATCH, BATCHES = 64, 12_800, 8
UNDECIDED = 1e-4  # a margin below which float32 may decide otherwise


@jax.jit
def judge_batch(
    scenes: Scene, index: jax.Array, queries: Query
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Reason, value and margin of each question."""

    def one(i: jax.Array, query: Query) -> tuple[jax.Array, jax.Array, jax.Array]:
        verdict = judge(*batches.focus(scenes, i, query))
        return verdict.reason, verdict.value, verdict.margin

    return jax.vmap(one)(index, queries)


@pytest.fixture(scope="module")
def rooms() -> Scene:
    return random_rooms.room_set(0, ROOMS)


def judged(scenes: Scene, index: np.ndarray, queries: Query) -> tuple[np.ndarray, ...]:
    reason, value, margin = jax.device_get(judge_batch(batches.with_gaps(scenes), index, queries))
    return reason, value, margin


def agrees(task: int, found: float, expected: str | float) -> bool:
    spec = TASKS[task]
    if isinstance(expected, float):
        return abs(found - expected) <= 1e-4
    if spec.answer == "label":  # "same" is below all labels
        return found < 0
    return spec.choices[int(found)] == expected


def test_oracles_agree_with_their_float64_twins(rooms: Scene) -> None:
    """On more than a hundred thousand questions, but where the margin says that it is undecided."""
    twins = [oracles.Room(rooms, index) for index in range(ROOMS)]
    answered, refused = collections.Counter(), collections.Counter()
    wrong, apart = [], 0
    for seed in range(BATCHES):
        index, queries = random_rooms.questions(rooms, seed, BATCH)
        reasons, values, margins = judged(rooms, index, queries)
        for row, (task, asked) in enumerate(oracles.questions(queries)):
            name = TASKS[task].name
            expected = oracles.TWINS[name](twins[index[row]], asked)
            reason = Reason(int(reasons[row]))
            (answered if reason is Reason.OK else refused)[name] += 1
            if reason is not expected.reason or (
                reason is Reason.OK and not agrees(task, float(values[row]), expected.value)
            ):
                if expected.margin >= UNDECIDED:
                    wrong.append((name, asked, reason.name, float(values[row]), expected))
            elif reason is Reason.OK:
                ours = float(margins[row])
                apart += abs(ours - min(expected.margin, 1e6)) > 0.02 * max(1.0, ours)
    assert not wrong, (len(wrong), collections.Counter(one[0] for one in wrong), wrong[:5])
    assert apart < 20, apart  # the margins agree too, but where two edges meet
    assert sum(answered.values()) + sum(refused.values()) >= 100_000
    assert all(answered[task.name] > 1000 for task in TASKS), answered
    assert all(refused[task.name] > 100 for task in TASKS), refused


# --- laws ------------------------------------------------------------------------------------

CLEAR = 0.05  # a margin at which a room told differently has the same answer in float32
few = settings(deadline=None, derandomize=True, database=None, max_examples=4)
seeds = st.integers(0, 2**32 - 1)
PLANAR_OPPOSITE = {i: (i + 4) % 8 for i in range(8)}


def same(
    found: tuple[np.ndarray, ...],
    expected: tuple[np.ndarray, ...],
    queries: Query,
    turned: dict[str, dict[int, int]] | None = None,
) -> None:
    """Reasons and values are equal, or turned into each other by a task's map of values."""
    task = np.asarray(queries.task_id)
    wanted = expected[1].copy()
    for name, places in (turned or {}).items():
        own = (task == random_rooms.TASKS_BY_NAME[name]) & (expected[0] == Reason.OK)
        wanted[own] = [places.get(int(value), int(value)) for value in wanted[own]]
    kinds = np.array([spec.answer in ("choice", "label", "count") for spec in TASKS])[task]
    near = np.where(kinds, found[1] == wanted, np.abs(found[1] - wanted) < 1e-3)
    differs = (found[0] != expected[0]) | ~near
    clear = np.maximum(found[2], expected[2]) >= CLEAR
    names = collections.Counter(TASKS[i].name for i in task[differs & clear])
    assert not names, names
    assert differs.mean() < 1e-3


@pytest.fixture(scope="module")
def asked(rooms: Scene) -> tuple[np.ndarray, Query]:
    return random_rooms.questions(rooms, 99, BATCH)


@pytest.fixture(scope="module")
def plain(rooms: Scene, asked: tuple[np.ndarray, Query]) -> tuple[np.ndarray, ...]:
    return judged(rooms, *asked)


@few
@given(yaw=st.floats(-np.pi, np.pi), x=st.floats(-8, 8), y=st.floats(-8, 8), z=st.floats(-2, 2))
def test_turning_and_shifting_the_world_changes_nothing(
    rooms: Scene, asked, plain, yaw: float, x: float, y: float, z: float
) -> None:
    turn, shift = yaw_matrix(yaw), np.array([x, y, z])
    center = np.asarray(rooms.obb_center, np.float64) @ turn.T + shift
    transform = np.eye(4)
    transform[:3, :3], transform[:3, 3] = turn, shift
    moved = random_rooms.replace(
        rooms,
        obb_center=center.astype(np.float32),
        obb_yaw=(np.asarray(rooms.obb_yaw) + yaw).astype(np.float32),
        world_from_camera=(transform @ np.asarray(rooms.world_from_camera)).astype(np.float32),
        heading=(np.asarray(rooms.heading) + yaw).astype(np.float32),
    )
    same(judged(moved, *asked), plain, asked[1])


@few
@given(seed=seeds)
def test_the_order_of_objects_changes_nothing(rooms: Scene, asked, plain, seed: int) -> None:
    rng = np.random.default_rng(seed)
    order = np.stack([rng.permutation(random_rooms.NUM_OBJECTS) for _ in range(ROOMS)])
    leaves = {}
    for field in dataclasses.fields(Scene):
        leaf = np.asarray(getattr(rooms, field.name))
        if leaf.ndim > 1 and leaf.shape[1] == random_rooms.NUM_OBJECTS:
            leaves[field.name] = np.stack([leaf[r][order[r]] for r in range(ROOMS)])
        elif leaf.ndim > 2 and leaf.shape[2] == random_rooms.NUM_OBJECTS:
            leaves[field.name] = np.stack([leaf[r][:, order[r]] for r in range(ROOMS)])
    assert {"label", "seen", "bbox_2d"} <= set(leaves)
    same(judged(random_rooms.replace(rooms, **leaves), *asked), plain, asked[1])


@few
@given(seed=seeds)
def test_what_lies_in_the_padding_changes_nothing(rooms: Scene, asked, plain, seed: int) -> None:
    rng = np.random.default_rng(seed)
    valid, frames = np.asarray(rooms.object_valid), np.asarray(rooms.frame_valid)
    leaves = {}
    for name in ("obb_center", "obb_extent", "obb_yaw", "label"):
        leaf = np.asarray(getattr(rooms, name))
        junk = rng.integers(0, random_rooms.LABELS, leaf.shape).astype(leaf.dtype)
        leaves[name] = np.where(valid.reshape(*valid.shape, *[1] * (leaf.ndim - 2)), leaf, junk)
    for name in ("seen", "visibility", "heading", "world_from_camera", "camera_location"):
        leaf = np.asarray(getattr(rooms, name))
        real = frames.reshape(*frames.shape, *[1] * (leaf.ndim - 2))
        if name not in ("heading", "world_from_camera"):
            real = real & valid[:, None, :].reshape(ROOMS, 1, -1, *[1] * (leaf.ndim - 3))
        leaves[name] = np.where(real, leaf, (1 + rng.random(leaf.shape)).astype(leaf.dtype))
    same(judged(random_rooms.replace(rooms, **leaves), *asked), plain, asked[1])


@settings(few, max_examples=2)  # every new size is compiled
@given(objects=st.integers(1, 9), frames=st.integers(1, 9))
def test_more_padding_changes_nothing(
    rooms: Scene, asked, plain, objects: int, frames: int
) -> None:
    sizes = random_rooms.NUM_OBJECTS + objects, random_rooms.NUM_FRAMES + frames
    each = [jax.tree.map(lambda leaf, r=room: np.asarray(leaf)[r], rooms) for room in range(ROOMS)]
    wider = scene_io.stack_scenes([scene_io.pad_scene(scene, *sizes) for scene in each])
    same(judged(wider, *asked), plain, asked[1])


@few
@given(seed=seeds)
def test_the_place_in_a_batch_changes_nothing(rooms: Scene, asked, plain, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(BATCH)
    index, queries = asked[0][order], jax.tree.map(lambda leaf: leaf[order], asked[1])
    found = judged(rooms, index, queries)
    same(found, tuple(part[order] for part in plain), queries)


def test_swapping_the_images_mirrors_what_compares_them(rooms: Scene, asked, plain) -> None:
    """Higher becomes lower, Image 1 becomes Image 2; a turn of the camera goes the other way; what
    is measured in both images stays.
    """
    index, queries = asked
    frames = np.asarray(queries.frames)[:, ::-1]
    pair = np.array([task.modality == "image_pair" for task in TASKS])[np.asarray(queries.task_id)]
    swapped = dataclasses.replace(
        queries, frames=np.where(pair[:, None], frames, np.asarray(queries.frames))
    )
    found = judged(rooms, index, swapped)
    mirrored = {"elevation_cam_cam": {0: 1, 1: 0}, "visibility_compare": {0: 1, 1: 0}}
    task = np.asarray(queries.task_id)
    compares = [*mirrored, "attribute_measurement"]
    held = np.isin(task, [random_rooms.TASKS_BY_NAME[name] for name in compares]) | ~pair
    same(
        tuple(part[held] for part in found),
        tuple(part[held] for part in plain),
        jax.tree.map(lambda leaf: leaf[held], queries),
        mirrored,
    )
    heading = np.asarray(rooms.heading)
    turn = heading[index, np.clip(frames[:, 0], 0, 7)] - heading[index, np.clip(frames[:, 1], 0, 7)]
    turned = (task == random_rooms.TASKS_BY_NAME["motion_camera"]) & (np.abs(turn) > np.deg2rad(9))
    turned &= plain[0] == Reason.OK
    assert turned.sum() > 100
    np.testing.assert_array_equal(found[1][turned], 1 - plain[1][turned])


def test_swapping_the_objects_mirrors_their_direction_alone(rooms: Scene, asked, plain) -> None:
    """The reference seen from the target lies the opposite way; a distance, a winner stays."""
    index, queries = asked
    names = ("absolute_distance", "depth_order_obj_obj", "attribute_measurement")
    names += ("single_image_relative_direction",)
    two = np.isin(np.asarray(queries.task_id), [random_rooms.TASKS_BY_NAME[n] for n in names])
    labels = np.asarray(queries.labels).copy()
    labels[:, :2] = np.where(two[:, None], labels[:, 1::-1], labels[:, :2])
    bound = np.where(
        two[:, None], np.asarray(queries.label_frames)[:, ::-1], np.asarray(queries.label_frames)
    )
    # After the eight: up with right, front, left, back; down with the same; up; down.
    opposite = PLANAR_OPPOSITE | {8 + i: 12 + (i + 2) % 4 for i in range(4)}
    opposite |= {12 + i: 8 + (i + 2) % 4 for i in range(4)} | {16: 17, 17: 16}
    swapped = dataclasses.replace(queries, labels=labels, label_frames=bound)
    same(
        judged(rooms, index, swapped),
        plain,
        queries,
        {"single_image_relative_direction": opposite},
    )


def test_the_order_of_candidates_changes_nothing(rooms: Scene, asked, plain) -> None:
    index, queries = asked
    own = np.asarray(queries.task_id) == random_rooms.TASKS_BY_NAME["relative_distance"]
    labels = np.asarray(queries.labels).copy()
    labels[own, 1:4] = labels[own][:, [3, 1, 2]]
    same(judged(rooms, index, dataclasses.replace(queries, labels=labels)), plain, queries)
