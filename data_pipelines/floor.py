"""The floor of a room: its outline as a polygon, and its area. World: metres, z up.

The outline is taken from above: everything that faces up (the floor, and furniture that stands on
it and hides it) is drawn into a grid, holes and slits are closed, and the edge of the largest piece
becomes a polygon whose sides are lines fitted to the edge.
"""

from typing import NamedTuple

import contourpy
import numpy as np
from scipy import ndimage

from data_pipelines.scan import Mesh
from data_pipelines.world import face_normals, weighted_median

FINEST, CELLS = 0.01, 1000  # metres of a cell at least; cells along the longer side at most
FLOOR_BAND = 0.12  # metres about the floor's height that are floor
FACES_UP = 0.8  # |z| of a unit normal that faces up rather than sideways
HEADROOM = 0.3  # metres below the highest point that belong to the ceiling
SLIT = 0.06  # metres; gaps up to twice as wide are closed
SPECK = 0.04  # metres; whiskers up to twice as wide are cut off
SIMPLE = 0.06  # metres; the outline's detail below this is noise
SHORT = 0.12  # metres; a shorter piece between two sides is a rounded corner
MEETING = 0.3  # sine of the least angle at which two sides meet in a corner
SNAP = np.deg2rad(3.0)  # a side this near to x or y follows it: walls are at right angles
FAR = 0.3  # metres that fitting may move a corner by
BATCH = 2**20  # cells of triangles' windows that are tested at once
EDGE = 1e-9  # a cell's middle on an edge is inside


class Floor(NamedTuple):
    polygon: np.ndarray  # (n, 2) corners counter-clockwise, world metres
    area: float  # square metres, of the polygon


class Grid(NamedTuple):
    origin: np.ndarray  # (2,) metres, outer corner of the first cell
    cell: float  # metres
    shape: tuple[int, int]  # cells along x and y


def polygon_area(corners: np.ndarray) -> float:
    """(n, 2) -> signed area, positive where the corners go counter-clockwise."""
    x, y = corners.T
    return float(0.5 * np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def _grid(low: np.ndarray, high: np.ndarray) -> Grid:
    cell = max(FINEST, float((high - low).max()) / CELLS)
    margin = int(np.ceil(2 * SLIT / cell)) + 2
    shape = np.ceil((high - low) / cell).astype(int) + 2 * margin
    return Grid(low - margin * cell, cell, (int(shape[0]), int(shape[1])))


def rasterise(triangles: np.ndarray, grid: Grid) -> np.ndarray:
    """Cells whose middle lies in one of the (t, 3, 2) triangles, as a (X, Y) bool mask."""
    mask = np.zeros(grid.shape, bool)
    corners = (triangles - grid.origin) / grid.cell - 0.5  # a cell's middle is a whole number
    low = np.maximum(np.ceil(corners.min(1)).astype(int), 0)
    high = np.minimum(np.floor(corners.max(1)).astype(int), np.array(grid.shape) - 1)
    span = high - low + 1
    # A point is inside where all three edge functions have the sign of the area (Pineda 1988); the
    # edge from a to b is (slope . point) + shift.
    along = np.roll(corners, -1, 1) - corners
    slope = np.stack([-along[..., 1], along[..., 0]], -1)  # (t, 3, 2)
    shift = -(slope * corners).sum(-1)
    area = slope[:, 0, 0] * along[:, 2, 0] + slope[:, 0, 1] * along[:, 2, 1]
    slope, shift = slope * -np.sign(area)[:, None, None], shift * -np.sign(area)[:, None]
    # Triangles of one size class share a window, so that a class is one array operation.
    power = np.ceil(np.log2(np.maximum(span.max(1), 1))).astype(int)
    power[(span <= 0).any(1) | (area == 0)] = -1
    for exponent in np.unique(power[power >= 0]):
        window = np.arange(2**exponent)
        chosen = np.flatnonzero(power == exponent)
        batch = max(1, BATCH // len(window) ** 2)
        for start in range(0, len(chosen), batch):
            rows = chosen[start : start + batch]
            u, v = low[rows, 0, None] + window, low[rows, 1, None] + window  # (b, w)
            inside = ((u < grid.shape[0])[:, :, None]) & ((v < grid.shape[1])[:, None, :])
            for edge in range(3):
                du = slope[rows, edge, 0, None] * u + shift[rows, edge, None]
                dv = slope[rows, edge, 1, None] * v
                inside &= du[:, :, None] + dv[:, None, :] >= -EDGE
            which, i, j = np.nonzero(inside)
            mask[u[which, i], v[which, j]] = True
    return mask


def _closed(mask: np.ndarray, side: int) -> np.ndarray:
    """Morphological closing by a square of `side` cells: walls meet at right angles."""
    return ndimage.minimum_filter(ndimage.maximum_filter(mask, side), side) | mask


def _opened(mask: np.ndarray, side: int) -> np.ndarray:
    return ndimage.maximum_filter(ndimage.minimum_filter(mask, side), side) & mask


def _largest(mask: np.ndarray) -> np.ndarray:
    """The greatest of its pieces whose cells touch at their sides."""
    pieces = np.empty(mask.shape, np.int32)
    ndimage.label(mask, output=pieces)
    sizes = np.bincount(pieces.ravel(), minlength=2)[1:]  # 0 is what no piece covers
    return pieces == 1 + int(np.argmax(sizes))


def _simplified(line: np.ndarray, tolerance: float) -> np.ndarray:
    """Rows of a closed (n, 2) line that are its corners (Douglas and Peucker 1973)."""
    first = int(np.argmax(((line - line.mean(0)) ** 2).sum(1)))
    second = int(np.argmax(((line - line[first]) ** 2).sum(1)))
    rows = {first, second}
    stack = [(first, second), (second, first + len(line))]
    while stack:
        start, end = stack.pop()
        between = np.arange(start + 1, end)
        if not len(between):
            continue
        a, along = line[start % len(line)], line[end % len(line)] - line[start % len(line)]
        offset = line[between % len(line)] - a
        length = np.linalg.norm(along)
        distance = (
            np.abs(along[0] * offset[:, 1] - along[1] * offset[:, 0]) / length
            if length > 0
            else np.linalg.norm(offset, axis=1)
        )
        worst = int(np.argmax(distance))
        if distance[worst] > tolerance:
            middle = int(between[worst])
            rows.add(middle % len(line))
            stack += [(start, middle), (middle, end)]
    return np.array(sorted(rows))


class _Side(NamedTuple):
    """A line through a piece of the outline: points p with p . normal = offset."""

    normal: np.ndarray  # (2,)
    offset: float  # metres
    start: np.ndarray  # (2,) first and last point of the piece
    end: np.ndarray


def _side(piece: np.ndarray) -> _Side:
    """The line's direction is that of the piece's ends, or the axis near it; its place is the
    median of the piece, so that notches and bumps along a wall do not move it.
    """
    along = piece[-1] - piece[0]
    angle = np.arctan2(along[1], along[0])
    nearest = np.round(angle / (np.pi / 2)) * np.pi / 2
    angle = nearest if abs(angle - nearest) < SNAP else angle
    normal = np.array([-np.sin(angle), np.cos(angle)])
    # Slanted stretches have more points: each counts by its length.
    steps = np.linalg.norm(np.diff(piece, axis=0), axis=1)
    offset = weighted_median((piece[1:] + piece[:-1]) @ normal / 2, steps)
    return _Side(normal, offset, piece[0], piece[-1])


def _turns(a: _Side, b: _Side) -> bool:
    """Whether two lines meet at an angle that says where."""
    return abs(a.normal[0] * b.normal[1] - a.normal[1] * b.normal[0]) > MEETING


def _fitted(line: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(n, 2) corners: where the lines through the pieces of the outline between `rows` meet."""
    pieces = [
        line[np.arange(start, end + (len(line) if end <= start else 0) + 1) % len(line)]
        for start, end in zip(rows, np.roll(rows, -1), strict=True)
    ]
    sides = [_side(piece) for piece in pieces]
    # A short piece between two sides that turn is a rounded corner.
    kept = [
        side
        for index, side in enumerate(sides)
        if np.linalg.norm(side.end - side.start) > SHORT
        or not _turns(sides[index - 1], sides[(index + 1) % len(sides)])
    ]
    corners = []
    for index, side in enumerate(kept):
        before = kept[index - 1]
        if _turns(before, side):
            meet = np.linalg.solve(
                np.stack([before.normal, side.normal]), [before.offset, side.offset]
            )
            if np.linalg.norm(meet - (before.end + side.start) / 2) < FAR:
                corners.append(meet)
                continue
        # They do not meet near here: each is led to its own end.
        for one, at in ((before, before.end), (side, side.start)):
            corners.append(at + one.normal * (one.offset - at @ one.normal))
    return np.array(corners)


def outline(mask: np.ndarray, grid: Grid) -> np.ndarray:
    """(n, 2) polygon around a mask in one piece without holes, counter-clockwise, metres."""
    level = contourpy.contour_generator(z=np.pad(mask, 1).astype(float).T).lines(0.5)
    line = np.asarray(max(level, key=len), np.float64)[:-1]
    line = grid.origin + (line - 0.5) * grid.cell  # 0.5: cell middles, less the padding
    if polygon_area(line) < 0:
        line = line[::-1]
    rows = _simplified(line, max(SIMPLE, 2.5 * grid.cell))
    if len(rows) < 3:
        return line
    fitted = _fitted(line, rows)
    return fitted if polygon_area(fitted) > 0 else line[rows]


def floor_of(
    mesh: Mesh,
    height: float,
    *,
    on_floor: np.ndarray | None = None,
    furniture: np.ndarray | None = None,
) -> Floor | None:
    """The room's floor; None where nothing faces up.

    Args:
        mesh: in the world.
        height: of the floor, metres.
        on_floor: (V,) bool, vertices annotated as floor. Without it, what faces up near `height`.
        furniture: (V,) bool, vertices of things that may hide the floor. Without it, what faces up
            between the floor and the ceiling.
    """
    if not len(mesh.points):
        return None
    plan, heights = mesh.points[:, :2].astype(np.float64), mesh.points[:, 2]
    if len(mesh.faces):
        normals, _ = face_normals(mesh)
        middle = heights[mesh.faces].mean(1)
        up = np.abs(normals[:, 2]) > FACES_UP
        level = up & (np.abs(middle - height) < FLOOR_BAND)
        is_floor = on_floor[mesh.faces].all(1) if on_floor is not None else level
        above = (middle > height) & (middle < heights.max() - HEADROOM) & up
        hides = above & furniture[mesh.faces].any(1) if furniture is not None else above
        triangles = plan[mesh.faces[is_floor | hides]]
        if not len(triangles):
            return None
        grid = _grid(triangles.min((0, 1)), triangles.max((0, 1)))
        mask = rasterise(triangles, grid)
    else:
        low = np.abs(heights - height) < FLOOR_BAND if on_floor is None else on_floor
        below = (heights > height) & (heights < heights.max() - HEADROOM)
        chosen = plan[low | (below if furniture is None else below & furniture)]
        if not len(chosen):
            return None
        grid = _grid(chosen.min(0), chosen.max(0))
        mask = np.zeros(grid.shape, bool)
        at = np.floor((chosen - grid.origin) / grid.cell).astype(int)
        mask[at[:, 0], at[:, 1]] = True
    closed = _closed(mask, 2 * round(SLIT / grid.cell) + 1)
    opened = _opened(closed, 2 * round(SPECK / grid.cell) + 1)
    whole = np.asarray(ndimage.binary_fill_holes(_largest(opened)))
    if not whole.any():
        return None
    corners = outline(whole, grid)
    return Floor(corners, polygon_area(corners))
