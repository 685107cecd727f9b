"""Memory of a backend on the device: allocated once, freed once, all of it from one place."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.tensorrt.cuda import Cuda


class Arena:
    """Every block of device and pinned memory that a backend owns, so that closing forgets none."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._blocks: list[int] = []
        self._pinned: list[NDArray[np.uint8]] = []
        self.by_purpose: Counter[str] = Counter()
        """Bytes on the device, by the names of `MemoryEstimate`."""
        self.pinned_bytes = 0

    @property
    def device_bytes(self) -> int:
        return self.by_purpose.total()

    def device(self, size: int, purpose: str) -> int:
        """Address of `size` bytes on the device."""
        address = self._cuda.malloc(max(size, 1))
        self._blocks.append(address)
        self.by_purpose[purpose] += size
        return address

    def pinned(self, size: int) -> NDArray[np.uint8]:
        memory = self._cuda.pinned(max(size, 1))
        self._pinned.append(memory)
        self.pinned_bytes += size
        return memory

    def close(self) -> None:
        """Free everything. May be called twice."""
        while self._blocks:
            self._cuda.free(self._blocks.pop())
        while self._pinned:
            self._cuda.free_pinned(self._pinned.pop())
        self.by_purpose.clear()
        self.pinned_bytes = 0


class Staging:
    """One input: pinned memory on the host and its place on the device, both as large as the input can get."""

    def __init__(self, arena: Arena, cuda: Cuda, size: int) -> None:
        self._cuda = cuda
        self._host = arena.pinned(size)
        self.address = arena.device(size, "buffers")
        self._used = 0

    def fill(self, values: NDArray[Any]) -> None:
        """Lay values into the pinned memory; nothing on the stream may still read it."""
        self._used = values.nbytes
        self._host[: self._used].view(values.dtype)[:] = values.reshape(-1)

    def upload(self, stream: int) -> None:
        self._cuda.upload(self.address, self._host[: self._used], stream)


class DeviceEmbeddings:
    """Visual tokens on the device: float32 [count, hidden] at `address`. Its memory goes back when nobody holds it.

    However many they are, they have a block of `nbytes`: as much as the largest image takes.
    """

    def __init__(self, pool: VisualPool, address: int, count: int) -> None:
        self.address, self.count = address, count
        self.owner = pool
        self.nbytes = pool.block_bytes
        weakref.finalize(self, pool.give_back, address)


class VisualPool:
    """Memory for encoded images, used again and again."""

    def __init__(self, arena: Arena, size: int) -> None:
        self._arena, self.block_bytes = arena, size
        self._free: list[int] = []

    def take(self, count: int) -> DeviceEmbeddings:
        """Memory for `count` visual tokens. All work on it is on one stream, so that reuse needs no waiting."""
        address = self._free.pop() if self._free else self._arena.device(self.block_bytes, "pictures")
        return DeviceEmbeddings(self, address, count)

    def give_back(self, address: int) -> None:
        self._free.append(address)


class DeviceCaches:
    """KV caches [slots, kv_heads, length, head_dim] for each layer's keys and values."""

    def __init__(
        self,
        arena: Arena,
        cuda: Cuda,
        stream: int,
        lengths: Mapping[str, int],
        shape: tuple[int, int, int],
        *,
        item_bytes: int,
        aliased: bool,
    ) -> None:
        """Allocate.

        Args:
            arena, cuda, stream: where.
            lengths: positions of each tensor, by its name without `past_` and `present_`.
            shape: slots, kv_heads, head_dim.
            item_bytes: of one element.
            aliased: outputs of a run are the caches themselves. Otherwise they get memory of their own.
        """
        slots, self._heads, head_dim = shape
        self._cuda, self._stream, self._lengths = cuda, stream, dict(lengths)
        self._position_bytes = head_dim * item_bytes
        self._slot_bytes = {name: self._heads * n * self._position_bytes for name, n in self._lengths.items()}
        sizes = {name: slots * size for name, size in self._slot_bytes.items()}
        self._past = {name: arena.device(size, "caches") for name, size in sizes.items()}
        self._present = self._past if aliased else {name: arena.device(size, "caches") for name, size in sizes.items()}
        self.aliased = aliased
        self._places: dict[int, dict[str, int]] = {}
        for memory in (self._past,) if aliased else (self._past, self._present):
            for name, address in memory.items():
                # A masked NaN would still turn the weighted sum of values into NaN.
                cuda.zero(address, sizes[name], stream)

    def addresses(self, first_slot: int) -> dict[str, int]:
        """Where the inputs and outputs of a run over neighbouring slots lie."""
        if first_slot not in self._places:
            offsets = {name: first_slot * size for name, size in self._slot_bytes.items()}
            found = {f"past_{name}": self._past[name] + offset for name, offset in offsets.items()}
            found |= {f"present_{name}": self._present[name] + offset for name, offset in offsets.items()}
            self._places[first_slot] = found
        return self._places[first_slot]

    def shapes(self, slots: int, head_dim: int) -> dict[str, tuple[int, int, int, int]]:
        """Shapes of the inputs of a run over so many slots."""
        return {f"past_{name}": (slots, self._heads, length, head_dim) for name, length in self._lengths.items()}

    def keep(self, slot: int, start: int, count: int) -> None:
        """Take what a run wrote for a slot into its cache, where the engine did not write it there itself.

        A run does not wrap in a ring, so it is one piece of each head.
        """
        for name, length in () if self.aliased else self._lengths.items():
            offset = slot * self._slot_bytes[name] + start % length * self._position_bytes
            self._copy_rows(name, self._past[name] + offset, self._present[name] + offset, count)

    def copy(self, source: int, targets: Sequence[int], length: int) -> None:
        """Copy the first `length` positions of a slot into others; of a ring that has wrapped, all of it."""
        for name, most in self._lengths.items() if length else ():
            base, size = self._past[name], self._slot_bytes[name]
            for target in targets:
                self._copy_rows(name, base + target * size, base + source * size, min(length, most))

    def _copy_rows(self, name: str, target: int, source: int, positions: int) -> None:
        pitch, width = self._lengths[name] * self._position_bytes, positions * self._position_bytes
        self._cuda.copy_rows(target, source, pitch, width, self._heads, self._stream)
