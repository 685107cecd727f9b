"""A ROS domain that no other test run on this machine uses."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path
from typing import IO

_FIRST, _LAST = 1, 100


def claim_domain() -> tuple[int, IO[str]]:
    """Take a free ROS_DOMAIN_ID of 1..100 for as long as the returned file stays open.

    Raises:
        RuntimeError: all are taken.
    """
    count = _LAST - _FIRST + 1
    start = os.getpid()
    for attempt in range(count):
        domain = _FIRST + (start + attempt) % count
        handle = (Path(tempfile.gettempdir()) / f"exaone_ros_domain_{domain}.lock").open("a")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            continue
        return domain, handle
    raise RuntimeError(f"all ROS domains {_FIRST}..{_LAST} are held by other test runs of this machine")
