"""Runs every example: 16 tasks and the refusals, each with its picture.

python -m examples.run_all runs/examples
"""

from pathlib import Path

from examples import image_tasks, pair_tasks, refused, scene_tasks, show


def main(out: Path) -> None:
    """Runs the examples one after the other, in one folder."""
    for example in (scene_tasks, image_tasks, pair_tasks, refused):
        print(f"--- {example.__name__}: {(example.__doc__ or '').splitlines()[0]}\n")
        example.main(out)
    print(f"{len(list(out.glob('*.png')))} pictures in {out}")


if __name__ == "__main__":
    show.run(main)
