"""Claims in free English: what is read, what geometry confirms, and what does not pay."""

import dataclasses
import math
import time

import numpy as np
import pytest

from geometry_jax.scene_io import SceneRecord
from geometry_jax.types import leaf
from spatialevo_jax.environment import Request
from spatialevo_jax.roles import claims, pointing
from spatialevo_jax.roles.claims import Claim, check, grounding, read
from tests.scenes import EAST, SOUTH, moved, room

ROOM = room()
KNOWN = (*ROOM.labels, "piano")  # of all rooms of a run
ONE, PAIR = (SOUTH,), (SOUTH, EAST)

# From SOUTH, a camera at (2.5, -1, 1.5) that looks north: what is said, and what geometry says.
VERDICTS: tuple[tuple[str, tuple[int, ...], list[bool | None]], ...] = (
    ("There is a bed.", ONE, [True]),
    ("I see beds.", ONE, [True]),
    ("A piano stands here.", ONE, [False]),  # other rooms have one
    ("A unicorn stands here.", ONE, []),  # no room has one: no claim
    ("The wall is white and the floor is bare.", ONE, []),  # surfaces are no objects
    ("A sofa and a couch.", ONE, []),
    ("Image 2 shows a sink.", PAIR, [False]),  # EAST does not
    ("Image 1 shows a sink.", PAIR, [True]),
    ("The first image shows a sink, and image two a bed.", PAIR, [True, True]),
    ("In Image 1 and Image 2 there is a sink.", PAIR, [True, False]),
    ("Image 1: a sink, a bed", PAIR, [True, True]),
    ("There is a sink in image 2.", PAIR, [False]),
    ("Image 7 shows a bed.", PAIR, [False]),
    ("There is no bed.", ONE, [False]),
    ("There isn't a bed.", ONE, [False]),
    ("A room without a bed.", ONE, [False]),
    ("There are zero beds.", ONE, [False]),
    ("There is no piano.", ONE, [True]),
    ("There is no red bed.", ONE, []),  # there may be another one
    ("The table is not far from the bed.", ONE, [True]),  # of the table
    # Counts: two chairs, one of which SOUTH hardly sees, and EAST sees both.
    ("two chairs", (EAST,), [True]),
    ("2 chairs", (EAST,), [True]),
    ("three chairs", (EAST,), [False]),
    ("one chair", (EAST,), [False]),
    ("one chair", ONE, [True]),
    ("two chairs", ONE, [None]),  # the room has two, the image shows one
    ("three chairs", ONE, [False]),
    ("Image 1 shows two chairs.", PAIR, [False]),
    ("at least two chairs", ONE, [True]),  # that there is a chair
    ("two red chairs", (EAST,), [True]),  # likewise
    ("two meters from the bed", ONE, [True]),
    # Left and right: bed at x = 2, lamp at 4.5 half a metre farther.
    ("The bed is to the left of the lamp.", ONE, [True]),
    ("The bed is left of the lamp", ONE, [True]),
    ("The lamp is on the left side of the bed.", ONE, [False]),
    ("The lamp stands to the right of the bed.", ONE, [True]),
    ("The lamp isn't to the right of the bed.", ONE, [False]),
    ("The lamp is not to the left of the bed.", ONE, [True]),
    ("To the right of the bed stands a lamp.", ONE, [True]),
    ("The table and the lamp are to the right of the bed.", ONE, [True, True]),
    ("There is a table and the lamp is to the right of the bed.", ONE, [True, True]),
    ("The trash bin is right of the lamp.", ONE, [True]),
    ("The tv is left of the bed.", ONE, [None]),  # half a metre aside, three ahead
    ("The cushion is left of the bed.", ONE, [None]),
    ("The chair is left of the lamp.", ONE, [True]),
    ("The chair is left of the lamp.", (EAST,), [None]),  # which chair?
    ("The bed is left of the piano.", ONE, [False]),
    ("The bed is left of the window.", ONE, [True]),  # the bed alone is a claim
    ("The bed is left of the bed.", ONE, [True]),
    # Depth: table 2, bed 4, lamp 4.5, cushion 4, tv 1.1 metres ahead.
    ("The table is closer to the camera than the bed.", ONE, [True]),
    ("The bed is nearer than the table.", ONE, [False]),
    ("The bed is farther away from the camera than the table.", ONE, [True]),
    ("The bed is closer to the camera than the cushion.", ONE, [None]),
    ("The table is in front of the bed.", ONE, [True]),
    ("Behind the table is a lamp.", ONE, [True]),
    ("The table is behind the lamp.", ONE, [False]),
    # Heights and sizes do not depend on the camera.
    ("The cushion is above the bed.", ONE, [True]),
    ("The cushion is on top of the bed.", ONE, [True]),
    ("The bed is under the cushion.", PAIR, [True]),
    ("The cushion is below the bed.", ONE, [False]),
    ("The table is above the bed.", ONE, [None]),  # middles at one height
    ("The bed is larger than the table.", ONE, [True]),
    ("The table is smaller than the bed.", ONE, [True]),
    ("The bed is larger than the lamp.", ONE, [None]),  # as long, though of more volume
    ("The lamp is taller than the bed.", ONE, [True]),
    ("The bed is taller than the table.", ONE, [None]),
    # What is not read.
    ("Is there a bed?", ONE, []),
    ("There is a bed or a piano.", ONE, []),
    ("If there is a piano, it is hidden.", ONE, []),
    ("There is neither a bed nor a table.", ONE, []),
    ("The bed is next to the table.", ONE, [True, True]),
    ("1. bed\n2) lamp", ONE, [True, True]),  # numbers of a list are no counts
)


@pytest.mark.parametrize(("text", "frames", "expected"), VERDICTS)
def test_claims_by_hand(text: str, frames: tuple[int, ...], expected: list[bool | None]) -> None:
    found = read(text, ROOM.labels, KNOWN, len(frames))
    assert [check(claim, ROOM, frames) for claim in found] == expected


def test_a_relation_seen_otherwise_from_another_image_needs_the_image() -> None:
    said = "the table is to the right of the trash can"
    pair = PAIR
    (claim,) = read(said, ROOM.labels, KNOWN, 2)
    assert claim == Claim("left", ("trash can", "table"))
    record = with_places(EAST, {"table": (-1.0, 0.0, 2.0), "trash can": (1.0, 0.0, 2.0)})
    record = with_places(SOUTH, {"table": (1.0, 0.0, 2.0), "trash can": (-1.0, 0.0, 2.0)}, record)
    assert check(claim, record, pair) is None
    named = [read(f"In Image {i} {said}.", ROOM.labels, KNOWN, 2)[0] for i in (1, 2)]
    assert [check(one, record, pair) for one in named] == [True, False]


def with_places(
    frame: int, places: dict[str, tuple[float, float, float]], record: SceneRecord = ROOM
) -> SceneRecord:
    """The room with objects seen elsewhere in the camera of a frame."""
    location = np.array(record.scene.camera_location)
    for label, place in places.items():
        index = [record.labels[int(i)] for i in np.asarray(record.scene.label)].index(label)
        location[frame, index] = place
    scene = dataclasses.replace(record.scene, camera_location=leaf(location))
    return dataclasses.replace(record, scene=scene)


def test_an_image_without_a_pose_says_nothing_about_left_and_right() -> None:
    lost = dataclasses.replace(ROOM.scene, pose_valid=leaf(np.zeros(8, bool)))
    record = dataclasses.replace(ROOM, scene=lost)
    assert check(Claim("left", ("bed", "lamp")), record, ONE) is None
    assert check(Claim("closer", ("table", "bed")), record, ONE) is True


def test_claims_about_things_with_letters_of_any_script() -> None:
    labels = ("café table", "salt & pepper shaker", "lamp")
    text = "There is a Cafe\u0301 table and a lamp & a salt & pepper shaker."
    said = {claim.labels for claim in read(text, labels)}
    assert said == {(label,) for label in labels}


def test_two_ways_to_say_the_same_are_one_claim() -> None:
    text = (
        "The bed is left of the lamp. The lamp is to the right of the bed. "
        "In Image 1, the bed is on the left of the lamp."
    )
    assert read(text, ROOM.labels, KNOWN) == (Claim("left", ("bed", "lamp")),)


@pytest.mark.parametrize("degrees", [37.0, 90.0, 200.0])
def test_turning_the_world_changes_no_verdict(degrees: float) -> None:
    turned = moved(ROOM, math.radians(degrees), (3.0, -2.0, 0.0))
    for text, frames, expected in VERDICTS:
        found = read(text, turned.labels, KNOWN, len(frames))
        assert [check(claim, turned, frames) for claim in found] == expected, text


# --- the score -------------------------------------------------------------------------------

TRUE = "The bed is left of the lamp. The table is in front of the bed."  # two claims with a look


def score(text: str, frames: tuple[int, ...] = ONE) -> float:
    return grounding(text, ROOM, frames, KNOWN)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0.0),
        ("A cosy, well lit room with a lot of character.", 0.0),
        (f"{TRUE} There is a sink.", 1.0),
        (TRUE, 2 / 3),  # one of the three wanted is missing
        (f"{TRUE} A piano.", 2 / 3),
        (f"{TRUE} There is a sink. A piano.", 3 / 4),
        (f"{TRUE} The bed is above the table. There is a sink.", 1.0),  # undecided: not said
    ],
)
def test_the_share_of_claims_that_hold(text: str, expected: float) -> None:
    assert score(text) == pytest.approx(expected)


def test_where_one_object_is_seen_one_claim_is_enough() -> None:
    visibility = np.where(np.arange(len(ROOM.object_ids)) == 0, ROOM.scene.visibility, 0.0)
    scene = dataclasses.replace(ROOM.scene, visibility=leaf(visibility.astype(np.float32)))
    record = dataclasses.replace(ROOM, scene=scene)
    assert grounding("a bed", record, ONE, KNOWN) == 1.0
    nothing = dataclasses.replace(scene, visibility=leaf(np.zeros_like(visibility)))
    assert grounding("a bed", dataclasses.replace(ROOM, scene=nothing), ONE, KNOWN) == 0.0


EVERY = ["bed", "table", "lamp", "chair", "sink", "tv", "cushion", "box", "crate", "bucket", "lid"]
GAMES = {
    "listing the labels of the prompt": " ".join(f"A {label}." for label in EVERY),
    "that each occurs once": " ".join(f"There is one {label}." for label in EVERY),
    "sizes that everybody knows": "The bed is larger than the box. The table is larger than the "
    "bucket. The lamp is taller than the tv. A bed, a lamp.",
    "denying what is not there": "There is no piano. " * 3,
    "denying relations": "The lamp is not left of the bed. The bed is not right of the lamp.",
    "saying one thing again": "The bed is left of the lamp. " * 20,
    "both sides": "The bed is left of the lamp. The lamp is left of the bed.",
    "every number": " ".join(f"There are {n} beds." for n in range(1, 9)),
    "saying and denying": "There is a bed. There is no bed.",
    "hedging": "There is a bed or a piano. If there is a lamp, it is left of the sink.",
    "wrong on purpose to be free to list": "The piano is left of the bed. A bed. A lamp. A sink.",
    "nothing but names of relations": "left of right of behind above closer than",
}


@pytest.mark.parametrize("game", GAMES)
def test_what_needs_no_look_earns_little(game: str) -> None:
    assert score(GAMES[game]) <= 0.34


@pytest.mark.parametrize("game", ["both sides", "saying and denying", "every number"])
def test_of_claims_that_contradict_each_other_none_holds(game: str) -> None:
    assert score(GAMES[game]) == 0.0


def test_what_comes_after_many_claims_is_not_read() -> None:
    """Neither to gain nor to lose: a text of any length has the claims of its beginning."""
    beginning = " ".join(f"A {label}." for label in (*EVERY, "trash can"))
    claims_of = read(f"{beginning} {TRUE}", ROOM.labels, KNOWN)
    assert len(claims_of) == claims.MOST
    assert read(f"{'x' * claims.LONGEST} a bed", ROOM.labels, KNOWN) == ()


def test_of_several_images_it_takes_a_look_to_say_which_shows_what() -> None:
    text = "Image 1 shows a sink. Image 1 shows a bed. Image 2 shows a bed."
    assert score(text, PAIR) == 1.0
    assert score(text.replace("Image 1", "Image 2"), PAIR) == pytest.approx(1 / 3)


def test_the_language_of_the_run_decides_how_an_observation_is_judged() -> None:
    """In one language the other one says nothing: no run rewards two."""
    request = Request(ROOM, "distance_cam_obj", "", ONE)
    pointed = " ".join(map(str, pointing.visible(ROOM, ONE)[:3]))
    written = f"{TRUE} There is a sink."
    points, prose = (claims.observation_judge(x, (ROOM,)) for x in ("pointings", "prose"))
    assert (points(pointed, request), points(written, request)) == (1.0, 0.0)
    assert prose(written, request) == 1.0
    assert prose(pointed, request) < 0.34


# --- any text --------------------------------------------------------------------------------

WORDS = "the a no not isn't two 3 zero image image-1 and or , . ? ! ; : 1) is are piano wall than"
PIECES = (
    *EVERY,
    *(" ".join(words) for words in claims.RELATIONS),
    *WORDS.split(" "),
    "\n",
    "Image 1",
    "the second image",
    "\x00",
    "é😀",
    "<answer>",
    "9" * 30,
    "²",
    "'",
)


def test_ten_thousand_strings_are_read_and_scored_in_time() -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(PIECES, size=rng.integers(0, 30))) for _ in range(9000)] + [
        "".join(map(chr, rng.integers(1, 0x2FF, size=60))) for _ in range(1000)
    ]
    started = time.process_time()
    found = np.array([score(text, PAIR) for text in texts])
    assert time.process_time() - started < 20.0
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert (found <= 1).all()
    assert (found > 0).mean() > 0.1  # the strings reach what is behind the reader
    assert found[:500].tolist() == [score(text, PAIR) for text in texts[:500]]


@pytest.mark.parametrize("text", ["." * 10**6, "no " * 10**5, "a bed and " * 10**5, "9" * 10**6])
def test_long_texts_are_read_in_time(text: str) -> None:
    started = time.process_time()
    score(text)
    assert time.process_time() - started < 0.5
