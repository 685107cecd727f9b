"""Parts of a finished graph, for running it piece by piece where the whole does not fit into memory."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper

from exaone_ros.model.onnx_graph import Graph


def cut(graph: Graph, inputs: Sequence[str], outputs: Sequence[str]) -> Graph:
    """The nodes that compute some values of a graph from others, as a graph of its own with the weights they need.

    Args:
        graph: to take from; stays as it is.
        inputs: float32 matrices inside the graph that are fed instead of computed.
        outputs: float32 matrices inside the graph that are wanted.

    Returns:
        A graph whose inputs are `inputs`, as far as they are needed, and those inputs of the whole that the part reads.

    Raises:
        ValueError: a value that no node computes.
    """
    source = graph.model.graph
    producer = {name: node for node in source.node for name in node.output}
    unknown = [name for name in (*inputs, *outputs) if name not in producer]
    if unknown:
        raise ValueError(f"graph '{source.name}' computes no value {unknown[0]!r}")
    needed: set[str] = set()
    waiting = [name for name in outputs if name not in inputs]
    while waiting:
        node = producer[waiting.pop()]
        if node.name in needed:
            continue
        needed.add(node.name)
        waiting += [name for name in node.input if name in producer and name not in inputs]
    nodes = [node for node in source.node if node.name in needed]
    read = {name for node in nodes for name in node.input}
    fed = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None]) for name in inputs if name in read]
    wanted = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None]) for name in outputs]
    part = helper.make_graph(nodes, source.name, [*fed, *(v for v in source.input if v.name in read)], wanted)
    model: onnx.ModelProto = helper.make_model(
        part, opset_imports=graph.model.opset_import, ir_version=graph.model.ir_version
    )
    return Graph(model, {name: value for name, value in graph.values.items() if name in read})


def product_inputs(graph: Graph) -> dict[str, str]:
    """For each plain linear layer of a graph the value that it multiplies: name of the layer -> name of the value."""
    found = {}
    for node in graph.model.graph.node:
        if node.op_type == "Gemm" and node.input[1].endswith(".weight"):
            found[node.input[1].removesuffix(".weight")] = node.input[0]
    return found
