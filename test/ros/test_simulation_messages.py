"""What the simulator says in messages, and what it reads from them: without a node."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip("sensor_msgs")

from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, Quaternion
from std_msgs.msg import Header

from exaone_ros.errors import SimulationError
from exaone_ros.ros.image import image_to_depth_m
from exaone_ros.ros.simulation import (
    camera_pose_message,
    depth_message,
    jpeg_message,
    object_poses_message,
    place_from_message,
    steps_from_message,
)
from exaone_ros.sim.camera import Intrinsics, View
from exaone_ros.sim.world import ObjectPose

HEADER = Header(frame_id="somewhere")


def turned(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rodrigues' formula."""
    x, y, z = axis / np.linalg.norm(axis)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


@pytest.mark.parametrize("angle", [0.0, 0.7, 2.0, np.pi, -3.0])
@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (-1, 2, 0.5)])
def test_the_pose_of_the_camera_is_its_rotation(axis: tuple[float, ...], angle: float) -> None:
    rotation = turned(np.array(axis, float), angle)  # camera to world
    view = View(Intrinsics(8, 6, 48.0), np.array([1.0, 2.0, 3.0]), rotation.T)
    pose = camera_pose_message(view, HEADER).pose
    assert (pose.position.x, pose.position.y, pose.position.z) == (1.0, 2.0, 3.0)
    q = np.array([pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w])
    half = np.append(np.array(axis, float) / np.linalg.norm(axis) * np.sin(angle / 2), np.cos(angle / 2))
    assert abs(q @ half) == pytest.approx(1.0, abs=1e-9)  # q and -q are the same turn


def test_depth_survives_its_message() -> None:
    depth = np.array([[0.5, 1.25, np.inf], [2.0, 0.75, 3.5]], np.float32)
    message = depth_message(depth, HEADER)
    assert (message.encoding, message.height, message.width, message.step) == ("32FC1", 2, 3, 12)
    read = image_to_depth_m(message)
    finite = np.isfinite(depth)
    assert np.array_equal(read[finite], depth[finite]) and not np.isfinite(read[~finite]).any()


def test_jpeg_is_what_image_transport_calls_it() -> None:
    image = np.full((24, 32, 3), (200, 40, 90), np.uint8)
    message = jpeg_message(image, HEADER, quality=95)
    assert message.format == "rgb8; jpeg compressed bgr8"
    decoded = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(decoded.astype(int) - image).max() < 8


def test_poses_of_objects_name_them() -> None:
    thing = ObjectPose("red_cube_2", "red cube", (0.6, 0.1, 0.835), (0.0, 0.0, 1.0, 0.0), (0.07, 0.07, 0.07))
    (detection,) = object_poses_message([thing], HEADER).detections
    assert (detection.id, detection.results[0].hypothesis.class_id) == ("red_cube_2", "red cube")
    assert detection.bbox.center == detection.results[0].pose.pose
    assert (detection.bbox.center.position.x, detection.bbox.center.orientation.z) == (0.6, 1.0)
    assert detection.bbox.size.z == 0.07 and detection.header.frame_id == "somewhere"


def test_a_place_is_read_from_a_pose() -> None:
    place = place_from_message(Pose(position=Point(x=0.5, y=-0.1), orientation=Quaternion(z=1.0, w=0.0)))
    assert (place.x_m, place.y_m) == (0.5, -0.1) and abs(place.yaw_rad) == pytest.approx(np.pi)
    with pytest.raises(SimulationError, match="norm"):
        place_from_message(Pose(orientation=Quaternion(w=0.0)))


@pytest.mark.parametrize(
    ("duration", "steps", "expected"),
    [
        (Duration(sec=1), 0, 500),
        (Duration(nanosec=33_333_333), 0, 17),
        (Duration(), 3, 3),
        (Duration(nanosec=1_100_000), 0, 1),
    ],
)
def test_steps_of_a_request(duration: Duration, steps: int, expected: int) -> None:
    assert steps_from_message(duration, steps) == expected


@pytest.mark.parametrize(
    ("duration", "steps", "word"),
    [
        (Duration(sec=1), 1, "one of the two"),
        (Duration(), 0, "neither"),
        (Duration(nanosec=900_000), 0, "at least one step"),
        (Duration(sec=-1), 0, "at least one step"),
    ],
)
def test_requests_without_sense_are_refused(duration: Duration, steps: int, word: str) -> None:
    with pytest.raises(SimulationError, match=word):
        steps_from_message(duration, steps)
