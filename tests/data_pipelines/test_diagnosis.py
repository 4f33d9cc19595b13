"""The doctor: no findings on good scenes, and on spoiled ones exactly the fault that was made."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_pipelines import diagnosis, meshes, reprojection, rooms, scene_files, unified
from data_pipelines.findings import CURES, Finding
from data_pipelines.reprojection import Evidence, Frame
from data_pipelines.scan import Mesh
from tests.data_pipelines import scene_faults
from tests.data_pipelines.conftest import HEIGHT, WIDTH
from tests.data_pipelines.scene_faults import ALIGNMENT, FAULTS, GEOMETRIC, SceneDisk

ROOMS = 10  # random ones, beside the three of the fixture
NAMES = [f"scene{number:04d}_00" for number in range(3)]


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random rooms, half of them with mesh and poses in a frame of their own."""
    root = tmp_path_factory.mktemp("more")
    view = float(np.deg2rad(85.0))
    for number in range(ROOMS):
        seed = (23, number)
        room = rooms.make_room(seed, frames=6, width=WIDTH, height=HEIGHT, field_of_view=view)
        name = f"scene{number:04d}_00"
        unified.write_scene(root, "train", rooms.scene_source(room, name, seed))
        if number % 2:
            scene_faults.as_scanned(SceneDisk(root / "train" / name, root / "metadata" / name))
    return root


def copied(root: Path, name: str, target: Path) -> SceneDisk:
    for part in ("train", "metadata"):
        shutil.copytree(root / part / name, target / part / name)
    return SceneDisk(target / "train" / name, target / "metadata" / name)


def findings(scene: SceneDisk) -> tuple[Finding, ...]:
    return diagnosis.diagnose(scene.folder.parent.parent, "train", scene.name).findings


def codes(scene: SceneDisk) -> set[str]:
    return {one.code for one in findings(scene)}


# --- good scenes ---------------------------------------------------------------------------------


def test_good_scenes_have_no_findings(root: Path, more: Path) -> None:
    for folder in (root, more):
        for split, name in diagnosis.list_folders(folder):
            assert diagnosis.diagnose(folder, split, name).findings == ()


def test_a_sensors_noise_is_no_fault(more: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def measured(depth: np.ndarray) -> np.ndarray:
        z = depth / 1000
        noisy = np.rint(1000 * (z + rng.normal(0, 1, z.shape) * (0.0015 + 0.002 * z**2)))
        holes = np.kron(rng.random((HEIGHT // 5, WIDTH // 5)) < 0.25, np.ones((5, 5), bool))
        return np.where(holes, 0, noisy).astype(np.uint16)

    def tracked(pose: np.ndarray) -> np.ndarray:
        return pose @ scene_faults.level(rng.normal(0, 0.008), *rng.normal(0, 0.01, 3))

    for number in range(3):
        scene = copied(more, f"scene{number:04d}_00", tmp_path)
        scene_faults.change_images(scene.folder / "depth", measured)
        scene_faults.change_poses(scene, tracked)
        mesh = meshes.read_mesh(scene.mesh)
        points = mesh.points + rng.normal(0, 0.01, mesh.points.shape).astype(np.float32)
        meshes.write_mesh(scene.mesh, Mesh(points, mesh.colors, mesh.faces))
        assert findings(scene) == ()


def test_scenes_by_others_need_no_packed_file_nor_boxes_that_turn(
    root: Path, tmp_path: Path
) -> None:
    scene = copied(root, NAMES[0], tmp_path)
    scene.drop_pack()

    def published(record: dict) -> dict:
        for one in record["objects"]:
            del one["obb"]
        del record["floor_polygon"]
        return record

    scene_faults.change_json(scene.record, published)
    for path in (scene.metadata / "frame_processed").iterdir():
        scene_faults.change_json(path, lambda frame: frame | {"image_size": [WIDTH, HEIGHT]})
    # Every frame with intrinsics of its own, and neither segments nor groups.
    (scene.folder / "intrinsic").mkdir()
    for number in scene.selected():
        shutil.copyfile(
            scene.folder / "intrinsic_color.txt", scene.folder / "intrinsic" / f"{number}.txt"
        )
    for kind in ("segs", "aggregation"):
        (scene.folder / f"{scene.name}_vh_clean.{kind}.json").unlink()
    assert findings(scene) == ()
    scene_faults.write_alignment(scene, ALIGNMENT)
    assert codes(scene) == {"alignment_twice"}


def test_lost_poses_between_the_pictures_are_no_fault(root: Path, tmp_path: Path) -> None:
    scene = copied(root, NAMES[0], tmp_path)
    scene.drop_pack()
    number = scene.selected()[0] + 1
    np.savetxt(scene.folder / "pose" / f"{number}.txt", np.full((4, 4), -np.inf))
    assert findings(scene) == ()


# --- every fault ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_and_nothing_else(name: str, root: Path, tmp_path: Path) -> None:
    spoil, code = FAULTS[name]
    scene = copied(root, NAMES[list(FAULTS).index(name) % 3], tmp_path)
    spoil(scene)
    assert codes(scene) == {code}


def test_any_fault_is_named_in_any_room(more: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    names = list(GEOMETRIC)
    for turn in range(24):
        name = names[rng.integers(len(names))]
        spoil, code = GEOMETRIC[name]
        room = f"scene{rng.integers(ROOMS):04d}_00"
        scene = copied(more, room, tmp_path / str(turn))
        spoil(scene)
        assert codes(scene) == {code}, (name, room)


@pytest.mark.parametrize("name", ["inverted", "opengl", "turned_180", "cameras_turned_90"])
def test_a_fault_of_one_frame_names_the_frame(name: str, root: Path, tmp_path: Path) -> None:
    scene = copied(root, NAMES[1], tmp_path)
    spoiled = copied(root, NAMES[1], tmp_path / "spoiled")
    spoil, code = GEOMETRIC[name]
    spoil(spoiled)
    scene.drop_pack()
    number = scene.selected()[2]
    for part in (f"pose/{number}.txt", f"depth/{number}.png", f"frame_processed/{number}.jpg"):
        shutil.copyfile(spoiled.folder / part, scene.folder / part)
    (found,) = findings(scene)
    assert (found.code, found.where) == (code, f"frame {number}")


@pytest.mark.parametrize("groups", [True, False])
def test_records_made_from_wrong_poses_are_no_second_fault(
    groups: bool, root: Path, tmp_path: Path
) -> None:
    scene = copied(root, NAMES[0], tmp_path)
    right = {n: np.loadtxt(scene.folder / "pose" / f"{n}.txt") for n in scene.selected()}
    scene_faults.nerfstudio(scene)
    for number, pose in right.items():
        wrong = np.loadtxt(scene.folder / "pose" / f"{number}.txt")
        matrix = np.linalg.inv(wrong) @ pose

        def change(record: dict, matrix: np.ndarray = matrix) -> dict:
            for one in record["objects"]:
                one["camera_location"] = (matrix @ [*one["camera_location"], 1])[:3].tolist()
            return record

        path = scene.metadata / "frame_processed" / f"{number}.json"
        scene_faults.change_json(path, change)
    if not groups:
        for kind in ("segs", "aggregation"):
            (scene.folder / f"{scene.name}_vh_clean.{kind}.json").unlink()
    assert codes(scene) == {"nerfstudio_pose"}


def test_a_pose_that_is_simply_wrong_is_a_disagreement(root: Path, tmp_path: Path) -> None:
    scene = copied(root, NAMES[0], tmp_path)
    scene.drop_pack()
    path = scene.folder / "pose" / f"{scene.selected()[1]}.txt"
    moved = np.loadtxt(path) @ scene_faults.level(0.3, 0.6, -0.2, 0.4)
    np.savetxt(path, moved, fmt="%.8f")
    (found,) = findings(scene)
    assert (found.code, found.where) == ("disagreement", f"frame {scene.selected()[1]}")


@pytest.mark.parametrize("name", ["one_pose_moved", "depth_of_the_next", "poses_shifted"])
def test_frames_off_their_place_are_named(name: str, root: Path, tmp_path: Path) -> None:
    for room in NAMES:
        scene = copied(root, room, tmp_path)
        GEOMETRIC[name][0](scene)
        (found,) = findings(scene)
        one = f"frame {scene.selected()[2]}"
        assert found.where == (one if name == "one_pose_moved" else "all frames")


def test_without_depth_nothing_is_said_of_small_motions(root: Path, tmp_path: Path) -> None:
    scene = copied(root, NAMES[0], tmp_path)
    GEOMETRIC["poses_shifted"][0](scene)
    shutil.rmtree(scene.folder / "depth")
    (found,) = findings(scene)
    assert (found.code, found.where) == ("missing_file", "depth/")


def test_a_single_strange_picture_is_no_finding(root: Path, tmp_path: Path) -> None:
    scene = copied(root, NAMES[0], tmp_path)
    first, *_, last = (scene.folder / "frame_processed" / f"{n}.jpg" for n in scene.selected())
    shutil.copyfile(last, first)
    assert findings(scene) == ()


# --- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("metres", "depth is stored in metres, not millimetres"),
        ("centimetres", "depth is stored in centimetres"),
        ("quarter_millimetres", "depth is stored in 1/4000 of a metre"),
        ("inches_taken_for_cm", "if depth were divided by 0.39"),
        ("turned_90", "width and height swapped"),
        ("turned_180", "turned by 180 degrees"),
        ("inverted", "the poses are world-to-camera"),
        ("poses_raised", "if the camera were moved by 0.40 m and turned by 0."),
        ("depth_of_the_next", "if the pose were that of frame "),
        ("pictures_of_the_next", "shows them only from the pose of frame "),
        ("images_halved", "40x30 pixels, got 40.0, 30.0: intrinsics of images 2 times as large"),
    ],
)
def test_findings_say_what_is_wrong(name: str, said: str, root: Path, tmp_path: Path) -> None:
    scene = copied(root, NAMES[0], tmp_path)
    GEOMETRIC[name][0](scene)
    (found,) = findings(scene)
    assert said in found.what


@pytest.mark.parametrize("name", ["alignment_forgotten", "alignment_squared"])
def test_a_missing_alignment_is_worked_out(name: str, root: Path, tmp_path: Path) -> None:
    scene = copied(root, NAMES[2], tmp_path)
    GEOMETRIC[name][0](scene)
    (found,) = findings(scene)
    line = found.what.rpartition("axisAlignment = ")[2]
    matrix = np.array([float(x) for x in line.split()]).reshape(4, 4)
    np.testing.assert_allclose(matrix, ALIGNMENT, atol=0.01)
    scene_faults.write_alignment(scene, matrix)
    assert findings(scene) == ()


def test_mending_as_said_mends(root: Path, tmp_path: Path) -> None:
    scene = copied(root, NAMES[0], tmp_path)
    scene_faults.inverted(scene)
    scene_faults.change_poses(scene, np.linalg.inv)
    scene_faults.depth_times(0.25)(scene)
    assert codes(scene) == {"depth_unit"}
    scene_faults.depth_times(4)(scene)
    assert findings(scene) == ()


def test_every_code_has_a_cure_and_a_line_in_the_docs(repository: Path) -> None:
    text = (repository / "docs" / "doctor.md").read_text(encoding="utf-8")
    assert {code for _, code in FAULTS.values()} | {"disagreement"} == set(CURES)
    assert all(f"| `{code}` |" in text for code in CURES)


# --- folders -------------------------------------------------------------------------------------


def test_half_a_scene_is_listed_and_named(root: Path, tmp_path: Path) -> None:
    one = copied(root, NAMES[0], tmp_path)
    other = copied(root, NAMES[1], tmp_path)
    shutil.rmtree(one.folder)
    shutil.rmtree(other.metadata)
    (tmp_path / "train" / f".{NAMES[2]}.part").mkdir()
    assert diagnosis.list_folders(tmp_path) == (("", NAMES[0]), ("train", NAMES[1]))
    (found,) = diagnosis.diagnose(tmp_path, "", NAMES[0]).findings
    assert found.code == "missing_file"
    (found,) = findings(other)
    assert (found.code, found.where) == ("missing_file", f"{NAMES[1]}.json")


def test_an_empty_folder_lacks_everything(tmp_path: Path) -> None:
    (tmp_path / "train" / NAMES[0]).mkdir(parents=True)
    (found,) = diagnosis.diagnose(tmp_path, "train", NAMES[0]).findings
    assert found.code == "missing_file" and "pose/" in found.where and ".ply" in found.where


def test_a_file_that_may_not_be_read_is_a_finding(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/scenes/depth/4.png")

    monkeypatch.setattr(scene_files, "check_images", refused)
    (found,) = diagnosis.diagnose(root, "train", NAMES[0]).findings
    assert (found.code, found.where) == ("damaged_file", "4.png")
    assert "Permission denied" in found.what


def test_no_damage_stops_the_doctor(root: Path, tmp_path: Path) -> None:
    """Bytes of random files are overwritten, cut away, or replaced by other JSON."""
    rng = np.random.default_rng(8)
    values = [None, [], {}, "x", -1, [[]], {"objects": [None]}, {"objects": [{"3d_bbox": 3}]}]
    for turn in range(40):
        scene = copied(root, NAMES[turn % 3], tmp_path / str(turn))
        paths = sorted(
            path for part in (scene.folder, scene.metadata) for path in part.rglob("*.*")
        )
        path = paths[rng.integers(len(paths))]
        content = bytearray(path.read_bytes())
        kind = rng.integers(3)
        if kind == 0 and path.suffix == ".json":
            content = bytearray(json.dumps(values[rng.integers(len(values))]).encode())
        elif kind == 1 and content:
            content = content[: rng.integers(len(content))]
        elif content:
            start = rng.integers(len(content))
            content[start : start + 30] = rng.bytes(int(min(30, len(content) - start)))
        path.write_bytes(content)
        findings(scene)


# --- the witnesses, by hand ----------------------------------------------------------------------


def wall(depth: np.ndarray, pose: np.ndarray | None = None) -> Evidence:
    """A wall two metres ahead of a camera of 20x20 pixels, and 100 vertices on it."""
    y, x = (np.mgrid[:10, :10].reshape(2, -1) + 0.5) / 5 - 1
    points = np.column_stack([x, y, np.full(100, 2.0)])
    intrinsics = np.array([[20.0, 0, 10], [0, 20, 10], [0, 0, 1]])
    frame = Frame(0, np.eye(4) if pose is None else pose, intrinsics, intrinsics, None, depth)
    grey = np.full((100, 3), 128, np.uint8)
    return Evidence((frame,), np.eye(4), points, grey, (), (), (), {})


def test_vertices_are_counted_on_before_and_behind_the_depth() -> None:
    depth = np.full((20, 20), 2.05, np.float32)
    depth[:, :4] = 3.0  # measured behind the wall: the vertices hang before it
    depth[:6, 4:] = 1.0  # something nearer hides them
    depth[18:] = 0.0
    counts = reprojection.depth_counts(wall(depth), 0, np.eye(4))
    assert counts.tolist() == [8 * 6, 2 * 9, 8 * 3]
    expected = 48 / (48 + 18 + reprojection.BEHIND_WEIGHT * 24)
    assert reprojection.depth_score(counts) == pytest.approx(expected)


def test_too_few_vertices_say_nothing() -> None:
    away = np.diag([-1.0, 1, -1, 1])  # the camera looks the other way
    counts = reprojection.depth_counts(wall(np.full((20, 20), 2, np.float32)), 0, away)
    assert counts.sum() == 0 and np.isnan(reprojection.depth_score(counts))


def test_factor_of_depth_is_that_of_most_vertices() -> None:
    depth = np.full((20, 20), 2 / 3.7, np.float32)
    depth[:5] = 1.5
    factor = reprojection.depth_factor(wall(depth), [0])
    assert factor == pytest.approx(3.7, rel=0.02)


def test_frames_of_a_message_are_the_first_few() -> None:
    assert scene_files.shown([5, 1]) == "1, 5"
    assert scene_files.shown(range(9)) == "0, 1, 2, 3, 4, 5 and 3 more"


def test_two_poses_that_were_swapped_are_found(more: Path, tmp_path: Path) -> None:
    for number in range(3):
        scene = copied(more, f"scene{number:04d}_00", tmp_path)
        scene_faults.poses_swapped(scene)
        assert codes(scene) == {"other_frame"}


@pytest.mark.parametrize("value", [5, "x", [[1]], {"a": 1}, [10**400], [None] * 6, None])
@pytest.mark.parametrize("name", ["object_id", "3d_bbox", "obb", "2d_bbox", "visibility", "label"])
def test_no_field_of_a_record_raises(name: str, value: object, root: Path, tmp_path: Path) -> None:
    scene = copied(root, NAMES[0], tmp_path)
    scene.drop_pack()

    def spoil(record: dict) -> dict:
        record["objects"][0][name] = value
        return record

    for path in (scene.record, *(scene.metadata / "frame_processed").iterdir()):
        if json.loads(path.read_text())["objects"]:
            scene_faults.change_json(path, spoil)
    assert isinstance(codes(scene), set)


@pytest.mark.parametrize("value", [5, "x", {"a": 1}, [5, "x"], None])
def test_objects_that_are_no_list_do_not_raise(value: object, root: Path, tmp_path: Path) -> None:
    scene = copied(root, NAMES[0], tmp_path)
    scene.drop_pack()
    spoilt = {"objects": value, "image_size": ["a", 10**400]}
    for path in (scene.metadata / "frame_processed").iterdir():
        scene_faults.change_json(path, lambda record: record | spoilt)
    assert codes(scene)
