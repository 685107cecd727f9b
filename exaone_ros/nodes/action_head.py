"""The action head's node: carries out an instruction by moving the robot, behind a gate that is closed by default.

Threads: the executor's takes messages, goals and transitions; the control loop's ticks and publishes commands; the
runner's lets the head think; a fourth publishes diagnostics.
"""

from __future__ import annotations

import threading
from typing import Any, NoReturn

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.subscription import Subscription
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Bool, Empty
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory
from vision_msgs.msg import Detection2DArray

from exaone_interfaces.action import RunPolicy
from exaone_interfaces.msg import ActionChunk as ActionChunkMessage
from exaone_interfaces.msg import Decision
from exaone_ros.action.gate import Gate, Stop, Verdict
from exaone_ros.action.goal import Command, Outcome
from exaone_ros.action.kinematics import Kinematics
from exaone_ros.action.queue import ChunkQueue
from exaone_ros.action.runner import PolicyRunner
from exaone_ros.action.spec import NS, ActionChunk, Observation, Target
from exaone_ros.errors import ActionError, ImageError
from exaone_ros.ros import qos
from exaone_ros.ros.action_messages import chunk_message, result_message, seen_of, state_of, trajectory_message
from exaone_ros.ros.action_settings import PARAMETERS, ActionSettings
from exaone_ros.ros.control_loop import ControlLoop
from exaone_ros.ros.diagnostics import DiagnosticsThread
from exaone_ros.ros.image import image_to_rgb
from exaone_ros.ros.lifecycle import ManagedNode
from exaone_ros.ros.messages import time_to_ns
from exaone_ros.ros.meter import Meter
from exaone_ros.ros.parameters import ParameterSet
from exaone_ros.ros.spin import run_node
from exaone_ros.ros.targets import TargetFinder

FEEDBACK_EVERY = 10
"""Ticks between two feedback messages of a goal."""


class ActionHeadNode(ManagedNode):
    """Serves `run_policy`; see docs/vla.md for its topics."""

    def __init__(self) -> None:
        super().__init__("action_head")
        self._settings: ActionSettings | None = None
        self._runner: PolicyRunner | None = None
        self._finder: TargetFinder | None = None
        self._loop: ControlLoop | None = None
        self._server: ActionServer | None = None
        self._inputs: list[Subscription] = []
        self._outputs: dict[str, Any] = {}
        self._images: dict[str, tuple[int, Any]] = {}
        self._goal: tuple[ServerGoalHandle, Future] | None = None
        self._goal_lock = threading.Lock()
        self._ticks = 0
        self._last_outcome: Outcome | None = None
        self._meter = Meter()
        self._parameters_kept = ParameterSet(self, PARAMETERS, locked=lambda: self.state != "unconfigured")
        self.create_service(Trigger, "reset_estop", self._reset_estop)
        self._diagnostics = DiagnosticsThread(self, self._statuses)

    @property
    def autostart(self) -> bool:
        return bool(self._parameters_kept["autostart"])

    # Lifecycle

    def load(self) -> None:
        """Read the robot, make the head and the gate; from here on the emergency stop is listened to."""
        self._settings = settings = ActionSettings.from_values(self._parameters_kept.values())
        spec, values = settings.robot.spec, settings.values
        self._finder = TargetFinder(Kinematics(settings.robot.mjcf), settings.robot.camera, values["table_height_m"])
        self._outputs = {
            "trajectory": self.create_lifecycle_publisher(JointTrajectory, values["trajectory_topic"], qos.answers()),
            "chunk": self.create_lifecycle_publisher(ActionChunkMessage, "action_chunk", qos.answers()),
        }
        self._runner = PolicyRunner(
            settings.make_head(),
            Gate(spec, settings.gate_limits),
            ChunkQueue(spec),
            self._now_ns,
            settings.runner_limits,
            on_chunk=self._publish_chunk,
            log_error=self._log_error,
        )
        # Goals are answered, if only with a refusal, for as long as the node is configured: a server that went away
        # with a goal under way could not tell how it ended.
        self._server = ActionServer(
            self,
            RunPolicy,
            "run_policy",
            self._execute,
            goal_callback=lambda _: GoalResponse.ACCEPT,
            cancel_callback=self._cancel,
            result_timeout=60,
        )
        self._listen(Bool, "estop", self._on_estop)
        self._listen(Empty, "heartbeat", lambda _: self._runner.heartbeat() if self._runner else None)
        self._listen(JointState, values["joint_states_topic"], self._on_joints)
        self._listen(Detection2DArray, values["detections_topic"], self._on_detections)
        self._listen(Decision, values["decision_topic"], self._on_decision)
        self._listen(CameraInfo, values["camera_info_topic"], self._on_camera_info)
        for camera, topic in settings.robot.camera_topics.items():
            self._listen(Image, topic, lambda image, camera=camera: self._on_image(camera, image))
        self.get_logger().info(
            f"{spec.embodiment}: {len(spec.joints)} joints at {spec.fps:g} Hz, head '{self._runner.head.name}', "
            f"spec {spec.hash}; the gate is closed until a goal comes"
        )

    def start(self) -> None:
        """Begin to tick, and take goals."""
        assert self._settings is not None
        self._meter = Meter()
        self._loop = ControlLoop(self._settings.robot.spec.dt_s, self._tick, self._meter, self._log_error)
        self._loop.start()

    def stop(self) -> None:
        """End the goal and hold; then no command is published any more."""
        if self._runner is not None:
            self._runner.cancel(Stop.INACTIVE, "the node was deactivated")
        if self._loop is not None:
            self._tick()  # publishes the hold, and ends the goal of the action
            self._loop.stop()
            self._loop = None
        if self._runner is not None:
            self._runner.release("the node was deactivated")

    def free(self) -> None:
        """End the head and give back everything."""
        if self._server is not None:
            self._server.destroy()
            self._server = None
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs = []
        if self._runner is not None:
            self._runner.close()
        for publisher in self._outputs.values():
            self.destroy_lifecycle_publisher(publisher)
        self._outputs, self._images = {}, {}
        self._runner, self._finder, self._settings = None, None, None

    def end(self) -> None:
        """Before the process ends: everything, in order."""
        super().end()
        self._diagnostics.stop()

    # What comes in; in the executor's thread

    def _listen(self, kind: type, topic: str, callback: Any) -> None:
        profile = qos.newest_image() if kind is Image else qos.answers()
        self._inputs.append(self.create_subscription(kind, topic, callback, profile))

    def _on_estop(self, message: Bool) -> None:
        if self._runner is not None:
            self._runner.estop(bool(message.data))
            if message.data:
                self.get_logger().warning("the emergency stop is pressed")
                self._tick()  # do not wait for the loop

    def _reset_estop(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        refused = self._runner.reset_estop() if self._runner else Verdict(Stop.INACTIVE, "the node is not configured")
        response.success = refused is None
        response.message = refused.message if refused else "unlatched; the gate stays closed until a goal comes"
        return response

    def _on_joints(self, message: JointState) -> None:
        runner, finder = self._runner, self._finder
        if runner is None or finder is None:
            return
        stamp_ns = time_to_ns(message.header.stamp)
        finder.on_joints(stamp_ns, dict(zip(message.name, message.position, strict=False)))
        state = state_of(message.name, message.position, runner.spec.state)
        cameras = runner.spec.cameras
        if state is None or any(camera not in self._images for camera in cameras):
            self._meter.count("state.incomplete")
            return
        try:
            runner.observe(
                Observation(
                    state,
                    stamp_ns,
                    {camera: self._images[camera][1] for camera in cameras},
                    {camera: self._images[camera][0] for camera in cameras},
                )
            )
            self._meter.count("state.taken")
        except ActionError as error:
            self._meter.count("state.bad")
            self.get_logger().warning(f"joint states refused: {error}", throttle_duration_sec=5.0)

    def _on_image(self, camera: str, message: Image) -> None:
        try:
            self._images[camera] = (time_to_ns(message.header.stamp), image_to_rgb(message))
        except ImageError as error:
            self._meter.count("image.bad")
            self.get_logger().warning(f"image of '{camera}' refused: {error}", throttle_duration_sec=5.0)

    def _on_detections(self, message: Detection2DArray) -> None:
        if self._finder is not None:
            self._finder.on_detections(time_to_ns(message.header.stamp), seen_of(message))

    def _on_decision(self, message: Decision) -> None:
        if self._finder is not None and message.outcome in (Decision.OUTCOME_DONE, Decision.OUTCOME_BUDGET):
            self._finder.on_decision(time_to_ns(message.header.stamp), message.choice)

    def _on_camera_info(self, message: CameraInfo) -> None:
        if self._finder is not None:
            self._finder.on_camera_info(message.k)

    # Goals; in the executor's thread

    def _cancel(self, _handle: ServerGoalHandle) -> CancelResponse:
        if self._runner is not None:
            self._runner.cancel()
        return CancelResponse.ACCEPT

    async def _execute(self, handle: ServerGoalHandle) -> RunPolicy.Result:
        """Carry out one goal; awaits its end, so that the executor can go on."""
        refused = self._begin_goal(handle.request)
        if refused is not None:
            self.get_logger().warning(f"goal refused: {refused.reason.value}: {refused.message}")
            handle.abort()
            return result_message(Outcome(refused.reason, refused.message, 0, 0.0))
        ended = Future(executor=self.executor)
        with self._goal_lock:
            self._goal = (handle, ended)
        outcome: Outcome = await ended
        self._last_outcome = outcome
        self.get_logger().info(f"goal ended: {outcome.reason.value} {outcome.message}")
        if outcome.reason is Stop.DONE:
            handle.succeed()
        elif outcome.reason is Stop.CANCELLED and handle.is_cancel_requested:
            handle.canceled()
        else:
            handle.abort()
        return result_message(outcome)

    def _begin_goal(self, goal: RunPolicy.Goal) -> Verdict | None:
        """Locate the target, open the gate; None where the goal has begun."""
        runner, finder, settings = self._runner, self._finder, self._settings
        if runner is None or finder is None or settings is None or self._loop is None:
            return Verdict(Stop.INACTIVE, f"the node is {self.state}; activate it first")
        if runner.active:
            return Verdict(Stop.BUSY, "another goal is being carried out; cancel it first")
        now_ns, max_age_s = self._now_ns(), settings.values["max_target_age_s"]
        seen_ns = {camera: stamp_ns for camera, (stamp_ns, _) in self._images.items()}
        stale = [c for c in runner.spec.cameras if now_ns - seen_ns.get(c, 0) > max_age_s * NS]
        if stale:
            return Verdict(Stop.IMAGE_LOST, f"no fresh image of camera '{stale[0]}'")
        target: Target | None = None
        if settings.needs_target:
            try:
                label = goal.target or finder.choice(now_ns, max_age_s)
                target = finder.locate(label, now_ns, max_age_s)
            except ActionError as error:
                return Verdict(Stop.NO_TARGET, str(error))
            place = ", ".join(f"{value:.3f}" for value in target.position)
            self.get_logger().info(f"reaching for '{label}', its top at ({place}) m")
        return runner.start(goal.instruction, goal.deadline, target)

    # What goes out

    def _tick(self) -> None:
        """In the control loop's thread; also in the executor's, when something cannot wait."""
        runner = self._runner
        if runner is None:
            return
        command: Command | None = runner.tick()
        if command is not None:
            self._outputs["trajectory"].publish(trajectory_message(runner.spec, command.position))
        with self._goal_lock:
            goal, outcome = self._goal, runner.outcome
            if goal is not None and outcome is not None:
                self._goal = None
        if goal is None:
            return
        handle, ended = goal
        if outcome is not None:
            # A future is resolved in the executor's thread, where its coroutine goes on.
            assert self.executor is not None
            self.executor.create_task(lambda: ended.set_result(outcome))
            return
        self._ticks += 1
        if self._ticks % FEEDBACK_EVERY == 0:
            chunks, plan_left_s, elapsed_s = runner.progress()
            handle.publish_feedback(RunPolicy.Feedback(chunks=chunks, plan_left=plan_left_s, elapsed=elapsed_s))

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
        runner, reading = self._runner, self._meter.read()
        estop = runner is not None and runner.gate.estop_latched
        outcome = self._last_outcome
        gate = "open" if runner is not None and runner.gate.is_open else "closed"
        values = {
            "state": self.state,
            "gate": gate,
            "estop": "latched" if estop else "released",
            "last_stop": outcome.reason.value if outcome else "",
            "head": runner.head.name if runner else "",
            "spec": runner.spec.hash if runner else "",
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
    run_node(ActionHeadNode)


if __name__ == "__main__":
    main()
