"""A frame that was looked at, and what is needed to put questions about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.backend import VisualTokens
from exaone_ros.engine.request import Picture
from exaone_ros.engine.sequence import Prefix
from exaone_ros.engine.timings import Timings


class Prompts(Protocol):
    """The checkpoint's chat template, as the engine needs it (`model.chat.PromptEncoder`)."""

    def prefix(self, image_tokens: Sequence[int], system: str | None = None) -> NDArray[np.int64]:
        """Ids up to the end of the last image, one image-pad id for each visual token."""
        ...

    def suffix(
        self, text: str, *, images: int = 1, system: str | None = None, thinking: bool = False
    ) -> NDArray[np.int64]:
        """Ids of the rest, up to where the model has to go on; `text` is of users and cannot produce markup."""
        ...


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame that the engine has looked at: its prompt head lies ready in a KV slot until `release`.

    Attributes:
        pictures: what was looked at; mostly one.
        width_px, height_px: size of the last source image, in whose pixels boxes are.
        visual: the visual tokens of each.
        prefix: where its prompt head lies.
        timings: of the look.
    """

    pictures: tuple[Picture, ...]
    width_px: int
    height_px: int
    visual: tuple[VisualTokens, ...]
    prefix: Prefix
    timings: Timings
    _release: Callable[[Frame], None]

    def release(self) -> None:
        """Free its slot; the frame can answer nothing afterwards. May be called twice."""
        self._release(self)

    def __enter__(self) -> Frame:
        return self

    def __exit__(self, *reason: object) -> None:
        self.release()
