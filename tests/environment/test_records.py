"""Records: the published field names read and written, and a reply for whatever comes."""

import collections
import json
import re
from pathlib import Path
from typing import Any

import pytest

from geometry_jax import scene_io
from geometry_jax.scene_io import SceneRecord
from geometry_jax.tasks import TASKS
from spatialevo_jax.environment.fields import ALIASES, BadRequest, frame_index, resolve_task
from spatialevo_jax.environment.records import answer_records
from tests.scenes import room

NAMES = [task.name for task in TASKS]
ROOM = room()
COUNT = "How many chairs are in the room?"
DEPTH = "Which is closer to the camera, the bed or the lamp?"
RISE = "Is the camera of Image 2 higher or lower than the camera of Image 1?"


def load(scene_id: str) -> SceneRecord:
    if scene_id != ROOM.scene_id:
        raise FileNotFoundError(f"rooms: expected a scene {scene_id!r}, found none.")
    return ROOM


def record(task: str, question: str, **fields: Any) -> dict[str, Any]:
    return {"task_type": task, "scene_id": ROOM.scene_id, "question": question} | fields


def reply_to(fields: Any) -> dict[str, Any]:
    (reply,) = answer_records([fields], load)
    assert json.loads(json.dumps(reply, allow_nan=False)) == reply
    return reply


def test_the_python_of_the_docs_answers_one_question_in_three_ways(
    rooms_root: Path,
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (code,) = re.findall(
        r"^```python\n(.*?)^```", (repository / "docs" / "oracles.md").read_text(), re.M | re.S
    )
    made = scene_io.load_scene(rooms_root, "scene0000_00")
    counts = collections.Counter(made.labels[label] for label in made.scene.label.tolist())
    unique = next(label for label, count in counts.items() if count == 1)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rooms").symlink_to(rooms_root)
    monkeypatch.chdir(tmp_path)
    exec(code.replace("table", unique), {})
    sentence, fields, arrays = capsys.readouterr().out.splitlines()
    assert sentence.startswith(f"{fields} OK ")
    metres, reason = arrays.split()
    assert f"{100 * float(metres):.2f} cm" == fields and reason == "0"


@pytest.mark.parametrize("task", NAMES)
def test_a_task_is_known_by_its_name_and_its_aliases(task: str) -> None:
    for name in (task, task.upper(), f"[{task.replace('_', ' ')}]", *ALIASES.get(task, "").split()):
        assert resolve_task(name) == task


@pytest.mark.parametrize("name", ["", "distance", "object counting please", "object-counting"])
def test_an_unknown_task_is_named(name: str) -> None:
    bad = resolve_task(name)
    assert isinstance(bad, BadRequest) and bad.code == "UNSUPPORTED_TASK"
    assert bad.message.endswith(f"got {name!r}.")


@pytest.mark.parametrize(
    "name",
    ["20", "20.jpg", "frame_processed/20.jpg", "C:\\data\\20.png", "/a/b/00020.jpg", "frame_20"],
)
def test_a_frame_is_known_by_its_id_or_any_path_to_it(name: str) -> None:
    assert frame_index(ROOM, name) == 2


@pytest.mark.parametrize("name", ["", "21", "120", "2", "20/x", "\N{SUPERSCRIPT TWO}", "\x00"])
def test_an_unknown_frame_is_named(name: str) -> None:
    bad = frame_index(ROOM, name)
    assert isinstance(bad, BadRequest) and bad.code == "INVALID_INPUT"
    assert bad.message.startswith("scene0000_00: expected a frame such as frame_processed/0.jpg")


@pytest.mark.parametrize(
    "images",
    [
        {"image_paths": ["frame_processed/0.jpg", "frame_processed/20.jpg"]},
        {"image_paths": ["0", "20", "nonsense"]},
        {"image_path_1": "0.jpg", "image_path_2": "20.jpg"},
        {"frame_id_1": 0, "frame_id_2": 20},
        {"frame_id_1": "0", "frame_id_2": "20"},
    ],
)
def test_a_pair_is_given_in_any_of_the_published_fields(images: dict[str, Any]) -> None:
    reply = reply_to(record("elevation_cam_cam", RISE, **images))
    assert reply["answer"] == "higher"
    assert reply["evidence"]["frames"] == ["0", "20"]
    assert reply["parsed_params"] == {
        "camera_reference_image_idx": 1,
        "camera_target_image_idx": 2,
    }


@pytest.mark.parametrize(
    "images", [{"image_path": "0.jpg"}, {"frame_id": 0}, {"image_paths": ["0.jpg"]}]
)
def test_one_image_is_given_in_any_of_the_published_fields(images: dict[str, Any]) -> None:
    reply = reply_to(record("depth_order_obj_obj", DEPTH, **images))
    assert reply["answer"] == "bed"
    assert [one["label"] for one in reply["evidence"]["objects"]] == ["bed", "lamp"]


def test_images_that_are_named_twice_must_be_the_same() -> None:
    same: dict[str, Any] = {"image_path": "frame_processed/0.jpg", "frame_id": "00"}
    assert reply_to(record("depth_order_obj_obj", DEPTH, **same))["answer"] == "bed"
    reply = reply_to(record("depth_order_obj_obj", DEPTH, image_path="0.jpg", frame_id=10))
    assert reply["error"] == "frame_id: expected frame 0 as in the other fields, got 10."
    pair: dict[str, Any] = {"image_paths": ["0", "20"], "frame_id_1": 0, "frame_id_2": 10}
    reply = reply_to(record("elevation_cam_cam", RISE, **pair))
    assert reply["error"] == "frame_id_1: expected frame 0, 20 as in the other fields, got 0, 10."
    reply = reply_to(record("depth_order_obj_obj", DEPTH, image_paths=["0", "10"]))
    assert reply["error"] == "depth_order_obj_obj needs one image, got 2."


def test_a_reply_shows_what_decides_it() -> None:
    reply = reply_to(record("absolute_distance", "How far is the bed from the tv in meters?"))
    assert (reply["is_valid"], reply["answer"], reply["error"]) == (True, "2.05 meters", "")
    assert reply["parsed_params"] == {"object1_label": "bed", "object2_label": "tv"}
    bed, tv = reply["evidence"]["objects"]
    assert (bed["object_id"], bed["label"], tv["object_id"], tv["label"]) == (1, "bed", 7, "tv")
    assert bed["center"] == pytest.approx([2.0, 3.0, 0.4])
    assert bed["extent"] == pytest.approx([2.0, 1.6, 0.8])
    assert reply["evidence"]["numbers"] == pytest.approx([2.0524], abs=1e-4)
    (_, bed_y, bed_z), (_, tv_y, tv_z) = reply["evidence"]["points_world"]
    assert (bed_y, bed_z, tv_y, tv_z) == pytest.approx((2.2, 0.8, 0.15, 0.9))


def test_candidates_come_as_a_list() -> None:
    question = "Which is closest to the bed: the table, the lamp or the tv?"
    reply = reply_to(record("relative_distance", question))
    assert reply["answer"] == "lamp"
    assert reply["parsed_params"] == {
        "target_label": "bed",
        "candidate_labels": ["table", "lamp", "tv"],
    }


def test_a_difficulty_chooses_the_words() -> None:
    question = "Standing by the table and facing the lamp, where is the trash can?"
    answers = {
        level: reply_to(record("relative_direction_hard", question, difficulty=level))["answer"]
        for level in ("easy", "medium", "hard", "", None)
    }
    assert answers == {
        "easy": "right",
        "medium": "back",
        "hard": "back-right",
        "": "back-right",
        None: "back-right",
    }


@pytest.mark.parametrize(
    ("task", "question", "code", "stage", "reason"),
    [
        ("object_counting", "Hello.", "QUESTION_INVALID", "validation", "WRONG_TASK"),
        (
            "object_counting",
            "How many unicorns are in the room?",
            "INVALID_QUESTION_RULE",
            "rule",
            "ABSENT_LABEL",
        ),
        (
            "object_counting",
            "How many beds are in the room?",
            "INVALID_QUESTION_RULE",
            "rule",
            "TOO_FEW",
        ),
    ],
)
def test_a_refused_question_says_where_it_failed(
    task: str, question: str, code: str, stage: str, reason: str
) -> None:
    reply = reply_to(record(task, question))
    assert (reply["is_valid"], reply["answer"]) == (False, "")
    assert (reply["error_code"], reply["failure_stage"], reply["reason"]) == (code, stage, reason)
    assert reply["judge_reference"]["final_invalid_reason"] == reply["error"] != ""


def test_an_unknown_label_comes_with_those_that_are_there() -> None:
    reply = reply_to(record("object_counting", "How many unicorns are in the room?"))
    assert reply["error"].endswith(f"scene0000_00 has: {', '.join(sorted(ROOM.labels))}.")


BAD: tuple[tuple[Any, str, str], ...] = (
    ([], "INVALID_INPUT", "expected a JSON object, got list."),
    (None, "INVALID_INPUT", "expected a JSON object, got NoneType."),
    (float("inf"), "INVALID_INPUT", "expected a JSON object, got float."),
    (BadRequest("INVALID_INPUT", "line 3: no."), "INVALID_INPUT", "line 3: no."),
    ({}, "INVALID_INPUT", "task_type: expected text, got None."),
    (record("object_counting", " "), "INVALID_INPUT", "question: expected text, got ' '."),
    (
        record("object_counting", COUNT) | {"question": ["x"]},
        "INVALID_INPUT",
        "question: expected text, got ['x'].",
    ),
    (
        record("object_counting", COUNT) | {"scene_id": 7},
        "INVALID_INPUT",
        "scene_id: expected text, got 7.",
    ),
    (
        record("object_counting", COUNT) | {"scene_id": "scene9999_99"},
        "EXECUTION_FAILED",
        "rooms: expected a scene 'scene9999_99', found none.",
    ),
    (
        record("relative_direction_hard", COUNT, difficulty=["easy"]),
        "INVALID_INPUT",
        "difficulty: expected easy, medium or hard, got ['easy'].",
    ),
    (
        record("depth_order_obj_obj", DEPTH),
        "INVALID_INPUT",
        "depth_order_obj_obj needs 1 image(s), got 0.",
    ),
    (
        record("depth_order_obj_obj", DEPTH, frame_id=True),
        "INVALID_INPUT",
        "images: expected a path or a frame id, got True.",
    ),
    (
        record("elevation_cam_cam", RISE, image_paths=["0.jpg"]),
        "INVALID_INPUT",
        "elevation_cam_cam needs 2 image(s), got 1.",
    ),
    (
        record("elevation_cam_cam", RISE, frame_id_1=0),
        "INVALID_INPUT",
        "images: expected a path or a frame id, got None.",
    ),
    (
        record("object_size", COUNT, object_label=["bed"]),
        "INVALID_INPUT",
        "object_label: expected text, got ['bed'].",
    ),
    (
        record("relative_distance", COUNT, candidate_labels="bed, tv"),
        "INVALID_INPUT",
        "candidate_labels: expected a list of text, got 'bed, tv'.",
    ),
    (
        record(
            "position_cam_cam", COUNT, image_paths=["0", "10"], camera_reference_image_idx="first"
        ),
        "INVALID_INPUT",
        "camera_reference_image_idx: expected 1 or 2, got 'first'.",
    ),
    (
        record("object_counting", COUNT, min_visibility=float("nan")),
        "INVALID_INPUT",
        "min_visibility: expected a number from 0 to 1, got nan.",
    ),
    (
        record("object_counting", COUNT, frame_type="color"),
        "INVALID_INPUT",
        "frame_type: expected frame_processed, got 'color'.",
    ),
)


@pytest.mark.parametrize(("fields", "code", "message"), BAD)
def test_a_record_that_asks_nothing_says_what_was_expected(
    fields: Any, code: str, message: str
) -> None:
    reply = reply_to(fields)
    assert (reply["is_valid"], reply["answer"]) == (False, "")
    assert (reply["error_code"], reply["error"]) == (code, message)


# --- fields beside the sentence --------------------------------------------------------------

FILLER = "Which one is it, please?"


@pytest.mark.parametrize(
    ("task", "fields", "answer"),
    [
        ("object_counting", {"target_category": "CHAIR"}, "2"),
        ("object_size", {"object_label": " bed "}, "200.00 cm"),
        ("absolute_distance", {"object1_label": "bed", "object2_label": "tv"}, "2.05 meters"),
        (
            "relative_distance",
            {"target_label": "bed", "candidate_labels": ["table", "lamp", "tv"]},
            "lamp",
        ),
        (
            "relative_direction_hard",
            {"positioning_label": "table", "orienting_label": "lamp", "querying_label": "sink"},
            "front-left",
        ),
        (
            "single_image_relative_direction",
            {"reference_label": "bed", "target_label": "lamp", "frame_id": 0},
            "right",
        ),
        ("distance_cam_obj", {"target_label": "tv", "image_path": "0.jpg"}, "1.05 meters"),
        (
            "elevation_cam_cam",
            {
                "camera_reference_image_idx": 2,
                "camera_target_image_idx": 1,
                "image_paths": ["0", "20"],
            },
            "lower",
        ),
        (
            "position_cam_obj",
            {
                "target_label": "bed",
                "camera_reference_image_idx": 2,
                "image_paths": ["0", "10"],
            },
            "front-left",
        ),
        (
            "position_cam_reg",
            {
                "region_name": "the sleeping area",
                "camera_reference_image_idx": 2,
                "image_paths": ["0", "10"],
            },
            "front-left",
        ),
    ],
)
def test_slots_may_be_stated_as_fields(task: str, fields: dict[str, Any], answer: str) -> None:
    reply = reply_to(record(task, FILLER, **fields))
    assert (reply["is_valid"], reply["answer"]) == (True, answer), reply["error"]


def test_a_sentence_about_nothing_here_is_answered_by_complete_fields_alone() -> None:
    question, fields = "What is the weather like?", {"object1_label": "lamp"}
    reply = reply_to(record("absolute_distance", question, **fields))
    assert reply["reason"] == "WRONG_TASK"
    complete = fields | {"object2_label": "tv"}
    stated = reply_to(record("absolute_distance", question, **complete))
    asked = reply_to(record("absolute_distance", "How far is the lamp from the tv in meters?"))
    assert (stated["answer"], stated["parsed_params"]) == (asked["answer"], asked["parsed_params"])
    reply = reply_to(record("absolute_distance", "Is the bed made?", **complete))
    assert reply["reason"] == "CONTRADICTION"


def test_fields_fill_what_the_sentence_leaves_open() -> None:
    question = "How far is the lamp from the tv in meters?"
    reply = reply_to(record("absolute_distance", question, object1_label="null"))
    assert reply["parsed_params"]["object1_label"] == "lamp"  # a null leaves it to the sentence
    reply = reply_to(record("absolute_distance", "How far is it from the tv?", object1_label="bed"))
    assert reply["answer"] == "2.05 meters"
    assert reply["parsed_params"] == {"object1_label": "bed", "object2_label": "tv"}
    reply = reply_to(record("absolute_distance", "How far is it from the tv?"))
    assert reply["reason"] == "MISSING_ROLE"
    images: dict[str, Any] = {"image_paths": ["0", "10"], "camera_reference_image_idx": 2}
    reply = reply_to(
        record("position_cam_obj", "Where is the bed relative to the camera?", **images)
    )
    assert reply["answer"] == "front-left"


@pytest.mark.parametrize(
    ("task", "question", "fields"),
    [
        ("object_size", "How big is the lamp?", {"object_label": "lamp"}),
        (
            "absolute_distance",
            "How far is the lamp from the tv?",
            {"object1_label": "tv", "object2_label": "lamp"},
        ),
        ("absolute_distance", "How far is the lamp from the tv?", {"object1_label": "tv"}),
        (
            "relative_distance",
            "Which is closest to the bed: the table, the lamp or the tv?",
            {"target_label": "bed", "candidate_labels": ["tv", "table", "lamp"]},
        ),
        (
            "position_cam_reg",
            "When taking Image 1, where is the bed area?",
            {"region_name": "bed", "camera_reference_image_idx": 1, "image_paths": ["0", "10"]},
        ),
        (
            "relative_direction_hard",
            "If I am standing by the table and facing the lamp, is the sink to my left, right, or "
            "back?",
            {"difficulty": "medium", "querying_label": "sink"},
        ),
    ],
)
def test_fields_may_repeat_the_sentence(task: str, question: str, fields: dict[str, Any]) -> None:
    images = {key: value for key, value in fields.items() if key == "image_paths"}
    plain, asked = (reply_to(record(task, question, **one)) for one in (images, fields))
    assert (asked["is_valid"], asked["answer"]) == (True, plain["answer"]), asked["error"]


@pytest.mark.parametrize(
    ("task", "question", "fields", "said"),
    [
        ("object_size", "How big is the lamp?", {"object_label": "bed"}, "lamp"),
        ("absolute_distance", "How far is the lamp from the tv?", {"object1_label": "bed"}, "lamp"),
        (
            "absolute_distance",
            "How far is it from the tv?",
            {"object1_label": "bed", "object2_label": "lamp"},
            "tv",
        ),
        (
            "relative_distance",
            "Which is closest to the bed: the table, the lamp or the tv?",
            {"target_label": "bed", "candidate_labels": ["tv", "table"]},
            "table, lamp, tv",
        ),
        (
            "single_image_relative_direction",
            "Where is the lamp relative to the bed?",
            {"reference_label": "lamp", "target_label": "bed", "frame_id": 0},
            "bed, lamp",
        ),
        (
            "elevation_cam_cam",
            RISE,
            {"camera_reference_image_idx": 2, "image_paths": ["0", "20"]},
            "Image 1, Image 2",
        ),
        ("object_size", "And what about the big lamp?", {"object_label": "bed"}, "lamp"),
        (
            "relative_direction_hard",
            "If I am standing by the table and facing the lamp, is the sink to my left, right, or "
            "back?",
            {"difficulty": "easy"},
            "medium",
        ),
    ],
)
def test_fields_that_contradict_the_sentence_are_refused(
    task: str, question: str, fields: dict[str, Any], said: str
) -> None:
    reply = reply_to(record(task, question, **fields))
    assert (reply["reason"], reply["error_code"]) == ("CONTRADICTION", "QUESTION_INVALID")
    assert reply["error"].startswith("The fields of the request and its sentence ask for different")
    assert said in reply["error"]


@pytest.mark.parametrize(
    "question",
    ["How many chairs are in the room?", "How far is the camera from the bed?"],
)
def test_fields_do_not_answer_another_question(question: str) -> None:
    fields = {"object1_label": "bed", "object2_label": "tv"}
    reply = reply_to(record("absolute_distance", question, **fields))
    assert reply["reason"] == "WRONG_TASK"


@pytest.mark.parametrize(
    ("task", "fields", "own"),
    [
        ("absolute_distance", {"object_label": "bed"}, "object1_label, object2_label, use_points"),
        ("object_counting", {"difficulty": "easy"}, "target_category"),
        ("object_size", {"candidate_labels": ["tv"]}, "object_label"),
        ("object_size", {"use_points": True}, "object_label"),
        ("room_size", {"target_label": "bed"}, "none"),
        ("motion_camera", {"camera_reference_image_idx": 2, "image_paths": ["0", "10"]}, "none"),
    ],
)
def test_a_field_of_another_task_is_refused(task: str, fields: dict[str, Any], own: str) -> None:
    (name, *_) = fields
    reply = reply_to(record(task, COUNT, **fields))
    expected = f"{name}: {task} does not read it; expected of such fields: {own}."
    assert (reply["error_code"], reply["error"]) == ("INVALID_INPUT", expected)
    asked = record(task, COUNT, **fields)
    (published,) = answer_records([asked], load, convention="reference")
    assert published["error_code"] != "INVALID_INPUT" and published["ignored_fields"] == [name]


def test_a_field_that_says_nothing_is_no_matter() -> None:
    nothing = {"object1_label": None, "region_name": "null", "difficulty": "", "use_points": False}
    reply = reply_to(record("object_counting", COUNT, candidate_labels=[], **nothing))
    assert reply["answer"] == "2" and "ignored_fields" not in reply


@pytest.mark.parametrize(("share", "valid"), [(0.05, True), (0.5, True), (0.9, False), (5, False)])
def test_a_request_may_ask_for_more_to_be_seen(share: float, valid: bool) -> None:
    """Everything in sight is 80 % visible."""
    question = "How far is the bed from the camera?"
    reply = reply_to(record("distance_cam_obj", question, frame_id=0, min_visibility=share))
    assert reply["is_valid"] == valid
    assert valid or reply["reason"] == "NOT_VISIBLE"


def test_a_sentence_that_offers_its_answers_asks_for_one_of_them() -> None:
    """The published oracle heeds the field alone."""
    question = (
        "If I am standing by the table and facing the lamp, is the trash can to my left, right, "
        "or back?"
    )
    fields = record("relative_direction_hard", question)
    assert reply_to(fields)["answer"] == "back"
    (published,) = answer_records([fields], load, convention="reference")
    assert published["answer"] == "back-right"


def test_a_reply_has_the_published_scores() -> None:
    reply = reply_to(record("object_counting", "How many chairs are in the room"))
    assert reply["response_version"] == "1.2"
    assert reply["confidence"] == 0.99  # no question mark
    assert reply["generation_difficulty_score"] == 0.7
    assert reply["question_difficulty_score"] == 1.0
    assert (reply["reasoning"], reply["failure_stage"]) == ("", "ok")
    refused = reply_to(record("object_counting", "How many beds are in the room?"))
    scores = ("confidence", "generation_difficulty_score", "question_difficulty_score")
    assert [refused[name] for name in scores] == [0.0, 1.0, 1.0]


def test_evidence_comes_when_it_is_asked_for() -> None:
    plain = record("object_counting", COUNT)
    asked = plain | {"return_intermediate": True}
    replies = answer_records([plain, asked], load, evidence=False)
    assert ["evidence" in reply for reply in replies] == [False, True]


def test_one_bad_scene_among_many_loses_nothing() -> None:
    asked = [record("object_counting", COUNT) | {"scene_id": f"scene{n}"} for n in range(30)]

    def some(scene_id: str) -> SceneRecord:
        if scene_id == "scene7":
            raise ValueError("scene7.json: expected JSON, but it does not parse.")
        return ROOM

    replies = answer_records(asked, some)
    assert [reply["answer"] for reply in replies] == ["" if n == 7 else "2" for n in range(30)]
    assert replies[7]["error_code"] == "EXECUTION_FAILED"
    assert replies[7]["error"].startswith("scene7.json: expected JSON")


def test_good_and_bad_records_keep_their_order() -> None:
    good = record("object_counting", COUNT)
    summary = {"request": "summary", "scene_id": ROOM.scene_id}
    asked = [part for fields, _, _ in BAD for part in (fields, good, summary)]
    replies = answer_records(asked, load)
    assert len(replies) == len(asked)
    assert [reply["error"] for reply in replies[::3]] == [message for _, _, message in BAD]
    assert {reply["answer"] for reply in replies[1::3]} == {"2"}
    assert {reply["total_objects"] for reply in replies[2::3]} == {15}


# --- summaries -----------------------------------------------------------------------------


def test_a_scene_is_summed_up_by_its_labels() -> None:
    reply = reply_to({"request": "summary", "scene_id": ROOM.scene_id})
    assert (reply["success"], reply["summary_type"]) == (True, "scene")
    assert (reply["total_objects"], reply["unique_label_count"]) == (15, 14)
    assert reply["label_counts"] == {label: 1 + (label == "chair") for label in ROOM.labels}
    assert reply["room_size"] == 25.0


def test_images_are_summed_up_one_by_one_and_together() -> None:
    fields = {"request": "summary", "scene_id": ROOM.scene_id, "summary_type": "pair"}
    reply = reply_to(fields | {"frame_id_1": 0, "frame_id_2": 10})
    assert (reply["summary_type"], reply["num_frames_succeeded"]) == ("multi_image", 2)
    south, east = reply["frame_summaries"]
    assert (south["visible_label_counts"]["chair"], east["visible_label_counts"]["chair"]) == (1, 2)
    together = reply["aggregate"]
    assert "sink" in together["union_visible_labels"]
    assert "sink" not in together["intersection_visible_labels"]
    assert together["sum_visible_label_counts"]["chair"] == 3
    one = reply_to(fields | {"summary_type": "single_image", "frame_id": 10})
    assert one["visible_label_counts"] == east["visible_label_counts"]


def test_a_summary_shows_objects_and_mistakes_when_asked() -> None:
    fields = {"request": "summary", "scene_id": ROOM.scene_id, "include_objects": True}
    scene = reply_to(fields)
    assert [one["label"] for one in scene["objects"]].count("chair") == 2
    assert scene["objects"][0]["3d_bbox"] == pytest.approx([1.0, 2.2, 0.0, 3.0, 3.8, 0.8])
    images = fields | {"summary_type": "Image_Pair", "frame_ids": [0, 99], "image_paths": ["10"]}
    pair = reply_to(images)
    assert pair["requested_frames"] == ["0", "99", "10"]
    assert (pair["num_frames_succeeded"], pair["num_frames_failed"]) == (2, 1)
    assert [one["frame_id"] for one in pair["errors"]] == ["99"]
    assert {one["label"] for one in pair["frame_summaries"][0]["visible_objects"]} >= {"bed"}
    strict = reply_to(fields | {"summary_type": "image", "frame_id": 0, "min_visibility": 0.9})
    assert (strict["visible_objects_count"], strict["min_visibility"]) == (0, 0.9)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "scene_id: expected text, got None."),
        ({"scene_id": "x"}, "rooms: expected a scene 'x', found none."),
        (
            {"scene_id": ROOM.scene_id, "summary_type": "all"},
            "summary_type: expected scene, single_image or multi_image, got 'all'.",
        ),
        (
            {"scene_id": ROOM.scene_id, "summary_type": "single_image"},
            "expected image_path or image_paths, got none.",
        ),
    ],
)
def test_a_summary_that_fails_says_why(fields: dict[str, Any], message: str) -> None:
    reply = reply_to({"request": "summary"} | fields)
    assert (reply["success"], reply["error"]) == (False, message)
