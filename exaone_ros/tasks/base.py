"""The shape shared by all tasks, and the checks on text that comes from users."""

from __future__ import annotations

import reprlib
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from exaone_ros.errors import TaskError
from exaone_ros.tasks.evidence import Decoded

MAX_LABEL_CHARS = 64
MAX_TEXT_CHARS = 4000
MAX_LABELS = 64
LANGUAGES = ("en", "ko")

_UNSEEN = ("Zs", "Zl", "Zp", "Cf", "Mn")
_FILLERS = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and symbols by their category, of which nothing is seen: Hangul fillers, the Braille pattern of no dots."""

_BIDIRECTIONAL = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Marks that let a text be shown in another order than it has: one label could be shown as another."""


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 2, 80, 80

    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to write an integer of thousands of digits."""
        return f"an integer of {x.bit_length()} bits" if x.bit_length() > 128 else repr(x)


_SHORT = _Short()


def shown(value: object) -> str:
    """A refused value for an error message: in short, as YAML's aliases make gigabytes of a few lines."""
    return _SHORT.repr(value)


def checked_text(value: object, what: str, limit: int, *, newlines: bool = False) -> str:
    """Return `value` stripped and in NFC, or refuse it.

    Text of users is never trusted to be harmless: it is tokenized apart from the chat template (so that it cannot
    close a turn) and enters a schema only through JSON escaping. Control characters and lone surrogates have no
    place in either and are refused here.

    Raises:
        TaskError: not a string, nothing that can be seen, longer than `limit` characters, or with control characters.
    """
    if not isinstance(value, str):
        hint = ": write it in quotes" if isinstance(value, (bool, int, float)) else ""  # as YAML reads yes, no and 7
        raise TaskError(f"{what} is {shown(value)} of type {type(value).__name__}; expected text{hint}")
    text = unicodedata.normalize("NFC", value.strip())
    if not text:
        raise TaskError(f"{what} is empty; expected 1 to {limit} characters")
    if all(unicodedata.category(character) in _UNSEEN or character in _FILLERS for character in text):
        raise TaskError(f"{what} {text[:8]!a} is blank: nothing of it can be seen; expected text")
    if len(text) > limit:
        raise TaskError(f"{what} has {len(text)} characters; expected at most {limit}: shorten it")
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") and not (newlines and character in "\n\t"):
            raise TaskError(f"{what} {text[:40]!r} holds the control character U+{ord(character):04X}; remove it")
    return text


def checked_label(value: object, what: str) -> str:
    """Return a name, a label or an option as `checked_text` does, or refuse it.

    Raises:
        TaskError: as of `checked_text`, or it has marks that change the order in which it is shown.
    """
    text = checked_text(value, what, MAX_LABEL_CHARS)
    for character in text:
        if character in _BIDIRECTIONAL:
            raise TaskError(
                f"{what} {text!a} holds the mark U+{ord(character):04X}, which shows text in another order "
                "than it has; remove it"
            )
    return text


def as_asked(said: str, asked: Sequence[str]) -> str | None:
    """The one of the asked names that is meant, also where it is said with other capital letters, spaces or Unicode
    forms; None: none of them, or more than one."""
    if said in asked:
        return said
    meant = [name for name in asked if _alike(name) == _alike(said)]
    return meant[0] if len(meant) == 1 else None


def _alike(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def one_line(text: str) -> str:
    """Text of the model for people and topics: without control characters and lone surrogates, which cannot be sent,
    whitespace as single spaces."""
    return " ".join("".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in text).split())


def checked_index(value: object, what: str) -> int:
    """Return an integer from 0 on, or refuse it.

    Raises:
        TaskError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TaskError(f"{what} is {shown(value)}; expected an integer from 0 on")
    return value


def checked_labels(values: object, what: str, least: int = 0) -> tuple[str, ...]:
    """Return labels or options as a tuple of distinct checked texts.

    Raises:
        TaskError: not a list, fewer than `least`, more than `MAX_LABELS`, a bad text, or one given twice.
    """
    if isinstance(values, str) or not isinstance(values, (list, tuple)):
        raise TaskError(f"{what} is {shown(values)}; expected a list of texts")
    if not least <= len(values) <= MAX_LABELS:
        raise TaskError(f"{what} has {len(values)} entries; expected {least} to {MAX_LABELS}")
    labels = tuple(checked_label(v, f"{what}[{i}]") for i, v in enumerate(values))
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise TaskError(f"{what} names {twice[0]!r} twice; each may stand once")
    return labels


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A question about one frame. Subclasses: Ground, Count, Decide, Ask.

    Attributes:
        name: identifies the task in topics and logs; 1..64 characters.
        language: of the wording, "en" or "ko".
        thinking: let the model reason between think tags before it answers.
        thinking_budget: tokens of reasoning at most.
    """

    KIND: ClassVar[str] = ""

    name: str = ""
    language: str = "en"
    thinking: bool = False
    thinking_budget: int = 512

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", checked_label(self.name or self.KIND, "task name"))
        if self.language not in LANGUAGES:
            raise TaskError(f"task '{self.name}': language is {shown(self.language)}; expected one of {LANGUAGES}")
        if not isinstance(self.thinking, bool):
            raise TaskError(f"task '{self.name}': thinking is {shown(self.thinking)}; expected true or false")
        budget = self.thinking_budget
        if isinstance(budget, bool) or not isinstance(budget, int) or not 1 <= budget <= 32768:
            raise TaskError(f"task '{self.name}': thinking_budget is {shown(budget)}; expected 1 to 32768 tokens")

    @abstractmethod
    def prompt(self) -> str:
        """The user's text that follows the image in the chat template."""

    @abstractmethod
    def schema(self) -> dict[str, Any] | None:
        """JSON schema that the answer is decoded under, or None for free text."""

    @property
    @abstractmethod
    def max_tokens(self) -> int:
        """Upper bound of the answer's length in tokens (not counting reasoning)."""

    @abstractmethod
    def read(self, decoded: Decoded, width_px: int, height_px: int) -> Any:
        """Read the typed result from what was decoded on an image of the given source size in pixels.

        Raises:
            TaskError: the text is not an answer to this task (cannot happen for text decoded under `schema()`).
        """


@dataclass(frozen=True)
class StandingTask:
    """A task that is asked again and again.

    Attributes:
        task: what is asked.
        rate_hz: how often at most; 0 = on every frame that the engine can take.
        priority: higher runs first.
        deadline_s: from the image's stamp; 0 = none.
        camera: name of the camera; empty = the node's first.
    """

    task: Task
    rate_hz: float = 0.0
    priority: int = 0
    deadline_s: float = 0.0
    camera: str = field(default="")

    def __post_init__(self) -> None:
        name = self.task.name
        for what, value, most in (("rate", self.rate_hz, 1000.0), ("deadline", self.deadline_s, 3600.0)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
                raise TaskError(f"task '{name}': {what} is {shown(value)}; expected 0 to {most:g}")
        if isinstance(self.priority, bool) or not isinstance(self.priority, int) or abs(self.priority) > 1000:
            priority = shown(self.priority)
            raise TaskError(f"task '{name}': priority is {priority}; expected an integer from -1000 to 1000")
        if not isinstance(self.camera, str):
            raise TaskError(f"task '{name}': camera is {shown(self.camera)}; expected the name of a camera")
