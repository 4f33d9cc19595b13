"""Pools: the labels that a question may use, counted where the images show them."""

import dataclasses

import numpy as np
import pytest

from geometry_jax.scene_io import SceneRecord
from geometry_jax.types import MIN_VISIBILITY, leaf
from spatialevo_jax.environment.pools import feasible_tasks, modality_of, pools, visible_labels
from tests.scenes import AHEAD, EAST, RAISED, SOUTH, TURNED, Thing, camera, make_record, room

NORTH = camera(0.0, 0.0, 1.5, heading=90.0)


def row(*labels: str, shares: dict[tuple[int, int], float] | None = None) -> SceneRecord:
    """Boxes side by side, all before two cameras at one height and one that stands higher."""
    things = [
        Thing(label, (float(index), 3.0, 0.5), (0.4, 0.4, 1.0))
        for index, label in enumerate(labels)
    ]
    poses = [NORTH, camera(1.0, 0.0, 1.5, heading=90.0), camera(1.0, 0.0, 1.9, heading=90.0)]
    return make_record(things, poses, visibility=shares)


@pytest.mark.parametrize(
    ("frames", "modality"),
    [
        ((), "scene"),
        ((3,), "single_image"),
        ((3, 1), "image_pair"),
        ((0, 1, 2), "scene"),
        (tuple(range(8)), "scene"),
    ],
)
def test_the_number_of_images_is_the_modality(frames: tuple[int, ...], modality: str) -> None:
    assert modality_of(frames) == modality
    assert pools(room(), frames).modality == modality


def test_the_scene_pool_counts_every_object_and_no_surface() -> None:
    offered = pools(room(), ())
    assert offered.repeated == ("chair",)
    assert offered.unique == (
        *("bed", "box", "bucket", "crate", "cushion", "lamp", "lid", "sink", "table"),
        *("trash bin", "trash can", "tv"),
    )


def test_an_image_counts_what_it_shows() -> None:
    """One of the chairs is hardly visible from the south: the other is the only one there."""
    south, east = pools(room(), (SOUTH,)), pools(room(), (EAST,))
    assert "chair" in south.unique and south.repeated == ()
    assert "chair" not in east.unique and east.repeated == ("chair",)
    assert "sink" in south.unique and "sink" not in east.unique + east.repeated


def test_a_pair_offers_what_no_image_shows_twice_and_one_shows() -> None:
    offered = pools(room(), (SOUTH, EAST))
    assert offered.repeated == ("chair",)  # two of them in the second image
    assert "sink" in offered.unique  # in the first image only
    assert pools(room(), (EAST, SOUTH)) == offered
    assert "sink" not in pools(room(), (EAST, AHEAD)).unique


def test_visibility_counts_from_its_threshold_on() -> None:
    shares = {(0, 0): MIN_VISIBILITY, (0, 1): MIN_VISIBILITY - 0.01, (0, 2): 0.0}
    record = row("bed", "lamp", "tv", "sink", shares=shares)
    assert visible_labels(record, 0) == ["bed", "sink"]
    assert visible_labels(record, 1) == ["bed", "lamp", "tv", "sink"]


def test_a_label_that_no_sentence_can_name_is_not_offered() -> None:
    record = row("bed", "cup and plate", "Lamp", "lamp", "shelf (old)", "box")
    assert pools(record, ()).unique == ("bed", "box")
    assert pools(record, (0,)).unique == ("bed", "box")


@pytest.mark.parametrize(
    ("labels", "tasks"),
    [
        ((), ("room_size",)),
        (("chair", "chair"), ("object_counting", "room_size")),
        (("bed",), ("object_size", "room_size")),
        (("bed", "tv"), ("absolute_distance", "object_size", "room_size")),
        (("bed", "tv", "wall"), ("absolute_distance", "object_size", "room_size")),
        (
            ("bed", "tv", "lamp"),
            ("absolute_distance", "relative_direction_hard", "object_size", "room_size"),
        ),
        (
            ("bed", "tv", "lamp", "box", "cup", "cup"),
            (
                *("object_counting", "absolute_distance"),
                *("relative_distance", "relative_direction_hard", "object_size", "room_size"),
            ),
        ),
    ],
)
def test_scene_tasks_need_enough_labels(labels: tuple[str, ...], tasks: tuple[str, ...]) -> None:
    assert feasible_tasks(row(*labels), ()) == tasks


@pytest.mark.parametrize(
    ("labels", "tasks"),
    [
        (("chair", "chair"), ()),
        (("bed", "chair", "chair"), ("distance_cam_obj",)),
        (
            ("bed", "tv"),
            ("single_image_relative_direction", "distance_cam_obj", "depth_order_obj_obj"),
        ),
    ],
)
def test_image_tasks_need_enough_labels(labels: tuple[str, ...], tasks: tuple[str, ...]) -> None:
    assert feasible_tasks(row(*labels), (0,)) == tasks


def test_heights_are_compared_only_where_they_differ() -> None:
    of_objects = ("visibility_compare", "position_cam_obj", "position_cam_reg")
    level = ("position_cam_cam", "motion_camera", *of_objects)
    assert feasible_tasks(row("bed"), (0, 1)) == level
    steps = ("position_cam_cam", "elevation_cam_cam", "motion_camera", *of_objects)
    assert feasible_tasks(row("bed"), (0, 2)) == feasible_tasks(row("bed"), (2, 0)) == steps
    assert "elevation_cam_cam" not in feasible_tasks(room(), (SOUTH, TURNED))
    assert "elevation_cam_cam" in feasible_tasks(room(), (SOUTH, RAISED))


def test_nothing_is_compared_in_a_pair_without_unique_objects() -> None:
    assert feasible_tasks(row("chair", "chair"), (0, 1)) == ("position_cam_cam", "motion_camera")


def test_nothing_is_asked_of_a_camera_whose_pose_is_lost() -> None:
    record = row("bed", "tv")
    scene = dataclasses.replace(record.scene, pose_valid=leaf(np.array([True, False, True])))
    lost = dataclasses.replace(record, scene=scene)
    assert feasible_tasks(lost, (1,)) == ("depth_order_obj_obj",)
    assert feasible_tasks(lost, (2, 1)) == ("visibility_compare", "attribute_measurement")
    assert feasible_tasks(lost, (0, 2)) == feasible_tasks(record, (0, 2))
