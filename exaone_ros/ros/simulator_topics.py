"""What a simulation produces, on topics. Its methods are the listeners of `sim.live` and `sim.stepped`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, Detection3DArray

from exaone_ros.ros import qos
from exaone_ros.ros.image import rgb_to_image
from exaone_ros.ros.messages import ns_to_time
from exaone_ros.ros.remapping import camera_info_topic, compressed_topic
from exaone_ros.ros.simulation import (
    camera_info_message,
    camera_pose_message,
    depth_message,
    ground_truth_message,
    joint_state_message,
    jpeg_message,
    object_poses_message,
)
from exaone_ros.sim.faults import FaultyCamera
from exaone_ros.sim.humanoid import CAMERA_FRAME_ID
from exaone_ros.sim.live import CameraMoment
from exaone_ros.sim.world import JointStates, ObjectPose

WORLD_FRAME_ID = "world"
"""Origin on the floor between the robot's feet, x ahead, y to its left, z up."""


class SimulatorTopics:
    """Publishers of a simulator. Any thread may call any method.

    JPEG, depth and the truth about images cost time, so they are made only while somebody listens.

    Args:
        node: that publishes the clock, whose QoS is nobody's to choose.
        topics: makes the others.
        clock: publish simulated time.
        jpeg_quality: 1 to 100.
        fault: asked before each image what is wrong with the camera, one of `sim.faults.FAULTS`; depth has no faults.
    """

    def __init__(
        self,
        node: Node,
        topics: qos.OverridableTopics,
        *,
        clock: bool,
        jpeg_quality: int = 90,
        fault: Callable[[], str] = lambda: "none",
    ) -> None:
        images, values = qos.published_image(), qos.answers()
        self._jpeg_quality, self._fault = jpeg_quality, fault
        self._camera = FaultyCamera()
        colour, depth = "head_camera/image_raw", "head_camera/depth/image_raw"
        self._images = topics.publisher(Image, colour, images)
        self._compressed = topics.publisher(CompressedImage, compressed_topic(node, colour), images)
        self._camera_infos = topics.publisher(CameraInfo, camera_info_topic(node, colour), images)
        self._depths = topics.publisher(Image, depth, images)
        self._depth_infos = topics.publisher(CameraInfo, camera_info_topic(node, depth), images)
        self._truths = topics.publisher(Detection2DArray, "ground_truth/detections", values)
        self._objects = topics.publisher(Detection3DArray, "ground_truth/objects", values)
        self._camera_poses = topics.publisher(PoseStamped, "ground_truth/camera_pose", values)
        self._joint_states = topics.publisher(JointState, "joint_states", values)
        self._clocks = node.create_publisher(Clock, "/clock", values) if clock else None

    def wants_depth(self) -> bool:
        """Whether somebody listens to depth."""
        return bool(self._depths.get_subscription_count())

    def wants_labels(self) -> bool:
        """Whether somebody listens to the truth about the images."""
        return bool(self._truths.get_subscription_count())

    def frame(self, moment: CameraMoment) -> None:
        """Publish an image with everything that is true of it."""
        header = _header(moment.stamp_ns, CAMERA_FRAME_ID)
        # The truth first: who has the image can then have the truth about it too.
        if moment.frame.labelled:
            self._truths.publish(ground_truth_message(moment.frame, header))
        self._camera_poses.publish(camera_pose_message(moment.view, _header(moment.stamp_ns, WORLD_FRAME_ID)))
        if moment.frame.depth_m is not None:
            self._depth_infos.publish(camera_info_message(moment.intrinsics, header))
            self._depths.publish(depth_message(moment.frame.depth_m, header))
        delivered = self._camera.deliver(moment.stamp_ns, moment.frame.image, self._fault())
        if delivered is None:
            return
        stamp_ns, image = delivered
        header = _header(stamp_ns, CAMERA_FRAME_ID)
        self._camera_infos.publish(camera_info_message(moment.intrinsics, header))
        if self._compressed.get_subscription_count():
            self._compressed.publish(jpeg_message(image, header, self._jpeg_quality))
        self._images.publish(rgb_to_image(image, header))

    def objects(self, stamp_ns: int, objects: Sequence[ObjectPose]) -> None:
        """Publish where everything is."""
        self._objects.publish(object_poses_message(objects, _header(stamp_ns, WORLD_FRAME_ID)))

    def joints(self, stamp_ns: int, states: JointStates) -> None:
        """Publish the joints' positions and velocities."""
        self._joint_states.publish(joint_state_message(states, _header(stamp_ns, "")))

    def time(self, time_s: float) -> None:
        """Publish simulated time."""
        if self._clocks is not None:
            self._clocks.publish(Clock(clock=ns_to_time(round(time_s * 1e9))))


def _header(stamp_ns: int, frame_id: str) -> Header:
    return Header(stamp=ns_to_time(stamp_ns), frame_id=frame_id)
