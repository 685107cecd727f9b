"""Half precision and odd weight types on runtimes that compute in float32 alone: for measuring accuracy, not speed.

A product of half-precision numbers is accumulated in float32 and rounded once, as matrix units do it. What is not shown
is the order in which a GPU adds up.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
# Operators that move numbers and compute none: what they are given is rounded already.
_MOVES = frozenset(
    {"Concat", "Expand", "Gather", "Identity", "Reshape", "ScatterElements", "Split", "Squeeze", "TensorScatter",
     "Transpose", "Unsqueeze"}
)  # fmt: skip


def emulated(model: onnx.ModelProto, types: Collection[int] = HALVES) -> onnx.ModelProto:
    """The model with every operator of a half-precision type computed in float32 and its result rounded to that type.

    Args:
        model: with its weights; is changed.
        types: TensorProto data types to emulate.

    Returns:
        The same model. Graph inputs and outputs of these types are float32 now, and hold values of the type.
    """
    inferred = onnx.shape_inference.infer_shapes(model)
    graph = model.graph
    found = {v.name: v.type.tensor_type.elem_type for v in (*inferred.graph.value_info, *graph.input, *graph.output)}
    found |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    for tensor in graph.initializer:
        if tensor.data_type in types:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in types:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in types:
                attribute.i = TensorProto.FLOAT
        nodes.append(node)
        if node.op_type in _MOVES:
            continue
        for place, name in enumerate(node.output):
            kind = found.get(name)
            if kind in types:
                node.output[place] = name + "/exact"
                nodes.append(helper.make_node("Cast", [name + "/exact"], [name + "/rounded"], to=kind))
                nodes.append(helper.make_node("Cast", [name + "/rounded"], [name], to=TensorProto.FLOAT))
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def folded(model: onnx.ModelProto, types: Collection[int] | None = None) -> onnx.ModelProto:
    """The model with its quantised weights dequantised, by ONNX's own reference implementation.

    Args:
        model: with its weights; is changed.
        types: TensorProto data types of the weights that are meant; None: all.
    """
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        constant = node.op_type == "DequantizeLinear" and all(name in stored for name in node.input)
        if not constant or (types is not None and stored[node.input[0]].data_type not in types):
            kept.append(node)
            continue
        known = {name: numpy_helper.to_array(stored[name]) for name in node.input}
        inputs = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(known[n].dtype), known[n].shape)
            for n in node.input
        ]
        output = helper.make_tensor_value_info(node.output[0], TensorProto.UNDEFINED, None)
        alone = helper.make_model(helper.make_graph([node], "one", inputs, [output]), opset_imports=model.opset_import)
        (weight,) = ReferenceEvaluator(alone).run(None, known)
        stored[node.output[0]] = numpy_helper.from_array(weight, node.output[0])
        graph.initializer.append(stored[node.output[0]])
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    tensors = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    return model
