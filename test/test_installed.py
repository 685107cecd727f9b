"""What `colcon build` installed is whole: found where ROS tools look, complete without the source tree, and it starts.

Run by `colcon test` of the test run, which names the install space; everywhere else these tests are not selected.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = "exaone_ros"
WATCHER = """
import sys, threading, time
import rclpy
rclpy.init()
node = rclpy.create_node("watcher")
executor = rclpy.executors.SingleThreadedExecutor()
executor.add_node(node)
deadline = time.monotonic() + 60
while sys.argv[1] not in node.get_node_names() and time.monotonic() < deadline:
    executor.spin_once(timeout_sec=0.1)
print(" ".join(node.get_node_names()))
executor.shutdown(); node.destroy_node(); rclpy.shutdown()
"""

pytestmark = pytest.mark.installed


@pytest.fixture
def install_space() -> Path:
    """Where colcon installed both packages."""
    place = os.environ.get("EXAONE_INSTALL_SPACE")
    if place is None:
        pytest.fail("EXAONE_INSTALL_SPACE is not set: it has to name the install space of a `colcon build`")
    return Path(place)


def sourced(install: Path, *command: str) -> tuple[list[str], dict[str, str]]:
    """A command as in a shell that sourced the install space, and its variables without our source tree."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return ["bash", "-c", f'source "{install}/setup.bash" > /dev/null && exec "$@"', "bash", *command], variables


def output_of(install: Path, *command: str) -> str:
    words, variables = sourced(install, *command)
    answer = subprocess.run(words, cwd="/", env=variables, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.mark.parametrize("name", ["action_head", "companion", "demo", "gazebo_truth", "perception", "simulator"])
def test_executables_are_where_ros2_run_looks(install_space: Path, name: str) -> None:
    assert os.access(install_space / PACKAGE / "lib" / PACKAGE / name, os.X_OK)


def test_both_packages_are_found_with_their_files(install_space: Path) -> None:
    script = (
        "from ament_index_python.packages import get_package_share_directory as share\n"
        "import exaone_ros, exaone_interfaces.msg\n"
        "from exaone_ros.share import share_path\n"
        "print(share('exaone_ros'), share('exaone_interfaces'), exaone_ros.__file__, exaone_interfaces.__file__)\n"
        "print(share_path('config/fastdds.xml'), share_path('config/perception.yaml'), share_path('models'))\n"
        "print(share_path('launch/perception.launch.py'))\n"
    )
    for place in output_of(install_space, sys.executable, "-c", script).split():
        assert place.startswith(str(install_space)), place


def test_launch_files_name_only_what_is_installed(install_space: Path) -> None:
    script = (
        "from exaone_ros.ros.bringup import PLANS\n"
        "from exaone_ros.ros.launch_plan import NodePlan\n"
        "from exaone_ros.share import share_path\n"
        "for plan in PLANS.values():\n"
        "    print(share_path(f'launch/{plan.name}.launch.py'))\n"
        "    for step in plan.resolve({}):\n"
        "        if isinstance(step, NodePlan):\n"
        "            print(*step.parameter_files, *(a for a in step.arguments if a.startswith('/')), sep='\\n')\n"
        "            if step.package == 'exaone_ros':\n"
        "                print(f'lib {step.executable}')\n"
        "print(share_path('worlds/tabletop.sdf'), share_path('worlds/tabletop.yaml'), share_path('worlds/meshes'))\n"
        "print(share_path('description/exaone_humanoid.urdf'), share_path('description/meshes/unit_ball.obj'))\n"
    )
    lines = output_of(install_space, sys.executable, "-c", script).splitlines()
    executables = {line.removeprefix("lib ") for line in lines if line.startswith("lib ")}
    assert executables == {"action_head", "companion", "gazebo_truth", "perception", "simulator"}
    for executable in executables:
        assert os.access(install_space / PACKAGE / "lib" / PACKAGE / executable, os.X_OK)
    places = [place for line in lines if line and not line.startswith("lib ") for place in line.split()]
    assert len(places) > 12
    for place in places:
        assert place.startswith(str(install_space)) and Path(place).exists(), place


def test_the_installed_node_starts_is_seen_and_ends(install_space: Path) -> None:
    program = install_space / PACKAGE / "lib" / PACKAGE / "perception"
    words, variables = sourced(install_space, str(program), "--ros-args", "-p", "autostart:=false")
    node = subprocess.Popen(words, cwd="/", env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        names = output_of(install_space, sys.executable, "-c", WATCHER, "perception").split()
        node.send_signal(signal.SIGINT)
        said, _ = node.communicate(timeout=60)
    finally:
        node.kill()
        node.wait()
    assert "perception" in names, said
    assert node.returncode == 0, said
