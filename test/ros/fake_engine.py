"""An engine that looks at pixels by arithmetic: the edge double for tests of the ROS side without a model.

It sees one red box where the image is red, counts 1 for it, and decides by it. It can be made slow, and made to fail.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from exaone_ros.engine.answers import FrameAnswers, TaskAnswer
from exaone_ros.engine.sequence import Outcome
from exaone_ros.engine.timings import Timings
from exaone_ros.errors import EngineError
from exaone_ros.tasks import Count, Counted, Decide, Decided, Detection, Ground, Grounding, Task

TIMINGS = Timings(encode_s=0.004, decode_s=0.01, tokens_sampled=6, tokens_forced=4)


class FakeFrame:
    """An image that was looked at."""

    timings = TIMINGS

    def __init__(self, image: np.ndarray) -> None:
        self.image = image

    def __enter__(self) -> FakeFrame:
        return self

    def __exit__(self, *reason: object) -> None:
        pass


@dataclass
class FakeEngine:
    """`delay_s` passes in each answer in slices, unless cancelled; the next `failures` looks raise."""

    delay_s: float = 0.0
    failures: int = 0
    closed: bool = False
    looks: int = 0

    def look(self, image: np.ndarray) -> FakeFrame:
        assert image.dtype == np.uint8 and image.ndim == 3 and not self.closed
        self.looks += 1
        if self.failures:
            self.failures -= 1
            raise EngineError("the engine was told to fail")
        return FakeFrame(image)

    def answer(self, frame: FakeFrame, tasks: Sequence[Task], *, cancelled: Callable[[], bool]) -> FrameAnswers:
        end_s = time.monotonic() + self.delay_s
        while time.monotonic() < end_s:
            if cancelled():
                return FrameAnswers(tuple(TaskAnswer(task, Outcome.CANCELLED) for task in tasks), TIMINGS)
            time.sleep(0.005)
        return FrameAnswers(tuple(self._answer(frame.image, task) for task in tasks), TIMINGS)

    def _answer(self, image: np.ndarray, task: Task) -> TaskAnswer:
        red = (image[:, :, 0] > 200) & (image[:, :, 1] < 60)
        if task.name == "broken":
            return TaskAnswer(task, Outcome.FAILED, error=EngineError("this task was told to fail"))
        result: Any
        if isinstance(task, Ground):
            boxes = []
            if red.any():
                rows, columns = np.nonzero(red)
                box = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
                boxes.append(Detection("red box", box, 0.75))
            result = Grounding(tuple(boxes))
        elif isinstance(task, Count):
            result = Counted(task.label, int(red.any()), 0.5)
        else:
            assert isinstance(task, Decide)
            rest = 0.1 / (len(task.options) - 1)
            chosen = int(red.any())
            probabilities = tuple(0.9 if i == chosen else rest for i in range(len(task.options)))
            result = Decided(task.options[chosen], task.options, probabilities, "because of the pixels")
        return TaskAnswer(task, Outcome.DONE, result)

    def close(self) -> None:
        self.closed = True
