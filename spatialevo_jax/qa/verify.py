"""Answers every row of a set again from its scene, and lists what differs."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from geometry_jax.scene_io import SceneRecord
from spatialevo_jax.environment.conventions import CONVENTIONS
from spatialevo_jax.environment.fields import BadRequest, frame_index, parse_request
from spatialevo_jax.environment.identity import scene_hash
from spatialevo_jax.environment.respond import DIFFICULTIES, Request, answer_requests
from spatialevo_jax.qa import shards
from spatialevo_jax.qa.recipe import Recipe
from spatialevo_jax.qa.rows import FIELDS, Row, row_of
from spatialevo_jax.qa.views import view

Loader = Callable[[str], SceneRecord]  # scene id -> record; raises OSError or ValueError
TEXTS = ("id", "split", "task", "modality", "scene_id", "question", "scene_hash")


@dataclasses.dataclass(frozen=True)
class Disagreement:
    """A row that is not what its scene says."""

    file: str
    line: int  # from 1
    id: str
    field: str
    written: Any
    found: Any


def request_fields(row: Row) -> dict[str, Any]:
    """A row as the request that it answers."""
    images = row["images"] if row["modality"] != "scene" else []
    fields = {key: row[key] for key in ("scene_id", "question")} | {"task_type": row["task"]}
    if len(images) == 1:
        fields["image_path"] = images[0]
    elif images:
        fields["image_paths"] = list(images)
    return fields


def verify_rows(
    rows: Sequence[Row],
    load: Loader,
    root: Path,
    recipe: Recipe,
    splits: Mapping[str, str],
    file: str,
) -> Iterator[Disagreement]:
    """Disagreements of the rows of one shard; `splits` has that of each scene."""
    asked: list[tuple[int, Request, tuple[int, ...]]] = []
    published = CONVENTIONS[recipe.convention].published
    for line, row in enumerate(rows, start=1):
        missing = [name for name in FIELDS if name not in row]
        if missing:
            yield Disagreement(file, line, str(row.get("id")), missing[0], None, "a field")
            continue
        unlike = next((name for name in (*TEXTS, "images") if not _is_formed(row, name)), None)
        if unlike is not None:
            wanted = "a list of names" if unlike == "images" else "a text"
            yield Disagreement(file, line, str(row["id"]), unlike, row[unlike], wanted)
            continue
        request = parse_request(request_fields(row), load, recipe.convention)
        if isinstance(request, BadRequest):
            yield Disagreement(file, line, row["id"], "scene_id", row["scene_id"], request.message)
            continue
        request = request._replace(difficulty=row["level"] if row["level"] in DIFFICULTIES else "")
        found = scene_hash(request.record)
        if found != row["scene_hash"]:
            yield Disagreement(file, line, row["id"], "scene_hash", row["scene_hash"], found)
            continue
        shown = view(request.record, recipe.scene_images, published).shown
        if recipe.lists:  # a file of lists decided, which the set does not hold
            frames = [frame_index(request.record, image) for image in row["images"]]
            shown = tuple(frame for frame in frames if not isinstance(frame, BadRequest))
        asked.append((line, request, shown))
    replies = answer_requests(
        [request for _, request, _ in asked],
        convention=recipe.convention,
        strict_margin=recipe.strict,
        evidence=True,
    )
    for (line, request, shown), reply in zip(asked, replies, strict=True):
        row = rows[line - 1]
        split = splits.get(row["scene_id"], "")
        fresh = row_of(request, reply, root, recipe, split, shown)
        for name in FIELDS:
            if row[name] != fresh[name]:
                yield Disagreement(file, line, row["id"], name, row[name], fresh[name])


def _is_formed(row: Row, name: str) -> bool:
    value = row[name]
    if name != "images":
        return isinstance(value, str)
    return isinstance(value, list) and all(isinstance(image, str) for image in value)


def verify_shard(
    path: Path, load: Loader, root: Path, recipe: Recipe, splits: Mapping[str, str]
) -> tuple[list[Row], list[Disagreement]]:
    """The rows of one shard, and their disagreements with the scenes and with the other format. A
    shard that can't be read has no rows, and is a disagreement.

    Args:
        splits: of each scene, as `blocks.make_blocks` gives it.
    """
    rows, fault = _read(path)
    if fault:
        return [], [Disagreement(path.name, 0, "", "rows", fault, "rows")]
    found = list(verify_rows(rows, load, root, recipe, splits, path.name))
    if path.suffix == ".jsonl" and "parquet" in recipe.formats:
        other = path.parent.parent / "parquet" / f"{path.stem}.parquet"
        copy, fault = _read(other)
        if fault or copy != rows:
            said = fault or "other rows"
            found.append(Disagreement(other.name, 0, "", "rows", said, "those of the JSON"))
    return rows, found


def _read(path: Path) -> tuple[list[Row], str]:
    """The rows of a shard, and what is wrong with it in words."""
    try:
        return shards.read_shard(path), ""
    except (OSError, ValueError) as error:
        return [], " ".join(str(error).split())
