"""The control loop: it ticks, skips what it missed, survives what a tick raises, and ends."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time

from exaone_ros.ros.control_loop import NORMAL, ControlLoop
from exaone_ros.ros.meter import Meter

NORMAL_NOT_PERMITTED = f"{NORMAL}: SCHED_FIFO 7 is not permitted"


def test_ticks_until_it_is_stopped() -> None:
    ticks = threading.Semaphore(0)
    meter = Meter()
    loop = ControlLoop(0.005, ticks.release, meter, lambda text: None)
    loop.start()
    assert all(ticks.acquire(timeout=60) for _ in range(10))
    loop.stop()
    while ticks.acquire(blocking=False):
        pass
    assert not ticks.acquire(timeout=0.05)
    assert meter.read().samples["loop.jitter_s"].p50 >= 0


def test_missed_ticks_are_skipped_not_made_up_for() -> None:
    ticks: list[None] = []
    enough = threading.Event()

    def tick() -> None:
        ticks.append(None)
        if len(ticks) == 2:
            time.sleep(0.2)
        if len(ticks) == 5:
            enough.set()

    meter = Meter()
    loop = ControlLoop(0.02, tick, meter, lambda text: None)
    loop.start()
    assert enough.wait(60)
    loop.stop()
    assert meter.read().totals["loop.missed"] >= 8


def test_a_tick_that_raises_is_logged_and_the_loop_goes_on() -> None:
    logged: list[str] = []
    again = threading.Event()

    def tick() -> None:
        if logged:
            again.set()
        raise ValueError("oops")

    loop = ControlLoop(0.005, tick, Meter(), logged.append)
    loop.start()
    assert again.wait(60)
    loop.stop()
    assert "oops" in logged[0]


def test_ticks_that_keep_raising_are_reported_and_the_loop_goes_on() -> None:
    ticks: list[int] = []
    reports: list[tuple[int, str]] = []
    twice = threading.Event()

    def tick() -> None:
        ticks.append(len(ticks))
        if ticks[-1] != 1:  # the second one works: failures count in a row
            raise ValueError("oops")

    def failing(error: Exception) -> None:
        reports.append((len(ticks), str(error)))
        if len(reports) == 2:
            twice.set()
        raise RuntimeError("what reports may fail too")

    loop = ControlLoop(0.005, tick, Meter(), lambda text: None, failing, 3)
    loop.start()
    assert twice.wait(60)
    loop.stop()
    assert reports[:2] == [(5, "oops"), (8, "oops")]


def test_can_be_stopped_before_it_started() -> None:
    ControlLoop(1.0, lambda: None, Meter(), lambda text: None).stop()


def test_the_thread_runs_at_the_priority_that_was_asked_for_where_that_is_permitted() -> None:
    seen: list[int] = []
    ticked = threading.Event()

    def tick() -> None:
        seen.append(os.sched_getscheduler(0))
        ticked.set()

    loop = ControlLoop(0.005, tick, Meter(), lambda text: None, priority=7)
    loop.start()
    assert ticked.wait(60)
    loop.stop()
    permitted = os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_RTPRIO)[0] >= 7
    expected = ("fifo 7", os.SCHED_FIFO) if permitted else (NORMAL_NOT_PERMITTED, os.SCHED_OTHER)
    assert (loop.scheduling, seen[0]) == expected
    assert os.sched_getscheduler(0) == os.SCHED_OTHER  # of this thread, nothing changed


def test_a_priority_that_is_not_permitted_is_named_and_the_loop_runs() -> None:
    script = """
import os, resource, threading
from exaone_ros.ros.control_loop import ControlLoop
from exaone_ros.ros.meter import Meter
resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
if os.geteuid() == 0:
    os.setuid(65534)
ticked = threading.Event()
loop = ControlLoop(0.005, ticked.set, Meter(), print, priority=7)
loop.start()
assert ticked.wait(60)
loop.stop()
print(loop.scheduling)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert ran.stdout.strip() == NORMAL_NOT_PERMITTED


def test_without_a_priority_the_thread_is_one_of_many() -> None:
    loop = ControlLoop(0.005, lambda: None, Meter(), lambda text: None)
    assert loop.scheduling == "not started"
    loop.start()
    assert loop.scheduling == NORMAL
    loop.stop()
