"""Draw answers onto the image that they were read from."""

from __future__ import annotations

import textwrap
import zlib
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from exaone_ros.tasks import Detection

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_CHARACTER_PX = 19
"""Width of a letter at scale 1, on average and rounded up."""
_FAR_PX = 30_000
_PALETTE = ((66, 133, 244), (52, 168, 83), (251, 188, 5), (234, 67, 53), (171, 71, 188), (0, 172, 193), (255, 112, 67))


def colour_of(label: str) -> tuple[int, int, int]:
    """A colour (RGB) that stays the same for a label over frames and runs."""
    return _PALETTE[zlib.crc32(label.encode()) % len(_PALETTE)]


def annotate(
    image: NDArray[np.uint8],
    detections: Sequence[Detection],
    lines: Sequence[str] = (),
    truth: Sequence[tuple[float, float, float, float]] = (),
) -> NDArray[np.uint8]:
    """Return a copy of the image with boxes, labels with scores, and lines of text below it.

    Args:
        image: uint8 RGB [H, W, 3].
        detections: boxes in pixels of `image`; one with an edge that is not finite is left out.
        lines: text for the panel under the image (counts, decision, age). Latin letters; others show as '?'.
        truth: true boxes, drawn thin and white under the detections.

    Returns:
        uint8 RGB [H + panel, W, 3]; the panel's height depends on the number of lines only.
    """
    height, width = image.shape[:2]
    scale = _scale(width)
    line_px = int(34 * scale)
    canvas = np.full((height + line_px * len(lines) + (line_px // 3 if lines else 0), width, 3), 24, np.uint8)
    canvas[:height] = image
    for box in truth:
        if np.isfinite(box).all():
            x1, y1, x2, y2 = _corners(box)
            cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), (255, 255, 255), 1)
    for detection in detections:
        if np.isfinite(detection.box).all():
            _box(canvas, detection, scale)
    for i, line in enumerate(lines):
        at = (int(8 * scale) + 2, height + line_px * (i + 1) - line_px // 4)
        cv2.putText(canvas, line, at, _FONT, scale, (235, 235, 235), 1, cv2.LINE_AA)
    return canvas


def wrapped(text: str, width_px: int, lines: int) -> list[str]:
    """Text in exactly so many lines for the panel of an image; what does not fit is cut, marked by dots.

    Args:
        text: one paragraph; white space of any kind counts as one blank.
        width_px: of the image.
        lines: how many there are, empty ones at the end included.
    """
    scale = _scale(width_px)
    characters = max(int((width_px - 16 * scale) / (_CHARACTER_PX * scale)), 8)
    found = textwrap.wrap(text, characters, max_lines=lines, placeholder=" ...", break_long_words=True)
    return found + [""] * (lines - len(found))


def _scale(width_px: int) -> float:
    """Of the font on an image of this width."""
    return max(width_px / 1000, 0.42)


def _corners(box: Sequence[float]) -> tuple[int, int, int, int]:
    """Whole pixels; what is far outside of the image stays outside, but in numbers that OpenCV can draw to."""
    x1, y1, x2, y2 = (round(v) for v in np.clip(box, -_FAR_PX, _FAR_PX).tolist())
    return x1, y1, x2, y2


def _box(canvas: NDArray[np.uint8], detection: Detection, scale: float) -> None:
    x1, y1, x2, y2 = _corners(detection.box)
    colour = colour_of(detection.label)
    cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), colour, 2)
    score = "" if np.isnan(detection.score) else f" {detection.score:.2f}"
    text = detection.label + score
    (text_width, text_height), base = cv2.getTextSize(text, _FONT, scale * 0.8, 1)
    top = y1 - text_height - base if y1 - text_height - base >= 0 else y2
    left = int(np.clip(x1, 0, max(canvas.shape[1] - text_width - 4, 0)))
    cv2.rectangle(canvas, (left, top), (left + text_width + 4, top + text_height + base), colour, -1)
    cv2.putText(canvas, text, (left + 2, top + text_height), _FONT, scale * 0.8, (0, 0, 0), 1, cv2.LINE_AA)
