"""The floor of a room: its outline as a polygon, and its area. World: metres, z up.

The outline is taken from above: everything that faces up (the floor, and furniture that stands on
it and hides it) is drawn into a grid, holes and slits are closed, and the edge of one piece becomes
a polygon whose sides are lines fitted to the edge. It is the largest piece over which a camera
stood: what is seen through a window or in a mirror may be larger than the room.
"""

from typing import NamedTuple

import contourpy
import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from data_pipelines.scan import Mesh
from data_pipelines.world import face_normals, weighted_quantile

FINEST, CELLS = 0.01, 1000  # metres of a cell at least; cells along the longer side at most
FLOOR_BAND = 0.12  # metres about the floor's height that are floor
SUNKEN = 0.6  # metres below the floor's height, three steps, down to which the floor may go
FACES_UP = 0.8  # |z| of a unit normal that faces up rather than sideways
TOP = 0.99  # share of the surface up to which the room goes: above are lamps and stray points
HEADROOM = 0.3  # metres below the top that belong to the ceiling
LONGEST = 30.0  # metres; a longer edge leads to a stray vertex
SLIT = 0.06  # metres; gaps up to twice as wide are closed
SPECK = 0.04  # metres; whiskers up to twice as wide are cut off
APART = 0.5  # metres, well above twice SLIT: what lies so far apart is never one piece
SHRUNK = 0.9  # of the grid's side: a piece that is smaller is drawn again, on a finer grid
SIMPLE = 0.06  # metres; the outline's detail below this is noise
SHORT = 0.12  # metres; a shorter piece between two sides is a rounded corner
MEETING = 0.3  # sine of the least angle at which two sides meet in a corner
SNAP = np.deg2rad(3.0)  # a side this near to x or y follows it: walls are at right angles
FAR = 0.3  # metres that fitting may move a corner by
MOST_CELLS = 2**28  # from the world's origin: farther is as far
BATCH = 2**20  # columns of triangles that are looked at at once, about
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
    """Around a rectangle, with a margin in which slits are closed."""
    cell = max(FINEST, float((high - low).max()) / CELLS)
    margin = int(np.ceil(2 * SLIT / cell)) + 2
    shape = np.ceil((high - low) / cell).astype(int) + 2 * margin
    return Grid(low - margin * cell, cell, (int(shape[0]), int(shape[1])))


def _cells(points: np.ndarray, grid: Grid) -> np.ndarray:
    """(c, 2) the cells of those of (k, 2) points that are on the grid."""
    at = np.floor((points - grid.origin) / grid.cell).astype(int)
    return at[((at >= 0) & (at < grid.shape)).all(1)]


def rasterise(triangles: np.ndarray, grid: Grid) -> np.ndarray:
    """Cells whose middle lies in one of the (t, 3, 2) triangles, as a (X, Y) bool mask; of points,
    (t, 1, 2), the cells that hold one.
    """
    mask = np.zeros(grid.shape, bool)
    if triangles.shape[1] == 1:
        mask[tuple(_cells(triangles[:, 0], grid).T)] = True
        return mask
    corners = (triangles - grid.origin) / grid.cell - 0.5  # a cell's middle is a whole number
    along = corners[:, 1:] - corners[:, :1]
    corners = corners[along[:, 0, 0] * along[:, 1, 1] != along[:, 0, 1] * along[:, 1, 0]]
    if not len(corners):
        return mask
    first = np.maximum(np.ceil(corners[..., 0].min(1) - EDGE).astype(int), 0)
    last = np.minimum(np.floor(corners[..., 0].max(1) + EDGE).astype(int), grid.shape[0] - 1)
    columns = np.maximum(last - first + 1, 0)
    total = np.cumsum(columns)
    start = total - columns
    # In a column, the cells of one x, a triangle begins and ends where its edges cross the column's
    # middle; cells where more have begun than ended are covered.
    more = np.zeros((grid.shape[0], grid.shape[1] + 1), np.int32)
    cuts = np.searchsorted(total, np.arange(BATCH, total[-1], BATCH))
    for rows in np.split(np.arange(len(corners)), cuts):
        owner = np.repeat(rows, columns[rows])
        u = first[owner] + start[rows[0]] + np.arange(len(owner)) - start[owner]
        low, high = np.full(len(u), np.inf), np.full(len(u), -np.inf)
        for edge in range(3):
            (u0, v0), (u1, v1) = corners[owner, edge].T, corners[owner, edge - 1].T
            crosses = (np.minimum(u0, u1) - EDGE <= u) & (u <= np.maximum(u0, u1) + EDGE)
            crosses &= u0 != u1
            share = np.clip((u - u0) / np.where(u0 == u1, 1.0, u1 - u0), 0.0, 1.0)
            v = v0 + share * (v1 - v0)
            low = np.minimum(low, v, out=low, where=crosses)
            high = np.maximum(high, v, out=high, where=crosses)
        begin = np.maximum(np.ceil(low - EDGE), 0).astype(int)
        end = np.minimum(np.floor(high + EDGE), grid.shape[1] - 1).astype(int) + 1
        some = begin < end
        np.add.at(more, (u[some], begin[some]), 1)
        np.add.at(more, (u[some], end[some]), -1)
    return np.cumsum(more, axis=1)[:, :-1] > 0


def _closed(mask: np.ndarray, side: int) -> np.ndarray:
    """Morphological closing by a square of `side` cells: walls meet at right angles."""
    return ndimage.minimum_filter(ndimage.maximum_filter(mask, side), side) | mask


def _opened(mask: np.ndarray, side: int) -> np.ndarray:
    return ndimage.maximum_filter(ndimage.minimum_filter(mask, side), side) & mask


class Piece(NamedTuple):
    """Part of a mask whose cells touch at their sides, without holes."""

    under_camera: bool
    area: float  # square metres
    mask: np.ndarray  # (X, Y) bool
    grid: Grid


def _best_piece(triangles: np.ndarray, eyes: np.ndarray, grid: Grid) -> Piece:
    """The largest piece that has one of the (E, 2) `eyes` over it; the largest where none has."""
    closed = _closed(rasterise(triangles, grid), 2 * round(SLIT / grid.cell) + 1)
    opened = _opened(closed, 2 * round(SPECK / grid.cell) + 1)
    pieces = np.empty(grid.shape, np.int32)
    ndimage.label(ndimage.binary_fill_holes(opened), output=pieces)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0  # what no piece covers
    below = np.unique(pieces[tuple(_cells(eyes, grid).T)])
    below = below[below > 0]
    best = int(below[np.argmax(sizes[below])] if len(below) else np.argmax(sizes))
    return Piece(len(below) > 0, float(sizes[best]) * grid.cell**2, pieces == best, grid)


def _piece(triangles: np.ndarray, eyes: np.ndarray) -> Piece:
    """As `_best_piece`, on a grid that is as fine as the piece allows: whiskers to stray vertices
    make the first one coarse.
    """
    low, high = triangles.min((0, 1)), triangles.max((0, 1))
    while True:
        piece = _best_piece(triangles, eyes, _grid(low, high))
        if piece.grid.cell == FINEST or not piece.area:
            return piece
        rows, columns = np.nonzero(piece.mask)
        first, last = np.array([rows.min(), columns.min()]), np.array([rows.max(), columns.max()])
        least = np.maximum(low, piece.grid.origin + (first - 1) * piece.grid.cell)
        most = np.minimum(high, piece.grid.origin + (last + 2) * piece.grid.cell)
        if (most - least).max() > SHRUNK * (high - low).max():
            return piece
        low, high = least, most
        touch = (triangles.max(1) >= low).all(1) & (triangles.min(1) <= high).all(1)
        triangles = triangles[touch]


class _Group(NamedTuple):
    """Triangles that are apart from all others, and what the pieces in it may at most be."""

    under_camera: bool
    area: float  # square metres
    rows: np.ndarray  # of the triangles


def _groups(triangles: np.ndarray, eyes: np.ndarray) -> list[_Group]:
    """The best first; every piece of a mask lies in one of them."""
    low, high = triangles.min(1), triangles.max(1)
    apart = max(APART, float(np.median(high - low)))  # coarse triangles have few cells too
    low, high = (
        np.clip(np.floor(side / apart), -MOST_CELLS, MOST_CELLS).astype(np.int64)
        for side in (low, high)
    )
    span = high - low + 1
    count = span.prod(1)
    start = np.cumsum(count) - count
    # The square cells, `apart` wide, that each triangle's box meets.
    owner = np.repeat(np.arange(len(triangles)), count)
    column, row = np.divmod(np.arange(len(owner)) - start[owner], span[owner, 1])
    codes = (low[owner, 0] + column) * 4 * MOST_CELLS + low[owner, 1] + row
    codes, cell = np.unique(codes, return_inverse=True)
    cells = np.stack(np.divmod(codes + 2 * MOST_CELLS, 4 * MOST_CELLS), 1)
    # A triangle joins its cells; and cells that touch are joined.
    joints = np.stack([cell, cell[start][owner]], 1)
    joints = np.concatenate([joints, KDTree(cells).query_pairs(1.5, output_type="ndarray")])
    ones = np.ones(len(joints), bool)
    graph = coo_array((ones, (joints[:, 0], joints[:, 1])), (len(cells), len(cells)))
    group = connected_components(graph, directed=False)[1][cell[start]]  # of each triangle
    order = np.argsort(group, kind="stable")
    groups = []
    for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        least, most = triangles[rows].min((0, 1)), triangles[rows].max((0, 1))
        above = bool(((eyes >= least) & (eyes <= most)).all(1).any())
        # A piece does not leave the box of its triangles, but for the cells at its edge.
        groups.append(_Group(above, float((most - least + SLIT).prod()), rows))
    return sorted(groups, key=lambda group: group[:2], reverse=True)


def _room(triangles: np.ndarray, eyes: np.ndarray) -> Piece:
    """The best piece of all. Each group has a grid of its own, so that what lies far away neither
    makes the grid coarse nor costs anything.
    """
    groups = _groups(triangles, eyes)
    best = _piece(triangles[groups[0].rows], eyes)
    for group in groups[1:]:
        if best[:2] >= group[:2]:
            break
        best = max(best, _piece(triangles[group.rows], eyes), key=lambda piece: piece[:2])
    return best


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
    offset = weighted_quantile((piece[1:] + piece[:-1]) @ normal / 2, steps)
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
    eyes: np.ndarray,
    on_floor: np.ndarray | None = None,
    furniture: np.ndarray | None = None,
) -> Floor | None:
    """The room's floor; None where nothing faces up.

    Args:
        mesh: in the world.
        height: of the floor, metres.
        eyes: (E, 3) where the cameras were, in the world; the room is where they were.
        on_floor: (V,) bool, vertices annotated as floor. Without it, what faces up near `height`.
        furniture: (V,) bool, vertices of things that may hide the floor. Without it, what faces up
            between the floor and the ceiling.
    """
    if not len(mesh.points):
        return None
    plan, heights = mesh.points[:, :2].astype(np.float64), mesh.points[:, 2]
    # A mesh without faces is one of points that all face up.
    corners = mesh.faces if len(mesh.faces) else np.arange(len(mesh.points))[:, None]
    middle, weights = heights[corners].mean(1), np.ones(len(corners))
    up = np.ones(len(corners), bool)
    if len(mesh.faces):
        normals, weights = face_normals(mesh)
        sides = plan[corners] - plan[np.roll(corners, -1, 1)]
        whole = (np.linalg.norm(sides, axis=2) <= LONGEST).all(1)
        weights = weights * whole
        up = (np.abs(normals[:, 2]) > FACES_UP) & whole
    if not weights.sum() > 0:
        return None
    ceiling = weighted_quantile(middle, weights, TOP) - HEADROOM
    is_floor = up & (np.abs(middle - height) < FLOOR_BAND)
    if on_floor is not None:
        is_floor = on_floor[corners].all(1) & (weights > 0)
    hides = up & (middle > height - SUNKEN) & (middle < ceiling)
    if furniture is not None:
        hides &= furniture[corners].any(1)
    triangles = plan[corners[is_floor | hides]]
    if not len(triangles):
        return None
    piece = _room(triangles, eyes[:, :2])
    if not piece.area:
        return None
    polygon = outline(piece.mask, piece.grid)
    return Floor(polygon, polygon_area(polygon))
