"""Carries out one goal at a time: the head thinks in its own thread, `tick` says what to publish now.

Two clocks: `now_ns` is the clock of observations and chunks (simulated where the robot is), `steady_ns` never stands
still and is what silence is measured by.
"""

from __future__ import annotations

import math
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from exaone_ros.action.chunk import ActionChunk
from exaone_ros.action.gate import Gate, Stop, Verdict
from exaone_ros.action.goal import Command, Outcome, RunnerLimits
from exaone_ros.action.heads.base import ActionHead
from exaone_ros.action.observation import Observation, Target
from exaone_ros.action.queue import ChunkQueue
from exaone_ros.action.spec import NS
from exaone_ros.action.supervisor import HEARTBEAT, STATE, Supervisor
from exaone_ros.action.words import described, printable
from exaone_ros.errors import ActionError

MAX_DEADLINE_S = 1e9


class PolicyRunner:
    """Thread-safe; `start`, `observe`, `heartbeat`, `cancel`, `estop` and `tick` may be called from any thread.

    Args:
        head: makes the chunks; called only from the runner's own thread.
        gate, queue: of the same spec as the head.
        clock_ns: reads the clock of observations.
        limits: timeouts.
        steady_ns: reads a clock that never stands still.
        on_chunk: called with each chunk that was taken over, from the head's thread.
        log_error: called with the traceback of a head that failed.
    """

    def __init__(
        self,
        head: ActionHead,
        gate: Gate,
        queue: ChunkQueue,
        clock_ns: Callable[[], int],
        limits: RunnerLimits | None = None,
        steady_ns: Callable[[], int] = time.monotonic_ns,
        on_chunk: Callable[[ActionChunk], None] = lambda chunk: None,
        log_error: Callable[[str], None] = lambda text: None,
    ) -> None:
        if head.spec.hash != gate.spec.hash:
            raise ActionError(f"head '{head.name}' is for spec {head.spec.hash}; the gate's is {gate.spec.hash}")
        self.head, self.gate, self.spec = head, gate, gate.spec
        self._queue = queue
        self._clock_ns, self._steady_ns = clock_ns, steady_ns
        self._limits = limits or RunnerLimits()
        self._on_chunk, self._log_error = on_chunk, log_error
        self._supervisor = Supervisor(gate, queue, self._limits, head.name, self._steady_ns())
        self._changed = threading.Condition()
        self._observation: Observation | None = None
        self._goal = 0  # counts goals: a chunk that was begun for an earlier goal is thrown away
        self._active = False
        self._fresh_goal = False
        self._used_stamp_ns: int | None = None
        self._task, self._started_ns = "", 0
        self._target: Target | None = None
        self._outcome: Outcome | None = None
        self._chunks = 0
        self._thinking_since_ns: int | None = None
        self._think_ns: deque[int] = deque([self.spec.dt_ns], maxlen=10)
        self._hold_until_ns = 0
        self._ticked_ns = 0
        self._closed = False
        self._thread = threading.Thread(target=self._think, name="action_head", daemon=True)
        self._thread.start()

    # What comes in

    def observe(self, observation: Observation) -> None:
        """Take the newest observation; older ones are dropped.

        Raises:
            ActionError: it does not fit the spec.
        """
        observation.check(self.spec)
        with self._changed:
            self._observation = observation
            self._supervisor.heard(STATE, self._steady_ns())
            self._changed.notify_all()

    def heartbeat(self) -> None:
        """Somebody who is responsible is there."""
        with self._changed:
            self._supervisor.heard(HEARTBEAT, self._steady_ns())

    def estop(self, pressed: bool) -> None:
        """The emergency stop; pressing ends the goal at once and latches."""
        with self._changed:
            if pressed and self._active:
                self._finish(Stop.ESTOP, "the emergency stop was pressed")
            self.gate.estop(pressed)

    def reset_estop(self) -> Verdict | None:
        """Unlatch the emergency stop; None where it worked."""
        with self._changed:
            return self.gate.reset_estop()

    def start(self, task: str, deadline_s: float = 0.0, target: Target | None = None) -> Verdict | None:
        """Begin a goal.

        Args:
            task: the instruction.
            deadline_s: after which it is stopped, at most `MAX_DEADLINE_S`; 0 = none.
            target: stands in every observation of this goal; None = the observations' own.

        Returns:
            None where it began, else why not.
        """
        with self._changed:
            if self._closed:
                return Verdict(Stop.INACTIVE, "the action head is shut down")
            if self._active:
                return Verdict(Stop.BUSY, f"the goal '{self._task}' is being carried out; cancel it first")
            if self._thinking_since_ns is not None:
                return Verdict(Stop.BUSY, f"head '{self.head.name}' is still thinking about the last goal")
            if not 0 <= deadline_s <= MAX_DEADLINE_S:  # also what is no number
                return Verdict(Stop.DEADLINE, f"deadline is {deadline_s} s; expected 0 (none) to {MAX_DEADLINE_S:g} s")
            steady = self._steady_ns()
            silent = self._supervisor.silence(steady) or self._supervisor.never_heard()
            if silent is not None:
                return silent
            if self._observation is None:
                return Verdict(Stop.STATE_LOST, "no joint states came yet")
            refused = self.gate.open(self.spec.positions_from_state(self._observation.state), self._clock_ns())
            if refused is not None:
                return refused
            self._queue.clear()
            self._goal += 1
            self._active = self._fresh_goal = True
            self._used_stamp_ns = None
            self._task, self._target, self._started_ns = task, target, steady
            self._ticked_ns = self._clock_ns()
            self._supervisor.begin(self._ticked_ns, steady + round(deadline_s * NS) if deadline_s else 0)
            self._outcome, self._chunks = None, 0
            self._changed.notify_all()
            return None

    def cancel(self, reason: Stop = Stop.CANCELLED, message: str = "cancelled") -> None:
        """End the goal, if there is one, and hold."""
        with self._changed:
            if self._active:
                self._finish(reason, message)

    # What goes out

    @property
    def active(self) -> bool:
        """True while a goal is carried out."""
        with self._changed:
            return self._active

    @property
    def outcome(self) -> Outcome | None:
        """How the last goal ended; None while one is carried out."""
        with self._changed:
            return self._outcome

    def wait(self, timeout_s: float | None = None) -> Outcome | None:
        """Wait for the end of the goal; None where it did not end in time."""
        with self._changed:
            self._changed.wait_for(lambda: not self._active, timeout_s)
            return self._outcome

    def progress(self) -> tuple[int, float, float]:
        """(chunks carried out, seconds of plan that are left, seconds since the goal began)."""
        with self._changed:
            elapsed_s = (self._steady_ns() - self._started_ns) / NS
            return self._chunks, self._queue.left_s(self._clock_ns()), elapsed_s

    def tick(self) -> Command | None:
        """What to publish now; None for nothing. Call it once in each action period."""
        with self._changed:
            now, steady = self._clock_ns(), self._steady_ns()
            self._wait_for_commands(now)
            self._ticked_ns = now
            if self._active:
                assert self._observation is not None
                measured = self.spec.positions_from_state(self._observation.state)
                ending = self._supervisor.judge(now, steady, measured, self._thinking_since_ns)
                if ending is not None:
                    self._finish(ending.reason, ending.message)
            if self._active:
                wanted = self._queue.at(now + self.spec.dt_ns)
                if wanted is None:  # the first chunk is still being made
                    return None
                command = self.gate.command(wanted, now)
                if not isinstance(command, Verdict):
                    return Command(command, hold=False)
                self._finish(command.reason, command.message)
            if self.gate.last is not None and (self.gate.estop_latched or steady < self._hold_until_ns):
                return Command(self.gate.last, hold=True)
            return None

    def _wait_for_commands(self, now: int) -> None:
        """Put the plan off where ticks are overdue, so that it does not run ahead of what was commanded.

        The head's thread asks for this too: what it begins with, and where its chunk is joined to the plan, must not
        depend on which of the two threads wakes first after the machine was busy elsewhere.
        """
        late_ns = now - self._ticked_ns - self.spec.dt_ns
        if late_ns > self.spec.dt_ns // 2:
            self._queue.delay(late_ns)
            self._ticked_ns += late_ns

    def _finish(self, reason: Stop, message: str) -> None:
        """End the goal and hold; the caller holds the lock."""
        steady = self._steady_ns()
        measured = self.spec.positions_from_state(self._observation.state) if self._observation else None
        self.gate.close(measured, at_measured=reason is Stop.TRACKING)
        self._queue.clear()
        self._active = False
        self._hold_until_ns = steady + round(self._limits.hold_repeat_s * NS)
        self._outcome = Outcome(reason, message, self._chunks, (steady - self._started_ns) / NS)
        self._changed.notify_all()

    def release(self, message: str) -> None:
        """End the goal, if there is one, and forget what was commanded: nothing is held from now on."""
        with self._changed:
            if self._active:
                self._finish(Stop.INACTIVE, message)
            self.gate.forget()

    def close(self) -> None:
        """End the goal, forget what was commanded, and end the thread; may be called twice."""
        self.release("the action head was shut down")
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout=self._limits.head_timeout_s)

    # The head's thread

    def _wants_chunk(self) -> bool:
        if not self._active or self._observation is None:
            return False
        if self._used_stamp_ns == self._observation.stamp_ns:
            return False  # nothing new was seen: thinking again would only spin
        plan = self._queue.plan
        if plan is None:
            return True
        left_steps = self._queue.left_s(self._clock_ns()) * self.spec.fps
        return not plan.done and left_steps <= self.spec.horizon - self.spec.execute + self._delay_steps(0)

    def _delay_steps(self, age_ns: int) -> int:
        """Actions that will have passed when the next chunk is ready, by the slowest of the last ones."""
        return math.ceil((age_ns + max(self._think_ns)) / self.spec.dt_ns)

    def _think(self) -> None:
        while True:
            with self._changed:
                # The time-out is for the passing of time, which notifies nobody.
                while not self._closed and not self._wants_chunk():
                    self._changed.wait(self.spec.dt_s / 2 if self._active else None)
                if self._closed:
                    return
                assert self._observation is not None
                goal, fresh, self._fresh_goal = self._goal, self._fresh_goal, False
                target = self._target or self._observation.target
                observation = replace(self._observation, task=self._task, target=target)
                self._used_stamp_ns = observation.stamp_ns
                self._wait_for_commands(self._clock_ns())
                prefix = self._queue.prefix(observation.stamp_ns)
                delay = self._delay_steps(max(0, self._clock_ns() - observation.stamp_ns))
                self._thinking_since_ns = begun_ns = self._steady_ns()
            chunk: ActionChunk | None = None
            failure = Verdict(Stop.HEAD_FAILED, "")
            try:
                if fresh:
                    self.head.reset(observation)
                made: object = self.head.predict(observation, prefix, min(delay, self.spec.horizon - 1))
                if not isinstance(made, ActionChunk):
                    raise ActionError(f"head '{self.head.name}' returned {type(made).__name__}; expected ActionChunk")
                chunk = replace(made)  # its form is checked once more: a head may have changed it since
            except ActionError as error:
                failure = Verdict(Stop.HEAD_FAILED, printable(str(error)))
            except BaseException as error:
                # Somebody else's code: whatever it raises, asyncio.CancelledError too, ends the goal, not this thread.
                failure = Verdict(Stop.HEAD_FAILED, f"head '{self.head.name}' failed: {described(error)}")
                self._log_error(printable(traceback.format_exc()))
            try:
                self._deliver(goal, chunk, failure, begun_ns)
            except Exception as error:  # this thread is needed for the next goal
                self._log_error(traceback.format_exc())
                with self._changed:
                    if self._active and goal == self._goal:
                        message = f"a chunk of head '{self.head.name}' could not be taken over"
                        self._finish(Stop.HEAD_FAILED, f"{message}: {described(error)}")

    def _deliver(self, goal: int, chunk: ActionChunk | None, failure: Verdict, begun_ns: int) -> None:
        """Take a chunk over, or end the goal that it was made for."""
        with self._changed:
            self._thinking_since_ns = None
            self._changed.notify_all()
            if not self._active or goal != self._goal:
                return
            now = self._clock_ns()
            self._wait_for_commands(now)
            if chunk is not None and self._queue.plan is None and now > chunk.t0_ns:
                # Nothing is under way yet: however long the first chunk took, it begins now, not in its middle.
                chunk = replace(chunk, t0_ns=now)
            verdict = failure if chunk is None else self.gate.check(chunk, now)
            if verdict is not None or chunk is None:
                verdict = verdict or failure
                self._finish(verdict.reason, verdict.message)
                return
            self._think_ns.append(self._steady_ns() - begun_ns)
            assert self.gate.last is not None
            self._queue.push(chunk, now, self.gate.last)
            self._chunks += 1
        self._on_chunk(chunk)
