"""Record topics into an MCAP bag, with the definitions of our own messages in it, and read bags again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

from ament_index_python.packages import get_package_share_directory
from rclpy.serialization import deserialize_message
from rosbags.rosbag2 import Reader, ReaderError, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from exaone_ros.errors import ExaoneError


def typestore(packages: Iterable[str]) -> Typestore:
    """A rosbags typestore of the common messages and all messages of `packages`, read from where they are installed."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    for package in packages:
        share = Path(get_package_share_directory(package))
        files = sorted((share / "msg").glob("*.msg"))
        if not files:
            raise ExaoneError(f"package '{package}' has no msg/*.msg under {share}; install it with its definitions")
        for file in files:
            types.update(get_types_from_msg(file.read_text(encoding="utf-8"), f"{package}/msg/{file.stem}"))
    store.register({name: fields for name, fields in types.items() if name not in store.types})
    return store


class BagRecorder:
    """Writes serialized messages to a new MCAP bag. Called from one thread.

    Args:
        directory: of the bag; must not exist yet.
        topics: message type of each topic, e.g. ``{"/exaone/decision": "exaone_interfaces/msg/Decision"}``.
        packages: whose message definitions are not among the common ones.
    """

    def __init__(
        self,
        directory: Path,
        topics: dict[str, str],
        packages: Iterable[str] = ("exaone_interfaces", "vision_msgs"),
    ) -> None:
        if directory.exists():
            raise ExaoneError(f"bag {directory} exists already; choose another directory or remove it")
        store = typestore(packages)
        self._writer = Writer(directory, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        self._connections = {
            topic: self._writer.add_connection(topic, msgtype, typestore=store) for topic, msgtype in topics.items()
        }
        self.counts = dict.fromkeys(topics, 0)

    def write(self, topic: str, serialized: bytes, time_ns: int) -> None:
        """Append one message (CDR) as received at `time_ns` (ns since the epoch, or of the simulated clock)."""
        self._writer.write(self._connections[topic], time_ns, serialized)
        self.counts[topic] += 1

    def close(self) -> None:
        """Finish the bag; without it the index is missing."""
        self._writer.close()

    def __enter__(self) -> BagRecorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Recorded:
    """One message of a bag.

    Attributes:
        topic: its name.
        msgtype: e.g. ``sensor_msgs/msg/Image``.
        time_ns: when it was recorded.
        data: serialized (CDR), as `Publisher.publish` takes it.
    """

    topic: str
    msgtype: str
    time_ns: int
    data: bytes

    def message(self) -> Any:
        """The message itself."""
        return deserialize_message(self.data, message_class(self.msgtype))


def read_bag(directory: Path, topics: Collection[str] = ()) -> Iterator[Recorded]:
    """The messages of a bag (MCAP or db3) in the order of their times.

    Args:
        directory: of the bag.
        topics: only these; empty = all.

    Raises:
        ExaoneError: there is no bag, it cannot be read, or it lacks one of the topics.
    """
    try:
        with Reader(directory) as reader:
            known = sorted(connection.topic for connection in reader.connections)
            missing = [topic for topic in topics if topic not in known]
            if missing:
                raise ExaoneError(f"bag {directory} has no topic {missing[0]}; it has {', '.join(known)}")
            wanted = [c for c in reader.connections if not topics or c.topic in topics]
            for connection, time_ns, data in reader.messages(connections=wanted):
                yield Recorded(connection.topic, connection.msgtype, time_ns, bytes(data))
    except (ReaderError, OSError) as error:
        raise ExaoneError(f"bag {directory} cannot be read: {error}") from error


def message_class(msgtype: str) -> Any:
    """The Python class of ``package/msg/Name``.

    Raises:
        ExaoneError: its package is not installed, or has no such message.
    """
    package, _, name = msgtype.replace("/msg/", "/").partition("/")
    try:
        return getattr(import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError) as error:
        raise ExaoneError(
            f"message type {msgtype} is not known here: {error}; install the package {package}"
        ) from error
