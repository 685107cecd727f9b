"""The things of the tabletop world and their names: one source for simulator, training and evaluation."""

from __future__ import annotations

from collections.abc import Collection

from exaone_ros.errors import SimulationError

SHAPES = ("cube", "ball", "cylinder", "mug")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
PERSON, OBSTACLE = "person", "obstacle"
"""What may stand in the way; not objects: "every object" and "all objects" mean SHAPES only."""

RGB: dict[str, tuple[float, float, float]] = {
    "red": (0.82, 0.12, 0.10),
    "orange": (0.95, 0.47, 0.08),
    "yellow": (0.93, 0.82, 0.12),
    "green": (0.12, 0.58, 0.18),
    "blue": (0.12, 0.28, 0.82),
    "purple": (0.48, 0.16, 0.62),
    "white": (0.92, 0.92, 0.90),
    "black": (0.07, 0.07, 0.08),
}
"""Nominal sRGB colours, 0..1."""

KOREAN = {
    "cube": "큐브", "ball": "공", "cylinder": "원통", "mug": "머그",
    "red": "빨간", "orange": "주황", "yellow": "노란", "green": "초록",
    "blue": "파란", "purple": "보라", "white": "흰", "black": "검은",
    "person": "사람", "obstacle": "장애물", "object": "물체",
    "leftmost": "맨 왼쪽", "rightmost": "맨 오른쪽", "nearest": "가장 가까운", "largest": "가장 큰",
}  # fmt: skip


Pair = tuple[str, str]
"""Colour and shape of an object."""


def allowed_pairs(exclude: Collection[Pair], include: Collection[Pair] | None) -> tuple[Pair, ...]:
    """The pairs that may occur, in a fixed order: those of `include` (None = all) without those of `exclude`."""
    pairs = ((colour, shape) for colour in COLOURS for shape in SHAPES)
    return tuple(pair for pair in pairs if pair not in exclude and (include is None or pair in include))


def name(shape: str | None, colour: str | None, language: str = "en", plural: bool = False) -> str:
    """The name of a thing, e.g. ``red cube``, ``mugs``, ``blue objects``, ``빨간 큐브``.

    Args:
        shape: one of SHAPES, or None for any ("object").
        colour: one of COLOURS, or None for any.
        language: "en" or "ko".
        plural: English plural; Korean has none.
    """
    noun = shape or "object"
    if language == "ko":
        words = ([KOREAN[colour]] if colour else []) + [KOREAN[noun]]
    else:
        words = ([colour] if colour else []) + [noun + "s" * plural]
    return " ".join(words)


def parse(text: str) -> tuple[str | None, str | None] | None:
    """The inverse of `name` for English: ``"red cubes"`` -> ("cube", "red"); "" or "all objects" -> (None, None).

    Returns:
        (shape, colour), None standing for any; or None where the text names nothing of this vocabulary.
    """
    words = [word for word in text.lower().split() if word not in ("all", "every", "the")]
    colour = words.pop(0) if words and words[0] in COLOURS else None
    noun = " ".join(words).removesuffix("s")
    if noun in SHAPES:
        return noun, colour
    return (None, colour) if noun in ("object", "") and (noun or colour is None) else None


LABELS: tuple[str, ...] = (*(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES), PERSON, OBSTACLE)
"""What ground truth calls things. A simulator that knows numbers only (Gazebo) labels LABELS[i] with i + 1."""


def label_number(label: str) -> int:
    """The number of a label, 1 to 34.

    Raises:
        SimulationError: nothing is called that.
    """
    if label not in LABELS:
        raise SimulationError(f"label {label!r} is unknown; expected a colour and a shape, '{PERSON}' or '{OBSTACLE}'")
    return LABELS.index(label) + 1


def label_of_number(number: int) -> str:
    """The inverse of `label_number`.

    Raises:
        SimulationError: no label has this number.
    """
    if not 1 <= number <= len(LABELS):
        raise SimulationError(f"label number {number} is unknown; expected 1 to {len(LABELS)}")
    return LABELS[number - 1]
