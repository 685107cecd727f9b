"""Writing an ONNX graph by hand: a builder, where its weights go, and the layers that vision and decoder share.

Graphs are built from the checkpoint, not traced: tracing `transformers`' vision encoder bakes the windows of one image
size into the graph and is silently wrong on others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from exaone_ros.errors import CheckpointError
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.safetensors_file import StoredTensor

Dim = int | str | None
IR_VERSIONS = {18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 11}
MIN_OPSET, MAX_OPSET = min(IR_VERSIONS), max(IR_VERSIONS)
FUSED_FROM_OPSET = 23  # Attention, RMSNormalization and RotaryEmbedding are single operators from here on
_MASKED = np.float32(-1e30)  # finite: -inf gives NaN where a row is masked altogether
_INLINE_LIMIT = (1 << 31) - (1 << 24)  # protobuf holds 2 GB, and the nodes need some of it
_SMALL_BYTES = 1024


class Weights(Enum):
    """Where the weights of a graph are kept."""

    INLINE = "inline"
    """Inside the model file; at most 2 GB."""
    FILE = "file"
    """The large ones in one file beside the model."""
    CHECKPOINT = "checkpoint"
    """Large float32 weights stay in the checkpoint's own files, which must lie below the model; the rest is inline."""


@dataclass(frozen=True)
class Graph:
    """A finished graph whose weights are not placed yet.

    Attributes:
        model: the graph without initializers.
        values: its initializers: values that were computed, or the place of a weight in the checkpoint.
    """

    model: onnx.ModelProto
    values: dict[str, NDArray[Any] | StoredTensor]

    @property
    def weight_bytes(self) -> int:
        """Size of all weights as the graph holds them."""
        return sum(_bytes(value) for value in self.values.values())

    @property
    def fits_inline(self) -> bool:
        """True where `to_bytes` can hold the weights."""
        return self.weight_bytes < _INLINE_LIMIT

    def to_bytes(self) -> bytes:
        """The model with all weights inline.

        Raises:
            CheckpointError: the weights exceed what protobuf can hold; save them with `Weights.FILE` instead.
        """
        if not self.fits_inline:
            size = self.weight_bytes / 1e9
            raise CheckpointError(
                f"graph '{self.model.graph.name}' has {size:.1f} GB of weights; a model in one piece holds at most "
                "2 GB: save it with its weights in a file"
            )
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        model.graph.initializer.extend(_inline(name, value) for name, value in self.values.items())
        serialized: bytes = model.SerializeToString()
        return serialized

    def save(self, path: str | Path, weights: Weights = Weights.FILE) -> None:
        """Write the model, and with `Weights.FILE` its weights to `<path>.data`.

        Raises:
            CheckpointError: too large for `Weights.INLINE`, or with `Weights.CHECKPOINT` the checkpoint does not lie in
                the folder of `path`: ONNX refers to files below the model only.
        """
        path = Path(path)
        if weights is Weights.INLINE:
            path.write_bytes(self.to_bytes())
            return
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        if weights is Weights.FILE:
            self._write_data(model, path.with_name(path.name + ".data"))
        else:
            model.graph.initializer.extend(
                _reference(name, value, path) if _stays(value) else _inline(name, value)
                for name, value in self.values.items()
            )
        path.write_bytes(model.SerializeToString())

    def _write_data(self, model: onnx.ModelProto, data_path: Path) -> None:
        """Write all large values to one file, each aligned to 64 bytes, and refer to them."""
        with data_path.open("wb") as file:
            for name, value in self.values.items():
                if _bytes(value) < _SMALL_BYTES:  # shape inference must be able to read shapes and axes
                    model.graph.initializer.append(_inline(name, value))
                    continue
                file.write(b"\0" * (-file.tell() % 64))
                array, offset = _array(value), file.tell()
                file.write(array.tobytes())
                model.graph.initializer.append(
                    _external(name, array.dtype, array.shape, data_path.name, offset, array.nbytes)
                )


class GraphBuilder:
    """Collects nodes in order. Values are referred to by name; methods return the name of what they add."""

    def __init__(self, name: str, opset: int, checkpoint: Checkpoint) -> None:
        """Start a graph of float32 arithmetic for an ONNX opset.

        Raises:
            ValueError: an opset that the graphs are not written for.
        """
        if opset not in IR_VERSIONS:
            raise ValueError(f"opset is {opset}; expected {MIN_OPSET} to {MAX_OPSET}")
        self.opset = opset
        self._name = name
        self._checkpoint = checkpoint
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._values: dict[str, NDArray[Any] | StoredTensor] = {}

    def input(self, name: str, dtype: type[np.generic], shape: Sequence[Dim]) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, _onnx_type(np.dtype(dtype)), list(shape)))
        return name

    def output(self, name: str, dtype: type[np.generic], shape: Sequence[Dim]) -> None:
        """Declare the value `name`, which a node has been given as its output, to be an output of the graph."""
        self._outputs.append(helper.make_tensor_value_info(name, _onnx_type(np.dtype(dtype)), list(shape)))

    def weight(self, name: str) -> str:
        """A weight of the checkpoint by its canonical name."""
        self._values[name] = self._checkpoint.stored(name)
        return name

    def table(self, name: str, value: NDArray[Any]) -> str:
        """A computed value that is worth a name."""
        self._values[name] = np.ascontiguousarray(value)
        return name

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
        """rows [R, in] times the transposed weight `<weight>.weight` [out, in], plus `<weight>.bias`."""
        inputs = [rows, self.weight(weight + ".weight")] + ([self.weight(weight + ".bias")] if bias else [])
        return self.op("Gemm", *inputs, transB=1)

    def rms_norm(self, value: str, weight: str, eps: float) -> str:
        """Root-mean-square norm over the last axis."""
        if self.opset >= FUSED_FROM_OPSET:
            return self.op("RMSNormalization", value, self.weight(weight), axis=-1, epsilon=eps)
        mean = self.op("ReduceMean", self.op("Mul", value, value), self.ints(-1), keepdims=1)
        scale = self.op("Reciprocal", self.op("Sqrt", self.op("Add", mean, self.number(eps))))
        return self.op("Mul", self.op("Mul", value, scale), self.weight(weight))

    def swiglu(self, rows: str, prefix: str, *, bias: bool) -> str:
        """The gated MLP `<prefix>gate_proj`, `up_proj`, `down_proj`."""
        gate = self.linear(rows, prefix + "gate_proj", bias=bias)
        up = self.linear(rows, prefix + "up_proj", bias=bias)
        active = self.op("Mul", gate, self.op("Sigmoid", gate))
        return self.linear(self.op("Mul", active, up), prefix + "down_proj", bias=bias)

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
        """Grouped-query attention under an explicit bool mask, or of all to all.

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
        scores = self.op("Mul", self.op("MatMul", grouped, keys), self.number(head_dim**-0.5))
        if mask is not None:
            scores = self.op("Where", self.op("Unsqueeze", mask, axis), scores, self.number(float(_MASKED)))
        mixed = self.op("MatMul", self.op("Softmax", scores, axis=-1), self.op("Unsqueeze", value, axis))
        return self.reshape(mixed, batch, heads, length, head_dim)


def _onnx_type(dtype: np.dtype[Any]) -> int:
    return int(helper.np_dtype_to_tensor_dtype(dtype))


def _array(value: NDArray[Any] | StoredTensor) -> NDArray[Any]:
    return value.read() if isinstance(value, StoredTensor) else value


def _bytes(value: NDArray[Any] | StoredTensor) -> int:
    """Size as it is in the graph: float32 whatever it is stored as."""
    return int(np.prod(value.shape, dtype=np.int64)) * 4 if isinstance(value, StoredTensor) else value.nbytes


def _inline(name: str, value: NDArray[Any] | StoredTensor) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(_array(value)), name)


def _stays(value: NDArray[Any] | StoredTensor) -> bool:
    return isinstance(value, StoredTensor) and value.dtype == "F32"


def _reference(name: str, value: NDArray[Any] | StoredTensor, model_path: Path) -> onnx.TensorProto:
    assert isinstance(value, StoredTensor)
    try:
        location = value.file.resolve().relative_to(model_path.resolve().parent)
    except ValueError:
        raise CheckpointError(
            f"{model_path} cannot refer to weights in {value.file}: they must lie in its folder or below; save it there"
        ) from None
    return _external(name, np.dtype(np.float32), value.shape, location.as_posix(), value.offset, value.length)


def _external(
    name: str, dtype: np.dtype[Any], shape: Sequence[int], location: str, offset: int, length: int
) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name=name, data_type=_onnx_type(dtype), dims=list(shape))
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor
