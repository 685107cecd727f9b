"""Detections in space: `detections` and an aligned depth image become `detections_3d` and `markers`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import Pose
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, Detection3D, Detection3DArray, ObjectHypothesisWithPose
from visualization_msgs.msg import MarkerArray

from exaone_ros.errors import ExaoneError, ImageError
from exaone_ros.geometry.camera import CameraModel
from exaone_ros.geometry.space import BoxInSpace, NoDepth, locate
from exaone_ros.geometry.tracks import SET_BACK_NS
from exaone_ros.ros import qos
from exaone_ros.ros.image import image_to_depth_m
from exaone_ros.ros.markers import markers_of
from exaone_ros.ros.messages import box_of, time_to_ns
from exaone_ros.ros.recent import RecentMessages
from exaone_ros.ros.transform import FrameChange

MAX_WAITING = 30
MAX_OBJECTS = 256
"""More detections than this on one image are refused: no camera shows them, and each costs time."""


@dataclass(frozen=True)
class SpatialSettings:
    """Attributes: topics; QoS of the camera; how far stamps of image and depth may lie apart; how long detections wait
    for their depth; depths out of [near_m, far_m] are holes; frame to publish in, empty = the camera's own."""

    depth_topic: str
    camera_info_topic: str
    reliability: qos.Reliability
    tolerance_ns: int
    max_age_ns: int
    near_m: float
    far_m: float
    target_frame: str = ""


class Spatial:
    """Publishes `detections_3d` (and `markers` while subscribed to). All of it in the executor's thread.

    Attributes:
        counts: what happened, by name: `located`, `depth_has_holes`, `box_outside_image` (objects); `published`,
            `no_depth`, `no_camera_info`, `no_transform`, `bad_depth`, `too_many`, `depth_of_other_frame` (messages).

    Args:
        node: whose logger and clock are used.
        topics: makes its topics.
        settings: what to listen to.

    Raises:
        MissingExtra: a target frame is wanted and tf2_ros is not there.
    """

    def __init__(self, node: Node, topics: qos.OverridableTopics, settings: SpatialSettings) -> None:
        self._node, self._settings = node, settings
        self._depths: RecentMessages[Image] = RecentMessages(settings.max_age_ns)
        self._info: CameraInfo | None = None
        self._waiting: list[Detection2DArray] = []
        self.counts: Counter[str] = Counter()
        self._told: set[str] = set()
        self._change = FrameChange(node, settings.target_frame) if settings.target_frame else None
        self._detections = topics.publisher(Detection3DArray, "detections_3d", qos.answers())
        self._markers = topics.publisher(MarkerArray, "markers", qos.answers())
        images = qos.every_image(settings.reliability)
        topics.subscription(Image, settings.depth_topic, self._on_depth, images)
        topics.subscription(CameraInfo, settings.camera_info_topic, self._on_info, images)

    def on_detections(self, message: Detection2DArray) -> None:
        """Boxes of one image; they wait for the depth of the same moment where it is not there yet."""
        if len(message.detections) > MAX_OBJECTS:
            self._drop("too_many", f"{len(message.detections)} detections in a message; expected {MAX_OBJECTS} at most")
            return
        self._waiting.append(message)
        if len(self._waiting) > MAX_WAITING:
            self._waiting.pop(0)
            self._drop("no_depth", "detections come faster than depth images")
        self._work_off()

    def _on_info(self, message: CameraInfo) -> None:
        self._info = message

    def _on_depth(self, message: Image) -> None:
        stamp_ns, newest_ns = time_to_ns(message.header.stamp), self._depths.newest_ns
        if newest_ns is not None and stamp_ns < newest_ns - SET_BACK_NS:
            for _ in self._waiting:  # the clock was set back: depth of their time would be of another world
                self._drop("no_depth", "the clock was set back while detections waited for their depth")
            self._waiting = []
        self._depths.put(stamp_ns, message, len(message.data))
        self._work_off()

    def _work_off(self) -> None:
        """Locate what has its depth; give up on what will not get one any more."""
        tolerance_ns, newest_ns = self._settings.tolerance_ns, self._depths.newest_ns
        still_waiting, ready = [], []
        for message in self._waiting:
            stamp_ns = time_to_ns(message.header.stamp)
            near = self._depths.nearest(stamp_ns, tolerance_ns)
            if near is not None:
                ready.append((message, near[1]))
            elif newest_ns is not None and newest_ns > stamp_ns + tolerance_ns:
                self._drop("no_depth", f"no depth image lies within {tolerance_ns * 1e-9:g} s of the detections")
            else:
                still_waiting.append(message)
        self._waiting = still_waiting
        for message, depth in ready:  # they wait no more: one that fails is not tried again and again
            self._locate(message, depth)

    def _locate(self, message: Detection2DArray, depth: Image) -> None:
        if self._info is None:
            topic = self._node.resolve_topic_name(self._settings.camera_info_topic)
            self._drop("no_camera_info", f"no camera_info came on '{topic}'")
            return
        info = self._info
        theirs, ours = depth.header.frame_id, message.header.frame_id
        if theirs != ours and theirs and ours:  # some drivers call the frames of one camera by two names
            self._note(
                "depth_of_other_frame",
                f"depth is in the frame '{theirs}', the detections in '{ours}': places are wrong unless the depth is "
                "aligned with the colour image (e.g. aligned_depth_to_color)",
            )
        try:
            camera = CameraModel.from_info(info.width, info.height, info.k, info.distortion_model, info.d)
            result = detections_in_space(message, image_to_depth_m(depth), camera, self._settings, self.counts)
        except ImageError as error:
            self._drop("bad_depth", str(error))
            return
        if self._change is not None:
            try:
                result = self._change.applied(result)
            except ExaoneError as error:
                self._drop("no_transform", str(error))
                return
        self.counts["published"] += 1
        self._detections.publish(result)
        if self._markers.get_subscription_count():
            self._markers.publish(markers_of(result, self._settings.max_age_ns))

    def _drop(self, reason: str, message: str) -> None:
        self._note(reason, f"no detections in space: {message}")

    def _note(self, reason: str, message: str) -> None:
        self.counts[reason] += 1
        if reason not in self._told:
            self._told.add(reason)
            self._node.get_logger().warning(f"{message}; counted in diagnostics from here on")


def detections_in_space(
    message: Detection2DArray,
    depth_m: NDArray[np.float32],
    camera: CameraModel,
    settings: SpatialSettings,
    counts: Counter[str],
) -> Detection3DArray:
    """The located objects of a message, in the camera's optical frame. Those without a usable depth are left out.

    Raises:
        ImageError: the depth image is not of the camera's size.
    """
    header: Header = message.header
    result = Detection3DArray(header=header)
    for detection in message.detections:
        place = locate(depth_m, box_of(detection), camera, settings.near_m, settings.far_m)
        if isinstance(place, NoDepth):
            counts[place.value] += 1
            continue
        counts["located"] += 1
        result.detections.append(detection_in_space(detection, place, header))
    return result


def detection_in_space(source: Any, place: BoxInSpace, header: Header) -> Detection3D:
    """A Detection2D and its place as a Detection3D; covariances stay zero, which in ROS means that they are unknown."""
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = place.center
    made = Detection3D(header=header, id=source.id)
    made.bbox.center = pose
    made.bbox.size.x, made.bbox.size.y, made.bbox.size.z = place.size
    for guess in source.results:
        result = ObjectHypothesisWithPose(hypothesis=guess.hypothesis)
        result.pose.pose = pose
        made.results.append(result)
    return made
