"""The thread between camera and engine: newest frame in, fresh answers out. Knows the engine and tasks, no rclpy.

`offer` runs in the thread of the subscription and does next to nothing; everything that takes time runs in the worker.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.answers import FrameAnswers, TaskAnswer
from exaone_ros.engine.timings import Timings
from exaone_ros.errors import ExaoneError, ImageError
from exaone_ros.ros.freshness import Freshness, StampGate
from exaone_ros.ros.meter import Meter
from exaone_ros.ros.newest import NewestSlot
from exaone_ros.ros.pixels import UnusableImage
from exaone_ros.ros.schedule import TaskSchedule
from exaone_ros.tasks import StandingTask, Task

ENGINE_RETRY_S = 1.0
"""Pause after the engine failed: a broken engine must not spin."""


class Logger(Protocol):
    """What rclpy's logger and Python's have in common."""

    def info(self, message: str) -> Any: ...
    def warning(self, message: str) -> Any: ...
    def error(self, message: str) -> Any: ...


class LookingEngine(Protocol):
    """What the worker needs of `engine.engine.Engine`."""

    def look(self, image: NDArray[np.uint8]) -> Any: ...
    def answer(self, frame: Any, tasks: Sequence[Task], *, cancelled: Callable[[], bool]) -> FrameAnswers: ...


@dataclass(frozen=True)
class CameraFrame:
    """An image message as it came.

    Attributes:
        message: sensor_msgs Image or CompressedImage.
        stamp_ns: of its header.
        frame_id: of its header.
    """

    message: Any
    stamp_ns: int
    frame_id: str


@dataclass(frozen=True)
class TimelyAnswer:
    """One task's answer on its way out.

    Attributes:
        answer: as the engine gave it.
        missed_deadline: the task's own deadline was over when the answer came.
    """

    answer: TaskAnswer
    missed_deadline: bool = False


@dataclass(frozen=True)
class Publication:
    """What was read from one frame in one go.

    Attributes:
        frame: what was looked at.
        answers: one for each task asked.
        latency_ns: from taking the frame to the last answer.
        age_ns: now minus the frame's stamp, in the node's clock.
    """

    frame: CameraFrame
    answers: tuple[TimelyAnswer, ...]
    latency_ns: int
    age_ns: int


class PerceptionWorker:
    """Answers the tasks that are due on the newest frame.

    Args:
        engine: looks and answers; only the worker's thread calls it.
        read: turns an image message into uint8 RGB [H, W, 3] or raises ImageError.
        schedule: what is asked when.
        freshness: the rule of the moment.
        now_ns: the node's clock, which may be a simulator's.
        publish: called in the worker's thread with answers that are fresh.
        meter: told of everything that happens, see `diagnostics` for the names.
        log: told once of each kind of trouble.
    """

    def __init__(
        self,
        engine: LookingEngine,
        read: Callable[[Any], NDArray[np.uint8]],
        schedule: TaskSchedule,
        freshness: Callable[[], Freshness],
        now_ns: Callable[[], int],
        publish: Callable[[Publication], None],
        meter: Meter,
        log: Logger,
    ) -> None:
        self._engine, self._read, self._schedule = engine, read, schedule
        self._freshness, self._now_ns, self._publish = freshness, now_ns, publish
        self._meter, self._log = meter, log
        self._gate = StampGate()
        self._slot: NewestSlot[CameraFrame] = NewestSlot()
        self._stopping = threading.Event()
        self._told: set[str] = set()
        self._busy_since_s: float | None = None
        self._thread = threading.Thread(target=self._run, name="perception", daemon=True)

    def start(self) -> None:
        """Start the worker's thread."""
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """End, cancelling the answer that is under way; False: the engine is still at it after `timeout_s`."""
        self._stopping.set()
        self._slot.close()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def busy_s(self) -> float:
        """How long the frame that is being answered has been worked on; 0 between frames."""
        since_s = self._busy_since_s
        return time.monotonic() - since_s if since_s is not None else 0.0

    def offer(self, frame: CameraFrame) -> None:
        """Take note of a frame that has arrived; called in the subscription's thread."""
        now_ns = self._now_ns()
        self._meter.count("frames.received")
        restarts = self._gate.restarts
        refusal = self._gate.refusal(frame.stamp_ns, now_ns, self._freshness())
        if self._gate.restarts > restarts:
            self._meter.count("clock.restarts")
            self._log.info("the clock went back: stamps and rates begin anew")
        if refusal is not None:
            self._drop(refusal, f"images are not answered: {refusal} (stamp {frame.stamp_ns} ns, now {now_ns} ns)")
            return
        self._meter.count("frames.fresh")
        self._meter.sample("age.arrival_s", (now_ns - frame.stamp_ns) * 1e-9)
        if self._slot.put(frame):
            self._meter.count("dropped.replaced")

    def _run(self) -> None:
        while not self._stopping.is_set():
            frame = self._slot.take()
            if frame is None:
                return
            self._busy_since_s = time.monotonic()
            try:
                self._look_at(frame)
            except UnusableImage as error:
                self._bad_frame(error.reason, error)
            except ImageError as error:
                self._bad_frame("refused_by_engine", error)
            except ExaoneError as error:
                self._engine_failed(f"{type(error).__name__}: {error}")
            except Exception:  # the worker must outlive whatever an engine or a publisher does
                self._engine_failed(traceback.format_exc())
            finally:
                self._busy_since_s = None

    def _look_at(self, frame: CameraFrame) -> None:
        taken_s = time.perf_counter()
        if self._freshness().too_old(frame.stamp_ns, self._now_ns()):
            self._drop("stale", "the newest image is older than max_age before the engine gets to it")
            return
        if not self._schedule.any_due(frame.stamp_ns):
            self._meter.count("frames.not_due")
            return
        image = self._read(frame.message)
        converted_s = time.perf_counter()
        start_age_s = (self._now_ns() - frame.stamp_ns) * 1e-9
        with self._engine.look(image) as look:
            for group in self._schedule.take_due(frame.stamp_ns):
                self._answer(frame, look, group, taken_s)
                if self._stopping.is_set():
                    return
        # All at the end: where a frame takes longer than the meter's window, its parts still stand there together.
        self._meter.sample("stage.convert_s", converted_s - taken_s)
        self._meter.sample("age.start_s", start_age_s)
        self._sample(look.timings, "preprocess_s", "encode_s", "prefix_s")

    def _answer(self, frame: CameraFrame, look: Any, group: tuple[StandingTask, ...], taken_s: float) -> None:
        max_age_ns = self._freshness().max_age_ns
        ends_ns = [frame.stamp_ns + min(max_age_ns, round(g.deadline_s * 1e9) or max_age_ns) for g in group]

        def cancelled() -> bool:
            return self._stopping.is_set() or self._now_ns() > max(ends_ns)

        answers = self._engine.answer(look, [standing.task for standing in group], cancelled=cancelled)
        latency_s = time.perf_counter() - taken_s
        self._note(answers, latency_s)
        if self._stopping.is_set():
            return
        now_ns = self._now_ns()
        self._meter.sample("age.answer_s", (now_ns - frame.stamp_ns) * 1e-9)
        if self._freshness().too_old(frame.stamp_ns, now_ns):
            self._drop("late", f"answers take {latency_s:.2f} s and come too late for max_age; they are not published")
            return
        timely = tuple(
            TimelyAnswer(answer, missed_deadline=now_ns > end_ns)
            for answer, end_ns in zip(answers.answers, ends_ns, strict=True)
        )
        self._publish(Publication(frame, timely, round(latency_s * 1e9), now_ns - frame.stamp_ns))
        self._meter.count("frames.answered")

    def _note(self, answers: FrameAnswers, latency_s: float) -> None:
        self._meter.count("engine.done")
        self._meter.sample("stage.total_s", latency_s)
        self._sample(answers.timings, "prefill_s", "decode_s", "grammar_s")
        self._meter.sample("work.tokens", answers.timings.tokens_sampled + answers.timings.tokens_forced)
        for answer in answers.answers:
            name = answer.task.name
            if answer.error is not None:
                self._meter.count(f"failed.{name}")
                self._tell_once(f"failed.{name}", f"task '{name}': {answer.error}")
            elif answer.result is not None:
                self._meter.count(f"task.{name}")

    def _sample(self, timings: Timings, *stages: str) -> None:
        for stage in stages:
            self._meter.sample(f"stage.{stage}", getattr(timings, stage))

    def _bad_frame(self, reason: str, error: ImageError) -> None:
        self._meter.count(f"bad.{reason}")
        self._tell_once(f"bad.{reason}", f"bad image ({reason}): {error}; counted in diagnostics from here on")

    def _engine_failed(self, what: str) -> None:
        self._meter.count("engine.failed")
        self._tell_once(
            f"engine: {what[-200:]}", f"the engine failed, tried again each {ENGINE_RETRY_S:g} s: {what}", error=True
        )
        self._stopping.wait(ENGINE_RETRY_S)

    def _drop(self, reason: str, message: str) -> None:
        self._meter.count(f"dropped.{reason}")
        self._tell_once(f"dropped.{reason}", f"{message}; counted in diagnostics from here on")

    def _tell_once(self, key: str, message: str, error: bool = False) -> None:
        if key not in self._told and len(self._told) < 1000:
            self._told.add(key)
            if error:  # two call sites: rclpy's logger allows one severity for each
                self._log.error(message)
            else:
                self._log.warning(message)
