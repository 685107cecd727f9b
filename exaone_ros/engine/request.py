"""What is asked of an engine: one task on one or more pictures, how urgent it is, and who listens."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.sampling import GREEDY, Sampling
from exaone_ros.errors import ImageError, TaskError
from exaone_ros.tasks import Task

Image = NDArray[np.uint8]
"""uint8 RGB [H, W, 3]."""

MAX_PICTURES = 16
MAX_PRIORITY = 1000
MAX_SECONDS = 1e15
"""Beyond it an integer could not be reckoned with as seconds."""


@dataclass(frozen=True, eq=False)
class Picture:
    """An image and the key by which it is known again.

    Pictures with the same key are encoded and prefilled once, whoever asks and when, as long as there is room to keep
    them. Without a key of your own a picture equals itself only: give the same object to all requests on it.

    Attributes:
        image: uint8 RGB [H, W, 3]; not written to while requests on it are open.
        key: e.g. ``("head_camera", stamp_ns)``; the same key promises the same pixels.
    """

    image: Image
    key: Hashable = field(default_factory=object)


@dataclass(frozen=True, eq=False)
class Request:
    """One question.

    Attributes:
        task: what is asked.
        pictures: what it is asked about, in the order in which the model sees them: one frame, several cameras, or a
            video as frames over time, oldest first. Boxes are in pixels of the last one.
        priority: higher goes first, -1000 to 1000; see `scheduler.Scheduler` for what that means.
        deadline_s: when the answer is of no use any more, on the clock of `time.monotonic`; None = never.
        reasoning_s: seconds of reasoning at most, from its first token; None = only its token budget counts.
        sampling: how tokens are chosen.
        on_reasoning: given the reasoning in pieces of valid text, as they are decoded; joined they are the `reasoning`
            of the answer. Called on the engine's thread: it must not block, and is not called again once it raised.
        on_text: the same for the answer.

    Raises:
        TaskError: a value is of the wrong type or out of range.
        ImageError: no picture, or more than `MAX_PICTURES`.
    """

    task: Task
    pictures: tuple[Picture, ...]
    priority: int = 0
    deadline_s: float | None = None
    reasoning_s: float | None = None
    sampling: Sampling = GREEDY
    on_reasoning: Callable[[str], None] | None = None
    on_text: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.task, Task):
            raise TaskError(f"request: task is a {type(self.task).__name__}; expected Ground, Count, Decide or Ask")
        name, pictures = f"request '{self.task.name}'", self.pictures
        if not isinstance(pictures, tuple) or not all(isinstance(picture, Picture) for picture in pictures):
            raise ImageError(f"{name}: pictures are {type(pictures).__name__}; expected a tuple of Picture")
        if not 1 <= len(pictures) <= MAX_PICTURES:
            raise ImageError(f"{name}: {len(pictures)} pictures; expected 1 to {MAX_PICTURES}")
        for picture in pictures:
            try:
                hash(picture.key)
            except TypeError as error:
                raise TaskError(f"{name}: a picture's key is {picture.key!r}; expected something hashable") from error
        priority = self.priority
        if isinstance(priority, bool) or not isinstance(priority, int) or abs(priority) > MAX_PRIORITY:
            raise TaskError(f"{name}: priority is {priority!r}; expected -{MAX_PRIORITY} to {MAX_PRIORITY}")
        for what, value, least in (("deadline_s", self.deadline_s, -math.inf), ("reasoning_s", self.reasoning_s, 0.0)):
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < MAX_SECONDS:
                raise TaskError(f"{name}: {what} is {value!r}; expected seconds as a finite number, or None")
            if value < least:
                raise TaskError(f"{name}: {what} is {value!r}; expected {least:g} or more")
        for what, called in (("on_reasoning", self.on_reasoning), ("on_text", self.on_text)):
            if called is not None and not callable(called):
                raise TaskError(f"{name}: {what} is {called!r}; expected something to call with a text, or None")
