"""What a camera does to a picture: exposure, colour cast, blur, noise, compression."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def spoil(rng: np.random.Generator, image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Take a picture of a clean rendering.

    Args:
        rng: source of everything random.
        image: float32 RGB [H, W, 3], 0..255 or beyond.
    """
    height, width = image.shape[:2]
    image = image * np.float32(rng.uniform(0.75, 1.3)) * (1 + rng.normal(0, 0.035, 3)).astype(np.float32)
    if rng.random() < 0.3:  # uneven light
        slope = rng.uniform(-0.22, 0.22, 2)
        x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        image *= (1 + slope[0] * x + slope[1] * y).astype(np.float32)[..., None]
    kind = rng.random()
    if kind < 0.45:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.0)), np.float32)
    elif kind < 0.52:
        length = int(rng.integers(3, 7))
        kernel = np.zeros((length, length), np.float32)
        kernel[length // 2] = 1 / length
        image = np.asarray(cv2.filter2D(image, -1, kernel if rng.random() < 0.5 else kernel.T), np.float32)
    image = (image - 128) * np.float32(rng.uniform(0.85, 1.15)) + np.float32(128 + rng.uniform(-14, 14))
    if rng.random() < 0.7:
        image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(0.5, 6))
    out = np.clip(image, 0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        gamma = rng.uniform(0.8, 1.25)
        curve = (np.power(np.arange(256) / 255, gamma) * 255).astype(np.uint8)
        out = curve[out]
    if rng.random() < 0.25:
        quality = [int(cv2.IMWRITE_JPEG_QUALITY), int(rng.integers(40, 95))]
        coded = cv2.imencode(".jpg", out, quality)[1]
        out = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return np.asarray(out, np.uint8)


def hazed(rng: np.random.Generator, image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The picture with 0.4 to 0.85 of its contrast, before a light or a dark veil; then `spoil`.

    Args:
        rng: source of everything random.
        image: float32 RGB [H, W, 3], 0..255.
    """
    veil, left = float(rng.uniform(60, 215)), float(rng.uniform(0.4, 0.85))
    return spoil(rng, veil + np.float32(left) * (image - veil))
