"""Runs graphs of any precision under ONNX Runtime's CPU provider, bfloat16 included, which it does not compute in."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from exaone_ros.model.config import ModelConfig
from exaone_ros.model.onnx_graph import Graph
from exaone_ros.model.onnx_values import onnx_type

BFLOAT16, FLOAT = TensorProto.BFLOAT16, TensorProto.FLOAT
_DTYPES = {FLOAT: np.float32, TensorProto.FLOAT16: np.float16, BFLOAT16: ml_dtypes.bfloat16}


def emulated(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every bfloat16 operator computed in float32 and its result rounded to bfloat16.

    Graph inputs and outputs become float32, with values that bfloat16 holds.
    """
    inferred = onnx.shape_inference.infer_shapes(model)
    graph = model.graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*inferred.graph.value_info, *graph.input, *graph.output)}
    types |= {v.name: v.data_type for v in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for tensor in graph.initializer:
        if tensor.data_type == BFLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == BFLOAT16:
            value.type.tensor_type.elem_type = FLOAT
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == BFLOAT16:
                attribute.i = FLOAT
        rounded = [name for name in node.output if types.get(name) == BFLOAT16]
        nodes.append(node)
        for place, name in enumerate(node.output):
            if name in rounded:
                node.output[place] = name + "/exact"
                nodes.append(helper.make_node("Cast", [name + "/exact"], [name + "/rounded"], to=BFLOAT16))
                nodes.append(helper.make_node("Cast", [name + "/rounded"], [name], to=FLOAT))
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def without_fp4(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its FLOAT4E2M1 weights dequantised by ONNX's own reference: ONNX Runtime has no kernel for it."""
    if not any(tensor.data_type == TensorProto.FLOAT4E2M1 for tensor in model.graph.initializer):
        return model
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    known = {name: numpy_helper.to_array(tensor) for name, tensor in constants.items()}
    kept = []
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or not {node.input[0], node.input[1]} <= known.keys():
            kept.append(node)
            continue
        inputs = [helper.make_tensor_value_info(n, onnx_type(known[n].dtype), known[n].shape) for n in node.input]
        output = helper.make_tensor_value_info(node.output[0], TensorProto.UNDEFINED, None)
        alone = helper.make_model(helper.make_graph([node], "one", inputs, [output]), opset_imports=model.opset_import)
        known[node.output[0]] = ReferenceEvaluator(alone).run(None, {n: known[n] for n in node.input})[0]
        graph.initializer.append(numpy_helper.from_array(known[node.output[0]], node.output[0]))
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    tensors = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    return model


def session(graph: Graph) -> onnxruntime.InferenceSession:
    model = without_fp4(onnx.load_from_string(graph.to_bytes()))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    # Otherwise ONNX Runtime rounds activations to int8 where weights are integers.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    return onnxruntime.InferenceSession(
        emulated(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
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
