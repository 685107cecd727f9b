"""What a chat completion of the OpenAI-compatible API asks of the engine, and how an answer is told in one.

The other end of `openai_chat`; `serve` is the HTTP around it. What is not known is refused.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.answers import TaskAnswer
from exaone_ros.engine.request import Picture
from exaone_ros.engine.sampling import Sampling
from exaone_ros.engine.sequence import Outcome
from exaone_ros.errors import EngineBusy, ImageError, PromptTooLong, TaskError
from exaone_ros.tasks import SYSTEM, Task
from exaone_ros.tasks.evidence import Decoded, TokenEvidence

DEFAULT_TOKENS = 512
LEAST_LOGPROB = -100.0
MOST_LOGPROBS = 20


@dataclass(frozen=True, kw_only=True)
class AnyTask(Task):
    """A question as it came over the wire: its result is what was decoded, with the probabilities.

    Attributes:
        text: what is asked.
        answer_schema: of the answer; None = free text.
        answer_tokens: at most.
    """

    KIND: ClassVar[str] = "chat"

    text: str = ""
    answer_schema: dict[str, Any] | None = None
    answer_tokens: int = DEFAULT_TOKENS

    def prompt(self) -> str:
        return self.text

    def schema(self) -> dict[str, Any] | None:
        return self.answer_schema

    @property
    def max_tokens(self) -> int:
        return self.answer_tokens

    def read(self, decoded: Decoded, width_px: int, height_px: int) -> Decoded:
        return decoded


FIELDS = (
    "model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "presence_penalty",
    "seed", "response_format", "logprobs", "top_logprobs", "stream", "n", "chat_template_kwargs",
)  # fmt: skip
"""Of a request, those that are understood; another one is refused rather than passed over."""


@dataclass(frozen=True)
class Asked:
    """A chat-completion request, checked.

    Attributes:
        task, pictures, sampling: what is asked of the engine.
        stream: the reply comes in pieces.
        top_logprobs: alternatives of each token; None = no logprobs.
    """

    task: AnyTask
    pictures: tuple[Picture, ...]
    sampling: Sampling
    stream: bool
    top_logprobs: int | None


def read_request(body: Any) -> Asked:
    """Check a request's JSON.

    Raises:
        TaskError, ImageError: names the field, what was found and what is served.
    """
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
        raise TaskError("the request has no 'messages'; expected a chat completion")
    unknown = sorted(key for key, value in body.items() if key not in FIELDS and value is not None)
    if unknown:
        raise TaskError(f"the request has {unknown}, which this server does not know; expected {', '.join(FIELDS)}")
    if body.get("n") not in (None, 1):
        raise TaskError(f"n is {body['n']!r}; expected 1, as this server gives one answer to a request")
    *system, user = body["messages"] or [{}]
    if any(message.get("role") != "system" or message.get("content") != SYSTEM for message in system):
        raise TaskError("messages: this server knows its own system text and one turn of the user; send no other")
    parts = user.get("content")
    if user.get("role") != "user" or not isinstance(parts, list):
        raise TaskError("messages: expected a user's turn with a list of image_url and text parts")
    images = [part["image_url"]["url"] for part in parts if part.get("type") == "image_url"]
    texts = [part["text"] for part in parts if part.get("type") == "text"]
    if not images or len(texts) != 1 or len(images) + 1 != len(parts) or parts[-1].get("type") != "text":
        raise TaskError("messages: expected one or more image_url parts and then one text part")
    thinking = (body.get("chat_template_kwargs") or {}).get("enable_thinking", True)
    most = body.get("max_tokens", body.get("max_completion_tokens", DEFAULT_TOKENS))
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise TaskError(f"max_tokens is {most!r}; expected an integer from 1 on")
    # One budget over the wire, two in the engine: reasoning may take what is left beside a short answer.
    answer = most if not thinking else max(1, min(most, 256))
    task = AnyTask(
        text=str(texts[0]), answer_schema=_schema(body.get("response_format")), answer_tokens=answer,
        thinking=bool(thinking), thinking_budget=max(1, most - answer),
    )  # fmt: skip
    sampling = Sampling(
        temperature=float(body.get("temperature", 1.0)), top_p=float(body.get("top_p", 1.0)),
        top_k=_integer(body, "top_k"), presence_penalty=float(body.get("presence_penalty", 0.0)),
        seed=_integer(body, "seed"),
    )  # fmt: skip
    top = _integer(body, "top_logprobs")
    if not 0 <= top <= MOST_LOGPROBS:
        raise TaskError(f"top_logprobs is {top}; expected 0 to {MOST_LOGPROBS}")
    pictures = tuple(_picture(url) for url in images)
    return Asked(task, pictures, sampling, bool(body.get("stream")), top if body.get("logprobs") else None)


def _integer(body: dict[str, Any], key: str) -> int:
    """A number of the request; 0 where it says nothing."""
    value = body.get(key) or 0
    if isinstance(value, bool) or not isinstance(value, int):
        raise TaskError(f"{key} is {value!r}; expected an integer")
    return value


def _schema(form: Any) -> dict[str, Any] | None:
    if form is None or form == {"type": "text"}:
        return None
    try:
        if form["type"] == "json_schema":
            return dict(form["json_schema"]["schema"])
    except (KeyError, TypeError, ValueError):
        pass  # refused below, like every other form
    raise TaskError(f"response_format is {str(form)[:100]}; expected json_schema with a schema, or text")


def _picture(url: Any) -> Picture:
    head, _, data = str(url).partition(",")
    if not head.startswith("data:image/") or not head.endswith(";base64"):
        raise ImageError(f"image_url is {str(url)[:40]!r}; expected a data URL of an image in base64")
    try:
        raw = np.frombuffer(base64.b64decode(data, validate=True), np.uint8)
    except binascii.Error as error:
        raise ImageError(f"image_url: the data is no base64: {error}") from error
    image = cv2.imdecode(raw, cv2.IMREAD_COLOR) if raw.size else None
    if image is None:
        raise ImageError("image_url: the data is no image that can be decoded")
    rgb: NDArray[np.uint8] = np.ascontiguousarray(image[..., ::-1])
    return Picture(rgb, key=hash(data))  # questions on the same frame share its prefix


def logprobs(tokens: Sequence[TokenEvidence], top: int) -> list[dict[str, Any]]:
    """`logprobs.content` for decoded tokens."""

    def entry(text: bytes, probability: float) -> dict[str, Any]:
        value = math.log(probability) if probability > 0 else LEAST_LOGPROB
        return {"token": text.decode("utf-8", "replace"), "bytes": list(text), "logprob": value}

    return [
        entry(token.text, token.probability)
        | {"top_logprobs": [entry(*other) for other in (token.alternatives or [(token.text, 1.0)])[:top]]}
        for token in tokens
    ]


def ending(asked: Asked, answer: TaskAnswer) -> dict[str, Any]:
    """What the last, or only, choice of a reply says beside the text: `finish_reason` and `logprobs`."""
    return {"finish_reason": _finish(answer), "logprobs": _told(asked, answer)}


def _told(asked: Asked, answer: TaskAnswer) -> dict[str, Any] | None:
    decoded = answer.result
    if asked.top_logprobs is None or not isinstance(decoded, Decoded):
        return None
    return {"content": logprobs(decoded.tokens, asked.top_logprobs)}


def _finish(answer: TaskAnswer) -> str:
    """Cut answers are told by their length; an answer behind a reasoning that was closed is not cut."""
    whole = answer.outcome is Outcome.DONE or (answer.outcome is Outcome.BUDGET and answer.task.schema() is not None)
    return "stop" if whole else "length"


def status(answer: TaskAnswer) -> int:
    """The HTTP status of an answer that failed."""
    error = answer.error
    if isinstance(error, (TaskError, ImageError, PromptTooLong)):
        return 400
    return 429 if isinstance(error, EngineBusy) else 500
