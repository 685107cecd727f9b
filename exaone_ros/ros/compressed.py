"""JPEG and PNG of a camera to RGB. Knows OpenCV, no ROS.

The header is read before the decoder runs: a picture that claims to be enormous costs nothing, and one that was cut
off is refused. (OpenCV fills the missing part of a truncated JPEG with grey and reports success.)
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from exaone_ros.ros.pixels import ENCODINGS, Bytes, UnusableImage, check_size, pixels_to_rgb

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNK_BYTES = 12
"""Of a chunk beside its data: length, kind and checksum."""
_JPEG_START, _JPEG_END = b"\xff\xd8", 0xD9
_JPEG_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
"""Of what has a length; in the data of a scan 0xff is followed by 0, or by D0 to D7 where decoding may begin anew."""
# Cameras write the sensor's raster; a rotation tag would turn the pixels away from the camera_info that describes them.
_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def compressed_to_rgb(data: Bytes, format: str = "") -> NDArray[np.uint8]:
    """Decode a JPEG or PNG picture.

    Args:
        data: the picture's bytes; what they are is read from themselves.
        format: the message's `format`, e.g. ``"jpeg"`` or ``"bgr8; jpeg compressed bgr8"``; tells depth from colour,
            and what the colours of a Bayer mosaic are, which image_transport compresses as a grey picture.

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
    mosaic = source.startswith("bayer_") and source in ENCODINGS
    try:
        picture = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED if mosaic else _FLAGS)
        if mosaic and picture is not None and picture.ndim == 3:  # converted to colours before it was compressed
            mosaic, picture = False, cv2.imdecode(np.frombuffer(raw, np.uint8), _FLAGS)
    except cv2.error as error:
        raise UnusableImage("undecodable", f"the {width}x{height} picture cannot be decoded: {error.err}") from error
    if picture is None:
        raise UnusableImage("undecodable", f"the {width}x{height} picture of {len(raw)} bytes is damaged")
    if mosaic:
        encoding = f"{source.rstrip('0123456789')}{8 * picture.itemsize}"  # a JPEG has 8 bits, whatever it was made of
        step = width * picture.itemsize
        return pixels_to_rgb(picture.tobytes(), height=height, width=width, step=step, encoding=encoding)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def picture_size(raw: memoryview) -> tuple[int, int]:
    """(width, height) that a complete JPEG or PNG says it has, in pixels.

    Raises:
        UnusableImage: neither of the two, or its end is missing.
    """
    if raw[:8] == _PNG_START:
        return _png_size(raw)
    if raw[:2] == _JPEG_START:
        return _jpeg_size(raw)
    raise UnusableImage(
        "undecodable", f"the compressed image begins with {bytes(raw[:8]).hex(' ') or 'nothing'}; expected JPEG or PNG"
    )


def _png_size(raw: memoryview) -> tuple[int, int]:
    """Walk the PNG's chunks to its end, behind which cameras may pad what they send; the size is in the first."""
    if bytes(raw[12:16]) != b"IHDR" or len(raw) < 33:
        raise UnusableImage("undecodable", f"the PNG of {len(raw)} bytes has no header")
    width, height = struct.unpack(">II", raw[16:24])
    at = len(_PNG_START)
    while at + _PNG_CHUNK_BYTES <= len(raw):
        length, kind = struct.unpack(">I4s", raw[at : at + 8])
        if kind == b"IEND":
            return width, height
        at += _PNG_CHUNK_BYTES + length
    raise UnusableImage("undecodable", f"the PNG of {len(raw)} bytes is cut off: its end is missing")


def _jpeg_size(raw: memoryview) -> tuple[int, int]:
    """Walk the JPEG's segments to its end, behind which cameras may pad what they send; the size is in one of them."""
    size: tuple[int, int] | None = None
    for marker, at in _jpeg_segments(raw):
        if marker == _JPEG_END and size is not None:
            return size
        if marker in _JPEG_FRAME_HEADERS and at + 9 <= len(raw):
            height, width = struct.unpack(">HH", raw[at + 5 : at + 9])
            size = width, height
    what = "has no frame header" if size is None else "is cut off: its end is missing"
    raise UnusableImage("undecodable", f"the JPEG of {len(raw)} bytes {what}")


def _jpeg_segments(raw: memoryview) -> Iterator[tuple[int, int]]:
    """(marker, place of its 0xff) of each segment, up to the first end; the data of scans is passed over."""
    at = 2
    while found := _JPEG_MARKER.search(raw, at):
        at, marker = found.start(), raw[found.start() + 1]
        yield marker, at
        if marker == _JPEG_END or at + 4 > len(raw):
            return
        at += 2 + int(struct.unpack(">H", raw[at + 2 : at + 4])[0])
