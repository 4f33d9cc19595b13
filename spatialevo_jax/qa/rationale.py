"""A chain of geometry for each answer, put together from its evidence: measured, then compared,
then named. Every number in it is one that decided.

For the `corrected` convention, whose evidence these sentences explain.
"""

import math
from collections.abc import Sequence

import numpy as np

from geometry_jax.tasks.depth_order_obj_obj import SAME_DEPTH
from geometry_jax.tasks.elevation_cam_cam import SAME_LEVEL
from geometry_jax.tasks.motion_camera import TURN
from geometry_jax.tasks.visibility_compare import SAME_SCORE
from spatialevo_jax.environment.labels import spoken
from spatialevo_jax.environment.respond import Reply, Request


def rationale(request: Request, reply: Reply) -> str:
    """Sentences that lead to the reply's answer.

    Raises:
        ValueError: the reply has no answer, or no evidence.
    """
    if not reply.valid or reply.evidence is None:
        raise ValueError(f"{reply.question!r}: expected an answer with evidence.")
    numbers = [n for n in np.asarray(reply.evidence.numbers).tolist() if math.isfinite(n)]
    points = [p for p in np.asarray(reply.evidence.points).tolist() if all(map(math.isfinite, p))]
    names = [f"the {spoken(label)}" for label in reply.slots.labels]
    return f"{_measured(request, reply, numbers, points, names)} So the answer is {reply.answer}."


def _measured(
    request: Request,
    reply: Reply,
    numbers: Sequence[float],
    points: Sequence[Sequence[float]],
    names: Sequence[str],
) -> str:
    task = reply.task
    match task:
        case "object_counting":
            places = _instances(request, reply.slots.labels[0])
            return f"There is one at each of {places}: {round(numbers[0])} in all."
        case "absolute_distance":
            return (
                f"Where {names[0]} and {names[1]} are closest, their surfaces are at "
                f"{_place(points[0])} and {_place(points[1])}, {numbers[0]:.2f} m apart."
            )
        case "distance_cam_obj":
            return (
                f"The camera stands at {_place(points[0])}; the point of {names[0]} that is "
                f"closest to it is {_place(points[1])}, {numbers[0]:.2f} m away."
            )
        case "relative_distance":
            told = _apart(numbers)
            pairs = zip(names[1:], told, strict=True)
            lengths = [f"{length} m from {name}" for name, length in pairs]
            return (
                f"Measured between closest points, {names[0]} is {_listed(lengths)}. "
                f"The shortest of these is {told[int(np.argmin(numbers))]} m."
            )
        case "relative_direction_hard":
            level = reply.slots.difficulty or request.difficulty
            return (
                f"From {names[0]}, {names[1]} is {numbers[1]:.2f} m and {names[2]} "
                f"{numbers[2]:.2f} m away along the floor. Facing {names[1]}, {names[2]} lies "
                f"{_turn(numbers[0])}. {_sector(level)}"
            )
        case "single_image_relative_direction":
            ahead, right, rise = numbers[:3]
            height = _way(rise, "higher", "lower")
            return (
                f"With the camera level, {names[1]} is {_along(ahead, right)} of {names[0]}, and "
                f"{height}: {_steepness(ahead, right, rise)}"
            )
        case "depth_order_obj_obj":
            one, other, difference = _compared(numbers[0], numbers[1], SAME_DEPTH)
            return (
                f"Along the camera's axis {names[0]} is {one} m and {names[1]} {other} m deep, a "
                f"difference of {difference} m, where up to {SAME_DEPTH} m count as the same."
            )
        case "position_cam_cam" | "position_cam_obj" | "position_cam_reg":
            what = "the other camera" if task == "position_cam_cam" else names[0]
            ahead, right = numbers[:2]
            return (
                f"With the camera of Image {reply.slots.images[0]} level, {what} is "
                f"{_along(ahead, right)}, {_turn(math.atan2(-right, ahead))} of its heading. "
                f"{_sector('')}"
            )
        case "elevation_cam_cam":
            reference, target = reply.slots.images
            one, other, difference = _compared(points[0][2], points[1][2], SAME_LEVEL)
            return (
                f"The camera of Image {reference} is {one} m high, that of Image {target} {other} "
                f"m: {difference} m {'higher' if numbers[0] > 0 else 'lower'}."
            )
        case "motion_camera":
            turn, right, ahead, rise = numbers[:4]
            # Along the path, which may be more than half a turn.
            first, second = reply.slots.images or (1, 2)
            turned = f"From Image {first} to Image {second} the camera turns {_degrees(turn)}"
            if abs(turn) >= TURN:
                return f"{turned}, which is a turn: at least 8 degrees."
            ways = [_way(right, "right", "left"), _way(ahead, "forward", "back")]
            ways.append(_way(rise, "up", "down"))
            return (
                f"{turned}, less than 8 degrees. It moves {_listed(ways)}. The longest of these is "
                "named, and the second if it is at least 0.35 of the longest and 0.25 of the whole."
            )
        case "visibility_compare":
            if not all(numbers):
                shown, other = (1, 2) if numbers[0] else (2, 1)
                return f"Image {shown} shows {names[0]}, Image {other} does not."
            one, other, difference = _compared(numbers[0], numbers[1], SAME_SCORE)
            return (
                f"By the share of {names[0]} that is seen and its size in the picture, Image 1 "
                f"scores {one} and Image 2 {other}, a difference of {difference}, where up to "
                f"{SAME_SCORE} counts as the same."
            )
        case "object_size":
            sides = sorted(_sides(request, reply, 0), reverse=True)
            return (
                f"The box around {names[0]} measures {' by '.join(f'{s:.1f}' for s in sides)} cm; "
                f"its longest side is {100 * numbers[0]:.2f} cm."
            )
        case "room_size":
            return f"The outline of the floor has an area of {numbers[0]:.2f} square meters."
        case "attribute_measurement":
            one, other = _apart([100 * number for number in numbers[:2]], least=1)
            return f"The longest side of {names[0]} is {one} cm, that of {names[1]} {other} cm."
    raise ValueError(f"task: expected one that has a rationale, got {task!r}.")


def _apart(numbers: Sequence[float], least: int = 2) -> list[str]:
    """Numbers with as many decimals as it takes to tell which is larger, `least` or more."""
    for decimals in range(least, 7):
        told = [f"{number:.{decimals}f}" for number in numbers]
        if len(set(told)) == len(set(numbers)):
            return told
    return [repr(number) for number in numbers]


def _compared(one: float, other: float, limit: float) -> tuple[str, str, str]:
    """Two numbers and their difference, with as many decimals, two or more, as it takes for what is
    written to add up and to lie on the right side of a limit.
    """
    for decimals in range(2, 7):
        a, b = round(one, decimals), round(other, decimals)
        difference = round(abs(a - b), decimals)
        if difference != limit and (difference > limit) == (abs(one - other) > limit):
            return f"{a:.{decimals}f}", f"{b:.{decimals}f}", f"{difference:.{decimals}f}"
    return repr(one), repr(other), repr(abs(one - other))


def _place(point: Sequence[float]) -> str:
    """A point of the world, metres."""
    return f"({', '.join(f'{x:.2f}' for x in point)})"


def _listed(parts: Sequence[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]


def _instances(request: Request, label: str) -> str:
    scene = request.record.scene
    index = request.record.labels.index(label)
    own = np.flatnonzero((np.asarray(scene.label) == index) & np.asarray(scene.object_valid))
    return _listed([_place(np.asarray(scene.obb_center)[i].tolist()) for i in own])


def _sides(request: Request, reply: Reply, role: int) -> list[float]:
    """Full sides of a deciding object's box, centimetres."""
    if reply.evidence is None:
        return []
    index = int(reply.evidence.objects[role])
    return [100.0 * side for side in np.asarray(request.record.scene.obb_extent[index]).tolist()]


def _turn(radians: float) -> str:
    """An angle counter-clockwise from straight ahead, in words."""
    return _degrees(math.remainder(radians, math.tau))


def _degrees(radians: float) -> str:
    """An angle counter-clockwise, in words."""
    return f"{abs(math.degrees(radians)):.1f} degrees to the {'left' if radians > 0 else 'right'}"


def _way(metres: float, there: str, back: str) -> str:
    return f"{abs(metres):.2f} m {there if metres > 0 else back}"


def _along(ahead: float, right: float) -> str:
    return (
        f"{abs(ahead):.2f} m {'ahead' if ahead >= 0 else 'back'} and "
        f"{abs(right):.2f} m to the {'right' if right >= 0 else 'left'}"
    )


def _steepness(ahead: float, right: float, rise: float) -> str:
    flat = math.hypot(ahead, right)
    if abs(rise) > 0.5 * flat:
        return (
            f"more than half of the {flat:.2f} m along the floor, so height comes first, and then "
            "the longer of the two ways along the floor."
        )
    bearing = _turn(math.atan2(-right, ahead))
    return f"at most half of the {flat:.2f} m along the floor, and {bearing}. {_sector('')}"


def _sector(level: str) -> str:
    """Which angles an answer spans."""
    if level == "easy":
        return "Left and right are the two sides of that line."
    if level == "medium":
        return "From 135 degrees on it is back, before that the side."
    if level == "hard":
        return "The quadrants part at 90 degrees."
    return "Eight directions part the circle, 45 degrees each, the first centred straight ahead."
