"""Runs graphs of any precision under ONNX Runtime's CPU provider, bfloat16 included, which it does not compute in."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from exaone_ros.engine.backends.onnx_support import best_opset
from exaone_ros.model.config import ModelConfig
from exaone_ros.model.emulate import emulated, folded
from exaone_ros.model.onnx_graph import Graph

FP4 = (TensorProto.FLOAT4E2M1, TensorProto.FLOAT8E4M3FN)
"""ONNX Runtime has no kernel for NVFP4's values; their scales are FP8 that is dequantised first."""


def needs_opset(opset: int) -> None:
    """Skip a test whose graph the ONNX Runtime that is here is too old for."""
    if opset > best_opset(onnxruntime):
        pytest.skip(f"onnxruntime {onnxruntime.__version__} does not run opset {opset}")


def session(graph: Graph) -> onnxruntime.InferenceSession:
    model = onnx.load_from_string(graph.to_bytes())
    if any(tensor.data_type == TensorProto.FLOAT4E2M1 for tensor in model.graph.initializer):
        model = folded(model, FP4)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    # Otherwise ONNX Runtime rounds activations to int8 where weights are integers.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    return onnxruntime.InferenceSession(
        emulated(model, [TensorProto.BFLOAT16]).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


class DecoderSession:
    """A decoder graph with its caches: all rows start together."""

    def __init__(self, graph: Graph, config: ModelConfig, rows: int, capacity: int) -> None:
        self._session = session(graph)
        self._text = config.text
        self._capacity = capacity
        self._inputs = {value.name for value in self._session.get_inputs()}
        types = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        shape = (rows, config.text.kv_heads, capacity, config.text.head_dim)
        self.caches = {
            value.name: np.zeros(shape, types[value.type])
            for value in self._session.get_inputs()
            if value.name.startswith("past_")
        }
        self._held = 0

    def run(self, ids: NDArray[np.int64], visual: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Append ids [B, S], the first of each row being visual tokens; logits [B, S, vocab]."""
        rows, length = ids.shape
        seen = 0 if visual is None else len(visual)
        positions = np.broadcast_to(self._held + np.arange(length), ids.shape)
        key, query = np.arange(self._capacity), positions[:, None, :, None]
        window = self._text.sliding_window or self._capacity
        visual_row = np.broadcast_to(np.where(np.arange(length) < seen, np.arange(length), -1), ids.shape)
        feeds: dict[str, Any] = {
            "input_ids": ids,
            "visual": np.zeros((1, self._text.hidden), np.float32) if visual is None else visual,
            "visual_row": visual_row,
            "position_ids": positions,
            "write_index": np.full(rows, self._held, np.int64),
            "mask_global": key <= query,
            "mask_local": (key <= query) & (key > query - window),
            "logit_rows": np.arange(ids.size),
            **self.caches,
        }
        names = [value.name for value in self._session.get_outputs()]
        found = dict(
            zip(names, self._session.run(names, {k: v for k, v in feeds.items() if k in self._inputs}), strict=True)
        )
        self.caches = {name: found[name.replace("past", "present")] for name in self.caches}
        self._held += length
        return found["logits"].reshape(rows, length, -1)
