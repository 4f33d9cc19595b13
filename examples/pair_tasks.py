"""Seven questions about two images: where the cameras stood, how they moved, what they show.

python -m examples.pair_tasks runs/examples
"""

from pathlib import Path

from examples import show

QUESTIONS = {
    "position_cam_cam": (
        "When you took Image 1, where was the camera for Image 2, relative to you?"
    ),
    "elevation_cam_cam": (
        "Compared with the camera in Image 2, is the camera in Image 1 higher or lower?"
    ),
    "visibility_compare": "Which image shows the stool more clearly?",
    "position_cam_obj": "Which direction is the cabinet relative to me when I am taking Image 2?",
    "position_cam_reg": (
        "When you are taking Image 2, in which direction is the sleeping area relative to you?"
    ),
    "motion_camera": "Based on the continuous images, what is the camera motion direction?",
    "attribute_measurement": (
        "Which object is larger in its longest dimension, the stool or the bed?"
    ),
}


def main(out: Path) -> None:
    """Asks all seven about the second and the seventh image."""
    room = show.load_room(show.make_room(out))
    pair = show.images(room, 1, 6)
    for task, question in QUESTIONS.items():
        fields = {"task_type": task, "question": question, "image_paths": pair}
        show.ask(room, fields, out, task)


if __name__ == "__main__":
    show.run(main)
