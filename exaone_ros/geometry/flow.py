"""Where boxes have moved to between two images, by sparse optical flow; None where that is not certain.

The median flow of Kalal, Mikolajczyk and Matas ("Forward-Backward Error", ICPR 2010): corners in a box are followed to
the next image and back again; those that come back to where they started move the box by their medians.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]

WORK_WIDTH_PX = 320
"""Images are made this wide: flow costs less, and large motions stay within its reach."""
POINTS = 24
LEAST_POINTS = 6
LEAST_SHARE = 0.5
"""Of the points followed, so many must come back."""
ROUND_TRIP_PX = 1.0
"""How far from its start a point may come back, at the working size."""
SPREAD_PX = 2.0
"""How far the points of a box may disagree (median absolute deviation), at the working size."""
SCALE_RANGE = (0.7, 1.4)
"""Growth or shrinking from one image to the next beyond this is not believed."""
LEAST_INSIDE = 0.5
"""A box with less of its area in the image is let go."""
MARGIN = 0.08
"""A plain object has its corners on its outline: points are looked for this share of its size beyond the box too."""


def grey_of(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 RGB [H, W, 3] to the grey image that flow is computed on, WORK_WIDTH_PX wide or less."""
    height, width = rgb.shape[:2]
    if width > WORK_WIDTH_PX:
        size = (WORK_WIDTH_PX, max(round(height * WORK_WIDTH_PX / width), 1))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)  # type: ignore[return-value]


def moved_boxes(before: NDArray[np.uint8], after: NDArray[np.uint8], boxes: Sequence[Box]) -> list[Box | None]:
    """Follow boxes from one image to the next.

    Args:
        before, after: grey images of one size, uint8 [H, W].
        boxes: (x1, y1, x2, y2) in pixels of `before`.

    Returns:
        Each box in pixels of `after`, or None where it cannot be told: too few points come back, they disagree, or
        the box leaves the image.
    """
    if before.shape != after.shape:
        return [None] * len(boxes)
    starts = [_points_in(before, box) for box in boxes]
    if not sum(len(points) for points in starts):
        return [None] * len(boxes)
    there = np.concatenate(starts).astype(np.float32)[:, None]
    window: dict[str, Any] = {"winSize": (15, 15), "maxLevel": 3}
    nothing: Any = None  # OpenCV takes it for "no guess"; its stubs do not say so
    ends, found, _ = cv2.calcOpticalFlowPyrLK(before, after, there, nothing, **window)
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(after, before, ends, nothing, **window)
    returned = np.linalg.norm(back - there, axis=2)[:, 0] < ROUND_TRIP_PX
    good = returned & (found[:, 0] == 1) & (found_back[:, 0] == 1)
    out: list[Box | None] = []
    first = 0
    for box, points in zip(boxes, starts, strict=True):
        own = slice(first, first + len(points))
        first += len(points)
        kept = good[own]
        certain = kept.sum() >= max(LEAST_POINTS, LEAST_SHARE * len(points))
        moved = _moved(box, points[kept], ends[own, 0][kept]) if certain else None
        out.append(moved if moved is not None and _inside(moved, after.shape[1], after.shape[0]) else None)
    return out


def _points_in(grey: NDArray[np.uint8], box: Box) -> NDArray[np.float32]:
    """Corners in and just around a box, float32 [n, 2]."""
    height, width = grey.shape
    if not np.isfinite(box).all():
        return np.empty((0, 2), np.float32)
    across, down = MARGIN * (box[2] - box[0]), MARGIN * (box[3] - box[1])
    x1, y1 = max(int(box[0] - across), 0), max(int(box[1] - down), 0)
    x2, y2 = min(int(np.ceil(box[2] + across)), width), min(int(np.ceil(box[3] + down)), height)
    if x2 - x1 < 4 or y2 - y1 < 4:
        return np.empty((0, 2), np.float32)
    corners = cv2.goodFeaturesToTrack(grey[y1:y2, x1:x2], POINTS, 0.01, 2.0)
    if corners is None:
        return np.empty((0, 2), np.float32)
    points: NDArray[np.float32] = corners[:, 0] + np.array([x1, y1], np.float32)
    return points


def _moved(box: Box, starts: NDArray[np.float32], ends: NDArray[np.float32]) -> Box | None:
    shifts = ends - starts
    shift = np.median(shifts, axis=0)
    first, second = np.triu_indices(len(starts), 1)
    apart = np.linalg.norm(starts[first] - starts[second], axis=1)
    far = apart > 3  # of near pairs the ratio is all noise
    ratios = np.linalg.norm(ends[first] - ends[second], axis=1)[far] / apart[far]
    scale = float(np.median(ratios)) if far.any() else 1.0
    middle = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    # What is left when the box's own motion is taken off: where that is much, the points are not one thing.
    rest = shifts - shift - (starts - np.median(starts, axis=0)) * (scale - 1)
    if not SCALE_RANGE[0] <= scale <= SCALE_RANGE[1] or np.median(np.abs(rest)) > SPREAD_PX:
        return None
    # The median shift is that of the points' middle, which need not be the box's.
    centre = middle + shift + (middle - np.median(starts, axis=0)) * (scale - 1)
    half = np.array([box[2] - box[0], box[3] - box[1]]) / 2 * scale
    low, high = centre - half, centre + half
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _inside(box: Box, width: int, height: int) -> bool:
    area = (box[2] - box[0]) * (box[3] - box[1])
    seen = max(min(box[2], width) - max(box[0], 0.0), 0.0) * max(min(box[3], height) - max(box[1], 0.0), 0.0)
    return bool(area > 0 and seen >= LEAST_INSIDE * area)
