"""What a chat completion of the OpenAI-compatible API asks of the engine, and how an answer is told in one.

The other end of `openai_chat`; `serve` is the HTTP around it. What is not known is refused.
"""

from __future__ import annotations

import base64
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
from exaone_ros.engine.served_fields import REQUEST, Fields
from exaone_ros.errors import EngineBusy, EngineHung, ExaoneError, ImageError, PromptTooLong, TaskError
from exaone_ros.tasks import SYSTEM, Task
from exaone_ros.tasks.evidence import Decoded, TokenEvidence

DEFAULT_TOKENS = 512
SHORT_ANSWER = 256
MOST_REASONING = 32768
BUDGET = "thinking_budget"
"""Key of `chat_template_kwargs`: tokens of `max_tokens` that are for the reasoning."""
LEAST_LOGPROB = -100.0
MOST_LOGPROBS = 20
ERROR_KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
"""What the API calls an error beside its status."""


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


def read_request(raw: Any) -> Asked:
    """Check a request's JSON.

    Raises:
        TaskError, ImageError: names the field, what was found and what is served.
    """
    body = Fields(raw, REQUEST, FIELDS)
    body.integer("n", 1, 1, 1)  # this server gives one answer to a request
    text, images = _conversation(body.items("messages"))
    most = body.integer("max_tokens", body.integer("max_completion_tokens", DEFAULT_TOKENS, 1), 1)
    answer, reasoning = _budgets(body, most)
    task = AnyTask(
        text=text, answer_schema=_schema(body.get("response_format")), answer_tokens=answer,
        thinking=reasoning > 0, thinking_budget=max(1, reasoning),
    )  # fmt: skip
    sampling = Sampling(
        temperature=body.number("temperature", 1.0), top_p=body.number("top_p", 1.0), top_k=body.integer("top_k", 0),
        presence_penalty=body.number("presence_penalty", 0.0), seed=body.integer("seed", 0),
    )  # fmt: skip
    top = body.integer("top_logprobs", 0, 0, MOST_LOGPROBS)
    told = body.flag("logprobs", False)
    return Asked(task, tuple(map(_picture, images)), sampling, body.flag("stream", False), top if told else None)


def _conversation(messages: list[Any]) -> tuple[str, list[str]]:
    """What the user asks, and the URLs of what it is asked about."""
    turns = [Fields(message, f"messages[{i}]") for i, message in enumerate(messages)]
    *system, user = turns
    if any(turn.get("role") != "system" or _text(turn.get("content")) != SYSTEM for turn in system):
        raise TaskError("messages: this server knows its own system text and one turn of the user; send no other")
    content = user.get("content")
    if user.get("role") != "user" or not isinstance(content, list):
        raise TaskError("messages: expected a user's turn with a list of image_url and text parts")
    at = f"messages[{len(system)}].content"
    parts = [Fields(part, f"{at}[{i}]") for i, part in enumerate(content)]
    kinds = [part.get("type") for part in parts]
    if len(kinds) < 2 or kinds != ["image_url"] * (len(kinds) - 1) + ["text"]:
        raise TaskError("messages: expected one or more image_url parts and then one text part")
    images = [part.inner("image_url").text("url") for part in parts[:-1]]
    text = parts[-1].text("text")
    if not text.strip():
        raise TaskError(f"{at}[{len(images)}].text is empty; expected a question")
    return text, images


def _text(content: Any) -> Any:
    """The text of a turn that may come as a list of text parts; anything else as it is."""
    parts = content if isinstance(content, list) else []
    texts = [str(part.get("text")) for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    return "\n".join(texts) if len(texts) == len(parts) > 0 else content


def _budgets(body: Fields, most: int) -> tuple[int, int]:
    """Tokens of the answer and of the reasoning before it, 0 = none.

    There is one budget over the wire and two in the engine. Where the request does not say how much of it is the
    reasoning's, that may take what is left beside a short answer.
    """
    raw = body.get("chat_template_kwargs")
    template = Fields({} if raw is None else raw, "chat_template_kwargs", ("enable_thinking", BUDGET))
    if not template.flag("enable_thinking", True):
        return most, 0
    left = min(most - min(most, SHORT_ANSWER), MOST_REASONING)
    reasoning = template.integer(BUDGET, left, 1, max(1, most - 1))
    return max(1, most - reasoning), max(1, reasoning)


def _schema(form: Any) -> dict[str, Any] | None:
    if form is None or form == {"type": "text"}:
        return None
    try:
        if form["type"] == "json_schema":
            return dict(form["json_schema"]["schema"])
    except (KeyError, TypeError, ValueError):
        pass  # refused below, like every other form
    raise TaskError(f"response_format is {str(form)[:100]}; expected json_schema with a schema, or text")


def _picture(url: str) -> Picture:
    head, _, data = url.partition(",")
    if not head.startswith("data:image/") or not head.endswith(";base64"):
        raise ImageError(f"image_url is {url[:40]!r}; expected a data URL of an image in base64")
    try:
        raw = np.frombuffer(base64.b64decode(data, validate=True), np.uint8)
    except ValueError as error:  # also of what is not even ASCII
        raise ImageError(f"image_url: the data is no base64: {error}") from error
    try:
        image = cv2.imdecode(raw, cv2.IMREAD_COLOR) if raw.size else None
    except cv2.error as error:  # more pixels than it takes
        raise ImageError(f"image_url: the image cannot be decoded: {error}") from error
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


def status(error: ExaoneError | None) -> int:
    """The HTTP status of a request that failed: 4xx where another request would not."""
    if isinstance(error, (TaskError, ImageError, PromptTooLong)):
        return 400
    return 429 if isinstance(error, EngineBusy) else 503 if isinstance(error, EngineHung) else 500


def refusal(status: int, message: str) -> dict[str, Any]:
    """The error object of the API."""
    kind = ERROR_KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": status}}
