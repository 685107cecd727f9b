"""Counts, rates and percentiles of what a node does, over its life and over the last seconds. Knows no ROS."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Percentiles:
    """Median and 95th percentile of the samples in the window, in the unit of the samples."""

    p50: float
    p95: float


@dataclass(frozen=True)
class Reading:
    """What a meter shows at one moment.

    Attributes:
        totals: how often each thing happened since the start.
        recent: how often in the window.
        rates_hz: the same per second.
        samples: percentiles of each sampled quantity in the window; absent where there was none.
        sums: sum of the samples in the window.
        since_s: seconds since each thing happened last.
    """

    totals: Mapping[str, int] = field(default_factory=dict)
    recent: Mapping[str, int] = field(default_factory=dict)
    rates_hz: Mapping[str, float] = field(default_factory=dict)
    samples: Mapping[str, Percentiles] = field(default_factory=dict)
    sums: Mapping[str, float] = field(default_factory=dict)
    since_s: Mapping[str, float] = field(default_factory=dict)


class Meter:
    """Thread-safe. Of each name the entries of one window are kept, `most` at most.

    Args:
        window_s: length of the window.
        most: entries of each name that are kept at most.
        clock: monotonic seconds.
    """

    def __init__(self, window_s: float = 10.0, most: int = 4096, clock: Callable[[], float] = time.monotonic) -> None:
        self._window_s, self._most, self._clock = window_s, most, clock
        self._lock = threading.Lock()
        self._started_s = clock()
        self._totals: Counter[str] = Counter()
        self._events: dict[str, deque[float]] = {}
        self._samples: dict[str, deque[tuple[float, float]]] = {}

    def count(self, name: str, times: int = 1) -> None:
        """Something happened."""
        now_s = self._clock()
        with self._lock:
            self._totals[name] += times
            events = self._events.setdefault(name, deque(maxlen=self._most))
            events.extend([now_s] * min(times, self._most))
            while len(events) > 1 and events[0] < now_s - self._window_s:
                events.popleft()

    def sample(self, name: str, value: float) -> None:
        """A quantity was measured."""
        now_s = self._clock()
        with self._lock:
            samples = self._samples.setdefault(name, deque(maxlen=self._most))
            samples.append((now_s, value))
            while samples[0][0] < now_s - self._window_s:
                samples.popleft()

    def forget(self, prefix: str, but: Collection[str]) -> None:
        """Drop the names that begin with a prefix, but those that go on with one of `but`.

        For names that users choose: there is no end to them, and each is kept, and told, for ever.
        """
        with self._lock:
            for kept in (self._totals, self._events, self._samples):
                for name in [n for n in kept if n.startswith(prefix) and n.removeprefix(prefix) not in but]:
                    del kept[name]

    def read(self) -> Reading:
        """Everything, now."""
        now_s = self._clock()
        start_s = now_s - self._window_s
        span_s = max(min(self._window_s, now_s - self._started_s), 1e-3)
        with self._lock:
            totals = dict(self._totals)
            since_s = {name: now_s - events[-1] for name, events in self._events.items()}
            recent = {name: sum(at_s >= start_s for at_s in events) for name, events in self._events.items()}
            values = {
                name: [value for at_s, value in samples if at_s >= start_s] for name, samples in self._samples.items()
            }
        percentiles = {name: np.percentile(kept, (50, 95)) for name, kept in values.items() if kept}
        return Reading(
            totals=totals,
            recent=recent,
            rates_hz={name: number / span_s for name, number in recent.items()},
            samples={name: Percentiles(float(p50), float(p95)) for name, (p50, p95) in percentiles.items()},
            sums={name: float(sum(kept)) for name, kept in values.items()},
            since_s=since_s,
        )
