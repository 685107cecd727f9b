"""Questions that are asked once, beside the standing tasks: each waits for its frames, its answer, or its deadline.

Knows no rclpy: `ask_server` turns goals of the action into questions and replies into results.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from exaone_ros.engine.answers import TaskAnswer
from exaone_ros.engine.request import Request
from exaone_ros.engine.sequence import Outcome
from exaone_ros.engine.ticket import Ticket
from exaone_ros.errors import EngineBusy, EngineError, ExaoneError, ImageError
from exaone_ros.ros.camera import Camera, CameraFrame
from exaone_ros.ros.engine_keeper import EngineKeeper
from exaone_ros.tasks import Task
from exaone_ros.tasks.base import shown

GRACE_S = 1.0
"""The engine keeps deadlines between calls of its backend; a call that takes longer does not hold a question longer."""

Reason = Literal[
    "none", "invalid_task", "no_fresh_frame", "deadline", "cancelled", "engine", "busy", "inactive", "unknown_camera",
    "not_synchronous",
]  # fmt: skip
"""How a question ended; upper case behind ERROR_, the constants of the action's result."""


class AskRefused(ExaoneError):
    """A question is not taken. Attributes: reason, as in the action's result."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


@dataclass(frozen=True)
class Question:
    """What is asked once.

    Attributes:
        task: the question itself.
        cameras: whose images are looked at together, in this order; at least one.
        deadline_s: seconds from when it is taken.
        priority: as of standing tasks.
    """

    task: Task
    cameras: tuple[str, ...]
    deadline_s: float
    priority: int = 0


@dataclass(frozen=True)
class Reply:
    """How a question ended.

    Attributes:
        reason: "none" where there is an answer.
        message: in words, empty where there is an answer.
        frames: what was looked at; empty where it did not come to that.
        answer: of the engine, also where it is not complete.
        latency_s: from when the question was taken.
        age_ns: of the oldest frame, in the node's clock.
    """

    reason: Reason
    message: str = ""
    frames: tuple[CameraFrame, ...] = ()
    answer: TaskAnswer | None = None
    latency_s: float = 0.0
    age_ns: int = 0


@dataclass(eq=False)
class OpenQuestion:
    """A question on its way. Only `cancel` is for the one who asked."""

    question: Question
    on_text: Callable[[str, bool], None]
    on_reply: Callable[[Reply], None]
    wake: Callable[[], None]
    began_s: float = field(default_factory=time.monotonic)
    pieces: deque[tuple[str, bool]] = field(default_factory=deque)
    frames: tuple[CameraFrame, ...] = ()
    unusable: set[CameraFrame] = field(default_factory=set)
    trouble: tuple[Reason, str] = ("no_fresh_frame", "no image came")
    ticket: Ticket | None = None
    restarts: int = 0
    answer: TaskAnswer | None = None
    cancelled: bool = False

    def cancel(self) -> None:
        """The answer is not wanted any more; the reply still comes. Any thread."""
        self.cancelled = True
        self.wake()

    @property
    def ends_s(self) -> float:
        """Its deadline on the clock of `time.monotonic`."""
        return self.began_s + self.question.deadline_s

    def heard(self, reasoning: bool, text: str) -> None:
        """In the engine's thread: a piece of text."""
        self.pieces.append((text, reasoning))
        self.wake()

    def answered(self, answer: TaskAnswer) -> None:
        """In the engine's thread: the end."""
        self.answer = answer
        self.wake()


class Asker:
    """The questions that are open. `ask` is for any thread, `turn` and `end` for the worker's.

    Args:
        cameras: by name.
        keeper: the engine.
        now_ns: the node's clock.
        most: questions that may be open at a time.
        tolerance_ns: how far apart images of several cameras may have been taken.
    """

    def __init__(
        self,
        cameras: Mapping[str, Camera],
        keeper: EngineKeeper,
        now_ns: Callable[[], int],
        most: Callable[[], int],
        tolerance_ns: Callable[[], int],
    ) -> None:
        self._cameras, self._keeper, self._now_ns = cameras, keeper, now_ns
        self._most, self._tolerance_ns = most, tolerance_ns
        self._lock = threading.Lock()
        self._open: list[OpenQuestion] = []
        self._ended: tuple[Reason, str] | None = None
        self.on_change: Callable[[], None] = lambda: None
        """Called in any thread when `turn` has something to do."""

    @property
    def open(self) -> int:
        """How many questions are open."""
        return len(self._open)

    def ask(
        self, question: Question, on_text: Callable[[str, bool], None], on_reply: Callable[[Reply], None]
    ) -> OpenQuestion:
        """Take a question.

        Args:
            question: what is asked.
            on_text: called in the worker's thread with each piece of text and whether it is reasoning.
            on_reply: called once in the worker's thread.

        Raises:
            AskRefused: a camera is unknown, too many questions are open, or the worker has ended.
        """
        unknown = [name for name in question.cameras if name not in self._cameras]
        if unknown:
            named = ", ".join(f"'{name}'" for name in self._cameras if name)
            expected = f"one of {named}" if named else "no name: the node has one camera, which has none"
            raise AskRefused("unknown_camera", f"camera is {shown(unknown[0])}; expected {expected}")
        made = OpenQuestion(question, on_text, on_reply, lambda: self.on_change())
        with self._lock:
            if self._ended is not None:
                raise AskRefused(*self._ended)
            if len(self._open) >= self._most():
                raise AskRefused("busy", f"{len(self._open)} questions are being answered; that is as many as may be")
            self._open.append(made)
        self.on_change()
        return made

    def turn(self) -> None:
        """See to all open questions."""
        for ask in list(self._open):
            try:
                self._see_to(ask)
            except Exception as error:  # the worker tells it; this question must not hold up those behind it for ever
                if ask in self._open:
                    if ask.ticket is not None:
                        ask.ticket.cancel()
                    self._reply(ask, "engine", f"it could not be asked: {type(error).__name__}: {error}")
                raise

    def end(self, reason: Reason, message: str) -> None:
        """No more questions; those that are open end like this."""
        with self._lock:
            self._ended = (reason, message)
        for ask in list(self._open):
            if ask.ticket is not None:
                ask.ticket.cancel()
            self._reply(ask, reason, message)

    def _see_to(self, ask: OpenQuestion) -> None:
        answer = ask.answer  # before the text: what is said before the answer is told before it
        while ask.pieces:
            ask.on_text(*ask.pieces.popleft())
        if answer is not None:
            self._reply(ask, *self._verdict(answer, ask.restarts))
        elif ask.ticket is not None and time.monotonic() > ask.ends_s + GRACE_S:  # stuck in one call of the backend
            ask.ticket.cancel()
            why = f"the engine has not come back {GRACE_S:g} s after the deadline of {ask.question.deadline_s:g} s"
            self._reply(ask, "cancelled" if ask.cancelled else "deadline", why)
        elif ask.cancelled and ask.ticket is None:
            self._reply(ask, "cancelled", "cancelled before it was asked")
        elif ask.cancelled and ask.ticket is not None:
            ask.ticket.cancel()
        elif ask.ticket is None:
            self._begin(ask)
            if ask.ticket is None and time.monotonic() > ask.ends_s and ask in self._open:
                reason, why = ask.trouble
                self._reply(ask, reason, f"not asked within {ask.question.deadline_s:g} s: {why}")

    def _begin(self, ask: OpenQuestion) -> None:
        """Ask, if there are frames and an engine; else note what is missing."""
        frames = self._frames(ask)
        if frames is None:
            return
        ask.restarts, engine = self._keeper.restarts, self._keeper.engine
        if engine is None:
            ask.trouble = ("engine", f"the engine does not answer at present: {self._keeper.trouble}")
            return
        cameras = [self._cameras[name] for name in ask.question.cameras]
        pictures = []
        for camera, frame in zip(cameras, frames, strict=True):
            try:
                pictures.append(camera.picture(frame))
            except ImageError as error:
                ask.unusable.add(frame)  # the next one may be better
                ask.trouble = ("no_fresh_frame", f"{camera.label}: {error}")
                return
            except Exception as error:
                camera.bad("unexpected", error)
                ask.unusable.add(frame)
                ask.trouble = ("no_fresh_frame", f"{camera.label}: {type(error).__name__}: {error}")
                return
        question = ask.question
        try:
            request = Request(
                question.task,
                tuple(pictures),
                priority=question.priority,
                deadline_s=ask.ends_s,
                on_reasoning=partial(ask.heard, True),
                on_text=partial(ask.heard, False),
            )
            ticket = engine.submit(request)
        except EngineBusy as error:
            self._reply(ask, "busy", str(error))
        except EngineError as error:  # it is opened anew meanwhile; the deadline decides how long that may take
            ask.trouble = ("engine", str(error))
            self._keeper.failed(error, ask.restarts)
        except ExaoneError as error:
            self._reply(ask, "invalid_task", str(error))
        else:
            ask.frames, ask.ticket = frames, ticket
            ticket.add_done_callback(ask.answered)

    def _frames(self, ask: OpenQuestion) -> tuple[CameraFrame, ...] | None:
        """The newest fresh frames of the cameras that were taken together; None: not yet, see `trouble`."""
        choices = []
        for name in ask.question.cameras:
            camera = self._cameras[name]
            fresh = [frame for frame in camera.recent() if frame not in ask.unusable]
            if not fresh:
                if not ask.unusable:
                    ask.trouble = ("no_fresh_frame", f"{camera.label} brought no fresh image")
                return None
            choices.append(fresh)
        # The camera that is furthest behind says when: the others may have a frame of that time among their last.
        moment_ns = min(frames[-1].stamp_ns for frames in choices)
        chosen = tuple(min(frames, key=lambda frame: abs(frame.stamp_ns - moment_ns)) for frames in choices)
        stamps = [frame.stamp_ns for frame in chosen]
        apart_ns, tolerance_ns = max(stamps) - min(stamps), self._tolerance_ns()
        if apart_ns > tolerance_ns:
            names = ", ".join(ask.question.cameras)
            found = f"the images of {names} were taken {apart_ns * 1e-9:.3f} s apart"
            ask.trouble = ("not_synchronous", f"{found}; sync_tolerance_s allows {tolerance_ns * 1e-9:g} s")
            return None
        return chosen

    def _verdict(self, answer: TaskAnswer, restarts: int) -> tuple[Reason, str]:
        if answer.outcome in (Outcome.DONE, Outcome.BUDGET):
            self._keeper.answered()
            return "none", ""
        if answer.outcome is Outcome.DEADLINE:
            return "deadline", "the deadline came before the answer was complete"
        if answer.outcome is Outcome.CANCELLED:
            return "cancelled", "the answer was cancelled"
        error = answer.error
        if isinstance(error, EngineBusy):
            return "busy", str(error)
        if isinstance(error, EngineError):
            self._keeper.failed(error, restarts)
            return "engine", str(error)
        return "invalid_task", str(error)

    def _reply(self, ask: OpenQuestion, reason: Reason, message: str) -> None:
        with self._lock:
            self._open.remove(ask)
        ask.ticket = None  # its request knows the question: a ring that would keep the images
        age_ns = self._now_ns() - min(frame.stamp_ns for frame in ask.frames) if ask.frames else 0
        ask.on_reply(Reply(reason, message, ask.frames, ask.answer, time.monotonic() - ask.began_s, age_ns))
