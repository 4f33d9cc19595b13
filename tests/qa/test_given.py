"""Questions that others ask: only what a row can tell its reader is asked by one."""

from pathlib import Path

import pytest

from spatialevo_jax.environment.respond import Request
from spatialevo_jax.qa import pipeline
from spatialevo_jax.qa.blocks import Block
from spatialevo_jax.qa.recipe import Recipe
from tests.scenes import Thing, camera, make_record, room, write_layout

RECIPE = Recipe(count=1, source="own", questions="a digest")
STANDS = "I am standing by the bed and facing the table"


@pytest.mark.parametrize(
    ("question", "level", "good"),
    [
        (f"If {STANDS}, where is the lamp?", "", True),
        (f"If {STANDS}, where is the lamp?", "easy", False),
        (f"If {STANDS}, is the lamp to the left or the right of the table?", "easy", True),
    ],
)
def test_a_level_is_in_the_sentence_or_not_asked(question: str, level: str, good: bool) -> None:
    """Else "left" would be the answer where "front-left" is right."""
    request = Request(room(), "relative_direction_hard", question, difficulty=level)
    assert pipeline.is_plain(request, RECIPE) == good


@pytest.mark.parametrize(
    ("question", "good"),
    [
        ("How long is the bed?", True),
        ("How many chairs are in the room?", True),
        ("How long is the piano?", True),  # which the room does not have: a reason, and to be seen
        ("How long is the lamp?", False),
        ("How many plants are in the room?", False),
        ("How long is the plant?", False),  # there are two, and one is seen
    ],
)
def test_what_no_image_of_the_room_shows_is_not_asked_about(question: str, good: bool) -> None:
    names = ("bed", "chair", "chair", "lamp", "plant", "plant")
    things = [Thing(name, (i - 3.0, 3, 0.5), (0.4, 0.4, 0.8)) for i, name in enumerate(names)]
    poses = [camera(x, 0, 1.5, heading=90) for x in (0.0, 1.0, 2.0)]
    hidden = {(frame, thing): 0.0 for frame in range(3) for thing in (3, 5)}
    record = make_record(things, poses, visibility=hidden)
    task = "object_counting" if "many" in question else "object_size"
    assert pipeline.is_plain(Request(record, task, question), RECIPE) == good


@pytest.mark.parametrize("scene", [["scene0000_00"], {}, 5, None])
def test_a_scene_of_any_other_kind_is_no_scene(scene: object, tmp_path: Path) -> None:
    write_layout(room(), tmp_path)
    block = Block(0, "train", (room().scene_id,))
    asked = {"task_type": "object_size", "question": "How long is the bed?", "scene_id": scene}
    assert pipeline.judge_block(tmp_path, tmp_path, block, RECIPE, 1, [asked]) == 0
    assert pipeline.read_block(tmp_path, block).refused == 1
