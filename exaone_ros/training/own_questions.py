"""Questions about pictures of one's own objects: those of the tabletop that need no colour, distance or table."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from exaone_ros.sim import vocabulary
from exaone_ros.sim.frame import SeenObject
from exaone_ros.training.own_pictures import OwnNames
from exaone_ros.training.questions import Question, Questioner
from exaone_ros.training.truth import Truth

OWN_KINDS = {
    "list": 1.0, "name": 4.0, "several": 1.5, "relation": 1.5, "absent": 2.5, "count": 4.0, "presence": 1.0,
    "pick": 1.4, "side": 1.0, "pick_relation": 1.5,
}  # fmt: skip
"""As `questions.KINDS`."""
RELATIONS = ("leftmost", "rightmost", "largest")


class OwnQuestioner(Questioner):
    """Draws questions about one picture.

    Args:
        names: of the objects.
        truth, rng, language, first_wording, thinking: see `Asker`; Korean only where every name has a Korean one.
            Nothing is reasoned about, unless asked for.
    """

    shares: ClassVar[dict[str, float]] = OWN_KINDS
    tabletop: ClassVar[bool] = False

    def __init__(
        self,
        names: OwnNames,
        truth: Truth,
        rng: np.random.Generator,
        language: str | None = None,
        first_wording: bool = False,
        thinking: bool | None = False,
    ) -> None:
        language = "en" if names.languages == ("en",) else language
        super().__init__(truth, rng, language, first_wording, thinking)
        self._names = names

    def _name(self, shape: str | None, colour: str | None, language: str, plural: bool = False) -> str:
        """See `Asker`; nothing is remembered, so these questions have no points."""
        if shape is None:
            return vocabulary.name(None, None, language, plural)
        if language == "ko":
            return self._names.korean[shape]
        return self._names.plurals.get(shape, shape + "s") if plural else shape

    def _pair(self, present: float = 0.5) -> tuple[str, str]:
        if self.truth.clear and self.rng.random() < present:
            return self._choose(self.truth.clear).shape, ""
        return self._choose(self._names.names), ""

    def _relation(self) -> tuple[str, str | None, str | None, tuple[SeenObject, ...] | None]:
        relation = self._choose(RELATIONS)
        shape = self._pair(0.9)[0] if self.rng.random() < 0.6 else None
        return relation, shape, None, self.truth.matching(shape, None)

    def count(self, language: str) -> Question | None:
        return self.count_of(language, None if self.rng.random() < 0.3 else self._pair(0.75)[0], None)
