"""Memory of the KV caches: slots side by side, so that neighbouring slots can be bound to the graph as one batch.

A cache has the layout [slots, kv_heads, capacity, head_dim] for each layer's keys and values. The capacity grows in
steps with what is held, because attention costs by capacity, not by what is held.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from exaone_ros.model.config import TextConfig

CAPACITY_STEP = 128


class KvCache(Protocol):
    """Where the keys and values of all slots lie."""

    names: tuple[str, ...]
    """Of the tensors, without the `past_` and `present_` of the graph."""
    capacity: int
    """Positions that each slot has at the moment."""

    def ensure(self, positions: int, held: NDArray[np.int64], *, tight: bool = False) -> bool:
        """Make room for `positions` per slot; True when memory moved. `held` [slots] says what must be kept.

        `tight`: give up what is not needed, also where it is little.
        """
        ...

    def place(self, name: str, first_slot: int) -> int:
        """Address of the memory of a tensor from a slot on."""
        ...

    def shape(self, slots: int) -> tuple[int, int, int, int]:
        """Shape of a tensor over this many neighbouring slots."""
        ...

    def copy(self, source: int, targets: Sequence[int], length: int) -> None:
        """Copy the first `length` positions of a slot into others."""
        ...


def cache_names(config: TextConfig) -> tuple[str, ...]:
    """Names of the tensors of all layers, keys and values in turn."""
    return tuple(f"{kind}.{layer}" for layer in range(config.layers) for kind in ("k", "v"))


class HostKvCache:
    """KV caches in main memory.

    Memory for the full context is reserved at once; the system gives out pages only as they are written.

    Args:
        config: of the decoder.
        slots: how many there are.
        context: positions that a slot can have.
        least: positions that a slot has at least; what is bound to the memory then stays valid where less is held.
    """

    def __init__(self, config: TextConfig, slots: int, context: int, least: int = 1) -> None:
        self.names = cache_names(config)
        self._slots, self._context, self._least = slots, context, least
        self.capacity = self._rounded(least)
        self._heads, self._head_dim = config.kv_heads, config.head_dim
        # Zeros, not garbage: a masked NaN would still turn the weighted sum of values into NaN.
        size = slots * config.kv_heads * context * config.head_dim
        self._memory = {name: np.zeros(size, np.float32) for name in self.names}

    def ensure(self, positions: int, held: NDArray[np.int64], *, tight: bool = False) -> bool:
        """Grow to the next step that holds `positions`; shrink when `tight`, or less than half of it is used."""
        wanted = self._rounded(max(positions, int(held.max()), self._least))
        if wanted == self.capacity or (not tight and self.capacity // 2 < wanted <= self.capacity):
            return False
        old, new = self.capacity, wanted
        for memory in self._memory.values():
            self._move(memory, old, new, held)
        self.capacity = new
        return True

    def _rounded(self, positions: int) -> int:
        return min(-(-positions // CAPACITY_STEP) * CAPACITY_STEP, self._context)

    def _move(self, memory: NDArray[np.float32], old: int, new: int, held: NDArray[np.int64]) -> None:
        """Lay a tensor out anew inside its memory, in the order in which no block is overwritten before it moved."""
        before, after = self._view(memory, old), self._view(memory, new)
        blocks = [(slot, head) for slot in range(self._slots) for head in range(self._heads)]
        for slot, head in blocks if new < old else reversed(blocks):
            kept = int(held[slot])
            if kept:
                after[slot, head, :kept] = before[slot, head, :kept].copy()

    def view(self, name: str) -> NDArray[np.float32]:
        """A tensor at the capacity of the moment, [slots, kv_heads, capacity, head_dim]; until memory moves."""
        return self._view(self._memory[name], self.capacity)

    def _view(self, memory: NDArray[np.float32], capacity: int) -> NDArray[np.float32]:
        count = self._slots * self._heads * capacity * self._head_dim
        return memory[:count].reshape(self._slots, self._heads, capacity, self._head_dim)

    def place(self, name: str, first_slot: int) -> int:
        memory = self._memory[name]
        offset = first_slot * self._heads * self.capacity * self._head_dim * memory.itemsize
        return int(memory.ctypes.data) + offset

    def shape(self, slots: int) -> tuple[int, int, int, int]:
        return slots, self._heads, self.capacity, self._head_dim

    def copy(self, source: int, targets: Sequence[int], length: int) -> None:
        for memory in self._memory.values():
            view = self._view(memory, self.capacity)
            for target in targets:
                view[target, :, :length] = view[source, :, :length]
