"""Tasks to chat-completion requests and replies to what tasks read. Knows the API's fields, no network.

The API is OpenAI's as vLLM, SGLang and TensorRT-LLM serve it: images as data URLs, `response_format` with a JSON
schema, `logprobs`, `chat_template_kwargs` for the template's own switches.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.sampling import Sampling
from exaone_ros.errors import EngineError, ImageError
from exaone_ros.tasks import SYSTEM, Task
from exaone_ros.tasks.evidence import Decoded, TokenEvidence

THINK_END = "</think>"
FORCED_FROM = 1 - 1e-6
"""A token that is surer than this had no alternative: a server names others even where its grammar leaves none."""


def jpeg_url(image: NDArray[np.uint8], quality: int) -> str:
    """An image, uint8 RGB [H, W, 3], as a data URL of a JPEG file.

    Raises:
        ImageError: it is no such image.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ImageError(f"image is {found}; expected uint8 [H, W, 3] in RGB")
    try:
        done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    except cv2.error as error:
        raise ImageError(f"image {list(image.shape)} cannot be written as JPEG: {error}") from error
    if not done:
        raise ImageError(f"image {list(image.shape)} cannot be written as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def request_fields(
    task: Task, urls: Sequence[str], model: str, sampling: Sampling, top_logprobs: int, system: str = SYSTEM
) -> dict[str, Any]:
    """Arguments of `client.chat.completions.create` for one question.

    The images come first, so that the server's cache of prefixes serves all questions on a frame.

    Args:
        task: what is asked.
        urls: of its images, in order.
        model: name of the model on the server.
        sampling: how tokens are chosen.
        top_logprobs: alternatives that are asked for with each token; 0 = no probabilities at all.
        system: text of the system turn.
    """
    content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    content.append({"type": "text", "text": task.prompt()})
    template: dict[str, Any] = {"enable_thinking": task.thinking}
    if task.thinking:
        template["thinking_budget"] = task.thinking_budget
    fields: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": content}],
        "max_tokens": task.max_tokens + (task.thinking_budget if task.thinking else 0),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "presence_penalty": sampling.presence_penalty,
        "seed": sampling.seed,
        "stream": True,
        "extra_body": {"chat_template_kwargs": template},
    }
    if sampling.top_k:
        fields["extra_body"]["top_k"] = sampling.top_k
    schema = task.schema()
    if schema is not None:
        named = {"name": "answer", "schema": schema, "strict": True}
        fields["response_format"] = {"type": "json_schema", "json_schema": named}
    if top_logprobs:
        fields |= {"logprobs": True, "top_logprobs": top_logprobs}
    return fields


def retry_after_s(headers: Mapping[str, str]) -> float:
    """Seconds for which a server that refuses asks to be left alone; 0 where it does not say, or by a date."""
    try:
        seconds = float(headers.get("retry-after", 0))
    except ValueError:
        return 0.0
    return seconds if seconds > 0 else 0.0


@dataclass
class Reply:
    """What has come of a streamed reply so far.

    Attributes:
        text, reasoning: so far.
        entries: of `logprobs.content`, so far.
        finish: the finish reason, once it has come.
    """

    text: str = ""
    reasoning: str = ""
    entries: list[Mapping[str, Any]] = field(default_factory=list)
    finish: str | None = None

    def add(self, chunk: Mapping[str, Any]) -> tuple[str, str]:
        """Take in a chunk of the stream; returns the new pieces of reasoning and text.

        Raises:
            EngineError: it is no chunk of a chat completion.
        """
        reasoning = text = ""
        try:
            for choice in chunk.get("choices") or ():
                delta = choice.get("delta") or {}
                reasoning += delta.get("reasoning_content") or delta.get("reasoning") or ""
                text += delta.get("content") or ""
                self.entries += (choice.get("logprobs") or {}).get("content") or ()
                self.finish = choice.get("finish_reason") or self.finish
            reasoning, text = (
                said.encode(errors="replace").decode() for said in (reasoning, text)
            )  # no lone surrogates
        except (AttributeError, TypeError) as error:
            raise EngineError(f"the server sent {str(chunk)[:120]!r}; expected a chunk of a chat completion") from error
        self.reasoning += reasoning
        self.text += text
        return reasoning, text

    def decoded(self) -> Decoded:
        """The reply as tasks read it; without probabilities where the server gave none that fit its text."""
        text, reasoning = self.text, self.reasoning
        if THINK_END in text:  # a server without a parser for reasoning leaves it in the text
            before, _, text = text.partition(THINK_END)
            reasoning = reasoning or before.removeprefix("<think>")
        text = text.strip("\n") if reasoning or text != self.text else text
        return Decoded(text, _evidence(text, self.entries), reasoning.strip())


def _evidence(text: str, entries: Iterable[Mapping[str, Any]]) -> tuple[TokenEvidence, ...]:
    """The probabilities of the tokens of a text: those whose bytes make it up, out of all of a reply."""
    tokens = [_token(entry) for entry in entries]
    wanted = text.encode()
    joined = b"".join(token.text for token in tokens)
    first = joined.rfind(wanted)  # reasoning stands before it, the token that ends the turn behind it
    if first < 0 or not wanted:
        return ()
    chosen, at = [], 0
    for token in tokens:
        if first <= at and at + len(token.text) <= first + len(wanted) and token.text:
            chosen.append(token)
        at += len(token.text)
    return tuple(chosen) if b"".join(token.text for token in chosen) == wanted else ()


def _token(entry: Mapping[str, Any]) -> TokenEvidence:
    try:
        probability = _probability(entry["logprob"])
        if probability >= FORCED_FROM:
            return TokenEvidence(_bytes(entry), 1.0)
        others = tuple((_bytes(other), _probability(other["logprob"])) for other in entry.get("top_logprobs") or ())
        taken = (_bytes(entry), probability)
        if all(text != taken[0] for text, _ in others):
            others = (*others, taken)
        return TokenEvidence(*taken, tuple(sorted(others, key=lambda pair: -pair[1])))
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise EngineError(
            f"the server sent the logprobs {str(entry)[:120]!r}; expected token, logprob, bytes"
        ) from error


def _bytes(entry: Mapping[str, Any]) -> bytes:
    raw = entry.get("bytes")
    if raw is None:
        return str(entry["token"]).encode()
    if not isinstance(raw, list):  # of a number `bytes` would make that many zeros
        raise TypeError(f"bytes are {raw!r}")
    return bytes(raw)


def _probability(logprob: object) -> float:
    value = float(logprob)  # type: ignore[arg-type]
    if math.isnan(value) or value > 1e-3:
        raise ValueError(f"logprob {value}")
    return min(1.0, math.exp(value))
