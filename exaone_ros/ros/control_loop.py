"""A thread that calls a function at a fixed rate, paced by a steady clock. Knows no ROS."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable

from exaone_ros.ros.meter import Meter

NORMAL = "normal"
"""Scheduling of a thread that every other may keep from its core."""


class ControlLoop:
    """Calls `tick` once in each period, at times that do not drift.

    A tick that was missed is skipped, not made up for: two commands in a row would be one too fast. A timer of rclpy
    would wait behind every other callback of the executor.

    Args:
        period_s: between two ticks.
        tick: must not block; what it raises is logged, and the loop goes on.
        meter: gets ``loop.jitter_s`` (how far from one period a tick came after the last), ``loop.tick_s`` and
            ``loop.missed``.
        log_error: gets the traceback of a tick that raised.
        on_failing: called with the last exception each time that `max_failures` ticks in a row have raised.
        max_failures: 1 s of a 30 Hz loop by default.
        priority: of the thread under SCHED_FIFO, 1 to 99, as ros2_control's controller manager has it; 0 = as all
            threads.

    Attributes:
        scheduling: how the thread is scheduled, e.g. ``fifo 50``; ``normal: ...`` says why it is not what was asked.
    """

    def __init__(
        self,
        period_s: float,
        tick: Callable[[], None],
        meter: Meter,
        log_error: Callable[[str], None],
        on_failing: Callable[[Exception], None] = lambda error: None,
        max_failures: int = 30,
        priority: int = 0,
    ) -> None:
        self._period_s, self._tick, self._meter, self._log_error = period_s, tick, meter, log_error
        self._on_failing, self._max_failures = on_failing, max_failures
        self._priority = priority
        self.scheduling = "not started"
        self._stopping = threading.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        """Begin; returns when `scheduling` says how."""
        self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        """End; returns when the last tick is over."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            self.scheduling = _schedule(self._priority)
        finally:
            self._started.set()  # `start` waits for it, whatever happens here
        due_s = time.monotonic() + self._period_s
        last_s: float | None = None
        failed = 0
        while not self._stopping.wait(max(0.0, due_s - time.monotonic())):
            now_s = time.monotonic()
            if last_s is not None:
                self._meter.sample("loop.jitter_s", abs(now_s - last_s - self._period_s))
            last_s = now_s
            failed = self._failed_tick(failed)
            self._meter.sample("loop.tick_s", time.monotonic() - now_s)
            due_s += self._period_s
            missed = int((time.monotonic() - due_s) // self._period_s) + 1 if time.monotonic() > due_s else 0
            if missed > 0:
                self._meter.count("loop.missed", missed)
                due_s += missed * self._period_s

    def _failed_tick(self, failed: int) -> int:
        """Tick once; gives how many ticks in a row have raised by now, `failed` of them before this one."""
        try:
            self._tick()
            return 0
        except Exception as error:  # the robot holds its last command meanwhile; the next tick tries again
            self._meter.count("loop.failed")
            self._log_error(traceback.format_exc())
            if failed + 1 < self._max_failures:
                return failed + 1
            try:
                self._on_failing(error)
            except Exception:
                self._log_error(traceback.format_exc())
            return 0


def _schedule(priority: int) -> str:
    """Ask the system to run the calling thread before all normal ones; gives how it is scheduled now."""
    if not priority:
        return NORMAL
    if not hasattr(os, "sched_setscheduler"):
        return f"{NORMAL}: this system has no SCHED_FIFO"
    # The priority is this thread's alone: what it may start, within a publisher for instance, does not inherit it.
    policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
    try:
        os.sched_setscheduler(0, policy, os.sched_param(priority))  # 0: of this thread, on Linux
    except OSError as error:  # not permitted; or a sandbox or C library that has no other policy than the normal one
        return f"{NORMAL}: SCHED_FIFO {priority} was refused: {error.strerror}"
    return f"fifo {priority}"
