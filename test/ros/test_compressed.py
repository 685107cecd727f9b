"""JPEG and PNG pictures: read as they are, refused when cut off, damaged, deep or enormous."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from exaone_ros.ros.compressed import compressed_to_rgb, picture_size
from exaone_ros.ros.pixels import UnusableImage


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """Smooth colours, 48x64 RGB: JPEG keeps them."""
    rows, columns = np.mgrid[0:48, 0:64]
    return np.stack([rows * 5, columns * 4, 255 - rows - columns], axis=-1).astype(np.uint8)


def encoded(rgb: np.ndarray, extension: str) -> bytes:
    return bytes(cv2.imencode(extension, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1])


def test_png_is_exact_and_jpeg_is_close(scene: np.ndarray) -> None:
    np.testing.assert_array_equal(compressed_to_rgb(encoded(scene, ".png"), "rgb8; png compressed bgr8"), scene)
    jpeg = compressed_to_rgb(encoded(scene, ".jpg"), "jpeg")
    assert np.abs(jpeg.astype(int) - scene).mean() < 3


def test_grey_pictures_get_three_equal_channels(scene: np.ndarray) -> None:
    grey = bytes(cv2.imencode(".png", scene[:, :, 0])[1])
    rgb = compressed_to_rgb(grey, "mono8; png compressed mono8")
    np.testing.assert_array_equal(rgb, np.repeat(scene[:, :, :1], 3, axis=2))


@pytest.mark.parametrize("extension", [".png", ".jpg"])
def test_the_size_is_read_without_decoding(scene: np.ndarray, extension: str) -> None:
    assert picture_size(memoryview(encoded(scene, extension))) == (64, 48)


@pytest.mark.parametrize("extension", [".png", ".jpg"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.98])
def test_a_picture_that_was_cut_off_is_refused(scene: np.ndarray, extension: str, share: float) -> None:
    whole = encoded(scene, extension)
    with pytest.raises(UnusableImage) as caught:
        compressed_to_rgb(whole[: int(len(whole) * share)])
    assert caught.value.reason == "undecodable"


@pytest.mark.parametrize("padding", [bytes(16), bytes(5000), b"\xff" * 300, b"\xff\xd8left over\xff\xc0\0\x0b" * 99])
@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_padding_behind_a_picture_is_no_fault(scene: np.ndarray, padding: bytes, extension: str) -> None:
    whole = encoded(scene, extension)
    np.testing.assert_array_equal(compressed_to_rgb(whole + padding), compressed_to_rgb(whole))


def test_a_buffer_padded_behind_a_picture_that_was_cut_off_is_refused(scene: np.ndarray) -> None:
    """The end of the thumbnail in its EXIF segment is not the picture's, nor what looks like one in a segment."""
    whole = encoded(scene, ".jpg")
    thumbnail = b"\xff\xe1" + struct.pack(">H", len(whole) + 2) + whole
    assert compressed_to_rgb(whole[:2] + thumbnail + whole[2:]).shape == (48, 64, 3)
    with pytest.raises(UnusableImage, match="cut off: its end is missing"):
        compressed_to_rgb(whole[:2] + thumbnail + whole[2 : len(whole) * 4 // 5] + bytes(5000))


def test_the_end_of_a_png_is_a_whole_chunk(scene: np.ndarray) -> None:
    whole = encoded(scene, ".png")
    for cut in (whole[:-1], whole[:-12] + bytes(5000), whole[: len(whole) // 2] + b"\0\0\0\0IEND\xaeB`\x82"):
        with pytest.raises(UnusableImage, match=r"PNG of .* is cut off: its end is missing"):
            compressed_to_rgb(cut)


def test_a_progressive_jpeg_has_many_scans(scene: np.ndarray) -> None:
    bgr = cv2.cvtColor(scene, cv2.COLOR_RGB2BGR)
    settings = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 1]
    whole = bytes(cv2.imencode(".jpg", bgr, settings)[1])
    assert whole.count(b"\xff\xda") > 3 and b"\xff\xd0" in whole
    assert compressed_to_rgb(whole + bytes(500)).shape == (48, 64, 3)
    with pytest.raises(UnusableImage, match="cut off"):
        compressed_to_rgb(whole[: len(whole) * 9 // 10])


def mosaic_of(rgb: np.ndarray, pattern: str) -> np.ndarray:
    """What a sensor with this Bayer pattern sees."""
    out = np.empty(rgb.shape[:2], rgb.dtype)
    for index, colour in enumerate(pattern):
        row, column = divmod(index, 2)
        out[row::2, column::2] = rgb[row::2, column::2, "rgb".index(colour)]
    return out


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize(
    ("format", "extension", "factor"),
    [
        ("bayer_{}8; png compressed bgr8", ".png", 1),
        ("bayer_{}8; jpeg compressed ", ".jpg", 1),
        ("bayer_{}16; png compressed ", ".png", 257),
        ("bayer_{}16; jpeg compressed ", ".jpg", 1),
    ],
)
def test_a_compressed_bayer_mosaic_gets_its_colours(
    scene: np.ndarray, pattern: str, format: str, extension: str, factor: int
) -> None:
    mosaic = mosaic_of(scene, pattern).astype(np.uint8 if factor == 1 else np.uint16) * factor
    data = bytes(cv2.imencode(extension, mosaic, [cv2.IMWRITE_JPEG_QUALITY, 100])[1])
    found = compressed_to_rgb(data, format.format(pattern))
    assert found.shape == scene.shape and found.dtype == np.uint8
    assert np.abs(found.astype(int) - scene)[2:-2, 2:-2].mean() < 3


def test_a_bayer_picture_that_has_its_colours_keeps_them(scene: np.ndarray) -> None:
    found = compressed_to_rgb(encoded(scene, ".png"), "bayer_rggb8; png compressed bgr8")
    np.testing.assert_array_equal(found, scene)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8",
        b"GIF89a" + bytes(50),
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff\xe0\xff\xff\xff\xd9",
    ],
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(UnusableImage) as caught:
        compressed_to_rgb(data)
    assert caught.value.reason == "undecodable"


def png_that_claims(width: int, height: int) -> bytes:
    """A complete PNG whose header names a size that its pixels do not have."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")
    )


def test_an_enormous_picture_costs_no_memory(scene: np.ndarray) -> None:
    with pytest.raises(UnusableImage) as caught:
        compressed_to_rgb(png_that_claims(60000, 60000))
    assert caught.value.reason == "too_large"
    with pytest.raises(UnusableImage) as caught:
        compressed_to_rgb(png_that_claims(0, 10))
    assert caught.value.reason == "zero_size"
    jpeg = bytearray(encoded(scene, ".jpg"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65000, 65000)
    with pytest.raises(UnusableImage) as caught:
        compressed_to_rgb(jpeg)
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize("format", ["16UC1; compressedDepth png", "16UC1; png compressed ", "32FC1; compressedDepth"])
def test_depth_is_refused(scene: np.ndarray, format: str) -> None:
    with pytest.raises(UnusableImage) as caught:
        compressed_to_rgb(encoded(scene, ".png"), format)
    assert caught.value.reason == "not_colour"


def test_a_rotation_tag_does_not_turn_the_pixels(scene: np.ndarray) -> None:
    jpeg = encoded(scene, ".jpg")
    # APP1 with one EXIF entry: orientation (0x0112) = 6, "turn right"
    tiff = b"MM\x00*\x00\x00\x00\x08" + b"\x00\x01" + b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00" + bytes(4)
    body = b"Exif\x00\x00" + tiff
    tagged = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]
    assert cv2.imdecode(np.frombuffer(tagged, np.uint8), cv2.IMREAD_COLOR).shape == (64, 48, 3)  # the tag is real
    assert compressed_to_rgb(tagged).shape == (48, 64, 3)
