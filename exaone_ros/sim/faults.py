"""What may go wrong with a camera, so that it can be tested: a value for each fault, no ROS."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FAULTS = ("none", "stalled", "repeated", "frozen", "black")
"""none; no images at all; the last image again and again with its old stamp; its pixels with new stamps, as a driver
does whose buffer is stuck; black images, as behind a lens cap."""


class FaultyCamera:
    """Turns what a camera sees into what it delivers. One thread calls it."""

    def __init__(self) -> None:
        self._last: tuple[int, NDArray[np.uint8]] | None = None

    def deliver(self, stamp_ns: int, image: NDArray[np.uint8], fault: str) -> tuple[int, NDArray[np.uint8]] | None:
        """The (stamp, image) that go out instead, or None where nothing does.

        Args:
            stamp_ns: of the image.
            image: uint8 RGB [H, W, 3].
            fault: one of FAULTS.

        Raises:
            ValueError: there is no such fault.
        """
        if fault not in FAULTS:
            raise ValueError(f"fault is {fault!r}; expected one of {', '.join(FAULTS)}")
        if fault == "stalled":
            return None
        if fault == "black":
            return stamp_ns, np.zeros_like(image)
        if fault == "none" or self._last is None:
            self._last = stamp_ns, image
        return self._last if fault == "repeated" else (stamp_ns, self._last[1])
