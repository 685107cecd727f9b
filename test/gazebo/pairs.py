"""The pairs of ROS 2 and Gazebo that the tests of this folder run on, and what a machine lacks for it."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pair:
    """Attributes: ROS 2 distribution; name of Gazebo's release; its major version as `gz sim --versions` says it."""

    distribution: str
    gazebo: str
    major: int


PAIRS = (Pair("jazzy", "Harmonic", 8), Pair("kilted", "Ionic", 9), Pair("lyrical", "Jetty", 10))
NAMES = ", ".join(f"{pair.distribution.capitalize()} + {pair.gazebo}" for pair in PAIRS)
MODULES = ("launch_testing.launch_test", "launch_ros.actions", "ros_gz_sim", "tf2_msgs", "rclpy", "vision_msgs")
PACKAGES = ("ros_gz_sim", "ros_gz_bridge", "robot_state_publisher", "exaone_ros")
"""Found in the ament index: a sourced ROS 2 and a sourced workspace."""


def has_module(name: str) -> bool:
    """Whether Python finds a module; a folder of that name in the checkout is none."""
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return False
    return spec is not None and spec.origin is not None


def has_package(name: str) -> bool:
    """Whether the ament index knows a package."""
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    return any(
        Path(prefix, "share", "ament_index", "resource_index", "packages", name).is_file()
        for prefix in prefixes
        if prefix
    )


def gazebo_majors() -> set[int]:
    """Major versions of the Gazebo simulators that are installed."""
    if shutil.which("gz") is None:
        return set()
    said = subprocess.run(["gz", "sim", "--versions"], capture_output=True, text=True, timeout=120, check=False).stdout
    return {int(number) for number in re.findall(r"^(\d+)\.", said, re.MULTILINE)}


def why_not(
    environment: Mapping[str, str] = os.environ,
    module: Callable[[str], bool] = has_module,
    package: Callable[[str], bool] = has_package,
    majors: Callable[[], set[int]] = gazebo_majors,
) -> str:
    """Why Gazebo cannot be tested here, in one line; empty where it can."""
    distribution = environment.get("ROS_DISTRO", "")
    pair = next((pair for pair in PAIRS if pair.distribution == distribution), None)
    if pair is None:
        found = f"the sourced ROS 2 is {distribution}" if distribution else "no ROS 2 is sourced"
        return f"no Gazebo here: {found}; these tests run on {NAMES}"
    lacking = [name for name in PACKAGES if not package(name)]
    lacking += [name.partition(".")[0] for name in MODULES if not module(name) and name not in lacking]
    if lacking:
        wanted = " ".join(
            f"ros-{distribution}-{name.replace('_', '-')}" for name in ("ros_gz", "robot_state_publisher")
        )
        return f"no Gazebo here: {', '.join(lacking)} not found; apt-get install {wanted}, source the workspace"
    if pair.major not in (found_majors := majors()):
        versions = ", ".join(map(str, sorted(found_majors))) or "none"
        return f"no Gazebo here: `gz sim` has the versions {versions}; {pair.gazebo} is {pair.major}"
    return ""
