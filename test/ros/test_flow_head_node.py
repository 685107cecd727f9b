"""A learned head in the node: it needs images, moves the arm lawfully, and stops when the camera does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx  # noqa: F401  (the tests need it; without it they are not collected)
import onnxruntime  # noqa: F401
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("mujoco")

from arm_peer import ArmPeer, acting
from flow_files import write_flow_head
from sensor_msgs.msg import Image

from exaone_ros.action.robot import load_robot
from exaone_ros.ros.image import rgb_to_image
from exaone_ros.share import share_path
from exaone_ros.sim.mjcf import robot_mjcf

ROBOT_FILE = share_path("config/tabletop_humanoid_camera.yaml")


class CameraPeer(ArmPeer):
    """Plays the camera too."""

    def __init__(self, namespace: str) -> None:
        super().__init__(namespace)
        self._image = rgb_to_image(np.full((48, 64, 3), 90, np.uint8))
        self._images = self.node.create_publisher(Image, "image_raw", 1)

    def look(self) -> None:
        self._image.header = self.header()
        self._images.publish(self._image)


def test_it_acts_on_images_and_on_nothing_else(tmp_path: Path) -> None:
    spec = load_robot(ROBOT_FILE, robot_mjcf).spec
    write_flow_head(tmp_path, spec)
    options = {"head": "flow", "flow_head": str(tmp_path), "robot_file": str(ROBOT_FILE), "max_observation_age_s": 6.0}
    with acting(tmp_path, "flow", make_peer=CameraPeer, **options) as (peer, _):
        assert isinstance(peer, CameraPeer)
        peer.wait(lambda: int(peer._diagnostics.get("state.incomplete", "0")) > 5, "joint states")
        refused = peer.run(instruction="pick the red cube")
        assert (refused.stop, refused.message) == ("image_lost", "no fresh image of camera 'head'")
        peer.wait(lambda: int(peer._diagnostics.get("state.taken", "0")) > 5, "observations", each=peer.look)
        handle = peer.send_goal("pick the red cube")
        peer.wait(lambda: len(peer.chunks) > 3 and len(peer.commands) > 20, "chunks and commands", each=peer.look)
        assert {chunk.head for chunk in peer.chunks} == {"flow_stub"}
        positions = np.array([command.points[0].positions for _, command in peer.commands])
        assert (positions >= spec.lower).all() and (positions <= spec.upper).all()
        assert (np.abs(np.diff(positions, axis=0)) <= spec.max_velocity * spec.dt_s + 1e-9).all()
        ended = peer.result(handle)  # nobody looks any more
        assert ended.stop == "stale"
        assert "is a camera, the clock or the head too slow?" in ended.message
