"""The simulator node: a humanoid at a table, its head camera, and the truth about every frame.

`ros.simulator_topics` says what it publishes, `ros.simulator_services` what it can be asked to do; it listens to
``joint_trajectory``. In real time, `sim.live` steps in one thread and renders in another, and both publish from there;
the executor's thread takes trajectories and services. Stepped, everything happens in the executor's thread.
"""

from __future__ import annotations

import os
import traceback
from typing import NoReturn

from rclpy.node import Node
from trajectory_msgs.msg import JointTrajectory

from exaone_ros.errors import ExaoneError, SimulationError
from exaone_ros.ros import qos
from exaone_ros.ros.parameters import ParameterSet, named_overrides
from exaone_ros.ros.simulation import trajectory_from_message
from exaone_ros.ros.simulator_services import SimulatorServices
from exaone_ros.ros.simulator_settings import PARAMETERS, settings_from
from exaone_ros.ros.simulator_topics import SimulatorTopics
from exaone_ros.ros.spin import NodeCannotGoOn, run_node
from exaone_ros.sim.live import LiveSimulation
from exaone_ros.sim.stepped import SteppedSimulation
from exaone_ros.sim.viewer import Viewer

STOP_WITHIN_S = 1.0
STILL_CLOCK_PERIOD_S = 0.2
"""A world that stands still says the time again and again, so that a node that starts late can know it."""

__all__ = ["PARAMETERS", "Simulator", "main", "settings_from"]


class Simulator(Node):
    """Publishes what a `LiveSimulation` or a `SteppedSimulation` produces.

    Raises:
        ParameterError: a parameter that is unknown or out of range, or an override of QoS that fits no topic.
        SimulationError: parameters that do not go together; a viewer without a display.
        MissingExtra: MuJoCo is not installed.
    """

    def __init__(self) -> None:
        with named_overrides(self):
            super().__init__("simulator", automatically_declare_parameters_from_overrides=True)
        # Values are read once, here: a change needs another start, so all of them are locked but the camera's fault.
        parameters = ParameterSet(self, PARAMETERS, locked=lambda: True)
        values = parameters.values()
        stepped = bool(values["stepped"])
        self._simulated_time = stepped or bool(values["publish_clock"])
        topics = qos.OverridableTopics(self)
        self._topics = SimulatorTopics(
            self,
            topics,
            clock=self._simulated_time,
            jpeg_quality=values["jpeg_quality"],
            fault=lambda: str(parameters["camera_fault"]),
        )
        topics.subscription(JointTrajectory, "joint_trajectory", self._take_trajectory, qos.answers())
        topics.check()
        self._simulation = self._simulate(values, stepped)
        self._viewer = Viewer(self._simulation.world) if values["viewer"] else None
        self._offered = SimulatorServices(self, self._simulation, self._failed)
        if stepped:
            self.create_timer(STILL_CLOCK_PERIOD_S, lambda: self._on_step(self._simulation.world.time_s))

    def _simulate(self, values: dict[str, object], stepped: bool) -> LiveSimulation | SteppedSimulation:
        settings, topics = settings_from(values), self._topics
        if stepped:
            return SteppedSimulation(
                settings,
                on_frame=topics.frame,
                on_joints=topics.joints,
                on_objects=topics.objects,
                on_step=self._on_step,
                wants_depth=topics.wants_depth,
                wants_labels=topics.wants_labels,
            )
        return LiveSimulation(
            settings,
            now_ns=self._now_ns,
            on_frame=topics.frame,
            on_joints=topics.joints,
            on_objects=topics.objects,
            on_step=self._on_step,
            on_failure=self._failed,
            wants_depth=topics.wants_depth,
            wants_labels=topics.wants_labels,
        )

    def begin(self) -> None:
        """Start to simulate; in the executor's thread."""
        try:
            self._simulation.start()
        except (ExaoneError, TimeoutError) as error:
            raise NodeCannotGoOn(f"the simulation cannot start: {error}") from error
        settings = self._simulation.settings
        how = "in steps" if isinstance(self._simulation, SteppedSimulation) else "in real time"
        camera = f"{settings.width}x{settings.height} at {settings.rate_hz:g} Hz"
        topic = self.resolve_topic_name("head_camera/image_raw")
        what = f"{camera} on {topic}" if settings.camera else "without a camera"
        self.get_logger().info(f"simulating {how}, {what}")

    def end(self) -> None:
        """Stop the simulation's threads; the executor has stopped already."""
        if isinstance(self._simulation, SteppedSimulation):
            self._simulation.stop()
        elif not self._simulation.stop(STOP_WITHIN_S):
            self.get_logger().warning(f"the simulation did not end within {STOP_WITHIN_S:g} s")
        if self._viewer is not None:
            self._viewer.close()

    def _now_ns(self, time_s: float) -> int:
        return round(time_s * 1e9) if self._simulated_time else int(self.get_clock().now().nanoseconds)

    def _on_step(self, time_s: float) -> None:
        self._topics.time(time_s)
        if self._viewer is not None:
            self._viewer.update()

    def _take_trajectory(self, message: JointTrajectory) -> None:
        try:
            self._simulation.set_trajectory(trajectory_from_message(message))
        except SimulationError as error:
            self.get_logger().error(f"trajectory refused: {error}")

    def _failed(self, error: BaseException) -> None:
        """The simulation broke: a camera that stands still for ever helps nobody, so the process ends."""
        executor = self.executor
        if executor is None:
            return  # it is ending already, and a frame that was late has found its topics gone
        what = "".join(traceback.format_exception(error))

        def end() -> None:
            raise NodeCannotGoOn(f"the simulation failed:\n{what}")

        executor.create_task(end)


def main() -> NoReturn:
    """Entry point ``simulator``."""
    # Mesa's shader cache works in a thread of idle priority: on a busy machine that thread takes ten seconds to die,
    # and the process with it. Without the cache the start takes a second longer.
    os.environ.setdefault("MESA_SHADER_CACHE_DISABLE", "true")
    run_node(Simulator)


if __name__ == "__main__":
    main()
