"""What all questions about a frame are made with: drawing, wording, reasoning, pairs of shape and colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from exaone_ros.sim import vocabulary
from exaone_ros.sim.frame import SeenObject
from exaone_ros.tasks import Decide, Ground, Task
from exaone_ros.training import phrases
from exaone_ros.training.splits import HELD_OUT_PAIRS
from exaone_ros.training.truth import RELATIONS, Truth

T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """A question with its perfect answer.

    Attributes:
        kind: for tables.
        task: what is asked.
        answer: text of the perfect answer.
        reasoning: before it, if it thinks.
        points: of a decision on the tabletop, the names in its prompt of which the frame shows just one thing, and
            where its box has its centre (x, y), 0..1: what an auxiliary head learns to say. Else empty.
    """

    kind: str
    task: Task
    answer: str
    reasoning: str = ""
    points: tuple[tuple[str, tuple[float, float]], ...] = ()


FIRST_WORDING_SHARE = 0.4
THINKING_SHARE = 0.04


class Asker:
    """Knows a frame's truth and draws what a question needs.

    Args:
        truth: of the frame.
        rng: source of everything random.
        language: "en" or "ko"; None = drawn for each question.
        first_wording: always ask in the first wording (what the tasks ask by default).
        thinking: whether counts and decisions are reasoned about; None = drawn for each question.
    """

    def __init__(
        self,
        truth: Truth,
        rng: np.random.Generator,
        language: str | None = None,
        first_wording: bool = False,
        thinking: bool | None = None,
    ) -> None:
        self.truth, self.rng, self._language, self._first = truth, rng, language, first_wording
        self._thinking = thinking
        self._kinds: dict[str, tuple[str | None, str | None]] = {}  # by the name that was given to them

    def _choose(self, options: tuple[T, ...] | list[T]) -> T:
        return options[int(self.rng.integers(len(options)))]

    def _wording(self) -> int:
        return 0 if self._first or self.rng.random() < FIRST_WORDING_SHARE else int(self.rng.integers(0, 60))

    def _thinks(self) -> bool:
        return bool(self.rng.random() < THINKING_SHARE) if self._thinking is None else self._thinking

    def _pair(self, present: float = 0.5) -> tuple[str, str]:
        """A (shape, colour), often of an object that is there or like one; never a held-out one that is not there."""
        if self.truth.clear and self.rng.random() < present:
            thing = self._choose(self.truth.clear)
            return thing.shape, thing.colour
        while True:
            shape, colour = self._choose(vocabulary.SHAPES), self._choose(vocabulary.COLOURS)
            if self.truth.clear and self.rng.random() < 0.6:  # near misses teach most
                thing = self._choose(self.truth.clear)
                shape, colour = (thing.shape, colour) if self.rng.random() < 0.5 else (shape, thing.colour)
            # asked about without ever being there, a held-out pair would be learned as one that is always absent
            if (colour, shape) not in HELD_OUT_PAIRS:
                return shape, colour

    def _name(self, shape: str | None, colour: str | None, language: str, plural: bool = False) -> str:
        """What things of a kind are called; None = any. What the name stands for is remembered."""
        name = self._written(shape, colour, language, plural)
        self._kinds[name] = shape, colour
        return name

    def _written(self, shape: str | None, colour: str | None, language: str, plural: bool) -> str:
        """How this question writes the name of a kind."""
        return vocabulary.name(shape, colour, language, plural)

    def _points(self, names: tuple[str, ...]) -> tuple[tuple[str, tuple[float, float]], ...]:
        """Where the things of these names are, those that are there once."""
        found = []
        for name in dict.fromkeys(names):
            things = self.truth.matching(*self._kinds[name]) if name in self._kinds else None
            if things is not None and len(things) == 1:
                x1, y1, x2, y2 = things[0].box
                found.append((name, ((x1 + x2) / 2 / self.truth.width, (y1 + y2) / 2 / self.truth.height)))
        return tuple(found)

    def _name_of(self, thing: SeenObject, language: str) -> str:
        return self._name(thing.shape, thing.colour, language)

    def _relation_label(self, relation: str, shape: str | None, colour: str | None, language: str) -> str:
        """E.g. "leftmost ball", "맨 왼쪽 공"."""
        word = vocabulary.KOREAN[relation] if language == "ko" else relation
        return f"{word} {self._name(shape, colour, language)}"

    def _boxes(self, things: tuple[SeenObject, ...], label: str) -> list[tuple[tuple[int, int, int, int], str]]:
        return [(self.truth.box(thing), label) for thing in things]

    def _ground(
        self, kind: str, language: str, labels: tuple[str, ...], boxes: list[tuple[tuple[int, int, int, int], str]]
    ) -> Question:
        return Question(kind, Ground(classes=labels, language=language, wording=self._wording()), Ground.answer(boxes))

    def _decide(
        self,
        kind: str,
        language: str,
        instruction: str,
        options: list[str],
        choice: str,
        reason: str,
        anchor: str = "",
    ) -> Question:
        """A decision; `anchor` is a name in the instruction whose place matters."""
        order = self.rng.permutation(len(options))
        shuffled = tuple(options[int(i)] for i in order)
        thinks = self._thinks()
        task = Decide(
            instruction=instruction, options=shuffled, language=language, wording=self._wording(), thinking=thinks
        )
        words = phrases.THOUGHTS[language]
        reasoning = f"{self._seen(language)} {words['choice'].format(choice=choice)}" if thinks else ""
        return Question(kind, task, Decide.answer(choice, reason), reasoning, self._points((*shuffled, anchor)))

    def _seen(self, language: str) -> str:
        words = phrases.THOUGHTS[language]
        if not self.truth.clear:
            return words["empty"]
        return words["objects"].format(labels=", ".join(self._name_of(thing, language) for thing in self.truth.clear))

    def _relation(self) -> tuple[str, str | None, str | None, tuple[SeenObject, ...] | None]:
        relation, (shape, colour) = self._choose(RELATIONS), self._pair(0.9)
        draw = self.rng.random()
        kind = (None, None) if draw < 0.45 else (shape, None) if draw < 0.85 else (None, colour)
        things = self.truth.matching(*kind)
        if things is not None and len(things) < 2 and self.rng.random() < 0.8:  # too easy
            things = None
        return relation, *kind, things


def filled(text: str, label: str) -> str:
    """Fill `{label}` in, with "an" instead of "a" before a vowel."""
    return text.format(label=label).replace(" a orange", " an orange").replace(" a obstacle", " an obstacle")
