"""What scenes offer to ask about: the environment's own pools, and frames worth showing."""

import numpy as np
import pytest

from geometry_jax.scene_io import SceneRecord
from spatialevo_jax.environment.pools import pools, visible_labels
from spatialevo_jax.environment.regions import ANCHORS
from spatialevo_jax.qa import candidates
from spatialevo_jax.qa.recipe import Recipe
from spatialevo_jax.qa.views import covering_frames, distinct_frames, view
from tests.scenes import Thing, camera, make_record


def named(record: SceneRecord, mask: np.ndarray) -> set[str]:
    return {record.labels[i] for i in np.flatnonzero(mask)}


def test_labels_are_those_of_the_environments_pools(records: list[SceneRecord]) -> None:
    for record in records:
        seen = view(record, 99, False)
        for frame in range(len(record.frame_ids)):
            assert named(record, seen.unique_in_frame[frame]) == set(pools(record, (frame,)).unique)
        shown = {label for f in seen.shown for label in visible_labels(record, f)}
        assert named(record, seen.unique) == set(pools(record, ()).unique) & shown
        assert named(record, seen.repeated) <= set(pools(record, ()).repeated)


def test_a_frame_like_one_before_it_is_left_out() -> None:
    poses = np.stack(
        [
            camera(0, 0, 1.5, heading=0),
            camera(0.1, 0, 1.5, heading=5),  # near in place and direction
            camera(0.1, 0, 1.5, heading=30),  # turned
            camera(1.0, 0, 1.5, heading=0),  # moved
            camera(0, 0, 1.5, heading=0),  # lost: nobody knows
        ]
    )
    valid = np.array([True, True, True, True, False])
    assert distinct_frames(poses, valid, 99).tolist() == [0, 2, 3, 4]
    assert distinct_frames(poses, valid, 2).tolist() == [0, 4]


def test_images_of_a_room_show_most_of_it_first() -> None:
    visible = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]], bool)
    assert covering_frames(visible, np.arange(4), 2) == (1, 3)
    assert covering_frames(visible, np.arange(4), 3) == (0, 1, 3)
    assert covering_frames(visible, np.array([0, 2]), 8) == (0, 2)


def test_a_region_is_not_named_after_what_is_not_there() -> None:
    things = [Thing("tv", (0, 3, 1), (1, 0.2, 0.6)), Thing("table", (1, 3, 0.4), (1, 1, 0.8))]
    record = make_record(things, [camera(0, 0, 1.5, heading=90)])
    phrases = view(record, 8, False).phrases
    assert {"tv", "tv area", "table area", "living room", "media area"} <= set(phrases)
    assert not {"sofa area", "desk area", "bed area", "printer area", "kitchen"} & set(phrases)
    assert "sofa" in ANCHORS["living"]  # it would have stood for the tv


@pytest.mark.parametrize("offered", ["corrected", "reference"])
def test_no_two_candidates_ask_the_same(records: list[SceneRecord], offered: str) -> None:
    recipe = Recipe(
        count=4000, source="own", convention="reference" if offered == "reference" else "corrected"
    )
    for place, record in enumerate(records[:4]):
        drawn = candidates.draw_candidates(record, place, recipe, 200)
        asks = candidates.queries(drawn)
        labels, frames = np.asarray(asks.labels).copy(), np.asarray(asks.frames).copy()
        for task in ("absolute_distance", "depth_order_obj_obj", "attribute_measurement"):
            own = drawn.task == candidates.TASK_IDS[task]
            labels[own, :2] = np.sort(labels[own, :2], 1)
        for task in ("position_cam_obj", "position_cam_reg"):
            frames[drawn.task == candidates.TASK_IDS[task], 1] = -1  # shown, and not asked about
        for task in ("elevation_cam_cam", "visibility_compare", "attribute_measurement"):
            own = drawn.task == candidates.TASK_IDS[task]
            frames[own] = np.sort(frames[own], 1)
        keys = np.column_stack([drawn.task, labels, frames])
        assert len(np.unique(keys, axis=0)) == len(keys)
