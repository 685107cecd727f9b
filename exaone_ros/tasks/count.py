"""Count: how many of these are there?"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, ClassVar

from exaone_ros.errors import TaskError
from exaone_ros.tasks import wordings
from exaone_ros.tasks.base import Task, checked_index, checked_label
from exaone_ros.tasks.evidence import Decoded
from exaone_ros.tasks.written import value_spans

MAX_COUNT = 99


@dataclass(frozen=True)
class Counted:
    """Attributes: label as asked ("" = all objects); count; probability 0..1 of it (NaN where unknown)."""

    label: str
    count: int
    probability: float


@dataclass(frozen=True, kw_only=True)
class Count(Task):
    """Count objects of one kind.

    Attributes:
        label: what to count, e.g. ``"red cube"`` or ``"mugs"``; empty = all objects.
        wording: which of the wordings to use.
    """

    KIND: ClassVar[str] = "count"

    label: str = ""
    wording: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_index(self.wording, f"task '{self.name}': wording")
        if self.label != "":
            label = checked_label(self.label, f"task '{self.name}': label")
            object.__setattr__(self, "label", label)

    def prompt(self) -> str:
        choices = wordings.COUNT[self.language]
        label = self.label or wordings.ALL_OBJECTS[self.language]
        return wordings.fill(choices[self.wording % len(choices)], label=label)

    def schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": {"count": {"type": "integer", "minimum": 0, "maximum": MAX_COUNT}},
            "required": ["count"],
            "additionalProperties": False,
        }

    @property
    def max_tokens(self) -> int:
        return 32

    def read(self, decoded: Decoded, width_px: int, height_px: int) -> Counted:
        try:
            count = json.loads(decoded.text)["count"]
            if isinstance(count, float) and count.is_integer():  # 3.0 is an integer to JSON Schema
                count = int(count)
            if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MAX_COUNT:
                raise ValueError(f"count is {count!r}; expected an integer from 0 to {MAX_COUNT}")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise TaskError(f"task '{self.name}': {decoded.text[:120]!r} is not a count: {error}") from error
        probability = math.nan
        if decoded.tokens:
            start, end = value_spans(decoded.text)[("count",)]
            # up to the byte behind the last digit: that no further digit follows is part of the count
            probability = decoded.probability_of(start, end + 1)
        return Counted(self.label, count, probability)

    @staticmethod
    def answer(count: int) -> str:
        """The JSON that a perfect model writes (for training)."""
        return json.dumps({"count": count}, separators=(",", ":"))
