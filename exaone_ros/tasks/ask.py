"""Ask: a free question with an answer in words, for people and for planners that read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from exaone_ros.errors import TaskError
from exaone_ros.tasks.base import MAX_TEXT_CHARS, Task, checked_text, shown
from exaone_ros.tasks.evidence import Decoded


@dataclass(frozen=True)
class Answer:
    """Attributes: text of the answer; reasoning between the think tags, empty without thinking."""

    text: str
    reasoning: str = ""


@dataclass(frozen=True, kw_only=True)
class Ask(Task):
    """Ask anything.

    Attributes:
        question: the question, 1 to 4000 characters.
        answer_tokens: tokens of answer at most.
    """

    KIND: ClassVar[str] = "ask"

    question: str = ""
    answer_tokens: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        question = checked_text(self.question, f"task '{self.name}': question", MAX_TEXT_CHARS, newlines=True)
        object.__setattr__(self, "question", question)
        tokens = self.answer_tokens
        if isinstance(tokens, bool) or not isinstance(tokens, int) or not 1 <= tokens <= 32768:
            raise TaskError(f"task '{self.name}': answer_tokens is {shown(tokens)}; expected 1 to 32768")

    def prompt(self) -> str:
        return self.question

    def schema(self) -> None:
        return None

    @property
    def max_tokens(self) -> int:
        return self.answer_tokens

    def read(self, decoded: Decoded, width_px: int, height_px: int) -> Answer:
        return Answer(decoded.text.strip(), decoded.reasoning)
