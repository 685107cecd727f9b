"""The thread between cameras and engine: newest frames in, fresh answers out. Knows no rclpy.

Frames come from the subscriptions' thread (`Camera.offer`), answers from the engine's (`Ticket`); both only wake this
one, which does everything that takes time. Its rules:

- **Newest first.** Of each camera one frame waits; a newer one takes its place.
- **One look, all tasks.** What is due on a frame is asked at once. The next look waits for it, so that tasks stay
  together on one encoded picture, but for tasks that take long (`schedule.runs_beside`) and for tasks that would miss
  half of their period.
- **Cameras take turns.** Whose last look lies longest back goes first.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial

from exaone_ros.engine.answers import TaskAnswer
from exaone_ros.engine.request import Picture, Request
from exaone_ros.engine.sequence import Outcome
from exaone_ros.engine.timings import Timings
from exaone_ros.errors import EngineError, ExaoneError, ImageError
from exaone_ros.ros.asking import Asker
from exaone_ros.ros.camera import Camera, CameraFrame
from exaone_ros.ros.engine_keeper import AskedEngine, EngineKeeper
from exaone_ros.ros.freshness import Freshness
from exaone_ros.ros.look import Group, Look, Publication, TimelyAnswer
from exaone_ros.ros.meter import Meter
from exaone_ros.ros.once import OnceLog
from exaone_ros.ros.pixels import UnusableImage
from exaone_ros.ros.schedule import TaskBoard
from exaone_ros.tasks import StandingTask

POLL_S = 0.02
"""How often it is looked whether an answer has come too late, in the node's clock: that may not be the machine's."""

WORKER = "worker"
"""What failures of the worker itself are counted under, beside the names of tasks."""


class PerceptionWorker:
    """Asks the tasks that are due on the newest frames, and the questions of the `ask` action.

    Args:
        cameras: whose frames are looked at.
        board: what is asked when.
        keeper: the engine.
        freshness: the rule of the moment.
        now_ns: the node's clock, which may be a simulator's.
        publish: called in the worker's thread with answers that are fresh.
        meter: told of everything that happens beside the cameras, see `diagnostics` for the names.
        log: told once of each kind of trouble.
        asker: the questions of the action.
        real_time: `now_ns` runs as fast as the machine's clock, so that the engine may be told when an answer is due.
        concurrent_looks: cameras whose frames are answered at the same time at most.
    """

    def __init__(
        self,
        cameras: Sequence[Camera],
        board: TaskBoard,
        keeper: EngineKeeper,
        freshness: Callable[[], Freshness],
        now_ns: Callable[[], int],
        publish: Callable[[Publication], None],
        meter: Meter,
        log: OnceLog,
        asker: Asker,
        *,
        real_time: bool = True,
        concurrent_looks: int = 1,
    ) -> None:
        self._cameras, self._board, self._keeper = tuple(cameras), board, keeper
        self._freshness, self._now_ns, self._publish = freshness, now_ns, publish
        self._meter, self._log, self._asker = meter, log, asker
        self._real_time, self._concurrent_looks = real_time, concurrent_looks
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._answers: queue.SimpleQueue[tuple[Look, Group, int, TaskAnswer]] = queue.SimpleQueue()
        self._looks: list[Look] = []
        self._turns = itertools.count(1)
        self._last_turn = {camera.name: 0 for camera in self._cameras}
        self._spent: tuple[AskedEngine | None, Timings] = (None, Timings())
        self._thread = threading.Thread(target=self._run, name="perception", daemon=True)
        for camera in self._cameras:
            camera.on_fresh = self._wake.set
        keeper.on_open = self._wake.set
        asker.on_change = self._wake.set

    def start(self) -> None:
        """Start the worker's thread."""
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """End, cancelling the answers that are under way; False: a publisher is still at it after `timeout_s`."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def busy_s(self) -> float:
        """How long the frame that holds up the next look has been worked on; 0 between frames."""
        return max((look.busy_s for look in list(self._looks) if look.blocks), default=0.0)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(self._patience_s())
            self._wake.clear()
            try:
                self._turn()
            except Exception:  # the worker must outlive whatever a publisher or a defect of ours does
                self._meter.count(f"failed.{WORKER}")
                self._log.error("worker", f"the worker failed, and goes on:\n{traceback.format_exc()}")
        for look in self._looks:
            for group in look.open:
                group.cancel()
        self._asker.end("inactive", "the node was deactivated")

    def _patience_s(self) -> float | None:
        if self._looks or self._asker.open:
            return POLL_S
        if any(camera.waiting is not None for camera in self._cameras):
            return max(self._keeper.wait_s, POLL_S)
        return None

    def _turn(self) -> None:
        self._collect()
        self._cancel_what_is_useless()
        restarts, engine = self._keeper.restarts, self._keeper.engine
        if engine is not None:
            for camera in sorted(self._cameras, key=lambda camera: self._last_turn[camera.name]):
                self._consider(camera, engine, restarts)
        self._asker.turn()

    # --- frames to questions

    def _consider(self, camera: Camera, engine: AskedEngine, restarts: int) -> None:
        """Begin a look at the camera's newest frame, if there is one, it is fresh, and something is to be asked."""
        frame = camera.waiting
        if frame is None or self._stopping.is_set():
            return
        rule, now_ns = self._freshness(), self._now_ns()
        if rule.too_old(frame.stamp_ns, now_ns):
            camera.take(frame)
            camera.drop("stale", "the newest image is older than max_age before the engine gets to it")
            return
        if rule.ahead(frame.stamp_ns, now_ns):  # no image has come since, so the camera has not noticed
            camera.take(frame)
            camera.drop("before_reset", "the clock went back while a frame waited")
            return
        own = [look for look in self._looks if look.camera is camera]
        asked = set().union(*(look.asked for look in own))
        busy = [look for look in self._looks if look.blocks]
        wait = len(busy) >= self._concurrent_looks or any(look.camera is camera for look in busy)
        schedule = self._board.schedule(camera.name)
        if not schedule.any_due(frame.stamp_ns, asked, overdue_only=wait):
            if not wait:
                camera.take(frame)
                camera.meter.count("frames.not_due")
            return
        camera.take(frame)
        taken_s, start_age_s = time.perf_counter(), (self._now_ns() - frame.stamp_ns) * 1e-9
        picture = self._picture(camera, frame)
        if picture is None:
            return
        due = schedule.take_due(frame.stamp_ns, asked, overdue_only=wait)
        if not due:
            return  # the tasks have been replaced just now
        look = Look(
            camera,
            frame,
            due,
            taken_s=taken_s,
            start_age_s=start_age_s,
            convert_s=time.perf_counter() - taken_s,
            restarts=restarts,
        )
        self._last_turn[camera.name] = next(self._turns)
        if self._spent[0] is not engine or not busy:  # what it did before, or between looks, is not this look's
            self._spent = (engine, engine.timings())
        self._looks.append(look)
        self._submit(look, picture, engine)

    def _picture(self, camera: Camera, frame: CameraFrame) -> Picture | None:
        """The frame as the engine takes it; None, and counted, where it cannot be read."""
        try:
            return camera.picture(frame)
        except UnusableImage as error:
            camera.bad(error.reason, error)
        except ImageError as error:
            camera.bad("refused_by_engine", error)
        except Exception as error:
            self._log.error(f"{camera.name}.read", f"an image could not be read:\n{traceback.format_exc()}")
            camera.bad("unexpected", error)
        return None

    def _submit(self, look: Look, picture: Picture, engine: AskedEngine) -> None:
        frame = look.frame
        for group in list(look.open):
            ends_ns = group.end_ns(frame.stamp_ns, self._freshness().max_age_ns)
            for index, (standing, end_ns) in enumerate(zip(group.standing, ends_ns, strict=True)):
                arrived = partial(self._on_answer, look, group, index)
                try:
                    request = Request(
                        standing.task, (picture,), priority=standing.priority, deadline_s=self._deadline_s(end_ns)
                    )
                    ticket = engine.submit(request)
                except ExaoneError as error:
                    arrived(TaskAnswer(standing.task, Outcome.FAILED, error=error))
                    continue
                except Exception as error:  # an answer must come all the same: the next look waits for it
                    self._log.error("submit", f"a task could not be asked:\n{traceback.format_exc()}")
                    failure = EngineError(f"the task could not be asked: {type(error).__name__}: {error}")
                    arrived(TaskAnswer(standing.task, Outcome.FAILED, error=failure))
                    continue
                group.tickets.append(ticket)
                ticket.add_done_callback(arrived)

    def _deadline_s(self, end_ns: int) -> float | None:
        """A moment of the node's clock on that of `time.monotonic`; None where the two do not run alike."""
        return time.monotonic() + (end_ns - self._now_ns()) * 1e-9 if self._real_time else None

    def _on_answer(self, look: Look, group: Group, index: int, answer: TaskAnswer) -> None:
        """In the engine's thread."""
        self._answers.put((look, group, index, answer))
        self._wake.set()

    # --- answers to publications

    def _collect(self) -> None:
        while True:
            try:
                look, group, index, answer = self._answers.get_nowait()
            except queue.Empty:
                return
            blocked = look.blocks
            complete = look.settle(group, index, answer)
            if not look.open:
                self._looks.remove(look)
                self._judge_engine(look)
            if blocked and not look.blocks:
                self._sample(look)
            if complete:
                self._deliver(look, group)

    def _cancel_what_is_useless(self) -> None:
        """Tell the engine of answers that could not be published any more."""
        now_ns, rule = self._now_ns(), self._freshness()
        for look in self._looks:
            standing = set(self._board.schedule(look.camera.name).tasks)
            for group in look.open:
                late = now_ns > max(group.end_ns(look.frame.stamp_ns, rule.max_age_ns))
                if late or look.of_before_reset(rule, now_ns) or standing.isdisjoint(group.standing):
                    group.cancel()

    def _deliver(self, look: Look, group: Group) -> None:
        """A group is complete: publish it, if it may be."""
        camera, frame = look.camera, look.frame
        latency_s = time.perf_counter() - look.taken_s
        answers = group.in_order
        errors = [answer.error for answer in answers]
        if all(isinstance(error, ImageError) for error in errors):
            camera.bad("refused_by_engine", errors[0] or ImageError("?"))
            return
        self._count(answers)
        if self._stopping.is_set():
            return
        now_ns, rule = self._now_ns(), self._freshness()
        if look.of_before_reset(rule, now_ns):
            camera.drop("before_reset", "the clock went back while a frame was being answered")
            return
        camera.meter.sample("age.answer_s", (now_ns - frame.stamp_ns) * 1e-9)
        if rule.too_old(frame.stamp_ns, now_ns):
            camera.drop("late", f"answers take {latency_s:.2f} s and come too late for max_age; they are not published")
            return
        still_asked: set[StandingTask] = set(self._board.schedule(camera.name).tasks)
        ends_ns = group.end_ns(frame.stamp_ns, rule.max_age_ns)
        timely = [
            (standing, TimelyAnswer(answer, missed_deadline=now_ns > end_ns or answer.outcome is Outcome.DEADLINE))
            for standing, answer, end_ns in zip(group.standing, answers, ends_ns, strict=True)
            if standing in still_asked
        ]
        if not timely:
            return
        before = tuple(answer for standing, answer in look.published if standing in still_asked)
        look.published += timely
        together = tuple(answer for _, answer in timely)
        age_ns = now_ns - frame.stamp_ns
        self._publish(Publication(frame, together, round(latency_s * 1e9), age_ns, camera.name, before))
        if any(not isinstance(error, EngineError) for error in errors):
            camera.meter.count("frames.answered")

    def _count(self, answers: Sequence[TaskAnswer]) -> None:
        by_engine = all(isinstance(answer.error, EngineError) for answer in answers)
        for answer in answers:
            name = answer.task.name
            if answer.error is not None:
                self._meter.count(f"failed.{name}")
                if not by_engine:  # that is told as the engine's failure
                    self._log.warning(f"failed.{name}", f"task '{name}': {answer.error}")
            elif answer.result is not None:
                self._meter.count(f"task.{name}")

    def _judge_engine(self, look: Look) -> None:
        if look.refused and not look.done:
            self._keeper.failed(look.refused[0], look.restarts)
        else:
            self._keeper.answered()

    def _sample(self, look: Look) -> None:
        """Where the time of this look went; with several looks at a time their shares cannot be told apart."""
        engine = self._keeper.engine
        asked, before = self._spent
        if engine is None or engine is not asked:
            return
        total = engine.timings()
        self._spent = (engine, total)
        spent = {field.name: getattr(total, field.name) - getattr(before, field.name) for field in fields(Timings)}
        for stage in ("preprocess_s", "encode_s", "prefix_s", "prefill_s", "decode_s", "draft_s", "grammar_s"):
            self._meter.sample(f"stage.{stage}", spent[stage])
        self._meter.sample("work.tokens", spent["tokens_sampled"] + spent["tokens_forced"])
        self._meter.sample("work.drafted", spent["tokens_drafted"])
        self._meter.sample("work.drafts_accepted", spent["drafts_accepted"])
        self._meter.sample("stage.total_s", look.busy_s)
        self._meter.sample("stage.convert_s", look.convert_s)
        look.camera.meter.sample("age.start_s", look.start_age_s)
