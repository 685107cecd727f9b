"""Boxes at camera rate: `detections` follow the images between looks and become `detections_tracked`."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from exaone_ros.errors import ExaoneError
from exaone_ros.geometry.tracks import BoxTracker, SeenBox, Track
from exaone_ros.ros import qos
from exaone_ros.ros.image import compressed_image_to_rgb, image_to_rgb
from exaone_ros.ros.messages import box_of, detection_message, ns_to_time, time_to_ns

MAX_OBJECTS = 128
"""Detections beyond this on one image are not followed."""


class Tracking:
    """Publishes `detections_tracked` for each image; all of it in the executor's thread.

    Attributes:
        unmatched: looks whose image was not held (too old, or it never came).
        unreadable: images that could not be read.
        repeated: images that were no newer than the one before.

    Args:
        node: whose logger is used.
        topics: makes its topic.
        max_age_ns: a box is let go this long after the look that saw it.
    """

    def __init__(self, node: Node, topics: qos.OverridableTopics, max_age_ns: int) -> None:
        self._node, self._max_age_ns = node, max_age_ns
        self._tracker = BoxTracker(max_age_ns)
        self._publisher = topics.publisher(Detection2DArray, "detections_tracked", qos.answers())
        self.unmatched = 0
        self.unreadable = 0
        self.repeated = 0

    def counts(self) -> dict[str, int]:
        """What happened: boxes let go between looks, looks without their image, images that are none, or not newer."""
        return {
            "tracks_dropped": self._tracker.dropped,
            "looks_without_image": self.unmatched,
            "unreadable": self.unreadable,
            "repeated": self.repeated,
        }

    def on_image(self, message: Any, compressed: bool) -> None:
        """Follow the boxes onto an image and publish them; nothing is published without a look of the last moment."""
        try:
            rgb = compressed_image_to_rgb(message) if compressed else image_to_rgb(message)
        except ExaoneError as error:
            self.unreadable += 1
            self._node.get_logger().warning(f"cannot be tracked: {error}", throttle_duration_sec=10.0)
            return
        stamp_ns = time_to_ns(message.header.stamp)
        tracks = self._tracker.on_image(stamp_ns, rgb)
        if tracks is None:
            self.repeated += 1
            return
        looked_ns = self._tracker.looked_ns
        if looked_ns is not None and stamp_ns - looked_ns <= self._max_age_ns:
            self._publisher.publish(tracked_message(tracks, message.header))

    def on_detections(self, message: Detection2DArray) -> None:
        """Take in the boxes of a look; its image must have come before."""
        boxes = [
            SeenBox(d.id.rpartition("/")[0], d.results[0].hypothesis.class_id, box_of(d), d.results[0].hypothesis.score)
            for d in message.detections[:MAX_OBJECTS]
            if d.results
        ]
        if not self._tracker.on_look(time_to_ns(message.header.stamp), boxes):
            self.unmatched += 1


def tracked_message(tracks: tuple[Track, ...], header: Header) -> Detection2DArray:
    """The tracks on one image.

    The array's header is that of the image; each detection's own stamp is that of the image on which the model saw it.
    Where the two are equal the box was seen, where the detection's is earlier it was propagated. `id` lasts.
    """
    out = Detection2DArray(header=header)
    for track in tracks:
        seen = Header(stamp=ns_to_time(track.seen_ns), frame_id=header.frame_id)
        identity = f"{track.seen.task}#{track.number}"
        out.detections.append(detection_message(seen, identity, track.seen.label, track.box, track.seen.score))
    return out
