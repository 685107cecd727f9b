"""Random checkpoints with the structure of EXAONE 4.5: small enough for a test, wide enough to discriminate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.model.checkpoint import expected_shapes, mtp_shapes
from exaone_ros.model.config import ModelConfig

VOCAB = 160
PREFIXES = {"visual.": "model.visual.", "text.": "model.language_model.", "lm_head.": "lm_head.", "mtp.": "mtp."}


def tiny_config(
    text: Mapping[str, Any] | None = None, vision: Mapping[str, Any] | None = None, **top: Any
) -> dict[str, Any]:
    """Content of a config.json: window attention and sliding windows short enough to matter, llama3 RoPE."""
    return {
        "model_type": "exaone4_5",
        "image_token_id": 67,
        "video_token_id": 68,
        "tie_word_embeddings": False,
        "text_config": {
            "model_type": "exaone4",
            "vocab_size": VOCAB,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "hidden_act": "silu",
            "max_position_embeddings": 65536,
            "rms_norm_eps": 1e-5,
            "sliding_window": 24,
            "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 10000.0,
                "factor": 16.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
            "bos_token_id": 1,
            "eos_token_id": 53,
            "pad_token_id": 0,
            **(text or {}),
        },
        "vision_config": {
            "model_type": "exaone4_5_vision",
            "depth": 4,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_heads": 4,
            "num_key_value_heads": 2,
            "out_hidden_size": (text or {}).get("hidden_size", 64),
            "fullatt_block_indexes": [1, 3],
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            **(vision or {}),
        },
        **top,
    }


def random_weights(config: dict[str, Any], seed: int = 0, *, mtp: bool = False) -> dict[str, NDArray[np.float32]]:
    """Weights by the names that transformers writes. Wider than its own initialisation, so that errors show."""
    rng = np.random.default_rng(seed)
    weights = {}
    parsed = ModelConfig.parse(config)
    for name, shape in (expected_shapes(parsed) | (mtp_shapes(parsed.text) if mtp else {})).items():
        if len(shape) >= 2:
            values = rng.normal(0, 1.4 / np.prod(shape[1:]) ** 0.5, shape)
        elif name.endswith(".bias"):
            values = rng.normal(0, 0.1, shape)
        else:
            values = 1 + 0.2 * rng.normal(size=shape)
        prefix = next(p for p in PREFIXES if name.startswith(p))
        weights[PREFIXES[prefix] + name[len(prefix) :]] = values.astype(np.float32)
    return weights


def encoded(values: NDArray[np.float32], dtype: str) -> bytes:
    """The bytes of values in a safetensors type."""
    if dtype == "BF16":
        return (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    return values.astype({"F32": "<f4", "F16": "<f2"}[dtype]).tobytes()


def write_safetensors(path: Path, weights: Mapping[str, NDArray[np.float32]], dtype: str = "F32") -> None:
    """Write a safetensors file by the letter of the format, independent of the code under test."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, values in weights.items():
        raw = encoded(values, dtype)
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def write_checkpoint(
    directory: Path,
    config: dict[str, Any] | None = None,
    seed: int = 0,
    dtype: str = "F32",
    max_px: int = 200_000,
    *,
    mtp: bool = False,
) -> Path:
    """Write a whole random checkpoint without tokenizer."""
    config = config or tiny_config()
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    size = {"shortest_edge": 3136, "longest_edge": max_px}
    (directory / "preprocessor_config.json").write_text(json.dumps({"size": size}))
    write_safetensors(directory / "model.safetensors", random_weights(config, seed, mtp=mtp), dtype)
    return directory
