"""Three questions about one image: a direction, a distance, an order in depth.

python -m examples.image_tasks runs/examples
"""

from pathlib import Path

from examples import show

QUESTIONS = {
    "single_image_relative_direction": "Where is the bin relative to the stool in this image?",
    "distance_cam_obj": "How far is the stool from the camera in this image, in meters?",
    "depth_order_obj_obj": "Which object is closer to the camera, the stool or the cabinet?",
}


def main(out: Path) -> None:
    """Asks all three about the third image; the last one with its labels as fields."""
    room = show.load_room(show.make_room(out))
    (image,) = show.images(room, 2)
    for task, question in QUESTIONS.items():
        fields = {"task_type": task, "question": question, "image_path": image}
        show.ask(room, fields, out, task)
    stated = {
        "task_type": "depth_order_obj_obj",
        "question": "Which of the two is nearer?",
        "image_path": image,
        "object1_label": "stool",
        "object2_label": "cabinet",
    }
    show.ask(room, stated, out, "depth_order_by_fields")


if __name__ == "__main__":
    show.run(main)
