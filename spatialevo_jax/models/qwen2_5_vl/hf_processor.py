"""What a released folder says of pixels, held against what `images` does with them.

The files have had two forms: one for each processor, as published, or both in one, as transformers
saves them since 5; that one counts where it is there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spatialevo_jax.models.qwen2_5_vl import images
from spatialevo_jax.models.qwen2_5_vl.config import VisionConfig
from spatialevo_jax.models.qwen2_5_vl.hf_config import read_json

JOINT = "processor_config.json"
IMAGES, VIDEOS = ("image_processor", "video_processor")  # its parts
OWN = {IMAGES: "preprocessor_config.json", VIDEOS: "video_preprocessor_config.json"}
TYPES = ("Qwen2VLImageProcessor", "Qwen2VLImageProcessorFast", "Qwen2_5_VLImageProcessor", None)
# Fields of which one value is done here; null says nothing.
FIXED: dict[str, Any] = {
    **dict.fromkeys(("do_resize", "do_rescale", "do_normalize", "do_convert_rgb"), True),
    **dict.fromkeys(("do_center_crop", "do_pad"), False),
    "resample": 3,  # Pillow's bicubic
    "rescale_factor": 1 / 255,
    "image_mean": images.MEAN.tolist(),
    "image_std": images.STD.tolist(),
}


class PixelRange(NamedTuple):
    """Pixels of an image that its processor leaves as large as it is, if the sides are whole."""

    least: int = 56 * 56  # where a file does not say, as transformers has it
    most: int = 28 * 28 * 1280


def read_processor(folder: Path, vision: VisionConfig) -> PixelRange | None:
    """How large images are seen; none where the folder has no image processor.

    Raises:
        ValueError: a file is no JSON object, or says of a number what is not done here.
    """
    joint = read_json(folder / JOINT) if (folder / JOINT).is_file() else {}
    found = {}
    for part, name in OWN.items():
        place, fields = f"{folder / JOINT}: {part}.", joint.get(part)
        if fields is None and (folder / name).is_file():
            place, fields = f"{folder / name}: ", read_json(folder / name)
        if fields is None:
            continue
        if not isinstance(fields, dict):
            raise ValueError(f"{place[:-1]}: expected an object, got {fields!r:.40}.")
        _require_done(place, fields, vision)
        found[part] = (place, fields)
    return _pixels(*found[IMAGES]) if IMAGES in found else None


def _require_done(place: str, fields: Mapping[str, Any], vision: VisionConfig) -> None:
    sizes = {
        "patch_size": vision.patch_size,
        "temporal_patch_size": vision.temporal_patch_size,
        "merge_size": vision.spatial_merge_size,
    }
    for name, expected in (FIXED | sizes).items():
        value = fields.get(name)
        if value is not None and not _same(value, expected):
            raise ValueError(
                f"{place}{name}: unsupported value {value!r:.80}; expected {expected!r}."
            )
    kind = fields.get("image_processor_type")
    if kind not in TYPES:
        raise ValueError(
            f"{place}image_processor_type: expected one of {', '.join(filter(None, TYPES))}, "
            f"got {kind!r:.80}."
        )


def _same(value: Any, expected: Any) -> bool:
    """Numbers as float32 has them, in which pixels are computed."""
    if isinstance(expected, list):
        alike = isinstance(value, list) and len(value) == len(expected)
        return alike and all(_same(*pair) for pair in zip(value, expected, strict=True))
    if isinstance(expected, bool) or type(value) not in (int, float):
        return value is expected
    return np.float32(value) == np.float32(expected)


def _pixels(place: str, fields: Mapping[str, Any]) -> PixelRange:
    size = fields.get("size") or {}
    if not isinstance(size, dict) or size.keys() - {"shortest_edge", "longest_edge"}:
        raise ValueError(
            f"{place}size: expected an object of shortest_edge and longest_edge, got {size!r:.80}."
        )
    said = PixelRange()._asdict()
    for name, field, older in (
        ("least", "shortest_edge", "min_pixels"),
        ("most", "longest_edge", "max_pixels"),
    ):
        for where, value in ((f"size.{field}", size.get(field)), (older, fields.get(older))):
            if value is None:
                continue
            if type(value) is not int or value < 1:
                raise ValueError(
                    f"{place}{where}: expected a whole number above 0, got {value!r:.40}."
                )
            said[name] = value  # the older field counts where both are there
    return PixelRange(**said)
