"""Drafting with the MTP layer on slots: which of its entries are up to date, and which hidden states they need.

Entry i of a slot takes the decoder's hidden state at position i and the token at i + 1. It is made when a draft needs
it, not when the decoder runs: a frame that nobody drafts on costs nothing more. Only where image pads are among the
tokens is it made at once, as their visual tokens are at hand then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.backend import DraftRow, Limits, Row
from exaone_ros.engine.backends.rows import check_draft_rows
from exaone_ros.engine.backends.slot_graph import RowResult, SlotGraph
from exaone_ros.errors import EngineError


@dataclass
class _Chain:
    """Drafting in one slot since the decoder ran there last.

    Attributes:
        start: tokens that counted.
        tokens: what was taken behind them.
        result: of the last of them.
    """

    start: int
    tokens: list[int] = field(default_factory=list)
    result: RowResult | None = None


class MtpSlots:
    """The MTP layer beside a decoder whose slots it follows.

    Keeps every hidden state of every slot: about 4% of the memory of the decoder's caches in the released model.

    Args:
        graph: of the layer.
        limits: of the backend.
        width: of the hidden states.
        image_token: id that stands for a visual token.
    """

    def __init__(self, graph: SlotGraph, limits: Limits, width: int, image_token: int) -> None:
        self._graph, self._limits, self._image_token = graph, limits, image_token
        # Zeros: the system gives out pages only as they are written.
        self._hidden = np.zeros((limits.slots, limits.context, width), np.float32)
        self._tokens = np.zeros((limits.slots, limits.context), np.int64)
        self._chains: dict[int, _Chain] = {}

    def follow(self, rows: Sequence[Row], results: Sequence[RowResult]) -> None:
        """The decoder has run these rows."""
        for row, result in zip(rows, results, strict=True):
            end = row.start + len(row.tokens)
            assert result.hidden is not None
            self._hidden[row.slot, row.start : end] = result.hidden
            self._tokens[row.slot, row.start : end] = row.tokens
            self._keep(row.slot, row.start)
            if row.visual:
                self._catch_up(row, end)

    def copy(self, source: int, targets: Sequence[int], length: int) -> None:
        """The decoder has copied the first `length` positions of a slot into others."""
        self._graph.copy(source, targets, self._entries(source, length))
        for target in targets:
            self._chains.pop(target, None)
            self._hidden[target, :length] = self._hidden[source, :length]
            self._tokens[target, :length] = self._tokens[source, :length]

    def draft(self, rows: Sequence[DraftRow], held: NDArray[np.int64]) -> list[NDArray[np.float32]]:
        """As `DraftingBackend.draft`; `held` int64 [slots] is what the decoder's slots hold."""
        check_draft_rows(rows, self._limits, held, self._image_token)
        ring = self._graph.ring
        for row in rows:
            if ring is not None and len(row.tokens) > ring.chunk:  # more could not be taken back
                raise EngineError(
                    f"slot {row.slot}: a draft behind {len(row.tokens)} tokens; expected at most {ring.chunk}"
                )
        for row in rows:
            chain = self._chains.get(row.slot)
            if chain is None or chain.start != row.start or chain.tokens != row.tokens[: len(chain.tokens)].tolist():
                self._keep(row.slot, row.start)
                self._chains[row.slot] = _Chain(row.start)
        while waiting := [row for row in rows if len(self._chains[row.slot].tokens) < len(row.tokens)]:
            inputs = [self._next_input(row, self._chains[row.slot]) for row in waiting]
            results = self._graph.run([entry for entry, _ in inputs], [hidden for _, hidden in inputs])
            for row, result in zip(waiting, results, strict=True):
                chain = self._chains[row.slot]
                chain.tokens.append(int(row.tokens[len(chain.tokens)]))
                chain.result = result
        logits = []
        for row in rows:
            last = self._chains[row.slot].result
            assert last is not None
            logits.append(last.logits[0])
        return logits

    def _entries(self, slot: int, length: int) -> int:
        """How many entries of a slot hold for its first `length` tokens, whatever comes behind those.

        The last of them takes the token behind it, so it is not among them, and none that stands on a draft is.
        """
        chain = self._chains.get(slot)
        certain = length if chain is None else min(length, chain.start)
        return min(int(self._graph.held[slot]), max(0, certain - 1))

    def _keep(self, slot: int, length: int) -> None:
        """Forget what hangs on more than the first `length` tokens of a slot."""
        self._graph.held[slot] = self._entries(slot, length)
        self._chains.pop(slot, None)

    def _next_input(self, row: DraftRow, chain: _Chain) -> tuple[Row, NDArray[np.float32]]:
        """The next entries of a slot with their hidden states: all that lag behind at first, then one by one."""
        token = row.tokens[len(chain.tokens)]
        if chain.result is not None:
            assert chain.result.hidden is not None
            at = row.start - 1 + len(chain.tokens)
            return Row(row.slot, at, np.array([token], np.int64)), chain.result.hidden
        first = int(self._graph.held[row.slot])
        tokens = np.append(self._tokens[row.slot, first + 1 : row.start], token)
        return Row(row.slot, first, tokens), self._hidden[row.slot, first : row.start]

    def _catch_up(self, row: Row, end: int) -> None:
        """Make the entries whose next token stands in a row with image pads, and those before that lag behind."""
        first = int(self._graph.held[row.slot])
        tokens = self._tokens[row.slot, first + 1 : end]
        if tokens.size:
            entries = Row(row.slot, first, tokens, row.visual, logits=0)
            self._graph.run([entries], [self._hidden[row.slot, first : end - 1]])
