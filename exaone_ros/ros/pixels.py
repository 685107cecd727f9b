"""The bytes of a ROS image, as numbers: raw layouts to RGB or to metres. Knows numpy and OpenCV, no ROS.

The encodings are those of `sensor_msgs/image_encodings.hpp`, and colours come out as `cv_bridge` makes them (the same
OpenCV conversions, the same scaling of 16 bits to 8). Unlike it, nothing is read before the layout was checked.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, Union

import cv2
import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import ImageError

Bytes = Union[bytes, bytearray, memoryview, "array[int]"]
"""What rclpy hands over as `uint8[]` (an array.array), and what else is bytes."""

MAX_SIDE_PX = 16384
MAX_PIXELS = 64_000_000

Reason = Literal[
    "zero_size", "too_large", "unknown_encoding", "not_colour", "not_depth", "wrong_step", "wrong_data_size",
    "undecodable", "refused_by_engine",
]  # fmt: skip


class UnusableImage(ImageError):
    """An image message that cannot be read.

    Attributes:
        reason: the kind of fault, one word for counting; the message carries the details.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


@dataclass(frozen=True)
class Encoding:
    """How one pixel is laid out.

    Attributes:
        family: "colour" (has an RGB reading), "depth" (has a reading in metres) or "raw" (numbers without a meaning).
        dtype: of one channel, native byte order.
        channels: per pixel; 2 for YUV 4:2:2, where two pixels share their chroma.
        to_rgb: OpenCV conversion code to RGB, None where the pixels are RGB already or have no colour.
    """

    family: Literal["colour", "depth", "raw"]
    dtype: np.dtype[np.generic]
    channels: int
    to_rgb: int | None = None

    @property
    def pixel_bytes(self) -> int:
        return self.dtype.itemsize * self.channels


def _encodings() -> dict[str, Encoding]:
    table: dict[str, Encoding] = {}
    for bits in (8, 16):
        dtype = np.dtype(f"uint{bits}")
        table[f"rgb{bits}"] = Encoding("colour", dtype, 3)
        table[f"bgr{bits}"] = Encoding("colour", dtype, 3, cv2.COLOR_BGR2RGB)
        table[f"rgba{bits}"] = Encoding("colour", dtype, 4, cv2.COLOR_RGBA2RGB)
        table[f"bgra{bits}"] = Encoding("colour", dtype, 4, cv2.COLOR_BGRA2RGB)
        table[f"mono{bits}"] = Encoding("colour", dtype, 1, cv2.COLOR_GRAY2RGB)
        # ROS names the first two pixels of the first row, OpenCV the second and third pixel of the second row.
        table[f"bayer_rggb{bits}"] = Encoding("colour", dtype, 1, cv2.COLOR_BayerBG2RGB)
        table[f"bayer_bggr{bits}"] = Encoding("colour", dtype, 1, cv2.COLOR_BayerRG2RGB)
        table[f"bayer_gbrg{bits}"] = Encoding("colour", dtype, 1, cv2.COLOR_BayerGR2RGB)
        table[f"bayer_grbg{bits}"] = Encoding("colour", dtype, 1, cv2.COLOR_BayerGB2RGB)
    for name in ("yuv422", "uyvy"):
        table[name] = Encoding("colour", np.dtype(np.uint8), 2, cv2.COLOR_YUV2RGB_UYVY)
    for name in ("yuv422_yuy2", "yuyv"):
        table[name] = Encoding("colour", np.dtype(np.uint8), 2, cv2.COLOR_YUV2RGB_YUY2)
    table["16UC1"] = Encoding("depth", np.dtype(np.uint16), 1)
    table["32FC1"] = Encoding("depth", np.dtype(np.float32), 1)
    for letters, dtype_name in (
        ("8U", "uint8"), ("8S", "int8"), ("16U", "uint16"), ("16S", "int16"), ("32S", "int32"), ("32F", "float32"),
        ("64F", "float64"),
    ):  # fmt: skip
        for channels in (1, 2, 3, 4):
            table.setdefault(f"{letters}C{channels}", Encoding("raw", np.dtype(dtype_name), channels))
    return table


ENCODINGS: dict[str, Encoding] = _encodings()


def check_size(width: int, height: int) -> None:
    """Refuse sizes that no camera has, before memory is asked for.

    Raises:
        UnusableImage: a side of zero, over `MAX_SIDE_PX`, or more than `MAX_PIXELS` in all.
    """
    if width <= 0 or height <= 0:
        raise UnusableImage("zero_size", f"the image is {width}x{height} pixels; expected at least 1x1")
    if max(width, height) > MAX_SIDE_PX or width * height > MAX_PIXELS:
        raise UnusableImage(
            "too_large",
            f"the image is {width}x{height} pixels; expected sides up to {MAX_SIDE_PX} and at most "
            f"{MAX_PIXELS // 1_000_000} megapixels: check width and height of the driver",
        )


def _encoding(name: str) -> Encoding:
    if name not in ENCODINGS:
        near = get_close_matches(name.strip().lower(), ENCODINGS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else "let the driver or image_proc convert it"
        raise UnusableImage(
            "unknown_encoding",
            f"the encoding is {name[:40]!r}; expected rgb, bgr, rgba, bgra, mono or bayer_* with 8 or 16 bits, yuv422, "
            f"yuv422_yuy2, or 16UC1 or 32FC1 for depth; {hint}",
        )
    return ENCODINGS[name]


def checked_view(
    data: Bytes, height: int, width: int, step: int, name: str, is_bigendian: int = 0
) -> NDArray[np.generic]:
    """A read-only view [H, W, C] on the bytes of an image with encoding `name`; rows may be padded. Copies nothing.

    Raises:
        UnusableImage: unknown encoding, zero or absurd size, a step too short, or not height * step bytes.
    """
    encoding = _encoding(name)
    check_size(width, height)
    if encoding.to_rgb in (cv2.COLOR_YUV2RGB_UYVY, cv2.COLOR_YUV2RGB_YUY2) and width % 2:
        raise UnusableImage(
            "wrong_step", f"a {name} image is {width} pixels wide; two share their colour: expected even"
        )
    least = width * encoding.pixel_bytes
    if step < least:
        raise UnusableImage(
            "wrong_step",
            f"step is {step} bytes; a row of {width} {name} pixels has {least}: step is the full row in bytes",
        )
    size = memoryview(data).nbytes
    if size != height * step:
        raise UnusableImage(
            "wrong_data_size", f"data has {size} bytes; expected height x step = {height} x {step} = {height * step}"
        )
    dtype = encoding.dtype.newbyteorder(">" if is_bigendian else "<")
    shape = (height, width, encoding.channels)
    strides = (step, encoding.pixel_bytes, encoding.dtype.itemsize)
    view: NDArray[np.generic] = np.ndarray(shape, dtype, buffer=memoryview(data).cast("B"), strides=strides)
    view.flags.writeable = False
    return view


def pixels_to_rgb(
    data: Bytes, *, height: int, width: int, step: int, encoding: str, is_bigendian: int = 0
) -> NDArray[np.uint8]:
    """Read colour pixels as RGB.

    Args:
        data: height * step bytes.
        height: rows.
        width: pixels per row.
        step: bytes per row, padding included.
        encoding: a name of sensor_msgs/image_encodings.
        is_bigendian: byte order of 16-bit channels.

    Returns:
        uint8 [H, W, 3]. For rgb8 a read-only view on `data` (with padded rows where `data` has them), else a new array.

    Raises:
        UnusableImage: anything about the layout is wrong, or the encoding carries no colour.
    """
    kind = _encoding(encoding)
    if kind.family != "colour":
        hint = "it is a depth image" if kind.family == "depth" else "its channels have no named colours"
        raise UnusableImage(
            "not_colour", f"the encoding is '{encoding}': {hint}; expected a colour image such as rgb8, bgr8 or mono8"
        )
    view = checked_view(data, height, width, step, encoding, is_bigendian)
    if kind.to_rgb is None and kind.dtype == np.uint8:
        return view  # type: ignore[return-value]
    if encoding.startswith("bayer") and min(height, width) < 3:
        raise UnusableImage(
            "zero_size", f"a Bayer image is {width}x{height} pixels; expected at least 3x3 for a colour"
        )
    native = np.ascontiguousarray(view, dtype=kind.dtype)
    rgb = native if kind.to_rgb is None else cv2.cvtColor(native, kind.to_rgb)
    if kind.dtype == np.uint16:
        rgb = cv2.convertScaleAbs(rgb, alpha=255.0 / 65535.0)
    return rgb  # type: ignore[return-value]


_DEPTH_SCALE_M: dict[str, float] = {"16UC1": 1e-3, "32FC1": 1.0}


def pixels_to_depth_m(
    data: Bytes, *, height: int, width: int, step: int, encoding: str, is_bigendian: int = 0
) -> NDArray[np.float32]:
    """Read depth pixels in metres: 16UC1 holds millimetres with 0 for a hole, 32FC1 metres (REP 118).

    Returns:
        float32 [H, W], NaN where nothing was measured (0, negative, NaN or infinite).

    Raises:
        UnusableImage: anything about the layout is wrong, or the encoding carries no depth.
    """
    if _encoding(encoding).family != "depth":
        raise UnusableImage("not_depth", f"the encoding is '{encoding}'; expected a depth image, 16UC1 or 32FC1")
    view = checked_view(data, height, width, step, encoding, is_bigendian)[:, :, 0]
    depth = view.astype(np.float32) * np.float32(_DEPTH_SCALE_M[encoding])
    depth[~(np.isfinite(depth) & (depth > 0))] = np.nan
    return depth


PixelReader = Callable[..., NDArray[np.uint8]]
"""Anything with the signature of `pixels_to_rgb`."""
