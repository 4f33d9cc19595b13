"""The other side of `launch.bench model`: transformers' model on PyTorch, given our weights."""

import os
from typing import Any

import numpy as np

from launch.bench_model import Inputs, special_ids
from spatialevo_jax.models.qwen2_5_vl import folders, weights
from spatialevo_jax.models.qwen2_5_vl.config import ModelConfig


def transformers_config(config: ModelConfig) -> Any:
    """transformers' configuration of the same shapes."""
    from transformers import Qwen2_5_VLConfig

    text, vision, ids = config.text, config.vision, special_ids(config)
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": text.vocab_size,
            "hidden_size": text.hidden_size,
            "intermediate_size": text.intermediate_size,
            "num_hidden_layers": text.num_layers,
            "num_attention_heads": text.num_heads,
            "num_key_value_heads": text.num_kv_heads,
            "rms_norm_eps": text.rms_norm_eps,
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": list(text.mrope_section),
                "rope_theta": text.rope_theta,
            },
            "tie_word_embeddings": text.tie_word_embeddings,
            "bos_token_id": None,
            "eos_token_id": ids.im_end,
            "pad_token_id": ids.pad,
        },
        vision_config={
            "depth": vision.depth,
            "hidden_size": vision.hidden_size,
            "intermediate_size": vision.intermediate_size,
            "num_heads": vision.num_heads,
            "out_hidden_size": vision.out_hidden_size,
            "fullatt_block_indexes": list(vision.fullatt_block_indexes),
            "window_size": vision.window_size,
            "patch_size": vision.patch_size,
        },
        image_token_id=ids.image_pad,
        video_token_id=ids.video_pad,
        vision_start_token_id=ids.vision_start,
        vision_end_token_id=ids.vision_end,
        tie_word_embeddings=text.tie_word_embeddings,
    )


class Theirs:
    """transformers' model with the same weights, and the same inputs as its arguments."""

    def __init__(self, params: Any, config: ModelConfig, inputs: Inputs, dtype: str) -> None:
        import torch
        from transformers import Qwen2_5_VLForConditionalGeneration

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        kind = getattr(torch, dtype)
        self.torch, self.inputs = torch, inputs
        self.model: Any = (
            Qwen2_5_VLForConditionalGeneration(transformers_config(config)).to(kind).eval()
        )
        released = weights.to_released(params, config)
        native = {theirs: ours for theirs, ours in folders.NATIVE}
        state = {}
        for name in self.model.state_dict():
            start = next((theirs for theirs in native if name.startswith(theirs)), "")
            known = native.get(start, "") + name.removeprefix(start)
            known = weights.EMBEDDING if known not in released else known  # a tied head
            state[name] = torch.from_numpy(released[known].astype(np.float32)).to(kind)
        self.model.load_state_dict(state)
        tokens = torch.from_numpy(np.asarray(inputs.prompts.tokens)).long()
        self.arguments = {
            "input_ids": tokens,
            "attention_mask": torch.ones_like(tokens),
            "pixel_values": torch.from_numpy(
                np.concatenate([one.values for one in inputs.patches])
            ).to(kind),
            "image_grid_thw": torch.tensor([one.grid for one in inputs.patches]),
            "mm_token_type_ids": (tokens == special_ids(config).image_pad).int(),
        }

    def products(self, rows: int) -> None:
        """Rows times every matrix of the decoder."""
        torch, kind = self.torch, self.arguments["pixel_values"].dtype
        linear, product = [self.model.lm_head], torch.nn.functional.linear
        for layer in self.model.model.language_model.layers:
            attention = layer.self_attn
            linear += [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
            linear += [layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj]
        widths = {one.in_features for one in linear}
        given = {width: torch.ones(rows, width, dtype=kind) for width in widths}
        with torch.no_grad():
            for one in linear:
                product(given[one.in_features], one.weight)

    def forward(self) -> Any:
        with self.torch.no_grad():
            return self.model(**self.arguments, use_cache=False).logits

    def gradient(self) -> None:
        self.model.zero_grad(set_to_none=True)
        labels = self.arguments["input_ids"]
        self.model(**self.arguments, use_cache=False, labels=labels).loss.backward()

    def generate(self, length: int) -> None:
        with self.torch.no_grad():
            self.model.generate(
                **self.arguments,
                max_new_tokens=length,
                min_new_tokens=length,
                num_return_sequences=self.inputs.shapes.samples,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
            )
