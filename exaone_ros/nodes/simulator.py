"""The simulator node: a humanoid at a table, its head camera, and the truth about every frame.

Publishes (relative names): ``head_camera/image_raw``, ``head_camera/camera_info``, ``ground_truth/detections`` with the
image's stamp, ``joint_states``, and ``/clock`` where asked to. Listens to ``joint_trajectory``. Threads: the executor's
takes trajectories; `sim.live` steps in one thread and renders in another, and both publish from there.
"""

from __future__ import annotations

import os
import traceback
from typing import Any, NoReturn

from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory
from vision_msgs.msg import Detection2DArray

from exaone_ros.errors import ExaoneError, SimulationError
from exaone_ros.ros import qos
from exaone_ros.ros.image import rgb_to_image
from exaone_ros.ros.messages import ns_to_time
from exaone_ros.ros.parameters import Parameter, ParameterSet
from exaone_ros.ros.simulation import (
    camera_info_message,
    ground_truth_message,
    joint_state_message,
    trajectory_from_message,
)
from exaone_ros.ros.spin import NodeCannotGoOn, run_node
from exaone_ros.sim.humanoid import CAMERA_FRAME_ID
from exaone_ros.sim.live import CameraMoment, LiveSettings, LiveSimulation
from exaone_ros.sim.sampling import SceneOptions
from exaone_ros.sim.world import HeadMotion, JointStates
from exaone_ros.sim.world_file import load_world

STOP_WITHIN_S = 1.0

PARAMETERS = (
    Parameter("width", 640, "Width of the camera's images.", "px", 16, 1920),
    Parameter("height", 480, "Height of the camera's images.", "px", 16, 1920),
    Parameter("rate_hz", 10.0, "Images per second, as far as the machine keeps up.", "Hz", 0.1, 120.0),
    Parameter("fovy_deg", 48.0, "Vertical field of view of the camera.", "deg", 20.0, 120.0),
    Parameter("joint_rate_hz", 50.0, "Joint states per second.", "Hz", 1.0, 100.0),
    Parameter(
        "world", "", "World to show: a name (tabletop, blocked, empty) or a YAML file; empty = scenes drawn by seed."
    ),
    Parameter("seed", 0, "Of the sequence of scenes: the same seed lays the same tables.", "", 0, 2**31 - 1),
    Parameter("scene_period_s", 0.0, "The table is laid anew each time this has passed; 0 = never.", "s", 0.0, 86400.0),
    Parameter("min_objects", 0, "Fewest objects on the table.", "", 0, 10),
    Parameter("max_objects", 10, "Most objects on the table.", "", 0, 10),
    Parameter("person_share", 0.25, "Share of the scenes with a person.", "", 0.0, 1.0),
    Parameter("obstacle_share", 0.25, "Share of the scenes with an obstacle.", "", 0.0, 1.0),
    Parameter("shadows", True, "Draw shadows; without them rendering takes about half the time."),
    Parameter("antialiasing_samples", 0, "Samples per pixel; 0 = none, 4 doubles the rendering time.", "", 0, 16),
    Parameter("head_pan_amplitude_rad", 0.0, "The head sweeps this far to either side; 0 = still.", "rad", 0.0, 0.7),
    Parameter("head_tilt_amplitude_rad", 0.0, "The head nods this far up and down; 0 = still.", "rad", 0.0, 0.3),
    Parameter("head_period_s", 12.0, "Of the head's sweep.", "s", 0.5, 3600.0),
    Parameter(
        "publish_clock",
        False,
        "Publish simulated time on /clock and stamp with it; other nodes then want use_sim_time. "
        "Otherwise stamps are this machine's time.",
    ),
)


def settings_from(values: dict[str, Any]) -> LiveSettings:
    """What to simulate, from the values of PARAMETERS.

    Raises:
        SimulationError: values that do not go together.
    """
    return LiveSettings(
        width=values["width"],
        height=values["height"],
        rate_hz=values["rate_hz"],
        joint_rate_hz=values["joint_rate_hz"],
        seed=values["seed"],
        scene_period_s=values["scene_period_s"],
        shadows=values["shadows"],
        samples=values["antialiasing_samples"],
        options=SceneOptions(
            objects=(values["min_objects"], values["max_objects"]),
            person_share=values["person_share"],
            obstacle_share=values["obstacle_share"],
            fovy_deg=(values["fovy_deg"], values["fovy_deg"]),
            camera_jitter=0.0,
        ),
        head_motion=HeadMotion(
            values["head_pan_amplitude_rad"], values["head_tilt_amplitude_rad"], values["head_period_s"]
        ),
        world=load_world(values["world"]) if values["world"] else None,
    )


class Simulator(Node):
    """Publishes what a `LiveSimulation` produces.

    Raises:
        ParameterError: a parameter that is unknown or out of range.
        SimulationError: parameters that do not go together.
        MissingExtra: MuJoCo is not installed.
    """

    def __init__(self) -> None:
        super().__init__("simulator", automatically_declare_parameters_from_overrides=True)
        # Values are read once, here: a change needs another start, so all of them are locked.
        values = ParameterSet(self, PARAMETERS, locked=lambda: True).values()
        self._publish_clock = bool(values["publish_clock"])
        self._images = self.create_publisher(Image, "head_camera/image_raw", qos.published_image())
        self._camera_infos = self.create_publisher(CameraInfo, "head_camera/camera_info", qos.published_image())
        self._truths = self.create_publisher(Detection2DArray, "ground_truth/detections", qos.answers())
        self._joint_states = self.create_publisher(JointState, "joint_states", qos.answers())
        self._clocks = self.create_publisher(Clock, "/clock", qos.answers()) if self._publish_clock else None
        self._simulation = LiveSimulation(
            settings_from(values),
            now_ns=self._now_ns,
            on_frame=self._publish_frame,
            on_joints=self._publish_joints,
            on_step=self._publish_time,
            on_failure=self._failed,
        )
        self.create_subscription(JointTrajectory, "joint_trajectory", self._take_trajectory, qos.answers())

    def begin(self) -> None:
        """Start to simulate; in the executor's thread."""
        try:
            self._simulation.start()
        except (ExaoneError, TimeoutError) as error:
            raise NodeCannotGoOn(f"the simulation cannot start: {error}") from error
        settings = self._simulation.settings
        self.get_logger().info(f"simulating {settings.width}x{settings.height} at {settings.rate_hz:g} Hz")

    def end(self) -> None:
        """Stop both threads; the executor has stopped already."""
        if not self._simulation.stop(STOP_WITHIN_S):
            self.get_logger().warning(f"the simulation did not end within {STOP_WITHIN_S:g} s")

    def _now_ns(self, time_s: float) -> int:
        return round(time_s * 1e9) if self._publish_clock else int(self.get_clock().now().nanoseconds)

    def _publish_frame(self, moment: CameraMoment) -> None:
        header = _header(moment.stamp_ns, CAMERA_FRAME_ID)
        # The truth first: who has the image can then have the truth about it too.
        self._truths.publish(ground_truth_message(moment.frame, header))
        self._camera_infos.publish(camera_info_message(moment.intrinsics, header))
        self._images.publish(rgb_to_image(moment.frame.image, header))

    def _publish_joints(self, stamp_ns: int, states: JointStates) -> None:
        self._joint_states.publish(joint_state_message(states, _header(stamp_ns, "")))

    def _publish_time(self, time_s: float) -> None:
        if self._clocks is not None:
            self._clocks.publish(Clock(clock=ns_to_time(round(time_s * 1e9))))

    def _take_trajectory(self, message: JointTrajectory) -> None:
        try:
            self._simulation.set_trajectory(trajectory_from_message(message))
        except SimulationError as error:
            self.get_logger().error(f"trajectory refused: {error}")

    def _failed(self, error: BaseException) -> None:
        """A thread of the simulation died: a camera that stands still for ever helps nobody, so the process ends."""
        what = "".join(traceback.format_exception(error))

        def end() -> None:
            raise NodeCannotGoOn(f"the simulation failed:\n{what}")

        assert self.executor is not None
        self.executor.create_task(end)


def _header(stamp_ns: int, frame_id: str) -> Header:
    return Header(stamp=ns_to_time(stamp_ns), frame_id=frame_id)


def main() -> NoReturn:
    """Entry point ``simulator``."""
    # Mesa's shader cache works in a thread of idle priority: on a busy machine that thread takes ten seconds to die,
    # and the process with it. Without the cache the start takes a second longer.
    os.environ.setdefault("MESA_SHADER_CACHE_DISABLE", "true")
    run_node(Simulator)


if __name__ == "__main__":
    main()
