"""Builds ROS interface packages (messages, services, actions) into an environment of ROS 2 wheels."""

from __future__ import annotations

import os
from pathlib import Path

from provision.report import Report, watch_build
from provision.stamp import fingerprint
from provision.wheels import WheelEnvironment

# Generated code: nothing in it is hot, and optimising it would multiply the time that a first `make demo` takes.
_COMPILER_FLAGS = "-O0"
FASTER_BUILD = Path(__file__).resolve().parent / "unity.cmake"


def install_interfaces(environment: WheelEnvironment, package: Path, report: Report) -> None:
    """Build one interface package and install it; returns at once where that was done from the same sources.

    Args:
        environment: receives the package; its wheels bring the generators.
        package: folder with package.xml and CMakeLists.txt.
        report: where progress goes.
    """
    name = package.name
    sources = [path for path in package.rglob("*") if path.suffix in (".msg", ".srv", ".action", ".xml", ".txt")]
    wheels = [file for file in environment.requirements if file.name.startswith("ros-")]
    mark = fingerprint([*sources, *wheels], str(environment.path), _COMPILER_FLAGS)
    if environment.stamps.is_done(name, mark):
        return
    environment.stamps.forget(name)
    build = environment.path / ".build" / name
    env = environment.variables()
    advice = (
        f"if a definition of {name} was changed, look at the first error in the log; "
        f"else remove {environment.path} and run this again."
    )
    with report.step(f"Building {name} for {environment.distribution.capitalize()}") as step:
        configure = ["cmake", "-S", str(package), "-B", str(build), "-G", "Ninja"]
        configure += [f"-DCMAKE_INSTALL_PREFIX={environment.path}", f"-DPython3_EXECUTABLE={environment.python}"]
        configure += [
            f"-DCMAKE_C_FLAGS={_COMPILER_FLAGS}",
            f"-DCMAKE_CXX_FLAGS={_COMPILER_FLAGS}",
            "-DBUILD_TESTING=OFF",
            f"-DCMAKE_PROJECT_INCLUDE={FASTER_BUILD}",
        ]
        step.run(configure, advice=advice, env=env)
        step.run(
            ["cmake", "--build", str(build), "-j", str(os.cpu_count() or 1)], advice=advice, env=env, watch=watch_build
        )
        step.run(["cmake", "--install", str(build)], advice=advice, env=env)
    environment.stamps.done(name, mark)
