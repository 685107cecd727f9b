"""What the simulator knows, as messages; and trajectories the other way round. Without a node."""

from __future__ import annotations

from sensor_msgs.msg import CameraInfo, JointState
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory
from vision_msgs.msg import Detection2D, Detection2DArray

from exaone_ros.errors import SimulationError
from exaone_ros.ros.messages import box_of, detection_message
from exaone_ros.sim.camera import Intrinsics
from exaone_ros.sim.frame import LabelledFrame
from exaone_ros.sim.humanoid import CAMERA_FRAME_ID
from exaone_ros.sim.trajectory import MAX_POINTS, Trajectory
from exaone_ros.sim.vocabulary import OBSTACLE, PERSON, label_of_number, name
from exaone_ros.sim.world import JointStates


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
