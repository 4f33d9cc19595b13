"""The published layout on disk: the files, their numbers, and what a killed run leaves."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plyfile import PlyData

from data_pipelines import rooms, unified
from geometry_jax import scene_io
from geometry_jax.types import Scene
from tests.data_pipelines.conftest import FRAMES, HEIGHT, WIDTH

NAME = "scene0000_00"


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones included."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_layout_is_as_published(root: Path) -> None:
    ids = [str(4 * frame) for frame in range(FRAMES)]
    expected = {f"{sub}/{i}.jpg" for sub in ("color", "frame_processed") for i in ids}
    expected |= {f"depth/{i}.png" for i in ids} | {f"pose/{i}.txt" for i in range(4 * FRAMES)}
    expected |= {
        f"{kind}_{of}.txt" for kind in ("intrinsic", "extrinsic") for of in ("color", "depth")
    }
    expected |= {
        f"{NAME}_vh_clean{suffix}" for suffix in (".ply", ".segs.json", ".aggregation.json")
    }
    assert set(files(root / "train" / NAME)) == expected | {f"{NAME}.txt", "processed"}
    metadata = {f"frame_processed/{i}.json" for i in ids} | {f"{NAME}.json", f"{NAME}.npz"}
    assert set(files(root / "metadata" / NAME)) == metadata


def test_scene_json_has_the_published_keys(root: Path) -> None:
    scene = json.loads((root / "metadata" / NAME / f"{NAME}.json").read_text())
    assert list(scene) == ["scene_id", "room_size", "floor_polygon", "objects"]
    for index, one in enumerate(scene["objects"]):
        published = {"object_id", "label", "size", "3d_bbox", "3d_location", "first_frame"}
        assert set(one) == published | {"obb"}
        assert one["object_id"] == index + 1
        low, high = np.array(one["3d_bbox"][:3]), np.array(one["3d_bbox"][3:])
        assert one["size"] == pytest.approx(100 * (high - low).max(), abs=1e-3)
        np.testing.assert_allclose(one["3d_location"], (low + high) / 2, atol=2e-6)
        assert (root / "train" / NAME / "frame_processed" / one["first_frame"]).is_file()
    x, y = np.array(scene["floor_polygon"]).T
    area = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    assert scene["room_size"] == pytest.approx(area, abs=1e-4)


def test_frame_json_has_the_published_keys(root: Path) -> None:
    frame = json.loads((root / "metadata" / NAME / "frame_processed" / "4.json").read_text())
    assert (frame["scene_id"], frame["frame_id"]) == (NAME, "4.jpg")
    assert frame["image_size"] == [WIDTH, HEIGHT]
    published = {"object_id", "label", "size", "visibility", "truncated", "occluded"}
    published |= {"2d_bbox", "camera_location", "3d_bbox", "3d_location"}
    assert frame["objects"]
    for one in frame["objects"]:
        assert set(one) == published
        assert isinstance(one["truncated"], bool) and isinstance(one["occluded"], bool)
        assert all(isinstance(x, int) for x in one["2d_bbox"])


def test_depth_is_stored_in_millimetres(root: Path, made: tuple[rooms.Room, ...]) -> None:
    with Image.open(root / "train" / NAME / "depth" / "8.png") as image:
        stored = np.asarray(image)
    assert stored.dtype == np.uint16
    assert np.abs(stored / 1000 - made[0].rendering.depth[2]).max() <= 0.0005 + 1e-6


def test_pictures_survive_their_compression(root: Path, made: tuple[rooms.Room, ...]) -> None:
    folder = root / "train" / NAME
    with Image.open(folder / "color" / "8.jpg") as image:
        stored = np.asarray(image).astype(int)
    assert np.abs(stored - made[0].rendering.color[2]).mean() < 4
    frame = folder / "frame_processed" / "8.jpg"
    assert frame.read_bytes() == (folder / "color" / "8.jpg").read_bytes()


def test_vertices_agree_with_boxes(root: Path) -> None:
    for number in range(3):
        name = f"scene{number:04d}_00"
        stem = root / "train" / name / f"{name}_vh_clean"
        vertex = PlyData.read(f"{stem}.ply")["vertex"].data
        points = np.column_stack([vertex[axis] for axis in ("x", "y", "z")])
        assert {"red", "green", "blue"} <= set(vertex.dtype.names)
        segments = np.array(json.loads(Path(f"{stem}.segs.json").read_text())["segIndices"])
        assert len(segments) == len(points)
        groups = json.loads(Path(f"{stem}.aggregation.json").read_text())["segGroups"]
        scene = json.loads((root / "metadata" / name / f"{name}.json").read_text())
        furniture = [group for group in groups if group["label"] not in ("floor", "wall")]
        for group, one in zip(furniture, scene["objects"], strict=True):
            own = points[np.isin(segments, group["segments"])]
            assert group["label"] == one["label"]
            box = np.concatenate([own.min(0), own.max(0)])
            np.testing.assert_allclose(box, one["3d_bbox"], atol=0.005)
        (floor,) = [group for group in groups if group["label"] == "floor"]
        assert np.abs(points[np.isin(segments, floor["segments"])][:, 2]).max() == 0


def test_packed_file_equals_the_json_files(root: Path) -> None:
    packed = scene_io.load_scene(root, NAME)
    parsed = scene_io.load_scene(root, NAME, packed=False)
    assert (packed.labels, packed.object_ids, packed.frame_ids, packed.image_paths) == (
        parsed.labels,
        parsed.object_ids,
        parsed.frame_ids,
        parsed.image_paths,
    )
    for name in Scene.__dataclass_fields__:
        if name not in ("points", "point_valid"):
            np.testing.assert_array_equal(
                getattr(packed.scene, name), getattr(parsed.scene, name), err_msg=name
            )
    assert packed.scene.point_valid.shape[1] > 0


def test_what_is_read_is_what_was_made(root: Path, made: tuple[rooms.Room, ...]) -> None:
    room, scene = made[0], scene_io.load_scene(root, NAME).scene
    kept = room.views.path[room.views.kept]
    np.testing.assert_allclose(scene.world_from_camera, kept, atol=1e-6)
    for index, placed in enumerate(room.objects):
        center, extent, yaw = placed.obb()
        np.testing.assert_allclose(scene.obb_center[index], center, atol=1e-5)
        np.testing.assert_allclose(scene.obb_extent[index], extent, atol=1e-5)
        assert float(scene.obb_yaw[index]) == pytest.approx(yaw, abs=1e-6)
    share = rooms.visibility(room.rendering)[:, : len(room.objects)]
    np.testing.assert_allclose(scene.visibility, np.minimum(share, 1), atol=1e-4)


def test_leftovers_of_a_killed_run_are_replaced(
    root: Path, sources: tuple[unified.SceneSource, ...], tmp_path: Path
) -> None:
    # Killed between the two renames: a folder, half of its metadata.
    shutil.copytree(root / "train" / NAME, tmp_path / "train" / NAME)
    (tmp_path / "train" / NAME / "color" / "0.jpg").write_bytes(b"half")
    part = tmp_path / "metadata" / f".{NAME}.part"
    part.mkdir(parents=True)
    (part / "rubbish.json").write_text("{")
    assert not unified.is_complete(tmp_path, "train", NAME)
    assert scene_io.list_scenes(tmp_path, "train") == ()
    unified.write_scene(tmp_path, "train", sources[0])
    assert unified.is_complete(tmp_path, "train", NAME)
    assert files(tmp_path / "train") == {
        key: value for key, value in files(root / "train").items() if key.startswith(NAME)
    }
    assert not list(tmp_path.rglob("*.part"))


def test_failure_while_writing_leaves_no_scene(
    sources: tuple[unified.SceneSource, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "frame.json")

    monkeypatch.setattr(unified, "_write_metadata", full)
    with pytest.raises(OSError, match="No space left"):
        unified.write_scene(tmp_path, "train", sources[0])
    assert not unified.is_complete(tmp_path, "train", NAME)
    assert scene_io.list_scenes(tmp_path, "train") == ()
