"""Paths through joint space at limited speed: minimum-jerk moves between postures.

A minimum-jerk move from a to b in time T follows a + (b - a) (10 s^3 - 15 s^4 + 6 s^5) with s = t / T: it starts and
ends at rest (Flash and Hogan 1985); its largest velocity is 1.875 |b - a| / T.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

PEAK_VELOCITY = 1.875
"""Of a minimum-jerk move, relative to its mean velocity."""


@dataclass(frozen=True, eq=False)
class Path:
    """A path that visits postures one after another and rests at each.

    Attributes:
        postures: float64 [N, A], N >= 1.
        times_s: float64 [N], when each posture is reached, starting with 0, not falling.
    """

    postures: NDArray[np.float64]
    times_s: NDArray[np.float64]

    @property
    def duration_s(self) -> float:
        """Seconds until the last posture is reached."""
        return float(self.times_s[-1])

    def at(self, time_s: ArrayLike) -> NDArray[np.float64]:
        """Positions at the given times [T] after the start, float64 [T, A]; the ends are held."""
        time = np.atleast_1d(np.asarray(time_s, np.float64))
        if len(self.postures) == 1:
            return np.repeat(self.postures, len(time), axis=0)
        leg = np.clip(np.searchsorted(self.times_s, time, side="right") - 1, 0, len(self.times_s) - 2)
        start, stop = self.times_s[leg], self.times_s[leg + 1]
        s = np.clip((time - start) / np.maximum(stop - start, 1e-9), 0.0, 1.0)
        blend = s**3 * (10 - 15 * s + 6 * s**2)
        return self.postures[leg] + (self.postures[leg + 1] - self.postures[leg]) * blend[:, None]


def through(postures: Sequence[ArrayLike], max_velocity: ArrayLike, share: float = 0.6) -> Path:
    """The fastest minimum-jerk path through `postures` on which no joint exceeds `share` of its largest velocity.

    Args:
        postures: each [A], in radians or metres.
        max_velocity: [A], per second.
        share: of the limit that may be used, above 0, at most 1.
    """
    points = np.array([np.asarray(p, np.float64) for p in postures])
    allowed = np.asarray(max_velocity, np.float64) * share
    legs = [float(np.max(PEAK_VELOCITY * np.abs(b - a) / allowed)) for a, b in itertools.pairwise(points)]
    return Path(points, np.concatenate([[0.0], np.cumsum(legs)]))
