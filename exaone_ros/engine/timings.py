"""Where the time of an answer went, as data."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True)
class Timings:
    """Time per stage in seconds, and what was done in it.

    Attributes:
        preprocess_s: image resized and cut into patches.
        encode_s: vision encoder, without preprocessing.
        prefix_s: system prompt and visual tokens through the decoder.
        prefill_s: calls of the decoder in which a question's prompt takes part.
        decode_s: the other calls of the decoder, one token and what it forces for each question.
        draft_s: guessing tokens ahead, where that is on.
        grammar_s: on the host between those calls: masks, choices, evidence.
        total_s: from the call to the last answer; more than the sum of the others by what the host does beside.
        decode_steps: calls of the decoder counted in `decode_s`.
        tokens_sampled: chosen from logits.
        tokens_forced: written without a choice, by the grammar or at a reasoning budget.
        tokens_drafted: guessed ahead, without those that a guess is known to force: of drafts by habit (`ngram`), which
            nobody checks against the grammar, that is known where they came true.
        drafts_accepted: of the guesses, those that were then chosen: steps saved are fewer, as questions share a step.
    """

    preprocess_s: float = 0.0
    encode_s: float = 0.0
    prefix_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    draft_s: float = 0.0
    grammar_s: float = 0.0
    total_s: float = 0.0
    decode_steps: int = 0
    tokens_sampled: int = 0
    tokens_forced: int = 0
    tokens_drafted: int = 0
    drafts_accepted: int = 0

    def milliseconds(self) -> dict[str, float]:
        """The times in milliseconds, by stage: preprocess, encode, prefix, prefill, decode, draft, grammar,
        total."""
        names = [field.name for field in fields(self) if field.name.endswith("_s")]
        return {name.removesuffix("_s"): getattr(self, name) * 1e3 for name in names}


class Measurement:
    """A `with` block that is being measured; several times cheaper than a generator, and there are a few in a step."""

    __slots__ = ("_around", "_meter", "_name", "_start_s")

    def __init__(self, meter: Meter, name: str) -> None:
        self._meter, self._name = meter, name

    def __enter__(self) -> None:
        meter = self._meter
        self._around = meter.under_way[0]
        meter.under_way = self._name, time.monotonic()
        self._start_s = time.perf_counter()

    def __exit__(self, *reason: object) -> None:
        meter = self._meter
        meter.add(self._name, time.perf_counter() - self._start_s)
        meter.under_way = self._around, time.monotonic()


class Meter:
    """Adds up what becomes a `Timings`."""

    def __init__(self) -> None:
        self._started_s = time.perf_counter()
        self._sums: dict[str, float] = {}
        self.under_way: tuple[str, float] = ("", time.monotonic())
        """What is being measured, empty between two blocks, and since when on the monotonic clock."""

    def add(self, name: str, amount: float) -> None:
        """Add seconds or a number to a field of `Timings`."""
        self._sums[name] = self._sums.get(name, 0) + amount

    def measure(self, name: str) -> Measurement:
        """Add the time spent in the `with` block."""
        return Measurement(self, name)

    @property
    def elapsed_s(self) -> float:
        """Seconds since this meter was made."""
        return time.perf_counter() - self._started_s

    def read(self) -> Timings:
        """What was added up so far; `total_s` is the time since this meter was made. Any thread may call it."""
        timings = Timings(total_s=self.elapsed_s)
        return replace(
            timings, **{name: type(getattr(timings, name))(sum_) for name, sum_ in self._sums.copy().items()}
        )
