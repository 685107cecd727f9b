"""Watches a camera, the answers to it and the truth about it: the listening half of the demo."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from exaone_interfaces.msg import Answer, Decision, ObjectCounts
from exaone_ros.ros.bag import BagRecorder
from exaone_ros.ros.image import image_to_rgb
from exaone_ros.ros.messages import box_of, time_to_ns
from exaone_ros.tasks import Detection
from exaone_ros.view.tally import TrueObject

CAMERA = "/head_camera"
TYPES: dict[str, type] = {
    f"{CAMERA}/camera_info": CameraInfo,
    "/ground_truth/detections": Detection2DArray,
    "/exaone/detections": Detection2DArray,
    "/exaone/counts": ObjectCounts,
    "/exaone/decision": Decision,
    "/exaone/answer": Answer,
    "/diagnostics": DiagnosticArray,
}
COMPRESSED = f"{CAMERA}/image_raw/compressed"
ANSWERS = {f"/exaone/{name}": name for name in ("detections", "counts", "decision", "answer")}


@dataclass
class Moment:
    """Everything that is known about one frame; the key is its stamp in ns."""

    jpeg: bytes = b""
    truth: list[TrueObject] | None = None
    answers: dict[str, Any] = field(default_factory=dict)
    received_s: dict[str, float] = field(default_factory=dict)


def boxes(message: Detection2DArray) -> list[tuple[str, tuple[float, float, float, float], float]]:
    """(class, (x1, y1, x2, y2) in pixels, score) of each detection."""
    out = []
    for detection in message.detections:
        best = detection.results[0].hypothesis
        out.append((best.class_id, box_of(detection), float(best.score)))
    return out


class Watch(Node):
    """Collects `Moment`s and records them. All callbacks run on the executor's thread; readers take `lock`."""

    def __init__(self, recorder: BagRecorder, reliable: QoSProfile) -> None:
        super().__init__("exaone_demo")
        self.lock = threading.Lock()
        self.moments: dict[int, Moment] = {}
        self.latest: dict[str, Any] = {}
        self.said: dict[str, Answer] = {}
        self.first_answer = threading.Event()
        self._recorder = recorder
        self.create_subscription(Image, f"{CAMERA}/image_raw", self._on_image, reliable)
        for topic, kind in TYPES.items():
            self.create_subscription(kind, topic, partial(self._on_message, topic, kind), reliable, raw=True)

    def _on_image(self, message: Image) -> None:
        # Kept and recorded as JPEG: raw, half a minute of VGA video is 250 MB.
        now_ns = time.time_ns()
        ok, jpeg = cv2.imencode(".jpg", image_to_rgb(message)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
        if not ok:
            self.get_logger().error("OpenCV could not encode a camera frame as JPEG; it is left out of the recording")
            return
        compressed = CompressedImage(header=message.header, format="jpeg", data=jpeg.tobytes())
        self._recorder.write(COMPRESSED, serialize_message(compressed), now_ns)
        with self.lock:
            self._moment(message.header.stamp).jpeg = jpeg.tobytes()

    def _on_message(self, topic: str, kind: type, raw: bytes) -> None:
        now_ns = time.time_ns()
        self._recorder.write(topic, raw, now_ns)
        message = deserialize_message(raw, kind)
        with self.lock:
            self.latest[topic] = message
            if topic == "/ground_truth/detections":
                self._moment(message.header.stamp).truth = [TrueObject(*entry) for entry in boxes(message)]
            elif topic in ANSWERS:
                if isinstance(message, Answer):
                    self.said[message.task] = message
                moment = self._moment(message.header.stamp)
                moment.answers[ANSWERS[topic]] = message
                moment.received_s[ANSWERS[topic]] = (now_ns - time_to_ns(message.header.stamp)) * 1e-9
                if is_answered(message):
                    self.first_answer.set()

    def _moment(self, stamp: Time) -> Moment:
        return self.moments.setdefault(time_to_ns(stamp), Moment())


def is_answered(message: Any) -> bool:
    """False for a decision or an answer that says why there is none; perception publishes those too."""
    answered = (Decision.OUTCOME_DONE, Decision.OUTCOME_BUDGET)  # Answer has the same numbers
    return not isinstance(message, (Decision, Answer)) or message.outcome in answered


def detections_of(message: Detection2DArray | None) -> list[Detection]:
    """Typed detections of a message, or none."""
    return [] if message is None else [Detection(label, box, score) for label, box, score in boxes(message)]


def decode_jpeg(jpeg: bytes) -> NDArray[np.uint8]:
    """JPEG to uint8 RGB [H, W, 3]."""
    return np.ascontiguousarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1])
