"""The things of the vocabulary, and the questions about the way, in other words.

Training used none of the other names when `stress` was first run. Since then `other_words` draws some on purpose:
capitals, underscores, "block", "sphere", "can", "cup", Korean colours as nouns. The rest is still not trained.
"""

from __future__ import annotations

from collections.abc import Callable

from exaone_ros.sim import vocabulary
from exaone_ros.training.other_words import COLOUR_NOUNS, OTHER_SHAPES

SHAPES = {shape: others[0] for shape, others in OTHER_SHAPES.items()}
"""The first of the other words that training draws."""
COLOURS = {
    "red": "crimson", "orange": "amber", "yellow": "golden", "green": "emerald", "blue": "navy", "purple": "violet",
    "white": "pale", "black": "dark",
}  # fmt: skip
KOREAN_SHAPES = {"cube": "정육면체", "ball": "볼", "cylinder": "실린더", "mug": "머그컵"}
GERMAN_SHAPES = {"cube": "Würfel", "ball": "Ball", "cylinder": "Zylinder", "mug": "Becher"}
GERMAN_COLOURS = {
    "red": "roter", "orange": "oranger", "yellow": "gelber", "green": "grüner", "blue": "blauer", "purple": "lila",
    "white": "weißer", "black": "schwarzer",
}  # fmt: skip

Naming = Callable[[str, str], str]
"""(colour, shape) of the vocabulary to a name."""

NAMINGS: dict[str, tuple[str, Naming]] = {
    "red cube (as trained)": ("en", lambda colour, shape: f"{colour} {shape}"),
    "red cubes (as trained)": ("en", lambda colour, shape: f"{colour} {shape}s"),
    "Red cube": ("en", lambda colour, shape: f"{colour.capitalize()} {shape}"),
    "RED CUBE": ("en", lambda colour, shape: f"{colour} {shape}".upper()),
    "the red cube": ("en", lambda colour, shape: f"the {colour} {shape}"),
    "a red cube": ("en", lambda colour, shape: f"a {colour} {shape}"),
    "red_cube": ("en", lambda colour, shape: f"{colour}_{shape}"),
    "cube that is red": ("en", lambda colour, shape: f"{shape} that is {colour}"),
    "small red cube": ("en", lambda colour, shape: f"small {colour} {shape}"),
    "red block, sphere, can, cup": ("en", lambda colour, shape: f"{colour} {SHAPES[shape]}"),
    "crimson cube, navy ball ...": ("en", lambda colour, shape: f"{COLOURS[colour]} {shape}"),
    "빨간 큐브 (as trained)": ("ko", lambda colour, shape: vocabulary.name(shape, colour, "ko")),
    "빨간색 큐브": ("ko", lambda colour, shape: f"{COLOUR_NOUNS[colour]} {vocabulary.KOREAN[shape]}"),
    "빨간 정육면체, 머그컵 ...": ("ko", lambda colour, shape: f"{vocabulary.KOREAN[colour]} {KOREAN_SHAPES[shape]}"),
    "roter Würfel": ("en", lambda colour, shape: f"{GERMAN_COLOURS[colour]} {GERMAN_SHAPES[shape]}"),
}
"""Ways to name a thing, by an example: language of the question, and the name."""

WAYS: dict[str, tuple[str, tuple[str, str, str]]] = {
    "Is the way clear? (as trained)": ("Is the way clear?", ("clear", "blocked", "person")),
    "Is the route free?": ("Is the route free?", ("clear", "blocked", "person")),
    "Look ahead and tell me what you find.": ("Look ahead and tell me what you find.", ("clear", "blocked", "person")),
    "IS THE WAY CLEAR?": ("IS THE WAY CLEAR?", ("clear", "blocked", "person")),
    "free, obstructed, human": ("Is the way clear?", ("free", "obstructed", "human")),
    "person, blocked, clear": ("Is the way clear?", ("clear", "blocked", "person")),
    "A: clear, B: blocked, C: person": ("Is the way clear?", ("A: clear", "B: blocked", "C: person")),
}
"""Ways to ask about the way, by what differs: the instruction, and the options for clear, blocked, person."""

TURNED = "person, blocked, clear"
"""The way of `WAYS` whose options are offered in the other order."""
