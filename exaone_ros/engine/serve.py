"""Serves a checkpoint over the OpenAI-compatible API: `python -m exaone_ros.engine.serve --model DIR --port 8000`.

The other end of `engine.server`, for a second machine with this package and for tests: `/v1/models` and
`/v1/chat/completions` with images as data URLs, `response_format` of a JSON schema, `logprobs`,
`chat_template_kwargs.enable_thinking` and streaming. What it does not know it refuses. The standard library's HTTP
server: for a robot's own network, not for the internet.
"""

from __future__ import annotations

import argparse
import hmac
import json
import os
import queue
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from exaone_ros.engine import served_chat
from exaone_ros.engine.answers import TaskAnswer
from exaone_ros.engine.engine import Engine
from exaone_ros.engine.request import Request
from exaone_ros.engine.sequence import Outcome
from exaone_ros.engine.served_chat import Asked
from exaone_ros.engine.service import EngineService
from exaone_ros.errors import ExaoneError, TaskError
from exaone_ros.pipes import ends_with_its_reader
from exaone_ros.share import share_path

BUNDLED = "models/exaone4_5-tabletop-tiny"
KEY_VARIABLE = "EXAONE_SERVER_API_KEY"
MOST_BODY_BYTES = 64 << 20


class ChatServer(ThreadingHTTPServer):
    """The HTTP server over an engine service.

    Args:
        address: host and port; port 0 = any that is free.
        service: answers.
        name: of the model, as clients must call it.
        key: that clients must send; empty = none.
    """

    daemon_threads = True

    def __init__(self, address: tuple[str, int], service: EngineService, name: str, key: str = "") -> None:
        super().__init__(address, _Handler)
        self.service, self.model_name, self.key = service, name, key

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what went wrong, where something did: clients that are killed between two requests are none of it."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ChatServer

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not worth a line each."""

    def do_GET(self) -> None:
        if not self._authorised():
            return
        if self.path != "/v1/models":
            self._refuse(404, f"no such path: {self.path}")
            return
        self._send(200, {"object": "list", "data": [{"id": self.server.model_name, "object": "model"}]})

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,12}", length) or int(length) > MOST_BODY_BYTES:
            self.close_connection = True
            self._refuse(413, f"Content-Length is {length!r}; expected at most {MOST_BODY_BYTES}")
            return
        raw = self.rfile.read(int(length))
        if not self._authorised():
            return
        if self.path != "/v1/chat/completions":
            self._refuse(404, f"no such path: {self.path}")
            return
        try:
            body = _parsed(raw)
            if isinstance(body, dict) and body.get("model") != self.server.model_name:
                self._refuse(404, f"model is {body.get('model')!r}; this server has '{self.server.model_name}'")
                return
            asked = served_chat.read_request(body)
        except ExaoneError as error:
            self._refuse(400, str(error))
            return
        try:
            (self._stream if asked.stream else self._whole)(asked)
        except ExaoneError as error:  # the service does not take it
            status = served_chat.status(error)
            self._refuse(503 if status == 500 else status, str(error))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client has gone; its question was cancelled

    def _whole(self, asked: Asked) -> None:
        answer = self.server.service.submit(Request(asked.task, asked.pictures, sampling=asked.sampling)).result()
        if answer.outcome is Outcome.FAILED and not answer.text:
            self._refuse(served_chat.status(answer.error), str(answer.error))
            return
        message: dict[str, Any] = {"role": "assistant", "content": answer.text}
        if answer.reasoning:
            message["reasoning_content"] = answer.reasoning
        choice = {"index": 0, "message": message, **served_chat.ending(asked, answer)}
        usage = {"completion_tokens": answer.tokens}
        self._send(200, self._envelope("chat.completion") | {"choices": [choice], "usage": usage})

    def _stream(self, asked: Asked) -> None:
        pieces: queue.Queue[dict[str, Any] | TaskAnswer] = queue.Queue()
        request = Request(
            asked.task, asked.pictures, sampling=asked.sampling,
            on_reasoning=lambda text: pieces.put({"reasoning_content": text}),
            on_text=lambda text: pieces.put({"content": text}),
        )  # fmt: skip
        ticket = self.server.service.submit(request)
        ticket.add_done_callback(pieces.put)
        first = pieces.get()
        if isinstance(first, TaskAnswer) and first.outcome is Outcome.FAILED and not first.text:
            self._refuse(served_chat.status(first.error), str(first.error))
            return
        try:
            self._send_stream(asked, first, pieces)
        finally:
            ticket.cancel()  # without effect where the answer is there; with it where the client has gone

    def _send_stream(
        self, asked: Asked, first: dict[str, Any] | TaskAnswer, pieces: queue.Queue[dict[str, Any] | TaskAnswer]
    ) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in _until_answer(first, pieces):
            if isinstance(piece, TaskAnswer):
                choice = {"index": 0, "delta": {}, **served_chat.ending(asked, piece)}
            else:
                choice = {"index": 0, "delta": piece, "finish_reason": None}
            self._event(json.dumps(self._envelope("chat.completion.chunk") | {"choices": [choice]}))
        self._event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, data: str) -> None:
        raw = f"data: {data}\n\n".encode()
        self.wfile.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")
        self.wfile.flush()

    def _envelope(self, kind: str) -> dict[str, Any]:
        return {"id": "chat", "object": kind, "created": int(time.time()), "model": self.server.model_name}

    def _authorised(self) -> bool:
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.server.key and not hmac.compare_digest(given.encode(), self.server.key.encode()):
            self._refuse(401, "the API key is missing or wrong")
            return False
        return True

    def _refuse(self, status: int, message: str) -> None:
        self._send(status, served_chat.refusal(status, message))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library refuses, told as all else: lines that are no HTTP, methods that are not served."""
        self.close_connection = True  # whatever else has come on it was not read
        status = 405 if code == 501 else code
        self._refuse(status, message or f"status {status}")

    def _send(self, status: int, body: dict[str, Any]) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)


def _parsed(raw: bytes) -> Any:
    """A request's JSON.

    Raises:
        TaskError: it is none.
    """
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:  # also bytes that are no text, a thousand brackets
        raise TaskError(f"the request is no JSON that can be read: {error}") from error


def _until_answer(
    first: dict[str, Any] | TaskAnswer, pieces: queue.Queue[dict[str, Any] | TaskAnswer]
) -> Iterator[dict[str, Any] | TaskAnswer]:
    piece = first
    while not isinstance(piece, TaskAnswer):
        yield piece
        piece = pieces.get()
    yield piece


@ends_with_its_reader
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line until SIGINT or SIGTERM; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m exaone_ros.engine.serve", description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, default=None, help="checkpoint directory; default: the bundled one")
    parser.add_argument("--name", default="", help="name of the model for clients; default: its directory's")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8000, help="0 = any that is free")
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N; backend tensorrt wants cuda")
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument(
        "--visual-tokens", type=int, default=0,
        help="most that an image may take; larger ones are shrunk; 0 = what the checkpoint allows",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    model = options.model or share_path(BUNDLED)
    try:
        engine = Engine.open(
            model, options.backend, slots=options.slots, context=options.context, threads=options.threads,
            device=options.device, visual_tokens=options.visual_tokens,
        )  # fmt: skip
    except ExaoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    with EngineService(engine) as service:
        try:
            server = ChatServer(
                (options.host, options.port), service, options.name or model.name, os.environ.get(KEY_VARIABLE, "")
            )
        except (OSError, OverflowError) as error:  # in use, not ours to use, of another machine, above 65535
            print(
                f"error: cannot listen on {options.host} port {options.port}: {error}; choose another --port (0 = any "
                "that is free) or --host",
                file=sys.stderr,
            )
            return 1
        stop = lambda *signal_: threading.Thread(target=server.shutdown).start()  # noqa: E731
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)
        host, port = server.server_address[:2]
        print(f"serving {server.model_name} at http://{host!s}:{port}/v1", flush=True)
        server.serve_forever()
        server.server_close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
