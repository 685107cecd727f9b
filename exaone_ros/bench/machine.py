"""What figures were measured on."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from exaone_ros import __version__

RELEASES = {"3.3": "humble", "7.1": "jazzy", "9.1": "kilted"}
"""Distribution by the first two numbers of its rclpy: they stay the same for its whole life."""

PROJECTS = ("ros-rclpy", "rclpy")
"""What rclpy is called among the wheels and where a ROS 2 was installed with apt."""


def machine() -> dict[str, Any]:
    """Processor, cores, system, Python, ROS 2, version of this package and date, as they stand in bench.json."""
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else ""
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "ros": ros_distribution(),
        "exaone_ros": __version__,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
    }


def ros_distribution() -> str:
    """Name of the ROS 2 in use: that of the sourced one, else read off the installed rclpy.

    A distribution that is not known here is named by its rclpy, e.g. ``with rclpy 12.0.3``; ``not installed`` where
    there is none.
    """
    if sourced := os.environ.get("ROS_DISTRO"):
        return sourced
    for project in PROJECTS:
        try:
            version = metadata.version(project)
        except metadata.PackageNotFoundError:
            continue
        return RELEASES.get(".".join(version.split(".")[:2]), f"with rclpy {version}")
    return "not installed"
