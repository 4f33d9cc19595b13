"""The command that makes question-answer sets: whole, exact, the same bytes, and never half."""

import copy
import errno
import functools
import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import yaml
from absl import app
from absl.testing import flagsaver
from markdown_it import MarkdownIt
from PIL import Image

from geometry_jax import scene_io
from geometry_jax.reasons import Reason
from geometry_jax.scene_io import SceneRecord
from geometry_jax.tasks import TASK_IDS, TASKS
from geometry_jax.types import Scene
from launch import generate
from launch.errors import EXIT_CODE, run
from spatialevo_jax.config import DataConfig, SftConfig
from spatialevo_jax.environment.fields import parse_request
from spatialevo_jax.environment.respond import Request, answer_requests
from spatialevo_jax.qa import candidates, pipeline, recipe, shards, verify
from spatialevo_jax.qa.groups import usable
from spatialevo_jax.qa.recipe import Recipe
from spatialevo_jax.qa.rows import Row
from spatialevo_jax.scene_source import load_scenes
from spatialevo_jax.train.sft import lesson_source
from tests import random_rooms
from tests.geometry_jax.test_random_rooms import agrees
from tests.named_rooms import BROKEN, TRAIN, VAL, random_records, write_scenes
from tests.reference import oracles

COUNT = 1200
EVERYTHING = (f"--count={COUNT}", "--invalid_share=0.1", "--choice_share=0.4", "--rationales")
CHEAP = ("--count=60", "--tasks=elevation_cam_cam,object_size")  # quick to compile
TWIN_ROOMS, TWIN_QUESTIONS = 64, 10_000
Command = Callable[..., object]


@pytest.fixture(scope="module", autouse=True)
def compiled_fast() -> Iterator[None]:
    """These programs run a few times: their compilation is all the time they take. Processes that
    are started here compile as this one does.
    """
    name = "JAX_DISABLE_MOST_OPTIMIZATIONS"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name, "1")
        jax.config.update(name.lower(), True)
        yield
        jax.config.update(name.lower(), False)


@pytest.fixture(scope="module")
def scenes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root)
    return root


@pytest.fixture(scope="module")
def command() -> Command:
    """Runs the command with these arguments in this process; returns its exit status."""

    def call(*arguments: str) -> object:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                app, "run", lambda main, flags_parser: sys.exit(main(flags_parser(sys.argv)))
            )
            # `launch.prepare` makes --out required in every process that has imported it.
            unused = () if any(one.startswith("--out=") for one in arguments) else ("--out=",)
            patch.setattr(sys, "argv", ["generate", *arguments, *unused])
            with flagsaver.flagsaver(), pytest.raises(SystemExit) as ended:
                run(generate.main)
        return ended.value.code or 0

    return call


@pytest.fixture(scope="module")
def made(command: Command, scenes_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of all tasks, with reasons, options and rationales."""
    out = tmp_path_factory.mktemp("sets") / "all"
    where = (f"--scenes={scenes_root}", f"--out={out}", "--source=own", "--workers=1")
    assert command(*where, *EVERYTHING) == 0
    return out


@pytest.fixture(scope="module")
def rows(made: Path) -> list[Row]:
    return [row for path in shards.list_shards(made, "jsonl") for row in shards.read_shard(path)]


@pytest.fixture(scope="module")
def load(scenes_root: Path) -> verify.Loader:
    return functools.cache(functools.partial(scene_io.load_scene, scenes_root))


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# --- what is made ----------------------------------------------------------------------------


def test_the_set_has_as_many_rows_as_asked_of_every_task(rows: list[Row]) -> None:
    assert len(rows) == COUNT == len({row["id"] for row in rows})
    tasks = Counter(row["task"] for row in rows if row["valid"])
    assert set(tasks) == set(TASK_IDS)
    assert min(tasks.values()) >= 15
    reasons = Counter(row["reason"] for row in rows if not row["valid"])
    assert sum(reasons.values()) == pytest.approx(0.1 * COUNT, abs=2)
    assert len(reasons) >= 6 and "OK" not in reasons


def test_no_two_rows_ask_the_same(made: Path, load: verify.Loader) -> None:
    keys = []
    for path in shards.list_shards(made, "jsonl"):  # block by block: nothing new is compiled
        own = shards.read_shard(path)
        asked = [parse_request(verify.request_fields(row), load) for row in own]
        requests = [one for one in asked if isinstance(one, Request)]
        replies = answer_requests(requests, strict_margin=True)
        for row, reply in zip(own, replies, strict=True):
            keys.append((row["scene_id"], *row["images"], reply.signature))
    assert len(set(keys)) == len(keys) == COUNT


def test_rooms_are_in_one_split_and_the_broken_one_in_none(rows: list[Row]) -> None:
    scenes: dict[str, set[str]] = {"train": set(), "validation": set()}
    for row in rows:
        scenes[row["split"]].add(row["scene_id"])
    assert not scenes["train"] & scenes["validation"]
    assert len(scenes["train"]) == TRAIN - 1 and len(scenes["validation"]) == VAL
    assert BROKEN not in scenes["train"]


def test_images_are_named_from_the_folder_of_the_scenes(
    rows: list[Row], scenes_root: Path, made: Path
) -> None:
    for row in rows[::7]:
        assert all((scenes_root / name).is_file() for name in row["images"])
        wanted = {"single_image": (1,), "image_pair": (2,)}.get(row["modality"], range(1, 9))
        assert len(row["images"]) in wanted
    assert not [name for name in files_of(made) if name.endswith(".jpg")]


def test_options_hold_the_answer_once_and_anywhere(rows: list[Row]) -> None:
    chosen = [row for row in rows if row["options"]]
    assert 0.25 * COUNT < len(chosen) < 0.45 * COUNT
    for row in chosen:
        assert row["options"][row["correct"]] == row["answer"]
        assert len(set(row["options"])) == len(row["options"]) >= 2
    numbers = Counter(row["correct"] for row in chosen if row["task"] == "distance_cam_obj")
    assert set(numbers) == {0, 1, 2, 3}


def test_a_rationale_ends_in_the_answer_and_its_numbers_decide(rows: list[Row]) -> None:
    for row in rows:
        if row["valid"]:
            assert row["rationale"].endswith(f" So the answer is {row['answer']}.")
        else:
            assert row["rationale"] == ""
    for row in rows:
        evidence, text = row["evidence"]["numbers"], row["rationale"]
        if not row["valid"]:
            continue
        said = [float(number) for number in re.findall(r"(\d+\.\d+) m", text)]
        if row["task"] in ("absolute_distance", "distance_cam_obj"):
            a, b = np.array(row["evidence"]["points_world"][:2])
            assert np.linalg.norm(a - b) == pytest.approx(evidence[0], abs=1e-3)
            assert row["answer"] == f"{said[0]:.2f} meters"
            assert said[0] == pytest.approx(evidence[0], abs=0.0051)
        if row["task"] == "relative_distance":
            assert row["answer"] == row["labels"][1 + int(np.argmin(evidence))]
            assert said == pytest.approx([*evidence, min(evidence)], abs=0.0051)
        if row["task"].startswith("position_cam"):
            turn = re.search(r"(\d+\.\d) degrees to the (left|right)", text)
            assert turn is not None
            angle = float(turn[1]) if turn[2] == "left" else -float(turn[1])
            by_hand = np.degrees(np.arctan2(-evidence[1], evidence[0]))
            assert abs((angle - by_hand + 180) % 360 - 180) < 0.1
            sectors = ("front", "front-left", "left", "back-left")
            sectors += ("back", "back-right", "right", "front-right")
            assert row["answer"] == sectors[round(angle / 45) % 8]


def test_parquet_holds_the_same_rows(made: Path) -> None:
    for path in shards.list_shards(made, "jsonl"):
        other = made / "parquet" / f"{path.stem}.parquet"
        assert shards.read_shard(other) == shards.read_shard(path)


@pytest.mark.parametrize("form", ["json", "parquet"])
def test_the_datasets_library_reads_the_set(
    made: Path, rows: list[Row], form: str, tmp_path: Path
) -> None:
    import datasets

    suffix = {"json": "jsonl", "parquet": "parquet"}[form]
    files = {split: f"{made}/{suffix}/{split}-*.{suffix}" for split in ("train", "validation")}
    read = datasets.load_dataset(form, data_files=files, cache_dir=str(tmp_path))
    assert sum(len(read[split]) for split in files) == COUNT
    first = read["train"][0]
    assert first["question"] == rows[0]["question"] and first["answer"] == rows[0]["answer"]
    assert list(first["images"]) == rows[0]["images"]
    assert first["evidence"]["numbers"] == rows[0]["evidence"]["numbers"]


def test_the_card_says_what_is_there(made: Path) -> None:
    text = (made / "README.md").read_text(encoding="utf-8")
    _, head, body = text.split("---\n", 2)
    known = yaml.safe_load(head)
    paths = {one["split"]: one["path"] for one in known["configs"][0]["data_files"]}
    assert all(list(made.glob(path)) for path in paths.values())
    assert set(paths) == {"train", "validation"} and known["license"] == "other"
    page = MarkdownIt("commonmark").enable("table").render(body)
    assert page.count("<table>") == 2 and "|" not in page.replace("</td>", "")
    shown = [part.partition('"')[0] for part in page.split('<img src="')[1:]]
    assert len(shown) == 2
    for name in shown:
        with Image.open(made / name) as picture:
            assert picture.width > 400
    assert BROKEN in body and '"seed": 0' in body
    for task in TASK_IDS:
        assert f"<code>{task}</code>" in page


def test_no_blind_guesser_is_above_its_bound(made: Path) -> None:
    body = (made / "README.md").read_text(encoding="utf-8")
    section = body.split("## What can be guessed without looking")[1].split("## ")[0]
    lines = [line.split("|")[1:-1] for line in section.splitlines() if line.startswith("| `")]
    assert len(lines) >= 30
    for line in lines:
        most, share, *scores, bound = (float(cell.strip(" %")) for cell in line[3:])
        assert max(scores) <= bound
        assert most <= share or float(line[2]) * most / 100 < 2


# --- a second opinion ------------------------------------------------------------------------


def padded(records: list[SceneRecord]) -> Scene:
    sizes = (random_rooms.NUM_OBJECTS, random_rooms.NUM_FRAMES)
    return scene_io.stack_scenes([scene_io.pad_scene(one.scene, *sizes) for one in records])


def test_the_twins_agree_on_ten_thousand_random_questions() -> None:
    """Those that a set may hold: each clear of every edge, so that no rounding excuses anything."""
    records = random_records(TWIN_ROOMS, seed=5)
    scenes = padded(records)
    recipe = Recipe(count=100_000, source="own", tasks=tuple(task.name for task in TASKS))
    blocks = [records[start : start + 16] for start in range(0, TWIN_ROOMS, 16)]
    judged = []
    for number, block in enumerate(blocks):
        drawn = [candidates.draw_candidates(r, place, recipe, 400) for place, r in enumerate(block)]
        one = candidates.judge(block, candidates.concatenated(drawn), recipe)
        one = one.take(usable(one, recipe))
        judged.append((number, one))
    seen: Counter[str] = Counter()
    total = sum(len(one) for _, one in judged)
    share = min(1.0, 1.02 * TWIN_QUESTIONS / total)
    rng = np.random.default_rng(0)
    for number, one in judged:
        kept = one.take(rng.random(len(one)) < share)
        rows = zip(oracles.questions(candidates.queries(kept)), kept.scene, kept.value, strict=True)
        rooms = {place: oracles.Room(scenes, 16 * number + place) for place in range(16)}
        for (task, asked), scene, value in rows:
            expected = oracles.TWINS[TASKS[task].name](rooms[int(scene)], asked)
            assert expected.reason is Reason.OK, (TASKS[task].name, asked, expected)
            assert agrees(task, float(value), expected.value), (TASKS[task].name, asked, expected)
            seen[TASKS[task].name] += 1
    assert set(seen) == {task.name for task in TASKS}
    assert sum(seen.values()) >= min(TWIN_QUESTIONS, 0.97 * total), (seen, total)


# --- verification ----------------------------------------------------------------------------


def test_every_row_agrees_with_its_scene(
    command: Command, made: Path, scenes_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(f"--scenes={scenes_root}", f"--verify={made}") == 0
    assert f"{COUNT:,} rows agree" in capsys.readouterr().out


def test_a_row_that_was_changed_is_found(
    command: Command,
    made: Path,
    scenes_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changed = shutil.copytree(made, tmp_path / "copy")
    path = shards.list_shards(changed, "jsonl")[0]
    rows = shards.read_shard(path)
    place = next(i for i, row in enumerate(rows) if row["answer"] == "higher")
    rows[place]["answer"] = "lower"
    rows[place + 1]["scene_hash"] = "0"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert command(f"--scenes={scenes_root}", f"--verify={changed}") == EXIT_CODE
    said = capsys.readouterr()
    listed = [json.loads(line) for line in said.out.splitlines()]
    assert [(one["line"], one["field"]) for one in listed[:2]] == [
        (place + 2, "scene_hash"),
        (place + 1, "answer"),
    ]
    assert (listed[1]["written"], listed[1]["found"]) == ("lower", "higher")
    assert listed[2]["file"] == f"{path.stem}.parquet" and "disagreements" in said.err


CHANGES: dict[str, tuple[Callable[[Row], bool], Callable[[Row], object]]] = {
    "options": (
        lambda row: len(row["options"]) > 2,
        lambda row: row["options"].__setitem__(row["correct"] - 1, "banana"),
    ),
    "correct": (lambda row: not row["options"], lambda row: row.update(correct=3)),
    "split": (lambda row: True, lambda row: row.update(split="test")),
    "images": (lambda row: row["modality"] == "scene", lambda row: row["images"].pop()),
    "question": (lambda row: True, lambda row: row.update(question=5)),
    "margin": (lambda row: row["valid"], lambda row: row.update(margin=123.0)),
    "rationale": (lambda row: row["valid"], lambda row: row.update(rationale="It is so.")),
}


@pytest.mark.parametrize("name", CHANGES)
def test_any_field_that_was_changed_is_found(
    name: str, rows: list[Row], scenes_root: Path, load: verify.Loader
) -> None:
    wanted, change = CHANGES[name]
    known = recipe.Recipe(
        count=COUNT, source="own", invalid_share=0.1, choice_share=0.4, rationales=True
    )
    splits = {row["scene_id"]: row["split"] for row in rows}
    row = copy.deepcopy(next(row for row in rows if wanted(row)))
    assert not list(verify.verify_rows([row], load, scenes_root, known, splits, "x"))
    change(row)
    found = list(verify.verify_rows([row], load, scenes_root, known, splits, "x"))
    assert name in {one.field for one in found}


@pytest.mark.parametrize("value", [None, "a", 5, [["x"]], {}])
@pytest.mark.parametrize("name", ["correct", "options", "images", "evidence", "level", "scene_id"])
def test_a_field_of_any_other_kind_is_a_disagreement(
    name: str, value: object, rows: list[Row], scenes_root: Path, load: verify.Loader
) -> None:
    known = recipe.Recipe(count=COUNT, source="own", choice_share=0.4, rationales=True)
    row = next(row for row in rows if row["options"]) | {name: value}
    splits = {row["scene_id"]: row["split"] for row in rows}
    found = list(verify.verify_rows([row], load, scenes_root, known, splits, "x"))
    assert name in {one.field for one in found}


def test_a_row_that_is_there_twice_is_found(
    command: Command, cheap: Path, scenes_root: Path, tmp_path: Path, capsys: Any
) -> None:
    twice = shutil.copytree(cheap, tmp_path / "twice")
    for path in shards.list_shards(twice, "jsonl")[:1]:
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join([lines[0], lines[0], *lines[2:]]))
    assert command(f"--scenes={scenes_root}", f"--verify={twice}") == EXIT_CODE
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "id" in {one["field"] for one in found}


@pytest.mark.parametrize("name", ["jsonl/train-00000.jsonl", "parquet/train-00001.parquet"])
@pytest.mark.parametrize("damage", ["cut", "garbage", "gone"])
def test_a_shard_that_is_damaged_is_listed_and_the_others_are_verified(
    name: str, damage: str, command: Command, cheap: Path, scenes_root: Path, tmp_path: Path,
    capsys: Any,
) -> None:  # fmt: skip
    broken = shutil.copytree(cheap, tmp_path / "set")
    path = broken / name
    text = path.read_bytes()
    path.write_bytes(text[:-100] if damage == "cut" else b"\xff\xfe\x00{" * 99)
    if damage == "gone":
        path.unlink()
    last = broken / "jsonl" / "validation-00003.jsonl"
    rows = shards.read_shard(last)
    last.write_text("".join(json.dumps(row | {"answer": "x"}) + "\n" for row in rows))
    assert command(f"--scenes={scenes_root}", f"--verify={broken}") == EXIT_CODE
    said = capsys.readouterr()
    found = {json.loads(line)["file"] for line in said.out.splitlines()}
    listed = {path.name} if (damage, path.suffix) != ("gone", ".jsonl") else set()
    assert found == {*listed, last.name, f"{last.stem}.parquet"}
    assert ("rows, found" in said.err) == (path.suffix == ".jsonl")


def test_a_scene_that_changed_is_found_beside_what_is_packed(
    command: Command, cheap: Path, scenes_root: Path, tmp_path: Path, capsys: Any
) -> None:
    moved = shutil.copytree(scenes_root, tmp_path / "scenes")
    (row, *_) = shards.read_shard(shards.list_shards(cheap, "jsonl")[0])
    path = moved / "metadata" / row["scene_id"] / f"{row['scene_id']}.json"
    scene_io.save_packed(scene_io.load_scene(moved, row["scene_id"]), path.with_suffix(".npz"))
    assert command(f"--scenes={moved}", f"--verify={cheap}") == 0
    known = json.loads(path.read_text())
    known["objects"][0]["label"] = "piano"
    path.write_text(json.dumps(known))
    assert command(f"--scenes={moved}", f"--verify={cheap}") == EXIT_CODE
    assert "scene_hash" in capsys.readouterr().out


def test_scenes_with_damaged_pictures_are_left_out(
    command: Command, scenes_root: Path, tmp_path: Path
) -> None:
    broken = shutil.copytree(scenes_root, tmp_path / "scenes")
    names = scene_io.list_scenes(broken, "train")
    names = [name for name in names if name != BROKEN][:4]
    for name, damage in zip(names[:3], (b"", b"no picture", None), strict=True):
        path = scene_io.load_scene(broken, name).image_paths[0]
        path.write_bytes(path.read_bytes()[:-40] if damage is None else damage)
    last = scene_io.load_scene(broken, names[-1])
    scene_io.save_packed(last, broken / "metadata" / names[-1] / f"{names[-1]}.npz")
    (gone := last.image_paths[0]).unlink()
    out = tmp_path / "set"
    assert command(*arguments(broken, out), "--workers=1") == 0
    card = (out / "README.md").read_text(encoding="utf-8")
    shown = gone.relative_to(broken).as_posix()
    assert f"- `{names[-1]}`: {shown}: expected an image, found none." in card
    assert str(tmp_path) not in card and BROKEN in card  # no path of this machine in the set
    made = [row for path in shards.list_shards(out, "jsonl") for row in shards.read_shard(path)]
    for name in names:
        assert f"- `{name}`: " in card
        assert not any(row["scene_id"] == name for row in made)


def test_a_scene_that_changed_is_found(
    command: Command, made: Path, scenes_root: Path, tmp_path: Path, rows: list[Row], capsys: Any
) -> None:
    moved = shutil.copytree(scenes_root, tmp_path / "scenes")
    scene = rows[0]["scene_id"]
    path = moved / "metadata" / scene / f"{scene}.json"
    known = json.loads(path.read_text())
    known["objects"][0]["obb"]["center"][0] += 0.01
    path.write_text(json.dumps(known))
    assert command(f"--scenes={moved}", f"--verify={made}") == EXIT_CODE
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    own = sum(row["scene_id"] == scene for row in rows)
    assert len(found) == own > 0 and {one["field"] for one in found} == {"scene_hash"}


def test_a_run_learns_from_a_set_of_the_rooms_that_it_loads(
    command: Command, rooms_root: Path, tmp_path: Path
) -> None:
    """Which are loaded without the instance points that the set was made with."""
    made, shown = tmp_path / "set", 3
    where = (f"--scenes={rooms_root}", f"--out={made}", "--source=own", "--workers=1")
    few = ("--count=12", CHEAP[1], f"--scene_images={shown}", "--formats=jsonl")
    assert command(*where, *few) == 0
    tasks = ("elevation_cam_cam", "object_size")
    data = DataConfig(rooms_root, image_size=(56, 56), scene_frames=shown, tasks=tasks)
    rooms = load_scenes(data, "train").rooms
    stored = scene_io.load_scene(rooms_root, rooms.records[0].scene_id)
    assert stored.scene.points.size and not rooms.records[0].scene.points.size
    lessons = lesson_source(SftConfig(data=made, rows=(0, 1, 1)), data, rooms, seed=0)
    rows = [row for path in shards.list_shards(made, "jsonl") for row in shards.read_shard(path)]
    questions = {row["question"] for row in rows if row["split"] == "train"}
    for lesson in lessons.step_lessons(0, (0, 1, 1)):
        assert any(question in lesson.example.prompt for question in questions)


# --- the same bytes --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cheap(command: Command, scenes_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set by one process, never stopped."""
    out = tmp_path_factory.mktemp("cheap") / "set"
    assert command(*arguments(scenes_root, out), "--workers=1") == 0
    return out


def arguments(scenes: Path, out: Path) -> tuple[str, ...]:
    return (f"--scenes={scenes}", f"--out={out}", "--source=own", *CHEAP)


def test_four_processes_make_the_same_bytes(
    command: Command, cheap: Path, scenes_root: Path, tmp_path: Path
) -> None:
    assert command(*arguments(scenes_root, tmp_path / "set"), "--workers=4") == 0
    assert files_of(tmp_path / "set") == files_of(cheap)


def test_two_hosts_make_the_same_bytes(
    command: Command, cheap: Path, scenes_root: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """One after the other: each does its part as far as it can without the other's."""
    out = tmp_path / "set"
    monkeypatch.setattr(generate, "PATIENCE", 0.0)
    monkeypatch.setattr(generate, "POLL", 0.0)
    hosts = [(*arguments(scenes_root, out), f"--host_index={i}", "--host_count=2") for i in (1, 0)]
    codes = [command(*hosts[i], "--workers=1") for i in (0, 1, 0, 1)]
    # Host 1 waits for the plan, host 0 plans and waits for host 1's shards, which then come.
    assert codes == [EXIT_CODE, EXIT_CODE, 0, 0]
    assert files_of(out) == files_of(cheap)


@pytest.mark.parametrize("stage", ["judge_block", "write_block"])
def test_a_set_that_was_stopped_goes_on_to_the_same_bytes(
    command: Command,
    cheap: Path,
    scenes_root: Path,
    tmp_path: Path,
    stage: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, calls = getattr(pipeline, stage), []

    def stopped(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*given)

    out = tmp_path / "set"
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, stage, stopped)
        assert command(*arguments(scenes_root, out), "--workers=1") == EXIT_CODE
    assert not (out / "README.md").exists()
    for whole in (cheap / "jsonl").iterdir():  # what a killed process leaves of a file
        torn = out / "jsonl" / f".{whole.name}.part"
        if not (out / "jsonl" / whole.name).exists():
            torn.parent.mkdir(exist_ok=True)
            torn.write_bytes(whole.read_bytes()[:100])
    assert command(*arguments(scenes_root, out), "--workers=1") == 0
    assert files_of(out) == files_of(cheap)


def test_a_full_disk_leaves_whole_shards_only(
    command: Command,
    cheap: Path,
    scenes_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real, done = shards._write_parquet, []

    def full(path: Path, *given: Any) -> None:
        real(path, *given)
        done.append(path)
        if len(done) == 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    out = tmp_path / "set"
    with monkeypatch.context() as patch:
        patch.setattr(shards, "_write_parquet", full)
        assert command(*arguments(scenes_root, out), "--workers=1") == EXIT_CODE
    assert "no space left on device" in capsys.readouterr().err
    there = {name: text for name, text in files_of(out).items() if "work" not in name}
    whole = files_of(cheap)
    assert len(there) == 3 and all(whole[name] == text for name, text in there.items())
    assert command(*arguments(scenes_root, out), "--workers=1") == 0
    assert files_of(out) == whole


def test_a_finished_set_is_left_as_it_is(
    command: Command, cheap: Path, scenes_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in cheap.rglob("*") if path.is_file()}
    (cheap / ".work").mkdir()  # a run that was killed before it could clear up
    assert command(*arguments(scenes_root, cheap)) == 0
    assert "is complete" in capsys.readouterr().out and not (cheap / ".work").exists()
    assert before == {path: path.stat().st_mtime_ns for path in cheap.rglob("*") if path.is_file()}


def test_a_shard_that_a_finished_set_lost_is_made_again(
    command: Command, cheap: Path, scenes_root: Path, tmp_path: Path
) -> None:
    lost = shutil.copytree(cheap, tmp_path / "set")
    (lost / "parquet" / "train-00001.parquet").unlink()
    assert command(*arguments(scenes_root, lost), "--workers=1") == 0
    assert files_of(lost) == files_of(cheap)


def test_what_a_run_left_that_could_not_begin_is_in_nobodys_way(
    command: Command, cheap: Path, scenes_root: Path, tmp_path: Path
) -> None:
    (tmp_path / ".recipe.json.part").touch()
    assert command(*arguments(scenes_root, tmp_path), "--workers=1") == 0
    assert {name for name in files_of(tmp_path) if name[0] != "."} == set(files_of(cheap))


def test_an_empty_file_of_questions_is_said(
    command: Command, scenes_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "none.jsonl").touch()
    asked = (f"--questions={tmp_path / 'none.jsonl'}", "--workers=1")
    assert command(*arguments(scenes_root, tmp_path / "set"), *asked) == EXIT_CODE
    assert "expected questions, found none" in capsys.readouterr().err


# --- other questions, other settings ---------------------------------------------------------


def test_given_questions_go_through_the_same_oracle(
    command: Command, scenes_root: Path, tmp_path: Path, rows: list[Row]
) -> None:
    wanted = ("elevation_cam_cam", "object_size")
    own = [row for row in rows if row["task"] in wanted and row["split"] == "train"]
    valid = [row for row in own if row["valid"]]
    asked = [verify.request_fields(row) for row in own]
    lines = [*asked, asked[0], {"task_type": "object_size", "scene_id": "scene0000_00"}]
    lines += [{**asked[0], "scene_id": "nowhere"}, {**asked[0], "use_points": True}, {}]
    lines += [{**asked[0], "scene_id": ["scene0000_00"]}]
    nonsense = {**asked[0], "question": "Is it raining?"}
    path = tmp_path / "asked.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, nonsense]))
    out = tmp_path / "set"
    code = command(
        f"--scenes={scenes_root}", f"--out={out}", "--source=own", "--workers=1",
        f"--questions={path}", "--count=20", f"--tasks={','.join(wanted)}",
        "--weights=scene=3", "--formats=jsonl",
    )  # fmt: skip
    assert code == 0
    made = [r for shard in shards.list_shards(out, "jsonl") for r in shards.read_shard(shard)]
    assert len(made) == 20 and len({row["question"] for row in made}) > 10
    answers = {(r["scene_id"], r["question"], *r["images"]): r["answer"] for r in valid}
    assert all(
        answers[row["scene_id"], row["question"], *row["images"]] == row["answer"] for row in made
    )
    assert Counter(row["modality"] for row in made)["scene"] > 10
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "Given questions that no row can ask: 5." in card
    assert command(f"--scenes={scenes_root}", f"--verify={out}") == 0


def test_published_lists_of_images_are_asked_about_alone(
    command: Command, cheap: Path, scenes_root: Path, tmp_path: Path
) -> None:
    lists = tmp_path / "lists.jsonl"
    code = command(f"--scenes={scenes_root}", f"--convert={cheap}", "--to=lists", f"--file={lists}")
    every = [json.loads(line)["images"] for line in lists.read_text().splitlines()]
    assert code == 0 and len(every) > 30
    some = every[::2]
    lines = [{"problem": None, "answer": None, "images": [f"/x/{n}" for n in one]} for one in some]
    lists.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "set"
    wanted = (*arguments(scenes_root, out), "--count=15", f"--lists={lists}", "--workers=1")
    assert command(*wanted) == 0
    made = [r for path in shards.list_shards(out, "jsonl") for r in shards.read_shard(path)]
    shown = {frozenset(row["images"]) for row in made}
    assert len(made) == 15 and shown <= {frozenset(one) for one in some}
    assert {row["task"] for row in made} == {"elevation_cam_cam", "object_size"}
    assert command(f"--scenes={scenes_root}", f"--verify={out}") == 0


def test_the_published_meanings_make_a_set_too(
    command: Command, scenes_root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    assert command(*arguments(scenes_root, out), "--convention=reference", "--workers=1") == 0
    known = recipe.read_recipe(out)
    assert known.convention == "reference" and not known.strict
    made = [r for path in shards.list_shards(out, "jsonl") for r in shards.read_shard(path)]
    sizes = [row["answer"] for row in made if row["task"] == "object_size"]
    assert sizes and all(size.endswith(" cm") for size in sizes)
    assert command(f"--scenes={scenes_root}", f"--verify={out}") == 0


def test_own_pictures_can_be_put_inside(
    command: Command, scenes_root: Path, tmp_path: Path
) -> None:
    import datasets

    out = tmp_path / "set"
    inside = ("--embed_images", "--pictures")
    assert command(*arguments(scenes_root, out), *inside, "--workers=1") == 0
    for task in ("elevation_cam_cam", "object_size"):
        with Image.open(out / "pictures" / f"{task}.png") as drawn:
            assert drawn.width > 800
        assert f"](pictures/{task}.png)" in (out / "README.md").read_text(encoding="utf-8")
    files = f"{out}/parquet/train-*.parquet"
    read = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    row = read["train"][0]
    assert len(row["pictures"]) == len(row["images"])
    with Image.open(scenes_root / row["images"][0]) as picture:
        assert row["pictures"][0].size == picture.size
    assert command(f"--scenes={scenes_root}", f"--verify={out}") == 0


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (("--source=scannet", "--embed_images"), "may not be passed on"),
        (("--source=scannet", "--pictures"), "may not be passed on"),
        (("--tasks=object_sise",), "object_sise"),
        (("--weights=scene=many",), "NAME=NUMBER"),
        (("--weights=scene=inf",), "above 0, got scene=inf"),
        (("--weights=scene=1,scene=5",), "got two of scene"),
        (("--least_margin=inf",), "least_margin"),
        (("--convention=reference", "--rationales"), "corrected convention"),
        (("--weights=object_color=2",), "object_color"),
        (("--count=5000",), "under the bounds"),
        (("--formats=csv",), "jsonl, parquet"),
        (("--invalid_share=1",), "invalid_share"),
        (("--host_index=2", "--host_count=2"), "--host_index"),
        (("--questions=nowhere.jsonl",), "nowhere.jsonl"),
        (("--questions=a", "--lists=b"), "got --questions and --lists"),
        (("--verify=nowhere",), "expected one of --out, --verify"),
        (("--scenes=nowhere",), "--scenes"),
    ],
)
def test_a_mistake_is_one_sentence(
    command: Command,
    scenes_root: Path,
    tmp_path: Path,
    changed: tuple[str, ...],
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = command(*arguments(scenes_root, tmp_path / "set"), "--workers=1", *changed)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == EXIT_CODE and says in error and "Traceback" not in error


def test_rows_without_an_answer_have_no_score_of_guessing_it(
    command: Command, scenes_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = (*arguments(scenes_root, tmp_path / "set"), "--invalid_share=0.2", "--formats=jsonl")
    assert command(*wanted, "--workers=1") == 0
    said = [line for line in capsys.readouterr().out.splitlines() if " rows" in line]
    assert [line for line in said if "no answer" in line and "blind" not in line]
    assert [line for line in said if "object_size" in line and "blind" in line]


def test_a_set_of_another_version_is_said_to_be_one(
    command: Command, cheap: Path, scenes_root: Path, tmp_path: Path, capsys: Any
) -> None:
    older = tmp_path / "set"
    shutil.copytree(cheap, older)
    known = json.loads((older / recipe.FILE).read_text())
    last = {"version": recipe.VERSION - 1, "gone_since": 1}
    (older / recipe.FILE).write_text(json.dumps(known | last))
    for asked in ((f"--scenes={scenes_root}", f"--verify={older}"), arguments(scenes_root, older)):
        assert command(*asked) == EXIT_CODE
        said = capsys.readouterr().err
        assert f"expected recipe version {recipe.VERSION}, got {recipe.VERSION - 1}" in said
        assert "make it anew" in said


def test_a_folder_holds_one_set(
    command: Command, cheap: Path, scenes_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*arguments(scenes_root, cheap), "--seed=1") == EXIT_CODE
    assert "seed: 0 there, 1 asked" in capsys.readouterr().err


def test_whose_scenes_they_are_must_be_said(
    command: Command, scenes_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(f"--scenes={scenes_root}", f"--out={tmp_path / 'x'}") == EXIT_CODE
    assert "--source" in capsys.readouterr().err
