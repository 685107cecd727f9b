"""The velocity field of a flow-matching action head as an ONNX graph, written by hand like the model's own graphs.

    features  float32 [1, T, D]   what was seen and asked
    state     float32 [1, S]      normalised proprioception
    actions   float32 [1, H, A]   normalised, between noise and answer
    time      float32 [1]         0 = noise, 1 = answer
    velocity  float32 [1, H, A]

Transformer blocks over the actions: they look at each other, then at features and state, then an MLP; norms come first.
The weights are named as in `training.flow_network`, which trains them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from exaone_ros.model.graph_builder import GraphBuilder
from exaone_ros.model.onnx_graph import MIN_OPSET, Graph

INPUTS = ("features", "state", "actions", "time")
OUTPUT = "velocity"
NORM_EPS = 1e-5


def build_flow(weights: Mapping[str, NDArray[np.float32]], heads: int, opset: int = MIN_OPSET) -> Graph:
    """Build the graph.

    Args:
        weights: by name.
        heads: of the attention.
        opset: the earliest one does everything that is needed here, on every runtime.

    Raises:
        ValueError: a weight is missing, or the width is no multiple of the heads.
    """
    missing = [name for name in ("see.weight", "see_place", "feel.weight", "act_place") if name not in weights]
    if missing:
        raise ValueError(f"weights lack '{missing[0]}'; have {sorted(weights)[:5]} and so on")
    layers = _Layers(GraphBuilder("flow_head", opset, None), weights, heads)
    return layers.build()


class _Layers:
    """Adds the layers one by one; weights are constants of the graph."""

    def __init__(self, g: GraphBuilder, weights: Mapping[str, NDArray[np.float32]], heads: int) -> None:
        self._g, self._weights, self._heads = g, weights, heads
        self._width = weights["act_place"].shape[1]
        if self._width % heads:
            raise ValueError(f"width {self._width} is no multiple of {heads} heads")

    def build(self) -> Graph:
        g, weights = self._g, self._weights
        tokens, depth = weights["see_place"].shape[0], weights["see.weight"].shape[1]
        state, joints = weights["feel.weight"].shape[1], weights["act.weight"].shape[1]
        horizon = weights["act_place"].shape[0]
        shapes = ([1, tokens, depth], [1, state], [1, horizon, joints], [1])
        seen, felt, acted, when = (g.input(name, np.float32, shape) for name, shape in zip(INPUTS, shapes, strict=True))
        context = g.op("Add", self._linear(seen, "see"), self._table("see_place"))
        felt = g.op("Unsqueeze", self._linear(felt, "feel"), g.ints(1))
        context = g.op("Concat", context, felt, axis=1)
        when = self._linear(g.op("Unsqueeze", when, g.ints(1)), "when.0")
        when = g.op("Unsqueeze", self._linear(self._silu(when), "when.2"), g.ints(1))
        x = g.op("Add", g.op("Add", self._linear(acted, "act"), self._table("act_place")), when)
        for block in range(1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))):
            prefix = f"blocks.{block}."
            y = self._norm(x, prefix + "norms.0")
            x = g.op("Add", x, self._attend(y, y, prefix + "among."))
            x = g.op("Add", x, self._attend(self._norm(x, prefix + "norms.1"), context, prefix + "across."))
            y = self._linear(self._norm(x, prefix + "norms.2"), prefix + "think.0")
            x = g.op("Add", x, self._linear(self._silu(y), prefix + "think.2"))
        out = self._linear(self._norm(x, "norm"), "out", name=OUTPUT)
        g.output(out, np.float32, [1, horizon, joints])
        return g.finish()

    def _table(self, name: str) -> str:
        return self._g.table(name, np.asarray(self._weights[name], np.float32))

    def _linear(self, x: str, layer: str, name: str = "") -> str:
        """[..., in] -> [..., out]."""
        weight = self._g.table(layer + ".weight", np.asarray(self._weights[layer + ".weight"], np.float32).T)
        return self._g.op("Add", self._g.op("MatMul", x, weight), self._table(layer + ".bias"), name=name)

    def _norm(self, x: str, layer: str) -> str:
        scale, shift = self._table(layer + ".weight"), self._table(layer + ".bias")
        return self._g.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=NORM_EPS)

    def _silu(self, x: str) -> str:
        return self._g.op("Mul", x, self._g.op("Sigmoid", x))

    def _attend(self, x: str, context: str, layer: str) -> str:
        """[1, N, width] looking at [1, M, width]."""
        g, heads, size = self._g, self._heads, self._width // self._heads
        q, k, v = (
            g.op("Transpose", g.reshape(self._linear(y, layer + what), 0, -1, heads, size), perm=[0, 2, 1, 3])
            for what, y in (("query", x), ("key", context), ("value", context))
        )
        mixed = g.op("Transpose", g.attention(q, k, v, None, heads, heads, size), perm=[0, 2, 1, 3])
        return self._linear(g.reshape(mixed, 0, -1, heads * size), layer + "out")
