"""The parameters of the companion node, and what they mean once they are checked together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from exaone_ros.ros.parameters import Parameter, ParameterError, checked_topic
from exaone_ros.ros.qos import Reliability
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
    def from_values(cls, values: Mapping[str, Any]) -> CompanionSettings:
        """Check the values together.

        Raises:
            ParameterError: names the parameter and what is wrong.
        """
        compressed = values["image_transport"] == "compressed"
        image_topic = values["image_topic"]
        if compressed and not image_topic.endswith("/compressed"):
            image_topic += "/compressed"
        return cls(
            image_topic=checked_topic("image_topic", image_topic),
            compressed=compressed,
            reliability=values["reliability"],
            max_age_s=values["max_age_s"],
            jpeg_quality=values["jpeg_quality"],
            track=values["track"],
            spatial=_spatial(values) if values["depth_topic"] else None,
        )


def _spatial(values: Mapping[str, Any]) -> SpatialSettings:
    if values["min_depth_m"] >= values["max_depth_m"]:
        raise ParameterError(
            f"'min_depth_m' is {values['min_depth_m']:g}; expected less than 'max_depth_m', {values['max_depth_m']:g}"
        )
    beside = values["image_topic"].removesuffix("/compressed").rpartition("/")[0]
    info = values["camera_info_topic"] or (f"{beside}/camera_info" if beside else "camera_info")
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
