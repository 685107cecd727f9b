"""A companion node and its other side in one context and one executor: the test plays camera and perception."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from exaone_interfaces.msg import Answer, Decision, ObjectCount, ObjectCounts
from exaone_ros.nodes.companion import Companion
from exaone_ros.ros.messages import detection_message, ns_to_time, time_to_ns

PATIENCE_S = 60.0
FRAME_ID = "camera_optical_frame"
RELIABLE = QoSProfile(depth=20, reliability=ReliabilityPolicy.RELIABLE)
T = TypeVar("T")


class CompanionPeer:
    """Publishes what a camera and the perception node publish, and collects what the companion makes of it."""

    def __init__(self, namespace: str, parameters: Mapping[str, Any]) -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self.node = rclpy.create_node("peer", namespace=namespace, context=self._context)
        self.received: dict[str, list[Any]] = defaultdict(list)
        self.changed = threading.Condition()
        self._publishers: dict[str, Any] = {}
        self._stopping = threading.Event()
        try:
            self.companion = Companion(namespace=namespace, context=self._context, parameter_overrides=overrides)
        except BaseException:
            self.node.destroy_node()
            rclpy.try_shutdown(context=self._context)
            raise
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.companion)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self.failures: list[Exception] = []
        self._executor.create_task(self.companion.begin)
        self._thread.start()

    def _spin(self) -> None:
        while not self._stopping.is_set():
            try:
                self._executor.spin_once()
            except Exception as error:  # shown at the end of the test
                self.failures.append(error)

    def close(self) -> None:
        self._executor.create_task(self._stopping.set)
        self._thread.join()
        self._executor.shutdown()
        self.companion.end()
        for node in (self.companion, self.node):
            node.destroy_node()
        rclpy.try_shutdown(context=self._context)
        if self.failures:
            raise self.failures[0]

    def listen(self, kind: type, topic: str) -> Any:
        """Subscribe from now on."""

        def take(message: Any) -> None:
            with self.changed:
                self.received[topic].append(message)
                self.changed.notify_all()

        return self.node.create_subscription(kind, topic, take, RELIABLE)

    def send(self, topic: str, message: Any) -> None:
        """Publish."""
        if topic not in self._publishers:
            self._publishers[topic] = self.node.create_publisher(type(message), topic, RELIABLE)
        self._publishers[topic].publish(message)

    def stream(self, send: Callable[[int], None], find: Callable[[], T | None], what: str, every_s: float = 0.1) -> T:
        """Send again and again with a new stamp, until `find` finds something."""
        deadline_s = time.monotonic() + PATIENCE_S
        with self.changed:
            while not (found := find()):
                assert time.monotonic() < deadline_s, f"waited in vain for {what}"
                send(time.time_ns())
                self.changed.wait(every_s)
            return found

    def wait(self, find: Callable[[], T | None], what: str) -> T:
        """Wait until `find` finds something."""
        return self.stream(lambda _: None, find, what)

    def at(self, topic: str, stamp_ns: int) -> Any:
        """The received message with this stamp."""
        return next((m for m in self.received[topic] if time_to_ns(m.header.stamp) == stamp_ns), None)


def header(stamp_ns: int) -> Header:
    return Header(stamp=ns_to_time(stamp_ns), frame_id=FRAME_ID)


def detections(stamp_ns: int, *found: tuple[str, tuple[float, float, float, float]]) -> Detection2DArray:
    """What perception publishes of these (label, box)."""
    head = header(stamp_ns)
    made = [detection_message(head, f"objects/{i}", label, box, 0.75) for i, (label, box) in enumerate(found)]
    return Detection2DArray(header=head, detections=made)


def counts(stamp_ns: int, number: int, task: str = "all", label: str = "") -> ObjectCounts:
    entry = ObjectCount(task=task, label=label, count=number, probability=0.5)
    return ObjectCounts(header=header(stamp_ns), counts=[entry])


def answer(stamp_ns: int, text: str, task: str = "table") -> Answer:
    return Answer(header=header(stamp_ns), task=task, question="What is on the table?", text=text)


def decision(stamp_ns: int, choice: str) -> Decision:
    return Decision(header=header(stamp_ns), task="way", choice=choice, options=["clear", "blocked"],
                    probabilities=[0.25, 0.75])  # fmt: skip


@contextmanager
def accompanied(namespace: str, **parameters: Any) -> Iterator[CompanionPeer]:
    """A companion with these parameters, and its peer."""
    peer = CompanionPeer(namespace, parameters)
    try:
        yield peer
    finally:
        peer.close()
