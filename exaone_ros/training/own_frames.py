"""Frames of one's own pictures: read and kept, and cut to the size of a training batch."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import DatasetError
from exaone_ros.sim.frame import Box, LabelledFrame, SeenObject
from exaone_ros.training.own_pictures import OwnPicture
from exaone_ros.training.truth import resize_frame

LONGEST_PX = 800
"""Larger pictures are shrunk when they are read: the model sees about 80,000 pixels."""
LEAST_SHOWN = 0.6
"""Of the largest cut of a picture in the wanted proportions, the least share (of its sides) that training shows."""
WHOLE_SHARE = 0.5
"""Probability that a picture of nearly the wanted proportions is shown whole, a little stretched."""
MOST_STRETCHED = 1.15
LEAST_SIDE_PX = 2


class PictureReader:
    """Reads pictures as labelled frames and keeps the last ones.

    The frames' objects have their name as shape, no colour (""), and no distance (NaN). Not thread-safe.

    Args:
        kept: frames that are kept.
    """

    def __init__(self, kept: int = 200) -> None:
        self._kept = kept
        self._frames: OrderedDict[OwnPicture, LabelledFrame] = OrderedDict()

    def frame(self, picture: OwnPicture) -> LabelledFrame:
        """The whole picture, at most LONGEST_PX long.

        Raises:
            DatasetError: the file is not an image.
        """
        if picture not in self._frames:
            self._frames[picture] = read_frame(picture)
            while len(self._frames) > self._kept:
                self._frames.popitem(last=False)
        self._frames.move_to_end(picture)
        return self._frames[picture]


def read_frame(picture: OwnPicture) -> LabelledFrame:
    """Read one picture; see `PictureReader`.

    Raises:
        DatasetError: the file is not an image, or not of the size that its boxes are of.
    """
    pixels = _pixels_of(picture)
    height, width = pixels.shape[:2]
    inside = [(thing, _clipped(thing.box, width, height)) for thing in picture.marked]
    things = sorted(((t, b) for t, b in inside if b is not None), key=lambda pair: pair[1])
    instance = np.full((height, width), -1, np.int16)
    for index in sorted(range(len(things)), key=lambda i: -_area(things[i][1])):  # small things lie on large ones
        thing, box = things[index]
        if thing.polygons:
            rings = [np.array(ring).reshape(-1, 2).round().astype(np.int32) for ring in thing.polygons]
            instance[cv2.fillPoly(np.zeros((height, width), np.uint8), rings, 1) > 0] = index
        else:
            x1, y1, x2, y2 = (round(value) for value in box)
            instance[y1:y2, x1:x2] = index
    objects = tuple(
        SeenObject(t.name, "", box, float("nan"), round(_area(box)), 0.0 if t.crowd else 1.0) for t, box in things
    )
    image = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
    frame = LabelledFrame(image, objects, None, None, instance)
    shrink = LONGEST_PX / max(height, width)
    return frame if shrink >= 1 else resize_frame(frame, round(height * shrink), round(width * shrink))


def _pixels_of(picture: OwnPicture) -> NDArray[np.uint8]:
    """uint8 BGR [H, W, 3], of the size that the boxes are of.

    Telephones write a picture as the sensor saw it, with a note (EXIF) how to turn it. Most labelling tools turn it, as
    OpenCV does; some do not, and their boxes are those of the picture as it was written.
    """
    found: list[tuple[int, int]] = []
    for flags in (cv2.IMREAD_COLOR, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION):
        pixels = cv2.imread(str(picture.file), flags)
        if pixels is None:
            raise DatasetError(f"{picture.file} is not an image that OpenCV reads; expected for example JPEG or PNG")
        found.append((pixels.shape[1], pixels.shape[0]))
        if picture.size in (None, found[-1]):
            return np.asarray(pixels, np.uint8)
    (width, height), (said_width, said_height) = found[0], picture.size or found[0]
    raise DatasetError(
        f"{picture.file} has {width} x {height} px, but its boxes are of a picture of {said_width} x {said_height} px; "
        "expected the picture that was labelled: bring that one, or scale its boxes and its width and height in the "
        "JSON along"
    )


def cut(rng: np.random.Generator, frame: LabelledFrame, size: tuple[int, int]) -> LabelledFrame:
    """A part of a frame, or all of it, at a size (height, width): another one each time.

    An object that the cut goes through shows that much less of itself, so that nothing is asked about a sliver.
    """
    height, width = frame.image.shape[:2]
    wanted = size[1] / size[0]
    stretch = max(wanted * height / width, width / (wanted * height))
    if stretch <= MOST_STRETCHED and rng.random() < WHOLE_SHARE:
        return resize_frame(frame, *size)
    share = float(rng.uniform(LEAST_SHOWN, 1.0))
    cut_width = max(LEAST_SIDE_PX, round(share * min(width, height * wanted)))
    cut_height = max(LEAST_SIDE_PX, round(share * min(height, width / wanted)))
    x, y = int(rng.integers(width - cut_width + 1)), int(rng.integers(height - cut_height + 1))
    return resize_frame(_window(frame, x, y, cut_width, cut_height), *size)


def _window(frame: LabelledFrame, x: int, y: int, width: int, height: int) -> LabelledFrame:
    """The part of a frame from (x, y) on, with the truth of what it shows."""
    shown: list[tuple[int, SeenObject]] = []
    for index, thing in enumerate(frame.objects):
        box = _clipped(_moved(thing.box, x, y), width, height)
        if box is not None:
            share = _area(box) / _area(thing.box)
            fraction = thing.visible_fraction * share
            shown.append((index, replace(thing, box=box, visible_px=round(_area(box)), visible_fraction=fraction)))
    shown.sort(key=lambda pair: pair[1].box)
    new_index = np.full(len(frame.objects) + 1, -1, np.int16)  # the last entry serves -1
    for index, (was, _) in enumerate(shown):
        new_index[was] = index
    instance = new_index[frame.instance[y : y + height, x : x + width]]
    image = np.ascontiguousarray(frame.image[y : y + height, x : x + width])
    return LabelledFrame(image, tuple(thing for _, thing in shown), None, None, instance)


def _moved(box: Box, x: float, y: float) -> Box:
    return box[0] - x, box[1] - y, box[2] - x, box[3] - y


def _clipped(box: Box, width: int, height: int) -> Box | None:
    """The part of a box that lies in the image; None where there is none."""
    x1, y1, x2, y2 = max(0.0, box[0]), max(0.0, box[1]), min(float(width), box[2]), min(float(height), box[3])
    return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
