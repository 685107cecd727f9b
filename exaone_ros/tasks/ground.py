"""Ground: where are these things? Boxes in pixels of the source image, each with a label that was asked for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

from exaone_ros.errors import TaskError
from exaone_ros.tasks import wordings
from exaone_ros.tasks.base import MAX_LABEL_CHARS, Task, checked_labels
from exaone_ros.tasks.evidence import Decoded

MAX_BOXES = 64
SCALE = 1000
"""Boxes are [x1, y1, x2, y2] normalised by width and height and scaled to 0..1000 (EXAONE 4.5 technical report, 2.2.2)."""


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
        entries, ends = _entries(decoded.text, self.name)
        scores = object_scores(decoded, ends)
        detections = []
        for entry, score in zip(entries, scores, strict=True):
            x1, y1, x2, y2 = entry["bbox_2d"]
            if x2 > x1 and y2 > y1:
                box = (x1 * width_px / SCALE, y1 * height_px / SCALE, x2 * width_px / SCALE, y2 * height_px / SCALE)
                detections.append(Detection(entry["label"], box, score))
        return Grounding(tuple(detections), rejected=len(entries) - len(detections))

    @staticmethod
    def answer(objects: list[tuple[tuple[int, int, int, int], str]]) -> str:
        """The JSON that a perfect model writes: boxes in 0..1000 with labels, sorted by x1 (for training)."""
        ordered = sorted(objects, key=lambda entry: entry[0])
        entries = [{"bbox_2d": list(box), "label": label} for box, label in ordered]
        return json.dumps(entries, ensure_ascii=False, separators=(",", ":"))


def _entries(text: str, name: str) -> tuple[list[dict[str, Any]], list[int]]:
    """Parse the list one entry at a time; returns the entries and the byte offset of the end of each."""
    decoder = json.JSONDecoder()
    entries, ends, at = [], [], 1
    try:
        if not text.startswith("["):
            raise ValueError("no list")
        while text[at] != "]":
            at += text[at] == ","
            entry, at = decoder.raw_decode(text, at)
            if len(entry["bbox_2d"]) != 4:
                raise ValueError("a box needs four numbers")
            entries.append(entry)
            ends.append(len(text[:at].encode()))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise TaskError(f"task '{name}': {text[:120]!r} is not a box list: {error}") from error
    return entries, ends


def object_scores(decoded: Decoded, ends: list[int]) -> list[float]:
    """Score of each listed object: the product of the probabilities of its tokens, coordinates left out.

    What remains are the two choices that matter: that another object is listed here at all (against closing the
    list), and which label it has. Coordinate tokens are left out because their spread says how sharp the position
    is, not whether the object is there. All probabilities are those under the grammar.

    Args:
        decoded: the answer with its tokens.
        ends: byte offset of the end of each object in the answer's UTF-8.
    """
    if not decoded.tokens:
        return [float("nan")] * len(ends)
    scores = [1.0] * len(ends)
    index, in_box = 0, False
    raw = decoded.text.encode()
    for start, end, token in decoded.spans():
        while index < len(ends) and start >= ends[index]:
            index += 1
        if index == len(ends):
            break
        in_box = raw.rfind(b"[", 1, max(start, 1)) > raw.rfind(b"]", 1, max(start, 1))
        digits_only = token.text.strip(b", ").isdigit()
        if not (in_box and (digits_only or not token.text.strip(b"0123456789,]} "))):
            scores[index] *= token.probability
    return scores
