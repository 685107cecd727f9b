"""A graph of decoder layers in ONNX Runtime with its KV caches: rows of tokens in, logits and hidden states out.

The decoder is one, the MTP layer another. Caches are bound in place: a decode step copies nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.backend import Limits, Row
from exaone_ros.engine.backends.batching import Batch, plan_batches
from exaone_ros.engine.backends.bucketed_kv_cache import BucketedKvCache
from exaone_ros.engine.backends.decoder_inputs import DecoderInputs
from exaone_ros.engine.backends.denormals import Flushed
from exaone_ros.engine.backends.ring import Intact, Ring, room
from exaone_ros.engine.backends.rows import check_kept
from exaone_ros.errors import EngineError

KEPT_LENGTH = 8
KEPT_RUNS = 64
"""Runs of at most this many tokens a slot are decode steps: their inputs stay bound, for this many shapes of a run."""


class RowResult(NamedTuple):
    """What a graph made of one row.

    Attributes:
        logits: float32 [row.logits, vocab].
        hidden: float32 [n, hidden] of each of its n tokens (decoder) or of those with logits (MTP layer); None where
            the graph does not give it out.
    """

    logits: NDArray[np.float32]
    hidden: NDArray[np.float32] | None = None


class SlotGraph:
    """Runs rows on slots.

    Args:
        session: ONNX Runtime's, of a graph from `decoder_graph` or `mtp_graph`.
        caches: its KV caches; they belong to this from now on.
        device: kind and number of where the caches lie.
        limits: of the backend.
        image_token: id that stands for a visual token.
        width: of the hidden states.
        window: of sliding-window layers, or None.
        ring: of their caches; None where these hold all positions.
    """

    def __init__(
        self,
        session: Any,
        caches: BucketedKvCache[Any],
        device: tuple[str, int],
        limits: Limits,
        image_token: int,
        width: int,
        window: int | None,
        ring: Ring | None = None,
    ) -> None:
        self._session, self._caches, self._device, self._limits = session, caches, device, limits
        self._image_token, self._window, self.ring = image_token, window, ring
        self._intact = Intact(ring, limits.slots)
        self._inputs = {value.name for value in session.get_inputs()}
        outputs = {value.name for value in session.get_outputs()}
        self._gives = next((name for name in ("hidden", "drafted") if name in outputs), None)
        self.held = np.zeros(limits.slots, np.int64)
        """Positions that each slot holds."""
        self._bindings: dict[tuple[int, int, int], Any] = {}
        self._kept: dict[tuple[int, int, int, int, int], tuple[DecoderInputs, Any]] = {}
        self._no_visual = np.zeros((1, width), np.float32)
        self._flushed = Flushed()

    def run(self, rows: Sequence[Row], hidden: Sequence[NDArray[np.float32]] = ()) -> list[RowResult]:
        """Run rows, checked already, in as few runs of the graph as is worth it.

        Args:
            rows: what to run.
            hidden: for the MTP layer, float32 [n, hidden] for the n tokens of each row.

        Raises:
            EngineError: the runtime failed, or a row starts where its window is not held any more.
        """
        ring = self.ring
        if ring is None:
            return self._run(rows, hidden)
        for row in rows:
            check_kept(row.slot, row.start, self._intact)
        if all(len(row.tokens) <= ring.room(row.start) for row in rows):
            return self._run(rows, hidden)
        cuts = [ring.cut(row, self._image_token) for row in rows]
        found: list[list[RowResult]] = [[] for _ in rows]
        for number in range(max(map(len, cuts))):
            now = [index for index, parts in enumerate(cuts) if number < len(parts)]
            parts = [cuts[index][number] for index in now]
            states = []
            if hidden:
                offsets = [part.start - rows[index].start for index, part in zip(now, parts, strict=True)]
                states = [
                    hidden[index][at : at + len(part.tokens)]
                    for index, part, at in zip(now, parts, offsets, strict=True)
                ]
            for index, result in zip(now, self._run(parts, states), strict=True):
                found[index].append(result)
        return [_joined(results) for results in found]

    def keeps(self, slot: int, length: int) -> bool:
        """Whether a slot can go on from its first `length` positions."""
        return self._intact.keeps(slot, length)

    def _run(self, rows: Sequence[Row], hidden: Sequence[NDArray[np.float32]]) -> list[RowResult]:
        """Run rows none of which has to be cut."""
        results: dict[int, RowResult] = {}
        least = 0
        if len(rows) > 1:
            least = self._caches.company([(row.slot, row.start, row.start + len(row.tokens)) for row in rows])
        for row in rows:
            self._forget(self._caches.fit(row.slot, row.start, row.start + len(row.tokens), self.held, least))
            self.held[row.slot] = row.start
            if row.start == 0:
                self._intact.restart(row.slot)
        places = [self._caches.bucket(row.slot) for row in rows]
        for bucket in sorted(set(places)):
            chosen = [i for i, place in enumerate(places) if place == bucket]
            together, states = [rows[i] for i in chosen], [hidden[i] for i in chosen] if hidden else []
            # A prompt head alone must not scatter those that decode beside it.
            if self._caches.crowds(bucket) and any(row.logits for row in together):
                needed = max(row.start + len(row.tokens) for row in together)
                running = {row.slot for row in together}
                self._forget(self._caches.make_way(bucket, needed, running, self.held))
            # A row alone needs no filler.
            held = self._caches.held_in(bucket, self.held).tolist() if len(together) > 1 else ()
            for batch in plan_batches(together, held, partial(room, self.ring, self._caches.bounds[bucket])):
                found = self._run_batch(bucket, batch, together, states)
                results.update({chosen[i]: result for i, result in found.items()})
        return [results[i] for i in range(len(rows))]

    def copy(self, source: int, targets: Sequence[int], length: int) -> None:
        """Copy the first `length` positions of a slot into others.

        Raises:
            EngineError: nothing can go on from there any more.
        """
        check_kept(source, length, self._intact)
        self._forget(self._caches.copy(source, targets, length, self.held))
        self.held[list(targets)] = length
        self._intact.copied(source, list(targets))

    def _forget(self, buckets: set[int]) -> None:
        """The memory of these buckets moved: what was bound to it is void."""
        if buckets:
            self._bindings = {key: bound for key, bound in self._bindings.items() if key[0] not in buckets}
            self._kept = {key: bound for key, bound in self._kept.items() if key[0] not in buckets}

    def _run_batch(
        self, bucket: int, batch: Batch, rows: Sequence[Row], hidden: Sequence[NDArray[np.float32]]
    ) -> dict[int, RowResult]:
        """Run one batch, whose rows live in one bucket; returns the results of its rows by their index."""
        cache, starts, count = self._caches.caches[bucket], [0] * len(batch.rows), 0
        # Nothing that is not asked for here: behind a run of the graph every other operation finds cold caches.
        held = None if cache.fixed and None not in batch.rows else self._caches.held_in(bucket, self.held)
        for place, index in enumerate(batch.rows):
            if index is not None:
                starts[place] = rows[index].start
                count += rows[index].logits
            elif held is not None:  # fillers write behind what their slot holds
                starts[place] = int(held[batch.first_slot + place])
        if held is not None and cache.ensure(max(starts) + batch.length, held):
            self._forget({bucket})
        if self.ring is not None:  # before the run: what it overwrites is lost though it fail
            for place, start in enumerate(starts):
                self._intact.wrote(batch.first_slot + place, start + batch.length)
        inputs, binding, wanted = self._bound(bucket, batch, rows, starts, count, hidden)
        try:
            if batch.length > KEPT_LENGTH:
                with self._flushed:
                    self._session.run_with_iobinding(binding)
            else:  # a decode step multiplies by too little behind its mask to gain from the mode
                self._session.run_with_iobinding(binding)
        except Exception as error:  # ONNX Runtime's errors share no base class but this
            raise EngineError(f"the decoder failed on {len(batch.rows)} x {batch.length} tokens: {error}") from error
        results = {}
        for index, first, end in wanted:
            row = rows[index]
            self.held[row.slot] = row.start + len(row.tokens)
            # Copies: the next run writes there again.
            states = None
            if inputs.hidden is not None and self._gives == "hidden":
                place = (row.slot - batch.first_slot) * batch.length
                states = inputs.hidden[place : place + len(row.tokens)].copy()
            elif inputs.hidden is not None:
                states = inputs.hidden[first:end].copy()
            results[index] = RowResult(inputs.logits[first:end].copy(), states)
        return results

    def _bound(
        self,
        bucket: int,
        batch: Batch,
        rows: Sequence[Row],
        starts: Sequence[int],
        count: int,
        hidden: Sequence[NDArray[np.float32]],
    ) -> tuple[DecoderInputs, Any, list[tuple[int, int, int]]]:
        """A batch's inputs, filled, and the binding that they are bound to with the caches and `count` logits."""
        slots, length = len(batch.rows), batch.length
        key = (bucket, batch.first_slot, slots, length, count)
        sees = any(rows[index].visual for index in batch.rows if index is not None)
        # A binding to another device copies what it is bound to there and then: filling it anew would not be seen.
        short = length <= KEPT_LENGTH and not sees and self._device[0] == "cpu"
        if short and key in self._kept:
            inputs, binding = self._kept[key]
            return inputs, binding, inputs.fill(batch, rows, starts, self._image_token, hidden)
        capacity, vocab = self._caches.caches[bucket].capacity, self._limits.vocab
        given = {"hidden": slots * length, "drafted": max(1, count)}.get(self._gives or "", 0)
        inputs = DecoderInputs(
            slots, length, capacity, self._window, count, vocab, self._no_visual,
            local=self.ring.length if self.ring else None,
            takes_hidden="hidden" in self._inputs, gives_hidden=given,
        )  # fmt: skip
        wanted = inputs.fill(batch, rows, starts, self._image_token, hidden)
        if len(self._kept) >= KEPT_RUNS:
            self._kept.clear()
        place = bucket, batch.first_slot, slots
        binding = self._bind_caches(*place) if short else self._binding(*place)
        for name in self._inputs & inputs.feeds.keys():
            binding.bind_cpu_input(name, inputs.feeds[name])
        for output, out in (("logits", inputs.logits), (self._gives, inputs.hidden)):
            if output is not None and out is not None:
                binding.bind_output(output, "cpu", 0, np.float32, out.shape, out.ctypes.data)
        if short:
            self._kept[key] = inputs, binding
        return inputs, binding, wanted

    def _binding(self, bucket: int, first_slot: int, slots: int) -> Any:
        """The caches of neighbouring slots, bound; kept until memory moves, the other inputs are bound at each run."""
        key = bucket, first_slot, slots
        if key not in self._bindings:
            self._bindings[key] = self._bind_caches(*key)
        return self._bindings[key]

    def _bind_caches(self, bucket: int, first_slot: int, slots: int) -> Any:
        """The caches of neighbouring slots of a bucket bound as input and, in place, as output."""
        binding, cache = self._session.io_binding(), self._caches.caches[bucket]
        for name in cache.names:
            place, shape = cache.place(name, first_slot), cache.shape(name, slots)
            binding.bind_input(f"past_{name}", *self._device, np.float32, shape, place)
            binding.bind_output(f"present_{name}", *self._device, np.float32, shape, place)
        return binding


def _joined(results: Sequence[RowResult]) -> RowResult:
    """The results of a row's parts as one."""
    states = [result.hidden for result in results if result.hidden is not None]
    return RowResult(np.concatenate([result.logits for result in results]), np.concatenate(states) if states else None)
