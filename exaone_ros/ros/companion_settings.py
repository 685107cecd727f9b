"""The parameters of the companion node, and what they mean once they are checked together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node

from exaone_ros.ros.parameters import Parameter, ParameterError, checked_topic
from exaone_ros.ros.qos import Reliability
from exaone_ros.ros.remapping import camera_info_topic, compressed_topic
from exaone_ros.ros.spatial import SpatialSettings

PARAMETERS = (
    Parameter("image_topic", "image_raw", "Topic of the camera's images, without /compressed."),
    Parameter("image_transport", "raw", "raw, or compressed (JPEG or PNG on <image_topic>/compressed).",
              choices=("raw", "compressed")),
    Parameter("reliability", "reliable", "QoS of the image, depth and camera_info subscriptions; best_effort for "
              "cameras that offer no more.", choices=("reliable", "best_effort")),
    Parameter("max_age_s", 1.0, "How long images are kept for the answers to them, and how long a tracked box lives "
              "on after the look that saw it.", unit="s", minimum=0.05, maximum=60.0),
    Parameter("jpeg_quality", 80, "Of annotated/compressed.", minimum=1, maximum=100),
    Parameter("track", False, "Follow the boxes between looks, from image to image: detections_tracked."),
    Parameter("depth_topic", "", "Topic of depth images that are aligned with the camera's; empty = no detections_3d."),
    Parameter("camera_info_topic", "", "Topic of the camera's camera_info; empty = beside the image topic."),
    Parameter("depth_tolerance_s", 0.02, "How far the stamps of an image and its depth may lie apart.", unit="s",
              minimum=0.0, maximum=1.0),
    Parameter("min_depth_m", 0.05, "A smaller depth is a hole.", unit="m", minimum=0.0, maximum=100.0),
    Parameter("max_depth_m", 10.0, "A greater depth is a hole.", unit="m", minimum=0.1, maximum=1000.0),
    Parameter("target_frame", "", "Frame of detections_3d, by tf2; empty = the camera's optical frame."),
)  # fmt: skip


@dataclass(frozen=True)
class CompanionSettings:
    """What the node does; one field for each parameter, see there."""

    image_topic: str
    compressed: bool
    reliability: Reliability
    max_age_s: float
    jpeg_quality: int
    track: bool
    spatial: SpatialSettings | None

    @property
    def max_age_ns(self) -> int:
        return round(self.max_age_s * 1e9)

    @classmethod
    def from_values(cls, values: Mapping[str, Any], node: Node) -> CompanionSettings:
        """Check the values together.

        Args:
            values: of all parameters by name.
            node: whose remappings hold for the topics that are named after the images.

        Raises:
            ParameterError: names the parameter and what is wrong.
        """
        compressed = values["image_transport"] == "compressed"
        images = checked_topic("image_topic", values["image_topic"])
        return cls(
            image_topic=compressed_topic(node, images) if compressed else images,
            compressed=compressed,
            reliability=values["reliability"],
            max_age_s=values["max_age_s"],
            jpeg_quality=values["jpeg_quality"],
            track=values["track"],
            spatial=_spatial(values, node) if values["depth_topic"] else None,
        )


def _spatial(values: Mapping[str, Any], node: Node) -> SpatialSettings:
    if values["min_depth_m"] >= values["max_depth_m"]:
        raise ParameterError(
            f"'min_depth_m' is {values['min_depth_m']:g}; expected less than 'max_depth_m', {values['max_depth_m']:g}"
        )
    info = values["camera_info_topic"] or camera_info_topic(node, values["image_topic"])
    return SpatialSettings(
        depth_topic=checked_topic("depth_topic", values["depth_topic"]),
        camera_info_topic=checked_topic("camera_info_topic", info),
        reliability=values["reliability"],
        tolerance_ns=round(values["depth_tolerance_s"] * 1e9),
        max_age_ns=round(values["max_age_s"] * 1e9),
        near_m=values["min_depth_m"],
        far_m=values["max_depth_m"],
        target_frame=values["target_frame"],
    )
