"""One picture of a prepared scene for a person to look at: its frames with boxes and labels, and
the room from above. Drawn from the files on disk, so that it shows what a reader would get.
"""

import colorsys
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from geometry_jax import scene_io

FRAMES, COLUMNS = 12, 4  # of a sheet
CELL = 400  # pixels, width of a frame
ABOVE = 900  # pixels, height of the view from above
LINE, PAD = 22, 6  # pixels
FONT = ImageFont.load_default(12)
NEAR = 0.05  # metres; a box's edge is cut there
EDGES = [(i, i | bit) for bit in (1, 2, 4) for i in range(8) if not i & bit]


class Drawn(NamedTuple):
    """What the sheet shows of a scene."""

    scene_id: str
    record: scene_io.SceneRecord
    corners: np.ndarray  # (N, 8, 3) of the oriented boxes, world metres
    intrinsics: np.ndarray  # (F, 3, 3) pixels
    floor: np.ndarray  # (n, 2) world metres
    path: np.ndarray  # (M, 3) places of the camera along all poses
    text: str


def write(root: Path, scene_id: str, path: Path) -> None:
    """Draws a scene into a PNG file.

    Raises:
        OSError: a file can't be read or written.
        ValueError: a file of the scene is of the wrong form.
    """
    sheet = draw(_read(root, scene_id))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    sheet.save(part, "PNG")
    part.rename(path)


def _read(root: Path, scene_id: str) -> Drawn:
    record = scene_io.load_scene(root, scene_id)
    folder = scene_io.scene_folder(root, scene_id)
    scene = json.loads((root / "metadata" / scene_id / f"{scene_id}.json").read_text("utf-8"))
    intrinsics = []
    for frame_id in record.frame_ids:
        own = folder / "intrinsic" / f"{frame_id}.txt"
        intrinsics.append(
            np.loadtxt(own if own.is_file() else folder / "intrinsic_color.txt")[:3, :3]
        )
    alignment = scene_io.read_alignment(folder / f"{scene_id}.txt")
    poses = sorted((folder / "pose").glob("*.txt"), key=lambda path: int(path.stem))
    places = [(alignment @ scene_io.read_pose(pose))[:3, 3] for pose in poses]
    quality = (scene.get("quality") or {}).get("score")
    size = "unknown" if scene["room_size"] is None else f"{scene['room_size']:.2f} m2"
    text = (
        f"{scene_id}: floor {size}, {len(record.object_ids)} objects, "
        f"{len(record.frame_ids)} frames, {len(poses)} poses"
    )
    return Drawn(
        scene_id,
        record,
        _corners(record),
        np.array(intrinsics).reshape(-1, 3, 3),
        np.array(scene["floor_polygon"], float).reshape(-1, 2),
        np.array(places).reshape(-1, 3),
        text if quality is None else f"{text}, quality {quality:.2f}",
    )


def _corners(record: scene_io.SceneRecord) -> np.ndarray:
    scene = record.scene
    extent, yaw = np.asarray(scene.obb_extent), np.asarray(scene.obb_yaw)
    signs = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    local = signs * extent[:, None]
    cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    turned = np.stack(
        [
            cos * local[..., 0] - sin * local[..., 1],
            sin * local[..., 0] + cos * local[..., 1],
            local[..., 2],
        ],
        -1,
    )
    return np.asarray(scene.obb_center)[:, None] + turned


def _color(index: int) -> tuple[int, int, int]:
    """Hues a golden angle apart, so that neighbours in the list differ."""
    r, g, b = colorsys.hsv_to_rgb(index * 0.381966 % 1.0, 0.85, 0.9 if index % 2 else 0.7)
    return int(255 * r), int(255 * g), int(255 * b)


def _label(drawn: Drawn, index: int) -> str:
    name = drawn.record.labels[int(np.asarray(drawn.record.scene.label)[index])]
    return f"{drawn.record.object_ids[index]} {name}"


def draw(drawn: Drawn) -> Image.Image:
    """The sheet: a line of text, the frames, the room from above."""
    rows = np.unique(
        np.linspace(0, len(drawn.record.frame_ids) - 1, FRAMES).round().astype(int)
        if drawn.record.frame_ids
        else np.zeros(0, int)
    )
    cells = [_frame(drawn, int(row)) for row in rows]
    above = _from_above(drawn)
    height = max((cell.height for cell in cells), default=0)
    lines = -(-len(cells) // COLUMNS)
    width = max(COLUMNS * (CELL + PAD), above.width)
    sheet = Image.new("RGB", (width, LINE + lines * (height + PAD) + above.height), "white")
    ImageDraw.Draw(sheet).text((PAD, 2), drawn.text, fill="black", font=FONT)
    for place, cell in enumerate(cells):
        line, column = divmod(place, COLUMNS)
        sheet.paste(cell, (column * (CELL + PAD), LINE + line * (height + PAD)))
    sheet.paste(above, (0, LINE + lines * (height + PAD)))
    return sheet


def _frame(drawn: Drawn, row: int) -> Image.Image:
    """A frame with the edges of the boxes of what it shows, and their 2-D boxes dotted."""
    scene = drawn.record.scene
    with Image.open(drawn.record.image_paths[row]) as stored:
        scale = CELL / stored.width
        image = stored.convert("RGB").resize((CELL, round(stored.height * scale)))
    pen = ImageDraw.Draw(image)
    camera_from_world = np.linalg.inv(np.asarray(scene.world_from_camera[row], np.float64))
    texts = []
    for index in np.flatnonzero(np.asarray(scene.seen[row])):
        color = _color(int(index))
        local = drawn.corners[index] @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
        for first, second in EDGES:
            line = _projected(local[first], local[second], drawn.intrinsics[row])
            if line is not None:
                pen.line([tuple(point) for point in line * scale], fill=color, width=2)
        box = np.asarray(scene.bbox_2d[row, index]) * scale
        _dotted(pen, box, color)
        share = float(scene.visibility[row, index])
        flags = "t" * bool(scene.truncated[row, index]) + "o" * bool(scene.occluded[row, index])
        texts.append((box[:2], f"{_label(drawn, int(index))} {share:.2f}{flags}", color))
    for (x, y), text, color in texts:
        _tag(pen, x, y, text, color)
    _tag(pen, 0, image.height - 14, f"frame {drawn.record.frame_ids[row]}", (0, 0, 0))
    return image


def _projected(a: np.ndarray, b: np.ndarray, intrinsics: np.ndarray) -> np.ndarray | None:
    """(2, 2) pixels of a line in the camera, cut at the near plane; None behind it."""
    if max(a[2], b[2]) <= NEAR:
        return None
    if a[2] < NEAR:
        a, b = b, a
    if b[2] < NEAR:
        b = a + (b - a) * (a[2] - NEAR) / (a[2] - b[2])
    ends = np.stack([a, b]) @ intrinsics.T
    return np.clip(ends[:, :2] / ends[:, 2:], -1e4, 1e4)


def _dotted(pen: ImageDraw.ImageDraw, box: np.ndarray, color: tuple[int, int, int]) -> None:
    left, top, right, bottom = box
    for x in np.arange(left, right, 6):
        for y in (top, bottom):
            pen.line([(x, y), (min(x + 2, right), y)], fill=color)
    for y in np.arange(top, bottom, 6):
        for x in (left, right):
            pen.line([(x, y), (x, min(y + 2, bottom))], fill=color)


def _tag(
    pen: ImageDraw.ImageDraw, x: float, y: float, text: str, color: tuple[int, int, int]
) -> None:
    box = pen.textbbox((x + 2, y + 1), text, font=FONT)
    pen.rectangle((box[0] - 2, box[1] - 1, box[2] + 2, box[3] + 1), fill="white", outline=color)
    pen.text((x + 2, y + 1), text, fill=color, font=FONT)


def _from_above(drawn: Drawn) -> Image.Image:
    """Floor, boxes and the camera's path; x to the right, y up; a metre's length below."""
    clouds = [drawn.floor, drawn.corners[..., :2].reshape(-1, 2), drawn.path[:, :2]]
    points = np.concatenate(clouds)
    if not len(points):
        points = np.zeros((1, 2))
    low, high = points.min(0) - 0.4, points.max(0) + 0.4
    scale = min(ABOVE / (high - low)[1], COLUMNS * CELL / (high - low)[0])
    size = np.ceil((high - low) * scale).astype(int)
    image = Image.new("RGB", (int(size[0]), int(size[1]) + LINE), "white")
    pen = ImageDraw.Draw(image)

    def place(xy: np.ndarray) -> list[tuple[float, float]]:
        flat = (np.atleast_2d(xy) - low) * scale
        return [(float(x), float(size[1] - y)) for x, y in flat]

    if len(drawn.floor) > 2:
        pen.polygon(place(drawn.floor), fill=(240, 236, 228), outline=(90, 84, 74), width=3)
    if len(drawn.path) > 1:
        pen.line(place(drawn.path[:, :2]), fill=(150, 150, 150), width=2)
    for index, corners in enumerate(drawn.corners):
        outline = corners[[0, 2, 6, 4], :2]
        pen.polygon(place(outline), outline=_color(index), width=3)
        (x, y), *_ = place(corners[:, :2].mean(0))
        _tag(pen, x - 20, y - 6, _label(drawn, index), _color(index))
    for row, frame_id in enumerate(drawn.record.frame_ids):
        pose = np.asarray(drawn.record.scene.world_from_camera[row])
        ahead = pose[:2, 3] + 0.3 * pose[:2, 2]
        pen.line(place(np.stack([pose[:2, 3], ahead])), fill="black", width=2)
        (x, y), *_ = place(pose[:2, 3])
        pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill="black")
        pen.text((x + 4, y - 14), frame_id, fill="black", font=FONT)
    pen.line([(PAD, image.height - 8), (PAD + scale, image.height - 8)], fill="black", width=3)
    pen.text((PAD + scale + 6, image.height - 16), "1 m", fill="black", font=FONT)
    return image
