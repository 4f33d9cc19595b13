"""Six questions about a whole room: counts, sizes, distances, directions.

python -m examples.scene_tasks runs/examples
"""

from pathlib import Path

from examples import show

QUESTIONS = {
    "object_counting": "How many lamps are in this room?",
    "object_size": "What is the longest dimension of the bed in centimeters?",
    "absolute_distance": (
        "Measuring from the closest point of each object, what is the direct distance between the "
        "stool and the bookshelf (in meters)?"
    ),
    "room_size": "What is the size of this room (in square meters)?",
    "relative_distance": (
        "Which of these objects (bookshelf, stool, bed) is the closest to the cabinet?"
    ),
    "relative_direction_hard": (
        "If I am standing by the stool and facing the cabinet, where is the bed?"
    ),
}


def main(out: Path) -> None:
    """Asks all six, then the last one again in the words that offer its answers."""
    room = show.load_room(show.make_room(out))
    for task, question in QUESTIONS.items():
        show.ask(room, {"task_type": task, "question": question}, out, task)
    coarser = (
        "If I am standing by the stool and facing the cabinet, is the bed to my left, right, or "
        "back?"
    )
    fields = {"task_type": "relative_direction_hard", "question": coarser}
    show.ask(room, fields, out, "relative_direction_medium")


if __name__ == "__main__":
    show.run(main)
