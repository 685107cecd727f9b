"""A page of figures names the ROS 2 that they were measured with, sourced or not."""

from __future__ import annotations

from importlib import metadata

import pytest

from exaone_ros.bench.machine import machine, ros_distribution


def installed(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]) -> None:
    """Let these be the projects that are installed, with no ROS 2 sourced."""

    def version(project: str) -> str:
        if project not in versions:
            raise metadata.PackageNotFoundError(project)
        return versions[project]

    monkeypatch.delenv("ROS_DISTRO", raising=False)
    monkeypatch.setattr(metadata, "version", version)


@pytest.mark.parametrize(
    ("versions", "named"),
    [
        ({"ros-rclpy": "7.1.6"}, "jazzy"),
        ({"ros-rclpy": "9.1.2", "rclpy": "7.1.5"}, "kilted"),
        ({"rclpy": "3.3.15"}, "humble"),
        ({"rclpy": "12.0.3"}, "with rclpy 12.0.3"),
        ({}, "not installed"),
    ],
)
def test_without_a_sourced_ros_the_installed_rclpy_tells(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], named: str
) -> None:
    installed(monkeypatch, versions)
    assert ros_distribution() == named
    assert machine()["ros"] == named


def test_a_sourced_ros_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, {"ros-rclpy": "7.1.6"})
    monkeypatch.setenv("ROS_DISTRO", "rolling")
    assert ros_distribution() == "rolling"
