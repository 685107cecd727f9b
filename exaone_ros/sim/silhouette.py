"""How many pixels an object would cover if nothing hid it and the image had no border.

Computed from its shape instead of being rendered alone: cube, ball, cylinder and the body of a mug are convex, so their
silhouette is the convex hull of their projected points; the handle is a chain of short convex pieces.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from exaone_ros.sim.camera import View
from exaone_ros.sim.meshes import HANDLE_RADIUS_M, handle_centres

_OVERSAMPLING = 4
_CIRCLE = np.linspace(0, 2 * math.pi, 48, endpoint=False)
_TURN = np.linspace(0, 2 * math.pi, 8, endpoint=False)


def silhouette_px(
    shape: str,
    radius_m: float,
    height_m: float,
    position: NDArray[np.float64],
    rotation: NDArray[np.float64],
    view: View,
) -> float:
    """Area of an object's silhouette in pixels; arguments as of `hulls_px`."""
    hulls = hulls_px(shape, radius_m, height_m, position, rotation, view)
    if len(hulls) == 1:
        return float(cv2.contourArea(hulls[0]))
    return _union_area(hulls)


def hulls_px(
    shape: str,
    radius_m: float,
    height_m: float,
    position: NDArray[np.float64],
    rotation: NDArray[np.float64],
    view: View,
) -> list[NDArray[np.float32]]:
    """Convex pieces, float32 [n, 2] in pixels, that cover an object's silhouette; of a mug, the body comes first.

    Args:
        shape: one of vocabulary.SHAPES.
        radius_m, height_m: as in scene.TableObject.
        position: [3] of its centre in the world, metres.
        rotation: [3, 3] object to world.
        view: the camera.
    """
    pieces = [_outline(shape, radius_m, height_m, position, view)]
    if shape == "mug":
        pieces += _handle_pieces(radius_m, height_m)
    if shape != "ball":
        pieces = [piece @ rotation.T + position for piece in pieces]
    return [
        np.asarray(cv2.convexHull(view.project(piece)[0].astype(np.float32)), np.float32).reshape(-1, 2)
        for piece in pieces
    ]


def _outline(
    shape: str, radius: float, height: float, position: NDArray[np.float64], view: View
) -> NDArray[np.float64]:
    """Points whose convex hull has the object's silhouette; in its own frame, except for the ball's."""
    if shape == "cube":
        corners = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64)
        return corners * (radius, radius, height / 2)
    if shape == "ball":
        return _horizon(radius, position, view)
    ring = np.stack([radius * np.cos(_CIRCLE), radius * np.sin(_CIRCLE)], axis=1)
    return np.concatenate([np.insert(ring, 2, z, axis=1) for z in (-height / 2, height / 2)])


def _horizon(radius: float, position: NDArray[np.float64], view: View) -> NDArray[np.float64]:
    """The circle where rays of sight touch a ball, in the world."""
    towards = view.position - position
    distance = float(np.linalg.norm(towards))
    axis = towards / distance
    right = np.cross(axis, (0.0, 0.0, 1.0) if abs(axis[2]) < 0.9 else (1.0, 0.0, 0.0))
    right /= np.linalg.norm(right)
    up = np.cross(axis, right)
    circle = radius * math.sqrt(max(0.0, 1 - (radius / distance) ** 2))
    centre = position + axis * radius**2 / distance
    return np.asarray(centre + circle * (np.cos(_CIRCLE)[:, None] * right + np.sin(_CIRCLE)[:, None] * up))


def _handle_pieces(radius: float, height: float) -> list[NDArray[np.float64]]:
    centres = handle_centres(radius, height)
    along = np.gradient(centres, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    out = np.cross((0.0, 1.0, 0.0), along)
    rings = centres[:, None, :] + HANDLE_RADIUS_M * (
        np.cos(_TURN)[None, :, None] * np.array([0.0, 1.0, 0.0]) + np.sin(_TURN)[None, :, None] * out[:, None, :]
    )
    return [np.concatenate(pair) for pair in itertools.pairwise(rings)]


def _union_area(hulls: Sequence[NDArray[Any]]) -> float:
    points = np.concatenate(hulls)
    low = np.floor(points.min(axis=0)) - 1
    width, height = (np.ceil(points.max(axis=0)) + 1 - low).astype(int)
    if width * height > 4_000_000:  # the camera touches the object: no canvas for that, and no visible fraction either
        return float(width * height)
    canvas = np.zeros((height * _OVERSAMPLING, width * _OVERSAMPLING), np.uint8)
    for hull in hulls:
        # fillConvexPoly counts the border's pixels in; half a fine pixel is taken off by the shift to pixel centres
        corners = np.round(((hull - low) * _OVERSAMPLING - 0.5) * 16).astype(np.int32)
        cv2.fillConvexPoly(canvas, corners, (1,), lineType=cv2.LINE_8, shift=4)
    return float(np.count_nonzero(canvas)) / _OVERSAMPLING**2
