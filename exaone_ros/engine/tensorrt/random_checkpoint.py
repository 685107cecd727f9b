"""Checkpoints of any size with random weights, for measuring where the real ones cannot be had."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from exaone_ros.model.checkpoint import SINGLE_FILE, Checkpoint, expected_shapes
from exaone_ros.model.config import FULL, SLIDING, ModelConfig

# EXAONE 4.5 33B; see the released config.json.
TEXT_33B: Mapping[str, Any] = {
    "model_type": "exaone4", "vocab_size": 153600, "hidden_size": 5120, "intermediate_size": 27392,
    "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128, "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "max_position_embeddings": 262144, "sliding_window": 4096,
    "rope_parameters": {
        "rope_type": "llama3", "rope_theta": 1e6, "factor": 16.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}  # fmt: skip
VISION_33B: Mapping[str, Any] = {
    "model_type": "exaone4_5_vision", "depth": 28, "hidden_size": 2048, "intermediate_size": 5120, "num_heads": 32,
    "num_key_value_heads": 8, "out_hidden_size": 5120, "fullatt_block_indexes": [6, 13, 20, 27], "patch_size": 14,
    "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112,
}  # fmt: skip
_PIECE = 1 << 22  # elements that are drawn


def layers_of_33b(layers: int, *, vocab: int = 153600, vision_depth: int = 28) -> dict[str, Any]:
    """Content of a config.json: the real width of EXAONE 4.5 33B at another depth."""
    types = [SLIDING if (layer + 1) % 4 else FULL for layer in range(layers)]
    text = {**TEXT_33B, "num_hidden_layers": layers, "vocab_size": vocab, "layer_types": types}
    full = [block for block in VISION_33B["fullatt_block_indexes"] if block < vision_depth] or [vision_depth - 1]
    vision = {**VISION_33B, "depth": vision_depth, "fullatt_block_indexes": full}
    return {"model_type": "exaone4_5", "image_token_id": 67, "text_config": text, "vision_config": vision}


def write_random_checkpoint(directory: Path, config: dict[str, Any], seed: int = 0) -> Checkpoint:
    """Write bfloat16 weights of deviation 0.02, norms of one, piece by piece: no tensor is held whole in memory.

    The same random numbers are used again and again, each time from another place on: drawing as many as the real
    model has takes longer than writing them.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (directory / "preprocessor_config.json").write_text("{}", encoding="utf-8")
    shapes = expected_shapes(ModelConfig.parse(config))
    header: dict[str, Any] = {}
    at = 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape, dtype=np.int64))
        header[_stored(name)] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(seed)
    drawn = (0.02 * rng.standard_normal(_PIECE, np.float32)).astype(ml_dtypes.bfloat16)
    ones = np.ones(max(max(shape) for shape in shapes.values() if len(shape) == 1), drawn.dtype)
    with (directory / SINGLE_FILE).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes.values():
            if len(shape) == 1:
                file.write(ones[: shape[0]].tobytes())
                continue
            left = int(np.prod(shape, dtype=np.int64))
            while left:
                start = int(rng.integers(_PIECE // 2))
                piece = drawn[start : start + left]
                file.write(piece.tobytes())
                left -= len(piece)
    return Checkpoint.open(directory)


def _stored(canonical: str) -> str:
    if canonical.startswith("visual."):
        return "model." + canonical
    return canonical.replace("text.", "model.language_model.", 1) if canonical.startswith("text.") else canonical
