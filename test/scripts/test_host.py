"""Machines that are not ready get the exact thing to do."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest
from provision import host
from provision.host import DebianPackage
from provision.report import ProvisionError, Report


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return Report(tmp_path / "setup.log", io.StringIO())


def missing(name: str) -> DebianPackage:
    return DebianPackage(name, lambda: False, "the test")


def test_an_old_python_is_refused_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    with pytest.raises(ProvisionError, match=r"Python is 3\.9\.18 .*3\.10 or newer.*make PYTHON="):
        host.check_python()


@pytest.mark.parametrize("machine", ["aarch64", "riscv64"])
def test_other_processors_are_sent_to_the_apt_ros(monkeypatch: pytest.MonkeyPatch, machine: str) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    with pytest.raises(ProvisionError, match=f"{machine}.*x86-64 only.*apt.*setup.bash"):
        host.check_wheels_fit()


def test_a_python_newer_than_the_wheels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 15, 0))
    with pytest.raises(ProvisionError, match=r"3\.15\.0.*3\.10 to 3\.14"):
        host.check_wheels_fit()


def test_no_sourced_ros_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    assert host.find_sourced_ros() is None


def test_a_sourced_ros_without_rclpy_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    monkeypatch.setattr(host.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ProvisionError, match=r"'jazzy'.*cannot import rclpy.*unset ROS_DISTRO"):
        host.find_sourced_ros()


def test_a_sourced_ros_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DISTRO", "kilted")
    monkeypatch.setattr(host.importlib.util, "find_spec", lambda name: object())
    assert host.find_sourced_ros() == host.SourcedRos("kilted", sys.executable)


def test_missing_packages_are_all_named_with_the_command_where_apt_is_forbidden(
    monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    monkeypatch.setenv("EXAONE_APT", "0")
    with pytest.raises(ProvisionError) as caught:
        host.install_debian_packages([missing("cmake"), missing("libegl1")], report)
    told = str(caught.value)
    assert "sudo apt-get update && sudo apt-get install -y --no-install-recommends cmake libegl1" in told
    assert told.count("needed for the test") == 2


def test_nothing_is_installed_where_nothing_is_missing(monkeypatch: pytest.MonkeyPatch, report: Report) -> None:
    monkeypatch.setenv("EXAONE_APT", "0")
    host.install_debian_packages([DebianPackage("cmake", lambda: True, "the test")], report)


def test_allowed_apt_installs_just_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, report: Report, tmp_path: Path
) -> None:
    """With an apt-get of our own on the path, which writes down what it was asked."""
    asked, brought = tmp_path / "asked", tmp_path / "brought"
    tool = tmp_path / "bin" / "apt-get"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$DEBIAN_FRONTEND $@" >> {asked}\ntouch {brought}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("EXAONE_APT", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    packages = [DebianPackage("cmake", lambda: True, "x"), DebianPackage("ninja-build", brought.exists, "x")]
    host.install_debian_packages(packages, report)
    lines = asked.read_text().splitlines()
    assert lines == [
        "noninteractive update -q",
        "noninteractive install -y --no-install-recommends ninja-build",
    ]


def test_packages_that_do_not_help_are_named(monkeypatch: pytest.MonkeyPatch, report: Report, tmp_path: Path) -> None:
    tool = tmp_path / "apt-get"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("EXAONE_APT", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(ProvisionError, match=r"installed cmake, yet what they bring is not found"):
        host.install_debian_packages([missing("cmake")], report)


def test_both_lists_name_what_the_design_needs() -> None:
    wheels = {package.name for package in host.debian_packages_for_wheels()}
    assert {"cmake", "g++", "ninja-build", "libegl1", "libgl1-mesa-dri", "libgl1", "libglib2.0-0"} <= wheels
    on_ros = {package.name for package in host.debian_packages_for_ros(host.SourcedRos("kilted", "python3"))}
    assert {"ros-kilted-vision-msgs", "ros-kilted-cv-bridge", "python3-opencv"} <= on_ros


def test_what_single_tests_need_may_be_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EXAONE_APT", "0")
    out = io.StringIO()
    host.try_debian_packages([missing("libsdformat-dev")], Report(tmp_path / "setup.log", out))
    assert "Without the Debian package libsdformat-dev, tests skip: the test (apt-get may not be run" in out.getvalue()


def test_a_failed_installation_of_it_is_told_and_survived(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(packages: object, report: object) -> None:
        raise ProvisionError("\nno network\nmore")

    monkeypatch.setattr(host, "_apt_prefix", list)
    monkeypatch.setattr(host, "install_debian_packages", fail)
    out = io.StringIO()
    host.try_debian_packages([missing("libsdformat-dev")], Report(tmp_path / "setup.log", out))
    assert "(no network)" in out.getvalue()
