"""Pick the red cube, with eyes: simulator, perception on the bundled checkpoint, and action head, each a process.

Nobody in this file decides or detects anything: the decision and the boxes are perception's, read off the rendered
image. Judged are the topics, and the place of the hand against where the cube truly stands.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime  # noqa: F401  (the tests need it; without it they are not collected)
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("mujoco")

from arm_peer import acting
from peer import running
from robot_watcher import Watcher

from exaone_interfaces.msg import Decision
from exaone_ros.action.heads.reach import ReachSettings
from exaone_ros.action.robot import load_robot
from exaone_ros.errors import ExaoneError
from exaone_ros.ros.action_messages import seen_of
from exaone_ros.sim.mjcf import robot_mjcf
from exaone_ros.sim.scene import TABLE_TOP_M
from exaone_ros.sim.tabletop import TabletopRenderer
from exaone_ros.sim.world_file import load_world

BUNDLED = Path(__file__).parents[2] / "models" / "exaone4_5-tabletop-tiny" / "model.safetensors"
NAMESPACE = "eyes"
WORLD = """
objects:
  - {shape: cube, colour: red, x_m: 0.58, y_m: 0.05}
  - {shape: ball, colour: yellow, x_m: 0.66, y_m: -0.22}
  - {shape: cylinder, colour: green, x_m: 0.72, y_m: 0.24}
"""
TASKS = """
objects:
  kind: ground
  classes: []
pick:
  kind: decide
  instruction: Pick the red cube.
  options: [red cube, yellow ball, green cylinder, nothing]
"""


def node(name: str, **parameters: object) -> list[str]:
    """Command line of a node in the namespace, with the simulator's camera as its own."""
    command = ["-m", f"exaone_ros.nodes.{name}", "--ros-args", "-r", f"__ns:=/{NAMESPACE}"]
    for key, value in parameters.items():
        text = f'"{value}"' if isinstance(value, str) else str(value).lower()
        command += ["-p", f"{key}:={text}"]
    return command


@pytest.mark.skipif(not BUNDLED.exists(), reason="the bundled checkpoint's weights are not here")
def test_what_perception_decides_is_where_the_hand_goes(tmp_path: Path) -> None:
    try:
        TabletopRenderer(64, 48, samples=0).close()
    except ExaoneError as error:
        pytest.skip(f"no rendering here: {error}")
    (tmp_path / "world.yaml").write_text(WORLD)
    (tmp_path / "tasks.yaml").write_text(TASKS)
    world = str(tmp_path / "world.yaml")
    simulator = node("simulator", world=world, rate_hz=2.0, shadows=False)
    perception = node("perception", image_topic="head_camera/image_raw", tasks_file=str(tmp_path / "tasks.yaml"),
                      threads=1, max_age_s=60.0)  # fmt: skip
    head = {
        "camera_info_topic": "head_camera/camera_info", "max_target_age_s": 60.0, "max_observation_age_s": 60.0,
        "speed_share": 0.25,
    }  # fmt: skip
    with (
        running(simulator, tmp_path / "simulator_log"),
        running(perception, tmp_path / "perception_log"),
        acting(tmp_path, NAMESPACE, make_peer=Watcher, **head) as (peer, _),
    ):
        assert isinstance(peer, Watcher)
        peer.wait(lambda: int(peer._diagnostics.get("state.taken", "0")) > 5, "joint states of the simulator")
        peer.wait(lambda: peer.decisions and peer.detections, "answers of perception")
        cube = load_world(world).objects[0]
        moved: list[np.ndarray] = []

        def reach() -> None:
            result = peer.keep_trying(
                lambda: peer.run(instruction="pick the red cube"),  # no target: perception's decision says what
                lambda result: result.stop != "no_target",  # until the node has heard a decision and boxes too
                "a target",
            )
            assert (result.stop, result.message) == ("done", "")
            assert result.success and result.chunks >= 3
            moved.append(np.array([message.points[0].positions for _, message in peer.commands]))
            peer.commands.clear()

        top_m = TABLE_TOP_M + cube.height_m
        peer.brings_hand_to(np.array([cube.x_m, cube.y_m, top_m + ReachSettings().hover_m]), reach)
        decision = peer.decisions[0]
        assert (decision.choice, decision.outcome) == ("red cube", Decision.OUTCOME_DONE)
        assert decision.instruction == "Pick the red cube."
        assert "red cube" in {seen.label for seen in seen_of(peer.detections[0])}
        spec = load_robot(None, robot_mjcf).spec
        for positions in moved:
            assert (positions >= spec.lower).all() and (positions <= spec.upper).all()
            assert (np.abs(np.diff(positions, axis=0)) <= spec.max_velocity * spec.dt_s + 1e-9).all()
