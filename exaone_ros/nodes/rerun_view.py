"""Shows a camera and the answers to it in a Rerun viewer, or saves them as an .rrd file.

Subscribes (relative names) to the camera and to ``detections``, ``counts``, ``decision`` and ``answer``. Needs the
extra `view`. All callbacks run in the executor's thread.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from exaone_interfaces.msg import Answer, Decision, ObjectCounts
from exaone_ros.errors import ImageError
from exaone_ros.ros import qos
from exaone_ros.ros.annotated import detections_at
from exaone_ros.ros.companion_settings import PARAMETERS as COMPANION_PARAMETERS
from exaone_ros.ros.image import image_to_rgb
from exaone_ros.ros.messages import time_to_ns
from exaone_ros.ros.parameters import Parameter, ParameterSet, checked_topic, named_overrides
from exaone_ros.ros.remapping import compressed_topic
from exaone_ros.ros.spin import run_node
from exaone_ros.view.rerun_log import RerunLog

PARAMETERS = (
    *(p for p in COMPANION_PARAMETERS if p.name in ("image_topic", "image_transport", "reliability")),
    Parameter("save", "", "File (.rrd) to write; empty = open a viewer window."),
)
MEDIA_TYPES = {b"\xff\xd8": "image/jpeg", b"\x89P": "image/png"}


class RerunView(Node):
    """Hands everything on to a `RerunLog`.

    Raises:
        ParameterError: a parameter that is unknown or out of range, or an override of QoS that fits no topic.
        MissingExtra: rerun-sdk is not installed.
        ExaoneError: no viewer can be started, or the file cannot be written.
    """

    def __init__(self, **arguments: Any) -> None:
        with named_overrides(self):
            super().__init__("rerun_view", automatically_declare_parameters_from_overrides=True, **arguments)
        values = ParameterSet(self, PARAMETERS, locked=lambda: True).values()
        compressed = values["image_transport"] == "compressed"
        topic = checked_topic("image_topic", values["image_topic"])
        self._log = RerunLog(Path(values["save"]).expanduser() if values["save"] else None)
        topics, images = qos.OverridableTopics(self), qos.every_image(values["reliability"])
        if compressed:
            topics.subscription(CompressedImage, compressed_topic(self, topic), self._on_compressed, images)
        else:
            topics.subscription(Image, topic, self._on_image, images)
        topics.subscription(Detection2DArray, "detections", self._on_detections, qos.answers())
        topics.subscription(ObjectCounts, "counts", self._on_counts, qos.answers())
        topics.subscription(Decision, "decision", self._on_decision, qos.answers())
        topics.subscription(Answer, "answer", self._on_answer, qos.answers())
        topics.check()

    def begin(self) -> None:
        """Nothing to start: everything waits for messages."""

    def end(self) -> None:
        """Write what is still held."""
        self._log.close()

    def _on_image(self, message: Image) -> None:
        try:
            self._log.image(time_to_ns(message.header.stamp), image_to_rgb(message))
        except ImageError as error:
            self.get_logger().warning(f"cannot be shown: {error}", throttle_duration_sec=10.0)

    def _on_compressed(self, message: CompressedImage) -> None:
        data = bytes(message.data)
        kind = MEDIA_TYPES.get(data[:2])
        if kind is None:
            self.get_logger().warning("cannot be shown: neither JPEG nor PNG", throttle_duration_sec=10.0)
            return
        self._log.jpeg(time_to_ns(message.header.stamp), data, kind)

    def _on_detections(self, message: Detection2DArray) -> None:
        stamp_ns = time_to_ns(message.header.stamp)
        self._log.detections(stamp_ns, detections_at(message, stamp_ns))

    def _on_counts(self, message: ObjectCounts) -> None:
        stamp_ns = time_to_ns(message.header.stamp)
        told = "  ".join(f"{entry.label or 'all'}: {entry.count}" for entry in message.counts)
        self._log.text(stamp_ns, "counts", told)
        self._log.latencies(stamp_ns, self._times("counts", message))

    def _on_decision(self, message: Decision) -> None:
        stamp_ns = time_to_ns(message.header.stamp)
        self._log.text(
            stamp_ns, "decision", f"{message.instruction} {message.choice or 'no decision'}. {message.reason}"
        )
        self._log.latencies(stamp_ns, self._times("decision", message))

    def _on_answer(self, message: Answer) -> None:
        stamp_ns = time_to_ns(message.header.stamp)
        self._log.text(stamp_ns, "answer", f"{message.question} {message.text or message.message or 'no answer'}")
        self._log.latencies(stamp_ns, self._times("answer", message))

    def _times(self, name: str, message: Any) -> dict[str, float]:
        """Milliseconds in the engine, and age of the image when the answer was published."""
        return {
            f"{name}/engine": time_to_ns(message.latency) * 1e-6,
            f"{name}/age": time_to_ns(message.age) * 1e-6,
        }


def main() -> NoReturn:
    """Entry point `rerun_view`; ends the process."""
    run_node(RerunView)


if __name__ == "__main__":
    main()
