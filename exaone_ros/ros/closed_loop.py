"""A simulator that stands still, the perception node, and somebody who looks at both: for scenarios and their tests.

Everything goes over topics and services, as a user's own test would. Simulated time moves only when `look` or the
client moves it, so that what is answered does not depend on the machine's speed; how long it took is measured in wall
time.
"""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from builtin_interfaces.msg import Duration
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
from vision_msgs.msg import Detection2DArray

from exaone_interfaces.msg import Decision, ObjectCounts
from exaone_interfaces.srv import SetTasks
from exaone_ros.errors import ExaoneError
from exaone_ros.ros.messages import box_of, tasks_to_messages, time_to_ns
from exaone_ros.ros.simulator_client import SimulatorClient
from exaone_ros.tasks import Count, Decide, Ground, StandingTask

T = TypeVar("T")
Box = tuple[float, float, float, float]

ANSWERS = {"detections": Detection2DArray, "counts": ObjectCounts, "decision": Decision}
_TOPIC_OF = {Ground: "detections", Count: "counts", Decide: "decision"}
_MATCHING_S = 1.0


class LoopError(ExaoneError):
    """A closed loop did not do what was expected of it."""


@dataclass(frozen=True)
class Labelled:
    """Attributes: class; (x1, y1, x2, y2) in pixels of the image; score, of the truth the visible share."""

    label: str
    box: Box
    score: float


@dataclass(frozen=True)
class Glimpse:
    """One image and what was said of it.

    Attributes:
        stamp_ns: of the image, in simulated time.
        truth: what the simulator says is on it.
        answers: messages of the perception node by topic, all with this stamp.
        wall_s: from the request to draw the image to the last of the answers, in wall time.
    """

    stamp_ns: int
    truth: tuple[Labelled, ...]
    answers: dict[str, Any]
    wall_s: float

    @property
    def detections(self) -> tuple[Labelled, ...]:
        return labelled(self.answers["detections"])

    @property
    def choice(self) -> str:
        return str(self.answers["decision"].choice)

    def count(self, label: str = "") -> int:
        """The number that was answered for a label; empty = all objects."""
        return next(int(entry.count) for entry in self.answers["counts"].counts if entry.label == label)


def labelled(message: Detection2DArray) -> tuple[Labelled, ...]:
    """What a message of detections says."""
    return tuple(
        Labelled(d.results[0].hypothesis.class_id, box_of(d), float(d.results[0].hypothesis.score))
        for d in message.detections
    )


class ClosedLoop:
    """The one who looks. Its methods are called in a thread other than the one that spins the node.

    Args:
        node: spun by somebody else meanwhile (`ros.listen.spinning`).
        perception: namespace of the perception node.
        camera_period_s: of the simulator's camera.
        timeout_s: patience with each answer, in wall time.
        check: called while waiting; raises where waiting has no sense any more, e.g. a process has ended.
    """

    def __init__(
        self,
        node: Node,
        *,
        perception: str = "/exaone",
        camera_period_s: float = 0.1,
        timeout_s: float = 60.0,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.simulator = SimulatorClient(node, timeout_s=timeout_s)
        self._period_s, self._timeout_s, self._check = camera_period_s, timeout_s, check
        self._changed = threading.Condition()
        self._heard: dict[str, dict[int, Any]] = defaultdict(dict)
        self._expected: tuple[str, ...] = ()
        self._diagnostics: dict[str, str] = {}
        self._joints: dict[str, float] = {}
        self.camera_info: CameraInfo | None = None
        reliable = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
        topics = {name: (f"{perception}/{name}", kind) for name, kind in ANSWERS.items()}
        topics["truth"] = ("/ground_truth/detections", Detection2DArray)
        for name, (topic, kind) in topics.items():
            node.create_subscription(kind, topic, partial(self._hear, name), reliable)
        node.create_subscription(CameraInfo, "/head_camera/camera_info", self._on_camera_info, reliable)
        node.create_subscription(JointState, "/joint_states", self._on_joints, reliable)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, reliable)
        self._status_prefix = f"{perception}/perception:"
        self._trajectories = node.create_publisher(JointTrajectory, "/joint_trajectory", reliable)
        self._set_tasks = node.create_client(SetTasks, f"{perception}/set_tasks")
        self._set_parameters = node.create_client(SetParameters, "/simulator/set_parameters")

    # --- what is asked, and what happens

    def ask(self, *tasks: Ground | Count | Decide) -> None:
        """Replace the standing tasks. Waits until the perception node is configured, and until it answers."""
        self._expected = tuple(dict.fromkeys(_TOPIC_OF[type(task)] for task in tasks))
        request = SetTasks.Request(tasks=tasks_to_messages([StandingTask(task) for task in tasks]))
        deadline_s = time.monotonic() + self._timeout_s
        while not (response := self.call(self._set_tasks, request)).success:
            if time.monotonic() > deadline_s or not any("configure it first" in line for line in response.problems):
                raise LoopError(f"the tasks were refused: {'; '.join(response.problems)}")
            self._pause(0.2)
        # What is published just after a subscription was matched may be lost: look until there is an answer. With more
        # patience each time: on a slow machine the answers to the images before come first.
        patience_s = _MATCHING_S
        while not self._answered(self.simulator.step(duration_s=self._period_s).stamp_ns, patience_s):
            self._check()
            patience_s *= 2
            if time.monotonic() > deadline_s:
                raise LoopError(f"nothing was answered within {self._timeout_s:g} s; diagnostics: {self._diagnostics}")

    def fault(self, name: str) -> None:
        """Let something be wrong with the camera: one of `sim.faults.FAULTS`."""
        wanted = Parameter("camera_fault", value=name).to_parameter_msg()
        (result,) = self.call(self._set_parameters, SetParameters.Request(parameters=[wanted])).results
        if not result.successful:
            raise LoopError(f"the camera's fault {name!r} was refused: {result.reason}")

    def command(self, joint: str, position: float, within_s: float = 0.2) -> None:
        """Send a joint somewhere; it moves while simulated time goes on."""
        at = Duration(sec=int(within_s), nanosec=round((within_s % 1) * 1e9))
        point = JointTrajectoryPoint(positions=[float(position)], time_from_start=at)
        self._trajectories.publish(JointTrajectory(joint_names=[joint], points=[point]))

    def turn(self, joint: str, position: float, tolerance_rad: float = 0.01, tries: int = 60) -> None:
        """Send a joint somewhere and let time go on until it is there.

        Raises:
            LoopError: it does not arrive.
        """
        for _ in range(tries):
            self.command(joint, position)
            stamp_ns = self.simulator.step(duration_s=self._period_s).stamp_ns
            if abs(self.joint(joint, stamp_ns) - position) < tolerance_rad:
                return
        raise LoopError(f"{joint} is at {self._joints.get(joint)} rad after {tries} periods; expected {position:g}")

    # --- what is seen

    def look(self) -> Glimpse:
        """Let one period of the camera pass and wait for the answers to its image.

        Raises:
            LoopError: no answer in time.
        """
        started_s = time.monotonic()
        stamp_ns = self.simulator.step(duration_s=self._period_s).stamp_ns
        if not self._answered(stamp_ns, self._timeout_s):
            raise LoopError(
                f"the image of {stamp_ns * 1e-9:.3f} s was not answered on {', '.join(self._expected)} within "
                f"{self._timeout_s:g} s; diagnostics: {self._diagnostics}"
            )
        return self.glimpse(stamp_ns, time.monotonic() - started_s)

    def look_until(self, found: Callable[[], bool], what: str) -> None:
        """Look again and again, as a camera that goes on, until something is so.

        Raises:
            LoopError: in vain.
        """
        deadline_s = time.monotonic() + self._timeout_s
        while not found():
            if time.monotonic() > deadline_s:
                raise LoopError(f"looked {self._timeout_s:g} s in vain for {what}; diagnostics: {self._diagnostics}")
            self.look()

    def glimpse(self, stamp_ns: int, wall_s: float = math.nan) -> Glimpse:
        """What has been heard of the image with this stamp."""
        truth = self.wait(lambda: self._heard["truth"].get(stamp_ns), f"the truth of {stamp_ns * 1e-9:.3f} s")
        return Glimpse(stamp_ns, labelled(truth), self.answers(stamp_ns), wall_s)

    def answers(self, stamp_ns: int) -> dict[str, Any]:
        """What has been answered so far to the image with this stamp, by topic."""
        with self._changed:
            return {name: self._heard[name][stamp_ns] for name in ANSWERS if stamp_ns in self._heard[name]}

    def forget(self) -> None:
        """Forget all answers and truths that were heard: before stamps begin anew."""
        with self._changed:
            self._heard.clear()

    def answered_stamps(self, topic: str) -> list[int]:
        """Stamps of all images that were answered on a topic, in ascending order."""
        with self._changed:
            return sorted(self._heard[topic])

    def joint(self, name: str, stamp_ns: int = 0) -> float:
        """Position of a joint as it was published for a stamp or later; near the end of each step there is one."""
        self.wait(lambda: self._joints.get("stamp_ns", -1) >= stamp_ns - 25_000_000 or None, "joint states")
        return self._joints[name]

    def diagnostic(self, key: str) -> str:
        """The newest value in the perception node's diagnostics; empty where there is none."""
        with self._changed:
            return self._diagnostics.get(key, "")

    def diagnostics(self, key: str, found: Callable[[str], bool], what: str) -> str:
        """Wait until a value of the perception node's diagnostics is as it should be; returns it."""

        def find() -> str | None:
            value = self._diagnostics.get(key)
            return value if value is not None and found(value) else None

        return self.wait(find, what)

    def wait(self, find: Callable[[], T | None], what: str, timeout_s: float = 0.0) -> T:
        """Wait in wall time until `find` finds something; it is asked with every message.

        Raises:
            LoopError: in vain.
        """
        limit_s = timeout_s or self._timeout_s
        deadline_s = time.monotonic() + limit_s
        with self._changed:
            while (found := find()) is None:
                self._check()
                if time.monotonic() > deadline_s:
                    raise LoopError(f"waited {limit_s:g} s in vain for {what}; diagnostics: {self._diagnostics}")
                self._changed.wait(0.2)
            return found

    def call(self, client: Any, request: Any) -> Any:
        """Call a service.

        Raises:
            TimeoutError: it is not there, or does not answer in time.
        """
        deadline_s = time.monotonic() + self._timeout_s
        while not client.wait_for_service(1.0):
            self._check()
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"there is no service {client.srv_name} after {self._timeout_s:g} s")
        done = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        if not done.wait(self._timeout_s):
            raise TimeoutError(f"{client.srv_name} has not answered within {self._timeout_s:g} s")
        return future.result()

    def _answered(self, stamp_ns: int, within_s: float) -> bool:
        def all_there() -> bool:
            return all(stamp_ns in self._heard[name] for name in (*self._expected, "truth"))

        deadline_s = time.monotonic() + within_s
        with self._changed:
            while not all_there():
                self._check()
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    return False
                self._changed.wait(min(left_s, 0.2))
        return True

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait(seconds)
        self._check()

    # --- in the thread that spins the node

    def _hear(self, name: str, message: Any) -> None:
        with self._changed:
            self._heard[name][time_to_ns(message.header.stamp)] = message
            self._changed.notify_all()

    def _on_camera_info(self, message: CameraInfo) -> None:
        self.camera_info = message

    def _on_joints(self, message: JointState) -> None:
        with self._changed:
            positions: Sequence[float] = message.position
            self._joints = dict(zip(message.name, positions, strict=True))
            self._joints["stamp_ns"] = float(time_to_ns(message.header.stamp))
            self._changed.notify_all()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        mine = [status for status in message.status if status.name.startswith(self._status_prefix)]
        if mine:
            with self._changed:
                self._diagnostics = {pair.key: pair.value for status in mine for pair in status.values}
                self._changed.notify_all()
