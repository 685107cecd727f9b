"""A small bag of a run, written without ROS: five camera images, answers to three of them, truth and diagnostics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

ROOT = Path(__file__).resolve().parents[2]
S = 1_000_000_000
START = 1_700_000_000 * S
SEEN = (20.0, 20.0, 60.0, 60.0)
TRUE = (22.0, 20.0, 62.0, 60.0)


def typestore() -> Any:
    """The common messages and those of the repository."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types: dict[str, Any] = {}
    for package, folder in (("vision_msgs", "test/interfaces/vision_msgs"), ("exaone_interfaces", "exaone_interfaces")):
        for file in sorted((ROOT / folder / "msg").glob("*.msg")):
            types.update(get_types_from_msg(file.read_text(encoding="utf-8"), f"{package}/msg/{file.stem}"))
    store.register({name: fields for name, fields in types.items() if name not in store.types})
    return store


class Messages:
    """Makes messages of a typestore by short names; fields that are not given are zero or empty."""

    def __init__(self) -> None:
        self.store = typestore()

    def make(self, kind: str, **given: Any) -> Any:
        package, name = kind.split("/")
        fields = self.store.fielddefs[f"{package}/msg/{name}"][1]
        values = {field: given.pop(field) if field in given else self._empty(node) for field, node in fields}
        assert not given, f"{kind} has no {', '.join(given)}"
        return self.store.types[f"{package}/msg/{name}"](**values)

    def _empty(self, node: Any) -> Any:
        kind, what = node
        if kind == Nodetype.NAME:
            return self.make(what.replace("/msg/", "/"))
        if kind == Nodetype.BASE:
            return {"string": "", "bool": False}.get(what[0], 0.0 if what[0].startswith("float") else 0)
        (inner, name), length = what
        if inner == Nodetype.BASE and name[0] != "string":
            return np.zeros(length, name[0])
        return []

    def header(self, stamp_ns: int) -> Any:
        stamp = self.make("builtin_interfaces/Time", sec=stamp_ns // S, nanosec=stamp_ns % S)
        return self.make("std_msgs/Header", stamp=stamp, frame_id="camera")

    def duration(self, seconds: float) -> Any:
        return self.make("builtin_interfaces/Duration", sec=0, nanosec=round(seconds * S))

    def detections(
        self, stamp_ns: int, label: str, *boxes: tuple[float, float, float, float], score: float = 0.9
    ) -> Any:
        header, found = self.header(stamp_ns), []
        for number, (x1, y1, x2, y2) in enumerate(boxes):
            middle = self.make("vision_msgs/Point2D", x=(x1 + x2) / 2, y=(y1 + y2) / 2)
            guess = self.make("vision_msgs/ObjectHypothesis", class_id=label, score=score)
            found.append(
                self.make(
                    "vision_msgs/Detection2D",
                    header=header,
                    id=f"objects/{number}",
                    results=[self.make("vision_msgs/ObjectHypothesisWithPose", hypothesis=guess)],
                    bbox=self.make(
                        "vision_msgs/BoundingBox2D",
                        center=self.make("vision_msgs/Pose2D", position=middle),
                        size_x=x2 - x1,
                        size_y=y2 - y1,
                    ),
                )
            )
        return self.make("vision_msgs/Detection2DArray", header=header, detections=found)


def write_bag(
    directory: Path,
    *,
    truth: bool = True,
    raw: bool = False,
    instruction: str = "Is the way clear?",
    words: str = "",
) -> Path:
    """Write the bag; returns its directory. With `words` it holds answers of a standing question, too."""
    m = Messages()
    picture = np.full((96, 128, 3), 80, np.uint8)
    picture[20:60, 22:62] = (220, 40, 40)
    jpeg = cv2.imencode(".jpg", picture[..., ::-1])[1].reshape(-1)
    name = "head_camera/image_raw" if raw else "head_camera/image_raw/compressed"
    with Writer(directory, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections: dict[str, Any] = {}

        def write(topic: str, message: Any, at_ns: int) -> None:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=m.store)
            writer.write(connections[topic], at_ns, m.store.serialize_cdr(message, message.__msgtype__))

        for number in range(5):
            stamp = START + number * S // 10
            header = m.header(stamp)
            if raw:
                image = m.make("sensor_msgs/Image", header=header, height=96, width=128, encoding="rgb8", step=384,
                               data=picture.reshape(-1))  # fmt: skip
            else:
                image = m.make("sensor_msgs/CompressedImage", header=header, format="jpeg", data=jpeg)
            write(f"/{name}", image, stamp + 2_000_000)
            if truth:
                write("/ground_truth/detections", m.detections(stamp, "red cube", TRUE, score=1.0), stamp + 3_000_000)
            if number >= 3:
                continue
            late = stamp + 150_000_000
            write("/exaone/detections", m.detections(stamp, "red cube", SEEN), late)
            entry = m.make("exaone_interfaces/ObjectCount", task="all", count=1 + (number == 2), probability=0.5)
            both = {"latency": m.duration(0.12), "age": m.duration(0.14)}
            write(
                "/exaone/counts", m.make("exaone_interfaces/ObjectCounts", header=header, counts=[entry], **both), late
            )
            decision = m.make("exaone_interfaces/Decision", header=header, task="way", instruction=instruction,
                              choice="clear", options=["clear", "blocked", "person"], **both)  # fmt: skip
            write("/exaone/decision", decision, late)
            if words:
                said = m.make("exaone_interfaces/Answer", header=header, task="table", question="What is there?",
                              text=words, **both)  # fmt: skip
                write("/exaone/answer", said, late)
        state = m.make("diagnostic_msgs/KeyValue", key="state", value="ok")
        status = m.make("diagnostic_msgs/DiagnosticStatus", name="/exaone/perception: node", values=[state])
        for second in (0, 1):
            at = START + second * S
            write("/diagnostics", m.make("diagnostic_msgs/DiagnosticArray", header=m.header(at), status=[status]), at)
    return directory
