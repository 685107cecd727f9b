"""What can be asked of a frame without ambiguity: clear and doubtful objects, relations, mirroring, resizing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from exaone_ros.sim.frame import Box, LabelledFrame, SeenObject
from exaone_ros.tasks.ground import SCALE

RELATIONS = ("leftmost", "rightmost", "nearest", "largest")
LEAST_FRACTION = 0.35
LEAST_AREA = 0.0007
"""An object that shows less than this (of itself, of the frame) is doubtful: nothing is asked that depends on it."""
LEAST_HINDRANCE_AREA = 0.004
SIDE_MARGIN = 0.03
NEAREST_MARGIN = 1.06
LARGEST_MARGIN = 1.12


def scaled_box(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """A box in pixels of a width x height image, scaled to 0..1000."""
    x1, y1, x2, y2 = (round(v * SCALE / size) for v, size in zip(box, (width, height) * 2, strict=True))
    return x1, y1, x2, y2


def _area(box: Box | None) -> float:
    return 0.0 if box is None else (box[2] - box[0]) * (box[3] - box[1])


@dataclass(frozen=True)
class Truth:
    """The truth of a frame as far as it is clear.

    Attributes:
        width, height: of the frame in pixels.
        clear: objects that nobody would miss, from left to right.
        doubtful: slivers and specks.
        person, obstacle: boxes or None.
        way_is_certain: neither person nor obstacle is a mere speck.
    """

    width: int
    height: int
    clear: tuple[SeenObject, ...]
    doubtful: tuple[SeenObject, ...]
    person: Box | None
    obstacle: Box | None
    way_is_certain: bool

    @classmethod
    def of(cls, frame: LabelledFrame) -> Truth:
        height, width = frame.image.shape[:2]
        least = LEAST_AREA * width * height
        clear = tuple(o for o in frame.objects if o.visible_fraction >= LEAST_FRACTION and o.visible_px >= least)
        doubtful = tuple(o for o in frame.objects if o not in clear)
        hindrances = [_area(box) for box in (frame.person, frame.obstacle) if box is not None]
        certain = all(area >= LEAST_HINDRANCE_AREA * width * height for area in hindrances)
        return cls(width, height, clear, doubtful, frame.person, frame.obstacle, certain)

    def matching(self, shape: str | None, colour: str | None) -> tuple[SeenObject, ...] | None:
        """The clear objects of a kind (None = any), or None where a doubtful one is of that kind too."""

        def fits(thing: SeenObject) -> bool:
            return shape in (None, thing.shape) and colour in (None, thing.colour)

        if any(fits(thing) for thing in self.doubtful):
            return None
        return tuple(thing for thing in self.clear if fits(thing))

    def box(self, thing: SeenObject) -> tuple[int, int, int, int]:
        return scaled_box(thing.box, self.width, self.height)

    def related(self, relation: str, things: tuple[SeenObject, ...]) -> SeenObject | None:
        """The leftmost, rightmost, nearest or largest of `things`; None where the margin is too small to be sure."""
        if not things:
            return None

        def centre(thing: SeenObject) -> float:
            return (thing.box[0] + thing.box[2]) / 2 / self.width

        if relation in ("leftmost", "rightmost"):
            ordered = sorted(things, key=centre, reverse=relation == "rightmost")
            sure = len(things) < 2 or abs(centre(ordered[0]) - centre(ordered[1])) >= SIDE_MARGIN
        elif relation == "nearest":
            ordered = sorted(things, key=lambda thing: thing.distance_m)
            sure = len(things) < 2 or ordered[1].distance_m >= NEAREST_MARGIN * ordered[0].distance_m
        else:
            sides = {id(thing): _area(thing.box) ** 0.5 for thing in things}
            ordered = sorted(things, key=lambda thing: -sides[id(thing)])
            sure = len(things) < 2 or sides[id(ordered[0])] >= LARGEST_MARGIN * sides[id(ordered[1])]
        return ordered[0] if sure else None

    def beside(self, anchor: SeenObject, side: str) -> tuple[SeenObject, ...] | None:
        """The clear objects left or right of `anchor`, or None where one is neither clearly."""
        centre = (anchor.box[0] + anchor.box[2]) / 2
        found = []
        for thing in self.clear:
            if thing is anchor:
                continue
            offset = ((thing.box[0] + thing.box[2]) / 2 - centre) / self.width
            if abs(offset) < SIDE_MARGIN:
                return None
            if (offset < 0) == (side == "left"):
                found.append(thing)
        return tuple(found)


def resize_frame(frame: LabelledFrame, height: int, width: int) -> LabelledFrame:
    """Resize a frame with its truth."""
    was_height, was_width = frame.image.shape[:2]
    if (was_height, was_width) == (height, width):
        return frame
    x, y = width / was_width, height / was_height

    def scaled(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        return box[0] * x, box[1] * y, box[2] * x, box[3] * y

    shrinking = x < 1
    image = cv2.resize(frame.image, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC)
    nearest = cv2.resize(frame.instance, (width, height), interpolation=cv2.INTER_NEAREST)
    instance = np.asarray(nearest, np.int16)
    objects = tuple(
        SeenObject(o.shape, o.colour, scaled(o.box), o.distance_m, round(o.visible_px * x * y), o.visible_fraction)
        for o in frame.objects
    )
    person, obstacle = (scaled(box) if box else None for box in (frame.person, frame.obstacle))
    return LabelledFrame(np.asarray(image, np.uint8), objects, person, obstacle, instance)


def mirrored(frame: LabelledFrame) -> LabelledFrame:
    """The frame as in a mirror: left and right change places in the image and in the truth."""
    width = frame.image.shape[1]

    def flip(box: Box) -> Box:
        return width - box[2], box[1], width - box[0], box[3]

    pairs = sorted(enumerate(replace(o, box=flip(o.box)) for o in frame.objects), key=lambda pair: pair[1].box)
    new_index = np.full(len(pairs) + 1, -1, np.int16)  # the last entry serves -1
    for index, (was, _) in enumerate(pairs):
        new_index[was] = index
    instance = new_index[frame.instance[:, ::-1]]
    person, obstacle = (flip(box) if box else None for box in (frame.person, frame.obstacle))
    return LabelledFrame(frame.image[:, ::-1], tuple(o for _, o in pairs), person, obstacle, instance)
