"""What the warm start teaches: the formats, pointing, and answers that are mostly coin flips.

It stands for the pretrained base model that a real run starts from. Openly, for each image set:

- Naming: each visual token says which object it shows, how deep it lies, and where in which image.
  The first steps are nothing else, and train the vision tower alone.
- Looking: some of what one image shows, and exactly where it is. Then come steps of only this.
- Solver: a valid question, the exact pointings of the objects it names, and an answer; with
  chance `answer_noise` the answer is drawn at random among those the task can have. So the policy
  learns to look, and hardly to reason.
- Solver, invalid questions: the reason, replaced at random with the same chance.
- Questioner: the exact pointings of the objects that it asks about, then one question of its task;
  with chance `question_noise` that names labels at random, so that a good share is invalid.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from geometry_jax.scene_io import SceneRecord
from geometry_jax.tasks import TASKS
from geometry_jax.types import leaf
from spatialevo_jax.config import WarmStartConfig
from spatialevo_jax.data import SIDE, RoomSet, Row
from spatialevo_jax.environment import (
    Reply,
    Request,
    answer_requests,
    draw_slots,
    pools,
    render,
)
from spatialevo_jax.evaluation import readings
from spatialevo_jax.roles import pointing, prompts
from spatialevo_jax.train.step import Names

OBSERVED = (2, 3)  # fewest and most pointings of a Questioner's observation
NOTHING = "wall"  # what a visual token without an object says
OBJECT_WEIGHT, NOTHING_WEIGHT = 2.0, 0.4  # of a label, as most is wall
DEPTH_WEIGHT = 1.0  # of an object's depth
PLACE_WEIGHT = 0.25  # of the image's number, first and last column, first and last row
MOST_LABELS, MOST_POINTINGS = 5, 8  # that a looking conversation asks for and gets
SHARED = 2  # objects pointed at in both images of a pair to relate the cameras
OBJECT_TASKS_OF_PAIRS = frozenset({"visibility_compare"})


@dataclasses.dataclass(frozen=True)
class Example:
    """One supervised conversation about the images of a row: the user's text and the reply to
    learn.
    """

    prompt: str
    reply: str


@dataclasses.dataclass(frozen=True)
class RowExamples:
    row: Row
    looking: tuple[Example, ...]
    questioner: tuple[Example, ...]
    solver: tuple[Example, ...]


def shown_objects(
    record: SceneRecord, frame: int, cells: tuple[int, int]
) -> list[pointing.Pointing | None]:
    """What each visual token of a frame shows, `cells` rows and columns of them in raster order:
    the object pointed at in it, else the nearest whose box covers its middle, else None.
    """
    lines, columns = cells
    scene = record.scene
    size = np.asarray(scene.image_size[frame], np.float64)
    middles = (np.indices(cells).reshape(2, -1)[::-1] + 0.5) / [[columns], [lines]]
    x, y = middles * size[:, None]
    shown: list[pointing.Pointing | None] = [None] * (lines * columns)
    points = pointing.visible(record, (frame,))
    for point, box in reversed(list(zip(points, pointing.boxes(record, frame), strict=True))):
        x1, y1, x2, y2 = box
        for cell in np.flatnonzero((x1 <= x) & (x <= x2) & (y1 <= y) & (y <= y2)):
            shown[cell] = point
    for point in reversed(points):
        line, column = point.row * lines // pointing.GRID, point.column * columns // pointing.GRID
        shown[line * columns + column] = point
    return shown


def names(
    rooms: RoomSet,
    rows: Sequence[Row],
    encode: Callable[[str], list[int]],
) -> Names:
    """What the visual tokens of the rows' images should say of themselves: the label that they show
    (its first token) and its depth, the number of their image, and the columns and rows of the
    pointing grid that they cover. Image by image, each in raster order.

    The depth is said as a word, with the blank before it, so that it is not taken for a row.
    """

    def word(text: str) -> int:
        return encode(f" {text}")[0]

    def digit(text: str) -> int:
        return encode(text)[0]

    def covered(count: int) -> tuple[np.ndarray, np.ndarray]:
        """The first and the last place of the grid that each of `count` tokens covers."""
        at = np.arange(count)
        return at * pointing.GRID // count, -(-(at + 1) * pointing.GRID // count) - 1

    @functools.cache
    def places_of(cells: tuple[int, int]) -> np.ndarray:
        """(tokens, 4), of `cells` rows and columns in raster order."""
        ends = [covered(count) for count in cells]
        lines = np.array([[digit(str(i + 1)) for i in places] for places in ends[0]])
        columns = np.array([[word(pointing.COLUMNS[i]) for i in places] for places in ends[1]])
        return np.concatenate([np.tile(columns, cells[0]), np.repeat(lines, cells[1], axis=1)]).T

    tokens, weights = [], []
    for row in rows:
        for image, (frame, (width, height)) in enumerate(
            zip(row.frames, rooms.row_sizes(row), strict=True), start=1
        ):
            cells = height // SIDE, width // SIDE
            places = places_of(cells)
            shown = shown_objects(rooms.records[row.room], frame, cells)
            labels = np.array([word(point.label if point else NOTHING) for point in shown])
            depths = np.array([word(str(point.depth if point else 0)) for point in shown])
            numbers = np.full(len(places), digit(str(image)))
            tokens.append(np.column_stack([labels, depths, numbers, places]))
            weight = [
                (OBJECT_WEIGHT, DEPTH_WEIGHT) if point else (NOTHING_WEIGHT, 0.0) for point in shown
            ]
            shares = np.full((len(places), 1 + places.shape[1]), PLACE_WEIGHT)
            weights.append(np.column_stack([weight, shares]))
    return Names(
        leaf(np.concatenate(tokens).astype(np.int32)),
        leaf(np.concatenate(weights).astype(np.float32)),
    )


def row_examples(
    rooms: RoomSet,
    rows: Sequence[Row],
    config: WarmStartConfig,
    wordings: int,
    rng: np.random.Generator,
) -> list[RowExamples]:
    """Conversations for each row; all questions are judged in one call of the oracle.

    `wordings` is how many of the sentence forms of each task are used.
    """
    drafts = [_draft(rooms, row, config, wordings, rng) for row in rows]
    verdicts = iter(
        answer_requests([request for draft in drafts for request in draft], strict_margin=True)
    )
    examples = []
    for row, draft in zip(rows, drafts, strict=True):
        record = rooms.records[row.room]
        judged = [next(verdicts) for _ in draft]
        seen = pointing.visible(record, row.frames)
        examples.append(
            RowExamples(
                row=row,
                looking=tuple(_looking_example(seen, row, rng) for _ in range(config.looks)),
                questioner=tuple(
                    _questioner_example(record, row, reply, seen)
                    for reply in judged[: config.questions]
                ),
                solver=_solver_examples(record, row, judged[config.questions :], seen, config, rng),
            )
        )
    return examples


def looking_examples(
    rooms: RoomSet, rows: Sequence[Row], rng: np.random.Generator
) -> list[Example]:
    """One conversation for each row that points at some of what an image shows."""
    return [
        _looking_example(pointing.visible(rooms.records[row.room], row.frames), row, rng)
        for row in rows
    ]


def _looking_example(
    seen: tuple[pointing.Pointing, ...], row: Row, rng: np.random.Generator
) -> Example:
    """Labels of one image in random order, and where each is: all of one label from the left."""
    image = 1 + int(rng.integers(len(row.frames)))
    shown = [point for point in seen if point.image == image]
    names = list(dict.fromkeys(point.label for point in shown))
    named = [names[index] for index in rng.permutation(len(names))[:MOST_LABELS]]
    found = [
        str(point)
        for name in named
        for point in sorted((one for one in shown if one.label == name), key=lambda one: one.column)
    ]
    return Example(prompts.look(image, named), "See " + " ".join(found[:MOST_POINTINGS]))


def _draft(
    rooms: RoomSet,
    row: Row,
    config: WarmStartConfig,
    wordings: int,
    rng: np.random.Generator,
) -> list[Request]:
    """Questions for a row: the Questioner's first, then twice as many as the Solver needs."""
    tasks, record = rooms.feasible_tasks(row), rooms.records[row.room]
    requests = []
    for number in range(config.questions + 2 * config.answers):
        task = tasks[rng.integers(len(tasks))]
        noise = config.question_noise if number < config.questions else config.invalid_share
        slots = draw_slots(record, row.frames, task, rng)
        if slots is None:
            raise ValueError(f"{record.scene_id}: {task} is feasible but offers no labels.")
        if rng.random() < noise:
            slots = slots._replace(labels=_any_labels(record, len(slots.labels), rng))
        question = render(task, slots, int(rng.integers(wordings)))
        requests.append(Request(record, task, question, row.frames))
    return requests


def _any_labels(record: SceneRecord, count: int, rng: np.random.Generator) -> tuple[str, ...]:
    """Labels of the scene with no regard to what is unique, seen, or already named."""
    return tuple(record.labels[int(i)] for i in rng.integers(len(record.labels), size=count))


def _questioner_example(
    record: SceneRecord, row: Row, reply: Reply, seen: tuple[pointing.Pointing, ...]
) -> Example:
    """Points at what the question is about, and at the nearest other objects if that is too little
    to observe.
    """
    fewest, most = OBSERVED
    trace = trace_of(reply, seen)[:most]
    others = [point for point in seen if point not in trace]
    observed = trace + others[: max(fewest - len(trace), 0)]
    observation = " ".join(str(point) for point in observed)
    return Example(
        prompts.questioner(reply.task, pools(record, row.frames)),
        f"<observation> {observation} </observation><question> {reply.question} </question>",
    )


def _solver_examples(
    record: SceneRecord,
    row: Row,
    judged: Sequence[Reply],
    seen: tuple[pointing.Pointing, ...],
    config: WarmStartConfig,
    rng: np.random.Generator,
) -> tuple[Example, ...]:
    """`config.answers` conversations: valid questions first, invalid ones up to their share and
    where too few are left.
    """
    invalid_wanted = int(rng.binomial(config.answers, config.invalid_share))
    valid = [reply for reply in judged if reply.valid]
    invalid = [reply for reply in judged if not reply.valid]
    chosen = valid[: config.answers - min(invalid_wanted, len(invalid))]
    chosen = chosen + invalid[: config.answers - len(chosen)]
    # A row with few askable things repeats a question; its answer is then drawn anew.
    chosen = [chosen[index % len(chosen)] for index in range(config.answers)]
    return tuple(_solver_example(record, row, reply, seen, config, rng) for reply in chosen)


def _solver_example(
    record: SceneRecord,
    row: Row,
    reply: Reply,
    seen: tuple[pointing.Pointing, ...],
    config: WarmStartConfig,
    rng: np.random.Generator,
) -> Example:
    flipped = rng.random() < config.answer_noise
    if not reply.valid:
        phrases = prompts.reason_phrases()
        phrase = phrases[rng.integers(len(phrases))] if flipped else reply.reason.phrase
        text = prompts.explainer(reply.task, reply.question, pools(record, row.frames))
        return Example(text, f"See <answer> {phrase} </answer>")
    answer = random_answer(reply, rng) if flipped else plain_answer(reply.task, reply.answer)
    trace = " ".join(str(point) for point in trace_of(reply, seen))
    return Example(
        prompts.solver(reply.task, reply.question), f"See {trace} <answer> {answer} </answer>"
    )


def plain_answer(task: str, answer: str) -> str:
    """The oracle's answer as the policy is taught to write it: lengths to one decimal."""
    if task not in readings.METRIC_TASKS:
        return answer
    length = readings.metres(answer)
    return f"{length:.1f} meters"


def random_answer(reply: Reply, rng: np.random.Generator) -> str:
    """A coin flip among the answers that the question can have, without looking."""
    spec = next(task for task in TASKS if task.name == reply.task)
    if spec.answer == "metres":
        return f"{rng.uniform(0.2, 4.5):.1f} meters"
    if spec.answer == "centimetres":
        return f"{rng.uniform(20, 250):.0f} cm"
    if spec.answer == "square_metres":
        return f"{rng.uniform(8, 40):.1f} square meters"
    if spec.answer == "count":
        return str(rng.integers(2, 5))
    if spec.answer == "label":
        options = reply.slots.labels[1:] if len(reply.slots.labels) > 2 else reply.slots.labels
        return str(rng.choice(list(options)))
    if reply.task == "motion_camera":
        return str(rng.choice(["left", "right"]))
    if reply.task == "single_image_relative_direction":
        return str(rng.choice(list(spec.choices[:8])))
    return str(rng.choice(list(spec.choices)))


def trace_of(reply: Reply, seen: tuple[pointing.Pointing, ...]) -> list[pointing.Pointing]:
    """The pointings that an answer rests on.

    Objects of a question are pointed at in the image that shows most of them, elsewhere if they are
    not there; a pair of images without objects in the question is related through objects seen in
    both.
    """
    labels = tuple(dict.fromkeys(reply.slots.labels))
    if not labels:
        return _shared(seen)
    if reply.task == "object_counting":
        own = [point for point in seen if point.label == labels[0]]
        by_image = {point.image: [p for p in own if p.image == point.image] for point in own}
        best = max(by_image.values(), key=len, default=[])
        return sorted(best, key=lambda point: point.column)
    if reply.task in OBJECT_TASKS_OF_PAIRS:
        return [point for point in seen if point.label == labels[0]]
    images = {point.image for point in seen}
    most = max(
        sorted(images),
        key=lambda image: len({p.label for p in seen if p.image == image and p.label in labels}),
        default=1,
    )
    trace = []
    for label in labels:
        own = [point for point in seen if point.label == label]
        own.sort(key=lambda point: (point.image != most, point.image))
        trace += own[:1]
    return trace


def _shared(seen: tuple[pointing.Pointing, ...]) -> list[pointing.Pointing]:
    """Pointings at objects that both images show exactly once, one after the other."""
    trace: list[pointing.Pointing] = []
    for label in dict.fromkeys(point.label for point in seen):
        own = [point for point in seen if point.label == label]
        if [point.image for point in own] == [1, 2]:
            trace += own
        if len(trace) == 2 * SHARED:
            break
    return trace or list(seen[:SHARED])
