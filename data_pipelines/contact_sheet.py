"""One picture of many: rooms as rows of frames, each under a line that says what is in it, and a
legend of the labels and their colours.
"""

import collections
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from data_pipelines.furniture import CATEGORIES
from geometry_jax.scene_io import SceneRecord

ROOMS, FRAMES = 6, 8  # at most, of a sheet
CELL = 224  # pixels, width of a frame
LEGEND, LINE, PAD = 40, 22, 4  # pixels


def draw(records: Sequence[SceneRecord]) -> Image.Image:
    """The sheet of the first rooms and frames.

    Raises:
        ValueError: no rooms.
    """
    if not records:
        raise ValueError("expected at least one room to draw, got none.")
    rows = [_row(record) for record in records[:ROOMS]]
    width = max(row.width for row in rows)
    sheet = Image.new("RGB", (width, LEGEND + sum(row.height for row in rows)), "white")
    _legend(sheet)
    top = LEGEND
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def _row(record: SceneRecord) -> Image.Image:
    frames = []
    for path in record.image_paths[:FRAMES]:
        with Image.open(path) as image:
            size = (CELL, round(CELL * image.height / image.width))
            frames.append(image.convert("RGB").resize(size, Image.Resampling.NEAREST))
    height = frames[0].height
    row = Image.new("RGB", (len(frames) * (CELL + PAD) - PAD, LINE + height + PAD), "white")
    labels = np.asarray(record.labels)[np.asarray(record.scene.label)]
    counts = collections.Counter(labels.tolist())
    content = ", ".join(f"{count} {name}" if count > 1 else name for name, count in counts.items())
    text = f"{record.scene_id}: {content}"
    draw_on = ImageDraw.Draw(row)
    draw_on.text((6, 5), text, fill="black")
    for index, frame in enumerate(frames):
        row.paste(frame, (index * (CELL + PAD), LINE))
        name = record.frame_ids[index]
        corner = (index * (CELL + PAD) + 4, LINE + 3)
        draw_on.text(corner, name, fill="black", stroke_width=2, stroke_fill="white")
    return row


def _legend(sheet: Image.Image) -> None:
    draw_on = ImageDraw.Draw(sheet)
    step = sheet.width // len(CATEGORIES)
    for index, category in enumerate(CATEGORIES):
        left = 6 + index * step
        color = tuple(round(255 * channel) for channel in category.color)
        draw_on.rectangle([left, 10, left + 18, 28], fill=color, outline="black")
        draw_on.text((left + 23, 13), category.label, fill="black")
