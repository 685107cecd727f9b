"""The decoder without its head: the last hidden states in place of logits.

Inputs as those of `decoder_graph`; the only output is `hidden` float32 [M, hidden], behind the final norm, of the
tokens that `logit_rows` names. It answers nothing and keeps nothing: no caches come out, and the vocabulary's weights
are not in it.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, helper

from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.decoder_graph import build_decoder
from exaone_ros.model.onnx_graph import MAX_OPSET, Graph
from exaone_ros.model.onnx_values import onnx_type

HIDDEN = "hidden"
_FINAL_NORM = "text.norm.weight"


def build_hidden(checkpoint: Checkpoint, context: int, opset: int = MAX_OPSET) -> Graph:
    """Build the graph.

    Args:
        checkpoint: with the weights.
        context: positions that the rotary tables cover.
        opset: ONNX opset.
    """
    decoder = build_decoder(checkpoint, context, opset)
    model = ModelProto()
    model.CopyFrom(decoder.model)
    graph = model.graph
    normed = next(node.output[0] for node in graph.node if _FINAL_NORM in node.input)
    graph.node.append(helper.make_node("Identity", [normed], [HIDDEN], name=HIDDEN))
    del graph.output[:]
    shape = ["M", checkpoint.config.text.hidden]
    graph.output.append(helper.make_tensor_value_info(HIDDEN, onnx_type(np.dtype(np.float32)), shape))
    _drop_unused(model)
    used = {name for node in graph.node for name in node.input}
    return Graph(model, {name: value for name, value in decoder.values.items() if name in used})


def _drop_unused(model: ModelProto) -> None:
    """Remove the nodes that no output depends on."""
    wanted = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    nodes = list(reversed(kept))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
