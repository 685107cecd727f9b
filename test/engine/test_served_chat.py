"""What our own server refuses, it refuses by name, in the form of the API and with a status of its kind."""

from __future__ import annotations

import base64
import copy
import http.client
import json
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from exaone_ros.engine import served_chat
from exaone_ros.engine.answers import TaskAnswer
from exaone_ros.engine.request import Request
from exaone_ros.engine.sequence import Outcome
from exaone_ros.engine.serve import ChatServer
from exaone_ros.errors import (
    EngineBusy,
    EngineError,
    EngineHung,
    ExaoneError,
    ImageError,
    PromptTooLong,
    TaskError,
)
from exaone_ros.tasks import SYSTEM


def url(image: np.ndarray) -> str:
    return "data:image/png;base64," + base64.b64encode(cv2.imencode(".png", image)[1].tobytes()).decode()


IMAGE = {"type": "image_url", "image_url": {"url": url(np.zeros((8, 8, 3), np.uint8))}}
GOOD: dict[str, Any] = {
    "model": "tiny",
    "messages": [{"role": "user", "content": [IMAGE, {"type": "text", "text": "Count: mugs."}]}],
}
ABSENT = object()
URL = ("messages", 0, "content", 0, "image_url", "url")
PIXELS_BEYOND_ALL_SENSE = (
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (1 << 20).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0" + bytes(4)
)


def changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A good request with one value in place of another."""
    body = copy.deepcopy(GOOD)
    inner: Any = body
    for step in path[:-1]:
        inner = inner[step]
    if value is ABSENT:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return body


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("messages",), ABSENT, "messages is None; expected a list with something in it"),
        (("messages",), [], r"messages is \[\]; expected a list with something in it"),
        (("messages", 0), "hi", r"messages\[0\] is 'hi'; expected an object"),
        (("messages", 0, "content"), "hi", "expected a user's turn with a list"),
        (("messages", 0, "content"), [], "one or more image_url parts and then one text part"),
        (("messages", 0, "content", 0), 5, r"messages\[0\]\.content\[0\] is 5; expected an object"),
        (
            ("messages", 0, "content", 0, "image_url"),
            "data:",
            r"content\[0\]\.image_url is 'data:'; expected an object",
        ),
        (URL, ABSENT, r"image_url\.url is None; expected a text"),
        (URL, "http://a/b.png", "expected a data URL of an image"),
        (URL, "data:image/png;base64,@@@", "no base64"),
        (URL, "data:image/png;base64,\u00e9\ud800", "no base64"),
        (URL, "data:image/png;base64," + base64.b64encode(b"hello").decode(), "no image that can be decoded"),
        (URL, "data:image/png;base64," + base64.b64encode(PIXELS_BEYOND_ALL_SENSE).decode(), "image_url: the "),
        (("messages", 0, "content", 1, "text"), ABSENT, r"content\[1\]\.text is None; expected a text"),
        (("messages", 0, "content", 1, "text"), " \n", r"content\[1\]\.text is empty; expected a question"),
        (("stream",), "yes", "stream is 'yes'; expected true or false"),
        (("logprobs",), 1, "logprobs is 1; expected true or false"),
        (("temperature",), "0.5", "temperature is '0.5'; expected a number"),
        (("temperature",), 10**400, r"temperature is 1000.*; expected a number"),
        (("top_p",), float("nan"), "top_p is nan; expected a number"),
        (("presence_penalty",), [], r"presence_penalty is \[\]; expected a number"),
        (("top_k",), "", "top_k is ''; expected an integer"),
        (("seed",), {}, r"seed is \{\}; expected an integer from 0 on"),
        (("max_tokens",), 0, "max_tokens is 0; expected an integer from 1 on"),
        (("max_completion_tokens",), "many", "max_completion_tokens is 'many'"),
        (("chat_template_kwargs",), [1], r"chat_template_kwargs is \[1\]; expected an object"),
        (("chat_template_kwargs",), {"enable_thinking": "no"}, r"enable_thinking is 'no'; expected true or false"),
        (
            ("chat_template_kwargs",),
            {"think": True},
            r"chat_template_kwargs has \['think'\], which this server does not",
        ),
        (("chat_template_kwargs",), {"thinking_budget": 512}, "thinking_budget is 512; expected an integer, 1 to 511"),
        (("response_format",), "json", "response_format is json; expected json_schema"),
    ],
)
def test_a_wrong_value_is_named(path: tuple[Any, ...], value: Any, said: str) -> None:
    with pytest.raises((TaskError, ImageError), match=said):
        served_chat.read_request(changed(path, value))


def test_what_is_null_counts_as_not_there() -> None:
    nothing = dict.fromkeys(served_chat.FIELDS)
    assert served_chat.read_request({**nothing, **GOOD}).task == served_chat.read_request(GOOD).task


@pytest.mark.parametrize("system", [SYSTEM, [{"type": "text", "text": SYSTEM}]])
def test_the_system_turn_is_a_text_or_a_list_of_its_parts(system: Any) -> None:
    turn = {"role": "system", "content": system}
    assert served_chat.read_request({**GOOD, "messages": [turn, *GOOD["messages"]]}).task.text == "Count: mugs."


@pytest.mark.parametrize(
    "system", ["another", [], None, [{"type": "text"}], [{"type": "text", "text": SYSTEM}, IMAGE], [SYSTEM], 5]
)
def test_another_system_turn_is_refused(system: Any) -> None:
    turn = {"role": "system", "content": system}
    with pytest.raises(TaskError, match="this server knows its own system text"):
        served_chat.read_request({**GOOD, "messages": [turn, *GOOD["messages"]]})


@pytest.mark.parametrize(
    ("most", "template", "answer", "reasoning"),
    [
        (None, None, 256, 256),
        (1000, {}, 256, 744),
        (1000, {"enable_thinking": False}, 1000, 0),
        (1000, {"enable_thinking": True, "thinking_budget": 40}, 960, 40),
        (100_000, {}, 67232, 32768),
        (1, {}, 1, 1),
    ],
)
def test_one_budget_over_the_wire_is_two(most: Any, template: Any, answer: int, reasoning: int) -> None:
    task = served_chat.read_request({**GOOD, "max_tokens": most, "chat_template_kwargs": template}).task
    assert (task.max_tokens, task.thinking_budget if task.thinking else 0) == (answer, reasoning)


class Service:
    """In place of an engine: refuses at once, or answers with a failure."""

    refusal: ExaoneError | None = None
    failure: ExaoneError | None = None

    def submit(self, request: Request) -> Any:
        if self.refusal is not None:
            raise self.refusal
        answer = TaskAnswer(request.task, Outcome.FAILED, error=self.failure)
        return SimpleNamespace(
            result=lambda: answer, add_done_callback=lambda callback: callback(answer), cancel=lambda: None
        )


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    with ChatServer(("127.0.0.1", 0), Service(), "tiny") as server:  # type: ignore[arg-type]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def send(
    server: ChatServer, body: bytes | None, method: str = "POST", path: str = "/v1/chat/completions", **headers: str
) -> tuple[int, Any]:
    """The status and the error of a reply; its form is checked."""
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=30)  # type: ignore[arg-type]
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        raw = response.read()
    finally:
        connection.close()
    if method == "HEAD":
        assert not raw
        return response.status, ""
    error = json.loads(raw)["error"]
    assert isinstance(error["message"], str) and isinstance(error["type"], str)
    assert error["code"] == response.status and error["param"] is None
    return response.status, error["message"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[" * 100_000, b"1" * 5000, b"\xff\xfe", b"null", b'"x"', json.dumps({**GOOD, "n": 2}).encode()],
)
def test_what_is_no_request_is_a_400(server: ChatServer, body: bytes) -> None:
    status, said = send(server, body)
    assert status == 400 and said


def test_other_ways_to_be_wrong_have_their_own_status(server: ChatServer) -> None:
    good = json.dumps(GOOD).encode()
    assert send(server, json.dumps({**GOOD, "model": ["tiny"]}).encode())[0] == 404
    assert send(server, good, path="/v1/completions")[0] == 404
    assert send(server, None, "GET", "/v1")[0] == 404
    for method in ("PUT", "DELETE", "OPTIONS", "HEAD"):
        assert send(server, None, method)[0] == 405
    for length in ("-1", "\xb2", "9" * 5000, str(1 << 40)):
        assert send(server, None, **{"Content-Length": length})[0] == 413


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TaskError("x"), 400), (ImageError("x"), 400), (PromptTooLong("x"), 400), (EngineBusy("x"), 429),
        (EngineHung("x"), 503), (EngineError("x"), 500),
    ],
)  # fmt: skip
def test_a_failed_question_has_the_status_of_its_error(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, error: ExaoneError, status: int, stream: bool
) -> None:
    body = json.dumps({**GOOD, "stream": stream}).encode()
    monkeypatch.setattr(Service, "failure", error)
    assert send(server, body) == (status, "x")
    monkeypatch.setattr(Service, "refusal", error)  # not even taken: another time it may be
    assert send(server, body) == (503 if status == 500 else status, "x")
