"""The chunk queue: one plan in time, made of chunks that arrive late and overlap (real-time chunking).

While a head thinks, the plan goes on. When its chunk arrives, the actions that have passed are skipped, and at the seam
the plan slides from the old chunk to the new one over `blend_s`: position is continuous, and the slide never asks for
more than the joints' velocity limits. After Black et al., "Real-Time Execution of Action Chunking Flow Policies"
(2025).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exaone_ros.action.chunk import ActionChunk
from exaone_ros.action.spec import NS, ActionSpec


@dataclass(frozen=True, eq=False)
class Plan:
    """Positions over time, linear in between.

    Attributes:
        times_ns: int64 [N], rising.
        positions: float64 [N, A].
        done: the head said that the task ends with it.
    """

    times_ns: NDArray[np.int64]
    positions: NDArray[np.float64]
    done: bool

    def at(self, time_ns: int | NDArray[np.int64]) -> NDArray[np.float64]:
        """Position at a time, float64 [A] (or [T, A] for an array of times); the ends are held."""
        times = np.atleast_1d(np.asarray(time_ns, np.int64))
        # Relative to the first point: int64 nanoseconds since the epoch do not fit into a float64 exactly.
        x = (times - self.times_ns[0]).astype(np.float64)
        xp = (self.times_ns - self.times_ns[0]).astype(np.float64)
        columns = [np.interp(x, xp, self.positions[:, j]) for j in range(self.positions.shape[1])]
        result = np.stack(columns, axis=1)
        return result[0] if np.ndim(time_ns) == 0 else result


class ChunkQueue:
    """Holds the plan. Not thread-safe: the runner guards it.

    Args:
        spec: of the robot.
        blend_s: seconds over which the plan slides from an old chunk to a new one.
    """

    def __init__(self, spec: ActionSpec, blend_s: float = 0.2) -> None:
        self._spec = spec
        self._blend_ns = round(blend_s * NS)
        self._plan: Plan | None = None

    @property
    def plan(self) -> Plan | None:
        """What is going to be carried out; None before the first chunk."""
        return self._plan

    def clear(self) -> None:
        """Forget the plan."""
        self._plan = None

    def push(self, chunk: ActionChunk, now_ns: int, position: ArrayLike) -> int:
        """Take over a chunk that passed the gate.

        Args:
            chunk: its actions that are due at or before `now_ns` are skipped.
            now_ns: the seam.
            position: [A], what is commanded now; used where there is no plan yet.

        Returns:
            How many of its actions were skipped. Where all have passed, the old plan stays.
        """
        due = chunk.t0_ns + np.arange(len(chunk.actions), dtype=np.int64) * chunk.dt_ns
        ahead = due > now_ns
        skipped = int(len(due) - ahead.sum())
        if skipped == len(due):
            return skipped
        times, new = due[ahead], chunk.actions[ahead].astype(np.float64)
        old = self._plan.at(times) if self._plan else np.repeat(np.asarray(position, np.float64)[None], len(times), 0)
        seam = self._plan.at(now_ns) if self._plan else np.asarray(position, np.float64)
        weight = np.clip((times - now_ns) / max(self._blend_ns, 1), 0.0, 1.0)[:, None]
        blended = self._bridge(seam, old + (new - old) * weight, np.diff(times, prepend=now_ns) / NS)
        self._plan = Plan(np.concatenate([[now_ns], times]), np.concatenate([seam[None], blended]), chunk.done)
        return skipped

    def _bridge(
        self, seam: NDArray[np.float64], wanted: NDArray[np.float64], steps_s: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """`wanted` [N, A] followed from `seam` at no more than the velocity limits; it catches up where it can."""
        result = np.empty_like(wanted)
        last = seam
        for i, (target, step_s) in enumerate(zip(wanted, steps_s, strict=True)):
            reach = self._spec.max_velocity * step_s
            last = result[i] = last + np.clip(target - last, -reach, reach)
        return result

    def delay(self, by_ns: int) -> None:
        """Put the plan off: commands could not be given for a while, and the plan must not run ahead of them."""
        if self._plan is not None:
            self._plan = Plan(self._plan.times_ns + by_ns, self._plan.positions, self._plan.done)

    def at(self, time_ns: int) -> NDArray[np.float64] | None:
        """The planned position, float64 [A]; None without a plan. Beyond the end of the plan its last position."""
        return self._plan.at(time_ns) if self._plan else None

    def left_s(self, now_ns: int) -> float:
        """Seconds of plan that are left; 0 without one."""
        return max(0.0, (int(self._plan.times_ns[-1]) - now_ns) / NS) if self._plan else 0.0

    def prefix(self, from_ns: int) -> NDArray[np.float32]:
        """What will be carried out from `from_ns` on, float32 [P, A], one row for each action period; may be empty."""
        if self._plan is None:
            return np.empty((0, len(self._spec.joints)), np.float32)
        left_ns = int(self._plan.times_ns[-1]) - from_ns
        count = min(self._spec.horizon, max(1, math.floor(left_ns / self._spec.dt_ns) + 1))
        return self._plan.at(from_ns + np.arange(count, dtype=np.int64) * self._spec.dt_ns).astype(np.float32)
