"""The eight directions by comparing angles in degrees, one at a time."""

import math

EDGES = (
    (22.5, "right"),
    (67.5, "front-right"),
    (112.5, "front"),
    (157.5, "front-left"),
    (202.5, "left"),
    (247.5, "back-left"),
    (292.5, "back"),
    (337.5, "back-right"),
    (360.0, "right"),
)


def direction(forward: float, rightward: float) -> tuple[str, float]:
    """The name of a displacement, and its distance to the nearest edge in degrees."""
    angle = math.degrees(math.atan2(forward, rightward)) % 360.0
    name = next((name for edge, name in EDGES if angle < edge), "right")
    return name, min(abs(angle - edge) for edge, _ in EDGES[:-1])
