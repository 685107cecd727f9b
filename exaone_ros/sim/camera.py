"""The pinhole camera: where it looks, and where a point of the world lands on its image.

World frame: metres, x away from the robot, y to its left, z up. Optical frame (ROS REP 103): x right, y down, z ahead.
Image coordinates: pixels, (0, 0) is the outer corner of the top left pixel, so the principal point is (W / 2, H / 2).
ROS counts from the centre of that pixel: its cx is W / 2 - 0.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Intrinsics:
    """Attributes: image size in pixels; vertical field of view in degrees. Pixels are square, nothing is distorted."""

    width: int
    height: int
    fovy_deg: float

    @property
    def focal_px(self) -> float:
        return self.height / 2 / math.tan(math.radians(self.fovy_deg) / 2)

    @property
    def k(self) -> tuple[float, ...]:
        """The nine numbers of sensor_msgs/CameraInfo.k, for pixel coordinates that count from pixel centres."""
        focal = self.focal_px
        return (focal, 0.0, self.width / 2 - 0.5, 0.0, focal, self.height / 2 - 0.5, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class View:
    """A camera in the world.

    Attributes:
        intrinsics: of the camera.
        position: float64 [3], optical centre in the world frame, metres.
        rotation: float64 [3, 3], world to optical frame: its rows are the optical axes in the world.
    """

    intrinsics: Intrinsics
    position: NDArray[np.float64]
    rotation: NDArray[np.float64]

    def project(self, points: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Project world points, [n, 3] in metres.

        Returns:
            (pixels float64 [n, 2], depth along the optical axis float64 [n] in metres). Points behind the camera have
            a depth of 0 or less, and pixels that mean nothing.
        """
        local = (np.asarray(points, np.float64).reshape(-1, 3) - self.position) @ self.rotation.T
        depth = local[:, 2]
        safe = np.where(np.abs(depth) < 1e-9, 1e-9, depth)
        centre = (self.intrinsics.width / 2, self.intrinsics.height / 2)
        return local[:, :2] / safe[:, None] * self.intrinsics.focal_px + centre, depth
