"""Answers every row of a set again from its scene, and lists what differs."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from geometry_jax.scene_io import SceneRecord
from spatialevo_jax.environment.fields import BadRequest, frame_index, parse_request
from spatialevo_jax.environment.identity import scene_hash
from spatialevo_jax.environment.respond import Request, answer_requests
from spatialevo_jax.qa import shards
from spatialevo_jax.qa.recipe import Recipe
from spatialevo_jax.qa.rows import FIELDS, Row, row_of

Loader = Callable[[str], SceneRecord]  # scene id -> record; raises OSError or ValueError
# What an answer does not decide: the choice of wrong answers is random.
UNCOMPARED = frozenset({"options", "correct", "split"})


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
    rows: Sequence[Row], load: Loader, root: Path, recipe: Recipe, file: str
) -> Iterator[Disagreement]:
    """Disagreements of the rows of one shard."""
    asked: list[tuple[int, Request, tuple[int, ...]]] = []
    for line, row in enumerate(rows, start=1):
        missing = [name for name in FIELDS if name not in row]
        if missing:
            yield Disagreement(file, line, str(row.get("id")), missing[0], None, "a field")
            continue
        request = parse_request(request_fields(row), load, recipe.convention)
        if isinstance(request, BadRequest):
            yield Disagreement(file, line, row["id"], "scene_id", row["scene_id"], request.message)
            continue
        found = scene_hash(request.record)
        if found != row["scene_hash"]:
            yield Disagreement(file, line, row["id"], "scene_hash", row["scene_hash"], found)
            continue
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
        fresh = row_of(request, reply, root, recipe, row["split"], shown)
        yield from _compared(row, fresh, file, line)


def _compared(row: Row, fresh: Row, file: str, line: int) -> Iterator[Disagreement]:
    for name in FIELDS:
        if name not in UNCOMPARED and row[name] != fresh[name]:
            yield Disagreement(file, line, row["id"], name, row[name], fresh[name])
    if row["options"]:
        right = 0 <= row["correct"] < len(row["options"])
        if not right or row["options"][row["correct"]] != fresh["answer"]:
            yield Disagreement(file, line, row["id"], "correct", row["correct"], fresh["answer"])
        if len(set(row["options"])) < len(row["options"]):
            yield Disagreement(file, line, row["id"], "options", row["options"], "distinct ones")


def verify_shard(
    path: Path, load: Loader, root: Path, recipe: Recipe
) -> tuple[int, list[Disagreement]]:
    """Rows of one shard, and their disagreements with the scenes and with the other format.

    Raises:
        ValueError: a line is no row. OSError: a file can't be read.
    """
    rows = shards.read_shard(path)
    found = list(verify_rows(rows, load, root, recipe, path.name))
    if path.suffix == ".jsonl" and "parquet" in recipe.formats:
        other = path.parent.parent / "parquet" / f"{path.stem}.parquet"
        if not other.is_file() or shards.read_shard(other) != rows:
            found.append(Disagreement(other.name, 0, "", "rows", "other rows", "those of the JSON"))
    return len(rows), found
