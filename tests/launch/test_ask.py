"""The command that asks: by hand or by the file, one sentence or one line for every mistake."""

import codecs
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from absl import app
from absl.testing import flagsaver

from geometry_jax import scene_io
from launch import ask
from launch.errors import EXIT_CODE, run
from spatialevo_jax.environment import Slots, pools, render
from tests.reference import boxes

SCENE = "scene5000_00"
Command = Callable[..., object]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs the command with these arguments in this process; returns its exit status."""
    # What app.run does besides, such as its log handlers, would stay for the tests that follow.
    monkeypatch.setattr(
        app, "run", lambda main, flags_parser: sys.exit(main(flags_parser(sys.argv)))
    )

    def call(*arguments: str) -> object:
        # `launch.prepare` makes --out required in every process that has imported it.
        unused = () if any(one.startswith("--out=") for one in arguments) else ("--out=unused",)
        monkeypatch.setattr(sys, "argv", ["ask", *arguments, *unused])
        with flagsaver.flagsaver(), pytest.raises(SystemExit) as ended:
            run(ask.main)
        return ended.value.code or 0

    return call


@pytest.fixture(scope="module")
def record(rooms_root: Path) -> scene_io.SceneRecord:
    return scene_io.load_scene(rooms_root, SCENE)


def distance_question(record: scene_io.SceneRecord) -> tuple[str, tuple[str, str], float]:
    """A question about two objects of the room, their labels, and the right answer in metres."""
    first, second = pools(record, ()).unique[:2]
    scene, found = record.scene, []
    for label in (first, second):
        (index,) = np.flatnonzero(np.asarray(scene.label) == record.labels.index(label))
        center, extent = (np.asarray(x[index], float) for x in (scene.obb_center, scene.obb_extent))
        found += [center, extent, float(scene.obb_yaw[index])]
    question = render("absolute_distance", Slots((first, second)), 0)
    return question, (first, second), boxes.distance(*found)


# --- by hand -------------------------------------------------------------------------------


@pytest.mark.parametrize("by_path", [True, False])
def test_an_answer_is_printed_with_its_evidence(
    command: Command,
    rooms_root: Path,
    record: scene_io.SceneRecord,
    capsys: pytest.CaptureFixture[str],
    by_path: bool,
) -> None:
    question, labels, metres = distance_question(record)
    where = [f"--scene={rooms_root / 'val' / SCENE}"]
    if not by_path:
        where = [f"--scenes={rooms_root}", f"--scene={SCENE}"]
    assert command(*where, "--task=absolute_distance", f"--question={question}") == 0
    out, err = capsys.readouterr()
    reply = json.loads(out)
    assert err == ""
    assert (reply["is_valid"], reply["question"]) == (True, question)
    assert reply["margin"] is None  # a length has no edge that it could be near
    number, unit = reply["answer"].split()
    assert float(number) == pytest.approx(metres, abs=0.0051) and unit == "meters"
    assert tuple(one["label"] for one in reply["evidence"]["objects"]) == labels
    first, second = map(np.asarray, reply["evidence"]["points_world"])
    assert np.linalg.norm(first - second) == pytest.approx(metres, abs=1e-3)


def test_images_are_named_by_their_files(
    command: Command,
    rooms_root: Path,
    record: scene_io.SceneRecord,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = [f"frame_processed/{path.name}" for path in record.image_paths[:2]]
    status = command(
        f"--scene={rooms_root / 'val' / SCENE}",
        "--task=position_cam_cam",
        f"--images={','.join(reversed(names))}",
        "--question=From Image 2, where is the camera of Image 1?",
    )
    assert status == 0
    forth = json.loads(capsys.readouterr().out)
    assert forth["evidence"]["frames"] == [record.frame_ids[1], record.frame_ids[0]]
    pose, other = np.asarray(record.scene.world_from_camera[:2], float)
    # Image 2 is the first file: its camera is the reference, its points come first.
    assert forth["evidence"]["points_world"][0] == pytest.approx(pose[:3, 3].tolist(), abs=1e-4)
    assert forth["evidence"]["points_world"][1] == pytest.approx(other[:3, 3].tolist(), abs=1e-4)


GOOD = {
    "scene": SCENE,
    "task": "object_counting",
    "question": "How many lamps are in the room?",
}


@pytest.mark.parametrize(
    ("changes", "start", "end"),
    [
        (
            {"question": "How many unicorns are in the room?"},
            "The sentence names something that the scene does not have. It says 'unicorns'. "
            "scene5000_00 has: bed, ",
            "stool.",
        ),
        (
            {"question": "Which image shows the bed more clearly?"},
            "The sentence does not ask what the task is about.",
            "",
        ),
        ({"question": "\n\ud800\x1b[31m"}, "There is no readable question.", ""),
        ({"task": "counting"}, "task_type: expected one of object_counting, ", "got 'counting'."),
        ({"scene": "scene9999_99"}, "ROOT: expected a scene 'scene9999_99'", "found none."),
        (
            {"scene": "nowhere/scene9999_99"},
            "--scene: expected a scene folder, found no nowhere/scene9999_99;",
            "or give --scenes too.",
        ),
        ({"scenes": "nowhere"}, "nowhere: expected a folder of scenes, found none.", ""),
        (
            {"task": "distance_cam_obj", "question": "How far is the bed from the camera?"},
            "distance_cam_obj needs 1 image(s), got 0.",
            "",
        ),
        (
            {
                "task": "distance_cam_obj",
                "question": "How far is the bed from the camera?",
                "images": "frame_processed/77.jpg",
            },
            "scene5000_00: expected a frame such as frame_processed/0.jpg",
            "got 'frame_processed/77.jpg'.",
        ),
        (
            {"task": "relative_direction_hard", "difficulty": "hardest"},
            "difficulty: expected easy, medium or hard",
            "'hardest'.",
        ),
        (
            {"difficulty": "hard"},
            "difficulty: object_counting does not read it;",
            "expected of such fields: target_category.",
        ),
        ({"question": ""}, "by hand, --scene, --task and --question are needed;", "see --help."),
        ({"picture": "no/such/folder/x.png"}, "no/such/folder/x.png: no such file", "directory."),
        ({"requests": "missing.jsonl"}, "missing.jsonl: no such file or directory.", ""),
        ({"qestion": "x"}, "Unknown command line flag 'qestion'", ""),
    ],
)
def test_a_mistake_is_one_sentence_and_a_code(
    command: Command,
    rooms_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, str],
    start: str,
    end: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    values = {"scenes": str(rooms_root)} | GOOD | changes
    assert command(*(f"--{name}={value}" for name, value in values.items())) == EXIT_CODE
    out, err = capsys.readouterr()
    _, _, sentence = err.partition(": ")
    assert sentence.startswith(start.replace("ROOT", str(rooms_root)))
    assert sentence.rstrip("\n").endswith(end)
    assert (out, err.count("\n"), "Traceback" in err) == ("", 1, False)
    assert list(tmp_path.iterdir()) == []


def test_the_module_ends_with_the_sentence_and_the_code(repository: Path, rooms_root: Path) -> None:
    values = GOOD | {"scenes": str(rooms_root), "question": "Where is the door?"}
    done = subprocess.run(
        [sys.executable, "-m", "launch.ask", *(f"--{k}={v}" for k, v in values.items())],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (EXIT_CODE, "")
    assert done.stderr.splitlines() == [
        "launch.ask: The sentence does not ask what the task is about."
    ]


# --- by the file ---------------------------------------------------------------------------


def fields(question: str, **values: Any) -> str:
    record = {"task_type": "object_counting", "scene_id": SCENE, "question": question}
    return json.dumps(record | values)


LAMPS = "How many lamps are in the room?"
# Lines, with the error code that each has to get ("" for an answer).
LINES: tuple[tuple[str, str], ...] = (
    (fields(LAMPS), ""),
    ("{", "INVALID_INPUT"),
    (fields("How many lamps does the room have?"), ""),
    ("", "INVALID_INPUT"),
    ("[" * 100_000, "INVALID_INPUT"),
    ("[1, 2]", "INVALID_INPUT"),
    ("NaN", "INVALID_INPUT"),
    ("9" * 5000, "INVALID_INPUT"),
    (fields("\ud800\x00\u2028 lamps"), "QUESTION_INVALID"),
    (fields(LAMPS) + "\r", ""),  # a file from Windows
    (fields(LAMPS) + "}", "INVALID_INPUT"),
    (fields("How many unicorns are in the room?"), "INVALID_QUESTION_RULE"),
    (fields(LAMPS, scene_id="../val/scene5000_00"), "EXECUTION_FAILED"),
    (fields(LAMPS, scene_id="x" * 5000), "EXECUTION_FAILED"),
    (fields(LAMPS, task_type="\N{CHAIR}"), "UNSUPPORTED_TASK"),
    (fields(LAMPS, task_type={"a": []}), "INVALID_INPUT"),
    (
        fields("How many lamps\u2028 does the room have?").replace("\\u2028", "\u2028"),
        "QUESTION_INVALID",
    ),
    ('\ufeff{"a": 1}', "INVALID_INPUT"),
    (fields("What is the number of lamps in the room?"), ""),
)


@pytest.mark.parametrize("chunk", [ask.CHUNK, 4])
@pytest.mark.parametrize("ending", ["", "\n"])
def test_every_line_has_its_reply_in_order(
    command: Command,
    rooms_root: Path,
    record: scene_io.SceneRecord,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    chunk: int,
    ending: str,
) -> None:
    monkeypatch.setattr(ask, "CHUNK", chunk)
    requests, out = tmp_path / "requests.jsonl", tmp_path / "replies.jsonl"
    text = "\n".join(line for line, _ in LINES) + ending
    requests.write_text(text, encoding="utf-8", newline="")
    arguments = (f"--scenes={rooms_root}", f"--requests={requests}", f"--out={out}")
    assert command(*arguments) == 0
    assert f"answered {len(LINES)} requests: {out}" in capsys.readouterr().err
    replies = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [reply["error_code"] for reply in replies] == [code for _, code in LINES]
    lamps = int((np.asarray(record.scene.label) == record.labels.index("lamp")).sum())
    answers = {reply["answer"] for reply in replies if reply["is_valid"]}
    assert answers == {str(lamps)}
    for number, ((line, code), reply) in enumerate(zip(LINES, replies, strict=True), start=1):
        assert reply["is_valid"] == (code == "")
        if "does not parse" in reply["error"]:
            assert reply["error"].startswith(f"line {number}: expected a JSON object;")
        elif line.startswith("{"):
            assert reply["question"] == json.loads(line).get("question", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["replies.jsonl", "requests.jsonl"]


def test_a_line_is_answered_as_it_would_be_by_hand(
    command: Command, rooms_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    requests, out = tmp_path / "requests.jsonl", tmp_path / "replies.jsonl"
    requests.write_text(fields(LAMPS))
    assert command(f"--scenes={rooms_root}", f"--requests={requests}", f"--out={out}") == 0
    capsys.readouterr()
    values = GOOD | {"scenes": str(rooms_root)}
    assert command(*(f"--{name}={value}" for name, value in values.items())) == 0
    assert json.loads(out.read_text()) == json.loads(capsys.readouterr().out)


def test_a_picture_shows_why(
    command: Command, rooms_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = GOOD | {"scenes": str(rooms_root), "picture": str(tmp_path / "why.png")}
    assert command(*(f"--{name}={value}" for name, value in values.items())) == 0
    assert json.loads(capsys.readouterr().out)["is_valid"]
    assert (tmp_path / "why.png").stat().st_size > 10_000


def test_lines_are_summed_up_and_answered_in_either_convention(
    command: Command, rooms_root: Path, tmp_path: Path
) -> None:
    requests, out = tmp_path / "requests.jsonl", tmp_path / "replies.jsonl"
    summary = json.dumps({"request": "summary", "scene_id": "scene5000_00"})
    size = fields("What is the size of this room in square meters?", task_type="room_size")
    requests.write_text(f"{summary}\n{size}\n")
    arguments = (f"--scenes={rooms_root}", f"--requests={requests}", f"--out={out}", "--brief")
    answers = {}
    for convention in ("corrected", "reference"):
        assert command(*arguments, f"--convention={convention}") == 0
        whole, room = (json.loads(line) for line in out.read_text().splitlines())
        assert whole["success"] and whole["total_objects"] == sum(whole["label_counts"].values())
        assert "evidence" not in room
        answers[convention] = room["answer"]
    area = round(whole["room_size"], 2)
    expected = {"corrected": f"{area:.2f} square meters", "reference": f"{area} square meters"}
    assert answers == expected


def test_no_requests_make_no_replies(command: Command, rooms_root: Path, tmp_path: Path) -> None:
    requests, out = tmp_path / "requests.jsonl", tmp_path / "replies.jsonl"
    requests.write_text("")
    assert command(f"--scenes={rooms_root}", f"--requests={requests}", f"--out={out}") == 0
    assert out.read_text() == ""


def test_lines_that_are_no_text_have_their_replies_too(
    command: Command, rooms_root: Path, tmp_path: Path
) -> None:
    requests, out = tmp_path / "requests.jsonl", tmp_path / "replies.jsonl"
    lines = [fields(LAMPS).encode(), b'{"question": "\xfc"}', fields(LAMPS).encode()]
    requests.write_bytes(codecs.BOM_UTF8 + b"\n".join(lines))
    assert command(f"--scenes={rooms_root}", f"--requests={requests}", f"--out={out}") == 0
    replies = [json.loads(line) for line in out.read_text().splitlines()]
    assert [reply["is_valid"] for reply in replies] == [True, False, True]
    assert replies[1]["error"].startswith("line 2: expected a JSON object; it does not parse")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scenes": "nowhere"}, "--scenes: expected a folder, found no nowhere."),
        ({"out": "no/such/folder/x.jsonl"}, "x.jsonl.part: no such file or directory."),
        ({"out": "folder"}, "--out: expected a file to write, got the folder folder."),
    ],
)
def test_a_file_that_can_not_be_used_is_one_sentence(
    command: Command,
    rooms_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    values: dict[str, str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("requests.jsonl").write_text(fields(LAMPS))
    Path("folder").mkdir()
    asked = {"scenes": str(rooms_root), "requests": "requests.jsonl", "out": "x.jsonl"} | values
    assert command(*(f"--{name}={value}" for name, value in asked.items())) == EXIT_CODE
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.rstrip("\n").endswith(message)
    assert not Path("x.jsonl").exists()
