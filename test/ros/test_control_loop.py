"""The control loop: it ticks, skips what it missed, survives what a tick raises, and ends."""

from __future__ import annotations

import errno
import os
import threading
import time

import pytest

from exaone_ros.ros import control_loop
from exaone_ros.ros.control_loop import NORMAL, ControlLoop
from exaone_ros.ros.meter import Meter

REFUSED = f"{NORMAL}: SCHED_FIFO 7 was refused"


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


def permitted(priority: int) -> bool:
    """Whether this process may: no user and no limit tells it, as containers and sandboxes have rules of their own."""
    tried: list[bool] = []

    def attempt() -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
        except OSError:
            tried.append(False)
        else:
            tried.append(True)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join(60)
    return tried[0]


def test_the_thread_runs_at_the_priority_that_was_asked_for_where_that_is_permitted() -> None:
    seen: list[int] = []
    ticked = threading.Event()

    def note() -> None:
        seen.append(os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK)

    def tick() -> None:
        if not ticked.is_set():
            note()
            started = threading.Thread(target=note)
            started.start()
            started.join(60)
            ticked.set()

    loop = ControlLoop(0.005, tick, Meter(), lambda text: None, priority=7)
    loop.start()
    assert ticked.wait(60)
    loop.stop()
    own = os.SCHED_FIFO if permitted(7) else os.SCHED_OTHER
    assert loop.scheduling == "fifo 7" if permitted(7) else loop.scheduling.startswith(REFUSED)
    assert seen == [own, os.SCHED_OTHER]  # what a tick starts is a thread as any
    assert os.sched_getscheduler(0) == os.SCHED_OTHER  # of this thread, nothing changed


@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL, errno.ENOSYS])
def test_a_priority_that_is_refused_is_named_and_the_loop_runs(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    ticked = threading.Event()
    loop = ControlLoop(0.005, ticked.set, Meter(), lambda text: None, priority=7)
    loop.start()
    assert ticked.wait(60)
    loop.stop()
    assert loop.scheduling == f"{REFUSED}: {os.strerror(number)}"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_start_returns_also_where_the_thread_cannot_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(priority: int) -> str:
        raise SystemExit

    monkeypatch.setattr(control_loop, "_schedule", fail)
    loop = ControlLoop(0.005, lambda: None, Meter(), lambda text: None, priority=7)
    loop.start()
    loop.stop()
    assert loop.scheduling == "not started"


def test_without_a_priority_the_thread_is_one_of_many() -> None:
    loop = ControlLoop(0.005, lambda: None, Meter(), lambda text: None)
    assert loop.scheduling == "not started"
    loop.start()
    assert loop.scheduling == NORMAL
    loop.stop()
