"""Supervised steps on a question-answer set: the offline counterpart of self-evolution.

Rows of a set become conversations about the images of the rooms that are loaded; which ones a step
takes is a function of (seed, step) alone.
"""

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path

import grain

from geometry_jax.reasons import Reason
from spatialevo_jax.config import DataConfig, Language, SftConfig
from spatialevo_jax.data import RoomSet, Row
from spatialevo_jax.environment import Reply, Slots, pools
from spatialevo_jax.environment.fields import BadRequest, frame_index
from spatialevo_jax.environment.identity import scene_hash
from spatialevo_jax.qa import rows as qa_rows
from spatialevo_jax.qa import shards
from spatialevo_jax.qa.formats import check_rows, option_lines
from spatialevo_jax.roles import pointing, prompts
from spatialevo_jax.train.warm_start import Example, trace_of

BEGINNING: dict[Language, str] = {"pointings": "See ", "prose": ""}  # of a reply
MODALITIES = ("single_image", "image_pair", "scene")  # in the order of `rows`


@dataclasses.dataclass(frozen=True)
class Lesson:
    """One row of a set as a conversation."""

    row: Row
    example: Example


@dataclasses.dataclass(frozen=True)
class LessonSource:
    """Endless shuffled lessons of the three modalities, by step."""

    lessons: tuple[Lesson, ...]  # all: by modality, then in the order of the set's files
    datasets: tuple[grain.MapDataset | None, ...]

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of what the lessons of a step are drawn from."""
        return hashlib.sha256(repr(self.lessons).encode()).hexdigest()[:16]

    def step_lessons(self, step: int, counts: Sequence[int]) -> list[Lesson]:
        """`counts[i]` lessons of each modality; the same for the same step."""
        lessons: list[Lesson] = []
        for dataset, count in zip(self.datasets, counts, strict=True):
            for offset in range(count):
                lesson = dataset[step * count + offset] if dataset is not None else None
                if not isinstance(lesson, Lesson):
                    raise ValueError(f"step {step}: expected a lesson, got {lesson!r}.")
                lessons.append(lesson)
        return lessons


def lesson_source(
    config: SftConfig,
    data: DataConfig,
    rooms: RoomSet,
    seed: int,
    language: Language = "pointings",
) -> LessonSource:
    """The training rows of a set about the rooms, with the tasks that are trained, asked in the
    `language` of the run's prompts.

    Raises:
        FileNotFoundError: there is no set. ValueError: it is about other rooms, or has no rows of a
            modality that a step takes.
    """
    if config.data is None:
        raise ValueError("sft.data: expected the folder of a set, got none.")
    found: dict[str, list[Lesson]] = {modality: [] for modality in MODALITIES}
    places = {record.scene_id: place for place, record in enumerate(rooms.records)}
    for row in _training_rows(config.data):
        if row["task"] in rooms.tasks:
            found[row["modality"]].append(_lesson(row, places, rooms, data, config, language))
    datasets = []
    for modality, count in zip(MODALITIES, config.rows, strict=True):
        if count and not found[modality]:
            raise ValueError(
                f"{config.data}: expected rows of {modality} for sft.rows={config.rows}, found "
                "none of the tasks in data.tasks."
            )
        source = grain.MapDataset.source(found[modality]) if count else None
        datasets.append(source and source.seed(seed).shuffle().repeat())
    return LessonSource(tuple(itertools.chain(*found.values())), tuple(datasets))


def _training_rows(folder: Path) -> list[qa_rows.Row]:
    for form in ("jsonl", "parquet"):
        paths = [p for p in shards.list_shards(folder, form) if p.name.startswith("train-")]
        if paths:
            rows = [row for path in paths for row in shards.read_shard(path)]
            check_rows(rows, folder)
            return rows
    raise FileNotFoundError(
        f"{folder}: expected a question-answer set, found none. Make one with: "
        f"python -m launch.generate --out={folder} --scenes=SCENES"
    )


def _lesson(
    row: qa_rows.Row,
    places: dict[str, int],
    rooms: RoomSet,
    data: DataConfig,
    config: SftConfig,
    language: Language,
) -> Lesson:
    place = places.get(row["scene_id"])
    if place is None:
        raise ValueError(f"{row['id']}: its scene is not among the training rooms of data.scenes.")
    record = rooms.records[place]
    if scene_hash(record) != row["scene_hash"]:
        raise ValueError(f"{row['id']}: its scene changed since the set was made; make it again.")
    if row["modality"] == "scene" and len(row["images"]) != data.scene_frames:
        raise ValueError(
            f"{row['id']}: expected data.scene_frames={data.scene_frames} images, got "
            f"{len(row['images'])}; make the set with --scene_images={data.scene_frames}."
        )
    frames = []
    for image in row["images"]:
        frame = frame_index(record, image)
        if isinstance(frame, BadRequest):
            raise ValueError(frame.message)
        frames.append(frame)
    shown = Row(place, tuple(frames))
    return Lesson(shown, _example(row, shown, rooms, config, language))


def _example(
    row: qa_rows.Row, shown: Row, rooms: RoomSet, config: SftConfig, language: Language
) -> Example:
    """What is asked, and the reply to learn, in the forms that both roles know."""
    record = rooms.records[shown.room]
    question = "\n".join([row["question"], *option_lines(row["options"])])
    if not row["valid"]:
        text = prompts.explainer(row["task"], question, pools(record, shown.frames), language)
        return Example(text, f"{BEGINNING[language]}<answer> {row['answer']} </answer>")
    before = BEGINNING[language]
    if config.reply == "rationale":
        if not row["rationale"]:
            raise ValueError(f"{row['id']}: has no rationale; make the set with --rationales.")
        before = f"{row['rationale']} "
    elif config.reply == "pointings":
        asked = _as_reply(row)
        points = trace_of(asked, pointing.visible(record, shown.frames))
        before = " ".join(["See", *map(str, points), ""])
    text = prompts.solver(row["task"], question, language)
    return Example(text, f"{before}<answer> {row['answer']} </answer>")


def _as_reply(row: qa_rows.Row) -> Reply:
    """The environment's reply that a row was made from, as far as pointings need it."""
    slots = Slots(tuple(row["labels"]), tuple(row["roles"]), row["level"])
    return Reply(
        valid=True,
        task=row["task"],
        question=row["question"],
        answer=row["answer"],
        reason=Reason.OK,
        margin=0.0,
        slots=slots,
        signature=(),
        evidence=None,
    )
