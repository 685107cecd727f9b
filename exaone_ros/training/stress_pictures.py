"""What may happen to a picture between a camera and the model; all pure.

Most of it is stronger than what training does to its pictures (`flat_post`), or of another kind; the haze is as strong.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""uint8 RGB [H, W, 3]."""
Change = Callable[[Picture, int], Picture]
"""A picture, and its number (the seed of what is random), to the picture as it arrives; boxes in pixels stay right."""


def _levels(picture: Picture, curve: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Picture:
    """Each grey level through a curve over 0..1."""
    table = np.clip(np.rint(255 * curve(np.arange(256) / 255)), 0, 255).astype(np.uint8)
    return np.asarray(table[picture], np.uint8)


def gamma(exponent: float) -> Change:
    """Brighter below 1, darker above."""
    return lambda picture, number: _levels(picture, lambda level: level**exponent)


def exposure(factor: float) -> Change:
    """Light times a factor; what becomes too bright is cut off."""
    return lambda picture, number: _levels(picture, lambda level: level * factor)


def haze(contrast: float) -> Change:
    """Only so much of the contrast is left, around a light grey."""
    return lambda picture, number: _levels(picture, lambda level: 0.7 + contrast * (level - 0.7))


def jpeg(quality: int) -> Change:
    """Compressed and decompressed, quality 0..100."""

    def change(picture: Picture, number: int) -> Picture:
        coded = cv2.imencode(".jpg", picture[..., ::-1], [int(cv2.IMWRITE_JPEG_QUALITY), quality])[1]
        decoded = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
        return np.ascontiguousarray(decoded[..., ::-1])

    return change


def sensor_noise(deviation: float) -> Change:
    """Noise of each pixel and channel, standard deviation in grey levels."""

    def change(picture: Picture, number: int) -> Picture:
        noise = np.random.default_rng([5, number]).normal(0, deviation, picture.shape)
        return np.asarray(np.clip(np.rint(picture + noise), 0, 255), np.uint8)

    return change


def out_of_focus(share: float) -> Change:
    """A Gaussian whose standard deviation is this share of the width."""
    return lambda picture, number: np.asarray(cv2.GaussianBlur(picture, (0, 0), share * picture.shape[1]), np.uint8)


def shaken(share: float) -> Change:
    """Moved sideways while the shutter was open, over this share of the width."""

    def change(picture: Picture, number: int) -> Picture:
        length = max(1, round(share * picture.shape[1]))
        kernel = np.full((1, length), 1 / length, np.float32)
        return np.asarray(cv2.filter2D(picture, -1, kernel), np.uint8)

    return change


def cast(red: float, green: float, blue: float) -> Change:
    """White balance that is wrong: each channel times a factor."""
    factors = np.array([red, green, blue])
    return lambda picture, number: np.asarray(np.clip(np.rint(picture * factors), 0, 255), np.uint8)


def padded(aspect: float) -> Change:
    """Filled up with grey on the right or below until width / height is `aspect`: what an application can do about a
    shape that the checkpoint does not know. Boxes in pixels stay where they are."""

    def change(picture: Picture, number: int) -> Picture:
        height, width = picture.shape[:2]
        right, below = max(0, round(height * aspect) - width), max(0, round(width / aspect) - height)
        return np.pad(picture, ((0, below), (0, right), (0, 0)), constant_values=128)

    return change


def swapped(picture: Picture, number: int) -> Picture:
    """Red and blue swapped: BGR taken for RGB, a bug of whoever made the picture."""
    return np.ascontiguousarray(picture[..., ::-1])


def grey(picture: Picture, number: int) -> Picture:
    """Without colour, as of a monochrome camera."""
    return np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


def kept(picture: Picture, number: int) -> Picture:
    """As rendered."""
    return picture


def empty_pictures() -> dict[str, Picture]:
    """Pictures that show nothing of the vocabulary, 640x480."""
    height, width = 480, 640
    rng = np.random.default_rng(3)
    slope = np.linspace(0, 255, width)[None, :, None].repeat(height, 0).repeat(3, 2)
    noise = rng.integers(0, 256, (height, width, 3))
    smooth = cv2.resize(rng.uniform(0, 255, (6, 8, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    board = 255 * ((np.arange(height)[:, None] // 40 + np.arange(width)[None, :] // 40) % 2)
    pictures = {
        "black": np.zeros((height, width, 3)),
        "white": np.full((height, width, 3), 255.0),
        "grey": np.full((height, width, 3), 128.0),
        "one colour (green)": np.full((height, width, 3), (30.0, 148.0, 46.0)),
        "a gradient": slope,
        "noise": noise,
        "coloured clouds": smooth,
        "a chessboard": board[..., None].repeat(3, 2),
    }
    return {name: np.clip(np.rint(picture), 0, 255).astype(np.uint8) for name, picture in pictures.items()}
