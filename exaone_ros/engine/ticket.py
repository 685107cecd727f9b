"""What the asker of a request holds until the answer is there."""

from __future__ import annotations

import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from exaone_ros.engine.answers import TaskAnswer
from exaone_ros.engine.request import Request

_log = logging.getLogger(__name__)


class Cancellable(Protocol):
    """What is behind a ticket: `job.Job`, or a call of a server."""

    cancelled: bool


class Ticket:
    """One open request. Every method may be called from any thread.

    Once the answer is there it holds neither its job nor callbacks, so that images go when the asker lets them go.

    Attributes:
        request: what was asked.
    """

    def __init__(self, request: Request, wake: Callable[[], None]) -> None:
        """Made by `EngineService.submit`; `wake` tells the service that something changed."""
        self.request = request
        self._wake = wake
        self._job: Cancellable | None = None
        self._began_s = time.monotonic()
        self._lock = threading.Lock()
        self._settled = False
        self._future: concurrent.futures.Future[TaskAnswer] = concurrent.futures.Future()

    def cancel(self) -> None:
        """The answer is not wanted any more: it ends before the next step as CANCELLED, unless it has ended already."""
        job = self._job
        if job is not None:
            job.cancelled = True
            self._wake()

    @property
    def done(self) -> bool:
        """The answer is there."""
        return self._future.done()

    @property
    def age_s(self) -> float:
        """Seconds since it was submitted."""
        return time.monotonic() - self._began_s

    def result(self, timeout: float | None = None) -> TaskAnswer:
        """Wait for the answer; a failure is an answer too, see its `outcome`.

        Args:
            timeout: seconds; None = for ever. Not to be called on the engine's thread, which would wait for itself.

        Raises:
            TimeoutError: there is no answer yet.
        """
        try:
            return self._future.result(timeout)
        except concurrent.futures.TimeoutError as error:  # its own class before Python 3.11
            raise TimeoutError(f"task '{self.request.task.name}' has no answer after {timeout:g} s") from error

    def add_done_callback(self, callback: Callable[[TaskAnswer], None]) -> None:
        """Call with the answer when it is there: on the engine's thread, or here and now where it is there already.

        Where the engine hangs or its thread fails, the call comes from the thread that noticed.

        It must not block: the engine does nothing else meanwhile. What it raises is logged.
        """
        name = self.request.task.name
        # A future keeps what it has called. Taken out, the callback and the images that it may hold are let go at once.
        held = [callback]

        def call(future: concurrent.futures.Future[TaskAnswer]) -> None:
            try:
                held.pop()(future.result())
            except Exception:  # somebody else's code; the engine goes on
                _log.exception("a callback on the answer to task '%s' failed", name)

        self._future.add_done_callback(call)

    def bind(self, job: Cancellable) -> None:
        """For the service: the job behind this ticket."""
        self._job = job

    def settle(self, answer: TaskAnswer) -> None:
        """For the service: hand out the answer; only the first one counts."""
        with self._lock:
            if self._settled:
                return
            self._settled = True
        self._job = None  # it knows this ticket: a ring that would keep the images until the garbage collector comes
        self._future.set_result(answer)
