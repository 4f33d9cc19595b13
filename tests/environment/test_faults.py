"""The known faults of the published oracle, asked of ours. docs/faults.md names each test."""

import ast
import concurrent.futures
import dataclasses
import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geometry_jax import scene_io
from geometry_jax.reasons import Reason
from geometry_jax.scene_io import SceneRecord
from spatialevo_jax.environment.extract import read_question
from spatialevo_jax.environment.fields import BadRequest, resolve_task
from spatialevo_jax.environment.labels import resolve, vocabulary
from spatialevo_jax.environment.records import answer_records
from spatialevo_jax.environment.wordings import Slots
from tests.environment.sentences import SENTENCES
from tests.scenes import AGAIN, AHEAD, EAST, SOUTH, THINGS, Thing, camera, make_record, room

ROOM = room()
NORTH = camera(0.0, 0.0, 1.5, heading=90.0)


def ask(
    task: str, question: str, *frames: int, record: SceneRecord = ROOM, **fields: Any
) -> dict[str, Any]:
    """The reply to one request about a hand-made room."""
    asked = {"task_type": task, "scene_id": record.scene_id, "question": question, **fields}
    if len(frames) == 1:
        asked["frame_id"] = record.frame_ids[frames[0]]
    elif frames:
        asked["image_paths"] = [record.frame_ids[frame] for frame in frames]
    (reply,) = answer_records([asked], lambda _: record)
    return reply


def answer(
    task: str, question: str, *frames: int, record: SceneRecord = ROOM, **fields: Any
) -> str:
    reply = ask(task, question, *frames, record=record, **fields)
    assert reply["is_valid"], reply["error"]
    return reply["answer"]


def reason(
    task: str, question: str, *frames: int, record: SceneRecord = ROOM, **fields: Any
) -> str:
    reply = ask(task, question, *frames, record=record, **fields)
    assert not reply["is_valid"], reply["answer"]
    return reply["reason"]


def boxes(*things: tuple[str, float, float], poses: Any = (NORTH,), **more: Any) -> SceneRecord:
    """Small boxes at (x, y) on the floor."""
    made = [Thing(label, (x, y, 0.2), (0.4, 0.4, 0.4)) for label, x, y in things]
    return make_record(made, list(poses), **more)


def test_there_is_no_recovery_of_a_refused_question() -> None:
    reply = ask("object_size", "How big is the piano?")
    assert (reply["is_valid"], reply["answer"]) == (False, "")
    assert not [key for key in reply if "recover" in key]


@pytest.mark.parametrize("pitch", [-30.0, 0.0, 30.0])
def test_straight_ahead_is_front_however_the_camera_is_tilted(pitch: float) -> None:
    poses = [camera(0, 0, 1.5, heading=70.0, pitch=pitch), camera(0.342, 0.940, 1.5, heading=0.0)]
    record = boxes(poses=poses)
    question = "When you took Image 1, where was the camera for Image 2, relative to you?"
    assert answer("position_cam_cam", question, 0, 1, record=record) == "front"


@pytest.mark.parametrize("heading", [0.0, 45.0, 90.0, 135.0, 180.0, 225.0, 270.0, 315.0])
def test_a_turn_to_the_left_is_left_whatever_the_heading(heading: float) -> None:
    poses = [camera(0, 0, 1.5, heading=heading + turn, pitch=-15.0) for turn in (0.0, 30.0)]
    record = boxes(poses=poses)
    question = "Based on the continuous images, in which direction is the camera rotating?"
    assert answer("motion_camera", question, 0, 1, record=record) == "left"


def test_sentences_are_read_without_a_language_model() -> None:
    reply = ask("absolute_distance", "How far is the bed from the tv?")
    assert (reply["is_valid"], reply["confidence"]) == (True, 1.0)
    assert reply["score_detail"]["llm_extraction_calls"] == 0


def test_a_distance_is_between_the_closest_points() -> None:
    """The middles of bed and tv are 3.05 m apart."""
    assert answer("absolute_distance", "How far is the bed from the tv?") == "2.05 meters"
    question = "Which of these objects (tv, chair, lamp) is closest to the bed?"
    assert answer("relative_distance", question) == "chair"


def test_the_longest_name_is_read_and_no_part_of_it() -> None:
    labels = ("coffee table", "table", "bed")
    question = "Which is nearer to the lens, the coffee table or the bed?"
    assert read_question("depth_order_obj_obj", question, labels) == Slots(("coffee table", "bed"))


@pytest.mark.parametrize("name", ["towel", "bench", "beds", "couch", "window", "tv stand"])
def test_a_label_is_never_replaced_by_a_neighbour(name: str) -> None:
    record = boxes(("bed", 0, 3), ("tv", 2, 3), ("pillow", 4, 3), ("toilet", 6, 3))
    question = f"What is the distance between the {name} and the tv?"
    if name != "beds":  # a sentence may hold a plural, a field holds a label
        assert reason("absolute_distance", question, record=record) == "ABSENT_LABEL"
    fields: dict[str, Any] = {"object1_label": name, "object2_label": "tv"}
    assert reason("absolute_distance", "How far?", record=record, **fields) == "ABSENT_LABEL"


def test_a_label_given_as_a_field_is_kept_though_the_image_does_not_show_it() -> None:
    fields: dict[str, Any] = {"object1_label": "sink", "object2_label": "bed"}
    found = ask("depth_order_obj_obj", "Which one is nearer to it?", EAST, **fields)
    assert (found["is_valid"], found["reason"]) == (False, "NOT_VISIBLE")
    assert found["parsed_params"] == fields


def test_a_direction_on_the_floor_does_not_depend_on_height() -> None:
    places = {"bed": (0, 0, 0.2), "tv": (0, 2, 0.2), "fan": (0, 0.3, 2.1), "clock": (0, 0.05, 2)}
    things = [Thing(label, place, (0.4, 0.4, 0.4)) for label, place in places.items()]
    record = make_record(things, [NORTH])
    sentence = "If I am standing by the bed and facing the tv, where is the {}?"
    assert answer("relative_direction_hard", sentence.format("fan"), record=record) == "front"
    found = reason("relative_direction_hard", sentence.format("clock"), record=record)
    assert found == "SAME_PLACE"


def test_prepositions_give_the_roles_in_every_wording() -> None:
    for sentence, _ in SENTENCES["single_image_relative_direction"]:
        sentence = sentence.replace("tv", "lamp")
        assert answer("single_image_relative_direction", sentence, SOUTH) == "right", sentence


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("Compared with the camera in Image 2, is the camera in Image 1 higher or lower?", "lower"),
        ("Was image two shot from higher up than image one?", "higher"),
        ("Relative to the second image, was the first image shot from higher up?", "lower"),
    ],
)
def test_either_image_may_be_the_reference(sentence: str, expected: str) -> None:
    assert answer("elevation_cam_cam", sentence, SOUTH, AHEAD) == expected


def test_sizes_are_compared_by_label_in_both_images() -> None:
    """The sink is seen in the first image only; a second chair is hardly seen there."""
    question = "Which is larger in its longest dimension, the sink or the bed?"
    assert answer("attribute_measurement", question, SOUTH, EAST) == "bed"
    question = "Which object is longer in Image 1, the chair or the sink?"
    assert answer("attribute_measurement", question, SOUTH, EAST) == "chair"


def test_names_mean_the_same_in_any_order_and_unclear_ones_nothing() -> None:
    labels = ("trash can", "trash bin", "sofa", "couch", "lamp")
    tables = [vocabulary(order) for order in itertools.permutations(labels)]
    assert all(table == tables[0] for table in tables)
    assert resolve("shower curtain floor mat", ("shower curtain", "floor mat")) is (
        Reason.ABSENT_LABEL
    )
    for name in ("distance", "direction", "size", "cam", "position", "reg"):
        assert isinstance(resolve_task(name), BadRequest)


def test_what_was_read_before_changes_nothing() -> None:
    sentence = "How big is the bedside lamp?"
    first = read_question("object_size", sentence, ("lamp", "bed"))
    assert read_question("object_size", sentence, ("bedside lamp",)) == Slots(("bedside lamp",))
    assert read_question("object_size", sentence, ("lamp", "bed")) is first is Reason.ABSENT_LABEL


def test_a_region_is_where_the_image_shows_it() -> None:
    """Beds to the left, of which the camera sees none, and one straight ahead."""
    record = boxes(("bed", 0, 3), ("bed", -6, 3), ("bed", -6, 5), poses=[NORTH, NORTH])
    unseen = {(frame, index): 0.0 for frame in (0, 1) for index in (1, 2)}
    record = boxes(
        ("bed", 0, 3), ("bed", -6, 3), ("bed", -6, 5), poses=[NORTH, NORTH], visibility=unseen
    )
    question = "When taking Image 1, where is the sleeping area?"
    assert answer("position_cam_reg", question, 0, 1, record=record) == "front"
    question = "When taking Image 1, where is the kitchen area?"
    assert reason("position_cam_reg", question, 0, 1, record=record) == "ABSENT_LABEL"


def test_a_label_may_be_compared_whatever_other_labels_there_are() -> None:
    """The lamp differs clearly between the images, the bed does not."""
    question = "Which image shows the {} more clearly?"
    assert answer("visibility_compare", question.format("lamp"), SOUTH, EAST) == "image1"
    assert answer("visibility_compare", question.format("bed"), SOUTH, EAST) == "same"


def test_one_is_too_few_to_count() -> None:
    assert reason("object_counting", "How many beds are in the room?") == "TOO_FEW"
    assert answer("object_counting", "How many chairs are in the room?") == "2"


def test_counts_in_the_request_do_not_replace_those_of_the_scene() -> None:
    counts = {"table": 3, "chair": 1}
    question = "How many {} are in the room?"
    fields: dict[str, Any] = {"scene_label_counts": counts}
    assert reason("object_counting", question.format("tables"), **fields) == "TOO_FEW"
    reply = ask("object_counting", question.format("chairs"), **fields)
    assert (reply["answer"], reply["ignored_fields"]) == ("2", ["scene_label_counts"])


def test_the_nearest_is_found_before_rounding_and_a_tie_is_refused() -> None:
    record = boxes(("bed", 0, 0), ("tv", 2.3, 0), ("lamp", 0, 2.5), ("sink", -2.504, 0))
    sentence = "Which of these objects ({}) is closest to the bed?"
    for names in ("tv, lamp", "lamp, tv", "sink, tv"):
        assert answer("relative_distance", sentence.format(names), record=record) == "tv"
    found = reason("relative_distance", sentence.format("sink, lamp"), record=record)
    assert found == "TOO_CLOSE"
    for names in ("tv, unicorn", "unicorn, tv"):
        found = reason("relative_distance", sentence.format(names), record=record)
        assert found == "ABSENT_LABEL"


def test_the_share_of_an_image_counts_by_its_own_size() -> None:
    """Large pictures: 30 % seen across the whole image loses against 95 % in a part of it."""
    poses = [NORTH, camera(0.0, 0.5, 1.5, heading=90.0)]
    record = boxes(("bed", 0, 3), poses=poses, visibility={(0, 0): 0.3, (1, 0): 0.95})
    size = np.tile(np.array([1296, 968], np.float32), (2, 1))
    pixels = np.array([[[0, 0, 1296, 968]], [[300, 300, 700, 600]]], np.float32)
    scene = dataclasses.replace(record.scene, image_size=size, bbox_2d=pixels)
    record = dataclasses.replace(record, scene=scene)
    question = "Which image shows the bed more clearly?"
    assert answer("visibility_compare", question, 0, 1, record=record) == "image2"


def test_a_twin_that_is_hardly_seen_does_not_count() -> None:
    """One chair of two is 5 % visible from the south."""
    question = "Which direction is the chair relative to me when I am taking Image 1?"
    assert answer("position_cam_obj", question, SOUTH, EAST) == "front-right"
    assert answer("distance_cam_obj", "How far is the chair from the camera?", SOUTH)


def test_what_the_sentence_gets_wrong_fails_at_the_rules() -> None:
    reply = ask("distance_cam_obj", "How far is the chair from the camera?", EAST)
    assert (reply["error_code"], reply["failure_stage"]) == ("INVALID_QUESTION_RULE", "rule")
    assert reply["reason"] == "NOT_UNIQUE_IN_IMAGE"


def test_the_same_scene_id_in_another_folder_is_another_scene() -> None:
    small = make_record(THINGS[:6], [NORTH])
    question = "How many chairs are in the room?"
    large = boxes(("chair", 0, 0), ("chair", 1, 0), ("chair", 2, 0))
    assert answer("object_counting", question, record=small) == "2"
    assert answer("object_counting", question, record=large) == "3"
    assert small.scene_id == large.scene_id


def lost(*frames: int) -> SceneRecord:
    """The room with the poses of some frames lost."""
    known = np.array([frame not in frames for frame in range(len(ROOM.frame_ids))])
    return dataclasses.replace(ROOM, scene=dataclasses.replace(ROOM.scene, pose_valid=known))


def test_a_lost_pose_is_never_taken_for_another() -> None:
    """What needs no pose of that frame is still answered."""
    record = lost(AHEAD)
    question = "Is the camera of Image 2 higher or lower than the camera of Image 1?"
    reply = ask("elevation_cam_cam", question, SOUTH, AHEAD, record=record)
    assert (reply["error_code"], reply["reason"]) == ("EXECUTION_FAILED", "MISSING_POSE")
    motion = "How did the camera move?"
    assert reason("motion_camera", motion, SOUTH, AHEAD, record=record) == "MISSING_POSE"
    assert answer("motion_camera", motion, SOUTH, EAST, record=record) == "right"
    depth = "Which is closer to the camera, the bed or the lamp?"
    assert answer("depth_order_obj_obj", depth, AHEAD, record=record) == "bed"
    assert answer("object_size", "How big is the bed?", record=record) == "200.00 cm"


def test_a_sentence_of_another_task_is_not_answered() -> None:
    question = "What is the longest dimension of the bed in centimeters?"
    for task in ("position_cam_cam", "motion_camera", "room_size", "object_counting"):
        assert reason(task, question, SOUTH, AHEAD) == "WRONG_TASK"


def test_a_room_without_an_area_has_no_size() -> None:
    area = np.float32(np.nan)
    record = dataclasses.replace(ROOM, scene=dataclasses.replace(ROOM.scene, floor_area=area))
    assert reason("room_size", "How large is the floor area here?", record=record) == "MISSING_AREA"
    assert answer("room_size", "How large is the floor area here?") == "25.00 square meters"


def test_nothing_but_the_named_fields_reaches_an_answer() -> None:
    question = "Where is the bed relative to the camera in Image 1?"
    fields: dict[str, Any] = {
        "frame_metadata": {"objects": []},
        "reference_frame": "world",
        "prompt_mode": 3,
    }
    plain = ask("position_cam_obj", question, SOUTH, EAST)
    reply = ask("position_cam_obj", question, SOUTH, EAST, **fields)
    assert reply.pop("ignored_fields") == ["frame_metadata", "prompt_mode", "reference_frame"]
    assert reply == plain


def test_a_refusal_names_what_was_understood() -> None:
    reply = ask("absolute_distance", "How far is the bed from the unicorn?")
    assert reply["parsed_params"] == {"object1_label": "bed"}
    judged = reply["judge_reference"]
    assert judged["resolved_extraction_fields"] == ["object1_label"]
    assert judged["unresolved_extraction_fields"] == ["object2_label"]
    assert "'the unicorn'" in reply["error"]


def test_names_are_whole_words() -> None:
    labels = ("bed", "fan", "closet", "table")
    for name in ("bedroom door", "fantasy book"):
        found = read_question("object_size", f"How big is the {name}?", labels)
        assert found is Reason.ABSENT_LABEL
    question = "Which is closer to the camera, the bed or the table?"
    assert read_question("depth_order_obj_obj", question, labels) == Slots(("bed", "table"))


@pytest.mark.parametrize(
    "sentence",
    [
        "Which is closest to the bed: the table, the lamp or the tv?",
        "Which object is nearest to the bed among the table, the lamp and the tv?",
        "Which of these objects (table, lamp, tv) is the closest to the bed?",
    ],
)
def test_the_target_may_come_before_or_after_the_list(sentence: str) -> None:
    assert answer("relative_distance", sentence) == "lamp"


@pytest.mark.parametrize("phrase", ["area", "a", "zone", "cat", "garage area", "room"])
def test_a_region_is_named_by_whole_phrases_only(phrase: str) -> None:
    labels = ("sink", "cabinet", "bed", "door")
    question = f"When taking Image 1, where is the {phrase}?"
    assert read_question("position_cam_reg", question, labels) is Reason.ABSENT_LABEL


def test_lost_poses_on_the_way_do_not_change_the_turn() -> None:
    poses = np.stack([camera(0, 0, 1.5, heading=h) for h in (90.0, 100.0, 110.0, 120.0)])
    broken = poses.copy()
    broken[1] = -np.inf
    turn = np.degrees(np.diff(scene_io.path_headings(broken)[[0, -1]]))
    assert turn == pytest.approx([30.0])


def test_a_turned_box_is_measured_along_its_own_sides() -> None:
    """The table is turned by 45 degrees: its axis-aligned box is 1.41 m long."""
    assert answer("object_size", "How big is the table?") == "100.00 cm"


@pytest.mark.parametrize(("metres", "text"), [(1.1, "1.10"), (2.0, "2.00"), (0.125, "0.12")])
def test_numbers_have_two_decimals(metres: float, text: str) -> None:
    record = boxes(("bed", 0, 0), ("tv", 0.4 + metres, 0))
    found = answer("absolute_distance", "How far is the bed from the tv?", record=record)
    assert found == f"{text} meters"


def test_cameras_at_one_place_have_no_direction() -> None:
    question = "From Image 1, where is the camera of Image 2?"
    assert reason("position_cam_cam", question, SOUTH, AGAIN) == "SAME_PLACE"
    assert reason("position_cam_cam", question, SOUTH, SOUTH) == "SAME_IMAGE"
    assert reason("motion_camera", "How did the camera move?", SOUTH, AGAIN) == "NO_MOTION"


def test_case_does_not_matter_and_labels_alike_but_for_case_are_ambiguous() -> None:
    assert answer("object_counting", "HOW MANY CHAIRS ARE IN THE ROOM?") == "2"
    assert answer("object_size", "How big is it, in cm?", object_label=" BED ") == "200.00 cm"
    record = boxes(("Chair", 0, 0), ("chair", 1, 0))
    assert reason("object_size", "How big is the chair?", record=record) == "AMBIGUOUS_LABEL"


def test_a_task_name_is_whole() -> None:
    for name in ("position", "obj", "reg", "pos", "relative-distance"):
        bad = resolve_task(name)
        assert isinstance(bad, BadRequest) and bad.code == "UNSUPPORTED_TASK"
    assert resolve_task("Relative Direction Easy") == "relative_direction_hard"


def test_threads_get_the_answers_that_one_gets() -> None:
    asked = [("object_counting", "How many chairs are in the room?")]
    asked += [("absolute_distance", f"How far is the bed from the {b}?") for b in ("tv", "lamp")]
    asked = asked * 20
    alone = [ask(*one)["answer"] for one in asked]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda one: ask(*one)["answer"], asked)) == alone


def test_only_pictures_need_matplotlib(repository: Path) -> None:
    for package in ("geometry_jax", "spatialevo_jax/environment"):
        for path in sorted((repository / package).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            modules = [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
            modules += [
                a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names
            ]
            drawing = [m for m in modules if m.startswith("matplotlib") or m.endswith("picture")]
            assert not drawing or path.name == "picture.py", path


def test_a_turn_is_told_from_a_step_by_its_evidence() -> None:
    reply = ask("motion_camera", "How did the camera move?", SOUTH, EAST)
    turn, right, *_ = reply["evidence"]["numbers"]
    assert (reply["answer"], turn, right) == ("right", 0.0, 2.0)
    reply = ask("motion_camera", "How did the camera move?", SOUTH, 3)
    turn, right, *_ = reply["evidence"]["numbers"]
    assert reply["answer"] == "left"
    assert (turn, right) == (pytest.approx(np.radians(30.0), abs=1e-3), 0.0)


def test_questions_about_cameras_need_no_objects() -> None:
    record = boxes(poses=[NORTH, camera(0.0, 1.0, 1.9, heading=90.0)])
    question = "How did the camera move from Image 1 to Image 2?"
    assert answer("motion_camera", question, 0, 1, record=record) == "front-up"
    question = "Is the camera of Image 2 higher or lower than the camera of Image 1?"
    assert answer("elevation_cam_cam", question, 0, 1, record=record) == "higher"


@pytest.mark.parametrize("phrase", [".", "", " ", "-", "?"])
def test_an_empty_phrase_names_nothing(phrase: str) -> None:
    assert resolve(phrase, ("bed", "tv")) is Reason.ABSENT_LABEL


# --- the table ---------------------------------------------------------------------------------


def test_every_fault_has_a_line_and_every_named_test_exists(repository: Path) -> None:
    text = (repository / "docs" / "faults.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| F(\d+) \|(.*)\|(.*)\|(.*)\|$", text, flags=re.M)
    assert [int(number) for number, *_ in lines] == list(range(1, 49))
    sources = "\n".join(path.read_text("utf-8") for path in (repository / "tests").rglob("*.py"))
    written = set(re.findall(r"^def (test_\w+)\(", sources, flags=re.M))
    for number, fault, ours, shown in lines:
        assert fault.strip() and ours.strip(), number
        named = re.findall(r"`(test_\w+)`", shown)
        assert named or "Does not apply" in ours, number
        assert set(named) <= written, (number, set(named) - written)
