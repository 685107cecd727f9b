"""The operator of the action head, for benchmarks: keeps the heartbeat, sets goals, presses the emergency stop.

It times what a robot's controller would see: how evenly commands arrive, and how long after the emergency stop was
pressed the first command that holds does. Prints one JSON line at its end.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.task import Future
from std_msgs.msg import Bool, Empty
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from exaone_interfaces.action import RunPolicy
from exaone_ros.errors import ExaoneError
from exaone_ros.pipes import ends_with_its_reader
from exaone_ros.ros import qos
from exaone_ros.ros.listen import spinning

HEARTBEAT_HZ = 10.0
JITTER, SCHEDULING = "loop.jitter_s.p95", "loop.scheduling"
T = TypeVar("T")


class ArmProbe(Node):
    """Talks to the action head of its namespace; `wait` is called from another thread than the executor's.

    Attributes:
        arrivals_s: when each command came, by the monotonic clock.
        moving: the newest command is another one than the one before.
        jitter_ms: p95 of the control loop over its last seconds, as diagnostics gave it each time.
        scheduling: of the control loop, as diagnostics gave it last.
    """

    def __init__(self, timeout_s: float) -> None:
        super().__init__("arm_probe")
        self._timeout_s = timeout_s
        self.changed = threading.Condition()
        self.arrivals_s: list[float] = []
        self.moving = False
        self.jitter_ms: list[float] = []
        self.scheduling = ""
        self._last: list[float] = []
        self._client = ActionClient(self, RunPolicy, "run_policy")
        self._reset = self.create_client(Trigger, "reset_estop")
        self._estop = self.create_publisher(Bool, "estop", qos.answers())
        self._heart = self.create_publisher(Empty, "heartbeat", qos.answers())
        self.create_subscription(JointTrajectory, "joint_trajectory", self._on_command, 100)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, qos.diagnostics())
        self.create_timer(1.0 / HEARTBEAT_HZ, lambda: self._heart.publish(Empty()))

    def _on_command(self, message: JointTrajectory) -> None:
        now_s, position = time.monotonic(), list(message.points[0].positions)
        with self.changed:
            self.arrivals_s.append(now_s)
            self.moving, self._last = position != self._last, position
            self.changed.notify_all()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            if status.name.endswith("action_head: gate") and JITTER in values:
                with self.changed:
                    self.jitter_ms.append(float(values[JITTER].split()[0]))
                    self.scheduling = values[SCHEDULING]

    def wait(self, find: Callable[[], T | None], what: str) -> T:
        """Wait until `find` finds something.

        Raises:
            ExaoneError: it did not within the time-out.
        """
        deadline_s = time.monotonic() + self._timeout_s
        with self.changed:
            while not (found := find()):
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    raise ExaoneError(f"waited {self._timeout_s:g} s in vain for {what}")
                self.changed.wait(min(left_s, 0.5))
            return found

    def _done(self, future: Future, what: str) -> Any:
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        if not done.wait(self._timeout_s):
            raise ExaoneError(f"waited {self._timeout_s:g} s in vain for {what}")
        return future.result()

    def begin(self) -> Future:
        """Begin a goal and wait until the arm moves; returns the future of its end.

        Raises:
            ExaoneError: it does not begin within the time-out.
        """
        if not self._client.wait_for_server(self._timeout_s):
            raise ExaoneError(f"no action head within {self._timeout_s:g} s")
        deadline_s = time.monotonic() + self._timeout_s
        while time.monotonic() < deadline_s:
            ended = self._try()
            if not ended.done():
                return ended
            with self.changed:
                self.changed.wait(0.2)  # until heartbeat and joint states have come
        raise ExaoneError(f"no goal began within {self._timeout_s:g} s: {ended.result().result.message}")

    def _try(self) -> Future:
        """Set a goal and wait until the arm moves, or until it has ended."""
        goal = self._done(self._client.send_goal_async(RunPolicy.Goal(instruction="wave")), "the goal's answer")
        ended: Future = goal.get_result_async()
        with self.changed:
            self.moving = False
        self.wait(lambda: self.moving or ended.done(), "the arm to move")
        return ended

    def press(self) -> float:
        """Press the emergency stop; returns seconds until a command came that holds."""
        with self.changed:
            self.wait(lambda: self.moving, "a moving arm")
            pressed_s = time.monotonic()
            self._estop.publish(Bool(data=True))
            self.wait(lambda: not self.moving, "a hold")
            return self.arrivals_s[-1] - pressed_s

    def release(self) -> None:
        """Release the emergency stop and unlatch it."""
        deadline_s = time.monotonic() + self._timeout_s
        self._estop.publish(Bool(data=False))
        while not self._done(self._reset.call_async(Trigger.Request()), "reset_estop").success:
            if time.monotonic() > deadline_s:
                raise ExaoneError("the emergency stop cannot be reset")
            with self.changed:
                self.changed.wait(0.2)


def measure(node: ArmProbe, commands: int, stops: int) -> dict[str, Any]:
    """Arrival times of that many commands, then that many emergency stops."""
    ended = node.begin()
    with node.changed:
        node.jitter_ms.clear()
        start = len(node.arrivals_s)
    node.wait(lambda: len(node.arrivals_s) - start >= commands or ended.done(), "commands")
    if ended.done():
        raise ExaoneError(f"the goal ended by itself: {ended.result().result.stop}: {ended.result().result.message}")
    with node.changed:
        arrivals_s, jitter_ms = node.arrivals_s[start : start + commands], list(node.jitter_ms)
    latencies_s = []
    for stop in range(stops):
        if stop:
            ended = node.begin()
        latencies_s.append(node.press())
        node.wait(ended.done, "the end of the goal")
        reason = ended.result().result.stop
        if reason != RunPolicy.Result.STOP_ESTOP:
            raise ExaoneError(f"the goal ended with '{reason}'; expected '{RunPolicy.Result.STOP_ESTOP}'")
        node.release()
    return {
        "arrivals_s": arrivals_s,
        "loop_jitter_p95_ms": jitter_ms,
        "estop_to_hold_s": latencies_s,
        "scheduling": node.scheduling,
    }


@ends_with_its_reader
def main() -> int:
    """Run the measurement; returns 1 when it cannot be finished."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--namespace", default="/exaone")
    parser.add_argument("--commands", type=int, default=900)
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for each wait")
    arguments = parser.parse_args()
    rclpy.init(args=["--ros-args", "-r", f"__ns:={arguments.namespace}"])
    try:
        node = ArmProbe(arguments.timeout)
        with spinning(node):
            result = measure(node, arguments.commands, arguments.stops)
    except ExaoneError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        rclpy.try_shutdown()
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
