"""Drawing for the flat renderer: a pinhole camera over a plane, and antialiased polygons with an instance map."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Shade = Callable[[Floats, Floats], Floats]
"""Brightness of pixels: their x and y to a factor, three arrays of one shape."""

SUBPIXEL_BITS = 4
NEAR_M = 0.05


@dataclass(frozen=True)
class FlatCamera:
    """A pinhole camera above the plane z = 0, looking along +y and down.

    Attributes:
        width, height: of the image in pixels.
        focal_px: focal length.
        position: [3] metres.
        axes: [3, 3] rows are the camera's right, up and forward in the world.
    """

    width: int
    height: int
    focal_px: float
    position: Floats
    axes: Floats

    @classmethod
    def looking_down(
        cls, width: int, height: int, fovy_rad: float, height_m: float, tilt_rad: float, roll_rad: float
    ) -> FlatCamera:
        """A camera `height_m` above the plane, tilted down by `tilt_rad` from the horizon."""
        forward = np.array([0.0, math.cos(tilt_rad), -math.sin(tilt_rad)])
        level_up = np.array([0.0, math.sin(tilt_rad), math.cos(tilt_rad)])
        level_right = np.array([1.0, 0.0, 0.0])
        right = math.cos(roll_rad) * level_right + math.sin(roll_rad) * level_up
        up = math.cos(roll_rad) * level_up - math.sin(roll_rad) * level_right
        position = np.array([0.0, 0.0, height_m])
        return cls(width, height, height / 2 / math.tan(fovy_rad / 2), position, np.stack([right, up, forward]))

    def project(self, points: Floats) -> Floats:
        """World points [n, 3] in metres to pixels [n, 2]; what lies behind the camera is held just before it."""
        local = (points - self.position) @ self.axes.T
        depth = np.maximum(local[:, 2], NEAR_M)
        x = self.width / 2 + self.focal_px * local[:, 0] / depth
        y = self.height / 2 - self.focal_px * local[:, 1] / depth
        return np.stack([x, y], axis=1)

    def px_per_m(self, point: Floats) -> float:
        """Pixels that a metre at this point [3] takes."""
        return self.focal_px / max(float((point - self.position) @ self.axes[2]), NEAR_M)

    def ground(self, x_px: float, y_px: float) -> Floats | None:
        """Where the ray through a pixel meets the plane, or None where it goes level or up."""
        ray = (
            np.array([(x_px - self.width / 2) / self.focal_px, (self.height / 2 - y_px) / self.focal_px, 1.0])
            @ self.axes
        )
        if ray[2] > -0.05:
            return None
        return np.asarray(self.position - ray * (self.position[2] / ray[2]))


class Canvas:
    """An image in the making.

    Attributes:
        image: float32 RGB [H, W, 3], 0..255 and beyond until `finish`.
        instance: uint8 [H, W] of what is seen at each pixel, 0 = background.
    """

    def __init__(self, image: NDArray[np.float32]) -> None:
        self.image = image
        self.instance: NDArray[np.uint8] = np.zeros(image.shape[:2], np.uint8)

    def polygon(
        self, corners: Floats, colour: Floats, identity: int = 0, shade: Shade | None = None, opacity: float = 1.0
    ) -> None:
        """Fill a polygon [n, 2] px with a colour [3], as thing number `identity` (0 leaves the instance map alone)."""
        self._stamp(corners, 1.0, colour, identity, shade, opacity, lambda mask, points: cv2.fillPoly(
            mask, [points], 255, cv2.LINE_AA, SUBPIXEL_BITS
        ))  # fmt: skip

    def line(
        self, corners: Floats, thickness_px: int, colour: Floats, identity: int, shade: Shade | None = None
    ) -> None:
        """Draw an open line through points [n, 2] px."""
        self._stamp(corners, thickness_px, colour, identity, shade, 1.0, lambda mask, points: cv2.polylines(
            mask, [points], False, 255, thickness_px, cv2.LINE_AA, SUBPIXEL_BITS
        ))  # fmt: skip

    def _stamp(
        self,
        corners: Floats,
        margin: float,
        colour: Floats,
        identity: int,
        shade: Shade | None,
        opacity: float,
        draw: Callable[[NDArray[np.uint8], NDArray[np.int32]], object],
    ) -> None:
        height, width = self.image.shape[:2]
        x1, y1 = np.maximum(np.floor(corners.min(0) - margin).astype(int), 0)
        x2, y2 = np.minimum(np.ceil(corners.max(0) + margin + 1).astype(int), (width, height))
        if x2 <= x1 or y2 <= y1:
            return
        mask = np.zeros((y2 - y1, x2 - x1), np.uint8)
        # pixel centres lie at half coordinates: pixel i covers i..i+1
        points = np.round((corners - (x1 + 0.5, y1 + 0.5)) * (1 << SUBPIXEL_BITS)).astype(np.int32)
        draw(mask, points.reshape(-1, 1, 2))
        cover = (mask.astype(np.float32) * np.float32(opacity / 255))[..., None]
        paint: NDArray[np.float32] = np.asarray(colour, np.float32)
        if shade is not None:
            x = np.arange(x1, x2, dtype=np.float32)[None]
            y = np.arange(y1, y2, dtype=np.float32)[:, None]
            paint = np.asarray(shade(x, y), np.float32)[..., None] * paint
        part = self.image[y1:y2, x1:x2]
        part += cover * (paint - part)
        if identity:
            self.instance[y1:y2, x1:x2][mask > 127] = identity


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> NDArray[np.float32]:
    """Smooth noise [shape] of unit strength with about `cells` blobs down and across."""
    coarse = rng.standard_normal((max(2, cells[0]), max(2, cells[1])), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC), np.float32)


def surface_texture(rng: np.random.Generator, colour: Floats, side: int = 256) -> NDArray[np.float32]:
    """A square texture around a colour: plain, grainy, wood, tiles, stripes, cloth or blotches."""
    kind = rng.choice(["plain", "grain", "wood", "tiles", "stripes", "cloth", "blotches"])
    tone = np.ones((side, side), np.float32)
    strength = rng.uniform(0.03, 0.16)
    if kind == "grain":
        tone += strength * smooth_noise(rng, (side, side), (side // 3, side // 3))
    elif kind == "wood":
        fibres = smooth_noise(rng, (side, side), (int(rng.integers(3, 8)), int(rng.integers(40, 120))))
        tone += strength * fibres + 0.05 * smooth_noise(rng, (side, side), (20, 4))
        planks = int(rng.integers(0, 6))
        for x in np.linspace(0, side, planks + 1)[1:-1].astype(int):
            tone[:, x - 1 : x + 1] *= 0.7
    elif kind == "tiles":
        number = int(rng.integers(2, 8))
        tone += (
            strength
            * np.kron(
                rng.standard_normal((number, number), dtype=np.float32), np.ones((-(-side // number),) * 2, np.float32)
            )[:side, :side]
        )
        step = side / number
        for place in (np.arange(number) * step).astype(int):
            tone[place : place + 2] *= 0.8
            tone[:, place : place + 2] *= 0.8
    elif kind == "stripes":
        wave = np.sin(np.arange(side) * (2 * np.pi / side * rng.integers(3, 20)))
        tone += np.float32(strength) * np.sign(wave).astype(np.float32)[None]
    elif kind == "cloth":
        wave = np.sin(np.arange(side) * (2 * np.pi / side * rng.integers(20, 60))).astype(np.float32)
        tone += np.float32(strength / 2) * (wave[None] + wave[:, None])
    elif kind == "blotches":
        tone += strength * smooth_noise(rng, (side, side), (8, 8)) + strength / 2 * smooth_noise(
            rng, (side, side), (40, 40)
        )
    return np.asarray(tone[..., None] * np.asarray(colour, np.float32), np.float32)
