"""Questions that are decisions: the way, presence, what to pick, what stands beside what."""

from __future__ import annotations

from typing import ClassVar

from exaone_ros.sim import vocabulary
from exaone_ros.training import phrases
from exaone_ros.training.question_parts import Asker, Question, filled


class DecisionAsker(Asker):
    """Asks for decisions; each method gives None where the frame gives no such question without ambiguity."""

    tabletop: ClassVar[bool] = True
    """Whether objects lie on a table, and persons and obstacles are known."""

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
        if self.tabletop and self.rng.random() < 0.4:
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
            there, label = bool(things), self._name(shape, colour, language)
        reasons = phrases.OBJECT_REASONS[language]
        reason = filled(reasons["seen" if there else "absent"], label)
        if not self.tabletop or label in (vocabulary.PERSON, vocabulary.OBSTACLE):
            reason = reason.replace("on the table", "in view")
        instruction = filled(self._choose(phrases.PRESENCE_INSTRUCTIONS[language]), label)
        return self._decide("presence", language, instruction, [yes, no], yes if there else no, reason)

    def _options(self, language: str, choice: str | None, forbidden: tuple[str, ...] = ()) -> tuple[list[str], str]:
        """Options around the right one: names of things that are there or not, and the word for nothing."""
        nothing = self._choose(phrases.NOTHING[language])
        options = {nothing: None} if choice is None else {choice: None, nothing: None}
        for _ in range(int(self.rng.integers(1, 6))):
            shape, colour = self._pair(0.6)
            name = self._name(shape, colour, language)
            if name not in forbidden:
                options[name] = None
        return list(options), nothing

    def pick(self, language: str) -> Question | None:
        """Pick a named object, or nothing where it is not there."""
        shape, colour = self._pair(0.6)
        things = self.truth.matching(shape, colour)
        if things is None:
            return None
        name = self._name(shape, colour, language)
        options, nothing = self._options(language, name)
        reason = filled(phrases.OBJECT_REASONS[language]["seen" if things else "absent"], name)
        if not self.tabletop:
            reason = reason.replace("on the table", "in view")
        instruction = self._choose(phrases.PICK_INSTRUCTIONS[language]).format(label=name)
        return self._decide("pick", language, instruction, options, name if things else nothing, reason)

    def pick_relation(self, language: str) -> Question | None:
        relation, shape, colour, things = self._relation()
        if things is None or (found := self.truth.related(relation, things)) is None:
            return None
        label = self._relation_label(relation, shape, colour, language)
        options, _ = self._options(language, self._name_of(found, language))
        reason = phrases.OBJECT_REASONS[language][relation]
        instruction = self._choose(phrases.PICK_INSTRUCTIONS[language]).format(label=label)
        return self._decide("pick_relation", language, instruction, options, self._name_of(found, language), reason)

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
        label = self._name(anchor.shape, None if by_class else anchor.colour, language)
        names = tuple(dict.fromkeys(self._name_of(thing, language) for thing in there))
        choice = self._choose(names) if names and self.rng.random() < 0.8 else None
        options, nothing = self._options(language, choice, forbidden=(*names, self._name_of(anchor, language)))
        instruction = self._choose(phrases.SIDE_INSTRUCTIONS[side][language]).format(label=label)
        if len(options) < 2:
            return None
        # "none_": there is something, but not among the options
        key = side if choice else f"none_{side}" if names else f"no_{side}"
        reason = phrases.OBJECT_REASONS[language][key].format(label=label)
        return self._decide("side", language, instruction, options, choice or nothing, reason, label)
