"""JPEG and PNG of a camera to RGB. Knows OpenCV, no ROS.

The header is read before the decoder runs: a picture that claims to be enormous costs nothing, and one that was cut
off is refused. (OpenCV fills the missing part of a truncated JPEG with grey and reports success.)
"""

from __future__ import annotations

import struct

import cv2
import numpy as np
from numpy.typing import NDArray

from exaone_ros.ros.pixels import ENCODINGS, Bytes, UnusableImage, check_size

_PNG_START = b"\x89PNG\r\n\x1a\n"
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_JPEG_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_WITHOUT_LENGTH = frozenset(range(0xD0, 0xD8)) | {0x01}
# Cameras write the sensor's raster; a rotation tag would turn the pixels away from the camera_info that describes them.
_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def compressed_to_rgb(data: Bytes, format: str = "") -> NDArray[np.uint8]:
    """Decode a JPEG or PNG picture.

    Args:
        data: the picture's bytes; what they are is read from themselves.
        format: the message's `format`, e.g. ``"jpeg"`` or ``"bgr8; jpeg compressed bgr8"``; tells depth from colour.

    Returns:
        uint8 RGB [H, W, 3].

    Raises:
        UnusableImage: depth, not JPEG or PNG, cut off, damaged, of zero or absurd size.
    """
    source = format.split(";")[0].strip()
    if "compresseddepth" in format.lower() or (source in ENCODINGS and ENCODINGS[source].family == "depth"):
        raise UnusableImage("not_colour", f"the compressed image is depth (format {format[:60]!r}); expected colour")
    raw = memoryview(data).cast("B")
    width, height = picture_size(raw)
    check_size(width, height)
    try:
        bgr = cv2.imdecode(np.frombuffer(raw, np.uint8), _FLAGS)
    except cv2.error as error:
        raise UnusableImage("undecodable", f"the {width}x{height} picture cannot be decoded: {error.err}") from error
    if bgr is None:
        raise UnusableImage("undecodable", f"the {width}x{height} picture of {len(raw)} bytes is damaged")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def picture_size(raw: memoryview) -> tuple[int, int]:
    """(width, height) that a complete JPEG or PNG says it has, in pixels.

    Raises:
        UnusableImage: neither of the two, or its end is missing.
    """
    if raw[:8] == _PNG_START:
        if bytes(raw[12:16]) != b"IHDR" or len(raw) < 33:
            raise UnusableImage("undecodable", f"the PNG of {len(raw)} bytes has no header")
        if b"IEND" not in bytes(raw[-16:]):
            raise UnusableImage("undecodable", f"the PNG of {len(raw)} bytes is cut off: its end is missing")
        width, height = struct.unpack(">II", raw[16:24])
        return width, height
    if raw[:2] == _JPEG_START:
        if _JPEG_END not in bytes(raw[-64:]):  # some encoders pad with zeros
            raise UnusableImage("undecodable", f"the JPEG of {len(raw)} bytes is cut off: its end is missing")
        return _jpeg_size(raw)
    raise UnusableImage(
        "undecodable", f"the compressed image begins with {bytes(raw[:8]).hex(' ') or 'nothing'}; expected JPEG or PNG"
    )


def _jpeg_size(raw: memoryview) -> tuple[int, int]:
    """Walk the JPEG's segments to its frame header."""
    at = 2
    while at + 9 <= len(raw):
        if raw[at] != 0xFF:
            break
        marker = raw[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _JPEG_WITHOUT_LENGTH:
            at += 2
        elif marker in _JPEG_FRAME_HEADERS:
            height, width = struct.unpack(">HH", raw[at + 5 : at + 9])
            return width, height
        else:
            at += 2 + int(struct.unpack(">H", raw[at + 2 : at + 4])[0])
    raise UnusableImage("undecodable", f"the JPEG of {len(raw)} bytes has no frame header")
