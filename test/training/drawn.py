"""Questions about frames, as training draws them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np

from exaone_ros.sim.frame import LabelledFrame
from exaone_ros.training.questions import Question, Questioner
from exaone_ros.training.truth import Truth


def drawn(
    frames: Iterable[LabelledFrame], number: int, asker: type[Questioner] = Questioner, seed: int = 0
) -> list[tuple[LabelledFrame, Question]]:
    """So many questions about each frame, with their frames."""
    rng = np.random.default_rng(seed)
    return [
        (frame, question)
        for frame in frames
        for question in itertools.islice(asker(Truth.of(frame), rng).draw(), number)
    ]
