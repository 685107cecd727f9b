"""What the engine hands back for a frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from exaone_ros.engine.sequence import Outcome
from exaone_ros.engine.timings import Timings
from exaone_ros.errors import ExaoneError
from exaone_ros.tasks import Task


@dataclass(frozen=True)
class TaskAnswer:
    """The answer to one task, or why there is none.

    Attributes:
        task: what was asked.
        outcome: how it ended.
        result: what `task.read` made of it (Grounding, Counted, Decided, Answer); None unless DONE or BUDGET.
        error: why there is no result; None unless FAILED.
        text: the answer as decoded; what there was of it where it did not come to its end.
        reasoning: the text between the think tags, empty without thinking.
        tokens: of reasoning and answer, forced ones included.
        latency_s: from the call of `Engine.answer` or `EngineService.submit` to the end of this answer.
    """

    task: Task
    outcome: Outcome
    result: Any | None = None
    error: ExaoneError | None = None
    text: str = ""
    reasoning: str = ""
    tokens: int = 0
    latency_s: float = 0.0


@dataclass(frozen=True)
class FrameAnswers:
    """The answers to all tasks asked on one frame.

    Attributes:
        answers: one for each task, in the order of the tasks.
        timings: where the time went.
    """

    answers: tuple[TaskAnswer, ...]
    timings: Timings
