"""Depth, instances and coverage against cases worked by hand, and against the shapes themselves."""

import numpy as np
import pytest

from data_pipelines import cameras, renderer, rooms
from data_pipelines.placing import turn
from geometry_jax.types import leaf

WIDTH, HEIGHT = 80, 60
EYE = (1.0, 2.0, 1.3)
SIZE = (6.0, 4.0, 2.6)
INTRINSICS = cameras.pinhole(WIDTH, HEIGHT, np.deg2rad(90.0))  # focal length 40 pixels


def shell() -> renderer.Shell:
    walls = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.8, 0.1]])
    floor = np.array([[0.5, 0.5, 0.5], [0.3, 0.3, 0.3]])
    parts = (SIZE, walls, floor, (0.9, 0.9, 0.9))
    return renderer.Shell(*(leaf(np.asarray(x, np.float32)) for x in parts))


def shapes(*things: tuple) -> renderer.Parts:
    """Parts from (shape, centre, half sides, yaw), each an object of its own, padded to four."""
    count = 4
    center, half = np.zeros((count, 3)), np.ones((count, 3))
    yaw, ball, owner = np.zeros(count), np.zeros(count, bool), np.full(count, -1)
    for index, (shape, where, sides, angle) in enumerate(things):
        center[index], half[index], yaw[index] = where, sides, angle
        ball[index], owner[index] = shape == "ellipsoid", index
    f32 = np.float32
    color = np.full((count, 3), 0.5, f32)
    arrays = (center.astype(f32), half.astype(f32), yaw.astype(f32), ball, color, owner)
    return renderer.Parts(*map(leaf, arrays))


def look(parts: renderer.Parts) -> renderer.Rendering:
    """From EYE, level, along +x: image x is -y of the world, image y is -z."""
    pose = cameras.look_at(np.array([EYE]), np.array([EYE]) + [[1.0, 0, 0]], np.zeros(1))
    return renderer.render(
        parts, shell(), pose, INTRINSICS, width=WIDTH, height=HEIGHT, num_objects=4
    )


def test_wall_ahead_has_one_depth() -> None:
    picture = look(shapes())
    assert picture.depth[0, 25:35, 30:50] == pytest.approx(5.0, abs=1e-5)
    assert (picture.instance == -1).all()


def test_floor_depth_is_height_over_slope() -> None:
    picture = look(shapes())
    rows = np.arange(45, 60)
    expected = EYE[2] * 40 / (rows + 0.5 - 30)
    assert picture.depth[0, rows, 40] == pytest.approx(expected, rel=1e-5)


def test_each_surface_has_its_own_colour() -> None:
    color = look(shapes()).color[0].astype(int)
    ahead, left, right = color[30, 40], color[30, 2], color[30, 77]
    assert ahead.argmax() == 1  # the wall x = 6
    assert left[0] > left[2] and left[1] > left[2]  # y = 4: yellow, on the left hand
    assert right.argmax() == 2  # y = 0


def test_box_hides_the_wall_from_its_front_face() -> None:
    picture = look(shapes(("box", (4.0, 2.0, 1.3), (0.5, 0.4, 0.3), 0.0)))
    # The face at depth 2.5 spans 0.8 x 0.6 m: 12.8 x 9.6 pixels about the middle.
    inside = picture.instance[0] == 0
    assert picture.depth[0][inside] == pytest.approx(2.5, abs=1e-5)
    rows, columns = np.nonzero(inside)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (34, 45, 25, 34)


def test_turned_box_shows_its_edge_first() -> None:
    picture = look(shapes(("box", (4.0, 2.0, 1.3), (0.5, 0.5, 0.3), np.pi / 4)))
    middle = picture.depth[0, 30, 40]
    # The edge is at depth 3 - sqrt(1/2), and this pixel's ray runs half a pixel beside it: the face
    # behind the edge falls back as fast as the ray moves aside.
    assert middle == pytest.approx((3.0 - np.sqrt(0.5)) / (1 - 0.5 / 40), abs=1e-4)
    assert picture.depth[0, 30, 45] > middle + 0.1


def test_ball_is_round_and_nearest_in_its_middle() -> None:
    picture = look(shapes(("ellipsoid", (4.0, 2.0, 1.3), (0.5, 0.5, 0.5), 0.3)))
    assert picture.depth[0][picture.instance[0] == 0].min() == pytest.approx(2.5, abs=0.01)
    outline = np.pi * (40 * 0.5 / np.sqrt(3.0**2 - 0.5**2)) ** 2  # the tangent cone at depth 1
    # 42 of its 144 pixels lie on the outline, each in or out.
    assert picture.seen[0, 0] == pytest.approx(outline, rel=0.05)


def test_hidden_object_is_covered_but_not_seen() -> None:
    near = ("box", (3.0, 2.0, 1.3), (0.1, 0.6, 0.6), 0.0)
    picture = look(shapes(near, ("box", (4.0, 2.0, 1.3), (0.1, 0.3, 0.3), 0.0)))
    assert picture.seen[0, 1] == 0
    assert picture.inside[0, 1] == picture.alone[0, 1] > 0
    assert picture.seen[0, 0] == picture.inside[0, 0]


def test_object_that_leaves_the_image_is_counted_on_the_canvas() -> None:
    # At depth 2 the image ends at y = 0; half of the plate lies beyond.
    picture = look(shapes(("box", (3.0, 0.0, 1.3), (0.001, 0.5, 0.5), 0.0)))
    assert picture.inside[0, 0] == pytest.approx(10 * 20, rel=0.1)
    assert picture.seen[0, 0] / picture.alone[0, 0] == pytest.approx(0.5, abs=0.02)


def test_object_behind_the_camera_is_nowhere() -> None:
    picture = look(shapes(("box", (0.4, 2.0, 1.3), (0.1, 0.5, 0.5), 0.0)))
    assert picture.alone[0, 0] == 0
    assert (picture.instance == -1).all()


def test_padding_changes_nothing() -> None:
    box = ("box", (4.0, 2.0, 1.3), (0.5, 0.4, 0.3), 0.7)
    one, two = look(shapes(box)), look(shapes(box, ("box", (-9.0, 0, 0), (0.1, 0.1, 0.1), 0.0)))
    np.testing.assert_array_equal(one.depth, two.depth)
    np.testing.assert_array_equal(one.color, two.color)


def test_more_objects_than_bits_are_refused() -> None:
    pose = np.eye(4)[None]
    with pytest.raises(ValueError, match="at most 32, got 33"):
        renderer.render(shapes(), shell(), pose, INTRINSICS, width=8, height=8, num_objects=33)


def unprojected(room: rooms.Room, row: int) -> np.ndarray:
    """(H, W, 3) world points of a picture."""
    depth, pose, camera = (
        room.rendering.depth[row],
        room.views.path[room.views.kept[row]],
        room.views.intrinsics,
    )
    v, u = np.mgrid[: depth.shape[0], : depth.shape[1]] + 0.5
    rays = np.stack([(u - camera[0, 2]) / camera[0, 0], (v - camera[1, 2]) / camera[1, 1]], -1)
    local = np.concatenate([rays * depth[..., None], depth[..., None]], -1)
    return local @ pose[:3, :3].T + pose[:3, 3]


def test_every_pixel_lies_on_a_surface_of_what_it_shows(made: tuple[rooms.Room, ...]) -> None:
    for room in made:
        for row in range(len(room.views.kept)):
            points, instance = unprojected(room, row), room.rendering.instance[row]
            walls = points[instance == -1]
            reach = np.minimum(np.abs(walls), np.abs(walls - room.plan.size)).min(-1)
            assert reach.max() < 1e-3
            for index, placed in enumerate(room.objects):
                own = points[instance == index]
                best = np.full(len(own), np.inf)
                parts = zip(placed.category.parts, *placed.parts(), strict=True)
                for part, center, half in parts:
                    local = own - center
                    local[:, :2] = turn(-placed.yaw, local[:, :2])
                    if part.shape == "box":
                        off = np.abs((np.abs(local) - half).max(-1))
                    else:
                        off = np.abs(np.linalg.norm(local / half, axis=-1) - 1) * half.max()
                    best = np.minimum(best, off)
                assert best.max(initial=0.0) < 1e-3


def test_no_surface_point_lies_before_the_depth_map(
    made: tuple[rooms.Room, ...], sources: tuple
) -> None:
    for room, source in zip(made, sources, strict=True):
        views = room.views
        for one in source.objects:
            poses = views.path[views.kept]
            pixels, depth = cameras.project(one.points, poses, views.intrinsics)
            for row in range(len(poses)):
                u, v = np.floor(pixels[row]).astype(int).T
                inner = (depth[row] > 0) & (u >= 1) & (u < WIDTH - 1) & (v >= 1) & (v < HEIGHT - 1)
                near = [
                    room.rendering.depth[row][v[inner] + dv, u[inner] + du]
                    for dv in (-1, 0, 1)
                    for du in (-1, 0, 1)
                ]
                # A thin part, as a lamp's pole, may fall between rays; most of an object cannot.
                before = depth[row][inner] < np.min(near, axis=0) - 0.02
                assert before.sum() <= 0.15 * len(before)
