"""config.json in all its forms, and what the port refuses."""

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from spatialevo_jax.models.qwen2_5_vl.config import SIZES
from spatialevo_jax.models.qwen2_5_vl.hf_config import parse_config, read_config

from .checkpoints import CONFIGS
from .released import UNTIED, config_fields

# The fields of the published files.
PUBLISHED_3B = {
    "architectures": ["Qwen2_5_VLForConditionalGeneration"],
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "image_token_id": 151655,
    "initializer_range": 0.02,
    "intermediate_size": 11008,
    "max_position_embeddings": 128000,
    "max_window_layers": 70,
    "model_type": "qwen2_5_vl",
    "num_attention_heads": 16,
    "num_hidden_layers": 36,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_scaling": {"mrope_section": [16, 24, 24], "type": "mrope"},
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.41.2",
    "use_cache": True,
    "use_sliding_window": False,
    "video_token_id": 151656,
    "vision_config": {
        "depth": 32,
        "fullatt_block_indexes": [7, 15, 23, 31],
        "hidden_act": "silu",
        "hidden_size": 1280,
        "in_chans": 3,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 2048,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "spatial_patch_size": 14,
        "temporal_patch_size": 2,
        "tokens_per_second": 2,
        "window_size": 112,
    },
    "vision_end_token_id": 151653,
    "vision_start_token_id": 151652,
    "vision_token_id": 151654,
    "vocab_size": 151936,
}
PUBLISHED_7B = PUBLISHED_3B | {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "max_window_layers": 28,
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "tie_word_embeddings": False,
    "vision_config": PUBLISHED_3B["vision_config"] | {"out_hidden_size": 3584},
    "vocab_size": 152064,
}


def nested(fields: dict[str, Any]) -> dict[str, Any]:
    """As transformers 4.5x saves a published file: the decoder's fields also under text_config."""
    text = {name: value for name, value in fields.items() if name != "vision_config"}
    text |= {"model_type": "qwen2_5_vl_text", "image_token_id": None, "sliding_window": None}
    text |= {"layer_types": ["full_attention"] * fields["num_hidden_layers"]}
    scaling = {"mrope_section": [16, 24, 24], "rope_type": "default", "type": "default"}
    text["rope_scaling"] = scaling
    return fields | {"text_config": text, "rope_scaling": scaling}


@pytest.mark.parametrize("form", [dict, nested], ids=["published", "saved again"])
@pytest.mark.parametrize(
    ("size", "fields"), [("qwen2_5_vl_3b", PUBLISHED_3B), ("qwen2_5_vl_7b", PUBLISHED_7B)]
)
def test_published_files_give_the_released_sizes(size: str, fields: Any, form: Any) -> None:
    assert parse_config(form(fields)) == SIZES[size]


@pytest.mark.parametrize("name", CONFIGS)
def test_what_transformers_writes_today_gives_the_same_sizes(name: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config_fields(CONFIGS[name], "float32")))
    read = read_config(path)
    assert (read.vision, read.text) == (CONFIGS[name].vision, CONFIGS[name].text)
    assert read.compute_dtype == "float32"


@pytest.mark.parametrize("where", ["top", "text_config"])
def test_the_head_is_tied_where_either_place_says_so(where: str) -> None:
    fields = config_fields(UNTIED)
    (fields if where == "top" else fields["text_config"])["tie_word_embeddings"] = True
    assert parse_config(fields).text.tie_word_embeddings


def test_a_resized_vocabulary_is_that_of_text_config() -> None:
    """At the top transformers 4.52 to 4.57 leave the size from before."""
    fields = nested(PUBLISHED_3B)
    fields["text_config"]["vocab_size"] = 151_700
    assert parse_config(fields).text.vocab_size == 151_700


def test_a_field_that_is_null_says_nothing() -> None:
    fields: Any = nested(PUBLISHED_3B) | {"quantization_config": None}
    fields["text_config"].update(head_dim=None, layer_types=None)
    assert parse_config(fields) == SIZES["qwen2_5_vl_3b"]


def test_the_architecture_may_stand_under_text_config_only() -> None:
    """As transformers 4.57 saves a model that was made and not read."""
    fields = nested(PUBLISHED_3B)
    del fields["architectures"]
    assert parse_config(fields) == SIZES["qwen2_5_vl_3b"]
    assert parse_config(fields | {"architectures": None}) == SIZES["qwen2_5_vl_3b"]
    fields["text_config"]["architectures"] = ["Qwen2VLForConditionalGeneration"]
    with pytest.raises(ValueError, match=r"architectures: expected .*Qwen2VL"):
        parse_config(fields)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "architectures",
            ["Qwen3VLForConditionalGeneration"],
            r"architectures: expected .*Qwen3VL",
        ),
        ("architectures", None, "architectures: expected"),
        ("tie_word_vectors", True, "tie_word_vectors: unsupported field"),
        ("text_config.qk_norm", True, "text_config.qk_norm: unsupported field"),
        ("vision_config.num_registers", 4, "vision_config.num_registers: unsupported field"),
        ("text_config.hidden_act", "gelu", "hidden_act: unsupported value 'gelu'; expected 'silu'"),
        ("text_config.use_sliding_window", True, "use_sliding_window: unsupported value True"),
        ("text_config.layer_types", ["sliding_attention"] * 2, "layer_types: unsupported value"),
        ("text_config.head_dim", 16, "head_dim: unsupported value 16; expected 8"),
        ("text_config.hidden_size", 41, "hidden_size: expected a multiple of num_attention_heads"),
        ("text_config.hidden_size", "40", "hidden_size: expected a whole number above 0, got '40'"),
        ("text_config.num_hidden_layers", True, "num_hidden_layers: expected a whole number"),
        ("text_config.num_hidden_layers", 2**40, "num_hidden_layers: expected at most 4096, got"),
        ("text_config.vocab_size", 10**80, "vocab_size: expected at most 16777216, got 1000"),
        ("vision_config.depth", 2**70, "vision_config.depth: expected at most 4096, got 118"),
        ("text_config.vocab_size", None, "vocab_size: expected a whole number above 0, got None"),
        ("text_config.num_key_value_heads", 2, "expected a multiple of num_kv_heads=2"),
        ("text_config.rms_norm_eps", 0, "rms_norm_eps: expected a number above 0, got 0"),
        ("text_config.tie_word_embeddings", 1, "tie_word_embeddings: expected true or false"),
        ("text_config.rope_parameters", None, "rope_parameters: expected an object, got None"),
        ("text_config.rope_parameters.rope_type", "yarn", "rope_type: unsupported value 'yarn'"),
        ("text_config.rope_parameters.factor", 4.0, "rope_parameters.factor: unsupported field"),
        ("text_config.rope_parameters.mrope_section", [2, 2], "mrope_section: expected 3 numbers"),
        ("text_config.rope_parameters.mrope_section", [1, 1, 1], "mrope_section: expected a sum"),
        ("text_config.rope_parameters.mrope_section", "1", "mrope_section: expected a list"),
        ("text_config.rope_parameters.rope_theta", None, "rope_theta: expected a number above 0"),
        ("hidden_size", 48, "hidden_size: 48 at the top, 40 in text_config; expected the same"),
        ("vision_config", None, "vision_config: expected an object, got None"),
        ("vision_config.in_channels", 4, "in_channels: unsupported value 4; expected 3"),
        ("vision_config.patch_size", [14, 14], "patch_size: expected a whole number"),
        ("vision_config.num_heads", 5, "vision_config.hidden_size: expected a multiple"),
        ("vision_config.num_heads", 8, "vision_config.hidden_size: expected a multiple of 4"),
        ("vision_config.window_size", 14, "vision_config.window_size: expected at least one"),
        ("vision_config.out_hidden_size", 48, "vision_config.out_hidden_size: expected the deco"),
        ("vision_config.rope_parameters.rope_theta", 5e5, "rope_parameters: unsupported value"),
        ("vision_config.fullatt_block_indexes", [-1], "fullatt_block_indexes: expected a list"),
        ("dtype", "int8", "dtype: expected one of float32, bfloat16, float16, got 'int8'"),
    ],
)
def test_what_is_not_supported_is_named(path: str, value: Any, message: str) -> None:
    fields = copy.deepcopy(config_fields(UNTIED))
    *groups, name = path.split(".")
    place = fields
    for group in groups:
        place = place[group]
    place[name] = value
    with pytest.raises(ValueError, match=message):
        parse_config(fields)


@pytest.mark.parametrize("place", ["", "text_config.", "vision_config."])
@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("quantization_config", {"quant_method": "gptq", "bits": 4}, "gptq"),
        ("quantization_config", {"quant_method": "awq", "version": "gemm"}, "awq"),
        ("quantization_config", {"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandb"),
        ("quantization_config", {"quant_method": "fp8", "fmt": "e4m3"}, "fp8"),
        ("quantization_config", {"load_in_8bit": True}, r"\{'load_in_8bit': True\}"),
        ("quantization_config", {}, r"\{\}"),
        ("quantization", {"group_size": 64, "bits": 4}, r"\{'group_size': 64, 'bits': 4\}"),
        ("compression_config", {"quant_method": "compressed-tensors"}, "compressed-tensors"),
    ],
)
def test_quantised_weights_are_refused_by_name(
    place: str, name: str, value: dict[str, Any], says: str
) -> None:
    """Also beside other fields that are unknown here, which such files have."""
    fields: Any = copy.deepcopy(nested(PUBLISHED_3B))
    group = fields[place.rstrip(".")] if place else fields
    group |= {"a_field": 1, name: value}
    message = f"^{place}{name}: expected weights that are not quantised, got .*{says}"
    with pytest.raises(ValueError, match=message):
        parse_config(fields)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "does not parse"),
        (b'{"architectures": ', "does not parse"),
        (b"\xff\xfe{", "does not parse"),
        (b"[" * 100_000, "does not parse"),
        (b"[]", "expected a JSON object, got list"),
        (b"{}", "architectures: expected"),
    ],
    ids=["empty", "cut off", "no text", "too deep", "list", "empty object"],
)
def test_a_spoilt_file_is_named(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=rf"config\.json: .*{message}"):
        read_config(path)


def test_fields_that_a_file_leaves_out_are_those_of_transformers() -> None:
    """Its version 4.49 wrote only those that are not as its class has them."""
    transformers: Any = pytest.importorskip("transformers")
    vision = {"hidden_size": 1280, "in_chans": 3, "spatial_patch_size": 14}
    expected = transformers.Qwen2_5_VLConfig(vision_config=dict(vision)).vision_config
    fields = PUBLISHED_3B | {"hidden_size": 3584, "num_attention_heads": 28}
    read = parse_config(fields | {"vision_config": vision}).vision
    for field in dataclasses.fields(read):
        theirs = getattr(expected, field.name)
        assert getattr(read, field.name) == (tuple(theirs) if isinstance(theirs, list) else theirs)
    said = {"tokens_per_second": 25, "depth": 2}
    read = parse_config(fields | {"vision_config": vision | said}).vision
    assert (read.tokens_per_second, read.depth) == (25, 2)
