"""A finished ONNX graph and where its weights go: into the model, beside it, or left in the checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeGuard

import onnx

from exaone_ros.errors import CheckpointError
from exaone_ros.model.onnx_values import (
    EXTERNAL_FROM_BYTES,
    StoredAs,
    Value,
    bytes_of,
    external,
    in_checkpoint,
    inline,
    raw_pieces,
)

IR_VERSIONS = {18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 11}
MIN_OPSET, MAX_OPSET = min(IR_VERSIONS), max(IR_VERSIONS)
FUSED_FROM_OPSET = 23  # Attention, RMSNormalization and RotaryEmbedding are single operators from here on
_INLINE_LIMIT = (1 << 31) - (1 << 24)  # protobuf holds 2 GB, and the nodes need some of it


class Weights(Enum):
    """Where the weights of a graph are kept."""

    INLINE = "inline"
    """Inside the model file; at most 2 GB."""
    FILE = "file"
    """The large ones in one file beside the model."""
    CHECKPOINT = "checkpoint"
    """Large weights that have the graph's type stay in the checkpoint's own files, which must lie below the model; the
    rest is inline."""


@dataclass(frozen=True)
class Graph:
    """A finished graph whose weights are not placed yet.

    Attributes:
        model: the graph without initializers.
        values: its initializers: values that were computed, or the place of a weight in the checkpoint.
    """

    model: onnx.ModelProto
    values: dict[str, Value]

    @property
    def weight_bytes(self) -> int:
        """Size of all weights as the graph holds them."""
        return sum(bytes_of(value) for value in self.values.values())

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
        model.graph.initializer.extend(inline(name, value) for name, value in self.values.items())
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
                in_checkpoint(name, value, path) if _stays(value) else inline(name, value)
                for name, value in self.values.items()
            )
        path.write_bytes(model.SerializeToString())

    def _write_data(self, model: onnx.ModelProto, data_path: Path) -> None:
        """Write all large values to one file, each aligned to 64 bytes, and refer to them."""
        with data_path.open("wb") as file:
            for name, value in self.values.items():
                if bytes_of(value) < EXTERNAL_FROM_BYTES:
                    model.graph.initializer.append(inline(name, value))
                    continue
                file.write(b"\0" * (-file.tell() % 64))
                offset = file.tell()
                for piece in raw_pieces(value):
                    file.write(piece)
                model.graph.initializer.append(external(name, value, data_path.name, offset, file.tell() - offset))


def _stays(value: Value) -> TypeGuard[StoredAs]:
    return isinstance(value, StoredAs) and value.as_is and bytes_of(value) >= EXTERNAL_FROM_BYTES
