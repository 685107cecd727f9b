"""The batch loop: sequences join, run one step after the other on KV slots, and leave when they are finished.

Sequences that wait for a slot join as soon as one is free, so that more questions than slots are no special case.
Each row is independent of the others: an answer is the same alone and in a batch.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable

from exaone_ros.engine.backend import Backend, Row, named_failures
from exaone_ros.engine.sequence import Sequence
from exaone_ros.engine.timings import Meter
from exaone_ros.errors import EngineError, ExaoneError


def decode(
    backend: Backend,
    sequences: Iterable[Sequence],
    slots: Iterable[int],
    meter: Meter,
    *,
    stop: Callable[[], bool] = lambda: False,
    finished: Callable[[Sequence], None] = lambda sequence: None,
) -> None:
    """Run every sequence until it is finished.

    Args:
        backend: runs the rows.
        sequences: fresh ones; when this returns, each has an outcome.
        slots: free KV slots, at least one; their contents are overwritten.
        meter: takes the times and counts.
        stop: asked before each step; once true, what is unfinished is cancelled.
        finished: called for each sequence when it ends.
    """
    free = list(slots)
    if not free:
        raise EngineError("no free KV slot to decode on: release frames or open the engine with more slots")
    waiting = deque(sequences)
    running: dict[int, Sequence] = {}
    while waiting or running:
        if stop():
            for sequence in (*running.values(), *waiting):
                sequence.cancel()
                finished(sequence)
            return
        joining = {}
        while waiting and free:
            sequence = waiting.popleft()
            if sequence.finished:  # its grammar left nothing to choose
                finished(sequence)
            else:
                joining[free.pop()] = sequence
        running |= joining
        if running:
            _step(backend, running, joining, meter)
        for slot in [slot for slot, sequence in running.items() if sequence.finished]:
            finished(running.pop(slot))
            free.append(slot)


def _step(backend: Backend, running: dict[int, Sequence], joining: dict[int, Sequence], meter: Meter) -> None:
    """One call of the decoder for all running sequences, and one choice for each of them."""
    try:
        with named_failures(backend, "run"), meter.measure("prefill_s" if joining else "decode_s"):
            _copy_prefixes(backend, joining)
            rows = [Row(slot, sequence.length, sequence.next_tokens) for slot, sequence in running.items()]
            logits = backend.run(rows)
    except ExaoneError as error:  # only the sequences of this call fail; those that wait go on
        for sequence in running.values():
            sequence.fail(error)
        return
    if not joining:
        meter.add("decode_steps", 1)
    with meter.measure("grammar_s"):
        for sequence, row_logits in zip(running.values(), logits, strict=True):
            sequence.advance(row_logits[-1])


def _copy_prefixes(backend: Backend, joining: dict[int, Sequence]) -> None:
    targets = defaultdict(list)
    for slot, sequence in joining.items():
        targets[sequence.prefix].append(slot)
    for prefix, slots in targets.items():
        backend.copy(prefix.slot, slots, prefix.length)
