"""Memory of the KV caches: slots side by side, so that neighbouring slots can be bound to the graph as one batch.

A cache has the layout [slots, kv_heads, capacity, head_dim] for each layer's keys and values. The capacity grows in
steps with what is held, because attention costs by capacity, not by what is held. That of sliding-window layers ends
at the length of their ring (see `ring`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.backends.ring import Ring
from exaone_ros.model.config import TextConfig

CAPACITY_STEP = 128


class KvCache(Protocol):
    """Where the keys and values of all slots lie."""

    names: tuple[str, ...]
    """Of the tensors, without the `past_` and `present_` of the graph."""
    capacity: int
    """Positions that each slot has at the moment, in layers that see all."""
    fixed: bool
    """The capacity never changes, so that `ensure` need not be asked."""

    def ensure(self, positions: int, held: NDArray[np.int64], *, tight: bool = False) -> bool:
        """Make room for `positions` per slot; True when memory moved. `held` [slots] says what must be kept.

        `tight`: give up what is not needed, also where it is little.
        """
        ...

    def place(self, name: str, first_slot: int) -> int:
        """Address of the memory of a tensor from a slot on."""
        ...

    def shape(self, name: str, slots: int) -> tuple[int, int, int, int]:
        """Shape of a tensor over this many neighbouring slots."""
        ...

    def copy(self, source: int, targets: Sequence[int], length: int) -> None:
        """Copy the first `length` positions of a slot into others."""
        ...


def cache_names(config: TextConfig) -> tuple[str, ...]:
    """Names of the tensors of all layers, keys and values in turn."""
    return tuple(f"{kind}.{layer}" for layer in range(config.layers) for kind in ("k", "v"))


def neighbours(slots: Sequence[int]) -> list[tuple[int, int]]:
    """Slots as ranges of neighbours, each its first and the one behind its last: one assignment serves a range."""
    ranges: list[tuple[int, int]] = []
    for slot in sorted(slots):
        if ranges and slot == ranges[-1][1]:
            ranges[-1] = ranges[-1][0], slot + 1
        else:
            ranges.append((slot, slot + 1))
    return ranges


def token_bytes(config: TextConfig, item_bytes: int) -> int:
    """Memory of one token's keys and values in all layers."""
    return 2 * config.layers * config.kv_heads * config.head_dim * item_bytes


def cache_lengths(config: TextConfig, context: int, ring: Ring | None) -> dict[str, int]:
    """Positions that each tensor has at most, by its name."""
    local = ring.length if ring else context
    return {
        name: min(local, context) if config.is_sliding(int(name.partition(".")[2])) else context
        for name in cache_names(config)
    }


class HostKvCache:
    """KV caches in main memory.

    Memory for the full context is reserved at once; the system gives out pages only as they are written.

    Args:
        config: of the decoder.
        slots: how many there are.
        context: positions that a slot can have.
        least: positions that a slot has at least; what is bound to the memory then stays valid where less is held.
        ring: of sliding-window layers; None where they hold all positions.
    """

    def __init__(self, config: TextConfig, slots: int, context: int, least: int = 1, ring: Ring | None = None) -> None:
        self.names = cache_names(config)
        self._lengths = cache_lengths(config, context, ring)
        self._slots, self._context, self._least = slots, context, least
        self.capacity = self._rounded(least)
        self.fixed = self.capacity == context
        self._heads, self._head_dim = config.kv_heads, config.head_dim
        # Zeros, not garbage: a masked NaN would still turn the weighted sum of values into NaN.
        position = slots * config.kv_heads * config.head_dim
        self._memory = {name: np.zeros(position * length, np.float32) for name, length in self._lengths.items()}

    def ensure(self, positions: int, held: NDArray[np.int64], *, tight: bool = False) -> bool:
        """Grow to the next step that holds `positions`; shrink when `tight`, or less than half of it is used."""
        wanted = self._rounded(max(positions, int(held.max()), self._least))
        if wanted == self.capacity or (not tight and self.capacity // 2 < wanted <= self.capacity):
            return False
        old, new = self.capacity, wanted
        for name, memory in self._memory.items():
            before, after = min(old, self._lengths[name]), min(new, self._lengths[name])
            if before != after:  # at least one is shorter than the ring, so what is held has not wrapped
                self._move(memory, before, after, held)
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
        return self._view(self._memory[name], self._capacity(name))

    def _capacity(self, name: str) -> int:
        return min(self.capacity, self._lengths[name])

    def _view(self, memory: NDArray[np.float32], capacity: int) -> NDArray[np.float32]:
        count = self._slots * self._heads * capacity * self._head_dim
        return memory[:count].reshape(self._slots, self._heads, capacity, self._head_dim)

    def place(self, name: str, first_slot: int) -> int:
        memory = self._memory[name]
        offset = first_slot * self._heads * self._capacity(name) * self._head_dim * memory.itemsize
        return int(memory.ctypes.data) + offset

    def shape(self, name: str, slots: int) -> tuple[int, int, int, int]:
        return slots, self._heads, self._capacity(name), self._head_dim

    def copy(self, source: int, targets: Sequence[int], length: int) -> None:
        for name in self.names:
            view = self.view(name)  # a ring that has wrapped is shorter than `length`: all of it
            for first, end in neighbours(targets):
                view[first:end, :, :length] = view[source, :, :length]
