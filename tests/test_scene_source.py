"""Rows with their pictures: the same for every number of workers, shared by hosts, resumable."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from spatialevo_jax.config import DataConfig
from spatialevo_jax.data import PictureError, RoomSet, enumerate_rows, load_rooms, row_source
from spatialevo_jax.scene_source import BUFFER, Prompt, PromptStream, SceneSet, load_scenes

SIZES = (1, 2, 3)


@pytest.fixture(scope="module")
def config(rooms_root: Path) -> DataConfig:
    return DataConfig(
        scenes=rooms_root, image_size=(56, 56), scene_frames=SIZES[2], rows=(2, 2, 2), dot_size=2
    )


@pytest.fixture(scope="module")
def scenes(config: DataConfig) -> SceneSet:
    return load_scenes(config, "train")


@pytest.fixture
def copied(rooms_root: Path, tmp_path: Path) -> Path:
    """Scenes to break."""
    return Path(shutil.copytree(rooms_root, tmp_path / "copied"))


def with_workers(config: DataConfig, workers: int) -> DataConfig:
    return dataclasses.replace(config, workers=workers)


def steps(stream: PromptStream, count: int) -> list[list[Prompt]]:
    return [next(stream) for _ in range(count)]


def flat(got: list[list[Prompt]]) -> list[Prompt]:
    return [prompt for step in got for prompt in step]


def assert_same(got: list[list[Prompt]], want: list[list[Prompt]]) -> None:
    assert [prompt.row for prompt in flat(got)] == [prompt.row for prompt in flat(want)]
    for a, b in zip(flat(got), flat(want), strict=True):
        np.testing.assert_array_equal(a.images, b.images)
        assert a.tasks == b.tasks


def all_rows(rooms: RoomSet, images: int, seed: int = 0) -> set:
    return set(enumerate_rows(rooms, images, seed))


def test_a_step_has_the_rows_and_pictures_of_the_room_set(
    config: DataConfig, scenes: SceneSet
) -> None:
    held = load_rooms(config, "train")
    rows = row_source(held, SIZES, seed=4)
    with PromptStream(scenes.rooms, config, seed=4) as stream:
        for step in range(3):
            prompts = next(stream)
            assert [prompt.row for prompt in prompts] == rows.step_rows(step, config.rows)
            for prompt in prompts:
                np.testing.assert_array_equal(prompt.images, held.row_images(prompt.row))
                assert prompt.tasks == held.feasible_tasks(prompt.row) != ()


def test_scenes_are_held_without_pictures_and_points(scenes: SceneSet) -> None:
    assert scenes.skipped == ()
    assert all(record.scene.points.shape[1] == 0 for record in scenes.rooms.records)


def test_the_order_does_not_depend_on_the_number_of_workers_and_a_state_goes_on_with_any(
    config: DataConfig, scenes: SceneSet
) -> None:
    with PromptStream(scenes.rooms, config, seed=1) as stream:
        want = steps(stream, 6)
    with PromptStream(scenes.rooms, with_workers(config, 2), seed=1) as stream:
        assert_same(steps(stream, 3), want[:3])
        state = json.loads(json.dumps(stream.get_state()))
    with PromptStream(scenes.rooms, with_workers(config, 1), seed=1) as stream:
        stream.set_state(state)
        assert_same(steps(stream, 3), want[3:])


STREAMING = """
import multiprocessing, sys
from pathlib import Path
from spatialevo_jax.config import DataConfig
from spatialevo_jax.scene_source import PromptStream, load_scenes

if __name__ == "__main__":
    config = DataConfig(scenes=Path(sys.argv[1]), image_size=(56, 56), scene_frames=3, workers=1)
    with PromptStream(load_scenes(config, "train").rooms, config, seed=0) as stream:
        while next(stream):
            (worker,) = multiprocessing.active_children()
            print(worker.pid, flush=True)
            sys.stdin.readline()
"""


def test_workers_leave_signals_to_the_run_and_end_with_it(
    config: DataConfig, repository: Path, tmp_path: Path
) -> None:
    """A terminal and a cluster send them to all processes, and the step's pictures are to come."""
    script = tmp_path / "streaming.py"
    script.write_text(STREAMING, encoding="utf-8")
    command = [sys.executable, str(script), str(config.scenes)]
    place = os.environ | {"PYTHONPATH": str(repository), "JAX_PLATFORMS": "cpu"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=place, **pipes) as run:
        assert run.stdin is not None and run.stdout is not None
        worker = int(run.stdout.readline())
        for sent in (signal.SIGINT, signal.SIGTERM):
            os.kill(worker, sent)
        for _ in range(3 * BUFFER):  # more than is decoded ahead
            run.stdin.write("\n")
            run.stdin.flush()
            assert int(run.stdout.readline()) == worker
        run.kill()
    for _ in range(300):
        if not alive(worker):
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("The worker went on without the run.")


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")  # of one that nobody waits for, where there is such
    return not state.is_file() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_state_restored_into_a_stream_that_ran_on_goes_back(
    config: DataConfig, scenes: SceneSet
) -> None:
    with PromptStream(scenes.rooms, config, seed=1) as stream:
        steps(stream, 2)
        state = stream.get_state()
        want = steps(stream, 3)
        stream.set_state(state)
        assert_same(steps(stream, 3), want)
        assert stream.get_state()["step"] == 5
    with PromptStream(scenes.rooms, config, seed=1, start=2) as stream:
        assert_same(steps(stream, 3), want)


def test_seeds_differ_and_epochs_differ(config: DataConfig, scenes: SceneSet) -> None:
    singles = dataclasses.replace(config, rows=(1, 0, 0))
    count = len(all_rows(scenes.rooms, 1))
    orders = []
    for seed in (0, 1):
        with PromptStream(scenes.rooms, singles, seed=seed) as stream:
            orders.append([prompt.row for prompt in flat(steps(stream, 2 * count))])
    assert orders[0] != orders[1]
    first, second = orders[0][:count], orders[0][count:]
    assert first != second and set(first) == set(second) == all_rows(scenes.rooms, 1)


@pytest.mark.parametrize("hosts", [2, 3])
def test_hosts_share_an_epoch_without_overlap(
    config: DataConfig, scenes: SceneSet, hosts: int
) -> None:
    pairs = dataclasses.replace(config, rows=(0, 2 * hosts, 0))
    rows = all_rows(scenes.rooms, 2)
    needed = -(-len(rows) // (2 * hosts))
    shards = []
    for host in range(hosts):
        own = range(host, 2 * hosts, hosts)
        with PromptStream(scenes.rooms, pairs, seed=0, own=own) as stream:
            shards.append(steps(stream, needed))
    # Step by step, what the hosts have in turn is what one host alone has.
    with PromptStream(scenes.rooms, pairs, seed=0) as stream:
        whole = [prompt.row for prompt in flat(steps(stream, needed))]
    parts = [
        shard[step][turn].row for step in range(needed) for turn in range(2) for shard in shards
    ]
    assert parts == whole
    seen = Counter(whole[: len(rows)])
    assert set(seen) == rows and set(seen.values()) == {1}


def test_a_host_reads_places_of_any_modality(config: DataConfig, scenes: SceneSet) -> None:
    with PromptStream(scenes.rooms, config, seed=3) as stream:
        whole = steps(stream, 3)
    with PromptStream(scenes.rooms, config, seed=3, own=(1, 2, 5), start=1) as stream:
        part = steps(stream, 2)
    assert_same(part, [[step[place] for place in (1, 2, 5)] for step in whole[1:]])


def test_places_that_a_step_does_not_have_are_refused(config: DataConfig, scenes: SceneSet) -> None:
    for own in ((6,), ()):
        with pytest.raises(ValueError, match="expected places of 6 rows"):
            PromptStream(scenes.rooms, config, seed=0, own=own)
    with pytest.raises(ValueError, match="expected places of 0 rows"):
        PromptStream(scenes.rooms, config, seed=0, counts=(0, 0, 0))


@pytest.mark.parametrize(("key", "value"), [("seed", 2), ("rows", [1, 1, 1]), ("scenes", "other")])
def test_a_state_of_another_stream_is_refused(
    config: DataConfig, scenes: SceneSet, key: str, value: object
) -> None:
    with PromptStream(scenes.rooms, config, seed=1) as stream:
        with pytest.raises(ValueError, match=f"the same {key}"):
            stream.set_state(stream.get_state() | {key: value})
        next(stream)  # still open


def test_a_broken_picture_is_named_and_another_row_takes_its_place(
    config: DataConfig, copied: Path
) -> None:
    config = dataclasses.replace(config, scenes=copied)
    scenes = load_scenes(config, "train")
    with PromptStream(scenes.rooms, config, seed=0) as stream:
        want = steps(stream, 6)
    broken = scenes.rooms.records[0].image_paths[0]
    broken.write_bytes(broken.read_bytes()[:300])
    with PromptStream(scenes.rooms, config, seed=0) as stream:
        got = steps(stream, 6)
        faults = stream.faults
    assert len(faults) == 1 and str(broken) in faults[0]  # shown often, named once
    replaced = 0
    for a, b in zip(flat(got), flat(want), strict=True):
        hit = b.row.room == 0 and 0 in b.row.frames
        replaced += hit
        assert (a.row == b.row) != hit
        assert len(a.row.frames) == len(b.row.frames)
    assert replaced
    with PromptStream(scenes.rooms, config, seed=0, start=3) as stream:
        assert_same(steps(stream, 3), got[3:])


def test_nothing_but_broken_pictures_is_an_error(config: DataConfig, copied: Path) -> None:
    config = dataclasses.replace(config, scenes=copied)
    scenes = load_scenes(config, "train")
    for record in scenes.rooms.records:
        for path in record.image_paths:
            path.write_bytes(b"")
    stream = PromptStream(scenes.rooms, config, seed=0)
    with stream, pytest.raises(PictureError, match=r"rows in turn have broken pictures.*\.jpg"):
        next(stream)


def test_one_bad_scene_is_left_out_and_listed(config: DataConfig, copied: Path) -> None:
    config = dataclasses.replace(config, scenes=copied)
    name = load_scenes(config, "train").rooms.records[0].scene_id
    packed = copied / "metadata" / name / f"{name}.npz"
    packed.write_bytes(packed.read_bytes()[:100])
    scenes = load_scenes(config, "train")
    assert name not in [record.scene_id for record in scenes.rooms.records]
    assert len(scenes.skipped) == 1 and str(packed) in scenes.skipped[0]


def test_no_readable_scene_is_an_error(config: DataConfig, copied: Path, tmp_path: Path) -> None:
    for packed in (copied / "metadata").glob("*/*.npz"):
        packed.write_bytes(b"")
    with pytest.raises(ValueError, match="all 2 fail"):
        load_scenes(dataclasses.replace(config, scenes=copied), "train")
    with pytest.raises(FileNotFoundError, match="expected scenes, found none"):
        load_scenes(dataclasses.replace(config, scenes=tmp_path / "nowhere"), "train")
