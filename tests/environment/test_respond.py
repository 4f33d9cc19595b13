"""Answers: order, agreement with plain NumPy, and which questions count as the same one."""

import dataclasses
import itertools
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from geometry_jax import scene_io
from geometry_jax.reasons import Reason
from geometry_jax.scene_io import SceneRecord
from geometry_jax.tasks import TASKS
from geometry_jax.types import TaskSpec
from spatialevo_jax.environment import respond
from spatialevo_jax.environment.pools import pools
from spatialevo_jax.environment.respond import Reply, Request, answer_requests
from spatialevo_jax.environment.wordings import WORDINGS, Slots, render
from tests.reference import boxes, compass
from tests.scenes import (
    AGAIN,
    AHEAD,
    CASES,
    EAST,
    POSES,
    SOUTH,
    THINGS,
    Case,
    Thing,
    camera,
    make_record,
    room,
    write_layout,
)

NAMES = [task.name for task in TASKS]
FRAMES = {"scene": (), "single_image": (SOUTH,), "image_pair": (SOUTH, AHEAD)}
ROOM = room()


def ask(task: str, question: str, frames: tuple[int, ...] = ()) -> Request:
    return Request(ROOM, task, question, frames)


def case_request(record: SceneRecord, case: Case, wording: int) -> Request:
    """The case in words: its two frames are shown as Image 1 and Image 2."""
    images = (1, 2)[: sum(blank in WORDINGS[case.task][0] for blank in ("{n}", "{m}"))]
    question = render(case.task, Slots(case.labels, images), wording)
    return Request(record, case.task, question, case.frames, case.difficulty)


def said(case: Case) -> str:
    if isinstance(case.answer, str):
        return case.answer
    if case.task == "object_counting":
        return str(case.answer)
    if case.task == "object_size":
        return f"{100 * case.answer:.2f} cm"
    return f"{case.answer:.2f} {'square ' if case.task == 'room_size' else ''}meters"


def plain(reply: Reply) -> tuple[object, ...]:
    """A reply without arrays, so that `==` compares it; NaN entries as text."""
    shown = [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(reply.evidence)]
    bare = reply._replace(evidence=None)
    return bare, repr(shown)


# --- answers -------------------------------------------------------------------------------


@pytest.mark.parametrize("wording", range(3))
def test_every_case_worked_by_hand_is_answered_in_words(wording: int) -> None:
    replies = answer_requests([case_request(ROOM, case, wording) for case in CASES])
    for case, reply in zip(CASES, replies, strict=True):
        assert (reply.answer, reply.valid, reply.reason) == (said(case), True, Reason.OK), case
        assert reply.error == "" and reply.slots.labels == case.labels


@pytest.mark.parametrize("label", ["", " ", None, "absent"])
def test_an_object_without_a_label_is_no_matter_to_the_others(
    tmp_path: Path, label: str | None
) -> None:
    folder = write_layout(make_record((*THINGS, Thing("", (1, 1, 1), (1, 1, 1))), POSES), tmp_path)
    path = tmp_path / "metadata" / folder.name / f"{folder.name}.json"
    content = json.loads(path.read_text())
    content["objects"][-1]["label"] = label
    if label == "absent":
        del content["objects"][-1]["label"]
    path.write_text(json.dumps(content))
    record = scene_io.load_scene(tmp_path, folder.name)
    assert len(record.object_ids) == len(THINGS) + 1
    whole = make_record(THINGS, POSES)
    asked = [case_request(scene, case, 0) for scene in (record, whole) for case in CASES]
    replies = [(reply.answer, reply.reason) for reply in answer_requests(asked)]
    assert replies[: len(CASES)] == replies[len(CASES) :]
    names = [Request(record, "object_size", f"How big is the {name}?") for name in ("s", "the")]
    assert all(not reply.valid for reply in answer_requests(names))
    assert Reason.AMBIGUOUS_LABEL not in {reply.reason for reply in answer_requests(names)}


def test_roles_in_the_sentence_choose_among_the_images_shown() -> None:
    forth, back = answer_requests(
        [
            ask("elevation_cam_cam", render("elevation_cam_cam", Slots((), images), 0), frames)
            for images, frames in (((1, 2), (SOUTH, AHEAD)), ((2, 1), (SOUTH, AHEAD)))
        ]
    )
    assert (forth.answer, back.answer) == ("higher", "lower")
    assert (forth.slots.images, back.slots.images) == ((1, 2), (2, 1))


def random_room(seed: int) -> SceneRecord:
    """Six things of their own label and three stools before two cameras, all placed at random."""
    rng = np.random.default_rng(seed)

    def thing(label: str) -> Thing:
        x, y, z = rng.uniform((0, 3, 0.2), (6, 9, 1.5))
        width, depth, height = rng.uniform(0.2, 1.2, 3)
        return Thing(label, (x, y, z), (width, depth, height), yaw=rng.uniform(0, 360))

    labels = ["bed", "tv", "lamp", "sink", "Night_Stand", "trash can", *["stool"] * 3]
    poses = [
        camera(*rng.uniform((2, 0, 1.0), (4, 2, 2.0)), heading=rng.uniform(60, 120)) for _ in "ab"
    ]
    every = {(frame, index): 0.8 for frame in range(2) for index in range(len(labels))}
    return make_record([thing(label) for label in labels], poses, visibility=every)


def box_of(record: SceneRecord, label: str) -> tuple[np.ndarray, np.ndarray, float]:
    scene = record.scene
    (index,) = np.flatnonzero(np.asarray(scene.label) == record.labels.index(label))
    values = (scene.obb_center[index], scene.obb_extent[index])
    center, extent = (np.asarray(value, np.float64) for value in values)
    return center, extent, float(scene.obb_yaw[index])


def answers(record: SceneRecord, task: str, slots: Slots, *frames: int) -> str:
    (reply,) = answer_requests([Request(record, task, render(task, slots, 0), frames)])
    assert reply.valid, reply.error
    return reply.answer


def metres(answer: str) -> float:
    number, unit = answer.split()
    assert unit == "meters" and len(number.partition(".")[2]) == 2
    return float(number)


ROUNDED = 0.005 + 1e-4  # metres; answers are rounded to centimetres


@pytest.mark.parametrize("seed", range(4))
def test_distances_agree_with_plain_numpy(seed: int) -> None:
    record = random_room(seed)
    pose = np.asarray(record.scene.world_from_camera[0], np.float64)
    for first, second in itertools.pairwise(("bed", "tv", "lamp", "Night_Stand", "trash can")):
        expected = boxes.distance(*box_of(record, first), *box_of(record, second))
        got = metres(answers(record, "absolute_distance", Slots((first, second))))
        assert got == pytest.approx(expected, abs=ROUNDED)
        expected = boxes.outside(*box_of(record, first), pose[:3, 3])
        got = metres(answers(record, "distance_cam_obj", Slots((first,)), 0))
        assert got == pytest.approx(expected, abs=ROUNDED)


@pytest.mark.parametrize("seed", range(4))
def test_choices_agree_with_plain_numpy(seed: int) -> None:
    record = random_room(seed)
    first, second = np.asarray(record.scene.world_from_camera, np.float64)

    def depth(label: str) -> float:
        return float((box_of(record, label)[0] - first[:3, 3]) @ first[:3, 2])

    for a, b in itertools.combinations(("bed", "tv", "lamp", "sink"), 2):
        lead = depth(b) - depth(a)
        expected = "same" if abs(lead) <= 0.15 else a if lead > 0 else b
        assert answers(record, "depth_order_obj_obj", Slots((a, b)), 0) == expected

    step = second[:3, 3] - first[:3, 3]
    ahead, right = first[:2, 2] / np.linalg.norm(first[:2, 2]), first[:2, 0]
    expected, _ = compass.direction(float(step[:2] @ ahead), float(step[:2] @ right))
    assert answers(record, "position_cam_cam", Slots((), (1, 2)), 0, 1) == expected
    assert answers(record, "object_counting", Slots(("stool",))) == "3"


# --- many at once --------------------------------------------------------------------------

UNREADABLE = (
    (ask("object_counting", ""), Reason.EMPTY_QUESTION),
    (ask("object_counting", "Where is the tv relative to the bed?"), Reason.WRONG_TASK),
    (ask("object_counting", "How many are in the room?"), Reason.MISSING_ROLE),
    (ask("object_counting", "How many unicorns are in the room?"), Reason.ABSENT_LABEL),
    (ask("object_counting", "How many bins are in the room?"), Reason.AMBIGUOUS_LABEL),
    (ask("object_counting", "How many walls are in the room?"), Reason.NOT_AN_OBJECT),
    (ask("absolute_distance", "How far is the bed from the bed in meters?"), Reason.SAME_LABEL),
    (
        ask("motion_camera", "How does the camera move from Image 1 to Image 1?", (SOUTH, AHEAD)),
        Reason.SAME_IMAGE,
    ),
    (ask("distance_cam_obj", "How far is the bed from the camera?"), Reason.WRONG_IMAGES),
    (
        ask("distance_cam_obj", "How far is the bed from the camera?", (SOUTH, EAST)),
        Reason.WRONG_IMAGES,
    ),
    (
        ask("motion_camera", "How does the camera move from Image 1 to Image 2?", (SOUTH,)),
        Reason.WRONG_IMAGES,
    ),
)
REFUSED_BY_GEOMETRY = (
    (ask("object_counting", "How many beds are in the room?"), Reason.TOO_FEW),
    (ask("absolute_distance", "How far is the bed from the chair in meters?"), Reason.NOT_UNIQUE),
    (
        ask("distance_cam_obj", "How far is the sink from the camera?", (EAST,)),
        Reason.NOT_VISIBLE,
    ),
    (
        ask("distance_cam_obj", "How far is the bed from the camera?", (99,)),
        Reason.MISSING_FRAME,
    ),
    (
        ask("motion_camera", "How does the camera move from Image 1 to Image 2?", (SOUTH, AGAIN)),
        Reason.NO_MOTION,
    ),
)


def test_valid_and_invalid_requests_keep_their_order() -> None:
    good = [(case_request(ROOM, case, 0), Reason.OK) for case in CASES]
    bad = (*UNREADABLE, *REFUSED_BY_GEOMETRY)
    asked = [one for pair in itertools.zip_longest(good, bad) for one in pair if one is not None]
    for order in (asked, asked[::-1]):
        replies = answer_requests([request for request, _ in order])
        assert [reply.reason for reply in replies] == [reason for _, reason in order]
        assert [reply.question for reply in replies] == [one.question for one, _ in order]
        assert [reply.task for reply in replies] == [one.task for one, _ in order]


@pytest.mark.parametrize(("asked", "reason"), [*UNREADABLE, *REFUSED_BY_GEOMETRY])
def test_a_refusal_has_a_sentence_and_no_answer(asked: Request, reason: Reason) -> None:
    (reply,) = answer_requests([asked])
    assert (reply.valid, reply.answer, reply.margin) == (False, "", 0.0)
    assert (reply.reason, reply.error) == (reason, reason.sentence)


def test_requests_judged_together_equal_each_judged_alone() -> None:
    """Two rooms of unlike size, more requests than a batch holds, refusals between them."""
    small = make_record(THINGS[:3], [camera(2.5, -1.0, 1.5, heading=90.0)])
    pairs = itertools.permutations(("bed", "table", "lamp", "unicorn"), 2)
    asked = [
        Request(small, "absolute_distance", render("absolute_distance", Slots(pair), wording))
        for wording, pair in enumerate(pairs)
    ]
    asked += [case_request(ROOM, case, wording) for wording in range(3) for case in CASES]
    asked[20:20] = [request for request, _ in (*UNREADABLE, *REFUSED_BY_GEOMETRY)]
    alone = [plain(reply) for request in asked for reply in answer_requests([request])]
    asked += asked[:1] * respond.BATCH  # more of one task than a batch holds
    alone += alone[:1] * respond.BATCH
    together = [plain(reply) for reply in answer_requests(asked)]
    for request, one, other in zip(asked, together, alone, strict=True):
        assert one == other, request.question


def test_scenes_stacked_with_others_give_the_same_answers() -> None:
    """And a scene that is not among them is named."""
    record, other = room(), dataclasses.replace(room(), scene_id="elsewhere")
    asked = [
        Request(record, "distance_cam_obj", "How far is the bed from the camera in meters?", (0,)),
        Request(record, "room_size", "How large is the floor of the room in square meters?"),
    ]
    alone = answer_requests(asked, evidence=False)
    assert answer_requests(asked, evidence=False, among=(other, record)) == alone
    assert all(reply.evidence is None for reply in alone) and alone[0].valid
    with pytest.raises(ValueError, match=f"lacks {record.scene_id}"):
        answer_requests(asked, among=(other,))


def test_nothing_asked_is_nothing_answered() -> None:
    assert answer_requests([]) == []


def test_a_task_that_does_not_exist_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match=r"expected one of object_counting, .*, got 'counting'"):
        answer_requests([ask("counting", "How many chairs are in the room?")])


def test_an_answer_near_a_decision_edge_is_refused_only_when_strict() -> None:
    """Seen from the first camera the others stand 1 and 5 degrees from the edge of two bins."""
    poses = [camera(0.0, 0.0, 1.5, heading=90.0)]
    for degrees in (22.5 + 1.0, 22.5 + 5.0):
        x, y = 2 * np.cos(np.deg2rad(degrees)), 2 * np.sin(np.deg2rad(degrees))
        poses.append(camera(x, y, 1.5, heading=90.0))
    record = make_record(THINGS[:2], poses)
    question = "From Image 1, where is the camera of Image 2?"
    asked = [Request(record, "position_cam_cam", question, (0, other)) for other in (1, 2)]
    loose, strict = answer_requests(asked), answer_requests(asked, strict_margin=True)
    assert [reply.answer for reply in loose] == ["front-right", "front-right"]
    assert [reply.margin for reply in loose] == pytest.approx([0.5, 2.5], abs=0.01)
    assert [reply.answer for reply in strict] == ["", "front-right"]
    assert [reply.reason for reply in strict] == [Reason.UNCLEAR, Reason.OK]


# --- the signature -------------------------------------------------------------------------


def every_slots(task: TaskSpec) -> list[Slots]:
    labels = ("bed", "tv", "lamp", "table")
    both = sum(blank in WORDINGS[task.name][0] for blank in ("{n}", "{m}"))
    images = ((1, 2)[:both], (2, 1)[:both]) if both else ((),)
    named = itertools.permutations(labels, len(task.slots))
    return [Slots(*one) for one in itertools.product(named, images)]


def meaning(task: str, slots: Slots) -> tuple[object, ...]:
    """What is asked: roles whose exchange changes nothing are sets."""
    if task in ("absolute_distance", "depth_order_obj_obj", "attribute_measurement"):
        return task, frozenset(slots.labels)
    if task == "relative_distance":
        return task, slots.labels[0], frozenset(slots.labels[1:])
    return task, slots


def test_the_signature_is_equal_exactly_where_the_same_is_asked() -> None:
    asked = [
        (task, slots, wording)
        for task in TASKS
        for slots in every_slots(task)
        for wording in range(len(WORDINGS[task.name]))
    ]
    replies = answer_requests(
        [
            ask(task.name, render(task.name, slots, wording), FRAMES[task.modality])
            for task, slots, wording in asked
        ]
    )
    meanings = [meaning(task.name, slots) for task, slots, _ in asked]
    signatures = [reply.signature for reply in replies]
    pairs = set(zip(meanings, signatures, strict=True))
    assert len(pairs) == len(set(meanings)) == len(set(signatures)) < len(asked)


def test_another_name_for_the_same_thing_asks_the_same() -> None:
    first, second, third, other = answer_requests(
        [
            ask("absolute_distance", question)
            for question in (
                "What is the distance between the bed and the tv in meters?",
                "how far is the TELEVISION from the bed in metres",
                "How far apart are the bed and the tv, in meters?",
                "What is the distance between the bed and the lamp in meters?",
            )
        ]
    )
    assert first.signature == second.signature == third.signature != other.signature


def test_a_question_that_can_not_be_read_asks_only_what_it_says() -> None:
    questions = ("What is  THIS?", "what is this?", "What is that?")
    first, again, other = answer_requests([ask("object_counting", one) for one in questions])
    elsewhere, *_ = answer_requests([ask("motion_camera", questions[0], (SOUTH, AHEAD))])
    assert first.signature == again.signature
    assert len({first.signature, other.signature, elsewhere.signature}) == 3


def test_a_refused_question_is_never_the_same_as_an_answered_one() -> None:
    """The chair is the only one in the image from the south, and one of two from the east."""
    question = "How far is the chair from the camera?"
    south, east = answer_requests([ask("distance_cam_obj", question, (f,)) for f in (SOUTH, EAST)])
    assert (south.valid, east.valid) == (True, False)
    assert south.slots == east.slots
    assert south.signature != east.signature


@pytest.mark.parametrize("task", TASKS, ids=NAMES)
def test_what_the_pools_offer_is_never_refused_for_its_labels(task: TaskSpec) -> None:
    """Geometry may still find a tie or two things at one place."""
    frames = FRAMES[task.modality]
    offered = pools(ROOM, frames)
    pool = offered.repeated if task.name == "object_counting" else offered.unique
    images = (1, 2)[: sum(blank in WORDINGS[task.name][0] for blank in ("{n}", "{m}"))]
    named = itertools.islice(itertools.permutations(pool, len(task.slots)), 0, 600, 5)
    asked = [
        ask(task.name, render(task.name, Slots(labels, images), 0), frames) for labels in named
    ]
    reasons = {reply.reason for reply in answer_requests(asked)}
    assert Reason.OK in reasons
    allowed = {Reason.TOO_CLOSE, Reason.SAME_PLACE, Reason.OVERLAP, Reason.SAME_SIZE}
    assert reasons <= {Reason.OK} | allowed
