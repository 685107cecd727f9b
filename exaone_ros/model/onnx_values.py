"""The initializers of a graph before they are written: computed values, or the place of a weight and its type.

Nothing here holds a weight in memory: it is read, converted and written, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from exaone_ros.errors import CheckpointError
from exaone_ros.model.safetensors_file import StoredTensor

# Shape inference must be able to read axes and the like; external data is not read for it.
EXTERNAL_FROM_BYTES = 1024
_PIECE_BYTES = 1 << 26
_BITS: dict[int, int] = {TensorProto.INT4: 4, TensorProto.UINT4: 4, TensorProto.FLOAT4E2M1: 4}
_SAFETENSORS_TYPES: dict[str, int] = {
    "F32": TensorProto.FLOAT,
    "F16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
}


@dataclass(frozen=True)
class Derived:
    """A value that is computed when it is written.

    Attributes:
        dtype, shape: of the value.
        compute: makes it; called once for each time the graph is written.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    compute: Callable[[], NDArray[Any]] = field(compare=False)


@dataclass(frozen=True)
class StoredAs:
    """A weight of a checkpoint in the type that a graph wants it in."""

    tensor: StoredTensor
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    @property
    def as_is(self) -> bool:
        """True where the bytes in the file are the bytes that the graph wants."""
        return _SAFETENSORS_TYPES.get(self.tensor.dtype) == onnx_type(self.dtype)


@dataclass(frozen=True)
class Joined:
    """Weights of a checkpoint one below the other: several linear layers [out, in] of the same inputs as one.

    Attributes:
        parts: of one type, and of one shape but for the first axis.
    """

    parts: tuple[StoredAs, ...]

    def __post_init__(self) -> None:
        kinds = sorted({f"{part.dtype} [n, {', '.join(map(str, part.shape[1:]))}]" for part in self.parts})
        if len(kinds) != 1:
            raise ValueError(f"weights of kinds {kinds} cannot be joined; expected one or more of one kind")

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.parts[0].dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(part.shape[0] for part in self.parts), *self.parts[0].shape[1:])


Value = NDArray[Any] | Derived | StoredAs | Joined


def onnx_type(dtype: np.dtype[Any]) -> int:
    """The number of ONNX's TensorProto.DataType."""
    return int(helper.np_dtype_to_tensor_dtype(dtype))


def array_of(value: Value) -> NDArray[Any]:
    """The values themselves."""
    if isinstance(value, StoredAs):
        return value.tensor.read().astype(value.dtype, copy=False)
    if isinstance(value, Joined):
        return np.concatenate([array_of(part) for part in value.parts])
    return value.compute() if isinstance(value, Derived) else value


def bytes_of(value: Value) -> int:
    """Size as it is in the graph."""
    elements = int(np.prod(value.shape, dtype=np.int64))
    return (elements * _BITS.get(onnx_type(value.dtype), value.dtype.itemsize * 8) + 7) // 8


def inline(name: str, value: Value) -> onnx.TensorProto:
    """An initializer that holds its values."""
    return numpy_helper.from_array(np.asarray(array_of(value), order="C"), name)


def raw_bytes(value: Value) -> bytes:
    """The values in the byte order and packing of ONNX."""
    raw: bytes = inline("", value).raw_data
    return raw


def raw_pieces(value: Value) -> Iterator[bytes]:
    """The same bytes in pieces: no weight of a checkpoint is whole in memory, however large its table."""
    if isinstance(value, Joined):
        for part in value.parts:
            yield from raw_pieces(part)
        return
    if not isinstance(value, StoredAs):
        yield raw_bytes(value)
        return
    if value.as_is:
        yield from value.tensor.bytes_in_pieces(_PIECE_BYTES)
        return
    for rows in value.tensor.read_in_pieces(_PIECE_BYTES):
        yield np.ascontiguousarray(rows.astype(value.dtype, copy=False)).tobytes()


def external(name: str, value: Value, location: str, offset: int, length: int) -> onnx.TensorProto:
    """An initializer whose bytes lie in a file beside the model."""
    return _external(name, onnx_type(value.dtype), value.shape, location, offset, length)


def in_checkpoint(name: str, value: StoredAs, model_path: Path) -> onnx.TensorProto:
    """An initializer whose bytes lie in the checkpoint.

    Raises:
        CheckpointError: the checkpoint does not lie in the folder of the model or below.
    """
    tensor = value.tensor
    try:
        location = tensor.file.resolve().relative_to(model_path.resolve().parent)
    except ValueError:
        raise CheckpointError(
            f"{model_path} cannot refer to weights in {tensor.file}: they must lie in its folder or below; "
            "save it there"
        ) from None
    return external(name, value, location.as_posix(), tensor.offset, tensor.length)


def _external(
    name: str, data_type: int, shape: Sequence[int], location: str, offset: int, length: int
) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name=name, data_type=data_type, dims=list(shape))
    tensor.data_location = TensorProto.EXTERNAL
    for key, entry in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(entry))
    return tensor
