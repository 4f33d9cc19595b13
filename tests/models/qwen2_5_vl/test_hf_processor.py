"""The image processor's files in all their forms, and what of them is not done here."""

import json
from pathlib import Path
from typing import Any

import pytest

from spatialevo_jax.models.qwen2_5_vl import folders
from spatialevo_jax.models.qwen2_5_vl.hf_processor import PixelRange, read_processor

from .released import TIED, random_tensors, write_folder

VISION = TIED.vision
PUBLISHED = {
    "min_pixels": 3136,
    "max_pixels": 12845056,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "image_processor_type": "Qwen2VLImageProcessor",
    "processor_class": "Qwen2_5_VLProcessor",
}
NAMES = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")


def written(folder: Path, **files: Any) -> Path:
    for name, fields in files.items():
        (folder / f"{name}.json").write_text(json.dumps(fields))
    return folder


def test_the_published_file_is_read(tmp_path: Path) -> None:
    assert read_processor(tmp_path, VISION) is None
    written(tmp_path, preprocessor_config=PUBLISHED)
    assert read_processor(tmp_path, VISION) == PixelRange(3136, 12845056)


def test_what_transformers_writes_today_is_read(tmp_path: Path) -> None:
    processing: Any = pytest.importorskip(
        "transformers.models.qwen2_vl.image_processing_pil_qwen2_vl"
    )
    processing.Qwen2VLImageProcessorPil().save_pretrained(tmp_path)
    assert read_processor(tmp_path, VISION) == PixelRange()
    processing.Qwen2VLImageProcessorPil(max_pixels=150_528).save_pretrained(tmp_path)
    assert read_processor(tmp_path, VISION) == PixelRange(most=150_528)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, PixelRange(3136, 1003520)),
        ({"size": {"shortest_edge": 5000, "longest_edge": 9000}}, PixelRange(5000, 9000)),
        ({"size": {"shortest_edge": 5000}, "max_pixels": 7000}, PixelRange(5000, 7000)),
        ({"size": {"longest_edge": 9000}, "max_pixels": 7000}, PixelRange(3136, 7000)),
        ({"size": None, "min_pixels": None, "image_mean": None}, PixelRange(3136, 1003520)),
        ({"resample": 3, "rescale_factor": 0.00392156862745098}, PixelRange(3136, 1003520)),
    ],
)
def test_limits_may_have_either_name(
    tmp_path: Path, fields: dict[str, Any], expected: PixelRange
) -> None:
    assert read_processor(written(tmp_path, preprocessor_config=fields), VISION) == expected


def test_the_joint_file_counts_where_it_has_a_part(tmp_path: Path) -> None:
    written(tmp_path, preprocessor_config={"min_pixels": 4000, "image_std": [1, 1, 1]})
    joint = {"processor_class": "Qwen2_5_VLProcessor", "image_processor": {"min_pixels": 6000}}
    written(tmp_path, processor_config=joint)
    assert read_processor(tmp_path, VISION) == PixelRange(least=6000)
    del joint["image_processor"]
    written(tmp_path, processor_config=joint)
    with pytest.raises(ValueError, match=r"/preprocessor_config\.json: image_std: unsupported"):
        read_processor(tmp_path, VISION)


@pytest.mark.parametrize("form", ["own", "joint"])
@pytest.mark.parametrize("part", ["image_processor", "video_processor"])
@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("image_mean", [0.5, 0.5, 0.5], r"unsupported value \[0.5, 0.5, 0.5\]; expected \[0.48"),
        ("image_std", [0.26862954, 0.26130258], "unsupported value"),
        ("image_std", 0.26, "unsupported value 0.26"),
        ("patch_size", 16, "unsupported value 16; expected 14"),
        ("merge_size", 1, "unsupported value 1; expected 2"),
        ("temporal_patch_size", "2", "unsupported value '2'; expected 2"),
        ("rescale_factor", 1 / 127.5, "unsupported value 0.0078"),
        ("do_normalize", False, "unsupported value False; expected True"),
        ("do_rescale", 1, "unsupported value 1; expected True"),
        ("do_center_crop", True, "unsupported value True; expected False"),
        ("resample", 2, "unsupported value 2; expected 3"),
        ("image_processor_type", "CLIPImageProcessor", "expected one of Qwen2VLImageProcessor"),
    ],
)
def test_what_is_not_done_with_pixels_is_named(
    tmp_path: Path, form: str, part: str, field: str, value: Any, says: str
) -> None:
    fields = PUBLISHED | {field: value}
    name = {"image_processor": NAMES[0], "video_processor": NAMES[1]}[part]
    if form == "joint":
        name, fields = NAMES[2], {part: fields}
    (tmp_path / name).write_text(json.dumps(fields))
    place = rf"/{name}: {f'{part}.' if form == 'joint' else ''}{field}: {says}"
    with pytest.raises(ValueError, match=place):
        read_processor(tmp_path, VISION)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "expected JSON"),
        ("[]", "expected a JSON object, got list"),
        ('{"size": {"height": 448, "width": 448}}', "size: expected an object of shortest_edge"),
        ('{"size": 448}', "size: expected an object of shortest_edge"),
        ('{"min_pixels": "3136"}', "min_pixels: expected a whole number above 0, got '3136'"),
        ('{"size": {"longest_edge": 0}}', "size.longest_edge: expected a whole number above 0"),
    ],
)
def test_a_spoilt_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / NAMES[0]).write_text(text)
    with pytest.raises(ValueError, match=rf"/{NAMES[0]}: {says}"):
        read_processor(tmp_path, VISION)


def test_a_part_that_is_no_object_is_named(tmp_path: Path) -> None:
    written(tmp_path, processor_config={"image_processor": 3})
    with pytest.raises(ValueError, match=r"image_processor: expected an object, got 3"):
        read_processor(tmp_path, VISION)


def test_neither_form_of_a_folder_opens_with_other_pixels(tmp_path: Path) -> None:
    """Ours has been written by hand since."""
    source = write_folder(tmp_path / "hf", TIED, random_tensors(TIED))
    folders.save_orbax(folders.open_hf(source), tmp_path / "ours")
    for path, place in ((source, source), (tmp_path / "ours", tmp_path / "ours" / "hf")):
        written(place, preprocessor_config=PUBLISHED | {"image_mean": [0, 0, 0]})
        with pytest.raises(ValueError, match="image_mean: unsupported value"):
            folders.open_either(path)
