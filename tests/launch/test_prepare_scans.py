"""The command over many raw scans: what it reports, how it ends, and how it goes on."""

import concurrent.futures
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from absl.testing import flagsaver

from data_pipelines import preparing
from geometry_jax import scene_io
from launch import prepare, prepare_scans, workers
from launch.errors import UserError

ROOMS = {"frames": 4, "image_size": "48x48", "count": 3, "val_count": 0, "workers": 1}
SCENES = tuple(f"scene{number:04d}_00" for number in range(3))


def command(out: Path, **values: object) -> int:
    of_raw_data = {} if values["dataset"] == "rooms" else {"frames_per_scene": 2}
    settings = {"workers": 1} | of_raw_data | values
    with flagsaver.flagsaver(out=str(out), **settings):
        return prepare.main(["prepare"])


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rooms as raw ScanNet scans."""
    folder = tmp_path_factory.mktemp("raw") / "scannet"
    assert command(folder, dataset="rooms", raw_format="scannet", **ROOMS) == 0
    return folder


@pytest.fixture(scope="module")
def done(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("done") / "scenes"
    assert command(out, dataset="scannet", raw=str(raw)) == 0
    return out


def lines(out: Path, name: str = "prepare_report.jsonl") -> list[Mapping]:
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def contents(root: Path) -> dict[str, bytes]:
    """Every file but the report, which has times in it."""
    files = [path for path in root.rglob("*") if path.is_file() and path.suffix != ".jsonl"]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_report_has_a_line_for_each_scene_and_a_summary(done: Path) -> None:
    *scenes, summary = lines(done)
    assert sorted(line["scene_id"] for line in scenes) == sorted(SCENES)
    for line in scenes:
        assert line["status"] == "done" and line["frames"] == 2 and line["poses"] == 16
        assert line["objects"] > 3 and line["seconds"] > 0
        assert line["dropped_labels"] == ["ceiling", "floor", "wall"]
    assert (summary["done"], summary["skipped"], summary["failed"]) == (3, 0, 0)


def test_second_run_skips_what_is_ready(
    done: Path, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(done)
    assert command(done, dataset="scannet", raw=str(raw)) == 0
    assert contents(done) == before
    assert [line["status"] for line in lines(done)[:-1]] == ["skipped"] * 3
    assert "done 0, skipped 3, failed 0" in capsys.readouterr().out


def test_rooms_that_are_written_stay(raw: Path) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in raw.rglob("*.sens")}
    command(raw, dataset="rooms", raw_format="scannet", **ROOMS)
    assert {path: path.stat().st_mtime_ns for path in raw.rglob("*.sens")} == stamps


def test_hosts_share_the_scans_and_two_processes_change_no_byte(
    done: Path, raw: Path, tmp_path: Path
) -> None:
    for host in (0, 1):
        command(
            tmp_path / "out",
            dataset="scannet",
            raw=str(raw),
            host_index=host,
            host_count=2,
            workers=2 - host,
        )
    first, second = (lines(tmp_path / "out", f"prepare_report.{host}.jsonl") for host in (0, 1))
    assert {line["scene_id"] for line in first[:-1]} == {SCENES[0], SCENES[2]}
    assert {line["scene_id"] for line in second[:-1]} == {SCENES[1]}
    assert contents(tmp_path / "out") == contents(done)


def test_chosen_scenes_only(raw: Path, tmp_path: Path) -> None:
    assert command(tmp_path, dataset="scannet", raw=str(raw), scans=[SCENES[1]], split="val") == 0
    assert scene_io.list_scenes(tmp_path, "val") == (SCENES[1],)
    assert scene_io.list_scenes(tmp_path, "train") == ()


def test_bad_scans_are_listed_and_the_others_made(
    raw: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    form = preparing.FORMATS["scannet"]

    def read_scan(raw: Path, source_id: str, **options: object):
        if source_id == SCENES[0]:
            raise PermissionError(13, "Permission denied", str(raw / source_id))
        if source_id == SCENES[1]:
            raise KeyError("nobody thought of this")
        return form.read_scan(raw, source_id, **options)

    broken = dataclasses.replace(form, read_scan=read_scan)
    monkeypatch.setitem(preparing.FORMATS, "scannet", broken)
    assert command(tmp_path, dataset="scannet", raw=str(raw)) == 1
    assert scene_io.list_scenes(tmp_path, "train") == (SCENES[2],)
    printed = capsys.readouterr().out
    assert f"failed {SCENES[0]}: [Errno 13] Permission denied" in printed
    assert f"failed {SCENES[1]}: unforeseen KeyError ('nobody thought of this')" in printed
    assert "done 1, skipped 0, failed 2" in printed
    monkeypatch.undo()
    assert command(tmp_path, dataset="scannet", raw=str(raw)) == 0  # a later run has another try
    assert scene_io.list_scenes(tmp_path, "train") == SCENES


def test_unreadable_directory_is_one_sentence(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(folder: Path) -> tuple[str, ...]:
        raise PermissionError(13, "Permission denied", str(folder))

    form = dataclasses.replace(preparing.FORMATS["scannet"], list_scans=denied)
    monkeypatch.setitem(preparing.FORMATS, "scannet", form)
    with pytest.raises(UserError, match="scannet: permission denied"):
        command(tmp_path / "out", dataset="scannet", raw=str(raw))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scans": ["scene0007_00"]}, "has no scan 'scene0007_00'; the nearest is 'scene000"),
        ({"frames_per_scene": 5}, "scenes of other settings .frames: 2 there, 5 asked.; choose"),
        ({"drop": ["structure"]}, "scenes of other settings .dropped: "),
    ],
)
def test_mistakes_are_one_sentence(
    done: Path, raw: Path, values: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        command(done, dataset="scannet", raw=str(raw), **values)


def test_foreign_folder_is_left_alone(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="is not empty and holds no prepared scans"):
        command(tmp_path, dataset="scannet", raw=str(raw))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_raw_data_of_another_kind_is_refused(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected"):
        command(tmp_path / "out", dataset="arkitscenes", raw=str(raw))
    assert not (tmp_path / "out").exists()


def line_of(raw: Path, out: Path) -> list[str]:
    flags_of = {"dataset": "scannet", "raw": raw, "out": out, "workers": 1, "frames_per_scene": 2}
    return [sys.executable, "-m", "launch.prepare", *(f"--{k}={v}" for k, v in flags_of.items())]


def test_killed_run_goes_on_to_identical_scenes(
    repository: Path, raw: Path, done: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    running = subprocess.Popen(
        line_of(raw, out), cwd=repository, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 120
        while not list(out.glob("train/.*.part/pose/*.txt")):  # in the middle of a scene
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(0.0005)
        os.kill(running.pid, signal.SIGKILL)
    finally:
        running.kill()
        running.wait()
    assert len(scene_io.list_scenes(out, "train")) < 3
    assert command(out, dataset="scannet", raw=str(raw)) == 0
    assert contents(out) == contents(done)


def test_disk_that_fills_up_ends_the_run_with_a_sentence(
    repository: Path, raw: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    small_files_only = ["bash", "-c", 'ulimit -f 100; exec "$@"', "bash"]
    ended = subprocess.run(
        [*small_files_only, *line_of(raw, out)],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    last = ended.stderr.strip().splitlines()[-1]
    assert (
        f"launch.prepare: {out}: expected to write scene scene0000_00, but file too large" in last
    )
    assert "Traceback" not in ended.stderr
    assert scene_io.list_scenes(out, "train") == ()
    left = {path.name for path in out.rglob("*") if path.is_file()}
    assert left == {"scannet.json", "prepare_report.jsonl"}


def test_a_dead_worker_is_one_sentence(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(*_: object) -> None:
        raise concurrent.futures.BrokenExecutor("terminated abruptly")

    monkeypatch.setattr(prepare_scans, "prepare_scan", dying)
    with pytest.raises(UserError, match="a worker process died, most likely for want of memory"):
        command(tmp_path / "out", dataset="scannet", raw=str(raw))


@pytest.mark.parametrize("dataset", ["rooms", "scannet"])
def test_what_a_run_left_that_could_not_begin_is_in_nobodys_way(
    dataset: str, raw: Path, tmp_path: Path
) -> None:
    (tmp_path / f".{dataset}.json.part").touch()  # the disk was full
    settings = ROOMS | {"count": 1} if dataset == "rooms" else {"raw": str(raw)}
    assert command(tmp_path, dataset=dataset, **settings) == 0
    assert scene_io.list_scenes(tmp_path, "train")


def test_two_runs_do_not_write_into_one_folder(done: Path, raw: Path) -> None:
    before = contents(done)
    with (
        workers.alone(done / "prepare_report.jsonl"),
        pytest.raises(UserError, match="another run is writing there"),
    ):
        command(done, dataset="scannet", raw=str(raw))
    assert contents(done) == before and lines(done)


def test_wrong_lists_of_splits_are_a_usage_error_and_leave_nothing(
    raw: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"--split_lists: .*scannetv2_train.txt: expected a list"):
        command(out, dataset="scannet", raw=str(raw), split_lists=str(tmp_path))
    assert not out.exists()
    for split, names in (("train", SCENES[:1]), ("val", SCENES[1:])):
        text = "\ufeff" + "\r\n".join(names)  # as an editor on Windows writes it
        (tmp_path / f"scannetv2_{split}.txt").write_text(text, encoding="utf-8")
    assert command(out, dataset="scannet", raw=str(raw), split_lists=str(tmp_path)) == 0
    assert scene_io.list_scenes(out, "train") == SCENES[:1]
    assert scene_io.list_scenes(out, "val") == SCENES[1:]


def test_workers_end_soon_after_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, sys, time\n"
        "from launch import workers\n"
        "if __name__ == '__main__':\n"
        "    with workers.started(2) as submit:\n"
        "        print(submit(os.getpid).result(), flush=True)\n"
        "        time.sleep(600)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    for _ in range(100):
        if not _runs(worker):
            return
        time.sleep(0.1)
    raise AssertionError(f"worker {worker} outlived its parent")


def _runs(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.is_file() and state.read_text().rpartition(")")[2].split()[0] != "Z"
