"""Triangle meshes in PLY files. Host side, NumPy."""

from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyElement, PlyParseError

from data_pipelines.scan import Mesh, ScanError

FACE_NAMES = ("vertex_indices", "vertex_index")  # both are in use
GREY = 128  # of vertices without a colour


def read_mesh(path: Path) -> Mesh:
    """The mesh of a PLY file, of any of its three encodings.

    Vertices without colours are grey; a file without faces is a cloud of points.

    Raises:
        ScanError: missing, cut short, not a PLY file, not triangles, or numbers out of range.
    """
    if not path.is_file():
        raise ScanError(f"{path}: expected a mesh, found no such file.")
    try:
        # Told that faces are triangles, plyfile maps them as an array: a hundred times faster.
        ply = PlyData.read(str(path), known_list_len={"face": dict.fromkeys(FACE_NAMES, 3)})
    except (PlyParseError, OSError, ValueError) as error:
        raise ScanError(f"{path}: expected a PLY mesh of triangles, but {error}.") from error
    elements = {element.name: element.data for element in ply.elements}
    vertex = elements.get("vertex", np.empty(0, []))
    missing = {"x", "y", "z"} - set(vertex.dtype.names or ())
    if missing or not len(vertex):
        raise ScanError(f"{path}: expected vertices with x, y and z, found {vertex.dtype.names}.")
    points = np.stack([vertex[axis] for axis in ("x", "y", "z")], -1).astype(np.float32)
    if not np.isfinite(points).all():
        row = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise ScanError(f"{path}: expected finite vertices, got {points[row]} at row {row}.")
    return Mesh(points, _colors(vertex), _faces(path, elements.get("face"), len(points)))


def _colors(vertex: np.ndarray) -> np.ndarray:
    names = ("red", "green", "blue")
    if not set(names) <= set(vertex.dtype.names or ()):
        return np.full((len(vertex), 3), GREY, np.uint8)
    return np.stack([vertex[name] for name in names], -1).astype(np.uint8)


def _faces(path: Path, face: np.ndarray | None, count: int) -> np.ndarray:
    names = set(face.dtype.names or ()) if face is not None else set()
    name = next((name for name in FACE_NAMES if name in names), None)
    if face is None or name is None or not len(face):
        return np.zeros((0, 3), np.int32)
    try:
        faces = np.stack(face[name]).astype(np.int64)  # rows are arrays of their own in ASCII files
    except ValueError as error:
        raise ScanError(f"{path}: expected triangles, got faces of several sizes.") from error
    if faces.shape[1] != 3:
        raise ScanError(f"{path}: expected triangles, got faces of {faces.shape[1]} corners.")
    if not 0 <= faces.min() <= faces.max() < count:
        raise ScanError(
            f"{path}: expected faces of vertices 0 to {count - 1}, "
            f"got {faces.min()} to {faces.max()}."
        )
    return faces.astype(np.int32)


def write_mesh(path: Path, mesh: Mesh) -> None:
    """Binary little-endian PLY: float x, y, z, uchar red, green, blue, alpha; triangles."""
    vertex = np.empty(
        len(mesh.points),
        [(axis, "<f4") for axis in "xyz"]
        + [(name, "u1") for name in ("red", "green", "blue", "alpha")],
    )
    for column, axis in enumerate("xyz"):
        vertex[axis] = mesh.points[:, column]
    for column, name in enumerate(("red", "green", "blue")):
        vertex[name] = mesh.colors[:, column]
    vertex["alpha"] = 255
    face = np.empty(len(mesh.faces), [("vertex_indices", "<i4", (3,))])
    face["vertex_indices"] = mesh.faces
    elements = [PlyElement.describe(vertex, "vertex"), PlyElement.describe(face, "face")]
    PlyData(elements, byte_order="<").write(str(path))
