"""The camera as sensor_msgs/CameraInfo describes it: from pixels to rays.

Boxes count pixels from the outer corner of the top left pixel, CameraInfo from that pixel's centre: half a pixel lies
between the two, and the functions here take boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from exaone_ros.errors import ImageError

STRAIGHT_MODELS = ("", "plumb_bob", "rational_polynomial")
FISHEYE_MODELS = ("equidistant", "fisheye")
STRAIGHT_COEFFICIENTS, FISHEYE_COEFFICIENTS = (4, 5, 8, 12, 14), 4
"""How many of them OpenCV takes."""


@dataclass(frozen=True)
class CameraModel:
    """Attributes: image size in pixels; fx, fy, cx, cy in pixels; distortion model and coefficients, none if empty."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    model: str = "plumb_bob"
    distortion: tuple[float, ...] = ()

    @classmethod
    def from_info(
        cls, width: int, height: int, k: Sequence[float], model: str = "", d: Sequence[float] = ()
    ) -> CameraModel:
        """Read the fields of a CameraInfo.

        Raises:
            ImageError: the camera is not calibrated, or its distortion is unknown, incomplete or not finite.
        """
        fx, fy, cx, cy = (float(k[i]) for i in (0, 4, 2, 5))
        if width <= 0 or height <= 0 or not (np.isfinite([fx, fy, cx, cy]).all() and fx > 0 and fy > 0):
            raise ImageError(
                f"camera_info has size {width}x{height} and K = {[float(v) for v in k]}; expected a calibrated camera: "
                "calibrate it, or let its driver load the calibration file"
            )
        coefficients = tuple(float(value) for value in d) if any(d) else ()
        if coefficients and model not in (*STRAIGHT_MODELS, *FISHEYE_MODELS):
            known = ", ".join(name for name in (*STRAIGHT_MODELS, *FISHEYE_MODELS) if name)
            raise ImageError(f"camera_info has the distortion model {model[:40]!r}; expected one of {known}")
        if coefficients:
            fisheye, count = model in FISHEYE_MODELS, len(coefficients)
            fits = count >= FISHEYE_COEFFICIENTS if fisheye else count in STRAIGHT_COEFFICIENTS
            if not fits or not np.isfinite(coefficients).all():
                expected = FISHEYE_COEFFICIENTS if fisheye else " or ".join(map(str, STRAIGHT_COEFFICIENTS))
                raise ImageError(
                    f"camera_info has D = {list(coefficients[:14])} for '{model}'; expected {expected} finite "
                    "coefficients: calibrate the camera again"
                )
        return cls(int(width), int(height), fx, fy, cx, cy, model, coefficients)

    def rays(self, points_px: ArrayLike) -> NDArray[np.float64]:
        """Directions through image points.

        Args:
            points_px: [n, 2] in box coordinates.

        Returns:
            float64 [n, 2]: x / z and y / z in the optical frame (x right, y down, z ahead).
        """
        points = np.asarray(points_px, np.float64).reshape(-1, 2) - 0.5
        if not self.distortion:
            straight: NDArray[np.float64] = (points - (self.cx, self.cy)) / (self.fx, self.fy)
            return straight
        k = np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]])
        d = np.array(self.distortion)
        if self.model in FISHEYE_MODELS:
            undistorted = cv2.fisheye.undistortPoints(points[:, None], k, d[:4])
        else:
            undistorted = cv2.undistortPoints(points[:, None], k, d)
        return np.asarray(undistorted, np.float64).reshape(-1, 2)
