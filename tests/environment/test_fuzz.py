"""100,000 mutated questions, requests and scene files: a reply each, in order, never an exception.

Seeded, so that a failure comes back. Most mutations go to the reading on the host; what reaches the
oracles is judged in batches.
"""

import itertools
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geometry_jax import scene_io
from geometry_jax.reasons import Reason
from geometry_jax.scene_io import SceneRecord
from geometry_jax.tasks import TASK_IDS
from spatialevo_jax.environment.extract import read_question
from spatialevo_jax.environment.fields import BadRequest
from spatialevo_jax.environment.records import answer_records
from spatialevo_jax.environment.wordings import Slots
from tests.environment.sentences import LABELS, SENTENCES
from tests.scenes import room, write_layout

QUESTIONS, REQUESTS, FILES = 83_600, 16_000, 400
SLOWEST = 1.0  # seconds of this thread for one text, far above what any takes, far below a blow-up
ROOM = room()
TASKS = list(TASK_IDS)
ASKED = [(task, text) for task, asked in SENTENCES.items() for text, _ in asked]
TAGS = ("<question>", "</question>", "<answer><answer>", "</observation>", "<|im_start|>", "<!--")
ODD = (
    *("\x00", "\x1b[31m", "\u202e", "\u200b", "\ud800", "\ufeff", "\u2028", "\u0130", "\u00df"),
    *("\N{CHAIR}", "e\u0301", "\u0430", "\uff21", "(", "[a-z]+", "\\", "{a}", "%s", "\n", "\t"),
)
WORDS = (
    *("the", "image", "1", "two", "camera", "bed", "tv", "and", "or", ",", "(", ")", "?", "is"),
    *("to", "from", "relative", "closest", "first"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 2, -1, 10**400, 1.5, float("nan"), float("inf"), "", " ", "null"),
    *("bed", "lamp", "BED", "unicorn", [], ["bed"], ["bed", "tv"], [None, 3], {}, {"a": [1]}),
    *("frame_processed/0.jpg", "/etc/passwd", "../../x", "10", "x" * 3000, "\ud800", "\x00"),
)
FIELDS = (
    *("task_type", "scene_id", "question", "image_path", "image_paths", "image_path_1"),
    *("image_path_2", "frame_id", "frame_id_1", "frame_id_2", "min_visibility", "difficulty"),
    *("object_label", "object1_label", "object2_label", "target_label", "candidate_labels"),
    *("camera_reference_image_idx", "camera_target_image_idx", "region_name", "request"),
    *("summary_type", "frame_ids", "use_points", "frame_type", "measurement_type", "images"),
)


def mutated(text: str, rng: random.Random) -> str:
    """A text with up to three accidents."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randint(0, len(text))
        match rng.randrange(9):
            case 0:
                text = text[:at] + rng.choice(ODD) + text[at:]
            case 1:
                text = text[:at] + text[at + rng.randint(1, 6) :]
            case 2:
                text = text[:at] + text[at : at + 12] + text[at:]
            case 3:
                words = text.split(" ")
                rng.shuffle(words)
                text = " ".join(words)
            case 4:
                words = text.split(" ")
                words[rng.randrange(len(words))] = rng.choice(WORDS)
                text = " ".join(words)
            case 5:
                text = rng.choice(TAGS) + text[:at] + rng.choice(TAGS) + text[at:]
            case 6:
                text = text.swapcase() if rng.random() < 0.5 else text.upper()
            case 7:
                text = text.replace("bed", rng.choice((*LABELS, "unicorn", "night_stand", "")))
            case _:
                text = (text + " ") * rng.randint(1, 4)
    return text


@pytest.fixture(scope="module", autouse=True)
def grammar() -> None:
    """What all absent things are called is built for the first of them, in more than a second."""
    assert read_question("object_size", "How long is the piano?", LABELS) is Reason.ABSENT_LABEL


def test_mutated_questions_are_read_or_refused() -> None:
    rng = random.Random(0)
    read, slowest = 0, 0.0
    for index in range(QUESTIONS):
        task, text = ASKED[index % len(ASKED)]
        if index % 3 == 0:
            task = rng.choice(TASKS)
        text = mutated(text, rng)
        started = time.thread_time()
        found = read_question(task, text, LABELS)
        slowest = max(slowest, time.thread_time() - started)
        if isinstance(found, Slots):
            read += 1
            assert len(set(found.labels)) == len(found.labels)
            assert task == "position_cam_reg" or set(found.labels) <= set(LABELS)
            assert set(found.images) <= {1, 2}
        else:
            assert isinstance(found, Reason) and found is not Reason.OK
    assert slowest < SLOWEST
    assert 0.05 * QUESTIONS < read < 0.9 * QUESTIONS, read


@pytest.mark.parametrize(
    "text",
    [
        "x" * 100_000,
        "the " * 25_000,
        "<answer>" * 12_500,
        "which of these objects (" + "bed, " * 110 + "tv) is closest to the lamp",
        "how far is " + "a bed from " * 50 + "the tv",
        "between " + "the bed and " * 48 + "the tv, which is longer",
        "is a or " * 70,
        "(" * 599,
        "image 1 " * 74,
    ],
    ids=lambda text: f"{text[:20]}-{len(text)}",
)
def test_no_text_takes_long(text: str) -> None:
    started = time.thread_time()
    for task in TASKS:
        assert isinstance(read_question(task, text, LABELS), Reason)
    assert time.thread_time() - started < SLOWEST


def load(scene_id: str) -> SceneRecord:
    if scene_id != ROOM.scene_id:
        raise FileNotFoundError(f"rooms: expected a scene {scene_id!r}, found none.")
    return ROOM


def mutated_request(index: int, rng: random.Random) -> Any:
    task, text = ASKED[index % len(ASKED)]
    text = text.replace("trash can", rng.choice(("trash can", "bed", "chair", "lamp")))
    record: dict[str, Any] = {"task_type": task, "scene_id": ROOM.scene_id, "question": text}
    record["image_paths"] = [f"{rng.choice((0, 10, 20, 30, 99))}.jpg" for _ in "ab"]
    record["image_path"] = record["image_paths"][0]
    if rng.random() < 0.02:
        return rng.choice((None, [], "x", 3, float("nan"), BadRequest("INVALID_INPUT", "no.")))
    if rng.random() < 0.05:
        record |= {"request": "summary", "summary_type": rng.choice(("scene", "pair", "x", 3))}
    for _ in range(rng.randint(0, 2)):
        record[rng.choice(FIELDS)] = rng.choice(VALUES)
    if rng.random() < 0.2:
        record["question"] = mutated(str(record["question"]), rng)
    if rng.random() < 0.05:
        del record[rng.choice(list(record))]
    return record


def test_mutated_requests_each_have_a_reply_in_order() -> None:
    rng = random.Random(1)
    asked = [mutated_request(index, rng) for index in range(REQUESTS)]
    replies = answer_records(asked, load)
    assert len(replies) == REQUESTS
    valid = 0
    for record, reply in zip(asked, replies, strict=True):
        json.dumps(reply)
        if isinstance(record, dict) and record.get("request") == "summary":
            assert isinstance(reply["success"], bool)
            continue
        valid += reply["is_valid"]
        assert reply["is_valid"] == (reply["answer"] != "") == (reply["error_code"] == "")
        if isinstance(record, dict) and isinstance(record.get("question"), str):
            assert reply["question"] == record["question"]
    assert valid > REQUESTS // 10, valid


def spoil(value: Any, rng: random.Random) -> Any:
    """JSON with one part replaced or lost."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.15:
            return {name: part for name, part in value.items() if name != key}
        return value | {key: spoil(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        return [*value[:at], spoil(value[at], rng), *value[at + 1 :]]
    return rng.choice(VALUES)


def spoil_text(text: str, rng: random.Random) -> str:
    """A text file cut short, or with a part replaced."""
    at = rng.randrange(len(text) + 1)
    return text[:at] + (rng.choice(("nan", "-inf", "x", "", "\x00")) if rng.random() < 0.7 else "")


def test_mutated_scene_files_are_read_or_refused(tmp_path: Path) -> None:
    """Whatever a file holds, the scene is refused in words or its questions have replies."""
    rng = random.Random(2)
    folder = write_layout(ROOM, tmp_path)
    metadata = tmp_path / "metadata" / ROOM.scene_id
    files = (
        *(metadata / f"{ROOM.scene_id}.json", metadata / "frame_processed" / "0.json"),
        *(folder / "pose" / "0.txt", folder / f"{ROOM.scene_id}.txt"),
    )
    whole = {path: path.read_text() for path in files}
    refused, rooms = 0, {}
    for index in range(FILES):
        path = files[index % 2] if rng.random() < 0.8 else rng.choice(files[2:])
        if path.suffix == ".json" and rng.random() < 0.8:
            changed = json.dumps(spoil(json.loads(whole[path]), rng))
        else:
            changed = spoil_text(whole[path], rng)
        path.write_text(changed, encoding="utf-8", errors="replace")
        try:
            rooms[f"room{index}"] = scene_io.load_scene(tmp_path, ROOM.scene_id)
        except (OSError, ValueError) as error:
            assert str(error)
            refused += 1
        path.write_text(whole[path])
    loader: Callable[[str], SceneRecord] = rooms.__getitem__
    replies = []
    for start in range(0, len(rooms), 16):
        asked = []
        for name in itertools.islice(rooms, start, start + 16):
            task, text = rng.choice(ASKED)
            named = {"task_type": task, "scene_id": name, "question": text}
            asked.append(named | {"image_paths": ["0", "10"], "image_path": "0"})
        replies += answer_records(asked, loader)
    assert len(replies) == len(rooms) == FILES - refused
    assert {type(reply["is_valid"]) for reply in replies} == {bool}
    assert FILES // 10 < refused < FILES
