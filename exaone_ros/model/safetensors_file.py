"""One safetensors file: its header checked, its tensors as views of the mapped file. No pickle, no other format.

The format: 8 bytes of little-endian header length, a JSON header, then the data of all tensors without gaps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import CheckpointError

MAX_HEADER_BYTES = 100 * 1024 * 1024  # the limit of the safetensors library itself
ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
# Parts of weights that were published quantised.
PART_DTYPES: dict[str, np.dtype[Any]] = {
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
}
OTHER_DTYPES = (
    "F64", "I64", "I32", "I16", "I8", "U8", "U16", "U32", "U64", "BOOL", "C64", "F8_E4M3", "F8_E5M2", "F8_E8M0",
    "F6_E2M3", "F6_E3M2", "F4",
)  # fmt: skip


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as it lies in a file.

    Attributes:
        file: the safetensors file.
        name: its name in that file.
        dtype: "F32", "F16" or "BF16" for weights that can be read; other tensors are listed with their own.
        shape: its dimensions.
        offset: of its first byte in the file.
        length: in bytes.
    """

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that the values lie in."""
        return (self.file,)

    def read(self) -> NDArray[np.float32]:
        """The values as float32; a read-only view of the mapped file where they are stored as such.

        Raises:
            CheckpointError: the file cannot be read, or the tensor is of a type that holds no weights.
        """
        if self.dtype not in ITEM_BYTES:
            raise CheckpointError(
                f"{self.file}: tensor '{self.name}' is of type {self.dtype}; expected one of {tuple(ITEM_BYTES)}"
            )
        raw_type = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[self.dtype]
        values = self._mapped(np.dtype(raw_type))
        return _widened(values) if self.dtype == "BF16" else values.astype(np.float32, copy=False)

    def raw(self) -> NDArray[Any]:
        """The values in their own type where that is a part of a quantised weight, else as `read` gives them.

        Raises:
            CheckpointError: the file cannot be read, or type, shape and data do not fit together.
        """
        dtype = PART_DTYPES.get(self.dtype)
        if dtype is None:
            return self.read()
        expected = int(np.prod(self.shape, dtype=np.int64)) * dtype.itemsize
        if self.length != expected:
            raise CheckpointError(
                f"{self.file}: tensor '{self.name}' of type {self.dtype} and shape {list(self.shape)} takes "
                f"{self.length} bytes; expected {expected}: type, shape or data is mislabelled"
            )
        return self._mapped(dtype)

    def read_in_pieces(self, piece_bytes: int) -> Iterator[NDArray[np.float32]]:
        """The values as float32, some rows of the first axis after the other.

        Raises:
            CheckpointError: as `read`.
        """
        rows = self.shape[0] if self.shape else 1
        step = max(1, rows * piece_bytes // max(1, 4 * int(np.prod(self.shape, dtype=np.int64))))
        for at in range(0, rows, step):
            yield self._rows(at, min(rows, at + step)).read() if self.shape else self.read()

    def bytes_in_pieces(self, piece_bytes: int) -> Iterator[bytes]:
        """The bytes as they are stored.

        Raises:
            CheckpointError: the file cannot be read.
        """
        try:
            with self.file.open("rb") as file:
                file.seek(self.offset)
                left = self.length
                while left:
                    piece = file.read(min(left, piece_bytes))
                    if not piece:
                        raise CheckpointError(f"{self.file}: tensor '{self.name}' ends {left} bytes early: truncated")
                    left -= len(piece)
                    yield piece
        except OSError as error:
            raise CheckpointError(f"{self.file}: tensor '{self.name}' cannot be read: {error}") from error

    def _rows(self, first: int, end: int) -> StoredTensor:
        """A part of the first axis."""
        row = self.length // self.shape[0]
        return replace(
            self, shape=(end - first, *self.shape[1:]), offset=self.offset + first * row, length=row * (end - first)
        )

    def _mapped(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        try:
            raw = np.memmap(self.file, dtype=dtype, mode="r", offset=self.offset, shape=self.shape or (1,))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self.file}: tensor '{self.name}' cannot be read: {error}") from error
        return np.asarray(raw).reshape(self.shape)


def _widened(values: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Bfloat16 as float32, of which it is the upper half."""
    wide = values.astype(np.uint32)
    wide <<= np.uint32(16)
    return wide.view(np.float32)


def read_header(path: Path) -> dict[str, StoredTensor]:
    """List the tensors of a safetensors file by name.

    Raises:
        CheckpointError: the file is missing, truncated, too long, or not of this format.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(8)
            header_bytes = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or not 2 <= header_bytes <= min(size - 8, MAX_HEADER_BYTES):
                raise CheckpointError(
                    f"{path} is no safetensors file or is truncated: it has {size} bytes and says that its header has "
                    f"{header_bytes}; fetch it again (a Git LFS pointer must be pulled first)"
                )
            raw = json.loads(file.read(header_bytes))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; the checkpoint needs this file") from None
    except (OSError, ValueError, RecursionError) as error:  # a number of too many digits, a thousand brackets
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}; fetch it again") from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path}: the header is a {type(raw).__name__}; expected an object: fetch the file again")
    data_start = 8 + header_bytes
    tensors = {name: _entry(path, name, entry, data_start) for name, entry in raw.items() if name != "__metadata__"}
    end = data_start
    for tensor in sorted(tensors.values(), key=lambda t: t.offset):
        if tensor.offset != end:
            raise CheckpointError(
                f"{path}: tensor '{tensor.name}' starts at byte {tensor.offset}; expected {end}: the file is damaged"
            )
        end += tensor.length
    if end != size:
        state = "truncated" if size < end else "damaged"
        raise CheckpointError(f"{path} has {size} bytes; expected {end} from its header: it is {state}, fetch it again")
    return tensors


def _entry(path: Path, name: str, entry: Any, data_start: int) -> StoredTensor:
    try:
        dtype, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        sound = all(type(n) is int and n >= 0 for n in (*shape, start, end)) and start <= end and isinstance(dtype, str)
    except (KeyError, TypeError, ValueError):
        sound = False
    if not sound:
        raise CheckpointError(f"{path}: the header entry of tensor '{name}' is {entry!r:.100}; the file is damaged")
    if dtype in ITEM_BYTES:
        count = 1
        for n in shape:
            count *= n
        if end - start != count * ITEM_BYTES[dtype]:
            raise CheckpointError(
                f"{path}: tensor '{name}' of type {dtype} and shape {list(shape)} takes {end - start} bytes; expected "
                f"{count * ITEM_BYTES[dtype]}: type, shape or data is mislabelled"
            )
    elif dtype not in OTHER_DTYPES:
        raise CheckpointError(f"{path}: tensor '{name}' is of the unknown type {dtype!r}; the file is damaged")
    return StoredTensor(path, name, dtype, shape, data_start + start, end - start)
