"""What the action head's node listens to while configured: joints, images, what was seen and decided, heartbeat."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Empty
from vision_msgs.msg import Detection2DArray

from exaone_interfaces.msg import Decision
from exaone_ros.action.observation import Observation
from exaone_ros.action.runner import PolicyRunner
from exaone_ros.action.spec import NS
from exaone_ros.errors import ActionError, ImageError
from exaone_ros.ros import qos
from exaone_ros.ros.action_messages import seen_of
from exaone_ros.ros.action_settings import ActionSettings
from exaone_ros.ros.image import image_to_rgb
from exaone_ros.ros.joint_parts import JointParts
from exaone_ros.ros.messages import time_to_ns
from exaone_ros.ros.meter import Meter
from exaone_ros.ros.targets import TargetFinder


class ActionInputs:
    """Subscriptions that feed the runner and the finder, from the executor's thread.

    Args:
        node: makes the subscriptions.
        settings: topics, and which images an observation needs.
        runner: gets observations and heartbeats.
        finder: gets what was seen and decided.
        meter: counts what was taken and what was refused.
    """

    def __init__(
        self,
        node: Node,
        topics: qos.OverridableTopics,
        settings: ActionSettings,
        runner: PolicyRunner,
        finder: TargetFinder,
        meter: Meter,
    ) -> None:
        self._node, self._runner, self._finder, self._meter = node, runner, finder, meter
        self._parts = JointParts(runner.spec.state)
        self._images: dict[str, tuple[int, NDArray[np.uint8]]] = {}
        self._subscriptions: list[Any] = []
        values = settings.values
        self._topics = topics
        # Like the emergency stop, the heartbeat is not for parameters to weaken.
        self._subscriptions.append(
            node.create_subscription(Empty, "heartbeat", lambda _: runner.heartbeat(), qos.answers())
        )
        self._listen(JointState, values["joint_states_topic"], self._on_joints)
        self._listen(Detection2DArray, values["detections_topic"], self._on_detections)
        self._listen(Decision, values["decision_topic"], self._on_decision)
        self._listen(
            CameraInfo, values["camera_info_topic"], lambda message: finder.on_camera_info(message.k, message.d)
        )
        for camera, topic in settings.robot.camera_topics.items():
            self._listen(Image, topic, partial(self._on_image, camera))

    def close(self) -> None:
        """End the subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def stale_camera(self, now_ns: int, max_age_s: float) -> str | None:
        """A camera of the spec without an image, or whose newest is further than this from now; None: there is none."""
        for camera in self._runner.spec.cameras:
            if camera not in self._images or abs(now_ns - self._images[camera][0]) > max_age_s * NS:
                return camera
        return None

    def _listen(self, kind: type, topic: str, callback: Callable[[Any], None]) -> None:
        profile = qos.newest_image() if kind is Image else qos.answers()
        self._subscriptions.append(self._topics.subscription(kind, topic, callback, profile))

    def _on_joints(self, message: JointState) -> None:
        runner, stamp_ns = self._runner, time_to_ns(message.header.stamp)
        self._finder.on_joints(stamp_ns, dict(zip(message.name, message.position, strict=False)))
        state = self._parts.put(stamp_ns, message.name, message.position)
        cameras = runner.spec.cameras
        if state is None or any(camera not in self._images for camera in cameras):
            self._meter.count("state.incomplete")
            if missing := self._parts.missing:  # for seconds: drivers begin one after the other
                few = ", ".join(missing[:5]) + " ..." * (len(missing) > 5)
                self._node.get_logger().warning(
                    f"joint states come, but not of {few}: is the robot file that of this robot?",
                    throttle_duration_sec=5.0,
                    skip_first=True,
                )
            return
        images = {camera: self._images[camera][1] for camera in cameras}
        stamps_ns = {camera: self._images[camera][0] for camera in cameras}
        try:
            observed_ns, positions = state
            runner.observe(Observation(positions, observed_ns, images, stamps_ns))
            self._meter.count("state.taken")
        except ActionError as error:
            self._meter.count("state.bad")
            self._node.get_logger().warning(f"joint states refused: {error}", throttle_duration_sec=5.0)

    def _on_image(self, camera: str, message: Image) -> None:
        try:
            self._images[camera] = (time_to_ns(message.header.stamp), image_to_rgb(message))
        except ImageError as error:
            self._meter.count("image.bad")
            self._node.get_logger().warning(f"image of '{camera}' refused: {error}", throttle_duration_sec=5.0)

    def _on_detections(self, message: Detection2DArray) -> None:
        self._finder.on_detections(time_to_ns(message.header.stamp), seen_of(message))

    def _on_decision(self, message: Decision) -> None:
        if message.outcome in (Decision.OUTCOME_DONE, Decision.OUTCOME_BUDGET):
            self._finder.on_decision(time_to_ns(message.header.stamp), message.choice)
