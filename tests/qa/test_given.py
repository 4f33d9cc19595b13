"""Questions that others ask: only what a row can tell its reader is asked by one."""

from pathlib import Path

import pytest

from spatialevo_jax.environment.respond import Request
from spatialevo_jax.qa import pipeline
from spatialevo_jax.qa.blocks import Block
from spatialevo_jax.qa.recipe import Recipe
from tests.scenes import room, write_layout

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


@pytest.mark.parametrize("scene", [["scene0000_00"], {}, 5, None])
def test_a_scene_of_any_other_kind_is_no_scene(scene: object, tmp_path: Path) -> None:
    write_layout(room(), tmp_path)
    block = Block(0, "train", (room().scene_id,))
    asked = {"task_type": "object_size", "question": "How long is the bed?", "scene_id": scene}
    assert pipeline.judge_block(tmp_path, tmp_path, block, RECIPE, 1, [asked]) == 0
    assert pipeline.read_block(tmp_path, block).refused == 1
