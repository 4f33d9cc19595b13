"""A raw scan -> a unified scene: which frames, which objects, their boxes, what each frame shows,
the floor, and a score of how well it all agrees. Reads and writes no files; deterministic.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data_pipelines import arkit_annotation, coverage, floor, labels, object_boxes, views, world
from data_pipelines.quality import quality
from data_pipelines.scan import (
    Images,
    Mesh,
    OrientedBox,
    Scan,
    ScanError,
    ScanFrame,
    ScanObject,
    Skipped,
    first_reason,
)
from data_pipelines.unified import (
    FrameRecord,
    Group,
    LabelledMesh,
    ObjectRecord,
    Quality,
    SceneSource,
    SeenObject,
    is_upright,
    jpeg_bytes,
)

LEAST_SIDE = 0.01  # metres; an object whose longest side is shorter is a stray vertex
OUTSIDE = 2.0  # metres that a camera may stand outside of the mesh's bounding box
STRAY = 0.005  # share of the vertices at each end of an axis that do not count for it
BOXES_ANNOTATED = ("arkitscenes",)  # data sets that annotate boxes, which vertices follow from
SEEN_LEAST = 1e-4  # shares are stored with four decimals; less would read as nothing


@dataclasses.dataclass(frozen=True)
class BuildSettings:
    """What decides a scene, beside its raw data."""

    frames: int = 32  # at most
    points: int = 512  # instance points of an object in the packed file, at most
    dropped: tuple[str, ...] = labels.DROPPED  # groups of labels that are no objects
    visibility: views.ViewSettings = views.DEFAULT


class Built(NamedTuple):
    source: SceneSource  # `details` is left out: files are the writer's business
    aligned_by_dataset: bool
    quality: Quality
    coverage: float  # share of what the candidate frames show that the chosen ones show
    unknown_labels: tuple[str, ...]  # kept as they are; the table lacks them
    dropped_labels: tuple[str, ...]  # of objects that are no objects of a scene
    skipped: tuple[Skipped, ...]  # frames and objects that could not be used
    notes: tuple[str, ...]  # what was decided on the way


@dataclasses.dataclass(frozen=True)
class HeldImages:
    """Pixels of a few frames, decoded once."""

    images: Images
    colors: dict[int, np.ndarray]  # by frame id
    depths: dict[int, np.ndarray]

    @classmethod
    def of(cls, images: Images, selection: coverage.Coverage) -> "HeldImages":
        depths = {
            frame.frame_id: images.depth(frame)
            for frame in selection.frames
            if min(frame.depth_size) > 0
        }
        return cls(images, selection.colors, depths)

    def color(self, frame: ScanFrame) -> np.ndarray:
        return self.colors[frame.frame_id]

    def color_jpeg(self, frame: ScanFrame) -> bytes | None:
        return self.images.color_jpeg(frame)

    def depth(self, frame: ScanFrame) -> np.ndarray:
        if frame.frame_id not in self.depths:
            raise ScanError(f"frame {frame.source}: it has no depth.")
        return self.depths[frame.frame_id]


def build(scan: Scan, settings: BuildSettings | None = None) -> Built:
    """The scene of a scan.

    Raises:
        ScanError: no frame can be used, two objects have one id, or the alignment is not rigid.
    """
    settings = settings or BuildSettings()
    _check_ids(scan)
    notes: list[str] = []
    skipped = list(scan.skipped)
    alignment, given = world.world_from_mesh(scan)
    if not given:
        notes.append(
            "no alignment in the data: yaw "
            f"{np.rad2deg(np.arctan2(alignment[1, 0], alignment[0, 0])):+.2f} degrees, "
            f"floor {alignment[2, 3]:+.3f} m, both estimated from the mesh"
        )
    frames, outside = _inside(scan.frames, scan.mesh)
    skipped += outside
    selection = coverage.select(frames, scan.images, scan.mesh, most=settings.frames)
    skipped += selection.skipped
    if not selection.frames:
        raise ScanError(
            f"{scan.source_id}: expected a frame that shows some of the room, found none of "
            f"{len(scan.frames)}{first_reason([*outside, *selection.skipped])}."
        )
    in_world = Mesh(_moved(alignment, scan.mesh.points), scan.mesh.colors, scan.mesh.faces)
    eyes = _moved(alignment, world.eyes(frames))
    height = world.scan_floor(scan, in_world, eyes)
    things = _Things.of(scan, in_world, alignment, settings)
    skipped += things.skipped
    notes += things.notes
    images = HeldImages.of(scan.images, selection)
    members = [things.members[row] for row in things.kept]
    shown = views.object_views(
        scan.mesh, members, selection.frames, images, settings=settings.visibility
    )
    annotated = _annotated_floor(scan, things, in_world)
    room = floor.floor_of(
        in_world, height, eyes=eyes, on_floor=annotated[0], furniture=annotated[1]
    )
    if room is None:
        notes.append("no floor was found: the room's size is not known")
    first = selection.frames[0]
    records = tuple(things.record(row, settings.points) for row in things.kept)
    source = SceneSource(
        scene_id=scan.scene_id,
        room_size=None if room is None else room.area,
        floor_polygon=np.zeros((0, 2)) if room is None else room.polygon,
        objects=records,
        frames=_frame_records(selection.frames, images, records, shown),
        poses=np.stack([frame.mesh_from_camera for frame in frames]),
        pose_ids=tuple(frame.frame_id for frame in frames),
        intrinsics=first.color_intrinsics,
        depth_intrinsics=first.depth_intrinsics,
        mesh=_labelled(scan.mesh, things),
        world_from_mesh=alignment,
    )
    return Built(
        source=source,
        aligned_by_dataset=given,
        quality=quality(scan.mesh, selection.frames, images, shown.agreement),
        coverage=selection.share,
        unknown_labels=tuple(
            sorted({things.labels[r].label for r in things.kept if not things.labels[r].known})
        ),
        dropped_labels=tuple(
            sorted(
                {
                    labels.normalise(one.label)
                    for row, one in enumerate(things.objects)
                    if things.labels[row].group in settings.dropped
                }
            )
        ),
        skipped=tuple(skipped),
        notes=tuple(notes),
    )


def _moved(a_from_b: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(k, 3) points under a rigid (4, 4), in float64."""
    return points.astype(np.float64) @ a_from_b[:3, :3].T + a_from_b[:3, 3]


def _inside(frames: Sequence[ScanFrame], mesh: Mesh) -> tuple[tuple[ScanFrame, ...], list[Skipped]]:
    """Frames whose camera is in or near the box of the mesh without its outermost vertices, which
    may be stray: a tracker that got lost jumps.
    """
    if not len(mesh.points):
        return tuple(frames), []
    low, high = np.quantile(mesh.points, [STRAY, 1 - STRAY], axis=0, method="nearest")
    kept, skipped = [], []
    for frame in frames:
        place = frame.mesh_from_camera[:3, 3]
        away = float(np.maximum(np.maximum(low - place, place - high), 0).max())
        if away <= OUTSIDE:
            kept.append(frame)
        else:
            why = f"its camera is {away:.1f} m outside of the mesh"
            skipped.append(Skipped(f"frame {frame.source}", why))
    return tuple(kept), skipped


def _annotated_floor(
    scan: Scan, things: "_Things", in_world: Mesh
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """(V,) bool masks of the floor and of what may stand on it; None where nothing is annotated as
    floor.
    """
    on_floor = np.zeros(len(in_world.points), bool)
    standing = np.zeros(len(in_world.points), bool)
    for label, members in zip(things.labels, things.members, strict=True):
        if label.label == "floor":
            on_floor[members] = True
        elif label.group in ("object", "storage"):
            standing[members] = True
    return (on_floor, standing) if on_floor.any() else (None, None)


@dataclasses.dataclass(frozen=True)
class _Things:
    """All annotated objects of a scan, row by row, also those that the scene drops."""

    objects: tuple[ScanObject, ...]
    labels: tuple[labels.Label, ...]
    members: tuple[np.ndarray, ...]  # rows of the mesh's vertices
    points: tuple[np.ndarray, ...]  # (k, 3) world: of the members, or the corners of the box
    boxes: tuple[object_boxes.UprightBox | None, ...]  # world; None where it is not kept
    aabbs: tuple[np.ndarray | None, ...]
    kept: tuple[int, ...]  # rows that are objects of the scene
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls,
        scan: Scan,
        in_world: Mesh,
        alignment: np.ndarray,
        settings: BuildSettings,
    ) -> "_Things":
        notes = []
        found = tuple(labels.harmonise(one.label) for one in scan.objects)
        members = _members(scan)
        points, boxes, aabbs, kept, skipped = [], [], [], [], []
        for row, one in enumerate(scan.objects):
            own, box, what = members[row], one.box, f"object {one.object_id} ({one.label})"
            is_kept = found[row].group not in settings.dropped
            if is_kept and len(one.vertices):  # others have the vertices in their box
                stray = object_boxes.strays(in_world.points[own])
                if stray.any():
                    why = f"{object_boxes.APART} m or more from all others"
                    skipped.append(Skipped(f"{stray.sum()} of {len(own)} vertices of {what}", why))
                    own = members[row] = own[~stray]
            extreme = in_world.points[own]
            # Where boxes were annotated, a box is the whole truth about its object's size.
            if box is not None and (scan.dataset in BOXES_ANNOTATED or not len(own)):
                extreme = _in_world(box, alignment).corners()
            points.append(in_world.points[own] if len(own) else extreme)
            boxes.append(None)
            aabbs.append(None)
            if not is_kept:
                continue
            if not len(extreme):
                skipped.append(Skipped(what, "it has no vertices and no box"))
                continue
            upright, note = _oriented(one, extreme, alignment)
            if max(upright.extent) < LEAST_SIDE:
                skipped.append(Skipped(what, "it is smaller than a centimetre"))
                continue
            if note:
                notes.append(f"{what}: {note}")
            boxes[row], aabbs[row] = upright, object_boxes.aabb(extreme)
            kept.append(row)
        return cls(
            scan.objects,
            found,
            tuple(members),
            tuple(points),
            tuple(boxes),
            tuple(aabbs),
            tuple(sorted(kept, key=lambda row: scan.objects[row].object_id)),
            tuple(skipped),
            tuple(notes),
        )

    def record(self, row: int, most: int) -> ObjectRecord:
        box, aabb = self.boxes[row], self.aabbs[row]
        assert box is not None and aabb is not None, "a kept object has boxes"
        return ObjectRecord(
            object_id=self.objects[row].object_id,
            label=self.labels[row].label,
            aabb=aabb,
            obb_center=box.center,
            obb_extent=box.extent,
            obb_yaw=box.yaw,
            points=thinned(self.points[row], most),
            source_label=self.objects[row].label,
        )


def _check_ids(scan: Scan) -> None:
    counts = Counter(one.object_id for one in scan.objects)
    twice = [object_id for object_id, count in counts.items() if count > 1]
    if twice:
        raise ScanError(
            f"{scan.source_id}: expected distinct object ids, got {twice[0]} "
            f"{counts[twice[0]]} times."
        )


def _members(scan: Scan) -> list[np.ndarray]:
    """Rows of the mesh's vertices of each object; where there are boxes only, those in the box."""
    members, normals = [], None
    for one in scan.objects:
        own = one.vertices
        if not len(own) and one.box is not None:
            if normals is None:
                normals = arkit_annotation.vertex_normals(scan.mesh)
            own = arkit_annotation.vertices_in(one.box, scan.mesh.points, normals, scan.mesh.faces)
        members.append(own)
    return members


def _in_world(box: OrientedBox, alignment: np.ndarray) -> OrientedBox:
    center = alignment[:3, :3] @ box.center + alignment[:3, 3]
    return OrientedBox(center, box.extent, alignment[:3, :3] @ box.rotation)


def _oriented(
    one: ScanObject, points: np.ndarray, alignment: np.ndarray
) -> tuple[object_boxes.UprightBox, str]:
    """The data set's own box where it stands upright, else the smallest upright one; and a note
    where its own is not used.
    """
    if one.box is None:
        return object_boxes.minimal_box(points), ""
    box = _in_world(one.box, alignment)
    lean = object_boxes.lean(box)
    if lean <= object_boxes.UPRIGHT:
        return object_boxes.upright(box), ""
    return (
        object_boxes.minimal_box(points),
        f"its box leans by {np.rad2deg(lean):.0f} degrees: the smallest upright one is taken",
    )


def thinned(points: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of (k, 3) points, evenly spread: the first in each voxel, whose side grows
    from a centimetre until they are few enough.
    """
    voxel = 0.01
    while len(points) > most:
        at = np.floor(points / voxel).astype(np.int64)
        at -= at.min(0)
        codes = (at[:, 0] * (at[:, 1].max() + 1) + at[:, 1]) * (at[:, 2].max() + 1) + at[:, 2]
        _, first = np.unique(codes, return_index=True)
        # A coarser grid is laid over what is left: nearly as even, and each pass is shorter.
        points = points[np.sort(first)]
        voxel *= 1.25
    return points


def _frame_records(
    frames: Sequence[ScanFrame],
    images: HeldImages,
    records: Sequence[ObjectRecord],
    shown: views.ObjectViews,
) -> tuple[FrameRecord, ...]:
    own_intrinsics = any(
        not np.array_equal(frame.color_intrinsics, frames[0].color_intrinsics) for frame in frames
    )
    made = []
    for row, frame in enumerate(frames):
        stored = images.color_jpeg(frame)
        made.append(
            FrameRecord(
                frame_id=frame.frame_id,
                jpeg=stored if stored and is_upright(stored) else jpeg_bytes(images.color(frame)),
                size=frame.color_size,
                depth=images.depths.get(frame.frame_id),
                seen=tuple(
                    _seen(shown, row, column, one.object_id)
                    for column, one in enumerate(records)
                    if shown.seen[row, column] and shown.visibility[row, column] >= SEEN_LEAST
                ),
                intrinsics=frame.color_intrinsics if own_intrinsics else None,
                source=frame.source,
            )
        )
    return tuple(made)


def _seen(shown: views.ObjectViews, row: int, column: int, object_id: int) -> SeenObject:
    left, top, right, bottom = (int(x) for x in shown.bbox_2d[row, column])
    return SeenObject(
        object_id=object_id,
        visibility=float(shown.visibility[row, column]),
        truncated=bool(shown.truncated[row, column]),
        occluded=bool(shown.occluded[row, column]),
        bbox_2d=(left, top, right, bottom),
        camera_location=shown.camera_location[row, column],
        in_view=float(shown.in_view[row, column]),
        hidden=float(shown.hidden[row, column]),
    )


def _labelled(mesh: Mesh, things: _Things) -> LabelledMesh:
    """Segments are the coarsest partition of which every object is a union, as vertices may belong
    to several objects.
    """
    segments = np.zeros(len(mesh.points), np.int64)
    count = 1
    for members in things.members:
        old, inverse = np.unique(segments[members], return_inverse=True)
        segments[members] = count + inverse
        count += len(old)
    _, segments = np.unique(segments, return_inverse=True)
    kept = set(things.kept)
    groups = [
        Group(
            object_id=things.objects[row].object_id,
            label=things.objects[row].label,
            segments=tuple(np.unique(segments[members]).tolist()),
            surface=row not in kept,
        )
        for row, members in enumerate(things.members)
        if len(members)
    ]
    return LabelledMesh(mesh.points, mesh.colors, segments, tuple(groups))
