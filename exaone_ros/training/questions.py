"""Questions about a frame with their perfect answers, in the very prompts and JSON that `tasks` write and read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from exaone_ros.sim import vocabulary
from exaone_ros.sim.frame import SeenObject
from exaone_ros.tasks import Ask, Count, Decide, Ground, Task
from exaone_ros.training import phrases
from exaone_ros.training.splits import HELD_OUT_PAIRS
from exaone_ros.training.truth import RELATIONS, Truth, name_of, relation_label, scaled_box

T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """Attributes: kind, for tables; the task; the text of the perfect answer; the reasoning before it, if it thinks."""

    kind: str
    task: Task
    answer: str
    reasoning: str = ""


KINDS = {
    "list": 1.0, "name": 4.0, "class": 1.2, "colour": 0.8, "several": 0.8, "relation": 2.2, "absent": 1.6,
    "hindrance": 0.6, "count": 3.4, "way": 1.0, "presence": 0.5, "pick": 1.4, "side": 1.0, "pick_relation": 1.2,
    "see": 0.1,
}  # fmt: skip
"""How often each kind is asked in training, relative to the others."""

KOREAN_SHARE = 0.3
FIRST_WORDING_SHARE = 0.4
THINKING_SHARE = 0.04


class Questioner:
    """Draws questions about one frame.

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
        self._makers: dict[str, Callable[[str], Question | None]] = {
            "list": self.everything, "name": self.name, "class": self.of_class, "colour": self.of_colour,
            "several": self.several, "relation": self.relation, "absent": self.absent, "hindrance": self.hindrance,
            "count": self.count, "count_all": self.count_all, "way": self.way, "presence": self.presence,
            "pick": self.pick, "side": self.side,
            "pick_relation": self.pick_relation, "see": self.see,
        }  # fmt: skip

    def ask(self, kind: str) -> Question | None:
        """A question of this kind, or None where the frame gives none that is unambiguous."""
        language = self._language or ("ko" if self.rng.random() < KOREAN_SHARE else "en")
        return self._makers[kind](language)

    def draw(self) -> Iterator[Question]:
        """Endless questions: everything first (mostly), then by the shares of KINDS."""
        if self.rng.random() < 0.45 and (question := self.ask("list")) is not None:
            yield question
        names = [kind for kind in KINDS if kind != "list"]
        shares = np.array([KINDS[kind] for kind in names])
        shares = shares / shares.sum()
        while True:
            question = self.ask(names[int(self.rng.choice(len(names), p=shares))])
            if question is not None:
                yield question

    # -- helpers ---------------------------------------------------------------------------------------------------

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

    def _boxes(self, things: tuple[SeenObject, ...], label: str) -> list[tuple[tuple[int, int, int, int], str]]:
        return [(self.truth.box(thing), label) for thing in things]

    def _ground(
        self, kind: str, language: str, labels: tuple[str, ...], boxes: list[tuple[tuple[int, int, int, int], str]]
    ) -> Question:
        return Question(kind, Ground(classes=labels, language=language, wording=self._wording()), Ground.answer(boxes))

    def _decide(
        self, kind: str, language: str, instruction: str, options: list[str], choice: str, reason: str
    ) -> Question:
        order = self.rng.permutation(len(options))
        shuffled = tuple(options[int(i)] for i in order)
        thinks = self._thinks()
        task = Decide(
            instruction=instruction, options=shuffled, language=language, wording=self._wording(), thinking=thinks
        )
        words = phrases.THOUGHTS[language]
        reasoning = f"{self._seen(language)} {words['choice'].format(choice=choice)}" if thinks else ""
        return Question(kind, task, Decide.answer(choice, reason), reasoning)

    def _seen(self, language: str) -> str:
        words = phrases.THOUGHTS[language]
        if not self.truth.clear:
            return words["empty"]
        return words["objects"].format(labels=", ".join(name_of(thing, language) for thing in self.truth.clear))

    # -- grounding -------------------------------------------------------------------------------------------------

    def everything(self, language: str) -> Question | None:
        if self.truth.doubtful:
            return None
        boxes = [(self.truth.box(thing), name_of(thing, language)) for thing in self.truth.clear]
        return self._ground("list", language, (), boxes)

    def _kind_of(
        self, kind: str, language: str, shape: str | None, colour: str | None, plural: bool
    ) -> Question | None:
        things = self.truth.matching(shape, colour)
        if things is None:
            return None
        label = vocabulary.name(shape, colour, language, plural)
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
            boxes.extend(self._boxes(things, vocabulary.name(shape, colour, language)))
        labels = tuple(vocabulary.name(shape, colour, language) for shape, colour in kinds)
        return self._ground("several", language, labels, boxes)

    def relation(self, language: str) -> Question | None:
        """The leftmost, rightmost, nearest or largest of its kind."""
        relation, shape, colour, things = self._relation()
        if things is None or (found := self.truth.related(relation, things)) is None:
            return None
        label = relation_label(relation, shape, colour, language)
        return self._ground("relation", language, (label,), self._boxes((found,), label))

    def _relation(self) -> tuple[str, str | None, str | None, tuple[SeenObject, ...] | None]:
        relation, (shape, colour) = self._choose(RELATIONS), self._pair(0.9)
        draw = self.rng.random()
        kind = (None, None) if draw < 0.45 else (shape, None) if draw < 0.85 else (None, colour)
        things = self.truth.matching(*kind)
        if things is not None and len(things) < 2 and self.rng.random() < 0.8:  # too easy
            things = None
        return relation, *kind, things

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
        if draw < 0.3:
            return self.count_of(language, None, None)
        if draw < 0.6:
            return self.count_of(language, shape, None)
        return self.count_of(language, None, colour) if draw < 0.8 else self.count_of(language, shape, colour)

    def count_all(self, language: str) -> Question | None:
        return self.count_of(language, None, None)

    def count_of(self, language: str, shape: str | None, colour: str | None) -> Question | None:
        """How many of a kind; of all objects where both are None."""
        things = self.truth.matching(shape, colour)
        if things is None:
            return None
        kind = "count" if shape is None and colour is None else "count_kind"
        label = "" if kind == "count" else vocabulary.name(shape, colour, language, plural=True)
        if label and not self._first and self.rng.random() < 0.15:
            label = vocabulary.name(shape, colour, language)
        thinks = self._thinks() and len(things) == len(self.truth.clear) and not self.truth.doubtful
        task = Count(label=label, language=language, wording=self._wording(), thinking=thinks)
        words = phrases.THOUGHTS[language]
        reasoning = f"{self._seen(language)} {words['count'].format(count=len(things))}" if thinks else ""
        return Question(kind, task, Count.answer(len(things)), reasoning)

    # -- deciding --------------------------------------------------------------------------------------------------

    def way(self, language: str) -> Question | None:
        """Is the way clear, blocked, or is a person there?"""
        if not self.truth.way_is_certain:
            return None
        state = "person" if self.truth.person else "blocked" if self.truth.obstacle else "clear"
        tables = phrases.WAY_OPTIONS[language]
        options = tables[0] if self._first else self._choose(tables)
        instructions = phrases.WAY_INSTRUCTIONS[language]
        instruction = instructions[0] if self._first else self._choose(instructions)
        choice = getattr(options, state)
        return self._decide(
            "way", language, instruction, list(options.distinct), choice, phrases.WAY_REASONS[language][state]
        )

    def presence(self, language: str) -> Question | None:
        """Is there a ...? Yes or no."""
        yes, no = phrases.YES_NO[language]
        if self.rng.random() < 0.4:
            if not self.truth.way_is_certain:
                return None
            which = self._choose((vocabulary.PERSON, vocabulary.OBSTACLE))
            there = (self.truth.person if which == vocabulary.PERSON else self.truth.obstacle) is not None
            label = vocabulary.KOREAN[which] if language == "ko" else which
        else:
            shape, colour = self._pair(0.4)
            things = self.truth.matching(shape, colour)
            if things is None:
                return None
            there, label = bool(things), vocabulary.name(shape, colour, language)
        reasons = phrases.OBJECT_REASONS[language]
        reason = filled(reasons["seen" if there else "absent"], label)
        if label in (vocabulary.PERSON, vocabulary.OBSTACLE):
            reason = reason.replace("on the table", "in view")
        instruction = filled(self._choose(phrases.PRESENCE_INSTRUCTIONS[language]), label)
        return self._decide("presence", language, instruction, [yes, no], yes if there else no, reason)

    def _options(self, language: str, choice: str | None, forbidden: tuple[str, ...] = ()) -> tuple[list[str], str]:
        """Options around the right one: names of things that are there or not, and the word for nothing."""
        nothing = self._choose(phrases.NOTHING[language])
        options = {nothing: None} if choice is None else {choice: None, nothing: None}
        for _ in range(int(self.rng.integers(1, 6))):
            shape, colour = self._pair(0.6)
            name = vocabulary.name(shape, colour, language)
            if name not in forbidden:
                options[name] = None
        return list(options), nothing

    def pick(self, language: str) -> Question | None:
        """Pick a named object, or nothing where it is not there."""
        shape, colour = self._pair(0.6)
        things = self.truth.matching(shape, colour)
        if things is None:
            return None
        name = vocabulary.name(shape, colour, language)
        options, nothing = self._options(language, name)
        reason = filled(phrases.OBJECT_REASONS[language]["seen" if things else "absent"], name)
        instruction = self._choose(phrases.PICK_INSTRUCTIONS[language]).format(label=name)
        return self._decide("pick", language, instruction, options, name if things else nothing, reason)

    def pick_relation(self, language: str) -> Question | None:
        relation, shape, colour, things = self._relation()
        if things is None or (found := self.truth.related(relation, things)) is None:
            return None
        label = relation_label(relation, shape, colour, language)
        options, _ = self._options(language, name_of(found, language))
        reason = phrases.OBJECT_REASONS[language][relation]
        instruction = self._choose(phrases.PICK_INSTRUCTIONS[language]).format(label=label)
        return self._decide("pick_relation", language, instruction, options, name_of(found, language), reason)

    def side(self, language: str) -> Question | None:
        """Pick what is left (or right) of something: of the options at most one is."""
        if self.truth.doubtful or len(self.truth.clear) < 2:
            return None
        anchor = self._choose(self.truth.clear)
        one_of_its_kind = self.truth.matching(anchor.shape, None)
        by_class = one_of_its_kind is not None and len(one_of_its_kind) == 1 and self.rng.random() < 0.5
        if not by_class and len(self.truth.matching(anchor.shape, anchor.colour) or ()) != 1:
            return None
        side = self._choose(("left", "right"))
        there = self.truth.beside(anchor, side)
        if there is None:
            return None
        label = vocabulary.name(anchor.shape, None if by_class else anchor.colour, language)
        names = tuple(dict.fromkeys(name_of(thing, language) for thing in there))
        choice = self._choose(names) if names and self.rng.random() < 0.8 else None
        options, nothing = self._options(language, choice, forbidden=(*names, name_of(anchor, language)))
        reasons, key = phrases.OBJECT_REASONS[language], side if choice else f"no_{side}"
        instruction = self._choose(phrases.SIDE_INSTRUCTIONS[side][language]).format(label=label)
        if choice is None and names:
            reason = reasons["no_" + side].format(label=label)
            return self._decide("side", language, instruction, options, nothing, reason) if len(options) > 1 else None
        if len(options) < 2:
            return None
        return self._decide("side", language, instruction, options, choice or nothing, reasons[key].format(label=label))

    # -- free questions --------------------------------------------------------------------------------------------

    def see(self, language: str) -> Question | None:
        """What do you see? In words."""
        if self.truth.doubtful or len(self.truth.clear) > 6:
            return None
        words = phrases.SEE_ANSWERS[language]
        names = [name_of(thing, language) for thing in self.truth.clear]
        listed = ", ".join(names[:-1]) + words["and"] + names[-1] if len(names) > 1 else "".join(names)
        answer = words["some"].format(labels=listed) if names else words["none"]
        return Question("see", Ask(question=self._choose(phrases.SEE_QUESTIONS[language]), language=language), answer)


def filled(text: str, label: str) -> str:
    """Fill `{label}` in, with "an" instead of "a" before a vowel."""
    return text.format(label=label).replace(" a orange", " an orange").replace(" a obstacle", " an obstacle")
