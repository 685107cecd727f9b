"""An episode out of a ROS 2 bag, db3 or MCAP, sampled at the spec's rate. Needs no ROS: `rosbags` reads the bag.

At each sampling time stands the newest message of every topic at or before it, like the live node sees it.
"""

from __future__ import annotations

import argparse
import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from exaone_ros.action.observation import Observation
from exaone_ros.action.recorder import layout, tables
from exaone_ros.action.recorder.writer import DatasetWriter
from exaone_ros.action.spec import NS, ActionSpec
from exaone_ros.errors import DatasetError, require

_COLOUR_CODES = {
    "rgb8": None,
    "bgr8": cv2.COLOR_BGR2RGB,
    "rgba8": cv2.COLOR_RGBA2RGB,
    "bgra8": cv2.COLOR_BGRA2RGB,
    "mono8": cv2.COLOR_GRAY2RGB,
}


@dataclass(frozen=True)
class Topics:
    """Where things are in the bag.

    Attributes:
        joint_states: sensor_msgs/JointState.
        commands: trajectory_msgs/JointTrajectory; the first point of each counts.
        images: camera of the spec -> sensor_msgs/Image or CompressedImage.
        decision: exaone_interfaces/Decision; "" = none.
    """

    joint_states: str = "/joint_states"
    commands: str = "/joint_trajectory"
    images: Mapping[str, str] = field(default_factory=dict)
    decision: str = ""


def image_to_rgb(message: Any) -> NDArray[np.uint8]:
    """A sensor_msgs/Image (8 bits, honouring step) or CompressedImage as uint8 RGB [H, W, 3].

    Raises:
        DatasetError: an encoding that is not colour or grey of 8 bits, or damaged data.
    """
    data = np.frombuffer(bytes(message.data), np.uint8)
    if hasattr(message, "format"):
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR)
        if bgr is None:
            raise DatasetError(f"compressed image of format {message.format!r} cannot be decoded")
        return np.ascontiguousarray(bgr[..., ::-1])
    if message.encoding not in _COLOUR_CODES:
        raise DatasetError(f"image encoding is {message.encoding!r}; expected one of {sorted(_COLOUR_CODES)}")
    channels = {"mono8": 1, "rgba8": 4, "bgra8": 4}.get(message.encoding, 3)
    height, width, step = int(message.height), int(message.width), int(message.step)
    if step < width * channels or len(data) < height * step:
        raise DatasetError(
            f"image of {width}x{height} {message.encoding} has step {step} and {len(data)} bytes: too few"
        )
    rows = data[: height * step].reshape(height, step)[:, : width * channels].reshape(height, width, channels)
    code = _COLOUR_CODES[message.encoding]
    return np.ascontiguousarray(rows if code is None else cv2.cvtColor(np.ascontiguousarray(rows), code), np.uint8)


@dataclass
class _Track:
    """Messages of one topic, in order of time."""

    times_ns: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def at(self, time_ns: int) -> tuple[int, Any] | None:
        index = bisect_right(self.times_ns, time_ns) - 1
        return None if index < 0 else (self.times_ns[index], self.values[index])


def read_frames(
    bag: Path, spec: ActionSpec, topics: Topics, task: str
) -> Iterator[tuple[Observation, NDArray[np.float32], str]]:
    """(observation, action, decision) at the spec's rate, from when every topic was heard until the first one ends.

    Raises:
        DatasetError: a topic or a joint is missing, or the topics do not overlap in time.
        MissingExtra: rosbags is not installed.
    """
    tracks = _read_tracks(bag, spec, topics)
    needed = {name: track for name, track in tracks.items() if name != "decision"}
    begin = max(track.times_ns[0] for track in needed.values())
    end = min(track.times_ns[-1] for name, track in needed.items() if name != "commands")
    if end < begin:
        raise DatasetError(f"bag {bag}: its topics do not overlap in time; was everything recorded together?")
    count = math.floor((end - begin) * spec.fps / NS + 1e-6) + 1
    for time_ns in (begin + round(i * NS / spec.fps) for i in range(count)):  # steps of dt_ns would drift by rounding
        found = {name: track.at(time_ns) for name, track in tracks.items()}
        state_at, command = found["state"], found["commands"]
        assert state_at is not None
        assert command is not None
        images = {camera: image_to_rgb(found[f"image {camera}"][1]) for camera in spec.cameras}  # type: ignore[index]
        stamps = {camera: found[f"image {camera}"][0] for camera in spec.cameras}  # type: ignore[index]
        observation = Observation(state_at[1], state_at[0], images, stamps, task=task)
        decision = found.get("decision")
        yield observation, command[1], decision[1] if decision else ""


def _read_tracks(bag: Path, spec: ActionSpec, topics: Topics) -> dict[str, _Track]:
    missing_cameras = [camera for camera in spec.cameras if camera not in topics.images]
    if missing_cameras:
        raise DatasetError(f"no topic given for camera '{missing_cameras[0]}'; got {dict(topics.images)}")
    names = {topics.joint_states: "state", topics.commands: "commands"}
    names |= {topics.images[camera]: f"image {camera}" for camera in spec.cameras}
    if topics.decision:
        names[topics.decision] = "decision"
    tracks = {name: _Track() for name in names.values()}
    command = np.full(len(spec.joints), np.nan, np.float32)
    for name, time_ns, message in _messages(bag, names):
        value: Any = message
        if name == "state":
            value = _pick(spec.state, message.name, message.position, f"bag {bag}: joint state")
        elif name == "commands":
            if not message.points:
                continue
            sent = message.points[0].positions
            if len(sent) != len(message.joint_names):
                joints = len(message.joint_names)
                raise DatasetError(
                    f"bag {bag}: a command of {joints} joints has {len(sent)} positions; expected as many"
                )
            known = dict(zip(message.joint_names, sent, strict=True))
            command = np.array([known.get(joint, command[i]) for i, joint in enumerate(spec.joint_names)], np.float32)
            if np.isnan(command).any():
                continue  # not every joint of the spec has been commanded yet
            value = command
        elif name == "decision":
            value = message.choice
        tracks[name].times_ns.append(time_ns)
        tracks[name].values.append(value)
    empty = [topic for topic, name in names.items() if not tracks[name].times_ns and name != "decision"]
    if empty:
        raise DatasetError(f"bag {bag}: topic '{empty[0]}' holds nothing that can be used")
    return tracks


def _messages(bag: Path, names: Mapping[str, str]) -> Iterator[tuple[str, int, Any]]:
    """(name, time in ns, message) of these topics, in order of time.

    Raises:
        DatasetError: the bag is missing or damaged, or lacks a topic.
    """
    highlevel, typesys = require("rosbags.highlevel", "record"), require("rosbags.typesys", "record")
    if not bag.exists():
        raise DatasetError(f"bag {bag} does not exist")
    store = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
    try:
        with highlevel.AnyReader([bag], default_typestore=store) as reader:
            connections = [c for c in reader.connections if c.topic in names]
            absent = [topic for topic in names if topic not in {c.topic for c in connections}]
            if absent:
                raise DatasetError(f"bag {bag} has no topic '{absent[0]}'; it has {sorted(reader.topics)}")
            for connection, time_ns, raw in reader.messages(connections):
                yield names[connection.topic], time_ns, reader.deserialize(raw, connection.msgtype)
    except DatasetError:
        raise
    except Exception as error:  # rosbags lets through whatever its readers and decompressors raise
        raise DatasetError(f"bag {bag} cannot be read: {type(error).__name__}: {error}") from error


def _pick(wanted: tuple[str, ...], names: list[str], positions: Any, what: str) -> NDArray[np.float32]:
    index = {name: i for i, name in enumerate(names[: len(positions)])}  # a message of efforts alone has no positions
    missing = [name for name in wanted if name not in index]
    if missing:
        raise DatasetError(f"{what} lacks '{missing[0]}'; has {sorted(index)}")
    return np.asarray(positions, np.float32)[[index[name] for name in wanted]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line arguments of `convert`."""
    parser.add_argument("bag", type=Path, help="a bag's directory, or a single .mcap or .db3 file")
    parser.add_argument("root", type=Path, help="dataset to write to")
    parser.add_argument("--spec", type=Path, required=True, help="action_spec.json, or a dataset that has one")
    parser.add_argument("--task", required=True, help="the instruction, e.g. 'pick the red cube'")
    parser.add_argument("--joint-states", default="/joint_states")
    parser.add_argument("--commands", default="/joint_trajectory")
    parser.add_argument("--image", action="append", default=[], metavar="CAMERA=TOPIC", help="once for each camera")
    parser.add_argument("--decision", default="", help="topic of decisions; none by default")


def convert(options: argparse.Namespace) -> tuple[int, int]:
    """Append a bag to a dataset as one episode.

    Returns:
        (index of the episode, number of its frames).
    """
    source: Path = options.spec
    root = source if source.is_dir() else source.parent.parent
    if (root / layout.SPEC).resolve() != (source / layout.SPEC if source.is_dir() else source).resolve():
        raise DatasetError(f"{source} is neither a dataset nor a {layout.SPEC}")
    spec = tables.read_spec(root)
    images = dict(pair.split("=", 1) for pair in options.image if "=" in pair)
    topics = Topics(options.joint_states, options.commands, images, options.decision)
    writer: DatasetWriter | None = None
    try:
        for observation, action, decision in read_frames(options.bag, spec, topics, options.task):
            if writer is None:
                shapes = {camera: image.shape[:2] for camera, image in observation.images.items()}
                writer = DatasetWriter(options.root, spec, shapes)
            writer.add_frame(observation, action, decision)
        if writer is None:
            raise DatasetError(f"bag {options.bag} gave no frame")
        frames = writer.frames
        return writer.save_episode(), frames
    finally:
        if writer is not None:
            writer.close()
