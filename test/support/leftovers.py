"""Finds processes that tests started and did not end; as a program, `leftovers.py MARK` ends those of one test run."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

# Inherited by every process of a test run, which is how they are recognised, whoever their parent is by then.
MARK = "EXAONE_TEST_RUN"

_GRACE_S = 20.0

# Python's own helper of whoever uses multiprocessing, ours included: it serves until its owner's pipe closes, and what
# it has noted (semaphores, shared memory) is unlinked under the feet of its owner where it is ended before.
_HELPER = "from multiprocessing.resource_tracker import main"


def marked_processes(mark: str) -> dict[int, str]:
    """Process id and command line of each running process of this run, except this one and its parents."""
    wanted = f"{MARK}={mark}".encode()
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in (os.getpid(), os.getppid()):
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                if command and _HELPER not in command:  # empty for one that has ended and only waits for its parent
                    found[int(entry.name)] = command
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue  # it ended while we looked, or belongs to somebody else
    return found


def end_leftovers(mark: str) -> dict[int, str]:
    """Kill what is still running after a short grace; returns what had to be killed."""
    deadline = time.monotonic() + _GRACE_S
    while (left := marked_processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it ended by itself just now
    return left


if __name__ == "__main__":
    for ended in end_leftovers(sys.argv[1]).items():
        print("LEFT RUNNING by a test, killed:", *ended)
