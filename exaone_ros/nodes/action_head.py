"""The action head's node: carries out an instruction by moving the robot, behind a gate that is closed by default.

Threads: the executor's takes messages, goals and transitions; the control loop's ticks and publishes commands; the
runner's lets the head think; a fourth publishes diagnostics.
"""

from __future__ import annotations

import sys
import threading
from typing import Any, NoReturn

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.task import Future
from std_msgs.msg import Bool
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from exaone_interfaces.action import RunPolicy
from exaone_interfaces.msg import ActionChunk as ActionChunkMessage
from exaone_ros.action.chunk import ActionChunk
from exaone_ros.action.gate import Gate, Stop, Verdict
from exaone_ros.action.goal import Command, Outcome
from exaone_ros.action.kinematics import Kinematics
from exaone_ros.action.observation import Target
from exaone_ros.action.queue import ChunkQueue
from exaone_ros.action.runner import PolicyRunner
from exaone_ros.errors import ActionError
from exaone_ros.ros import qos
from exaone_ros.ros.action_inputs import ActionInputs
from exaone_ros.ros.action_messages import chunk_message, result_message, trajectory_message
from exaone_ros.ros.action_settings import PARAMETERS, ActionSettings
from exaone_ros.ros.control_loop import NORMAL, ControlLoop
from exaone_ros.ros.diagnostics import DiagnosticsThread
from exaone_ros.ros.lifecycle import ManagedNode
from exaone_ros.ros.meter import Meter
from exaone_ros.ros.parameters import ParameterSet
from exaone_ros.ros.spin import run_node
from exaone_ros.ros.targets import NotSeen, TargetFinder

FEEDBACK_EVERY = 10
"""Ticks between two feedback messages of a goal."""

SWITCH_INTERVAL_S = 0.0005
"""How long a thread of this process may keep the others from Python; its default, 5 ms, is all the jitter allowed."""


class ActionHeadNode(ManagedNode):
    """Serves `run_policy`; see docs/vla.md for its topics."""

    def __init__(self) -> None:
        super().__init__("action_head")
        self._settings: ActionSettings | None = None
        self._runner: PolicyRunner | None = None
        self._finder: TargetFinder | None = None
        self._loop: ControlLoop | None = None
        self._inputs: ActionInputs | None = None
        self._outputs: dict[str, Any] = {}
        self._goal: tuple[ServerGoalHandle, Future] | None = None
        self._goal_lock = threading.Lock()
        self._tick_lock = threading.Lock()
        self._ticks = 0
        self._last_outcome: Outcome | None = None
        self._ending = False
        self._meter = Meter()
        self._parameters_kept = ParameterSet(self, PARAMETERS, locked=lambda: self.state != "unconfigured")
        self._estop_pressed = self._estop_latched = False
        # In every state: what is pressed before the node is configured, or latched before it is cleaned up, counts.
        self.create_subscription(Bool, "estop", self._on_estop, qos.answers())
        self.create_service(Trigger, "reset_estop", self._reset_estop)
        # Goals are answered in every state, if only with a refusal: a server that went away with a goal under way could
        # not tell how it ended.
        self._server = ActionServer(
            self,
            RunPolicy,
            "run_policy",
            self._execute,
            goal_callback=lambda _: GoalResponse.ACCEPT,
            cancel_callback=self._cancel,
            result_timeout=60,
        )
        self._diagnostics = DiagnosticsThread(self, self._statuses)

    @property
    def autostart(self) -> bool:
        return bool(self._parameters_kept["autostart"])

    # Lifecycle

    def load(self) -> None:
        """Read the robot, make the head and the gate; an emergency stop that is latched stays so."""
        self._settings = settings = ActionSettings.from_values(self._parameters_kept.values())
        spec, values = settings.robot.spec, settings.values
        self._finder = TargetFinder(Kinematics(settings.robot.mjcf), settings.robot.camera, values["table_height_m"])
        topics = qos.OverridableTopics(self)
        self._outputs["trajectory"] = topics.publisher(JointTrajectory, values["trajectory_topic"], qos.answers())
        self._outputs["chunk"] = topics.publisher(ActionChunkMessage, "action_chunk", qos.answers())
        self._runner = PolicyRunner(
            settings.make_head(),
            Gate(spec, settings.gate_limits),
            ChunkQueue(spec),
            self._now_ns,
            settings.runner_limits,
            on_chunk=self._publish_chunk,
            log_error=self._log_error,
        )
        if self._estop_latched:
            self._runner.estop(True)
            self._runner.estop(self._estop_pressed)
        self._meter = Meter()
        self._inputs = ActionInputs(self, topics, settings, self._runner, self._finder, self._meter)
        topics.check()
        self.get_logger().info(
            f"{spec.embodiment}: {len(spec.joints)} joints at {spec.fps:g} Hz, head '{self._runner.head.name}', "
            f"spec {spec.hash}; the gate is closed until a goal comes"
        )

    def start(self) -> None:
        """Begin to tick, and take goals."""
        assert self._settings is not None
        priority = self._settings.values["loop_priority"]
        self._loop = ControlLoop(
            self._settings.robot.spec.dt_s,
            self._tick,
            self._meter,
            self._log_error,
            self._on_failing,
            priority=priority,
        )
        self._loop.start()
        if priority and self._loop.scheduling.startswith(NORMAL):
            self.get_logger().warning(
                f"the control loop is scheduled as {self._loop.scheduling}, so a busy machine will delay its commands; "
                f"docs/vla.md says how to permit it, 'loop_priority: 0' asks for none"
            )

    def stop(self) -> None:
        """End the goal and hold; then no command is published any more."""
        if self._runner is not None:
            self._runner.cancel(Stop.INACTIVE, "the node was deactivated")
        try:
            if self._loop is not None:
                self._tick()  # publishes the hold, and ends the goal of the action
        finally:
            if self._loop is not None:
                self._loop.stop()
                self._loop = None
            self._settle()  # where the hold could not be published
            if self._runner is not None:
                self._runner.release("the node was deactivated")

    def free(self) -> None:
        """End the head and give back everything."""
        if self._inputs is not None:
            self._inputs.close()
            self._inputs = None
        if self._runner is not None:
            self._runner.close()
        for publisher in self._outputs.values():
            self.destroy_lifecycle_publisher(publisher)
        self._outputs = {}
        self._runner, self._finder, self._settings = None, None, None

    def end(self) -> None:
        """Before the process ends: everything, in order."""
        self._ending = True
        super().end()
        self._diagnostics.stop()
        self._server.destroy()

    # Emergency stop; in the executor's thread

    def _on_estop(self, message: Bool) -> None:
        if message.data and not self._estop_pressed:
            self.get_logger().warning("the emergency stop is pressed")
        self._estop_pressed = bool(message.data)
        self._estop_latched |= self._estop_pressed
        if self._runner is not None:
            self._runner.estop(self._estop_pressed)
            if message.data:
                self._tick()  # do not wait for the loop

    def _reset_estop(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        refused = self._runner.reset_estop() if self._runner else Verdict(Stop.INACTIVE, "the node is not configured")
        response.success = refused is None
        self._estop_latched = self._estop_latched and not response.success
        response.message = refused.message if refused else "unlatched; the gate stays closed until a goal comes"
        return response

    # Goals; in the executor's thread

    def _cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        with self._goal_lock:
            under_way = self._goal is not None and self._goal[0] is handle
        if self._runner is not None and under_way:  # else it has not begun, and will not: `_execute` looks
            self._runner.cancel()
        return CancelResponse.ACCEPT

    async def _execute(self, handle: ServerGoalHandle) -> RunPolicy.Result:
        """Carry out one goal; awaits its end, so that the executor can go on."""
        if handle.is_cancel_requested:
            handle.canceled()
            return result_message(Outcome(Stop.CANCELLED, "cancelled before it began", 0, 0.0))
        refused = self._begin_goal(handle.request)
        if refused is not None:
            self.get_logger().warning(f"goal refused: {refused.reason.value}: {refused.for_log or refused.message}")
            handle.abort()
            return result_message(Outcome(refused.reason, refused.message, 0, 0.0))
        ended = Future(executor=self.executor)
        with self._goal_lock:
            self._goal = (handle, ended)
        outcome: Outcome = await ended
        self._last_outcome = outcome
        # What a head says may hold words of users, as the name of a target that is out of reach: they are the client's.
        words = "(the goal's result says why)" if outcome.reason is Stop.HEAD_FAILED else outcome.message
        self.get_logger().info(f"goal ended: {outcome.reason.value} {words}")
        if outcome.reason is Stop.DONE:
            handle.succeed()
        elif outcome.reason is Stop.CANCELLED and handle.is_cancel_requested:
            handle.canceled()
        else:
            handle.abort()
        return result_message(outcome)

    def _begin_goal(self, goal: RunPolicy.Goal) -> Verdict | None:
        """Locate the target, open the gate; None where the goal has begun."""
        runner, finder, settings, inputs = self._runner, self._finder, self._settings, self._inputs
        if runner is None or finder is None or settings is None or inputs is None or self._loop is None:
            return Verdict(Stop.INACTIVE, f"the node is {self.state}; activate it first")
        if runner.active:
            return Verdict(Stop.BUSY, "another goal is being carried out; cancel it first")
        self._settle()  # a goal that has ended since the last tick: whoever waits for it must be told
        now_ns, max_age_s = self._now_ns(), settings.values["max_target_age_s"]
        stale = inputs.stale_camera(now_ns, max_age_s)
        if stale is not None:
            return Verdict(Stop.IMAGE_LOST, f"no fresh image of camera '{stale}'")
        target: Target | None = None
        if settings.needs_target:
            try:
                label = goal.target or finder.choice(now_ns, max_age_s)
                target = finder.locate(label, now_ns, max_age_s)
            except ActionError as error:
                plain = error.without_labels if isinstance(error, NotSeen) else ""
                return Verdict(Stop.NO_TARGET, str(error), plain)
            place = ", ".join(f"{value:.3f}" for value in target.position)
            self.get_logger().info(f"reaching for something whose top is at ({place}) m")
        return runner.start(goal.instruction, goal.deadline, target)

    # What goes out

    def _tick(self) -> None:
        """In the control loop's thread; also in the executor's, when something cannot wait."""
        runner = self._runner
        if runner is None:
            return
        with self._tick_lock:  # commands go out in the order they were decided in: none may follow a hold
            command: Command | None = runner.tick()
            if command is not None:
                self._outputs["trajectory"].publish(trajectory_message(runner.spec, command.position))
        handle = self._settle()
        if handle is None:
            return
        self._ticks += 1
        if self._ticks % FEEDBACK_EVERY == 0:
            chunks, plan_left_s, elapsed_s = runner.progress()
            handle.publish_feedback(RunPolicy.Feedback(chunks=chunks, plan_left=plan_left_s, elapsed=elapsed_s))

    def _on_failing(self, error: Exception) -> None:
        """In the control loop's thread: ticks keep raising, so nothing goes out that could carry the goal on."""
        if self._runner is not None:
            self._runner.cancel(Stop.INACTIVE, f"the control loop keeps failing: {type(error).__name__}: {error}")
            self._settle()

    def _settle(self) -> ServerGoalHandle | None:
        """Tell the goal's client how it ended, if it did; else give its handle. Any thread."""
        with self._goal_lock:
            goal, outcome = self._goal, self._runner.outcome if self._runner is not None else None
            if goal is None:
                return None
            if outcome is None:
                return goal[0]
            self._goal, ended = None, goal[1]
        # A future is resolved in the executor's thread, where its coroutine goes on; an ended executor takes nothing.
        if self.executor is not None and not self._ending:
            self.executor.create_task(lambda: ended.set_result(outcome))
        return None

    def _publish_chunk(self, chunk: ActionChunk) -> None:
        """In the head's thread."""
        if self._settings is not None:
            self._outputs["chunk"].publish(chunk_message(self._settings.robot.spec, chunk))

    def _log_error(self, text: str) -> None:
        self.get_logger().error(text)

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _statuses(self) -> list[DiagnosticStatus]:
        """In the diagnostics thread."""
        runner, loop, reading = self._runner, self._loop, self._meter.read()
        estop = self._estop_latched
        outcome = self._last_outcome
        gate = "open" if runner is not None and runner.gate.is_open else "closed"
        values = {
            "state": self.state,
            "gate": gate,
            "estop": "latched" if estop else "released",
            "last_stop": outcome.reason.value if outcome else "",
            "head": runner.head.name if runner else "",
            "spec": runner.spec.hash if runner else "",
            "loop.scheduling": loop.scheduling if loop else "",
            **{name: str(total) for name, total in sorted(reading.totals.items())},
        }
        for name, both in reading.samples.items():
            values |= {f"{name}.p50": f"{both.p50 * 1e3:.2f} ms", f"{name}.p95": f"{both.p95 * 1e3:.2f} ms"}
        level = DiagnosticStatus.ERROR if self.failure else DiagnosticStatus.WARN if estop else DiagnosticStatus.OK
        return [
            DiagnosticStatus(
                level=level,
                name=f"{self.get_fully_qualified_name()}: gate",
                message=self.failure or f"{self.state}; gate {gate}; emergency stop {values['estop']}",
                hardware_id=runner.spec.embodiment if runner else "",
                values=[KeyValue(key=key, value=value) for key, value in values.items()],
            )
        ]


def main() -> NoReturn:
    """Entry point `action_head`; ends the process."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    run_node(ActionHeadNode)


if __name__ == "__main__":
    main()
