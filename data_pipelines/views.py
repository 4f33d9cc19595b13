"""What every frame of a scan shows of every object: how much, where, and why not more.

`DEFAULT` measures surfaces (`surface_views`), `PUBLISHED` counts points as the published scenes do
(`point_views`); docs/scenes.md compares the two with exact truth. F frames, N objects, V vertices.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import numpy as np

from data_pipelines import point_views, surface_views
from data_pipelines.scan import Images, Mesh, ScanFrame

MARGIN = 2  # pixels around the points of an object, in its published 2-D box
NOWHERE = -1.0  # metres, each coordinate of where an unseen object is, as published
CHUNK = 16  # frames whose depth images are held at a time


@dataclasses.dataclass(frozen=True)
class ViewSettings:
    """How visibility is measured."""

    by: Literal["surfaces", "points"] = "surfaces"
    depth_tolerance: float = 0.03  # share of the depth, and at least
    least_tolerance: float = 0.03  # metres: noise of a depth sensor grows with the depth
    truncated_above: float = 0.02  # share of the silhouette outside the picture; surfaces only
    occluded_above: float = 0.02  # share of the silhouette inside that is hidden; surfaces only
    most_pixels: int = 640 * 480  # larger pictures are sampled at so many points; surfaces only
    precision: Literal["float32", "float64"] = "float64"  # points only


DEFAULT = ViewSettings()
PUBLISHED = ViewSettings(by="points", depth_tolerance=1e-3, least_tolerance=0.0)


class ObjectViews(NamedTuple):
    """The silhouette of an object is what it would cover if nothing else were there, on a canvas
    twice as wide and high as the picture: wide enough for all but the closest objects, and finite
    for those that reach behind the camera. Where an object is not seen, everything is 0.

    By points, "silhouette" reads "points", wherever they are. The flags are then the published
    ones, `truncated` when some point projects into the picture and `occluded` when one is hidden
    there, and an object that is not seen has them too, and NOWHERE as its location.
    """

    seen: np.ndarray  # (F, N) bool, at least one pixel (point) of it is shown
    visibility: np.ndarray  # (F, N) f32, share of its silhouette that the picture shows
    in_view: np.ndarray  # (F, N) f32, share of its silhouette inside the picture
    hidden: np.ndarray  # (F, N) f32, share of the silhouette inside that something nearer hides
    truncated: np.ndarray  # (F, N) bool, `in_view` is below 1 by more than the threshold
    occluded: np.ndarray  # (F, N) bool, `hidden` is above the threshold
    bbox_2d: np.ndarray  # (F, N, 4) i32, first column and row, last ones + 1, colour pixels
    camera_location: np.ndarray  # (F, N, 3) f32, metres, middle of what is seen, in the camera
    # (F,) f32, share of measured depth that lies on the mesh; NaN where none was measured, and for
    # all frames by points
    agreement: np.ndarray


def _depth(frame: ScanFrame, images: Images) -> np.ndarray | None:
    return images.depth(frame) if min(frame.depth_size) > 0 else None


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return (part / np.maximum(whole, 1)).astype(np.float32)


def _by_surfaces(
    mesh: Mesh,
    members: Sequence[np.ndarray],
    frames: Sequence[ScanFrame],
    images: Images,
    settings: ViewSettings,
) -> ObjectViews:
    surfaces = surface_views.surfaces_of(mesh, members)
    found = [
        surface_views.frame_statistics(
            surfaces,
            frame,
            _depth(frame, images),
            depth_tolerance=settings.depth_tolerance,
            least_tolerance=settings.least_tolerance,
            most_pixels=settings.most_pixels,
        )
        for frame in frames
    ]
    shown = np.stack([one.shown for one in found])
    inside = np.stack([one.inside for one in found])
    alone = np.stack([one.alone for one in found])
    seen = shown > 0
    in_view = np.where(seen, _share(inside, alone), 0)
    hidden = np.where(seen, _share(inside - shown, inside), 0)
    return ObjectViews(
        seen=seen,
        visibility=_share(shown, alone),
        in_view=in_view,
        hidden=hidden,
        truncated=seen & (in_view < 1 - settings.truncated_above),
        occluded=seen & (hidden > settings.occluded_above),
        bbox_2d=np.stack([one.bbox_2d for one in found]),
        camera_location=np.stack([(one.camera_low + one.camera_high) / 2 for one in found]),
        agreement=np.array([one.agreement for one in found], np.float32),
    )


# --- points --------------------------------------------------------------------------------------


def _alike(frames: Sequence[ScanFrame]) -> list[list[int]]:
    """Rows of frames that the kernel takes together: of the same sizes, at most CHUNK."""
    groups: dict[tuple, list[int]] = {}
    for row, frame in enumerate(frames):
        groups.setdefault((frame.color_size, frame.depth_size), []).append(row)
    starts = ((own, start) for own in groups.values() for start in range(0, len(own), CHUNK))
    return [own[start : start + CHUNK] for own, start in starts]


def _published_boxes(
    low: np.ndarray, high: np.ndarray, seen: np.ndarray, sizes: Sequence[tuple[int, int]]
) -> np.ndarray:
    """(F, N, 4) i32: the extent of the points shown in whole pixels, and a margin around it.

    Args:
        low, high: (F, N, 2) columns and rows; anything where not seen.
    """
    low = np.where(seen[..., None], low, 0).astype(np.int32) - MARGIN
    high = (np.where(seen[..., None], high, 0) + 0.5).astype(np.int32) + MARGIN
    high = np.minimum(high, np.array(sizes, np.int32).reshape(-1, 1, 2))
    return np.concatenate([np.maximum(low, 0), high], axis=-1) * seen[..., None]


def _by_points(
    mesh: Mesh,
    members: Sequence[np.ndarray],
    frames: Sequence[ScanFrame],
    images: Images,
    settings: ViewSettings,
) -> ObjectViews:
    tiles = point_views.point_tiles(mesh.points, members, np.dtype(settings.precision))
    chunks = _alike(frames)
    # Calls return before they are done: the next chunk's depth decodes meanwhile.
    parts = [
        point_views.chunk_statistics(
            tiles,
            [frames[row] for row in rows],
            [_depth(frames[row], images) for row in rows],
            length=CHUNK,
            objects=len(members),
            depth_tolerance=settings.depth_tolerance,
            least_tolerance=settings.least_tolerance,
        )
        for rows in chunks
    ]
    order = np.argsort(np.concatenate(chunks))
    leaves = zip(*map(jax.device_get, parts), strict=True)
    touching, inside, hidden, pixel_low, pixel_high, camera_low, camera_high = (
        np.concatenate(leaf)[order] for leaf in leaves
    )
    points = np.array([len(own) for own in members])
    shown = inside - hidden
    seen = shown > 0
    low, high = (np.where(seen[..., None], each, NOWHERE) for each in (camera_low, camera_high))
    sizes = [frame.color_size for frame in frames]
    return ObjectViews(
        seen=seen,
        visibility=_share(shown, points),
        in_view=np.where(seen, _share(inside, points), 0),
        hidden=np.where(seen, _share(hidden, inside), 0),
        truncated=touching,
        occluded=hidden > 0,
        bbox_2d=_published_boxes(pixel_low, pixel_high, seen, sizes),
        camera_location=((low + high) / 2).astype(np.float32),
        agreement=np.full(len(frames), np.nan, np.float32),
    )


def object_views(
    mesh: Mesh,
    members: Sequence[np.ndarray],
    frames: Sequence[ScanFrame],
    images: Images,
    *,
    settings: ViewSettings = DEFAULT,
) -> ObjectViews:
    """What the frames show of objects.

    Args:
        mesh: in the frame that poses lead to.
        members: for each object, its rows of `mesh.points`; those of several objects may overlap.
        frames: with `mesh_from_camera`. Those without depth are judged by the mesh alone.
        images: gives the frames' depth.

    Raises:
        ScanError: a depth image does not decode.
        ValueError: there are no frames.
    """
    if not frames:
        raise ValueError("frames: expected at least one, got none.")
    measure = _by_surfaces if settings.by == "surfaces" else _by_points
    return measure(mesh, members, frames, images, settings)
