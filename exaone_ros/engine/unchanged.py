"""Seeing that a view has not changed, so that it need not be encoded again. Knows pixels, no model.

Off by default: an answer about an unchanged view is read from the pixels of an earlier frame. What that does to answers
is measured by `python -m exaone_ros.bench.unchanged_view`; see docs/engine.md.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.request import Image, Picture
from exaone_ros.errors import EngineError, ImageError

CELLS = (64, 48)
"""Across and down: at 640x480 the mean of 10x10 pixels, in which a sensor's noise is down to a tenth."""


def signature(image: Image) -> NDArray[np.float32]:
    """What is compared: float32 [48, 64, 3], mean grey levels 0..255 of each cell and channel.

    Raises:
        ImageError: not uint8 RGB [H, W, 3].
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ImageError(f"image is {found}; expected uint8 RGB [H, W, 3]")
    if not image.size:
        raise ImageError(f"image is empty: {list(image.shape)}")
    return cv2.resize(image, CELLS, interpolation=cv2.INTER_AREA).astype(np.float32)


def difference(before: NDArray[np.float32], now: NDArray[np.float32]) -> float:
    """Grey levels by which the cell that changed most has changed: a small thing that moves is not averaged away."""
    return float(np.abs(now - before).max())


class UnchangedView:
    """Gives the picture of an earlier frame where the view is still the same. One for each camera; one thread uses it.

    A view is compared with the frame that was encoded, not with the last one, so that slow changes add up until they
    are seen.

    Args:
        threshold: grey levels, 0..255; a cell that changes by more is a change. 0 = off: every frame is a new picture.
        most_reuses: frames in a row that may use an earlier picture.

    Raises:
        EngineError: a value is out of range.
    """

    def __init__(self, threshold: float = 0.0, *, most_reuses: int = 30) -> None:
        if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 <= threshold <= 255:
            raise EngineError(f"unchanged view: threshold is {threshold!r}; expected 0 to 255 grey levels")
        if isinstance(most_reuses, bool) or not isinstance(most_reuses, int) or most_reuses < 1:
            raise EngineError(f"unchanged view: most_reuses is {most_reuses!r}; expected 1 or more frames")
        self._threshold, self._most_reuses = threshold, most_reuses
        self._picture: Picture | None = None
        self._signature = np.zeros(0, np.float32)
        self._reuses = 0
        self.reused = 0
        """Frames that used an earlier picture."""

    def picture(self, image: Image) -> Picture:
        """The picture to ask about for this frame: an earlier one where the view has not changed.

        Args:
            image: uint8 RGB [H, W, 3].

        Raises:
            ImageError: the image is not of that kind (only where this is on).
        """
        if not self._threshold:
            return Picture(image)
        now = signature(image)
        kept = self._picture
        if kept is not None and kept.image.shape == image.shape and self._reuses < self._most_reuses:
            change = difference(self._signature, now)
            if change <= self._threshold:
                self._reuses += 1
                self.reused += 1
                return kept
        self._picture, self._signature, self._reuses = Picture(image), now, 0
        return self._picture
