"""From a box on an image to a point in space, without depth: the object is taken to stand on a plane of known height.

A stand-in for `detections_3d`: it needs the table's height and the camera's pose, and an object that is seen whole and
stands upright.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exaone_ros.errors import ActionError

CYLINDER, BALL, CUBE = "cylinder", "ball", "cube"

Outline = Callable[[NDArray[np.float64], "PinholeCamera", float], NDArray[np.float64]]
"""(body, camera, height of the plane) -> points [n, 3] whose image's box is that of the body."""

RIM_POINTS = 48
CUBE_YAWS = 8
ITERATIONS = 15
DIFFERENCE_M = 1e-4
MIN_SIZE_M, MAX_SIZE_M = 0.003, 0.6
MAX_MISFIT_PX = 12.0

MIN_DEPRESSION_RAD = math.radians(5)
"""Flatter rays meet the plane too far away to say where."""


@dataclass(frozen=True, eq=False)
class PinholeCamera:
    """A camera in space.

    Attributes:
        focal_px: focal length (fx = fy: square pixels, no distortion).
        centre_px: (cx, cy) as in sensor_msgs/CameraInfo: counted from the centre of the top left pixel.
        position: float64 [3], optical centre in the base frame, metres.
        rotation: float64 [3, 3], optical frame to base frame: its columns are right, down and ahead in the base frame.
    """

    focal_px: float
    centre_px: tuple[float, float]
    position: NDArray[np.float64]
    rotation: NDArray[np.float64]

    def ray(self, u: float, v: float) -> NDArray[np.float64]:
        """Unit vector in the base frame through an image point in box coordinates.

        Boxes count from the outer corner of the top left pixel, half a pixel before CameraInfo.
        """
        across, down = u - 0.5 - self.centre_px[0], v - 0.5 - self.centre_px[1]
        world: NDArray[np.float64] = self.rotation @ np.array([across, down, self.focal_px])
        return world / np.linalg.norm(world)

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Image points of [n, 3] in the base frame, in box coordinates, float64 [n, 2]; all must lie ahead."""
        local = (points - self.position) @ self.rotation
        centre = np.array(self.centre_px) + 0.5
        return local[:, :2] / local[:, 2:] * self.focal_px + centre


@dataclass(frozen=True)
class Located:
    """An object standing on the plane.

    Attributes:
        top: (x, y, z) of the centre of its upper side, metres in the base frame.
        radius_m: half its width.
        height_m: above the plane.
        misfit_px: largest distance of the box from that of the fitted body: large where the body is of another kind.
    """

    top: tuple[float, float, float]
    radius_m: float
    height_m: float
    misfit_px: float


def on_plane(box: ArrayLike, camera: PinholeCamera, plane_z_m: float, shape: str = CYLINDER) -> Located:
    """Locate an object by its box: the body of a known kind, standing on the plane, whose image has this box.

    A cylinder has four unknowns (place, radius, height), a ball and a cube of known yaw have three; a box has four
    sides. Each is found by Gauss-Newton; of a cube several yaws are tried, and the one that fits best is taken.

    Args:
        box: (x1, y1, x2, y2) in pixels, x2 and y2 exclusive.
        camera: that saw it, at the time of the image.
        plane_z_m: height of the plane in the base frame.
        shape: CYLINDER (also for whatever is none of the others), BALL or CUBE.

    Raises:
        ActionError: the box has no area, the camera does not look down on the plane there, or nothing fits.
    """
    wanted = np.asarray(box, np.float64)
    guess = _guess(wanted, camera, plane_z_m)
    if shape == CYLINDER:
        body, misfit = _fit(_cylinder, guess, wanted, camera, plane_z_m)
        height = float(body[3])
    elif shape == BALL:
        body, misfit = _fit(_ball, guess[:3], wanted, camera, plane_z_m)
        height = float(2 * body[2])
    elif shape == CUBE:
        yaws = np.arange(CUBE_YAWS) * (math.pi / 2 / CUBE_YAWS)
        fits = [_fit(partial(_cube, yaw_rad=float(yaw)), guess[:3], wanted, camera, plane_z_m) for yaw in yaws]
        body, misfit = min(fits, key=lambda fit: fit[1])
        height = float(2 * body[2])
    else:
        raise ActionError(f"shape is {shape!r}; expected '{CYLINDER}', '{BALL}' or '{CUBE}'")
    if not np.isfinite(body).all() or misfit > MAX_MISFIT_PX:
        sides = ", ".join(f"{side:g}" for side in wanted)
        raise ActionError(
            f"no {shape} that stands on the plane at z = {plane_z_m:.3f} m has the box ({sides}); "
            f"the best is {misfit:.1f} px off: is the object held, hidden in part, or is the plane another one?"
        )
    return Located((float(body[0]), float(body[1]), plane_z_m + height), float(body[2]), height, misfit)


def _fit(
    outline: Outline, body: NDArray[np.float64], wanted: NDArray[np.float64], camera: PinholeCamera, plane_z_m: float
) -> tuple[NDArray[np.float64], float]:
    """(the body whose outline has the wanted box, largest distance of a side in pixels)."""
    best, misfit = body, math.inf
    for _ in range(ITERATIONS):
        seen = _box(outline(body, camera, plane_z_m), camera)
        distance = float(np.abs(seen - wanted).max())
        if distance < misfit:
            best, misfit = body, distance
        if misfit < 0.01:
            break
        jacobian = np.empty((4, len(body)))
        for i in range(len(body)):
            moved = body.copy()
            moved[i] += DIFFERENCE_M
            jacobian[:, i] = (_box(outline(moved, camera, plane_z_m), camera) - seen) / DIFFERENCE_M
        damped = jacobian.T @ jacobian + np.eye(len(body))
        step = np.linalg.solve(damped, jacobian.T @ (wanted - seen))
        body = body + np.clip(step, -0.05, 0.05)
        body[2:] = np.clip(body[2:], MIN_SIZE_M, MAX_SIZE_M)
    return best, misfit


def _guess(box: NDArray[np.float64], camera: PinholeCamera, plane_z_m: float) -> NDArray[np.float64]:
    """Rough (x, y, radius, height)."""
    x1, y1, x2, y2 = box
    if not (x2 > x1 and y2 > y1):
        raise ActionError(f"box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) has no area; nothing can be located by it")
    near = camera.ray((x1 + x2) / 2, y2)
    if camera.position[2] <= plane_z_m or near[2] > -math.sin(MIN_DEPRESSION_RAD):
        angle = math.degrees(-math.asin(near[2]))
        raise ActionError(
            f"the camera at z = {camera.position[2]:.3f} m looks down by {angle:.1f} degrees at the box's lower edge; "
            f"it must stand above the plane at z = {plane_z_m:.3f} m and look down by at least 5"
        )
    foot = camera.position + near * ((plane_z_m - camera.position[2]) / near[2])
    away = foot[:2] - camera.position[:2]
    away /= max(float(np.linalg.norm(away)), 1e-9)
    depth = float((foot - camera.position) @ camera.rotation[:, 2])
    radius = 0.8 * (x2 - x1) / 2 * depth / camera.focal_px
    return np.array([*(foot[:2] + away * radius), radius, 2 * radius])


def _cylinder(body: NDArray[np.float64], camera: PinholeCamera, plane_z_m: float) -> NDArray[np.float64]:
    """Both rims of an upright cylinder, float64 [2 * RIM_POINTS, 3]."""
    x, y, radius, height = body
    angles = np.linspace(0, 2 * math.pi, RIM_POINTS, endpoint=False)
    rim = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles), np.full(RIM_POINTS, plane_z_m)], axis=1)
    return np.concatenate([rim, rim + np.array([0.0, 0.0, height])])


def _cube(body: NDArray[np.float64], camera: PinholeCamera, plane_z_m: float, yaw_rad: float) -> NDArray[np.float64]:
    """The eight corners of a cube, float64 [8, 3]; its third unknown is half an edge."""
    x, y, half = body
    angles = yaw_rad + math.pi / 4 + np.arange(4) * math.pi / 2
    reach = half * math.sqrt(2)
    rim = np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles), np.full(4, plane_z_m)], axis=1)
    return np.concatenate([rim, rim + np.array([0.0, 0.0, 2 * half])])


def _ball(body: NDArray[np.float64], camera: PinholeCamera, plane_z_m: float) -> NDArray[np.float64]:
    """The outline of a ball as the camera sees it: the circle where rays touch it, float64 [RIM_POINTS, 3]."""
    x, y, radius = body
    centre = np.array([x, y, plane_z_m + radius])
    axis = centre - camera.position
    distance = float(np.linalg.norm(axis))
    axis /= distance
    share = min((radius / distance) ** 2, 0.99)
    side = np.cross(axis, [0.0, 0.0, 1.0])
    side /= max(float(np.linalg.norm(side)), 1e-9)
    angles = np.linspace(0, 2 * math.pi, RIM_POINTS, endpoint=False)[:, None]
    ring = np.cos(angles) * side + np.sin(angles) * np.cross(axis, side)
    result: NDArray[np.float64] = camera.position + axis * distance * (1 - share) + radius * math.sqrt(1 - share) * ring
    return result


def _box(points: NDArray[np.float64], camera: PinholeCamera) -> NDArray[np.float64]:
    pixels = camera.project(points)
    return np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])
