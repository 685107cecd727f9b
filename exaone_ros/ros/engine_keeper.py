"""Opens the engine, notices when it fails, and opens it anew in place. Knows no rclpy.

A call that fails is tried again after `RETRY_S`. After some failures in a row, or once the engine takes no questions
any more, it is closed and opened anew in a thread of its own, with longer and longer pauses. An engine that hangs in a
call of its backend cannot be replaced: nothing ends that call but the end of the process, and two models may not fit
into the memory; the state says so.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, Protocol

from exaone_ros.engine.request import Request
from exaone_ros.engine.ticket import Ticket
from exaone_ros.engine.timings import Timings
from exaone_ros.errors import EngineHung, ExaoneError
from exaone_ros.ros.meter import Meter
from exaone_ros.ros.once import OnceLog

RETRY_S = 1.0
"""Pause after a failure: a broken engine must not spin."""

LONGEST_PAUSE_S = 60.0
"""Between two attempts to open the engine anew; the pauses double up to this."""


class AskedEngine(Protocol):
    """What the ROS side needs of `engine.service.EngineService`."""

    @property
    def refusal(self) -> str: ...
    @property
    def kept_bytes(self) -> int: ...
    def submit(self, request: Request) -> Ticket: ...
    def timings(self) -> Timings: ...
    def close(self, timeout_s: float = ...) -> bool: ...


class EngineKeeper:
    """Owns the engine. Any thread may call it.

    Args:
        opener: opens the engine; called in the caller's thread at first, later in one of the keeper's own.
        restart_after: failures in a row after which the engine is opened anew; 0 = never.
        meter: told of failures and restarts.
        log: told of each restart.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        opener: Callable[[], Any],
        restart_after: Callable[[], int],
        meter: Meter,
        log: OnceLog,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._opener, self._restart_after = opener, restart_after
        self.meter, self._log, self._clock = meter, log, clock
        self.on_open: Callable[[], None] = lambda: None
        """Called when the engine has been opened anew."""
        self.on_hang: Callable[[str], None] = lambda what: None
        """Called once, with what is known, when the engine hangs."""
        self._lock = threading.Lock()
        self._engine: AskedEngine | None = opener()
        self._closed = threading.Event()
        self._in_a_row = 0
        self._pause_s = RETRY_S
        self._not_before_s = 0.0
        self._hung = False
        self._thread: threading.Thread | None = None
        self.restarts = 0
        """How often the engine was opened anew."""
        self.trouble = ""
        """Why there is no answer at present; empty where all is well."""

    @property
    def engine(self) -> AskedEngine | None:
        """The engine; None while it pauses after a failure or is being opened anew."""
        with self._lock:
            return self._engine if self._clock() >= self._not_before_s else None

    @property
    def kept_bytes(self) -> int:
        """What the engine keeps for later questions; 0 where there is none."""
        with self._lock:
            return self._engine.kept_bytes if self._engine is not None else 0

    @property
    def wait_s(self) -> float:
        """Seconds until `engine` is worth another look; 0 where it is there."""
        with self._lock:
            return max(0.0, self._not_before_s - self._clock()) if self._engine is not None else RETRY_S

    def answered(self) -> None:
        """The engine has done its work."""
        self.meter.count("engine.done")
        if self._in_a_row:
            with self._lock:
                self._in_a_row, self._pause_s, self.trouble = 0, RETRY_S, ""
            self._log.forget("engine")

    def failed(self, error: Exception, asked_at: int | None = None) -> None:
        """The engine has failed: pause, and after some failures open it anew.

        Args:
            error: what it said.
            asked_at: `restarts` when it was asked; None = as now. What is heard late of an engine that was replaced is
                counted, no more: it must not cost the new one its place.
        """
        what = f"{type(error).__name__}: {error}"
        self.meter.count("engine.failed")
        with self._lock:
            if asked_at is not None and asked_at != self.restarts:
                return
            self._in_a_row += 1
            self.trouble = what
            first_hang = isinstance(error, EngineHung) and not self._hung
            self._hung = self._hung or first_hang
            limit = self._restart_after()
            dead = self._engine is not None and bool(self._engine.refusal)
            again = not self._hung and limit > 0 and (dead or self._in_a_row >= limit)
            begin = again and self._thread is None and not self._closed.is_set()
            thread = threading.Thread(target=self._reopen, args=([self._engine],), name="engine restart", daemon=True)
            if begin:
                self._thread, self._engine = thread, None
            self._not_before_s = self._clock() + RETRY_S
        if self._hung:
            self._log.error("engine.hung", f"the engine hangs: {what}")
            if first_hang:
                self.on_hang(what)
        else:
            self._log.error(
                f"engine.{type(error).__name__}", f"the engine failed, tried again each {RETRY_S:g} s: {what}"
            )
        if begin:
            self._log.info(f"opening the engine anew after {self._in_a_row} failures in a row; the last: {what}")
            thread.start()

    def close(self, timeout_s: float) -> bool:
        """Close the engine, and give up opening it; False: it is still in a call after `timeout_s`."""
        self._closed.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)
        with self._lock:
            engine, self._engine = self._engine, None
        return engine.close(timeout_s) if engine is not None else thread is None or not thread.is_alive()

    def _reopen(self, holder: list[AskedEngine | None]) -> None:
        """The thread of a restart: close, then open until it succeeds."""
        try:
            old = holder.pop()  # a thread keeps its arguments, and the old engine must go before the new one comes
            if old is not None:
                old.close()
            del old
            while not self._closed.wait(self._pause_s):
                try:
                    engine = self._opener()
                except Exception as error:  # whatever an opener raises, it is tried again
                    self.meter.count("engine.failed")
                    self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
                    detail = str(error) if isinstance(error, ExaoneError) else traceback.format_exc()
                    self.trouble = f"it cannot be opened: {detail}"
                    self._log.error("engine.open", f"the engine cannot be opened anew: {detail}; tried again")
                    continue
                with self._lock:
                    closed = self._closed.is_set()
                    if not closed:
                        # The pause grows until an answer comes: what opens and fails must not be opened each second.
                        self._engine, self._in_a_row = engine, 1
                        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
                        self.restarts += 1
                if closed:
                    engine.close()
                    return
                self.meter.count("engine.restarted")
                self._log.info(f"the engine was opened anew (restart {self.restarts})")
                self.on_open()
                return
        finally:
            self._thread = None
