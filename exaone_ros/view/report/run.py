"""A bag of a run, read without ROS: images, answers, truth and health, put together by the stamps of the images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import ExaoneError, require
from exaone_ros.tasks import Detection
from exaone_ros.view.tally import Tally, TrueObject

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
DETECTIONS, COUNTS = "vision_msgs/msg/Detection2DArray", "exaone_interfaces/msg/ObjectCounts"
DECISION, ANSWER = "exaone_interfaces/msg/Decision", "exaone_interfaces/msg/Answer"
DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"
KIND_OF = {DETECTIONS: "detections", COUNTS: "counts", DECISION: "decision", ANSWER: "answer"}
READ = (IMAGE, COMPRESSED, *KIND_OF, DIAGNOSTICS)
NOT_CAMERAS = ("annotated", "depth")
CLEAR_OPTIONS = {"clear", "blocked", "person"}
MAX_PICTURE_BYTES = 64_000_000


@dataclass(frozen=True)
class Answer:
    """One message of answers. Attributes: topic; stamp of its image; when it was recorded; the message."""

    topic: str
    stamp_ns: int
    received_ns: int
    message: Any


@dataclass
class Run:
    """What a bag holds.

    Attributes:
        path: of the bag.
        topics: (type, number of messages) of every topic.
        images: when each image was recorded, by topic and stamp.
        answers: by kind (detections, counts, decision, answer), in the order of recording.
        truth: of the simulator, by stamp.
        states: (recorded at, node, state as diagnostics tell it), one for each change.
    """

    path: Path
    topics: dict[str, tuple[str, int]] = field(default_factory=dict)
    images: dict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))
    answers: dict[str, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    truth: dict[int, list[TrueObject]] = field(default_factory=dict)
    states: list[tuple[int, str, str]] = field(default_factory=list)

    @property
    def start_ns(self) -> int:
        """When the first image or answer was recorded; 0 where there is none."""
        times = [at for stamps in self.images.values() for at in stamps.values()]
        times += [answer.received_ns for answers in self.answers.values() for answer in answers]
        return min(times, default=0)

    @property
    def seconds(self) -> float:
        """From the first to the last of them."""
        times = [at for stamps in self.images.values() for at in stamps.values()]
        times += [answer.received_ns for answers in self.answers.values() for answer in answers]
        return (max(times) - min(times)) * 1e-9 if times else 0.0

    @property
    def camera(self) -> str:
        """The image topic that most answers are about; empty where there is none."""
        stamps = {answer.stamp_ns for answers in self.answers.values() for answer in answers}
        answered = {topic: len(stamps & set(images)) for topic, images in self.images.items()}
        return max(answered, key=lambda topic: (answered[topic], len(self.images[topic])), default="")


def read_run(path: Path) -> Run:
    """Read a bag.

    Args:
        path: of the bag's directory, or a file in it.

    Raises:
        ExaoneError: there is no bag, or it cannot be read.
        MissingExtra: rosbags is not installed.
    """
    run = Run(path)
    last_state: dict[str, str] = {}
    with _opened(path) as reader:
        for connection in reader.connections:
            _, before = run.topics.get(connection.topic, ("", 0))
            run.topics[connection.topic] = (connection.msgtype, before + connection.msgcount)
        wanted = [c for c in reader.connections if c.msgtype in READ]
        for connection, received_ns, raw in reader.messages(connections=wanted):
            topic, kind = connection.topic, connection.msgtype
            message = reader.deserialize(raw, kind)
            if kind == DIAGNOSTICS:
                for node, state in _states(message):
                    if last_state.get(node) != state:
                        last_state[node] = state
                        run.states.append((received_ns, node, state))
                continue
            stamp_ns = _stamp_ns(message)
            if kind in (IMAGE, COMPRESSED):
                if not any(word in topic for word in NOT_CAMERAS):
                    run.images[topic][stamp_ns] = received_ns
            elif kind == DETECTIONS and "ground_truth" in topic:
                run.truth[stamp_ns] = [TrueObject(d.label, d.box, d.score) for d in detections_of(message)]
            elif not topic.endswith("detections_tracked"):
                run.answers[KIND_OF[kind]].append(Answer(topic, stamp_ns, received_ns, message))
    return run


def read_pictures(run: Run, stamps_ns: set[int]) -> dict[int, NDArray[np.uint8]]:
    """The camera's images with these stamps, uint8 RGB [H, W, 3]; what cannot be decoded is left out."""
    pictures: dict[int, NDArray[np.uint8]] = {}
    with _opened(run.path) as reader:
        wanted = [c for c in reader.connections if c.topic == run.camera]
        for connection, _, raw in reader.messages(connections=wanted):
            message = reader.deserialize(raw, connection.msgtype)
            stamp_ns = _stamp_ns(message)
            if stamp_ns in stamps_ns and len(message.data) <= MAX_PICTURE_BYTES:
                picture = _decoded(message, connection.msgtype)
                if picture is not None:
                    pictures[stamp_ns] = picture
    return pictures


def tally_of(run: Run) -> Tally:
    """Every answer against the truth of its own image, where the bag has it; and how long each took."""
    tally = Tally()
    for kind, answers in run.answers.items():
        if kind != "detections":
            for answer in answers:
                tally.latency(f"{kind}: engine", duration_s(answer.message.latency) * 1e3)
                tally.latency(f"{kind}: age when published", duration_s(answer.message.age) * 1e3)
        for answer in newest_of_each_image(answers) if kind in ("detections", "counts") else answers:
            truth = run.truth.get(answer.stamp_ns)
            if truth is None:
                continue
            if kind == "detections":
                tally.detections([(d.label, d.box) for d in detections_of(answer.message)], truth)
            elif kind == "counts":
                for entry in answer.message.counts:
                    tally.count(entry.label, int(entry.count), truth)
            elif kind == "decision" and set(answer.message.options) == CLEAR_OPTIONS:
                tally.decision(answer.message.choice, truth)
    return tally


def newest_of_each_image(answers: Sequence[Answer]) -> list[Answer]:
    """The last message of each topic and image: it holds all boxes or counts that were told of it before, too."""
    return list({(answer.topic, answer.stamp_ns): answer for answer in answers}.values())


def detections_of(message: Any) -> list[Detection]:
    """Labels, boxes (x1, y1, x2, y2) and scores of a Detection2DArray."""
    out = []
    for detection in message.detections:
        if not len(detection.results):
            continue
        best, box = detection.results[0].hypothesis, detection.bbox
        x, y, half = box.center.position.x, box.center.position.y, (box.size_x / 2, box.size_y / 2)
        out.append(Detection(best.class_id, (x - half[0], y - half[1], x + half[0], y + half[1]), float(best.score)))
    return out


def duration_s(duration: Any) -> float:
    """A builtin_interfaces/Duration in seconds."""
    return float(duration.sec + duration.nanosec * 1e-9)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    highlevel, rosbags = require("rosbags.highlevel", "record"), require("rosbags.rosbag2", "record")
    directory = path if path.is_dir() else path.parent
    if not (directory / "metadata.yaml").is_file():
        raise ExaoneError(
            f"'{path}' is no bag: expected a directory with metadata.yaml, as `ros2 bag record` writes it"
        )
    stores = require("rosbags.typesys", "record")
    try:
        with highlevel.AnyReader(
            [directory], default_typestore=stores.get_typestore(stores.Stores.ROS2_JAZZY)
        ) as reader:
            yield reader
    except (highlevel.AnyReaderError, rosbags.ReaderError, stores.TypesysError) as error:
        raise ExaoneError(
            f"the bag '{directory}' cannot be read: {error}; one whose recording was cut off is made whole by "
            "`mcap recover` or `ros2 bag reindex`"
        ) from error


def _stamp_ns(message: Any) -> int:
    return int(message.header.stamp.sec) * 1_000_000_000 + int(message.header.stamp.nanosec)


def _states(message: Any) -> Iterator[tuple[str, str]]:
    for status in message.status:
        for pair in status.values:
            if pair.key == "state":
                yield status.name.partition(":")[0], pair.value


def _decoded(message: Any, kind: str) -> NDArray[np.uint8] | None:
    if kind == COMPRESSED:
        bgr = cv2.imdecode(np.asarray(message.data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        return None if bgr is None else cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]
    channels = {"rgb8": 3, "bgr8": 3, "mono8": 1}.get(message.encoding)
    if channels is None or message.step < channels * message.width or not message.height * message.width:
        return None
    if len(message.data) != message.height * message.step:
        return None
    rows = np.asarray(message.data, np.uint8).reshape(message.height, message.step)[:, : channels * message.width]
    pixels = rows.reshape(message.height, message.width, channels)
    if channels == 1:
        return np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels[..., ::-1] if message.encoding == "bgr8" else pixels)
