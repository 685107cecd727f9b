"""Colour conversion by the `cv_bridge` of an installed ROS, where there is one that works; else ours.

The layout is checked by us either way: depending on its version, `cv_bridge` ignores `step` or reads past what it got.
"""

from __future__ import annotations

import array
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import MissingExtra
from exaone_ros.ros.pixels import Bytes, PixelReader, UnusableImage, checked_view, pixels_to_rgb

Converter = Literal["auto", "cv_bridge", "builtin"]


def pixel_reader(converter: Converter = "auto") -> tuple[str, PixelReader]:
    """Choose who converts colours.

    Args:
        converter: "cv_bridge", "builtin", or "auto": cv_bridge where it is installed and works.

    Returns:
        A description of the choice (with the reason where `auto` had to pass over an installed cv_bridge), the reader.

    Raises:
        MissingExtra: "cv_bridge" was asked for and is not there or does not work.
    """
    if converter == "builtin":
        return "builtin", pixels_to_rgb
    try:
        return "cv_bridge", _bridge_reader()
    except MissingExtra as error:
        if converter == "cv_bridge":
            raise
        installed = not isinstance(error.__cause__, ModuleNotFoundError)
        return (f"builtin ({error})" if installed else "builtin"), pixels_to_rgb


def _bridge_reader() -> PixelReader:
    try:
        from cv_bridge import CvBridge
        from sensor_msgs.msg import Image

        bridge = CvBridge()
        # A cv_bridge built for numpy 1 may import under numpy 2 and fail at the first conversion: try one.
        if _convert(bridge, Image, b"\1\2\3", 1, 1, "bgr8", 0).tolist() != [[[3, 2, 1]]]:
            raise ImportError("it does not convert bgr8 to rgb8")
    except Exception as error:  # whatever it raises, a bridge that cannot convert one pixel is no bridge
        raise MissingExtra(
            f"cv_bridge does not work here ({type(error).__name__}: {error}); install the cv_bridge of this ROS with "
            "the numpy it was built for, or set the parameter image_converter to builtin"
        ) from error

    def read(
        data: Bytes, *, height: int, width: int, step: int, encoding: str, is_bigendian: int = 0
    ) -> NDArray[np.uint8]:
        if encoding == "rgb8":  # nothing to convert: a view will do
            return pixels_to_rgb(data, height=height, width=width, step=step, encoding=encoding)
        view = checked_view(data, height, width, step, encoding, is_bigendian)
        try:
            return _convert(bridge, Image, view.tobytes(), height, width, encoding, is_bigendian)
        except Exception as error:  # CvBridgeError, or what its version lets through
            raise UnusableImage("not_colour", f"cv_bridge cannot read '{encoding}' as rgb8: {error}") from error

    return read


def _convert(
    bridge: Any, image_type: Any, packed: bytes, height: int, width: int, encoding: str, is_bigendian: int
) -> NDArray[np.uint8]:
    message = image_type(height=height, width=width, encoding=encoding, is_bigendian=is_bigendian)
    message.step = len(packed) // height
    message.data = array.array("B", packed)
    return cast("NDArray[np.uint8]", bridge.imgmsg_to_cv2(message, "rgb8"))
