"""How rows of one call are put into as few runs of the graph as is worth it. Knows slots and lengths, nothing else.

A run covers neighbouring slots, because the caches of neighbours are one piece of memory and can be bound in place.
Shorter rows are padded to the longest; a slot without a row inside the span gets a filler. Padding and fillers write
beyond what their slot holds, where the masks hide it until real tokens overwrite it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from exaone_ros.engine.backend import Row

# A run of its own costs about as much as this many tokens inside a run (measured on 4.6 M parameters, two threads).
RUN_COST_TOKENS = 16


@dataclass(frozen=True)
class Batch:
    """Rows that run together.

    Attributes:
        first_slot: the batch covers the slots first_slot .. first_slot + len(rows) - 1.
        rows: for each slot the index of its row in the call, or None for a filler.
        length: tokens of each row after padding.
    """

    first_slot: int
    rows: tuple[int | None, ...]
    length: int


def plan_batches(rows: Sequence[Row], held: Sequence[int], room: Callable[[int], int]) -> list[Batch]:
    """Cut the rows of a call into batches.

    Args:
        rows: at most one per slot; checked already.
        held: how many tokens each slot holds before the call; of a slot with a row, where the row starts.
        room: tokens that a run may write from a position on, padding included; enough for each row by itself.
    """
    if len(rows) == 1:  # most decode steps
        return [Batch(rows[0].slot, (0,), len(rows[0].tokens))]
    batches = []
    held = list(held)
    waiting = sorted(range(len(rows)), key=lambda i: len(rows[i].tokens), reverse=True)
    while waiting:
        length = len(rows[waiting[0]].tokens)
        together = [
            i
            for i in waiting
            if i == waiting[0] or (length - len(rows[i].tokens) <= RUN_COST_TOKENS and length <= room(rows[i].start))
        ]
        waiting = [i for i in waiting if i not in together]
        batches += _neighbours(sorted(together, key=lambda i: rows[i].slot), rows, length, held, room)
        for i in together:  # in the runs that follow, a filler comes behind what this one writes
            held[rows[i].slot] = rows[i].start + len(rows[i].tokens)
    return batches


def _neighbours(
    order: Sequence[int], rows: Sequence[Row], length: int, held: Sequence[int], room: Callable[[int], int]
) -> list[Batch]:
    """Cut rows in the order of their slots where a gap is too wide to be filled."""
    batches: list[Batch] = []
    span: list[int | None] = []
    first = 0
    for index in order:
        slot = rows[index].slot
        gap = range(first + len(span), slot)
        if span and len(gap) * length <= RUN_COST_TOKENS and all(length <= room(held[s]) for s in gap):
            span += [None] * len(gap)
        elif span and len(gap):
            batches.append(Batch(first, tuple(span), length))
            span = []
        if not span:
            first = slot
        span.append(index)
    batches.append(Batch(first, tuple(span), length))
    return batches
