"""Questions about a frame with their perfect answers, in the very prompts and JSON that `tasks` write and read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import ClassVar

import numpy as np

from exaone_ros.sim import vocabulary
from exaone_ros.tasks import Ask, Count
from exaone_ros.training import phrases
from exaone_ros.training.decisions import DecisionAsker
from exaone_ros.training.question_parts import Question
from exaone_ros.training.truth import scaled_box

__all__ = ["CHOICES", "COUNTS", "KINDS", "Question", "Questioner"]

KINDS = {
    "list": 1.0, "name": 3.0, "class": 1.2, "colour": 0.8, "several": 0.8, "relation": 2.2, "absent": 2.5,
    "hindrance": 0.6, "count": 7.0, "way": 1.0, "presence": 0.5, "pick": 1.4, "side": 9.0, "pick_relation": 6.0,
    "see": 0.1,
}  # fmt: skip
"""How often each kind is asked in training, relative to the others; "list": see `Questioner.draw`."""

COUNTS = frozenset({"count", "count_kind"})
CHOICES = frozenset({"way", "presence", "pick", "side", "pick_relation"})
"""Kinds whose answer is one number, or one of the options."""

KOREAN_SHARE = 0.5
MOST_MISSES = 200
"""Draws in a row that give no question before a frame is said to have none (every object on it is doubtful)."""


class Questioner(DecisionAsker):
    """Draws questions about one frame; see `Asker` for its arguments."""

    shares: ClassVar[dict[str, float]] = KINDS

    @cached_property
    def _makers(self) -> dict[str, Callable[[str], Question | None]]:
        return {
            "list": self.everything, "name": self.name, "class": self.of_class, "colour": self.of_colour,
            "several": self.several, "relation": self.relation, "absent": self.absent, "hindrance": self.hindrance,
            "count": self.count, "count_all": self.count_all, "way": self.way, "presence": self.presence,
            "pick": self.pick, "side": self.side, "pick_relation": self.pick_relation, "see": self.see,
        }  # fmt: skip

    def ask(self, kind: str) -> Question | None:
        """A question of this kind, or None where the frame gives none that is unambiguous."""
        language = self._language or ("ko" if self.rng.random() < KOREAN_SHARE else "en")
        return self._makers[kind](language)

    def draw(self) -> Iterator[Question]:
        """Questions without end, unless nothing can be asked: everything first on nearly half of the frames, then by
        `shares`, without asking for everything again."""
        if self.rng.random() < 0.45 and (question := self.ask("list")) is not None:
            yield question
        names = [kind for kind in self.shares if kind != "list"]
        shares = np.array([self.shares[kind] for kind in names])
        shares = shares / shares.sum()
        misses = 0
        while misses < MOST_MISSES:
            question = self.ask(names[int(self.rng.choice(len(names), p=shares))])
            misses += 1
            if question is not None:
                misses = 0
                yield question

    # -- grounding -------------------------------------------------------------------------------------------------

    def everything(self, language: str) -> Question | None:
        if self.truth.doubtful:
            return None
        boxes = [(self.truth.box(thing), self._name_of(thing, language)) for thing in self.truth.clear]
        return self._ground("list", language, (), boxes)

    def _kind_of(
        self, kind: str, language: str, shape: str | None, colour: str | None, plural: bool
    ) -> Question | None:
        things = self.truth.matching(shape, colour)
        if things is None:
            return None
        label = self._name(shape, colour, language, plural)
        return self._ground(kind, language, (label,), self._boxes(things, label))

    def name(self, language: str) -> Question | None:
        """One named object: colour and shape, there once or more."""
        if not self.truth.clear:
            return None
        thing = self._choose(self.truth.clear)
        return self._kind_of("name", language, thing.shape, thing.colour, bool(self.rng.random() < 0.1))

    def of_class(self, language: str) -> Question | None:
        return self._kind_of("class", language, self._pair(0.7)[0], None, bool(self.rng.random() < 0.5))

    def of_colour(self, language: str) -> Question | None:
        return self._kind_of("colour", language, None, self._pair(0.7)[1], bool(self.rng.random() < 0.5))

    def several(self, language: str) -> Question | None:
        """Two to four names at once, some of them not there."""
        kinds = dict.fromkeys(self._pair(0.7) for _ in range(int(self.rng.integers(2, 5))))
        boxes = []
        for shape, colour in kinds:
            things = self.truth.matching(shape, colour)
            if things is None:
                return None
            boxes.extend(self._boxes(things, self._name(shape, colour, language)))
        labels = tuple(self._name(shape, colour, language) for shape, colour in kinds)
        return self._ground("several", language, labels, boxes)

    def relation(self, language: str) -> Question | None:
        """The leftmost, rightmost, nearest or largest of its kind."""
        relation, shape, colour, things = self._relation()
        if things is None or (found := self.truth.related(relation, things)) is None:
            return None
        label = self._relation_label(relation, shape, colour, language)
        return self._ground("relation", language, (label,), self._boxes((found,), label))

    def absent(self, language: str) -> Question | None:
        """A named object that is not there."""
        shape, colour = self._pair(0.0)
        if self.truth.matching(shape, colour) != ():
            return None
        return self._kind_of("absent", language, shape, colour, bool(self.rng.random() < 0.2))

    def hindrance(self, language: str) -> Question | None:
        """The person or the obstacle, sometimes both at once."""
        if not self.truth.way_is_certain:
            return None
        asked = [vocabulary.PERSON, vocabulary.OBSTACLE]
        if self._first or self.rng.random() < 0.7:
            asked = [self._choose(asked)]
        places = {vocabulary.PERSON: self.truth.person, vocabulary.OBSTACLE: self.truth.obstacle}
        names = {which: vocabulary.KOREAN[which] if language == "ko" else which for which in asked}
        boxes = [
            (scaled_box(box, self.truth.width, self.truth.height), names[which])
            for which in asked
            if (box := places[which]) is not None
        ]
        return self._ground("hindrance", language, tuple(names.values()), boxes)

    # -- counting --------------------------------------------------------------------------------------------------

    def count(self, language: str) -> Question | None:
        shape, colour = self._pair(0.75)
        draw = self.rng.random()
        if draw < 0.4:
            return self.count_of(language, None, None)
        if draw < 0.7:
            return self.count_of(language, shape, None)
        return self.count_of(language, None, colour) if draw < 0.85 else self.count_of(language, shape, colour)

    def count_all(self, language: str) -> Question | None:
        return self.count_of(language, None, None)

    def count_of(self, language: str, shape: str | None, colour: str | None) -> Question | None:
        """How many of a kind; of all objects where both are None."""
        things = self.truth.matching(shape, colour)
        if things is None:
            return None
        kind = "count" if shape is None and colour is None else "count_kind"
        label = "" if kind == "count" else self._name(shape, colour, language, plural=True)
        if label and not self._first and self.rng.random() < 0.15:
            label = self._name(shape, colour, language)
        thinks = self._thinks() and len(things) == len(self.truth.clear) and not self.truth.doubtful
        task = Count(label=label, language=language, wording=self._wording(), thinking=thinks)
        words = phrases.THOUGHTS[language]
        reasoning = f"{self._seen(language)} {words['count'].format(count=len(things))}" if thinks else ""
        return Question(kind, task, Count.answer(len(things)), reasoning)

    # -- free questions --------------------------------------------------------------------------------------------

    def see(self, language: str) -> Question | None:
        """What do you see? In words."""
        if self.truth.doubtful or len(self.truth.clear) > 6:
            return None
        words = phrases.SEE_ANSWERS[language]
        names = [self._name_of(thing, language) for thing in self.truth.clear]
        listed = ", ".join(names[:-1]) + words["and"] + names[-1] if len(names) > 1 else "".join(names)
        answer = words["some"].format(labels=listed) if names else words["none"]
        return Question("see", Ask(question=self._choose(phrases.SEE_QUESTIONS[language]), language=language), answer)
