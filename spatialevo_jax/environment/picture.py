"""Draws why an answer is the answer: the images with boxes, and the room from above.

The only file of the environment that needs matplotlib; import it where a picture is wanted.
"""

import dataclasses
import textwrap
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle, Wedge
from PIL import Image

from geometry_jax.ops import PLANAR
from geometry_jax.scene_io import SceneRecord
from geometry_jax.types import Evidence
from spatialevo_jax.environment.respond import Reply, Request

COLORS = ("#c1121f", "#0a6c8f", "#d08700", "#2f8f4e", "#7b4fa3")  # deciding objects, by role
QUIET, INK, SHADE = "#b4bac1", "#22262b", "#f4d35e"
MOST_FRAMES = 2  # images shown beside the room
VIEW_ANGLE = 60.0  # degrees; drawn for a camera whose intrinsics are not known
VIEW_LENGTH = 0.9  # metres
REACH = 1.5  # metres; radius of the circle of directions
TELLING_MARGIN = 100.0  # a greater one says only that nothing was near an edge
DIRECTIONS = {  # answers by the angle that they span, degrees counter-clockwise from the right
    "": tuple((name, 45.0 * i - 22.5, 45.0 * i + 22.5) for i, name in enumerate(PLANAR)),
    "easy": (("right", -90.0, 90.0), ("left", 90.0, 270.0)),
    "medium": (("right", -45.0, 90.0), ("left", 90.0, 225.0), ("back", 225.0, 315.0)),
    "hard": (
        ("front-right", 0.0, 90.0),
        ("front-left", 90.0, 180.0),
        ("back-left", 180.0, 270.0),
        ("back-right", 270.0, 360.0),
    ),
}
FROM_CAMERA = ("position_cam_cam", "position_cam_obj", "position_cam_reg")
SEGMENTS = {  # pairs of deciding points that a line joins
    "absolute_distance": ((0, 1),),
    "relative_distance": ((0, 1),),
    "distance_cam_obj": ((0, 1),),
    "object_size": ((0, 1),),
    "attribute_measurement": ((0, 1), (2, 3)),
    "position_cam_cam": ((0, 1),),
    "position_cam_obj": ((0, 1),),
    "position_cam_reg": ((0, 1),),
    "single_image_relative_direction": ((0, 1),),
    "relative_direction_hard": ((0, 2),),
    "motion_camera": ((0, 1),),
    "elevation_cam_cam": ((0, 1),),
}

MEASURED = ("absolute_distance", "relative_distance", "distance_cam_obj", "object_size")
MEASURED += ("attribute_measurement",)


@dataclasses.dataclass(frozen=True)
class Shown:
    """What the picture points at."""

    objects: tuple[int, ...]  # deciding objects in the order of their roles
    points: np.ndarray  # (P, 3) deciding points, world metres
    segments: tuple[tuple[int, int], ...]  # pairs of points that a line joins
    measured: bool  # the lengths of these lines decide
    facts: tuple[str, ...]  # the deciding numbers in words


def draw(request: Request, reply: Reply, path: Path) -> None:
    """Writes a picture of one reply to a PNG file.

    Raises:
        OSError: the file can't be written.
    """
    shown = what_decides(request, reply)
    frames = _frames(request, shown)
    figure = Figure(figsize=(12.5, 7.6), layout="constrained")
    columns = [1.55, 1.0] if frames else [1.0]
    grid = figure.add_gridspec(max(len(frames), 1), len(columns), width_ratios=columns)
    _draw_room(figure.add_subplot(grid[:, 0]), request, reply, shown)
    for row, frame in enumerate(frames):
        _draw_frame(figure.add_subplot(grid[row, 1]), request, frame, shown)
    title = "\n".join(textwrap.wrap(f"{reply.task}: {reply.question}", 110)[:3])
    figure.suptitle(title, fontsize=12, color=INK)
    figure.savefig(path, dpi=110, facecolor="white", format="png")


# --- what is shown ---------------------------------------------------------------------------


def what_decides(request: Request, reply: Reply) -> Shown:
    """What the picture of a reply points at; nothing for a refused question."""
    if not reply.valid or reply.evidence is None:
        return Shown((), np.zeros((0, 3)), (), False, ())
    scene, evidence = request.record.scene, reply.evidence
    objects = tuple(int(i) for i in evidence.objects if i >= 0)
    if reply.task == "object_counting":
        label = request.record.labels.index(reply.slots.labels[0])
        objects = tuple(int(i) for i in np.flatnonzero(np.asarray(scene.label) == label))
    points = np.asarray(evidence.points, np.float64)
    points = points[np.isfinite(points).all(1)]
    segments = tuple((a, b) for a, b in SEGMENTS.get(reply.task, ()) if max(a, b) < len(points))
    return Shown(objects, points, segments, reply.task in MEASURED, _facts(reply, evidence))


def _facts(reply: Reply, evidence: Evidence) -> tuple[str, ...]:
    """The deciding numbers of a task in words; their order is that of its oracle."""
    n = [float(x) for x in np.asarray(evidence.numbers) if np.isfinite(x)]
    labels = reply.slots.labels
    match reply.task:
        case "absolute_distance" | "distance_cam_obj":
            return (f"closest points {n[0]:.2f} m apart",)
        case "object_size":
            return (f"longest side {100 * n[0]:.1f} cm",)
        case "room_size":
            return (f"floor area {n[0]:.2f} m²",)
        case "relative_distance":
            return tuple(f"{a}: {d:.2f} m" for a, d in zip(labels[1:], n, strict=False))
        case "relative_direction_hard":
            side = "left" if n[0] > 0 else "right"
            return (f"{abs(np.degrees(n[0])):.0f}° to the {side} of the facing line",)
        case "single_image_relative_direction":
            return (f"ahead {n[0]:+.2f} m, right {n[1]:+.2f} m, up {n[2]:+.2f} m",)
        case "depth_order_obj_obj":
            return tuple(f"{a}: {d:.2f} m deep" for a, d in zip(labels, n, strict=False))
        case "position_cam_cam" | "position_cam_obj" | "position_cam_reg":
            return (f"ahead {n[0]:+.2f} m, right {n[1]:+.2f} m",)
        case "elevation_cam_cam":
            return (f"rises by {n[0]:+.2f} m",)
        case "motion_camera":
            turn = f"turns {abs(np.degrees(n[0])):.0f}° to the {'left' if n[0] > 0 else 'right'}"
            return (turn, f"moves right {n[1]:+.2f} m, ahead {n[2]:+.2f} m, up {n[3]:+.2f} m")
        case "visibility_compare":
            return (f"score in Image 1: {n[0]:.2f}", f"score in Image 2: {n[1]:.2f}")
        case "attribute_measurement":
            return tuple(f"{a}: {100 * d:.1f} cm" for a, d in zip(labels, n, strict=False))
    return ()


def _frames(request: Request, shown: Shown) -> tuple[int, ...]:
    """The images of the request; for a question about the scene those that show most of it."""
    if request.frames:
        return request.frames[:MOST_FRAMES]
    scene = request.record.scene
    if not shown.objects:
        return tuple(range(min(MOST_FRAMES, len(request.record.frame_ids))))
    seen = np.asarray(scene.visibility)[:, list(shown.objects)]
    gain = (seen >= 0.1).sum(1) + seen.sum(1) / 100
    return tuple(int(i) for i in np.argsort(-gain, kind="stable")[:MOST_FRAMES])


# --- the room from above ---------------------------------------------------------------------


def _corners(record: SceneRecord, index: int) -> np.ndarray:
    """(4, 2) corners of an object's oriented box, seen from above."""
    scene = record.scene
    yaw = float(scene.obb_yaw[index])
    half = np.asarray(scene.obb_extent[index][:2], np.float64) / 2
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
    return square @ turn + np.asarray(scene.obb_center[index][:2], np.float64)


def _draw_room(axes: Axes, request: Request, reply: Reply, shown: Shown) -> None:
    record = request.record
    middle = np.asarray(record.scene.obb_center, np.float64)
    for index in range(len(record.object_ids)):
        role = shown.objects.index(index) if index in shown.objects else None
        color = QUIET if role is None else COLORS[role % len(COLORS)]
        axes.add_patch(
            Polygon(
                _corners(record, index),
                facecolor=color if role is not None else "none",
                alpha=0.35 if role is not None else 1.0,
                edgecolor=color,
                linewidth=0.8 if role is None else 2.0,
                zorder=2 if role is None else 3,
            )
        )
        axes.text(
            float(middle[index, 0]),
            float(middle[index, 1]),
            record.labels[int(record.scene.label[index])],
            fontsize=7 if role is None else 10,
            color="#8a9199" if role is None else INK,
            weight="normal" if role is None else "bold",
            ha="center",
            va="center",
            zorder=4 if role is None else 7,
            clip_on=True,
        )
    low, high = _bounds(request, reply, shown)
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    _draw_directions(axes, request, reply, shown)
    for image, frame in enumerate(request.frames[:MOST_FRAMES], start=1):
        name = f"Image {image}" if len(request.frames) > 1 else "camera"
        _draw_camera(axes, record, frame, name, above=image > 1)
    _draw_depths(axes, request, reply)
    _draw_segments(axes, shown)
    axes.set_aspect("equal")
    axes.set_xlabel("x, metres")
    axes.set_ylabel("y, metres")
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    verdict = f"Answer: {reply.answer}" if reply.valid else f"No answer: {reply.error}"
    lines = [verdict, *shown.facts]
    if reply.valid and reply.margin < TELLING_MARGIN:
        lines.append(f"margin {reply.margin:.1f} (1 is just clear of the nearest edge)")
    axes.set_title("\n".join(lines), fontsize=11, loc="left", color=INK)


def _bounds(request: Request, reply: Reply, shown: Shown) -> tuple[np.ndarray, np.ndarray]:
    """Lower left and upper right of all that is drawn, with a border."""
    record = request.record
    corners = [_corners(record, index) for index in range(len(record.object_ids))]
    poses = np.asarray(record.scene.world_from_camera, np.float64)[list(request.frames)]
    everything = np.concatenate([*corners, poses[:, :2, 3], shown.points[:, :2], np.zeros((0, 2))])
    compass = _compass(request, reply, shown)
    if compass is not None:
        circle = compass[0][:2] + np.array([[-1.0, -1.0], [1.0, 1.0]]) * REACH
        everything = np.concatenate([everything, circle])
    if not len(everything):
        everything = np.zeros((1, 2))
    return everything.min(0) - 0.6, everything.max(0) + 0.6


def _heading(pose: np.ndarray) -> float:
    """Degrees of the optical axis about world up."""
    return float(np.degrees(np.arctan2(pose[1, 2], pose[0, 2])))


def _draw_camera(axes: Axes, record: SceneRecord, frame: int, name: str, *, above: bool) -> None:
    if not bool(record.scene.pose_valid[frame]):
        return
    pose = np.asarray(record.scene.world_from_camera[frame], np.float64)
    intrinsics = _intrinsics(record, frame)
    width = float(record.scene.image_size[frame][0])
    half = VIEW_ANGLE / 2
    if intrinsics is not None and width > 0:
        half = float(np.degrees(np.arctan(width / 2 / intrinsics[0, 0])))
    heading = _heading(pose)
    axes.add_patch(
        Wedge(
            (pose[0, 3], pose[1, 3]),
            VIEW_LENGTH,
            heading - half,
            heading + half,
            facecolor="#3d5a80",
            alpha=0.18,
            zorder=3,
        )
    )
    axes.plot(pose[0, 3], pose[1, 3], "o", color="#3d5a80", markersize=7, zorder=8)
    axes.annotate(
        f"{name}, {pose[2, 3]:.2f} m high",
        (pose[0, 3], pose[1, 3]),
        xytext=(7, 6 if above else -14),
        textcoords="offset points",
        fontsize=9,
        color="#3d5a80",
        zorder=9,
    )


def _draw_directions(axes: Axes, request: Request, reply: Reply, shown: Shown) -> None:
    """The answers around the place from which the direction counts, that of the answer shaded."""
    frame = _compass(request, reply, shown)
    if frame is None:
        return
    origin, heading = frame
    wanted = reply.answer.removeprefix("up-").removeprefix("down-")
    level = request.difficulty or reply.slots.difficulty
    for name, start, end in DIRECTIONS[level if reply.task == "relative_direction_hard" else ""]:
        first, last = heading - 90 + start, heading - 90 + end
        chosen = name == wanted
        axes.add_patch(
            Wedge(
                (origin[0], origin[1]),
                REACH,
                first,
                last,
                facecolor=SHADE if chosen else "none",
                alpha=0.45 if chosen else 0.9,
                edgecolor=QUIET,
                linewidth=0.7,
                zorder=1,
            )
        )
        middle = np.radians((first + last) / 2)
        axes.text(
            origin[0] + 1.12 * REACH * np.cos(middle),
            origin[1] + 1.12 * REACH * np.sin(middle),
            name,
            fontsize=9 if chosen else 7.5,
            weight="bold" if chosen else "normal",
            color=INK if chosen else "#6b7178",
            ha="center",
            va="center",
            zorder=6,
            clip_on=True,
        )
    ahead = np.radians(heading)
    axes.annotate(
        "",
        (origin[0] + 0.55 * REACH * np.cos(ahead), origin[1] + 0.55 * REACH * np.sin(ahead)),
        (origin[0], origin[1]),
        arrowprops={"arrowstyle": "-|>", "color": "#3d5a80", "linewidth": 1.4},
        zorder=6,
    )


def _compass(request: Request, reply: Reply, shown: Shown) -> tuple[np.ndarray, float] | None:
    """Where directions count from, and which way is front, degrees about world up."""
    if not len(shown.points):
        return None
    if reply.task == "relative_direction_hard":
        facing = shown.points[1] - shown.points[0]
        return shown.points[0], float(np.degrees(np.arctan2(facing[1], facing[0])))
    poses = np.asarray(request.record.scene.world_from_camera, np.float64)
    if reply.task in FROM_CAMERA:
        return shown.points[0], _heading(poses[request.frames[reply.slots.images[0] - 1]])
    if reply.task == "single_image_relative_direction":
        return shown.points[0], _heading(poses[request.frames[0]])
    return None


def _draw_depths(axes: Axes, request: Request, reply: Reply) -> None:
    """Where depth counts: a line across the view at the depth of each object."""
    if reply.task != "depth_order_obj_obj" or reply.evidence is None or not reply.valid:
        return
    pose = np.asarray(request.record.scene.world_from_camera[request.frames[0]], np.float64)
    objects = np.asarray(reply.evidence.objects)
    for role, depth in enumerate(np.asarray(reply.evidence.numbers, np.float64)[:2]):
        aside = float(request.record.scene.camera_location[request.frames[0], objects[role], 0])
        ends = np.array([[min(aside, 0) - 0.5, 0, depth], [max(aside, 0) + 0.5, 0, depth]])
        across = ends @ pose[:3, :3].T + pose[:3, 3]
        axes.plot(*across[:, :2].T, "--", color=COLORS[role], linewidth=1.6, zorder=5)


def _draw_segments(axes: Axes, shown: Shown) -> None:
    for first, second in shown.segments:
        a, b = shown.points[first, :2], shown.points[second, :2]
        axes.plot(*np.stack([a, b]).T, color=INK, linewidth=1.8, zorder=6)
        axes.plot(*np.stack([a, b]).T, ".", color=INK, markersize=8, zorder=7)
        if shown.measured:
            length = np.linalg.norm(shown.points[first] - shown.points[second])
            axes.annotate(
                f"{length:.2f} m",
                ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2),
                xytext=(0, -15),
                textcoords="offset points",
                fontsize=9,
                color="white",
                ha="center",
                va="center",
                bbox={"facecolor": INK, "edgecolor": "none", "pad": 1.5},
                zorder=9,
            )


# --- the images ------------------------------------------------------------------------------


def _intrinsics(record: SceneRecord, frame: int) -> np.ndarray | None:
    """(3, 3) of a frame, where the scene's folder has them."""
    image = record.image_paths[frame]
    folder = image.parent.parent
    for path in (folder / "intrinsic" / f"{image.stem}.txt", folder / "intrinsic_color.txt"):
        if path.is_file():
            return np.loadtxt(path, dtype=np.float64)[:3, :3]
    return None


def _draw_frame(axes: Axes, request: Request, frame: int, shown: Shown) -> None:
    record, scene = request.record, request.record.scene
    width, height = (float(side) for side in scene.image_size[frame])
    path = record.image_paths[frame]
    if path.is_file():
        with Image.open(path) as image:
            axes.imshow(np.asarray(image.convert("RGB")), extent=(0, width, height, 0))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_xticks([])
    axes.set_yticks([])
    visible = np.asarray(scene.seen[frame]) & (
        np.asarray(scene.visibility[frame]) >= request.min_visibility
    )
    for index in np.flatnonzero(visible):
        role = shown.objects.index(int(index)) if index in shown.objects else None
        _draw_box(axes, record, frame, int(index), role)
    _project(axes, record, frame, shown)
    place = request.frames.index(frame) + 1 if frame in request.frames else 0
    name = f"Image {place}: " if place and len(request.frames) > 1 else ""
    axes.set_title(f"{name}frame {record.frame_ids[frame]}", fontsize=10, color=INK)


def _draw_box(axes: Axes, record: SceneRecord, frame: int, index: int, role: int | None) -> None:
    x1, y1, x2, y2 = (float(x) for x in record.scene.bbox_2d[frame, index])
    color = "white" if role is None else COLORS[role % len(COLORS)]
    axes.add_patch(
        Rectangle(
            (x1, y1),
            x2 - x1,
            y2 - y1,
            fill=False,
            edgecolor=color,
            linewidth=0.6 if role is None else 2.2,
            alpha=0.7 if role is None else 1.0,
        )
    )
    if role is None:
        return
    share = float(record.scene.visibility[frame, index])
    axes.text(
        x1,
        y1,
        f"{record.labels[int(record.scene.label[index])]} {100 * share:.0f} % seen",
        fontsize=8,
        color="white",
        backgroundcolor=color,
        va="bottom",
        clip_on=True,
    )


def _project(axes: Axes, record: SceneRecord, frame: int, shown: Shown) -> None:
    """The deciding points and lines in an image, as far as they lie before its camera."""
    intrinsics = _intrinsics(record, frame)
    if intrinsics is None or not len(shown.points) or not bool(record.scene.pose_valid[frame]):
        return
    pose = np.asarray(record.scene.world_from_camera[frame], np.float64)
    local = (shown.points - pose[:3, 3]) @ pose[:3, :3]
    for first, second in shown.segments:
        pixels = _segment(local[[first, second]], intrinsics)
        if pixels is not None:
            axes.plot(*pixels.T, color=INK, linewidth=3.2)
            axes.plot(*pixels.T, color=SHADE, linewidth=1.6, marker="o", markersize=4)


def _segment(ends: np.ndarray, intrinsics: np.ndarray, nearest: float = 0.05) -> np.ndarray | None:
    """(2, 2) pixels of a line in camera axes, cut where it passes behind the camera."""
    depth = ends[:, 2]
    if (depth < nearest).all():
        return None
    if (depth < nearest).any():
        behind = int(np.argmin(depth))
        share = (nearest - depth[behind]) / (depth[1 - behind] - depth[behind])
        ends = ends.copy()
        ends[behind] = ends[behind] + share * (ends[1 - behind] - ends[behind])
    flat = ends @ intrinsics.T
    return flat[:, :2] / flat[:, 2:]
