"""Rows in the forms of others, both ways.

    lists      {"problem": null, "answer": null, "images": [...]}: what the published training reads
    prompts    {"prompt": "<image>...", "images": [...], "answer": "..."}: EasyR1 (whose prompt may
               be called "problem"), TRL (whose prompt may be messages)
    requests   {"task_type": ..., "scene_id": ..., "question": ..., "image_paths": [...]}: what
               `launch.ask` and `launch.generate --questions` read

A prompt of others says neither its task nor its scene: the task is the one whose grammar reads the
question, the scene is in the paths, and its answer must be the oracle's.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from geometry_jax.tasks import TASKS
from spatialevo_jax.environment import extract
from spatialevo_jax.environment.fields import IMAGES_NEEDED, BadRequest, frame_index, parse_request
from spatialevo_jax.environment.respond import Reply, Request, answer_requests
from spatialevo_jax.evaluation import readings
from spatialevo_jax.files import whole_file
from spatialevo_jax.qa import shards
from spatialevo_jax.qa.recipe import FORMATS, MODALITIES
from spatialevo_jax.qa.rows import FIELDS, Row
from spatialevo_jax.qa.verify import Loader, request_fields

TARGETS = ("lists", "prompts", "requests")
IMAGE_TAG = "<image>"
LETTERS = "ABCDEFGH"
OPTIONS_HEAD = "Options:"
ANNOUNCED = re.compile(r"\s*(?:Image \d+:\s*)?<image>\s*")
OPTION = re.compile(r"\(?([A-H])[.):]\s*(.+)")  # "A. left", "(A) left", "A: left"
LETTER = re.compile(r"\(?([A-H])(?:[.):].*)?")  # an answer that begins with its letter
ENOUGH = 0.95  # score with which a written answer counts as the oracle's


def convert(source: Path, target: Path, to: str, root: Path, load: Loader) -> tuple[int, list[str]]:
    """Writes rows in another form.

    Args:
        source: folder of a set, or a file of lists, prompts or requests.
        root: folder of the scenes, which prompts are judged by.

    Returns:
        How many rows were written, and what is wrong with each of the others.

    Raises:
        ValueError: the source is not of a known form.
    """
    rows = list(_rows_of_set(source) if source.is_dir() else shards.read_rows(source))
    if not rows:
        raise ValueError(f"{source}: expected rows, found none.")
    kind, left = kind_of(rows[0], source), []
    if to == "lists":
        found = to_lists(rows)
    elif kind == "row":
        check_rows(rows, source)
        found = [to_prompt(row) if to == "prompts" else request_fields(row) for row in rows]
    elif kind == "prompts" and to == "requests":
        found, left = to_requests(rows, load)
    else:
        raise ValueError(f"{source}: {kind} can't be made into {to}: they hold no such thing.")
    with whole_file(target) as part, part.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
    return len(found), left


def _rows_of_set(folder: Path) -> Iterator[Row]:
    form = next((form for form in FORMATS if shards.list_shards(folder, form)), None)
    if form is None:
        raise ValueError(f"{folder}: expected a set, found no shards.")
    for path in shards.list_shards(folder, form):
        yield from shards.read_shard(path)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _are_whole(value: Any) -> bool:
    return isinstance(value, list) and all(type(one) is int for one in value)


# What a field of a row that is read here may be.
KINDS: dict[str, Callable[[Any], bool]] = {
    "modality": MODALITIES.__contains__,
    **dict.fromkeys(("id", "task", "scene_id", "question", "answer", "scene_hash"), _is_text),
    **dict.fromkeys(("images", "options", "labels"), _are_texts),
    "roles": _are_whole,
    "valid": lambda value: isinstance(value, bool),
}


def check_rows(rows: Sequence[Row], source: Path) -> None:
    """That rows have the fields of a set, and those that are read here are of their kinds.

    Raises:
        ValueError: one lacks a field, or has one of another kind.
    """
    for number, row in enumerate(rows, start=1):
        missing = [name for name in FIELDS if name not in row]
        if missing:
            raise ValueError(f"{source}: expected rows of a set, row {number} lacks {missing[0]}.")
        wrong = [name for name, fits in KINDS.items() if not fits(row[name])]
        if wrong:
            raise ValueError(
                f"{source}: expected rows of a set, row {number} has {wrong[0]} of another kind: "
                f"{row[wrong[0]]!r:.80}."
            )


def kind_of(row: Row, source: Path) -> str:
    """Which form a row has."""
    if "scene_hash" in row:
        return "row"
    if "prompt" in row and "answer" in row:
        return "prompts"
    if "task_type" in row:
        return "requests"
    if "images" in row and row.get("problem") is None:
        return "lists"
    if isinstance(row.get("problem"), str) and "answer" in row:  # EasyR1's own name of the prompt
        return "prompts"
    raise ValueError(
        f"{source}: expected rows of a set, lists, prompts or requests, got fields "
        f"{', '.join(sorted(row))}."
    )


# --- lists -----------------------------------------------------------------------------------


def to_lists(rows: Sequence[Row]) -> list[Row]:
    """The distinct lists of images, in order; questions are left to whoever reads them."""
    images = dict.fromkeys(_images(row) for row in rows)
    images.pop((), None)
    return [{"problem": None, "answer": None, "images": list(one)} for one in images]


def _images(row: Row) -> tuple[str, ...]:
    """Image paths of a row of any form; those of a request have names of their own."""
    found = row.get("images") or row.get("image_paths") or [row.get("image_path")]
    if not isinstance(found, list):
        return ()
    # `datasets` has a dictionary for an image.
    names = [one.get("path") if isinstance(one, dict) else one for one in found]
    return tuple(map(str, names)) if all(names) else ()


def read_lists(path: Path) -> dict[str, list[tuple[str, ...]]]:
    """Scene id -> lists of frame names, from paths such as
    `<root>/train/scene0000_00/frame_processed/840.jpg`.

    Raises:
        ValueError: a row without images, or of several scenes.
    """
    found: dict[str, list[tuple[str, ...]]] = {}
    for number, row in enumerate(shards.read_lines(path), start=1):
        images = row.get("images")
        if not isinstance(images, list) or not all(isinstance(one, str) for one in images):
            raise ValueError(
                f"{path}, line {number}: expected a list of images, got {images!r:.60}."
            )
        scenes = {scene_of(image) for image in images}
        if len(scenes) != 1 or None in scenes:
            raise ValueError(f"{path}, line {number}: expected images of one scene, got {scenes}.")
        found.setdefault(str(scenes.pop()), []).append(tuple(images))
    return found


def scene_of(image: str) -> str | None:
    """The scene id in an image path: the folder above that of the frames."""
    parts = PurePosixPath(image.replace("\\", "/")).parts
    return parts[-3] if len(parts) > 2 else None


# --- prompts ---------------------------------------------------------------------------------


def to_prompt(row: Row) -> Row:
    """One image tag for each image, the question, and its options by letters."""
    announced = "".join(f"Image {i}: {IMAGE_TAG}\n" for i in range(1, len(row["images"]) + 1))
    if len(row["images"]) == 1:
        announced = f"{IMAGE_TAG}\n"
    prompt, answer = f"{announced}{row['question']}", row["answer"]
    if row["options"]:
        prompt = "\n".join([prompt, *option_lines(row["options"])])
        answer = LETTERS[row["correct"]]
    return {"prompt": prompt, "images": list(row["images"]), "answer": answer}


def option_lines(options: Sequence[str]) -> list[str]:
    """Options by letters, under a head; nothing where there are none."""
    lettered = [f"{LETTERS[i]}. {option}" for i, option in enumerate(options)]
    return [OPTIONS_HEAD, *lettered] if lettered else []


def prompt_text(prompt: Any) -> str:
    """A prompt as text: as it is, or what the user says in messages."""
    match prompt:
        case str():
            return prompt
        case {"role": "user", "content": content}:
            return prompt_text(content)
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "image"}:
            return IMAGE_TAG
        case [*parts]:
            return "\n".join(filter(None, map(prompt_text, parts)))
        case _:
            return ""


def read_prompt(row: Row) -> tuple[str, list[str], str]:
    """The question of a prompt, its options, and its answer in words."""
    text = ANNOUNCED.sub("\n", prompt_text(row.get("prompt") or row.get("problem"))).strip()
    question, head, rest = text.partition(f"\n{OPTIONS_HEAD}\n")
    lines = [OPTION.fullmatch(line.strip()) for line in rest.splitlines()] if head else []
    options = [line[2] for line in lines if line]
    answer = str(row.get("answer", "")).strip()
    letter = LETTER.fullmatch(answer)
    if letter and letter[1] in LETTERS[: len(options)]:
        answer = options[LETTERS.index(letter[1])]
    return question.strip(), options, answer


def to_requests(rows: Sequence[Row], load: Loader) -> tuple[list[Row], list[str]]:
    """Prompts as requests; those that no task can read, or that the oracle answers otherwise, are
    left out and said.
    """
    good: list[tuple[int, Row, Request, str]] = []
    why: dict[int, str] = {}
    for number, row in enumerate(rows, start=1):
        found = _requests(row, load)
        if isinstance(found, str):
            why[number] = found
        else:
            good += [(number, *one) for one in found]
    replies = answer_requests([request for _, _, request, _ in good], evidence=False)
    kept: dict[int, Row] = {}
    for (number, fields, request, answer), reply in zip(good, replies, strict=True):
        if agrees(request, reply, answer):
            kept.setdefault(number, fields)
        else:
            said = reply.answer if reply.valid else reply.reason.phrase
            why.setdefault(number, f"it says {answer!r}, the oracle {said!r}")
    left = [f"line {number}: {why[number]}" for number in sorted(why) if number not in kept]
    return [kept[number] for number in sorted(kept)], left


def agrees(request: Request, reply: Reply, answer: str) -> bool:
    """Whether a written answer is that of the oracle."""
    if not reply.valid:
        return answer == reply.reason.phrase
    return readings.score(request.task, answer, reply.answer, partial=False) >= ENOUGH


def _requests(row: Row, load: Loader) -> list[tuple[Row, Request, str]] | str:
    """A prompt as a request of each task that reads it, with its answer; or why there is none."""
    images = _images(row)
    if not images:
        return "expected images, found none"
    scenes = sorted({scene_of(image) or image for image in images})
    if len(scenes) > 1:
        return f"expected images of one scene, got those of {', '.join(scenes)}"
    tags = prompt_text(row.get("prompt") or row.get("problem")).count(IMAGE_TAG)
    if tags not in (0, len(images)):
        return f"expected {IMAGE_TAG} for each of {len(images)} images, got {tags}"
    if row.get("answer") is None:
        return "expected an answer, found none"
    question, _, answer = read_prompt(row)
    text = extract.readable(question)
    tasks = [task for task in TASKS if text is not None and extract.matches(task.name, text)]
    tasks = [task for task in tasks if _shows(task.modality, len(images))]
    if not tasks:
        return f"no task reads {question!r:.80}"
    failure, found = "", []
    for task in tasks:
        fields: Row = {"task_type": task.name, "scene_id": scenes[0], "question": question}
        if task.modality == "single_image":
            fields["image_path"] = images[0]
        elif task.modality == "image_pair":
            fields["image_paths"] = list(images)
        request = parse_request(fields, load)
        if isinstance(request, BadRequest):
            failure = request.message
            continue
        frames = [frame_index(request.record, image) for image in images]
        strange = [frame.message for frame in frames if isinstance(frame, BadRequest)]
        if strange:
            return strange[0]
        found.append((fields, request, answer))
    return found or failure


def _shows(modality: str, images: int) -> bool:
    return images > 2 if modality == "scene" else images == IMAGES_NEEDED[modality]
