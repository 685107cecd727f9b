"""The bundled checkpoint's architecture: a tiny EXAONE 4.5, and weights that learn fast from nothing.

The model itself is `transformers`' own `Exaone4_5_ForConditionalGeneration`; only sizes and starting values are ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import Exaone4_5_Config, Exaone4_5_ForConditionalGeneration

from exaone_ros.training import tokenizer

PATCH = 14
MERGE = 2
TEMPORAL = 2
TOKEN_PX = PATCH * MERGE
PATCH_VALUES = 3 * TEMPORAL * PATCH * PATCH


@dataclass(frozen=True)
class Sizes:
    """Sizes of a tiny EXAONE 4.5.

    Attributes:
        vision_width, vision_mlp, vision_layers, vision_heads, vision_kv_heads: the vision encoder's.
        full_attention: indexes of the vision layers that see the whole image.
        window_px: side of the attention window of the other vision layers.
        text_width, text_mlp, text_layers, text_heads, text_kv_heads: the decoder's; every fourth layer is global.
        sliding_window: of the other decoder layers, in tokens.
        context: positions.
    """

    vision_width: int = 192
    vision_mlp: int = 512
    vision_layers: int = 4
    vision_heads: int = 4
    vision_kv_heads: int = 2
    full_attention: tuple[int, ...] = (1, 3)
    window_px: int = 112
    text_width: int = 192
    text_mlp: int = 512
    text_layers: int = 4
    text_heads: int = 4
    text_kv_heads: int = 2
    sliding_window: int = 1024
    context: int = 4096


def build_config(sizes: Sizes, vocabulary_size: int) -> Exaone4_5_Config:
    """The Hugging Face configuration of a tiny EXAONE 4.5 of these sizes."""
    pattern = ("sliding_attention", "sliding_attention", "sliding_attention", "full_attention")
    text: dict[str, Any] = {
        "model_type": "exaone4", "vocab_size": vocabulary_size, "hidden_size": sizes.text_width,
        "intermediate_size": sizes.text_mlp, "num_hidden_layers": sizes.text_layers,
        "num_attention_heads": sizes.text_heads, "num_key_value_heads": sizes.text_kv_heads,
        "head_dim": sizes.text_width // sizes.text_heads, "max_position_embeddings": sizes.context,
        "rms_norm_eps": 1e-5,
        "bos_token_id": 1, "eos_token_id": tokenizer.EOS_ID, "pad_token_id": 0,
        "sliding_window": sizes.sliding_window, "sliding_window_pattern": 4,
        "layer_types": [pattern[i % 4] for i in range(sizes.text_layers)],
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0}, "tie_word_embeddings": False,
    }  # fmt: skip
    vision: dict[str, Any] = {
        "depth": sizes.vision_layers, "hidden_size": sizes.vision_width, "intermediate_size": sizes.vision_mlp,
        "num_heads": sizes.vision_heads, "num_key_value_heads": sizes.vision_kv_heads, "patch_size": PATCH,
        "spatial_merge_size": MERGE, "temporal_patch_size": TEMPORAL, "window_size": sizes.window_px,
        "out_hidden_size": sizes.text_width, "fullatt_block_indexes": list(sizes.full_attention),
        "rope_parameters": {"rope_type": "axial", "rope_theta": 100.0},
    }  # fmt: skip
    return Exaone4_5_Config(
        text_config=text,
        vision_config=vision,
        image_token_id=tokenizer.IMAGE_ID,
        video_token_id=tokenizer.VIDEO_ID,
        vision_start_token_id=73,
        vision_end_token_id=74,
        tie_word_embeddings=False,
        architectures=["Exaone4_5_ForConditionalGeneration"],
    )


def build_model(config: Exaone4_5_Config, seed: int) -> Exaone4_5_ForConditionalGeneration:
    """Make the model in float32 with the starting values of `initialise`, the same for the same seed."""
    torch.manual_seed(seed)
    model = Exaone4_5_ForConditionalGeneration(config).float()
    initialise(model)
    return model


@torch.no_grad()
def initialise(model: Exaone4_5_ForConditionalGeneration) -> None:
    """Set starting values.

    Matrices keep the scale of what passes through them, residual branches start small, and the numbers 0..1000 start
    on a smooth curve (sines of rising frequency): neighbouring coordinates are neighbours from the first step on.
    """
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and "embed" not in name and "lm_head" not in name:
            parameter.normal_(0, parameter.shape[1] ** -0.5)
        if name.endswith(("o_proj.weight", "down_proj.weight", "attn.proj.weight")):
            parameter.mul_(0.5)
    model.model.visual.patch_embed.proj.weight.normal_(0, 1.5 * PATCH_VALUES**-0.5)
    embedding: nn.Parameter = model.model.language_model.embed_tokens.weight
    head: nn.Parameter = model.lm_head.weight
    embedding.normal_(0, 1)
    head.normal_(0, 0.02)
    width = embedding.shape[1]
    waves = width // 4
    first, last = tokenizer.first_number_id(), tokenizer.first_number_id() + tokenizer.LARGEST_NUMBER + 1
    value = torch.arange(last - first, dtype=torch.float32) / tokenizer.LARGEST_NUMBER
    frequency = math.pi * torch.logspace(0, math.log10(60), waves)
    curve = torch.cat([torch.sin(value[:, None] * frequency), torch.cos(value[:, None] * frequency)], dim=1)
    curve = curve @ (torch.randn(2 * waves, width) / math.sqrt(waves))
    embedding[first:last] = curve + 0.05 * torch.randn_like(curve)
    head[first:last] = 0.04 * curve
    for layer in model.model.language_model.layers:
        layer.post_attention_layernorm.weight.fill_(0.5)
        layer.post_feedforward_layernorm.weight.fill_(0.5)
