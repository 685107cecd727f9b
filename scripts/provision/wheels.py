"""A virtual environment with ROS 2 from the PyPI wheels, for machines without an apt ROS."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from provision.report import Report, Step, watch_pip
from provision.stamp import Stamps, fingerprint

DISTRIBUTIONS = ("jazzy", "kilted")

_PIP_ADVICE = (
    "look at pip's last lines above; without your package index nothing can be installed. Then run this again."
)

# Part of every mark: to be raised whenever `point_cmake_exports_here` changes.
_CMAKE_EXPORTS = "cmake exports 1"


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
        """Bring the environment to what the requirement files say; returns at once where it is there already.

        Files that were installed before and are not asked for now stay: a run of the demo takes nothing from the tests.
        """
        python_mark = f"{platform.python_version()} {sys.base_prefix} {self.path}"
        if not self.python.exists() or not self.stamps.is_done("python", python_mark):
            with report.step(f"Making {self.path.name} (Python {platform.python_version()})") as step:
                advice = "install the venv module of this Python (Debian: python3-venv), then run this again."
                step.run([sys.executable, "-m", "venv", "--clear", str(self.path)], advice=advice)
            self.stamps.done("python", python_mark)
        marks = {file: fingerprint([file], _CMAKE_EXPORTS) for file in self.requirements}
        missing = [file for file, mark in marks.items() if not self.stamps.is_done(_step(file), mark)]
        if not missing:
            return
        kept = [file for file in sorted(self.requirements[0].parent.glob("*.txt")) if self.stamps.knows(_step(file))]
        others = f" and {len(missing) - 1} more groups" if len(missing) > 1 else ""
        with report.step(f"Installing {_group(missing[0])}{others} of packages") as step:
            for file in missing:
                self.stamps.forget(_step(file))
            pip_install(step, self.python, without_ros(os.environ), dict.fromkeys([*self.requirements, *kept]))
            point_cmake_exports_here(self.path)
        for file in missing:
            self.stamps.done(_step(file), marks[file])

    def variables(self) -> dict[str, str]:
        """For commands in this environment: the caller's variables without its Python or ROS, ours instead."""
        env = without_ros(os.environ)
        env["PATH"] = f"{self.path / 'bin'}{os.pathsep}{env.get('PATH', os.defpath)}"
        env["VIRTUAL_ENV"] = str(self.path)
        # Read by CMake, by colcon, and by nodes that look up a package's folder.
        env["AMENT_PREFIX_PATH"] = env["CMAKE_PREFIX_PATH"] = str(self.path)
        return env


def pip_install(
    step: Step, python: Path, variables: Mapping[str, str], requirements: Iterable[Path], *options: str
) -> None:
    """Install requirement files, all in one go so that their versions agree, with the pip of `python`."""
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off", *options]
    for file in requirements:
        command += ["-r", str(file)]
    step.run(command, advice=_PIP_ADVICE, env=variables, watch=watch_pip)


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


def point_cmake_exports_here(prefix: Path) -> None:
    """Correct the CMake exports of the wheels: they carry include paths of the machine that built them.

    Without it CMake stops at the first `find_package`: the paths lead to folders below /opt/python that do not exist
    here. Safe to run again.
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
    for export in sorted(prefix.glob("share/*/cmake/*.cmake")):
        before = export.read_text(encoding="utf-8", errors="surrogateescape")
        after = with_include_paths(before, python_include, numpy_include)
        if after != before:
            export.write_text(after, encoding="utf-8", errors="surrogateescape")


def with_include_paths(export: str, python_include: str, numpy_include: str) -> str:
    """A CMake export of a wheel with the include folders of Python and numpy replaced by those of this machine."""
    export = re.sub(r'/opt/python/cp[^";]*?/numpy/_core/include', lambda _: numpy_include, export)
    return re.sub(r'/opt/python/cp[^";]*?/include/python[0-9.]+t?', lambda _: python_include, export)


def _step(requirements: Path) -> str:
    return f"packages {requirements.stem}"


def _group(requirements: Path) -> str:
    """What a requirement file brings, in words that go before 'packages'."""
    words = {"ros-jazzy": "ROS 2 Jazzy", "ros-kilted": "ROS 2 Kilted", "build": "colcon", "reference": "torch"}
    return words.get(requirements.stem, requirements.stem)
