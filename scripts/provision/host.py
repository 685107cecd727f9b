"""What machine is this: its Python, its processor, a sourced ROS 2, the Debian packages that are missing."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from provision.report import ProvisionError, Report

OLDEST_PYTHON = (3, 10)
NEWEST_PYTHON_WITH_WHEELS = (3, 14)


@dataclass(frozen=True)
class SourcedRos:
    """A ROS 2 whose setup script was sourced in the calling shell.

    Attributes:
        distribution: `jazzy`, `kilted`, ...
        python: the interpreter that can import its rclpy.
    """

    distribution: str
    python: str


@dataclass(frozen=True)
class DebianPackage:
    """A package that apt can install, and how to see that what it brings is there already.

    Attributes:
        name: for apt-get.
        present: true where nothing has to be installed, whoever put it there.
        needed_for: completes 'needed for ...'.
    """

    name: str
    present: Callable[[], bool]
    needed_for: str


def check_python() -> None:
    """Raises: ProvisionError: this Python is too old."""
    if sys.version_info < OLDEST_PYTHON:
        found = ".".join(map(str, sys.version_info[:3]))
        raise ProvisionError(
            f"Python is {found} ({sys.executable}); 3.10 or newer is needed. "
            "Run this with a newer one, e.g. `make PYTHON=python3.11 ...`."
        )


def check_wheels_fit() -> None:
    """The ROS 2 wheels exist for x86-64 Linux and some Pythons only.

    Raises:
        ProvisionError: this machine is not one of those.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise ProvisionError(
            f"This machine is {platform.system()} on {platform.machine()}; "
            "ROS 2 wheels exist for Linux on x86-64 only. Install ROS 2 (Jazzy on Ubuntu 24.04) with apt, "
            "source its setup.bash, and run this again: it will use that ROS."
        )
    if sys.version_info[:2] > NEWEST_PYTHON_WITH_WHEELS:
        found = ".".join(map(str, sys.version_info[:3]))
        raise ProvisionError(
            f"Python is {found}; ROS 2 wheels exist for 3.10 to 3.14. "
            "Run this with one of those, e.g. `make PYTHON=python3.12 ...`."
        )


def find_sourced_ros() -> SourcedRos | None:
    """The ROS 2 of the calling shell, or None where no setup script was sourced.

    Raises:
        ProvisionError: ROS_DISTRO is set but rclpy cannot be imported: half a ROS is worse than none.
    """
    distribution = os.environ.get("ROS_DISTRO", "")
    if not distribution:
        return None
    if importlib.util.find_spec("rclpy") is None:
        raise ProvisionError(
            f"ROS_DISTRO is '{distribution}' but {sys.executable} cannot import rclpy. "
            f"Either source /opt/ros/{distribution}/setup.bash and use the Python it was built for "
            "(`make PYTHON=/usr/bin/python3 ...`), or `unset ROS_DISTRO` to have ROS 2 installed from wheels."
        )
    return SourcedRos(distribution, sys.executable)


def debian_packages_for_wheels() -> list[DebianPackage]:
    """What the wheels need from the system: a compiler for interface packages, OpenGL for the simulated camera."""
    python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return [
        DebianPackage(
            f"{python}-venv", lambda: _has_module("ensurepip") and _has_module("venv"), "the virtual environment"
        ),
        DebianPackage(f"{python}-dev", _has_python_headers, "building the ROS interfaces"),
        DebianPackage("cmake", lambda: shutil.which("cmake") is not None, "building the ROS interfaces"),
        DebianPackage("g++", lambda: shutil.which("g++") is not None, "building the ROS interfaces"),
        DebianPackage("ninja-build", lambda: shutil.which("ninja") is not None, "building the ROS interfaces"),
        *_graphics(),
    ]


def debian_packages_for_ros(ros: SourcedRos) -> list[DebianPackage]:
    """What an apt ROS 2 lacks in its smaller installations."""
    prefix = f"ros-{ros.distribution}"
    return [
        DebianPackage(
            "python3-venv", lambda: _has_module("ensurepip") and _has_module("venv"), "the virtual environment"
        ),
        DebianPackage(
            "python3-colcon-common-extensions", lambda: shutil.which("colcon") is not None, "building the workspace"
        ),
        DebianPackage("python3-pytest", lambda: _has_module("pytest"), "the tests"),
        DebianPackage("python3-opencv", lambda: _has_module("cv2"), "image conversion"),
        DebianPackage("python3-yaml", lambda: _has_module("yaml"), "parameters"),
        DebianPackage(f"{prefix}-vision-msgs", lambda: _has_module("vision_msgs"), "the detections topic"),
        DebianPackage(f"{prefix}-cv-bridge", lambda: _has_module("cv_bridge"), "image conversion"),
        *_graphics(),
    ]


def debian_packages_for_tests() -> list[DebianPackage]:
    """What single tests need, which skip without it."""
    return [
        DebianPackage("libsdformat-dev", _has_sdformat, "checking the Gazebo worlds with Gazebo's own parser"),
        DebianPackage("pkg-config", lambda: shutil.which("pkg-config") is not None, "building that check"),
    ]


def try_debian_packages(packages: Sequence[DebianPackage], report: Report) -> None:
    """Install what is missing where that is allowed and works; elsewhere say what is done without it, and go on."""
    missing = [package for package in packages if not package.present()]
    try:
        if missing and _apt_prefix() is not None:
            install_debian_packages(missing, report)
            return
        reason = "apt-get may not be run here"
    except ProvisionError as error:
        reason = str(error).strip().splitlines()[0]
    for package in missing:
        report.say(f"  Without the Debian package {package.name}, tests skip: {package.needed_for} ({reason}).")


def install_debian_packages(packages: Sequence[DebianPackage], report: Report) -> None:
    """Install what is missing with apt-get where that is allowed, otherwise say exactly what to type.

    Allowed means root or sudo that asks for no password, and EXAONE_APT is not 0.

    Raises:
        ProvisionError: something is missing and must not or cannot be installed.
    """
    missing = [package for package in packages if not package.present()]
    if not missing:
        return
    names = [package.name for package in missing]
    listed = "\n".join(f"    {package.name:<34} needed for {package.needed_for}" for package in missing)
    command = ["apt-get", "install", "-y", "--no-install-recommends", *names]
    prefix = _apt_prefix()
    if prefix is None:
        raise ProvisionError(
            f"These Debian packages are missing:\n{listed}\n"
            f"  What to do: sudo apt-get update && sudo {' '.join(command)}\n"
            "  then run this again. "
            "(As root, or with sudo that asks for no password, this does it by itself unless EXAONE_APT=0.)"
        )
    report.say(f"  Missing Debian packages:\n{listed}")
    advice = f"run it by hand to see why: sudo apt-get update && sudo {' '.join(command)}"
    with report.step(f"Installing {len(names)} Debian packages") as step:
        step.run([*prefix, "apt-get", "update", "-q"], advice=advice)
        step.run([*prefix, *command], advice=advice)
    importlib.invalidate_caches()
    still = [package.name for package in missing if not package.present()]
    if still:
        raise ProvisionError(
            f"apt-get installed {', '.join(still)}, yet what they bring is not found by {sys.executable}. "
            "If this Python is not the system's own, give it its headers and venv module, "
            "or use the system's: `make PYTHON=/usr/bin/python3 ...`."
        )


def _graphics() -> list[DebianPackage]:
    return [
        DebianPackage("libegl1", lambda: _has_library("libEGL.so.1"), "the simulated camera"),
        DebianPackage("libgl1-mesa-dri", _has_gl_driver, "the simulated camera without a GPU"),
        DebianPackage("libgl1", lambda: _has_library("libGL.so.1"), "OpenCV"),
        DebianPackage("libglib2.0-0", lambda: _has_library("libgthread-2.0.so.0"), "OpenCV"),
    ]


def _apt_prefix() -> list[str] | None:
    """Words before `apt-get`: [] as root, ['sudo', ...] where that asks nothing, None where apt must not be run."""
    if os.environ.get("EXAONE_APT") == "0" or shutil.which("apt-get") is None:
        return None
    if os.geteuid() == 0:
        return ["env", "DEBIAN_FRONTEND=noninteractive"]
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode == 0:
        return [sudo, "-n", "DEBIAN_FRONTEND=noninteractive"]
    return None


def _has_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _has_library(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _has_python_headers() -> bool:
    return (Path(sysconfig.get_path("include")) / "Python.h").is_file()


def _has_sdformat() -> bool:
    return any(Path("/usr/lib").glob("*/pkgconfig/sdformat*.pc"))


def _has_gl_driver() -> bool:
    """A software rasteriser of Mesa, or a vendor's own EGL (an NVIDIA driver registers itself in these folders)."""
    vendors = [
        path.name for root in ("/usr/share/glvnd", "/etc/glvnd") for path in Path(root, "egl_vendor.d").glob("*.json")
    ]
    if any("mesa" not in name for name in vendors):
        return True
    return any(Path("/usr/lib").glob("*/dri/swrast_dri.so")) or any(Path("/usr/lib").glob("*/dri/libdril_dri.so"))
