"""When to stop asking a server that does not answer, and when to try again. Knows no network."""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


class ServerState(enum.Enum):
    """The named states of a server; the value is what people read."""

    OK = "ok"
    DEGRADED = "degraded"
    """It has failed several times in a row: it is tried now and then, and every other request is refused at once."""


@dataclass(frozen=True)
class ServerHealth:
    """A state, why, and when the server is tried next.

    Attributes:
        state: named.
        reason: of the last failure; empty while the server is well.
        retry_in_s: seconds until one request is let through again; 0 = the next one is.
    """

    state: ServerState
    reason: str = ""
    retry_in_s: float = 0.0


class CircuitBreaker:
    """Counts failures in a row. Any thread may call it.

    Args:
        failures: so many in a row make the server degraded.
        cool_s: seconds between two tries then.
        clock: seconds.
    """

    def __init__(self, failures: int, cool_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._cool_s, self._clock = failures, cool_s, clock
        self._lock = threading.Lock()
        self._failures = 0
        self._reason = ""
        self._next_try_s = 0.0

    def allow(self) -> bool:
        """May the server be asked? While it is degraded, one request in `cool_s` may."""
        with self._lock:
            if self._failures < self._most:
                return True
            if self._clock() < self._next_try_s:
                return False
            self._next_try_s = self._clock() + self._cool_s
            return True

    def succeeded(self) -> None:
        """The server has answered, whatever it said."""
        with self._lock:
            self._failures, self._reason = 0, ""

    def failed(self, reason: str) -> None:
        """The server was not reached, did not answer in time, or broke down."""
        with self._lock:
            self._failures += 1
            self._reason = reason
            if self._failures >= self._most:
                self._next_try_s = self._clock() + self._cool_s

    @property
    def health(self) -> ServerHealth:
        """How the server is doing, as far as requests have told."""
        with self._lock:
            if self._failures < self._most:
                return ServerHealth(ServerState.OK, self._reason)
            return ServerHealth(ServerState.DEGRADED, self._reason, max(0.0, self._next_try_s - self._clock()))
