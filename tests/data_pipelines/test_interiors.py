"""What every lived-in room promises."""

import dataclasses
import itertools

import numpy as np
import pytest

from data_pipelines import catalogue, interiors, room_scan, rooms, unified
from data_pipelines.furniture import local_bounds
from data_pipelines.placing import Placed, separation, turn
from geometry_jax import scene_io

WIDTH, HEIGHT, FRAMES, VIEW = 128, 96, 6, 1.4
SEEDS = tuple((11, index) for index in range(5))


def make(seed: tuple[int, ...]) -> rooms.Room:
    return interiors.make_interior(
        seed, frames=FRAMES, width=WIDTH, height=HEIGHT, field_of_view=VIEW
    )


@pytest.fixture(scope="module")
def made() -> tuple[rooms.Room, ...]:
    return tuple(make(seed) for seed in SEEDS)


def on_floor(placed: Placed) -> bool:
    return placed.category.hangs is None and not placed.category.on_top


def test_equal_seeds_make_equal_rooms(made: tuple[rooms.Room, ...]) -> None:
    again = make(SEEDS[0])
    for field in dataclasses.fields(again.rendering):
        np.testing.assert_array_equal(
            getattr(again.rendering, field.name), getattr(made[0].rendering, field.name)
        )


def test_both_shapes_of_floor_and_several_kinds_of_room_occur(
    made: tuple[rooms.Room, ...],
) -> None:
    assert {room.plan.cut is None for room in made} == {True, False}
    assert len({placed.category.label for room in made for placed in room.objects}) > 20


def test_every_thing_is_seen_in_some_picture(made: tuple[rooms.Room, ...]) -> None:
    for room in made:
        seen = rooms.visibility(room.rendering)[:, : len(room.objects)] >= rooms.MIN_SEEN
        assert seen.any(axis=0).all()
        assert interiors.FEWEST <= len(room.objects) <= rooms.MOST_LIVED_IN


def test_everything_is_within_the_walls(made: tuple[rooms.Room, ...]) -> None:
    for room in made:
        for placed in room.objects:
            box = placed.aabb()
            assert (box[:3] >= -1e-9).all() and (box[3:] <= room.plan.size + 1e-9).all()
            if room.plan.cut is not None and on_floor(placed):
                (x0, y0), (x1, y1) = room.plan.cut[:2], room.plan.cut[2:]
                corner = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
                assert separation(placed.corners()[:4, :2], corner) >= 0


def test_furniture_does_not_interpenetrate(made: tuple[rooms.Room, ...]) -> None:
    for room in made:
        standing = [placed.corners()[:4, :2] for placed in room.objects if on_floor(placed)]
        for one, other in itertools.combinations(standing, 2):
            assert separation(one, other) >= -1e-9


def test_small_things_stand_on_a_top(made: tuple[rooms.Room, ...]) -> None:
    checked = 0
    for room in made:
        for placed in (one for one in room.objects if one.category.on_top):
            carriers = [
                other
                for other in room.objects
                if other.category.top is not None
                and np.isclose(other.category.top[2] * other.scale[2], placed.elevation)
            ]
            inside = []
            for other in carriers:
                assert other.category.top is not None
                local = turn(-other.yaw, placed.corners()[:4, :2] - other.position)
                half = np.array(other.category.top[:2]) * other.scale[:2] / 2
                inside.append((np.abs(local) <= half + 1e-9).all())
            assert any(inside)
            checked += 1
    assert checked > 5


def test_what_hangs_has_its_back_to_a_wall(made: tuple[rooms.Room, ...]) -> None:
    for room in made:
        for placed in (one for one in room.objects if one.category.hangs is not None):
            low, high = (bound * placed.scale for bound in local_bounds(placed.category))
            middle = (low[0] + high[0]) / 2
            back = placed.position + turn(placed.yaw, np.array([middle, low[1]]))
            distances = []
            for start, run in room.plan.walls():
                normal = np.array([-run[1], run[0]]) / np.linalg.norm(run)
                along = (back - start) @ run / (run @ run)
                facing = turn(placed.yaw, np.array([0.0, 1.0])) @ normal
                if 0 <= along <= 1 and facing > 0.999:
                    distances.append(abs((back - start) @ normal))
            assert min(distances) < 1e-6


def test_the_camera_stays_in_the_room(made: tuple[rooms.Room, ...]) -> None:
    for room in made:
        eye = room.views.path[:, :2, 3]
        inside = [((low < eye) & (eye < high)).all(axis=1) for low, high in room.plan.floors()]
        assert np.any(inside, axis=0).all()


def test_every_category_fits_the_budget_and_has_its_own_colours() -> None:
    for theme in catalogue.THEMES:
        everything = [*itertools.chain(*theme.needs), *theme.may, *theme.walls, *theme.tops]
        assert max(len(one.parts) for one in everything) < 30
        assert any(one.top is not None for one in everything)
        for category in everything:
            low, high = local_bounds(category)
            assert (high > low).all() and low[2] >= -1e-9
            if category.top is not None:
                assert category.top[2] <= high[2] + 1e-9
            if category.hangs is not None:
                assert low[1] == pytest.approx(0.0, abs=0.006)


def test_depth_lies_on_the_mesh_of_the_scan(made: tuple[rooms.Room, ...]) -> None:
    """The renderer and the mesh of the raw scan are made apart from each other."""
    room = next(room for room in made if room.plan.cut is not None)
    scan = room_scan.room_scan(room, "scene0000_00", spacing=0.03)
    tree = pytest.importorskip("scipy.spatial").cKDTree(scan.mesh.points)
    frame = scan.frames[len(scan.frames) // 2]
    depth = scan.images.depth(frame)[::6, ::6] / 1000
    v, u = np.mgrid[:HEIGHT:6, :WIDTH:6] + 0.5
    k = frame.depth_intrinsics
    rays = np.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], np.ones_like(u)], -1)
    points = (rays * depth[..., None]).reshape(-1, 3)
    world = points @ frame.mesh_from_camera[:3, :3].T + frame.mesh_from_camera[:3, 3]
    distance, _ = tree.query(world)
    assert distance.max() < 0.025  # half a cell's diagonal, and rounding to a millimetre


def test_a_lived_in_room_is_a_scene_like_any_other(made: tuple[rooms.Room, ...], tmp_path) -> None:
    room = next(room for room in made if room.plan.cut is not None)
    unified.write_scene(tmp_path, "train", rooms.scene_source(room, "scene0000_00", SEEDS[0]))
    record = scene_io.load_scene(tmp_path, "scene0000_00")
    labels = [record.labels[index] for index in np.asarray(record.scene.label)]
    assert labels == [placed.category.label for placed in room.objects]
    assert float(record.scene.floor_area) == pytest.approx(room.plan.area, abs=1e-4)


def test_the_floor_changes_colours_only(made: tuple[rooms.Room, ...]) -> None:
    room = made[0]
    other = dataclasses.replace(room.shell, planks=np.bool_(not room.shell.planks))
    poses = room.views.path[room.views.kept]
    again = rooms.render_views(room.plan, room.objects, other, room.views, poses)
    assert (again.color != room.rendering.color).any()
    for field in ("depth", "instance", "seen", "inside", "alone"):
        np.testing.assert_array_equal(
            getattr(again, field), getattr(room.rendering, field), err_msg=field
        )
