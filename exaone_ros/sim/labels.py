"""From a label per pixel to tight boxes: numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exaone_ros.sim.frame import Box


@dataclass(frozen=True)
class Region:
    """Attributes: tight box of the pixels with one label; how many there are."""

    box: Box
    pixels: int


def regions(labels: NDArray[np.int8], count: int) -> list[Region | None]:
    """Find the tight box of each label.

    Args:
        labels: int8 [H, W], 0..count - 1, or negative where there is nothing of interest.
        count: number of labels, at most 16.

    Returns:
        One region for each label, None where no pixel has it.
    """
    if not 0 <= count <= 16:
        raise ValueError(f"{count} labels; expected 0 to 16")
    # One bit for each label: two OR-reductions over the image answer for all labels at once.
    bit_of = np.zeros(256, np.uint16)
    bit_of[:count] = 1 << np.arange(count)
    bits = bit_of[labels.view(np.uint8)]
    in_column, in_row = np.bitwise_or.reduce(bits, axis=0), np.bitwise_or.reduce(bits, axis=1)
    found: list[Region | None] = []
    for label in range(count):
        xs, ys = np.flatnonzero(in_column & (1 << label)), np.flatnonzero(in_row & (1 << label))
        if not len(xs):
            found.append(None)
            continue
        x1, y1, x2, y2 = int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1
        pixels = int(np.count_nonzero(labels[y1:y2, x1:x2] == label))
        found.append(Region((float(x1), float(y1), float(x2), float(y2)), pixels))
    return found
