"""Triangle meshes in PLY files."""

from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyElement, PlyElementParseError, PlyParseError

from data_pipelines.scan import Mesh, ScanError

COLORS = ("red", "green", "blue")
LEAST_HELD = 0.5  # share of the vertices of a mesh with faces that are corners of one
# A triangle's list is read a thousand times faster where its length is known.
TRIANGLES = {"face": {"vertex_indices": 3, "vertex_index": 3}}


def read_mesh(path: Path) -> Mesh:
    """Reads points, colours and faces; polygons become triangles, other elements are passed over.

    Raises:
        ScanError: no such file, cut short, without points or colours, with numbers that are no
            points or no colours, with faces of another form, or points with a few faces among them.
    """
    if not path.is_file():
        raise ScanError(f"{path}: expected a mesh, found none.")
    try:
        data = _read(path)
    except (PlyParseError, OSError, ValueError) as error:
        raise ScanError(f"{path}: expected a whole PLY file ({error}).") from error
    if "vertex" not in data or not data["vertex"].count:
        raise ScanError(f"{path}: expected vertices, found none.")
    vertex = data["vertex"].data
    missing = {"x", "y", "z", *COLORS} - set(vertex.dtype.names or ())
    if missing:
        raise ScanError(f"{path}: expected x, y, z, red, green, blue; {sorted(missing)} missing.")
    points = np.stack([vertex[axis] for axis in "xyz"], axis=1).astype(np.float32)
    lost = ~np.isfinite(points).all(1)
    if lost.any():
        raise ScanError(
            f"{path}: expected finite points, but {lost.sum()} of {len(points)} are not, the first "
            f"in row {np.argmax(lost)}."
        )
    faces = _faces(data, path)
    if faces.size and not 0 <= faces.min() <= faces.max() < len(points):
        raise ScanError(
            f"{path}: expected faces of vertices 0 to {len(points) - 1}, got {faces.min()} to "
            f"{faces.max()}."
        )
    held = np.zeros(len(points), bool)
    held[faces] = True
    # Floor, walls and visibility would be those of the few faces.
    if len(faces) and held.mean() < LEAST_HELD:
        raise ScanError(
            f"{path}: expected faces between most of {len(points)} vertices, or none, got "
            f"{len(faces)} between {held.sum()}; save it without faces to use its points alone."
        )
    colors = np.stack([vertex[channel] for channel in COLORS], axis=1)
    return Mesh(points, _bytes(colors, path), faces)


def _read(path: Path) -> PlyData:
    try:
        return PlyData.read(str(path), known_list_len=TRIANGLES)
    except PlyElementParseError:
        return PlyData.read(str(path))  # lists of other lengths; one cut short fails here again


def _bytes(colors: np.ndarray, path: Path) -> np.ndarray:
    """(V, 3) uint8 of channels of 8 or 16 bits, or of numbers from 0 to 1."""
    if colors.dtype == np.uint8:
        return colors
    most = {"f": 1.0, "u": np.iinfo(np.uint16).max}.get(colors.dtype.kind, 255)
    if not (colors.min() >= 0 and colors.max() <= most):  # NaN is neither
        raise ScanError(
            f"{path}: expected red, green, blue of 0 to {most:g} as {colors.dtype.name}, "
            f"got {colors.min()} to {colors.max()}."
        )
    # Channels of 8 bits may be written as wider numbers.
    most = 255 if most != 1 and colors.max() <= 255 else most
    return np.rint(colors * (255 / most)).astype(np.uint8)


def _faces(data: PlyData, path: Path) -> np.ndarray:
    """(T, 3) i32; a polygon is a fan around its first corner."""
    if "face" not in data and "tristrips" in data:
        raise ScanError(f"{path}: expected faces, got tristrips; save it with triangles.")
    if "face" not in data or not data["face"].count:
        return np.zeros((0, 3), np.int32)
    names = [p.name for p in data["face"].properties if p.name in TRIANGLES["face"]]
    if not names:
        found = ", ".join(p.name for p in data["face"].properties) or "none"
        raise ScanError(
            f"{path}: expected a property vertex_indices or vertex_index of faces, found {found}."
        )
    corners = data["face"].data[names[0]]
    if corners.dtype != object:
        return np.ascontiguousarray(corners, np.int32)
    fans = [
        np.stack([np.full(len(one) - 2, one[0]), one[1:-1], one[2:]], axis=1)
        for one in corners
        if len(one) > 2
    ]
    return np.concatenate([np.zeros((0, 3)), *fans]).astype(np.int32)


def write_mesh(path: Path, mesh: Mesh, *, alpha: bool = False) -> None:
    """Writes binary little-endian PLY, as scanners' tools do; `alpha` adds an opaque channel."""
    channels = (*COLORS, "alpha") if alpha else COLORS
    vertex = np.zeros(
        len(mesh.points), [(axis, "<f4") for axis in "xyz"] + [(name, "u1") for name in channels]
    )
    for axis, name in enumerate("xyz"):
        vertex[name] = mesh.points[:, axis]
    for channel, name in enumerate(COLORS):
        vertex[name] = mesh.colors[:, channel]
    if alpha:
        vertex["alpha"] = 255
    faces = np.zeros(len(mesh.faces), [("vertex_indices", "<i4", (3,))])
    elements = [PlyElement.describe(vertex, "vertex"), PlyElement.describe(faces, "face")]
    # The library writes lists one by one; as a table they are written a hundred times faster.
    header = PlyData(elements, text=False, byte_order="<").header
    table = np.zeros(len(mesh.faces), [("length", "u1"), ("corners", "<i4", (3,))])
    table["length"], table["corners"] = 3, mesh.faces
    path.write_bytes(header.encode() + b"\n" + vertex.tobytes() + table.tobytes())
