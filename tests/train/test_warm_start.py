"""What the warm start teaches, case by case."""

import dataclasses

import numpy as np

from geometry_jax.scene_io import SceneRecord
from geometry_jax.types import leaf
from spatialevo_jax.data import RoomSet, Row
from spatialevo_jax.environment import Request, answer_requests
from spatialevo_jax.roles.pointing import Pointing, parse, visible
from spatialevo_jax.train import warm_start
from tests.scenes import THINGS, camera, make_record


def record_with(boxes: list[list[float]], depths: list[float]) -> SceneRecord:
    """One image of 100 by 80 pixels with the first things (bed, table, lamp) in the given boxes."""
    things = [dataclasses.replace(thing, center=(0.0, 3.0, 1.0)) for thing in THINGS[: len(boxes)]]
    record = make_record(things, [camera(0.0, 0.0, 1.5, heading=90.0)])
    location = np.zeros((1, len(boxes), 3), np.float32)
    location[..., 2] = depths
    scene = dataclasses.replace(
        record.scene,
        bbox_2d=leaf(np.asarray([boxes], np.float32)),
        camera_location=leaf(location),
    )
    return dataclasses.replace(record, scene=scene)


def labels_shown(record: SceneRecord) -> list[str]:
    return [point.label if point else "" for point in warm_start.shown_objects(record, 0, (2, 2))]


def test_a_visual_token_shows_the_nearest_object_over_its_middle() -> None:
    record = record_with([[0, 0, 100, 40], [0, 0, 50, 40]], [3.0, 1.0])
    assert labels_shown(record) == ["table", "bed", "", ""]


def test_a_visual_token_shows_what_is_pointed_at_in_it() -> None:
    """The lamp's middle is in the last token, though its box covers no token's middle."""
    record = record_with([[0, 0, 98, 78], [0, 0, 10, 10], [80, 70, 90, 80]], [3.0, 5.0, 4.0])
    assert labels_shown(record) == ["bed", "bed", "bed", "lamp"]


def test_visual_tokens_of_a_wide_picture() -> None:
    """Two rows of four tokens, 25 by 40 of the 100 by 80 pixels each."""
    record = record_with([[50, 0, 100, 40], [30, 45, 45, 80]], [3.0, 1.0])
    shown = warm_start.shown_objects(record, 0, (2, 4))
    labels = [point.label if point else "" for point in shown]
    assert labels == ["", "", "bed", "bed", "", "table", "", ""]


def words(text: str) -> list[int]:
    """Stands for a tokenizer in which every text is one token."""
    return [sum(ord(letter) << (8 * place) for place, letter in enumerate(text)) % 2**31]


def test_names_say_label_depth_image_columns_and_rows() -> None:
    record = record_with([[0, 0, 50, 40]], [2.0])
    rooms = RoomSet((record,), ("distance_cam_obj",), (56, 56))
    named = warm_start.names(rooms, [Row(0, (0, 0))], words)
    first, last = np.asarray(named.tokens)[[0, 7]]
    assert first.tolist() == [words(x)[0] for x in (" bed", " 4", "1", " a", " d", "1", "4")]
    assert last.tolist() == [words(x)[0] for x in (" wall", " 0", "2", " e", " h", "5", "8")]
    weights = np.asarray(named.weights)
    assert weights[0, 0] > weights[7, 0] > 0
    assert weights[0, 1] > weights[7, 1] == 0
    assert (weights[:, 2:] == warm_start.PLACE_WEIGHT).all()


def test_names_of_a_wide_picture_say_fewer_columns_than_rows() -> None:
    """The pointing grid has eight of both: a token of two rows of four covers two columns."""
    record = record_with([[0, 0, 50, 40]], [2.0])
    scene = dataclasses.replace(record.scene, image_size=leaf(np.array([[160, 80]], np.float32)))
    record = dataclasses.replace(record, scene=scene)
    rooms = RoomSet((record,), ("distance_cam_obj",), (112, 56))
    named = warm_start.names(rooms, [Row(0, (0,))], words)
    places = np.asarray(named.tokens)[:, 3:]
    assert places[1].tolist() == [words(x)[0] for x in (" c", " d", "1", "4")]
    assert places[7].tolist() == [words(x)[0] for x in (" g", " h", "5", "8")]


def test_a_looking_reply_points_at_what_it_was_asked_for() -> None:
    record = record_with([[0, 0, 50, 40], [50, 40, 90, 80], [0, 60, 20, 80]], [2.0, 3.0, 4.0])
    rooms = RoomSet((record,), ("distance_cam_obj",), (56, 56))
    rng = np.random.default_rng(0)
    (example,) = warm_start.looking_examples(rooms, [Row(0, (0,))], rng)
    found = parse(example.reply)
    assert set(found) == set(visible(record, (0,)))
    order = [example.prompt.index(point.label) for point in found]
    assert order == sorted(order)
    assert isinstance(found[0], Pointing)


def observed(task: str, question: str) -> list[str]:
    """What the Questioner of a one-image room with a bed, a table and a lamp looks at."""
    record = record_with([[0, 0, 50, 40], [50, 40, 90, 80], [0, 60, 20, 80]], [2.0, 3.0, 4.0])
    row = Row(0, (0,))
    (reply,) = answer_requests([Request(record, task, question, row.frames)])
    seen = visible(record, row.frames)
    example = warm_start._questioner_example(record, row, reply, seen)
    assert example.reply.endswith(f"<question> {question} </question>")
    return [point.label for point in parse(example.reply)]


def test_a_questioner_observes_what_it_asks_about() -> None:
    question = "Which is closer to the camera, the lamp or the table?"
    assert observed("depth_order_obj_obj", question) == ["lamp", "table"]


def test_an_observation_of_one_object_is_filled_up_with_the_nearest_other() -> None:
    question = "What is the distance from the camera to the lamp in meters?"
    assert observed("distance_cam_obj", question) == ["lamp", "bed"]


def test_a_questioner_that_names_one_object_twice_observes_it_once() -> None:
    question = "Which is closer to the camera, the lamp or the lamp?"
    labels = observed("depth_order_obj_obj", question)
    assert len(labels) == len(set(labels)) == 2
