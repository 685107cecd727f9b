"""Questions on their way to a server, and the end of those whose asker waits no more. Knows no API.

A server may be silent for as long as it likes, or send what is no answer: signs of life from a queue, a byte a minute.
Whoever cancels, has a deadline or closes the engine is answered at once all the same. The thread that reads from the
server then ends by itself: its connection is hung up, or it has none yet and hears nothing until its timeout.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from exaone_ros.engine.answers import TaskAnswer
from exaone_ros.engine.request import Request
from exaone_ros.engine.sequence import Outcome
from exaone_ros.engine.stream import Listener
from exaone_ros.engine.ticket import Ticket
from exaone_ros.errors import EngineError


class Call:
    """One question. Any thread may set `cancelled` and read the rest.

    Args:
        request: what is asked.
        wake: told when the asker has changed something.
    """

    def __init__(self, request: Request, wake: Callable[[], None]) -> None:
        self.request = request
        self.began_s = time.monotonic()
        self.cancelled = False
        self.heard = False
        """A listener was given a piece of the answer: another try would say it again."""
        self.wait_s = 0.0
        """How long the server has asked to be left alone."""
        self.stopped = threading.Event()
        """It has ended: a pause between two tries is over."""
        self.ticket = Ticket(request, wake)
        self.ticket.bind(self)
        self._reasoning = Listener(request.on_reasoning) if request.on_reasoning else None
        self._text = Listener(request.on_text) if request.on_text else None
        self._lock = threading.Lock()
        self._response: Any = None

    @property
    def late(self) -> bool:
        """Its deadline has come."""
        deadline_s = self.request.deadline_s
        return deadline_s is not None and time.monotonic() >= deadline_s

    def tell(self, reasoning: str, text: str) -> None:
        """Hand the next pieces to whoever listens."""
        for listener, piece in ((self._reasoning, reasoning), (self._text, text)):
            if listener is not None and piece:
                self.heard = True
                listener(piece)

    def ended(self, outcome: Outcome, **more: Any) -> TaskAnswer:
        """An answer to it."""
        return TaskAnswer(self.request.task, outcome, latency_s=time.monotonic() - self.began_s, **more)

    @contextlib.contextmanager
    def reading(self, response: Any) -> Iterator[None]:
        """While its thread reads from this response of `httpx`, `hang_up` ends that."""
        with self._lock:
            self._response = response
        try:
            yield
        finally:
            with self._lock:
                self._response = None

    def hang_up(self) -> None:
        """End the pause or the reading of its thread, if it is in one."""
        self.stopped.set()
        with self._lock:
            response = self._response
            if response is None or response.is_closed:
                return
            stream = response.extensions.get("network_stream")
            connection = stream.get_extra_info("socket") if stream is not None else None
            if isinstance(connection, socket.socket):
                with contextlib.suppress(OSError):  # the server was faster
                    # Past what TLS makes of it: closing alone would not wake the thread that waits for data.
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)


class Calls:
    """All calls without an answer, and a thread that ends those that nobody waits for any more.

    Args:
        answered: told of each answer, before its asker.
    """

    def __init__(self, answered: Callable[[TaskAnswer], None]) -> None:
        self._answered = answered
        self._changed = threading.Condition()
        # All below: only with `_changed` held.
        self._open: set[Call] = set()
        self._closed = False
        self._watch: threading.Thread | None = None

    @property
    def open(self) -> int:
        """Calls without an answer."""
        with self._changed:
            return len(self._open)

    @property
    def closed(self) -> bool:
        """`close` was called."""
        return self._closed

    def start(self, request: Request, run: Callable[[Call], object]) -> Call:
        """A new call; `run` gives it to the thread that will `end` it.

        Raises:
            EngineError: the engine is closed.
        """
        call = Call(request, self._wake)
        with self._changed:
            if self._closed:
                raise EngineError("the engine is closed; open a new one")
            if self._watch is None:
                watch = threading.Thread(target=self._end_in_time, name="server engine watch", daemon=True)
                watch.start()  # may fail where there are too many threads: the next call tries again
                self._watch = watch
            run(call)
            self._open.add(call)
            self._changed.notify_all()
        return call

    def end(self, call: Call, answer: TaskAnswer) -> None:
        """Hand out the answer; only the first one counts."""
        with self._changed:
            if call not in self._open:
                return
            self._open.discard(call)
            # Before anybody hears of it, who may close the client next: what that closes cannot be hung up any more.
            call.hang_up()
            self._answered(answer)
            self._changed.notify_all()
        call.ticket.settle(answer)

    def close(self) -> None:
        """End all calls, here and now: where a callback closes, it may be on the thread that would end the others."""
        with self._changed:
            self._closed = True
            left = list(self._open)
            self._changed.notify_all()
        for call in left:
            self.end(call, self._over(call))

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _end_in_time(self) -> None:
        while True:
            with self._changed:
                while not (over := [call for call in self._open if call.cancelled or call.late or self._closed]):
                    if self._closed:
                        return
                    deadlines = [call.request.deadline_s for call in self._open if call.request.deadline_s is not None]
                    left_s = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
                    self._changed.wait(None if left_s is None else min(left_s, threading.TIMEOUT_MAX))
            for call in over:
                self.end(call, self._over(call))

    def _over(self, call: Call) -> TaskAnswer:
        if call.cancelled:
            return call.ended(Outcome.CANCELLED)
        if call.late:
            return call.ended(Outcome.DEADLINE)
        error = EngineError(f"task '{call.request.task.name}': the engine was closed")
        return call.ended(Outcome.FAILED, error=error)
