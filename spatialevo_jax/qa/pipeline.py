"""From scenes to shards in three steps, each of whose results is a whole file: a set that was
stopped goes on where it was, and no number of processes or hosts changes a byte.

    .work/block-00003.npz     candidates of a block, judged (any process)
    .work/plan.npz            which of them become rows (one process, all blocks)
    jsonl/, parquet/          the rows of a block (any process)
"""

import dataclasses
import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from geometry_jax import scene_io
from geometry_jax.reasons import Reason
from geometry_jax.scene_io import SceneRecord
from geometry_jax.tasks import TASK_IDS, TASKS
from spatialevo_jax.environment.conventions import CONVENTIONS
from spatialevo_jax.environment.fields import BadRequest, frame_index, parse_request
from spatialevo_jax.environment.identity import scene_hash
from spatialevo_jax.environment.respond import Request, read_request
from spatialevo_jax.files import whole_file
from spatialevo_jax.qa import blind, shards
from spatialevo_jax.qa.blocks import Block
from spatialevo_jax.qa.candidates import (
    Candidates,
    concatenated,
    distinct,
    draw_at_random,
    draw_candidates,
    judge,
    most_candidates,
)
from spatialevo_jax.qa.given import given_candidates
from spatialevo_jax.qa.groups import INVALID, make_groups, make_invalid_group, usable
from spatialevo_jax.qa.recipe import Recipe
from spatialevo_jax.qa.rows import Placed, make_rows
from spatialevo_jax.qa.selection import Chosen, choose, choose_all
from spatialevo_jax.qa.views import Lists, view

WORK = ".work"
PLAN = "plan.npz"
PICTURE_END = 64  # bytes in which the mark of a picture's end is; some cameras add a few more
FIELDS = tuple(field.name for field in dataclasses.fields(Candidates))


class TooFewError(ValueError):
    """The scenes do not give as many rows as are wanted."""


@dataclasses.dataclass(frozen=True)
class Judged:
    """What the first step found in a block."""

    candidates: Candidates
    texts: tuple[str, ...]  # of candidates that came as text, else ()
    scenes: tuple[str, ...]  # ids of those that could be read
    hashes: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    skipped: tuple[tuple[str, str], ...]  # id and what is wrong
    refused: int  # given questions that no row can ask


@dataclasses.dataclass(frozen=True)
class Report:
    """What the plan says of one group of a split."""

    split: str
    group: str
    task: str
    candidates: int  # with a clear answer
    rows: int
    most_share: float
    share_bound: float
    majority: float
    regression: float
    table: float
    blind_bound: float

    @property
    def is_guessed(self) -> bool:
        """Whether the scores say something: there are rows, and they have an answer."""
        return self.rows > 0 and self.group != INVALID


Listed = Mapping[str, Sequence[tuple[str, ...]]]  # scene id -> lists of image names


def lists_of(placed: Sequence[Placed], listed: Listed | None) -> list[Lists]:
    """The lists of each scene as frames; those of images that it does not have are left out.
    Nothing where all is asked about.
    """
    if listed is None:
        return []
    found = []
    for one in placed:
        lists = []
        for images in listed.get(one.record.scene_id, ()):
            frames = [frame_index(one.record, image) for image in images]
            known = tuple(frame for frame in frames if not isinstance(frame, BadRequest))
            if len(known) == len(images) == len(set(known)):
                lists.append(known)
        found.append(tuple(lists))
    return found


# --- first: candidates -----------------------------------------------------------------------


def block_path(out: Path, block: Block) -> Path:
    return out / WORK / f"block-{block.number:05d}.npz"


def load_block(root: Path, block: Block) -> tuple[list[Placed], list[tuple[str, str]]]:
    """The scenes of a block that can be read, and what is wrong with the others: their files are
    named from the folder of the scenes, since a set is no place for the paths of a machine.
    """
    placed, skipped = [], []
    for name in block.scenes:
        try:
            record = scene_io.load_scene(root, name)
        except (OSError, ValueError) as error:
            skipped.append((name, " ".join(str(error).split()).replace(f"{root}/", "")))
            continue
        fault = "" if len(record.frame_ids) else f"{name}: expected frames, found none."
        fault = fault or next(filter(None, map(_picture_fault, record.image_paths)), "")
        if fault:
            skipped.append((name, fault.replace(f"{root}/", "")))
            continue
        placed.append(Placed(record, root))
    return placed, skipped


def _picture_fault(path: Path) -> str:
    """What is wrong with a picture, in words; empty where it is whole. Decoding all would take
    longer than all the rest: its head is read, and the mark at its end looked for.
    """
    if not path.is_file():
        return f"{path}: expected an image, found none."
    try:
        with Image.open(path) as image:
            end = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}.get(image.format or "", b"")
        with path.open("rb") as file:
            file.seek(-min(PICTURE_END, path.stat().st_size), os.SEEK_END)
            whole = end in file.read()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"{path}: expected a picture ({error})."
    return "" if whole else f"{path}: expected a whole picture, its end is missing."


def judge_block(
    root: Path,
    out: Path,
    block: Block,
    recipe: Recipe,
    scenes: int,
    questions: Sequence[Any] = (),
    listed: Listed | None = None,
) -> int:
    """Draws and judges the candidates of a block, and writes them down; returns how many.

    Args:
        scenes: of the whole set: the more there are, the fewer candidates of each are needed.
        questions: requests as JSON has them; those about other scenes are counted as refused.
            Ours are drawn where the recipe names none.
        listed: the image lists of the block's scenes, where these alone are asked about.
    """
    placed, skipped = load_block(root, block)
    records = [one.record for one in placed]
    most = most_candidates(recipe, scenes)
    texts: tuple[str, ...] = ()
    refused = 0
    if recipe.questions:
        places = {record.scene_id: place for place, record in enumerate(records)}
        known = [q for q in questions if str(q.get("scene_id")) in places]

        def load(name: str) -> SceneRecord:
            return records[places[name]]

        parsed = [parse_request(q, load, recipe.convention) for q in known]
        good = [one for one in parsed if not isinstance(one, BadRequest)]
        good = [one for one in good if one.task in recipe.tasks]
        # What a row can't tell its reader can't be asked by one.
        good = [one for one in good if is_plain(one, recipe)]
        refused = len(questions) - len(good)
        given = given_candidates(good, [places[r.record.scene_id] for r in good], recipe)
        unread = given.candidates.reason != Reason.OK
        drawn, texts = given.candidates, given.texts
        judged = judge(records, drawn, recipe)
        reason = np.where(unread, drawn.reason, judged.reason)
        judged = dataclasses.replace(judged, reason=reason)
    else:
        lists = lists_of(placed, listed) or [None] * len(records)
        judged = own_candidates(records, lists, recipe, most) if records else None
    names = {
        "scenes": [record.scene_id for record in records],
        "hashes": [scene_hash(record) for record in records],
        "labels": [list(record.labels) for record in records],
        "skipped": skipped,
        "texts": texts,
        "refused": refused,
    }
    arrays = {name: getattr(judged, name) for name in FIELDS} if judged is not None else {}
    with whole_file(block_path(out, block)) as part, part.open("wb") as file:
        np.savez(file, names=np.array(json.dumps(names)), **arrays)
    return len(judged) if judged is not None else 0


def own_candidates(
    records: Sequence[SceneRecord], lists: Sequence[Lists | None], recipe: Recipe, most: int
) -> Candidates:
    """What can be asked about the scenes of a block, and what can't, judged."""

    def judged(draw: Callable[..., Candidates]) -> Candidates:
        own = zip(records, lists, strict=True)
        parts = [draw(record, i, recipe, most, some) for i, (record, some) in enumerate(own)]
        return judge(records, concatenated(parts), recipe)

    asked = judged(draw_candidates)
    if not recipe.invalid_share:
        return asked
    loose = judged(draw_at_random)
    return distinct(concatenated([asked, loose.take(loose.reason != Reason.OK)]))


def is_plain(request: Request, recipe: Recipe) -> bool:
    """Whether a sentence and its images, and the level that the sentence offers, are all that is
    asked; and whether the images of a whole room show what the sentence names of it.
    """
    kept = {name: getattr(request, name) for name in ("record", "task", "question", "frames")}
    if request != Request(**kept, difficulty=request.difficulty):
        return False
    rules = CONVENTIONS[recipe.convention]
    slots = read_request(request, rules).slots
    if TASKS[TASK_IDS[request.task]].modality == "scene":
        seen = view(request.record, recipe.scene_images, rules.published).seen
        labels = map(request.record.labels.index, filter(None, slots.labels))
        if not all(seen[label] for label in labels):
            return False
    return request.difficulty in ("", slots.difficulty)


def read_block(out: Path, block: Block) -> Judged:
    """What `judge_block` wrote.

    Raises:
        ValueError: the file is not whole.
    """
    path = block_path(out, block)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: expected candidates ({error}); delete the file.") from error
    names = json.loads(str(arrays["names"]))
    candidates = (
        Candidates(*(arrays[name] for name in FIELDS)) if names["scenes"] else _no_candidates()
    )
    return Judged(
        candidates=candidates,
        texts=tuple(names["texts"]),
        scenes=tuple(names["scenes"]),
        hashes=tuple(names["hashes"]),
        labels=tuple(map(tuple, names["labels"])),
        skipped=tuple((name, why) for name, why in names["skipped"]),
        refused=names["refused"],
    )


def _no_candidates() -> Candidates:
    width = {"labels": (0, 6), "frames": (0, 2), "roles": (0, 2)}
    return Candidates(*(np.zeros(width.get(name, (0,)), np.int32) for name in FIELDS))


# --- second: the plan ------------------------------------------------------------------------


def make_plan(out: Path, blocks: Sequence[Block], recipe: Recipe) -> list[Report]:
    """Chooses the rows of all blocks, and writes the choice down.

    Raises:
        TooFewError: there are not as many under the bounds.
    """
    found = [read_block(out, block) for block in blocks]
    chosen = [np.zeros(len(one.candidates), bool) for one in found]
    reports: list[Report] = []
    # Rows go to the splits as scenes do that can be asked about.
    scenes: dict[str, int] = {"train": 0, "validation": 0}
    for one, block in zip(found, blocks, strict=True):
        asked = usable(one.candidates, recipe)
        scenes[block.split] += len(np.unique(one.candidates.scene[asked]))
    total, left = sum(scenes.values()), recipe.count
    for split in ("train", "validation"):
        if not scenes[split]:
            continue
        count = left if split == "validation" else round(recipe.count * scenes[split] / total)
        left -= count
        own = [i for i, block in enumerate(blocks) if block.split == split]
        masks, part = _plan_split(split, [found[i] for i in own], recipe, count)
        for i, mask in zip(own, masks, strict=True):
            chosen[i] = mask
        reports += part
    rows = int(sum(mask.sum() for mask in chosen))
    if rows < recipe.count:
        raise TooFewError(
            f"--count: expected {recipe.count} rows, the {total} scenes give {rows} under the "
            "bounds of balance and blind guessing. Ask for fewer, or give more scenes, more frames "
            "of each, or more tasks."
        )
    arrays: dict[str, Any] = {
        f"block{block.number}": mask for block, mask in zip(blocks, chosen, strict=True)
    }
    arrays["reports"] = np.array(json.dumps([dataclasses.asdict(one) for one in reports]))
    with whole_file(out / WORK / PLAN) as part_path, part_path.open("wb") as file:
        np.savez(file, **arrays)
    return reports


def _plan_split(
    split: str, found: Sequence[Judged], recipe: Recipe, count: int
) -> tuple[list[np.ndarray], list[Report]]:
    """(candidates,) masks of each block, and what was chosen."""
    starts = np.cumsum([0, *(len(one.scenes) for one in found)])
    candidates = concatenated(
        [
            dataclasses.replace(one.candidates, scene=one.candidates.scene + start)
            for one, start in zip(found, starts, strict=False)
        ]
    )
    names = [labels for one in found for labels in one.labels]
    rooms = [scene_io.room_of(scene) for one in found for scene in one.scenes]
    room = np.unique(rooms, return_inverse=True)[1].astype(np.int32)[candidates.scene]
    rng = np.random.default_rng((recipe.seed, 3, split == "train"))
    groups, members = make_groups(candidates, room, names, recipe, rng)
    invalid, unanswered = make_invalid_group(candidates, room, recipe, rng)
    refused = choose(invalid, round(recipe.invalid_share * count))
    picked = choose_all(groups, count - len(refused.rows))
    mask = np.zeros(len(candidates), bool)
    pairs = [*zip(groups, picked, members, strict=True), (invalid, refused, unanswered)]
    reports = []
    for group, one, rows in pairs:
        mask[rows[one.rows]] = True
        if group is not invalid or recipe.invalid_share > 0:
            reports.append(_report(split, group.name, group.task, len(rows), one))
    ends = np.cumsum([len(one.candidates) for one in found])
    return np.split(mask, ends[:-1]), reports


def _report(split: str, name: str, task: str, candidates: int, one: Chosen) -> Report:
    scores = one.scores or blind.Scores(0.0, 0.0, 0.0)
    return Report(
        split=split,
        group=name,
        task=task,
        candidates=candidates,
        rows=len(one.rows),
        most_share=round(one.most_share, 4),
        share_bound=round(one.share_bound, 4),
        majority=round(scores.majority, 4),
        regression=round(scores.regression, 4),
        table=round(scores.table, 4),
        blind_bound=round(one.blind_bound, 4),
    )


def read_reports(out: Path) -> list[Report]:
    """What the plan says of its groups."""
    with np.load(out / WORK / PLAN, allow_pickle=False) as file:
        return [Report(**fields) for fields in json.loads(str(file["reports"]))]


# --- third: rows -----------------------------------------------------------------------------


def is_written(out: Path, block: Block, recipe: Recipe) -> bool:
    """Whether the shard of a block is there in all formats; a block may have no rows at all."""
    return all(
        shards.shard_path(out, form, block.split, block.number).is_file() for form in recipe.formats
    )


def write_block(
    root: Path, out: Path, block: Block, recipe: Recipe, listed: Listed | None = None
) -> int:
    """Words, answers and writes the rows of a block; returns how many.

    Raises:
        ValueError: a scene changed since its candidates were judged.
        OSError: a file can't be written.
    """
    judged = read_block(out, block)
    with np.load(out / WORK / PLAN, allow_pickle=False) as file:
        rows = np.flatnonzero(file[f"block{block.number}"])
    placed, _ = load_block(root, block)
    hashes = tuple(scene_hash(one.record) for one in placed)
    if hashes != judged.hashes:
        raise ValueError(
            f"{root}: the scenes of block {block.number} changed since their candidates were "
            f"judged; delete {out} and begin anew."
        )
    chosen = judged.candidates.take(rows)
    # Scene by scene, the tasks mixed.
    rng = np.random.default_rng((recipe.seed, 4, block.number))
    order = np.lexsort((rng.permutation(len(chosen)), chosen.scene))
    texts = [judged.texts[i] for i in rows[order]] if judged.texts else []
    lists = lists_of(placed, listed)
    made = make_rows(placed, chosen.take(order), recipe, block.split, block.number, texts, lists)
    root_of_images = root if recipe.embed_images else None
    shards.write_shard(out, block.split, block.number, made, recipe.formats, root_of_images)
    return len(made)
