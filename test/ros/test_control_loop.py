"""The control loop: it ticks, skips what it missed, survives what a tick raises, and ends."""

from __future__ import annotations

import threading
import time

from exaone_ros.ros.control_loop import ControlLoop
from exaone_ros.ros.meter import Meter


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
