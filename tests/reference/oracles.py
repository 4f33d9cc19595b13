"""Every task's answer in float64, one question at a time, written from the definitions.

Nothing here is shared with the package but the words for reasons and answers. A twin also tells how
far its decision was from the nearest edge: in units of 2 degrees and 2 %, as the package's margin.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from geometry_jax.reasons import Reason
from geometry_jax.types import Query, Scene
from tests.reference import compass

DEGREES_CLEAR, SHARE_CLEAR = 2.0, 0.02
NEVER = math.inf


@dataclasses.dataclass(frozen=True)
class Answer:
    reason: Reason
    value: str | float = ""
    margin: float = NEVER


@dataclasses.dataclass(frozen=True)
class Asked:
    """One question, its numbers as Python has them."""

    labels: tuple[int, ...]
    frames: tuple[int, int]
    difficulty: int
    min_visibility: float
    label_frames: tuple[int, int]


def questions(queries: Query) -> Iterator[tuple[int, Asked]]:
    """(task id, question) of each of a batch."""
    columns = (queries.labels, queries.frames, queries.difficulty, queries.label_frames)
    labels, frames, difficulty, bound = (np.asarray(column).tolist() for column in columns)
    least = np.asarray(queries.min_visibility, np.float64).tolist()
    for index, task in enumerate(np.asarray(queries.task_id).tolist()):
        named = tuple(label for label in labels[index] if label >= 0)
        first, second = frames[index]
        one, other = bound[index]
        yield (
            task,
            Asked(named, (first, second), difficulty[index], least[index], (one, other)),
        )


class Room:
    """One scene of a set: real objects and frames only, float64."""

    def __init__(self, scenes: Scene, index: int) -> None:
        def rows(name: str) -> np.ndarray:
            leaf = np.asarray(getattr(scenes, name)[index])
            return leaf.astype(np.float64) if leaf.dtype.kind == "f" else leaf

        self.objects = np.flatnonzero(rows("object_valid")).tolist()
        self.label = rows("label").tolist()
        self.center, self.extent = rows("obb_center"), rows("obb_extent")
        self.yaw = rows("obb_yaw")
        self.frames = set(np.flatnonzero(rows("frame_valid")).tolist())
        self.posed = set(np.flatnonzero(rows("frame_valid") & rows("pose_valid")).tolist())
        self.pose, self.heading = rows("world_from_camera"), rows("heading").tolist()
        self.seen, self.visibility = rows("seen"), rows("visibility")
        self.bbox, self.location = rows("bbox_2d"), rows("camera_location")
        self.truncated, self.occluded = rows("truncated"), rows("occluded")
        self.image_size, self.area = rows("image_size"), float(rows("floor_area"))
        self.gaps: dict[tuple[int, int], float] = {}

    def instances(self, label: int) -> list[int]:
        return [i for i in self.objects if self.label[i] == label]

    def shown(self, frame: int, label: int, least: float) -> list[int]:
        return [
            i
            for i in self.instances(label)
            if self.seen[frame, i] and self.visibility[frame, i] >= least
        ]

    def gap(self, first: int, second: int) -> float:
        """Metres between two upright boxes: that of the plans and that of the heights."""
        key = (min(first, second), max(first, second))
        if key not in self.gaps:
            plans = [self.plan(i) for i in key]
            apart = (
                0.0
                if overlap(*plans)
                else min(
                    to_side(corner, side)
                    for one, other in (plans, plans[::-1])
                    for corner in one
                    for side in sides(other)
                )
            )
            heights = [(self.center[i, 2], self.extent[i, 2] / 2) for i in key]
            (low_a, high_a), (low_b, high_b) = ((z - half, z + half) for z, half in heights)
            self.gaps[key] = math.hypot(apart, max(0.0, low_b - high_a, low_a - high_b))
        return self.gaps[key]

    def plan(self, index: int) -> list[tuple[float, float]]:
        """Corners of the box from above, in order around it."""
        x, y, _ = self.center[index]
        dx, dy, _ = self.extent[index] / 2
        c, s = math.cos(self.yaw[index]), math.sin(self.yaw[index])
        return [
            (x + u * c - v * s, y + u * s + v * c)
            for u, v in ((dx, dy), (-dx, dy), (-dx, -dy), (dx, -dy))
        ]

    def levelled(self, frame: int, move: np.ndarray) -> tuple[float, float]:
        """Metres ahead and to the right of the camera's heading: by turning the move back."""
        ahead = math.atan2(self.pose[frame, 1, 2], self.pose[frame, 0, 2])
        c, s = math.cos(-ahead), math.sin(-ahead)
        return move[0] * c - move[1] * s, -(move[0] * s + move[1] * c)

    def steepness(self, frame: int) -> float:
        """Degrees between the optical axis and the vertical."""
        x, y, z = self.pose[frame, :3, 2]
        return math.degrees(math.atan2(math.hypot(x, y), abs(z)))

    def camera(self, frame: int) -> np.ndarray:
        return self.pose[frame, :3, 3]

    def place(self, frame: int, index: int) -> np.ndarray:
        """World metres of the middle of what a frame shows of an object."""
        return self.pose[frame, :3, :3] @ self.location[frame, index] + self.camera(frame)


def sides(plan: list[tuple[float, float]]) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    return list(zip(plan, plan[1:] + plan[:1], strict=True))


def to_side(
    point: tuple[float, float], side: tuple[tuple[float, float], tuple[float, float]]
) -> float:
    (ax, ay), (bx, by) = side
    ux, uy, wx, wy = bx - ax, by - ay, point[0] - ax, point[1] - ay
    long = ux * ux + uy * uy
    t = min(1.0, max(0.0, (ux * wx + uy * wy) / long)) if long else 0.0
    return math.hypot(wx - t * ux, wy - t * uy)


def overlap(one: list[tuple[float, float]], other: list[tuple[float, float]]) -> bool:
    """No side of either parts two convex plans."""
    for plan in (one, other):
        for (ax, ay), (bx, by) in sides(plan)[:2]:
            nx, ny = bx - ax, by - ay
            a = [nx * x + ny * y for x, y in one]
            b = [nx * x + ny * y for x, y in other]
            if max(a) < min(b) or max(b) < min(a):
                return False
    return True


def by_angle(degrees: float) -> float:
    return abs(degrees) / DEGREES_CLEAR


def by_share(value: float, edge: float) -> float:
    return abs(value - edge) / (SHARE_CLEAR * max(edge, 1e-6))


def refuse(reason: Reason, margin: float = NEVER) -> Answer:
    return Answer(reason, margin=margin)


def missing(room: Room, frames: Sequence[int], *, posed: bool) -> Reason | None:
    if not all(frame in room.frames for frame in frames):
        return Reason.MISSING_FRAME
    if posed and not all(frame in room.posed for frame in frames):
        return Reason.MISSING_POSE
    return None


def by_sight(room: Room, frames: Sequence[int], labels: Sequence[int], least: float) -> float:
    """How far what the frames show of the labels' objects, the best of each, is from `least`."""
    best = [
        max((room.visibility[frame, i] for frame in frames if room.seen[frame, i]), default=None)
        for label in labels
        for i in room.instances(label)
    ]
    return min(
        (by_share(float(share), least) for share in best if share is not None), default=NEVER
    )


def clear_of(answer: Answer, *margins: float) -> Answer:
    """An answer with further edges."""
    return dataclasses.replace(answer, margin=min(answer.margin, *margins))


def one_each(room: Room, labels: Sequence[int]) -> list[int] | Reason:
    """The objects of labels that the scene has once each."""
    found = [room.instances(label) for label in labels]
    if not all(found):
        return Reason.ABSENT_LABEL
    if len(set(labels)) < len(labels):
        return Reason.SAME_LABEL
    if any(len(own) > 1 for own in found):
        return Reason.NOT_UNIQUE
    return [own[0] for own in found]


def one_each_in(room: Room, frame: int, asked: Asked) -> list[int] | Reason:
    """The objects of labels that a frame shows once each."""
    found = [room.shown(frame, label, asked.min_visibility) for label in asked.labels]
    if len(set(asked.labels)) < len(asked.labels):
        return Reason.SAME_LABEL
    if not all(found):
        return Reason.NOT_VISIBLE
    if any(len(own) > 1 for own in found):
        return Reason.NOT_UNIQUE_IN_IMAGE
    return [own[0] for own in found]


# --- the scene -------------------------------------------------------------------------------


def object_counting(room: Room, asked: Asked) -> Answer:
    count = len(room.instances(asked.labels[0]))
    if count < 2:
        return refuse(Reason.TOO_FEW if count else Reason.ABSENT_LABEL)
    return Answer(Reason.OK, float(count))


def object_size(room: Room, asked: Asked) -> Answer:
    found = one_each(room, asked.labels)
    if isinstance(found, Reason):
        return refuse(found)
    return Answer(Reason.OK, float(max(room.extent[found[0]])))


def room_size(room: Room, asked: Asked) -> Answer:
    good = math.isfinite(room.area) and room.area > 0
    return Answer(Reason.OK, room.area) if good else refuse(Reason.MISSING_AREA)


def absolute_distance(room: Room, asked: Asked) -> Answer:
    found = one_each(room, asked.labels)
    if isinstance(found, Reason):
        return refuse(found)
    return Answer(Reason.OK, room.gap(*found))


def relative_distance(room: Room, asked: Asked) -> Answer:
    target, *candidates = asked.labels
    own = room.instances(target)
    if not own or not all(room.instances(label) for label in candidates):
        return refuse(Reason.ABSENT_LABEL)
    if len(candidates) < 2:
        return refuse(Reason.MISSING_ROLE)
    if len(set(asked.labels)) < len(asked.labels):
        return refuse(Reason.SAME_LABEL)
    if len(own) > 1:
        return refuse(Reason.NOT_UNIQUE)
    ranked = sorted(
        (min(room.gap(own[0], i) for i in room.instances(label)), label) for label in candidates
    )
    (best, winner), (second, _) = ranked[:2]
    needed = min(0.05, 0.05 * second)
    margin = abs(second - best - needed) / max(SHARE_CLEAR * needed, 1e-3)
    if second - best <= needed:
        return refuse(Reason.TOO_CLOSE, margin)
    return Answer(Reason.OK, float(winner), margin)


def relative_direction_hard(room: Room, asked: Asked) -> Answer:
    found = one_each(room, asked.labels)
    if isinstance(found, Reason):
        return refuse(found)
    stand, face, queried = (room.center[i, :2] for i in found)
    lengths = [float(np.hypot(*(other - stand))) for other in (face, queried)]
    near = min(by_share(length, 0.10) for length in lengths)
    if min(lengths) < 0.10:
        return refuse(Reason.SAME_PLACE, near)
    a, b = (math.degrees(math.atan2(y - stand[1], x - stand[0])) for x, y in (face, queried))
    left = (b - a) % 360.0  # counter-clockwise from the facing direction
    turn = min(left, 360.0 - left)
    side = "left" if left < 180.0 else "right"
    to_line = min(turn, 180.0 - turn)
    if asked.difficulty == 0:
        ahead, aside = math.cos(math.radians(left)), -math.sin(math.radians(left))
        value, edge = compass.direction(ahead, aside)
    elif asked.difficulty == 1:
        value, edge = side, to_line
    elif asked.difficulty == 2:
        value = "back" if turn >= 135.0 else side
        edge = abs(turn - 135.0) if turn >= 135.0 else min(turn, 135.0 - turn)
    else:
        value = f"{'front' if turn < 90.0 else 'back'}-{side}"
        edge = min(to_line, abs(turn - 90.0))
    return Answer(Reason.OK, value, min(by_angle(edge), near))


# --- one image -------------------------------------------------------------------------------


def single_image_relative_direction(room: Room, asked: Asked) -> Answer:
    frame = asked.frames[0]
    reason = missing(room, (frame,), posed=True)
    if reason:
        return refuse(reason)
    found = one_each_in(room, frame, asked)
    if isinstance(found, Reason):
        return refuse(found)
    steep_camera = by_angle(room.steepness(frame) - 15.0)
    if room.steepness(frame) < 15.0:
        return refuse(Reason.LOOKING_VERTICAL, steep_camera)
    reference, target = (room.place(frame, i) for i in found)
    move = target - reference
    ahead, right = room.levelled(frame, move)
    flat, rise = math.hypot(ahead, right), float(move[2])
    sight = by_sight(room, (frame,), asked.labels, asked.min_visibility)
    margin = min(steep_camera, by_share(flat, 1e-3), sight)
    if flat < 1e-3:
        margin = min(margin, by_share(abs(rise), 1e-3))
        if abs(rise) < 1e-3:
            return refuse(Reason.OVERLAP, margin)
        return Answer(Reason.OK, "up" if rise > 0 else "down", margin)
    slope = by_share(abs(rise) / flat, 0.5)
    if abs(rise) > 0.5 * flat:
        degrees = math.degrees(math.atan2(ahead, right)) % 360.0
        axis = ("right", "front", "left", "back")[int((degrees + 45.0) // 90.0) % 4]
        edge = abs((degrees % 90.0) - 45.0)
        value = f"{'up' if rise > 0 else 'down'}-{axis}"
    else:
        value, edge = compass.direction(ahead, right)
    return Answer(Reason.OK, value, min(margin, slope, by_angle(edge)))


def distance_cam_obj(room: Room, asked: Asked) -> Answer:
    frame = asked.frames[0]
    reason = missing(room, (frame,), posed=True)
    if reason:
        return refuse(reason)
    found = one_each_in(room, frame, asked)
    if isinstance(found, Reason):
        return refuse(found)
    x, y, z = room.camera(frame) - room.center[found[0]]
    yaw = -room.yaw[found[0]]
    local = (
        x * math.cos(yaw) - y * math.sin(yaw),
        x * math.sin(yaw) + y * math.cos(yaw),
        z,
    )
    out = (max(0.0, abs(u) - s / 2) for u, s in zip(local, room.extent[found[0]], strict=True))
    sight = by_sight(room, (frame,), asked.labels, asked.min_visibility)
    return Answer(Reason.OK, math.hypot(*out), sight)


def depth_order_obj_obj(room: Room, asked: Asked) -> Answer:
    frame = asked.frames[0]
    reason = missing(room, (frame,), posed=False)
    if reason:
        return refuse(reason)
    found = one_each_in(room, frame, asked)
    if isinstance(found, Reason):
        return refuse(found)
    first, second = (float(room.location[frame, i, 2]) for i in found)
    margin = by_share(abs(first - second), 0.15)
    margin = min(margin, by_sight(room, (frame,), asked.labels, asked.min_visibility))
    if abs(first - second) <= 0.15:
        return Answer(Reason.OK, "same", margin)
    return Answer(Reason.OK, float(asked.labels[0 if first < second else 1]), margin)


# --- two images ------------------------------------------------------------------------------


def bearing(room: Room, frame: int, moves: Sequence[np.ndarray]) -> Answer:
    """The bin that all displacements share, seen from a camera."""
    margin = by_angle(room.steepness(frame) - 15.0)
    if room.steepness(frame) < 15.0:
        return refuse(Reason.LOOKING_VERTICAL, margin)
    nearest = min(math.hypot(move[0], move[1]) for move in moves)
    margin = min(margin, by_share(nearest, 0.10))
    if nearest < 0.10:
        return refuse(Reason.SAME_PLACE, margin)
    found = [compass.direction(*room.levelled(frame, move)) for move in moves]
    margin = min(margin, by_angle(min(edge for _, edge in found)))
    if len({name for name, _ in found}) > 1:
        return refuse(Reason.NOT_UNIQUE_IN_IMAGE, margin)
    return Answer(Reason.OK, found[0][0], margin)


def position_cam_cam(room: Room, asked: Asked) -> Answer:
    reason = missing(room, asked.frames, posed=True)
    if reason:
        return refuse(reason)
    reference, target = asked.frames
    if reference == target:
        return refuse(Reason.SAME_IMAGE)
    return bearing(room, reference, [room.camera(target) - room.camera(reference)])


def position_cam_obj(room: Room, asked: Asked) -> Answer:
    frame = asked.frames[0]
    reason = missing(room, (frame,), posed=True)
    if reason:
        return refuse(reason)
    found = one_each_in(room, frame, asked)
    if isinstance(found, Reason):
        return refuse(found)
    sight = by_sight(room, (frame,), asked.labels, asked.min_visibility)
    return clear_of(bearing(room, frame, [room.place(frame, found[0]) - room.camera(frame)]), sight)


def position_cam_reg(room: Room, asked: Asked) -> Answer:
    frame = asked.frames[0]
    reason = missing(room, (frame,), posed=True)
    if reason:
        return refuse(reason)
    shown = [room.shown(frame, label, asked.min_visibility) for label in asked.labels]
    place = next((place for place, own in enumerate(shown) if own), None)
    if place is None:
        return refuse(Reason.NOT_VISIBLE)
    sight = by_sight(room, (frame,), asked.labels[: place + 1], asked.min_visibility)
    moves = [room.center[i] - room.camera(frame) for i in shown[place]]
    return clear_of(bearing(room, frame, moves), sight)


def elevation_cam_cam(room: Room, asked: Asked) -> Answer:
    reason = missing(room, asked.frames, posed=True)
    if reason:
        return refuse(reason)
    reference, target = asked.frames
    if reference == target:
        return refuse(Reason.SAME_IMAGE)
    rise = float(room.camera(target)[2] - room.camera(reference)[2])
    margin = by_share(abs(rise), 0.15)
    if abs(rise) <= 0.15:
        return refuse(Reason.SAME_LEVEL, margin)
    return Answer(Reason.OK, "higher" if rise > 0 else "lower", margin)


def motion_camera(room: Room, asked: Asked) -> Answer:
    reason = missing(room, asked.frames, posed=True)
    if reason:
        return refuse(reason)
    first, second = asked.frames
    if first == second:
        return refuse(Reason.SAME_IMAGE)
    if min(room.steepness(first), room.steepness(second)) < 0.1:
        return refuse(Reason.LOOKING_VERTICAL)
    turn = math.degrees(room.heading[second] - room.heading[first])
    steep = min(abs(room.steepness(frame) - 0.1) for frame in asked.frames)
    margin = min(by_angle(abs(turn) - 8.0), by_angle(abs(turn) - 180.0), by_angle(steep))
    if abs(turn) >= 8.0:
        return Answer(Reason.OK, "left" if turn > 0 else "right", margin)
    move = room.camera(second) - room.camera(first)
    length = float(np.linalg.norm(move))
    margin = min(margin, by_share(length, 0.02))
    if length < 0.02:
        return refuse(Reason.NO_MOTION, margin)
    margin = min(margin, by_angle(room.steepness(first) - 15.0))
    if room.steepness(first) < 15.0:
        return refuse(Reason.LOOKING_VERTICAL, margin)
    ahead, right = room.levelled(first, move)
    parts = [
        (abs(right), 0, "right" if right > 0 else "left"),
        (abs(ahead), 1, "front" if ahead > 0 else "back"),
        (abs(float(move[2])), 2, "up" if move[2] > 0 else "down"),
    ]
    (main, _, _), (next_, _, _), (least, _, _) = ranked = sorted(parts, key=lambda p: -p[0])
    margin = min(margin, by_share(next_ / main, 0.35))
    named = ranked[:1]
    if next_ / main >= 0.35 and next_ / length >= 0.25:
        named = sorted(ranked[:2], key=lambda p: p[1])
        margin = min(margin, (next_ - least) / (SHARE_CLEAR * length))
    return Answer(Reason.OK, "-".join(name for _, _, name in named), margin)


def visibility_compare(room: Room, asked: Asked) -> Answer:
    reason = missing(room, asked.frames, posed=False)
    if reason:
        return refuse(reason)
    if asked.frames[0] == asked.frames[1]:
        return refuse(Reason.SAME_IMAGE)
    shown = [room.shown(frame, asked.labels[0], asked.min_visibility) for frame in asked.frames]
    if any(len(own) > 1 for own in shown):
        return refuse(Reason.NOT_UNIQUE_IN_IMAGE)
    if not any(shown):
        return refuse(Reason.NOT_VISIBLE)
    least = asked.min_visibility
    sight = min(by_sight(room, (frame,), asked.labels, least) for frame in asked.frames)
    if not all(shown):
        return Answer(Reason.OK, "image1" if shown[0] else "image2", sight)
    scores = []
    for frame, (index,) in zip(asked.frames, shown, strict=True):
        x1, y1, x2, y2 = room.bbox[frame, index]
        width, height = room.image_size[frame]
        area = max(0.0, x2 - x1) * max(0.0, y2 - y1) / (width * height)
        score = 0.75 * room.visibility[frame, index] + 0.25 * min(1.0, area)
        hidden, cut = room.occluded[frame, index], room.truncated[frame, index]
        scores.append(score - 0.03 * bool(hidden) - 0.02 * bool(cut))
    lead = scores[0] - scores[1]
    margin = min(by_share(abs(lead), 0.05), sight)
    if abs(lead) <= 0.05:
        return Answer(Reason.OK, "same", margin)
    return Answer(Reason.OK, "image1" if lead > 0 else "image2", margin)


def attribute_measurement(room: Room, asked: Asked) -> Answer:
    reason = missing(room, asked.frames, posed=False)
    if reason:
        return refuse(reason)
    if asked.frames[0] == asked.frames[1]:
        return refuse(Reason.SAME_IMAGE)
    if asked.labels[0] == asked.labels[1]:
        return refuse(Reason.SAME_LABEL)
    found, sights = [], []
    for label, bound in zip(asked.labels, asked.label_frames, strict=True):
        frames = [frame for frame in asked.frames if bound in (-1, frame)]
        found.append(
            {i for frame in frames for i in room.shown(frame, label, asked.min_visibility)}
        )
        sights.append(by_sight(room, frames, (label,), asked.min_visibility))
    if not all(found):
        return refuse(Reason.NOT_VISIBLE)
    if any(len(own) > 1 for own in found):
        return refuse(Reason.NOT_UNIQUE_IN_IMAGE)
    first, second = (float(max(room.extent[i])) for own in found for i in own)
    share = abs(first - second) / max(first, second)
    margin = min(by_share(share, 0.05), *sights)
    if share <= 0.05:
        return refuse(Reason.SAME_SIZE, margin)
    return Answer(Reason.OK, float(asked.labels[0 if first > second else 1]), margin)


TWINS: dict[str, Callable[[Room, Asked], Answer]] = {
    twin.__name__: twin
    for twin in (
        object_counting,
        absolute_distance,
        relative_distance,
        relative_direction_hard,
        single_image_relative_direction,
        distance_cam_obj,
        depth_order_obj_obj,
        position_cam_cam,
        elevation_cam_cam,
        motion_camera,
        visibility_compare,
        object_size,
        room_size,
        position_cam_obj,
        position_cam_reg,
        attribute_measurement,
    )
}
