"""Image messages to RGB arrays and back."""

from __future__ import annotations

import array
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import ImageError
from exaone_ros.ros.compressed import compressed_to_rgb
from exaone_ros.ros.pixels import PixelReader, pixels_to_depth_m, pixels_to_rgb

if TYPE_CHECKING:
    from sensor_msgs.msg import CompressedImage, Image
    from std_msgs.msg import Header


def image_to_rgb(message: Image, read: PixelReader = pixels_to_rgb) -> NDArray[np.uint8]:
    """Read a colour image.

    Args:
        message: any colour encoding of sensor_msgs/image_encodings.
        read: who converts, see `bridge.pixel_reader`.

    Returns:
        uint8 RGB [H, W, 3]; for rgb8 a read-only view on the message's own data.

    Raises:
        UnusableImage: wrong step, wrong amount of data, zero or absurd size, unknown encoding, or no colour image.
    """
    return read(
        message.data,
        height=message.height,
        width=message.width,
        step=message.step,
        encoding=message.encoding,
        is_bigendian=message.is_bigendian,
    )


def compressed_image_to_rgb(message: CompressedImage) -> NDArray[np.uint8]:
    """Decode a JPEG or PNG image; uint8 RGB [H, W, 3].

    Raises:
        UnusableImage: depth, another format, cut off, damaged, zero or absurd size.
    """
    return compressed_to_rgb(message.data, message.format)


def image_to_depth_m(message: Image) -> NDArray[np.float32]:
    """Read a depth image in metres, float32 [H, W], NaN where nothing was measured.

    Raises:
        UnusableImage: as `image_to_rgb`, or a colour image.
    """
    return pixels_to_depth_m(
        message.data,
        height=message.height,
        width=message.width,
        step=message.step,
        encoding=message.encoding,
        is_bigendian=message.is_bigendian,
    )


def rgb_to_image(rgb: NDArray[np.uint8], header: Header | None = None) -> Image:
    """Make an rgb8 message of uint8 RGB [H, W, 3].

    The bytes go in as an `array.array`: rclpy takes that as it is, whereas an ndarray or a list is walked through
    element by element (80 ms for 640x480).

    Raises:
        ImageError: another shape or type.
    """
    from sensor_msgs.msg import Image

    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ImageError(f"the image is {rgb.dtype} {list(rgb.shape)}; expected uint8 [H, W, 3]")
    height, width = rgb.shape[:2]
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(rgb).data)
    message = Image(height=height, width=width, encoding="rgb8", is_bigendian=0, step=3 * width)
    message.data = data
    if header is not None:
        message.header = header
    return message
