"""The other side of the topics: a node in the test's process that plays the camera, the subscriber and the operator."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from spun import SpunNode
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from exaone_interfaces.msg import Decision, ObjectCounts
from exaone_ros.ros.image import rgb_to_image
from exaone_ros.ros.messages import ns_to_time, time_to_ns

PATIENCE_S = 60.0
LOADING_S = 300.0
"""The same where a model is loaded first, by a process that has just been started, on a machine that others use too."""
PATIENT = {"max_age_s": 60.0, "camera_timeout_s": 60.0, "ask_deadline_s": 600.0}
"""Parameters of a node whose tests are not about them: a test's machine may be busy for longer than a robot's."""
T = TypeVar("T")
ANSWERS = {"detections": Detection2DArray, "counts": ObjectCounts, "decision": Decision}


class Peer(SpunNode):
    """Talks to the perception node of one namespace; every wait is for an event, with patience."""

    def __init__(self, namespace: str) -> None:
        super().__init__("peer", namespace)
        self.namespace = namespace
        self.changed = threading.Condition()
        self.received: dict[str, list[Any]] = defaultdict(list)
        for name, kind in ANSWERS.items():
            self.node.create_subscription(kind, name, lambda m, name=name: self._on_message(name, m), 100)
        self.node.create_subscription(
            DiagnosticArray, "/diagnostics", lambda m: self._on_message("diagnostics", m), 100
        )
        self._publishers: dict[tuple[str, bool], Any] = {}
        self._spin_from_now_on()

    def _on_message(self, name: str, message: Any) -> None:
        with self.changed:
            self.received[name].append(message)
            self.changed.notify_all()

    def listen(self, kind: type, topic: str, qos: QoSProfile | int = 100) -> None:
        """Receive one more topic; on the executor's thread, as rclpy wants it."""
        self.run(lambda: self.node.create_subscription(kind, topic, lambda m: self._on_message(topic, m), qos))

    def run(self, work: Callable[[], Any]) -> None:
        """Run something on the executor's thread and wait for it."""
        done = threading.Event()

        def run() -> None:
            work()
            done.set()

        self._executor.create_task(run)
        assert done.wait(PATIENCE_S)

    def wait(self, find: Callable[[], T | None], what: str) -> T:
        """Wait until `find` finds something."""
        deadline_s = time.monotonic() + PATIENCE_S
        with self.changed:
            while True:
                found = find()
                if found:
                    return found
                left_s = deadline_s - time.monotonic()
                assert left_s > 0, f"waited in vain for {what}; diagnostics: {self.diagnostics()}"
                self.changed.wait(left_s)

    def stream(
        self,
        image: np.ndarray | Image | CompressedImage,
        find: Callable[[], T | None],
        what: str,
        every_s: float = 0.2,
        patience_s: float = PATIENCE_S,
        **to: Any,
    ) -> T:
        """Publish an image again and again, as a camera does, until `find` finds something.

        What a publisher sends just after it was matched may miss a subscription that has not matched it yet.
        """
        deadline_s = time.monotonic() + patience_s
        with self.changed:
            while not (found := find()):
                assert time.monotonic() < deadline_s, f"waited in vain for {what}; diagnostics: {self.diagnostics()}"
                self.send(image, **to)
                self.changed.wait(every_s)
            return found

    def warm_up(self) -> None:
        """Stream until the node answers; from then on no image and no answer is lost between the two."""
        image = red_box(1, 1, 9, 9)
        self.stream(image, lambda: all(self.received[topic] for topic in ANSWERS), "the first answers")
        self.answer("decision", self.send(image))
        self.received.clear()

    # --- camera

    def publisher(self, kind: type, topic: str = "image_raw", reliable: bool = True) -> Any:
        """A publisher of images."""
        key = (topic, reliable)
        if key not in self._publishers:
            policy = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
            qos = QoSProfile(depth=5, reliability=policy)
            self._publishers[key] = self.node.create_publisher(kind, topic, qos)
        return self._publishers[key]

    def now_ns(self) -> int:
        return int(self.node.get_clock().now().nanoseconds)

    def send(
        self,
        image: Image | CompressedImage | np.ndarray,
        stamp_ns: int | None = None,
        topic: str = "image_raw",
        reliable: bool = True,
    ) -> int:
        """Publish one image with a stamp, by default now's; returns the stamp."""
        message = rgb_to_image(image) if isinstance(image, np.ndarray) else image
        stamp_ns = self.now_ns() if stamp_ns is None else stamp_ns
        message.header = Header(stamp=ns_to_time(stamp_ns), frame_id="camera_optical_frame")
        self.publisher(type(message), topic, reliable).publish(message)
        return stamp_ns

    def answer(self, topic: str, stamp_ns: int) -> Any:
        """The message on an answer topic with this stamp."""
        return self.wait(lambda: self.find(topic, stamp_ns), f"an answer on {topic} to the image of {stamp_ns}")

    def find(self, topic: str, stamp_ns: int) -> Any:
        return next((m for m in list(self.received[topic]) if time_to_ns(m.header.stamp) == stamp_ns), None)

    def clock(self, now_ns: int) -> None:
        """Say what time it is in the simulation."""
        self.publisher(Clock, "/clock").publish(Clock(clock=ns_to_time(now_ns)))

    # --- operator

    def diagnostics(self) -> dict[str, str]:
        """The newest values of all three statuses of the node, and the level."""
        for message in reversed(self.received["diagnostics"]):
            mine = [status for status in message.status if status.name.startswith(f"/{self.namespace}/perception:")]
            if mine:
                values = {pair.key: pair.value for status in mine for pair in status.values}
                return values | {"level": str(mine[0].level[0]), "hardware": mine[0].hardware_id}
        return {}

    def state_of_health(self, state: str) -> dict[str, str]:
        """Wait for diagnostics that name this state."""
        return self.wait(lambda: d if (d := self.diagnostics()).get("state") == state else None, f"the state {state}")

    def counted(self, key: str, least: int = 1) -> dict[str, str]:
        """Wait for diagnostics in which `key` has reached a number."""
        return self.wait(lambda: d if int((d := self.diagnostics()).get(key, "0")) >= least else None, f"{least} {key}")

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """Call a service of the node and return its response."""
        client = self.node.create_client(kind, name)
        try:
            assert client.wait_for_service(PATIENCE_S), f"no service {name}"
            done = threading.Event()
            future = client.call_async(request)
            future.add_done_callback(lambda _: done.set())
            assert done.wait(PATIENCE_S), f"no response from {name}"
            return future.result()
        finally:
            self._executor.create_task(lambda: self.node.destroy_client(client))

    def transition(self, name: str) -> bool:
        """Ask for a lifecycle transition: configure, activate, deactivate, cleanup."""
        request = ChangeState.Request(transition=Transition(id=getattr(Transition, f"TRANSITION_{name.upper()}")))
        return bool(self.call(ChangeState, "perception/change_state", request).success)

    def lifecycle_state(self) -> str:
        return str(self.call(GetState, "perception/get_state", GetState.Request()).current_state.label)

    def set_parameter(self, name: str, value: Any) -> tuple[bool, str]:
        """Set one parameter; returns success and reason."""
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        (result,) = self.call(SetParameters, "perception/set_parameters", request).results
        return bool(result.successful), str(result.reason)


class Process:
    """A node's process with its output."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-u", *command], stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def tail(self, lines: int = 15) -> str:
        return "\n".join(self.output().splitlines()[-lines:])

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait for something that the process does to the file system; the end of the process ends the wait."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline_s, "waited in vain"
            with suppress(subprocess.TimeoutExpired):
                code = self.process.wait(0.05)
                assert condition(), f"the process has ended with {code}"

    def end(self, signal_number: int) -> int:
        """Send a signal and wait for the exit code."""
        self.process.send_signal(signal_number)
        return self.process.wait(PATIENCE_S)


@contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[Process]:
    """A process that is gone afterwards; its log is shown where the test fails."""
    made = Process(command, log)
    try:
        yield made
    except BaseException:
        print(f"--- {log}\n{made.output()}")
        raise
    finally:
        for signal_number in (signal.SIGINT, signal.SIGKILL):  # killed at once, it would leave shared memory behind
            if made.process.poll() is None:
                made.process.send_signal(signal_number)
                with suppress(subprocess.TimeoutExpired):
                    made.process.wait(10)


@dataclass(frozen=True)
class Pair:
    """A node's process and the peer in its namespace."""

    process: Process
    peer: Peer


_numbers = itertools.count()


@contextmanager
def perceiving(folder: Path, *options: str, command: Sequence[str] = (), **parameters: Any) -> Iterator[Pair]:
    """A perception node in a namespace of its own, by default without a model and `PATIENT`, and its peer."""
    number, parameters = next(_numbers), PATIENT | parameters
    peer = Peer(f"test{number}")
    try:
        with running(
            perception_command(peer.namespace, *options, command=command, **parameters), folder / "log"
        ) as process:
            yield Pair(process, peer)
    finally:
        peer.close()


FAKE = str(Path(__file__).with_name("fake_perception.py"))


def perception_command(namespace: str, *options: str, command: Sequence[str] = (), **parameters: Any) -> list[str]:
    """Command line of a perception node; parameters stand there in YAML, ``/NS/`` in a name is the namespace."""
    arguments = [*(command or (FAKE,)), *options, "--ros-args", "-r", f"__ns:=/{namespace}"]
    for name, value in parameters.items():
        text = f'"{value}"' if isinstance(value, str) else str(value) if isinstance(value, list) else str(value).lower()
        arguments += ["-p", f"{name.replace('/NS/', f'/{namespace}/')}:={text}"]
    return arguments


def red_box(x1: int, y1: int, x2: int, y2: int, width: int = 64, height: int = 48) -> np.ndarray:
    """What the fake engine sees: a red box on black."""
    image = np.zeros((height, width, 3), np.uint8)
    image[y1:y2, x1:x2] = (255, 0, 0)
    return image
