"""Ring caches: a sliding-window layer holds its window and little more, however long the sequence.

The token at position p is written at p modulo the ring's length; the keys are rotated before, so their order does not
matter. Which position a place holds follows from the newest one written in the run: the greatest that is not beyond it
and leaves the same remainder. So host and graph need nothing but positions, and a mask does the rest.

A run writes before it reads. For its first token to see its whole window behind the `chunk` tokens of the run, the
ring has to be `window + chunk - 1` long. The same spare places take what was written for nothing: padding, fillers,
drafts that were refused. A run does not wrap: TensorRT writes caches in one piece only. Where a row would, it is cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.backend import Row, VisualTokens
from exaone_ros.engine.backends.batching import RUN_COST_TOKENS
from exaone_ros.model.config import SLIDING, TextConfig

CHUNK = 512
"""Tokens of a row in one run once its ring is full, and how far a slot can be set back then."""


@dataclass(frozen=True)
class Ring:
    """The caches of sliding-window layers.

    Attributes:
        window: of the layers, the token itself included.
        chunk: tokens that a run may write where it overwrites what is older.
        length: positions that a slot has.
    """

    window: int
    chunk: int
    length: int

    @classmethod
    def of(cls, config: TextConfig, context: int, chunk: int, *, spare: int = 0) -> Ring | None:
        """The ring of a model; None where it would be no shorter than the context, or no layer has a window.

        Args:
            config: of the layers.
            context: positions of a slot in layers that see all.
            chunk: tokens of a run.
            spare: how much further than by `chunk` a slot can be set back.
        """
        window = config.sliding_window
        if window is None or SLIDING not in config.layer_types or window + chunk + spare >= context:
            return None
        return cls(window, chunk, window + chunk + spare)

    @property
    def draft(self) -> int:
        """Tokens of a draft at most: behind what is refused there may be padding, and then a filler in another run."""
        return max(0, self.chunk - 2 * RUN_COST_TOKENS)

    def room(self, start: int) -> int:
        """Tokens that a run may write from a position on: up to the wrap, once it overwrites at most `chunk`."""
        if start < self.length:
            return self.length - start
        return min(self.chunk, self.length - start % self.length)

    def cut(self, row: Row, image_token: int) -> list[Row]:
        """Cut a row into parts that fit into a run each. Its visual tokens must be in main memory if it is cut."""
        count = len(row.tokens)
        if count <= self.room(row.start):
            return [row]
        visual = np.concatenate([np.asarray(image.embeddings) for image in row.visual]) if row.visual else None
        parts: list[Row] = []
        first = seen = 0
        while first < count:
            end = min(count, first + self.room(row.start + first))
            tokens = row.tokens[first:end]
            pads = int((tokens == image_token).sum())
            images = (VisualTokens(visual[seen : seen + pads], (1, pads)),) if visual is not None and pads else ()
            logits = max(0, end - max(first, count - row.logits))
            parts.append(Row(row.slot, row.start + first, tokens, images, logits))
            first, seen = end, seen + pads
        return parts


def room(ring: Ring | None, bound: int, start: int) -> int:
    """Tokens that a run may write from a position on, in a slot of `bound` positions."""
    left = bound - start
    return left if ring is None else min(left, ring.room(start))


def positions_in(length: int, newest: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which position each place of a ring holds; negative where none was written yet.

    Args:
        length: of the ring.
        newest: int64 [rows], the last position that the run writes in each row.

    Returns:
        int64 [rows, length].
    """
    places = np.arange(length)
    held: NDArray[np.int64] = newest[:, None] - (newest[:, None] - places) % length
    return held


class Intact:
    """From which position on the rings of all slots still hold what was written.

    Args:
        ring: None where every layer holds everything.
        slots: how many there are.
    """

    def __init__(self, ring: Ring | None, slots: int) -> None:
        self._ring = ring
        self._first = np.zeros(slots, np.int64)

    def first(self, slot: int) -> int:
        """The least position that is still there."""
        return int(self._first[slot])

    def keeps(self, slot: int, length: int) -> bool:
        """Whether a slot can go on from its first `length` positions: the next token finds its whole window."""
        return self._ring is None or length == 0 or self.first(slot) <= max(0, length + 1 - self._ring.window)

    def restart(self, slot: int) -> None:
        """A row begins at position 0."""
        self._first[slot] = 0

    def wrote(self, slot: int, end: int) -> None:
        """A run has written positions up to `end`, padding included."""
        if self._ring is not None:
            self._first[slot] = max(self._first[slot], end - self._ring.length)

    def copied(self, source: int, targets: list[int]) -> None:
        """What a slot holds was copied into others."""
        self._first[targets] = self._first[source]


def cache_positions(config: TextConfig, context: int, ring: Ring | None) -> int:
    """Positions that the caches of one slot have, over all layers."""
    sliding = sum(map(config.is_sliding, range(config.layers)))
    return (config.layers - sliding) * context + sliding * (ring.length if ring else context)


def cache_bytes(config: TextConfig, slots: int, context: int, ring: Ring | None, item_bytes: int) -> int:
    """Memory of the keys and values of all slots."""
    return 2 * slots * config.kv_heads * config.head_dim * item_bytes * cache_positions(config, context, ring)
