"""What a node knows of the ROS graph, once it does: end points become known a moment after they were made."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

PATIENCE_S = 60.0
T = TypeVar("T")


def the_one(find: Callable[[], Sequence[T]]) -> T:
    """Look until there is exactly one, e.g. publisher of a topic."""
    deadline_s, pause = time.monotonic() + PATIENCE_S, threading.Event()
    while len(found := find()) != 1:
        assert time.monotonic() < deadline_s, f"expected one; there are {found}"
        pause.wait(0.02)
    return found[0]
