"""The launch files under ROS's own `launch`, where it is: declared arguments, and a node that comes up and ends.

Without it, test_bringup.py reads the same files with stand-ins.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
import rclpy

from exaone_ros.ros.bringup import PLANS

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0


def why_not() -> str:
    """Why `ros2 launch` cannot be run here, in one line; empty where it can."""
    if shutil.which("ros2") is None or importlib.util.find_spec("launch_ros") is None:
        return "no `ros2 launch` here: it comes with an apt ROS 2 only"
    prefixes = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    if not any((p / "share/ament_index/resource_index/packages/exaone_ros").is_file() for p in prefixes):
        return "no installed exaone_ros here: build the workspace and source it"
    return ""


pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")


@pytest.mark.parametrize("name", PLANS)
def test_arguments_are_shown(name: str) -> None:
    command = ["ros2", "launch", str(ROOT / "launch" / f"{name}.launch.py"), "--show-args"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert said.returncode == 0, said.stderr
    for argument in PLANS[name].arguments:
        assert f"'{argument.name}':" in said.stdout


@pytest.mark.parametrize(
    ("name", "given", "node"),
    [
        ("perception", ["autostart:=false", "namespace:=launched"], "/launched/perception"),
        ("simulation", ["robot_state_publisher:=false", "world:=empty"], "/simulator"),
    ],
)
def test_the_node_comes_up_and_ends(name: str, given: list[str], node: str) -> None:
    context = rclpy.Context()
    rclpy.init(context=context)
    watcher = rclpy.create_node("launch_watcher", context=context)
    command = ["ros2", "launch", str(ROOT / "launch" / f"{name}.launch.py"), *given]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=said.extend, args=(process.stdout,), daemon=True)
    reader.start()
    try:
        deadline_s = time.monotonic() + PATIENCE_S
        found: set[str] = set()
        while node not in found:
            assert process.poll() is None and time.monotonic() < deadline_s, "".join(said)
            pairs = watcher.get_node_names_and_namespaces()
            found = {f"{namespace.rstrip('/')}/{name}" for name, namespace in pairs}
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        reader.join(10)
        watcher.destroy_node()
        rclpy.try_shutdown(context=context)
    assert "process has died" not in "".join(said), "".join(said)
