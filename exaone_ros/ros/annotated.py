"""The annotated image: answers drawn onto the very image that they were read from, while somebody watches."""

from __future__ import annotations

from collections import OrderedDict
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
from exaone_ros.ros.remapping import compressed_topic
from exaone_ros.tasks import Detection
from exaone_ros.view.annotate import annotate, wrapped

MAX_DRAWN = 100
"""More boxes or counts than this are left out of a picture: nobody could read it."""

GATHER_S = 0.03
"""Answers to one image come one after the other; they are drawn together this long after the first."""

MAX_TASKS = 8
"""Newest answers of this many tasks of a kind are kept: tasks come and go, and a panel has little room."""

FORGOTTEN_S = 60.0
"""What was read from an image that is further away in time than this is left out: it may be of a task that is gone."""

ANSWER_LINES = 2
"""Lines of the panel for answers in words; what does not fit is cut, and the cut is marked."""


@dataclass
class Newest:
    """What was answered last, by kind and task; and the stamp that waits to be drawn.

    Attributes:
        detections: the newest message of boxes.
        counts: (task, label) -> (message, its entry): tasks with different rates or priorities answer in messages of
            their own, and none of them takes another's count away.
        decisions: task -> message.
        answers: task -> message.
        pending_ns: stamp of the image that is to be drawn.
    """

    detections: Detection2DArray | None = None
    counts: OrderedDict[tuple[str, str], tuple[Any, Any]] = field(default_factory=OrderedDict)
    decisions: OrderedDict[str, Any] = field(default_factory=OrderedDict)
    answers: OrderedDict[str, Any] = field(default_factory=OrderedDict)
    pending_ns: int | None = None

    def take_counts(self, message: Any) -> None:
        """Counts (exaone_interfaces/ObjectCounts) of one image."""
        for entry in message.counts[:MAX_DRAWN]:
            _keep(self.counts, (entry.task, entry.label), (message, entry), MAX_DRAWN)

    def take_decision(self, message: Any) -> None:
        """One decision (exaone_interfaces/Decision) of one image."""
        _keep(self.decisions, message.task, message, MAX_TASKS)

    def take_answer(self, message: Any) -> None:
        """One answer in words (exaone_interfaces/Answer) of one image."""
        _keep(self.answers, message.task, message, MAX_TASKS)


def _keep(kept: OrderedDict[Any, Any], key: Any, value: Any, most: int) -> None:
    """Keep the newest `most` values; a key that is there keeps its place."""
    kept[key] = value
    while len(kept) > most:
        kept.popitem(last=False)


class AnnotatedImage:
    """Publishes `annotated` and `annotated/compressed`, each only while it is subscribed to. In the executor's thread.

    Args:
        node: that publishes.
        topics: makes its topics.
        images: image messages of the camera by stamp.
        jpeg_quality: 1 to 100.
    """

    def __init__(
        self, node: Node, topics: qos.OverridableTopics, images: RecentMessages[Any], jpeg_quality: int
    ) -> None:
        self._node, self._images, self._quality = node, images, jpeg_quality
        self._raw = topics.publisher(ImageMessage, "annotated", qos.published_image())
        self._compressed = topics.publisher(CompressedImage, compressed_topic(node, "annotated"), qos.published_image())
        self._newest = Newest()
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)  # in a paused simulation the node's clock stands still
        self._drawn_ns = 0
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
        self._newest.take_counts(message)
        self._await(message.header)

    def on_decision(self, message: Any) -> None:
        """One decision (exaone_interfaces/Decision) of one image."""
        self._newest.take_decision(message)
        self._await(message.header)

    def on_answer(self, message: Any) -> None:
        """One answer in words (exaone_interfaces/Answer) of one image."""
        self._newest.take_answer(message)
        self._await(message.header)

    def _await(self, header: Header) -> None:
        stamp_ns = time_to_ns(header.stamp)
        pending_ns = self._newest.pending_ns
        if not self.wanted or pending_ns == stamp_ns:
            return
        # Answers that take long are about an image that others have overtaken: they stand in the next picture's panel,
        # and the pictures do not go back. Where the newest image is older too, time itself has gone back.
        newest_ns = self._images.newest_ns or 0
        if stamp_ns < self._drawn_ns <= newest_ns or stamp_ns < (pending_ns or 0) <= newest_ns:
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
        lines = lines_of(self._newest, stamp_ns, image.shape[1])
        picture = annotate(image, detections_at(self._newest.detections, stamp_ns), lines)
        header = Header(stamp=ns_to_time(stamp_ns), frame_id=message.header.frame_id)
        if self._raw.get_subscription_count():
            self._raw.publish(rgb_to_image(picture, header))
        if self._compressed.get_subscription_count():
            self._compressed.publish(jpeg_message(picture, header, self._quality))
        self.drawn += 1
        self._drawn_ns = stamp_ns


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


def lines_of(newest: Newest, stamp_ns: int, width_px: int) -> list[str]:
    """The panel: counts, decisions and, from the first one on, two lines of answers in words.

    What is of an earlier image says how much earlier, up to `FORGOTTEN_S`.

    Args:
        newest: what was answered.
        stamp_ns: of the image that is drawn.
        width_px: of the image: how long a line may be.
    """
    lines = ["", ""]
    counts = [(m, entry) for m, entry in newest.counts.values() if _stands(m, stamp_ns)]
    if counts:
        told = [f"{entry.label or 'all'}: {entry.count}{_earlier(m, stamp_ns)}" for m, entry in counts]
        lines[0] = "count  " + "  ".join(told)
    told = []
    for decision in (m for m in newest.decisions.values() if _stands(m, stamp_ns)):
        chances = dict(zip(decision.options, decision.probabilities, strict=False))
        chance = chances.get(decision.choice, float("nan"))
        told.append(f"{decision.choice or 'no decision'} ({chance:.2f}){_earlier(decision, stamp_ns)}")
    lines[1] = "  ".join(told)
    if newest.answers:  # forgotten or not: the picture keeps its size
        answers = [m for m in newest.answers.values() if _stands(m, stamp_ns)]
        said = [f"{m.task}: {m.text or 'no answer'}{_earlier(m, stamp_ns)}" for m in answers]
        lines += wrapped("  ".join(said), width_px, ANSWER_LINES)
    return lines


def _behind_s(message: Any, stamp_ns: int) -> float:
    return (stamp_ns - time_to_ns(message.header.stamp)) * 1e-9


def _stands(message: Any, stamp_ns: int) -> bool:
    return abs(_behind_s(message, stamp_ns)) <= FORGOTTEN_S


def _earlier(message: Any, stamp_ns: int) -> str:
    behind_s = _behind_s(message, stamp_ns)
    return f" [{behind_s:.1f} s before]" if abs(behind_s) >= 0.05 else ""
