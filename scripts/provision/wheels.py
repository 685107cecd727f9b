"""A virtual environment with ROS 2 from the PyPI wheels, for machines without an apt ROS."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from provision.report import Report, Step, watch_pip
from provision.stamp import Stamps, fingerprint

DISTRIBUTIONS = ("jazzy", "kilted")

_PIP_ADVICE = "look at pip's last lines above; without a network to your package index nothing can be installed. Then run this again."


class WheelEnvironment:
    """A virtual environment that holds one ROS 2 distribution.

    Args:
        path: folder of the environment; it is made where it does not exist.
        distribution: one of `DISTRIBUTIONS`.
        requirements: files for pip, installed together so that their versions agree.
    """

    def __init__(self, path: Path, distribution: str, requirements: Sequence[Path]):
        self.path = path
        self.distribution = distribution
        self.requirements = tuple(requirements)
        self.stamps = Stamps(path)

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"

    def install(self, report: Report) -> None:
        """Bring the environment to what the requirement files say; returns at once where it is there already."""
        mark = fingerprint(self.requirements, platform.python_version(), sys.executable, str(self.path), _PATCH_VERSION)
        if self.python.exists() and self.stamps.is_done("packages", mark):
            return
        self.stamps.forget("packages")
        if not self.stamps.is_done("python", _python_mark()):
            with report.step(f"Making {self.path.name} (Python {platform.python_version()})") as step:
                command = [sys.executable, "-m", "venv", "--clear", str(self.path)]
                step.run(
                    command,
                    advice="install the venv module of this Python (Debian: python3-venv), then run this again.",
                )
            self.stamps.done("python", _python_mark())
        with report.step(f"Installing ROS 2 {self.distribution.capitalize()} and Python packages") as step:
            pip_install(step, self.python, self.requirements)
            point_cmake_exports_here(self.path)
        self.stamps.done("packages", mark)

    def build_environment(self) -> dict[str, str]:
        """Variables for commands that build against this environment, with nothing of the caller's Python or ROS."""
        env = without_ros(os.environ)
        env["PATH"] = f"{self.path / 'bin'}{os.pathsep}{env.get('PATH', os.defpath)}"
        env["VIRTUAL_ENV"] = str(self.path)
        env["AMENT_PREFIX_PATH"] = env["CMAKE_PREFIX_PATH"] = str(self.path)
        return env


def pip_install(step: Step, python: Path, requirements: Sequence[Path], *options: str) -> None:
    """Install requirement files with the pip of an environment."""
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off", *options]
    for file in requirements:
        command += ["-r", str(file)]
    step.run(command, advice=_PIP_ADVICE, env=without_ros(os.environ), watch=watch_pip)


def without_ros(env: Mapping[str, str]) -> dict[str, str]:
    """A copy of an environment without what would leak one Python or ROS into another.

    The wheels restart Python once with a library path of their own and leave a note that they did; a child in another
    environment that inherits the note would not find its own libraries.
    """
    leaks = (
        "_ROS_WHEELS_BOOTSTRAP_COMPLETE",
        "LD_LIBRARY_PATH",
        "PYTHONPATH",
        "PYTHONHOME",
        "VIRTUAL_ENV",
        "ROS_DISTRO",
        "AMENT_PREFIX_PATH",
        "CMAKE_PREFIX_PATH",
        "COLCON_PREFIX_PATH",
    )
    return {name: value for name, value in env.items() if name not in leaks}


_PATCH_VERSION = "cmake exports 1"


def point_cmake_exports_here(prefix: Path) -> None:
    """Replace the include paths of the machine that built the wheels, in their CMake exports, by the ones of this machine.

    Without it CMake stops at the first `find_package`: the exports name folders below /opt/python that do not exist here.
    Safe to run again.
    """
    script = "import sysconfig, numpy; print(sysconfig.get_path('include')); print(numpy.get_include())"
    found = subprocess.run(
        [str(prefix / "bin" / "python"), "-c", script],
        env=without_ros(os.environ),
        capture_output=True,
        text=True,
        check=True,
    )
    python_include, numpy_include = found.stdout.split("\n")[:2]
    numpy_path = re.compile(r'/opt/python/cp[^";]*?/numpy/_core/include')
    python_path = re.compile(r'/opt/python/cp[^";]*?/include/python[0-9.]+t?')
    for export in sorted(prefix.glob("share/*/cmake/*.cmake")):
        before = export.read_text(encoding="utf-8", errors="surrogateescape")
        if "/opt/python/cp" not in before:
            continue
        after = python_path.sub(lambda _: python_include, numpy_path.sub(lambda _: numpy_include, before))
        export.write_text(after, encoding="utf-8", errors="surrogateescape")


def _python_mark() -> str:
    return f"{platform.python_version()} {sys.executable}"
