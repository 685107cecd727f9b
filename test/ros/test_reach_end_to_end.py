"""Pick the red cube: simulator and action head as processes of their own; the hand's place is judged by the truth.

The simulator's truth about each frame stands in for perception's detections, and this test for the decision: what is
tested here is the way from a decision to the hand. Where the cube is, is known only from the scene that the simulator
lays; the node has to find it by its box.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("mujoco")

from arm_peer import acting
from peer import running
from robot_watcher import Watcher

from exaone_interfaces.action import RunPolicy
from exaone_ros.action.heads.reach import ReachSettings
from exaone_ros.errors import ExaoneError
from exaone_ros.nodes.simulator import PARAMETERS, settings_from
from exaone_ros.sim.scene import TABLE_TOP_M
from exaone_ros.sim.tabletop import TabletopRenderer

NAMESPACE = "pick"
LABEL = "red cube"
SCENE = {"seed": 25, "min_objects": 4, "max_objects": 6, "person_share": 0.0, "obstacle_share": 0.0, "rate_hz": 3.0,
         "shadows": False}  # fmt: skip


def true_top() -> np.ndarray:
    """Centre of the cube's upper side, from the scene that these parameters lay."""
    values = {parameter.name: parameter.default for parameter in PARAMETERS} | SCENE
    objects = settings_from(values).scene(0).objects
    (cube,) = [thing for thing in objects if (thing.colour, thing.shape) == ("red", "cube")]
    return np.array([cube.x_m, cube.y_m, TABLE_TOP_M + cube.height_m])


def test_the_hand_arrives_over_the_red_cube(tmp_path: Path) -> None:
    try:
        TabletopRenderer(64, 48, samples=0).close()
    except ExaoneError as error:
        pytest.skip(f"no rendering here: {error}")
    command = ["-m", "exaone_ros.nodes.simulator", "--ros-args", "-r", f"__ns:=/{NAMESPACE}"]
    for name, value in SCENE.items():
        command += ["-p", f"{name}:={str(value).lower()}"]
    # Slowly: a simulator that is starved of its core follows behind, and must not cut the corners of the path.
    given: dict[str, str | float] = {
        "detections_topic": "ground_truth/detections",
        "camera_info_topic": "head_camera/camera_info",
        "speed_share": 0.25,
    }
    with (
        running(command, tmp_path / "simulator_log"),
        acting(tmp_path, NAMESPACE, make_peer=Watcher, **given) as (peer, _),
    ):
        assert isinstance(peer, Watcher)
        peer.wait(lambda: int(peer._diagnostics.get("state.taken", "0")) > 5, "joint states of the simulator")

        def attempt() -> RunPolicy.Result:
            peer.decide(LABEL)
            return peer.run(instruction="pick the red cube")

        # Until the first image and a decision have arrived, and this process gets its share to send heartbeats.
        waiting = ("no_target", "heartbeat_lost")

        def reach() -> None:
            result = peer.keep_trying(attempt, lambda result: result.stop not in waiting, "a target")
            assert (result.stop, result.message) == ("done", "")

        peer.brings_hand_to(true_top() + np.array([0.0, 0.0, ReachSettings().hover_m]), reach)
