"""The golden rooms and rows beside the checkout: published answers about made-up rooms."""

import dataclasses
import functools
import gzip
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from geometry_jax import scene_io
from geometry_jax.scene_io import SceneRecord
from geometry_jax.tasks import TASK_IDS, TASKS
from geometry_jax.types import MAX_LABELS, MIN_VISIBILITY, Query, Scene, Verdict, leaf

NUM_OBJECTS, NUM_FRAMES = 32, 32
QUERIES = 4200  # every kind of rows is padded to these: one compilation serves all
NO_ANCHOR = ("wall", "otherprop", "ceiling", "otherfurniture")  # never in a published pool


@dataclasses.dataclass(frozen=True)
class Row:
    """One row, with its keys in dots; `fields` and `raw` as they are."""

    id: str
    kind: str
    task: str
    scene: str
    profile: str
    frames: tuple[str, ...]
    fields: dict[str, Any]
    valid: bool
    answer: str
    reason: str
    raw: dict[str, Any]
    margin: float | None
    substituted: bool
    parsed: dict[str, Any]
    geometry: dict[str, Any]
    tag: str
    code: str
    question: str


def read_rows(shared: Path, kind: str) -> list[Row]:
    path = shared / "golden" / "answers" / f"{kind}.jsonl.gz"
    names = [field.name for field in dataclasses.fields(Row)]
    defaults = {"substituted": False, "parsed": {}, "geometry": {}, "tag": "", "code": ""}
    rows = []
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            row = defaults | {"question": "", "margin": None} | json.loads(line)
            row["frames"] = tuple(row["frames"])
            rows.append(Row(**{name: row[name] for name in names}))
    return rows


@functools.cache
def load_rooms(shared: Path, into: Path) -> dict[str, SceneRecord]:
    """The rooms through the project's reader.

    The reader refuses records of the wrong form, which one room has on purpose: `mend` leaves
    those out, in a copy under `into`.
    """
    root = into / "golden"
    shutil.copytree(shared / "golden" / "scenes", root)
    for path in root.glob("metadata/*/*.json"):
        mend(path)
    for path in root.glob("metadata/*/*/*.json"):
        mend(path)
    names = [path.name for path in sorted((root / "metadata").iterdir())]
    return {name: scene_io.load_scene(root, name) for name in names}


def mend(path: Path) -> None:
    """Drops the objects of a scene or frame file that lack what the layout promises."""
    record = json.loads(path.read_text(encoding="utf-8"))
    of_frame = path.parent.name == scene_io.FRAME_FOLDER

    def good(one: dict[str, Any]) -> bool:
        if not isinstance(one.get("label"), str):
            return False
        if not of_frame:
            return True
        lists = (("2d_bbox", 4), ("camera_location", 3))
        return (
            "object_id" in one
            and isinstance(one.get("visibility"), float)
            and all(
                isinstance(one.get(key), list)
                and len(one[key]) == count
                and np.isfinite(one[key]).all()
                for key, count in lists
            )
        )

    kept = [one for one in record["objects"] if good(one)]
    if len(kept) < len(record["objects"]):
        path.write_text(json.dumps(record | {"objects": kept}), encoding="utf-8")


def odd_records(shared: Path, scene: str) -> dict[str, set[str]]:
    """For each frame, the labels of records that lack a field or hold one of the wrong form."""
    odd: dict[str, set[str]] = {}
    folder = shared / "golden" / "scenes" / "metadata" / scene / scene_io.FRAME_FOLDER
    for path in folder.glob("*.json"):
        for one in json.loads(path.read_text(encoding="utf-8"))["objects"]:
            whole = {"object_id", "label", "visibility", "2d_bbox", "camera_location", "3d_bbox"}
            whole |= {"3d_location", "truncated", "occluded"}
            numbers = [*one.get("camera_location", ()), *one.get("2d_bbox", ())]
            good = len(numbers) == 7 and np.isfinite(numbers).all() and whole <= set(one)
            if not good or not isinstance(one["visibility"], float):
                odd.setdefault(path.stem, set()).add(plain(one.get("label")))
    return odd


def plain(label: Any) -> str:
    return label.strip().lower() if isinstance(label, str) else ""


def label_index(record: SceneRecord, label: Any, *, exact: bool) -> int:
    """A label's index; one past the last for a label that the scene does not have."""
    if label in record.labels:
        return record.labels.index(label)
    names = [plain(name) for name in record.labels]
    if exact or plain(label) not in names:
        return len(names)
    return names.index(plain(label))


def labels_of(row: Row) -> list[Any]:
    """The labels asked about, as matched where the row tells, in the order of the task's slots."""
    fields = row.fields | {key: value for key, value in row.parsed.items() if value is not None}
    if row.task == "relative_distance":
        return [fields.get("target_label"), *(fields.get("candidate_labels") or [])]
    return [fields.get(slot) for slot in TASKS[TASK_IDS[row.task]].slots]


def images_of(row: Row) -> tuple[str, ...]:
    """Frame ids in the order of `Query.frames`: the reference first where the sentence has one."""
    if len(row.frames) < 2 or row.task == "motion_camera":
        return row.frames
    reference = row.fields.get("camera_reference_image_idx")
    target = row.fields.get("camera_target_image_idx")
    if row.task in ("position_cam_cam", "elevation_cam_cam"):
        if reference is None or target is None or reference == target:
            reference = 1
    elif row.task in ("position_cam_obj", "position_cam_reg"):
        reference = 2 if reference is None else reference
    else:
        reference = 1
    return row.frames if reference == 1 else (row.frames[1], row.frames[0])


def visibility_of(row: Row, default: float) -> float:
    """The threshold in force: of a whole request never below the floor, however it is written."""
    asked = row.fields.get("min_visibility", default)
    try:
        asked = float(asked)
    except (TypeError, ValueError):
        asked = MIN_VISIBILITY
    floored = row.kind == "fields" or row.task == "object_counting"
    return max(asked, MIN_VISIBILITY) if floored else asked


def query_of(row: Row, record: SceneRecord, labels: list[Any], *, default: float) -> Query:
    """`default` is the visibility threshold of a row that names none."""
    slots = np.full(MAX_LABELS, -1, np.int32)
    exact = row.kind == "direct"
    for index, label in enumerate(labels[:MAX_LABELS]):
        slots[index] = label_index(record, label, exact=exact)
    if len(labels) > MAX_LABELS:  # more candidates than a query holds are refused as unknown
        slots[-1] = len(record.labels)
    frames = np.full(2, -1, np.int32)
    for index, frame in enumerate(images_of(row)):
        known = frame in record.frame_ids
        frames[index] = record.frame_ids.index(frame) if known else len(record.frame_ids)
    least = visibility_of(row, default)
    difficulty = ("", "easy", "medium", "hard").index(row.fields.get("difficulty", ""))
    return Query(
        task_id=leaf(np.int32(TASK_IDS[row.task])),
        labels=leaf(slots),
        frames=leaf(frames),
        difficulty=leaf(np.int32(difficulty)),
        use_points=leaf(np.bool_(False)),
        min_visibility=leaf(np.float32(least)),
    )


def padded(record: SceneRecord, *, anchors_only: bool) -> Scene:
    """The room as arrays; `anchors_only` leaves out what no published pool holds."""
    scene = scene_io.pad_scene(record.scene, NUM_OBJECTS, NUM_FRAMES)
    if not anchors_only:
        return scene
    out = [record.labels.index(name) for name in NO_ANCHOR if name in record.labels]
    valid = np.asarray(scene.object_valid) & ~np.isin(np.asarray(scene.label), out)
    return dataclasses.replace(scene, object_valid=leaf(valid))


def stack(queries: list[Query]) -> Query:
    """(QUERIES, ...) leaves; the rest repeats the first."""
    filled = [*queries, *queries[:1] * (QUERIES - len(queries))]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *filled)


def judge_rows(
    judge: Callable[[Scene, np.ndarray, Query], Verdict],
    rooms: Mapping[str, SceneRecord],
    rows: Sequence[Row],
    queries: list[Query],
    *,
    anchors_only: bool,
) -> Verdict:
    """All rows at once; `judge` is jitted and takes stacked scenes, scene indices and queries."""
    names = sorted(rooms)
    scenes = [padded(rooms[name], anchors_only=anchors_only) for name in names]
    index = np.zeros(QUERIES, np.int32)
    index[: len(rows)] = [names.index(row.scene) for row in rows]
    return jax.device_get(judge(scene_io.stack_scenes(scenes), index, stack(queries)))
