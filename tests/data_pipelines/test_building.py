"""From a scan to a scene: a rendered room against its own truth, and scans with something wrong."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from data_pipelines import building, labels, object_boxes, rooms
from data_pipelines.building import BuildSettings, Built, build
from data_pipelines.room_scan import room_scan
from data_pipelines.scan import Mesh, OrientedBox, Scan, ScanError, ScanFrame

YAW, SHIFT = 0.7, (1.0, -2.0, 0.9)


def alignment(yaw: float = YAW, shift: tuple[float, float, float] = SHIFT) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    matrix[:3, 3] = shift
    return matrix


@pytest.fixture(scope="module")
def room() -> rooms.Room:
    view = float(np.deg2rad(80.0))
    return rooms.make_room((3, 1), frames=4, width=96, height=72, field_of_view=view)


@pytest.fixture(scope="module")
def scan(room: rooms.Room) -> Scan:
    return room_scan(room, "scene0000_00", world_from_mesh=alignment(), spacing=0.07)


@pytest.fixture(scope="module")
def built(scan: Scan) -> Built:
    return build(scan)


def few(scan: Scan, **changes: object) -> Scan:
    """The scan with two frames, which build faster, and something changed."""
    return dataclasses.replace(scan, frames=scan.frames[:2], **changes)


def with_object(scan: Scan, **changes: object) -> Scan:
    """Its first object changed."""
    first, *others = scan.objects
    return few(scan, objects=(dataclasses.replace(first, **changes), *others))


def test_boxes_and_labels_are_the_rooms(built: Built, room: rooms.Room) -> None:
    assert len(built.source.objects) == len(room.objects)
    for one, placed in zip(built.source.objects, room.objects, strict=True):
        center, extent, yaw = placed.obb()
        assert one.label == labels.harmonise(placed.category.label).label
        assert one.source_label == placed.category.label
        np.testing.assert_allclose(one.obb_center, center, atol=0.005)
        truth = object_boxes.upright(OrientedBox(center, extent, alignment(yaw, (0, 0, 0))[:3, :3]))
        np.testing.assert_allclose(one.obb_extent, truth.extent, atol=0.005)
        assert one.obb_yaw == pytest.approx(truth.yaw, abs=np.deg2rad(0.5))
        np.testing.assert_allclose(one.aabb, placed.aabb(), atol=0.005)


def test_room_is_as_large_as_it_is(built: Built, room: rooms.Room) -> None:
    assert built.source.room_size == pytest.approx(room.plan.area, rel=0.01)


def test_visibility_and_flags_are_the_renderers(built: Built, room: rooms.Room) -> None:
    rendering = rooms.render_path(room)
    share = np.minimum(rooms.visibility(rendering), 1)
    inside = np.asarray(rendering.inside) / np.maximum(np.asarray(rendering.alone), 1)
    compared = 0
    for frame in built.source.frames:
        for seen in frame.seen:
            row, column = frame.frame_id, seen.object_id - 1
            assert seen.visibility == pytest.approx(share[row, column], abs=0.02)
            if abs(inside[row, column] - 0.98) > 0.015:  # away from the threshold
                assert seen.truncated == (inside[row, column] < 0.98)
                compared += 1
    assert compared > 20


def test_quality_is_high_where_everything_fits(built: Built) -> None:
    assert built.quality.depth_agreement > 0.98
    assert built.quality.reprojection > 0.6
    assert built.quality.score == min(built.quality.depth_agreement, built.quality.reprojection)


def test_quality_falls_where_poses_are_inverted(scan: Scan) -> None:
    frames = tuple(
        dataclasses.replace(one, mesh_from_camera=np.linalg.inv(one.mesh_from_camera))
        for one in scan.frames
    )
    wrong = build(dataclasses.replace(scan, frames=frames), BuildSettings(frames=4))
    assert np.nan_to_num(wrong.quality.score) < 0.5


def test_same_scan_gives_the_same_scene(scan: Scan) -> None:
    one, two = build(few(scan)).source, build(few(scan)).source
    for frame, again in zip(one.frames, two.frames, strict=True):
        assert (frame.frame_id, frame.jpeg) == (again.frame_id, again.jpeg)
        for seen, twice in zip(frame.seen, again.seen, strict=True):
            assert (seen.object_id, seen.visibility) == (twice.object_id, twice.visibility)
            np.testing.assert_array_equal(seen.camera_location, twice.camera_location)
    for a, b in zip(one.objects, two.objects, strict=True):
        np.testing.assert_array_equal(a.points, b.points)


def test_turning_mesh_and_alignment_together_changes_no_box(scan: Scan, room: rooms.Room) -> None:
    turn = alignment(1.1, (5.0, 4.0, -3.0))  # new mesh from mesh
    moved = dataclasses.replace(
        scan.mesh,
        points=(scan.mesh.points @ turn[:3, :3].T + turn[:3, 3]).astype(np.float32),
    )
    frames = tuple(
        dataclasses.replace(one, mesh_from_camera=turn @ one.mesh_from_camera)
        for one in scan.frames[:2]
    )
    objects = tuple(dataclasses.replace(one, box=None) for one in scan.objects)
    before = build(few(scan, objects=objects)).source
    after = build(
        dataclasses.replace(
            scan,
            mesh=moved,
            frames=frames,
            objects=objects,
            world_from_mesh=alignment() @ np.linalg.inv(turn),
        )
    ).source
    assert after.room_size == pytest.approx(before.room_size, rel=1e-3)
    for a, b in zip(before.objects, after.objects, strict=True):
        np.testing.assert_allclose(a.aabb, b.aabb, atol=1e-5)
        np.testing.assert_allclose(a.obb_center, b.obb_center, atol=1e-3)


def test_missing_alignment_is_estimated_and_said(scan: Scan, room: rooms.Room) -> None:
    found = build(few(scan, world_from_mesh=None))
    assert not found.aligned_by_dataset
    (note,) = found.notes
    assert note.startswith("no alignment in the data: yaw ")
    # The room's walls follow the axes, whichever quarter turn the estimate took.
    sides = np.ptp(found.source.floor_polygon, axis=0)
    truth = np.ptp(room.plan.polygon(), axis=0)
    assert min(np.abs(sides - truth).max(), np.abs(sides[::-1] - truth).max()) < 0.03
    assert found.source.room_size == pytest.approx(room.plan.area, rel=0.01)


def test_unknown_label_is_kept_and_listed(scan: Scan) -> None:
    found = build(with_object(scan, label="Lava_Lamp-Stand"))
    assert found.unknown_labels == ("lava lamp stand",)
    first = found.source.objects[0]
    assert (first.label, first.source_label) == ("lava lamp stand", "Lava_Lamp-Stand")


def test_surfaces_and_words_that_name_nothing_are_dropped_and_listed(scan: Scan) -> None:
    found = build(with_object(scan, label="remove"))
    assert found.dropped_labels == ("ceiling", "floor", "remove", "wall")
    assert len(found.source.objects) == len(build(few(scan)).source.objects) - 1
    surfaces = {group.label for group in found.source.mesh.groups if group.surface}
    assert surfaces == {"ceiling", "floor", "remove", "wall"}


def test_storage_can_be_dropped_by_choice(scan: Scan) -> None:
    changed = with_object(scan, label="cabinet")
    settings = BuildSettings(dropped=(*labels.DROPPED, "storage"))
    assert "cabinet" in [one.label for one in build(changed).source.objects]
    assert "cabinet" not in [one.label for one in build(changed, settings).source.objects]


def test_an_object_of_nothing_is_left_out_with_the_reason(scan: Scan) -> None:
    found = build(with_object(scan, vertices=np.zeros(0, np.int64), box=None))
    assert [one.why for one in found.skipped] == ["it has no vertices and no box"]
    found = build(with_object(scan, vertices=scan.objects[0].vertices[:1], box=None))
    assert [one.why for one in found.skipped] == ["it is smaller than a centimetre"]


@pytest.mark.parametrize("count", [1, 3])
def test_a_stray_vertex_of_an_object_moves_no_box_and_is_listed(scan: Scan, count: int) -> None:
    own = scan.objects[0].vertices
    away = np.linalg.norm(scan.mesh.points - scan.mesh.points[own].mean(0), axis=1)
    far = np.setdiff1d(np.argsort(away)[-count:], own)
    assert away[far].min() > 2 and count <= 0.01 * len(own)
    found = build(with_object(scan, vertices=np.append(own, far), box=None))
    truth = build(with_object(scan, box=None)).source.objects[0]
    one = found.source.objects[0]
    np.testing.assert_array_equal(one.aabb, truth.aabb)
    np.testing.assert_array_equal(one.obb_extent, truth.obb_extent)
    np.testing.assert_array_equal(one.points, truth.points)
    (skipped,) = found.skipped
    label = scan.objects[0].label
    assert skipped.what == f"{count} of {len(own) + count} vertices of object 1 ({label})"
    assert skipped.why == "0.5 m or more from all others"


def test_an_object_with_a_box_only_gets_the_vertices_in_it(scan: Scan) -> None:
    found = build(with_object(scan, vertices=np.zeros(0, np.int64)))
    expected = build(few(scan))
    one, truth = found.source.objects[0], expected.source.objects[0]
    np.testing.assert_allclose(one.obb_center, truth.obb_center, atol=1e-6)
    group = found.source.mesh.groups[0]
    inside = np.isin(found.source.mesh.segments, group.segments).sum()
    assert inside == pytest.approx(len(scan.objects[0].vertices), rel=0.02)


def test_a_leaning_box_gives_way_to_the_smallest_upright_one(scan: Scan) -> None:
    first = scan.objects[0]
    assert first.box is not None
    tilt = np.deg2rad(30)
    lean = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    leaning = dataclasses.replace(first.box, rotation=lean @ first.box.rotation)
    found = build(with_object(scan, box=leaning))
    (note,) = found.notes
    assert "its box leans by 30 degrees" in note
    truth = build(with_object(scan, box=None)).source.objects[0]
    np.testing.assert_allclose(found.source.objects[0].obb_extent, truth.obb_extent, atol=1e-9)


def test_a_vertex_of_two_objects_counts_for_both(scan: Scan) -> None:
    first, second, *others = scan.objects
    shared = np.union1d(first.vertices, second.vertices[:50])
    found = build(
        few(scan, objects=(dataclasses.replace(first, vertices=shared), second, *others))
    ).source
    np.testing.assert_allclose(found.objects[1].aabb, build(few(scan)).source.objects[1].aabb)
    mesh = found.mesh
    for group, wanted in zip(mesh.groups[:2], (shared, second.vertices), strict=True):
        np.testing.assert_array_equal(
            np.flatnonzero(np.isin(mesh.segments, group.segments)), np.sort(wanted)
        )


def test_two_objects_of_one_id_are_refused(scan: Scan) -> None:
    twice = dataclasses.replace(scan.objects[1], object_id=scan.objects[0].object_id)
    with pytest.raises(
        ScanError, match="scene0000_00: expected distinct object ids, got 1 2 times"
    ):
        build(few(scan, objects=(scan.objects[0], twice)))


def test_a_camera_far_outside_is_left_out(scan: Scan) -> None:
    away = scan.frames[1].mesh_from_camera.copy()
    away[0, 3] += 100
    lost = dataclasses.replace(scan.frames[1], mesh_from_camera=away)
    found = build(dataclasses.replace(scan, frames=(scan.frames[0], lost)))
    assert [one.frame_id for one in found.source.frames] == [0]
    assert "outside of the mesh" in found.skipped[0].why


def test_stray_vertices_do_not_shelter_a_camera_that_got_lost(scan: Scan) -> None:
    away = scan.frames[1].mesh_from_camera.copy()
    away[0, 3] += 100
    lost = dataclasses.replace(scan.frames[1], mesh_from_camera=away)
    stray = np.tile(away[:3, 3], (50, 1)).astype(np.float32)
    mesh = Mesh(
        np.concatenate([scan.mesh.points, stray]),
        np.concatenate([scan.mesh.colors, np.zeros((50, 3), np.uint8)]),
        scan.mesh.faces,
    )
    found = build(dataclasses.replace(scan, mesh=mesh, frames=(scan.frames[0], lost)))
    assert [one.frame_id for one in found.source.frames] == [0]


def turned(scan: Scan, yaw: float, shift: tuple[float, float, float]) -> Scan:
    """The same scan in another mesh frame, without an alignment."""
    turn = alignment(yaw, shift)
    points = scan.mesh.points @ turn[:3, :3].T + turn[:3, 3]
    return dataclasses.replace(
        scan,
        mesh=dataclasses.replace(scan.mesh, points=points.astype(np.float32)),
        world_from_mesh=None,
        frames=tuple(
            dataclasses.replace(one, mesh_from_camera=turn @ one.mesh_from_camera)
            for one in scan.frames
        ),
    )


def with_specks(scan: Scan) -> Scan:
    """Small level faces far away and under the floor."""
    rng = np.random.default_rng(0)
    far = rng.uniform(-1, 1, (40, 3)) * [60, 60, 1]
    under = rng.uniform(-2, 2, (40, 3)) - [0, 0, 3]
    speck = np.array([[0, 0, 0], [0.05, 0, 0], [0, 0.05, 0]])
    points = (np.concatenate([far, under])[:, None] + speck).reshape(-1, 3)
    mesh = Mesh(
        np.concatenate([scan.mesh.points, points]).astype(np.float32),
        np.concatenate([scan.mesh.colors, np.zeros((len(points), 3), np.uint8)]),
        np.concatenate(
            [scan.mesh.faces, len(scan.mesh.points) + np.arange(len(points)).reshape(-1, 3)]
        ).astype(np.int32),
    )
    return dataclasses.replace(scan, mesh=mesh)


@pytest.mark.parametrize("annotated", [True, False])
@pytest.mark.parametrize("yaw", [0.0, 0.5, 2.0])
def test_the_room_is_as_large_however_the_scan_lies_and_whatever_floats_about(
    scan: Scan, room: rooms.Room, annotated: bool, yaw: float
) -> None:
    bare = few(scan, objects=scan.objects if annotated else ())
    found = build(with_specks(turned(bare, yaw, (5.0, -9.0, 0.3))))
    low, high = room.plan.floors()[0]
    assert found.source.room_size == pytest.approx(float(np.prod(high - low)), rel=0.003)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_picture_that_viewers_would_turn_is_written_as_it_is_measured(
    scan: Scan, orientation: int
) -> None:
    class Tagged:
        color, depth = scan.images.color, scan.images.depth

        def color_jpeg(self, frame: ScanFrame) -> bytes:
            tags, file = Image.Exif(), io.BytesIO()
            tags[ExifTags.Base.Orientation] = orientation
            Image.fromarray(self.color(frame)).save(file, "JPEG", quality=90, exif=tags)
            return file.getvalue()

    images = Tagged()
    made = build(few(scan, images=images)).source.frames[0]
    frame = scan.frames[0]
    with Image.open(io.BytesIO(made.jpeg)) as picture:
        assert ImageOps.exif_transpose(picture).size == frame.color_size
    assert (made.jpeg == images.color_jpeg(frame)) == (orientation == 1)


def test_a_scan_without_a_usable_frame_is_refused(scan: Scan) -> None:
    with pytest.raises(ScanError, match=r"expected a frame that shows .*, found none of 0\.$"):
        build(dataclasses.replace(scan, frames=()))

    class Torn:
        color_jpeg, depth = scan.images.color_jpeg, scan.images.depth

        def color(self, frame: ScanFrame) -> np.ndarray:
            raise ScanError(f"{frame.source}.jpg: torn.")

    with pytest.raises(ScanError, match=r"found none of 2; frame (\d+): \1\.jpg: torn\.$"):
        build(few(scan, images=Torn()))


def test_a_scan_without_objects_is_a_scene_without_objects(scan: Scan) -> None:
    found = build(few(scan, objects=()))
    assert found.source.objects == ()
    assert found.source.room_size == pytest.approx(build(few(scan)).source.room_size, rel=0.01)


def test_thinned_points_are_few_and_cover_the_whole() -> None:
    points = np.random.default_rng(0).uniform(0, 1, (5000, 3))
    thin = building.thinned(points, 300)
    assert 100 < len(thin) <= 300
    np.testing.assert_allclose(thin.min(0), points.min(0), atol=0.2)
    np.testing.assert_allclose(thin.max(0), points.max(0), atol=0.2)
    assert {tuple(point) for point in thin} <= {tuple(point) for point in points}
    np.testing.assert_array_equal(building.thinned(points[:7], 300), points[:7])


def test_mesh_without_vertices_still_gives_frames(scan: Scan) -> None:
    empty = Mesh(
        np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), np.zeros((0, 3), np.int32)
    )
    found = build(few(scan, mesh=empty, objects=()))
    assert found.source.room_size is None and len(found.source.frames) == 2
