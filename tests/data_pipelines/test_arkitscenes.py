"""ARKitScenes: what is written from a room is read back, and raw data that somebody else made."""

import csv
import dataclasses
import itertools
import json
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from data_pipelines import arkit_annotation, arkit_formats, arkitscenes, rooms, upright
from data_pipelines.room_scan import box_surface, room_scan
from data_pipelines.scan import Mesh, OrientedBox, Scan, ScanError, ScanFrame
from data_pipelines.writers import arkitscenes as writer

VIDEO = "00000042"
WIDTH, HEIGHT = 64, 48
EYES = np.array([[0.5, -2.0, 1.5], [1.5, -1.5, 1.6]])  # before a scene made by hand


def planar(yaw: float, shift: tuple[float, float, float]) -> np.ndarray:
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    pose[:3, 3] = shift
    return pose


@pytest.fixture(scope="module")
def scan() -> Scan:
    """A room whose mesh frame is turned and shifted, with the floor 0.9 m below its origin."""
    view = float(np.deg2rad(85.0))
    room = rooms.make_room((7, 0), frames=6, width=WIDTH, height=HEIGHT, field_of_view=view)
    alignment = np.linalg.inv(planar(0.4, (-1.0, 0.5, -0.9)))
    return dataclasses.replace(
        room_scan(room, "scene0000_00", world_from_mesh=alignment), source_id="42"
    )


@pytest.fixture(scope="module")
def release(scan: Scan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The room as one upright video of the 3dod release; not to be changed."""
    raw = tmp_path_factory.mktemp("arkit")
    writer.write_scan(scan, raw)
    return raw


@pytest.fixture
def raw(release: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(release, tmp_path / "raw"))


def video_folder(raw: Path) -> Path:
    return raw / "3dod" / "Training" / VIDEO


def frames_folder(raw: Path) -> Path:
    return video_folder(raw) / f"{VIDEO}_frames"


def annotation(raw: Path) -> Path:
    return video_folder(raw) / f"{VIDEO}_3dod_annotation.json"


def trajectory(raw: Path) -> Path:
    return frames_folder(raw) / "lowres_wide.traj"


def a_file(raw: Path, folder: str, index: int = 3) -> Path:
    return sorted((frames_folder(raw) / folder).iterdir())[index]


def edit_annotation(raw: Path, change) -> None:
    record = json.loads(annotation(raw).read_text())
    change(record)
    annotation(raw).write_text(json.dumps(record))


def refusal(raw: Path, **options) -> str:
    with pytest.raises(ScanError) as caught:
        arkitscenes.read_scan(raw, VIDEO, **options)
    return str(caught.value)


@pytest.mark.parametrize("sky", upright.SKIES)
@pytest.mark.parametrize("layout", ["3dod", "raw_wide"])
def test_what_is_written_is_read_back(
    scan: Scan, tmp_path: Path, sky: str, layout: writer.Layout
) -> None:
    writer.write_scan(scan, tmp_path, sky=sky, layout=layout)
    assert arkitscenes.list_scans(tmp_path) == (VIDEO,)
    read = arkitscenes.read_scan(tmp_path, VIDEO)
    assert (read.dataset, read.scene_id, read.split) == ("arkitscenes", "scene00000042_00", "train")
    assert read.skipped == ()
    assert read.world_from_mesh is None and read.is_video
    assert [frame.frame_id for frame in read.frames] == list(range(len(scan.frames)))
    for got, want in zip(read.frames, scan.frames, strict=True):
        np.testing.assert_allclose(got.mesh_from_camera, want.mesh_from_camera, atol=1e-6)
        np.testing.assert_allclose(got.color_intrinsics, want.color_intrinsics, atol=1e-6)
        np.testing.assert_allclose(got.depth_intrinsics, want.depth_intrinsics, atol=1e-6)
        assert got.color_size == got.depth_size == (WIDTH, HEIGHT)
    for got, want in ((read.frames[i], scan.frames[i]) for i in (0, 9)):
        np.testing.assert_array_equal(read.images.color(got), scan.images.color(want))
        np.testing.assert_array_equal(read.images.depth(got), scan.images.depth(want))
        assert read.images.color_jpeg(got) is None  # PNG in both releases
    np.testing.assert_array_equal(read.mesh.points, scan.mesh.points)
    np.testing.assert_array_equal(read.mesh.colors, scan.mesh.colors)
    np.testing.assert_array_equal(read.mesh.faces, scan.mesh.faces)
    boxed = [one for one in scan.objects if one.box is not None]
    assert len(boxed) == len(read.objects) > 4
    for got, want in zip(read.objects, boxed, strict=True):
        assert (got.object_id, got.label) == (want.object_id, want.label)
        assert got.box is not None and want.box is not None
        np.testing.assert_allclose(got.box.corners(), want.box.corners(), atol=1e-9)


@pytest.mark.parametrize("sky", upright.SKIES)
def test_stored_images_have_the_sky_on_the_stated_side(
    scan: Scan, tmp_path: Path, sky: str
) -> None:
    writer.write_scan(scan, tmp_path, sky=sky)
    with Image.open(a_file(tmp_path, "lowres_wide", 0)) as image:
        stored = np.asarray(image)
    shown = scan.images.color(scan.frames[0])
    top = {
        "Up": stored[0],
        "Left": stored[::-1, 0],
        "Down": stored[-1, ::-1],
        "Right": stored[:, -1],
    }
    np.testing.assert_array_equal(top[sky], shown[0])


def test_a_depth_pixel_of_a_turned_video_lies_where_the_upright_one_does(
    scan: Scan, tmp_path: Path
) -> None:
    # By hand, from the stored files alone: a Left image is the upright one turned back, so that
    # its pixel (column, row) is the upright pixel (height - 1 - row, column).
    writer.write_scan(scan, tmp_path, sky="Left")
    words = a_file(tmp_path, "lowres_wide_intrinsics", 5).read_text().split()
    width, height, fx, fy, cx, cy = (float(word) for word in words)
    assert (width, height) == (HEIGHT, WIDTH)  # a portrait sensor image
    line = [float(word) for word in trajectory(tmp_path).read_text().splitlines()[5].split()]
    camera_from_mesh = np.eye(4)
    camera_from_mesh[:3, :3] = Rotation.from_rotvec(line[1:4]).as_matrix()
    camera_from_mesh[:3, 3] = line[4:]
    with Image.open(a_file(tmp_path, "lowres_depth", 5)) as image:
        stored = np.asarray(image)
    column, row = 20, 11
    z = stored[row, column] / 1000
    seen = np.array([(column - cx) / fx * z, (row - cy) / fy * z, z, 1.0])
    point = np.linalg.inv(camera_from_mesh) @ seen

    frame = scan.frames[5]
    u, v = stored.shape[0] - 1 - row, column
    assert scan.images.depth(frame)[v, u] == stored[row, column]
    ray = np.linalg.inv(frame.color_intrinsics) @ [u + 0.5, v + 0.5, 1]
    np.testing.assert_allclose(point, frame.mesh_from_camera @ np.append(ray * z, 1.0), atol=1e-6)


def test_three_raw_sources_are_preferred_in_order_and_can_be_chosen(
    scan: Scan, tmp_path: Path
) -> None:
    short = dataclasses.replace(scan, frames=scan.frames[:2])
    for layout in ("3dod", "raw_lowres", "raw_vga", "raw_wide"):
        writer.write_scan(short, tmp_path, layout=layout)
        read = arkitscenes.read_scan(tmp_path, VIDEO)
        folder = {"3dod": "lowres_wide", "raw_lowres": "lowres_wide", "raw_vga": "vga_wide"}
        stored = read.images.stored[0].color  # type: ignore[attr-defined]
        assert stored.parent.name == folder.get(layout, "wide")
        assert ("3dod" in stored.parts) == (layout == "3dod")
    for raw in (tmp_path / "raw", tmp_path / "3dod"):
        assert arkitscenes.list_scans(raw) == (VIDEO,)
        assert len(arkitscenes.read_scan(raw, VIDEO).frames) == 2
    chosen = arkitscenes.read_scan(tmp_path, VIDEO, source="3dod")
    assert "3dod" in chosen.images.stored[0].color.parts  # type: ignore[attr-defined]


class Halved:
    """The images of a scan with every second depth pixel."""

    def __init__(self, scan: Scan):
        self.scan = scan

    def color(self, frame: ScanFrame) -> np.ndarray:
        return self.scan.images.color(frame)

    def color_jpeg(self, frame: ScanFrame) -> None:
        return None

    def depth(self, frame: ScanFrame) -> np.ndarray:
        return self.scan.images.depth(frame)[::2, ::2]


@pytest.mark.parametrize("sky", ["Up", "Left", "Right"])
def test_colour_and_depth_have_intrinsics_of_their_own(
    scan: Scan, tmp_path: Path, sky: str
) -> None:
    half = np.array([[0.5, 0, 0.25], [0, 0.5, 0.25], [0, 0, 1]])  # pixel 2i becomes pixel i
    frames = tuple(
        dataclasses.replace(
            frame,
            depth_intrinsics=half @ frame.depth_intrinsics,
            depth_size=(WIDTH // 2, HEIGHT // 2),
        )
        for frame in scan.frames[:3]
    )
    small = dataclasses.replace(scan, frames=frames, images=Halved(scan))
    writer.write_scan(small, tmp_path, layout="raw_vga", sky=sky)
    read = arkitscenes.read_scan(tmp_path, VIDEO)
    for got, want in zip(read.frames, frames, strict=True):
        assert (got.color_size, got.depth_size) == (want.color_size, want.depth_size)
        np.testing.assert_allclose(got.color_intrinsics, want.color_intrinsics, atol=1e-6)
        np.testing.assert_allclose(got.depth_intrinsics, want.depth_intrinsics, atol=1e-6)
        np.testing.assert_array_equal(read.images.depth(got), small.images.depth(want))
    with pytest.raises(ValueError, match="one camera for colour and depth"):
        writer.write_scan(small, tmp_path, layout="3dod")


def smooth_walk(scan: Scan, count: int) -> Scan:
    """Frames at 60 Hz of somebody who walks 0.5 m and turns 60 degrees a second, with a bob."""
    start = scan.frames[0].mesh_from_camera
    frames = []
    for index in range(count):
        seconds = index / 60
        turn = Rotation.from_euler("yx", [seconds * np.pi / 3, 0.1 * np.sin(9 * seconds)])
        pose = start.copy()
        pose[:3, :3] = start[:3, :3] @ turn.as_matrix()
        pose[:3, 3] += [0.5 * seconds, 0.02 * np.sin(9 * seconds), 0.01 * np.cos(9 * seconds)]
        frames.append(dataclasses.replace(scan.frames[0], frame_id=index, mesh_from_camera=pose))

    class Still(Halved):
        def color(self, frame: ScanFrame) -> np.ndarray:
            return np.zeros((HEIGHT, WIDTH, 3), np.uint8)

        def depth(self, frame: ScanFrame) -> np.ndarray:
            return np.ones((HEIGHT, WIDTH), np.uint16)

    return dataclasses.replace(scan, frames=tuple(frames), images=Still(scan))


def pose_errors(got: np.ndarray, want: np.ndarray) -> tuple[float, float]:
    """Metres and degrees."""
    turn = Rotation.from_matrix(got[:3, :3].T @ want[:3, :3])
    return float(np.linalg.norm(got[:3, 3] - want[:3, 3])), float(np.rad2deg(turn.magnitude()))


def test_poses_between_those_of_the_trajectory_are_interpolated(scan: Scan, tmp_path: Path) -> None:
    walk = smooth_walk(scan, 40)  # the last trajectory pose is that of frame 36
    writer.write_scan(walk, tmp_path, sky="Right", frame_rate=60, pose_rate=10)
    read = arkitscenes.read_scan(tmp_path, VIDEO)
    assert [frame.frame_id for frame in read.frames] == list(range(37))
    assert [one.what.split(" (")[0] for one in read.skipped] == ["frame 37", "frame 38", "frame 39"]
    assert "no pose within 5 ms" in read.skipped[0].why
    for got in read.frames:
        want = walk.frames[got.frame_id]
        metres, degrees = pose_errors(got.mesh_from_camera, want.mesh_from_camera)
        if got.frame_id % 6 == 0:
            np.testing.assert_allclose(got.mesh_from_camera, want.mesh_from_camera, atol=1e-5)
        else:  # the bob's curvature over 0.1 s, and half a millisecond of the file name
            assert metres < 0.003 and degrees < 0.7
    nearest = [walk.frames[6 * round(i / 6)].mesh_from_camera for i in range(37)]
    far = [pose_errors(a, b.mesh_from_camera) for a, b in zip(nearest, walk.frames, strict=False)]
    assert max(metres for metres, _ in far) > 0.02  # what the nearest pose would have given


def test_a_hole_in_the_trajectory_is_not_bridged(raw: Path) -> None:
    lines = trajectory(raw).read_text().splitlines()
    lines[4] = " ".join(["nan"] * 7)
    trajectory(raw).write_text("\n".join(lines))
    read = arkitscenes.read_scan(raw, VIDEO)
    assert 4 not in [frame.frame_id for frame in read.frames]
    assert len(read.frames) == len(lines) - 1
    assert [one.what.split(" (")[0] for one in read.skipped] == ["pose 5", "frame 4"]
    assert "not finite" in read.skipped[0].why


@pytest.mark.parametrize(("degrees", "is_known"), [(60.0, True), (179.9, False), (180.0, False)])
def test_between_poses_that_are_turned_round_there_is_none(
    scan: Scan, tmp_path: Path, degrees: float, is_known: bool
) -> None:
    """Between a pose and the opposite one, either way round is as likely."""
    walk = smooth_walk(scan, 13)
    turned = walk.frames[12].mesh_from_camera.copy()
    about = Rotation.from_rotvec(np.deg2rad(degrees) * np.array([0.6, 0.8, 0.0]))
    turned[:3, :3] = walk.frames[6].mesh_from_camera[:3, :3] @ about.as_matrix()
    last = dataclasses.replace(walk.frames[12], mesh_from_camera=turned)
    walk = dataclasses.replace(walk, frames=(*walk.frames[:12], last))
    writer.write_scan(walk, tmp_path, sky="Right", frame_rate=60, pose_rate=10)
    read = arkitscenes.read_scan(tmp_path, VIDEO)
    expected = [*range(7), *(range(7, 12) if is_known else ()), 12]
    assert [frame.frame_id for frame in read.frames] == expected
    assert [one.what.split(" (")[0] for one in read.skipped] == [
        f"frame {number}" for number in range(13) if number not in expected
    ]
    assert all("turned by 90 degrees or less" in one.why for one in read.skipped)


def test_the_owners_own_trajectory_lines_tell_their_orientation(tmp_path: Path) -> None:
    # First lines of the videos 41048143 and 41048169; their orientation is what the owners state.
    lines = {
        "Down": "1627.68140546 -1.5545600446434271 1.532901960141653 0.883467254271724 "
        "0.0450016 0.0506107 -0.000194237",
        "Left": "803.47236621 1.6851560664954446 -1.7402208764128138 -0.8469396625258023 "
        "0.0404551 0.0562208 -0.00155703",
    }
    for sky, line in lines.items():
        (tmp_path / "lowres_wide.traj").write_text(f"{line}\n")
        path, skipped = arkit_formats.read_trajectory(tmp_path / "lowres_wide.traj")
        assert not skipped and path.times[0] == float(line.split()[0])
        assert upright.sky_of_poses(path.mesh_from_camera) == sky
        # Turned upright, the camera's own down is mostly the mesh's down.
        turned = upright.turned_poses(path.mesh_from_camera, upright.SKIES.index(sky))
        assert turned[0, 2, 1] < -0.5
        assert np.linalg.norm(path.mesh_from_camera[0, :3, 3]) < 0.08


@pytest.mark.parametrize("sky", upright.SKIES)
@pytest.mark.parametrize("table", ["absent", "empty", "another case"])
def test_without_a_stated_direction_the_poses_tell_it(
    scan: Scan, tmp_path: Path, sky: str, table: str
) -> None:
    short = dataclasses.replace(scan, frames=scan.frames[:2])
    writer.write_scan(short, tmp_path, sky=sky)
    path = tmp_path / "3dod" / "metadata.csv"
    if table == "absent":
        path.unlink()
    else:
        text = path.read_text()
        path.write_text(text.replace(sky, "" if table == "empty" else sky.upper()))
    read = arkitscenes.read_scan(tmp_path, VIDEO)
    np.testing.assert_allclose(
        read.frames[1].mesh_from_camera, scan.frames[1].mesh_from_camera, atol=1e-6
    )


def test_older_releases_have_other_names(raw: Path, scan: Scan) -> None:
    frames = frames_folder(raw)
    shutil.rmtree(frames / "confidence")
    for old, new in {
        "lowres_wide": "wide",
        "lowres_depth": "depth_densified",
        "lowres_wide_intrinsics": "color_intrinsics",
    }.items():
        (frames / old).rename(frames / new)
        for path in (frames / new).iterdir():
            time = float(path.stem.split("_")[1])
            digits = 4 if path.suffix == ".pincam" else 8
            path.rename(path.with_name(f"{time:.{digits}f}{path.suffix}"))
    trajectory(raw).rename(frames / "color.traj")
    read = arkitscenes.read_scan(raw, VIDEO)
    assert len(read.frames) == len(scan.frames) and not read.skipped
    np.testing.assert_array_equal(
        read.images.depth(read.frames[2]), scan.images.depth(scan.frames[2])
    )


def test_frame_ids_are_places_among_times_with_colour_and_depth(raw: Path, scan: Scan) -> None:
    a_file(raw, "lowres_depth", 2).unlink()  # no frame any more: later ids move up by one
    a_file(raw, "lowres_wide_intrinsics", 5).unlink()  # still a frame, without a camera
    read = arkitscenes.read_scan(raw, VIDEO)
    ids = [frame.frame_id for frame in read.frames]
    assert ids == [i for i in range(len(scan.frames) - 1) if i != 4]
    assert read.skipped[0].what == f"1 of {len(scan.frames)} colour images"
    assert read.skipped[1].what.startswith("frame 4 ")
    assert "no intrinsics in lowres_wide_intrinsics" in read.skipped[1].why
    np.testing.assert_allclose(
        read.frames[2].mesh_from_camera, scan.frames[3].mesh_from_camera, atol=1e-6
    )


@pytest.mark.parametrize(("shift", "found"), [(-0.001, True), (0.001, True), (0.002, False)])
def test_intrinsics_may_be_a_millisecond_off(raw: Path, shift: float, found: bool) -> None:
    path = a_file(raw, "lowres_wide_intrinsics", 1)
    time = float(path.stem.split("_")[1])
    path.rename(path.with_name(f"{VIDEO}_{time + shift:.3f}.pincam"))
    read = arkitscenes.read_scan(raw, VIDEO)
    assert (1 in [frame.frame_id for frame in read.frames]) == found


def test_intrinsics_are_scaled_to_the_image(raw: Path, scan: Scan) -> None:
    # An ideal camera: 127.5 counts from the middle of the first of 256 pixels.
    for path in (frames_folder(raw) / "lowres_wide_intrinsics").iterdir():
        path.write_text("256 192 212 212 127.5 95.5")
    frame = arkitscenes.read_scan(raw, VIDEO).frames[0]
    np.testing.assert_allclose(
        frame.color_intrinsics, [[53, 0, WIDTH / 2], [0, 53, HEIGHT / 2], [0, 0, 1]]
    )


def test_jpeg_bytes_are_handed_on_where_they_show_the_frame(scan: Scan, tmp_path: Path) -> None:
    short = dataclasses.replace(scan, frames=scan.frames[:1])
    for sky in ("Up", "Left"):
        writer.write_scan(short, tmp_path / sky, sky=sky)
        path = a_file(tmp_path / sky, "lowres_wide", 0)
        with Image.open(path) as image:
            image.convert("RGB").save(path.with_suffix(".jpg"), quality=95)
        path.unlink()
        read = arkitscenes.read_scan(tmp_path / sky, VIDEO)
        stored = read.images.color_jpeg(read.frames[0])
        assert stored == (path.with_suffix(".jpg").read_bytes() if sky == "Up" else None)
        assert read.images.color(read.frames[0]).shape == (HEIGHT, WIDTH, 3)


def test_objects_have_their_own_vertices_and_not_the_floor(scan: Scan, release: Path) -> None:
    floor = next(one for one in scan.objects if one.label == "floor")
    wall = np.concatenate([one.vertices for one in scan.objects if one.label == "wall"])
    truth = {one.object_id: set(one.vertices.tolist()) for one in scan.objects}
    for one in arkitscenes.read_scan(release, VIDEO).objects:
        found = set(one.vertices.tolist())
        assert not found & set(floor.vertices.tolist())
        assert not found & set(wall.tolist())
        assert len(found & truth[one.object_id]) >= 0.9 * len(truth[one.object_id])
        assert len(found - truth[one.object_id]) <= 0.1 * len(found)


def slab(low: tuple[float, float, float], high: tuple[float, float, float]) -> tuple:
    """A box's surface, its vertices at most 5 cm apart."""
    return box_surface(np.array(low), np.array(high), 0.05)


def joined(*surfaces: tuple[np.ndarray, np.ndarray]) -> tuple[Mesh, list[np.ndarray]]:
    """One mesh, and the rows of each surface."""
    starts = np.cumsum([0, *(len(points) for points, _ in surfaces)])
    points = np.concatenate([points for points, _ in surfaces])
    faces = np.concatenate([own + at for (_, own), at in zip(surfaces, starts, strict=False)])
    mesh = Mesh(points.astype(np.float32), np.zeros((len(points), 3), np.uint8), faces)
    return mesh, [np.arange(a, b) for a, b in itertools.pairwise(starts)]


def box_entry(label: str, low: tuple, high: tuple) -> dict:
    low_corner, high_corner = np.array(low), np.array(high)
    aligned = {
        "centroid": ((low_corner + high_corner) / 2).tolist(),
        "axesLengths": (high_corner - low_corner).tolist(),
        "normalizedAxes": np.eye(3).ravel().tolist(),
    }
    return {"label": label, "segments": {"obbAligned": aligned}}


def test_a_thing_has_its_own_surface_and_not_the_one_it_lies_on(tmp_path: Path) -> None:
    # A sheet one centimetre thick lies on a desk and its top looks up, as the desk's does: the
    # desk goes on around it.
    desk, sheet, lamp = (
        ((0.0, 0.0, 0.0), (1.0, 1.0, 0.7)),
        ((0.3, 0.3, 0.7), (0.6, 0.5, 0.71)),
        ((0.7, 0.7, 0.7), (0.8, 0.8, 1.1)),
    )
    mesh, (on_desk, on_sheet, on_lamp) = joined(slab(*desk), slab(*sheet), slab(*lamp))
    path = tmp_path / "annotation.json"
    entries = [box_entry(f"thing {i}", *box) for i, box in enumerate((desk, sheet, lamp))]
    path.write_text(json.dumps({"data": entries, "skipped": False}))
    objects, skipped = arkit_annotation.read_objects(path, mesh, EYES)
    assert not skipped
    for one, own in zip(objects, (on_desk, on_sheet, on_lamp), strict=True):
        np.testing.assert_array_equal(one.vertices, own)


@pytest.mark.parametrize("flipped", [False, True])
def test_a_wall_is_not_of_the_picture_on_it_however_its_triangles_turn(
    tmp_path: Path, flipped: bool
) -> None:
    picture = ((0.5, 0.97, 1.0), (1.0, 1.0, 1.4))
    mesh, (_, on_picture) = joined(slab((-1, 1.0, 0), (3, 1.2, 2.5)), slab(*picture))
    if flipped:
        mesh = dataclasses.replace(mesh, faces=mesh.faces[:, ::-1])
    path = tmp_path / "annotation.json"
    path.write_text(json.dumps({"data": [box_entry("picture", *picture)]}))
    (only,), _ = arkit_annotation.read_objects(path, mesh, EYES)
    np.testing.assert_array_equal(only.vertices, on_picture)


@pytest.mark.parametrize("first", range(3))
def test_a_surface_goes_on_whichever_corner_its_triangle_begins_with(first: int) -> None:
    """A floor that leaves the box along one side of a triangle whose third corner is off it."""
    box = OrientedBox(np.array([0.0, 0.0, 0.5]), np.ones(3), np.eye(3))
    points = np.array([[0.4, 0.0, 0.0], [0.7, 0.0, 0.0], [0.6, 0.1, 0.3]])
    up, aside = [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]
    faces = np.roll([[0, 1, 2]], first, axis=1)
    found = arkit_annotation.vertices_in(box, points, np.array([up, up, aside]), faces)
    assert not len(found)


def test_what_two_boxes_hold_belongs_to_the_smaller(tmp_path: Path) -> None:
    table, chair = ((0.0, 0.0, 0.0), (2.0, 1.0, 0.75)), ((0.5, 0.5, 0.0), (0.9, 0.9, 0.6))
    mesh, (on_table, on_chair) = joined(slab((0, 0, 0.7), (2, 1, 0.75)), slab(*chair))
    path = tmp_path / "annotation.json"
    entries = [box_entry("table", *table), box_entry("chair", *chair)]
    path.write_text(json.dumps({"data": entries}))
    objects, _ = arkit_annotation.read_objects(path, mesh, EYES)
    np.testing.assert_array_equal(objects[0].vertices, on_table)
    np.testing.assert_array_equal(objects[1].vertices, on_chair)


def test_the_box_in_centimetres_is_written_and_never_read(raw: Path) -> None:
    entry = json.loads(annotation(raw).read_text())["data"][0]["segments"]
    obb, aligned = entry["obb"], entry["obbAligned"]
    np.testing.assert_allclose(np.divide(obb["axesLengths"], 100), aligned["axesLengths"])
    x, y, z = aligned["centroid"]
    np.testing.assert_allclose(np.divide(obb["centroid"], 100), [x, z, -y])
    edit_annotation(raw, lambda record: record["data"][0]["segments"].pop("obbAligned"))
    read = arkitscenes.read_scan(raw, VIDEO)
    assert read.objects[0].object_id == 2
    assert "object 1 " in read.skipped[0].what and "centimetres" in read.skipped[0].why


def test_axes_are_rows_and_a_left_handed_box_is_the_same_box(raw: Path) -> None:
    def change(record) -> None:
        aligned = record["data"][0]["segments"]["obbAligned"]
        aligned["centroid"], aligned["axesLengths"] = [0, 0, 0], [2, 1, 1]
        c, s = np.cos(0.5), np.sin(0.5)
        # The first row is the long axis, 0.5 rad counter-clockwise; the last one points down.
        aligned["normalizedAxes"] = [c, s, 0, -s, c, 0, 0, 0, -1]

    edit_annotation(raw, change)
    box = arkitscenes.read_scan(raw, VIDEO).objects[0].box
    assert box is not None
    np.testing.assert_allclose(box.rotation[:, 0], [np.cos(0.5), np.sin(0.5), 0])
    assert np.linalg.det(box.rotation) > 0
    farthest = box.corners()[np.argmax(box.corners() @ [1, 0.6, 0])]
    np.testing.assert_allclose(
        farthest[:2], [np.cos(0.5) - 0.5 * np.sin(0.5), np.sin(0.5) + 0.5 * np.cos(0.5)]
    )


BOX_FAULTS = {
    "NaN": ("centroid", [float("nan"), 0, 0], "3 finite numbers"),
    "too few numbers": ("normalizedAxes", [1, 0, 0], "9 finite numbers"),
    "text": ("axesLengths", "large", "3 finite numbers"),
    "negative": ("axesLengths", [1, -1, 1], "0 to 50 metres"),
    "centimetres": ("axesLengths", [200, 80, 75], "0 to 50 metres"),
    "skewed": ("normalizedAxes", [1, 0, 0, 1, 1, 0, 0, 0, 1], "orthonormal"),
}


@pytest.mark.parametrize("fault", BOX_FAULTS)
def test_an_unusable_box_leaves_one_object_out(raw: Path, fault: str) -> None:
    key, value, message = BOX_FAULTS[fault]
    edit_annotation(
        raw, lambda record: record["data"][1]["segments"]["obbAligned"].update({key: value})
    )
    read = arkitscenes.read_scan(raw, VIDEO)
    assert 2 not in [one.object_id for one in read.objects]
    assert message in read.skipped[0].why and str(annotation(raw)) in read.skipped[0].why


def test_an_entry_that_is_no_object_is_left_out(raw: Path) -> None:
    edit_annotation(raw, lambda record: record["data"].insert(0, ["chair"]))
    read = arkitscenes.read_scan(raw, VIDEO)
    assert read.objects[0].object_id == 2 and read.skipped[0].what == "object 1"


def test_boxes_none_of_which_can_be_used_are_refused(raw: Path) -> None:
    def damage(record: dict[str, Any]) -> None:
        for entry in record["data"]:
            del entry["segments"]["obbAligned"]

    edit_annotation(raw, damage)
    assert "expected objects that can be used, found none" in refusal(raw)
    edit_annotation(raw, lambda record: record.update(data=[]))
    assert arkitscenes.read_scan(raw, VIDEO).objects == ()


def test_one_uid_twice_is_refused(raw: Path) -> None:
    edit_annotation(raw, lambda record: record["data"].append(record["data"][1]))
    assert "one object for each uid" in refusal(raw)


def test_a_scan_that_its_annotators_skipped_is_refused(raw: Path) -> None:
    edit_annotation(raw, lambda record: record.update(skipped=True, comment="mirror"))
    assert "skipped this scan" in refusal(raw) and "mirror" in refusal(raw)


@pytest.mark.parametrize("name", [f"{VIDEO}_3dod_annotation.json", f"{VIDEO}_3dod_mesh.ply"])
def test_a_missing_file_is_named(raw: Path, name: str) -> None:
    (video_folder(raw) / name).unlink()
    assert name in refusal(raw) and "found none" in refusal(raw)


def test_a_missing_trajectory_is_named(raw: Path) -> None:
    trajectory(raw).unlink()
    assert "lowres_wide.traj: expected the poses" in refusal(raw)


def cut(path: Path, share: float = 0.6) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def test_a_truncated_annotation_is_refused(raw: Path) -> None:
    cut(annotation(raw))
    assert f"{annotation(raw)}: expected whole JSON" in refusal(raw)


def test_a_truncated_mesh_is_refused(raw: Path) -> None:
    cut(video_folder(raw) / f"{VIDEO}_3dod_mesh.ply")
    assert "mesh.ply" in refusal(raw) and "expected a whole PLY" in refusal(raw)


def test_a_truncated_trajectory_is_refused(raw: Path) -> None:
    path = trajectory(raw)
    path.write_text(path.read_text().rpartition(" ")[0])
    assert "lowres_wide.traj: line 24: expected 7 numbers" in refusal(raw)


@pytest.mark.parametrize("content", ["", "nan nan nan nan nan nan nan\n"])
def test_a_trajectory_without_a_pose_is_refused(raw: Path, content: str) -> None:
    trajectory(raw).write_text(content)
    assert "expected poses, found none that is finite" in refusal(raw)


def test_two_poses_of_one_time_are_refused(raw: Path) -> None:
    path = trajectory(raw)
    time, _, rest = path.read_text().partition(" ")
    path.write_text(f"{time} 0 0 0 0 0 0\n{time} {rest}")
    assert "one pose for each time" in refusal(raw)


@pytest.mark.parametrize("content", ["256 192 212", "", "256 192 212 212 nan 95.5", "\xff"])
def test_a_broken_camera_file_leaves_one_frame_out(raw: Path, content: str) -> None:
    path = a_file(raw, "lowres_wide_intrinsics")
    path.write_bytes(content.encode("latin-1"))
    read = arkitscenes.read_scan(raw, VIDEO)
    assert 3 not in [frame.frame_id for frame in read.frames]
    assert len(read.skipped) == 1 and str(path) in read.skipped[0].why


def test_no_usable_frame_is_refused_with_the_reasons(raw: Path) -> None:
    for path in (frames_folder(raw) / "lowres_wide_intrinsics").iterdir():
        path.unlink()
    message = refusal(raw)
    assert "all 24 frames are unusable" in message and "no intrinsics" in message
    shutil.rmtree(frames_folder(raw) / "lowres_depth")
    assert "expected a folder lowres_depth or depth_densified" in refusal(raw)


@pytest.mark.parametrize("kind", ["color", "depth"])
def test_a_truncated_image_is_an_error_of_its_frame_alone(raw: Path, kind: str) -> None:
    path = a_file(raw, "lowres_wide" if kind == "color" else "lowres_depth")
    cut(path)
    read = arkitscenes.read_scan(raw, VIDEO)
    with pytest.raises(ScanError, match=rf"{path.name}: expected an image"):
        getattr(read.images, kind)(read.frames[3])
    getattr(read.images, kind)(read.frames[4])


def test_an_image_that_claims_to_be_huge_is_an_error_of_its_frame_alone(raw: Path) -> None:
    path = a_file(raw, "lowres_wide")
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)
    read = arkitscenes.read_scan(raw, VIDEO)
    with pytest.raises(ScanError, match=rf"{path.name}: expected an image"):
        read.images.color(read.frames[3])
    read.images.color(read.frames[4])


def test_depth_of_eight_bits_is_refused(raw: Path) -> None:
    path = a_file(raw, "lowres_depth")
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(path)
    read = arkitscenes.read_scan(raw, VIDEO)
    with pytest.raises(ScanError, match="16 bits"):
        read.images.depth(read.frames[3])


def test_an_image_of_another_size_is_refused(raw: Path) -> None:
    path = a_file(raw, "lowres_depth")
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(path)
    read = arkitscenes.read_scan(raw, VIDEO)
    with pytest.raises(ScanError, match="expected 64x48 pixels"):
        read.images.depth(read.frames[3])


def test_two_pictures_of_one_millisecond_are_one_frame(raw: Path, scan: Scan) -> None:
    path = a_file(raw, "lowres_wide", 3)
    shutil.copyfile(path, path.with_name(f"{path.stem}1.png"))
    read = arkitscenes.read_scan(raw, VIDEO)
    assert len(read.frames) == len(scan.frames)
    assert "same time to the millisecond" in read.skipped[0].why


def test_a_picture_without_a_time_and_one_without_depth_are_left_out(raw: Path, scan: Scan) -> None:
    path = a_file(raw, "lowres_wide", 3)
    shutil.copyfile(path, path.with_name("photo.png"))
    lone = a_file(raw, "lowres_depth", 5)
    lone.unlink()
    read = arkitscenes.read_scan(raw, VIDEO)
    assert len(read.frames) == len(scan.frames) - 1
    assert {(Path(one.what).name, one.why) for one in read.skipped} == {
        ("photo.png", "its name does not end in a time in seconds"),
        (
            f"1 of {len(scan.frames)} colour images",
            f"no depth of the same time, the first is {lone.name}",
        ),
    }


def test_the_size_is_that_of_most_images(raw: Path, scan: Scan) -> None:
    path = a_file(raw, "lowres_depth", 0)
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(path)
    read = arkitscenes.read_scan(raw, VIDEO)
    assert len(read.frames) == len(scan.frames)
    with pytest.raises(ScanError, match="expected 64x48 pixels"):
        read.images.depth(read.frames[0])


def test_text_may_begin_with_a_mark_and_lines_be_there_twice(raw: Path) -> None:
    before = arkitscenes.read_scan(raw, VIDEO)
    lines = trajectory(raw).read_text().splitlines()
    trajectory(raw).write_text("\ufeff" + "\r\n".join([*lines, lines[2]]), encoding="utf-8")
    record = annotation(raw).read_text()
    annotation(raw).write_text("\ufeff" + record, encoding="utf-8")
    for path in raw.rglob("metadata.csv"):
        path.write_text("\ufeff" + path.read_text(), encoding="utf-8")
    after = arkitscenes.read_scan(raw, VIDEO)
    assert len(after.objects) == len(before.objects) and after.skipped == before.skipped
    for one, other in zip(before.frames, after.frames, strict=True):
        np.testing.assert_array_equal(one.mesh_from_camera, other.mesh_from_camera)


def test_a_table_may_have_blanks_after_its_commas(raw: Path) -> None:
    for path in raw.rglob("metadata.csv"):
        path.write_text(path.read_text().replace("Up", "Left").replace(",", ", ").rstrip())
    width, height = arkitscenes.read_scan(raw, VIDEO).frames[0].color_size
    assert height > width  # turned upright


def test_a_table_of_other_columns_is_refused(raw: Path) -> None:
    for path in raw.rglob("metadata.csv"):
        path.write_text(path.read_text().replace(",", ";"))
    assert "expected columns video_id and sky_direction" in refusal(raw)


def test_a_box_outside_the_mesh_is_left_out(raw: Path) -> None:
    def move(record) -> None:
        record["data"][0]["segments"]["obbAligned"]["centroid"] = [40.0, 40.0, 1.0]

    before = arkitscenes.read_scan(raw, VIDEO)
    edit_annotation(raw, move)
    after = arkitscenes.read_scan(raw, VIDEO)
    assert len(after.objects) == len(before.objects) - 1
    assert "metres outside it" in after.skipped[0].why


def test_files_that_a_file_browser_leaves_are_ignored(raw: Path, scan: Scan) -> None:
    (frames_folder(raw) / "lowres_wide" / "._x.png").write_bytes(b"")
    (frames_folder(raw) / "lowres_wide" / "Thumbs.db").write_bytes(b"")
    (raw / "3dod" / "Training" / ".DS_Store").write_bytes(b"")
    (raw / "3dod" / "Training" / "__MACOSX").mkdir()
    (raw / "3dod" / "Training" / "notes.txt").write_text("to do")
    assert arkitscenes.list_scans(raw) == (VIDEO,)
    assert len(arkitscenes.read_scan(raw, VIDEO).frames) == len(scan.frames)


def test_another_folder_is_not_a_download(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    with pytest.raises(ScanError, match=r"expected ARKitScenes scans such as .*found scans\."):
        arkitscenes.list_scans(tmp_path)
    with pytest.raises(ScanError, match="expected a folder of ARKitScenes scans, found none"):
        arkitscenes.list_scans(tmp_path / "nowhere")


def test_a_download_without_videos_is_refused(raw: Path) -> None:
    folder = raw / "3dod" / "Training"
    folder.rename(raw / "inner")
    folder.mkdir()
    (raw / "inner").rename(folder / "Training")
    with pytest.raises(ScanError, match=r"such as 3dod/Training/41048143/.*found 3dod\.$"):
        arkitscenes.list_scans(raw)


def test_an_unreadable_directory_is_named(raw: Path) -> None:
    folder = frames_folder(raw) / "lowres_depth"
    shutil.rmtree(folder)
    folder.write_bytes(b"")
    assert "lowres_depth" in refusal(raw)
    (tmp := raw / "3dod" / "Validation").write_bytes(b"")
    with pytest.raises(ScanError, match=f"{tmp}: expected a folder"):
        arkitscenes.list_scans(raw)


def test_an_unknown_video_or_source_is_refused(raw: Path) -> None:
    with pytest.raises(ScanError, match="'41048143', found none"):
        arkitscenes.read_scan(raw, "41048143")
    assert "expected a source of ARKitScenes" in refusal(raw, source="ultrawide")


def test_a_video_in_two_folds_is_refused(raw: Path) -> None:
    shutil.copytree(video_folder(raw), raw / "3dod" / "Validation" / VIDEO)
    assert "in one fold" in refusal(raw)


def test_an_unknown_sky_is_refused(raw: Path) -> None:
    path = raw / "3dod" / "metadata.csv"
    path.write_text(path.read_text().replace("Up", "North"))
    assert "expected a sky_direction of Up, Left, Down, Right, got 'North'" in refusal(raw)


def test_the_table_keeps_a_row_for_each_video(scan: Scan, tmp_path: Path) -> None:
    short = dataclasses.replace(scan, frames=scan.frames[:1])
    for source_id, split, sky in (
        ("1", "train", "Up"),
        ("2", "val", "Left"),
        ("1", "train", "Down"),
    ):
        one = dataclasses.replace(short, source_id=source_id, split=split)
        writer.write_scan(one, tmp_path, sky=sky)
    with (tmp_path / "3dod" / "metadata.csv").open() as file:
        rows = [
            (row["video_id"], row["fold"], row["sky_direction"]) for row in csv.DictReader(file)
        ]
    assert rows == [("00000002", "Validation", "Left"), ("00000001", "Training", "Down")]
    assert arkitscenes.read_scan(tmp_path, "00000002").split == "val"
    with pytest.raises(ValueError, match="one to eight digits"):
        writer.video_id(dataclasses.replace(scan, source_id="kitchen"))
