"""What a goal is carried out with and ends in: time-outs, commands, outcomes. Values only."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from exaone_ros.action.gate import Stop
from exaone_ros.errors import ActionError


@dataclass(frozen=True)
class RunnerLimits:
    """How long, in seconds, something may last.

    Attributes:
        heartbeat_timeout_s: silence of the heartbeat.
        state_timeout_s: silence of the joint states.
        head_timeout_s: one prediction.
        starve_s: the plan at its end without a new chunk.
        settle_s: that the robot is given to settle after the last action.
        hold_repeat_s: for which a hold is repeated after a stop.
    """

    heartbeat_timeout_s: float = 0.5
    state_timeout_s: float = 0.25
    head_timeout_s: float = 2.0
    starve_s: float = 0.5
    settle_s: float = 0.4
    hold_repeat_s: float = 0.5

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if not (math.isfinite(value) and value > 0):  # a comparison with NaN would never end a goal
                raise ActionError(f"runner: {limit.name} is {value!r}; expected seconds above 0")


@dataclass(frozen=True, eq=False)
class Command:
    """What to publish now. Attributes: position float64 [A]; hold: it is a hold after a stop."""

    position: NDArray[np.float64]
    hold: bool


@dataclass(frozen=True)
class Outcome:
    """How a goal ended. Attributes: reason; message; chunks: how many were carried out; duration_s."""

    reason: Stop
    message: str
    chunks: int
    duration_s: float
