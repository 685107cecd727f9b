"""Record topics at the stamps of their messages, and play them again to nodes that run on simulated time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rosgraph_msgs.msg import Clock

from exaone_ros.ros import qos
from exaone_ros.ros.bag import BagRecorder, Recorded, message_class, read_bag
from exaone_ros.ros.messages import ns_to_time, time_to_ns


class TopicRecorder:
    """Writes topics into a bag, each message at the time of its stamp, from `begin` to `close`.

    Messages are written in the thread that spins the node.

    Args:
        node: that listens.
        recorder: of a new bag with these topics; still to be closed afterwards.
        topics: message type of each topic; all of them have headers.
    """

    def __init__(self, node: Node, recorder: BagRecorder, topics: Mapping[str, str]) -> None:
        self._recorder = recorder
        self._lock = threading.Lock()
        self._begin_ns: int | None = None
        self.newest_ns: dict[str, int] = {}
        """Stamp of the newest message of each topic that was heard, written or not."""
        reliable = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
        for topic, msgtype in topics.items():
            kind = message_class(msgtype)
            node.create_subscription(kind, topic, partial(self._write, topic, kind), reliable, raw=True)

    def begin(self, after_ns: int) -> None:
        """Write what has a later stamp than this."""
        with self._lock:
            self._begin_ns = after_ns

    def close(self) -> None:
        """Write nothing any more."""
        with self._lock:
            self._begin_ns = None

    def _write(self, topic: str, kind: Any, data: bytes) -> None:
        stamp_ns = time_to_ns(deserialize_message(data, kind).header.stamp)
        with self._lock:
            if self._begin_ns is not None and stamp_ns > self._begin_ns:
                self._recorder.write(topic, data, stamp_ns)
            self.newest_ns[topic] = stamp_ns


class BagPlayer:
    """Publishes what a bag holds.

    Args:
        node: that publishes.
        bag: directory of the bag.
        topics: to play; answers of the nodes that listen should not be among them.

    Raises:
        ExaoneError: the bag cannot be read, or lacks a topic; an override of QoS fits no topic.
    """

    def __init__(self, node: Node, bag: Path, topics: Collection[str]) -> None:
        made = qos.OverridableTopics(node)
        self.moments: list[tuple[int, list[Recorded]]] = [
            (time_ns, list(messages)) for time_ns, messages in groupby(read_bag(bag, topics), lambda m: m.time_ns)
        ]
        """What was recorded at each time (ns), in the order of times."""
        kinds = {recorded.topic: recorded.msgtype for _, messages in self.moments for recorded in messages}
        self._publishers: dict[str, Any] = {
            topic: made.publisher(message_class(kind), topic, qos.published_image()) for topic, kind in kinds.items()
        }
        made.check()
        self._clock = node.create_publisher(Clock, "/clock", qos.answers())

    @property
    def heard(self) -> bool:
        """Somebody listens to one of the topics."""
        return any(publisher.get_subscription_count() for publisher in self._publishers.values())

    def publish(self, time_ns: int, messages: Collection[Recorded]) -> None:
        """Say that it is `time_ns` now, then publish these messages."""
        self._clock.publish(Clock(clock=ns_to_time(time_ns)))
        for recorded in messages:
            self._publishers[recorded.topic].publish(recorded.data)

    def play(self, wait: Callable[[int, int], bool]) -> Iterator[int]:
        """Publish moment after moment; yields the time of each (ns) when it is done with.

        Args:
            wait: called with (time of the moment, time until the next one) after it was published; False: it was not
                taken, publish it once more. By `wait` the caller paces the player: with the wall clock, or with the
                answers.
        """
        following = [*(time_ns for time_ns, _ in self.moments[1:]), self.moments[-1][0]] if self.moments else []
        for (time_ns, messages), next_ns in zip(self.moments, following, strict=True):
            self.publish(time_ns, messages)
            while not wait(time_ns, next_ns - time_ns):
                self.publish(time_ns, messages)
            yield time_ns
