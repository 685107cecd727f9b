"""Cuts rows into pieces that an engine's profile takes, and lays out the inputs of one run. Knows no device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.backend import Row
from exaone_ros.engine.backends.batching import Batch
from exaone_ros.engine.backends.ring import Ring, positions_in
from exaone_ros.engine.tensorrt.plan import Capacity


@dataclass(frozen=True)
class Piece:
    """A part of a row that fits into one run.

    Attributes:
        index: of the row in the call.
        row: the part, without images.
        visual: which of the row's visual tokens it uses, counted over all its images: first and count.
    """

    index: int
    row: Row
    visual: tuple[int, int]


def cut(index: int, row: Row, capacity: Capacity, image_token: int, ring: Ring | None = None) -> list[Piece]:
    """Cut one row so that no piece has more tokens, logits or visual tokens than a run takes, or wraps in `ring`."""
    pieces, start, seen, count = [], 0, 0, len(row.tokens)
    pads_before = np.concatenate([[0], np.cumsum(row.tokens == image_token)])
    first_logit = count - row.logits
    while start < count:
        end = min(start + capacity.chunk, count)
        if ring is not None:
            end = min(end, start + ring.room(row.start + start))
        if row.logits:
            end = min(end, max(start, first_logit) + capacity.logits_per_row)
        # The last end whose pads still fit.
        end = min(end, int(np.searchsorted(pads_before, seen + capacity.visual_tokens, side="right")) - 1)
        used = int(pads_before[end]) - seen
        wanted = max(0, end - max(start, first_logit)) if row.logits else 0
        part = Row(row.slot, row.start + start, row.tokens[start:end], (), wanted)
        pieces.append(Piece(index, part, (seen, used)))
        start, seen = end, seen + used
    return pieces


def rounds(rows: Sequence[Row], capacity: Capacity, image_token: int, ring: Ring | None = None) -> list[list[Piece]]:
    """The pieces of a call in the order in which they must run; the pieces of one round may run together."""
    cuts = [cut(index, row, capacity, image_token, ring) for index, row in enumerate(rows)]
    found: list[list[Piece]] = []
    for number in range(max(map(len, cuts), default=0)):
        together: list[Piece] = []
        visual = 0
        for pieces in cuts:
            if number >= len(pieces):
                continue
            piece = pieces[number]
            if together and visual + piece.visual[1] > capacity.visual_tokens:
                found.append(together)
                together, visual = [], 0
            together.append(piece)
            visual += piece.visual[1]
        found.append(together)
    return found


@dataclass(frozen=True)
class Run:
    """Inputs of one run besides caches and visual tokens.

    Attributes:
        feeds: by the name of the input.
        visual: how many rows of the visual input are used, at least one.
        wanted: place in the batch and number of logits, in their order.
        starts: int64 [B], where each row begins.
    """

    feeds: dict[str, NDArray[Any]]
    visual: int
    wanted: tuple[tuple[int, int], ...]
    starts: NDArray[np.int64]


def lay_out(
    batch: Batch,
    pieces: Sequence[Piece],
    held: NDArray[np.int64],
    context: int,
    window: int | None,
    image_token: int,
    ring: Ring | None = None,
) -> Run:
    """Lay out a batch.

    Args:
        batch: over `pieces`.
        pieces: of this round.
        held: int64 [slots], tokens that each slot holds; fillers write behind them.
        context: positions of a cache.
        window: of sliding layers.
        image_token: whose places visual tokens take.
        ring: of the caches of sliding layers; None where they are as long as the others.
    """
    shape = (len(batch.rows), batch.length)
    ids, visual_row = np.zeros(shape, np.int64), np.full(shape, -1, np.int64)
    starts = held[batch.first_slot : batch.first_slot + len(batch.rows)].copy()
    logit_rows: list[int] = []
    wanted, seen = [], 0
    for place, number in enumerate(batch.rows):
        if number is None:
            continue
        row = pieces[number].row
        count = len(row.tokens)
        starts[place] = row.start
        ids[place, :count] = row.tokens
        pads = np.flatnonzero(row.tokens == image_token)
        visual_row[place, pads] = seen + np.arange(len(pads))
        seen += len(pads)
        end = place * batch.length + count
        logit_rows += range(end - row.logits, end)
        wanted.append((number, row.logits))
    positions = starts[:, None] + np.arange(batch.length)
    key, query = np.arange(context), positions[:, None, :, None]
    causal = key <= query
    feeds: dict[str, NDArray[Any]] = {
        "input_ids": ids,
        "visual_row": visual_row,
        "position_ids": positions,
        "write_index": starts,
        "mask_global": causal,
        "mask_local": causal,
        # At least one: an engine has no profile for none.
        "logit_rows": np.array(logit_rows or [0], np.int64),
    }
    if window is not None and window < context:
        local = ring.length if ring else context
        at = positions_in(local, positions[:, -1])[:, None, None, :]
        feeds["mask_local"] = (at >= 0) & (at <= query) & (at > query - window)
        feeds["write_index_local"] = starts % local
    return Run(feeds, max(1, seen), tuple(wanted), starts)
