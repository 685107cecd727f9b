"""What the simulator knows, as messages; and trajectories the other way round. Without a node."""

from __future__ import annotations

import array
import math
import sys
from collections.abc import Sequence

import cv2
import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory
from vision_msgs.msg import Detection2D, Detection2DArray, Detection3D, Detection3DArray, ObjectHypothesisWithPose

from exaone_ros.errors import ImageError, SimulationError
from exaone_ros.ros.messages import box_of, detection_message
from exaone_ros.sim.camera import Intrinsics, View
from exaone_ros.sim.frame import LabelledFrame
from exaone_ros.sim.humanoid import CAMERA_FRAME_ID
from exaone_ros.sim.stage import Place
from exaone_ros.sim.trajectory import MAX_POINTS, Trajectory
from exaone_ros.sim.vocabulary import OBSTACLE, PERSON, label_of_number, name
from exaone_ros.sim.world import STEP_S, JointStates, ObjectPose


def camera_info_message(intrinsics: Intrinsics, header: Header) -> CameraInfo:
    """The camera's projection; the rendered image has no distortion and needs no rectification."""
    k = [float(value) for value in intrinsics.k]
    return CameraInfo(
        header=header,
        width=intrinsics.width,
        height=intrinsics.height,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=k,
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[*k[0:3], 0.0, *k[3:6], 0.0, *k[6:9], 0.0],
    )


def ground_truth_message(frame: LabelledFrame, header: Header) -> Detection2DArray:
    """Everything that is truly visible, e.g. class_id ``red cube``, ``person``, ``obstacle``.

    Boxes are tight around the visible pixels, in pixel coordinates with the outer corner of the image at (0, 0). The
    score is the visible share of an object (1 for person and obstacle): nothing here is uncertain, but a sliver that
    nobody can recognise need not count.
    """
    visible = [(name(thing.shape, thing.colour), thing.box, thing.visible_fraction) for thing in frame.objects]
    others = ((PERSON, frame.person), (OBSTACLE, frame.obstacle))
    visible += [(label, box, 1.0) for label, box in others if box is not None]
    return Detection2DArray(
        header=header,
        detections=[
            detection_message(header, f"truth/{number}", label, box, share)
            for number, (label, box, share) in enumerate(visible)
        ],
    )


def named_ground_truth(boxes: Detection2DArray) -> tuple[Detection2DArray, list[str]]:
    """Boxes whose class_id is a label's number, as Gazebo's sensor gives them, under the labels' names.

    Returns:
        (boxes in the head camera's optical frame with the stamp of the sensor, class_ids that are no label of ours;
        their boxes are left out).
    """
    header = Header(stamp=boxes.header.stamp, frame_id=CAMERA_FRAME_ID)
    named: list[Detection2D] = []
    unknown: list[str] = []
    for box in boxes.detections:
        number = box.results[0].hypothesis.class_id if box.results else ""
        try:
            label = label_of_number(int(number))
        except ValueError:  # no number, or (SimulationError) none of ours
            unknown.append(number)
            continue
        named.append(detection_message(header, f"truth/{len(named)}", label, box_of(box), 1.0))
    return Detection2DArray(header=header, detections=named), unknown


def object_poses_message(objects: Sequence[ObjectPose], header: Header) -> Detection3DArray:
    """Where everything is in the header's frame, seen or not.

    `id` is the thing's name, class_id as in `ground_truth_message`; the pose stands in the result and as the centre of
    the box, whose size is that of the thing.
    """
    message = Detection3DArray(header=header)
    for thing in objects:
        pose = _pose(thing.position, thing.quaternion)
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = thing.class_id, 1.0
        hypothesis.pose.pose = pose
        detection = Detection3D(header=header, id=thing.name, results=[hypothesis])
        detection.bbox.center = pose
        detection.bbox.size.x, detection.bbox.size.y, detection.bbox.size.z = (float(edge) for edge in thing.size_m)
        message.detections.append(detection)
    return message


def camera_pose_message(view: View, header: Header) -> PoseStamped:
    """The camera's optical frame (x right, y down, z ahead) in the world."""
    quaternion = _quaternion(view.rotation.T)
    return PoseStamped(header=header, pose=_pose([float(value) for value in view.position], quaternion))


def depth_message(depth_m: NDArray[np.float32], header: Header) -> Image:
    """Depth as REP 118 has it: 32FC1, metres along the optical axis, infinite where there is nothing."""
    height, width = depth_m.shape
    message = Image(header=header, height=height, width=width, encoding="32FC1", step=4 * width)
    message.is_bigendian = int(sys.byteorder == "big")
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(depth_m, np.float32).tobytes())
    message.data = data
    return message


def jpeg_message(rgb: NDArray[np.uint8], header: Header, quality: int = 90) -> CompressedImage:
    """The image as image_transport's compressed plugin has it.

    Args:
        rgb: uint8 [H, W, 3].
        header: of the image.
        quality: 1 to 100.

    Raises:
        ImageError: OpenCV cannot encode it.
    """
    done, jpeg = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ImageError(f"OpenCV cannot encode an image of {rgb.dtype} {list(rgb.shape)} as JPEG")
    message = CompressedImage(header=header, format="rgb8; jpeg compressed bgr8")
    message.data = array.array("B", jpeg.tobytes())
    return message


def place_from_message(pose: Pose) -> Place:
    """Read a pose in the world frame.

    Raises:
        SimulationError: see `Place.of_pose`.
    """
    at, turn = pose.position, pose.orientation
    return Place.of_pose((at.x, at.y, at.z), (turn.x, turn.y, turn.z, turn.w))


def steps_from_message(duration: Duration, steps: int) -> int:
    """How many steps of physics a request asks for.

    Raises:
        SimulationError: both a duration and steps, neither, or less than half a step.
    """
    duration_s = duration.sec + duration.nanosec * 1e-9
    if duration_s and steps:
        raise SimulationError(f"asked for {duration_s:g} s and for {steps} steps; give one of the two")
    if not (duration_s or steps):
        raise SimulationError("asked for neither a duration nor steps; give one of the two")
    wanted = steps or round(duration_s / STEP_S)
    if wanted < 1:
        raise SimulationError(f"duration is {duration_s:g} s; expected at least one step of {STEP_S:g} s")
    return wanted


def _pose(position: Sequence[float], quaternion: Sequence[float]) -> Pose:
    x, y, z, w = quaternion
    return Pose(position=Point(x=position[0], y=position[1], z=position[2]), orientation=Quaternion(x=x, y=y, z=z, w=w))


def _quaternion(rotation: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """(x, y, z, w) of a rotation matrix; from the largest of its four parts, so that nothing is divided by nearly 0."""
    r = rotation
    squares = 1 + np.array([[1, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, 1]]) @ np.diag(r)
    largest = int(squares.argmax())
    s = 2 * math.sqrt(squares[largest])
    part = squares[largest] / s
    if largest == 3:
        x, y, z, w = (r[2, 1] - r[1, 2]) / s, (r[0, 2] - r[2, 0]) / s, (r[1, 0] - r[0, 1]) / s, part
    elif largest == 0:
        x, y, z, w = part, (r[0, 1] + r[1, 0]) / s, (r[0, 2] + r[2, 0]) / s, (r[2, 1] - r[1, 2]) / s
    elif largest == 1:
        x, y, z, w = (r[0, 1] + r[1, 0]) / s, part, (r[1, 2] + r[2, 1]) / s, (r[0, 2] - r[2, 0]) / s
    else:
        x, y, z, w = (r[0, 2] + r[2, 0]) / s, (r[1, 2] + r[2, 1]) / s, part, (r[1, 0] - r[0, 1]) / s
    return float(x), float(y), float(z), float(w)


def joint_state_message(states: JointStates, header: Header) -> JointState:
    """Positions (rad, m) and velocities (rad/s, m/s) of all joints."""
    return JointState(
        header=header,
        name=list(states.names),
        position=states.positions.tolist(),
        velocity=states.velocities.tolist(),
    )


def trajectory_from_message(message: JointTrajectory) -> Trajectory:
    """Read a trajectory that starts when it arrives; velocities and efforts in it are not used.

    Raises:
        SimulationError: see `Trajectory.checked`.
    """
    if len(message.points) > MAX_POINTS:  # before its points are walked through
        raise SimulationError(f"trajectory has {len(message.points)} points; expected 1 to {MAX_POINTS}")
    times_s = [point.time_from_start.sec + point.time_from_start.nanosec * 1e-9 for point in message.points]
    return Trajectory.checked(list(message.joint_names), times_s, [list(point.positions) for point in message.points])
