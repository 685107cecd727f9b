"""A log that tells each kind of trouble once, not for each frame. Knows no ROS."""

from __future__ import annotations

import threading
from typing import Any, Protocol

MOST_KINDS = 1000
"""Kinds of one family (what stands before the first dot) that are remembered at most; names of tasks come from users,
so there is no end to them, and they must not silence the engine or a camera."""


class Logger(Protocol):
    """What rclpy's logger and Python's have in common."""

    def info(self, message: str) -> Any: ...
    def warning(self, message: str) -> Any: ...
    def error(self, message: str) -> Any: ...


class OnceLog:
    """Tells each kind of trouble once, until it is forgotten. Thread-safe.

    Args:
        log: where it is told.
    """

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._told: set[str] = set()

    def info(self, message: str) -> None:
        """Tell something that is no trouble; each time."""
        self._log.info(message)

    def warning(self, kind: str, message: str) -> None:
        """Warn, if this kind of trouble has not been told."""
        if self._is_new(kind):
            self._log.warning(message)

    def error(self, kind: str, message: str) -> None:
        """Tell an error, if this kind of trouble has not been told."""
        if self._is_new(kind):
            self._log.error(message)

    def forget(self, prefix: str) -> None:
        """What begins with this is over: should it come again, it is told again."""
        with self._lock:
            self._told = {kind for kind in self._told if not kind.startswith(prefix)}

    def _is_new(self, kind: str) -> bool:
        with self._lock:
            family = kind.partition(".")[0]
            if kind in self._told or sum(told.partition(".")[0] == family for told in self._told) >= MOST_KINDS:
                return False
            self._told.add(kind)
            return True
