"""A callback that raises is said and survived; a broken executor is not."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from peer import PATIENCE_S, running

NODE = """
from rclpy.node import Node
from exaone_ros.ros.spin import run_node

class Failing(Node):
    left = {failures}
    def __init__(self):
        super().__init__("failing")
        self.create_timer(0.01, self.tick)
    def tick(self):
        self.left -= 1
        if self.left >= 0:
            raise KeyError("a bug")
        if self.left == -1:
            open({marker!r}, "w").close()
    def begin(self):
        print("begun", flush=True)
    def end(self):
        print("ended", flush=True)

run_node(Failing)
"""


def test_a_callback_that_raises_is_said_and_survived(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    code = NODE.format(failures=3, marker=str(marker))
    with running(["-c", code, "--ros-args"], tmp_path / "log") as process:
        process.wait_for(marker.exists)
        assert process.end(signal.SIGTERM) == 0
        assert process.output().count("a callback failed") == 3 and "KeyError: 'a bug'" in process.output()
        assert process.output().index("begun") < process.output().index("ended")


def test_a_node_that_only_fails_is_ended(tmp_path: Path) -> None:
    code = NODE.format(failures=10**9, marker=str(tmp_path / "marker"))
    with running(["-c", code, "--ros-args"], tmp_path / "log") as process:
        assert process.process.wait(PATIENCE_S) == 1
        assert "10 callbacks in a row failed" in process.output() and "ended" in process.output()


def test_a_node_that_cannot_be_made_ends_with_the_reason(tmp_path: Path) -> None:
    code = "from exaone_ros.ros.spin import run_node\nrun_node(lambda: 1 / 0)"
    with running(["-c", code, "--ros-args"], tmp_path / "log") as process:
        assert process.process.wait(PATIENCE_S) == 1
        assert "ZeroDivisionError" in process.output()
