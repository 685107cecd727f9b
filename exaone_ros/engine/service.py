"""An engine with a thread of its own, which any thread may ask. Knows tickets and threads; `scheduler` knows the rules.

    service = EngineService(Engine.open(model_dir))
    frame = Picture(image, key=("head_camera", stamp_ns))
    ticket = service.submit(Request(Count(label="mugs"), (frame,), priority=5))
    print(ticket.result(timeout=10).result)

A watchdog notices a call of the backend that does not return, or a listener, which it names as such: all open tickets
fail with `EngineHung`, new requests are refused with it, and the service stays so, because nothing can end a call that
hangs but the end of the process.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType

from exaone_ros.engine.answers import TaskAnswer
from exaone_ros.engine.engine import Engine
from exaone_ros.engine.job import Job
from exaone_ros.engine.request import Request
from exaone_ros.engine.scheduler import Scheduler
from exaone_ros.engine.sequence import Outcome
from exaone_ros.engine.ticket import Ticket
from exaone_ros.engine.timings import Meter, Timings
from exaone_ros.errors import EngineBusy, EngineError, EngineHung

_log = logging.getLogger(__name__)

HANG_S = 60.0
"""Longer than any call that is still at work: prefilling a long prompt with 33B weights takes seconds, not minutes."""
CLOSE_S = 10.0
CALLS = ("encode_s", "prefix_s", "prefill_s", "decode_s", "draft_s")
"""Of `Timings`: the time in calls of the backend."""


class EngineService:
    """Answers requests of any thread on one engine.

    Args:
        engine: belongs to the service from now on; its own `look` and `answer` are refused until `close`.
        max_open: requests that may be open at a time, waiting ones included; one more is refused, or takes the place of
            one of lower priority.
        hang_s: a call of the backend, or of listeners between two calls, that takes longer than this has hung.

    Raises:
        EngineError: the engine is closed or in use, or a value is out of range.
    """

    def __init__(self, engine: Engine, *, max_open: int = 64, hang_s: float = HANG_S) -> None:
        slots = engine.backend.limits.slots
        if slots < 2:
            raise EngineError(f"the engine has {slots} KV slot; a question needs two: open it with slots=2 or more")
        if isinstance(max_open, bool) or not isinstance(max_open, int) or max_open < 1:
            raise EngineError(f"max_open is {max_open!r}; expected 1 or more requests")
        if not hang_s > 0:
            raise EngineError(f"hang_s is {hang_s!r}; expected seconds above 0")
        self._engine = engine
        self._max_open = max_open
        self._hang_s = hang_s
        self._meter = Meter()
        self._changed = threading.Condition()
        # All below: only with `_changed` held.
        self._inbox: deque[Job] = deque()
        self._open: dict[Ticket, Job] = {}
        self._refusal: EngineError | None = None
        self._busy_since_s: float | None = None
        self._ready = threading.Event()
        self._failed_to_start: Exception | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failed_to_start is not None:
            raise self._failed_to_start
        self._watchdog = threading.Thread(target=self._watch, name="engine watchdog", daemon=True)
        self._watchdog.start()

    @property
    def engine(self) -> Engine:
        """The engine that answers; for reading its backend's name and limits."""
        return self._engine

    def submit(self, request: Request) -> Ticket:
        """Ask. Returns at once; any thread may call it, also from inside a listener or a callback of a ticket.

        Raises:
            EngineBusy: as many requests as may be are open, all of equal or higher priority.
            EngineHung: a call of the backend hangs.
            EngineError: the service is closed.
        """
        with self._changed:
            if self._refusal is not None:
                raise type(self._refusal)(f"task '{request.task.name}' is refused: {self._refusal}")
            self._make_room(request)
            ticket = Ticket(request, self._wake)
            job = Job(request, lambda answer: self._settle(ticket, answer), time.monotonic())
            ticket.bind(job)
            self._open[ticket] = job
            self._inbox.append(job)
            self._changed.notify_all()
        return ticket

    def close(self, timeout_s: float = CLOSE_S) -> bool:
        """End: open tickets fail, then the engine is closed. May be called twice.

        Returns:
            False where the engine is still in a call of the backend after `timeout_s` (or where this is called from a
            callback, on the engine's own thread); it is closed when that returns.
        """
        with self._changed:
            self._refusal = self._refusal or EngineError("the engine is closed")
            self._changed.notify_all()
        return self._ended.wait(0 if threading.current_thread() is self._thread else timeout_s)

    @property
    def open_requests(self) -> int:
        """Requests that have not ended."""
        with self._changed:
            return len(self._open)

    @property
    def refusal(self) -> str:
        """Why new requests are refused; empty while they are taken."""
        with self._changed:
            return str(self._refusal or "")

    @property
    def busy_s(self) -> float:
        """How long the step that is under way has taken so far; 0 between steps."""
        since_s = self._busy_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    @property
    def kept_bytes(self) -> int:
        """Memory of the prompt heads and encoded pictures that are kept for later questions. Any thread may ask."""
        return self._engine.kept_bytes

    def timings(self) -> Timings:
        """Where the time went since the service began, all requests together; `total_s` is its age."""
        return self._meter.read()

    def __enter__(self) -> EngineService:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make_room(self, request: Request) -> None:
        """Where there is none left, displace the least important open request, if it is less important than this."""
        jobs = [job for job in self._open.values() if job.refusal is None]
        if len(jobs) < self._max_open:
            return
        least = max(jobs, key=lambda job: (-job.request.priority, job.began_s))
        priority = least.request.priority
        if priority >= request.priority:
            raise EngineBusy(
                f"task '{request.task.name}' is refused: {len(jobs)} requests are open, all of priority {priority} or "
                f"higher; this one has {request.priority}: ask less often, or allow more"
            )
        least.refusal = EngineBusy(
            f"task '{least.request.task.name}' of priority {priority} made room for '{request.task.name}' of priority "
            f"{request.priority}: {self._max_open} requests were open"
        )

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _settle(self, ticket: Ticket, answer: TaskAnswer) -> None:
        with self._changed:
            self._open.pop(ticket, None)
        ticket.settle(answer)

    def _run(self) -> None:
        try:
            with self._engine.drive() as scheduler:
                self._ready.set()
                while self._take():
                    self._step(scheduler)
                for job in self._incoming():
                    scheduler.add(job)
                scheduler.abort(Outcome.FAILED, self._refusal, self._meter)
        except Exception as error:
            if self._ready.is_set():  # a defect of ours: what is open fails below
                _log.exception("the thread of the engine failed")
            else:
                self._failed_to_start = error  # the engine is closed or in use
        finally:
            self._fail_open(EngineError("the thread of the engine has ended"))
            try:
                if self._failed_to_start is None:
                    self._engine.close()
            finally:
                self._ended.set()
                self._ready.set()

    def _step(self, scheduler: Scheduler) -> None:
        for job in self._incoming():
            scheduler.add(job)
        self._busy_since_s = time.monotonic()
        try:
            scheduler.step(self._meter, self._most_urgent)
        except Exception as error:  # a defect of ours must not leave everybody waiting
            _log.exception("a step of the engine failed")
            failure = EngineError(f"a step of the engine failed: {type(error).__name__}: {error}")
            scheduler.abort(Outcome.FAILED, failure, self._meter)
            self._fail_lost(failure)
        finally:
            self._busy_since_s = None

    def _fail_open(self, error: EngineError) -> None:
        """Refuse from now on, and fail what is still open: nobody may wait for an answer that cannot come."""
        with self._changed:
            self._refusal = self._refusal or error
            tickets = list(self._open)
            self._open.clear()
        _fail(tickets, error)

    def _fail_lost(self, error: EngineError) -> None:
        """Fail what the scheduler, which has nothing left, forgot in a step that failed: nobody else would."""
        with self._changed:
            lost = [ticket for ticket, job in self._open.items() if job not in self._inbox]
            for ticket in lost:
                del self._open[ticket]
        _fail(lost, error)

    def _take(self) -> bool:
        """Wait until there is something to do; False: the service ends."""
        with self._changed:
            while not self._inbox and not self._open and self._refusal is None and not self._engine.closing:
                self._changed.wait(0.5)  # the engine may be closed behind the service's back
            if self._engine.closing and self._refusal is None:
                self._refusal = EngineError("the engine was closed")
            return self._refusal is None

    def _incoming(self) -> list[Job]:
        with self._changed:
            jobs = list(self._inbox)
            self._inbox.clear()
        return jobs

    def _most_urgent(self) -> int | None:
        """Highest priority of what the scheduler has not seen."""
        with self._changed:
            return max((job.request.priority for job in self._inbox), default=None)

    def _watch(self) -> None:
        while not self._ended.wait(min(1.0, self._hang_s / 4)):
            since_s = self._busy_since_s
            stage, stage_since_s = self._meter.under_way
            if since_s is None or time.monotonic() - max(since_s, stage_since_s) < self._hang_s:
                continue
            who = f"backend '{self._engine.backend.name}' has not returned from a call"
            if stage not in CALLS:
                who = "a listener, a callback or the code of a task has not returned"
            hung = EngineHung(
                f"{who} for {self._hang_s:g} s; it cannot be interrupted: end this process and start it again"
            )
            _log.error("%s", hung)
            self._fail_open(hung)
            return


def _fail(tickets: Sequence[Ticket], error: EngineError) -> None:
    for ticket in tickets:
        ticket.settle(TaskAnswer(ticket.request.task, Outcome.FAILED, error=error, latency_s=ticket.age_s))
