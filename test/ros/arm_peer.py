"""The other side of the action head: a node in the test's process that plays robot, perception and operator.

The robot follows its commands at once. Joint states come at 50 Hz from a thread, stamped with the node's clock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from peer import Process, running
from rclpy.action import ActionClient
from sensor_msgs.msg import CameraInfo, JointState
from spun import SpunNode
from std_msgs.msg import Bool, Empty, Header
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from exaone_interfaces.action import RunPolicy
from exaone_interfaces.msg import ActionChunk, Decision
from exaone_ros.action.localise import PinholeCamera
from exaone_ros.ros.messages import ns_to_time
from exaone_ros.sim.humanoid import HOME_RAD, JOINTS, head_camera_pose

T = TypeVar("T")
FOCAL_PX, CENTRE_PX = 539.0, (319.5, 239.5)
JOINT_PERIOD_S = 0.02
PATIENCE_S = 150.0
PATIENT = {
    "heartbeat_timeout_s": 4.0,
    "state_timeout_s": 4.0,
    "head_timeout_s": 20.0,
    "starve_timeout_s": 20.0,
    "max_observation_age_s": 10.0,
    "max_target_age_s": 10.0,
    "max_lag_s": 5.0,
}


def head_camera() -> PinholeCamera:
    """The head camera at home."""
    position, world_to_optical = head_camera_pose(0.0, HOME_RAD["head_tilt"])
    return PinholeCamera(FOCAL_PX, CENTRE_PX, position, world_to_optical.T)


class ArmPeer(SpunNode):
    """Plays everything around the action head of one namespace."""

    def __init__(self, namespace: str) -> None:
        super().__init__("peer", namespace)
        self.namespace = namespace
        self.changed = threading.Condition()
        self.commands: list[tuple[float, JointTrajectory]] = []
        self.chunks: list[ActionChunk] = []
        self.feedback: list[RunPolicy.Feedback] = []
        self._diagnostics: dict[str, str] = {}
        self.positions = {joint: HOME_RAD.get(joint, 0.0) for joint in JOINTS}
        self.heart_beats = self.sends_joints = self.follows = True
        self.node.create_subscription(JointTrajectory, "joint_trajectory", self._on_command, 100)
        self.node.create_subscription(ActionChunk, "action_chunk", self._on_chunk, 100)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 100)
        self._joints = self.node.create_publisher(JointState, "joint_states", 10)
        self._heart = self.node.create_publisher(Empty, "heartbeat", 10)
        self._estop = self.node.create_publisher(Bool, "estop", 10)
        self._detections = self.node.create_publisher(Detection2DArray, "detections", 10)
        self._decisions = self.node.create_publisher(Decision, "decision", 10)
        self._camera_infos = self.node.create_publisher(CameraInfo, "camera_info", 10)
        self.client = ActionClient(self.node, RunPolicy, "run_policy")
        self._player = threading.Thread(target=self._play, daemon=True)
        self._spin_from_now_on()
        self._player.start()

    def _play(self) -> None:
        """Joint states and heartbeat."""
        while not self._stopping.wait(JOINT_PERIOD_S):
            if self.heart_beats:
                self._heart.publish(Empty())
            if self.sends_joints:
                with self.changed:
                    messages = self.joint_states()
                for message in messages:
                    self._joints.publish(message)

    def joint_states(self) -> list[JointState]:
        """What the robot's drivers say now; the caller holds the lock."""
        return [JointState(header=self.header(), name=list(self.positions), position=list(self.positions.values()))]

    def _free(self) -> None:
        self._player.join()
        self.client.destroy()

    def now_ns(self) -> int:
        return int(self.node.get_clock().now().nanoseconds)

    def header(self) -> Header:
        return Header(stamp=ns_to_time(self.now_ns()), frame_id="head_camera_optical_frame")

    def _on_command(self, message: JointTrajectory) -> None:
        with self.changed:
            self.commands.append((time.monotonic(), message))
            if self.follows:
                self.positions |= dict(zip(message.joint_names, message.points[0].positions, strict=True))
            self.changed.notify_all()

    def _on_chunk(self, message: ActionChunk) -> None:
        with self.changed:
            self.chunks.append(message)
            self.changed.notify_all()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        with self.changed:
            for status in message.status:
                if status.name == f"/{self.namespace}/action_head: gate":
                    self._diagnostics = {pair.key: pair.value for pair in status.values} | {"message": status.message}
            self.changed.notify_all()

    def wait(self, find: Callable[[], T | None], what: str, each: Callable[[], None] | None = None) -> T:
        """Wait until `find` finds something; `each` is called every 0.1 s meanwhile."""
        deadline_s = time.monotonic() + PATIENCE_S
        with self.changed:
            while not (found := find()):
                left_s = deadline_s - time.monotonic()
                assert left_s > 0, f"waited in vain for {what}; diagnostics: {self._diagnostics}"
                if each is not None:
                    each()
                self.changed.wait(min(left_s, 0.1) if each else left_s)
            return found

    def keep_trying(self, attempt: Callable[[], T], enough: Callable[[T], bool], what: str) -> T:
        """Try again and again until it is enough; returns what the last attempt did.

        By the clock, not by a number of attempts: on an idle machine dozens of them pass before a message arrives.
        """
        deadline_s = time.monotonic() + PATIENCE_S
        while not enough(found := attempt()):
            assert time.monotonic() < deadline_s, f"tried in vain for {what}; the last attempt gave {found}"
            self._stopping.wait(0.05)
        return found

    def status(self, key: str, value: str) -> dict[str, str]:
        """Wait until diagnostics say so."""
        return self.wait(lambda: self._diagnostics if self._diagnostics.get(key) == value else None, f"{key}={value}")

    # --- perception

    def see(self, label: str, top: Sequence[float], radius_m: float, height_m: float, score: float = 0.9) -> None:
        """Publish camera info and the box of a cylinder that stands on the table."""
        from exaone_ros.action import localise

        eye = head_camera()
        body = np.array([top[0], top[1], radius_m, height_m])
        self.show(label, localise._box(localise._cylinder(body, eye, top[2] - height_m), eye), score)

    def show(self, label: str, box: Sequence[float], score: float = 0.9) -> None:
        """Publish camera info and one detection."""
        k = [FOCAL_PX, 0.0, CENTRE_PX[0], 0.0, FOCAL_PX, CENTRE_PX[1], 0.0, 0.0, 1.0]
        header = self.header()
        self._camera_infos.publish(CameraInfo(header=header, width=640, height=480, k=k))
        x1, y1, x2, y2 = (float(v) for v in box)
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = label, score
        detection = Detection2D(header=header, id="find/0", results=[hypothesis])
        detection.bbox.center.position.x, detection.bbox.center.position.y = (x1 + x2) / 2, (y1 + y2) / 2
        detection.bbox.size_x, detection.bbox.size_y = x2 - x1, y2 - y1
        self._detections.publish(Detection2DArray(header=header, detections=[detection]))

    def decide(self, choice: str) -> None:
        """Publish a decision."""
        self._decisions.publish(Decision(header=self.header(), task="pick", choice=choice, options=[choice, "none"]))

    # --- operator

    def press_estop(self, pressed: bool = True) -> None:
        self._estop.publish(Bool(data=pressed))

    def reset_estop(self) -> tuple[bool, str]:
        client = self.node.create_client(Trigger, "reset_estop")
        try:
            assert client.wait_for_service(PATIENCE_S)
            response = self.await_future(client.call_async(Trigger.Request()))
        finally:
            self._executor.create_task(lambda: self.node.destroy_client(client))
        return bool(response.success), str(response.message)

    def begin(self, call: Callable[[], Any]) -> Any:
        """What a call of the action client gives, made where answers come in.

        From another thread an answer may be there before the client has noted that it waits for one; it is lost then.
        """
        return self.await_future(self._executor.create_task(call))

    def await_future(self, future: Any) -> Any:
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        assert done.wait(PATIENCE_S), "no answer"
        return future.result()

    def send_goal(self, instruction: str = "pick the red cylinder", target: str = "", deadline: float = 0.0) -> Any:
        """Send a goal; returns its handle."""
        assert self.client.wait_for_server(PATIENCE_S)
        goal = RunPolicy.Goal(instruction=instruction, target=target, deadline=deadline)

        def on_feedback(message: Any) -> None:
            with self.changed:
                self.feedback.append(message.feedback)
                self.changed.notify_all()

        handle = self.await_future(self.begin(lambda: self.client.send_goal_async(goal, feedback_callback=on_feedback)))
        assert handle.accepted
        return handle

    def result(self, handle: Any) -> RunPolicy.Result:
        return self.await_future(self.begin(handle.get_result_async)).result

    def run(self, **goal: Any) -> RunPolicy.Result:
        """Send a goal and wait for its end."""
        return self.result(self.send_goal(**goal))


@contextmanager
def acting(
    folder: Path, namespace: str, make_peer: Callable[[str], ArmPeer] = ArmPeer, **parameters: Any
) -> Iterator[tuple[ArmPeer, Process]]:
    """An action head in a process of its own, and everything around it; as patient as a busy machine needs it."""
    parameters = PATIENT | parameters
    arguments = ["-m", "exaone_ros.nodes.action_head", "--ros-args", "-r", f"__ns:=/{namespace}"]
    for name, value in parameters.items():
        text = f'"{value}"' if isinstance(value, str) else str(value).lower()
        arguments += ["-p", f"{name}:={text}"]
    peer = make_peer(namespace)
    try:
        with running(arguments, folder / "log") as process:
            yield peer, process
    finally:
        peer.close()
