"""The server engine against a real server process, and against servers that fail in every way that is told of them."""

from __future__ import annotations

import base64
import contextlib
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("openai")
pytest.importorskip("onnxruntime")

from support.served import KEY, KEY_VARIABLE, PATIENCE_S, Served

from exaone_ros.engine import serve, served_chat
from exaone_ros.engine.breaker import CircuitBreaker, ServerState
from exaone_ros.engine.engine import Engine
from exaone_ros.engine.openai_chat import jpeg_url
from exaone_ros.engine.request import Picture, Request
from exaone_ros.engine.sequence import Outcome
from exaone_ros.engine.server import ServerEngine
from exaone_ros.engine.server_settings import ServerSettings
from exaone_ros.errors import EngineError, ImageError, ServerUnavailable, TaskError
from exaone_ros.tasks import Ask, Count, Decide, Ground, Task

TASKS: list[Task] = [
    Ground(name="objects"),
    Count(name="count"),
    Decide(name="way", instruction="Is the way clear?", options=("clear", "blocked", "person")),
    Decide(name="stop", instruction="Stop?", options=("yes", "no"), thinking=True, thinking_budget=40),
    Ask(name="what", question="이것은 무엇이야?", answer_tokens=8),
]


def picture(seed: int = 0) -> np.ndarray:
    """A picture that JPEG changes little: smooth, with coloured boxes."""
    rng = np.random.default_rng(seed)
    image = np.full((240, 320, 3), 150, np.uint8)
    for _ in range(4):
        x, y = rng.integers(20, 240), rng.integers(20, 180)
        image[y : y + 40, x : x + 40] = rng.integers(0, 256, 3)
    return cv2.GaussianBlur(image, (5, 5), 0)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    served = Served()
    yield served
    assert served.end() == 0


def settings(url: str, **changes: Any) -> ServerSettings:
    calm: dict[str, Any] = {"timeout_s": PATIENCE_S, "retries": 0, "backoff_s": 0.01, "top_logprobs": 20}
    return ServerSettings(url, "tiny", **{**calm, **changes})


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)


def test_a_server_gives_the_results_of_the_engine_at_hand(served: Served, model_dir: Path) -> None:
    image = picture()
    data = np.frombuffer(base64.b64decode(jpeg_url(image, 92).partition(",")[2]), np.uint8)
    as_sent = np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])
    with Engine.open(model_dir, threads=1) as here:
        expected = here.answer(as_sent, TASKS).answers
    with ServerEngine(settings(served.url)) as engine, engine.look(image) as frame:
        found = engine.answer(frame, TASKS)
        assert engine.health.state is ServerState.OK
    assert found.timings.total_s > 0
    for there, local in zip(found.answers, expected, strict=True):
        assert (there.outcome, there.text, there.reasoning) == (local.outcome, local.text, local.reasoning)
        assert type(there.result) is type(local.result)
    objects, decided = found.answers[0].result, found.answers[2].result
    assert [(d.label, d.box) for d in objects.detections] == [(d.label, d.box) for d in expected[0].result.detections]
    assert objects.detections
    for there, local in zip(objects.detections, expected[0].result.detections, strict=True):
        assert there.score == pytest.approx(local.score, abs=0.03)
    assert decided.probabilities == pytest.approx(expected[2].result.probabilities, abs=0.03)


def test_tickets_stream_what_is_said_and_can_be_cancelled(served: Served) -> None:
    with ServerEngine(settings(served.url)) as engine:
        heard: list[str] = []
        thought: list[str] = []
        one = Picture(picture(1))
        stop = Decide(name="stop", instruction="Stop?", options=("yes", "no"), thinking=True, thinking_budget=60)
        ticket = engine.submit(Request(stop, (one,), on_text=heard.append, on_reasoning=thought.append))
        answer = ticket.result(PATIENCE_S)
        assert answer.outcome in (Outcome.DONE, Outcome.BUDGET), answer.error
        assert "".join(heard) == answer.text and "".join(thought).strip() == answer.reasoning
        late = Request(Count(), (one,), deadline_s=time.monotonic() - 1)
        assert engine.submit(late).result(PATIENCE_S).outcome is Outcome.DEADLINE
        begun = threading.Event()
        long = Ask(name="long", question="?", answer_tokens=400)
        talking = engine.submit(Request(long, (one,), on_text=lambda text: begun.set()))
        assert begun.wait(PATIENCE_S)
        talking.cancel()
        assert talking.result(PATIENCE_S).outcome in (Outcome.CANCELLED, Outcome.DONE, Outcome.BUDGET)
        both = engine.answer(picture(1), [Count(), Count(name="other")], cancelled=lambda: True)
        assert {a.outcome for a in both.answers} <= {Outcome.CANCELLED, Outcome.DONE}


def test_a_wrong_key_or_name_is_named_and_not_tried_again(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    with ServerEngine(ServerSettings(served.url, "huge")) as engine:
        (answer,) = engine.answer(picture(), [Count()]).answers
        assert "status 404" in str(answer.error) and "model's name 'huge'" in str(answer.error)
    monkeypatch.setenv(KEY_VARIABLE, "another")
    with ServerEngine(settings(served.url)) as engine:
        (answer,) = engine.answer(picture(), [Count()]).answers
        assert "status 401" in str(answer.error) and "EXAONE_SERVER_API_KEY" in str(answer.error)
        assert not isinstance(answer.error, ServerUnavailable)


def test_a_request_that_the_server_refuses_is_the_task_s_error(served: Served) -> None:
    with ServerEngine(settings(served.url)) as engine:
        long = Ask(question="word " * 700, answer_tokens=400)
        (answer,) = engine.answer(picture(), [long]).answers
        assert isinstance(answer.error, TaskError) and "status 400" in str(answer.error)
        assert engine.health.state is ServerState.OK


def test_a_server_that_dies_in_the_middle_fails_by_name_and_is_degraded() -> None:
    served = Served()
    try:
        with ServerEngine(settings(served.url, breaker_failures=1, breaker_cool_s=3600.0)) as engine:
            begun = threading.Event()
            long = Ask(name="long", question="?", answer_tokens=800, thinking=True, thinking_budget=100)
            ticket = engine.submit(
                Request(long, (Picture(picture()),), on_reasoning=lambda text: _hold(begun, served), on_text=str)
            )
            assert begun.wait(PATIENCE_S)
            answer = ticket.result(PATIENCE_S)
            assert answer.outcome is Outcome.FAILED
            assert isinstance(answer.error, ServerUnavailable), answer.error
            assert engine.health.state is ServerState.DEGRADED and engine.health.reason
            (refused,) = engine.answer(picture(), [Count()]).answers
            assert "is degraded" in str(refused.error) and "tried again in" in str(refused.error)
    finally:
        served.end(signal.SIGKILL)


def _hold(begun: threading.Event, served: Served) -> None:
    """At the first piece the server is killed; what it has sent by then may still be read."""
    if not begun.is_set():
        served.process.kill()
        served.process.wait(PATIENCE_S)
        begun.set()


class Scripted:
    """A server in this process that does what it is told, one reply after the other; the last is repeated."""

    def __init__(self, *script: Callable[[BaseHTTPRequestHandler], None]) -> None:
        self.requests: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None: ...

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append(body)
                script[min(len(outer.requests), len(script)) - 1](self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Scripted:
        self._thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def says(*contents: str, finish: str | None = "stop", **delta: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """A stream of pieces; no `finish` = the connection ends before the answer does."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        for content in contents:
            chunk = {"choices": [{"index": 0, "delta": {"content": content, **delta}}]}
            handler.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        if finish is not None:
            chunk = {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
            handler.wfile.write(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode())

    return reply


def status(code: int) -> Callable[[BaseHTTPRequestHandler], None]:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_error(code)

    return reply


def ask(url: str, task: Task | None = None, **changes: Any) -> tuple[Any, ServerEngine]:
    with ServerEngine(settings(url, **changes)) as engine:
        (answer,) = engine.answer(picture(), [task or Count()]).answers
    return answer, engine


def test_what_is_sent_is_what_servers_understand() -> None:
    with Scripted(says('{"choice":"go","reason":"x"}')) as server:
        task = Decide(instruction="Go?", options=("go", "stop"), reason=True, thinking=True)
        answer, _ = ask(server.url, task, top_logprobs=3)
    (body,) = server.requests
    assert body["response_format"]["json_schema"]["schema"] == task.schema()
    assert body["chat_template_kwargs"] == {"enable_thinking": True, "thinking_budget": 512}
    assert (body["logprobs"], body["top_logprobs"], body["stream"]) == (True, 3, True)
    image, text = body["messages"][1]["content"]
    assert image["image_url"]["url"].startswith("data:image/jpeg;base64,") and text["text"] == task.prompt()
    assert answer.result.choice == "go"


def test_a_server_that_recovers_is_asked_again_and_the_jpeg_is_made_once() -> None:
    good = says('{"count":', "3}")
    with Scripted(status(500), status(503), good) as server:
        answer, engine = ask(server.url, retries=2)
        assert answer.outcome is Outcome.DONE and answer.result.count == 3
        assert len(server.requests) == 3
        assert len({json.dumps(body["messages"]) for body in server.requests}) == 1
        assert engine.health.state is ServerState.OK


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (status(500), "status 500"),
        (status(429), "status 429"),
        (says('{"count":', finish=None), "broke off after 9 characters"),
        (lambda handler: handler.connection.close(), "is not reached"),
    ],
)
def test_what_a_broken_server_does_is_named(script: Callable[[Any], None], message: str) -> None:
    with Scripted(script) as server:
        answer, _ = ask(server.url, retries=1)
        assert len(server.requests) == 2
    assert answer.outcome is Outcome.FAILED
    assert isinstance(answer.error, ServerUnavailable) and message in str(answer.error)


@pytest.mark.parametrize("code", [400, 401, 404, 422])
def test_a_refusal_proves_that_the_server_is_there(code: int) -> None:
    with (
        Scripted(status(500), status(code), status(500)) as server,
        ServerEngine(settings(server.url, breaker_failures=2)) as engine,
    ):
        outcomes = [type(engine.answer(picture(), [Count()]).answers[0].error) for _ in range(3)]
        assert engine.health.state is ServerState.OK
    assert outcomes[0] is outcomes[2] is ServerUnavailable
    assert outcomes[1] in (TaskError, EngineError)


@pytest.mark.parametrize("end", ["cancel", "close"])
def test_a_pause_before_another_try_ends_with_the_question(end: str) -> None:
    with Scripted(status(500)) as server, ServerEngine(settings(server.url, retries=1, backoff_s=60)) as engine:
        ticket = engine.submit(Request(Count(), (Picture(picture()),)))
        while not engine.health.reason:  # the first try has not failed yet
            assert not ticket.done
        if end == "cancel":
            ticket.cancel()
            assert ticket.result(10).outcome is Outcome.CANCELLED
        else:
            assert engine.close()
            assert ticket.result(10).outcome is Outcome.FAILED
        assert engine.open_requests == 0 and len(server.requests) == 1


class Lively:
    """A reply that never ends and is no answer: signs of life, or nothing at all."""

    def __init__(self, sign: bytes) -> None:
        self._sign = sign
        self.begun, self.left, self.released = threading.Event(), threading.Event(), threading.Event()

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        if self._sign:
            says(finish=None)(handler)
        self.begun.set()
        try:
            while not self.released.wait(0.02):
                handler.wfile.write(self._sign)
        except OSError:  # the client has hung up
            self.left.set()


@pytest.mark.parametrize("sign", [b": still in the queue\n\n", b"d", b""])
@pytest.mark.parametrize("end", ["cancel", "deadline", "close"])
def test_whoever_waits_no_more_is_answered_whatever_the_server_does(end: str, sign: bytes) -> None:
    lively = Lively(sign)
    with Scripted(lively) as server, ServerEngine(settings(server.url, timeout_s=2 * PATIENCE_S)) as engine:
        deadline_s = time.monotonic() + 1 if end == "deadline" else None
        ticket = engine.submit(Request(Count(), (Picture(picture()),), deadline_s=deadline_s))
        if end != "deadline":
            assert lively.begun.wait(PATIENCE_S)
        if end == "cancel":
            ticket.cancel()
        if end == "close":
            assert engine.close()
        answer = ticket.result(PATIENCE_S)
        expected = {"cancel": Outcome.CANCELLED, "deadline": Outcome.DEADLINE, "close": Outcome.FAILED}
        assert answer.outcome is expected[end]
        assert end != "close" or "the engine was closed" in str(answer.error)
        assert engine.open_requests == 0 and engine.health.state is ServerState.OK
        if sign and lively.begun.is_set():
            assert lively.left.wait(PATIENCE_S), "nobody listens, and the server is not told"
        lively.released.set()


def test_closed_by_a_callback_everybody_is_answered_and_every_connection_hung_up() -> None:
    """Each server thread says nothing behind its headers: only a connection that ends wakes who reads there."""
    begun, left = threading.Semaphore(0), threading.Semaphore(0)

    def silent(handler: BaseHTTPRequestHandler) -> None:
        says(finish=None)(handler)
        handler.wfile.flush()
        begun.release()
        with contextlib.suppress(ConnectionError):  # hung up before the client had read the headers
            assert handler.rfile.read(1) == b""
        left.release()

    with Scripted(silent) as server:
        engine = ServerEngine(settings(server.url, timeout_s=4 * PATIENCE_S))
        tickets = [engine.submit(Request(Count(), (Picture(picture()),))) for _ in range(3)]
        assert all(begun.acquire(timeout=PATIENCE_S) for _ in tickets)
        ended: list[bool] = []
        others: list[bool] = []
        called = threading.Event()  # a ticket tells its result first, then calls

        def closing(answer: object) -> None:
            ended.append(engine.close())
            others.extend(ticket.done for ticket in tickets[1:])
            called.set()

        tickets[0].add_done_callback(closing)
        tickets[0].cancel()
        outcomes = [ticket.result(PATIENCE_S).outcome for ticket in tickets]
        assert outcomes == [Outcome.CANCELLED, Outcome.FAILED, Outcome.FAILED]
        assert all(left.acquire(timeout=PATIENCE_S) for _ in tickets)
        assert called.wait(PATIENCE_S)
        assert ended == [True] and others == [True, True]


@pytest.mark.parametrize("fault", [ValueError, KeyError])
def test_a_listener_that_fails_is_not_called_again_and_harms_nothing(fault: type[Exception]) -> None:
    heard: list[str] = []

    def listener(text: str) -> None:
        heard.append(text)
        raise fault("as somebody's code may")

    with Scripted(says('{"count":', "3}")) as server, ServerEngine(settings(server.url)) as engine:
        answer = engine.submit(Request(Count(), (Picture(picture()),), on_text=listener)).result(PATIENCE_S)
        assert answer.outcome is Outcome.DONE and answer.result.count == 3
        assert heard == ['{"count":'] and not engine.health.reason


def busy(seconds: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(429)
        handler.send_header("Retry-After", seconds)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return reply


def test_a_server_that_asks_for_a_pause_gets_it() -> None:
    good = says('{"count":3}')
    with Scripted(busy("0.01"), busy("soon"), good) as server:
        answer, _ = ask(server.url, retries=2, backoff_s=0)
        assert answer.outcome is Outcome.DONE and len(server.requests) == 3
    with Scripted(busy("50"), good) as server, ServerEngine(settings(server.url, retries=1, backoff_s=0)) as engine:
        late = Request(Count(), (Picture(picture()),), deadline_s=time.monotonic() + 1)
        assert engine.submit(late).result(PATIENCE_S).outcome is Outcome.DEADLINE
        assert len(server.requests) <= 1
    with Scripted(busy("86400"), good) as server:
        answer, _ = ask(server.url, retries=3)
        assert isinstance(answer.error, ServerUnavailable) and "status 429" in str(answer.error)
        assert len(server.requests) == 1, "longer than anybody waits for anything"


@pytest.mark.parametrize(
    "chunk", ["[1, 2]", '"x"', "3", '{"choices": "abc"}', '{"choices": [{"delta": {"content": []}}, 3]}']
)
def test_what_is_no_chunk_of_an_answer_is_named(chunk: str) -> None:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        says(finish=None)(handler)
        handler.wfile.write(f"data: {chunk}\n\n".encode())

    with Scripted(reply) as server:
        answer, _ = ask(server.url)
    assert "the server sent" in str(answer.error) and "expected a chunk" in str(answer.error)


def test_asking_while_the_engine_closes_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed between the check at the door and the queue, as another thread may."""
    engine = ServerEngine(settings("http://127.0.0.1:1/v1"))
    make_url = engine._url

    def url_then_close(picture: Picture) -> str:
        url = make_url(picture)
        engine.close()
        return url

    monkeypatch.setattr(engine, "_url", url_then_close)
    with pytest.raises(EngineError, match="the engine is closed"):
        engine.submit(Request(Count(), (Picture(picture()),)))
    assert engine.open_requests == 0 and engine.close()


def test_a_server_that_is_slow_is_given_up() -> None:
    release = threading.Event()
    with Scripted(lambda handler: release.wait(PATIENCE_S) and None) as server:
        answer, _ = ask(server.url, timeout_s=0.3)
        release.set()
    assert isinstance(answer.error, ServerUnavailable) and "sent nothing for 0.3 s" in str(answer.error)


def test_nobody_is_there() -> None:
    with Scripted(status(500)) as server:
        url = server.url
    answer, _ = ask(url)
    assert isinstance(answer.error, ServerUnavailable) and "is not reached" in str(answer.error)


def test_what_is_secret_in_an_address_is_in_no_error() -> None:
    """Errors end in logs, in diagnostics and on topics."""
    with Scripted(status(500)) as server:
        url = server.url.replace("://", "://me:secret@") + "?key=secret"
    with ServerEngine(ServerSettings(url, "m", retries=0, breaker_failures=1)) as engine:
        for expected in ("is not reached", "is degraded"):
            (answer,) = engine.answer(picture(), [Count()]).answers
            assert expected in str(answer.error) and "secret" not in str(answer.error)
    for url in ("ftp://me:secret@brain/v1", "http://me:secret@[brain", "http://me:secret@brain:port/v1"):
        with pytest.raises(EngineError, match="server: url is") as refused:
            ServerSettings(url, "m")
        assert "secret" not in str(refused.value)


def test_an_answer_of_which_a_part_was_heard_is_not_said_twice() -> None:
    heard: list[str] = []
    with Scripted(says('{"count":', finish=None)) as server, ServerEngine(settings(server.url, retries=3)) as engine:
        ticket = engine.submit(Request(Count(), (Picture(picture()),), on_text=heard.append))
        assert isinstance(ticket.result(PATIENCE_S).error, ServerUnavailable)
    assert heard == ['{"count":'] and len(server.requests) == 1


@pytest.mark.parametrize("text", ['{"count": "many"}', "three", "", '{"choice": 3}'])
def test_json_of_another_kind_is_the_task_s_failure_not_the_server_s(text: str) -> None:
    with Scripted(says(text)) as server:
        answer, engine = ask(server.url)
    assert answer.outcome is Outcome.FAILED and isinstance(answer.error, TaskError)
    assert answer.text == text and engine.health.state is ServerState.OK


def test_json_is_read_however_the_server_writes_it() -> None:
    with Scripted(says('{\n  "count" : 3\n}\n')) as server:
        answer, _ = ask(server.url)
    assert answer.outcome is Outcome.DONE and answer.result.count == 3


def test_what_cannot_be_sent_on_is_not_handed_on() -> None:
    """Half of a surrogate pair is JSON, but no message and no file can hold it."""
    with Scripted(says("a \ud83d mug", reasoning_content="\udc00")) as server:
        answer, _ = ask(server.url, Ask(question="?"))
    assert (answer.result.text, answer.text, answer.reasoning) == ("a ? mug", "a ? mug", "?")


def test_cut_answers_are_told_by_their_kind() -> None:
    with Scripted(says('{"count":', finish="length")) as server:
        answer, _ = ask(server.url)
    assert answer.outcome is Outcome.FAILED and "did not end within" in str(answer.error)
    with Scripted(says("a mug and", finish="length")) as server:
        answer, _ = ask(server.url, Ask(question="?"))
    assert answer.outcome is Outcome.BUDGET and answer.text == "a mug and"


def test_reasoning_is_found_where_servers_put_it() -> None:
    task = Decide(instruction="?", options=("a", "b"), reason=False, thinking=True)
    for script in (
        says('<think>\nhm\n</think>\n\n{"choice":"a"}'),
        says('hm\n</think>\n\n{"choice":"a"}'),
        says('{"choice":"a"}', reasoning_content="hm"),
        says('{"choice":"a"}', reasoning="hm"),
    ):
        with Scripted(script) as server:
            answer, _ = ask(server.url, task)
        assert (answer.outcome, answer.reasoning, answer.result.choice) == (Outcome.DONE, "hm", "a"), answer


def test_the_breaker_opens_and_lets_one_through_after_a_while() -> None:
    now = [0.0]
    breaker = CircuitBreaker(2, 10.0, clock=lambda: now[0])
    breaker.failed("a")
    assert breaker.allow() and breaker.health.state is ServerState.OK
    breaker.failed("b")
    assert breaker.health.state is ServerState.DEGRADED and breaker.health.reason == "b"
    assert breaker.health.retry_in_s == 10.0
    assert not breaker.allow()
    now[0] = 10.0
    assert breaker.allow() and not breaker.allow()
    breaker.failed("c")
    now[0] = 20.0
    assert breaker.allow()
    breaker.succeeded()
    assert breaker.allow() and breaker.health.state is ServerState.OK


@pytest.mark.parametrize(
    "bad",
    [
        {"url": "localhost:8000"}, {"model": ""}, {"retries": -1}, {"top_logprobs": 21}, {"jpeg_quality": 0},
        {"timeout_s": 0}, {"concurrency": True},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(EngineError, match=f"server: {next(iter(bad))} is"):
        ServerSettings(**{"url": "http://localhost:1/v1", "model": "m", **bad})


def test_after_close_nothing_is_asked_and_bad_images_are_refused() -> None:
    engine = ServerEngine(settings("http://127.0.0.1:1/v1"))
    with pytest.raises(ImageError, match="expected uint8"):
        engine.look(np.zeros((4, 4), np.uint8))
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.answer(picture(), [Count()])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"top_k": float("inf")}, "top_k is inf"), ({"seed": 1.5}, "seed is 1.5"), ({"top_k": True}, "top_k is True"),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs is -1"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs is 21"), ({"temperature": 11}, "temperature is 11"),
        ({"n": 2}, "n is 2"), ({"stop": ["."]}, r"has \['stop'\], which this server does not know"),
    ],
)  # fmt: skip
def test_a_request_out_of_range_is_refused_by_our_own_server(wrong: dict[str, Any], said: str) -> None:
    content = [{"type": "image_url", "image_url": {"url": jpeg_url(picture(), 92)}}, {"type": "text", "text": "?"}]
    body = {"messages": [{"role": "user", "content": content}]}
    assert served_chat.read_request({**body, "top_k": 3, "seed": None}).sampling.top_k == 3
    with pytest.raises(TaskError, match=said):
        served_chat.read_request({**body, **wrong})


def test_a_client_that_is_killed_is_no_error_of_our_server_and_what_else_fails_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    service: Any = None  # nobody asks
    with serve.ChatServer(("127.0.0.1", 0), service, "tiny") as server:
        for error in (ConnectionResetError("gone"), ValueError("broken")):
            try:
                raise error
            except Exception:
                server.handle_error(None, ("127.0.0.1", 1))
    told = capsys.readouterr().err
    assert "ValueError: broken" in told and "gone" not in told


def test_the_command_line_reaches_the_engine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: dict[str, object] = {}

    def refuse(*_arguments: object, **named: object) -> None:
        given.update(named)
        raise EngineError("enough")

    monkeypatch.setattr(serve.Engine, "open", refuse)
    assert serve.main(["--visual-tokens", "300", "--context", "700"]) == 1
    assert (given["visual_tokens"], given["context"]) == (300, 700)
    assert capsys.readouterr().err == "error: enough\n"


def test_a_port_that_cannot_be_listened_on_is_one_line_and_a_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve.Engine, "open", lambda *_arguments, **_named: None)
    monkeypatch.setattr(serve, "EngineService", lambda _engine: nullcontext())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for port in (taken.getsockname()[1], 99999):
            assert serve.main(["--port", str(port)]) == 1
            said = capsys.readouterr().err
            assert said.startswith(f"error: cannot listen on 127.0.0.1 port {port}: ") and said.count("\n") == 1
