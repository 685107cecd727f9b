"""Record topics into an MCAP bag, with the definitions of our own messages in it, so that any reader can open it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from ament_index_python.packages import get_package_share_directory
from rosbags.rosbag2 import StoragePlugin, Writer
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
