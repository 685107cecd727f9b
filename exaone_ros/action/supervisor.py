"""Watches a goal while it is carried out, and says when and why it has to end."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exaone_ros.action.gate import Gate, Stop, Verdict
from exaone_ros.action.goal import RunnerLimits
from exaone_ros.action.queue import ChunkQueue
from exaone_ros.action.spec import NS
from exaone_ros.action.watchdog import Watchdog

HEARTBEAT, STATE = "heartbeat", "state"
BACK_TOLERANCE_S = 0.1
"""How far the clock of chunks may step back under a goal, as where a daemon sets the time of day right."""
_SILENCES = {HEARTBEAT: Stop.HEARTBEAT_LOST, STATE: Stop.STATE_LOST}
_NEVER = {
    HEARTBEAT: "no heartbeat came yet: somebody responsible has to send it",
    STATE: "no joint states came yet that hold, together, every joint of the robot",
}
_NAMES = {HEARTBEAT: "heartbeat", STATE: "joint states of every joint"}


class Supervisor:
    """Not thread-safe: the runner guards it.

    Args:
        gate, queue: of the runner.
        limits: how long what may last.
        head: its name, for messages.
        steady_ns: now, by the clock that never stands still.
    """

    def __init__(self, gate: Gate, queue: ChunkQueue, limits: RunnerLimits, head: str, steady_ns: int) -> None:
        self._gate, self._queue, self._limits, self._head = gate, queue, limits, head
        timeouts_s = {HEARTBEAT: limits.heartbeat_timeout_s, STATE: limits.state_timeout_s}
        self._watchdog = Watchdog(timeouts_s, steady_ns)
        self._deadline_ns, self._latest_ns = 0, 0
        self._idle_since_ns: int | None = None

    def heard(self, source: str, steady_ns: int) -> None:
        """HEARTBEAT or STATE came."""
        self._watchdog.feed(source, steady_ns)

    def silence(self, steady_ns: int) -> Verdict | None:
        """Whether something that must not fall silent has."""
        for late in self._watchdog.late(steady_ns):
            allowed = f"for {late.silent_s:.3f} s; allowed are {late.allowed_s:g} s"
            heard = self._watchdog.fed(late.source)
            message = f"no {_NAMES[late.source]} came {allowed}" if heard else _NEVER[late.source]
            return Verdict(_SILENCES[late.source], message)
        return None

    def never_heard(self) -> Verdict | None:
        """Whether something that must be heard has not been heard at all."""
        for source, reason in _SILENCES.items():
            if not self._watchdog.fed(source):
                return Verdict(reason, _NEVER[source])
        return None

    def begin(self, now_ns: int, deadline_ns: int) -> None:
        """A goal begins, by the clock of chunks; `deadline_ns` by the steady clock, 0 = none."""
        self._deadline_ns, self._latest_ns, self._idle_since_ns = deadline_ns, now_ns, None

    def judge(
        self, now_ns: int, steady_ns: int, measured: NDArray[np.float64], thinking_since_ns: int | None
    ) -> Verdict | None:
        """Why the goal has to end now; None where it goes on.

        Args:
            now_ns: by the clock of chunks.
            steady_ns: by the steady clock.
            measured: [A], where the robot is.
            thinking_since_ns: when the head began its prediction, by the steady clock; None where it rests.
        """
        silent = self.silence(steady_ns)
        if silent is not None:
            return silent
        if self._deadline_ns and steady_ns > self._deadline_ns:
            return Verdict(Stop.DEADLINE, "the goal's deadline has passed")
        back_s = (self._latest_ns - now_ns) / NS
        if back_s > BACK_TOLERANCE_S:  # the plan would wait, unnoticed, until the clock is there again
            message = f"the clock went back by {back_s:.3f} s: was the simulation reset, or the time of day set?"
            return Verdict(Stop.STALE, message)
        self._latest_ns = max(self._latest_ns, now_ns)
        thinking_s = (steady_ns - thinking_since_ns) / NS if thinking_since_ns is not None else 0.0
        if thinking_s > self._limits.head_timeout_s:
            message = f"head '{self._head}' has been thinking for {thinking_s:.3f} s; allowed are"
            return Verdict(Stop.HEAD_LATE, f"{message} {self._limits.head_timeout_s:g} s")
        return self._gate.check_lag(measured) or self._judge_plan(now_ns, steady_ns)

    def _judge_plan(self, now_ns: int, steady_ns: int) -> Verdict | None:
        """Whether the plan has come to its end, and what that means."""
        plan, limits = self._queue.plan, self._limits
        if plan is None or self._queue.left_s(now_ns) > 0:
            self._idle_since_ns = None
            return None
        if self._idle_since_ns is None:
            self._idle_since_ns = steady_ns
        idle_s = (steady_ns - self._idle_since_ns) / NS
        if plan.done and idle_s >= limits.settle_s:
            return Verdict(Stop.DONE, "")
        if not plan.done and idle_s > limits.starve_s:
            return Verdict(Stop.STARVED, f"no new chunk came for {idle_s:.3f} s after the plan's end")
        return None
