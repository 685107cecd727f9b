"""The real-time factor of the simulator node, and what comes of its camera, while the perception node works.

    python -m exaone_ros.nodes.realtime --seconds 60

One JSON line, without shadows and with them. The factor is simulated time on /clock per wall time; the images per
second say what the machine could draw meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo

from exaone_interfaces.msg import Decision
from exaone_ros.errors import ExaoneError
from exaone_ros.nodes.scenario import ros_arguments
from exaone_ros.pipes import ended_by_signals, ends_with_its_reader
from exaone_ros.ros.children import Child, prepare_environment
from exaone_ros.ros.listen import spinning

STARTUP_S = 120.0


def measure(seconds: float, rate_hz: float, shadows: bool) -> dict[str, Any]:
    """The real-time factor of the simulator node, and what arrives of its camera, with perception running.

    Args:
        seconds: to measure, after the first answer.
        rate_hz: of the camera, 640x480.
        shadows: draw them.

    Raises:
        ExaoneError: nothing was answered within two minutes.
    """
    simulated = {"rate_hz": rate_hz, "publish_clock": "true", "shadows": str(shadows).lower(), "min_objects": 4}
    simulated |= {"max_objects": 8, "head_pan_amplitude_rad": 0.1}
    # What is measured is the simulator beside a busy engine: late answers count too.
    perceived = {"use_sim_time": "true", "image_topic": "/head_camera/image_raw", "max_age_s": 60.0}
    clocks: list[tuple[float, float]] = []
    images: list[float] = []
    answers: list[float] = []
    answered = threading.Event()
    rclpy.init(args=[])
    node = rclpy.create_node("simulation_bench")
    reliable = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)

    def on_clock(message: Clock) -> None:
        clocks.append((time.monotonic(), message.clock.sec + message.clock.nanosec * 1e-9))

    def on_answer(_message: Decision) -> None:
        answers.append(time.monotonic())
        answered.set()

    node.create_subscription(Clock, "/clock", on_clock, reliable)
    # The camera's info comes with each image; the images themselves would cost this process time that is measured.
    node.create_subscription(
        CameraInfo, "/head_camera/camera_info", lambda _: images.append(time.monotonic()), reliable
    )
    node.create_subscription(Decision, "/exaone/decision", on_answer, reliable)
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            spinning(node),
            Child("simulator", ros_arguments(simulated), Path(folder) / "simulator.log"),
            Child("perception", ros_arguments(perceived, "__ns:=/exaone"), Path(folder) / "perception.log") as child,
        ):
            if not answered.wait(STARTUP_S):
                raise ExaoneError(f"nothing was answered within {STARTUP_S:g} s; perception says:\n{child.tail()}")
            begin_s = time.monotonic()
            threading.Event().wait(seconds)
            end_s = time.monotonic()
    finally:
        rclpy.try_shutdown()
    within = [entry for entry in clocks if begin_s <= entry[0] <= end_s]
    (first_wall_s, first_s), (last_wall_s, last_s) = within[0], within[-1]
    return {
        "what": f"live, 640x480 at {rate_hz:g} Hz, {'' if shadows else 'no '}shadows, perception running",
        "real_time_factor": round((last_s - first_s) / (last_wall_s - first_wall_s), 4),
        "images_per_s": round(sum(begin_s <= at_s <= end_s for at_s in images) / (end_s - begin_s), 2),
        "answers_per_s": round(sum(begin_s <= at_s <= end_s for at_s in answers) / (end_s - begin_s), 2),
        "wall_s": round(end_s - begin_s, 1),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
    }


@ends_with_its_reader
@ended_by_signals()
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="realtime", description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of the wall clock, after the first answer")
    parser.add_argument("--rate", type=float, default=30.0, help="of the camera in Hz")
    arguments = parser.parse_args(argv)
    prepare_environment()
    for shadows in (False, True):
        try:
            print(json.dumps(measure(arguments.seconds, arguments.rate, shadows)), flush=True)
        except ExaoneError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
