"""The annotated image: answers drawn onto the very image that they were read from, while somebody watches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMessage
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from exaone_ros.errors import ExaoneError
from exaone_ros.ros import qos
from exaone_ros.ros.image import compressed_image_to_rgb, image_to_rgb, rgb_to_image
from exaone_ros.ros.messages import box_of, ns_to_time, time_to_ns
from exaone_ros.ros.recent import RecentMessages
from exaone_ros.tasks import Detection
from exaone_ros.view.annotate import annotate

MAX_DRAWN = 100
"""More boxes or counts than this are left out of a picture: nobody could read it."""

GATHER_S = 0.03
"""Answers to one image come one after the other; they are drawn together this long after the first."""


@dataclass
class Newest:
    """What was answered last, by kind; and the stamp that waits to be drawn."""

    detections: Detection2DArray | None = None
    counts: Any = None
    decisions: dict[str, Any] = field(default_factory=dict)
    pending_ns: int | None = None


class AnnotatedImage:
    """Publishes `annotated` and `annotated/compressed`, each only while it is subscribed to. In the executor's thread.

    Args:
        node: that publishes.
        images: image messages of the camera by stamp.
        jpeg_quality: 1 to 100.
    """

    def __init__(self, node: Node, images: RecentMessages[Any], jpeg_quality: int) -> None:
        self._node, self._images, self._quality = node, images, jpeg_quality
        self._raw = node.create_publisher(ImageMessage, "annotated", qos.published_image())
        self._compressed = node.create_publisher(CompressedImage, "annotated/compressed", qos.published_image())
        self._newest = Newest()
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)  # in a paused simulation the node's clock stands still
        self.drawn = 0
        self.missed = 0

    @property
    def wanted(self) -> bool:
        """Somebody subscribes to one of the two topics."""
        return bool(self._raw.get_subscription_count() or self._compressed.get_subscription_count())

    def on_detections(self, message: Detection2DArray) -> None:
        """Boxes of one image."""
        self._newest.detections = message
        self._await(message.header)

    def on_counts(self, message: Any) -> None:
        """Counts (exaone_interfaces/ObjectCounts) of one image."""
        self._newest.counts = message
        self._await(message.header)

    def on_decision(self, message: Any) -> None:
        """One decision (exaone_interfaces/Decision) of one image."""
        if len(self._newest.decisions) > 8:  # tasks come and go
            self._newest.decisions.clear()
        self._newest.decisions[message.task] = message
        self._await(message.header)

    def _await(self, header: Header) -> None:
        stamp_ns = time_to_ns(header.stamp)
        pending_ns = self._newest.pending_ns
        if not self.wanted or pending_ns == stamp_ns:
            return
        self._newest.pending_ns = stamp_ns
        if pending_ns is None:
            timer = self._node.create_timer(GATHER_S, lambda: self._draw_once(timer), clock=self._steady)

    def _draw_once(self, timer: Any) -> None:
        self._node.destroy_timer(timer)
        stamp_ns, self._newest.pending_ns = self._newest.pending_ns, None
        if stamp_ns is not None:
            self._draw(stamp_ns)

    def _draw(self, stamp_ns: int) -> None:
        message = self._images.at(stamp_ns)
        if message is None:  # came before the subscription, or is gone by now
            self.missed += 1
            return
        compressed = isinstance(message, CompressedImage)
        try:
            image = compressed_image_to_rgb(message) if compressed else image_to_rgb(message)
        except ExaoneError as error:
            self.missed += 1
            self._node.get_logger().warning(f"cannot be annotated: {error}", throttle_duration_sec=10.0)
            return
        picture = annotate(image, detections_at(self._newest.detections, stamp_ns), lines_of(self._newest, stamp_ns))
        header = Header(stamp=ns_to_time(stamp_ns), frame_id=message.header.frame_id)
        if self._raw.get_subscription_count():
            self._raw.publish(rgb_to_image(picture, header))
        if self._compressed.get_subscription_count():
            self._compressed.publish(jpeg_message(picture, header, self._quality))
        self.drawn += 1


def jpeg_message(image: np.ndarray[Any, np.dtype[np.uint8]], header: Header, quality: int) -> CompressedImage:
    """A JPEG message of uint8 RGB [H, W, 3].

    Raises:
        ExaoneError: OpenCV cannot encode it.
    """
    ok, jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise ExaoneError(f"OpenCV {cv2.__version__} cannot encode an image of {image.shape} as JPEG")
    return CompressedImage(header=header, format="rgb8; jpeg compressed bgr8", data=jpeg.tobytes())


def detections_at(message: Detection2DArray | None, stamp_ns: int) -> list[Detection]:
    """The boxes of the image with this stamp: those of another image would be drawn in the wrong places."""
    if message is None or time_to_ns(message.header.stamp) != stamp_ns:
        return []
    return [
        Detection(d.results[0].hypothesis.class_id, box_of(d), float(d.results[0].hypothesis.score))
        for d in message.detections[:MAX_DRAWN]
        if d.results
    ]


def lines_of(newest: Newest, stamp_ns: int) -> list[str]:
    """Two lines for the panel: the newest counts and decisions; what is of an earlier image says how much earlier."""
    lines = ["", ""]
    if newest.counts is not None:
        counts = "  ".join(f"{entry.label or 'all'}: {entry.count}" for entry in newest.counts.counts[:MAX_DRAWN])
        lines[0] = f"count  {counts}{_earlier(newest.counts, stamp_ns)}"
    told = []
    for decision in newest.decisions.values():
        chances = dict(zip(decision.options, decision.probabilities, strict=False))
        chance = chances.get(decision.choice, float("nan"))
        told.append(f"{decision.choice or 'no decision'} ({chance:.2f}){_earlier(decision, stamp_ns)}")
    lines[1] = "  ".join(told)
    return lines


def _earlier(message: Any, stamp_ns: int) -> str:
    behind_s = (stamp_ns - time_to_ns(message.header.stamp)) * 1e-9
    return f" [{behind_s:.1f} s before]" if abs(behind_s) >= 0.05 else ""
