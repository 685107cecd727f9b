"""Rigid transforms, as SDF and URDF write them: a position, and roll, pitch, yaw about fixed axes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Pose:
    """Where a frame is in another one.

    Attributes:
        position: float64 [3], metres.
        rotation: float64 [3, 3]; its columns are the frame's axes in the other one.
    """

    position: NDArray[np.float64]
    rotation: NDArray[np.float64]

    @staticmethod
    def of(position: ArrayLike, quaternion: ArrayLike = (1.0, 0.0, 0.0, 0.0)) -> Pose:
        """From a position and a unit quaternion (w, x, y, z)."""
        w, x, y, z = np.asarray(quaternion, np.float64) / np.linalg.norm(np.asarray(quaternion, np.float64))
        rotation = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        )
        return Pose(np.array(position, np.float64), rotation)

    @staticmethod
    def from_rpy(position: ArrayLike, rpy: ArrayLike) -> Pose:
        """From a position and (roll, pitch, yaw): rotations about the fixed x, then y, then z axis, radians."""
        roll, pitch, yaw = np.asarray(rpy, np.float64)
        cr, sr, cp, sp, cy, sy = (
            math.cos(roll), math.sin(roll), math.cos(pitch), math.sin(pitch), math.cos(yaw), math.sin(yaw),
        )  # fmt: skip
        rotation = np.array(
            [
                [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
                [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
                [-sp, cp * sr, cp * cr],
            ]
        )
        return Pose(np.array(position, np.float64), rotation)

    @property
    def rpy(self) -> tuple[float, float, float]:
        """Roll, pitch, yaw in radians; where pitch is a right angle, roll is 0."""
        r = self.rotation
        pitch = math.asin(max(-1.0, min(1.0, -float(r[2, 0]))))
        if abs(math.cos(pitch)) < 1e-6:
            return 0.0, pitch, math.atan2(-float(r[0, 1]), float(r[1, 1]))
        return math.atan2(r[2, 1], r[2, 2]), pitch, math.atan2(r[1, 0], r[0, 0])

    def __matmul__(self, other: Pose) -> Pose:
        """The pose of a frame that is at `other` in this one."""
        return Pose(self.rotation @ other.position + self.position, self.rotation @ other.rotation)

    def inverse(self) -> Pose:
        """Where the other frame is in this one."""
        return Pose(-self.rotation.T @ self.position, self.rotation.T)


IDENTITY = Pose(np.zeros(3), np.eye(3))
OPTICAL = Pose(np.zeros(3), np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]))
"""An optical frame (x right, y down, z ahead) in a camera's frame (x ahead, y left, z up)."""
