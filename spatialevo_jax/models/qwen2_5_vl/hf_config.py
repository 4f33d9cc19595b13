"""A released config.json -> `ModelConfig`. What the port can't do is an error, never left out.

The file has had two forms: the decoder's fields at the top (as published), or under `text_config`
(as transformers has saved it since 4.52), where some versions repeat them at the top.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spatialevo_jax.models.qwen2_5_vl.config import ModelConfig, TextConfig, VisionConfig

ARCHITECTURE = "Qwen2_5_VLForConditionalGeneration"
COMPUTE_DTYPES = ("float32", "bfloat16", "float16")

TEXT = {  # theirs: ours
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "num_key_value_heads": "num_kv_heads",
}
VISION = (
    "depth",
    "hidden_size",
    "intermediate_size",
    "num_heads",
    "out_hidden_size",
    "patch_size",
    "temporal_patch_size",
    "spatial_merge_size",
    "window_size",
)
# Far above any model: tensors are listed by name, layer by layer, before one is found missing.
MOST_LAYERS, MOST = 2**12, 2**24
# Fields that the port knows one value of.
FIXED_TEXT = {"hidden_act": "silu", "use_sliding_window": False, "attention_dropout": 0.0}
FIXED_VISION = {"hidden_act": "silu", "in_channels": 3, "in_chans": 3}
# Where a file does not say, as transformers reads it: its version 4.49 left out what is as here.
VISION_DEFAULTS = {
    "depth": 32,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "intermediate_size": 3420,
    "num_heads": 16,
    "out_hidden_size": 3584,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "tokens_per_second": 4,
    "window_size": 112,
}
VISION_ROPE = {"rope_theta": 10_000.0, "rope_type": "axial"}
# Of the decoder, read below or derived from what is read.
TEXT_FORMS = ("rms_norm_eps", "rope_theta", "rope_scaling", "rope_parameters", "layer_types")
TEXT_FORMS += ("head_dim", "tie_word_embeddings")
# Fields that say how weights are quantised: of transformers, of MLX, of old compressed-tensors.
QUANTISED = ("quantization_config", "quantization", "compression_config")
# Fields that change no number that we compute: how a file was made, what transformers does at run
# time, tokens (the tokenizer knows them), how long the training texts were.
SILENT = {
    "_attn_implementation_autoset",
    "_name_or_path",
    "architectures",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "id2label",
    "image_token_id",
    "initializer_range",
    "label2id",
    "max_position_embeddings",
    "max_window_layers",
    "model_type",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "problem_type",
    "return_dict",
    "sliding_window",  # of use_sliding_window, which must be off
    "torch_dtype",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    "use_cache",
    "video_token_id",
    "vision_end_token_id",
    "vision_start_token_id",
    "vision_token_id",
}


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        FileNotFoundError: no such file. ValueError: it does not parse, or is no object.
    """
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, it does not parse ({error}).") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(value).__name__}.")
    return value


def read_config(path: Path) -> ModelConfig:
    """The model of a config.json; computes in the type that the file names for its tensors.

    Raises:
        FileNotFoundError: no such file. ValueError: no JSON object, another architecture, a field
            that is missing, of a wrong kind, unknown, or of a value that the port does not support.
    """
    try:
        return parse_config(read_json(path))
    except ConfigError as error:
        raise ValueError(f"{path}: {error}") from error


class ConfigError(ValueError):
    """What is wrong with a configuration; `read_config` adds where it stands."""


def parse_config(fields: Mapping[str, Any]) -> ModelConfig:
    """See `read_config`."""
    nested = "text_config" in fields
    text = _group(fields, "text_config") if nested else fields
    architectures = fields.get("architectures")
    if architectures is None:  # of a model that was made and not read, as transformers 4.57 has it
        architectures = text.get("architectures")
    if architectures != [ARCHITECTURE]:
        raise ConfigError(f"architectures: expected [{ARCHITECTURE!r}], got {architectures!r}.")
    vision = _group(fields, "vision_config")
    decoder = {*TEXT, *FIXED_TEXT, *TEXT_FORMS}
    _known("", fields, {*SILENT, *decoder, "text_config", "vision_config"})
    if nested:
        _known("text_config.", text, {*SILENT, *decoder})
        _agree(fields, text)
    known_vision = {*VISION, *FIXED_VISION, "fullatt_block_indexes", "rope_parameters"}
    known_vision |= {"spatial_patch_size", "tokens_per_second"}
    _known("vision_config.", vision, {*SILENT, *known_vision})
    try:
        return ModelConfig(
            vision=_vision(vision),
            text=_text(text, tied=bool(_flag(fields, "tie_word_embeddings"))),
            compute_dtype=_compute_dtype(fields),
            remat="full",  # as for all released sizes
        )
    except ConfigError:
        raise
    except ValueError as error:  # sizes that do not fit each other
        raise ConfigError(str(error)) from error


def _group(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = fields.get(name)
    if not isinstance(value, dict):
        raise ConfigError(f"{name}: expected an object, got {value!r:.40}.")
    return value


def _known(place: str, fields: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(name for name in fields.keys() - known if fields[name] is not None)
    for name in QUANTISED:
        if name in unknown:
            method = fields[name].get("quant_method") if isinstance(fields[name], dict) else None
            raise ConfigError(
                f"{place}{name}: expected weights that are not quantised, "
                f"got {method or fields[name]!r:.80}; the model is needed in float32, bfloat16 or "
                "float16."
            )
    if unknown:
        name = unknown[0]
        raise ConfigError(
            f"{place}{name}: unsupported field (value {fields[name]!r:.40}); what it changes in "
            "the model is not known here."
        )


def _agree(fields: Mapping[str, Any], text: Mapping[str, Any]) -> None:
    """What stands at the top and under text_config is the same. Only the vocabulary's size at the
    top may be an old one: resizing the embeddings, transformers 4.52 to 4.57 leave it there.
    """
    for name in (*TEXT.keys() - {"vocab_size"}, "rms_norm_eps", "rope_theta"):
        if name in fields and name in text and fields[name] != text[name]:
            raise ConfigError(
                f"{name}: {fields[name]!r} at the top, {text[name]!r} in text_config; "
                "expected the same."
            )


def _integer(place: str, fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name)
    if type(value) is not int or value < 1:
        raise ConfigError(f"{place}{name}: expected a whole number above 0, got {value!r:.40}.")
    most = MOST_LAYERS if name in ("num_hidden_layers", "depth") else MOST
    if value > most:
        raise ConfigError(f"{place}{name}: expected at most {most}, got {value!r:.40}.")
    return value


def _number(place: str, value: Any) -> float:
    if type(value) not in (int, float) or not 0 < value < float("inf"):
        raise ConfigError(f"{place}: expected a number above 0, got {value!r:.40}.")
    return float(value)


def _flag(fields: Mapping[str, Any], name: str) -> bool | None:
    value = fields.get(name)
    if value is not None and type(value) is not bool:
        raise ConfigError(f"{name}: expected true or false, got {value!r:.40}.")
    return value


def _fixed(place: str, fields: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    for name, value in expected.items():
        if fields.get(name) not in (None, value):
            raise ConfigError(
                f"{place}{name}: unsupported value {fields[name]!r:.40}; expected {value!r}."
            )


def _integers(place: str, value: Any, *, least: int) -> tuple[int, ...]:
    if not isinstance(value, list) or any(type(x) is not int or x < least for x in value):
        raise ConfigError(
            f"{place}: expected a list of whole numbers from {least}, got {value!r:.40}."
        )
    return tuple(value)


def _vision(fields: Mapping[str, Any]) -> VisionConfig:
    place, fields = "vision_config.", VISION_DEFAULTS | dict(fields)
    sizes = {name: _integer(place, fields, name) for name in VISION}
    _fixed(place, fields, FIXED_VISION | {"spatial_patch_size": sizes["patch_size"]})
    if fields.get("rope_parameters") is not None:
        _fixed(place, fields, {"rope_parameters": VISION_ROPE})
    full = _integers(f"{place}fullatt_block_indexes", fields.get("fullatt_block_indexes"), least=0)
    if sizes["hidden_size"] % sizes["num_heads"]:
        raise ConfigError(
            f"{place}hidden_size: expected a multiple of num_heads={sizes['num_heads']}, "
            f"got {sizes['hidden_size']}."
        )
    rate = _integer(place, fields, "tokens_per_second")
    return VisionConfig(**sizes, fullatt_block_indexes=full, tokens_per_second=rate)


def _text(fields: Mapping[str, Any], *, tied: bool) -> TextConfig:
    sizes = {ours: _integer("", fields, theirs) for theirs, ours in TEXT.items()}
    layers, heads = sizes["num_layers"], sizes["num_heads"]
    head_dim, rest = divmod(sizes["hidden_size"], heads)
    if rest:
        raise ConfigError(
            f"hidden_size: expected a multiple of num_attention_heads={heads}, "
            f"got {sizes['hidden_size']}."
        )
    everywhere = ["full_attention"] * layers
    _fixed("", fields, FIXED_TEXT | {"layer_types": everywhere, "head_dim": head_dim})
    theta, section = _rope(fields)
    return TextConfig(
        **sizes,
        head_dim=head_dim,
        mrope_section=section,
        rope_theta=theta,
        rms_norm_eps=_number("rms_norm_eps", fields.get("rms_norm_eps")),
        # As transformers reads it: files from before its version 5 say so under text_config only.
        tie_word_embeddings=tied or bool(_flag(fields, "tie_word_embeddings")),
    )


def _rope(fields: Mapping[str, Any]) -> tuple[float, tuple[int, int, int]]:
    """Base and sections, from `rope_scaling` (to transformers 4) or `rope_parameters` (from 5)."""
    name = "rope_scaling" if fields.get("rope_scaling") is not None else "rope_parameters"
    rope = _group(fields, name)
    _known(f"{name}.", rope, {"type", "rope_type", "mrope_section", "rope_theta"})
    for key in ("type", "rope_type"):
        if rope.get(key, "default") not in ("default", "mrope"):
            raise ConfigError(
                f"{name}.{key}: unsupported value {rope[key]!r:.40}; expected mrope or default."
            )
    section = _integers(f"{name}.mrope_section", rope.get("mrope_section"), least=0)
    if len(section) != 3:
        raise ConfigError(f"{name}.mrope_section: expected 3 numbers, got {len(section)}.")
    theta = _number("rope_theta", rope.get("rope_theta", fields.get("rope_theta")))
    return theta, (section[0], section[1], section[2])


def _compute_dtype(fields: Mapping[str, Any]) -> str:
    dtype = fields.get("dtype", fields.get("torch_dtype"))
    if dtype not in COMPUTE_DTYPES:
        raise ConfigError(f"dtype: expected one of {', '.join(COMPUTE_DTYPES)}, got {dtype!r:.40}.")
    return dtype
