"""What scenes offer to ask about: the environment's own pools, and frames worth showing."""

import dataclasses

import numpy as np
import pytest

from geometry_jax.reasons import Reason
from geometry_jax.scene_io import SceneRecord
from spatialevo_jax.environment.pools import pools, visible_labels
from spatialevo_jax.environment.regions import ANCHORS
from spatialevo_jax.qa import candidates, pipeline
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


def test_a_thing_of_whose_kind_there_is_another_label_is_not_asked_about() -> None:
    """ "How many chairs are in the room?": the office chair is one too."""
    names = ("chair", "chair", "office chair", "table", "stable")
    things = [Thing(name, (i - 2.0, 3, 0.5), (0.4, 0.4, 0.8)) for i, name in enumerate(names)]
    record = make_record(things, [camera(0, 0, 1.5, heading=90)])
    seen = view(record, 8, False)
    assert named(record, seen.unique) == {"office chair", "table", "stable"}
    assert not named(record, seen.repeated)


def test_two_images_are_compared_by_what_shows_the_same_thing() -> None:
    """Neither image shows two plants; but they are two plants."""
    things = [Thing("plant", (0, 3, 1), (1, 1, 1)), Thing("plant", (2, 3, 1), (1, 1, 1))]
    things += [Thing("bed", (1, 4, 0.4), (2, 2, 0.8))]
    poses = [camera(x, 0, 1.5, heading=90) for x in (0.0, 1.0, 2.0)]
    hidden = {(0, 1): 0.0, (1, 1): 0.0, (2, 0): 0.0}
    record = make_record(things, poses, visibility=hidden)
    recipe = Recipe(count=100, source="own", tasks=("visibility_compare",))
    drawn = candidates.draw_candidates(record, 0, recipe, 100)
    plants = drawn.frames[drawn.labels[:, 0] == record.labels.index("plant")]
    assert {tuple(sorted(pair)) for pair in plants.tolist()} == {(0, 1)}
    beds = drawn.frames[drawn.labels[:, 0] == record.labels.index("bed")]
    assert len(beds) == 3


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
    assert {"tv", "tv area", "table area", "dining room", "media area"} <= set(phrases)
    assert not {"living", "media", "work"} & set(phrases)  # no words for a place
    assert not {"sofa area", "desk area", "bed area", "printer area", "kitchen"} & set(phrases)
    assert "tv" in ANCHORS["living"] and "living room" not in phrases  # for want of a sofa


def test_the_area_of_a_thing_that_is_alone_in_the_image_is_not_asked_for() -> None:
    """Where the lamp is, `position_cam_obj` asks; where the urns are, no other task does."""
    names = ("urn", "urn", "lamp", "tv")
    things = [Thing(name, (i - 2.0, 3, 0.5), (0.4, 0.4, 0.8)) for i, name in enumerate(names)]
    poses = [camera(x, 0, 1.5, heading=90) for x in (0.0, 1.0)]
    record = make_record(things, poses, visibility={(1, 0): 0.0})  # one urn in the second image
    recipe = Recipe(count=100, source="own", tasks=("position_cam_reg",))
    drawn = candidates.draw_candidates(record, 0, recipe, 100)
    phrases = view(record, 8, False).phrases
    shown = np.asarray(candidates.queries(drawn).frames)[:, 0]
    named = {(int(frame), phrases[i]) for frame, i in zip(shown, drawn.phrase, strict=True)}
    urns = {"urn", "urn area"}
    things_of = urns | {"lamp", "lamp area", "tv", "tv area", "television area"}
    for frame, there in ((0, urns), (1, set())):
        own = {name for place, name in named if place == frame}
        assert bool(own & there) == bool(there) and not own & (things_of - there)
        assert own - things_of  # a place that the tv stands for, such as the lounge


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


def test_what_is_drawn_for_its_reason_is_never_asked_for_its_answer(
    records: list[SceneRecord],
) -> None:
    """Of things that no image shows a size is known, and not to be seen."""
    recipe = Recipe(count=4000, source="own", tasks=("object_size",), invalid_share=0.5)
    for record in records:
        unseen = dataclasses.replace(record.scene, visibility=0.0 * record.scene.visibility)
        dark = dataclasses.replace(record, scene=unseen)
        judged = pipeline.own_candidates([dark], [None], recipe, 200)
        assert len(judged) and not (judged.reason == Reason.OK).any()


def test_reasons_of_a_room_are_to_be_seen_in_its_images(records: list[SceneRecord]) -> None:
    """That there are two chairs is no answer to who is shown one."""
    tasks = ("object_size", "object_counting", "absolute_distance")
    recipe = Recipe(count=4000, source="own", tasks=tasks, invalid_share=0.5)
    for record in records[:4]:
        visibility = np.array(record.scene.visibility)
        visibility[:, 0] = 0.0
        scene = dataclasses.replace(record.scene, visibility=visibility)
        one = dataclasses.replace(record, scene=scene)
        named = candidates.draw_at_random(one, 0, recipe, 400).labels
        hidden = int(record.scene.label[0])
        assert len(named) > 20 and not (named == hidden).any()
        assert set(range(len(record.labels))) & set(named.ravel().tolist())
