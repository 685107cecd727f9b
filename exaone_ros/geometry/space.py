"""From a box on an image and an aligned depth image to a box in space.

The depth in a box is a mixture: the object, what stands in front of a part of it, what is behind it, and holes. The
object is taken to be the nearest of the surfaces that fill a good part of the box's middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import ImageError
from exaone_ros.geometry.camera import CameraModel

Box = tuple[float, float, float, float]

MIDDLE = 0.5
"""Share of the box's width and height that is looked at first: near the edges much of a box is background."""
LEAST_PIXELS = 12
LEAST_SHARE = 0.05
"""Of the pixels looked at, so many must have a depth."""
BIN = 0.02
"""Width of the histogram's bins in ln(depth): 2% of the distance."""
PEAK_SHARE = 0.3
"""A nearer surface counts where its peak is at least this much of the highest one."""
BEHIND = 0.4
"""The middle of a body lies this share of its thickness behind the median of the surface that is seen. Measured on the
simulated table, seen from above at an angle: ball 0.45, cylinder 0.52, cube and mug 0.33."""
FAR_OUTSIDE_PX = 1e6
"""Boxes may leave the image; beyond this their numbers mean nothing."""


class NoDepth(Enum):
    """Why a box has no place in space."""

    OUTSIDE = "box_outside_image"
    HOLES = "depth_has_holes"


@dataclass(frozen=True)
class BoxInSpace:
    """An upright box in the camera's optical frame (x right, y down, z ahead), its sides along the frame's axes.

    Attributes:
        center: (x, y, z) of its middle, metres.
        size: (width, height, thickness), metres. The back of a thing is not seen: its thickness is taken to be the
            smaller of width and height.
        surface_m: median depth of the surface that was seen.
        pixels: how many pixels that surface has in the part of the box that was looked at.
    """

    center: tuple[float, float, float]
    size: tuple[float, float, float]
    surface_m: float
    pixels: int


def locate(
    depth_m: NDArray[np.float32], box: Box, camera: CameraModel, near_m: float = 0.05, far_m: float = 20.0
) -> BoxInSpace | NoDepth:
    """Find the box in space of what a box on the image shows.

    Args:
        depth_m: float [H, W], distance along the optical axis in metres, aligned with the image; NaN, infinite, zero
            or out of range where there is none.
        box: (x1, y1, x2, y2) in pixels of the image, exclusive at x2 and y2.
        camera: that took the image.
        near_m, far_m: depths out of this range are holes.

    Returns:
        The box in space, or why there is none.

    Raises:
        ImageError: the depth image is not of the camera's size.
    """
    if depth_m.shape != (camera.height, camera.width):
        raise ImageError(
            f"the depth image is {depth_m.shape[1]}x{depth_m.shape[0]}, camera_info {camera.width}x{camera.height}; "
            "expected depth that is aligned with the colour image (e.g. aligned_depth_to_color)"
        )
    if not np.isfinite(box).all() or box[2] <= box[0] or box[3] <= box[1]:
        return NoDepth.OUTSIDE
    surface = None
    for share in (MIDDLE, 1.0):
        window = _window(depth_m, box, share)
        if window.size == 0:
            return NoDepth.OUTSIDE
        with np.errstate(invalid="ignore"):
            valid = window[(window >= near_m) & (window <= far_m)]  # NaN is neither
        if valid.size >= max(LEAST_PIXELS, LEAST_SHARE * window.size):
            surface = nearest_surface(valid)
            break
    if surface is None:
        return NoDepth.HOLES
    surface_m = float(np.median(surface))
    x1, y1, x2, y2 = np.clip(box, -FAR_OUTSIDE_PX, FAR_OUTSIDE_PX).tolist()
    (left, top), (right, bottom) = camera.rays([(x1, y1), (x2, y2)])
    # The outline is about as far away as the middle, so sizes follow from the middle's depth, and it from them.
    wide, high = float(right - left), float(bottom - top)
    slim = min(wide, high)
    middle_m = surface_m / max(1 - BEHIND * slim, 0.5)
    return BoxInSpace(
        (float(left + right) / 2 * middle_m, float(top + bottom) / 2 * middle_m, middle_m),
        (wide * middle_m, high * middle_m, slim * middle_m),
        surface_m,
        int(surface.size),
    )


def nearest_surface(depths_m: NDArray[np.float32]) -> NDArray[np.float32]:
    """The depths of the nearest surface that is worth the name; [n] of valid depths in, some of them out."""
    logs = np.log(depths_m)
    low = float(logs.min())
    index = ((logs - low) / BIN).astype(np.int64)
    counts = np.bincount(index)
    smooth = np.convolve(counts, (1, 2, 1), "same")
    worth = np.flatnonzero(smooth >= PEAK_SHARE * smooth.max())
    first = last = int(worth[0])
    while last + 1 < len(smooth) and smooth[last + 1] >= PEAK_SHARE * smooth.max():
        last += 1
    return depths_m[(index >= first) & (index <= last)]


def _window(depth_m: NDArray[np.float32], box: Box, share: float) -> NDArray[np.float32]:
    """The middle part of a box, cut at the image's edges; at least three pixels a side where the image has them."""
    sides = []
    for low, high, size in ((box[1], box[3], depth_m.shape[0]), (box[0], box[2], depth_m.shape[1])):
        low, high = max(low, 0.0), min(high, float(size))
        half = max((high - low) * share, 3.0) / 2
        middle = (low + high) / 2
        sides.append(slice(max(round(middle - half), 0), max(min(round(middle + half), size), 0)))
        if high <= low:
            return depth_m[:0, :0]
    return depth_m[sides[0], sides[1]]
