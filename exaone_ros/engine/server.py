"""An engine that computes elsewhere: questions go to a server over the OpenAI-compatible API, typed results come back.

Same `look`, `answer`, `submit` and `close` as the engines at hand. For when one machine is not enough: vLLM, SGLang,
TensorRT-LLM, or `engine.serve`, which serves a checkpoint of ours.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from collections.abc import Sequence as Ordered
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from exaone_ros.engine.answers import FrameAnswers, TaskAnswer
from exaone_ros.engine.breaker import CircuitBreaker, ServerHealth
from exaone_ros.engine.openai_chat import Reply, jpeg_url, request_fields, retry_after_s
from exaone_ros.engine.request import Image, Picture, Request
from exaone_ros.engine.sampling import GREEDY, Sampling
from exaone_ros.engine.sequence import Outcome
from exaone_ros.engine.server_calls import Call, Calls
from exaone_ros.engine.server_settings import ServerSettings
from exaone_ros.engine.ticket import Ticket
from exaone_ros.engine.timings import Meter, Timings
from exaone_ros.errors import EngineError, ExaoneError, ServerUnavailable, TaskError, require
from exaone_ros.tasks import Task

POLL_S = 0.02
CLOSE_S = 10.0
NO_KEY = "none"
"""What a server that wants no key is given."""


class ServerFrame:
    """A frame ready to be sent: its JPEG is made once for all questions. Holds nothing on the server."""

    def __init__(self, picture: Picture, url: str) -> None:
        self.picture = picture
        self.height_px, self.width_px = picture.image.shape[:2]
        self.url = url

    def release(self) -> None:
        """There is nothing to free."""

    def __enter__(self) -> ServerFrame:
        return self

    def __exit__(self, *reason: object) -> None:
        self.release()


class ServerEngine:
    """Answers tasks on images through a server. Any thread may call any method.

    Args:
        settings: which server, and how it is asked.

    Raises:
        MissingExtra: the client library is not installed.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._openai: Any = require("openai", "server")
        self.settings = settings
        key = os.environ.get(settings.key_variable) or NO_KEY
        self._client: Any = self._openai.OpenAI(
            base_url=settings.url, api_key=key, max_retries=0, timeout=settings.timeout_s
        )
        self._breaker = CircuitBreaker(settings.breaker_failures, settings.breaker_cool_s)
        self._pool = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="server engine")
        self._urls: dict[int, tuple[Picture, str]] = {}
        self._lock = threading.Lock()
        self._meter = Meter()
        self._calls = Calls(self._count)

    @property
    def health(self) -> ServerHealth:
        """The server's named state with its reason."""
        return self._breaker.health

    def look(self, image: Image) -> ServerFrame:
        """Make an image, uint8 RGB [H, W, 3], ready to be sent.

        Raises:
            ImageError: it is no such image.
            EngineError: the engine is closed.
        """
        self._check_open()
        return ServerFrame(Picture(image), jpeg_url(image, self.settings.jpeg_quality))

    def answer(
        self,
        frame: ServerFrame | Image,
        tasks: Ordered[Task],
        *,
        sampling: Sampling = GREEDY,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> FrameAnswers:
        """Answer tasks on a frame, all at the same time; arguments as of `engine.Engine.answer`.

        Raises:
            ImageError: the image cannot be used.
            EngineError: the engine is closed. A server that is gone fails the tasks, see `TaskAnswer.error`.
        """
        meter = Meter()
        if not isinstance(frame, ServerFrame):
            with meter.measure("preprocess_s"):
                frame = self.look(frame)
        tickets = [self._submit(Request(task, (frame.picture,), sampling=sampling), [frame.url]) for task in tasks]
        while not all(ticket.done for ticket in tickets):
            if cancelled():
                for ticket in tickets:
                    ticket.cancel()
                break
            open_ = next(ticket for ticket in tickets if not ticket.done)
            try:
                open_.result(POLL_S)
            except TimeoutError:
                continue
        return FrameAnswers(tuple(ticket.result() for ticket in tickets), meter.read())

    def submit(self, request: Request) -> Ticket:
        """Ask; returns at once. As `service.EngineService.submit`; priorities are the server's business.

        Raises:
            ImageError: a picture cannot be used.
            EngineError: the engine is closed.
        """
        self._check_open()
        return self._submit(request, [self._url(picture) for picture in request.pictures])

    @property
    def refusal(self) -> str:
        """Why new requests are refused for good; empty while they are taken. A degraded server is asked again."""
        return "the engine is closed" if self._calls.closed else ""

    @property
    def open_requests(self) -> int:
        """Requests that have not ended."""
        return self._calls.open

    @property
    def kept_bytes(self) -> int:
        """0: what is kept for later questions is the server's."""
        return 0

    def timings(self) -> Timings:
        """What was done since the engine was opened: time from request to answer and tokens, all requests together."""
        return self._meter.read()

    def close(self, timeout_s: float = CLOSE_S) -> bool:
        """End: what waits or is under way fails now, from whatever thread. May be called twice.

        Args:
            timeout_s: as of `service.EngineService.close`; nothing is waited for here.

        Returns:
            True: everything has an answer.
        """
        self._calls.close()
        self._client.close()
        self._pool.shutdown(wait=False)
        return True

    def __enter__(self) -> ServerEngine:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._calls.closed:
            raise EngineError("the engine is closed; open a new one")

    def _url(self, picture: Picture) -> str:
        """The picture's JPEG, made once as long as it is among the last that were asked about."""
        with self._lock:
            known = self._urls.get(id(picture.image))
            if known is None or known[0].image is not picture.image:
                known = picture, jpeg_url(picture.image, self.settings.jpeg_quality)
                self._urls[id(picture.image)] = known
                while len(self._urls) > 2 * self.settings.concurrency:
                    del self._urls[next(iter(self._urls))]
            return known[1]

    def _submit(self, request: Request, urls: list[str]) -> Ticket:
        # `close` shuts the pool down only after this.
        return self._calls.start(request, lambda call: self._pool.submit(self._work, call, urls)).ticket

    def _count(self, answer: TaskAnswer) -> None:
        self._meter.add("decode_s", answer.latency_s)
        self._meter.add("tokens_sampled", answer.tokens)

    def _work(self, call: Call, urls: list[str]) -> None:
        try:
            answer = self._run(call, urls)
        except ExaoneError as error:
            answer = call.ended(Outcome.FAILED, error=error)
        except Exception as error:  # a task may be anybody's code, and nobody else would wake who waits
            name = call.request.task.name
            answer = call.ended(Outcome.FAILED, error=EngineError(f"task '{name}': {type(error).__name__}: {error}"))
        self._calls.end(call, answer)

    def _run(self, call: Call, urls: list[str]) -> TaskAnswer:
        """Ask until there is an answer, time or tries are used up, or the server refuses."""
        request, settings = call.request, self.settings
        task = request.task
        fields = request_fields(task, urls, settings.model, request.sampling, settings.top_logprobs)
        tries = 0
        while True:
            if call.cancelled:
                return call.ended(Outcome.CANCELLED)
            if call.late:
                return call.ended(Outcome.DEADLINE)
            if self._calls.closed:
                raise EngineError(f"task '{task.name}': the engine was closed")
            if not self._breaker.allow():
                health = self._breaker.health
                raise ServerUnavailable(
                    f"task '{task.name}' is refused: server {settings.address} is {health.state.value} "
                    f"({health.reason}); it is tried again in {health.retry_in_s:.1f} s"
                )
            try:
                reply = self._ask(call, fields)
            except ServerUnavailable as error:
                if call.stopped.is_set():  # we have hung up, which says nothing about the server
                    continue
                if call.late:  # given less time than the server may take: that says nothing about it
                    return call.ended(Outcome.DEADLINE)
                self._breaker.failed(str(error))
                tries += 1
                if tries > settings.retries or call.heard or self._calls.closed:
                    raise
                if call.wait_s > settings.timeout_s:  # whoever asks waits no longer than that for anything
                    raise
                pause_s = max(call.wait_s, settings.backoff_s * 2 ** (tries - 1) * random.uniform(0.5, 1.0))
                if request.deadline_s is not None:
                    pause_s = min(pause_s, max(0.0, request.deadline_s - time.monotonic()))
                call.stopped.wait(pause_s)
                continue
            except ExaoneError as error:
                if isinstance(error.__cause__, self._openai.APIStatusError):  # it refuses, so it is there
                    self._breaker.succeeded()
                raise
            self._breaker.succeeded()
            return self._read(call, reply)

    def _ask(self, call: Call, fields: dict[str, Any]) -> Reply | None:
        """One try; None: it was cancelled, or its deadline came.

        Raises:
            ServerUnavailable: the server was not reached, broke down or took too long.
            TaskError: the server refuses the request.
            EngineError: the server refuses us, or sends what is no reply.
        """
        openai, request, reply = self._openai, call.request, Reply()
        call.wait_s = 0.0
        where = f"task '{request.task.name}': server {self.settings.address}"
        timeout_s = self.settings.timeout_s
        if request.deadline_s is not None:
            timeout_s = max(0.01, min(timeout_s, request.deadline_s - time.monotonic()))
        try:
            with (
                self._client.chat.completions.create(**fields, timeout=timeout_s) as stream,
                call.reading(stream.response),
            ):
                if call.stopped.is_set():
                    return None
                for chunk in stream:
                    call.tell(*reply.add(chunk.model_dump(warnings=False) if hasattr(chunk, "model_dump") else chunk))
                    if call.cancelled or call.late or call.stopped.is_set():
                        return None
        except openai.APITimeoutError as error:
            raise ServerUnavailable(f"{where} sent nothing for {timeout_s:.1f} s") from error
        except openai.APIConnectionError as error:
            raise ServerUnavailable(f"{where} is not reached: {error.__cause__ or error}") from error
        except openai.APIStatusError as error:
            status, said = error.status_code, str(error)[:300]
            if status in (408, 409, 429) or status >= 500:
                call.wait_s = retry_after_s(error.response.headers)
                raise ServerUnavailable(f"{where} answered with status {status}: {said}") from error
            if status in (400, 413, 422):
                raise TaskError(f"{where} refuses the request with status {status}: {said}") from error
            variable = self.settings.key_variable
            raise EngineError(
                f"{where} refuses us with status {status}: {said}; check the address, the model's name "
                f"'{self.settings.model}' and the key in {variable}"
            ) from error
        except openai.OpenAIError as error:  # an error inside of the stream
            raise ServerUnavailable(f"{where} broke off: {error}") from error
        except ValueError as error:  # what came is no JSON
            raise ServerUnavailable(f"{where} sent what is no JSON: {error}") from error
        if reply.finish is None:
            raise ServerUnavailable(f"{where} broke off after {len(reply.text)} characters of the answer")
        return reply

    def _read(self, call: Call, reply: Reply | None) -> TaskAnswer:
        task, request = call.request.task, call.request
        if reply is None or call.late:
            return call.ended(Outcome.CANCELLED if call.cancelled else Outcome.DEADLINE)
        decoded = reply.decoded()
        told: dict[str, Any] = {
            "text": decoded.text, "reasoning": decoded.reasoning, "tokens": len(reply.entries),
        }  # fmt: skip
        cut = reply.finish == "length"
        if cut and task.schema() is not None:
            error = EngineError(
                f"task '{task.name}': the answer did not end within the server's {task.max_tokens} tokens"
            )
            return call.ended(Outcome.FAILED, error=error, **told)
        height_px, width_px = request.pictures[-1].image.shape[:2]
        try:
            result = task.read(decoded, width_px, height_px)
        except ExaoneError as problem:
            return call.ended(Outcome.FAILED, error=problem, **told)
        return call.ended(Outcome.BUDGET if cut else Outcome.DONE, result=result, **told)
