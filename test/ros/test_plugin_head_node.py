"""A head of another package moves the robot, by its name alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("mujoco")

from arm_peer import acting

from exaone_ros.action.heads.plugin import GROUP

POLICY = """
from exaone_ros.action.heads.scripted import SineHead


class MyPolicy(SineHead):
    name = "my_policy"

    def __init__(self, spec):
        super().__init__(spec, "right_elbow", amplitude=0.1, frequency_hz=1.0, duration_s=1.0)
"""


def test_a_head_that_another_package_declares_moves_the_robot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package"
    information = package / "my_package-1.0.dist-info"
    information.mkdir(parents=True)
    (package / "my_package.py").write_text(POLICY)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{GROUP}]\nmy_policy = my_package:MyPolicy\n")
    path = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    with acting(tmp_path, "plugged", head="plugin", head_plugin="my_policy") as (peer, _):
        peer.status("head", "my_policy")
        waits = ("heartbeat_lost", "state_lost", "inactive")  # until both have come
        result = peer.keep_trying(
            lambda: peer.run(instruction="wave"), lambda found: found.stop not in waits, "beat and joints"
        )
        assert (result.stop, result.message) == ("done", "")
        peer.wait(lambda: peer.chunks and peer.chunks[-1].done, "the last chunk")
        assert {chunk.head for chunk in peer.chunks} == {"my_policy"}
        assert len(peer.commands) > 10
