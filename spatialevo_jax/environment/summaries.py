"""What a scene, an image or several images show: labels and counts, with the published names."""

import collections
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from geometry_jax.scene_io import FRAME_FOLDER, SceneRecord
from spatialevo_jax.environment.fields import (
    BadRequest,
    Loader,
    frame_index,
    frame_names,
    image_names,
    min_visibility,
    text_field,
)

RESPONSE_VERSION = "1.2"
KINDS = {
    "scene": "scene scene_summary",
    "single_image": "single_image single image frame single_image_summary",
    "multi_image": (
        "multi_image multi images frames multi_image_summary image_pair imagepair pair "
        "pair_summary two_image two_images pair_image pair_images double_image double_images"
    ),
}
KIND_OF = {alias: kind for kind, aliases in KINDS.items() for alias in aliases.split()}


def get_environment_summary(fields: Mapping[str, Any], load: Loader) -> dict[str, Any]:
    """The summary that a request asks for.

    Args:
        fields: `scene_id`, `summary_type` (scene by default), the images in any of the published
            fields, `min_visibility`, `include_objects`.
        load: scene id -> record; raises OSError or ValueError for a scene that can't be read.
    """
    wanted = fields.get("summary_type", "scene")
    kind = KIND_OF.get(re.sub(r"[^a-z0-9_]", "", str(wanted).lower()), "")
    head: dict[str, Any] = {
        "response_version": RESPONSE_VERSION,
        "success": True,
        "summary_type": kind or wanted,
    }

    def failed(bad: BadRequest) -> dict[str, Any]:
        return head | {"success": False, "error_code": bad.code, "error": bad.message}

    scene_id = text_field(fields, "scene_id")
    if isinstance(scene_id, BadRequest):
        return failed(scene_id)
    head["scene_id"] = scene_id
    if not kind:
        return failed(
            BadRequest(
                "INVALID_SUMMARY_TYPE",
                f"summary_type: expected scene, single_image or multi_image, got {wanted!r:.80}.",
            )
        )
    threshold = min_visibility(fields)
    if isinstance(threshold, BadRequest):
        return failed(threshold)
    try:
        record = load(scene_id)
    except (OSError, ValueError) as error:
        return failed(BadRequest("EXECUTION_FAILED", str(error)))
    objects = fields.get("include_objects") is True
    if kind == "scene":
        return head | _scene(record, objects)
    names, ids = image_names(fields), fields.get("frame_ids")
    listed = frame_names(ids if isinstance(ids, list) else [])
    if isinstance(names, BadRequest):
        return failed(names)
    if isinstance(listed, BadRequest):
        return failed(listed)
    names = listed + names
    if not names:
        return failed(BadRequest("INVALID_INPUT", "expected image_path or image_paths, got none."))
    if kind == "single_image":
        index = frame_index(record, names[0])
        if isinstance(index, BadRequest):
            return failed(index)
        return head | _image(record, index, threshold, objects)
    return head | _images(head, record, names, threshold, objects)


def _counts(record: SceneRecord, mask: np.ndarray) -> dict[str, int]:
    names = [record.labels[int(record.scene.label[index])] for index in np.flatnonzero(mask)]
    return dict(sorted(collections.Counter(names).items()))


def box_record(record: SceneRecord, index: int) -> dict[str, Any]:
    """An object with its oriented box: metres, full sides, yaw in radians."""
    scene = record.scene
    return {
        "object_id": record.object_ids[index],
        "label": record.labels[int(scene.label[index])],
        "center": rounded(scene.obb_center[index]),
        "extent": rounded(scene.obb_extent[index]),
        "yaw": rounded([scene.obb_yaw[index]])[0],
    }


def object_record(record: SceneRecord, index: int) -> dict[str, Any]:
    """An object with both its boxes."""
    scene = record.scene
    half = np.asarray(scene.extent[index]) / 2
    low, high = np.asarray(scene.center[index]) - half, np.asarray(scene.center[index]) + half
    return box_record(record, index) | {
        "3d_bbox": rounded(np.concatenate([low, high])),
        "3d_location": rounded(scene.center[index]),
    }


def rounded(values: Any) -> list[float]:
    """Numbers as JSON writes them: four decimals."""
    return np.round(np.asarray(values, np.float64), 4).tolist()


def _scene(record: SceneRecord, objects: bool) -> dict[str, Any]:
    counts = _counts(record, np.asarray(record.scene.object_valid))
    area = float(record.scene.floor_area)
    summary = {
        "total_objects": sum(counts.values()),
        "unique_label_count": len(counts),
        "labels": list(counts),
        "label_counts": counts,
        "room_size": round(area, 4) if np.isfinite(area) else None,
    }
    if objects:
        summary["objects"] = [object_record(record, i) for i in range(len(record.object_ids))]
    return summary


def _image(record: SceneRecord, frame: int, threshold: float, objects: bool) -> dict[str, Any]:
    scene = record.scene
    seen = np.asarray(scene.seen[frame]) & np.asarray(scene.object_valid)
    visible = seen & (np.asarray(scene.visibility[frame]) >= threshold)
    counts = _counts(record, visible)
    summary = {
        "frame_id": record.frame_ids[frame],
        "image_path": f"{FRAME_FOLDER}/{record.image_paths[frame].name}",
        "frame_type": FRAME_FOLDER,
        "min_visibility": threshold,
        "total_objects_in_frame": int(seen.sum()),
        "visible_objects_count": sum(counts.values()),
        "visible_unique_label_count": len(counts),
        "visible_labels": list(counts),
        "visible_label_counts": counts,
    }
    if objects:
        summary["visible_objects"] = [
            object_record(record, int(index))
            | {
                "visibility": rounded([scene.visibility[frame, index]])[0],
                "2d_bbox": rounded(scene.bbox_2d[frame, index]),
                "camera_location": rounded(scene.camera_location[frame, index]),
            }
            for index in np.flatnonzero(visible)
        ]
    return summary


def _images(
    head: dict[str, Any], record: SceneRecord, names: list[str], threshold: float, objects: bool
) -> dict[str, Any]:
    found = {name: frame_index(record, name) for name in dict.fromkeys(names)}
    summaries = [
        head | {"summary_type": "single_image"} | _image(record, index, threshold, objects)
        for index in dict.fromkeys(i for i in found.values() if not isinstance(i, BadRequest))
    ]
    errors = [
        {"frame_id": name, "error": index.message}
        for name, index in found.items()
        if isinstance(index, BadRequest)
    ]
    labels = [set(summary["visible_labels"]) for summary in summaries]
    totals: collections.Counter[str] = collections.Counter()
    for summary in summaries:
        totals.update(summary["visible_label_counts"])
    return {
        "success": bool(summaries),
        "requested_frames": [
            name if isinstance(index, BadRequest) else record.frame_ids[index]
            for name, index in found.items()
        ],
        "num_frames_requested": len(summaries) + len(errors),
        "num_frames_succeeded": len(summaries),
        "num_frames_failed": len(errors),
        "frame_summaries": summaries,
        "aggregate": {
            "union_visible_labels": sorted(set().union(*labels)),
            "intersection_visible_labels": sorted(set.intersection(*labels)) if labels else [],
            "sum_visible_label_counts": dict(sorted(totals.items())),
        },
        "errors": errors,
    }
