"""The companion node: what follows from the answers of the perception node, without asking the model again.

Subscribes (relative names) to the camera and to ``detections``, ``counts``, ``decision`` and ``answer``. Publishes the
annotated image; with depth ``detections_3d`` and ``markers``; where asked to ``detections_tracked``; and diagnostics.
One companion serves one camera. It is a process of its own: drawing costs the perception node nothing, and what is not
wanted is not started. All callbacks run in the executor's thread.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NoReturn

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from exaone_interfaces.msg import Answer, Decision, ObjectCounts
from exaone_ros.ros import qos
from exaone_ros.ros.annotated import AnnotatedImage
from exaone_ros.ros.companion_settings import PARAMETERS, CompanionSettings
from exaone_ros.ros.messages import time_to_ns
from exaone_ros.ros.parameters import ParameterSet, named_overrides
from exaone_ros.ros.recent import RecentMessages
from exaone_ros.ros.remapping import compressed_topic
from exaone_ros.ros.spatial import Spatial
from exaone_ros.ros.spin import run_node
from exaone_ros.ros.tracking import Tracking

LOOK_FOR_SUBSCRIBERS_S = 0.2
DIAGNOSTICS_S = 1.0
FAULTS = ("without_image", "no_depth", "no_camera_info", "no_transform", "bad_depth", "too_many", "unreadable",
          "looks_without_image", "depth_of_other_frame")  # fmt: skip
"""Counts that make the status a warning while they grow."""


class Companion(Node):
    """Draws, locates and follows the answers of one camera.

    Args:
        arguments: of rclpy's Node, for a companion that shares a process: context, namespace, parameter_overrides.

    Raises:
        ParameterError: a parameter that is unknown or out of range, or an override of QoS that fits no topic.
        MissingExtra: a target frame is wanted and tf2 is not installed.
    """

    def __init__(self, **arguments: Any) -> None:
        with named_overrides(self):
            super().__init__("companion", automatically_declare_parameters_from_overrides=True, **arguments)
        # Values are read once, here: a change needs another start, so all of them are locked.
        self._settings = settings = CompanionSettings.from_values(
            ParameterSet(self, PARAMETERS, locked=lambda: True).values(), self
        )
        self._images: RecentMessages[Image | CompressedImage] = RecentMessages(settings.max_age_ns)
        self._image_subscription: Subscription | None = None
        self._topics = topics = qos.OverridableTopics(self)
        self._annotated = AnnotatedImage(self, topics, self._images, settings.jpeg_quality)
        self._spatial = Spatial(self, topics, settings.spatial) if settings.spatial is not None else None
        self._tracking = Tracking(self, topics, settings.max_age_ns) if settings.track else None
        topics.subscription(Detection2DArray, "detections", self._on_detections, qos.answers())
        topics.subscription(ObjectCounts, "counts", self._annotated.on_counts, qos.answers())
        topics.subscription(Decision, "decision", self._annotated.on_decision, qos.answers())
        topics.subscription(Answer, "answer", self._annotated.on_answer, qos.answers())
        topics.expect_subscription(settings.image_topic)
        topics.check()
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # a paused simulation has subscribers too
        self.create_timer(LOOK_FOR_SUBSCRIBERS_S, self._take_images_while_wanted, clock=steady)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", qos.diagnostics())
        self._reported: Counter[str] = Counter()
        self.create_timer(DIAGNOSTICS_S, self._report, clock=steady)

    def begin(self) -> None:
        """Say what it does; there is nothing to start: everything waits for messages."""
        names = (self._settings.image_topic, "annotated", compressed_topic(self, "annotated"))
        images, drawn, compressed = (self.resolve_topic_name(name) for name in names)
        parts = [f"answers are drawn onto {images} while somebody subscribes to {drawn} or {compressed}"]
        if self._settings.spatial is not None:
            depth = self.resolve_topic_name(self._settings.spatial.depth_topic)
            parts.append(f"located by {depth} on {self.resolve_topic_name('detections_3d')}")
        if self._tracking is not None:
            parts.append(f"followed from image to image on {self.resolve_topic_name('detections_tracked')}")
        self.get_logger().info("; ".join(parts))

    def open_all(self) -> None:
        """Open what is otherwise opened only while somebody needs it: for a look at what the node talks to."""
        self._subscribe_to_images()

    def end(self) -> None:
        """Nothing to stop."""

    def _on_detections(self, message: Detection2DArray) -> None:
        self._annotated.on_detections(message)
        if self._spatial is not None:
            self._spatial.on_detections(message)
        if self._tracking is not None:
            self._tracking.on_detections(message)

    @property
    def spatial_counts(self) -> Counter[str]:
        """What became of detections in space, see `Spatial.counts`."""
        return self._spatial.counts if self._spatial is not None else Counter()

    def counts(self) -> Counter[str]:
        """What happened since the start, by name: see docs/companion.md."""
        counts = Counter({"annotated": self._annotated.drawn, "without_image": self._annotated.missed})
        if self._spatial is not None:
            counts.update(self._spatial.counts)
        if self._tracking is not None:
            counts.update(self._tracking.counts())
        return counts

    def _report(self) -> None:
        counts = self.counts()
        faults = sorted(name for name in FAULTS if counts[name] > self._reported[name])
        self._reported = counts
        status = DiagnosticStatus(
            level=DiagnosticStatus.WARN if faults else DiagnosticStatus.OK,
            name=f"{self.get_fully_qualified_name()}: companion",
            message=", ".join(faults) or "ok",
            values=[KeyValue(key=name, value=str(number)) for name, number in sorted(counts.items())],
        )
        header = Header(stamp=self.get_clock().now().to_msg())
        self._diagnostics.publish(DiagnosticArray(header=header, status=[status]))

    @property
    def takes_images(self) -> bool:
        """The camera is subscribed to now."""
        return self._image_subscription is not None

    @property
    def images_held(self) -> int:
        """Number of images that wait for their answers."""
        return len(self._images)

    @property
    def newest_image_ns(self) -> int:
        """Stamp of the newest image that is held; 0 where there is none."""
        return self._images.newest_ns or 0

    def _take_images_while_wanted(self) -> None:
        """Images are subscribed to only while somebody needs them: otherwise they cost nothing."""
        wanted = self._annotated.wanted or self._tracking is not None
        if wanted and self._image_subscription is None:
            self._subscribe_to_images()
        elif not wanted and self._image_subscription is not None:
            self.destroy_subscription(self._image_subscription)
            self._image_subscription = None
            self._images.clear()

    def _subscribe_to_images(self) -> None:
        self._image_subscription = self._topics.subscription(
            CompressedImage if self._settings.compressed else Image,
            self._settings.image_topic,
            self._on_image,
            qos.every_image(self._settings.reliability),
        )

    def _on_image(self, message: Any) -> None:
        if self._annotated.wanted:
            self._images.put(time_to_ns(message.header.stamp), message, len(message.data))
        if self._tracking is not None:
            self._tracking.on_image(message, self._settings.compressed)


def main() -> NoReturn:
    """Entry point `companion`; ends the process."""
    run_node(Companion)


if __name__ == "__main__":
    main()
