"""Segments of a mesh's vertices, and the objects that are made of them: ScanNet and ScanNet++ write
both alike.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_pipelines import raw_json
from data_pipelines.scan import ScanError, Skipped


def whole_numbers(value: Any) -> np.ndarray | None:
    """(k,) i64, or None where the value is no list of whole numbers."""
    if not isinstance(value, list) or not all(type(x) is int for x in value):
        return None
    try:
        return np.array(value, np.int64)
    except OverflowError:
        return None


def read_segments(path: Path, vertex_count: int) -> np.ndarray:
    """(V,) i64 segment of every vertex.

    Raises:
        ScanError: not one whole number for each vertex.
    """
    segments = whole_numbers(raw_json.read_object(path).get("segIndices"))
    if segments is None:
        raise ScanError(f"{path}: expected a list of whole numbers under 'segIndices'.")
    if len(segments) != vertex_count:
        raise ScanError(
            f"{path}: expected a segment for each of the mesh's {vertex_count} vertices, "
            f"got {len(segments)}."
        )
    return segments


class BySegment(NamedTuple):
    """The vertices of a mesh, ordered by their segments."""

    rows: np.ndarray  # (V,) i64, of the mesh's points
    segments: np.ndarray  # (V,) i64, ascending


def by_segment(segments: np.ndarray) -> BySegment:
    """Args: (V,) segment of every vertex."""
    order = np.argsort(segments, kind="stable")
    return BySegment(order, segments[order])


def vertices_of(
    own: np.ndarray, vertices: BySegment, name: str, file: str
) -> tuple[np.ndarray, list[Skipped]]:
    """The vertices of an object, (k,) i64 rows, ascending; and which segments of it have none.

    Args:
        own: the object's segments, each once.
        name: of the object, and `file` that lists them, for the report.
    """
    low = np.searchsorted(vertices.segments, own)
    count = np.searchsorted(vertices.segments, own, side="right") - low
    lacking = []
    if not count.any():
        why = f"none of its {len(own)} segments has a vertex" if len(own) else "no segments"
        lacking.append(Skipped(name, f"{file}: {why}"))
    elif not count.all():
        what = f"{(count == 0).sum()} of {len(own)} segments of {name}"
        lacking.append(Skipped(what, f"{file}: no vertex has segment {own[count == 0][0]}"))
    # Segments may be many and small: their stretches of rows are counted out at once.
    at = np.arange(count.sum()) + np.repeat(low - (np.cumsum(count) - count), count)
    return np.sort(vertices.rows[at]), lacking
