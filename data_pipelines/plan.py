"""Floor plans: a rectangle, or an L, which is a rectangle without one of its corners.

World: metres, z up, the origin in a corner of the bounding rectangle.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Plan:
    size: np.ndarray  # (3,) sides of the bounding box, metres
    cut: np.ndarray | None = None  # (4,) x and y minima and maxima of the corner that is missing

    @property
    def area(self) -> float:
        """Square metres of floor."""
        whole = float(self.size[0] * self.size[1])
        return whole if self.cut is None else whole - float(np.prod(self.cut[2:] - self.cut[:2]))

    def polygon(self) -> np.ndarray:
        """(n, 2) corners of the floor, counter-clockwise, beginning at the lower left."""
        x, y = self.size[:2]
        corners = [np.array(corner) for corner in ((0, 0), (x, 0), (x, y), (0, y))]
        if self.cut is None:
            return np.stack(corners)
        low, high = self.cut[:2], self.cut[2:]
        inner = np.where(low > 0, low, high)  # the corner of the cut that juts into the room
        outline = []
        for index, corner in enumerate(corners):
            if ((low <= corner) & (corner <= high)).all():
                # Where the corner was, the outline turns in and out again. It arrives at the even
                # corners along y, at the odd ones along x.
                steps = [np.array([corner[0], inner[1]]), np.array([inner[0], corner[1]])]
                first, last = steps if index % 2 == 0 else steps[::-1]
                outline += [first, inner, last]
            else:
                outline.append(corner)
        return np.stack(outline)

    def walls(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Start (2,) and run (2,) of every wall; the room is on its left."""
        polygon = self.polygon()
        return tuple(zip(polygon, np.roll(polygon, -1, 0) - polygon, strict=True))

    def wall_color(self, start: np.ndarray, run: np.ndarray) -> int:
        """Which of the four colours (x = 0, x = size, y = 0, y = size) a wall has; the walls of the
        cut have the first.
        """
        across = 0 if run[0] == 0 else 1  # the axis that the wall stands on
        for upper in (False, True):
            if start[across] == self.size[across] * upper:
                return 2 * across + upper
        return 0

    def floors(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Minimum and maximum corner, (2,) each, of rectangles that together are the floor."""
        if self.cut is None:
            return ((np.zeros(2), self.size[:2]),)
        low, high = self.cut[:2], self.cut[2:]
        # Left and right of the cut's inner edge: one strip has the full width, one what is left.
        full = (high[0], self.size[0]) if low[0] == 0 else (0.0, low[0])
        rest = (low[0], high[0])
        short = (high[1], self.size[1]) if low[1] == 0 else (0.0, low[1])
        return (
            (np.array([full[0], 0.0]), np.array([full[1], self.size[1]])),
            (np.array([rest[0], short[0]]), np.array([rest[1], short[1]])),
        )
