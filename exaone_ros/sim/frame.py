"""A rendered frame and what is truly on it: the common coin of all renderers, of training and of evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]
"""(x1, y1, x2, y2) in pixels: tight around the visible pixels, x2 and y2 exclusive (x2 - x1 is the width)."""


@dataclass(frozen=True)
class SeenObject:
    """An object that is visible on a frame.

    Attributes:
        shape: one of vocabulary.SHAPES.
        colour: one of vocabulary.COLOURS.
        box: tight box of its visible pixels.
        distance_m: from the camera's optical centre to the object's centre.
        visible_px: number of its visible pixels.
        visible_fraction: of the pixels it would cover if nothing hid it and the frame were large enough (0..1).
    """

    shape: str
    colour: str
    box: Box
    distance_m: float
    visible_px: int
    visible_fraction: float


@dataclass(frozen=True)
class LabelledFrame:
    """An image with its truth.

    Attributes:
        image: uint8 RGB [H, W, 3].
        objects: the visible objects, sorted by box x1.
        person: box of the visible person, or None.
        obstacle: box of the visible obstacle, or None.
        instance: int16 [H, W] index into `objects` of each pixel, -1 elsewhere (person and obstacle included).
        depth_m: float32 [H, W], distance along the optical axis in metres, infinite where there is nothing; None where
            it was not asked for.
        labelled: False where labels were not asked for: objects, person, obstacle and instance then say nothing.
    """

    image: NDArray[np.uint8]
    objects: tuple[SeenObject, ...]
    person: Box | None
    obstacle: Box | None
    instance: NDArray[np.int16]
    depth_m: NDArray[np.float32] | None = None
    labelled: bool = True
