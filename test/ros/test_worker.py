"""Fresh or nothing, newest first, and nothing that happens to a frame ends the worker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from fake_engine import FakeEngine, FakeFrame

from exaone_ros.errors import ImageError
from exaone_ros.ros import worker as worker_module
from exaone_ros.ros.freshness import Freshness
from exaone_ros.ros.meter import Meter
from exaone_ros.ros.pixels import UnusableImage
from exaone_ros.ros.schedule import TaskSchedule
from exaone_ros.ros.worker import CameraFrame, PerceptionWorker, Publication
from exaone_ros.tasks import Count, Decide, Ground, StandingTask

S = 1_000_000_000
PATIENCE_S = 20.0
TASKS = (
    StandingTask(Ground(name="objects")),
    StandingTask(Decide(name="way", instruction="Is the way clear?", options=("clear", "blocked"))),
)


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)

    warning = error = info


class Bench:
    """A worker with a clock that is set by hand and everything it publishes."""

    def __init__(self, engine: Any, tasks: tuple[StandingTask, ...] = TASKS, max_age_s: float = 1.0) -> None:
        self.engine, self.now_ns = engine, 1000 * S
        self.meter, self.log = Meter(window_s=1e6), Log()
        self.published: list[Publication] = []
        self.changed = threading.Condition()
        self.on_publish: Callable[[Publication], None] = lambda publication: None
        self.worker = PerceptionWorker(
            engine=engine,
            read=self._read,
            schedule=TaskSchedule(tasks),
            freshness=lambda: Freshness(round(max_age_s * S), S // 4),
            now_ns=lambda: self.now_ns,
            publish=self._publish,
            meter=self.meter,
            log=self.log,
        )
        self._count = self.meter.count
        self.meter.count = self._noted  # type: ignore[method-assign]

    def _noted(self, name: str, times: int = 1) -> None:
        self._count(name, times)
        with self.changed:
            self.changed.notify_all()

    def _read(self, message: Any) -> np.ndarray:
        if isinstance(message, Exception):
            raise message
        return message

    def _publish(self, publication: Publication) -> None:
        self.on_publish(publication)
        self.published.append(publication)

    def offer(self, message: Any = None, stamp_ns: int | None = None) -> None:
        image = np.zeros((4, 4, 3), np.uint8) if message is None else message
        self.worker.offer(CameraFrame(image, self.now_ns if stamp_ns is None else stamp_ns, "camera"))

    def total(self, name: str) -> int:
        return self.meter.read().totals.get(name, 0)

    def wait(self, name: str, total: int = 1) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.total(name) >= total, PATIENCE_S), (
                name,
                self.meter.read().totals,
            )


@contextmanager
def bench(engine: Any = None, **arguments: Any) -> Iterator[Bench]:
    """A running bench."""
    made = Bench(engine or FakeEngine(), **arguments)
    made.worker.start()
    try:
        yield made
    finally:
        assert made.worker.stop(PATIENCE_S)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "ENGINE_RETRY_S", 0.01)


def test_an_answer_carries_the_frame_it_was_read_from_and_its_age() -> None:
    with bench() as b:
        b.offer(stamp_ns=b.now_ns - S // 10)
        b.wait("frames.answered")
    (publication,) = b.published
    assert publication.frame.stamp_ns == 1000 * S - S // 10 and publication.frame.frame_id == "camera"
    assert publication.age_ns == S // 10 and publication.latency_ns > 0
    assert [timely.answer.task.name for timely in publication.answers] == ["objects", "way"]
    reading = b.meter.read()
    assert reading.samples["age.arrival_s"].p50 == pytest.approx(0.1)
    assert reading.samples["stage.encode_s"].p50 == 0.004 and reading.sums["work.tokens"] == 10
    assert reading.totals["task.objects"] == reading.totals["task.way"] == 1


class GatedEngine(FakeEngine):
    """An engine that answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.seen: list[int] = []
        self.cancelled: Callable[[], bool] = lambda: False

    def answer(self, frame: FakeFrame, tasks: Any, *, cancelled: Callable[[], bool]) -> Any:
        self.seen.append(int(frame.image[0, 0, 0]))
        self.cancelled = cancelled
        self.entered.release()
        assert self.go.acquire(timeout=PATIENCE_S)
        return super().answer(frame, tasks, cancelled=cancelled)


def test_while_the_engine_is_busy_only_the_newest_frame_waits() -> None:
    engine = GatedEngine()
    with bench(engine) as b:
        b.offer(np.full((4, 4, 3), 0, np.uint8))
        assert engine.entered.acquire(timeout=PATIENCE_S)
        for index in range(1, 5):
            b.now_ns += S // 100
            b.offer(np.full((4, 4, 3), index, np.uint8))
        assert b.worker.busy_s > 0
        for _ in range(2):
            engine.go.release()
        b.wait("frames.answered", 2)
    assert engine.seen == [0, 4]
    assert b.total("dropped.replaced") == 3 and b.total("frames.received") == 5


def test_a_frame_that_grew_old_while_it_waited_is_not_answered() -> None:
    engine = GatedEngine()
    with bench(engine) as b:
        b.offer()
        assert engine.entered.acquire(timeout=PATIENCE_S)
        b.now_ns += S // 10
        b.offer()  # waits behind the first
        b.now_ns += 2 * S
        engine.go.release()
        b.wait("dropped.late")  # the first
        b.wait("dropped.stale")  # the second
    assert b.published == [] and engine.looks == 1


def test_an_answer_that_nobody_may_have_any_more_is_cancelled() -> None:
    engine = GatedEngine()
    with bench(engine) as b:
        b.offer()
        assert engine.entered.acquire(timeout=PATIENCE_S)
        assert not engine.cancelled()
        b.now_ns += S + 1
        assert engine.cancelled()
        engine.go.release()
        b.wait("dropped.late")
    assert b.published == []


def test_stamps_that_must_not_be_answered_never_reach_the_engine() -> None:
    with bench() as b:
        for stamp_ns in (0, b.now_ns - 2 * S, b.now_ns + S):
            b.offer(stamp_ns=stamp_ns)
        b.offer()
        b.wait("frames.answered")
        b.offer()  # the same stamp again
        b.offer(stamp_ns=b.now_ns - 1)
    assert b.engine.looks == 1
    totals = b.meter.read().totals
    dropped = {name for name, number in totals.items() if name.startswith("dropped.") and number == 1}
    assert dropped == {
        f"dropped.{r}" for r in ("zero_stamp", "stale", "future_stamp", "repeated_stamp", "out_of_order")
    }


def test_after_a_reset_of_the_clock_it_goes_on_at_once() -> None:
    with bench(tasks=(StandingTask(Ground(name="rare"), rate_hz=0.01),)) as b:
        b.offer()
        b.wait("frames.answered")
        b.now_ns = 1 * S
        b.offer()
        b.wait("frames.answered", 2)
    assert [p.frame.stamp_ns for p in b.published] == [1000 * S, 1 * S]
    assert b.total("clock.restarts") == 1


def test_a_deadline_of_its_own_marks_a_task_and_spares_the_others() -> None:
    tasks = (
        StandingTask(Ground(name="patient")),
        StandingTask(Decide(name="hasty", instruction="Now?", options=("yes", "no")), deadline_s=0.2),
    )
    engine = GatedEngine()
    with bench(engine, tasks=tasks) as b:
        b.offer()
        assert engine.entered.acquire(timeout=PATIENCE_S)
        b.now_ns += S // 2
        assert not engine.cancelled()  # the patient one still wants its answer
        engine.go.release()
        b.wait("frames.answered")
    assert [timely.missed_deadline for timely in b.published[0].answers] == [False, True]


def test_higher_priority_is_published_first_on_the_same_look() -> None:
    tasks = (StandingTask(Ground(name="later")), StandingTask(Count(name="first"), priority=3))
    with bench(tasks=tasks) as b:
        b.offer()
        b.wait("frames.answered", 2)
    assert [[t.answer.task.name for t in p.answers] for p in b.published] == [["first"], ["later"]]
    assert b.engine.looks == 1


def test_frames_on_which_nothing_is_due_cost_nothing() -> None:
    with bench(tasks=(StandingTask(Ground(name="slow"), rate_hz=1.0),)) as b:
        b.offer()
        b.wait("frames.answered")
        b.now_ns += S // 10
        b.offer(RuntimeError("must not be converted"))
        b.wait("frames.not_due")
    assert b.engine.looks == 1 and b.total("engine.failed") == 0


def test_bad_frames_are_counted_by_kind_told_once_and_survived() -> None:
    with bench() as b:
        for index in range(6):
            b.now_ns += 1
            reason = "wrong_step" if index % 2 else "zero_size"
            b.offer(UnusableImage(reason, f"fault {index}"))  # type: ignore[arg-type]
            b.wait(f"bad.{reason}", index // 2 + 1)
        b.now_ns += 1
        b.offer(ImageError("an aspect ratio that the checkpoint does not take"))
        b.wait("bad.refused_by_engine")
        b.now_ns += 1
        b.offer()
        b.wait("frames.answered")
    assert sum("zero_size" in line for line in b.log.lines) == 1
    assert sum("wrong_step" in line for line in b.log.lines) == 1


def test_an_engine_that_fails_is_tried_again() -> None:
    with bench(FakeEngine(failures=2)) as b:
        for index in range(3):
            b.now_ns += 1
            b.offer()
            b.wait("engine.failed" if index < 2 else "frames.answered", min(index + 1, 2) if index < 2 else 1)
    assert sum("told to fail" in line for line in b.log.lines) == 1  # not for each frame


def test_whatever_is_raised_is_logged_with_its_traceback_and_survived() -> None:
    with bench() as b:
        b.offer(KeyError("a bug"))
        b.wait("engine.failed")
        b.now_ns += 1
        b.offer()
        b.wait("frames.answered")
    assert any("Traceback" in line and "a bug" in line for line in b.log.lines)


def test_one_failed_task_does_not_cost_the_others() -> None:
    tasks = (*TASKS, StandingTask(Decide(name="broken", instruction="Well?", options=("yes", "no"))))
    with bench(tasks=tasks) as b:
        b.offer()
        b.wait("frames.answered")
    assert b.total("failed.broken") == 1 and b.total("task.objects") == 1
    assert len(b.published[0].answers) == 3


def test_stopping_cancels_the_answer_that_is_under_way_and_publishes_nothing() -> None:
    engine = GatedEngine()
    b = Bench(engine)
    b.worker.start()
    b.offer()
    assert engine.entered.acquire(timeout=PATIENCE_S)
    assert b.worker.stop(timeout_s=0.0) is False  # the engine is still at it
    assert engine.cancelled()
    engine.go.release()
    assert b.worker.stop(PATIENCE_S)
    assert b.published == []
