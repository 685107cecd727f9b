"""Boxes between looks: the answer to an image of a while ago, brought forward to the image of now, with lasting ids.

A look's answer comes late: it is about an image that several others have followed. So the images since then are kept,
the boxes of the look are matched with the tracks as they were on its image, and followed from there to the newest one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from exaone_ros.geometry.flow import Box, grey_of, moved_boxes

MIN_OVERLAP = 0.2
"""A look's box with less IoU to a track of its label is another object."""
MAX_CATCH_UP_STEPS = 8
"""Steps from a look's image to the newest one: with more images between them, some are skipped."""
MAX_TRACKS = 128
SET_BACK_NS = 250_000_000
"""An image this much older than the newest shows a clock that began anew; nearer, it is repeated or was overtaken."""


@dataclass(frozen=True)
class SeenBox:
    """A box of a look. Attributes: its task and label; (x1, y1, x2, y2) in pixels of the image; its score 0..1."""

    task: str
    label: str
    box: Box
    score: float


@dataclass(frozen=True)
class Track:
    """A box on the newest image.

    Attributes:
        number: stays the same as long as the object is followed; never used again.
        seen: what the look said; its box is that on the look's image.
        seen_ns: stamp of that image.
        box: on the newest image, in its pixels.
    """

    number: int
    seen: SeenBox
    seen_ns: int
    box: Box


@dataclass
class _Moment:
    """An image that is kept.

    Attributes:
        grey: its grey version.
        tracks: as they were on it, by number.
        unseen: those that looks at this image have replaced: where a later look at it sees them, they go on.
    """

    grey: NDArray[np.uint8]
    tracks: dict[int, Track] = field(default_factory=dict)
    unseen: dict[int, Track] = field(default_factory=dict)


class BoxTracker:
    """Carries the boxes of looks from image to image. One thread at a time.

    Args:
        max_age_ns: a box is let go this long after the look that saw it; images are kept as long.
    """

    def __init__(self, max_age_ns: int) -> None:
        self._max_age_ns = max_age_ns
        self._moments: OrderedDict[int, _Moment] = OrderedDict()
        self._next_number = 1
        self._shape: tuple[int, ...] = ()
        self._scale = 1.0
        self._looked_ns: int | None = None
        self.dropped = 0

    @property
    def looked_ns(self) -> int | None:
        """Stamp of the image of the newest look that was taken in."""
        return self._looked_ns

    def on_image(self, stamp_ns: int, rgb: NDArray[np.uint8]) -> tuple[Track, ...] | None:
        """Follow all tracks onto a new image.

        Args:
            stamp_ns: later than that of the image before; one that is much earlier means that the clock began anew.
            rgb: uint8 [H, W, 3].

        Returns:
            The tracks on it; those that became uncertain or too old are gone. None for an image that is left out,
            because it is no newer than the one before.
        """
        newest_ns = next(reversed(self._moments), None)
        if newest_ns is not None and newest_ns - SET_BACK_NS <= stamp_ns <= newest_ns:
            return None
        grey = grey_of(rgb)
        # By the image's own size: two that differ may be equal as grey images, and boxes are in pixels of the image.
        if newest_ns is not None and (stamp_ns < newest_ns or rgb.shape != self._shape):
            self._moments.clear()
            self._looked_ns = newest_ns = None
        self._shape, self._scale = rgb.shape, rgb.shape[1] / grey.shape[1]
        moment = _Moment(grey)
        if newest_ns is not None:
            last = self._moments[newest_ns]
            moment.tracks = self._followed(last.tracks, last.grey, grey, stamp_ns)
        self._moments[stamp_ns] = moment
        while next(iter(self._moments)) < stamp_ns - self._max_age_ns:
            self._moments.popitem(last=False)
        return tuple(moment.tracks.values())

    def on_look(self, stamp_ns: int, boxes: Sequence[SeenBox]) -> bool:
        """Take in what was seen on an image: `boxes` replace the tracks of the tasks that they belong to.

        An empty look replaces everything: no task is named in it.

        Returns:
            False where the image is not held (too old, or it never came), and nothing was changed.
        """
        if stamp_ns not in self._moments or (self._looked_ns is not None and stamp_ns < self._looked_ns):
            return False
        self._looked_ns = stamp_ns
        moment = self._moments[stamp_ns]
        before = moment.tracks
        known = moment.unseen | before
        tasks = {box.task for box in boxes}
        kept = {n: t for n, t in before.items() if tasks and t.seen.task not in tasks}
        boxes = [box for box in boxes if np.isfinite(box.box).all()]  # what is no box cannot be followed
        for box, number in zip(boxes, self._numbers(boxes, known), strict=True):
            if len(kept) < MAX_TRACKS:
                kept[number] = Track(number, box, stamp_ns, box.box)
        moment.tracks = kept
        moment.unseen = {number: track for number, track in known.items() if number not in kept}
        later = [at for at in self._moments if at > stamp_ns]
        for at in later:
            self._moments[at].tracks = {}
        if len(later) > MAX_CATCH_UP_STEPS:
            picks = np.linspace(0, len(later) - 1, MAX_CATCH_UP_STEPS).round().astype(int)
            later = [later[i] for i in picks]
        from_ns = stamp_ns
        for at in later:
            here, there = self._moments[from_ns], self._moments[at]
            there.tracks = self._followed(here.tracks, here.grey, there.grey, at)
            from_ns = at
        return True

    def tracks(self) -> tuple[Track, ...]:
        """The tracks on the newest image."""
        newest_ns = next(reversed(self._moments), None)
        return () if newest_ns is None else tuple(self._moments[newest_ns].tracks.values())

    def _followed(
        self, tracks: dict[int, Track], before: NDArray[np.uint8], after: NDArray[np.uint8], stamp_ns: int
    ) -> dict[int, Track]:
        young = [track for track in tracks.values() if stamp_ns - track.seen_ns <= self._max_age_ns]
        scale = self._scale
        moved = moved_boxes(before, after, [scaled(track.box, 1 / scale) for track in young])
        followed = {
            track.number: replace(track, box=scaled(box, scale))
            for track, box in zip(young, moved, strict=True)
            if box is not None
        }
        self.dropped += len(tracks) - len(followed)
        return followed

    def _numbers(self, boxes: Sequence[SeenBox], tracks: dict[int, Track]) -> list[int]:
        """The number of each box: that of the track which it continues, best overlap first, or a new one."""
        pairs = [
            (overlap, i, number)
            for i, box in enumerate(boxes)
            for number, track in tracks.items()
            if (track.seen.task, track.seen.label) == (box.task, box.label)
            and (overlap := iou(box.box, track.box)) >= MIN_OVERLAP
        ]
        numbers: dict[int, int] = {}
        taken: set[int] = set()
        for _, i, number in sorted(pairs, key=lambda pair: -pair[0]):
            if i not in numbers and number not in taken:
                numbers[i] = number
                taken.add(number)
        for i in range(len(boxes)):
            if i not in numbers:
                numbers[i] = self._next_number
                self._next_number += 1
        return [numbers[i] for i in range(len(boxes))]


def scaled(box: Box, factor: float) -> Box:
    """The same box on an image that is `factor` times as large."""
    return box[0] * factor, box[1] * factor, box[2] * factor, box[3] * factor


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, 0..1; 0 for a box without an area."""
    common = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union if union > 0 else 0.0
