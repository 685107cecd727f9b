"""Figures of an evaluation, each with its 95% confidence interval."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from exaone_ros.sim.score import f1

CONFIDENCE_Z = 1.96
RESAMPLES = 300


@dataclass(frozen=True)
class Interval:
    """A 95% confidence interval.

    Attributes:
        low, high: its bounds; the value need not lie in the middle. NaN = not known.
    """

    low: float
    high: float

    @property
    def half(self) -> float:
        """Half of its width."""
        return (self.high - self.low) / 2


def wilson(share: float, number: int) -> Interval:
    """Wilson's interval of a share 0..1 of so many: right also near 0 and 1, where it reaches inwards only."""
    z2 = CONFIDENCE_Z**2
    middle = (share + z2 / (2 * number)) / (1 + z2 / number)
    half = CONFIDENCE_Z / (1 + z2 / number) * math.sqrt(share * (1 - share) / number + z2 / (4 * number**2))
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


@dataclass
class Scores:
    """Values of one figure; each is 0..1.

    Attributes:
        values: one for each question.
    """

    values: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        """Mean, 95% confidence interval (half of its width, its bounds), and number of questions.

        Of one value the interval is all that a mean may be, 0 to 1.
        """
        if not self.values:
            return _summary(math.nan, Interval(math.nan, math.nan), math.nan, 0)
        values = np.array(self.values)
        number, mean = len(values), float(values.mean())
        if set(np.unique(values)) <= {0.0, 1.0}:
            found = wilson(mean, number)
            return _summary(mean, found, found.half, number)
        if number == 1:
            return _summary(mean, Interval(0.0, 1.0), 0.5, number)
        half = CONFIDENCE_Z * float(values.std(ddof=1)) / math.sqrt(number)
        return _summary(mean, Interval(mean - half, mean + half), half, number)


@dataclass
class FrameF1:
    """F1 over boxes of all frames, with an interval by resampling frames.

    Attributes:
        rows: found, true and hit boxes of each frame.
    """

    rows: list[tuple[int, int, int]] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        """F1, 95% confidence interval (half of its width, its bounds), and number of frames."""
        if not self.rows:
            return _summary(math.nan, Interval(math.nan, math.nan), math.nan, 0)
        rows = np.array(self.rows)
        rng = np.random.default_rng(0)
        draws = [rows[rng.integers(len(rows), size=len(rows))].sum(0) for _ in range(RESAMPLES)]
        low, high = np.percentile([f1(*draw) for draw in draws], [2.5, 97.5])
        return _summary(f1(*rows.sum(0)), Interval(float(low), float(high)), float(high - low) / 2, len(rows))


def _summary(value: float, interval: Interval, half: float, number: int) -> dict[str, float]:
    """`interval` is the half width: files that were written before the bounds were have nothing else."""
    return {"value": value, "interval": half, "low": interval.low, "high": interval.high, "n": number}
