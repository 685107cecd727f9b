"""Running sequences on KV slots, one call of the decoder after the other. Knows no schedule: who runs is told to it.

Each row is independent of the others: an answer is the same alone and in a batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from exaone_ros.engine.ahead import Ahead
from exaone_ros.engine.backend import Backend, Row, named_failures
from exaone_ros.engine.sequence import Outcome, Sequence
from exaone_ros.engine.speculation import Speculator
from exaone_ros.engine.timings import Meter
from exaone_ros.errors import ExaoneError


@dataclass(frozen=True)
class Step:
    """What one call of the decoder did.

    Attributes:
        slots: whose sequences took part.
        prefilling: there was a prompt among the rows.
    """

    slots: tuple[int, ...]
    prefilling: bool


class Batch:
    """Sequences that have a slot. They join and leave between any two steps.

    Args:
        backend: runs the rows.
        prefill_tokens: tokens of prompts in one call at most; longer prompts take several calls, so that the others'
            next token does not wait for a long prompt.
        speculator: drafts tokens that a step verifies; None = nobody does.
    """

    def __init__(self, backend: Backend, prefill_tokens: int, speculator: Speculator | None = None) -> None:
        self._backend = backend
        self._speculator = speculator
        self._prefill_tokens = prefill_tokens
        self._ahead = Ahead(backend.limits.vocab)
        self.running: dict[int, Sequence] = {}
        """By slot, in the order in which they joined."""

    def join(self, joining: Mapping[int, Sequence], meter: Meter) -> None:
        """Copy the prefix of fresh sequences into their slots; what the backend cannot copy has failed."""
        self.running |= joining
        targets: defaultdict[int, list[int]] = defaultdict(list)
        for slot, sequence in joining.items():
            targets[sequence.prefix.slot].append(slot)
        for source, slots in targets.items():
            try:
                with named_failures(self._backend, "copy"), meter.measure("prefill_s"):
                    self._backend.copy(source, slots, joining[slots[0]].prefix.length)
            except ExaoneError as error:
                for slot in slots:
                    joining[slot].fail(error)

    def close(self) -> None:
        """End the thread that prepares choices."""
        self._ahead.close()

    def leave(self, slot: int) -> Sequence:
        """Take a sequence off its slot."""
        return self.running.pop(slot)

    def step(self, slots: Iterable[int], meter: Meter) -> Step:
        """One call of the decoder for the sequences on these slots, and one choice for each that has read its prompt.

        What fails here fails the sequences of this call only.
        """
        members = [(slot, self.running[slot]) for slot in slots if not self.running[slot].finished]
        parts = self._parts(members)
        try:
            drafts = self._drafts(parts, meter)
        except ExaoneError as error:
            for _, sequence in members:
                sequence.fail(error)
            return Step(tuple(slot for slot, _ in members), prefilling=False)
        rows = self._rows(parts, drafts)
        prefilling = any(self.running[row.slot].reading for row in rows)
        step = Step(tuple(row.slot for row in rows), prefilling)
        if not rows:
            return step
        self._ahead.begin(self.running[row.slot] for row in rows if row.logits)
        try:
            with named_failures(self._backend, "run"), meter.measure("prefill_s" if prefilling else "decode_s"):
                logits = self._backend.run(rows)
        except ExaoneError as error:
            for row in rows:
                self.running[row.slot].fail(error)
            return step
        finally:
            self._ahead.end()
        if not prefilling:
            meter.add("decode_steps", 1)
        with meter.measure("grammar_s"):
            for row, row_logits in zip(rows, logits, strict=True):
                sequence = self.running[row.slot]
                if row.logits:
                    accepted, drafted = sequence.guesses_accepted, sequence.guesses_drafted
                    draft = drafts.get(row.slot, ())
                    sequence.advance(row_logits, draft)
                    if draft:  # what turned out to be forced was no guess
                        meter.add("drafts_accepted", sequence.guesses_accepted - accepted)
                        meter.add("tokens_drafted", sequence.guesses_drafted - drafted)
                    if self._speculator is not None and sequence.outcome in (Outcome.DONE, Outcome.BUDGET):
                        self._speculator.learn(sequence)
                else:
                    self.running[row.slot].read(row.tokens.size)
        return step

    def _parts(self, members: list[tuple[int, Sequence]]) -> list[_Part]:
        """Who takes part, and with which tokens."""
        parts = []
        room = self._prefill_tokens
        for slot, sequence in members:
            due = sequence.due
            if not sequence.reading:
                parts.append(_Part(slot, sequence, due, True))
            elif room:  # else its turn comes when the prompts before it are read
                tokens = due[:room]
                room -= len(tokens)
                parts.append(_Part(slot, sequence, tokens, len(tokens) == len(due)))
        return parts

    def _drafts(self, parts: list[_Part], meter: Meter) -> dict[int, list[int]]:
        """What is guessed behind the tokens of sequences that run all that are due, by slot."""
        whole = {part.slot: part.sequence for part in parts if part.whole}
        if self._speculator is None or not whole:
            return {}
        before = sum(sequence.guesses_drafted for sequence in whole.values())
        with meter.measure("draft_s"):
            drafts = self._speculator.drafts(whole, _room_behind_prompts(parts))
        meter.add("tokens_drafted", sum(sequence.guesses_drafted for sequence in whole.values()) - before)
        return drafts

    def _rows(self, parts: list[_Part], drafts: Mapping[int, list[int]]) -> list[Row]:
        rows = []
        for slot, sequence, tokens, whole in parts:
            draft = drafts.get(slot, [])
            wanted = 1 + len(draft) if whole else 0
            rows.append(Row(slot, sequence.length, np.array(tokens + draft, np.int64), logits=wanted))
        return rows


class _Part(NamedTuple):
    """A sequence's part in one call of the decoder.

    Attributes:
        slot: where it lies.
        sequence: which.
        tokens: that are due and run now.
        whole: they are all that are due, so that there is something to choose behind them.
    """

    slot: int
    sequence: Sequence
    tokens: list[int]
    whole: bool


def _room_behind_prompts(parts: list[_Part]) -> dict[int, int]:
    """Tokens of a draft that cost nothing behind each prompt, by slot: all rows of a run are as long as the longest.

    A prompt that runs alone is not limited: its draft costs no other row anything.
    """
    if len(parts) == 1:
        return {}
    prompts = {part.slot: len(part.tokens) for part in parts if part.sequence.reading}
    longest = max(prompts.values(), default=0)
    return {slot: longest - length for slot, length in prompts.items()}
