"""Scene files: packs of another version, and poses that are missing or lost."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from geometry_jax import scene_io
from geometry_jax.types import Scene, leaf
from tests import scenes


def test_a_pack_of_another_version_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = scenes.room()
    folder = scenes.write_layout(record, tmp_path)
    pack = tmp_path / "metadata" / folder.name / f"{folder.name}.npz"
    with monkeypatch.context() as patch:
        patch.setattr(scene_io, "PACK_VERSION", 1)
        scene_io.save_packed(record, pack)
    with pytest.raises(ValueError, match=r"version 2, got 1\. Prepare the scene again, or delete"):
        scene_io.load_scene(tmp_path, folder.name)
    pack.unlink()
    loaded = scene_io.load_scene(tmp_path, folder.name)
    assert loaded.labels == record.labels
    np.testing.assert_allclose(loaded.scene.obb_center, record.scene.obb_center)


def a_pack(root: Path) -> tuple[Path, Path]:
    """A packed scene, and its folder."""
    record = scenes.room()
    points = np.random.default_rng(0).normal(size=(len(record.object_ids), 5, 3))
    pack = root / "scene.npz"
    scene_io.save_packed(scene_io.with_points(record, list(points)), pack)
    return pack, root / record.scene_id


def test_a_pack_holds_what_numpy_reads_from_it(tmp_path: Path) -> None:
    pack, folder = a_pack(tmp_path)
    record = scene_io.load_packed(pack, folder)
    with np.load(pack) as arrays:
        for field in dataclasses.fields(Scene):
            ours, theirs = getattr(record.scene, field.name), arrays[field.name]
            assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
            np.testing.assert_array_equal(ours, theirs)
            assert ours.flags.writeable and ours.flags.c_contiguous
        assert record.frame_ids == tuple(arrays["frame_ids"].tolist())
        assert record.object_ids == tuple(arrays["object_ids"].tolist())


def test_a_pack_is_held_to_the_distance_at_which_millimetres_count(tmp_path: Path) -> None:
    """Packs may be older than the limit."""
    record, pack = scenes.room(), tmp_path / "scene.npz"
    scene, folder = record.scene, tmp_path / record.scene_id
    far = np.asarray(scene.obb_center) + np.array([0, 6_000, 0], np.float32)
    moved = dataclasses.replace(scene, obb_center=leaf(far))
    scene_io.save_packed(dataclasses.replace(record, scene=moved), pack)
    with pytest.raises(ValueError, match="obb_center: expected metres within 5,000 of the origin"):
        scene_io.load_packed(pack, folder)
    poses = np.array(scene.world_from_camera)
    poses[1, 0, 3] = 6_000.0
    lost = dataclasses.replace(scene, world_from_camera=leaf(poses))
    scene_io.save_packed(dataclasses.replace(record, scene=lost), pack)
    valid = np.asarray(scene_io.load_packed(pack, folder).scene.pose_valid)
    np.testing.assert_array_equal(valid, np.arange(len(poses)) != 1)


def test_columns_first_comes_out_as_it_was(tmp_path: Path) -> None:
    pack, folder = a_pack(tmp_path)
    with np.load(pack) as arrays:
        turned = {name: np.array(array, order="F") for name, array in arrays.items()}
    assert not turned["points"].flags.c_contiguous
    np.savez(pack, allow_pickle=True, **turned)
    record = scene_io.load_packed(pack, folder)
    np.testing.assert_array_equal(record.scene.points, turned["points"])


def test_no_damaged_byte_of_a_pack_goes_unnoticed(tmp_path: Path) -> None:
    """Cut short anywhere, or one byte of an array changed, it is refused by name."""
    pack, folder = a_pack(tmp_path)
    whole = pack.read_bytes()
    point = whole.index(np.load(pack)["points"].tobytes()) + 7
    damaged = [whole[:length] for length in np.linspace(0, len(whole) - 1, 40).astype(int)]
    damaged += [whole[:point] + bytes([whole[point] ^ 1]) + whole[point + 1 :]]
    for content in damaged:
        pack.write_bytes(content)
        with pytest.raises(ValueError, match=r"scene\.npz: expected a packed scene"):
            scene_io.load_packed(pack, folder)


def test_a_pack_with_python_objects_is_refused(tmp_path: Path) -> None:
    pack, folder = a_pack(tmp_path)
    with np.load(pack) as arrays:
        replaced = dict(arrays) | {"labels": np.array([{}], object)}
        np.savez(pack, allow_pickle=True, **replaced)
    with pytest.raises(ValueError, match="expected a packed scene"):
        scene_io.load_packed(pack, folder)


def test_an_image_whose_size_is_asked_and_that_has_none_is_named(tmp_path: Path) -> None:
    """As all errors of a scene it is a ValueError, by which one of a thousand is left out."""
    folder = scenes.write_layout(scenes.room(), tmp_path)
    file = tmp_path / "metadata" / folder.name / "frame_processed" / "20.json"
    frame = json.loads(file.read_text(encoding="utf-8"))
    del frame["image_size"]
    file.write_text(json.dumps(frame), encoding="utf-8")
    for pack in file.parent.parent.glob("*.npz"):
        pack.unlink()
    assert len(scene_io.load_scene(tmp_path, folder.name).frame_ids)
    (folder / "frame_processed" / "20.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"20\.jpg: expected an image, but it does not decode"):
        scene_io.load_scene(tmp_path, folder.name)


@pytest.mark.parametrize("lost", ["missing", "not finite", "far away"])
def test_a_frame_without_a_usable_pose_is_marked(tmp_path: Path, lost: str) -> None:
    folder = scenes.write_layout(scenes.room(), tmp_path)
    pose = folder / "pose" / "20.txt"
    if lost == "missing":
        pose.unlink()
    elif lost == "not finite":
        pose.write_text("-inf -inf -inf -inf\n" * 4)
    else:
        pose.write_text("1 0 0 1e6\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    scene = scene_io.load_scene(tmp_path, folder.name).scene
    assert np.flatnonzero(~np.asarray(scene.pose_valid)).tolist() == [2]
    assert np.isfinite(np.asarray(scene.world_from_camera)).all()
    assert np.isfinite(np.asarray(scene.heading)).all()


HUGE = "1e200 1e200 0 0\n1e200 -1e200 0 0\n0 0 1 0\n0 0 0 1\n"  # its products are inf - inf
MIRRORED = "1 0 0 0\n0 1 0 0\n0 0 -1 0\n0 0 0 1\n"
OFF_BY_A_LITTLE = "1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0.001 1\n"  # in the row that nobody measures
A_TRACKER_S = "1.004 0 0 0\n0 0.997 0.001 0\n0 0 1 0\n0 0 0 1\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (HUGE, "expected a rotation in the upper left 3x3 block, got [[1e+200, "),
        (MIRRORED, "expected a rotation in the upper left 3x3 block, got [[1.0, "),
        (OFF_BY_A_LITTLE, "expected a last row of 0 0 0 1, got [0.    0.    0.001 1.   ]."),
        (A_TRACKER_S, ""),
    ],
)
def test_poses_and_alignments_are_rigid_by_one_measure(
    tmp_path: Path, text: str, fault: str
) -> None:
    pose, alignment = tmp_path / "0.txt", tmp_path / "scene.txt"
    pose.write_text(text)
    alignment.write_text(f"axisAlignment = {' '.join(text.split())}\n")
    if not fault:
        np.testing.assert_array_equal(scene_io.read_pose(pose), scene_io.read_alignment(alignment))
        return
    with pytest.raises(ValueError, match=re.escape(f"{pose}: {fault}")):
        scene_io.read_pose(pose)
    with pytest.raises(ValueError, match=re.escape(f"{alignment}: axisAlignment: {fault}")):
        scene_io.read_alignment(alignment)


def test_turns_in_the_x_z_plane_are_summed_over_the_poses_that_are_there() -> None:
    def looking(x: float, z: float) -> np.ndarray:
        pose = np.eye(4)
        pose[:3, 2] = x, 0.0, z
        return pose

    poses = np.stack([looking(1, 0), np.full((4, 4), np.nan), looking(0, 1), looking(-1, 0)])
    turns = np.degrees(scene_io.path_turns_xz(poses))
    np.testing.assert_allclose(turns, [0.0, 0.0, 90.0, 180.0], atol=1e-9)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder, record: record["objects"][0].update(size={"width": 10**400}), ""),
        (
            lambda folder, record: record["objects"][0].update(
                obb={"center": [0, 0, 1], "extent": [1, -2, 1], "yaw": 0}
            ),
            "expected full sides",
        ),
        (
            lambda folder, record: record["objects"][0].update(
                {"3d_bbox": [4.5e5, 5.4e6, 0, 4.5e5 + 1, 5.4e6 + 1, 1]}
            ),
            r"3d_bbox: expected metres within 5,000 of the origin, got \[450000",
        ),
        (
            lambda folder, record: (folder / f"{folder.name}.txt").write_text(
                "axisAlignment = 2 0 0 0 0 2 0 0 0 0 2 0 0 0 0 1\n"
            ),
            "expected a rotation in the upper left",
        ),
    ],
)
def test_numbers_that_no_room_can_have_are_refused(
    tmp_path: Path, damage: Callable[[Path, dict[str, Any]], object], message: str
) -> None:
    folder = scenes.write_layout(scenes.room(), tmp_path)
    path = tmp_path / "metadata" / folder.name / f"{folder.name}.json"
    record = json.loads(path.read_text())
    damage(folder, record)
    path.write_text(json.dumps(record))
    if message:
        with pytest.raises(ValueError, match=message):
            scene_io.load_scene(tmp_path, folder.name)
    else:  # a size that nobody can use is none
        loaded = scene_io.load_scene(tmp_path, folder.name)
        assert np.isnan(np.asarray(loaded.scene.stored_size)[0])


def test_upright_scenes_are_stacked_beside_tilted_ones() -> None:
    upright = scenes.room().scene
    tilted = scene_io.stack_scenes([upright]).obb_rotation.shape
    assert tilted == (1, 0, 3, 3)
    turned = Rotation.from_euler("xyz", [10, 5, 30], degrees=True).as_matrix().astype(np.float32)
    rotations = jnp.asarray(np.tile(turned, (len(upright.obb_yaw), 1, 1)))
    other = dataclasses.replace(upright, obb_rotation=rotations)
    stacked = np.asarray(scene_io.stack_scenes([upright, other]).obb_rotation)
    for found, yaw in zip(stacked[0], np.asarray(upright.obb_yaw), strict=True):
        np.testing.assert_allclose(found, scenes.yaw_matrix(yaw), atol=1e-6)
    np.testing.assert_array_equal(stacked[1], rotations)
