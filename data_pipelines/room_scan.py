"""A procedural room as a raw scan: the mesh that a scanner would give, and a picture at every pose.

What is written from it in a raw format and read back has a known truth: the room's own unified
scene (`rooms.scene_source`).
"""

import dataclasses
import io

import numpy as np
from PIL import Image

from data_pipelines import rooms
from data_pipelines.placing import Placed, turn
from data_pipelines.renderer import Rendering
from data_pipelines.scan import Mesh, OrientedBox, Scan, ScanFrame, ScanObject

JPEG_QUALITY = 95
ROUND_STEPS = 12  # of an ellipsoid's mesh from pole to pole


@dataclasses.dataclass(frozen=True)
class RenderedImages:
    """Pixels of a rendered room; row i is frame i."""

    rendering: Rendering

    def color(self, frame: ScanFrame) -> np.ndarray:
        with Image.open(io.BytesIO(self.color_jpeg(frame))) as image:
            return np.asarray(image.convert("RGB"))

    def color_jpeg(self, frame: ScanFrame) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(np.asarray(self.rendering.color[frame.frame_id])).save(
            buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0
        )
        return buffer.getvalue()

    def depth(self, frame: ScanFrame) -> np.ndarray:
        millimetres = np.rint(np.asarray(self.rendering.depth[frame.frame_id]) * 1000)
        return np.clip(millimetres, 0, 65535).astype(np.uint16)


def _grid(count_u: int, count_v: int) -> np.ndarray:
    """(2 count_u count_v, 3) triangles over a grid of (count_u + 1) x (count_v + 1) vertices."""
    at = np.arange((count_u + 1) * (count_v + 1)).reshape(count_u + 1, count_v + 1)
    a, b, c, d = at[:-1, :-1], at[1:, :-1], at[1:, 1:], at[:-1, 1:]
    quads = np.stack([a, b, c, a, c, d], -1)
    return quads.reshape(-1, 3)


def _patch(
    corner: np.ndarray, along: np.ndarray, across: np.ndarray, spacing: float
) -> tuple[np.ndarray, np.ndarray]:
    """A rectangle (corner, two sides): vertices (k, 3) at most `spacing` apart, and triangles."""
    counts = [max(1, int(np.ceil(np.linalg.norm(side) / spacing))) for side in (along, across)]
    u, v = np.meshgrid(*(np.linspace(0, 1, n + 1) for n in counts), indexing="ij")
    points = corner + u[..., None] * along + v[..., None] * across
    return points.reshape(-1, 3), _grid(*counts)


def box_surface(low: np.ndarray, high: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """The six faces of an axis-aligned box as vertices (k, 3) and triangles (t, 3), each face with
    its own vertices; triangles turn counter-clockwise as seen from outside.
    """
    points, faces, count = [], [], 0
    for axis in range(3):
        first, second = np.diag(high - low)[[(axis + 1) % 3, (axis + 2) % 3]]
        for upper in (False, True):
            corner = low + np.eye(3)[axis] * (high - low)[axis] * upper
            sides = (first, second) if upper else (second, first)
            patch, triangles = _patch(corner, *sides, spacing)
            points.append(patch)
            faces.append(triangles + count)
            count += len(patch)
    return np.concatenate(points), np.concatenate(faces)


def _ellipsoid_surface(half: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    # An even count puts vertices on the extreme points, so that the mesh fills the object's box.
    steps = max(ROUND_STEPS, 2 * int(np.ceil(np.pi / 2 * half.max() / spacing)))
    polar, around = np.meshgrid(
        np.linspace(0, np.pi, steps + 1), np.linspace(0, 2 * np.pi, 2 * steps + 1), indexing="ij"
    )
    unit = np.stack(
        [np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)], -1
    )
    return (unit * half).reshape(-1, 3), _grid(steps, 2 * steps)


def object_surface(placed: Placed, spacing: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """World vertices (k, 3), triangles (t, 3), colours (k, 3) uint8 of all parts of an object."""
    points, faces, colors, count = [], [], [], 0
    for part, middle, half in zip(placed.category.parts, *placed.parts(), strict=True):
        if part.shape == "box":
            local, triangles = box_surface(-half, half, spacing)
        else:
            local, triangles = _ellipsoid_surface(half, spacing)
        points.append(middle + np.column_stack([turn(placed.yaw, local[:, :2]), local[:, 2]]))
        faces.append(triangles + count)
        colors.append(np.tile(np.rint(placed.color(part.color) * 255), (len(local), 1)))
        count += len(local)
    return np.concatenate(points), np.concatenate(faces), np.concatenate(colors).astype(np.uint8)


def shell_surfaces(
    room: rooms.Room, spacing: float
) -> list[tuple[str, tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """Label and surface, as of `object_surface`, of the floor, the ceiling and the walls."""
    up, shell = np.array([0, 0, room.plan.size[2]]), room.shell
    sides = []
    for low, high in room.plan.floors():
        (dx, dy), corner = high - low, np.append(low, 0.0)
        length, width = np.array([dx, 0, 0]), np.array([0, dy, 0])
        sides.append(("floor", corner, length, width, shell.floor_color[0]))
        sides.append(("ceiling", corner + up, width, length, shell.ceiling_color))
    for start, run in room.plan.walls():
        color = shell.wall_color[room.plan.wall_color(start, run)]
        sides.append(("wall", np.append(start, 0.0), np.append(run, 0.0), up, color))
    return [
        (label, (*(patch := _patch(start, u, v, spacing)), _tinted(color, len(patch[0]))))
        for label, start, u, v, color in sides
    ]


def _tinted(color: np.ndarray, count: int) -> np.ndarray:
    """(count, 3) uint8 of one colour, 0 to 1."""
    return np.tile(np.rint(np.clip(np.asarray(color), 0, 1) * 255).astype(np.uint8), (count, 1))


def room_scan(
    room: rooms.Room,
    scene_id: str,
    *,
    split: str = "train",
    spacing: float = 0.05,
    world_from_mesh: np.ndarray | None = None,
) -> Scan:
    """The room with a picture at every pose of its path.

    Args:
        spacing: largest distance between neighbouring mesh vertices, metres.
        world_from_mesh: (4, 4) rigid; the scan is in that mesh frame. Without it mesh and world are
            one frame.
    """
    alignment = np.eye(4) if world_from_mesh is None else world_from_mesh
    mesh_from_world = np.linalg.inv(alignment)
    rendering = rooms.render_path(room)
    surfaces = [object_surface(placed, spacing) for placed in room.objects]
    surfaces += [surface for _, surface in shell_surfaces(room, spacing)]
    starts = np.cumsum([0] + [len(points) for points, _, _ in surfaces])
    points = np.concatenate([points for points, _, _ in surfaces])
    mesh = Mesh(
        (points @ mesh_from_world[:3, :3].T + mesh_from_world[:3, 3]).astype(np.float32),
        np.concatenate([colors for _, _, colors in surfaces]),
        np.concatenate(
            [faces + start for (_, faces, _), start in zip(surfaces, starts, strict=False)]
        ).astype(np.int32),
    )
    objects = []
    for index, placed in enumerate(room.objects):
        center, extent, yaw = placed.obb()
        cos, sin = np.cos(yaw), np.sin(yaw)
        rotation = mesh_from_world[:3, :3] @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
        center = mesh_from_world[:3, :3] @ center + mesh_from_world[:3, 3]
        own = np.arange(starts[index], starts[index + 1])
        box = OrientedBox(center, extent, rotation)
        objects.append(ScanObject(index + 1, placed.category.label, own, box))
    for index, (label, _) in enumerate(shell_surfaces(room, spacing), start=len(room.objects)):
        own = np.arange(starts[index], starts[index + 1])
        objects.append(ScanObject(index + 1, label, own))
    size = (room.views.width, room.views.height)
    frames = tuple(
        ScanFrame(
            frame_id=index,
            source=f"{index:06d}",
            mesh_from_camera=mesh_from_world @ pose,
            color_intrinsics=room.views.intrinsics,
            depth_intrinsics=room.views.intrinsics,
            color_size=size,
            depth_size=size,
            time=index / 10,
        )
        for index, pose in enumerate(room.views.path)
    )
    return Scan(
        dataset="rooms",
        scene_id=scene_id,
        source_id=scene_id,
        split=split,
        mesh=mesh,
        objects=tuple(objects),
        frames=frames,
        images=RenderedImages(rendering),
        world_from_mesh=alignment,
    )
