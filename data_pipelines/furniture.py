"""Furniture of procedural rooms: categories built of several parts, each with its own silhouette
and colour. These twelve are for the plain rooms; `catalogue` has those of the lived-in rooms.
"""

import dataclasses
from typing import Literal

import numpy as np

Shape = Literal["box", "ellipsoid"]
Texture = Literal[
    "plain", "wood", "fabric", "leaves", "books", "bricks", "screen", "view", "stripes"
]
Color = tuple[float, float, float]
Top = tuple[float, float, float]  # width, depth and height of a surface that carries things, metres


@dataclasses.dataclass(frozen=True)
class Part:
    """A box or ellipsoid in the object's frame: x to the right of it, y to its front, z up from the
    floor.
    """

    shape: Shape
    center: tuple[float, float, float]  # metres
    half_extent: tuple[float, float, float]  # metres
    color: Color  # linear RGB, 0 to 1
    texture: Texture = "plain"  # shown in rooms with textures only


@dataclasses.dataclass(frozen=True)
class Category:
    label: str
    color: Color  # what a legend shows
    parts: tuple[Part, ...]
    by_wall: bool  # stands with its back to a wall
    small: bool  # may occur several times in one room
    hangs: tuple[float, float] | None = None  # range of its bottom edge on a wall, metres
    on_top: bool = False  # stands on the top of something else
    top: Top | None = None  # a table top, say; None: nothing stands on it


def box(
    x: float,
    y: float,
    z: float,
    dx: float,
    dy: float,
    dz: float,
    color: Color,
    texture: Texture = "plain",
) -> Part:
    """A box from its middle in the plane, its bottom, and its full sides, metres."""
    return Part("box", (x, y, z + dz / 2), (dx / 2, dy / 2, dz / 2), color, texture)


def ball(
    x: float,
    y: float,
    z: float,
    dx: float,
    dy: float,
    dz: float,
    color: Color,
    texture: Texture = "plain",
) -> Part:
    """An ellipsoid, given as `box` is."""
    return dataclasses.replace(box(x, y, z, dx, dy, dz, color, texture), shape="ellipsoid")


def _legs(
    width: float, depth: float, height: float, thick: float, color: Color
) -> tuple[Part, ...]:
    x, y = (width - thick) / 2, (depth - thick) / 2
    return tuple(
        box(sx * x, sy * y, 0, thick, thick, height, color) for sx in (-1, 1) for sy in (-1, 1)
    )


RED, BLUE, GREEN = (0.85, 0.10, 0.10), (0.12, 0.25, 0.85), (0.05, 0.42, 0.12)
LIME, YELLOW, ORANGE = (0.35, 0.80, 0.10), (0.98, 0.85, 0.10), (0.95, 0.48, 0.05)
PURPLE, PINK, CYAN = (0.48, 0.12, 0.62), (0.98, 0.45, 0.70), (0.10, 0.75, 0.80)
BROWN, WHITE, BLACK = (0.42, 0.22, 0.08), (0.93, 0.94, 0.96), (0.05, 0.05, 0.07)
CREAM, CLAY, STEEL = (0.90, 0.88, 0.80), (0.62, 0.30, 0.18), (0.55, 0.56, 0.60)

CATEGORIES: tuple[Category, ...] = (
    Category(
        "bed",
        BLUE,
        (
            box(0, 0, 0, 1.5, 2.0, 0.45, BLUE),
            box(0, -0.98, 0.45, 1.5, 0.08, 0.50, BROWN),
            box(-0.36, -0.70, 0.45, 0.55, 0.40, 0.14, WHITE),
            box(0.36, -0.70, 0.45, 0.55, 0.40, 0.14, WHITE),
        ),
        by_wall=True,
        small=False,
    ),
    Category(
        "sofa",
        PURPLE,
        (
            box(0, 0.05, 0, 1.7, 0.75, 0.42, PURPLE),
            box(0, -0.35, 0, 1.7, 0.20, 0.85, PURPLE),
            box(-0.92, 0, 0, 0.18, 0.85, 0.62, (0.40, 0.09, 0.52)),
            box(0.92, 0, 0, 0.18, 0.85, 0.62, (0.40, 0.09, 0.52)),
        ),
        by_wall=True,
        small=False,
    ),
    Category(
        "table",
        ORANGE,
        (box(0, 0, 0.68, 1.3, 0.85, 0.07, ORANGE), *_legs(1.2, 0.75, 0.68, 0.09, BROWN)),
        by_wall=False,
        small=False,
    ),
    Category(
        "chair",
        RED,
        (
            box(0, 0, 0.42, 0.46, 0.46, 0.06, RED),
            box(0, -0.21, 0.48, 0.46, 0.06, 0.50, RED),
            *_legs(0.46, 0.46, 0.42, 0.06, (0.45, 0.05, 0.05)),
        ),
        by_wall=False,
        small=True,
    ),
    Category(
        "lamp",
        YELLOW,
        (
            box(0, 0, 0, 0.32, 0.32, 0.05, BLACK),
            box(0, 0, 0.05, 0.05, 0.05, 1.25, BLACK),
            box(0, 0, 1.20, 0.44, 0.44, 0.34, YELLOW),
        ),
        by_wall=False,
        small=True,
    ),
    Category(
        "cabinet",
        GREEN,
        (
            box(0, 0, 0, 1.0, 0.5, 1.5, GREEN),
            box(-0.24, 0.26, 0.10, 0.42, 0.03, 1.30, (0.08, 0.55, 0.18)),
            box(0.24, 0.26, 0.10, 0.42, 0.03, 1.30, (0.08, 0.55, 0.18)),
        ),
        by_wall=True,
        small=False,
    ),
    Category(
        "bookshelf",
        BROWN,
        (
            box(0, -0.13, 0, 0.95, 0.04, 1.9, BROWN),
            box(-0.46, 0, 0, 0.05, 0.30, 1.9, BROWN),
            box(0.46, 0, 0, 0.05, 0.30, 1.9, BROWN),
            *(box(0, 0, z, 0.95, 0.30, 0.05, BROWN) for z in (0.05, 0.65, 1.25, 1.85)),
            box(-0.10, 0, 0.10, 0.6, 0.22, 0.40, CREAM),
            box(0.10, 0, 0.70, 0.6, 0.22, 0.40, STEEL),
            box(-0.08, 0, 1.30, 0.6, 0.22, 0.40, CREAM),
        ),
        by_wall=True,
        small=False,
    ),
    Category(
        "plant",
        LIME,
        (box(0, 0, 0, 0.34, 0.34, 0.32, CLAY), ball(0, 0, 0.28, 0.62, 0.62, 0.75, LIME)),
        by_wall=False,
        small=True,
    ),
    Category(
        "refrigerator",
        WHITE,
        (
            box(0, 0, 0, 0.75, 0.70, 1.75, WHITE),
            box(0, 0.36, 1.18, 0.75, 0.02, 0.03, STEEL),
            box(0.28, 0.38, 0.75, 0.04, 0.05, 0.80, STEEL),
        ),
        by_wall=True,
        small=False,
    ),
    Category(
        "stool",
        PINK,
        (ball(0, 0, 0.38, 0.48, 0.48, 0.18, PINK), *_legs(0.34, 0.34, 0.44, 0.06, CREAM)),
        by_wall=False,
        small=True,
    ),
    Category(
        "bin",
        CYAN,
        (
            box(0, 0, 0, 0.36, 0.36, 0.50, CYAN),
            box(0, 0, 0.50, 0.42, 0.42, 0.06, (0.05, 0.45, 0.5)),
        ),
        by_wall=False,
        small=True,
    ),
    Category(
        "tv",
        BLACK,
        (
            box(0, 0, 0, 1.2, 0.40, 0.40, CREAM),
            box(0, 0, 0.40, 0.30, 0.16, 0.08, STEEL),
            box(0, 0, 0.46, 1.1, 0.06, 0.65, BLACK),
        ),
        by_wall=True,
        small=False,
    ),
)


def local_bounds(category: Category) -> tuple[np.ndarray, np.ndarray]:
    """Minimum and maximum corner of the object's own box, (3,) each, metres."""
    center = np.array([part.center for part in category.parts])
    half = np.array([part.half_extent for part in category.parts])
    return (center - half).min(0), (center + half).max(0)
