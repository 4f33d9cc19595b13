"""Pointing: naming an object together with where it is seen. The short form in which both roles
show what they look at.

    1 chair c64     the chair in Image 1, column c and row 6 of an 8 by 8 grid, 2.0 to 2.5 m deep

Columns a to h count from the left, rows 1 to 8 from the top; depth is z in the camera in half
metres, 9 for all beyond. Letters and digits, so that no token means both a column and a row.
"""

import dataclasses
import functools
import re

import numpy as np

from geometry_jax.scene_io import SceneRecord
from spatialevo_jax.environment.identity import Same

GRID = 8
DEPTH_STEP = 0.5  # metres
DOTTED_IMAGES = 4  # images that the dots can tell apart
MIN_VISIBILITY = 0.1  # share of the object that must be seen; the oracle's floor
COLUMNS = "abcdefgh"
CLAIM = re.compile(r"(?<!\d)(\d) ([a-z][a-z ]{0,40}?) ([a-h])([1-8])(\d)(?!\d|\.\d)")


@dataclasses.dataclass(frozen=True)
class Pointing:
    label: str
    image: int  # 1-based position among the images shown
    column: int
    row: int
    depth: int

    def __str__(self) -> str:
        return f"{self.image} {self.label} {COLUMNS[self.column]}{self.row + 1}{self.depth}"


def overlay(images: list[np.ndarray], dot: int) -> list[np.ndarray]:
    """The images of one row, each (H, W, 3) uint8, with a square dot of `dot` pixels in the middle
    of each cell of the grid: red grows from left to right, green from top to bottom, blue from
    image to image.

    Rotary positions are relative: the architecture sees what is beside what, and learns only from
    very many images where in the image it is, and in which. Dots that tell are a visual prompt
    (arXiv 2402.12058) that gives a small policy the frame in which it points.
    """
    if dot == 0:
        return images
    drawn = [image.copy() for image in images]
    for number, image in enumerate(drawn):
        blue = number % DOTTED_IMAGES * 255 // (DOTTED_IMAGES - 1)
        lines, columns = (
            ((np.arange(GRID) + 0.5) * side / GRID - dot / 2).astype(int)
            for side in image.shape[:2]
        )
        for row, column in np.ndindex(GRID, GRID):
            red, green = (round(255 * place / (GRID - 1)) for place in (column, row))
            top, left = lines[row], columns[column]
            image[top : top + dot, left : left + dot] = red, green, blue
    return drawn


def _seen(record: SceneRecord, frame: int) -> list[int]:
    """Objects that can be pointed at in a frame, nearest first."""
    scene = record.scene
    seen = np.asarray(scene.seen[frame]) & np.asarray(scene.object_valid)
    seen &= np.asarray(scene.visibility[frame]) >= MIN_VISIBILITY
    order = np.argsort(np.asarray(scene.camera_location[frame, :, 2]), kind="stable")
    return [int(index) for index in order if seen[index]]


def boxes(record: SceneRecord, frame: int) -> np.ndarray:
    """(k, 4) pixels x1, y1, x2, y2 of what `visible` lists for one frame, in its order."""
    return np.asarray(record.scene.bbox_2d[frame], np.float64)[_seen(record, frame)]


def visible(record: SceneRecord, frames: tuple[int, ...]) -> tuple[Pointing, ...]:
    """Everything that can be pointed at in the given frames, image by image, nearest first."""
    return _visible(Same(record), frames)


@functools.lru_cache(maxsize=1024)  # all replies of a row are held against the same
def _visible(shown: Same, frames: tuple[int, ...]) -> tuple[Pointing, ...]:
    (record,) = shown.records
    scene = record.scene
    found = []
    for image, frame in enumerate(frames, start=1):
        width, height = np.asarray(scene.image_size[frame], np.float64)
        for index, box in zip(_seen(record, frame), boxes(record, frame), strict=True):
            x1, y1, x2, y2 = box
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
        Pointing(label, int(image), COLUMNS.index(column), int(row) - 1, int(depth))
        for image, label, column, row, depth in CLAIM.findall(text.lower())
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
