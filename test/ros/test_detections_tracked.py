"""Boxes at camera rate over real DDS: what was seen and what was propagated can be told apart."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from companion_peer import FRAME_ID, accompanied, detections, header
from vision_msgs.msg import Detection2DArray

from exaone_ros.ros.image import rgb_to_image
from exaone_ros.ros.messages import box_of, time_to_ns

COARSE = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
IMAGE = rgb_to_image(cv2.resize(COARSE, (160, 120), interpolation=cv2.INTER_CUBIC))
BOX = (40.0, 30.0, 90.0, 80.0)


def test_boxes_are_published_with_every_image_after_a_look() -> None:
    with accompanied("tracked", track=True, max_age_s=60.0) as peer:
        peer.listen(Detection2DArray, "detections_tracked")
        peer.wait(lambda: peer.companion.takes_images, "an image subscription")
        sent: list[int] = []

        def look(stamp_ns: int) -> None:
            sent.append(stamp_ns)
            IMAGE.header = header(stamp_ns)
            peer.send("image_raw", IMAGE)
            if len(sent) > 3 and not peer.received["detections_tracked"]:  # the answer to an earlier image
                peer.send("detections", detections(sent[-3], ("mug", BOX)))

        messages = peer.received["detections_tracked"]
        peer.stream(look, lambda: len([m for m in messages if m.detections]) >= 2, "tracked boxes")
        first, second = [m for m in messages if m.detections][:2]
    (a,), (b,) = first.detections, second.detections
    assert time_to_ns(second.header.stamp) in sent and second.header.frame_id == FRAME_ID
    assert time_to_ns(b.header.stamp) in sent and time_to_ns(b.header.stamp) < time_to_ns(second.header.stamp)
    assert a.id.startswith("objects#") and b.results[0].hypothesis.class_id == "mug"
    assert box_of(b) == pytest.approx(BOX, abs=1.0)


def test_without_being_asked_to_nothing_is_tracked() -> None:
    with accompanied("untracked") as peer:
        topics = [name for name, _ in peer.companion.get_publisher_names_and_types_by_node("companion", "/untracked")]
        assert "/untracked/annotated" in topics and "/untracked/detections_tracked" not in topics
