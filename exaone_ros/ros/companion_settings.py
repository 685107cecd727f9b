"""The parameters of the companion node, and what they mean once they are checked together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rclpy.exceptions import InvalidTopicNameException
from rclpy.validate_topic_name import validate_topic_name

from exaone_ros.ros.parameters import Parameter, ParameterError
from exaone_ros.ros.qos import Reliability

PARAMETERS = (
    Parameter("image_topic", "image_raw", "Topic of the camera's images, without /compressed."),
    Parameter("image_transport", "raw", "raw, or compressed (JPEG or PNG on <image_topic>/compressed).",
              choices=("raw", "compressed")),
    Parameter("reliability", "reliable", "QoS of the image, depth and camera_info subscriptions; best_effort for "
              "cameras that offer no more.", choices=("reliable", "best_effort")),
    Parameter("max_age_s", 1.0, "How long images are kept for the answers to them, and how long a tracked box lives "
              "on after the look that saw it.", unit="s", minimum=0.05, maximum=60.0),
    Parameter("jpeg_quality", 80, "Of annotated/compressed.", minimum=1, maximum=100),
)  # fmt: skip


@dataclass(frozen=True)
class CompanionSettings:
    """What the node does; one field for each parameter, see there."""

    image_topic: str
    compressed: bool
    reliability: Reliability
    max_age_s: float
    jpeg_quality: int

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
        )


def checked_topic(parameter: str, name: str) -> str:
    """The name as it is.

    Raises:
        ParameterError: no topic can have it.
    """
    try:
        validate_topic_name(name)
    except InvalidTopicNameException as error:
        reason = str(error).replace("\n", " ").strip()
        raise ParameterError(f"'{parameter}' is {name!r}; expected the name of a topic: {reason}") from error
    return name
