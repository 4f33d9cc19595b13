"""Rows in the forms of others, and back."""

import functools
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from geometry_jax import scene_io
from spatialevo_jax.environment.respond import Request, answer_requests
from spatialevo_jax.qa import formats, shards
from spatialevo_jax.qa.candidates import concatenated, draw_candidates, judge
from spatialevo_jax.qa.groups import usable
from spatialevo_jax.qa.recipe import Recipe
from spatialevo_jax.qa.rows import Placed, Row, make_rows, row_of
from tests.named_rooms import BROKEN, write_scenes
from tests.scenes import AHEAD, SOUTH, room, write_layout

RECIPE = Recipe(count=4, source="own")
ASKED = (
    ("absolute_distance", "How far apart are the bed and the desk?", ()),
    ("distance_cam_obj", "How far is the bed from the camera?", (SOUTH,)),
    ("position_cam_cam", "From Image 2, where is the camera of Image 1?", (SOUTH, AHEAD)),
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_layout(room(), folder)
    return folder


@pytest.fixture(scope="module")
def load(root: Path) -> Any:
    return functools.cache(functools.partial(scene_io.load_scene, root))


@pytest.fixture(scope="module")
def rows(root: Path, load: Any) -> list[Row]:
    record = load(room().scene_id)
    labels = [label for label in record.labels if label in ("bed", "desk", "table", "tv", "lamp")]
    requests = [
        Request(record, task, text.replace("bed", labels[0]).replace("desk", labels[1]), frames)
        for task, text, frames in ASKED
    ]
    replies = answer_requests(requests)
    assert all(reply.valid for reply in replies), replies
    return [
        row_of(one, reply, root, RECIPE, "train", (SOUTH, AHEAD, 2))
        for one, reply in zip(requests, replies, strict=True)
    ]


def written(path: Path, lines: list[Row]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_prompt_has_a_tag_for_each_image_and_letters_for_options(rows: list[Row]) -> None:
    pair = rows[2] | {"options": ["left", rows[2]["answer"]], "correct": 1}
    made = formats.to_prompt(pair)
    assert made["prompt"] == (
        f"Image 1: <image>\nImage 2: <image>\n{pair['question']}\nOptions:\nA. left\n"
        f"B. {pair['answer']}"
    )
    assert made["answer"] == "B" and made["images"] == pair["images"]
    assert formats.read_prompt(made) == (pair["question"], pair["options"], pair["answer"])
    single = formats.to_prompt(rows[1])
    assert single["prompt"] == f"<image>\n{rows[1]['question']}"


def test_prompts_become_requests_again(
    rows: list[Row], root: Path, load: Any, tmp_path: Path
) -> None:
    made = [formats.to_prompt(row) for row in rows]
    wrong = made[1] | {"answer": "77 meters"}
    unread = made[1] | {"prompt": "<image>\nWhat colour is the wall?"}
    source = written(tmp_path / "prompts.jsonl", [*made, wrong, unread])
    count, left = formats.convert(source, tmp_path / "asked.jsonl", "requests", root, load)
    asked = list(shards.read_lines(tmp_path / "asked.jsonl"))
    assert count == len(asked) == 3
    assert [one["task_type"] for one in asked] == [task for task, _, _ in ASKED]
    assert [one["question"] for one in asked] == [row["question"] for row in rows]
    assert asked[2]["image_paths"] == rows[2]["images"] and "image_paths" not in asked[0]
    assert "line 4" in left[0] and "77 meters" in left[0]
    assert "line 5" in left[1] and "no task reads" in left[1]


def prompts_of_others(rows: list[Row]) -> dict[str, Row]:
    """What EasyR1, TRL and `datasets` make of a row, each in its way."""
    row, said = rows[1], {"type": "text", "text": rows[1]["question"]}
    system = {"role": "system", "content": "Where is the tv relative to the bed?"}
    plain = {"images": row["images"], "answer": row["answer"]}
    offered = f"<image>{row['question']}\nOptions:\n(A) 77 meters\n(B) {row['answer']}\n"
    return {
        "problem": plain | {"problem": f"<image>{row['question']}"},
        "tag at the end": plain | {"prompt": f"{row['question']}\n<image>"},
        "messages": plain | {"prompt": [system, {"role": "user", "content": row["question"]}]},
        "parts": plain | {"prompt": [{"role": "user", "content": [{"type": "image"}, said]}]},
        "image": plain
        | {"images": [{"bytes": None, "path": row["images"][0]}], "prompt": row["question"]},
        "letter": plain | {"prompt": offered, "answer": "B"},
        "letter in brackets": plain | {"prompt": offered, "answer": "(B)"},
        "letter and text": plain | {"prompt": offered, "answer": f"B. {row['answer']}"},
    }


OTHERS = ("problem", "tag at the end", "messages", "parts", "image", "letter")
OTHERS += ("letter in brackets", "letter and text")


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize("kind", OTHERS)
def test_prompts_that_others_wrote_become_requests(
    kind: str, form: str, rows: list[Row], root: Path, load: Any, tmp_path: Path
) -> None:
    prompt = prompts_of_others(rows)[kind]
    source = tmp_path / f"others.{form}"
    if form == "jsonl":
        written(source, [prompt])
        source.write_text(source.read_text() + "\n")
    else:
        shards.parquet().write_table(pa.Table.from_pylist([prompt]), source)
    count, left = formats.convert(source, tmp_path / "asked.jsonl", "requests", root, load)
    assert (count, left) == (1, [])
    (asked,) = shards.read_lines(tmp_path / "asked.jsonl")
    assert asked["question"] == rows[1]["question"] and asked["image_path"] == rows[1]["images"][0]


@pytest.mark.parametrize(
    ("place", "image", "says"),
    [
        (2, "train/scene0007_00/frame_processed/0.jpg", "images of one scene, got those of scene0"),
        (0, "train/scene0007_00/frame_processed/0.jpg", "images of one scene"),
        (0, f"train/{room().scene_id}/frame_processed/77.jpg", "expected a frame such as"),
    ],
)
def test_a_prompt_shows_images_of_one_scene_that_it_has(
    place: int, image: str, says: str, rows: list[Row], root: Path, load: Any, tmp_path: Path
) -> None:
    """Those of a question about the whole room too."""
    prompt = formats.to_prompt(rows[place])
    prompt["images"][-1] = image
    source = written(tmp_path / "prompts.jsonl", [prompt])
    count, (why,) = formats.convert(source, tmp_path / "x.jsonl", "requests", root, load)
    assert count == 0 and says in why


def test_a_prompt_has_as_many_tags_as_images(
    rows: list[Row], root: Path, load: Any, tmp_path: Path
) -> None:
    prompt = formats.to_prompt(rows[1])
    source = written(tmp_path / "x.jsonl", [prompt | {"prompt": f"<image>{prompt['prompt']}"}])
    count, left = formats.convert(source, tmp_path / "y.jsonl", "requests", root, load)
    assert (count, left) == (0, ["line 1: expected <image> for each of 1 images, got 2"])


def test_a_set_of_every_task_comes_back_as_requests(tmp_path: Path) -> None:
    """Sentences that several tasks read are tried as each of them."""
    write_scenes(tmp_path / "scenes")
    load = functools.cache(functools.partial(scene_io.load_scene, tmp_path / "scenes"))
    known = Recipe(count=400, source="own")
    names = scene_io.list_scenes(tmp_path / "scenes", "train")
    records = [load(name) for name in names if name != BROKEN][:8]
    placed = [Placed(record, tmp_path / "scenes") for record in records]
    drawn = [draw_candidates(record, place, known, 12) for place, record in enumerate(records)]
    judged = judge(records, concatenated(drawn), known)
    rows = make_rows(placed, judged.take(usable(judged, known)), known, "train", 0)
    source = written(tmp_path / "prompts.jsonl", [formats.to_prompt(row) for row in rows])
    count, left = formats.convert(source, tmp_path / "asked.jsonl", "requests", tmp_path, load)
    assert count == len(rows) and not left
    asked = written(tmp_path / "asked2.jsonl", list(shards.read_lines(tmp_path / "asked.jsonl")))
    count, _ = formats.convert(asked, tmp_path / "lists.jsonl", "lists", tmp_path, load)
    assert count > 10


def test_rows_of_another_form_are_said(
    rows: list[Row], root: Path, load: Any, tmp_path: Path
) -> None:
    prompt = formats.to_prompt(rows[1])
    mute = {name: prompt[name] for name in ("prompt", "images")}
    source = written(tmp_path / "prompts.jsonl", [prompt, mute])
    count, left = formats.convert(source, tmp_path / "x.jsonl", "requests", root, load)
    assert count == 1 and left == ["line 2: expected an answer, found none"]
    short = {name: value for name, value in rows[0].items() if name != "options"}
    source = written(tmp_path / "rows.jsonl", [rows[0], short])
    with pytest.raises(ValueError, match="row 2 lacks options"):
        formats.convert(source, tmp_path / "x.jsonl", "prompts", root, load)


def test_the_published_lists_hold_each_set_of_images_once(
    rows: list[Row], root: Path, load: Any, tmp_path: Path
) -> None:
    source = written(tmp_path / "prompts.jsonl", [formats.to_prompt(row) for row in rows + rows])
    count, left = formats.convert(source, tmp_path / "lists.jsonl", "lists", root, load)
    made = list(shards.read_lines(tmp_path / "lists.jsonl"))
    assert (count, left) == (3, [])
    assert made[1] == {"problem": None, "answer": None, "images": rows[1]["images"]}
    found = formats.read_lists(tmp_path / "lists.jsonl")
    assert found == {room().scene_id: [tuple(row["images"]) for row in rows]}


def test_lists_with_the_paths_of_others_are_read(tmp_path: Path) -> None:
    line = {
        "problem": None,
        "answer": None,
        "images": ["/mnt/data/ScanNet/train/scene0001_00/frame_processed/840.jpg"],
    }
    path = written(tmp_path / "lists.jsonl", [line])
    assert formats.read_lists(path) == {"scene0001_00": [tuple(line["images"])]}


@pytest.mark.parametrize(
    ("line", "to", "says"),
    [
        ({"x": 1}, "prompts", "got fields x"),
        ({"problem": None, "answer": None, "images": ["a/b/c.jpg"]}, "prompts", "lists can't"),
    ],
)
def test_what_a_file_does_not_hold_is_said(
    line: Row, to: str, says: str, root: Path, load: Any, tmp_path: Path
) -> None:
    source = written(tmp_path / "source.jsonl", [line])
    with pytest.raises(ValueError, match=says):
        formats.convert(source, tmp_path / "target.jsonl", to, root, load)
    assert not (tmp_path / "target.jsonl").exists()


@pytest.mark.parametrize("images", [None, [], ["a/b/c.jpg", "d/e/f.jpg"], ["c.jpg"]])
def test_a_list_must_name_images_of_one_scene(images: Any, tmp_path: Path) -> None:
    path = written(tmp_path / "lists.jsonl", [{"problem": None, "images": images}])
    with pytest.raises(ValueError, match="line 1"):
        formats.read_lists(path)
