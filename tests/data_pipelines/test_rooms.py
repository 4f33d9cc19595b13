"""What every room promises, and what its frame records say."""

import collections
import dataclasses

import numpy as np
import pytest

from data_pipelines import cameras, rooms
from data_pipelines.furniture import CATEGORIES
from data_pipelines.placing import Placed, Views
from data_pipelines.plan import Plan
from tests.data_pipelines.conftest import FRAMES, HEIGHT, SEEDS, WIDTH

BY_LABEL = {category.label: category for category in CATEGORIES}


def test_equal_seeds_make_equal_rooms(made: tuple[rooms.Room, ...]) -> None:
    view = float(np.deg2rad(85.0))
    again = rooms.make_room(SEEDS[0], frames=FRAMES, width=WIDTH, height=HEIGHT, field_of_view=view)
    np.testing.assert_array_equal(again.views.path, made[0].views.path)
    for field in dataclasses.fields(again.rendering):
        np.testing.assert_array_equal(
            getattr(again.rendering, field.name), getattr(made[0].rendering, field.name)
        )


def test_seeds_make_different_rooms(made: tuple[rooms.Room, ...]) -> None:
    assert len({tuple(room.plan.size) for room in made}) == len(made)
    assert len({tuple(room.views.path.ravel()) for room in made}) == len(made)


def test_rooms_can_be_asked_about(made: tuple[rooms.Room, ...]) -> None:
    for room in made:
        counts = collections.Counter(placed.category.label for placed in room.objects)
        assert 6 <= len(room.objects) <= rooms.MOST
        assert sum(count == 1 for count in counts.values()) >= 4
        assert [n for n in counts.values() if n > 1] in ([2], [3], [4])
        assert room.plan.size[:2].min() >= 3.5 and room.plan.size[:2].max() <= 6.0


def test_first_frames_see_every_object(made: tuple[rooms.Room, ...]) -> None:
    for room in made:
        seen = rooms.visibility(room.rendering)[:, : len(room.objects)] >= rooms.MIN_SEEN
        assert seen[: cameras.FIRST_LEG].any(0).all()
        assert (seen.sum(0) >= rooms.LEAST_FRAMES).all()


def test_every_category_is_used_and_each_small_one_repeats() -> None:
    used: set[str] = set()
    repeated: set[str] = set()
    for seed in range(200):
        chosen = rooms._choose(np.random.default_rng(seed))
        counts = collections.Counter(category.label for category in chosen)
        used |= set(counts)
        repeated |= {label for label, count in counts.items() if count > 1}
    assert used == set(BY_LABEL)
    assert repeated == {category.label for category in CATEGORIES if category.small}


def test_records_agree_with_the_instance_map(made: tuple[rooms.Room, ...], sources: tuple) -> None:
    for room, source in zip(made, sources, strict=True):
        for row, frame in enumerate(source.frames):
            instance = room.rendering.instance[row]
            shown = set(np.unique(instance)) - {-1}
            assert {seen.object_id - 1 for seen in frame.seen} == shown
            for seen in frame.seen:
                rows, columns = np.nonzero(instance == seen.object_id - 1)
                x1, y1, x2, y2 = seen.bbox_2d
                assert (x1, x2) == (columns.min(), columns.max() + 1)
                assert (y1, y2) == (rows.min(), rows.max() + 1)
                assert 0 < seen.visibility <= 1
                if not seen.truncated and not seen.occluded:
                    assert seen.visibility == 1


def test_visible_pixels_lie_within_the_projected_box(
    made: tuple[rooms.Room, ...], sources: tuple
) -> None:
    checked = 0
    for room, source in zip(made, sources, strict=True):
        poses = room.views.path[room.views.kept]
        for frame, pose in zip(source.frames, poses, strict=True):
            for seen in frame.seen:
                corners = room.objects[seen.object_id - 1].corners()
                pixels, depth = cameras.project(corners, pose[None], room.views.intrinsics)
                if depth.min() < 0.1:
                    continue
                x1, y1, x2, y2 = seen.bbox_2d
                low, high = pixels[0].min(0), pixels[0].max(0)
                # A pixel is shown when its middle is.
                assert x1 + 0.5 >= low[0] - 1e-3 and y1 + 0.5 >= low[1] - 1e-3
                assert x2 - 0.5 <= high[0] + 1e-3 and y2 - 0.5 <= high[1] + 1e-3
                assert depth.min() - 1e-3 <= seen.camera_location[2] <= depth.max() + 1e-3
                if not seen.truncated and not seen.occluded:
                    leaves = (low < -2).any() or (high > [WIDTH + 2, HEIGHT + 2]).any()
                    assert not leaves or "ellipsoid" in {
                        part.shape for part in room.objects[seen.object_id - 1].category.parts
                    }
                checked += 1
    assert checked > 50


def staged(*things: tuple[str, float, float]) -> rooms.Room:
    """A room with (label, x, y) seen from the middle of its left wall, level, along +x."""
    size = np.array([6.0, 4.0, 2.6])
    objects = tuple(
        Placed(BY_LABEL[label], np.array([x, y]), 0.0, np.ones(3), np.ones(3))
        for label, x, y in things
    )
    eye = np.array([[0.3, 2.0, 1.0]])
    pose = cameras.look_at(eye, eye + [[1.0, 0, 0]], np.zeros(1))
    views = Views(
        pose, np.array([0]), cameras.pinhole(WIDTH, HEIGHT, np.deg2rad(90.0)), WIDTH, HEIGHT
    )
    shell = rooms._shell(size, np.random.default_rng(0))
    rendering = rooms.render_views(Plan(size), objects, shell, views, pose)
    return rooms.Room(Plan(size), shell, objects, views, rendering)


def test_flags_mean_what_they_say() -> None:
    room = staged(
        ("cabinet", 2.5, 2.0), ("refrigerator", 4.5, 2.4), ("bin", 3.0, 0.6), ("bed", 3.0, 4.4)
    )
    front, behind, alone, cut = rooms._frame_record(room, 0).seen
    assert (front.truncated, front.occluded, front.visibility) == (False, False, 1.0)
    assert (behind.truncated, behind.occluded) == (False, True)
    assert 0 < behind.visibility < 0.9
    assert (alone.truncated, alone.occluded, alone.visibility) == (False, False, 1.0)
    assert cut.visibility < 1.0


def test_visibility_halves_at_the_image_s_edge() -> None:
    # The bin's front is 0.36 m wide; its middle lies on the right border of the view: y = 2 - x.
    room = staged(("bin", 2.1, 2.0 - 1.8))
    (seen,) = rooms._frame_record(room, 0).seen
    assert seen.truncated and not seen.occluded
    assert seen.visibility == pytest.approx(0.5, abs=0.12)


def test_impossible_rooms_are_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "ATTEMPTS", 2)
    with pytest.raises(rooms.NoRoomError, match="all seen in 2 frames of 20 degrees"):
        rooms.make_room((0, 0), frames=2, width=32, height=32, field_of_view=np.deg2rad(20.0))
