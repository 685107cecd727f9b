"""An engine service that looks at pixels by arithmetic: the edge double for tests of the ROS side without a model.

It sees one red box where an image is red, counts 1 for it, and decides by it. It can be made slow, and made to fail.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from exaone_ros.engine.answers import TaskAnswer
from exaone_ros.engine.request import Request
from exaone_ros.engine.sequence import Outcome
from exaone_ros.engine.ticket import Ticket
from exaone_ros.engine.timings import Timings
from exaone_ros.errors import EngineError, EngineHung
from exaone_ros.tasks import Answer, Ask, Count, Counted, Decide, Decided, Detection, Ground, Grounding, Task

TIMINGS = Timings(encode_s=0.004, decode_s=0.01, tokens_sampled=6, tokens_forced=4)
"""What each look is said to have taken."""


@dataclass
class FakeEngine:
    """Each request is answered in a thread of its own after `delay_s`; the next `failures` looks fail.

    A task named "endless" is not answered before it is cancelled or its deadline is over.

    Attributes:
        dies_after: looks after which it fails for ever.
        looks: pictures that it has seen.
    """

    delay_s: float = 0.0
    failures: int = 0
    dies_after: float = float("inf")
    closed: bool = False
    looks: int = 0
    refusal: str = ""
    _seen: dict[Hashable, bool] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def submit(self, request: Request) -> Ticket:
        if self.refusal or self.closed:
            raise EngineError(self.refusal or "the engine is closed")
        for picture in request.pictures:
            assert picture.image.dtype == np.uint8 and picture.image.ndim == 3
        job = SimpleNamespace(cancelled=False)
        ticket = Ticket(request, self.woken)
        ticket.bind(job)  # type: ignore[arg-type]
        threading.Thread(target=self._work, args=(request, ticket, job), daemon=True).start()
        return ticket

    @property
    def kept_bytes(self) -> int:
        return 2_500_000

    def timings(self) -> Timings:
        fields = ("encode_s", "decode_s", "tokens_sampled", "tokens_forced")
        return Timings(**{name: getattr(TIMINGS, name) * self.looks for name in fields})

    def close(self, timeout_s: float = 10.0) -> bool:
        self.closed = True
        return True

    def woken(self) -> None:
        """A ticket was cancelled."""

    def hold(self, request: Request, job: Any) -> Outcome | None:
        """Let the time pass that an answer takes; how it ends before its time."""
        end_s = time.monotonic() + (self.delay_s if request.task.name != "endless" else 600.0)
        while time.monotonic() < end_s:
            if job.cancelled or self.closed:
                return Outcome.CANCELLED
            if request.deadline_s is not None and time.monotonic() > request.deadline_s:
                return Outcome.DEADLINE
            time.sleep(0.005)
        return None

    def _work(self, request: Request, ticket: Ticket, job: Any) -> None:
        task = request.task
        if self._fails(request):
            error = EngineError("the engine was told to fail")
            return ticket.settle(TaskAnswer(task, Outcome.FAILED, error=error))
        if task.thinking and request.on_reasoning is not None:
            request.on_reasoning("well, ")
            request.on_reasoning("red?")
        if isinstance(task, Ask) and request.on_text is not None:
            request.on_text("I see ")
        outcome = self.hold(request, job)
        if outcome is not None:
            return ticket.settle(TaskAnswer(task, outcome))
        answer = _answer([picture.image for picture in request.pictures], task)
        if isinstance(task, Ask) and request.on_text is not None:
            request.on_text(answer.text.removeprefix("I see "))
        return ticket.settle(answer)

    def _fails(self, request: Request) -> bool:
        with self._lock:
            for picture in request.pictures:
                if picture.key not in self._seen:
                    self.looks += 1
                    self._seen[picture.key] = self.failures > 0 or self.looks > self.dies_after
                    self.failures = max(self.failures - 1, 0)
            return any(self._seen[picture.key] for picture in request.pictures)


def _answer(images: list[np.ndarray], task: Task) -> TaskAnswer:
    masks = [(image[:, :, 0] > 200) & (image[:, :, 1] < 60) for image in images]
    number = sum(bool(mask.any()) for mask in masks)
    if task.name == "broken":
        return TaskAnswer(task, Outcome.FAILED, error=EngineError("this task was told to fail"))
    result: Any
    if isinstance(task, Ground):
        boxes = []
        if number:
            rows, columns = np.nonzero(masks[-1])
            box = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
            boxes.append(Detection("red box", box, 0.75))
        result = Grounding(tuple(boxes))
    elif isinstance(task, Count):
        result = Counted(task.label, number, 0.5)
    elif isinstance(task, Ask):
        result = Answer(f"I see {number} red of {len(images)}", "well, red?" if task.thinking else "")
        return TaskAnswer(task, Outcome.DONE, result, text=result.text, reasoning=result.reasoning)
    else:
        assert isinstance(task, Decide)
        rest = 0.1 / (len(task.options) - 1)
        chosen = int(number > 0)
        probabilities = tuple(0.9 if i == chosen else rest for i in range(len(task.options)))
        result = Decided(task.options[chosen], task.options, probabilities, "because of the pixels")
    return TaskAnswer(task, Outcome.DONE, result)


class HungEngine(FakeEngine):
    """An engine that hangs, and says so as the service's watchdog does."""

    def submit(self, request: Request) -> Ticket:
        raise EngineHung("backend 'fake' has not returned from a call for 60 s")


class GatedEngine(FakeEngine):
    """An engine whose answers come when they are let."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = threading.Condition()
        self.entered: list[Request] = []
        """Requests that have begun, in order."""
        self._let = 0
        self._open = False
        self._numbers = itertools.count()

    def hold(self, request: Request, job: Any) -> Outcome | None:
        with self.changed:
            number = next(self._numbers)
            self.entered.append(request)
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: self._open or number < self._let or job.cancelled, 60.0)
        return Outcome.CANCELLED if job.cancelled else None

    def woken(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def wait_entered(self, number: int) -> None:
        """Wait until that many requests have begun."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.entered) >= number, 60.0), len(self.entered)

    def let(self, number: int) -> None:
        """Let the answers to that many more requests come, in the order in which they began."""
        with self.changed:
            self._let += number
            self.changed.notify_all()

    def open(self) -> None:
        """Let all come from now on."""
        with self.changed:
            self._open = True
            self.changed.notify_all()
