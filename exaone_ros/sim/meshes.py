"""The mug as a triangle mesh: a turned wall with an open top, and a handle."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

WALL_M = 0.0035
HANDLE_RADIUS_M = 0.0062
HANDLE_REACH_M = 0.029
"""How far the middle of the handle stands off the wall."""
_AROUND = 28
_HANDLE_RINGS = 11
_HANDLE_AROUND = 8


def handle_centres(radius: float, height: float) -> NDArray[np.float64]:
    """Middle line of a mug's handle, [rings, 3] in metres; the mug's frame has its origin in the mug's centre."""
    angle = np.linspace(-math.pi / 2, math.pi / 2, _HANDLE_RINGS)
    x = radius - 0.003 + (HANDLE_REACH_M + 0.003) * np.cos(angle)
    return np.stack([x, np.zeros_like(x), 0.31 * height * np.sin(angle)], axis=1)


def _handle(radius: float, height: float) -> tuple[NDArray[np.float64], list[tuple[int, int, int]]]:
    centres = handle_centres(radius, height)
    along = np.gradient(centres, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    side = np.array([0.0, 1.0, 0.0])
    turn = np.linspace(0, 2 * math.pi, _HANDLE_AROUND, endpoint=False)
    out = np.cross(side, along)
    ring = np.cos(turn)[None, :, None] * side + np.sin(turn)[None, :, None] * out[:, None, :]
    vertices = (centres[:, None, :] + HANDLE_RADIUS_M * ring).reshape(-1, 3)
    faces = []
    for i in range(_HANDLE_RINGS - 1):
        for j in range(_HANDLE_AROUND):
            a, b = i * _HANDLE_AROUND + j, i * _HANDLE_AROUND + (j + 1) % _HANDLE_AROUND
            c, d = a + _HANDLE_AROUND, b + _HANDLE_AROUND
            faces += [(a, c, b), (b, c, d)]
    return vertices, faces


def mug(radius: float, height: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A mug with its handle along +x, origin in its centre (half its height above its foot).

    Args:
        radius: of the outer wall, metres.
        height: metres.

    Returns:
        (vertices float64 [n, 3] in metres, faces int64 [m, 3] with normals outwards).
    """
    inner, low, high = radius - WALL_M, -height / 2, height / 2
    # Rings are doubled at sharp edges, so that normals are not smoothed over them.
    profile = [
        (0.0, low), (radius, low), (radius, low), (radius, high), (radius, high),
        (inner, high), (inner, high), (inner, low + 2 * WALL_M), (inner, low + 2 * WALL_M), (0.0, low + 2 * WALL_M),
    ]  # fmt: skip
    turn = np.linspace(0, 2 * math.pi, _AROUND, endpoint=False)
    vertices = np.array([(r * math.cos(t), r * math.sin(t), z) for r, z in profile for t in turn])
    faces = []
    for i in range(len(profile) - 1):
        if profile[i] == profile[i + 1]:
            continue
        for j in range(_AROUND):
            a, b = i * _AROUND + j, i * _AROUND + (j + 1) % _AROUND
            c, d = a + _AROUND, b + _AROUND
            faces += [triangle for triangle in ((a, b, d), (a, d, c)) if _has_area(vertices, triangle)]
    handle_vertices, handle_faces = _handle(radius, height)
    shifted = [(a + len(vertices), b + len(vertices), c + len(vertices)) for a, b, c in handle_faces]
    return np.concatenate([vertices, handle_vertices]), np.array(faces + shifted, np.int64)


def _has_area(vertices: NDArray[np.float64], triangle: tuple[int, int, int]) -> bool:
    a, b, c = vertices[list(triangle)]
    return bool(np.linalg.norm(np.cross(b - a, c - a)) > 1e-12)
