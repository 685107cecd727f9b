"""Detections from the camera's frame into another one, by tf2 where it is installed."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from geometry_msgs.msg import Pose, Quaternion
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time
from std_msgs.msg import Header
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose

from exaone_ros.errors import ExaoneError, MissingExtra


class TransformError(ExaoneError):
    """The transform between two frames is not known at the time of an image."""


class FrameChange:
    """Looks up and applies transforms into one frame. Called in the executor's thread; never waits.

    Args:
        node: listens to /tf and /tf_static.
        target_frame: frame to bring detections into.

    Raises:
        MissingExtra: tf2_ros is not installed.
    """

    def __init__(self, node: Node, target_frame: str) -> None:
        try:
            tf2_ros: Any = importlib.import_module("tf2_ros")
        except ImportError as error:
            raise MissingExtra(
                f"'target_frame' is '{target_frame}', which needs tf2_ros; install it with your ROS "
                "(sudo apt install ros-$ROS_DISTRO-tf2-ros-py), or leave 'target_frame' empty for the camera's frame"
            ) from error
        self._target_frame = target_frame
        self._buffer = tf2_ros.Buffer(cache_time=Duration(seconds=10))
        self._listener = tf2_ros.TransformListener(self._buffer, node)
        self._failures: type[Exception] = tf2_ros.TransformException

    def applied(self, message: Detection3DArray) -> Detection3DArray:
        """The same detections in the target frame, at the time of their image.

        Raises:
            TransformError: tf does not know the transform at that time.
        """
        header = message.header
        try:
            found = self._buffer.lookup_transform(self._target_frame, header.frame_id, Time.from_msg(header.stamp))
        except self._failures as error:
            raise TransformError(
                f"no transform from '{header.frame_id}' to '{self._target_frame}' at the image's stamp: {error}"
            ) from error
        return transformed(message, found.transform, self._target_frame)


def transformed(message: Detection3DArray, transform: Any, frame_id: str) -> Detection3DArray:
    """Apply a geometry_msgs/Transform: places are moved, boxes keep their size and are turned.

    Args:
        message: in the transform's source frame.
        transform: from that frame into `frame_id`.
        frame_id: of the result; its stamp stays.
    """
    shift = np.array([transform.translation.x, transform.translation.y, transform.translation.z])
    turn = transform.rotation
    header = Header(stamp=message.header.stamp, frame_id=frame_id)
    out = Detection3DArray(header=header)
    for detection in message.detections:
        at = detection.bbox.center.position
        x, y, z = rotated(turn, np.array([at.x, at.y, at.z])) + shift
        pose = Pose(orientation=product(turn, detection.bbox.center.orientation))
        pose.position.x, pose.position.y, pose.position.z = float(x), float(y), float(z)
        made = Detection3D(header=header, id=detection.id)
        made.bbox.center, made.bbox.size = pose, detection.bbox.size
        for guess in detection.results:
            result = ObjectHypothesisWithPose(hypothesis=guess.hypothesis)
            result.pose.pose = pose
            made.results.append(result)
        out.detections.append(made)
    return out


def rotated(turn: Quaternion, point: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A point [3] turned by a unit quaternion."""
    axis = np.array([turn.x, turn.y, turn.z])
    twice = 2.0 * np.cross(axis, point)
    result: np.ndarray[Any, np.dtype[np.float64]] = point + turn.w * twice + np.cross(axis, twice)
    return result


def product(a: Quaternion, b: Quaternion) -> Quaternion:
    """The turn `b` and then `a`."""
    return Quaternion(
        w=a.w * b.w - a.x * b.x - a.y * b.y - a.z * b.z,
        x=a.w * b.x + a.x * b.w + a.y * b.z - a.z * b.y,
        y=a.w * b.y - a.x * b.z + a.y * b.w + a.z * b.x,
        z=a.w * b.z + a.x * b.y - a.y * b.x + a.z * b.w,
    )
