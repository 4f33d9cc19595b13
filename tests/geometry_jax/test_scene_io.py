"""Scene files: packs of another version, and poses that are missing or lost."""

from pathlib import Path

import numpy as np
import pytest

from geometry_jax import scene_io
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


@pytest.mark.parametrize("lost", ["missing", "not finite"])
def test_a_frame_without_a_usable_pose_is_marked(tmp_path: Path, lost: str) -> None:
    folder = scenes.write_layout(scenes.room(), tmp_path)
    pose = folder / "pose" / "20.txt"
    if lost == "missing":
        pose.unlink()
    else:
        pose.write_text("-inf -inf -inf -inf\n" * 4)
    scene = scene_io.load_scene(tmp_path, folder.name).scene
    assert np.flatnonzero(~np.asarray(scene.pose_valid)).tolist() == [2]
    assert np.isfinite(np.asarray(scene.world_from_camera)).all()
    assert np.isfinite(np.asarray(scene.heading)).all()


def test_turns_in_the_x_z_plane_are_summed_over_the_poses_that_are_there() -> None:
    def looking(x: float, z: float) -> np.ndarray:
        pose = np.eye(4)
        pose[:3, 2] = x, 0.0, z
        return pose

    poses = np.stack([looking(1, 0), np.full((4, 4), np.nan), looking(0, 1), looking(-1, 0)])
    turns = np.degrees(scene_io.path_turns_xz(poses))
    np.testing.assert_allclose(turns, [0.0, 0.0, 90.0, 180.0], atol=1e-9)
