"""Ground: where are these things? Boxes in pixels of the source image, each with a label that was asked for."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, ClassVar

from exaone_ros.errors import TaskError
from exaone_ros.tasks import wordings
from exaone_ros.tasks.base import MAX_LABEL_CHARS, Task, as_asked, checked_index, checked_labels, one_line
from exaone_ros.tasks.evidence import Decoded
from exaone_ros.tasks.written import value_spans

MAX_BOXES = 64
SCALE = 1000
"""Boxes are [x1, y1, x2, y2], normalised by width and height and scaled to this (technical report, 2.2.2)."""


@dataclass(frozen=True)
class Detection:
    """One located object.

    Attributes:
        label: one of the labels asked for, or the model's own where everything was asked for.
        box: (x1, y1, x2, y2) in pixels of the source image, top-left and bottom-right corner, x2 > x1, y2 > y1.
        score: 0..1, see `object_scores`; NaN where the engine gives no probabilities.
    """

    label: str
    box: tuple[float, float, float, float]
    score: float


@dataclass(frozen=True)
class Grounding:
    """All located objects of one frame, in the model's order (left to right). Empty: nothing was seen.

    Attributes:
        detections: the located objects.
        rejected: boxes that the model wrote without an area (x2 <= x1 or y2 <= y1); they are left out.
    """

    detections: tuple[Detection, ...]
    rejected: int = 0


@dataclass(frozen=True, kw_only=True)
class Ground(Task):
    """Locate objects.

    Attributes:
        classes: what to locate, e.g. ``("red cube", "mug", "leftmost ball")``; empty = every object.
        wording: which of the wordings to use (training and evaluation use them all).
    """

    KIND: ClassVar[str] = "ground"

    classes: tuple[str, ...] = ()
    wording: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_index(self.wording, f"task '{self.name}': wording")
        object.__setattr__(self, "classes", checked_labels(self.classes, f"task '{self.name}': classes"))

    def prompt(self) -> str:
        table = wordings.GROUND if self.classes else wordings.GROUND_ALL
        choices = table[self.language]
        return wordings.fill(choices[self.wording % len(choices)], labels=", ".join(self.classes))

    def schema(self) -> dict[str, Any]:
        coordinate = {"type": "integer", "minimum": 0, "maximum": SCALE}
        label: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": MAX_LABEL_CHARS}
        if self.classes:
            label = {"enum": list(self.classes)}
        box = {"type": "array", "items": coordinate, "minItems": 4, "maxItems": 4}
        return {
            "type": "array",
            "maxItems": MAX_BOXES,
            "items": {
                "type": "object",
                "properties": {"bbox_2d": box, "label": label},
                "required": ["bbox_2d", "label"],
                "additionalProperties": False,
            },
        }

    @property
    def max_tokens(self) -> int:
        return 4096

    def read(self, decoded: Decoded, width_px: int, height_px: int) -> Grounding:
        try:
            entries = _entries(decoded.text)
            labels = [self._label(entry.label) for entry in entries]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise TaskError(f"task '{self.name}': {decoded.text[:120]!r} is not a box list: {error}") from error
        detections = []
        for entry, label, score in zip(entries, labels, object_scores(decoded, len(entries)), strict=True):
            x1, y1, x2, y2 = entry.box
            if x2 > x1 and y2 > y1:
                box = (x1 * width_px / SCALE, y1 * height_px / SCALE, x2 * width_px / SCALE, y2 * height_px / SCALE)
                detections.append(Detection(label, box, score))
        return Grounding(tuple(detections), rejected=len(entries) - len(detections))

    def _label(self, said: str) -> str:
        if not self.classes:
            return one_line(said)
        label = as_asked(said, self.classes)
        if label is None:
            raise ValueError(f"{said!r} is none of the classes")
        return label

    @staticmethod
    def answer(objects: list[tuple[tuple[int, int, int, int], str]]) -> str:
        """The JSON that a perfect model writes: boxes in 0..1000 with labels, sorted by x1 (for training)."""
        ordered = sorted(objects, key=lambda entry: entry[0])
        entries = [{"bbox_2d": list(box), "label": label} for box, label in ordered]
        return json.dumps(entries, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True)
class _Entry:
    """One object of the list: its box, four numbers 0..1000, and its label."""

    box: tuple[float, float, float, float]
    label: str


def _entries(text: str) -> list[_Entry]:
    """Read a box list, however its JSON is written; raises whatever is wrong with it."""
    listed = json.loads(text)
    if not isinstance(listed, list):
        raise ValueError("no list")
    entries: list[_Entry] = []
    for item in listed:
        box, label = item["bbox_2d"], item["label"]
        if len(box) != 4 or not all(type(c) in (int, float) and 0 <= c <= SCALE for c in box):
            raise ValueError(f"a box needs four numbers from 0 to {SCALE}, not {box}")
        if not isinstance(label, str):
            raise ValueError(f"the label {label!r} is no text")
        entries.append(_Entry(tuple(box), label))
    return entries


def object_scores(decoded: Decoded, count: int) -> list[float]:
    """Score of each of the `count` listed objects: the probability that it is listed, times that of its label.

    The first is that of the bytes where the list goes on instead of ending: up to the first brace, then from the end of
    an object up to the comma behind it. The second is that of the label's bytes and its closing quote. Coordinates are
    left out: their spread says how sharp the position is, not whether the object is there. All probabilities are those
    under the grammar, and independent of the tokenizer's boundaries (`Decoded.probability_of`).
    """
    if not decoded.tokens:
        return [math.nan] * count
    raw, spans = decoded.text.encode(), value_spans(decoded.text)
    scores = []
    last_end = spans[()][0] + 1  # behind the bracket
    for index in range(count):
        start, end = spans[(index,)]
        listed_end = raw.index(b",", last_end) + 1 if index else start + 1
        label_start, label_end = spans[(index, "label")]
        listed = decoded.probability_of(last_end, listed_end)
        scores.append(listed * decoded.probability_of(label_start + 1, label_end))
        last_end = end
    return scores
