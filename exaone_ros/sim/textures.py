"""Textures, computed instead of stored: wood, stone, cloth, plain paint. Deterministic uint8 RGB, SIZE x SIZE."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

SIZE = 256

Texture = NDArray[np.uint8]


def smooth_noise(seed: int, wave_x: float, wave_y: float) -> NDArray[np.float64]:
    """Periodic noise [SIZE, SIZE] with mean 0 and deviation 1.

    Args:
        seed: of the noise.
        wave_x, wave_y: shortest wave length along x and y, in texels.
    """
    white = np.fft.fft2(np.random.default_rng(seed).standard_normal((SIZE, SIZE)))
    frequency = np.fft.fftfreq(SIZE)
    window = np.exp(-((frequency[:, None] * wave_y) ** 2) - (frequency[None, :] * wave_x) ** 2)
    window[0, 0] = 0.0
    noise = np.real(np.fft.ifft2(white * window))
    return np.asarray(noise / noise.std(), np.float64)


def _paint(base: tuple[float, float, float], shade: NDArray[np.float64]) -> Texture:
    """Base colour (0..1) brightened or darkened by `shade` (0 = as it is)."""
    return np.clip((np.array(base) * (1.0 + shade[..., None])) * 255.0, 0, 255).astype(np.uint8)


def wood(seed: int, base: tuple[float, float, float], planks: int) -> Texture:
    """Planks along x, each with a grain and a tone of its own, dark joints between them."""
    rng = np.random.default_rng(seed)
    grain = 0.07 * smooth_noise(seed, 120, 3) + 0.03 * smooth_noise(seed + 1, 30, 1.5)
    plank = np.arange(SIZE) * planks // SIZE
    tone = rng.normal(0, 0.06, planks)[plank]
    joint = np.where(np.diff(plank, prepend=-1) != 0, -0.35, 0.0)
    return _paint(base, grain + (tone + joint)[:, None])


def stone(seed: int, base: tuple[float, float, float]) -> Texture:
    """Speckled stone or laminate."""
    return _paint(base, 0.06 * smooth_noise(seed, 40, 40) + 0.07 * smooth_noise(seed + 1, 2.5, 2.5))


def cloth(seed: int, base: tuple[float, float, float], stripe: float) -> Texture:
    """Woven cloth with broad stripes of strength `stripe`."""
    x = np.arange(SIZE)
    stripes = stripe * ((x // 32) % 2)[:, None] + stripe * ((x // 32) % 2)[None, :]
    return _paint(base, 0.04 * smooth_noise(seed, 2, 2) - stripes)


def tiles(seed: int, base: tuple[float, float, float], count: int) -> Texture:
    """Square tiles with joints."""
    rng = np.random.default_rng(seed)
    cell = np.arange(SIZE) * count // SIZE
    tone = rng.normal(0, 0.05, (count, count))[cell[:, None], cell[None, :]]
    edge = np.diff(cell, prepend=-1) != 0
    joint = np.where(edge[:, None] | edge[None, :], -0.25, 0.0)
    return _paint(base, tone + joint + 0.02 * smooth_noise(seed, 3, 3))


def plain(seed: int, base: tuple[float, float, float]) -> Texture:
    """Paint with a hint of unevenness."""
    return _paint(base, 0.015 * smooth_noise(seed, 20, 20))


TABLES: dict[str, Callable[[], Texture]] = {
    "oak": lambda: wood(11, (0.64, 0.48, 0.31), 4),
    "walnut": lambda: wood(12, (0.38, 0.26, 0.18), 5),
    "maple": lambda: wood(13, (0.74, 0.62, 0.47), 3),
    "granite": lambda: stone(14, (0.45, 0.45, 0.47)),
    "laminate": lambda: stone(15, (0.68, 0.67, 0.64)),
    "slate": lambda: plain(16, (0.30, 0.32, 0.34)),
    "sand": lambda: plain(17, (0.66, 0.60, 0.51)),
    "linen": lambda: cloth(18, (0.70, 0.69, 0.66), 0.05),
    "checked": lambda: cloth(19, (0.60, 0.62, 0.66), 0.16),
}
"""Muted on purpose: every object colour must stand out on every table."""

FLOORS: dict[str, Callable[[], Texture]] = {
    "parquet": lambda: wood(21, (0.55, 0.43, 0.31), 8),
    "tiled": lambda: tiles(22, (0.60, 0.59, 0.57), 4),
    "concrete": lambda: stone(23, (0.52, 0.52, 0.51)),
    "carpet": lambda: cloth(24, (0.40, 0.41, 0.45), 0.03),
}

CARDBOARD = "cardboard"


def cardboard() -> Texture:
    """Cardboard; white, so that the obstacle's own colour tints it."""
    return _paint((0.94, 0.94, 0.94), 0.04 * smooth_noise(31, 60, 2) + 0.02 * smooth_noise(32, 3, 3))
