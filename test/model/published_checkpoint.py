"""Small checkpoints laid out as quantised releases are, packed here by the letter of each format, word by word."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from model.tiny_checkpoint import random_weights, tiny_config
from numpy.typing import NDArray

Parts = dict[str, tuple[str, NDArray[Any]]]
"""What follows the layer's name -> safetensors type and values."""
GROUP = 32
FP8 = ml_dtypes.float8_e4m3fn
AWQ_COLUMNS = (0, 2, 4, 6, 1, 3, 5, 7)  # AutoAWQ's packing order of the "gemm" version

CONFIGS: dict[str, dict[str, Any]] = {
    "awq": {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm", "zero_point": True},
    "fp8-blocks": {
        "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [32, GROUP],
        "modules_to_not_convert": ["lm_head", "model.visual"],
    },
    "fp8-channel": {
        "quant_method": "compressed-tensors", "format": "float-quantized", "quantization_status": "compressed",
        "config_groups": {
            "group_0": {"weights": {"type": "float", "num_bits": 8, "strategy": "channel", "symmetric": True}}
        },
    },
    "packed": {
        "quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed",
        "config_groups": {
            "group_0": {
                "weights": {
                    "type": "int", "num_bits": 4, "strategy": "group", "group_size": GROUP, "symmetric": False,
                    "actorder": None,
                }
            }
        },
    },
}  # fmt: skip


def words(nibbles: NDArray[np.integer[Any]], order: tuple[int, ...]) -> NDArray[np.int32]:
    """[n, 8 * m] values 0..15 as int32 [n, m]; place i of a word holds column `order[i]`."""
    packed = np.zeros((nibbles.shape[0], nibbles.shape[1] // 8), np.int64)
    for place, column in enumerate(order):
        packed |= nibbles[:, column::8].astype(np.int64) << (4 * place)
    return packed.astype(np.uint32).view(np.int32)


def awq(weight: NDArray[np.float32], rng: np.random.Generator, group: int) -> tuple[Parts, NDArray[np.float32]]:
    out, into = weight.shape
    values, zeros = rng.integers(0, 16, (into, out)), rng.integers(0, 16, (into // group, out))
    scales = (0.02 + 0.01 * rng.random((into // group, out))).astype(np.float16)
    exact = (values - np.repeat(zeros, group, 0)) * np.repeat(scales.astype(np.float32), group, 0)
    parts: Parts = {
        ".qweight": ("I32", words(values, AWQ_COLUMNS)), ".qzeros": ("I32", words(zeros, AWQ_COLUMNS)),
        ".scales": ("F16", scales),
    }  # fmt: skip
    return parts, exact.T.astype(np.float32)


def fp8_blocks(weight: NDArray[np.float32], rng: np.random.Generator, group: int) -> tuple[Parts, NDArray[np.float32]]:
    out, into = weight.shape
    scale = (0.002 + 0.001 * rng.random((out // group, into // group))).astype(np.float32)
    wide = np.kron(scale, np.ones((group, group), np.float32))
    values = np.clip(weight / wide, -448, 448).astype(FP8)
    return {".weight": ("F8_E4M3", values), ".weight_scale_inv": ("F32", scale)}, values.astype(np.float32) * wide


def fp8_channel(weight: NDArray[np.float32], rng: np.random.Generator, group: int) -> tuple[Parts, NDArray[np.float32]]:
    scale = (np.abs(weight).max(axis=1, keepdims=True) / 448).astype(ml_dtypes.bfloat16)
    values = np.clip(weight / scale.astype(np.float32), -448, 448).astype(FP8)
    return (
        {".weight": ("F8_E4M3", values), ".weight_scale": ("BF16", scale)},
        values.astype(np.float32) * scale.astype(np.float32),
    )


def packed(weight: NDArray[np.float32], rng: np.random.Generator, group: int) -> tuple[Parts, NDArray[np.float32]]:
    out, into = weight.shape
    values, zeros = rng.integers(-8, 8, (out, into)), rng.integers(-8, 8, (out, into // group))
    scale = (0.02 + 0.01 * rng.random((out, into // group))).astype(ml_dtypes.bfloat16)
    exact = (values - np.repeat(zeros, group, 1)) * np.repeat(scale.astype(np.float32), group, 1)
    order = tuple(range(8))
    parts: Parts = {
        ".weight_packed": ("I32", words(values + 8, order)),
        ".weight_scale": ("BF16", scale),
        ".weight_zero_point": ("I32", np.ascontiguousarray(words((zeros + 8).T, order).T)),
        ".weight_shape": ("I64", np.array([out, into], np.int64)),
    }
    return parts, exact.astype(np.float32)


PACKERS: dict[str, Callable[..., tuple[Parts, NDArray[np.float32]]]] = {
    "awq": awq, "fp8-blocks": fp8_blocks, "fp8-channel": fp8_channel, "packed": packed,
}  # fmt: skip


def write_parts(path: Path, tensors: Mapping[str, tuple[str, NDArray[Any]]]) -> None:
    """A safetensors file of tensors of any type."""
    header: dict[str, Any] = {}
    data = b""
    for name, (dtype, values) in tensors.items():
        raw = values.tobytes()
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def published_tensors(
    kind: str, config: dict[str, Any], group: int = GROUP
) -> tuple[Parts, dict[str, NDArray[np.float32]]]:
    """Tensors of a release, its attention's output projections left plain, and what the quantised ones amount to."""
    rng = np.random.default_rng(5)
    tensors: Parts = {}
    exact = {}
    for name, values in random_weights(config).items():
        layer = name.removesuffix(".weight")
        if ".layers." in name and name.endswith("_proj.weight") and "o_proj" not in name:
            parts, exact[name] = PACKERS[kind](values, rng, group)
            tensors |= {layer + part: tensor for part, tensor in parts.items()}
        else:
            tensors[name] = ("BF16", values.astype(ml_dtypes.bfloat16))
    return tensors, exact


def write_published(
    directory: Path,
    kind: str,
    config: dict[str, Any] | None = None,
    group: int = GROUP,
    **changes: Any,
) -> dict[str, NDArray[np.float32]]:
    """Write a quantised release; returns what its quantised weights amount to, float32 [out, in] by stored name."""
    directory.mkdir(parents=True, exist_ok=True)
    config = dict(config or tiny_config())
    tensors, exact = published_tensors(kind, config, group)
    named = json.loads(json.dumps(CONFIGS[kind]).replace(f'"group_size": {GROUP}', f'"group_size": {group}'))
    if "weight_block_size" in named:
        named["weight_block_size"] = [group, group]
    config["quantization_config"] = {**named, **changes}
    (directory / "config.json").write_text(json.dumps(config))
    size = {"shortest_edge": 3136, "longest_edge": 200_000}
    (directory / "preprocessor_config.json").write_text(json.dumps({"size": size}))
    write_parts(directory / "model.safetensors", tensors)
    return exact
