"""Furniture of the lived-in rooms: categories by where they go (against a wall, free-standing, on a
wall, on top of something), and which of them make a bedroom, a living room, an office, a kitchen or
a bathroom. Object frame as in `furniture`: x to the right, y to the front, z up; what hangs on a
wall has its back at y = 0.
"""

import dataclasses

from data_pipelines.furniture import (
    BLACK,
    CREAM,
    STEEL,
    WHITE,
    Category,
    Color,
    Part,
    Top,
    ball,
    box,
)

OAK, WALNUT, PINE = (0.62, 0.44, 0.26), (0.36, 0.22, 0.13), (0.78, 0.62, 0.42)
LINEN, NAVY, MOSS, RUST = (
    (0.84, 0.80, 0.72),
    (0.16, 0.22, 0.42),
    (0.36, 0.42, 0.26),
    (0.66, 0.34, 0.2),
)
SAGE, TEAL, PLUM = (0.55, 0.64, 0.54), (0.12, 0.42, 0.46), (0.42, 0.2, 0.36)
LEAF, TERRACOTTA, GLASS = (0.16, 0.44, 0.14), (0.7, 0.38, 0.25), (0.62, 0.78, 0.88)
PORCELAIN, CHARCOAL, SKY = (0.95, 0.95, 0.93), (0.16, 0.16, 0.18), (0.66, 0.8, 0.95)


def legs(width: float, depth: float, height: float, thick: float, color: Color) -> tuple[Part, ...]:
    x, y = (width - thick) / 2, (depth - thick) / 2
    signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))  # the order that points are drawn in, from a seed
    return tuple(box(sx * x, sy * y, 0, thick, thick, height, color, "wood") for sx, sy in signs)


def fronts(
    columns: int, rows: int, width: float, y: float, z: float, height: float, color: Color
) -> tuple[Part, ...]:
    """Doors or drawers with handles on the front of a body of the given width."""
    parts = []
    dx, dz = width / columns, height / rows
    for column in range(columns):
        for row in range(rows):
            x = (column + 0.5) * dx - width / 2
            bottom = z + row * dz
            parts.append(box(x, y, bottom + 0.01, dx - 0.02, 0.02, dz - 0.02, color, "wood"))
            parts.append(box(x, y + 0.02, bottom + dz * 0.5, min(0.14, dx / 3), 0.02, 0.02, STEEL))
    return tuple(parts)


def by_wall(
    label: str, color: Color, *parts: Part, top: Top | None = None, small: bool = False
) -> Category:
    return Category(label, color, parts, by_wall=True, small=small, top=top)


def free(
    label: str, color: Color, *parts: Part, top: Top | None = None, small: bool = False
) -> Category:
    return Category(label, color, parts, by_wall=False, small=small, top=top)


def on_wall(label: str, color: Color, hangs: tuple[float, float], *parts: Part) -> Category:
    return Category(label, color, parts, by_wall=True, small=True, hangs=hangs)


def on_top(label: str, color: Color, *parts: Part) -> Category:
    return Category(label, color, parts, by_wall=False, small=True, on_top=True)


def bed(cover: Color, width: float) -> Category:
    pillows = (-0.25 * width, 0.25 * width) if width > 1.2 else (0.0,)
    return by_wall(
        "bed",
        cover,
        box(0, 0.02, 0, width, 2.0, 0.28, WALNUT, "wood"),
        box(0, 0.04, 0.28, width - 0.04, 1.94, 0.20, LINEN, "fabric"),
        box(0, 0.3, 0.30, width + 0.02, 1.44, 0.20, cover, "fabric"),
        box(0, -0.98, 0, width, 0.06, 0.95, WALNUT, "wood"),
        *(ball(x, -0.72, 0.44, 0.40 * width + 0.1, 0.42, 0.18, WHITE, "fabric") for x in pillows),
    )


def sofa(color: Color, width: float) -> Category:
    seats = 3 if width > 1.7 else 2
    step = (width - 0.36) / seats
    return by_wall(
        "sofa",
        color,
        box(0, 0, 0.08, width, 0.88, 0.26, color, "fabric"),
        box(0, -0.34, 0.34, width - 0.3, 0.20, 0.46, color, "fabric"),
        box(-width / 2 + 0.09, 0, 0.08, 0.18, 0.88, 0.54, color, "fabric"),
        box(width / 2 - 0.09, 0, 0.08, 0.18, 0.88, 0.54, color, "fabric"),
        *(
            box(
                (k + 0.5) * step - width / 2 + 0.18,
                0.08,
                0.34,
                step - 0.02,
                0.7,
                0.12,
                color,
                "fabric",
            )
            for k in range(seats)
        ),
    )


def table(
    width: float, depth: float, height: float, color: Color, label: str = "table"
) -> Category:
    make = by_wall if label == "desk" else free
    return make(
        label,
        color,
        box(0, 0, height - 0.04, width, depth, 0.04, color, "wood"),
        *legs(width - 0.08, depth - 0.08, height - 0.04, 0.06, color),
        top=(width, depth, height),
    )


def chair(color: Color, frame: Color) -> Category:
    return free(
        "chair",
        color,
        box(0, 0, 0.42, 0.44, 0.44, 0.05, color, "fabric"),
        box(0, -0.20, 0.62, 0.42, 0.04, 0.30, color, "fabric"),
        box(-0.19, -0.20, 0.47, 0.04, 0.04, 0.42, frame, "wood"),
        box(0.19, -0.20, 0.47, 0.04, 0.04, 0.42, frame, "wood"),
        *legs(0.44, 0.44, 0.42, 0.045, frame),
        small=True,
    )


def picture(width: float, height: float, frame: Color) -> Category:
    return on_wall(
        "picture",
        frame,
        (1.2, 1.5),
        box(0, 0.015, 0, width, 0.03, height, frame, "wood"),
        box(0, 0.032, 0.04, width - 0.08, 0.008, height - 0.08, SKY, "view"),
    )


WINDOW = on_wall(
    "window",
    GLASS,
    (0.8, 0.95),
    box(0, 0.02, 0, 1.3, 0.04, 1.2, WHITE),
    box(-0.31, 0.045, 0.06, 0.56, 0.01, 1.08, GLASS, "view"),
    box(0.31, 0.045, 0.06, 0.56, 0.01, 1.08, GLASS, "view"),
)
DOOR = on_wall(
    "door",
    OAK,
    (0.0, 0.0),
    box(0, 0.02, 0, 0.96, 0.04, 2.08, CREAM),
    box(0, 0.045, 0, 0.84, 0.02, 2.02, OAK, "wood"),
    box(0.34, 0.075, 1.0, 0.12, 0.05, 0.03, STEEL),
)
NIGHTSTAND = by_wall(
    "nightstand",
    WALNUT,
    box(0, 0, 0.08, 0.46, 0.40, 0.44, WALNUT, "wood"),
    *fronts(1, 2, 0.42, 0.21, 0.10, 0.40, OAK),
    *legs(0.44, 0.38, 0.08, 0.05, WALNUT),
    top=(0.46, 0.40, 0.52),
    small=True,
)
WARDROBE = by_wall(
    "closet",
    PINE,
    box(0, 0, 0, 1.4, 0.58, 2.1, PINE, "wood"),
    *fronts(3, 1, 1.36, 0.30, 0.06, 1.98, OAK),
)
DRESSER = by_wall(
    "dresser",
    PINE,
    box(0, 0, 0.06, 1.1, 0.46, 0.84, PINE, "wood"),
    *fronts(2, 3, 1.06, 0.24, 0.10, 0.76, CREAM),
    *legs(1.06, 0.42, 0.06, 0.06, PINE),
    top=(1.1, 0.46, 0.90),
)
CABINET = by_wall(
    "cabinet",
    SAGE,
    box(0, 0, 0, 0.9, 0.45, 1.2, SAGE, "wood"),
    *fronts(2, 1, 0.86, 0.235, 0.05, 1.1, SAGE),
    top=(0.9, 0.45, 1.2),
)
BOOKSHELF = by_wall(
    "bookshelf",
    OAK,
    box(0, -0.13, 0, 0.9, 0.03, 1.9, OAK, "wood"),
    box(-0.44, 0, 0, 0.03, 0.30, 1.9, OAK, "wood"),
    box(0.44, 0, 0, 0.03, 0.30, 1.9, OAK, "wood"),
    *(box(0, 0, z, 0.86, 0.30, 0.03, OAK, "wood") for z in (0.05, 0.5, 0.95, 1.4, 1.87)),
    box(-0.08, -0.02, 0.08, 0.66, 0.2, 0.30, RUST, "books"),
    box(0.1, -0.02, 0.53, 0.6, 0.2, 0.28, NAVY, "books"),
    box(-0.12, -0.02, 0.98, 0.56, 0.2, 0.32, MOSS, "books"),
    box(0.16, -0.02, 1.43, 0.46, 0.2, 0.27, PLUM, "books"),
)
TV_STAND = by_wall(
    "tv stand",
    WALNUT,
    box(0, 0, 0, 1.5, 0.42, 0.46, WALNUT, "wood"),
    *fronts(3, 1, 1.46, 0.22, 0.04, 0.38, OAK),
    top=(1.5, 0.42, 0.46),
)
TV = on_top(
    "tv",
    BLACK,
    box(0, 0, 0, 0.34, 0.2, 0.02, BLACK),
    box(0, -0.02, 0.02, 0.06, 0.04, 0.08, BLACK),
    box(0, 0, 0.08, 1.1, 0.04, 0.62, BLACK),
    box(0, 0.022, 0.1, 1.06, 0.006, 0.58, CHARCOAL, "screen"),
)
FRIDGE = by_wall(
    "refrigerator",
    STEEL,
    box(0, 0, 0.04, 0.72, 0.66, 1.78, STEEL),
    box(0, 0.34, 0.06, 0.70, 0.03, 1.14, (0.66, 0.67, 0.70)),
    box(0, 0.34, 1.22, 0.70, 0.03, 0.58, (0.66, 0.67, 0.70)),
    box(0.28, 0.375, 0.5, 0.03, 0.04, 0.6, CHARCOAL),
    box(0.28, 0.375, 1.3, 0.03, 0.04, 0.4, CHARCOAL),
)
COUNTER = by_wall(
    "counter",
    CREAM,
    box(0, 0, 0.1, 1.8, 0.6, 0.76, CREAM),
    *fronts(4, 1, 1.76, 0.31, 0.12, 0.72, SAGE),
    box(0, 0.01, 0.86, 1.84, 0.64, 0.04, CHARCOAL),
    top=(1.84, 0.64, 0.90),
)
STOVE = by_wall(
    "stove",
    WHITE,
    box(0, 0, 0, 0.6, 0.6, 0.88, WHITE),
    box(0, 0.31, 0.16, 0.5, 0.02, 0.44, CHARCOAL, "screen"),
    box(0, 0.33, 0.66, 0.46, 0.03, 0.03, STEEL),
    *(box(x, y, 0.88, 0.18, 0.18, 0.02, BLACK) for x in (-0.15, 0.15) for y in (-0.14, 0.14)),
)
WASHER = by_wall(
    "washing machine",
    WHITE,
    box(0, 0, 0, 0.6, 0.58, 0.85, WHITE),
    ball(0, 0.28, 0.2, 0.38, 0.1, 0.38, GLASS),
    box(0, 0.295, 0.72, 0.58, 0.02, 0.1, STEEL),
)
TOILET = by_wall(
    "toilet",
    PORCELAIN,
    box(0, -0.24, 0.36, 0.40, 0.20, 0.40, PORCELAIN),
    box(0, -0.02, 0, 0.24, 0.46, 0.34, PORCELAIN),
    ball(0, 0.06, 0.30, 0.40, 0.54, 0.16, PORCELAIN),
)
BATHTUB = by_wall(
    "bathtub",
    PORCELAIN,
    box(0, 0, 0, 1.6, 0.72, 0.12, PORCELAIN),
    box(-0.77, 0, 0, 0.06, 0.72, 0.56, PORCELAIN),
    box(0.77, 0, 0, 0.06, 0.72, 0.56, PORCELAIN),
    box(0, -0.33, 0, 1.6, 0.06, 0.56, PORCELAIN),
    box(0, 0.33, 0, 1.6, 0.06, 0.56, PORCELAIN),
    box(0.62, -0.31, 0.56, 0.06, 0.1, 0.16, STEEL),
)
SINK = by_wall(
    "sink",
    PORCELAIN,
    box(0, 0, 0, 0.16, 0.2, 0.74, PORCELAIN),
    box(0, 0.04, 0.74, 0.54, 0.44, 0.06, PORCELAIN),
    box(0, 0.22, 0.80, 0.54, 0.04, 0.08, PORCELAIN),
    box(-0.25, 0.04, 0.80, 0.04, 0.44, 0.08, PORCELAIN),
    box(0.25, 0.04, 0.80, 0.04, 0.44, 0.08, PORCELAIN),
    box(0, -0.14, 0.80, 0.06, 0.06, 0.2, STEEL),
)
FIREPLACE = by_wall(
    "fireplace",
    TERRACOTTA,
    box(-0.5, 0, 0, 0.26, 0.34, 1.0, TERRACOTTA, "bricks"),
    box(0.5, 0, 0, 0.26, 0.34, 1.0, TERRACOTTA, "bricks"),
    box(0, -0.12, 0, 0.8, 0.1, 0.8, BLACK),
    box(0, 0, 0.78, 1.26, 0.34, 0.22, TERRACOTTA, "bricks"),
    box(0, 0.02, 1.0, 1.4, 0.4, 0.06, WALNUT, "wood"),
    top=(1.4, 0.4, 1.06),
)
RADIATOR = on_wall(
    "radiator",
    WHITE,
    (0.12, 0.15),
    box(0, 0.07, 0, 0.9, 0.06, 0.55, WHITE, "stripes"),
    box(-0.3, 0.02, 0.2, 0.05, 0.04, 0.1, WHITE),
    box(0.3, 0.02, 0.2, 0.05, 0.04, 0.1, WHITE),
)
ARMCHAIR = free(
    "armchair",
    RUST,
    box(0, 0, 0.1, 0.78, 0.78, 0.3, RUST, "fabric"),
    box(0, -0.32, 0.4, 0.74, 0.16, 0.46, RUST, "fabric"),
    box(-0.33, 0.02, 0.4, 0.12, 0.74, 0.2, RUST, "fabric"),
    box(0.33, 0.02, 0.4, 0.12, 0.74, 0.2, RUST, "fabric"),
    *legs(0.7, 0.7, 0.1, 0.06, WALNUT),
    small=True,
)
OFFICE_CHAIR = free(
    "office chair",
    CHARCOAL,
    box(0, 0, 0.03, 0.56, 0.07, 0.05, STEEL),
    box(0, 0, 0.03, 0.07, 0.56, 0.05, STEEL),
    box(0, 0, 0.08, 0.06, 0.06, 0.36, STEEL),
    box(0, 0, 0.44, 0.48, 0.48, 0.08, CHARCOAL, "fabric"),
    box(0, -0.24, 0.6, 0.44, 0.06, 0.5, CHARCOAL, "fabric"),
    box(-0.25, 0, 0.6, 0.05, 0.28, 0.04, BLACK),
    box(0.25, 0, 0.6, 0.05, 0.28, 0.04, BLACK),
    small=True,
)
STOOL = free(
    "stool",
    PINE,
    ball(0, 0, 0.42, 0.36, 0.36, 0.08, PINE, "wood"),
    *legs(0.30, 0.30, 0.45, 0.04, PINE),
    small=True,
)
OTTOMAN = free(
    "ottoman",
    TEAL,
    box(0, 0, 0.06, 0.6, 0.6, 0.34, TEAL, "fabric"),
    *legs(0.54, 0.54, 0.06, 0.06, WALNUT),
    small=True,
)
FLOOR_LAMP = free(
    "lamp",
    LINEN,
    box(0, 0, 0, 0.28, 0.28, 0.03, CHARCOAL),
    box(0, 0, 0.03, 0.03, 0.03, 1.35, CHARCOAL),
    box(0, 0, 1.35, 0.36, 0.36, 0.28, (0.98, 0.9, 0.68), "fabric"),
    small=True,
)
PLANT = free(
    "plant",
    LEAF,
    box(0, 0, 0, 0.32, 0.32, 0.34, TERRACOTTA),
    box(0, 0, 0.34, 0.04, 0.04, 0.3, WALNUT),
    ball(0, 0, 0.5, 0.6, 0.6, 0.6, LEAF, "leaves"),
    ball(0.12, 0.1, 0.8, 0.4, 0.4, 0.4, (0.22, 0.52, 0.18), "leaves"),
    small=True,
)
BIN = free(
    "trash bin",
    STEEL,
    box(0, 0, 0, 0.28, 0.28, 0.38, STEEL, "stripes"),
    box(0, 0, 0.38, 0.32, 0.32, 0.04, CHARCOAL),
    small=True,
)
SUITCASE = free(
    "suitcase",
    NAVY,
    box(0, 0, 0.05, 0.46, 0.26, 0.62, NAVY, "stripes"),
    box(0, -0.06, 0.67, 0.2, 0.03, 0.22, STEEL),
    *legs(0.4, 0.2, 0.05, 0.05, BLACK),
    small=True,
)
BASKET = free("basket", OAK, box(0, 0, 0, 0.42, 0.42, 0.4, OAK, "fabric"), small=True)
LAPTOP = on_top(
    "laptop",
    STEEL,
    box(0, 0.02, 0, 0.34, 0.24, 0.02, STEEL),
    box(0, -0.10, 0.02, 0.34, 0.015, 0.22, STEEL),
    box(0, -0.09, 0.03, 0.31, 0.005, 0.19, SKY, "screen"),
)
MONITOR = on_top(
    "monitor",
    BLACK,
    box(0, 0, 0, 0.22, 0.18, 0.02, CHARCOAL),
    box(0, -0.04, 0.02, 0.05, 0.03, 0.12, CHARCOAL),
    box(0, 0, 0.10, 0.56, 0.04, 0.34, BLACK),
    box(0, 0.022, 0.12, 0.53, 0.005, 0.30, SKY, "screen"),
)
KEYBOARD = on_top("keyboard", CHARCOAL, box(0, 0, 0, 0.42, 0.14, 0.025, CHARCOAL, "fabric"))
BOOK = on_top("book", RUST, box(0, 0, 0, 0.18, 0.24, 0.05, RUST))
CUP = on_top(
    "cup",
    TEAL,
    box(0, 0, 0, 0.09, 0.09, 0.1, TEAL),
    box(0.055, 0, 0.025, 0.03, 0.02, 0.05, TEAL),
)
BOWL = on_top("bowl", CREAM, ball(0, 0, 0, 0.24, 0.24, 0.1, CREAM))
VASE = on_top(
    "vase",
    PLUM,
    ball(0, 0, 0, 0.14, 0.14, 0.24, PLUM),
    ball(0, 0, 0.2, 0.2, 0.2, 0.18, (0.9, 0.45, 0.5), "leaves"),
)
TABLE_LAMP = on_top(
    "lamp",
    LINEN,
    box(0, 0, 0, 0.12, 0.12, 0.03, CHARCOAL),
    box(0, 0, 0.03, 0.03, 0.03, 0.2, CHARCOAL),
    box(0, 0, 0.2, 0.24, 0.24, 0.18, (0.98, 0.9, 0.68), "fabric"),
)
PRINTER = on_top(
    "printer",
    WHITE,
    box(0, 0, 0, 0.44, 0.36, 0.2, WHITE),
    box(0, 0.19, 0.05, 0.3, 0.06, 0.02, CHARCOAL),
    box(0, -0.02, 0.2, 0.36, 0.2, 0.03, CHARCOAL),
)
MICROWAVE = on_top(
    "microwave",
    BLACK,
    box(0, 0, 0, 0.48, 0.34, 0.28, CHARCOAL),
    box(-0.06, 0.175, 0.04, 0.32, 0.01, 0.2, GLASS, "screen"),
    box(0.18, 0.175, 0.05, 0.06, 0.01, 0.18, STEEL),
)
KETTLE = on_top(
    "kettle",
    STEEL,
    box(0, 0, 0, 0.16, 0.16, 0.03, BLACK),
    ball(0, 0, 0.02, 0.17, 0.17, 0.22, STEEL),
    box(0.1, 0, 0.07, 0.03, 0.03, 0.13, BLACK),
)
CLOCK = on_wall(
    "clock",
    WHITE,
    (1.6, 1.8),
    box(0, 0.02, 0, 0.32, 0.04, 0.32, BLACK),
    box(0, 0.042, 0.02, 0.28, 0.006, 0.28, WHITE),
    box(0, 0.048, 0.15, 0.02, 0.006, 0.11, BLACK),
    box(0.04, 0.048, 0.15, 0.09, 0.006, 0.02, BLACK),
)
MIRROR = on_wall(
    "mirror",
    GLASS,
    (0.9, 1.1),
    box(0, 0.015, 0, 0.6, 0.03, 0.9, OAK, "wood"),
    box(0, 0.032, 0.04, 0.52, 0.006, 0.82, GLASS, "screen"),
)
WHITEBOARD = on_wall(
    "whiteboard",
    WHITE,
    (0.9, 1.0),
    box(0, 0.015, 0, 1.5, 0.03, 1.0, STEEL),
    box(0, 0.032, 0.03, 1.44, 0.006, 0.94, WHITE),
    box(0, 0.06, 0, 0.6, 0.06, 0.02, STEEL),
)
SHELF = on_wall(
    "shelf",
    OAK,
    (1.3, 1.5),
    box(0, 0.11, 0, 0.9, 0.22, 0.03, OAK, "wood"),
    box(-0.1, 0.1, 0.03, 0.5, 0.16, 0.22, RUST, "books"),
)


@dataclasses.dataclass(frozen=True)
class Theme:
    """What a kind of room has: every item of `needs`, some of `may`, one of each choice."""

    name: str
    needs: tuple[tuple[Category, ...], ...]  # one of each
    may: tuple[Category, ...]
    walls: tuple[Category, ...]  # beside a door and a window
    tops: tuple[Category, ...]


BEDS = tuple(bed(color, width) for color in (NAVY, SAGE, PLUM, RUST) for width in (1.0, 1.6))
SOFAS = tuple(sofa(color, width) for color in (TEAL, MOSS, LINEN, NAVY) for width in (1.5, 2.0))
CHAIRS = tuple(chair(color, frame) for color, frame in ((RUST, OAK), (TEAL, PINE), (LINEN, WALNUT)))
TABLES = (table(1.4, 0.85, 0.75, OAK), table(1.1, 0.8, 0.74, PINE), table(1.7, 0.9, 0.76, WALNUT))
COFFEE_TABLES = (
    table(0.9, 0.55, 0.42, WALNUT, "coffee table"),
    table(1.0, 0.6, 0.4, PINE, "coffee table"),
)
DESKS = (table(1.4, 0.7, 0.74, PINE, "desk"), table(1.2, 0.6, 0.74, WALNUT, "desk"))
PICTURES = (picture(0.6, 0.45, BLACK), picture(0.4, 0.55, OAK), picture(0.9, 0.6, WALNUT))

THEMES = (
    Theme(
        "bedroom",
        (BEDS, (NIGHTSTAND,), (WARDROBE, DRESSER)),
        (NIGHTSTAND, *CHAIRS, FLOOR_LAMP, PLANT, BASKET, SUITCASE, *DESKS, OTTOMAN, BIN),
        (*PICTURES, MIRROR, CLOCK, RADIATOR, SHELF),
        (TABLE_LAMP, BOOK, CUP, LAPTOP, VASE),
    ),
    Theme(
        "living room",
        (SOFAS, COFFEE_TABLES, (TV_STAND,), (TV,)),
        (ARMCHAIR, FLOOR_LAMP, PLANT, BOOKSHELF, OTTOMAN, FIREPLACE, CABINET, BASKET, *CHAIRS),
        (*PICTURES, CLOCK, RADIATOR, SHELF, MIRROR),
        (TV, VASE, BOOK, BOWL, CUP, TABLE_LAMP, LAPTOP),
    ),
    Theme(
        "office",
        (DESKS, (OFFICE_CHAIR,), (BOOKSHELF, CABINET)),
        (*DESKS, OFFICE_CHAIR, BIN, PLANT, CABINET, *CHAIRS, FLOOR_LAMP, SUITCASE, BOOKSHELF),
        (WHITEBOARD, CLOCK, *PICTURES, RADIATOR, SHELF),
        (MONITOR, KEYBOARD, LAPTOP, PRINTER, BOOK, CUP, TABLE_LAMP),
    ),
    Theme(
        "kitchen",
        (TABLES, (FRIDGE,), (COUNTER,), (STOVE,)),
        (*CHAIRS, *CHAIRS, STOOL, BIN, WASHER, CABINET, PLANT, BASKET),
        (*PICTURES, CLOCK, RADIATOR, SHELF),
        (MICROWAVE, KETTLE, BOWL, CUP, VASE, BOOK),
    ),
    Theme(
        "bathroom",
        ((TOILET,), (SINK,), (BATHTUB,)),
        (WASHER, CABINET, STOOL, BASKET, BIN, PLANT, NIGHTSTAND),
        (MIRROR, RADIATOR, CLOCK, SHELF),
        (CUP, BOWL, VASE),
    ),
)
