"""Pointing: naming an object together with where it is seen. The short form in which both roles
show what they look at.

    chair 1254      the chair in Image 1, column 2 and row 5 of an 8 by 8 grid, 2.0 to 2.5 m deep

Column counts from the left, row from the top; depth is z in the camera in half metres, 9 for all
beyond.
"""

import dataclasses
import re

import numpy as np

from geometry_jax.scene_io import SceneRecord

GRID = 8
DEPTH_STEP = 0.5  # metres
MIN_VISIBILITY = 0.1  # share of the object that must be seen; the oracle's floor
CLAIM = re.compile(r"([a-z][a-z ]{0,40}?) (\d)(\d)(\d)(\d)(?!\d|\.\d)")


@dataclasses.dataclass(frozen=True)
class Pointing:
    label: str
    image: int  # 1-based position among the images shown
    column: int
    row: int
    depth: int

    def __str__(self) -> str:
        return f"{self.label} {self.image}{self.column}{self.row}{self.depth}"


def visible(record: SceneRecord, frames: tuple[int, ...]) -> tuple[Pointing, ...]:
    """Everything that can be pointed at in the given frames, image by image, nearest first."""
    scene = record.scene
    found = []
    for image, frame in enumerate(frames, start=1):
        width, height = np.asarray(scene.image_size[frame], np.float64)
        seen = np.asarray(scene.seen[frame]) & np.asarray(scene.object_valid)
        seen &= np.asarray(scene.visibility[frame]) >= MIN_VISIBILITY
        order = np.argsort(np.asarray(scene.camera_location[frame, :, 2]), kind="stable")
        for index in (int(i) for i in order if seen[i]):
            x1, y1, x2, y2 = np.asarray(scene.bbox_2d[frame, index], np.float64)
            depth = float(scene.camera_location[frame, index, 2])
            found.append(
                Pointing(
                    label=record.labels[int(scene.label[index])],
                    image=image,
                    column=int(np.clip((x1 + x2) / 2 / width * GRID, 0, GRID - 1)),
                    row=int(np.clip((y1 + y2) / 2 / height * GRID, 0, GRID - 1)),
                    depth=int(np.clip(depth / DEPTH_STEP, 0, 9)),
                )
            )
    return tuple(found)


def parse(text: str) -> tuple[Pointing, ...]:
    """The claims of a text, in order; anything else in it is ignored."""
    return tuple(
        Pointing(label.strip(), *(int(digit) for digit in digits))
        for label, *digits in (match.groups() for match in CLAIM.finditer(text.lower()))
    )


def grounding(text: str, truth: tuple[Pointing, ...], *, wanted: int = 2) -> float:
    """Share of a text's claims that hold: f_obs of the Questioner, 0 to 1.

    A claim holds when an object of that label is seen in that image within one cell and one depth
    step, and no earlier claim was about the same object. Fewer than `wanted` claims count as if
    the missing ones were wrong, so that saying little does not pay, nor does saying it twice.
    """
    claims = parse(text)
    left = list(truth)
    for claim in claims:
        # The nearest of the objects it may be about, so that the order of claims hardly matters.
        meant = min(
            (seen for seen in left if _agrees(claim, seen)),
            key=lambda seen: _cells_apart(claim, seen),
            default=None,
        )
        if meant is not None:
            left.remove(meant)
    right = len(truth) - len(left)
    return right / max(len(claims), min(wanted, max(len(truth), 1)))


def _cells_apart(claim: Pointing, seen: Pointing) -> int:
    return (
        abs(claim.column - seen.column) + abs(claim.row - seen.row) + abs(claim.depth - seen.depth)
    )


def _agrees(claim: Pointing, seen: Pointing) -> bool:
    return (
        claim.image == seen.image
        and (claim.label == seen.label or claim.label.endswith(" " + seen.label))
        and abs(claim.column - seen.column) <= 1
        and abs(claim.row - seen.row) <= 1
        and abs(claim.depth - seen.depth) <= 1
    )
