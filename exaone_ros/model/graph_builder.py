"""Writing an ONNX graph by hand: a builder, and the layers that vision and decoder share.

Graphs are built from the checkpoint, not traced: tracing `transformers`' vision encoder bakes the windows of one image
size into the graph and is silently wrong on others.

Types: `float32` values and values in the precision's compute type ("low") are different things, and every change
between them is a Cast: TensorRT's strongly typed networks, the only kind since version 11, take nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import DTypeLike
from onnx import TensorProto, helper

from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.onnx_graph import FUSED_FROM_OPSET, IR_VERSIONS, MAX_OPSET, MIN_OPSET, Graph
from exaone_ros.model.onnx_values import Joined, StoredAs, Value, onnx_type
from exaone_ros.model.precision import FLOAT32, Precision
from exaone_ros.model.quantize import QuantizedLinear

Dim = int | str | None
_MASKED = -1e30  # finite: -inf gives NaN where a row is masked altogether
_FLOAT = np.dtype(np.float32)


class LinearSource(Protocol):
    """Where quantised weights come from: `quantize.Quantizer`, or a checkpoint that was published quantised."""

    def linear(self, name: str) -> QuantizedLinear | None:
        """The quantised weight of `<name>.weight`, or None where it is to be plain."""
        ...


def check_compact(compact: bool, precision: Precision, linears: LinearSource | None = None) -> None:
    """Refuse a compact graph where values change their type or weights are quantised.

    Raises:
        ValueError: it is not plain float32.
    """
    if compact and (precision.mixed or linears is not None):
        raise ValueError(f"a compact graph is asked for in precision '{precision.name}'; only plain float32 has one")


class GraphBuilder:
    """Collects nodes in order. Values are referred to by name; methods return the name of what they add."""

    def __init__(
        self,
        name: str,
        opset: int,
        checkpoint: Checkpoint | None,
        precision: Precision = FLOAT32,
        linears: LinearSource | None = None,
    ) -> None:
        """Start a graph for an ONNX opset.

        Args:
            name: of the graph.
            opset: of the operators.
            checkpoint: with the weights; None for a graph whose weights are all given as tables.
            precision: types of the arithmetic.
            linears: where quantised weights come from; None: all are plain.

        Raises:
            ValueError: an opset that the graphs are not written for, or one that lacks the types of the precision.
        """
        if opset not in IR_VERSIONS:
            raise ValueError(f"opset is {opset}; expected {MIN_OPSET} to {MAX_OPSET}")
        if opset < precision.min_opset:
            raise ValueError(f"opset is {opset}; precision '{precision.name}' needs {precision.min_opset} or later")
        self.opset = opset
        self.precision = precision
        self._linears = linears
        self._name = name
        self._checkpoint = checkpoint
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._values: dict[str, Value] = {}
        self._lowered: dict[str, str] = {}

    def input(self, name: str, dtype: DTypeLike, shape: Sequence[Dim]) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, onnx_type(np.dtype(dtype)), list(shape)))
        return name

    def output(self, name: str, dtype: DTypeLike, shape: Sequence[Dim]) -> None:
        """Declare the value `name`, which a node has been given as its output, to be an output of the graph."""
        self._outputs.append(helper.make_tensor_value_info(name, onnx_type(np.dtype(dtype)), list(shape)))

    def weight(self, name: str, dtype: np.dtype[Any] = _FLOAT) -> str:
        """A weight of the checkpoint by its canonical name, in one type throughout a graph."""
        self._values[name] = self._stored(name, dtype)
        return name

    def _stored(self, name: str, dtype: np.dtype[Any]) -> StoredAs:
        if self._checkpoint is None:
            raise ValueError(f"graph '{self._name}' has no checkpoint to take '{name}' from; give it as a table")
        return StoredAs(self._checkpoint.stored(name), dtype)

    def low_weight(self, name: str) -> str:
        """A weight of the checkpoint in the compute type."""
        return self.weight(name, self.precision.compute)

    def table(self, name: str, value: Value) -> str:
        """A computed value that is worth a name."""
        self._values[name] = np.asarray(value, order="C") if isinstance(value, np.ndarray) else value
        return name

    def low(self, value: str) -> str:
        """A float32 value in the compute type."""
        if not self.precision.mixed:
            return value
        if value not in self._lowered:
            self._lowered[value] = self.op("Cast", value, to=onnx_type(self.precision.compute))
        return self._lowered[value]

    def high(self, value: str, name: str = "") -> str:
        """A value of the compute type in float32; `name` is for outputs of the graph."""
        if self.precision.mixed:
            return self.op("Cast", value, name=name, to=TensorProto.FLOAT)
        return self.op("Identity", value, name=name) if name else value

    def ints(self, *values: int) -> str:
        """A constant int64 vector; equal ones are shared."""
        return self.table("ints_" + "_".join(map(str, values)), np.array(values, np.int64))

    def number(self, value: float) -> str:
        """A constant float32 scalar; equal ones are shared."""
        return self.table(f"number_{value!r}", np.array(value, np.float32))

    def integer(self, value: int) -> str:
        """A constant int64 scalar; equal ones are shared."""
        return self.table(f"integer_{value}", np.array(value, np.int64))

    def op(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node with one output, which gets `name` if given."""
        return self.ops(kind, *inputs, names=(name or f"{kind}_{len(self._nodes)}",), **attributes)[0]

    def ops(self, kind: str, *inputs: str, names: Sequence[str], **attributes: Any) -> Sequence[str]:
        """Add a node with several outputs."""
        label = f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), list(names), name=label, **attributes))
        return names

    def split(self, value: str, sizes: Sequence[int], axis: int) -> list[str]:
        names = [f"Split_{len(self._nodes)}_{i}" for i in range(len(sizes))]
        return list(self.ops("Split", value, self.ints(*sizes), names=names, axis=axis))

    def reshape(self, value: str, *shape: int | str) -> str:
        """Reshape to numbers and int64 vectors (names) in a row; 0 keeps a dimension, -1 is worked out."""
        if all(isinstance(part, int) for part in shape):
            return self.op("Reshape", value, self.ints(*(int(part) for part in shape)))
        parts = [part if isinstance(part, str) else self.ints(part) for part in shape]
        return self.op("Reshape", value, self.op("Concat", *parts, axis=0))

    def size_of(self, value: str, start: int, end: int) -> str:
        """Dimensions start..end-1 of a value as an int64 vector."""
        return self.op("Shape", value, start=start, end=end)

    def finish(self) -> Graph:
        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", self.opset)],
            ir_version=IR_VERSIONS[self.opset],
            producer_name="exaone_ros",
        )
        return Graph(model, self._values)

    # Layers that vision and decoder share.

    def linear(self, rows: str, weight: str, *, bias: bool) -> str:
        """rows [R, in] times the transposed weight `<weight>.weight` [out, in], plus `<weight>.bias`; all low."""
        quantized = self._linears.linear(weight) if self._linears else None
        if quantized is None:
            inputs = [rows, self.low_weight(weight + ".weight")]
            return self.op("Gemm", *inputs, *([self.low_weight(weight + ".bias")] if bias else []), transB=1)
        product = self._quantized_product(rows, weight, quantized)
        return self.op("Add", product, self.low_weight(weight + ".bias")) if bias else product

    def joined_linear(self, rows: str, name: str, weights: Sequence[str]) -> str:
        """The plain layers `<weight>.weight` [out, in] of the same rows [R, in] in one product, side by side; low.

        Args:
            rows: low.
            name: of the joined weight.
            weights: of the layers.
        """
        parts = tuple(self._stored(weight + ".weight", self.precision.compute) for weight in weights)
        return self.op("Gemm", rows, self.table(name, Joined(parts)), transB=1)

    def _quantized_product(self, rows: str, weight: str, quantized: QuantizedLinear) -> str:
        """rows times a weight that is stored as [in, out] integers and dequantised where it is used."""
        if quantized.input_scale is not None:
            rows = self.op("Mul", rows, self.table(weight + ".input_scale", quantized.input_scale))
        scale = self.table(weight + ".scale", quantized.scale)
        if quantized.global_scale is not None:
            scale = self.op("DequantizeLinear", scale, self.table(weight + ".global_scale", quantized.global_scale))
        values = self.table(weight + ".values", quantized.values)
        blocks: dict[str, Any] = {"axis": 0, "block_size": quantized.block} if quantized.block else {"axis": 1}
        product = self.op("MatMul", rows, self.op("DequantizeLinear", values, scale, **blocks))
        if quantized.offset is None:
            return product
        # A constant added to a whole block of weights meets the sum of the inputs of that block.
        blocked = self.reshape(rows, 0, -1, quantized.block or 1)
        sums = self.op("ReduceSum", blocked, self.ints(-1), keepdims=0)
        return self.op("Add", product, self.op("MatMul", sums, self.table(weight + ".offset", quantized.offset)))

    def rms_norm(self, value: str, weight: str, eps: float) -> str:
        """Root-mean-square norm over the last axis, float32."""
        if self.opset >= FUSED_FROM_OPSET:
            return self.op("RMSNormalization", value, self.weight(weight), axis=-1, epsilon=eps)
        mean = self.op("ReduceMean", self.op("Mul", value, value), self.ints(-1), keepdims=1)
        scale = self.op("Reciprocal", self.op("Sqrt", self.op("Add", mean, self.number(eps))))
        return self.op("Mul", self.op("Mul", value, scale), self.weight(weight))

    def swiglu(self, rows: str, prefix: str, *, bias: bool) -> str:
        """The gated MLP `<prefix>gate_proj`, `up_proj`, `down_proj` of low rows; low."""
        gate = self.high(self.linear(rows, prefix + "gate_proj", bias=bias))
        up = self.high(self.linear(rows, prefix + "up_proj", bias=bias))
        active = self.op("Mul", gate, self.op("Sigmoid", gate))
        return self.linear(self.low(self.op("Mul", active, up)), prefix + "down_proj", bias=bias)

    def rotate(self, value: str, cos: str, sin: str) -> str:
        """Rotate value [..., D], first half against second half, by cos and sin that broadcast to [..., D / 2]."""
        names = [f"Split_{len(self._nodes)}_{i}" for i in range(2)]
        first, second = self.ops("Split", value, names=names, axis=-1, num_outputs=2)
        turned_first = self.op("Sub", self.op("Mul", first, cos), self.op("Mul", second, sin))
        turned_second = self.op("Add", self.op("Mul", second, cos), self.op("Mul", first, sin))
        return self.op("Concat", turned_first, turned_second, axis=-1)

    def attention(
        self, query: str, key: str, value: str, mask: str | None, heads: int, kv_heads: int, head_dim: int
    ) -> str:
        """Grouped-query attention under an explicit bool mask, or of all to all; all low.

        Args:
            query: [B, heads, S, D].
            key, value: [B, kv_heads, L, D].
            mask: bool [B or 1, 1, S, L]; True where a query may look. Its query axis must be full: neither ONNX Runtime
                nor TensorRT broadcasts it inside Attention. None: every query sees every key.

        Returns:
            [B, heads, S, D].
        """
        if self.opset >= FUSED_FROM_OPSET:
            inputs = [query, key, value] if mask is None else [query, key, value, mask]
            return self.op("Attention", *inputs, scale=head_dim**-0.5)
        batch, length = self.size_of(query, 0, 1), self.size_of(query, 2, 3)
        grouped = self.reshape(query, batch, kv_heads, heads // kv_heads, length, head_dim)
        axis = self.ints(2)
        keys = self.op("Unsqueeze", self.op("Transpose", key, perm=[0, 1, 3, 2]), axis)
        scores = self.op("Mul", self.high(self.op("MatMul", grouped, keys)), self.number(head_dim**-0.5))
        if mask is not None:
            scores = self.op("Where", self.op("Unsqueeze", mask, axis), scores, self.number(_MASKED))
        weights = self.low(self.op("Softmax", scores, axis=-1))
        mixed = self.op("MatMul", weights, self.op("Unsqueeze", value, axis))
        return self.reshape(mixed, batch, heads, length, head_dim)
