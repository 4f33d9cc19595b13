"""Questions that have no answer, each with the reason: nothing is guessed.

python -m examples.refused runs/examples
"""

from pathlib import Path
from typing import Any

from examples import show

# Name of the picture, task, question, number of the images shown.
QUESTIONS = (
    ("absent_label", "object_size", "How big is the piano?", ()),
    ("not_unique", "absolute_distance", "How far is the bed from the lamp in meters?", ()),
    ("same_label", "absolute_distance", "How far apart are the bed and the bed?", ()),
    ("too_few", "object_counting", "How many beds are in the room?", ()),
    ("wrong_task", "object_counting", "How big is the bed?", ()),
    ("missing_role", "position_cam_obj", "Where is the bed relative to me?", (1, 6)),
    ("not_visible", "distance_cam_obj", "How far is the bookshelf from the camera?", (2,)),
    ("same_image", "position_cam_cam", "From Image 1, where is the camera of Image 2?", (0, 0)),
    ("one_image", "motion_camera", "How did the camera move?", (1,)),
)


def main(out: Path) -> None:
    """Asks all of them."""
    room = show.load_room(show.make_room(out))
    for name, task, question, frames in QUESTIONS:
        fields: dict[str, Any] = {"task_type": task, "question": question}
        if frames:
            fields["image_paths"] = show.images(room, *frames)
        show.ask(room, fields, out, f"refused_{name}")


if __name__ == "__main__":
    show.run(main)
