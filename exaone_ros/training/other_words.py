"""Training questions whose names are written otherwise: other letters, other words, names of what is never there.

The words of this file are no tokens (but for "robot"): like every word that `tokenizer.known_texts` does not hold they
are spelled in bytes. Evaluation asks with `Questioner`, in the vocabulary's own names.
"""

from __future__ import annotations

from collections.abc import Callable

from exaone_ros.sim import vocabulary
from exaone_ros.training.question_parts import Question
from exaone_ros.training.questions import Questioner

OTHER_SHAPES = {"cube": ("block",), "ball": ("sphere",), "cylinder": ("can", "tube"), "mug": ("cup",)}
COLOUR_NOUNS = {
    "red": "빨간색", "orange": "주황색", "yellow": "노란색", "green": "초록색", "blue": "파란색", "purple": "보라색",
    "white": "흰색", "black": "검은색",
}  # fmt: skip
"""Korean colours as nouns, which say the same before a thing."""

OTHER_THINGS = {
    "en": (
        "banana", "apple", "bottle", "screwdriver", "hammer", "plate", "spoon", "fork", "knife", "book", "phone", "key",
        "pen", "laptop", "chair", "dog", "cat", "car", "lamp", "shoe", "hat", "bowl", "scissors", "wrench", "remote",
        "glass", "toy", "robot", "plant", "clock", "pyramid", "cone", "ring", "bag", "paper", "cloth", "wire",
        "tomato", "egg", "bread", "tin opener", "tooth brush", "coffee machine", "Phillips screw", "M4 bolt",
    ),
    "ko": (
        "바나나", "사과", "병", "망치", "접시", "숟가락", "포크", "칼", "책", "전화기", "열쇠", "연필", "의자",
        "강아지", "고양이", "자동차", "신발", "모자", "그릇", "가위", "시계", "가방", "종이", "달걀", "빵", "드라이버",
    ),
}  # fmt: skip
"""Things that no frame shows."""

PLAIN_SHARE = 0.86
"""Of the questions: the vocabulary's own names, as they are."""
STRANGER_SHARE = 0.35
"""Of the questions for an absent object: one that no frame shows."""

UNPROMPTED = frozenset({"list", "see"})
"""Kinds whose answers name things that the question does not: in the vocabulary's words."""

Spelling = Callable[[str], str]
SPELLINGS: tuple[Spelling, ...] = (str.capitalize, str.title, str.upper, lambda name: name.replace(" ", "_"))


class FreeQuestioner(Questioner):
    """Draws questions about one frame, some of them with other names; see `Asker` for its arguments."""

    _spelling: Spelling | None = None
    _other = False

    def ask(self, kind: str) -> Question | None:
        self._spelling, self._other = None, False
        draw = self.rng.random()
        if draw >= PLAIN_SHARE and kind not in UNPROMPTED:
            self._other = draw < (1 + PLAIN_SHARE) / 2
            if not self._other:
                self._spelling = self._choose(SPELLINGS)
        return super().ask(kind)

    def absent(self, language: str) -> Question | None:
        if self.rng.random() >= STRANGER_SHARE:
            return super().absent(language)
        thing = self._choose(OTHER_THINGS[language])
        if self.rng.random() < 0.5:
            colour = self._choose(vocabulary.COLOURS)
            thing = f"{vocabulary.KOREAN[colour] if language == 'ko' else colour} {thing}"
        label = self._spelling(thing) if self._spelling is not None else thing
        return self._ground("absent", language, (label,), [])

    def _written(self, shape: str | None, colour: str | None, language: str, plural: bool) -> str:
        name = super()._written(shape, colour, language, plural)
        if self._spelling is not None:
            return self._spelling(name)
        if not self._other:
            return name
        if language == "ko":
            return name if colour is None else name.replace(vocabulary.KOREAN[colour], COLOUR_NOUNS[colour], 1)
        if shape is None:
            return name
        others = OTHER_SHAPES[shape]
        return name.replace(shape, others[len(colour or "") % len(others)], 1)  # the same one throughout a question
